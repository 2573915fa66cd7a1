import { X509Certificate } from "node:crypto";
import { createCsr } from "../../core/pki/csr.ts";
import {
  basicConstraints,
  type Extension,
  extendedKeyUsage,
  type KeyUsage,
  keyUsage,
  nameConstraintsExtension,
  subjectAltName,
  subjectKeyIdentifier,
} from "../../core/pki/extension.ts";
import { subjectAltNames } from "../../core/pki/general-name.ts";
import { generateKey, type KeySpec, spkiOf } from "../../core/pki/key.ts";
import { fromSubject } from "../../core/pki/name.ts";
import { oids } from "../../core/pki/oid.ts";
import { pem } from "../../core/pki/pem.ts";
import type { IssuePolicy } from "../../core/pki/profile.ts";
import { LocalSigner } from "../../core/pki/signer.ts";
import { rootSpec, TestPki } from "../../core/pki/testing/installation.ts";
import type {
  AuthorityRecord,
  CertificateHolder,
  CertificateRecord,
  RevocationReason,
} from "../../core/ports/pki-store.ts";
import type { CertificateRequest, CertificateRequestSpec } from "../../crds/certificaterequest.ts";
import type { Condition } from "../../crds/common.ts";
import { type Chain, chainOf } from "../certificate/bundle.ts";
import { issuedDer } from "../certificate/request.ts";
import type { ReferredIssuer } from "../issuer/reference.ts";
import { type Action, decide, type Observed } from "./decide.ts";

const T0 = new Date("2026-03-01T00:00:00Z");
const policy: IssuePolicy = {
  profiles: ["Server", "Client"],
  dnsNames: ["*.{namespace}.svc"],
  subject: { organizations: ["Example"] },
};

let authority: AuthorityRecord;
let sign: (action: Issue) => Promise<{ readonly record: CertificateRecord; readonly chain: Chain }>;
let signer: LocalSigner;
let plain: string;

beforeAll(async () => {
  const pki = await TestPki.start();
  pki.now = T0;
  authority = await pki.authorities.ensure(pki.writer, rootSpec("ca"));
  sign = async ({ wanted: { key: _, spki, ...contents } }) => {
    const requester = { kind: "CertificateRequest", namespace: "payments", namespaceUid: "ns-1" } as const;
    const record = await pki.authorities.issue(pki.writer, {
      ...contents,
      authority,
      requester: { ...requester, name: "orders", uid: "uid-1" },
      revision: 1,
      key: { spki },
      actor: { kind: "Controller", name: "test" },
    });
    return { record, chain: chainOf(issuedDer(record), pki.authorities.chainOf(authority)) };
  };
  signer = new LocalSigner(await generateKey({ algorithm: "ECDSA", size: 256 }));
  plain = await csr();
});

interface Wishes {
  readonly commonName?: string;
  readonly dnsNames?: readonly string[];
  readonly extensions?: readonly Extension[];
  readonly by?: LocalSigner;
}

const requestDer = ({
  commonName = "orders.payments.svc",
  dnsNames = ["orders.payments.svc"],
  extensions = [],
  by = signer,
}: Wishes = {}): Promise<Buffer> =>
  createCsr(
    fromSubject({ commonName }),
    [subjectAltName(subjectAltNames({ dnsNames: [...dnsNames] }), false), ...extensions],
    by,
  );
const csr = async (wishes?: Wishes): Promise<string> => pem("CERTIFICATE REQUEST", await requestDer(wishes));

const signerOf = async (spec: KeySpec) => new LocalSigner(await generateKey(spec));
const usages = (...uses: KeyUsage[]) => keyUsage(uses);

const said = (type: string, status: Condition["status"] = "True"): Condition => ({
  type,
  status,
  reason: "Reviewed",
  message: "said Ada",
  lastTransitionTime: "2026-03-01T00:00:00Z",
});

const object = (
  spec: Partial<CertificateRequestSpec> = {},
  conditions: readonly Condition[] = [],
): CertificateRequest => ({
  apiVersion: "mazevault.io/v1",
  kind: "CertificateRequest",
  metadata: { name: "orders", namespace: "payments", uid: "uid-1", resourceVersion: "1", generation: 1 },
  spec: { request: plain, issuerRef: { name: "ca" }, ...spec },
  status: { conditions: [...conditions] },
});

type Usable = Extract<ReferredIssuer, { kind: "Usable" }>;

