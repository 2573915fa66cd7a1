import type { AuditSigner } from "../../core/audit/signer.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type { SealedKey } from "../../core/ports/pki-store.ts";
import type { NewItem, ReplicaChange, ReplicaState, ReplicaStore, StoredItem } from "../../core/ports/replica-store.ts";
import { Conflict, type Writer } from "../../core/ports/vault-store.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read } from "./database.ts";
import { CONFLICT, mapWriteError, sqlState } from "./errors.ts";

const READ = {
  name: "read_replica",
  text: `SELECT r.revision, r.gateway_id, r.environment, r.digest, r.synced_at, r.mac,
                i.key, i.body, i.sealed_values IS NOT NULL AS valued
         FROM replica r LEFT JOIN replica_items i ON i.revision > $1
         WHERE r.mac IS NOT NULL`,
};
const VALUES = {
  name: "replica_values",
  text: "SELECT body, wrapped_key, key_id, sealed_values FROM replica_items WHERE key = $1 AND sealed_values IS NOT NULL",
};
const REVISION = { name: "replica_revision", text: "SELECT revision FROM replica" };
const WRITE = { name: "write_replica", text: "SELECT write_replica($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)" };
const WIPE = { name: "wipe_replica", text: "SELECT wipe_replica($1, $2)" };

/** The state with one of the items, or with none; node-postgres reads bigint as text. */
interface Row {
  readonly revision: string;
  readonly gateway_id: string;
  readonly environment: string;
  readonly digest: Buffer;
  readonly synced_at: Date | null;
  readonly mac: Buffer;
  readonly key: string | null;
  readonly body: string;
  readonly valued: boolean;
}

interface ValuesRow {
  readonly body: string;
  readonly wrapped_key: Buffer;
  readonly key_id: string;
  readonly sealed_values: Buffer;
}

export class PostgresReplicaStore implements ReplicaStore {
  readonly #database: Database;
  readonly #signer: AuditSigner;

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  async read(since: bigint) {
    const rows = await read<Row>(this.#database, READ, [since]);
    const [first] = rows;
    if (first === undefined) return undefined;
    const items = rows.flatMap(({ key, body, valued }): StoredItem[] => (key === null ? [] : [{ key, body, valued }]));
    return { state: stateOf(first), items };
  }

  async values(key: string): Promise<{ readonly body: string; readonly values: SealedKey } | undefined> {
    const [row] = await read<ValuesRow>(this.#database, VALUES, [key]);
    if (row === undefined) return undefined;
    const { body, wrapped_key: wrappedKey, key_id: keyId, sealed_values: ciphertext } = row;
    return { body, values: { wrappedKey, keyId, ciphertext } };
  }

  async revision(): Promise<bigint> {
    const [row] = await read<Pick<Row, "revision">>(this.#database, REVISION, []);
    return BigInt(row?.revision ?? 0);
  }

  async write(
    writer: Writer,
    state: ReplicaState,
    { put, remove }: ReplicaChange,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    const { revision, gatewayId, environment, digest, syncedAt, mac } = state;
    const told = [writer.epoch, revision, gatewayId, environment, digest, syncedAt ?? null, mac];
    const changed = [JSON.stringify(put.map(itemJson)), remove, auditParameter(this.#signer, audit)];
    try {
      await this.#database.query(WRITE, [...told, ...changed]);
    } catch (error) {
      throw sqlState(error) === CONFLICT ? new Conflict("replica") : mapWriteError(error, writer.epoch);
    }
  }

  async wipe(writer: Writer, audit: readonly AuditEntry[]): Promise<void> {
    try {
      await this.#database.query(WIPE, [writer.epoch, auditParameter(this.#signer, audit)]);
    } catch (error) {
      throw mapWriteError(error, writer.epoch);
    }
  }
}

const stateOf = (row: Row): ReplicaState => ({
  revision: BigInt(row.revision),
  gatewayId: row.gateway_id,
  environment: row.environment,
  digest: row.digest,
  syncedAt: row.synced_at ?? undefined,
  mac: row.mac,
});

const itemJson = ({ key, body, values }: NewItem) => ({
  key,
  body,
  wrapped_key: values?.wrappedKey.toString("base64"),
  key_id: values?.keyId,
  sealed_values: values?.ciphertext.toString("base64"),
});
