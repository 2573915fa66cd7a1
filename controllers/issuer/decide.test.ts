import { parseCertificate } from "../../core/pki/certificate.ts";
import { keyUsage } from "../../core/pki/extension.ts";
import { pem } from "../../core/pki/pem.ts";
import { TestPki } from "../../core/pki/testing/installation.ts";
import { type Party, type PartyRequest, party } from "../../core/pki/testing/party.ts";
import type { AuthorityIdentity, AuthorityRecord } from "../../core/ports/pki-store.ts";
import { actor } from "../../core/ports/samples.ts";
import type { ClusterIssuer, ClusterIssuerSpec, Issuer } from "../../crds/issuer.ts";
import { decide, type Observed } from "./decide.ts";

let pki: TestPki;
beforeEach(async () => {
  pki = await TestPki.start();
});

type Allowed = NonNullable<NonNullable<ClusterIssuerSpec["policy"]>["allowSubordinates"]>;

const clusterIssuer = (name: string, spec: Partial<ClusterIssuerSpec> = {}): ClusterIssuer => ({
  apiVersion: "mazevault.io/v1",
  kind: "ClusterIssuer",
  metadata: { name, uid: `uid-of-${name}`, resourceVersion: "1", generation: 1 },
  spec: { ca: { subject: { commonName: `${name} CA` } }, ...spec },
});
const above = (allowSubordinates?: Allowed): ClusterIssuer =>
  clusterIssuer("root", { policy: { ...(allowSubordinates && { allowSubordinates }) } });
const below = (ca: Partial<NonNullable<ClusterIssuerSpec["ca"]>> = {}): ClusterIssuer =>
  clusterIssuer("payments", {
    ca: { subject: { commonName: "payments CA" }, parentRef: { kind: "ClusterIssuer", name: "root" }, ...ca },
  });
const tenant = (kind: "ClusterIssuer" | "Issuer", ca: Partial<NonNullable<ClusterIssuerSpec["ca"]>> = {}): Issuer => ({
  apiVersion: "mazevault.io/v1",
  kind: "Issuer",
  metadata: { name: "own", namespace: "shop", uid: "uid-of-own", resourceVersion: "1", generation: 1 },
  spec: { ca: { subject: { commonName: "shop CA" }, parentRef: { kind, name: "root" }, ...ca } },
});
const shop = { name: "shop", uid: "uid-of-shop", labels: { team: "shop" } };

const clusterIdentity = (name: string): AuthorityIdentity => ({
  kind: "ClusterIssuer",
  namespace: "",
  namespaceUid: "",
  name,
});
const observed = (change: Partial<Observed> = {}): Observed => ({
  identity: clusterIdentity("payments"),
  namespace: undefined,
  authority: undefined,
  parent: undefined,
  request: undefined,
  publishedAt: "http://pki.example.com",
  unpublished: undefined,
  ...change,
});
const inShop = (change: Partial<Observed> = {}): Observed =>
  observed({
    identity: { kind: "Issuer", namespace: "shop", namespaceUid: shop.uid, name: "own" },
    namespace: shop,
    ...change,
  });
/** What the one planned action comes to. */
const performed = async (issuer: ClusterIssuer | Issuer, seen: Observed): Promise<AuthorityRecord> => {
  const [action] = decide(issuer, seen, pki.now).actions;
  if (action?.kind !== "Ensure") throw new Error("expected that a CA is made");
  return pki.authorities.ensure(pki.writer, { ...action.spec, actor });
};
const conditions = (issuer: ClusterIssuer | Issuer, seen: Observed) =>
  decide(issuer, seen, pki.now).status.conditions.map(({ type, status, reason }) => `${type} ${status} ${reason}`);