const usable = (extra: Partial<Usable> = {}): Usable => ({
  kind: "Usable",
  authority,
  policy,
  subordinates: { refusal: "Issuer ca allows no CA below it" },
  approval: "Automatic",
  ...extra,
});
const open = (issuer: ReferredIssuer = usable()): Observed => ({
  kind: "Open",
  holder: undefined,
  heldUid: "uid-1",
  namespace: "payments",
  namespaceUid: "ns-1",
  issuer,
});
const missing = (waiting: boolean): ReferredIssuer => ({
  kind: "Unusable",
  authorityId: undefined,
  waiting,
  reason: waiting ? "IssuerNotFound" : "IssuerNotAllowed",
  message: "spec.issuerRef: no",
});

const check = (request: CertificateRequest, seen: Observed) => {
  const { actions, status, next } = decide(request, seen, T0);
  const [condition] = status.conditions;
  expect(status.conditions.map(({ type }) => type)).toEqual(["Issued"]);
  return { actions: actions.map(({ kind }) => kind), reason: condition?.reason, next: next.kind, condition };
};

type Issue = Extract<Action, { kind: "Issue" }>;
const issueOf = (request: CertificateRequest, seen: Observed = open()): Issue => {
  const [action, ...others] = decide(request, seen, T0).actions;
  if (action?.kind !== "Issue" || others.length > 0) throw new Error("not one action");
  return action;
};

describe("what is signed", () => {
  test("a request that the policy allows, with the key and names that it has", () => {
    const { wanted, namespaceUid } = issueOf(object());
    expect(wanted).toMatchObject({ profile: "Server", durationMs: 2_160 * 3_600_000 });
    expect(wanted.spki).toEqual(signer.spki);
    expect(wanted.subjectAltNames).toEqual([{ kind: "dns", value: "orders.payments.svc" }]);
    expect(wanted.usages).toEqual({ keyUsage: ["digitalSignature"], extendedKeyUsage: [oids.serverAuth] });
    expect(namespaceUid).toBe("ns-1");
  });

  test("the same in each way of writing it", async () => {
    const der = await requestDer();
    const text = pem("CERTIFICATE REQUEST", der);
    const ways = [
      text,
      text.replaceAll("\n", "\r\n"),
      text.replaceAll("CERTIFICATE", "NEW CERTIFICATE"),
      der.toString("base64"),
      Buffer.from(text).toString("base64").replaceAll(/.{64}/g, "$&\n"),
    ];
    for (const request of ways) expect(issueOf(object({ request })).wanted.spki).toEqual(signer.spki);
  });

  test.each<{
    title: string;
    wishes: Wishes;
    spec?: Partial<CertificateRequestSpec>;
    profile: string;
    purposes: string[];
  }>([
    {
      title: "a client's request is a client's certificate",
      wishes: { extensions: [extendedKeyUsage([oids.clientAuth])] },
      profile: "Client",
      purposes: [oids.clientAuth],
    },
    {
      title: "both purposes",
      wishes: { extensions: [extendedKeyUsage([oids.clientAuth, oids.serverAuth])] },
      profile: "Server",
      purposes: [oids.clientAuth, oids.serverAuth],
    },
    {
      title: "a key of ECDSA cannot encipher, which requests ask for nevertheless",
      wishes: { extensions: [usages("digitalSignature", "keyEncipherment")] },
      profile: "Server",
      purposes: [oids.serverAuth],
    },
    {
      title: "the manifest says the profile",
      wishes: {},
      spec: { profile: "Client" },
      profile: "Client",
      purposes: [oids.clientAuth],
    },
    {
      title: "the manifest says more than the request",
      wishes: { extensions: [extendedKeyUsage([oids.serverAuth])] },
      spec: { usages: ["digital signature", "server auth", "client auth"] },
      profile: "Server",
      purposes: [oids.serverAuth, oids.clientAuth],
    },
    {
      title: "CA:FALSE and an identifier of the key are no wishes",
      wishes: { extensions: [basicConstraints({ ca: false }), subjectKeyIdentifier(Buffer.alloc(20))] },
      profile: "Server",
      purposes: [oids.serverAuth],
    },
  ])("usages: $title", async ({ wishes, spec, profile, purposes }) => {
    const { wanted } = issueOf(object({ request: await csr(wishes), ...spec }));
    expect([wanted.profile, wanted.usages.extendedKeyUsage, wanted.usages.keyUsage]).toEqual([
      profile,
      purposes,
      ["digitalSignature"],
    ]);
  });

  test("it stays as it was signed, whatever a person says later", async () => {
    const signed = await sign(issueOf(object()));
    for (const conditions of [[], [said("Denied")]]) {
      const plan = decide(
        object({}, conditions),
        { kind: "Issued", holder: undefined, heldUid: "uid-1", ...signed },
        T0,
      );
      expect(plan).toMatchObject({ actions: [], next: { kind: "settled" } });
      expect(plan.status.conditions).toMatchObject([
        { type: "Issued", status: "True" },
        { type: "Revoked", status: "False", reason: "NotRequested" },
      ]);
      const { certificate, ca, serialNumber, notAfter } = plan.status.fields as Record<string, string>;
      const leaf = new X509Certificate(certificate ?? "");
      expect(leaf.verify(new X509Certificate(ca ?? "").publicKey)).toBe(true);
      expect(spkiOf(leaf.publicKey)).toEqual(signer.spki);
      expect(serialNumber?.replaceAll(":", "")).toBe(leaf.serialNumber.toLowerCase());
      expect(new Date(notAfter ?? "")).toEqual(new Date(leaf.validTo));
    }
  });

  test("it stays so when its record was removed long after its end, and is never signed again", () => {
    const signed = {
      certificate: "PEM",
      ca: "PEM of the root",
      serialNumber: "3f:0a",
      notAfter: "2026-01-01T00:00:00Z",
    };
    const revoked = { type: "Revoked", status: "True", reason: "Succeeded", message: "revoked since then" } as const;
    const conditions = [{ ...revoked, lastTransitionTime: "2026-01-01T00:00:00Z" }];
    const request = { ...object(), status: { ...signed, conditions } };
    const plan = decide(request, { kind: "Past", holder: undefined, heldUid: "uid-1" }, T0);
    expect(plan.actions).toEqual([]);
    expect(plan.next).toEqual({ kind: "settled" });
    expect(plan.status.fields).toEqual(signed);
    expect(plan.status.conditions).toMatchObject([{ type: "Issued", status: "True", reason: "Succeeded" }, revoked]);
  });

  test("a certificate in the database that its CA did not sign is not handed out", async () => {
    const { record, chain } = await sign(issueOf(object()));
    const certificate = Buffer.from(chain.certificate.der);
    certificate[certificate.length - 1] = (certificate.at(-1) ?? 0) ^ 1;
    const forged = chainOf(certificate, chain.authorities);
    const plan = decide(object(), { kind: "Issued", holder: undefined, heldUid: "uid-1", record, chain: forged }, T0);
    expect(plan.next).toMatchObject({ kind: "stalled", reason: "LintFailed" });
    expect(plan.status.fields).toBeUndefined();
    expect(plan.actions).toEqual([]);
    const given = object({ revocation: { reason: "keyCompromise" } });
    const revoking = decide(given, { kind: "Issued", holder: undefined, heldUid: "uid-1", record, chain: forged }, T0);
    expect(revoking.actions).toMatchObject([{ kind: "Revoke" }]);
    expect(revoking.status.conditions).toContainEqual(expect.objectContaining({ type: "Revoked", status: "False" }));
  });
});

