/**
 * The primary's side of tasks, on each replica: whoever wants something done puts a task into the store and waits, and whichever
 * replica a gateway's request comes to hands it out. A task is handed out once.
 *
 *    Waiting --- claimed by the one in charge ---> Claimed --- its result, in that epoch ---> Done
 *       |                                             |
 *       | nobody claimed it in time                   | its deadline is over, or the epoch has changed;
 *       |                                             | so long after its row was lost that its deadline is over
 *       v                                             v
 *    Withdrawn: nothing was done                   Interrupted: what became of it is not known
 */
import { randomUUID } from "node:crypto";
import { Stalled, Unavailable } from "../errors.ts";
import type { FleetStore } from "../ports/fleet-store.ts";
import { Ambiguous } from "../ports/target-vault.ts";
import type { SealedTask, TaskName, TaskStanding, TaskStore } from "../ports/task-store.ts";
import { Hints } from "./hints.ts";
import type { Member } from "./member.ts";
import type { Grant } from "./protocol.ts";
import { grantOf, LEASE_MS, type Standing, type StandingOf, UNKNOWN_EPOCH } from "./standing.ts";
import { taskOutcome, thrownBy } from "./task-outcome.ts";
import type {
  FinishedTask,
  HandedTask,
  StandingPoll,
  TaskAnswer,
  TaskPoll,
  TaskResultsAnswer,
} from "./task-protocol.ts";
import { openBody, openResult, sealBody, sealResult, type TaskKeys } from "./task-seal.ts";
import { GatewayAway, type GatewayTasks, type TaskKind, type TaskOptions } from "./tasks.ts";

/** What came of a task, for whoever counts them. */
export type TaskStatus = "Succeeded" | "Failed" | "Interrupted" | "Withdrawn";

export interface TaskExchangeParts {
  readonly store: TaskStore;
  readonly fleet: Pick<FleetStore, "gateway">;
  readonly keys: TaskKeys;
  readonly standing: StandingOf;
  /** Told of each task when it has ended. */
  readonly onEnded?: (task: {
    readonly environment: string;
    readonly status: TaskStatus;
    readonly seconds: number;
  }) => void;
  /** Told of rows that cannot be handed out or believed. */
  readonly onProblem?: (error: unknown) => void;
  /** Bounds what a lost hint costs those who wait for a result; 1 second when absent. */
  readonly lookEveryMs?: number;
  /** What a standing grants at most, so that whoever claimed a task performs it no longer than that; LEASE_MS when absent. */
  readonly leaseMs?: number;
}

const WITHIN_MS = 15_000;
const LOOK_EVERY_MS = 1_000;
/** The same for gateways, of which there are many. */
const GATEWAYS_LOOK_EVERY_MS = 5_000;
/** How soon a gateway learns that it is active, at the latest. */
const STANDING_EVERY_MS = 2_000;
/** A result that was sent before the deadline may take so long to arrive. */
const MARGIN_MS = 2_000;
/** Without PostgreSQL it is not known how a task stands; nobody performs one for longer than that. */
const BLIND_MS = 30_000;
/** After nobody could claim it any more: longer than anybody waits for one that was claimed. */
const LEFT_BEHIND_MS = 60_000;
const SWEEP_BATCH = 1_000;

export class TaskExchange implements GatewayTasks {
  readonly #parts: TaskExchangeParts;
  readonly #hints = new Hints();
  /** The latest of each gateway, by its id. */
  readonly #polls = new Map<string, AbortController>();

  constructor(parts: TaskExchangeParts) {
    this.#parts = parts;
  }

  /** What the store tells its listeners; undefined: anything may have happened. */
  hint(says?: string): void {
    this.#hints.hint(says);
  }

  async perform<Body, Result>(
    gateway: string,
    kind: TaskKind<Body, Result>,
    body: Body,
    { signal, environments, withinMs = WITHIN_MS }: TaskOptions,
  ): Promise<Result> {
    signal.throwIfAborted();
    const environment = await this.#environmentOf(gateway, environments);
    const task = { id: randomUUID(), addressee: gateway, environment, kind: kind.kind };
    const started = performance.now();
    let status: TaskStatus = "Failed";
    try {
      const unsure = await this.#add(task, body, withinMs);
      const standing = await this.#ended(task, unsure === undefined ? withinMs : 0, signal);
      if (standing.state === "Withdrawn") {
        status = "Withdrawn";
        if (unsure !== undefined) throw unsure.error;
        throw new GatewayAway(gateway, `no gateway that acts for it took ${kind.kind} within ${withinMs / 1_000} s`);
      }
      if (standing.state === "Interrupted") {
        status = "Interrupted";
        throw interrupted(task);
      }
      const result = this.#read(task, kind, standing.result);
      status = "Succeeded";
      return result;
    } finally {
      this.#parts.onEnded?.({ environment, status, seconds: (performance.now() - started) / 1_000 });
    }
  }

