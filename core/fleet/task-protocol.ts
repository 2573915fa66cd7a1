/** How tasks go through the channel; see `protocol.ts`. A gateway asks for them, and says what came of each. */
import { z } from "zod";
import { counter, grant } from "./protocol.ts";
import { taskOutcome } from "./task-outcome.ts";

export const TASK_ROUTES = {
  standing: "/fleet/v1/standing",
  tasks: "/fleet/v1/tasks",
  results: "/fleet/v1/task-results",
} as const;

const LONGEST_WAIT_MS = 10_000;
export const MOST_TASKS = 32;

const waitMs = z.int().min(0).max(LONGEST_WAIT_MS);

/** Of one that is not active: answered when it becomes so, or after `waitMs`. The answer is a `Grant`. */
export const standingPoll = z.object({ waitMs });
export type StandingPoll = z.infer<typeof standingPoll>;

/** Answered as soon as there is a task, or after `waitMs`; at once when the gateway is not active. */
export const taskPoll = z.object({ waitMs, most: z.int().min(1).max(MOST_TASKS) });
export type TaskPoll = z.infer<typeof taskPoll>;

const handedTask = z.object({
  id: z.uuid(),
  /** In which it is handed out; what comes of it counts in no other one. */
  environmentEpoch: counter,
  /** From when the gateway sent the request. What comes later is not waited for. */
  deadlineMs: z.int().nonnegative(),
  kind: z.string().min(1).max(64),
  body: z.unknown(),
});
export type HandedTask = z.infer<typeof handedTask>;

export const taskAnswer = z.object({ ...grant.shape, tasks: z.array(handedTask).max(MOST_TASKS) });
export type TaskAnswer = z.infer<typeof taskAnswer>;

const finishedTask = z.object({ id: z.uuid(), environmentEpoch: counter, outcome: taskOutcome });
export type FinishedTask = z.infer<typeof finishedTask>;

export const taskResults = z.object({ results: z.array(finishedTask).min(1).max(MOST_TASKS) });
export type TaskResults = z.infer<typeof taskResults>;

/** Of all others nothing was changed: they were not this gateway's in that epoch, or nobody waits for them any more. */
export const taskResultsAnswer = z.object({ accepted: z.array(z.uuid()) });
export type TaskResultsAnswer = z.infer<typeof taskResultsAnswer>;
