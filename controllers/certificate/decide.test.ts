import { createHash } from "node:crypto";
import { Waiting } from "../../core/errors.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { nameConstraints } from "../../core/pki/general-name.ts";
import type { IssuePolicy } from "../../core/pki/profile.ts";
import { rootSpec, TestPki } from "../../core/pki/testing/installation.ts";
import type { AuthorityRecord, CertificateHolder, CertificateRecord, Revocation } from "../../core/ports/pki-store.ts";
import { actor } from "../../core/ports/samples.ts";
import type { DeliveryRecord, MadeValue } from "../../core/ports/vault-store.ts";
import { Sensitive } from "../../core/sensitive.ts";
import type { Certificate, CertificateSpec } from "../../crds/certificate.ts";
import { CONSUMERS, deliveryFingerprint, type LiveCoreSecret } from "../delivery/desired.ts";
import { tlsBundle } from "../delivery/tls-bundle.ts";
import {
  bundleDigests,
  bundleEntries,
  bundleValues,
  certificateDelivery,
  chainOf,
  deliveryDigests,
  madeValues,
} from "./bundle.ts";
import { type Action, decide, type Issued, type Observed, serialOf } from "./decide.ts";
import { type KeystoreFormat, passwordFault } from "./keystores.ts";
import { issuedDer, renewalOf, renewalOfAdopted, type WantedCertificate, wantedCertificate } from "./request.ts";

const T0 = new Date("2026-03-01T00:00:00Z");
const DAY = 86_400_000;
const INSTALLATION = "installation-1";
const policy: IssuePolicy = {
  profiles: ["Server", "Client"],
  dnsNames: ["*.{namespace}.svc"],
  otherNames: ["1.3.6.1.4.1.311.20.2.3"],
  subject: { organizations: ["Example"] },
};

const noneBelow = { refusal: "Issuer ca allows no CA below it" };

const base: CertificateSpec = {
  secretName: "orders-tls",
  issuerRef: { name: "ca" },
  commonName: "orders.payments.svc",
  dnsNames: ["orders.payments.svc"],
};

const certificate = (spec: Partial<CertificateSpec> = {}): Certificate => ({
  apiVersion: "mazevault.io/v1",
  kind: "Certificate",
  metadata: { name: "orders", namespace: "payments", uid: "uid-1", resourceVersion: "1", generation: 1 },
  spec: { ...base, ...spec },
});

const passwordSecretRef = { name: "keystore-password", key: "password" };
const keystores = { pkcs12: { create: true, passwordSecretRef }, jks: { create: true, passwordSecretRef } };
const files = ["keystore.p12", "truststore.p12", "keystore.jks", "truststore.jks"];

type UsableIssuer = Extract<Observed["issuer"], { kind: "Usable" }>;
const excluding = () => {
  const limits = nameConstraints({
    permitted: { dnsDomains: ["payments.svc"] },
    excluded: { dnsDomains: ["a.payments.svc"] },
  });
  return limits === undefined ? {} : { nameConstraints: limits };
};

/** What is decided about are certificates of the product's own CA. */
let authority: AuthorityRecord;
let other: AuthorityRecord;
let issued: (subject?: Certificate, by?: AuthorityRecord, as?: WantedCertificate) => Promise<Issued>;
let dataOf: (issued: Issued, subject?: Certificate) => Promise<ReadonlyMap<string, Sensitive>>;

const password = new Sensitive("correct horse");
const passwords = new Map<KeystoreFormat, Sensitive>([
  ["pkcs12", password],
  ["jks", password],
]);
const fingerprints = new Map<KeystoreFormat, string>([
  ["pkcs12", "a"],
  ["jks", "b"],
]);
const ofBytes = (key: string, value: Sensitive): string =>
  createHash("sha256").update(key).update(value.reveal()).digest("hex");

beforeAll(async () => {
  const pki = await TestPki.start();
  pki.now = T0;
  const { authorities, writer } = pki;
  authority = await authorities.ensure(writer, rootSpec("ca"));
  other = await authorities.ensure(writer, rootSpec("other"));
  let revision = 0;
  issued = async (subject = certificate(), by = authority, as = wantedCertificate(subject.spec)) => {
    const { key, ...contents } = as;
    revision += 1;
    const record = await authorities.issue(writer, {
      ...contents,
      authority: by,
      requester: { kind: "Certificate", namespace: "payments", namespaceUid: "ns-1", name: "orders", uid: "uid-1" },
      revision,
      key: { generate: key },
      keepKeys: 100,
      actor,
    });
    return { record, chain: chainOf(issuedDer(record), authorities.chainOf(by)) };
  };
  dataOf = async ({ record, chain }, subject = certificate()) => {
    const key = await authorities.openKey(writer, record, { actor, purpose: "test" });
    return bundleValues(subject, chain, key, passwords);
  };
});

const holder = (delivery?: DeliveryRecord): CertificateHolder => ({
  kind: "Certificate",
  uid: "uid-1",
  namespace: "payments",
  namespaceUid: "ns-1",
  name: "orders",
  deletionPolicy: "Retain",
  ...(delivery && { delivery }),
});

const observed = (extra: Partial<Observed> = {}): Observed => ({
  installation: INSTALLATION,
  namespace: "payments",
  namespaceUid: "ns-1",
  heldUid: "uid-1",
  holder: holder(),
  hasFormer: false,
  issuer: { kind: "Usable", approval: "Automatic", authority, policy, subordinates: noneBelow },
  current: undefined,
  revocations: [],
  forgottenHolds: [],
  core: { kind: "Absent" },
  passwords: { kind: "Known", fingerprints },
  restartProblems: [],
  ...extra,
});

