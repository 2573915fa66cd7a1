/** What the commands do; each prints what a person needs to know next. */
import { createHash } from "node:crypto";
import { createReadStream, existsSync, mkdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import {
  assertEmpty,
  assertKnownSchema,
  dumpTo,
  isUnmarkedCopy,
  openSnapshot,
  RESTORER,
  restoreFrom,
  rowsOf,
  type SnapshotFacts,
} from "../../adapters/postgres/backup.ts";
import { migrate } from "../../adapters/postgres/migrate.ts";
import type { Stores } from "../../adapters/postgres/stores.ts";
import { headMacHolds } from "../../core/audit/chain.ts";
import { explainVerdict } from "../../core/audit/faults.ts";
import { failpoint } from "../../core/failpoints.ts";
import { tampered } from "../../core/pki/status.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import { type ClusterObjects, recoveredKinds } from "../../core/ports/cluster-objects.ts";
import { type Binding, boundKinds, type HomeState } from "../../core/ports/home-store.ts";
import { Adoption } from "../../core/recovery/adoption.ts";
import { HeldUids, homeEntry, homeMac, judgedBinding, judgedHome, placeText } from "../../core/recovery/home.ts";
import {
  type BackupBody,
  type BackupManifest,
  type BackupObject,
  BackupUnusable,
  judgeManifest,
  signedManifest,
} from "../../core/recovery/manifest.ts";
import { type MissingObject, missingObjects } from "../../core/recovery/missing.ts";
import { settleRecovery } from "../../core/recovery/settlement.ts";
import { checkedThings, DatabaseVerification } from "../../core/recovery/verification.ts";
import { VERSION } from "../../program/version.ts";
import { type Installation, readManifest } from "./installation.ts";

/** It did what it could, and found something wrong, which it has told. */
export class FoundWrong extends Error {}

/** Prints a line. */
export type Say = (line: string) => void;

const ACTOR: Actor = { kind: "Controller", name: "backup" };
const MANIFEST = "manifest.json";
const DUMP = "mazevault.dump";
const MOST_LISTED = 20;

export interface CreateOptions {
  /** Made where it is missing; standard output gets the manifest when absent. */
  readonly dir?: string;
  readonly manifestOnly?: boolean;
  readonly pgBin?: string;
}

/** The manifest is there last, so that a folder with one has a whole backup. */
export async function create(
  installation: Installation,
  { dir, manifestOnly = dir === undefined, pgBin }: CreateOptions,
  say: Say,
  print: (text: string) => void,
): Promise<void> {
  const file = dir === undefined ? undefined : path.join(dir, MANIFEST);
  if (file !== undefined && existsSync(file))
    throw new BackupUnusable(`${file} is there already: name a new folder with --dir`);
  const stores = await installation.stores();
  const cluster = await installation.cluster();
  const database = await installation.database();
  // Before the snapshot, which has it then.
  const signing = (await stores.keys.auditSigning()).at(-1);
  if (signing === undefined)
    throw new BackupUnusable(
      "the installation has no audit signing key yet: start the operator once, and repeat this when it leads",
    );
  if (dir !== undefined) mkdirSync(dir, { recursive: true, mode: 0o700 });
  const snapshot = await openSnapshot(database);
  try {
    const { facts } = snapshot;
    const { position, link, mac } = facts.head;
    if (position > 0n && !(mac !== undefined && headMacHolds(stores.keys.auditKey, { position, link, mac })))
      throw tampered("the head of the audit chain does not match its MAC");
    const objects = await backupObjects(installation, cluster);
    const clusterUid = await cluster.clusterUid();
    let dump: BackupBody["dump"];
    if (!manifestOnly && dir !== undefined) {
      const target = path.join(dir, DUMP);
      await dumpTo(target, snapshot, database, { ...(pgBin !== undefined && { bin: pgBin }) });
      await flushed(target);
      dump = { file: DUMP, bytes: statSync(target).size, sha256: await digestOf(target) };
    }
    const text = signedManifest(bodyOf(facts, { clusterUid, objects, dump }), signing);
    if (file === undefined) print(text);
    else {
      writeFileSync(`${file}.new`, text, { mode: 0o600, flush: true });
      renameSync(`${file}.new`, file);
    }
    const rows = Object.values(facts.rows).reduce((sum, count) => sum + count, 0);
    say(
      `backup of installation ${facts.installation}: ${rows} rows, audit chain up to row ${position}, ${objects.length} objects`,
    );
    if (dump !== undefined) say(`${path.join(dir ?? "", DUMP)}: ${dump.bytes} bytes, SHA-256 ${dump.sha256}`);
    else say("manifest only: PostgreSQL's platform makes the copy; restore a moment at or behind this one");
    say(`keep the root key apart from it (${facts.rootKeys.join(", ")}): without it nothing in the copy opens`);
  } finally {
    await snapshot.close();
  }
}

function bodyOf(
  facts: SnapshotFacts,
  more: { readonly clusterUid: string; readonly objects: readonly BackupObject[]; readonly dump: BackupBody["dump"] },
): BackupBody {
  const { installation, schema, server, rootKeys, head, epoch, rows } = facts;
  return {
    format: 1,
    installation,
    takenAt: new Date().toISOString(),
    version: VERSION,
    schema,
    server,
    cluster: more.clusterUid,
    rootKeys: [...rootKeys],
    head: { position: head.position.toString(), link: head.link.toString("hex") },
    epoch: epoch.toString(),
    rows,
    objects: [...more.objects],
    ...(more.dump !== undefined && { dump: more.dump }),
  };
}

async function backupObjects(installation: Installation, cluster: ClusterObjects): Promise<readonly BackupObject[]> {
  const held = new HeldUids();
  held.load(await bindingsOf(installation));
  const objects: BackupObject[] = [];
  for (const kind of recoveredKinds) {
    const bound = boundKinds.find((each) => each === kind);
    for await (const object of cluster.list(kind)) {
      const { namespace = "", name, uid } = object;
      objects.push({ kind, namespace, name, heldUid: bound === undefined ? uid : held.of(bound, object) });
    }
  }
  return objects;
}

/** Whether the copy is what its manifest says, without a database or a key. @throws BackupUnusable */
export async function checkCopy(dir: string, say: Say): Promise<BackupManifest> {
  const manifest = readManifest(path.join(dir, MANIFEST));
  const { dump, installation, takenAt, head } = manifest.body;
  if (dump === undefined) throw new BackupUnusable(`${dir} holds a manifest only: PostgreSQL's platform has the copy`);
  const file = path.join(dir, dump.file);
  if (path.dirname(file) !== path.normalize(dir) || !existsSync(file))
    throw new BackupUnusable(`${file}, which the manifest names, is not there: take the whole folder of the backup`);
  const { size } = statSync(file);
  if (size !== dump.bytes)
    throw new BackupUnusable(
      `${file} has ${size} bytes, and the manifest says ${dump.bytes}: it was cut off or is of another backup; take another copy of it`,
    );
  if ((await digestOf(file)) !== dump.sha256)
    throw new BackupUnusable(
      `${file} is not the one that the manifest was made for: its SHA-256 is another one, so that bytes of it were changed; take another copy of it`,
    );
  say(`${file} is as it was made: installation ${installation}, ${takenAt}, audit chain up to row ${head.position}`);
  return manifest;
}

/** It is there after a power failure before the manifest says that it is. */
async function flushed(file: string): Promise<void> {
  const opened = await open(file, "r+");
  try {
    await opened.sync();
  } finally {
    await opened.close();
  }
}

async function digestOf(file: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(file), hash);
  return hash.digest("hex");
}

