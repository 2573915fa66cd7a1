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
import { type Cut, KeptRows } from "./cut.ts";

/** A place of the chain that somebody vouches for who is not the record itself. */
export interface Anchor extends ChainPosition {
  /** True where it was kept outside of the database. */
  readonly external: boolean;
}

export interface VerificationParts {
  /** Whether a row is as it was written. */
  readonly rowHolds: (row: RecordedRow) => boolean;
  readonly headHolds: (head: ChainHead) => boolean;
  readonly cutHolds?: (cut: Cut) => boolean;
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
  readonly cut?: Cut | undefined;
}

type Failure = Extract<AuditVerdict, { ok: false }>;

export async function verifyRecord(
  record: RecordPages,
  parts: VerificationParts,
  onProgress?: (rows: number) => void,
): Promise<AuditVerdict> {
  const { cut } = record;
  const checkpoints = flatten(record.checkpoints);
  let checkpoint = await checkpoints.next();
  const walk = new ChainWalk(cut === undefined ? parts : behind(cut, parts));
  if (cut !== undefined) {
    if (!walk.begin(cut, checkpoint.value)) return walk.verdict();
    for (checkpoint = await checkpoints.next(); checkpoint.value?.position === cut.position; ) {
      if (!walk.checkpoint(checkpoint.value)) return walk.verdict();
      checkpoint = await checkpoints.next();
    }
  }
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

/** What is anchored further down cannot be compared any more. */
const behind = (cut: Cut, parts: VerificationParts): VerificationParts => ({
  ...parts,
  start: cut,
  anchors: (parts.anchors ?? []).filter(({ position }) => position > cut.position),
});

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
  #kept: KeptRows | undefined;
  /** Of the rows since the last checkpoint, and of all before. */
  #since = new Map<string, Seen>();
  readonly #before = new Map<string, Seen>();

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

  /** The cut that the record begins with, and the first checkpoint that is there. */
  begin(cut: Cut, first: Checkpoint | undefined): boolean {
    if (this.#parts.cutHolds?.(cut) !== true) return this.#fail(cut.position, "cutForged");
    if (first?.number !== cut.checkpoint || first.position !== cut.position || !first.link.equals(cut.link))
      return this.#fail(cut.position, "checkpointMissing", cut.checkpoint);
    const fault = this.#parts.checkpoints.next(first, first.number);
    if (fault !== undefined) return this.#fail(cut.position, fault, first.number);
    this.#checkpoints += 1;
    this.#kept = new KeptRows(cut);
    return true;
  }

  /** False from the first fault on. */
  row(row: RecordedRow): boolean {
    const start = this.#parts.start;
    if (this.#kept !== undefined && start !== undefined) {
      if (isLinked(row) && row.position <= start.position) return this.#keptRow(row, this.#kept);
      if (!this.#endKept()) return false;
    }
    if (!isLinked(row)) {
      if (!this.#parts.rowHolds(row)) return this.#fail(row.sequence, "macDiffers");
      this.#unlinked += 1;
      add(this.#since, row.writerId, { counter: row.counter, least: row.counter, rows: 1 });
      return true;
    }
    const fault = this.#faultOf(row);
    if (fault !== undefined) return this.#fail(row.sequence, fault);
    this.#previous = row.link;
    this.#position = row.position;
    add(this.#since, row.writerId, { counter: row.counter, least: row.counter, rows: 1 });
    return this.#passAnchors(row);
  }

  checkpoint(checkpoint: Checkpoint): boolean {
    const fault = this.#parts.checkpoints.next(checkpoint) ?? this.#differs(checkpoint);
    if (fault !== undefined) return this.#fail(checkpoint.position, fault, checkpoint.number);
    this.#checkpoints += 1;
    for (const [writerId, seen] of this.#since) add(this.#before, writerId, seen);
    this.#since = new Map();
    return true;
  }

  /** There is a checkpoint above the last row. */
  beyondTheEnd(checkpoint: Checkpoint): void {
    const fault = this.#parts.checkpoints.next(checkpoint) ?? "rowMissing";
    this.#fail(fault === "rowMissing" ? this.#position + 1n : checkpoint.position, fault, checkpoint.number);
  }

  finish(head: ChainHead): void {
    if (this.#failure !== undefined || !this.#endKept()) return;
    const anchor = this.#anchors[this.#anchor];
    if (!this.#parts.headHolds(head)) this.#fail(head.position, "headForged");
    else if (head.position > this.#position) this.#fail(this.#position + 1n, "rowMissing");
    else if (head.position < this.#position || !head.link.equals(this.#previous))
      this.#fail(head.position, "headOlder");
    else if (anchor !== undefined) this.#fail(this.#position + 1n, "anchorMissed");
  }

  verdict(): AuditVerdict {
    if (this.#failure !== undefined) return this.#failure;
    for (const [writerId, seen] of this.#since) add(this.#before, writerId, seen);
    const { last } = this.#parts.checkpoints;
    // What a writer had numbered before the record begins is not missing.
    const isWhole = this.#parts.start === undefined;
    return {
      ok: true,
      linked: Number(this.#position),
      unlinked: this.#unlinked,
      head: this.#previous.toString("hex"),
      checkpoints: this.#checkpoints,
      signedTo: Number(last?.position ?? 0n),
      anchoredTo: Number(this.#anchored),
      ...(this.#parts.start !== undefined && { removedTo: Number(this.#parts.start.position) }),
      missingNumbers: Number(
        [...this.#before.values()].reduce(
          (sum, { counter, least, rows }) => sum + counter - (isWhole ? 0n : least - 1n) - BigInt(rows),
          0n,
        ),
      ),
    };
  }

  #keptRow(row: LinkedRow, kept: KeptRows): boolean {
    if (!this.#parts.rowHolds(row)) return this.#fail(row.sequence, "macDiffers");
    kept.take(row);
    return true;
  }

  #endKept(): boolean {
    const kept = this.#kept;
    this.#kept = undefined;
    return kept === undefined || kept.areAll || this.#fail(this.#position, "keptDiffer");
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

/** The highest and the least number of a writer that were seen, and how many. */
interface Seen {
  counter: bigint;
  least: bigint;
  rows: number;
}

function add(into: Map<string, Seen>, writerId: string, { counter, least, rows }: Readonly<Seen>): void {
  const known = into.get(writerId);
  if (known === undefined) {
    into.set(writerId, { counter, least, rows });
    return;
  }
  if (counter > known.counter) known.counter = counter;
  if (least < known.least) known.least = least;
  known.rows += rows;
}

function sameCounts(stated: readonly WriterCount[], found: ReadonlyMap<string, Seen>) {
  return (
    stated.length === found.size &&
    stated.every(({ writerId, counter, rows }) => {
      const seen = found.get(writerId);
      return seen !== undefined && seen.counter === counter && seen.rows === rows;
    })
  );
}
