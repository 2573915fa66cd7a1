import type { AuditSigner } from "../../core/audit/signer.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import {
  type Ending,
  type ItemKey,
  NameTaken,
  type PulledItem,
  type RuleRecord,
  type SourceEntry,
  type SyncItem,
  type SyncStore,
} from "../../core/ports/sync-store.ts";
import { Conflict, type SecretState, type Writer } from "../../core/ports/vault-store.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read } from "./database.ts";
import { CONFLICT, mapWriteError, sqlState } from "./errors.ts";

const SOURCES = {
  name: "sync_sources",
  text: `SELECT s.id, s.name, s.current_version, e.key, encode(e.recipe, 'hex') AS recipe,
                encode(e.fingerprint, 'hex') AS fingerprint
         FROM secrets s JOIN entries e ON e.secret_id = s.id AND e.version = s.current_version
         WHERE s.state = 'Active' AND s.namespace = $1 AND s.environment = $2 AND s.project = $3
           AND s.namespace_uid = $4 AND ($5::text[] IS NULL OR s.name = ANY ($5))
         ORDER BY s.name, e.key`,
};
/** By their names: with another column a prepared `SELECT *` would fail from then on. */
const ITEM_COLUMNS = `vault_url, entry_name, secret_id, key, rule_uid, intent_id, intent_version, intent_fingerprint,
  intent_at, version, fingerprint, target_version, target_updated_on, settled, clock, taking_fingerprint,
  taking_clock, deleting_at`;