  /** For a gateway that is not active: answers when it becomes so. */
  async awaitStanding(member: Member, { waitMs }: StandingPoll, signal: AbortSignal): Promise<Grant> {
    const started = performance.now();
    for (;;) {
      const leftMs = started + waitMs - performance.now();
      const pause = this.#hints.pause(["standing"], Math.min(STANDING_EVERY_MS, leftMs), signal);
      try {
        const askedMs = performance.now() - started;
        const standing = await this.#parts.standing(member);
        if (standing.active || leftMs <= 0 || signal.aborted) return sentBefore(grantOf(standing), askedMs);
        await pause.over;
      } finally {
        pause.end();
      }
    }
  }

  /** Hands out what waits for the gateway, as soon as there is something. A gateway that asks anew has given up the question before. */
  async poll(member: Member, options: TaskPoll, signal: AbortSignal): Promise<TaskAnswer> {
    const { gatewayId } = member;
    this.#polls.get(gatewayId)?.abort();
    const poll = new AbortController();
    this.#polls.set(gatewayId, poll);
    try {
      return await this.#handOut(member, options, AbortSignal.any([signal, poll.signal]));
    } finally {
      if (this.#polls.get(gatewayId) === poll) this.#polls.delete(gatewayId);
    }
  }

  async #handOut(member: Member, { waitMs, most }: TaskPoll, signal: AbortSignal): Promise<TaskAnswer> {
    const started = performance.now();
    const heldMs = () => performance.now() - started;
    for (;;) {
      // Each time: it may have changed while there was nothing to do.
      const atMs = heldMs();
      const standing = await this.#parts.standing(member);
      const untilMs = Math.min(GATEWAYS_LOOK_EVERY_MS, waitMs - heldMs());
      const addressees = standing.actsFor.map((name) => `gateway ${name}`);
      const pause = this.#hints.pause(addressees, untilMs, signal);
      try {
        // What is claimed for one that has gone away would be lost.
        const tasks = signal.aborted ? [] : await this.#claim(member, standing, most, heldMs());
        // Where it is not known who acts it would ask again at once, as long as it was granted something.
        const tells = tasks.length > 0 || (!standing.active && standing.environmentEpoch !== UNKNOWN_EPOCH);
        if (tells || signal.aborted || heldMs() >= waitMs)
          return { ...sentBefore(grantOf(standing), atMs), tasks: [...tasks] };
        await pause.over;
      } finally {
        pause.end();
      }
    }
  }

  /** Takes what comes of tasks, from the gateway that they were handed out to, in the epoch of that. */
  async finish(member: Member, results: readonly FinishedTask[]): Promise<TaskResultsAnswer> {
    const { store, keys } = this.#parts;
    const { gatewayId, environment } = member;
    const accepted: string[] = [];
    for (const { id, environmentEpoch, outcome } of results) {
      const sealed = sealResult(keys, { id, environment }, outcome);
      if (await store.finish(id, { gatewayId, environment, epoch: BigInt(environmentEpoch) }, sealed))
        accepted.push(id);
    }
    return { accepted };
  }

  /** What those left behind who died over it; for each replica, from time to time. */
  async sweep(): Promise<void> {
    while ((await this.#parts.store.sweep(LEFT_BEHIND_MS, SWEEP_BATCH)) === SWEEP_BATCH);
  }

  async #environmentOf(gateway: string, environments: readonly string[]): Promise<string> {
    const record = await this.#parts.fleet.gateway(gateway);
    const { environment, registeredAt, revokedAt } = record ?? {};
    // Whatever is not decided yet goes nowhere.
    if (environment !== undefined && !environments.includes(environment))
      throw environmentDiffers(gateway, environment, environments);
    if (environment === undefined || registeredAt === undefined || revokedAt !== undefined)
      throw new GatewayAway(gateway, "no gateway is registered under that name");
    return environment;
  }

  /** What it failed with, when the task may be there all the same, and be claimed. */
  async #add(task: TaskName, body: unknown, withinMs: number): Promise<{ readonly error: unknown } | undefined> {
    const { store, keys } = this.#parts;
    const sealed = { ...task, body: sealBody(keys, task, body) };
    let added: Awaited<ReturnType<TaskStore["add"]>>;
    try {
      added = await store.add(sealed, withinMs);
    } catch (error) {
      return { error };
    }
    if (added === "Unknown") throw new GatewayAway(task.addressee, "no gateway is registered under that name");
    if (added === "EnvironmentDiffers") throw environmentDiffers(task.addressee, "another one", [task.environment]);
    return undefined;
  }

