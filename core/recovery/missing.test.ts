import type { Binding, HomeState } from "../ports/home-store.ts";
import { identity } from "../ports/samples.ts";
import { type MissingObject, type MissingParts, missingObjects } from "./missing.ts";
import { FakeCluster } from "./testing/cluster.ts";

const at = identity("db");

/** Stores that know one of everything, and what was ended besides. */
const parts = (
  cluster: FakeCluster,
  bindings: readonly Binding[] = [],
  home: HomeState = bindings.length === 0 ? "Settled" : "Adopted",
): MissingParts =>
  ({
    cluster,
    home,
    bindings,
    vault: {
      listLocations: async (after: string | undefined) =>
        after === undefined
          ? [
              { id: "1", identity: at, state: "Active" },
              { id: "2", identity: identity("gone"), state: "SoftDeleted" },
              { id: "3", identity: identity("kept"), state: "Retained" },
            ]
          : [],
    },
    pki: {
      listAuthorities: async () => [
        {
          id: "1",
          identity: { kind: "Issuer", namespace: "shop", namespaceUid: "shop-1", name: "web" },
          state: "Active",
        },
        { id: "2", identity: { kind: "ClusterIssuer", namespace: "", name: "root" }, state: "Active" },
        { id: "3", identity: { kind: "ClusterIssuer", namespace: "", name: "old" }, state: "Retired" },
        { id: "4", identity: { kind: "Installation", namespace: "", name: "fleet" }, state: "Active" },
      ],
      listHolders: async () => [
        { kind: "Certificate", uid: "1", namespace: "shop", name: "site" },
        { kind: "CertificateRequest", uid: "2", namespace: "shop", name: "site" },
      ],
    },
    fleet: { gateways: async () => [{ name: "gw" }, { name: "out", revokedAt: new Date(0) }] },
    environments: {
      list: async () => [
        { record: { environment: "NPR", pair: { object: "npr", primary: "gw", standby: "gw-2" } } },
        { record: { environment: "PRO", pair: undefined } },
      ],
    },
    sinks: { list: async () => [{ uid: "1", name: "file" }] },
  }) as unknown as MissingParts;

const told = ({ kind, namespace, name }: MissingObject): string => `${kind} ${namespace}/${name}`;

/** All of it, each as it was when the backup was made; of these names and kinds others. */
function whole(others: Readonly<Record<string, string>> = {}): FakeCluster {
  const cluster = new FakeCluster();
  const { namespace, project, environment } = at;
  const uid = (of: string, own: string): string => others[of] ?? own;
  cluster.add("Namespace", { name: namespace }, uid(namespace, at.namespaceUid));
  cluster.add("Namespace", { name: "shop" }, uid("shop", "shop-1"));
  cluster.add("Secret", { namespace, name: "db", project, environment });
  cluster.add("Issuer", { namespace: "shop", name: "web" });
  cluster.add("ClusterIssuer", { name: "root" });
  cluster.add("Certificate", { namespace: "shop", name: "site" }, uid("Certificate", "1"));
  cluster.add("CertificateRequest", { namespace: "shop", name: "site" }, uid("CertificateRequest", "2"));
  cluster.add("Gateway", { name: "gw" });
  cluster.add("GatewayEnvironment", { name: "npr" });
  cluster.add("AuditSink", { name: "file" });
  return cluster;
}

test("everything that counts and is not there is told; what was ended is not", async () => {
  const missing = await missingObjects(parts(new FakeCluster()));
  expect(missing.map(told)).toEqual([
    `Secret ${at.namespace}/db`,
    "Issuer shop/web",
    "ClusterIssuer /root",
    "Certificate shop/site",
    "CertificateRequest shop/site",
    "Gateway /gw",
    "GatewayEnvironment /npr",
    "AuditSink /file",
  ]);
});

