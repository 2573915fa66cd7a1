/**
 * What the primary has its gateways do. A kind of task is data: what it takes and gives is judged on both ends. Tasks with values
 * are plaintext nowhere but in memory and inside the channel.
 */
import type { z } from "zod";
import { Unavailable } from "../errors.ts";

export interface TaskKind<Body, Result> {
  /** CamelCase; never changes its meaning, since gateways may be older than their primary. */
  readonly kind: string;
  readonly body: z.ZodType<Body>;
  readonly result: z.ZodType<Result>;
}

export interface TaskContext {
  /** UUID of the task. */
  readonly id: string;
  /**
   * Aborted when the gateway may not act any more, and shortly before the task's deadline: whatever can be left undone is left
   * undone. Its reason is the error that says so.
   */
  readonly signal: AbortSignal;
  /**
   * Asked right before each effect, which may take so long that it ends before another gateway begins.
   *
   * @param forMs the effect's own time limit, after which nothing comes of it any more
   * @throws Unavailable GatewayFenced when the gateway may not act, or not for so long; GatewayUnavailable when the task ends before
   */
  assertActing(forMs?: number): void;
}

/** How a gateway performs one kind. Errors of `core/errors.ts` and `Ambiguous`, `Throttled` reach whoever asked as what they are. */
export interface TaskHandler<Body = never, Result = unknown> {
  readonly kind: TaskKind<Body, Result>;
  /** What it returns is JSON, as the kind's `result` reads it. */
  perform(body: Body, context: TaskContext): Promise<Result>;
}

/** For lists of handlers of any kind: whoever calls it has judged the body by its kind. */
export const ofAnyKind = <Body, Result>(handler: TaskHandler<Body, Result>): TaskHandler =>
  handler as unknown as TaskHandler;

export interface TaskOptions {
  readonly signal: AbortSignal;
  /**
   * Gateway environments whose work it is, as the Project says for its environments: the gateway must work for one of them, so
   * that nothing of NPR reaches a gateway of PRO.
   */
  readonly environments: readonly string[];
  /** How long somebody may take to begin with it; 15 seconds when absent. */
  readonly withinMs?: number;
}

/** Nobody took a task of the gateway, so that nothing was done; what a gateway itself answers is never this one. */
export class GatewayAway extends Unavailable {
  constructor(gateway: string, why: string) {
    super("GatewayUnavailable", `gateway ${gateway}: ${why}, so that nothing was done`);
  }
}

export interface GatewayTasks {
  /**
   * Has a gateway do something, or the one that acts for it, and waits for what comes of it.
   *
   * @throws Stalled GatewayEnvironmentDiffers: the gateway works for none of `environments`.
   * `GatewayAway`: nobody took it in time, so nothing was done. Unavailable GatewayTaskUnknown: the gateway is too old for it.
   * `Ambiguous` when it was taken and it is not known what became of it: the connection ended, or another gateway is in charge now.
   * Whatever the gateway's handler threw.
   */
  perform<Body, Result>(
    gateway: string,
    kind: TaskKind<Body, Result>,
    body: Body,
    options: TaskOptions,
  ): Promise<Result>;
}
