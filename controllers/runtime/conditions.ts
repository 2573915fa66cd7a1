/**
 * The one place where status is put together: the controller's own conditions, and the summary that tools read.
 * `Reconciling` and `Stalled` follow kstatus (sigs.k8s.io/cli-utils/pkg/kstatus): present only while they are true.
 */
import { isDeepStrictEqual } from "node:util";
import type { Condition, Resource } from "../../crds/common.ts";
import type { ConditionType, Reason } from "../../crds/conditions.ts";
import type { Next, OwnedCondition, OwnedConditionType, OwnedStatus } from "./controller.ts";

/** The status as it is written. Fields beside these two are the controller's. */
export interface ComputedStatus {
  readonly observedGeneration: number;
  readonly conditions: readonly Condition[];
  readonly [field: string]: unknown;
}

/** Why a reconcile ended early. */
export interface Failure {
  /** `stalled`: a person must act. `retrying`: it goes on by itself. */
  readonly kind: "stalled" | "retrying";
  readonly reason: Reason;
  readonly message: string;
  /** The own condition that shows it; none: only the summary does. */
  readonly condition?: OwnedConditionType | undefined;
  /** False when the failure means that nothing is known about the condition, as with a failed read. */
  readonly known: boolean;
}

interface Verdict {
  readonly type: ConditionType;
  readonly status: Condition["status"];
  readonly reason: Reason;
  readonly message: string;
}

const MAX_MESSAGE = 4096;

const SUMMARY: ReadonlySet<string> = new Set<ConditionType>(["Ready", "Reconciling", "Stalled"]);

interface StatusShape {
  readonly observedGeneration?: number;
  readonly conditions?: readonly Condition[];
}

const previousConditions = (resource: Resource): readonly Condition[] =>
  (resource.status as StatusShape | undefined)?.conditions ?? [];

/** What was not asked for does not count against the summary, nor what a person should know and nothing waits for. */
const ADVISORY: ReadonlySet<Reason> = new Set<Reason>([
  "NotRequested",
  "NameDiffers",
  "ForecastExceedsBudget",
  "PrimaryActive",
]);

const holds = ({ status, reason }: OwnedCondition): boolean => status === "True" || ADVISORY.has(reason);

const readiness = (own: OwnedStatus): Verdict => {
  const missing = own.conditions.filter((condition) => !holds(condition));
  const [first] = missing;
  if (first === undefined) {
    return { type: "Ready", status: "True", reason: "Succeeded", message: own.message ?? "Everything is in place." };
  }
  const status = missing.some((condition) => condition.status === "False") ? "False" : "Unknown";
  return { type: "Ready", status, reason: first.reason, message: first.message };
};

const summarize = (own: OwnedStatus, next: Next): readonly Verdict[] => {
  const ready = readiness(own);
  if (next.kind === "stalled") {
    const { reason, message } = next;
    return [
      { type: "Ready", status: "False", reason, message },
      { type: "Stalled", status: "True", reason, message },
    ];
  }
  if (ready.status === "True" || ready.reason === "Suspended" || ready.reason === "DryRun") return [ready];
  return [ready, { type: "Reconciling", status: "True", reason: ready.reason, message: ready.message }];
};

const summarizeFailure = ({ kind, reason, message }: Failure): readonly Verdict[] => [
  { type: "Ready", status: "False", reason, message },
  { type: kind === "stalled" ? "Stalled" : "Reconciling", status: "True", reason, message },
];

/** Keeps `lastTransitionTime` while the status of a condition stays, or the controller would wake itself. */
const stamp = (verdict: Verdict, generation: number, previous: readonly Condition[], now: Date): Condition => {
  const before = previous.find((condition) => condition.type === verdict.type);
  const { type, status, reason } = verdict;
  return {
    type,
    status,
    reason,
    message: verdict.message.slice(0, MAX_MESSAGE),
    observedGeneration: generation,
    // Kubernetes stores whole seconds.
    lastTransitionTime: before?.status === status ? before.lastTransitionTime : `${now.toISOString().slice(0, 19)}Z`,
  };
};

/** Status after a plan without actions left. */
export const settledStatus = (resource: Resource, own: OwnedStatus, next: Next, now: Date): ComputedStatus => {
  const generation = resource.metadata.generation ?? 0;
  const previous = previousConditions(resource);
  const verdicts = [...summarize(own, next), ...own.conditions];
  return {
    ...own.fields,
    observedGeneration: generation,
    conditions: verdicts.map((verdict) => stamp(verdict, generation, previous, now)),
  };
};

/**
 * Status after a failure. `own` is what was known when it happened; `undefined` when not even observing succeeded, and
 * then what stood in status stays, with the generation that it was computed for.
 */
export const failedStatus = (
  resource: Resource,
  own: OwnedStatus | undefined,
  failure: Failure,
  now: Date,
): ComputedStatus => {
  const generation = resource.metadata.generation ?? 0;
  const previous = previousConditions(resource);
  const failed: Verdict[] =
    failure.condition === undefined
      ? []
      : [
          {
            type: failure.condition,
            status: failure.known ? "False" : "Unknown",
            reason: failure.reason,
            message: failure.message,
          },
        ];
  const others =
    own === undefined
      ? previous.filter(({ type }) => !SUMMARY.has(type) && type !== failure.condition)
      : own.conditions
          .filter(({ type }) => type !== failure.condition)
          .map((condition) => stamp(condition, generation, previous, now));
  const {
    observedGeneration: _generation,
    conditions: _conditions,
    ...fields
  } = (resource.status ?? {}) as StatusShape;
  return {
    ...(own === undefined ? fields : own.fields),
    observedGeneration: generation,
    conditions: [
      ...[...summarizeFailure(failure), ...failed].map((verdict) => stamp(verdict, generation, previous, now)),
      ...others,
    ],
  };
};

const byType = (status: unknown): unknown => {
  const { conditions, ...rest } = (status ?? {}) as StatusShape;
  const sorted = (conditions ?? []).toSorted((a, b) => (a.type < b.type ? -1 : 1));
  // The API server drops nothing that we send, but `undefined` never arrives there.
  return JSON.parse(JSON.stringify({ ...rest, conditions: sorted }));
};

/** Whether writing would change nothing; the order of conditions means nothing (`x-kubernetes-list-type: map`). */
export const sameStatus = (a: unknown, b: unknown): boolean => isDeepStrictEqual(byType(a), byType(b));