describe("a root", () => {
  const root = clusterIssuer("root");
  const seen = observed({ identity: clusterIdentity("root") });

  test("is made with what stands in no manifest", async () => {
    const [action] = decide(root, seen, pki.now).actions;
    expect(action).toMatchObject({
      kind: "Ensure",
      spec: {
        key: { algorithm: "ECDSA", size: 256 },
        durationMs: 87_600 * 3_600_000,
        revocation: { crlEveryMs: 86_400_000, ocspValidityMs: 86_400_000 },
        parent: { kind: "Self" },
      },
    });
  });

  test("is settled when it is as it should be, and tells its certificate", async () => {
    const authority = await performed(root, seen);
    const plan = decide(root, { ...seen, authority }, pki.now);
    expect(plan.actions).toEqual([]);
    const { notAfter } = authority.generations[0] ?? {};
    expect(plan.next).toEqual({ kind: "recheckAt", at: notAfter });
    expect(plan.status.fields).toEqual({
      serialNumber: expect.stringMatching(/^[0-9a-f]{2}(:[0-9a-f]{2}){17}$/),
      notAfter: notAfter?.toISOString().replace(".000", ""),
      caBundle: expect.stringMatching(/^-----BEGIN CERTIFICATE-----\n[^-]+-----END CERTIFICATE-----\n$/),
    });
    expect(conditions(root, { ...seen, authority })).toEqual([
      "Issued True Succeeded",
      "Linted True Succeeded",
      "Published True Available",
    ]);
  });

  test("says when nobody is told where revocations are, without counting it against Ready", async () => {
    const authority = await performed(root, seen);
    const unpublished = { ...seen, authority, publishedAt: undefined };
    expect(conditions(root, unpublished)).toContain("Published False NotRequested");
    const tampered = { ...seen, authority, unpublished: "the status of certificate 41 does not match its MAC" };
    expect(conditions(root, tampered)).toContain("Published False TamperDetected");
  });

  test("follows changed settings, and is taken up again when it was retired", async () => {
    const authority = await performed(root, seen);
    const changed = clusterIssuer("root", { revocation: { crl: { every: "1h" } } });
    expect((await performed(changed, { ...seen, authority })).revocation.crlEveryMs).toBe(3_600_000);
    const retired = { ...authority, state: "Retired" } as const;
    expect(decide(root, { ...seen, authority: retired }, pki.now).actions).toHaveLength(1);
  });

  test("is not exchanged for another one of its name", async () => {
    const authority = await performed(root, seen);
    for (const ca of [
      { subject: { commonName: "another CA" } },
      { subject: { commonName: "root CA" }, key: { algorithm: "RSA" as const } },
    ]) {
      const plan = decide(clusterIssuer("root", { ca }), { ...seen, authority }, pki.now);
      expect([plan.actions, plan.next]).toMatchObject([[], { kind: "stalled", reason: "AuthorityDiffers" }]);
    }
  });

  test("that has ended is stalled", async () => {
    const authority = await performed(root, seen);
    pki.passes(87_600 * 3_600_000);
    expect(decide(root, { ...seen, authority }, pki.now).next).toMatchObject({ reason: "IssuerExpired" });
  });

  test("with name constraints that are none is stalled", () => {
    const ca = {
      subject: { commonName: "root CA" },
      nameConstraints: { permitted: { ipRanges: ["10.0.0.1/8/9"] } },
    };
    expect(decide(clusterIssuer("root", { ca }), seen, pki.now).next).toMatchObject({
      reason: "SubjectInvalid",
      message: expect.stringContaining("spec.ca.nameConstraints.permitted.ipRanges[0]"),
    });
  });
});