/**
 * Into an empty database, all of it or nothing; what was cut off before the copy was marked as restored is finished when it is repeated.
 *
 * @throws BackupUnusable, Unavailable
 */
export async function restore(
  installation: Installation,
  { dir, pgBin }: { readonly dir: string; readonly pgBin?: string },
  say: Say,
): Promise<void> {
  const manifest = await checkCopy(dir, say);
  const { body } = manifest;
  assertKnownSchema(body.schema);
  const { root, previous } = await installation.roots();
  const given = [root, ...(previous ? [previous] : [])];
  const lacking = body.rootKeys.filter((id) => !given.some((each) => each.id === id));
  if (lacking.length > 0)
    throw new BackupUnusable(
      `the backup needs root key ${lacking.join(", ")}, and ${given.map(({ source, id }) => `${source} is ${id}`).join(", ")}: name the root key of the backup in keys, or the one before it in keys.previous; nothing was written`,
    );
  const database = await installation.database();
  let rows = body.rows;
  if (await isUnmarkedCopy(database, body))
    say("the database has this backup already, of an attempt that was cut off, which goes on from here");
  else {
    await assertEmpty(database);
    const file = path.join(dir, body.dump?.file ?? DUMP);
    await restoreFrom(file, database, { ...(pgBin !== undefined && { bin: pgBin }) });
    failpoint("restore.beforeMark");
    rows = await rowsOf(database);
  }
  const { applied } = await migrate(database);
  if (applied.length > 0) say(`brought up to date: ${applied.join(", ")}`);
  const stores = await installation.stores();
  const wrong = wrongCopy(manifest, rows, stores.keys.installationId, await stores.keys.auditSigning());
  // Also where something is wrong: until somebody has emptied it nobody may take it for the database of before.
  await markRestored(stores, body, wrong === undefined);
  if (wrong !== undefined) throw wrong;
  say(
    `restored ${Object.values(rows).reduce((sum, count) => sum + count, 0)} rows; operators wait until it is taken over`,
  );
  say("next: mazevault-backup verify, apply the manifests, mazevault-backup adopt");
}

