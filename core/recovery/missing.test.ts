import { identity } from "../ports/samples.ts";
import { type MissingParts, missingObjects } from "./missing.ts";
import { FakeCluster } from "./testing/cluster.ts";

const at = identity("db");

/** Stores that know one of everything, and what was ended besides. */
const parts = (cluster: FakeCluster): MissingParts =>
  ({
    cluster,
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
        { id: "1", identity: { kind: "Issuer", namespace: "shop", name: "web" }, state: "Active" },
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
    sinks: { list: async () => [{ uid: "1", name: "file" }] },
  }) as unknown as MissingParts;

test("everything that counts and is not there is told; what was ended is not", async () => {
  const missing = await missingObjects(parts(new FakeCluster()));
  expect(missing.map(({ kind, namespace, name }) => `${kind} ${namespace}/${name}`)).toEqual([
    `Secret ${at.namespace}/db`,
    "Issuer shop/web",
    "ClusterIssuer /root",
    "Certificate shop/site",
    "CertificateRequest shop/site",
    "Gateway /gw",
    "AuditSink /file",
  ]);
});

test("nothing is missing where all of it is there; a Secret of another environment is not the one", async () => {
  const cluster = new FakeCluster();
  const { namespace, project, environment } = at;
  cluster.add("Secret", { namespace, name: "db", project, environment });
  cluster.add("Issuer", { namespace: "shop", name: "web" });
  cluster.add("ClusterIssuer", { name: "root" });
  cluster.add("Certificate", { namespace: "shop", name: "site" });
  cluster.add("CertificateRequest", { namespace: "shop", name: "site" });
  cluster.add("Gateway", { name: "gw" });
  cluster.add("AuditSink", { name: "file" });
  expect(await missingObjects(parts(cluster))).toEqual([]);
  const other = new FakeCluster();
  other.add("Secret", { namespace, name: "db", project, environment: "other" });
  expect((await missingObjects(parts(other)))[0]).toEqual({ kind: "Secret", namespace, name: "db" });
});
