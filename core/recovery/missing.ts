/** What the database knows of and the cluster does not have: it may still come, or was deleted after the backup. */
import type { SinkCursors } from "../ports/audit-sink.ts";
import type { ClusterObject, ClusterObjects, RecoveredKind } from "../ports/cluster-objects.ts";
import type { FleetStore } from "../ports/fleet-store.ts";
import type { PkiStore } from "../ports/pki-store.ts";
import type { VaultStore } from "../ports/vault-store.ts";

export interface MissingParts {
  readonly cluster: ClusterObjects;
  readonly vault: Pick<VaultStore, "listLocations">;
  readonly pki: Pick<PkiStore, "listHolders" | "listAuthorities">;
  readonly fleet: Pick<FleetStore, "gateways">;
  readonly sinks: Pick<SinkCursors, "list">;
}

export interface MissingObject {
  readonly kind: RecoveredKind;
  /** Empty of what belongs to no namespace. */
  readonly namespace: string;
  readonly name: string;
}

const PAGE = 500;

/** In the order of kinds. What was ended, or is kept for who comes back, is not missing. */
export async function missingObjects({
  cluster,
  vault,
  pki,
  fleet,
  sinks,
}: MissingParts): Promise<readonly MissingObject[]> {
  const missing: MissingObject[] = [];
  const tell = (kind: RecoveredKind, namespace: string, name: string) => missing.push({ kind, namespace, name });
  const secrets = await present(cluster, "Secret");
  for await (const { identity, state } of pages(
    (after: string | undefined) => vault.listLocations(after, PAGE),
    byId,
  )) {
    const { namespace, name, project, environment } = identity;
    if (state === "Active" && !secrets.has(keyOf({ namespace, name, project, environment })))
      tell("Secret", namespace, name);
  }
  const issuers = { Issuer: await present(cluster, "Issuer"), ClusterIssuer: await present(cluster, "ClusterIssuer") };
  for await (const { identity, state } of pages(
    (after: string | undefined) => pki.listAuthorities(after, PAGE),
    byId,
  )) {
    const { kind, namespace, name } = identity;
    if (kind !== "Installation" && state === "Active" && !issuers[kind].has(keyOf({ namespace, name })))
      tell(kind, namespace, name);
  }
  const holders = {
    Certificate: await present(cluster, "Certificate"),
    CertificateRequest: await present(cluster, "CertificateRequest"),
  };
  const byUid = ({ uid }: { readonly uid: string }): string => uid;
  for await (const each of pages((after: string | undefined) => pki.listHolders(after, PAGE), byUid)) {
    const { kind, namespace, name } = each;
    if (!holders[kind].has(keyOf({ namespace, name }))) tell(kind, namespace, name);
  }
  const gateways = await present(cluster, "Gateway");
  for (const { name, revokedAt } of await fleet.gateways())
    if (revokedAt === undefined && !gateways.has(keyOf({ name }))) tell("Gateway", "", name);
  const standing = await present(cluster, "AuditSink");
  for (const { name } of await sinks.list()) if (!standing.has(keyOf({ name }))) tell("AuditSink", "", name);
  return missing;
}

async function present(cluster: ClusterObjects, kind: RecoveredKind): Promise<ReadonlySet<string>> {
  const names = new Set<string>();
  for await (const object of cluster.list(kind)) names.add(keyOf(object));
  return names;
}

async function* pages<Row>(
  list: (after: string | undefined) => Promise<readonly Row[]>,
  idOf: (row: Row) => string,
): AsyncGenerator<Row> {
  for (let after: string | undefined; ; ) {
    const page = await list(after);
    yield* page;
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE) return;
    after = idOf(last);
  }
}

const byId = ({ id }: { readonly id: string }): string => id;
const keyOf = ({ namespace = "", name, project = "", environment = "" }: Omit<ClusterObject, "uid">): string =>
  JSON.stringify([namespace, name, project, environment]);