test("nothing is missing where all of it is there; a Secret of another environment is not the one", async () => {
  expect(await missingObjects(parts(whole()))).toEqual([]);
  const { namespace, project } = at;
  const other = new FakeCluster();
  other.add("Secret", { namespace, name: "db", project, environment: "other" });
  expect((await missingObjects(parts(other)))[0]).toEqual({ kind: "Secret", namespace, name: "db" });
  // Its namespace goes just now.
  const going = whole();
  going.remove("Namespace", namespace);
  expect(await missingObjects(parts(going))).toEqual([{ kind: "Secret", namespace, name: "db" }]);
});

describe("in another cluster", () => {
  const binding = (kind: Binding["kind"], namespace: string, name: string, heldUid: string, uid?: string): Binding => ({
    kind,
    namespace,
    name,
    heldUid,
    uid,
  });
  const bindings = (of: string | undefined): Binding[] => [
    binding("Namespace", "", at.namespace, at.namespaceUid, of),
    binding("Namespace", "", "shop", "shop-1", "shop-2"),
    binding("Certificate", "shop", "site", "1", of),
    binding("CertificateRequest", "shop", "site", "2", "request-2"),
  ];
  const there = () =>
    whole({ [at.namespace]: "new", shop: "shop-2", Certificate: "new", CertificateRequest: "request-2" });

  test("nothing is missing of what has taken its place", async () => {
    expect(await missingObjects(parts(there(), bindings("new")))).toEqual([]);
  });

  test("what is there and waits for its place is missing, and told as that; what is in it is there", async () => {
    expect(await missingObjects(parts(there(), bindings(undefined)))).toEqual([
      { kind: "Namespace", namespace: "", name: at.namespace, waits: true },
      { kind: "Certificate", namespace: "shop", name: "site", waits: true },
    ]);
  });

  test("so is what is not there at all, once, with what is in it", async () => {
    const missing = await missingObjects(parts(new FakeCluster(), bindings(undefined)));
    expect(missing.slice(0, 3).map(told)).toEqual([
      `Namespace /${at.namespace}`,
      "Certificate shop/site",
      `Secret ${at.namespace}/db`,
    ]);
    expect(missing.map(told).filter((each) => each === "Certificate shop/site")).toHaveLength(1);
    expect(missing.some(({ waits }) => waits)).toBe(false);
  });

  test("what belongs to a namespace or an object of before is missing where another one has its name", async () => {
    const standing = [binding("Namespace", "", at.namespace, "another", "new"), ...bindings(undefined).slice(1)];
    const one = binding("Namespace", "", at.namespace, at.namespaceUid);
    const certificate = binding("Certificate", "shop", "site", "another", "new");
    expect(await missingObjects(parts(there(), [one, ...standing, certificate]))).toEqual([
      { kind: "Secret", namespace: at.namespace, name: "db", former: at.namespaceUid },
      { kind: "Certificate", namespace: "shop", name: "site", former: "1" },
    ]);
    expect(await missingObjects(parts(whole({ shop: "shop-2" })))).toEqual([
      { kind: "Issuer", namespace: "shop", name: "web", former: "shop-1" },
    ]);
  });

  test("before it is taken over only names are compared", async () => {
    expect(await missingObjects(parts(there(), bindings("elsewhere"), "Restored"))).toEqual([]);
    expect(await missingObjects(parts(new FakeCluster(), [], "Restored"))).toHaveLength(8);
  });

  test("what was made anew waits until the recovery is settled, and is another one then", async () => {
    expect(await missingObjects(parts(there(), bindings("gone")))).toEqual([
      { kind: "Namespace", namespace: "", name: at.namespace, waits: true },
      { kind: "Certificate", namespace: "shop", name: "site", waits: true },
    ]);
    expect(await missingObjects(parts(there(), bindings("gone"), "Settled"))).toEqual([
      { kind: "Secret", namespace: at.namespace, name: "db", former: at.namespaceUid },
      { kind: "Certificate", namespace: "shop", name: "site", former: "1" },
    ]);
  });
});