describe("a CA below another one", () => {
  let authority: AuthorityRecord;
  beforeEach(async () => {
    authority = await pki.root("root");
  });
  const refusal = (issuer: ClusterIssuer | Issuer, seen: Observed): string => {
    const { actions, next } = decide(issuer, seen, pki.now);
    expect(actions).toEqual([]);
    if (next.kind !== "stalled" || next.reason !== "SubordinateNotAllowed") throw new Error(JSON.stringify(next));
    return next.message;
  };

  test("waits for the one above it, and then for its certificate", () => {
    const missing = observed({ parent: { issuer: undefined, authority: undefined } });
    expect(conditions(below(), missing)[0]).toBe("Issued False IssuerNotFound");
    expect(decide(below(), missing, pki.now).next.kind).toBe("recheckAt");
    const bare = observed({ parent: { issuer: above({}), authority: undefined } });
    expect(conditions(below(), bare)[0]).toBe("Issued False IssuerNotReady");
  });

  test("needs that one's permission", () => {
    expect(refusal(below(), observed({ parent: { issuer: above(), authority } }))).toContain(
      "policy.allowSubordinates",
    );
  });

  test("gets the path length that it allows, and ends with it", async () => {
    const made = await performed(below(), observed({ parent: { issuer: above({ pathLength: 2 }), authority } }));
    const certificate = parseCertificate(made.generations[0]?.certificate ?? Buffer.alloc(0));
    expect(certificate.basicConstraints).toEqual({ ca: true, pathLength: 2 });
    expect(certificate.notAfter.getTime() - certificate.notBefore.getTime()).toBeLessThan(43_800 * 3_600_000);
    const lower = clusterIssuer("lower", below({ subject: { commonName: "lower CA" } }).spec);
    const seen = observed({
      identity: clusterIdentity("lower"),
      parent: { issuer: clusterIssuer("payments", above({ pathLength: 5 }).spec), authority: made },
    });
    const next = await performed(lower, seen);
    expect(parseCertificate(next.generations[0]?.certificate ?? Buffer.alloc(0)).basicConstraints?.pathLength).toBe(1);
  });

  test("does not bear that one's name", () => {
    const seen = observed({ parent: { issuer: above({}), authority } });
    expect(refusal(below({ subject: { commonName: "root CA" } }), seen)).toMatch(
      /^spec\.ca\.subject: is that of the issuer/,
    );
  });

  test("is not made below one whose own certificate forbids it", async () => {
    const made = await performed(below(), observed({ parent: { issuer: above({}), authority } }));
    const parent = { issuer: above({}), authority: made };
    expect(refusal(clusterIssuer("lower", below().spec), observed({ parent }))).toContain("path length 0");
  });

  test.each([
    ["absent", {}, false],
    ["of another name", { namespaces: { names: ["other"] } }, false],
    ["of other labels", { namespaces: { selector: { matchLabels: { team: "other" } } } }, false],
    ["of its name", { namespaces: { names: ["shop"] } }, true],
    ["of its labels", { namespaces: { selector: { matchLabels: { team: "shop" } } } }, true],
  ])("in a namespace needs that namespace listed: %s", async (_, allow, allowed) => {
    const seen = inShop({ parent: { issuer: above(allow), authority } });
    if (allowed) expect((await performed(tenant("ClusterIssuer"), seen)).state).toBe("Active");
    else expect(refusal(tenant("ClusterIssuer"), seen)).toContain("policy.allowSubordinates.namespaces");
  });

  test("below an Issuer of its own namespace needs no list", async () => {
    const parent = { issuer: { ...tenant("Issuer"), spec: above({}).spec } as Issuer, authority };
    expect((await performed(tenant("Issuer"), inShop({ parent }))).state).toBe("Active");
  });

  const names = { names: ["shop"] };
  const limited: Allowed = {
    namespaces: names,
    nameConstraints: { permitted: { dnsDomains: ["{namespace}.svc"] }, excluded: { dnsDomains: ["admin.shop.svc"] } },
  };

  test("in a namespace is bound to the names of that namespace, whatever it asks for", async () => {
    const made = await performed(tenant("ClusterIssuer"), inShop({ parent: { issuer: above(limited), authority } }));
    const { nameConstraints } = parseCertificate(made.generations[0]?.certificate ?? Buffer.alloc(0));
    const dns = (list: typeof nameConstraints, side: "permitted" | "excluded") =>
      list?.[side].filter(({ kind }) => kind === "dns");
    expect(dns(nameConstraints, "permitted")).toEqual([{ kind: "dns", value: "shop.svc" }]);
    expect(dns(nameConstraints, "excluded")).toEqual([{ kind: "dns", value: "admin.shop.svc" }]);
  });

  test("may ask for less, not for more", async () => {
    const parent = { issuer: above(limited), authority };
    const asking = (domain: string) =>
      tenant("ClusterIssuer", { nameConstraints: { permitted: { dnsDomains: [domain] } } });
    const made = await performed(asking("orders.shop.svc"), inShop({ parent }));
    const { nameConstraints } = parseCertificate(made.generations[0]?.certificate ?? Buffer.alloc(0));
    expect(nameConstraints?.permitted).toContainEqual({ kind: "dns", value: "orders.shop.svc" });
    expect(nameConstraints?.permitted).not.toContainEqual({ kind: "dns", value: "shop.svc" });
    expect(refusal(asking("other.svc"), inShop({ parent }))).toContain("nameConstraints.permitted");
  });

  test("that has its certificate keeps it, whatever becomes of the one above", async () => {
    const made = await performed(below(), observed({ parent: { issuer: above({}), authority } }));
    expect(conditions(below(), observed({ authority: made }))[0]).toBe("Issued True Succeeded");
  });
});