const delivery = (of: Issued, subject = certificate(), extra: Partial<DeliveryRecord> = {}): DeliveryRecord => ({
  secretName: subject.spec.secretName,
  uid: "core-1",
  resourceVersion: "100",
  fingerprint: deliveryFingerprint(
    deliveryDigests,
    certificateDelivery(subject, INSTALLATION),
    bundleEntries(subject, of.chain, fingerprints),
  ),
  version: of.record.revision,
  pendingRestarts: [],
  ...extra,
});

/** Issued, delivered, and untouched since. */
const settled = (of: Issued, extra: Partial<Observed> = {}): Observed =>
  observed({ current: of, holder: holder(delivery(of)), core: { kind: "Untouched" }, ...extra });

const revokedAs = (of: Issued, reason: Revocation["reason"]): Issued => ({
  ...of,
  record: { ...of.record, revocation: { at: T0, reason } },
});

const missing: Observed["issuer"] = {
  kind: "Unusable",
  authorityId: undefined,
  waiting: true,
  reason: "IssuerNotFound",
  message: "spec.issuerRef: there is no Issuer ca yet; apply it",
};

const live = (
  data: ReadonlyMap<string, Sensitive>,
  extra: Partial<LiveCoreSecret> = {},
  made: readonly MadeValue[] = [],
): LiveCoreSecret => ({
  uid: "core-9",
  resourceVersion: "7",
  type: "kubernetes.io/tls",
  immutable: false,
  labels: {},
  annotations: {},
  ownerUids: [],
  data: new Map([...data].map(([key, value]) => [key, bundleDigests(made, ofBytes).fingerprint(key, value)])),
  terminating: false,
  ...extra,
});

interface Expected {
  readonly actions: readonly Action["kind"][];
  readonly issued?: string;
  readonly delivered?: string;
  readonly revoked?: string;
  readonly next?: string;
}

const check = (subject: Certificate, seen: Observed, now: Date, expected: Expected): void => {
  const { actions, status, next } = decide(subject, seen, now);
  const reason = (type: string) => status.conditions.find((condition) => condition.type === type)?.reason;
  expect({
    actions: actions.map(({ kind }) => kind),
    ...(expected.issued && { issued: reason("Issued") }),
    ...(expected.delivered && { delivered: reason("Delivered") }),
    ...(expected.revoked && { revoked: reason("Revoked") }),
    ...(expected.next && { next: next.kind }),
  }).toEqual(expected);
};

