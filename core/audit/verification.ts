/**
 * Walks the record once: the chain in the order of positions beside the checkpoints in the order of their numbers, then
 * what is not linked yet. It proves that what stands there is whole, unchanged and in order. That the newest rows were
 * cut off together with their checkpoints and an older head, only an anchor from outside of the database can exclude.
 */
import type { AuditFault, AuditVerdict } from "../ports/audit-log.ts";
import {
  type ChainHead,
  type ChainPosition,
  GENESIS,
  isLinked,
  type LinkedRow,
  linkOf,
  type RecordedRow,
} from "./chain.ts";
import type { Checkpoint, CheckpointSequence, WriterCount } from "./checkpoint.ts";

/** A place of the chain that somebody vouches for who is not the record itself. */
export interface Anchor extends ChainPosition {
  /** True where it was kept outside of the database. */
  readonly external: boolean;
}

export interface VerificationParts {
  /** Whether a row is as it was written. */
  readonly rowHolds: (row: RecordedRow) => boolean;
  readonly headHolds: (head: ChainHead) => boolean;
  readonly checkpoints: CheckpointSequence;
  /** In the order of positions. */
  readonly anchors?: readonly Anchor[];
  /** Where it begins; the beginning of the chain when absent. */
  readonly start?: ChainPosition;
}

/** What is found in the record; pages, so that a long one needs no more memory than a short one. */
export interface RecordPages {
  readonly head: ChainHead;
  /** Linked rows by position, then the others. */
  readonly rows: AsyncIterable<readonly RecordedRow[]>;
  /** By number. */
  readonly checkpoints: AsyncIterable<readonly Checkpoint[]>;
}

type Failure = Extract<AuditVerdict, { ok: false }>;

export async function verifyRecord(
  record: RecordPages,
  parts: VerificationParts,
  onProgress?: (rows: number) => void,
): Promise<AuditVerdict> {
  const walk = new ChainWalk(parts);
  const checkpoints = flatten(record.checkpoints);
  let checkpoint = await checkpoints.next();
  for await (const page of record.rows) {
    for (const row of page) {
      if (!walk.row(row)) return walk.verdict();
      while (!checkpoint.done && checkpoint.value.position === row.position) {
        if (!walk.checkpoint(checkpoint.value)) return walk.verdict();
        checkpoint = await checkpoints.next();
      }
      // One whose place has passed.
      if (!checkpoint.done && isLinked(row) && checkpoint.value.position < row.position) {
        walk.checkpoint(checkpoint.value);
        return walk.verdict();
      }
    }
    onProgress?.(walk.rows);
  }
  if (!checkpoint.done) walk.beyondTheEnd(checkpoint.value);
  walk.finish(record.head);
  return walk.verdict();
}

async function* flatten<T>(pages: AsyncIterable<readonly T[]>): AsyncGenerator<T, undefined> {
  for await (const page of pages) yield* page;
  return undefined;
}

/** One walk over rows and checkpoints in their order. */
export class ChainWalk {
  readonly #parts: VerificationParts;
  readonly #anchors: readonly Anchor[];
  #anchor = 0;
  #anchored = 0n;
  #previous: Buffer = GENESIS;
  #position = 0n;
  #unlinked = 0;
  #checkpoints = 0;
  #failure: Failure | undefined;
  /** Of the rows since the last checkpoint, and of all before. */
  #since = new Map<string, { counter: bigint; rows: number }>();
  readonly #before = new Map<string, { counter: bigint; rows: number }>();