/** What is wrong with a copy that was put in. */
function wrongCopy(
  manifest: BackupManifest,
  rows: Readonly<Record<string, number>>,
  installationId: string,
  keys: Parameters<typeof judgeManifest>[2],
): BackupUnusable | undefined {
  const differing = Object.entries(manifest.body.rows).filter(([table, count]) => rows[table] !== count);
  if (differing.length > 0)
    return new BackupUnusable(
      `${differing.map(([table, count]) => `table ${table} has ${rows[table] ?? 0} rows of ${count}`).join(", ")}: somebody wrote into the database meanwhile; stop every operator on it, empty it, and restore again`,
    );
  try {
    judgeManifest(manifest, installationId, keys);
    return undefined;
  } catch (error) {
    if (error instanceof BackupUnusable) return error;
    throw error;
  }
}

/** Operators wait from now on. @param isJudged what the manifest says of itself can be believed */
async function markRestored({ home, keys, leadership, audit }: Stores, body: BackupBody, isJudged: boolean) {
  const stored = await home.home();
  const clusterUid = (stored && judgedHome(keys, stored))?.clusterUid ?? body.cluster;
  const writer = { epoch: await leadership.acquireEpoch(RESTORER) };
  const before = stored?.generation ?? 0n;
  const record = { clusterUid, state: "Restored" } as const;
  const { position, link } = await audit.head();
  const taken = isJudged ? { takenAt: body.takenAt } : {};
  const details = { ...taken, position: Number(position), link: link.toString("hex") };
  const entry = homeEntry("DatabaseRestored", before + 1n, ACTOR, details);
  await home.writeHome(writer, before, record, homeMac(keys, record, before + 1n), [entry]);
}

/** @throws FoundWrong when something is not as it should be */
export async function verify(
  installation: Installation,
  { manifest: file, json = false }: { readonly manifest?: string; readonly json?: boolean },
  say: Say,
): Promise<void> {
  const manifest = file === undefined ? undefined : readManifest(file);
  const stores = await installation.stores();
  const { vault, keys, keyStore, pki, identity, environments, handledWrites, home, audit } = stores;
  if (manifest !== undefined) judgeManifest(manifest, keys.installationId, await keys.auditSigning());
  const parts = { keys, keyStore, vault, pki, identity, environments, handledWrites, home, audit };
  const report = await new DatabaseVerification(parts).run(manifest);
  const isWhole = report.audit.ok && report.wrongCount === 0;
  if (json) {
    const numbers = (_name: string, value: unknown) => (typeof value === "bigint" ? Number(value) : value);
    say(JSON.stringify(report, numbers));
  } else {
    for (const thing of checkedThings)
      if (report.checked[thing] > 0) say(`${wordsOf(thing)}: ${report.checked[thing]}`);
    for (const sentence of report.wrong) say(`WRONG: ${sentence}`);
    const untold = report.wrongCount - report.wrong.length;
    if (untold > 0) say(`WRONG: and ${untold} more`);
    for (const sentence of explainVerdict(report.audit)) say(report.audit.ok ? sentence : `WRONG: ${sentence}`);
    say(
      isWhole
        ? "everything opens, and is as it was written"
        : `${report.wrongCount + (report.audit.ok ? 0 : 1)} things are wrong`,
    );
  }
  if (!isWhole) throw new FoundWrong();
}

const wordsOf = (thing: string): string => thing.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

export interface AdoptOptions {
  readonly manifest?: string;
  readonly namespaces: ReadonlyMap<string, string>;
  readonly sameCluster?: boolean;
}