describe("decide", () => {
  test("an object that was never seen is recorded before anything is issued to it", () => {
    check(certificate(), observed({ holder: undefined }), T0, { actions: ["RecordHolder"] });
  });

  test("a changed deletion policy is recorded", async () => {
    check(certificate({ deletionPolicy: "Revoke" }), settled(await issued()), T0, { actions: ["RecordHolder"] });
  });

  test("a changed limit of its history is recorded", async () => {
    const limited = certificate({ revisionHistoryLimit: 3 });
    const seen = settled(await issued());
    check(limited, seen, T0, { actions: ["RecordHolder"] });
    check(limited, { ...seen, holder: { ...holder(delivery(seen.current as Issued)), revisionHistoryLimit: 3 } }, T0, {
      actions: [],
    });
  });

  test("the first certificate is issued", () => {
    check(certificate(), observed(), T0, { actions: ["Issue"] });
  });

  test("what was issued is delivered", async () => {
    check(certificate(), observed({ current: await issued() }), T0, { actions: ["Deliver"] });
  });

  test("nothing is done while it is valid and untouched, until it is due", async () => {
    const of = await issued();
    check(certificate(), settled(of), T0, {
      actions: [],
      issued: "Succeeded",
      delivered: "Succeeded",
      revoked: "NotRequested",
      next: "recheckAt",
    });
    expect(decide(certificate(), settled(of), T0).next).toEqual({
      kind: "recheckAt",
      at: renewalOf(certificate(), of.record),
    });
  });

  test("it is renewed when it is due, and not before", async () => {
    const of = await issued();
    const due = renewalOf(certificate(), of.record);
    check(certificate(), settled(of), new Date(due.getTime() - 1), { actions: [] });
    check(certificate(), settled(of), due, { actions: ["Issue"] });
    expect((due.getTime() - T0.getTime()) / DAY).toBeGreaterThan(57);
    expect((due.getTime() - T0.getTime()) / DAY).toBeLessThanOrEqual(60);
  });

  test("a shorter duration counts at once", async () => {
    const of = await issued();
    const now = new Date(T0.getTime() + 2 * DAY);
    check(certificate({ duration: "4800h" }), settled(of), now, { actions: [] });
    check(certificate({ duration: "48h" }), settled(of), now, { actions: ["Issue"] });
  });

  test.each<{ because: string; spec: Partial<CertificateSpec>; actions: Expected["actions"] }>([
    { because: "another DNS name", spec: { dnsNames: ["orders.payments.svc", "b.payments.svc"] }, actions: ["Issue"] },
    {
      because: "a name of another kind",
      spec: { otherNames: [{ oid: "1.3.6.1.4.1.311.20.2.3", utf8Value: "orders@example.com" }] },
      actions: ["Issue"],
    },
    { because: "another common name", spec: { commonName: undefined }, actions: ["Issue"] },
    { because: "another organization", spec: { subject: { organizations: ["Example"] } }, actions: ["Issue"] },
    { because: "other usages", spec: { usages: ["digital signature", "client auth"] }, actions: ["Issue"] },
    { because: "another profile", spec: { profile: "Client" }, actions: ["Issue"] },
    { because: "another key algorithm", spec: { privateKey: { algorithm: "Ed25519" } }, actions: ["Issue"] },
    { because: "another key size", spec: { privateKey: { size: 384 } }, actions: ["Issue"] },
    {
      because: "the same key said in other words",
      spec: { privateKey: { algorithm: "ECDSA", size: 256 } },
      actions: [],
    },
    {
      because: "the same subject said in other words",
      spec: { commonName: undefined, literalSubject: "CN=orders.payments.svc" },
      actions: [],
    },
    { because: "the same name in other case", spec: { dnsNames: ["ORDERS.payments.svc"] }, actions: [] },
    {
      because: "another encoding of the key, which only delivers",
      spec: { privateKey: { encoding: "PKCS1" } },
      actions: ["Deliver"],
    },
    {
      because: "another label, which only delivers",
      spec: { secretTemplate: { labels: { team: "a" } } },
      actions: ["Deliver"],
    },
    {
      because: "another core Secret, which releases the old one first",
      spec: { secretName: "b" },
      actions: ["ReleaseDelivery"],
    },
  ])("$because: $actions", async ({ spec, actions }) => {
    check(certificate(spec), settled(await issued()), T0, { actions });
  });

  test("another issuer issues", async () => {
    const seen = settled(await issued(certificate(), other));
    check(certificate(), seen, T0, { actions: ["Issue"] });
  });

  test("a key is kept only where that was asked for, it is of the kind that is wanted, and nobody revoked it", async () => {
    const of = await issued();
    const due = renewalOf(certificate(), of.record);
    const reuseOf = (spec: Partial<CertificateSpec>, seen: Observed, now = due) => {
      const [action] = decide(certificate(spec), seen, now).actions;
      return action?.kind === "Issue" ? action.reuse?.serialNumber : action?.kind;
    };
    const never = { rotationPolicy: "Never" } as const;
    expect(reuseOf({}, settled(of))).toBeUndefined();
    expect(reuseOf({ privateKey: { rotationPolicy: "Always" } }, settled(of))).toBeUndefined();
    expect(reuseOf({ privateKey: never }, settled(of))).toBe(of.record.serialNumber);
    expect(reuseOf({ privateKey: { ...never, size: 384 } }, settled(of), T0)).toBeUndefined();
    expect(reuseOf({ privateKey: never }, settled(revokedAs(of, "superseded")), T0)).toBeUndefined();
    expect(reuseOf({ privateKey: never }, settled(revokedAs(of, "certificateHold")))).toBeUndefined();
  });

  test("a name that the issuer does not allow is refused, by field, and nothing is issued", () => {
    const subject = certificate({ dnsNames: ["orders.payments.svc", "orders.elsewhere.svc"] });
    const { actions, status, next } = decide(subject, observed(), T0);
    expect(actions).toEqual([]);
    expect(status.conditions[0]).toMatchObject({ status: "False", reason: "PolicyViolated" });
    expect(status.conditions[0]?.message).toMatch(/^spec\.dnsNames: "orders\.elsewhere\.svc" is not allowed/);
    expect(next).toMatchObject({ kind: "stalled", reason: "PolicyViolated" });
  });

  test("a name that cannot be encoded is refused, by field", () => {
    const { actions, next } = decide(certificate({ dnsNames: [`${"a".repeat(64)}.payments.svc`] }), observed(), T0);
    expect(actions).toEqual([]);
    expect(next).toMatchObject({ reason: "SubjectInvalid", message: expect.stringMatching(/^spec\.dnsNames\[0\]: /) });
  });

  test("without an issuer it waits", () => {
    const seen = observed({ issuer: missing });
    check(certificate(), seen, T0, { actions: [], issued: "IssuerNotFound", next: "recheckAt" });
  });

  test("an issuer that does not admit the namespace needs a person", () => {
    const seen = observed({ issuer: { ...missing, waiting: false, reason: "IssuerNotAllowed" } });
    check(certificate(), seen, T0, { actions: [], issued: "IssuerNotAllowed", next: "stalled" });
  });

  test("a valid certificate does not miss its issuer until it is due; then it stays in use", async () => {
    const of = await issued();
    const seen = settled(of, { issuer: { ...missing, authorityId: authority.id } });
    check(certificate(), seen, T0, { actions: [], issued: "Succeeded" });
    const due = decide(certificate(), seen, renewalOf(certificate(), of.record));
    expect(due.actions).toEqual([]);
    expect(due.status.conditions[0]?.message).toMatch(/; certificate [0-9a-f:]+ stays in use, until 2026-05-/);
    expect(due.status.conditions.find(({ type }) => type === "Delivered")?.status).toBe("True");
  });

  test("a listed serial number is revoked, and replaced by one with a new key", async () => {
    const of = await issued();
    const listed = (records: readonly CertificateRecord[]) => [{ index: 0, reason: "keyCompromise" as const, records }];
    check(certificate(), settled(of, { revocations: listed([of.record]) }), T0, { actions: ["Revoke"] });
    const after = revokedAs(of, "keyCompromise");
    check(certificate(), settled(after, { revocations: listed([after.record]) }), T0, {
      actions: ["Issue"],
      revoked: "Succeeded",
    });
  });

  test("an old serial number is revoked without disturbing the current one", async () => {
    const old = await issued();
    const of = await issued();
    const records = [revokedAs(old, "superseded").record];
    const seen = settled(of, { revocations: [{ index: 0, reason: "superseded", records }] });
    check(certificate(), seen, T0, { actions: [], issued: "Succeeded", revoked: "Succeeded" });
  });

  test("a hold replaces nothing; it becomes final, or ends, when the manifest says so", async () => {
    const of = await issued();
    const held = revokedAs(of, "certificateHold");
    const listed = (reason: Revocation["reason"], record: CertificateRecord) => [
      { index: 0, reason, records: [record] },
    ];
    check(certificate(), settled(of, { revocations: listed("certificateHold", of.record) }), T0, {
      actions: ["Revoke"],
    });
    check(certificate(), settled(held, { revocations: listed("certificateHold", held.record) }), T0, {
      actions: [],
      issued: "Succeeded",
      revoked: "Succeeded",
    });
    check(certificate(), settled(held, { revocations: listed("superseded", held.record) }), T0, {
      actions: ["Revoke"],
    });
    check(certificate(), settled(held, { forgottenHolds: [held.record] }), T0, { actions: ["ReleaseHold"] });
  });

  test("a serial number of somebody else is refused, and everything else goes on", async () => {
    const revocations = [{ index: 2, reason: "superseded" as const, records: [] }];
    check(certificate(), observed({ revocations }), T0, { actions: ["Issue"] });
    const plan = decide(certificate(), settled(await issued(), { revocations }), T0);
    expect(plan.next).toMatchObject({ kind: "stalled", reason: "SerialNumberUnknown" });
    expect(plan.next).toMatchObject({ message: expect.stringContaining("spec.revocations[2].serialNumber") });
    expect(plan.status.conditions[0]?.status).toBe("True");
  });

  test("what the primary will not revoke is told, and does not keep the certificate from being renewed", async () => {
    const of = await issued();
    const revocations = [{ index: 0, reason: "superseded" as const, records: [of.record] }];
    check(certificate(), settled(of, { revocations }), T0, { actions: ["Revoke"] });
    const refusedRevocations = [
      { record: of.record, message: "the primary refuses: it was not signed for this gateway" },
    ];
    const seen = settled(of, { revocations, refusedRevocations });
    check(certificate(), seen, renewalOf(certificate(), of.record), { actions: ["Issue"] });
    const { actions, next, status } = decide(certificate(), seen, T0);
    expect(actions).toEqual([]);
    const told = { reason: "SerialNumberUnknown", message: expect.stringContaining("have it done at the primary") };
    expect(next).toMatchObject({ kind: "stalled", ...told });
    expect(status.conditions.find(({ type }) => type === "Revoked")).toMatchObject({ status: "False", ...told });
  });

  test("what is revoked is not handed out again while no other can be had", async () => {
    const of = revokedAs(await issued(), "keyCompromise");
    const seen = observed({ current: of, issuer: missing });
    check(certificate(), seen, T0, { actions: [], issued: "IssuerNotFound" });
  });

  test("a failing issuer does not keep the core Secret from being repaired, and is reported at last", async () => {
    const of = await issued();
    const due = renewalOf(certificate(), of.record);
    const failure = new Waiting("IssuerNotReady", "not now", 1_000);
    const gone = settled(of, { core: { kind: "Absent" }, failure });
    check(certificate(), gone, due, { actions: ["Deliver"] });
    check(certificate(), settled(of, { failure }), due, { actions: ["ReportFailure"], delivered: "Succeeded" });
  });

  test("a certificate with a fault is not handed out, and one with a warning is", async () => {
    const of = await issued();
    expect(of.chain.findings).toEqual([]);
    const found = (severity: "Error" | "Warning") =>
      observed({
        current: { ...of, chain: { ...of.chain, findings: [{ code: "odd", severity, message: "is odd" }] } },
      });
    check(certificate(), found("Error"), T0, { actions: [], delivered: "LintFailed", next: "stalled" });
    check(certificate(), found("Warning"), T0, { actions: ["Deliver"] });
  });

  test("a certificate whose key is gone is replaced", async () => {
    const of = await issued();
    check(certificate(), settled({ ...of, record: { ...of.record, hasKey: false } }), T0, { actions: ["Issue"] });
  });

  test("renewal restarts what is named; the first delivery and a new encoding's label restart nothing", async () => {
    const before = await issued();
    const after = await issued();
    const subject = certificate({ restart: [{ kind: "Deployment", name: "orders" }], restartConsumers: true });
    const restarts = (seen: Observed) => {
      const [action] = decide(subject, seen, T0).actions;
      return action?.kind === "Deliver" ? action.delivery.pendingRestarts : action?.kind;
    };
    expect(restarts(observed({ current: after }))).toEqual([]);
    expect(
      restarts(observed({ current: after, holder: holder(delivery(before)), core: { kind: "Untouched" } })),
    ).toEqual(["Deployment/orders", CONSUMERS]);
    const pending = delivery(after, subject, { pendingRestarts: [CONSUMERS] });
    expect(restarts(observed({ current: after, holder: holder(pending), core: { kind: "Untouched" } }))).toBe(
      "RestartWorkloads",
    );
  });

  describe("a CA", () => {
    const subject = certificate({
      commonName: "Mesh CA",
      dnsNames: undefined,
      isCA: true,
      nameConstraints: { permitted: { dnsDomains: ["mesh.payments.svc"] } },
    });
    const within = (dnsDomains: readonly string[], pathLength = 0) => {
      const limits = nameConstraints({ permitted: { dnsDomains } });
      return { pathLength, ...(limits && { nameConstraints: limits }) };
    };
    const below = (subordinates: UsableIssuer["subordinates"]): Partial<Observed> => ({
      issuer: { kind: "Usable", approval: "Automatic", authority, policy, subordinates },
    });
    const allowed = (): Partial<Observed> => below(within(["payments.svc"]));
    /** As it is issued: with the limits of its issuer. */
    const made = async (seen = allowed()): Promise<Issued> => {
      const [action] = decide(subject, observed(seen), T0).actions;
      if (action?.kind !== "Issue") throw new Error("expected that a CA is issued");
      return issued(subject, authority, action.wanted);
    };

    test("has the path length and the names that its issuer allows, and no other kinds", async () => {
      const certified = parseCertificate(issuedDer((await made()).record));
      expect(certified.basicConstraints).toEqual({ ca: true, pathLength: 0 });
      expect([...(certified.keyUsage ?? [])].sort()).toEqual(["cRLSign", "keyCertSign"]);
      expect(certified.extendedKeyUsage).toBeUndefined();
      const { permitted, excluded } = certified.nameConstraints ?? { permitted: [], excluded: [] };
      expect(permitted).toContainEqual({ kind: "dns", value: "mesh.payments.svc" });
      expect(permitted).toContainEqual({ kind: "uri", value: "invalid" });
      expect(excluded).toContainEqual({ kind: "ip", value: "0.0.0.0/0" });
    });

    test("is left alone while nothing changes", async () => {
      const of = await made();
      check(subject, settled(of, allowed()), T0, { actions: [], issued: "Succeeded" });
    });

    test.each<{ because: string; subordinates: UsableIssuer["subordinates"] }>([
      { because: "a longer path", subordinates: within(["payments.svc"], 1) },
      { because: "names of more kinds", subordinates: { pathLength: 0 } },
      { because: "names that are excluded now", subordinates: { ...within(["payments.svc"]), ...excluding() } },
    ])("is issued anew when its issuer allows something else: $because", async ({ subordinates }) => {
      const of = await made();
      check(subject, settled(of, below(subordinates)), T0, { actions: ["Issue"] });
      check(subject, settled(await made(below(subordinates)), below(subordinates)), T0, { actions: [] });
    });

    test.each<{ because: string; spec: Partial<CertificateSpec> }>([
      { because: "other names", spec: { nameConstraints: { permitted: { dnsDomains: ["payments.svc"] } } } },
      { because: "no wish about names", spec: { nameConstraints: undefined } },
      { because: "another use of the key", spec: { usages: ["digital signature"] } },
      { because: "no CA any more", spec: { isCA: false, nameConstraints: undefined, ...base } },
    ])("is issued anew when the manifest changes: $because", async ({ spec }) => {
      check(certificate({ ...subject.spec, ...spec }), settled(await made(), allowed()), T0, { actions: ["Issue"] });
    });

    test("is refused at once, and by field, where its issuer does not allow it", async () => {
      const of = await made();
      for (const current of [undefined, of]) {
        const seen = current === undefined ? observed() : settled(current);
        const { actions, next, status } = decide(subject, seen, T0);
        expect(actions).toEqual([]);
        expect(next).toMatchObject({ kind: "stalled", reason: "SubordinateNotAllowed" });
        expect(next).toMatchObject({ message: expect.stringMatching(/^spec\.isCA: Issuer ca allows no CA below it/) });
        if (current) expect(status.conditions[0]?.message).toMatch(/; certificate [0-9a-f:]+ stays in use, until /);
      }
      const wider = decide(subject, observed(below(within(["shop.svc"]))), T0);
      expect(wider.actions).toEqual([]);
      expect(wider.next).toMatchObject({
        reason: "PolicyViolated",
        message: expect.stringMatching(/^spec\.nameConstraints\.permitted: "mesh\.payments\.svc" is wider/),
      });
      const named = decide(certificate({ ...subject.spec, dnsNames: ["mesh.elsewhere.svc"] }), observed(allowed()), T0);
      expect(named.next).toMatchObject({ message: expect.stringMatching(/^spec\.dnsNames: /) });
    });

    test("does not miss its issuer while that cannot be asked", async () => {
      const of = await made();
      check(subject, settled(of, { issuer: { ...missing, authorityId: authority.id } }), T0, { actions: [] });
    });

    test("a leaf is no CA", async () => {
      const of = await issued();
      const now = certificate({ isCA: true, commonName: "orders.payments.svc" });
      check(now, settled(of, allowed()), T0, { actions: ["Issue"] });
    });
  });

  describe("a certificate of another CA", () => {
    const subject = certificate({ adopt: true, restartConsumers: true });
    const frameOf = (of: Certificate) => {
      const { annotations, labels } = certificateDelivery(of, INSTALLATION);
      return { annotations, labels };
    };
    const pems = (data: ReadonlyMap<string, Sensitive>) =>
      Object.fromEntries([...data].map(([key, value]) => [key, value.reveal().toString("base64")]));
    /** A core Secret as somebody else made it. */
    const found = async (
      of: Issued,
      change: (data: Record<string, string>) => Record<string, string> = (data) => data,
      extra: Partial<LiveCoreSecret> = {},
    ): Promise<Partial<Observed>> => {
      const data = await dataOf(of);
      return { core: { kind: "Live", live: live(data, { bundle: tlsBundle(change(pems(data))), ...extra }) } };
    };
    const taken = (seen: Observed, now = T0, as = subject): DeliveryRecord => {
      const [action] = decide(as, seen, now).actions;
      if (action?.kind !== "Adopt" && action?.kind !== "RecordDelivery") throw new Error(`planned ${action?.kind}`);
      return action.delivery;
    };
    const inUse = (record: DeliveryRecord, extra: Partial<Observed> = {}): Observed =>
      observed({ holder: holder(record), core: { kind: "Untouched" }, ...extra });

    test("that fits is taken over as it stands; nothing is issued, nothing restarts", async () => {
      const foreign = await issued(certificate(), other);
      const seen = observed(await found(foreign));
      check(subject, seen, T0, { actions: ["Adopt"] });
      const record = taken(seen);
      expect(record).toMatchObject({ version: 0, uid: "core-9", resourceVersion: "7", pendingRestarts: [] });
      const plan = decide(subject, inUse(record), T0);
      expect(plan.actions).toEqual([]);
      const serial = serialOf(foreign.record);
      expect(plan.status.conditions).toMatchObject([
        { type: "Issued", status: "True", reason: "Adopted" },
        { type: "Linted", reason: "NotRequested" },
        { type: "Delivered", status: "True", reason: "Adopted" },
        { type: "Revoked", reason: "NotRequested" },
      ]);
      expect(plan.status.conditions[0]?.message).toContain(`certificate ${serial} of CN=other CA is used`);
      expect(plan.status.fields).toMatchObject({ serialNumber: serial });
      expect(plan.status.fields).not.toHaveProperty("revision");
      expect(plan.next).toEqual({ kind: "recheckAt", at: renewalOfAdopted(subject, foreign.record) });
    });

    test("has the subject that is asked for also in another order", async () => {
      const organizations = ["Example"];
      const foreign = await issued(
        certificate({ commonName: undefined, literalSubject: "O=Example,CN=orders.payments.svc" }),
        other,
      );
      const wanted = certificate({ ...subject.spec, subject: { organizations } });
      check(wanted, observed(await found(foreign)), T0, { actions: ["Adopt"] });
    });

    test("is left alone without adopt, and where it is delivered by somebody", async () => {
      const seen = await found(await issued(certificate(), other));
      check(certificate(), observed(seen), T0, { actions: ["Issue"] });
      const current = await issued();
      check(certificate(), observed({ ...seen, current }), T0, { actions: [], delivered: "TargetNotOwned" });
      const rival = await found(await issued(certificate(), other), undefined, { rival: "Certificate b" });
      check(subject, observed({ ...rival, current }), T0, { actions: [], delivered: "TargetNotOwned" });
    });

    test("is taken over also by one who has a certificate already, and never delivered it", async () => {
      const current = await issued();
      const seen = observed({ ...(await found(await issued(certificate(), other))), current });
      check(subject, seen, T0, { actions: ["Adopt"] });
      check(subject, inUse(taken(seen), { current }), T0, { actions: [], issued: "Adopted", delivered: "Adopted" });
    });

    test("is replaced when it is due, as its own validity says, and restarts who uses it", async () => {
      const foreign = await issued(certificate({ duration: "240h" }), other);
      const record = taken(observed(await found(foreign)));
      const due = renewalOfAdopted(subject, foreign.record);
      expect((due.getTime() - T0.getTime()) / DAY).toBeLessThan(7);
      check(subject, inUse(record), new Date(due.getTime() - 1), { actions: [] });
      check(subject, inUse(record), due, { actions: ["Issue"], issued: "Progressing", delivered: "Adopted" });
      const [action] = decide(subject, inUse(record, { current: await issued() }), due).actions;
      expect(action).toMatchObject({ kind: "Deliver", delivery: { pendingRestarts: [CONSUMERS] } });
      // Without an issuer it goes on being used.
      const waiting = decide(subject, inUse(record, { issuer: missing }), due);
      expect(waiting.status.conditions[0]?.message).toMatch(/; certificate .+ of CN=other CA stays in use, until /);
      expect(waiting.status.conditions[2]).toMatchObject({ type: "Delivered", status: "True" });
    });

    test("that is due already is ours first, so that nobody is asked to overwrite it", async () => {
      const foreign = await issued(certificate({ duration: "240h" }), other);
      const late = new Date(T0.getTime() + 9 * DAY);
      const seen = observed(await found(foreign));
      check(subject, seen, late, { actions: ["Adopt"] });
      check(subject, inUse(taken(seen, late)), late, { actions: ["Issue"] });
    });

    test("is replaced when the manifest asks for something else; another label only changes that", async () => {
      const record = taken(observed(await found(await issued(certificate(), other))));
      const asked = (spec: Partial<CertificateSpec>) => certificate({ ...subject.spec, ...spec });
      check(asked({ dnsNames: ["orders.payments.svc", "b.payments.svc"] }), inUse(record), T0, { actions: ["Issue"] });
      check(asked({ privateKey: { size: 384 } }), inUse(record), T0, { actions: ["Issue"] });
      check(asked({ secretTemplate: { labels: { team: "a" } } }), inUse(record), T0, { actions: ["Adopt"] });
      check(asked({ adopt: false }), inUse(record), T0, { actions: [], issued: "Adopted" });
      check(asked({ usages: ["client auth"] }), inUse(record), T0, { actions: [] });
      check(asked({ secretName: "b" }), inUse(record, { core: { kind: "Absent" } }), T0, { actions: ["Issue"] });
    });

    test("is looked at again when somebody touched it", async () => {
      const foreign = await issued(certificate(), other);
      const record = taken(observed(await found(foreign)));
      const ours = { uid: "core-9", resourceVersion: "8", ...frameOf(subject) };
      const again = async (of: Issued, change?: Parameters<typeof found>[1]) =>
        inUse(record, await found(of, change, ours));
      check(subject, await again(foreign), T0, { actions: ["RecordDelivery"] });
      check(subject, inUse(record, await found(foreign, undefined, { ...ours, labels: {} })), T0, {
        actions: ["Adopt"],
      });
      // As the other CA renews it while both look after it.
      check(subject, await again(await issued(certificate(), other)), T0, { actions: ["RecordDelivery"] });
      const emptied = await again(foreign, (data) => ({ ...data, "tls.key": "" }));
      check(subject, emptied, T0, { actions: ["Issue"] });
      check(subject, inUse(record, { core: { kind: "Absent" } }), T0, { actions: ["Issue"] });
      // Death between its two effects: it is marked as ours, and not on record.
      check(subject, observed(await found(foreign, undefined, ours)), T0, { actions: ["RecordDelivery"] });
    });

    test.each<{
      because: string;
      spec?: Partial<CertificateSpec>;
      change?: (data: Record<string, string>) => Record<string, string>;
      now?: Date;
    }>([
      {
        because: 'its alternative names are "DNS:orders.payments.svc", not',
        spec: { dnsNames: ["orders.payments.svc", "b.payments.svc"] },
      },
      { because: 'its subject is "CN=orders.payments.svc", not ""', spec: { commonName: undefined } },
      { because: "its key is ECDSA 256, not RSA 2048", spec: { privateKey: { algorithm: "RSA", size: 2048 } } },
      { because: "it is no CA's", spec: { isCA: true } },
      { because: "its certificate ended at 2026-0", now: new Date("2027-01-01T00:00:00Z") },
      { because: "its certificate begins at 2026-0", now: new Date("2026-01-01T00:00:00Z") },
      {
        because: "tls.key is not the key of tls.crt",
        change: (data) => ({ ...data, "tls.key": data["tls.crt"] ?? "" }),
      },
      { because: "it holds no certificate with its key (tls.crt", change: () => ({ "tls.crt": "", "tls.key": "" }) },
      { because: "begins with a PEM block", change: (data) => ({ ...data, "tls.crt": data["tls.key"] ?? "" }) },
      { because: "it lacks keystore.p12", spec: { keystores: { pkcs12: keystores.pkcs12 } } },
    ])("that does not fit is refused with the difference, and costs no certificate: $because", async (each) => {
      const standing = await found(await issued(certificate(), other), each.change);
      const issuer: UsableIssuer = {
        kind: "Usable",
        approval: "Automatic",
        authority,
        policy,
        subordinates: { pathLength: 0 },
      };
      const seen = observed({ ...standing, issuer });
      const wanted = certificate({ ...subject.spec, ...each.spec });
      const { actions, next, status } = decide(wanted, seen, each.now ?? T0);
      expect(actions).toEqual([]);
      expect(next).toMatchObject({ kind: "stalled", reason: "TargetDiffers" });
      expect(next).toMatchObject({ message: expect.stringContaining(each.because) });
      expect(next).toMatchObject({ message: expect.stringContaining("set spec.overwrite to lose that data") });
      expect(status.conditions.find(({ type }) => type === "Delivered")).toMatchObject({ reason: "TargetDiffers" });
      const overwriting = certificate({ ...wanted.spec, overwrite: true });
      check(overwriting, seen, each.now ?? T0, { actions: ["Issue"] });
    });

    test("cannot be revoked here, and the status says where", async () => {
      const foreign = await issued(certificate(), other);
      const record = taken(observed(await found(foreign)));
      const listing = certificate({
        ...subject.spec,
        revocations: [{ serialNumber: serialOf(foreign.record), reason: "keyCompromise" }],
      });
      const revocations = [{ index: 0, reason: "keyCompromise" as const, records: [] }];
      const { actions, next } = decide(listing, inUse(record, { revocations }), T0);
      expect(actions).toEqual([]);
      expect(next).toMatchObject({
        reason: "SerialNumberUnknown",
        message: expect.stringMatching(
          /^spec\.revocations\[0\]\.serialNumber: it was taken over from CN=other CA, and only/,
        ),
      });
    });
  });

  describe("keystores", () => {
    const subject = certificate({ keystores, restartConsumers: true });

    test("are untouched while certificate, key, password and alias are the same", async () => {
      const of = await issued();
      const seen = settled(of, { holder: holder(delivery(of, subject)) });
      check(subject, seen, T0, { actions: [], delivered: "Succeeded" });
    });

    test.each<{ because: string; spec: Partial<CertificateSpec>; password?: string }>([
      { because: "another password", spec: {}, password: "c" },
      { because: "another alias", spec: { keystores: { ...keystores, jks: { ...keystores.jks, alias: "b" } } } },
      { because: "one keystore less", spec: { keystores: { jks: keystores.jks } } },
      {
        because: "one that is not to be made",
        spec: { keystores: { ...keystores, pkcs12: { ...keystores.pkcs12, create: false } } },
      },
      { because: "another output format", spec: { additionalOutputFormats: [{ type: "DER" }] } },
    ])("are written again, with the same certificate, for $because; who reads them restarts", async (change) => {
      const of = await issued();
      const known = new Map(fingerprints);
      if (change.password !== undefined) known.set("jks", change.password);
      const seen = settled(of, {
        holder: holder(delivery(of, subject)),
        passwords: { kind: "Known", fingerprints: known },
      });
      const { actions } = decide(certificate({ ...subject.spec, ...change.spec }), seen, T0);
      expect(actions).toMatchObject([{ kind: "Deliver", delivery: { pendingRestarts: [CONSUMERS] } }]);
    });

    test.each<{ waiting: boolean; reason: "SourceNotFound" | "ValueInvalid"; next: string }>([
      { waiting: true, reason: "SourceNotFound", next: "recheckAt" },
      { waiting: false, reason: "ValueInvalid", next: "stalled" },
    ])("whose password is not usable are not written, nor anything beside them: $reason", async (each) => {
      const { next, ...refusal } = each;
      const refused = { kind: "Refused", ...refusal, message: "spec.keystores" } as const;
      check(subject, observed({ passwords: refused }), T0, { actions: ["Issue"] });
      const expected = { actions: [], issued: "Succeeded", delivered: refusal.reason, next };
      check(subject, observed({ current: await issued(), passwords: refused }), T0, expected);
    });
  });

  describe("a core Secret that exists", () => {
    const changed = (data: ReadonlyMap<string, Sensitive>, key: string, value: Sensitive | undefined) =>
      new Map([...data, [key, value ?? new Sensitive("")]]);

    /** It is ours, and not as the record has it. */
    const standing = (
      of: Issued,
      data: ReadonlyMap<string, Sensitive>,
      { subject = certificate(), made }: { subject?: Certificate; made?: readonly MadeValue[] } = {},
    ): Observed => {
      const { annotations, labels } = certificateDelivery(subject, INSTALLATION);
      return observed({
        current: of,
        holder: holder(delivery(of, subject, made && { made })),
        core: { kind: "Live", live: live(data, { uid: "core-1", annotations, labels }, made) },
      });
    };

    test("and is somebody else's is taken only where adopt and overwrite are set", async () => {
      const of = await issued();
      const data = await dataOf(await issued());
      const seen = observed({ current: of, core: { kind: "Live", live: live(data) } });
      check(certificate(), seen, T0, { actions: [], delivered: "TargetNotOwned", next: "stalled" });
      check(certificate({ adopt: true }), seen, T0, { actions: [], delivered: "TargetDiffers", next: "stalled" });
      check(certificate({ adopt: true, overwrite: true }), seen, T0, { actions: ["Deliver"] });
    });

    test("has the right data only if key, encoding and chain are as they would be written", async () => {
      const of = await issued();
      const right = await dataOf(of);
      check(certificate(), standing(of, right), T0, { actions: ["RecordDelivery"] });
      const pkcs1 = certificate({ privateKey: { encoding: "PKCS1" } });
      const other = await dataOf(await issued());
      const wrong: ReadonlyMap<string, Sensitive>[] = [
        changed(right, "tls.key", (await dataOf(of, pkcs1)).get("tls.key")),
        changed(right, "tls.key", other.get("tls.key")),
        changed(right, "tls.key", new Sensitive(`${right.get("tls.key")?.revealText()}\n`)),
        changed(right, "tls.crt", other.get("tls.crt")),
        changed(right, "ca.crt", new Sensitive("")),
        changed(right, "more", new Sensitive("x")),
      ];
      for (const data of wrong) check(certificate(), standing(of, data), T0, { actions: ["Deliver"] });
    });

    test.each<{ algorithm: string; privateKey: CertificateSpec["privateKey"] }>([
      { algorithm: "ECDSA", privateKey: {} },
      { algorithm: "ECDSA as in SEC 1", privateKey: { encoding: "PKCS1" } },
      { algorithm: "RSA in PKCS1", privateKey: { algorithm: "RSA", size: 2048, encoding: "PKCS1" } },
      { algorithm: "Ed25519", privateKey: { algorithm: "Ed25519" } },
    ])("has the right further forms of key and certificate only as they would be written: $algorithm", async (each) => {
      const { privateKey } = each;
      const subject = certificate({ privateKey, additionalOutputFormats: [{ type: "DER" }, { type: "CombinedPEM" }] });
      const of = await issued(subject);
      const right = await dataOf(of, subject);
      expect([...right.keys()]).toEqual(["tls.key", "tls.crt", "ca.crt", "key.der", "tls-combined.pem"]);
      check(subject, standing(of, right, { subject }), T0, { actions: ["RecordDelivery"] });
      const other = await dataOf(await issued(subject), subject);
      const combined = right.get("tls-combined.pem")?.revealText() ?? "";
      const wrong = [
        changed(right, "key.der", other.get("key.der")),
        changed(right, "key.der", right.get("tls.key")),
        changed(right, "tls-combined.pem", other.get("tls-combined.pem")),
        changed(right, "tls-combined.pem", new Sensitive(`${combined}\n`)),
        changed(right, "tls-combined.pem", right.get("tls.key")),
        changed(right, "tls-combined.pem", right.get("tls.crt")),
      ];
      for (const data of wrong) check(subject, standing(of, data, { subject }), T0, { actions: ["Deliver"] });
      // Without the fields they do not belong there.
      check(certificate({ privateKey }), standing(of, right), T0, { actions: ["Deliver"] });
    });

    test("has the right keystores if they are what was delivered, made of what is wanted", async () => {
      const subject = certificate({ keystores });
      const of = await issued(subject);
      const right = await dataOf(of, subject);
      const made = madeValues(bundleEntries(subject, of.chain, fingerprints), right, ofBytes);
      expect(made.map(({ key }) => key).toSorted()).toEqual(files.toSorted());
      check(subject, standing(of, right, { subject, made }), T0, { actions: ["RecordDelivery"] });
      // The record goes on with them.
      const [action] = decide(subject, standing(of, right, { subject, made }), T0).actions;
      expect(action).toMatchObject({ delivery: { made } });
      // Made of the same, but not what was delivered: nobody knows what it is.
      const again = await dataOf(of, subject);
      for (const key of files) {
        check(subject, standing(of, changed(right, key, again.get(key)), { subject, made }), T0, {
          // A trust store in Java's format has no salt.
          actions: [key === "truststore.jks" ? "RecordDelivery" : "Deliver"],
        });
        check(subject, standing(of, changed(right, key, new Sensitive("x")), { subject, made }), T0, {
          actions: ["Deliver"],
        });
      }
      check(subject, standing(of, right, { subject }), T0, { actions: ["Deliver"] });
    });
  });
});

test.each<{ password: string | Buffer; pkcs12?: string; jks?: string }>([
  { password: "p4ss word~" },
  { password: "contraseña", pkcs12: "has characters outside of printable ASCII" },
  { password: "", pkcs12: "is empty", jks: "is empty" },
  { password: "secret\n", pkcs12: "ends with a line break", jks: "ends with a line break" },
  { password: "sec\tret", pkcs12: "has a control character", jks: "has a control character" },
  { password: Buffer.from([0xff, 0x61]), pkcs12: "is not UTF-8", jks: "is not UTF-8" },
])("what a keystore's password may be: %j", (each) => {
  for (const format of ["pkcs12", "jks"] as const) {
    const fault = passwordFault(format, new Sensitive(each.password));
    if (each[format] === undefined) expect(fault).toBeUndefined();
    else expect(fault).toMatch(`${each[format]}`);
  }
});