  constructor(parts: VerificationParts) {
    this.#parts = parts;
    this.#anchors = parts.anchors ?? [];
    if (parts.start !== undefined) ({ position: this.#position, link: this.#previous } = parts.start);
  }

  get end(): ChainPosition {
    return { position: this.#position, link: this.#previous };
  }

  get rows(): number {
    return Number(this.#position) + this.#unlinked;
  }

  /** False from the first fault on. */
  row(row: RecordedRow): boolean {
    if (!isLinked(row)) {
      if (!this.#parts.rowHolds(row)) return this.#fail(row.sequence, "macDiffers");
      this.#unlinked += 1;
      count(this.#since, row.writerId, row.counter, 1);
      return true;
    }
    const fault = this.#faultOf(row);
    if (fault !== undefined) return this.#fail(row.sequence, fault);
    this.#previous = row.link;
    this.#position = row.position;
    count(this.#since, row.writerId, row.counter, 1);
    return this.#passAnchors(row);
  }

  checkpoint(checkpoint: Checkpoint): boolean {
    const fault = this.#parts.checkpoints.next(checkpoint) ?? this.#differs(checkpoint);
    if (fault !== undefined) return this.#fail(checkpoint.position, fault, checkpoint.number);
    this.#checkpoints += 1;
    for (const [writerId, { counter, rows }] of this.#since) count(this.#before, writerId, counter, rows);
    this.#since = new Map();
    return true;
  }

  /** There is a checkpoint above the last row. */
  beyondTheEnd(checkpoint: Checkpoint): void {
    const fault = this.#parts.checkpoints.next(checkpoint) ?? "rowMissing";
    this.#fail(fault === "rowMissing" ? this.#position + 1n : checkpoint.position, fault, checkpoint.number);
  }

  finish(head: ChainHead): void {
    if (this.#failure !== undefined) return;
    const anchor = this.#anchors[this.#anchor];
    if (!this.#parts.headHolds(head)) this.#fail(head.position, "headForged");
    else if (head.position > this.#position) this.#fail(this.#position + 1n, "rowMissing");
    else if (head.position < this.#position || !head.link.equals(this.#previous))
      this.#fail(head.position, "headOlder");
    else if (anchor !== undefined) this.#fail(this.#position + 1n, "anchorMissed");
  }

  verdict(): AuditVerdict {
    if (this.#failure !== undefined) return this.#failure;
    for (const [writerId, { counter, rows }] of this.#since) count(this.#before, writerId, counter, rows);
    const { last } = this.#parts.checkpoints;
    return {
      ok: true,
      linked: Number(this.#position),
      unlinked: this.#unlinked,
      head: this.#previous.toString("hex"),
      checkpoints: this.#checkpoints,
      signedTo: Number(last?.position ?? 0n),
      anchoredTo: Number(this.#anchored),
      missingNumbers: Number(
        [...this.#before.values()].reduce((sum, { counter, rows }) => sum + counter - BigInt(rows), 0n),
      ),
    };
  }

  #faultOf(row: LinkedRow): AuditFault | undefined {
    const expected = this.#position + 1n;
    if (row.position > expected) return "rowMissing";
    if (row.position < expected) return "chainBroken";
    if (!this.#parts.rowHolds(row)) return "macDiffers";
    return linkOf(this.#previous, row.position, row).equals(row.link) ? undefined : "chainBroken";
  }

  #passAnchors({ position, link, sequence }: LinkedRow): boolean {
    for (let anchor = this.#anchors[this.#anchor]; anchor?.position === position; ) {
      if (!anchor.link.equals(link)) return this.#fail(sequence, "anchorMissed");
      if (anchor.external) this.#anchored = position;
      this.#anchor += 1;
      anchor = this.#anchors[this.#anchor];
    }
    return true;
  }

  #differs({ position, link, writers }: Checkpoint): AuditFault | undefined {
    if (position !== this.#position || !link.equals(this.#previous)) return "checkpointDiffers";
    return sameCounts(writers, this.#since) ? undefined : "countersDiffer";
  }

  #fail(row: bigint, fault: AuditFault, checkpoint?: bigint): false {
    this.#failure ??= { ok: false, row, fault, ...(checkpoint !== undefined && { checkpoint }) };
    return false;
  }
}

function count(into: Map<string, { counter: bigint; rows: number }>, writerId: string, counter: bigint, rows: number) {
  const known = into.get(writerId);
  if (known === undefined) {
    into.set(writerId, { counter, rows });
    return;
  }
  if (counter > known.counter) known.counter = counter;
  known.rows += rows;
}

function sameCounts(stated: readonly WriterCount[], found: ReadonlyMap<string, { counter: bigint; rows: number }>) {
  return (
    stated.length === found.size &&
    stated.every(({ writerId, counter, rows }) => {
      const seen = found.get(writerId);
      return seen !== undefined && seen.counter === counter && seen.rows === rows;
    })
  );
}
