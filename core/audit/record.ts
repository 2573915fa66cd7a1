/** Rows and checkpoints as they leave: one JSON object each, with everything that proves them. */
import type { AuditBatch } from "../ports/audit-sink.ts";
import type { LinkedRow } from "./chain.ts";
import type { Checkpoint } from "./checkpoint.ts";

export type RowRecord = ReturnType<typeof rowRecord>;
export type CheckpointRecord = ReturnType<typeof checkpointRecord>;
export type AuditRecord = RowRecord | CheckpointRecord;

/** Digests are hexadecimal. */
export function rowRecord({ sequence, position, at, entry, writerId, counter, digest, mac, link }: LinkedRow) {
  const { action, outcome, actor, subject, details } = entry;
  const { generation, ...named } = subject;
  return {
    type: "row" as const,
    position: Number(position),
    sequence: Number(sequence),
    at: at.toISOString(),
    action,
    outcome,
    actor,
    subject: { ...named, ...(generation !== undefined && { generation: Number(generation) }) },
    details,
    writer: writerId,
    counter: Number(counter),
    ...(digest && { digest: digest.toString("hex") }),
    mac: mac.toString("hex"),
    link: link.toString("hex"),
  };
}

/** Digests are hexadecimal, signature and key base64. */
export function checkpointRecord(checkpoint: Checkpoint) {
  const { number, position, link, writers, epoch, at, server, handover, previous, keyVersion, signature } = checkpoint;
  return {
    type: "checkpoint" as const,
    number: Number(number),
    position: Number(position),
    at: at.toISOString(),
    link: link.toString("hex"),
    writers: writers.map(({ writerId, counter, rows }) => ({ writer: writerId, counter: Number(counter), rows })),
    epoch: Number(epoch),
    server,
    ...(handover && {
      handover: { keyVersion: handover.keyVersion, publicKey: handover.publicKey.toString("base64") },
    }),
    previous: previous.toString("hex"),
    keyVersion,
    signature: signature.toString("base64"),
  };
}

/** The opposite of `rowRecord`; undefined for what is none. */
export function rowOf(record: RowRecord): LinkedRow | undefined {
  try {
    const { generation, ...named } = record.subject;
    return {
      writerId: record.writer,
      counter: BigInt(record.counter),
      at: new Date(record.at),
      entry: {
        action: record.action,
        actor: record.actor,
        subject: { ...named, ...(generation !== undefined && { generation: BigInt(generation) }) },
        outcome: record.outcome,
        details: record.details,
      },
      digest: record.digest === undefined ? undefined : Buffer.from(record.digest, "hex"),
      mac: Buffer.from(record.mac, "hex"),
      sequence: BigInt(record.sequence),
      position: BigInt(record.position),
      link: Buffer.from(record.link, "hex"),
    };
  } catch {
    return undefined;
  }
}

/** The opposite of `checkpointRecord`; undefined for what is none. */
export function checkpointOf(record: CheckpointRecord): Checkpoint | undefined {
  try {
    const { handover } = record;
    return {
      number: BigInt(record.number),
      position: BigInt(record.position),
      link: Buffer.from(record.link, "hex"),
      writers: record.writers.map(({ writer, counter, rows }) => ({
        writerId: writer,
        counter: BigInt(counter),
        rows,
      })),
      epoch: BigInt(record.epoch),
      at: new Date(record.at),
      server: record.server,
      ...(handover && {
        handover: { keyVersion: handover.keyVersion, publicKey: Buffer.from(handover.publicKey, "base64") },
      }),
      previous: Buffer.from(record.previous, "hex"),
      keyVersion: record.keyVersion,
      signature: Buffer.from(record.signature, "base64"),
    };
  } catch {
    return undefined;
  }
}

/** In the order of positions, each checkpoint behind the row that it was signed over. */
export function recordsOf({ rows, checkpoints }: Pick<AuditBatch, "rows" | "checkpoints">): readonly AuditRecord[] {
  const records: AuditRecord[] = [];
  let next = 0;
  const pass = (before: bigint): void => {
    for (; next < checkpoints.length; next += 1) {
      const checkpoint = checkpoints[next];
      if (checkpoint === undefined || checkpoint.position >= before) return;
      records.push(checkpointRecord(checkpoint));
    }
  };
  for (const row of rows) {
    pass(row.position);
    records.push(rowRecord(row));
  }
  for (const checkpoint of checkpoints.slice(next)) records.push(checkpointRecord(checkpoint));
  return records;
}
