/** Up to where the record can be cut, and what stays of that. */
import { Unavailable } from "../errors.ts";
import { isLinked, type RecordedRow } from "./chain.ts";
import { type Checkpoint, CheckpointSequence, type SigningKey } from "./checkpoint.ts";
import { type Cut, cutHolds, isKept, keptHashOf, NOTHING_KEPT, signCut } from "./cut.ts";
import { ChainWalk } from "./verification.ts";

/** At most so many rows at once, or those up to the next checkpoint. */
const LARGEST_CUT = 5_000n;

/** The record as it is found before it is cut. */
export interface Cuttable {
  readonly installationId: string;
  readonly keys: readonly SigningKey[];
  readonly rowHolds: (row: RecordedRow) => boolean;
  readonly last: Cut | undefined;
  /** The checkpoint of the last cut, if there was one, and those behind it that may be cut at, in their order. */
  readonly checkpoints: readonly Checkpoint[];
  /** Rows behind the last cut, in their order, up to a position. */
  rows(upTo: bigint): Promise<readonly RecordedRow[]>;
  readonly at: Date;
}

/**
 * The next cut; undefined when nothing may go. What is about to be removed is verified once more: a fault must not
 * disappear together with the rows that show it. Throws `Unavailable("TamperDetected")`.
 */
export async function nextCut(found: Cuttable): Promise<Cut | undefined> {
  const { installationId, keys, last, rowHolds, at } = found;
  const publicKeys = new Map(keys.map(({ version, publicKey }) => [version, publicKey]));
  if (last !== undefined && !cutHolds(installationId, last, publicKeys.get(last.keyVersion))) throw tampered("its cut");
  const sequence = new CheckpointSequence(installationId, publicKeys);
  const behind = [...found.checkpoints];
  if (last !== undefined) {
    const first = behind.shift();
    const same = first?.position === last.position && first.link.equals(last.link);
    if (first === undefined || !same || sequence.next(first, last.checkpoint) !== undefined) throw tampered("its cut");
  }
  const from = last?.position ?? 0n;
  const to = behind.findLast(({ position }) => position - from <= LARGEST_CUT) ?? behind[0];
  const signer = keys.at(-1);
  if (to === undefined || signer === undefined) return undefined;
  const rows = await found.rows(to.position);
  const walk = new ChainWalk({
    rowHolds,
    headHolds: () => true,
    checkpoints: sequence,
    ...(last !== undefined && { start: last }),
  });
  const passed = behind.slice(0, behind.indexOf(to) + 1);
  if (!walkOver(walk, rows, passed)) throw tampered("what is to be removed from it");
  const kept = rows.filter(isLinked).filter(isKept);
  const statement = {
    checkpoint: to.number,
    position: to.position,
    link: to.link,
    kept: (last?.kept ?? 0n) + BigInt(kept.length),
    keptHash: kept.reduce(keptHashOf, last?.keptHash ?? NOTHING_KEPT),
    at,
    keyVersion: signer.version,
  };
  return signCut(installationId, statement, signer);
}

function walkOver(walk: ChainWalk, rows: readonly RecordedRow[], checkpoints: readonly Checkpoint[]): boolean {
  let next = 0;
  // Several can stand at one place, also where the record was cut.
  const pass = (): boolean => {
    for (let each = checkpoints[next]; each?.position === walk.end.position; each = checkpoints[next]) {
      if (!walk.checkpoint(each)) return false;
      next += 1;
    }
    return true;
  };
  return pass() && rows.every((row) => walk.row(row) && pass()) && next === checkpoints.length;
}

const tampered = (what: string): Unavailable =>
  new Unavailable("TamperDetected", `the audit record is not cut, since ${what} does not verify; see the runbook`);
