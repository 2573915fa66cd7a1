import type pg from "pg";
import type { Checkpoint } from "../../core/audit/checkpoint.ts";

/** Columns of `audit_checkpoints`, as `CheckpointRow` has them. */
export const CHECKPOINT_COLUMNS =
  "number, position, link, writers, epoch, at, server, handover, previous, key_version, signature";

export interface CheckpointRow {
  readonly number: string;
  readonly position: string;
  readonly link: Buffer;
  readonly writers: readonly { readonly writerId: string; readonly counter: string; readonly rows: number }[];
  readonly epoch: string;
  readonly at: Date;
  readonly server: string;
  readonly handover: { readonly keyVersion: number; readonly publicKey: string } | null;
  readonly previous: Buffer;
  readonly key_version: number;
  readonly signature: Buffer;
}

export function checkpoint(row: CheckpointRow): Checkpoint {
  const { number, position, writers, epoch, handover, key_version: keyVersion, ...same } = row;
  const plain = { ...same, number: BigInt(number), position: BigInt(position), epoch: BigInt(epoch), keyVersion };
  try {
    return {
      ...plain,
      writers: writers.map(({ counter, ...writer }) => ({ ...writer, counter: BigInt(counter) })),
      ...(handover && {
        handover: { keyVersion: handover.keyVersion, publicKey: Buffer.from(handover.publicKey, "base64") },
      }),
    };
  } catch {
    // Not of the form that we write: nobody signed it.
    return { ...plain, writers: [], signature: Buffer.alloc(0) };
  }
}

export async function insertCheckpoint(client: pg.ClientBase, made: Checkpoint): Promise<void> {
  const { number, position, link, writers, epoch, at, server, handover, previous, keyVersion, signature } = made;
  await client.query(
    `INSERT INTO audit_checkpoints (${CHECKPOINT_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
    [
      number.toString(),
      position.toString(),
      link,
      JSON.stringify(writers.map(({ counter, ...writer }) => ({ ...writer, counter: counter.toString() }))),
      epoch.toString(),
      at,
      server,
      handover === undefined
        ? null
        : JSON.stringify({ keyVersion: handover.keyVersion, publicKey: handover.publicKey.toString("base64") }),
      previous,
      keyVersion,
      signature,
    ],
  );
}
