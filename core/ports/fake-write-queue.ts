import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type { Writer } from "./vault-store.ts";
import type {
  NewQueuedWrite,
  QueuedWrite,
  QueuedWriteState,
  Settlement,
  WaitingWrite,
  WritePlace,
  WriteQueue,
  WriteQueueLength,
  WriteRecipient,
} from "./write-queue.ts";

interface Held extends Omit<NewQueuedWrite, "sealed"> {
  /** Undefined once they were cleared. */
  sealed: NewQueuedWrite["sealed"] | undefined;
  readonly sequence: bigint;
  readonly follows: string | undefined;
  readonly acceptedAt: number;
  settled: { readonly outcome: Settlement["outcome"]; readonly at: number; readonly settlement: number } | undefined;
}

/** A queue in memory, with the contract of the real store. */
export class FakeWriteQueue implements WriteQueue {
  readonly #database: FakeDatabase;
  readonly #held: Held[] = [];
  #sequence = 0n;
  #settlements = 0;
  now: () => number = Date.now;
  /** Told after each commit. */
  onChange: () => void = () => {};

  constructor(database: FakeDatabase) {
    this.#database = database;
  }

  async accept(
    write: NewQueuedWrite,
    most: number,
    audit: readonly AuditEntry[],
  ): Promise<"Accepted" | "Known" | "Full"> {
    if (this.#held.some(({ id }) => id === write.id)) return "Known";
    if (this.#waiting(write.recipient).length >= most) return "Full";
    const before = this.#held.findLast(
      (each) =>
        each.secret.id === write.secret.id &&
        sameRecipient(each.recipient, write.recipient) &&
        ["Waiting", "Applied"].includes(stateOf(each)),
    );
    this.#sequence += 1n;
    const sequence = this.#sequence;
    this.#held.push({ ...write, sequence, follows: before?.id, acceptedAt: this.now(), settled: undefined });
    this.#database.record(audit);
    this.onChange();
    return "Accepted";
  }

  async find(id: string): Promise<QueuedWrite | undefined> {
    const held = this.#held.find((each) => each.id === id);
    return held && this.#shown(held);
  }

  async list(
    { writer, state }: { readonly writer?: string; readonly state?: QueuedWriteState },
    before: bigint | undefined,
    limit: number,
  ): Promise<readonly QueuedWrite[]> {
    return this.#held
      .filter((each) => writer === undefined || each.writer === writer)
      .filter((each) => state === undefined || stateOf(each) === state)
      .filter(({ sequence }) => before === undefined || sequence < before)
      .toReversed()
      .slice(0, limit)
      .map((each) => this.#shown(each));
  }

  async length(recipient: WriteRecipient | undefined): Promise<WriteQueueLength> {
    const waiting = this.#waiting(recipient);
    const oldest = waiting.length === 0 ? undefined : Math.min(...waiting.map(({ acceptedAt }) => acceptedAt));
    return {
      waiting: waiting.length,
      stranded: this.#waiting(undefined).length - waiting.length,
      oldestAgeMs: oldest === undefined ? undefined : Math.max(0, this.now() - oldest),
      refused: this.#held.filter((each) => stateOf(each) === "Refused").length,
    };
  }

  async waiting(
    recipient: WriteRecipient,
    limit: number,
    bytes: number,
    except: readonly WritePlace[],
  ): Promise<readonly WaitingWrite[]> {
    const found: WaitingWrite[] = [];
    let size = 0;
    for (const each of this.#waiting(recipient)) {
      const { place, sealed } = each;
      if (sealed === undefined || except.some((other) => samePlace(other, place))) continue;
      size += sealed.ciphertext.length;
      if (found.length === limit || (found.length > 0 && size > bytes)) break;
      found.push({ ...this.#shown(each), sealed });
    }
    return found;
  }

  async settle(writer: Writer, settlements: readonly Settlement[], audit: readonly AuditEntry[]): Promise<void> {
    this.#database.fence(writer);
    this.#settlements += 1;
    for (const { id, outcome } of settlements) {
      const held = this.#held.find((each) => each.id === id && each.settled === undefined);
      if (held === undefined) continue;
      held.settled = { outcome, at: this.now(), settlement: this.#settlements };
      if (outcome.kind === "Refused") held.sealed = undefined;
    }
    this.#database.record(audit);
    this.onChange();
  }

  async lastSettled(recipient: WriteRecipient, limit: number): Promise<readonly string[]> {
    const settlementOf = ({ settled }: Held): number => settled?.settlement ?? 0;
    const ordered = this.#effective(recipient).toSorted((a, b) => settlementOf(b) - settlementOf(a));
    return ordered.slice(0, limit).map(({ id }) => id);
  }

  async settled(
    recipient: WriteRecipient,
    after: bigint | undefined,
    limit: number,
  ): Promise<readonly Pick<QueuedWrite, "id" | "sequence">[]> {
    const following = this.#effective(recipient).filter(({ sequence }) => sequence > (after ?? 0n));
    return following.slice(0, limit).map(({ id, sequence }) => ({ id, sequence }));
  }

  async requeue(writer: Writer, ids: readonly string[], audit: readonly AuditEntry[]): Promise<void> {
    this.#database.fence(writer);
    for (const each of this.#effective(undefined)) if (ids.includes(each.id)) each.settled = undefined;
    this.#database.record(audit);
    this.onChange();
  }

  async clearSettled(writer: Writer, limit: number): Promise<number> {
    this.#database.fence(writer);
    const valued = this.#held.filter(({ settled, sealed }) => settled !== undefined && sealed !== undefined);
    const cleared = valued.slice(0, limit);
    for (const each of cleared) each.sealed = undefined;
    return cleared.length;
  }

  async forget(writer: Writer, olderThanMs: number, limit: number): Promise<number> {
    this.#database.fence(writer);
    const isOld = ({ settled }: Held) => settled !== undefined && settled.at < this.now() - olderThanMs;
    const old = this.#held.filter(isOld).slice(0, limit);
    for (const each of old) this.#held.splice(this.#held.indexOf(each), 1);
    return old.length;
  }

  #waiting(recipient: WriteRecipient | undefined): readonly Held[] {
    return this.#of(recipient).filter(({ settled }) => settled === undefined);
  }

  #effective(recipient: WriteRecipient | undefined): readonly Held[] {
    return this.#of(recipient).filter(
      (each) => ["Applied", "KeptBeside"].includes(stateOf(each)) && each.sealed !== undefined,
    );
  }

  #of(recipient: WriteRecipient | undefined): readonly Held[] {
    return this.#held.filter((each) => recipient === undefined || sameRecipient(each.recipient, recipient));
  }

  #shown(held: Held): QueuedWrite {
    const { acceptedAt, settled, sealed: _, ...write } = held;
    return {
      ...write,
      ageMs: Math.max(0, this.now() - acceptedAt),
      state: stateOf(held),
      outcome: settled?.outcome,
      settledForMs: settled && Math.max(0, this.now() - settled.at),
    };
  }
}

const stateOf = ({ settled }: Held): QueuedWriteState => settled?.outcome.kind ?? "Waiting";

const samePlace = (one: WritePlace, other: WritePlace): boolean =>
  one.namespace === other.namespace && one.name === other.name;

const sameRecipient = (one: WriteRecipient, other: WriteRecipient): boolean =>
  one.gatewayEnvironment === other.gatewayEnvironment && one.rootDigest.equals(other.rootDigest);