describe("what is refused, with its field", () => {
  const refused = async (
    wishes: Wishes,
    spec: Partial<CertificateRequestSpec>,
    reason: "PolicyViolated" | "RequestInvalid",
    says: RegExp,
  ) => {
    const result = check(object({ request: await csr(wishes), ...spec }), open());
    expect(result).toMatchObject({ actions: [], reason, next: "stalled" });
    expect(result.condition?.message).toMatch(says);
  };

  test.each<[string, Wishes, Partial<CertificateRequestSpec>, RegExp]>([
    ["a foreign name", { dnsNames: ["orders.elsewhere.svc"] }, {}, /spec\.request: dnsNames: "orders\.elsewhere\.svc"/],
    ["a foreign common name", { commonName: "boss" }, {}, /spec\.request: commonName: "boss" is not allowed/],
    ["too long", {}, { duration: "9553h" }, /spec\.duration: is longer than the issuer allows; use at most/],
    ["a profile", {}, { profile: "Gateway" }, /spec\.profile: Gateway is not allowed/],
    [
      "a purpose that the request names",
      { extensions: [extendedKeyUsage([oids.codeSigning])] },
      {},
      /spec\.request: usages: "code signing" is not allowed/,
    ],
  ])("by the policy: %s", (_title, wishes, spec, says) => refused(wishes, spec, "PolicyViolated", says));

  test.each<[string, Wishes, Partial<CertificateRequestSpec>, RegExp]>([
    [
      "a CA",
      { extensions: [basicConstraints({ ca: true })] },
      {},
      /spec\.request: asks for the certificate of a CA; leave basicConstraints CA:TRUE out/,
    ],
    [
      "an extension that is not issued",
      {
        extensions: [
          nameConstraintsExtension({ permitted: [...subjectAltNames({ dnsNames: ["payments.svc"] })], excluded: [] }),
        ],
      },
      {},
      /spec\.request: asks for extensions that are not issued \(2\.5\.29\.30\); leave them out/,
    ],
    [
      "another purpose than the manifest's",
      { extensions: [extendedKeyUsage([oids.clientAuth])] },
      { profile: "Server" },
      /spec\.request: asks for "client auth", which spec\.profile Server does not hold; make them agree/,
    ],
    [
      "nothing that its key can do",
      { extensions: [usages("keyEncipherment")] },
      {},
      /spec\.request: usages: leave a key of ECDSA nothing to do; add "digital signature"/,
    ],
    [
      "another use than the manifest's",
      { extensions: [usages("keyAgreement")] },
      { usages: ["digital signature", "server auth"] },
      /spec\.request: asks for "key agreement", which spec\.usages does not hold/,
    ],
  ])("by itself: %s", (_title, wishes, spec, says) => refused(wishes, spec, "RequestInvalid", says));

  test("a weak key, a wrong signature, and what is no request", async () => {
    const faulty = async (request: string, says: RegExp) => {
      const result = check(object({ request }), open());
      expect(result).toMatchObject({ actions: [], reason: "RequestInvalid", next: "stalled" });
      expect(result.condition?.message).toMatch(says);
      expect(result.condition?.message).toMatch(/^spec\.request: .*; create a new CertificateRequest$/);
    };
    await faulty(await csr({ by: await signerOf({ algorithm: "RSA", size: 1024 }) }), /the RSA key has 1024 bits/);
    const der = await requestDer();
    der[der.length - 1] = (der.at(-1) ?? 0) ^ 1;
    await faulty(pem("CERTIFICATE REQUEST", der), /not signed with its own key/);
    await faulty("AAAA".repeat(20), /malformed|PEM/);
    await faulty(`${"A".repeat(65)}=`, /is not base64/);
  });
});

