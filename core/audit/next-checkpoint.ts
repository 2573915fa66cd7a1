/** When the linker signs, and what. */
import { Unavailable } from "../errors.ts";
import type { CheckpointDue } from "../ports/audit-log.ts";
import type { ChainHead } from "./chain.ts";
import {
  type Checkpoint,
  checkpointHash,
  checkpointHolds,
  NO_CHECKPOINT,
  type SigningKey,
  signCheckpoint,
  signerAfter,
  spki,
  type WriterCount,
} from "./checkpoint.ts";

/** The record as the linker finds it. */
export interface Standing {
  readonly installationId: string;
  readonly keys: readonly SigningKey[];
  readonly head: Pick<ChainHead, "position" | "link">;
  readonly last: Checkpoint | undefined;
  /** The link of the row where the last checkpoint stands. */
  readonly linkAtLast: Buffer | undefined;
  readonly epoch: bigint;
  readonly at: Date;
  readonly server: string;
}

/** The database went on from an older state, or as another one: on record, since rows of the time between may be lost. */
export const isForked = ({ last, server }: Pick<Standing, "last" | "server">): boolean =>
  last !== undefined && last.server !== server;

/**
 * The checkpoint that is due; undefined when none is. `writers` tells who wrote the rows since the last one. Throws
 * `Unavailable("TamperDetected")` when what stands there is not to be built on.
 */
export async function nextCheckpoint(
  standing: Standing,
  due: CheckpointDue,
  writers: () => Promise<readonly WriterCount[]>,
): Promise<Checkpoint | undefined> {
  judgeLast(standing);
  if (!isDue(standing, due)) return undefined;
  const { installationId, keys, head, last, epoch, at, server } = standing;
  const signer = last === undefined ? keys.at(-1) : keys.find(({ version }) => version === signerAfter(last));
  if (signer === undefined) throw tampered("the key that signs the next checkpoint of the audit record is gone");
  const successor = keyToHandOverTo(standing);
  const statement = {
    number: (last?.number ?? 0n) + 1n,
    position: head.position,
    link: head.link,
    writers: await writers(),
    epoch,
    at,
    server,
    ...(successor && { handover: { keyVersion: successor.version, publicKey: spki(successor.publicKey) } }),
    previous: last === undefined ? NO_CHECKPOINT : checkpointHash(installationId, last),
    keyVersion: signer.version,
  };
  return signCheckpoint(installationId, statement, signer);
}

function judgeLast({ installationId, keys, head, last, linkAtLast }: Standing): void {
  if (last === undefined) return;
  const key = keys.find(({ version }) => version === last.keyVersion);
  if (key === undefined || !checkpointHolds(installationId, last, key.publicKey)) {
    throw tampered(`checkpoint ${last.number} of the audit record does not match its signature`);
  }
  if (last.position > head.position || !linkAtLast?.equals(last.link)) {
    throw tampered(`the audit record does not reach checkpoint ${last.number}, or was changed below it`);
  }
}

function isDue(standing: Standing, due: CheckpointDue): boolean {
  const { head, last, at } = standing;
  if (head.position === 0n) return false;
  if (last === undefined || isForked(standing) || keyToHandOverTo(standing) !== undefined) return true;
  const rows = head.position - last.position;
  return rows > 0n && (rows >= BigInt(due.rows) || at.getTime() - last.at.getTime() >= due.ms);
}

function keyToHandOverTo({ keys, last }: Pick<Standing, "keys" | "last">): SigningKey | undefined {
  const newest = keys.at(-1);
  return last !== undefined && newest !== undefined && newest.version > signerAfter(last) ? newest : undefined;
}

const tampered = (what: string): Unavailable =>
  new Unavailable("TamperDetected", `${what}; see the runbook, and what audit verification says`);
