import type pg from "pg";
import type { Cut } from "../../core/audit/cut.ts";

export const CUT = { name: "audit_cut", text: "SELECT * FROM audit_cut" };

export interface CutRow {
  readonly checkpoint: string;
  readonly position: string;
  readonly link: Buffer;
  readonly kept: string;
  readonly kept_hash: Buffer;
  readonly at: Date;
  readonly key_version: number;
  readonly signature: Buffer;
}

export async function readCut(client: pg.ClientBase): Promise<Cut | undefined> {
  const { rows } = await client.query<CutRow>(CUT.text);
  return rows[0] && cutOf(rows[0]);
}

export const cutOf = (row: CutRow): Cut => ({
  checkpoint: BigInt(row.checkpoint),
  position: BigInt(row.position),
  link: row.link,
  kept: BigInt(row.kept),
  keptHash: row.kept_hash,
  at: row.at,
  keyVersion: row.key_version,
  signature: row.signature,
});

/** Stores the statement and removes what is behind it; how many rows that were. */
export async function storeCut(client: pg.ClientBase, cut: Cut): Promise<number> {
  const { checkpoint, position, link, kept, keptHash, at, keyVersion, signature } = cut;
  const { rows } = await client.query<{ removed: string }>(
    "SELECT cut_audit($1, $2, $3, $4, $5, $6, $7, $8) AS removed",
    [checkpoint.toString(), position.toString(), link, kept.toString(), keptHash, at, keyVersion, signature],
  );
  return Number(rows[0]?.removed);
}
