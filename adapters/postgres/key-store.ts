import type { AuditSigner } from "../../core/audit/signer.ts";
import { Unavailable } from "../../core/errors.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type { KeyPurpose, KeyStore, WrappedKey } from "../../core/ports/key-store.ts";
import type { Unled, Writer } from "../../core/ports/vault-store.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read } from "./database.ts";
import { mapWriteError } from "./errors.ts";

const INSTALLATION = { name: "installation", text: "SELECT id FROM installation" };
const LOAD = {
  name: "load_keys",
  text: `SELECT id, purpose, scope, version, wrapped_by, wrapped, created_at FROM keys
         WHERE purpose = $1 AND scope = $2 ORDER BY version`,
};
const INSERT = { name: "insert_key", text: "SELECT insert_key($1, $2, $3, $4, $5, $6, $7, $8)" };
const RESERVE = { name: "reserve_uses", text: "SELECT reserve_uses($1, $2, $3) AS uses" };

interface KeyRow {
  readonly id: string;
  readonly purpose: KeyPurpose;
  readonly scope: string;
  readonly version: number;
  readonly wrapped_by: string;
  readonly wrapped: Buffer;
  readonly created_at: Date;
}

export class PostgresKeyStore implements KeyStore {
  readonly #database: Database;
  readonly #signer: AuditSigner;

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  async installationId(): Promise<string> {
    const [row] = await read<{ id: string }>(this.#database, INSTALLATION, []);
    if (row === undefined) throw new Unavailable("TamperDetected", "the installation's row is gone; see the runbook");
    return row.id;
  }

  async load(purpose: KeyPurpose, scope: string): Promise<readonly WrappedKey[]> {
    const rows = await read<KeyRow>(this.#database, LOAD, [purpose, scope]);
    return rows.map(({ wrapped_by: wrappedBy, created_at: createdAt, ...row }) => ({ ...row, wrappedBy, createdAt }));
  }

  async insert(writer: Writer, key: WrappedKey, audit: readonly AuditEntry[]): Promise<WrappedKey> {
    const { id, purpose, scope, version, wrappedBy, wrapped } = key;
    const rows = audit.length === 0 ? "[]" : auditParameter(this.#signer, audit);
    try {
      await this.#database.query(INSERT, [writer.epoch, id, purpose, scope, version, wrappedBy, wrapped, rows]);
    } catch (error) {
      throw mapWriteError(error, writer.epoch);
    }
    const standing = (await this.load(purpose, scope)).find((other) => other.version === version);
    if (standing === undefined) throw new Unavailable("TamperDetected", `${purpose} key ${id} disappeared`);
    return standing;
  }

  async reserveUses(writer: Writer | Unled, id: string, count: number): Promise<bigint> {
    try {
      const [row] = await this.#database.query<{ uses: string | null }>(RESERVE, [writer.epoch, id, count]);
      if (typeof row?.uses === "string") return BigInt(row.uses);
    } catch (error) {
      throw mapWriteError(error, writer.epoch);
    }
    throw new Unavailable("TamperDetected", `key ${id} disappeared; see the runbook`);
  }
}
