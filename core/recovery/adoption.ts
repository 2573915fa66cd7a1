/**
 * Takes a restored database over for the cluster that it is in now. What stands in this cluster under the name of something that the
 * database knows under another UID takes that one's place, in a step that somebody asks for and that is on record; nothing is
 * encrypted anew. A kill leaves a database that belongs to nobody here yet, and the next attempt goes on with what is left:
 *
 *   epoch -> bindings, in batches -> rules and sinks -> environments of gateways -> home: Adopted, with the fork record
 */
import { Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Environments } from "../fleet/environments.ts";
import type { Actor, AuditEntry, AuditLog } from "../ports/audit-log.ts";
import type { ClusterObjects } from "../ports/cluster-objects.ts";
import {
  type Binding,
  type BoundKind,
  type BoundPlace,
  boundKinds,
  type HeldObject,
  type HomeRecord,
  type HomeStore,
  type StoredBinding,
} from "../ports/home-store.ts";
import type { Leadership } from "../ports/leadership.ts";
import type { Writer } from "../ports/vault-store.ts";
import type { KeyRing } from "../vault/keyring.ts";
import { bindingEntry, bindingMac, homeEntry, homeMac, judgedBinding, judgedHome, placeText } from "./home.ts";
import { type BackupManifest, type BackupObject, BackupUnusable, judgeManifest } from "./manifest.ts";

export interface AdoptionParts {
  readonly store: HomeStore;
  readonly cluster: ClusterObjects;
  readonly keys: Pick<KeyRing, "installationId" | "home" | "auditSigning">;
  readonly audit: Pick<AuditLog, "head" | "chain" | "lastCut">;
  readonly leadership: Leadership;
  readonly environments: Pick<Environments, "list" | "restore">;
}

export interface AdoptionRequest {
  /** Of the backup that was restored; absent where PostgreSQL's platform restored a moment of which there is none. */
  readonly manifest?: BackupManifest;
  /** By name, whose rows a namespace takes, whatever the manifest says. */
  readonly namespaces?: ReadonlyMap<string, string>;
  /** The database is of this cluster, and was set back to an earlier moment. */
  readonly sameCluster?: boolean;
  readonly actor: Actor;
}

export interface AdoptionReport {
  readonly clusterUid: string;
  /** The cluster that it belonged to; undefined where that was not known. */
  readonly formerClusterUid: string | undefined;
  /** Objects that took the place of another one, in this attempt. */
  readonly bound: number;
  /** Objects of which nothing of their name is there. */
  readonly awaited: readonly BoundPlace[];
  /** False when the fork was on record already: something was bound that came later. */
  readonly forked: boolean;
  readonly epoch: bigint;
}

const PAGE = 500;
/** Bound in one transaction. */
const BATCH = 200;
const HOLDER = "adoption";

export class Adoption {
  readonly #parts: AdoptionParts;

  constructor(parts: AdoptionParts) {
    this.#parts = parts;
  }

  /**
   * Repeating it binds what has come since, and is otherwise without effect.
   *
   * @throws BackupUnusable; Unavailable DatabaseUnavailable, TamperDetected; Fenced when a leader, or another adoption, begins meanwhile
   */
  async run({ manifest, namespaces, sameCluster = false, actor }: AdoptionRequest): Promise<AdoptionReport> {
    const { store, cluster, keys, leadership } = this.#parts;
    const clusterUid = await cluster.clusterUid();
    const stored = await store.home();
    const home = stored && judgedHome(keys, stored);
    const goesOn = home?.state === "Adopted" && home.clusterUid === clusterUid;
    if (home?.clusterUid === clusterUid && home.state === "Settled" && !sameCluster) throw nothingToAdopt(clusterUid);
    if (manifest !== undefined) await this.#judge(manifest);
    const plan = await this.#plan(manifest, namespaces ?? new Map(), goesOn);

    const writer = { epoch: await leadership.acquireEpoch(HOLDER) };
    await this.#bind(writer, plan, actor);
    await this.#rename(writer, manifest?.body.objects ?? []);
    if (!goesOn) {
      await this.#beginEpochs(writer, actor);
      failpoint("adoption.beforeHome");
      const record: HomeRecord = { clusterUid, state: "Adopted" };
      const generation = (stored?.generation ?? 0n) + 1n;
      const details = await this.#fork(home, clusterUid, plan, manifest);
      const entry = homeEntry("AuditRecordForked", generation, actor, details);
      await store.writeHome(writer, generation - 1n, record, homeMac(keys, record, generation), [entry]);
    }
    const { bound, awaited } = plan;
    const formerClusterUid = home?.clusterUid;
    return { clusterUid, formerClusterUid, bound: bound.length, awaited, forked: !goesOn, epoch: writer.epoch };
  }

