/**
 * Sends a gateway's queue to the primary, in the order in which writes were accepted; only the leader does. The primary does each
 * write once, so what is not known to be settled is sent again.
 *
 * Each request names the writes that were settled last. A primary that was restored to an older state has lost the latest first, so
 * it does not know one of them, does nothing, and says so: then it is asked about all that are kept here, and those that it lost wait
 * again, in their old places, before anything that came after them.
 */
import type { z } from "zod";
import { Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor, AuditEntry } from "../ports/audit-log.ts";
import type { PrimaryLink } from "../ports/primary-link.ts";
import type { Writer } from "../ports/vault-store.ts";
import type {
  QueuedWrite,
  Settlement,
  WaitingWrite,
  WritePlace,
  WriteQueue,
  WriteRecipient,
} from "../ports/write-queue.ts";
import { openValues, type QueueKeys } from "./sealed-values.ts";
import {
  type GatewayWrite,
  KNOWN_WRITES_PATH,
  knownWritesAnswer,
  MOST_KNOWN,
  MOST_WRITES,
  WRITES_PATH,
  type WritesAnswer,
  writesAnswer,
} from "./writes.ts";

export interface WriteDrainParts {
  readonly store: WriteQueue;
  readonly keys: QueueKeys;
  readonly link: PrimaryLink;
  /** Whom the link leads to; undefined while there is nobody. */
  readonly recipient: () => WriteRecipient | undefined;
  /** Whether the primary has put this gateway out. */
  readonly revoked: () => boolean;
  /** In milliseconds; never goes back. */
  readonly elapsed: () => number;
  /** Told after each answer, before others hear of it through the store. */
  readonly onSettled?: () => void;
  /** Told once for each pause of a secret, why it has to wait. */
  readonly onPaused: (place: WritePlace, code: string, detail: string) => void;
}

const ACTOR: Actor = { kind: "Controller", name: "write queue" };
/** Of values in one request, which must fit into what the channel takes. */
const MOST_BYTES = 768 * 1024;
/** So often the primary is asked whether it has what it had, when nothing is sent. */
const ASK_EVERY_MS = 60_000;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
/** Shorter than the primary knows them. */
const KEPT_MS = 7 * 86_400_000;
const FORGET_BATCH = 1_000;
const CLEAR_EVERY_MS = 60_000;

interface Pause {
  readonly place: WritePlace;
  readonly ms: number;
  readonly until: number;
}

export class WriteDrain {
  readonly #parts: WriteDrainParts;
  readonly #pauses = new Map<string, Pause>();
  #askAt = Number.NEGATIVE_INFINITY;
  #clearAt = Number.NEGATIVE_INFINITY;
  /** Of the primary as a whole, which answered that it cannot serve. */
  #primaryPause = { ms: 0, until: Number.NEGATIVE_INFINITY };

  constructor(parts: WriteDrainParts) {
    this.#parts = parts;
  }

