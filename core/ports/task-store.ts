/**
 * What gateways are asked to do, while somebody waits for it; bodies and results are sealed (`core/fleet/task-seal.ts`). The
 * platform's store is PostgreSQL; `fake-task-store.ts` is the in-memory fake, and both pass `task-store.contract.ts`.
 *
 * Contract, common to all methods: whichever replica calls, each sees what the one before it left; times are durations by the
 * store's own clock. A row may be lost, as after a crash of the store, also while its task is performed. `Unavailable` as in
 * `vault-store.ts`.
 */
export interface TaskName {
  /** UUID. */
  readonly id: string;
  /** Name of the gateway; one that acts for it may perform it too. */
  readonly addressee: string;
  /** Of the gateway; whoever works for another one never gets it. */
  readonly environment: string;
  readonly kind: string;
}

export interface SealedTask extends TaskName {
  readonly body: Buffer;
}

/** Unknown: no gateway of that name is registered. EnvironmentDiffers: it works for another one. */
export type TaskAdded = "Added" | "Unknown" | "EnvironmentDiffers";

export interface Claimant {
  /** UUID of the gateway. */
  readonly gatewayId: string;
  readonly environment: string;
  /** Of its environment. What was claimed in an older one is interrupted. */
  readonly epoch: bigint;
}

export interface Claim extends Claimant {
  /** Whose tasks it performs. */
  readonly addressees: readonly string[];
  readonly most: number;
  /** For how long they are its own. */
  readonly deadlineMs: number;
}

export type TaskStanding =
  | { readonly state: "Waiting" }
  /** `leftMs`: until its deadline, negative after that. */
  | { readonly state: "Claimed"; readonly leftMs: number }
  /** From here on there is no such task. */
  | { readonly state: "Done"; readonly result: Buffer }
  /** It was claimed, and what became of it is not known. From here on there is no such task. */
  | { readonly state: "Interrupted" }
  /** Nobody claimed it, and nobody will. */
  | { readonly state: "Withdrawn" }
  /** There is no such task: it has ended, was not added yet, or was lost; who claimed it before that may perform it still. */
  | { readonly state: "Gone" };

export interface CollectOptions {
  /** One that waits does so no more. */
  readonly withdraw?: boolean;
  /** One that is claimed is interrupted. */
  readonly giveUp?: boolean;
}

export interface TaskStore {
  /** @param claimableMs after that nobody gets it, also when whoever made it is gone */
  add(task: SealedTask, claimableMs: number): Promise<TaskAdded>;
  /** The oldest of those that wait; none for a gateway that is not registered for that environment. Each is claimed once. */
  claim(claim: Claim): Promise<readonly SealedTask[]>;
  /** False, and nothing changes, unless this one has claimed it in this epoch and it has not ended. */
  finish(id: string, by: Claimant, result: Buffer): Promise<boolean>;
  collect(id: string, options: CollectOptions): Promise<TaskStanding>;
  /** Deletes what nobody could claim any more for so long, since whoever made it is gone; returns how much. */
  sweep(laterMs: number, limit: number): Promise<number>;
}