  /** What is restored must reach as far as the backup, by the same rows. */
  async #judge(manifest: BackupManifest): Promise<void> {
    const { keys, audit } = this.#parts;
    const { body } = manifest;
    judgeManifest(manifest, keys.installationId, await keys.auditSigning());
    const position = BigInt(body.head.position);
    if (position === 0n) return;
    const { position: end } = await audit.head();
    if (end < position)
      throw new BackupUnusable(
        `the database ends at audit row ${end}, and the backup at ${position}: an older copy was restored, or only a part of it; restore the copy that was made with this manifest`,
      );
    // What was removed since is not there to be compared.
    if (((await audit.lastCut())?.position ?? 0n) >= position) return;
    const [row] = await audit.chain(position - 1n, 1);
    if (row?.link.toString("hex") !== body.head.link)
      throw new BackupUnusable(
        `audit row ${position} of the database is not that of the backup: it went on from an earlier moment; restore the copy that was made with this manifest, or take the manifest that belongs to this one`,
      );
  }

  async #plan(
    manifest: BackupManifest | undefined,
    chosen: ReadonlyMap<string, string>,
    goesOn: boolean,
  ): Promise<Plan> {
    const { store, cluster, keys } = this.#parts;
    const standing: Standing = { byRows: new Map(), byObject: new Map(), places: new Set() };
    for (const each of await store.bindings()) {
      const { kind, uid } = judgedBinding(keys, each);
      standing.byRows.set(idOf(each.binding), each);
      standing.places.add(keyOf(each.binding));
      if (uid !== undefined) standing.byObject.set(`${kind} ${uid}`, each);
    }
    const told = manifest && new Map(manifest.body.objects.filter(isBound).map((each) => [keyOf(each), each.heldUid]));
    const plan: Plan = { writes: [], bound: [], awaited: [] };
    /** By name: under which UID the rows of the namespace stand that is taken over. */
    const namespaces = new Map<string, string>();
    for (const kind of boundKinds) {
      const candidates = await this.#held(kind, namespaces);
      if (kind === "Namespace") for (const [name, uid] of chosen) assertKnown(name, uid, candidates);
      const present = new Map<string, BoundPlace & { readonly uid: string }>();
      for await (const { namespace = "", name, uid } of cluster.list(kind))
        present.set(keyOf({ kind, namespace, name }), { kind, namespace, name, uid });
      const inherited = new Set<string>();
      for (const [place, each] of candidates) {
        const uid = present.get(place)?.uid;
        const object = chosenOf(each, { uid, chosen, told, goesOn });
        if (object === undefined) continue;
        inherited.add(place);
        if (kind === "Namespace") namespaces.set(object.name, object.heldUid);
        if (uid === undefined && !object.inUse) continue;
        const { namespace, name } = object;
        if (uid === undefined) plan.awaited.push({ kind, namespace, name });
        add(plan, standing, object, uid);
      }
      // What inherits nothing has its own, or will have.
      for (const [place, { uid, ...object }] of present) {
        if (inherited.has(place) || standing.byObject.has(`${kind} ${uid}`)) continue;
        const own = candidates.get(place)?.find(({ heldUid }) => heldUid === uid);
        const { generation } = own ?? standing.byRows.get(idOf({ kind, heldUid: uid })) ?? { generation: 0n };
        add(plan, standing, { ...object, heldUid: uid, generation }, uid);
      }
    }
    return plan;
  }

  /** All of the kind, by place. */
  async #held(kind: BoundKind, namespaces: ReadonlyMap<string, string>): Promise<Map<string, HeldObject[]>> {
    const { store } = this.#parts;
    const held = new Map<string, HeldObject[]>();
    let after: Pick<HeldObject, "kind" | "heldUid"> = { kind, heldUid: "" };
    for (;;) {
      const page = await store.heldObjects(after, PAGE);
      for (const each of page) {
        if (each.kind !== kind) return held;
        // Of a namespace of before, which nobody inherits.
        if (kind !== "Namespace" && namespaces.get(each.namespace) !== each.namespaceUid) continue;
        held.set(keyOf(each), [...(held.get(keyOf(each)) ?? []), each]);
      }
      const last = page.at(-1);
      if (last === undefined || page.length < PAGE) return held;
      after = last;
    }
  }

  async #bind(writer: Writer, { writes }: Plan, actor: Actor): Promise<void> {
    const { store, keys } = this.#parts;
    for (let at = 0; at < writes.length; at += BATCH) {
      const batch = writes.slice(at, at + BATCH);
      const rows = batch.map(({ binding, generation }) => ({
        binding,
        generation,
        mac: bindingMac(keys, binding, generation),
      }));
      const audit: AuditEntry[] = batch.map(({ binding, generation }) => bindingEntry(binding, generation, actor));
      await store.writeBindings(writer, rows, audit);
      failpoint("adoption.afterBatch");
    }
  }

  /** Of what stands under no MAC only the manifest knows what it was called. */
  async #rename(writer: Writer, objects: readonly BackupObject[]): Promise<void> {
    const { store, cluster } = this.#parts;
    const former = new Map(
      objects.filter(({ kind }) => kind === "SyncRule").map((rule) => [`${rule.namespace}/${rule.name}`, rule.heldUid]),
    );
    const rules = new Map<string, string>();
    for await (const { namespace = "", name, uid } of cluster.list("SyncRule")) {
      const before = former.get(`${namespace}/${name}`);
      if (before !== undefined && before !== uid) rules.set(before, uid);
    }
    if (rules.size > 0) await store.renameRules(writer, rules);
    const sinks = new Map<string, string>();
    for await (const { name, uid } of cluster.list("AuditSink")) sinks.set(name, uid);
    if (sinks.size > 0) await store.renameSinks(writer, sinks);
  }

  /** Whoever of a pair acts may have changed since: both are let act by nobody until what was granted before is over. */
  async #beginEpochs(writer: Writer, actor: Actor): Promise<void> {
    const { environments } = this.#parts;
    for (const state of await environments.list()) {
      const { pair, active, epoch, fencedUntil } = state.record;
      // Without a fence it was begun already, and nobody acts in it.
      if (pair !== undefined && fencedUntil !== undefined)
        await environments.restore(writer, state, pair, { active, epoch }, actor);
    }
  }

  async #fork(
    home: HomeRecord | undefined,
    clusterUid: string,
    { bound, awaited }: Plan,
    manifest: BackupManifest | undefined,
  ): Promise<AuditEntry["details"]> {
    const { position, link } = await this.#parts.audit.head();
    const known =
      manifest === undefined
        ? { position: Number(position), link: link.toString("hex") }
        : {
            position: Number(manifest.body.head.position),
            link: manifest.body.head.link,
            takenAt: manifest.body.takenAt,
            restoredTo: Number(position),
          };
    const before = home?.clusterUid ?? "unknown";
    return { ...known, clusterBefore: before, cluster: clusterUid, bound: bound.length, awaited: awaited.length };
  }
}

