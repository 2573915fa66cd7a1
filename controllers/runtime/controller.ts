/**
 * What a controller is. The runner does the same for each:
 *
 *   key -> cache -> [finalizer] -> observe -> decide -> perform each action, learn what came of it -> decide again
 *       ... until a plan has no action left (at most `MAX_ROUNDS`) -> write status where it differs -> requeue rule
 *
 * `learn` folds the outcome of an action into the observed facts, so the status of the last plan tells what was
 * observed or done, never what was meant; and nothing is read twice.
 */
import type { Resource } from "../../crds/common.ts";
import type { ConditionType, Reason } from "../../crds/conditions.ts";
import type { ResourceType } from "./resource-type.ts";

/** Types of the conditions that a controller owns; the summary (Ready, Reconciling, Stalled) is the runtime's. */
export type OwnedConditionType = Exclude<ConditionType, "Ready" | "Reconciling" | "Stalled" | ForeignConditionType>;

/** Conditions that people set, which are an input like the manifest. */
export type ForeignConditionType = Extract<ConditionType, "Approved" | "Denied">;

export interface OwnedCondition {
  readonly type: OwnedConditionType;
  readonly status: "True" | "False" | "Unknown";
  /** `NotRequested` does not count against Ready, whatever the status. */
  readonly reason: Reason;
  /** Safe to show: names fields, objects and counts, never a value. */
  readonly message: string;
}

/** What a controller says about a resource; complete, since what is left out is removed from the status. */
export interface OwnedStatus {
  /** In the order in which they build on each other: Ready takes reason and message of the first that does not hold. */
  readonly conditions: readonly OwnedCondition[];
  /** Further fields of `status`, for example `{version: 3}`. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Message of Ready while it is True. */
  readonly message?: string;
}

export type Next =
  /** Nothing to do until a watch or the slow resync says so. */
  | { readonly kind: "settled" }
  | { readonly kind: "recheckAt"; readonly at: Date }
  /** Waiting cannot help: a person must change something. The message tells what. */
  | { readonly kind: "stalled"; readonly reason: Reason; readonly message: string };

export interface Plan<A> {
  readonly actions: readonly A[];
  readonly status: OwnedStatus;
  readonly next: Next;
}

export interface Finalizer<R> {
  readonly name: string;
  /** Undoes what outlives the object; idempotent. The finalizer is removed when it resolves. */
  finalize(resource: R, signal: AbortSignal): Promise<void>;
}

/** More rounds than a plan can need mean that `learn` does not record what `perform` did. */
export const MAX_ROUNDS = 12;

/**
 * `Observed`: facts read from outside. `Action`: tagged data without plaintext. `Outcome`: facts that performing
 * brought to light, for example the number of the version that was stored; `undefined` when doing it is fact enough.
 *
 * What is thrown decides what happens next, see `core/errors.ts`.
 */
export interface Controller<R extends Resource, Observed, Action extends { readonly kind: string }, Outcome = void> {
  /** Label of metrics and logs. */
  readonly name: string;
  /** Field manager of the status, one per controller. */
  readonly fieldManager: string;
  readonly resource: ResourceType;
  /** Reads only, no effect. */
  observe(resource: R, signal: AbortSignal): Promise<Observed>;
  /** Pure, total, synchronous. */
  decide(resource: R, seen: Observed, now: Date): Plan<Action>;
  /** Idempotent: one effect, which may be repeated after a crash. Fetches or generates the material itself. */
  perform(action: Action, signal: AbortSignal): Promise<Outcome>;
  /** Pure: the facts as they are after the action. */
  learn(seen: Observed, action: Action, outcome: Outcome): Observed;
  /** The condition that shows a failure of this action, or of `observe` when absent; none: only Ready shows it. */
  conditionFor?(action: Action | undefined): OwnedConditionType | undefined;
  /** The object is gone from a cache that is complete; idempotent. */
  absent?(key: string, signal: AbortSignal): Promise<void>;
  readonly finalizer?: Finalizer<R>;
  /** Conditions that it reads and never writes; a change of one wakes the object. */
  readonly foreignConditions?: readonly ForeignConditionType[];
}
