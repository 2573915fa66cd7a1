/**
 * A gateway's side of tasks: while it acts for its environment it asks the primary for them, performs them, and says what came
 * of each. Nothing is performed twice, nothing is begun that cannot end while it acts, and what is under way is ended when it
 * may not act any more.
 */
import type { z } from "zod";
import { Unavailable } from "../errors.ts";
import type { PrimaryLink } from "../ports/primary-link.ts";
import type { ActingLease } from "./acting-lease.ts";
import { pauseAfter } from "./pause.ts";
import { grant } from "./protocol.ts";
import { errorOf, type TaskOutcome } from "./task-outcome.ts";
import {
  type FinishedTask,
  type HandedTask,
  MOST_TASKS,
  TASK_ROUTES,
  taskAnswer,
  taskResultsAnswer,
} from "./task-protocol.ts";
import type { TaskHandler } from "./tasks.ts";

export interface TaskRunnerLog {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface TaskRunnerParts {
  readonly link: PrimaryLink;
  readonly lease: ActingLease;
  readonly handlers: readonly TaskHandler[];
  /** Resolves early, without throwing, when the signal is aborted. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly log: TaskRunnerLog;
}

/** So long that idling costs little; the lease is renewed by each answer, and lasts for more than three times as long. */
const WAIT_MS = 6_000;
/** Beyond the time that the primary takes by itself. */
const ANSWER_WITHIN_MS = 15_000;
const MOST_AT_ONCE = 16;
/** The primary limits requests; what comes meanwhile goes together. */
const APART_MS = 80;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;
/** Before the deadline, so that what became of the task still arrives. */
const TELL_MS = 1_000;
/** After the deadline the primary gives up. */
const WAITED_FOR_MS = 2_000;
const LOOK_EVERY_MS = 250;
/** As one body of the channel holds with room to spare; one result may take it all. */
const BATCH_CHARACTERS = 400_000;
/** What one body of the channel holds, with room for what is around it. */
const RESULT_BYTES = 1_900_000;
/** So is a body answered that the primary does not take, whatever is tried. */
const BODY_REFUSED: ReadonlySet<number> = new Set([400, 413]);
/** So many ids are remembered; none is handed out for longer than a minute. */
const REMEMBERED = 10_000;

interface Running {
  readonly epoch: bigint;
  readonly endsAt: number;
  readonly abort: AbortController;
}

interface Told {
  readonly result: FinishedTask;
  readonly characters: number;
  /** Nobody waits for it any longer. */
  readonly until: number;
  /** The primary refused it together with others; it may have been because of any of them. */
  readonly alone: boolean;
}

class BodyNotTaken extends Unavailable {
  constructor(path: string, status: number) {
    super("PrimaryUnreachable", `the primary answers ${path} with ${status}`);
  }
}

export class TaskRunner {
  readonly #parts: TaskRunnerParts;
  readonly #handlers: ReadonlyMap<string, TaskHandler>;
  readonly #running = new Map<string, Running & { readonly done: Promise<void> }>();
  /** Handed out once, oldest first. */
  readonly #seen = new Set<string>();
  #told: Told[] = [];
  #wake: () => void = () => {};

  constructor(parts: TaskRunnerParts) {
    this.#parts = parts;
    this.#handlers = new Map(parts.handlers.map((handler) => [handler.kind.kind, handler]));
  }