describe("revocation", () => {
  type Reasons = readonly [wanted: RevocationReason | undefined, standing: RevocationReason | undefined];
  const seenWith = async (reason: RevocationReason | undefined): Promise<Observed> => {
    const { record, chain } = await sign(issueOf(object()));
    const revocation = reason && { reason, at: T0 };
    return {
      kind: "Issued",
      holder: undefined,
      heldUid: "uid-1",
      record: { ...record, ...(revocation && { revocation }) },
      chain,
    };
  };
  const asking = (reason: RevocationReason | undefined) =>
    object(reason === undefined ? {} : { revocation: { reason: reason as "keyCompromise" } });

  test.each<[...Reasons, action: string | undefined, revoked: string]>([
    [undefined, undefined, undefined, "False NotRequested"],
    ["keyCompromise", undefined, "Revoke", "False Progressing"],
    ["certificateHold", undefined, "Revoke", "False Progressing"],
    ["certificateHold", "certificateHold", undefined, "True Succeeded"],
    ["keyCompromise", "certificateHold", "Revoke", "False Progressing"],
    [undefined, "certificateHold", "ReleaseHold", "False Progressing"],
    ["keyCompromise", "keyCompromise", undefined, "True Succeeded"],
    ["superseded", "cessationOfOperation", undefined, "True Succeeded"],
    [undefined, "cessationOfOperation", undefined, "True Succeeded"],
  ])("wanted %s, standing %s: %s", async (wanted, standing, action, shown) => {
    const { actions, status } = decide(asking(wanted), await seenWith(standing), T0);
    expect(actions.map(({ kind }) => kind)).toEqual(action === undefined ? [] : [action]);
    const [issued, revoked] = status.conditions;
    expect(issued).toMatchObject({ type: "Issued", status: "True" });
    expect(`${revoked?.status} ${revoked?.reason}`).toBe(shown);
    expect(status.fields).toHaveProperty("certificate");
  });

  test.each<Reasons>([
    ["keyCompromise", undefined],
    [undefined, "certificateHold"],
  ])(
    "wanted %s, standing %s: what the primary refuses for good is told, and not asked again",
    async (wanted, standing) => {
      const seen = {
        ...(await seenWith(standing)),
        refusedRevocation: "the primary refuses: not signed for this gateway",
      };
      const { actions, status, next } = decide(asking(wanted), seen as Observed, T0);
      expect(actions).toEqual([]);
      const told = { reason: "SerialNumberUnknown", message: expect.stringContaining("have it done at the primary") };
      expect(next).toMatchObject({ kind: "stalled", ...told });
      expect(status.conditions).toMatchObject([
        { type: "Issued", status: "True" },
        { type: "Revoked", status: "False", ...told },
      ]);
      expect(status.fields).toHaveProperty("certificate");
    },
  );

  test("before it was signed keeps it from being signed", () => {
    expect(check(asking("certificateHold"), open())).toMatchObject({ actions: [], reason: "RequestWithdrawn" });
  });

  test("with the object is recorded before anything else, and only where it differs", async () => {
    const policy = (deletionPolicy: "Retain" | "Revoke") => object({ deletionPolicy });
    const holderWith = (deletionPolicy: "Retain" | "Revoke"): CertificateHolder => ({
      kind: "CertificateRequest",
      ...{ uid: "uid-1", namespace: "payments", namespaceUid: "ns-1", name: "orders", deletionPolicy },
    });
    const kinds = (request: CertificateRequest, seen: Observed) =>
      decide(request, seen, T0).actions.map((action) =>
        action.kind === "RecordHolder" ? [action.kind, action.holder] : action.kind,
      );
    expect(kinds(policy("Retain"), open())).toEqual(["Issue"]);
    expect(kinds(policy("Revoke"), open())).toEqual([["RecordHolder", holderWith("Revoke")]]);
    expect(kinds(policy("Revoke"), { ...open(), holder: holderWith("Revoke") })).toEqual(["Issue"]);
    const signed = await seenWith(undefined);
    expect(kinds(policy("Revoke"), signed)).toEqual([["RecordHolder", holderWith("Revoke")]]);
    expect(kinds(object(), { ...signed, holder: holderWith("Revoke") })).toEqual([
      ["RecordHolder", holderWith("Retain")],
    ]);
  });
});