describe("a CA that is signed elsewhere", () => {
  const identity = clusterIdentity("issuing");
  const external = (certificate?: string, spec: Partial<ClusterIssuerSpec> = {}): ClusterIssuer =>
    clusterIssuer("issuing", {
      ca: { subject: { commonName: "issuing CA" }, external: certificate === undefined ? {} : { certificate } },
      ...spec,
    });
  const request = "-----BEGIN CERTIFICATE REQUEST-----";
  let root: Party;
  let authority: AuthorityRecord;
  let seen: Observed;

  beforeEach(async () => {
    pki.now = new Date();
    root = await party({ name: "Offline Root", ca: true });
    authority = await performed(external(), observed({ identity }));
    seen = observed({ identity, authority, request });
  });

  const signedFor = async (change: Partial<PartyRequest> = {}): Promise<string> => {
    const { spki } = authority.generations[0] ?? { spki: Buffer.alloc(0) };
    const key = { spki, signatureAlgorithm: spki, sign: () => Promise.reject(new Error("the key is not here")) };
    const own = await party({ name: "issuing CA", key, issuer: root, ca: true, ...change });
    return [own, root].map(({ certificate }) => pem("CERTIFICATE", certificate)).join("");
  };
  const installed = async (text: string): Promise<Observed> => ({
    ...seen,
    authority: await pki.authorities.install(pki.writer, authority, text, actor),
  });

  test("gets a key, then a request, and then waits for its certificate", () => {
    expect(authority.generations[0]?.certificate).toBeUndefined();
    expect(decide(external(), { ...seen, request: undefined }, pki.now).actions).toEqual([
      { kind: "Request", authority },
    ]);
    const { actions, status, next } = decide(external(), seen, pki.now);
    expect([actions, next, status.fields]).toEqual([[], { kind: "settled" }, { certificateSigningRequest: request }]);
    expect(status.conditions[0]).toMatchObject({
      type: "Issued",
      status: "False",
      reason: "WaitingForCertificate",
      message: expect.stringContaining("spec.ca.external.certificate"),
    });
  });

  test("installs what was signed, and then does nothing more", async () => {
    const text = await signedFor();
    expect(decide(external(text), seen, pki.now).actions).toEqual([{ kind: "Install", authority, certificate: text }]);
    const after = await installed(text);
    const plan = decide(external(text), after, pki.now);
    expect([plan.actions, plan.next.kind]).toEqual([[], "recheckAt"]);
    expect(plan.status.fields).toMatchObject({ certificateSigningRequest: request, caBundle: text });
    expect(conditions(external(text), after)[0]).toBe("Issued True Succeeded");
    // Also when the manifest does not say it any more.
    expect(decide(external(), after, pki.now)).toEqual(plan);
  });

  test("shows what is not good about it", async () => {
    const usages = keyUsage(["keyCertSign", "cRLSign"]);
    const text = await signedFor({
      extensions: (usual) => usual.map((each) => (each.oid === usages.oid ? { ...usages, critical: false } : each)),
    });
    const { status } = decide(external(text), await installed(text), pki.now);
    const linted = status.conditions.find(({ type }) => type === "Linted");
    expect(linted).toMatchObject({ status: "True", message: expect.stringContaining("(keyUsageCritical)") });
  });

  test("is stalled by a certificate that is not its own, and says which field and what to do", async () => {
    const text = await signedFor({ name: "someone else" });
    const { actions, next, status } = decide(external(text), seen, pki.now);
    expect([actions, next]).toMatchObject([
      [],
      {
        kind: "stalled",
        reason: "CertificateRefused",
        message: expect.stringMatching(/^spec.ca.external.certificate: /),
      },
    ]);
    expect(status.fields).toEqual({ certificateSigningRequest: request });
  });

  test("needs room for the CAs that it allows below it", async () => {
    const policy = { policy: { allowSubordinates: {} } };
    const [narrow, wide] = [await signedFor({ ca: 0 }), await signedFor({ ca: 1 })];
    expect(decide(external(narrow, policy), seen, pki.now).next).toMatchObject({
      reason: "CertificateRefused",
      message: expect.stringContaining("spec.policy.allowSubordinates"),
    });
    expect(decide(external(narrow), seen, pki.now).actions).toHaveLength(1);
    expect(decide(external(wide, policy), seen, pki.now).actions).toHaveLength(1);
  });

  test("is renewed by another certificate, and goes on with the one it has when that is refused", async () => {
    const text = await signedFor();
    const after = await installed(text);
    const template = { notAfter: new Date(Date.now() + 82_000_000) };
    expect(decide(external(await signedFor({ template })), after, pki.now).actions).toMatchObject([
      { kind: "Install" },
    ]);
    const refused = external(await signedFor({ name: "someone else" }));
    const { actions, next, status } = decide(refused, after, pki.now);
    expect([actions, next]).toMatchObject([[], { kind: "stalled", reason: "CertificateRefused" }]);
    expect(status.fields).toMatchObject({ caBundle: text });
    expect(conditions(refused, after)[0]).toBe("Issued True Succeeded");
  });

  test("that has ended says how to renew it", async () => {
    const text = await signedFor();
    const after = await installed(text);
    pki.passes(86_400_000);
    expect(decide(external(text), after, pki.now).next).toMatchObject({
      reason: "IssuerExpired",
      message: expect.stringContaining("have status.certificateSigningRequest signed again"),
    });
  });

  test("lets no CA below it that a path length further up forbids", async () => {
    root = await party({ name: "Offline Root", ca: 1 });
    const { authority: parent } = await installed(await signedFor());
    const lower = observed({ parent: { issuer: above({ pathLength: 3 }), authority: parent } });
    expect(decide(below(), lower, pki.now).next).toMatchObject({
      reason: "SubordinateNotAllowed",
      message: expect.stringContaining("path length 0"),
    });
  });
});
