import type { SecretHead, SecretHeads } from "../../core/ports/secret-heads.ts";
import type { SecretState } from "../../core/ports/vault-store.ts";
import { type Database, read } from "./database.ts";
import { type IdentityRow, identityOf } from "./rows.ts";

const COLUMNS = `s.id, s.project, s.environment, s.namespace, s.namespace_uid, s.name, s.state, s.current_version, s.generation,
  (SELECT json_agg(json_build_object('key', e.key, 'fingerprint', encode(e.fingerprint, 'hex')) ORDER BY e.key)
   FROM entries e WHERE e.secret_id = s.id AND e.version = s.current_version) AS fingerprints`;
const LIST = {
  name: "list_secret_heads",
  text: `SELECT ${COLUMNS} FROM secrets s WHERE s.id > $1 ORDER BY s.id LIMIT $2`,
};
// Whatever is committed later has a transaction that is not older than the oldest one that runs now.
const POSITION = {
  name: "secrets_position",
  text: "SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS position, pg_snapshot_xmax(pg_current_snapshot())::text AS latest",
};
// By the system column, which each write moves, so that no index of ours has to; it counts to 2^32 and begins anew. What seems to
// be written since and was not is only looked at once more.
const CHANGED = {
  name: "changed_secret_heads",
  text: `SELECT ${COLUMNS} FROM secrets s
         WHERE (s.xmin::text::bigint - $1::bigint % 4294967296 + 4294967296) % 4294967296 < 2147483648`,
};
const LOWEST_UUID = "00000000-0000-0000-0000-000000000000";

interface HeadRow extends IdentityRow {
  readonly id: string;
  readonly state: SecretState;
  readonly current_version: number;
  readonly generation: string;
  readonly fingerprints: SecretHead["fingerprints"] | null;
}

export class PostgresSecretHeads implements SecretHeads {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async position(): Promise<bigint> {
    return (await this.#here()).position;
  }

  async list(after: string | undefined, limit: number): Promise<readonly SecretHead[]> {
    return (await read<HeadRow>(this.#database, LIST, [after ?? LOWEST_UUID, limit])).map(headOf);
  }

  async changedSince(position: bigint) {
    const here = await this.#here();
    if (position > here.latest) return undefined;
    const heads = (await read<HeadRow>(this.#database, CHANGED, [position])).map(headOf);
    return { heads, position: here.position };
  }

  async #here(): Promise<{ readonly position: bigint; readonly latest: bigint }> {
    const [row] = await read<{ position: string; latest: string }>(this.#database, POSITION, []);
    return { position: BigInt(row?.position ?? 0), latest: BigInt(row?.latest ?? 0) };
  }
}

const headOf = (row: HeadRow): SecretHead => ({
  id: row.id,
  identity: identityOf(row),
  state: row.state,
  currentVersion: row.current_version,
  generation: BigInt(row.generation),
  fingerprints: row.fingerprints ?? [],
});
