import { EntryTaken, type EntryWrite, type KeptEntries, type KeptEntry } from "../../core/ports/kept-entries.ts";
import { Conflict, type Unled, type Writer } from "../../core/ports/vault-store.ts";
import { type Database, read } from "./database.ts";
import { CONFLICT, mapWriteError, sqlState } from "./errors.ts";
import { type IdentityRow, identityOf } from "./rows.ts";

interface KeptRow extends IdentityRow {
  readonly vault_url: string;
  readonly entry_name: string;
  readonly owner: string;
  readonly key: string;
  readonly secret_id: string;
  readonly wanted: KeptEntry["wanted"];
  readonly target_version: string | null;
  readonly write_id: string | null;
}

const BEGIN = {
  name: "begin_kept_write",
  text: "SELECT * FROM begin_kept_write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
};
const RELEASE = { name: "release_kept_write", text: "SELECT release_kept_write($1, $2)" };
const UNSETTLED = {
  name: "unsettled_kept_entries",
  text: `SELECT vault_url, entry_name, owner, key, secret_id, project, environment, namespace, namespace_uid, name, wanted,
           target_version, write_id
         FROM (SELECT k.*, row_number() OVER (PARTITION BY vault_url ORDER BY write_until NULLS FIRST, entry_name) AS turn
               FROM kept_entries k
               WHERE (NOT settled OR write_id IS NOT NULL) AND NOT is_being_written(k, $1) AND vault_url <> ALL ($3)) u
         ORDER BY turn, vault_url LIMIT $2`,
};
const TAKE = { name: "take_kept_entry", text: "SELECT take_kept_entry($1, $2, $3, $4, $5) AS taken" };
const SETTLE = { name: "settle_kept_entry", text: "SELECT settle_kept_entry($1, $2, $3, $4, $5)" };

export class PostgresKeptEntries implements KeptEntries {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async begin(writer: Writer | Unled, write: EntryWrite): Promise<void> {
    const { id, secretId, identity, owner, vaultUrl, entries, leaseMs } = write;
    const { project, environment, namespace, namespaceUid, name } = identity;
    const keys = entries.map(({ key }) => key);
    const names = entries.map(({ entryName }) => entryName);
    const place = [project, environment, namespace, namespaceUid, name];
    const [holder] = await this.#write<KeptRow>(writer, secretId, BEGIN, [
      writer.epoch,
      id,
      secretId,
      owner,
      vaultUrl,
      keys,
      names,
      ...place,
      leaseMs,
    ]);
    if (holder !== undefined) {
      throw new EntryTaken(holder.entry_name, { secretId: holder.secret_id, key: holder.key });
    }
  }

  async release(writeId: string, touched: boolean): Promise<void> {
    await this.#write({ epoch: undefined }, writeId, RELEASE, [writeId, touched]);
  }

  async unsettled({ epoch }: Writer, limit: number, except: readonly string[] = []): Promise<readonly KeptEntry[]> {
    const rows = await read<KeptRow>(this.#database, UNSETTLED, [epoch, limit, except]);
    return rows.map((row) => ({
      vaultUrl: row.vault_url,
      entryName: row.entry_name,
      owner: row.owner,
      key: row.key,
      secretId: row.secret_id,
      identity: identityOf(row),
      wanted: row.wanted,
      ...(row.target_version !== null && { targetVersion: row.target_version }),
      ...(row.write_id !== null && { writeId: row.write_id }),
    }));
  }

  async take(writer: Writer, { secretId, vaultUrl, entryName }: KeptEntry, takeId: string, leaseMs: number) {
    const values = [writer.epoch, vaultUrl, entryName, takeId, leaseMs];
    const [row] = await this.#write<{ taken: boolean }>(writer, secretId, TAKE, values);
    return row?.taken === true;
  }

  async settled(writer: Writer, { secretId, vaultUrl, entryName, wanted }: KeptEntry, takeId: string): Promise<void> {
    await this.#write(writer, secretId, SETTLE, [writer.epoch, vaultUrl, entryName, takeId, wanted]);
  }

  async #write<Row extends object>(
    writer: Writer | Unled,
    secretId: string,
    statement: { readonly name: string; readonly text: string },
    values: readonly unknown[],
  ): Promise<readonly Row[]> {
    try {
      return (await this.#database.query(statement, values)) as unknown as readonly Row[];
    } catch (error) {
      throw sqlState(error) === CONFLICT ? new Conflict(secretId) : mapWriteError(error, writer.epoch);
    }
  }
}
