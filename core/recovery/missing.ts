/**
 * What the database knows of and the cluster does not have: it may still come, or was deleted after the backup. What is there and has
 * not taken its place is missing as well.
 */
import type { Environments } from "../fleet/environments.ts";
import type { SinkCursors } from "../ports/audit-sink.ts";
import type { ClusterObject, ClusterObjects, RecoveredKind } from "../ports/cluster-objects.ts";
import type { FleetStore } from "../ports/fleet-store.ts";
import { type Binding, type BoundKind, boundKinds, type HomeState } from "../ports/home-store.ts";
import type { PkiStore } from "../ports/pki-store.ts";
import type { VaultStore } from "../ports/vault-store.ts";
import { HeldUids } from "./home.ts";

export interface MissingParts {
  readonly cluster: ClusterObjects;
  /** Restored: nobody has taken the database over for this cluster, so that names are all that can be compared. */
  readonly home: HomeState;
  /** Judged. */
  readonly bindings: readonly Binding[];
  readonly vault: Pick<VaultStore, "listLocations">;
  readonly pki: Pick<PkiStore, "listHolders" | "listAuthorities">;
  readonly fleet: Pick<FleetStore, "gateways">;
  readonly environments: Pick<Environments, "list">;
  readonly sinks: Pick<SinkCursors, "list">;
}

export interface MissingObject {
  readonly kind: RecoveredKind;
  /** Empty of what belongs to no namespace. */
  readonly namespace: string;
  readonly name: string;
  /** It is there, and nobody has said that it takes the place of the one of before. */
  readonly waits?: true;
  /** Where another one of its name is there: the UID of this one, or of its namespace. */
  readonly former?: string;
}

const PAGE = 500;

/**
 * What waits first, all else in the order of kinds. What was ended, or is kept for who comes back, is not missing.
 */
export async function missingObjects({
  cluster,
  home,
  bindings,
  vault,
  pki,
  fleet,
  environments,
  sinks,
}: MissingParts): Promise<readonly MissingObject[]> {
  const missing: MissingObject[] = [];
  const tell = (kind: RecoveredKind, namespace: string, name: string, more: Partial<MissingObject> = {}) =>
    missing.push({ kind, namespace, name, ...more });
  const byName = home === "Restored";
  const bound = await boundObjects(cluster, byName ? [] : bindings, home === "Adopted");
  missing.push(...bound.missing);
  /** What has a namespace that waits itself can only be compared by name. */
  const isIn = (namespace: string, namespaceUid: string): boolean =>
    byName ||
    bound.uids.Namespace.get(keyOf({ name: namespace })) === namespaceUid ||
    bound.awaited.Namespace.has(namespaceUid);
  /** It is there by name, and its namespace is another one, or goes just now. */
  const ofFormer = (namespace: string, namespaceUid: string): Partial<MissingObject> =>
    bound.uids.Namespace.has(keyOf({ name: namespace })) ? { former: namespaceUid } : {};
  const secrets = await present(cluster, "Secret");
  for await (const { identity, state } of pages(
    (after: string | undefined) => vault.listLocations(after, PAGE),
    byId,
  )) {
    const { namespace, namespaceUid, name, project, environment } = identity;
    if (state !== "Active") continue;
    if (!secrets.has(keyOf({ namespace, name, project, environment }))) tell("Secret", namespace, name);
    else if (!isIn(namespace, namespaceUid)) tell("Secret", namespace, name, ofFormer(namespace, namespaceUid));
  }
  const issuers = { Issuer: await present(cluster, "Issuer"), ClusterIssuer: await present(cluster, "ClusterIssuer") };
  for await (const { identity, state } of pages(
    (after: string | undefined) => pki.listAuthorities(after, PAGE),
    byId,
  )) {
    const { kind, namespace, namespaceUid, name } = identity;
    if (kind === "Installation" || state !== "Active") continue;
    if (!issuers[kind].has(keyOf({ namespace, name }))) tell(kind, namespace, name);
    else if (kind === "Issuer" && !isIn(namespace, namespaceUid))
      tell(kind, namespace, name, ofFormer(namespace, namespaceUid));
  }
  const byUid = ({ uid }: { readonly uid: string }): string => uid;
  for await (const each of pages((after: string | undefined) => pki.listHolders(after, PAGE), byUid)) {
    const { kind, uid, namespace, name } = each;
    const standing = bound.uids[kind].get(keyOf({ namespace, name }));
    // What is awaited was told already.
    if (standing === uid || bound.awaited[kind].has(uid) || (byName && standing !== undefined)) continue;
    tell(kind, namespace, name, standing === undefined ? {} : { former: uid });
  }
  const gateways = await present(cluster, "Gateway");
  for (const { name, revokedAt } of await fleet.gateways())
    if (revokedAt === undefined && !gateways.has(keyOf({ name }))) tell("Gateway", "", name);
  const pairing = await present(cluster, "GatewayEnvironment");
  for (const { record } of await environments.list()) {
    const { pair } = record;
    if (pair !== undefined && !pairing.has(keyOf({ name: pair.object }))) tell("GatewayEnvironment", "", pair.object);
  }
  const standing = await present(cluster, "AuditSink");
  for (const { name } of await sinks.list()) if (!standing.has(keyOf({ name }))) tell("AuditSink", "", name);
  return missing;
}

interface BoundObjects {
  /** By name: under which UIDs the rows of those that are there stand; none of one that waits. */
  readonly uids: Readonly<Record<BoundKind, ReadonlyMap<string, string>>>;
  /** UIDs of those of before whose places nobody has taken. */
  readonly awaited: Readonly<Record<BoundKind, ReadonlySet<string>>>;
  readonly missing: readonly MissingObject[];
}

async function boundObjects(
  cluster: ClusterObjects,
  bindings: readonly Binding[],
  recovering: boolean,
): Promise<BoundObjects> {
  const held = new HeldUids();
  held.load(bindings, recovering);
  const each = <Value>(make: () => Value): Record<BoundKind, Value> => ({
    Namespace: make(),
    Certificate: make(),
    CertificateRequest: make(),
  });
  const uids = each(() => new Map<string, string>());
  const awaited = each(() => new Set<string>());
  const missing: MissingObject[] = [];
  for (const kind of boundKinds) {
    const waiting = new Set<string>();
    for await (const object of cluster.list(kind)) {
      if (held.isAwaited(kind, object)) waiting.add(keyOf(object));
      else uids[kind].set(keyOf(object), held.of(kind, object));
    }
    const told = new Set<string>();
    for (const binding of bindings) {
      const place = keyOf(binding);
      // Where another one has its place, it was the wrong one.
      if (binding.kind !== kind || uids[kind].has(place)) continue;
      const waits = waiting.has(place);
      if (!waits && binding.uid !== undefined) continue;
      awaited[kind].add(binding.heldUid);
      const { namespace, name } = binding;
      if (!told.has(place)) missing.push({ kind, namespace, name, ...(waits && { waits }) });
      told.add(place);
    }
  }
  return { uids, awaited, missing };
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