  /**
   * Sends what waits, once; whether there may be more at once.
   *
   * @throws Unavailable when the primary did not do it; Fenced
   */
  async turn(writer: Writer, signal: AbortSignal): Promise<boolean> {
    const { store, elapsed } = this.#parts;
    if (this.#parts.revoked()) {
      await this.#clearSettled(writer);
      return false;
    }
    this.#clearAt = Number.NEGATIVE_INFINITY;
    const recipient = this.#parts.recipient();
    if (recipient === undefined || elapsed() < this.#primaryPause.until) return false;
    const paused = [...this.#pauses.values()].map(({ place }) => place).filter((place) => this.#isPaused(place));
    const waiting = await store.waiting(recipient, MOST_WRITES, MOST_BYTES, paused);
    if (waiting.length === 0 && elapsed() < this.#askAt) return false;
    const settled = await store.lastSettled(recipient, MOST_WRITES);
    if (waiting.length === 0 && settled.length === 0) {
      this.#askAt = elapsed() + ASK_EVERY_MS;
      return false;
    }
    const writes = await this.#opened(writer, waiting);
    // It was registered elsewhere meanwhile.
    if (!sameRecipient(this.#parts.recipient(), recipient)) return false;
    failpoint("writequeue.beforeSend");
    const answer = await this.#send({ settled, writes }, signal);
    failpoint("writequeue.afterSend");
    this.#askAt = elapsed() + ASK_EVERY_MS;
    if (answer.forgotten.length > 0) return this.#requeueForgotten(writer, recipient, signal);
    const isSettled = await this.#settle(writer, waiting, answer);
    // None of them was paused before, so that there are new pauses lets others come.
    return isSettled || waiting.some(({ place }) => this.#isPaused(place));
  }

  /** From time to time. */
  async forgetOld(writer: Writer): Promise<void> {
    while ((await this.#parts.store.forget(writer, KEPT_MS, FORGET_BATCH)) === FORGET_BATCH);
  }

  /** Who was put out keeps no values but those that nobody else has yet. */
  async #clearSettled(writer: Writer): Promise<void> {
    if (this.#parts.elapsed() < this.#clearAt) return;
    while ((await this.#parts.store.clearSettled(writer, FORGET_BATCH)) === FORGET_BATCH);
    this.#clearAt = this.#parts.elapsed() + CLEAR_EVERY_MS;
  }

  async #opened(writer: Writer, waiting: readonly WaitingWrite[]): Promise<readonly GatewayWrite[]> {
    const writes: GatewayWrite[] = [];
    const left = new Set<string>();
    for (const each of waiting) {
      const { id, place, secret, baseVersion, follows, ageMs, author, sealed } = each;
      if (left.has(placeKey(place))) continue;
      try {
        const values = await openValues(writer, this.#parts.keys, each, sealed);
        const before = follows === undefined ? {} : { follows };
        writes.push({ id, place, secret, values, baseVersion, ...before, ageMs: Math.round(ageMs), author });
      } catch (error) {
        if (!(error instanceof Unavailable)) throw error;
        // Others are not held up by it.
        left.add(placeKey(place));
        this.#pause(place, error.code, error.message);
      }
    }
    return writes;
  }

  async #send(
    body: { readonly settled: readonly string[]; readonly writes: readonly GatewayWrite[] },
    signal: AbortSignal,
  ): Promise<WritesAnswer> {
    const { settled, writes } = body;
    const [first, ...others] = writes;
    const { status, answer } = await this.#ask(WRITES_PATH, body, writesAnswer, signal);
    if (answer !== undefined) return answer;
    // One that the primary cannot read must not hold up the others.
    if (first === undefined) throw unserved(status);
    if (others.length === 0) {
      const detail = `the primary answered ${status} to this write; see its log and the versions of both`;
      return {
        forgotten: [],
        outcomes: [{ id: first.id, outcome: { kind: "Later", code: "PrimaryAnswerInvalid", detail } }],
      };
    }
    const alone = await this.#send({ settled, writes: [first] }, signal);
    const stuck = alone.outcomes.some(({ outcome }) => outcome.kind === "Later");
    const rest = stuck ? others.filter(({ place }) => placeKey(place) !== placeKey(first.place)) : others;
    if (alone.forgotten.length > 0 || rest.length === 0) return alone;
    const more = await this.#send({ settled, writes: rest }, signal);
    return { forgotten: more.forgotten, outcomes: [...alone.outcomes, ...more.outcomes] };
  }

  /** Without an answer where the primary does not understand the request; throws where it does not serve it. */
  async #ask<Schema extends z.ZodType>(
    path: string,
    body: unknown,
    schema: Schema,
    signal: AbortSignal,
  ): Promise<{ readonly status: number; readonly answer?: z.infer<Schema> }> {
    const { status, body: said } = await this.#parts.link.ask(path, body, { signal });
    if (status === 400 || status === 413) return { status };
    const judged = schema.safeParse(said);
    if (status !== 200 || !judged.success) {
      const ms = Math.min(LONGEST_PAUSE_MS / 4, Math.max(FIRST_PAUSE_MS, this.#primaryPause.ms * 2));
      this.#primaryPause = { ms, until: this.#parts.elapsed() + ms };
      throw unserved(status);
    }
    this.#primaryPause = { ms: 0, until: Number.NEGATIVE_INFINITY };
    return { status, answer: judged.data };
  }

  async #settle(writer: Writer, waiting: readonly WaitingWrite[], { outcomes }: WritesAnswer): Promise<boolean> {
    const sent = new Map(waiting.map((each) => [each.id, each]));
    const settlements: (Settlement & { readonly write: QueuedWrite })[] = [];
    const paused = new Set<string>();
    for (const { id, outcome } of outcomes) {
      const write = sent.get(id);
      if (write === undefined) continue;
      const key = placeKey(write.place);
      if (outcome.kind !== "Later") {
        settlements.push({ id, outcome, write });
        this.#pauses.delete(key);
      } else if (!paused.has(key)) {
        paused.add(key);
        this.#pause(write.place, outcome.code, outcome.detail);
      }
    }
    if (settlements.length === 0) return false;
    await this.#parts.store.settle(
      writer,
      settlements.map(({ id, outcome }) => ({ id, outcome })),
      settlements.map(settledEntry),
    );
    failpoint("writequeue.afterSettle");
    this.#parts.onSettled?.();
    return true;
  }

  async #requeueForgotten(writer: Writer, recipient: WriteRecipient, signal: AbortSignal): Promise<boolean> {
    const { store } = this.#parts;
    const lost: string[] = [];
    let after: bigint | undefined;
    for (;;) {
      const page = await store.settled(recipient, after, MOST_KNOWN);
      if (page.length === 0) break;
      const ids = page.map(({ id }) => id);
      const { status, answer } = await this.#ask(KNOWN_WRITES_PATH, { ids }, knownWritesAnswer, signal);
      if (answer === undefined) throw unserved(status);
      lost.push(...answer.forgotten);
      after = page.at(-1)?.sequence;
    }
    if (lost.length === 0)
      throw new Unavailable("PrimaryUnreachable", "the primary contradicts itself about what it has lost");
    // All in one transaction: what came later must not go before what is found in a later page.
    await store.requeue(writer, lost, [requeuedEntry(lost.length)]);
    failpoint("writequeue.afterRequeue");
    return true;
  }

  #isPaused(place: WritePlace): boolean {
    return (this.#pauses.get(placeKey(place))?.until ?? Number.NEGATIVE_INFINITY) > this.#parts.elapsed();
  }

  #pause(place: WritePlace, code: string, detail: string): void {
    const key = placeKey(place);
    const ms = Math.min(LONGEST_PAUSE_MS, (this.#pauses.get(key)?.ms ?? FIRST_PAUSE_MS / 2) * 2);
    this.#pauses.set(key, { place, ms, until: this.#parts.elapsed() + ms });
    this.#parts.onPaused(place, code, detail);
  }
}

const sameRecipient = (one: WriteRecipient | undefined, other: WriteRecipient): boolean =>
  one?.gatewayEnvironment === other.gatewayEnvironment && one.rootDigest.equals(other.rootDigest);

const placeKey = ({ namespace, name }: WritePlace): string => `${namespace}/${name}`;

const unserved = (status: number): Unavailable =>
  new Unavailable("PrimaryUnreachable", `the primary answered writes with ${status}`);

function settledEntry({ id, outcome, write }: Settlement & { readonly write: QueuedWrite }): AuditEntry {
  const { place, secret, author } = write;
  const { project, environment } = secret;
  const version = outcome.kind === "Refused" ? undefined : outcome.version;
  return {
    action: "WriteSettled",
    actor: ACTOR,
    subject: { kind: "Secret", id: "", name: placeKey(place) },
    outcome: outcome.kind === "Refused" ? "Failure" : "Success",
    details: {
      project,
      environment,
      write: id,
      onBehalfOf: author.subject,
      result: outcome.kind,
      ...(version !== undefined && { version }),
      ...(outcome.kind === "Refused" && { code: outcome.code }),
    },
  };
}

const requeuedEntry = (count: number): AuditEntry => ({
  action: "WritesRequeued",
  actor: ACTOR,
  subject: { kind: "Installation", id: "writes", name: "writes" },
  outcome: "Success",
  details: { reason: "the primary was restored and has lost them", count },
});
