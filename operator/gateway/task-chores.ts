/** Mode gateway: the leader performs what the primary has it do. */
import { setTimeout as delay } from "node:timers/promises";
import { TaskRunner, type TaskRunnerParts } from "../../core/fleet/task-runner.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { Chores, type ChoresDependencies } from "../chores.ts";

export interface TaskChoresDependencies
  extends ChoresDependencies,
    Pick<TaskRunnerParts, "link" | "lease" | "handlers"> {}

const sleep: TaskRunnerParts["sleep"] = (ms, signal) =>
  delay(ms, undefined, { signal, ref: false }).catch(() => undefined);

export class TaskChores extends Chores<TaskChoresDependencies> {
  protected async work(_writer: Writer, signal: AbortSignal): Promise<void> {
    const { link, lease, handlers, log } = this.deps;
    const runner = new TaskRunner({ link, lease, handlers, sleep, log });
    await this.attempt("perform tasks of the primary", () => runner.run(signal));
  }
}