const ITEMS = {
  name: "sync_items",
  text: `SELECT ${ITEM_COLUMNS} FROM sync_items WHERE rule_uid = $1 ORDER BY vault_url, entry_name`,
};
const HOLDERS = {
  name: "sync_holders",
  text: `SELECT ${ITEM_COLUMNS} FROM sync_items
         WHERE vault_url = $1 AND entry_name = ANY ($2) AND EXISTS (SELECT FROM secrets WHERE id = secret_id)
         ORDER BY entry_name`,
};
const INTENT = {
  name: "record_intent",
  text: `SELECT ${ITEM_COLUMNS} FROM record_intent($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
};
const OUTCOME = {
  name: "record_outcome",
  text: "SELECT record_outcome($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
};
const AGREEMENT = {
  name: "record_agreement",
  text: `SELECT ${ITEM_COLUMNS} FROM record_agreement($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
};
const TAKING = {
  name: "record_taking",
  text: `SELECT ${ITEM_COLUMNS} FROM record_taking($1, $2, $3, $4, $5, $6, $7, $8)`,
};
const FORGET = { name: "forget_items", text: "SELECT forget_items($1, $2, $3, $4, $5, $6)" };
const DELETION = { name: "record_deletion", text: "SELECT record_deletion($1, $2, $3, $4, $5, $6, $7)" };
const ENDINGS = {
  name: "sync_endings",
  text: `SELECT g.id, s.state,
                coalesce(s.name, (SELECT min(secret_name) FROM sync_tombstones WHERE secret_id = g.id)) AS name,
                ARRAY(SELECT e.key FROM entries e WHERE e.secret_id = s.id AND e.version = s.current_version
                      ORDER BY e.key) AS keys,
                (SELECT coalesce(json_agg(json_build_object(
                          'key', t.key, 'age', extract(epoch FROM now() - t.at) * 1000) ORDER BY t.key), '[]')
                 FROM sync_tombstones t WHERE t.secret_id = g.id) AS tombstones
         FROM (SELECT DISTINCT unnest($1::uuid[]) AS id) AS g LEFT JOIN secrets s ON s.id = g.id ORDER BY g.id`,
};
const RULE = { name: "sync_rule", text: "SELECT scope, release, approved FROM sync_rules WHERE rule_uid = $1" };
const RECORD_RULE = { name: "record_rule", text: "SELECT record_rule($1, $2, $3, $4, $5, $6)" };

const PULLED = {
  name: "sync_pulled",
  text: "SELECT secret_id, key, rule_uid, vault_url, entry_name, fingerprint, target_version, target_updated_on, settled FROM sync_pulled WHERE rule_uid = $1 OR secret_id = ANY ($2) ORDER BY secret_id, key",
};
const RECORD_PULLED = { name: "record_pulled", text: "SELECT record_pulled($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)" };
const FORGET_PULLED = { name: "forget_pulled", text: "SELECT forget_pulled($1, $2, $3, $4)" };

interface PulledRow {
  readonly secret_id: string;
  readonly key: string;
  readonly rule_uid: string;
  readonly vault_url: string;
  readonly entry_name: string;
  readonly fingerprint: string;
  readonly target_version: string;
  readonly target_updated_on: Date;
  readonly settled: boolean;
}

interface ItemRow {
  readonly vault_url: string;
  readonly entry_name: string;
  readonly secret_id: string;
  readonly key: string;
  readonly rule_uid: string;
  readonly intent_id: string | null;
  readonly intent_version: number | null;
  readonly intent_fingerprint: string | null;
  readonly intent_at: Date | null;
  readonly version: number | null;
  readonly fingerprint: string | null;
  readonly target_version: string | null;
  readonly target_updated_on: Date | null;
  readonly settled: boolean;
  /** A bigint. */
  readonly clock: string | null;
  readonly taking_fingerprint: string | null;
  readonly taking_clock: string | null;
  readonly deleting_at: Date | null;
}

interface EndingRow {
  readonly id: string;
  readonly name: string | null;
  readonly state: SecretState | null;
  readonly keys: string[];
  readonly tombstones: readonly { readonly key: string; readonly age: number }[];
}

export class PostgresSyncStore implements SyncStore {
  readonly #database: Database;
  readonly #signer: AuditSigner;

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  async sources(scope: Parameters<SyncStore["sources"]>[0]): Promise<readonly SourceEntry[]> {
    const { namespace, environment, project, namespaceUid, names } = scope;
    const rows = await read<SourceEntry & { id: string; name: string; current_version: number }>(
      this.#database,
      SOURCES,
      [namespace, environment, project, namespaceUid, names],
    );
    return rows.map(({ id, name, current_version, key, recipe, fingerprint }) => ({
      secretId: id,
      secretName: name,
      version: current_version,
      key,
      recipe,
      fingerprint,
    }));
  }

  async items(ruleUid: string): Promise<readonly SyncItem[]> {
    return (await read<ItemRow>(this.#database, ITEMS, [ruleUid])).map(itemOf);
  }

  async holders(vaultUrl: string, entryNames: readonly string[]): Promise<readonly SyncItem[]> {
    const names = entryNames.map((name) => name.toLowerCase());
    return (await read<ItemRow>(this.#database, HOLDERS, [vaultUrl, names])).map(itemOf);
  }

  async recordIntent(writer: Writer, item: SyncItem): Promise<void> {
    const { vaultUrl, entryName, secretId, key, ruleUid, intent } = item;
    if (intent === undefined) throw new RangeError("an intent is what is to be recorded");
    const { id, version, fingerprint, at } = intent;
    const claim = [vaultUrl, entryName.toLowerCase(), secretId, key, ruleUid];
    const [holder] = await this.#write<ItemRow>(writer, secretId, INTENT, [...claim, id, version, fingerprint, at]);
    if (holder !== undefined) throw new NameTaken(entryName, itemOf(holder));
  }

  async recordOutcome(writer: Writer, item: SyncItem, audit: readonly AuditEntry[]): Promise<void> {
    const values = [...outcomeOf(item), auditParameter(this.#signer, audit)];
    await this.#write(writer, item.secretId, OUTCOME, values);
  }

  async recordAgreement(writer: Writer, item: SyncItem, readMsAgo: number | undefined): Promise<void> {
    const values = [...outcomeOf(item), item.outcome?.settled, readMsAgo ?? null];
    const [holder] = await this.#write<ItemRow>(writer, item.secretId, AGREEMENT, values);
    if (holder !== undefined) throw new NameTaken(item.entryName, itemOf(holder));
  }

  async recordTaking(writer: Writer, item: SyncItem): Promise<void> {
    const { vaultUrl, entryName, secretId, key, ruleUid, taking } = item;
    if (taking === undefined) throw new RangeError("a taking is what is to be recorded");
    const values = [vaultUrl, entryName.toLowerCase(), secretId, key, ruleUid, taking.fingerprint, taking.clock];
    const [holder] = await this.#write<ItemRow>(writer, secretId, TAKING, values);
    if (holder !== undefined) throw new NameTaken(entryName, itemOf(holder));
  }

  async forget(writer: Writer, ruleUid: string, keys: readonly ItemKey[]): Promise<void> {
    if (keys.length === 0) return;
    await this.#write(writer, ruleUid, FORGET, [
      ruleUid,
      keys.map(({ secretId }) => secretId),
      keys.map(({ key }) => key),
      keys.map(({ vaultUrl }) => vaultUrl),
      keys.map(({ entryName }) => entryName.toLowerCase()),
    ]);
  }

  async endings(secretIds: readonly string[]): Promise<readonly Ending[]> {
    if (secretIds.length === 0) return [];
    return (await read<EndingRow>(this.#database, ENDINGS, [secretIds])).map(endingOf);
  }

  async recordDeletion(writer: Writer, item: SyncItem, audit: readonly AuditEntry[]): Promise<void> {
    const { vaultUrl, entryName, secretId, key, ruleUid } = item;
    const claim = [vaultUrl, entryName.toLowerCase(), secretId, key, ruleUid];
    await this.#write(writer, secretId, DELETION, [...claim, auditParameter(this.#signer, audit)]);
  }

  async rule(ruleUid: string): Promise<RuleRecord | undefined> {
    const [row] = await read<{ scope: string; release: string | null; approved: string[] }>(this.#database, RULE, [
      ruleUid,
    ]);
    return row && { scope: row.scope, approved: row.approved, ...(row.release !== null && { release: row.release }) };
  }

  async recordRule(
    writer: Writer,
    ruleUid: string,
    { scope, release, approved }: RuleRecord,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    const values = [ruleUid, scope, release, JSON.stringify(approved), auditParameter(this.#signer, audit)];
    await this.#write(writer, ruleUid, RECORD_RULE, values);
  }

  async pulled(ruleUid: string, secretIds: readonly string[]): Promise<readonly PulledItem[]> {
    return (await read<PulledRow>(this.#database, PULLED, [ruleUid, secretIds])).map(pulledOf);
  }

  async recordPulled(writer: Writer, items: readonly Omit<PulledItem, "settled">[], readMsAgo: number): Promise<void> {
    const [first] = items;
    if (first === undefined) return;
    await this.#write(writer, first.secretId, RECORD_PULLED, [
      items.map(({ secretId }) => secretId),
      items.map(({ key }) => key),
      items.map(({ ruleUid }) => ruleUid),
      items.map(({ vaultUrl }) => vaultUrl),
      items.map(({ entryName }) => entryName.toLowerCase()),
      items.map(({ fingerprint }) => fingerprint),
      items.map(({ targetVersion }) => targetVersion),
      items.map(({ targetUpdatedOn }) => targetUpdatedOn),
      readMsAgo,
    ]);
  }

  async forgetPulled(
    writer: Writer,
    ruleUid: string,
    keys: readonly Pick<PulledItem, "secretId" | "key">[],
  ): Promise<void> {
    if (keys.length === 0) return;
    const values = [ruleUid, keys.map(({ secretId }) => secretId), keys.map(({ key }) => key)];
    await this.#write(writer, ruleUid, FORGET_PULLED, values);
  }

  async #write<Row extends object>(
    writer: Writer,
    id: string,
    statement: { readonly name: string; readonly text: string },
    values: readonly unknown[],
  ): Promise<Row[]> {
    try {
      return await this.#database.query<Row>(statement, [writer.epoch, ...values]);
    } catch (error) {
      throw sqlState(error) === CONFLICT ? new Conflict(id) : mapWriteError(error, writer.epoch);
    }
  }
}

const endingOf = ({ id, name, state, keys, tombstones }: EndingRow): Ending => ({
  secretId: id,
  ...(name !== null && { secretName: name }),
  ...(state !== null && { state }),
  keys,
  tombstones: tombstones.map(({ key, age }) => (key === "" ? { age } : { key, age })),
});

const pulledOf = (row: PulledRow): PulledItem => ({
  secretId: row.secret_id,
  key: row.key,
  ruleUid: row.rule_uid,
  vaultUrl: row.vault_url,
  entryName: row.entry_name,
  fingerprint: row.fingerprint,
  targetVersion: row.target_version,
  targetUpdatedOn: row.target_updated_on,
  settled: row.settled,
});

function outcomeOf({ vaultUrl, entryName, secretId, key, ruleUid, outcome }: SyncItem): readonly unknown[] {
  if (outcome === undefined) throw new RangeError("an outcome is what is to be recorded");
  const { version, fingerprint, targetVersion, targetUpdatedOn, clock } = outcome;
  const claim = [vaultUrl, entryName.toLowerCase(), secretId, key, ruleUid];
  return [...claim, version, fingerprint, targetVersion, targetUpdatedOn, clock ?? null];
}

function itemOf(row: ItemRow): SyncItem {
  const item = {
    secretId: row.secret_id,
    key: row.key,
    vaultUrl: row.vault_url,
    entryName: row.entry_name,
    ruleUid: row.rule_uid,
  };
  const intent =
    row.intent_id === null || row.intent_version === null || row.intent_fingerprint === null || row.intent_at === null
      ? {}
      : {
          intent: {
            id: row.intent_id,
            version: row.intent_version,
            fingerprint: row.intent_fingerprint,
            at: row.intent_at,
          },
        };
  const outcome =
    row.version === null || row.fingerprint === null || row.target_version === null || row.target_updated_on === null
      ? {}
      : {
          outcome: {
            version: row.version,
            fingerprint: row.fingerprint,
            targetVersion: row.target_version,
            targetUpdatedOn: row.target_updated_on,
            settled: row.settled,
            ...(row.clock !== null && { clock: Number(row.clock) }),
          },
        };
  const taking =
    row.taking_fingerprint === null
      ? {}
      : { taking: { fingerprint: row.taking_fingerprint, clock: Number(row.taking_clock) } };
  const deleting = row.deleting_at === null ? {} : { deletingAt: row.deleting_at };
  return { ...item, ...intent, ...taking, ...outcome, ...deleting };
}