  async #ended(
    { id }: TaskName,
    withinMs: number,
    signal: AbortSignal,
  ): Promise<Extract<TaskStanding, { state: "Done" | "Interrupted" | "Withdrawn" }>> {
    const { store, lookEveryMs = LOOK_EVERY_MS, leaseMs = LEASE_MS } = this.#parts;
    const withdrawAt = performance.now() + withinMs;
    let giveUpAt = withdrawAt + BLIND_MS;
    for (;;) {
      const now = performance.now();
      const untilMs = now < withdrawAt ? withdrawAt - now : giveUpAt - now;
      const pause = this.#hints.pause([`task ${id}`], Math.min(lookEveryMs, Math.max(untilMs, 1)), signal);
      try {
        const standing = await store
          .collect(id, { withdraw: signal.aborted || now >= withdrawAt, giveUp: signal.aborted || now >= giveUpAt })
          .catch((error: unknown) => this.#blind(error, now >= giveUpAt));
        signal.throwIfAborted();
        if (standing?.state === "Claimed") giveUpAt = Math.min(giveUpAt, now + standing.leftMs + MARGIN_MS);
        else if (standing?.state === "Gone") {
          if (now >= giveUpAt) return { state: "Interrupted" };
          // Who may have claimed it just before performs it still.
          giveUpAt = Math.min(giveUpAt, now + leaseMs + MARGIN_MS);
        } else if (standing !== undefined && standing.state !== "Waiting") return standing;
        await pause.over;
      } finally {
        pause.end();
      }
    }
  }

  /** PostgreSQL may come back before it is over. */
  #blind(error: unknown, over: boolean): TaskStanding | undefined {
    if (over) return { state: "Interrupted" };
    this.#parts.onProblem?.(error);
    return undefined;
  }

  #read<Body, Result>(task: TaskName, kind: TaskKind<Body, Result>, sealed: Buffer): Result {
    const told = taskOutcome.parse(openResult(this.#parts.keys, task, sealed));
    if (told.kind === "Failed") throw thrownBy(told.error, task.addressee);
    const { data, success } = kind.result.safeParse(told.result);
    // It was done; what it says is not understood here.
    if (!success)
      throw new Ambiguous(task.kind, `gateway ${task.addressee} answered what this version does not understand`);
    return data;
  }

  async #claim(member: Member, standing: Standing, most: number, heldMs: number): Promise<readonly HandedTask[]> {
    if (!standing.active) return [];
    const { gatewayId, environment } = member;
    const { environmentEpoch: epoch, actsFor: addressees, leaseMs } = standing;
    const claimed = await this.#parts.store.claim({
      gatewayId,
      environment,
      epoch,
      addressees,
      most,
      deadlineMs: leaseMs,
    });
    return claimed.flatMap((task) => this.#handed(member, standing, task, heldMs));
  }

  /** Whatever is not as it was made is not handed out: whoever waits for it learns that it was interrupted. */
  #handed({ environment }: Member, standing: Standing, task: SealedTask, heldMs: number): readonly HandedTask[] {
    const { id, kind } = task;
    try {
      if (task.environment !== environment || !standing.actsFor.includes(task.addressee))
        throw new Unavailable("TamperDetected", `the task ${id} (${kind}) is not for this gateway; see the runbook`);
      const body = openBody(this.#parts.keys, task, task.body);
      const deadlineMs = Math.floor(heldMs + standing.leaseMs);
      return [{ id, environmentEpoch: standing.environmentEpoch.toString(), deadlineMs, kind, body }];
    } catch (error) {
      this.#parts.onProblem?.(error);
      return [];
    }
  }
}

/** The gateway counts from when it sent the request, which was before the primary had it. */
const sentBefore = (grant: Grant, heldMs: number): Grant =>
  grant.active ? { ...grant, leaseMs: Math.floor(grant.leaseMs + heldMs) } : grant;

const interrupted = ({ kind, addressee }: TaskName): Ambiguous =>
  new Ambiguous(kind, `gateway ${addressee} took it and did not say what came of it`);

const environmentDiffers = (gateway: string, environment: string, wanted: readonly string[]): Stalled =>
  new Stalled(
    "GatewayEnvironmentDiffers",
    `gateway ${gateway} works for ${environment}, and this is ${wanted.length === 0 ? "of no gateway environment" : `of ${wanted.join(", ")}`}; ` +
      "name a gateway of the same environment, or correct spec.environments[].gatewayEnvironment of the Project",
  );
