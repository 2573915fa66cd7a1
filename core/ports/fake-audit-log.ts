import { type ChainHead, headMacHolds, isLinked, type LinkedRow, type RecordedRow } from "../audit/chain.ts";
import { type Checkpoint, CheckpointSequence, type WriterCount } from "../audit/checkpoint.ts";
import { type Cut, cutEntry, cutHolds, isKept } from "../audit/cut.ts";
import { nextCheckpoint } from "../audit/next-checkpoint.ts";
import { nextCut } from "../audit/next-cut.ts";
import { rowHolds } from "../audit/row.ts";
import { verifyRecord } from "../audit/verification.ts";
import type {
  Actor,
  AuditEntry,
  AuditFilter,
  AuditLog,
  AuditVerdict,
  CheckpointDue,
  VerifyOptions,
} from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";

/** The audit record in memory; its rows, links and signatures are real ones. */
export class FakeAuditLog implements AuditLog {
  readonly #database: FakeDatabase;

  constructor(database: FakeDatabase) {
    this.#database = database;
  }

  async append(entries: readonly AuditEntry[]): Promise<void> {
    this.#database.record(entries);
  }

  async link(epoch: bigint, limit: number): Promise<number> {
    this.#database.fence({ epoch });
    return this.#database.link(limit);
  }

  async checkpoint(epoch: bigint, due: CheckpointDue): Promise<Checkpoint | undefined> {
    this.#database.fence({ epoch });
    const { checkpoints, head, signer, signingKeys: keys } = this.#database;
    const last = checkpoints.at(-1);
    const standing = {
      installationId: signer.signingKeys.installationId,
      keys,
      head,
      last,
      linkAtLast: this.#linked.find(({ position }) => position === last?.position)?.link,
      epoch,
      at: new Date(),
      server: "fake",
    };
    const made = await nextCheckpoint(standing, due, async () => this.#writersSince(last?.position ?? 0n));
    if (made !== undefined) checkpoints.push(made);
    return made;
  }

  async cut(epoch: bigint, before: Date): Promise<Cut | undefined> {
    this.#database.fence({ epoch });
    const { audit, checkpoints, cut: last, sinks, signer, signingKeys: keys } = this.#database;
    const delivered = [...sinks.values()].map(({ cursor }) => cursor.checkpoint);
    const newest = checkpoints.at(-1)?.position ?? 0n;
    const mayGo = ({ number, position, at }: Checkpoint) =>
      number > (last?.checkpoint ?? 0n) &&
      position < newest &&
      at < before &&
      delivered.every((each) => number <= each);
    const made = await nextCut({
      installationId: signer.signingKeys.installationId,
      keys,
      rowHolds: (row) => rowHolds(signer.key, row),
      last,
      checkpoints: checkpoints.filter(
        (each) => each.number === last?.checkpoint || (delivered.length > 0 && mayGo(each)),
      ),
      rows: async (upTo) =>
        this.#linked.filter(({ position }) => position > (last?.position ?? 0n) && position <= upTo),
      at: new Date(),
    });
    if (made === undefined) return undefined;
    const goes = (row: RecordedRow) => isLinked(row) && row.position <= made.position && !isKept(row);
    const stays = audit.filter((row) => !goes(row));
    const removed = audit.length - stays.length;
    audit.splice(0, audit.length, ...stays);
    checkpoints.splice(
      0,
      checkpoints.findIndex(({ number }) => number === made.checkpoint),
    );
    this.#database.cut = made;
    this.#database.record([cutEntry(made, removed)]);
    return made;
  }

  async verify({ anchors = [], onProgress }: VerifyOptions = {}): Promise<AuditVerdict> {
    const { audit, checkpoints, cut, head, signer, signingKeys } = this.#database;
    const { installationId } = signer.signingKeys;
    const publicKeys = new Map(signingKeys.map(({ version, publicKey }) => [version, publicKey]));
    return verifyRecord(
      { head, rows: once(audit), checkpoints: once(checkpoints), cut },
      {
        rowHolds: (row) => rowHolds(signer.key, row),
        headHolds: (each) => headMacHolds(signer.key, each),
        cutHolds: (each) => cutHolds(installationId, each, publicKeys.get(each.keyVersion)),
        checkpoints: new CheckpointSequence(installationId, publicKeys),
        anchors: anchors.map((anchor) => ({ ...anchor, external: true })),
      },
      onProgress && ((rows) => onProgress(rows, Number(head.position))),
    );
  }

  async read(filter: AuditFilter, after: bigint | undefined, limit: number): Promise<readonly RecordedRow[]> {
    const newestFirst = filter.order === "NewestFirst";
    const rows = filter.linked === true ? this.#linked : this.#database.audit;
    const behind = ({ sequence, position = 0n }: RecordedRow) => {
      const key = filter.linked === true ? position : sequence;
      return after === undefined || (newestFirst ? key < after : key > after);
    };
    const found = rows.filter((row) => behind(row) && matches(row, filter));
    return (newestFirst ? found.toReversed() : found).slice(0, limit);
  }

  async head(): Promise<ChainHead> {
    return this.#database.head;
  }

  async chain(after: bigint, limit: number): Promise<readonly LinkedRow[]> {
    const from = [after, this.#database.cut?.position ?? 0n].reduce((a, b) => (a > b ? a : b));
    return this.#linked.filter(({ position }) => position > from).slice(0, limit);
  }

  async checkpoints(after: bigint, limit: number): Promise<readonly Checkpoint[]> {
    return this.#database.checkpoints.filter(({ number }) => number > after).slice(0, limit);
  }

  async lastCheckpoint(upTo: bigint): Promise<Checkpoint | undefined> {
    return this.#database.checkpoints.findLast(({ position }) => position <= upTo);
  }

  async lastCut(): Promise<Cut | undefined> {
    return this.#database.cut;
  }

  get #linked(): readonly LinkedRow[] {
    return this.#database.audit.filter(isLinked).sort((a, b) => Number(a.position - b.position));
  }

  #writersSince(after: bigint): readonly WriterCount[] {
    const rows = Map.groupBy(
      this.#linked.filter(({ position }) => position > after),
      ({ writerId }) => writerId,
    );
    return [...rows]
      .map(([writerId, of]) => ({ writerId, counter: of.reduce(highest, 0n), rows: of.length }))
      .sort((a, b) => (a.writerId < b.writerId ? -1 : 1));
  }
}

const highest = (most: bigint, { counter }: LinkedRow): bigint => (counter > most ? counter : most);

async function* once<T>(all: readonly T[]): AsyncGenerator<readonly T[]> {
  yield all;
}

function matches({ entry, at }: RecordedRow, { action, actor, subject = {}, outcome, from, to }: AuditFilter): boolean {
  const whole = { action: entry.action, outcome: entry.outcome, ...entry.subject } as const;
  return (
    (action ?? whole.action) === whole.action &&
    (outcome ?? whole.outcome) === whole.outcome &&
    (subject.kind ?? whole.kind) === whole.kind &&
    (subject.id ?? whole.id) === whole.id &&
    (subject.name ?? whole.name) === whole.name &&
    (actor === undefined || namesOf(entry.actor).includes(actor)) &&
    (from === undefined || at >= from) &&
    (to === undefined || at < to)
  );
}

const namesOf = (actor: Actor): readonly unknown[] =>
  actor.kind === "Object" ? [actor.uid] : actor.kind === "Controller" ? [actor.name] : [actor.subject];