interface Plan {
  readonly writes: { readonly binding: Binding; readonly generation: bigint }[];
  readonly bound: Binding[];
  readonly awaited: BoundPlace[];
}

/** Bindings that stand, by whose rows they are and by the object that stands for them. */
interface Standing {
  readonly byRows: Map<string, StoredBinding>;
  readonly byObject: Map<string, StoredBinding>;
  /** Where an object waits that has no binding. */
  readonly places: Set<string>;
}

/** What stands already is not written again. */
function add(
  plan: Plan,
  standing: Standing,
  object: Omit<HeldObject, "namespaceUid" | "inUse">,
  uid: string | undefined,
): void {
  const { kind, namespace, name, heldUid, generation } = object;
  const before = standing.byRows.get(idOf(object));
  const other = standing.byObject.get(`${kind} ${uid}`);
  // Bindings of earlier recoveries stand for ever: where one names its place, it would wait until somebody says that it is itself.
  const isItself = uid === heldUid && !standing.places.has(keyOf(object));
  const stands = before === undefined ? isItself : uid === before.binding.uid;
  if (stands && (other === undefined || other === before)) return;
  // It was said to be another one, and stands for one alone.
  if (other !== undefined)
    plan.writes.push({ binding: { ...other.binding, uid: undefined }, generation: other.generation + 1n });
  const binding: Binding = { kind, namespace, name, heldUid, uid };
  plan.writes.push({ binding, generation: generation + 1n });
  if (uid !== undefined && uid !== heldUid) plan.bound.push(binding);
}