test.each([
  [true, "IssuerNotFound", "recheckAt"],
  [false, "IssuerNotAllowed", "stalled"],
] as const)("an issuer that cannot be used (waiting: %s)", (waiting, reason, next) => {
  expect(check(object(), open(missing(waiting)))).toMatchObject({ actions: [], reason, next });
});

describe("a person", () => {
  const manual = () => open(usable({ approval: "Manual" }));
  type Case = readonly [title: string, conditions: readonly Condition[], seen: () => Observed, reason: string];

  test.each<Case>([
    ["who has said nothing is waited for", [], manual, "ApprovalPending"],
    ["approves", [said("Approved")], manual, "Progressing"],
    ["has not approved while the status is False", [said("Approved", "False")], manual, "ApprovalPending"],
    ["has not approved while the status is Unknown", [said("Approved", "Unknown")], manual, "ApprovalPending"],
    ["denies", [said("Denied")], manual, "RequestDenied"],
    ["who approves and denies has denied", [said("Approved"), said("Denied")], manual, "RequestDenied"],
    ["does not deny with the status False", [said("Approved"), said("Denied", "False")], manual, "Progressing"],
    ["need not approve where the issuer does not want it", [], open, "Progressing"],
    ["may deny also there", [said("Denied")], open, "RequestDenied"],
  ])("%s", (_title, conditions, seen, reason) => {
    const result = check(object({}, conditions), seen());
    expect(result.reason).toBe(reason);
    expect(result.actions).toEqual(reason === "Progressing" ? ["Issue"] : []);
    expect(result.next).toBe(reason === "RequestDenied" ? "stalled" : "settled");
  });

  test("is told what is asked for, in one line", async () => {
    const dnsNames = Array.from({ length: 12 }, (_, index) => `n${index}.payments.svc`);
    const request = await csr({ commonName: "n0.payments.svc", dnsNames });
    const { condition } = check(object({ request, duration: "24h" }), manual());
    expect(condition?.message).toBe(
      'waits for a person to set condition Approved or Denied; asked for: subject "CN=n0.payments.svc", alternative names ' +
        `${dnsNames
          .slice(0, 10)
          .map((name) => `"DNS:${name}"`)
          .join(", ")}, and 2 more, profile Server, ` +
        'usages "digital signature", "server auth", for 24h',
    );
  });

  test("cannot approve what the policy refuses", async () => {
    const request = await csr({ dnsNames: ["orders.elsewhere.svc"] });
    expect(check(object({ request }, [said("Approved")]), manual())).toMatchObject({
      actions: [],
      reason: "PolicyViolated",
    });
  });
});
