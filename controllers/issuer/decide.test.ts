import { parseCertificate } from "../../core/pki/certificate.ts";
import { TestPki } from "../../core/pki/testing/installation.ts";
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
  publishedAt: "http://pki.example.com",
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
  if (action === undefined) throw new Error("expected an action");
  return pki.authorities.ensure(pki.writer, { ...action.spec, actor });
};
const conditions = (issuer: ClusterIssuer | Issuer, seen: Observed) =>
  decide(issuer, seen, pki.now).status.conditions.map(({ type, status, reason }) => `${type} ${status} ${reason}`);

describe("a root", () => {
  const root = clusterIssuer("root");
  const seen = observed({ identity: clusterIdentity("root") });

  test("is made with what stands in no manifest", async () => {
    const [action] = decide(root, seen, pki.now).actions;
    expect(action?.spec).toMatchObject({
      key: { algorithm: "ECDSA", size: 256 },
      durationMs: 87_600 * 3_600_000,
      revocation: { crlEveryMs: 86_400_000, ocspValidityMs: 86_400_000 },
      parent: { kind: "Self" },
    });
  });

  test("is settled when it is as it should be, and tells its certificate", async () => {
    const authority = await performed(root, seen);
    const plan = decide(root, { ...seen, authority }, pki.now);
    expect(plan.actions).toEqual([]);
    const { notAfter } = authority.generations[0] ?? {};
    expect(plan.next).toEqual({ kind: "recheckAt", at: notAfter });
    expect(plan.status.fields).toEqual({
      serialNumber: expect.stringMatching(/^[0-9a-f]{2}(:[0-9a-f]{2}){15}$/),
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
    const lower = clusterIssuer("lower", below().spec);
    const seen = observed({
      identity: clusterIdentity("lower"),
      parent: { issuer: clusterIssuer("payments", above({ pathLength: 5 }).spec), authority: made },
    });
    const next = await performed(lower, seen);
    expect(parseCertificate(next.generations[0]?.certificate ?? Buffer.alloc(0)).basicConstraints?.pathLength).toBe(1);
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