/** @throws BackupUnusable when somebody has said a UID that stands nowhere */
function assertKnown(name: string, uid: string, candidates: ReadonlyMap<string, readonly HeldObject[]>): void {
  const known = candidates.get(keyOf(namespaceOf(name))) ?? [];
  if (known.some(({ heldUid }) => heldUid === uid)) return;
  throw new BackupUnusable(
    `--namespace ${name}=${uid}: the database has no rows of it; ${known.length === 0 ? `nor of any other namespace of the name ${name}` : `those of the name ${name} have UIDs ${uidsOf(known)}`}`,
  );
}

interface Choice {
  /** Of the object that is there now. */
  readonly uid: string | undefined;
  /** By name of a namespace. */
  readonly chosen: ReadonlyMap<string, string>;
  /** By place; undefined without a manifest. */
  readonly told: ReadonlyMap<string, string> | undefined;
  /** The database was taken over already: several of a place came since, as nothing is ended until the recovery is settled. */
  readonly goesOn: boolean;
}

/**
 * Of those of one place the one that somebody has chosen, or that the manifest tells of those that are in use; undefined where none is,
 * and another one came after them, which inherits nothing.
 *
 * @throws BackupUnusable when that takes somebody's word
 */
function chosenOf(candidates: readonly HeldObject[], { uid, chosen, told, goesOn }: Choice): HeldObject | undefined {
  const [first] = candidates;
  if (first === undefined) return undefined;
  const isNamespace = first.kind === "Namespace";
  const said = isNamespace ? chosen.get(first.name) : undefined;
  if (said !== undefined) return candidates.find(({ heldUid }) => heldUid === said);
  const inUse = candidates.filter((each) => each.inUse);
  const counting = inUse.length > 0 ? inUse : candidates;
  const last = told?.get(keyOf(first));
  const found = counting.find(({ heldUid }) => heldUid === last);
  if (found !== undefined) return found;
  // The database may be of a later moment than the manifest, so that what is in use counts, but for whom a namespace belongs to.
  if (inUse.length === 0 && (last !== undefined || (isNamespace && told !== undefined))) return undefined;
  const others = inUse.filter(({ heldUid }) => heldUid !== uid);
  if (isNamespace && last !== undefined && others.length > 0)
    throw new BackupUnusable(
      `the manifest has namespace ${first.name} by UID ${last}, and what is in use is of UID ${uidsOf(others)}: say with --namespace ${first.name}=UID whose rows it takes`,
    );
  if (counting.length === 1) return counting[0];
  if (!isNamespace) {
    const own = counting.find(({ heldUid }) => heldUid === uid);
    if (own !== undefined) return own;
    // All of them are gone: whoever comes is another one.
    if (uid === undefined && (goesOn || told !== undefined)) return undefined;
  }
  const where = `(UIDs ${uidsOf(counting)}), and nothing tells which one was there last`;
  throw new BackupUnusable(
    isNamespace
      ? `rows of several namespaces of the name ${first.name} are in use ${where}: say it with --namespace ${first.name}=UID`
      : `rows of several objects ${placeText(first)} are in use ${where}: adopt with the manifest of the backup`,
  );
}

const uidsOf = (objects: readonly HeldObject[]): string => objects.map(({ heldUid }) => heldUid).join(", ");
const namespaceOf = (name: string): BoundPlace => ({ kind: "Namespace", namespace: "", name });

const isBound = (object: BackupObject): object is BackupObject & { readonly kind: BoundKind } =>
  boundKinds.some((kind) => kind === object.kind);
const keyOf = ({ kind, namespace, name }: BoundPlace): string => `${kind} ${namespace}/${name}`;
const idOf = ({ kind, heldUid }: Pick<Binding, "kind" | "heldUid">): string => `${kind} ${heldUid}`;

const nothingToAdopt = (clusterUid: string): Unavailable =>
  new Unavailable(
    "Failed",
    `the database belongs to this cluster (${clusterUid}) and was not restored by this program: there is nothing to adopt; where it was set back to an earlier moment, say --same-cluster`,
  );
