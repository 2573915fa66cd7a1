import { Waiting } from "../../core/errors.ts";
import type { IssuePolicy } from "../../core/pki/profile.ts";
import { rootSpec, TestPki } from "../../core/pki/testing/installation.ts";
import type { AuthorityRecord, CertificateHolder, CertificateRecord, Revocation } from "../../core/ports/pki-store.ts";
import { actor } from "../../core/ports/samples.ts";
import type { DeliveryRecord } from "../../core/ports/vault-store.ts";
import type { Certificate, CertificateSpec } from "../../crds/certificate.ts";
import { CONSUMERS, deliveryFingerprint, type LiveCoreSecret } from "../delivery/desired.ts";
import {
  bundleDigests,
  bundleEntries,
  bundleValues,
  type Chain,
  certificateDelivery,
  chainOf,
  encodingOf,
} from "./bundle.ts";
import { type Action, decide, type Observed } from "./decide.ts";
import { issuedDer, renewalOf, wantedCertificate } from "./request.ts";

const T0 = new Date("2026-03-01T00:00:00Z");
const DAY = 86_400_000;
const INSTALLATION = "installation-1";
const policy: IssuePolicy = {
  profiles: ["Server", "Client"],
  dnsNames: ["*.{namespace}.svc"],
  subject: { organizations: ["Example"] },
};

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

interface Issued {
  readonly record: CertificateRecord;
  readonly chain: Chain;
}

/** What is decided about are certificates of the product's own CA. */
let authority: AuthorityRecord;
let other: AuthorityRecord;
let issued: (subject?: Certificate, by?: AuthorityRecord) => Promise<Issued>;
let pemOf: (issued: Issued, encoding?: "PKCS1" | "PKCS8") => Promise<ReadonlyMap<string, Buffer>>;

beforeAll(async () => {
  const pki = await TestPki.start();
  pki.now = T0;
  const { authorities, writer } = pki;
  authority = await authorities.ensure(writer, rootSpec("ca"));
  other = await authorities.ensure(writer, rootSpec("other"));
  let revision = 0;
  issued = async (subject = certificate(), by = authority) => {
    const { key, ...contents } = wantedCertificate(subject.spec);
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
  pemOf = async ({ record, chain }, encoding = "PKCS8") => {
    const key = await authorities.openKey(writer, record, { actor, purpose: "test" });
    return new Map([...bundleValues(chain, key, encoding)].map(([name, value]) => [name, value.reveal()]));
  };
});

const holder = (delivery?: DeliveryRecord): CertificateHolder => ({
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
  holder: holder(),
  issuer: { kind: "Usable", approval: "Automatic", authority, policy },
  current: undefined,
  revocations: [],
  forgottenHolds: [],
  core: { kind: "Absent" },
  restartProblems: [],
  ...extra,
});

const delivery = (of: Issued, subject = certificate(), extra: Partial<DeliveryRecord> = {}): DeliveryRecord => ({
  secretName: subject.spec.secretName,
  uid: "core-1",
  resourceVersion: "100",
  fingerprint: deliveryFingerprint(
    bundleDigests,
    certificateDelivery(subject, INSTALLATION),
    bundleEntries(of.chain, encodingOf(subject)),
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

const live = (data: ReadonlyMap<string, Buffer>, extra: Partial<LiveCoreSecret> = {}): LiveCoreSecret => ({
  uid: "core-9",
  resourceVersion: "7",
  type: "kubernetes.io/tls",
  immutable: false,
  labels: {},
  annotations: {},
  ownerUids: [],
  data: new Map(
    [...data].map(([key, value]) => [
      key,
      bundleDigests.fingerprint(key, { reveal: () => value, revealText: () => value.toString() } as never),
    ]),
  ),
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

  describe("a core Secret that exists", () => {
    test("and is somebody else's is taken only where adopt and overwrite are set", async () => {
      const of = await issued();
      const data = await pemOf(await issued());
      const seen = observed({ current: of, core: { kind: "Live", live: live(data) } });
      check(certificate(), seen, T0, { actions: [], delivered: "TargetNotOwned", next: "stalled" });
      check(certificate({ adopt: true }), seen, T0, { actions: [], delivered: "TargetDiffers", next: "stalled" });
      check(certificate({ adopt: true, overwrite: true }), seen, T0, { actions: ["Deliver"] });
    });

    test("has the right data only if key, encoding and chain are as they would be written", async () => {
      const of = await issued();
      const seen = (data: ReadonlyMap<string, Buffer>) =>
        observed({
          current: of,
          core: {
            kind: "Live",
            live: live(data, {
              uid: "core-1",
              annotations: certificateDelivery(certificate(), INSTALLATION).annotations,
              labels: certificateDelivery(certificate(), INSTALLATION).labels,
            }),
          },
        });
      const right = await pemOf(of);
      check(certificate(), seen(right), T0, { actions: ["RecordDelivery"] });
      const wrong: ReadonlyMap<string, Buffer>[] = [
        new Map([...right, ["tls.key", (await pemOf(of, "PKCS1")).get("tls.key") ?? Buffer.alloc(0)]]),
        new Map([...right, ["tls.key", (await pemOf(await issued())).get("tls.key") ?? Buffer.alloc(0)]]),
        new Map([...right, ["tls.key", Buffer.from(`${right.get("tls.key")}\n`)]]),
        new Map([...right, ["tls.crt", (await pemOf(await issued())).get("tls.crt") ?? Buffer.alloc(0)]]),
        new Map([...right, ["ca.crt", Buffer.from("")]]),
        new Map([...right, ["more", Buffer.from("x")]]),
      ];
      for (const data of wrong) check(certificate(), seen(data), T0, { actions: ["Deliver"] });
    });
  });
});
