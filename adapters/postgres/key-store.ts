import type { AuditSigner } from "../../core/audit/signer.ts";
import { Unavailable } from "../../core/errors.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type {
  KeyPurpose,
  KeyStore,
  KeyVersion,
  Rewrap,
  RotatedPurpose,
  WrappedKey,
} from "../../core/ports/key-store.ts";
import type { Unled, Writer } from "../../core/ports/vault-store.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read, type Statement } from "./database.ts";
import { mapWriteError } from "./errors.ts";

const INSTALLATION = { name: "installation", text: "SELECT id FROM installation" };
const COLUMNS = "id, purpose, scope, version, wrapped_by, wrapped, created_at";
const LOAD = {
  name: "load_keys",
  text: `SELECT ${COLUMNS} FROM keys WHERE purpose = $1 AND scope = $2 AND retired_at IS NULL ORDER BY version`,
};
const WRAPPED_BY = {
  name: "keys_wrapped_by",
  text: `SELECT ${COLUMNS} FROM keys WHERE wrapped_by = $1 AND id > $2 AND retired_at IS NULL ORDER BY id LIMIT $3`,
};
const INSERT = { name: "insert_key", text: "SELECT insert_key($1, $2, $3, $4, $5, $6, $7, $8)" };
const RESERVE = { name: "reserve_uses", text: "SELECT reserve_uses($1, $2, $3) AS uses" };
const ROTATE = { name: "rotate_key", text: "SELECT rotate_key($1, $2, $3, $4, $5, $6, $7, $8) AS done" };
const REWRAP = { name: "rewrap_keys", text: "SELECT rewrap_keys($1, $2, $3, $4, $5, $6, $7) AS changed" };
const RETIRE = { name: "retire_key", text: "SELECT retire_key($1, $2, $3) AS done" };

const REPLACED = `EXISTS (SELECT FROM keys n WHERE n.purpose = k.purpose AND n.scope = k.scope AND n.version > k.version)`;
/** Counted for what was replaced only: of the others it would be everything. */
const versions = (name: string, where: string): Statement => ({
  name,
  text: `SELECT id, purpose, scope, version, wrapped_by, uses, created_at,
           CASE WHEN ${REPLACED} THEN (SELECT count(*) FROM versions v WHERE v.project_key_id = k.id)
             + (SELECT count(*) FROM keys w WHERE w.wrapped_by = k.id::text AND w.retired_at IS NULL) END AS "left"
         FROM keys k WHERE retired_at IS NULL AND ${where}`,
});
const VERSIONS = versions("key_versions", "purpose = $1 AND scope = $2 ORDER BY version");
const PROJECT_VERSIONS = versions(
  "project_key_versions",
  `purpose = 'Project' AND scope IN
     (SELECT DISTINCT scope FROM keys WHERE purpose = 'Project' AND scope > $1 ORDER BY scope LIMIT $2)
   ORDER BY scope, version`,
);
const ALL_REPLACED = versions(
  "replaced_key_versions",
  `purpose IN ('Installation', 'Project') AND ${REPLACED} ORDER BY purpose, scope, version`,
);
const DUE = versions(
  "due_key_versions",
  `purpose = $1 AND NOT ${REPLACED} AND (uses >= $3 OR (created_at < $2 AND NOT EXISTS
     (SELECT FROM keys o WHERE o.purpose = k.purpose AND o.scope = k.scope AND o.id <> k.id AND o.retired_at IS NULL)))
   ORDER BY scope LIMIT $4`,
);

const LOWEST_UUID = "00000000-0000-0000-0000-000000000000";

interface KeyRow {
  readonly id: string;
  readonly purpose: KeyPurpose;
  readonly scope: string;
  readonly version: number;
  readonly wrapped_by: string;
  readonly wrapped: Buffer;
  readonly created_at: Date;
}

interface VersionRow extends Omit<KeyRow, "purpose" | "wrapped"> {
  readonly purpose: RotatedPurpose;
  readonly uses: string;
  readonly left: string | null;
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
    return (await read<KeyRow>(this.#database, LOAD, [purpose, scope])).map(keyOf);
  }

  async insert(writer: Writer, key: WrappedKey, audit: readonly AuditEntry[]): Promise<WrappedKey> {
    const { id, purpose, scope, version, wrappedBy, wrapped } = key;
    await this.#write(writer, INSERT, [id, purpose, scope, version, wrappedBy, wrapped], audit);
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

  async rotate(writer: Writer | Unled, key: WrappedKey, audit: readonly AuditEntry[]): Promise<boolean> {
    const { id, purpose, scope, version, wrappedBy, wrapped } = key;
    const row = await this.#write(writer, ROTATE, [id, purpose, scope, version, wrappedBy, wrapped], audit);
    return row?.done === true;
  }

  async versions(purpose: RotatedPurpose, scope: string): Promise<readonly KeyVersion[]> {
    return (await read<VersionRow>(this.#database, VERSIONS, [purpose, scope])).map(versionOf);
  }

  async projectVersions(after: string | undefined, limit: number): Promise<readonly KeyVersion[]> {
    return (await read<VersionRow>(this.#database, PROJECT_VERSIONS, [after ?? "", limit])).map(versionOf);
  }

  async replaced(): Promise<readonly KeyVersion[]> {
    return (await read<VersionRow>(this.#database, ALL_REPLACED, [])).map(versionOf);
  }

  async due(purpose: RotatedPurpose, madeBefore: Date, uses: bigint, limit: number): Promise<readonly KeyVersion[]> {
    return (await read<VersionRow>(this.#database, DUE, [purpose, madeBefore, uses, limit])).map(versionOf);
  }

  async wrappedBy(id: string, after: string | undefined, limit: number): Promise<readonly WrappedKey[]> {
    return (await read<KeyRow>(this.#database, WRAPPED_BY, [id, after ?? LOWEST_UUID, limit])).map(keyOf);
  }

  async rewrap(
    writer: Writer,
    from: string,
    to: string,
    keys: readonly Rewrap[],
    audit: readonly AuditEntry[],
  ): Promise<number> {
    const given = [keys.map(({ id }) => id), keys.map(({ before }) => before), keys.map(({ after }) => after)];
    const row = await this.#write(writer, REWRAP, [from, to, ...given], audit);
    return row?.changed ?? 0;
  }

  async retire(writer: Writer, id: string, audit: readonly AuditEntry[]): Promise<boolean> {
    return (await this.#write(writer, RETIRE, [id], audit))?.done === true;
  }

  async #write(
    writer: Writer | Unled,
    statement: Statement,
    values: readonly unknown[],
    audit: readonly AuditEntry[],
  ): Promise<{ readonly done?: boolean; readonly changed?: number } | undefined> {
    // Before anybody led there is no key to sign a row with.
    const rows = audit.length === 0 ? "[]" : auditParameter(this.#signer, audit);
    try {
      const [row] = await this.#database.query(statement, [writer.epoch, ...values, rows]);
      return row;
    } catch (error) {
      throw mapWriteError(error, writer.epoch);
    }
  }
}

const keyOf = ({ wrapped_by: wrappedBy, created_at: createdAt, ...row }: KeyRow): WrappedKey => ({
  ...row,
  wrappedBy,
  createdAt,
});

const versionOf = ({ wrapped_by: wrappedBy, created_at: createdAt, uses, left, ...row }: VersionRow): KeyVersion => ({
  ...row,
  wrappedBy,
  createdAt,
  uses: BigInt(uses),
  ...(left !== null && { left: Number(left) }),
});