export async function adopt(
  installation: Installation,
  { manifest: file, namespaces, sameCluster = false }: AdoptOptions,
  say: Say,
): Promise<void> {
  const manifest = file === undefined ? undefined : readManifest(file);
  const { home: store, keys, audit, leadership } = await installation.stores();
  const environments = await installation.environments();
  const cluster = await installation.cluster();
  const adoption = new Adoption({ store, cluster, keys, audit, leadership, environments });
  const request = { namespaces, sameCluster, actor: ACTOR, ...(manifest !== undefined && { manifest }) };
  const { clusterUid, formerClusterUid, bound, awaited, forked, epoch } = await adoption.run(request);
  const from = formerClusterUid === undefined ? "of a cluster that is not known" : `of cluster ${formerClusterUid}`;
  if (forked)
    say(
      `the database ${from} belongs to cluster ${clusterUid} now, from epoch ${epoch} on; that is on the audit record`,
    );
  say(`${bound} objects took the place of those of before`);
  for (const place of awaited.slice(0, MOST_LISTED)) say(`not here yet: ${placeText(place)}`);
  if (awaited.length > MOST_LISTED) say(`not here yet: and ${awaited.length - MOST_LISTED} more`);
  if (awaited.length > 0)
    say("apply what is not here, and run mazevault-backup adopt once more; until then nothing is done for it");
  if (forked)
    say(
      "DANGER: an operator that still runs on the database of before writes the same Key Vaults and answers the same gateways; stop it for good, as nothing here can",
    );
  say("nothing is ended because its object is missing, until mazevault-backup settle");
}

export async function status(installation: Installation, say: Say): Promise<void> {
  const { home: store, keys } = await installation.stores();
  const cluster = await installation.cluster();
  const stored = await store.home();
  const home = stored && judgedHome(keys, stored);
  const clusterUid = await cluster.clusterUid();
  if (home === undefined) say(`the database belongs to no cluster yet; this one is ${clusterUid}`);
  else if (home.clusterUid !== clusterUid)
    say(
      `the database belongs to cluster ${home.clusterUid}, and this is ${clusterUid}: operators wait; mazevault-backup adopt takes it over`,
    );
  else if (home.state === "Restored")
    say("the database was restored: operators wait; mazevault-backup adopt takes it over");
  else if (home.state === "Adopted")
    say(
      "the database was restored and taken over: nothing is ended because its object is missing, until mazevault-backup settle",
    );
  else say(`the database belongs to this cluster (${clusterUid})`);
  const bindings = await bindingsOf(installation);
  const bound = bindings.filter(({ uid }) => uid !== undefined).length;
  say(`${bound} objects stand for those of another cluster, ${bindings.length - bound} are awaited`);
  sayMissing(await missingOf(installation), say);
}

/** @throws BackupUnusable while something is missing that was not said to be dropped */
export async function settle(
  installation: Installation,
  { dropMissing }: { readonly dropMissing: boolean },
  say: Say,
): Promise<void> {
  const missing = await missingOf(installation);
  sayMissing(missing, say);
  if (missing.length > 0 && !dropMissing)
    throw new BackupUnusable(
      `${missing.length} objects that the database knows of are not in the cluster, or have not taken their places, and would be ended as if they had been deleted: apply them and run mazevault-backup adopt, or say --drop-missing`,
    );
  const { home: store, keys, leadership } = await installation.stores();
  const cluster = await installation.cluster();
  const done = await settleRecovery({ store, keys, cluster, leadership }, missing, ACTOR);
  say(
    done
      ? "the recovery is over: what is missing goes the way that its deletion policy says"
      : "there is no recovery to settle",
  );
}

async function missingOf(installation: Installation): Promise<readonly MissingObject[]> {
  const { vault, pki, fleet, sinkCursors: sinks } = await installation.stores();
  const bindings = await bindingsOf(installation);
  const cluster = await installation.cluster();
  const environments = await installation.environments();
  return missingObjects({
    cluster,
    home: await homeOf(installation),
    bindings,
    vault,
    pki,
    fleet,
    environments,
    sinks,
  });
}

/** As it is seen from this cluster. */
async function homeOf(installation: Installation): Promise<HomeState> {
  const { home, keys } = await installation.stores();
  const cluster = await installation.cluster();
  const stored = await home.home();
  const record = stored && judgedHome(keys, stored);
  return record?.clusterUid === (await cluster.clusterUid()) ? record.state : "Restored";
}

async function bindingsOf(installation: Installation): Promise<readonly Binding[]> {
  const { home, keys } = await installation.stores();
  return (await home.bindings()).map((each) => judgedBinding(keys, each));
}

function sayMissing(missing: readonly MissingObject[], say: Say): void {
  for (const { waits, former, ...object } of missing.slice(0, MOST_LISTED)) {
    if (waits) say(`there, and not taken over yet: ${placeText(object)}: run mazevault-backup adopt once more`);
    else
      say(
        `missing in the cluster: ${placeText(object)}${former === undefined ? "" : `, the one of UID ${former}: another one of that name is there`}`,
      );
  }
  if (missing.length > MOST_LISTED) say(`missing in the cluster: and ${missing.length - MOST_LISTED} more`);
  if (missing.length === 0) say("everything that the database knows of is in the cluster");
}