  /** Until the signal is aborted; what is under way then is ended, and nothing more is told of it. */
  async run(signal: AbortSignal): Promise<void> {
    const judging = setInterval(() => this.#judge(), LOOK_EVERY_MS);
    try {
      await Promise.all([this.#ask(signal), this.#tell(signal)]);
    } finally {
      clearInterval(judging);
      for (const { abort } of this.#running.values()) abort.abort(fenced());
      await Promise.all([...this.#running.values()].map(({ done }) => done));
      this.#told = [];
    }
  }

  async #ask(signal: AbortSignal): Promise<void> {
    const { lease, sleep, log } = this.#parts;
    let failed = 0;
    while (!signal.aborted) {
      try {
        await (lease.active ? this.#poll(signal) : this.#becomeActive(signal));
        failed = 0;
        await sleep(APART_MS, signal);
      } catch (error) {
        if (signal.aborted) return;
        failed += 1;
        log.debug({ error }, "the primary was not asked for tasks");
        await sleep(pauseAfter(failed, FIRST_PAUSE_MS, LONGEST_PAUSE_MS), signal);
      }
    }
  }

  async #becomeActive(signal: AbortSignal): Promise<void> {
    const { lease } = this.#parts;
    const askedAt = lease.now();
    lease.take(await this.#request(TASK_ROUTES.standing, { waitMs: WAIT_MS }, grant, signal, WAIT_MS), askedAt);
  }

  async #poll(signal: AbortSignal): Promise<void> {
    const { lease } = this.#parts;
    const most = MOST_AT_ONCE - this.#running.size;
    if (most <= 0) {
      await this.#room(signal);
      return;
    }
    const askedAt = lease.now();
    const body = { waitMs: WAIT_MS, most: Math.min(most, MOST_TASKS) };
    const { tasks, ...granted } = await this.#request(TASK_ROUTES.tasks, body, taskAnswer, signal, WAIT_MS);
    lease.take(granted, askedAt);
    this.#judge();
    for (const task of tasks) this.#begin(task, askedAt);
  }

  /** Over when one of those that are under way is, or when the lease has to be renewed. */
  async #room(signal: AbortSignal): Promise<void> {
    const waiting = new AbortController();
    const either = AbortSignal.any([signal, waiting.signal]);
    await Promise.race([...[...this.#running.values()].map(({ done }) => done), this.#parts.sleep(WAIT_MS, either)]);
    waiting.abort();
    if (this.#running.size >= MOST_AT_ONCE && !signal.aborted) await this.#renew(signal);
  }

  /** One that has its hands full stays in charge. */
  async #renew(signal: AbortSignal): Promise<void> {
    const { lease } = this.#parts;
    const askedAt = lease.now();
    lease.take(await this.#request(TASK_ROUTES.standing, { waitMs: 0 }, grant, signal), askedAt);
    this.#judge();
  }

  async #request<T>(path: string, body: object, as: z.ZodType<T>, signal: AbortSignal, waitMs = 0): Promise<T> {
    const options = { signal, withinMs: waitMs + ANSWER_WITHIN_MS };
    const answer = await this.#parts.link.ask(path, body, options);
    const { data } = as.safeParse(answer.body);
    if (answer.status === 200 && data !== undefined) return data;
    if (BODY_REFUSED.has(answer.status)) throw new BodyNotTaken(path, answer.status);
    throw new Unavailable("PrimaryUnreachable", `the primary answers ${path} with ${answer.status}`);
  }

  #begin({ id, environmentEpoch, deadlineMs, kind, body }: HandedTask, askedAt: number): void {
    if (this.#seen.has(id)) return;
    this.#seen.add(id);
    const [oldest = id] = this.#seen;
    if (this.#seen.size > REMEMBERED) this.#seen.delete(oldest);
    const running: Running = {
      epoch: BigInt(environmentEpoch),
      endsAt: askedAt + deadlineMs - TELL_MS,
      abort: new AbortController(),
    };
    const done = this.#perform(id, kind, body, running).then((outcome) => {
      this.#running.delete(id);
      this.#say({ id, environmentEpoch, outcome }, askedAt + deadlineMs);
    });
    this.#running.set(id, { ...running, done });
  }

  async #perform(id: string, kind: string, body: unknown, running: Running): Promise<TaskOutcome> {
    const handler = this.#handlers.get(kind);
    try {
      if (handler === undefined)
        throw new Unavailable(
          "GatewayTaskUnknown",
          `the gateway does not know the task ${kind}; bring it to the primary's version`,
        );
      const { data, success } = handler.kind.body.safeParse(body);
      if (!success)
        throw new Unavailable(
          "GatewayTaskUnknown",
          `the gateway does not understand this task ${kind}; bring it to the primary's version`,
        );
      const assertActing = (forMs = 0): void => this.#assert(running, forMs);
      assertActing();
      const result = await handler.perform(data, { id, signal: running.abort.signal, assertActing });
      return { kind: "Done", result };
    } catch (error) {
      const told = errorOf(error);
      const level = told.kind === "Unavailable" && told.code === "Failed" ? "warn" : "debug";
      this.#parts.log[level]({ task: id, kind, error }, "a task failed");
      return { kind: "Failed", error: told };
    }
  }

  #assert({ epoch, endsAt, abort }: Running, forMs: number): void {
    const { lease } = this.#parts;
    abort.signal.throwIfAborted();
    const leftMs = lease.leftMs(epoch);
    if (leftMs === 0 || leftMs < forMs) throw fenced();
    if (endsAt - lease.now() < forMs) throw late();
  }

  /** Ends what may not go on. */
  #judge(): void {
    const { lease } = this.#parts;
    for (const { epoch, endsAt, abort } of this.#running.values()) {
      if (lease.leftMs(epoch) === 0) abort.abort(fenced());
      else if (endsAt <= lease.now()) abort.abort(late());
    }
  }

  #say(result: FinishedTask, deadline: number): void {
    const json = JSON.stringify(result);
    const until = deadline + WAITED_FOR_MS;
    if (Buffer.byteLength(json) > RESULT_BYTES) this.#told.push(this.#untellable(result, until));
    else this.#told.push({ result, characters: json.length, until, alone: false });
    this.#wake();
  }

  /** Whoever waits for it is told why there is nothing to be told. */
  #untellable({ id, environmentEpoch }: FinishedTask, until: number): Told {
    this.#parts.log.warn({ task: id }, "what came of a task cannot be told: it is too large for the channel");
    const message = "what came of it at the gateway is too large for the channel";
    const outcome: TaskOutcome = { kind: "Failed", error: { kind: "Unavailable", code: "Failed", message } };
    const result = { id, environmentEpoch, outcome };
    return { result, characters: JSON.stringify(result).length, until, alone: true };
  }

  /** One that is not taken holds up no other: each is told by itself, then that it cannot be told, then nothing. */
  #notTaken(batch: readonly Told[]): void {
    this.#told = this.#told.flatMap((each) => {
      if (!batch.includes(each)) return [each];
      if (batch.length > 1) return [{ ...each, alone: true }];
      return each.result.outcome.kind === "Done" ? [this.#untellable(each.result, each.until)] : [];
    });
  }

