import type { AuditSigner } from "../../core/audit/signer.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import {
  Conflict,
  type DataKey,
  type DataKeyRewrap,
  type DeliveryRecord,
  type KeptVersion,
  type NewVersion,
  type OutboxPosition,
  type OutboxRow,
  type PointerChange,
  type SealedVersion,
  type SecretIdentity,
  type SecretLocation,
  type StoredPointer,
  type Unled,
  type VaultStore,
  type Writer,
} from "../../core/ports/vault-store.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read, type Statement } from "./database.ts";
import { CONFLICT, mapWriteError, sqlState } from "./errors.ts";
import { handledParameters } from "./handled-writes.ts";
import type { OutboxHint } from "./outbox-hint.ts";
import {
  type EntryRow,
  hex,
  type IdentityRow,
  identityOf,
  type LocationRow,
  locationOf,
  type PointerRow,
  pointerOf,
  type SealedPointerRow,
  sealedPointerOf,
} from "./rows.ts";

const COMMIT = statement(
  "commit_version",
  `SELECT commit_version($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)`,
);
const END_WRITE = statement("end_kept_write", "SELECT end_kept_write($1, $2, $3, $4, $5)");
const HANDLE = statement(
  "handle_gateway_write_by_version",
  "SELECT handle_gateway_write_by_version($1, $2, $3, $4, $5, $6, $7)",
);
const COMMIT_PENDING = statement(
  "commit_pending_version",
  `SELECT commit_pending_version($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
);
const CHANGE = statement(
  "change_pointer",
  "SELECT change_pointer($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
);
const PURGE = statement("purge_secret", "SELECT purge_secret($1, $2, $3, $4)");
const TOMBSTONE = statement("record_tombstone", "SELECT record_tombstone($1, $2)");
const DELIVERY = statement("record_delivery", "SELECT record_delivery($1, $2, $3, $4)");
const AUDITED_GENERATION = `(SELECT max(a.subject_generation) FROM audit a
   WHERE a.subject_id = s.id::text AND a.subject_generation IS NOT NULL)`;
/** Of the current version, as JSON. */
const entriesWith = (...columns: readonly ("recipe" | "fingerprint" | "ciphertext")[]) =>
  `(SELECT json_agg(json_build_object('key', e.key, ${columns.map((name) => `'${name}', encode(e.${name}, 'hex')`).join(", ")})
                    ORDER BY e.key)
    FROM entries e WHERE e.secret_id = s.id AND e.version = s.current_version)`;
const IDENTIFIED =
  "s.namespace = $1 AND s.name = $2 AND s.environment = $3 AND s.project = $4 AND s.namespace_uid = $5";
const FIND = statement(
  "find",
  `SELECT s.*, ${AUDITED_GENERATION} AS audited_generation, ${entriesWith("recipe", "fingerprint")} AS entries
   FROM secrets s WHERE ${IDENTIFIED}`,
);
const SEALED = `SELECT s.*, ${AUDITED_GENERATION} AS audited_generation,
     ${entriesWith("recipe", "fingerprint", "ciphertext")} AS entries,
     v.wrapped_key, v.project_key_id, coalesce(v.entries_key_id, v.project_key_id) AS entries_key_id
   FROM secrets s LEFT JOIN versions v ON v.secret_id = s.id AND v.version = s.current_version`;
const FIND_SEALED = statement("find_sealed", `${SEALED} WHERE ${IDENTIFIED}`);
const FIND_SEALED_ALL = statement("find_sealed_all", `${SEALED} WHERE s.id = ANY ($1::uuid[])`);
const READ_VERSION = statement(
  "read_version",
  `SELECT v.wrapped_key, v.project_key_id, coalesce(v.entries_key_id, v.project_key_id) AS entries_key_id,
     e.key, e.recipe, e.fingerprint, e.ciphertext
   FROM versions v LEFT JOIN entries e USING (secret_id, version)
   WHERE v.secret_id = $1 AND v.version = $2 ORDER BY e.key`,
);
const KEEPS = statement(
  "keeps_value",
  "SELECT EXISTS (SELECT FROM entries WHERE secret_id = $1 AND key = $2 AND fingerprint = $3) AS kept",
);
const HELD_FOR = statement(
  "held_for_by_its_entry",
  "SELECT extract(epoch FROM clock_timestamp() - held_since($1, $2, $3)) * 1000 AS held_ms",
);
const LIST_VERSIONS = statement(
  "list_versions",
  `SELECT v.version, v.created_at,
     ARRAY(SELECT e.key FROM entries e WHERE e.secret_id = v.secret_id AND e.version = v.version ORDER BY e.key) AS keys
   FROM versions v WHERE v.secret_id = $1 ORDER BY v.version DESC`,
);
const LOCATION_COLUMNS =
  "id, project, environment, namespace, namespace_uid, name, state, deletion_policy, soft_delete_ms, keep_versions, delivery";
const LOCATE = statement(
  "locate",
  `SELECT ${LOCATION_COLUMNS} FROM secrets WHERE namespace = $1 AND name = $2 ORDER BY id`,
);
const LOCATIONS = statement(
  "list_locations",
  `SELECT ${LOCATION_COLUMNS} FROM secrets WHERE id > $1 ORDER BY id LIMIT $2`,
);
const EXPIRED = statement(
  "list_expired",
  `SELECT id, project, environment, namespace, namespace_uid, name, generation
   FROM secrets WHERE state = 'SoftDeleted' AND purge_after <= $1 ORDER BY purge_after LIMIT $2`,
);
const OUTBOX = statement(
  "read_outbox",
  `SELECT transaction, id, r.secret_id, r.namespace, r.name, o.unled
   FROM read_outbox($1, $2, $3) r JOIN outbox o USING (transaction, id) ORDER BY transaction, id`,
);

const DATA_KEYS = statement(
  "list_data_keys",
  `SELECT v.secret_id AS id, v.version, v.wrapped_key, s.project, s.environment, s.namespace, s.namespace_uid, s.name
   FROM versions v JOIN secrets s ON s.id = v.secret_id
   WHERE v.project_key_id = $1 AND (v.secret_id, v.version) > ($2, $3) ORDER BY v.secret_id, v.version LIMIT $4`,
);
const REWRAP = statement("rewrap_data_keys", "SELECT rewrap_data_keys($1, $2, $3, $4, $5, $6, $7) AS changed");

interface LineOfOutbox {
  readonly transaction: string;
  readonly id: string;
  readonly secret_id: string;
  readonly namespace: string;
  readonly name: string;
  readonly unled: boolean;
}

const LOWEST_UUID = "00000000-0000-0000-0000-000000000000";

const rotationParameter = ({ rotation }: Pick<PointerChange, "rotation">): string | null =>
  rotation === undefined ? null : JSON.stringify(rotation);

const newVersion = (writer: Writer | Unled, next: NewVersion): readonly unknown[] => {
  const { id, identity, sealed, lifecycle } = next;
  return [
    writer.epoch,
    id,
    identity.project,
    identity.environment,
    identity.namespace,
    identity.namespaceUid,
    identity.name,
    next.expected,
    next.generation,
    next.mac,
    lifecycle.deletionPolicy,
    lifecycle.softDeleteMs,
    lifecycle.keepVersions,
    rotationParameter(next),
    ...sealedParameters(sealed),
  ];
};

/** The last of several sees to it: until then what was current before them is still to tell since when it has had its values. */
const withoutRetention = (next: NewVersion): NewVersion => ({
  ...next,
  lifecycle: { ...next.lifecycle, keepVersions: next.sealed.version },
});

const pendingVersion = (writer: Writer | Unled, next: NewVersion): readonly unknown[] => [
  writer.epoch,
  next.id,
  next.expected,
  next.generation,
  next.mac,
  rotationParameter(next),
  ...sealedParameters(next.sealed),
];

const sealedParameters = ({ version, wrappedKey, projectKeyId, entries }: SealedVersion): readonly unknown[] => [
  version,
  wrappedKey,
  projectKeyId,
  entries.map(({ key }) => key),
  entries.map(({ recipe }) => hex(recipe)),
  entries.map(({ fingerprint }) => hex(fingerprint)),
  entries.map(({ ciphertext }) => ciphertext),
];

const identified = ({ namespace, name, environment, project, namespaceUid }: SecretIdentity): readonly string[] => [
  namespace,
  name,
  environment,
  project,
  namespaceUid,
];

function statement(name: string, text: string): Statement {
  return { name, text };
}

export class PostgresVaultStore implements VaultStore {
  readonly #database: Database;
  readonly #signer: AuditSigner;
  readonly #hint: OutboxHint;

  constructor(database: Database, signer: AuditSigner, hint: OutboxHint) {
    this.#database = database;
    this.#signer = signer;
    this.#hint = hint;
  }

  async find(identity: SecretIdentity): Promise<StoredPointer | undefined> {
    const [row] = await read<PointerRow>(this.#database, FIND, identified(identity));
    return row && pointerOf(row);
  }

  async findSealed(identity: SecretIdentity): Promise<StoredPointer | undefined> {
    const [row] = await read<SealedPointerRow>(this.#database, FIND_SEALED, identified(identity));
    return row && sealedPointerOf(row);
  }

  async findSealedAll(ids: readonly string[]): Promise<readonly StoredPointer[]> {
    return (await read<SealedPointerRow>(this.#database, FIND_SEALED_ALL, [ids])).map(sealedPointerOf);
  }

  async readVersion(id: string, version: number): Promise<SealedVersion | undefined> {
    const rows = await read<EntryRow>(this.#database, READ_VERSION, [id, version]);
    const [first] = rows;
    if (first === undefined) return undefined;
    const entries = rows.flatMap(({ key, recipe, fingerprint, ciphertext }) =>
      key === null
        ? []
        : [{ key, recipe: recipe.toString("hex"), fingerprint: fingerprint.toString("hex"), ciphertext }],
    );
    const { wrapped_key: wrappedKey, project_key_id: projectKeyId, entries_key_id: entriesKeyId } = first;
    return { version, wrappedKey, projectKeyId, entriesKeyId, entries };
  }

  async listVersions(id: string): Promise<readonly KeptVersion[]> {
    const rows = await read<{ version: number; created_at: Date; keys: string[] }>(this.#database, LIST_VERSIONS, [id]);
    return rows.map(({ version, created_at: createdAt, keys }) => ({ version, createdAt, keys }));
  }

  async keeps(id: string, key: string, fingerprint: string): Promise<boolean> {
    const [row] = await read<{ kept: boolean }>(this.#database, KEEPS, [id, key, hex(fingerprint)]);
    return row?.kept === true;
  }

  async heldForMs(id: string, key: string, fingerprint: string): Promise<number | undefined> {
    const values = [id, key, hex(fingerprint)];
    const [row] = await read<{ held_ms: string | null }>(this.#database, HELD_FOR, values);
    return row === undefined || row.held_ms === null ? undefined : Number(row.held_ms);
  }

  async commitVersion(writer: Writer | Unled, next: NewVersion): Promise<void> {
    if (next.write !== undefined || next.handled !== undefined) return this.commitVersions(writer, [next]);
    const isCurrent = (next.currentVersion ?? next.sealed.version) === next.sealed.version;
    if (isCurrent) await this.#write(writer, next.id, COMMIT, next.audit, newVersion(writer, next));
    else await this.#write(writer, next.id, COMMIT_PENDING, next.audit, pendingVersion(writer, next));
    this.#hint.changed();
  }

  async commitVersions(writer: Writer | Unled, next: readonly NewVersion[]): Promise<void> {
    const [first] = next;
    if (first === undefined) return;
    await this.#changing(writer, first.id, () =>
      this.#database.transaction(async (client) => {
        for (const [index, each] of next.entries()) {
          const made = index < next.length - 1 ? withoutRetention(each) : each;
          const values = [...newVersion(writer, made), auditParameter(this.#signer, each.audit)];
          await client.query({ ...COMMIT, values });
          if (each.handled !== undefined) {
            const { write, ageMs } = each.handled;
            const of = [each.id, each.sealed.version, ageMs];
            await client.query({ ...HANDLE, values: [...handledParameters(write), ...of] });
          }
        }
        const { write } = next.at(-1) ?? first;
        if (write !== undefined) {
          const { id, vaultUrl, versions } = write;
          await client.query({
            ...END_WRITE,
            values: [first.id, vaultUrl, id, [...versions.keys()], [...versions.values()]],
          });
        }
      }),
    );
    this.#hint.changed();
  }

  async changePointer(writer: Writer | Unled, change: PointerChange): Promise<void> {
    const { id, lifecycle } = change;
    await this.#end(writer, change, CHANGE, change.audit, [
      writer.epoch,
      id,
      change.expected,
      change.generation,
      change.mac,
      change.state,
      change.currentVersion,
      change.deletedAt,
      change.purgeAfter,
      lifecycle.deletionPolicy,
      lifecycle.softDeleteMs,
      lifecycle.keepVersions,
      rotationParameter(change),
    ]);
    this.#hint.changed();
  }

  async purge(
    writer: Writer,
    id: string,
    expected: bigint,
    audit: readonly AuditEntry[],
    { tombstone = false }: Pick<PointerChange, "tombstone"> = {},
  ): Promise<void> {
    await this.#end(writer, { id, tombstone }, PURGE, audit, [writer.epoch, id, expected]);
    this.#hint.changed();
  }

  async recordDelivery(
    writer: Writer,
    id: string,
    delivery: DeliveryRecord | undefined,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    const stored = delivery === undefined ? null : JSON.stringify(delivery);
    await this.#write(writer, id, DELIVERY, audit, [writer.epoch, id, stored]);
  }

  async locate(namespace: string, name: string): Promise<readonly SecretLocation[]> {
    return (await read<LocationRow>(this.#database, LOCATE, [namespace, name])).map(locationOf);
  }

  async listLocations(after: string | undefined, limit: number): Promise<readonly SecretLocation[]> {
    const rows = await read<LocationRow>(this.#database, LOCATIONS, [after ?? LOWEST_UUID, limit]);
    return rows.map(locationOf);
  }

  async listExpired(now: Date, limit: number) {
    const rows = await read<LocationRow & { generation: string }>(this.#database, EXPIRED, [now, limit]);
    return rows.map((row) => ({ id: row.id, generation: BigInt(row.generation), identity: identityOf(row) }));
  }

  async readOutbox(after: OutboxPosition | undefined, limit: number): Promise<readonly OutboxRow[]> {
    const values = [after?.transaction ?? 0n, after?.id ?? 0n, limit];
    const rows = await read<LineOfOutbox>(this.#database, OUTBOX, values);
    return rows.map(({ transaction, id, secret_id: secretId, namespace, name, unled }) => ({
      position: { transaction: BigInt(transaction), id: BigInt(id) },
      secretId,
      namespace,
      name,
      unled,
    }));
  }

  async listDataKeys(
    projectKeyId: string,
    after: Pick<DataKey, "id" | "version"> | undefined,
    limit: number,
  ): Promise<readonly DataKey[]> {
    const values = [projectKeyId, after?.id ?? LOWEST_UUID, after?.version ?? 0, limit];
    const rows = await read<IdentityRow & { id: string; version: number; wrapped_key: Buffer }>(
      this.#database,
      DATA_KEYS,
      values,
    );
    return rows.map((row) => {
      const { id, version, wrapped_key: wrappedKey } = row;
      return { id, identity: identityOf(row), version, wrappedKey };
    });
  }

  async rewrapDataKeys(writer: Writer, from: string, to: string, keys: readonly DataKeyRewrap[]): Promise<number> {
    const values = [
      writer.epoch,
      from,
      to,
      keys.map(({ id }) => id),
      keys.map(({ version }) => version),
      keys.map(({ before }) => before),
      keys.map(({ after }) => after),
    ];
    try {
      const [row] = await this.#database.query<{ changed: number }>(REWRAP, values);
      return row?.changed ?? 0;
    } catch (error) {
      throw mapWriteError(error, writer.epoch);
    }
  }

  async #write(
    writer: Writer | Unled,
    id: string,
    statement: Statement,
    audit: readonly AuditEntry[],
    values: readonly unknown[],
  ): Promise<void> {
    const all = [...values, auditParameter(this.#signer, audit)];
    await this.#changing(writer, id, () => this.#database.query(statement, all));
  }

  /** Evidence of a deletion stands from the moment at which the secret is gone. */
  async #end(
    writer: Writer | Unled,
    { id, tombstone = false }: Pick<PointerChange, "id" | "tombstone">,
    statement: Statement,
    audit: readonly AuditEntry[],
    values: readonly unknown[],
  ): Promise<void> {
    if (!tombstone) return this.#write(writer, id, statement, audit, values);
    await this.#changing(writer, id, () =>
      this.#database.transaction(async (client) => {
        await client.query({ ...TOMBSTONE, values: [writer.epoch, id] });
        await client.query({ ...statement, values: [...values, auditParameter(this.#signer, audit)] });
      }),
    );
  }

  async #changing(writer: Writer | Unled, id: string, change: () => Promise<unknown>): Promise<void> {
    try {
      await change();
    } catch (error) {
      throw sqlState(error) === CONFLICT ? new Conflict(id) : mapWriteError(error, writer.epoch);
    }
  }
}