  async #tell(signal: AbortSignal): Promise<void> {
    const { sleep, log } = this.#parts;
    let failed = 0;
    while (!signal.aborted) {
      const { lease } = this.#parts;
      // The primary does not take them any more.
      this.#told = this.#told.filter(
        ({ result, until }) => until > lease.now() && lease.leftMs(BigInt(result.environmentEpoch)) > 0,
      );
      const batch = this.#batch();
      if (batch.length === 0) {
        await this.#something(signal);
        continue;
      }
      try {
        const body = { results: batch.map(({ result }) => result) };
        const { accepted } = await this.#request(TASK_ROUTES.results, body, taskResultsAnswer, signal);
        this.#told = this.#told.filter((each) => !batch.includes(each));
        if (accepted.length < batch.length)
          log.debug({ results: batch.length, accepted: accepted.length }, "nobody waited for a result any more");
        failed = 0;
        await sleep(APART_MS, signal);
      } catch (error) {
        if (signal.aborted) return;
        log.debug({ error }, "results of tasks were not told yet");
        if (error instanceof BodyNotTaken) {
          this.#notTaken(batch);
          await sleep(APART_MS, signal);
          continue;
        }
        failed += 1;
        await sleep(pauseAfter(failed, FIRST_PAUSE_MS, LONGEST_PAUSE_MS), signal);
      }
    }
  }

  #batch(): readonly Told[] {
    let characters = 0;
    const fitting = this.#told.findIndex((each) => {
      characters += each.characters;
      return each.alone || characters > BATCH_CHARACTERS;
    });
    return this.#told.slice(0, Math.min(MOST_TASKS, fitting === -1 ? this.#told.length : Math.max(1, fitting)));
  }

  #something(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    this.#wake = wake;
    signal.addEventListener("abort", wake, { once: true });
    return promise.finally(() => signal.removeEventListener("abort", wake));
  }
}

const fenced = (): Unavailable =>
  new Unavailable("GatewayFenced", "the gateway may not act for its environment at the moment, or not for long enough");

const late = (): Unavailable =>
  new Unavailable("GatewayUnavailable", "the gateway had no time left for the task; it is tried again");
