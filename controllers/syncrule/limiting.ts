/** What a rule may do without a person, what of its plan stands still, and how the plan is told. */
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type { RuleRecord, SyncItem } from "../../core/ports/sync-store.ts";
import type { Doomed } from "../../core/sync/deletion-plan.ts";
import type { SyncFailure } from "../../core/sync/entries.ts";
import {
  approvalOf,
  type Held,
  hashOf,
  heldOf,
  inOrder,
  type Limits,
  limitsOf,
  type PlannedAction,
} from "../../core/sync/limits.ts";
import type { SyncResult } from "../../core/sync/run.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import { objectActor } from "../actor.ts";
import type { OwnedCondition } from "../runtime/controller.ts";
import type { ResourceType } from "../runtime/resource-type.ts";

export const RELEASE_ANNOTATION = "mazevault.io/release";

/** What was observed beside what the rule covers. */
export interface Safety {
  /** The Project protects the environment. */
  readonly isProtected: boolean;
  /** A digest of what the rule covers, and under which names. */
  readonly scope: string;
  /** Absent: there is none, or nothing depends on it. */
  readonly record?: RuleRecord;
  /** Entries of what was deleted here. */
  readonly doomed: readonly Doomed[];
  /** Why none of them is deleted, as an earlier look found; absent: this pass looks, or nothing is doomed. */
  readonly left?: readonly SyncFailure[];
  /** Remembered until it is known what became of their secrets. */
  readonly undecided: readonly SyncItem[];
  /** See `Sorted`. */
  readonly isQuiet: boolean;
  /** What deleting came to in this pass. */
  readonly deleted?: SyncResult;
}

export interface Limited {
  readonly held: Held | undefined;
  readonly limits: Limits;
  /** Whether this part of the plan is done. */
  goes(action: PlannedAction | undefined): boolean;
  /** What the rule's record becomes; absent: it stays as it is. */
  readonly record?: RuleRecord;
  /** The plan that `record` lets through. */
  readonly released?: Held;
}

const placeOf = ({ metadata }: SyncRule, vaultUrl: string): string => `${metadata.uid} ${vaultUrl}`;

/** `isWhole`: the vault was looked at, so what is not planned is not due. */
export function limit(
  rule: SyncRule,
  plan: readonly PlannedAction[],
  seen: { readonly covered: number; readonly vaultUrl: string; readonly safety: Safety; readonly isWhole: boolean },
): Limited {
  const { isProtected, record, scope } = seen.safety;
  const limits = limitsOf(rule.spec.limits, seen.covered, isProtected);
  const isSame = record?.scope === scope;
  const approved = new Set(isSame ? record.approved : []);
  const place = placeOf(rule, seen.vaultUrl);
  const held = heldOf(plan, limits, { approved, release: record?.release, place });
  const goes = (action: PlannedAction | undefined): boolean =>
    action?.counts === undefined || held?.kinds.has(action.counts) !== true || approved.has(approvalOf(action));
  const isReleased = held !== undefined && rule.metadata.annotations?.[RELEASE_ANNOTATION] === held.hash;
  const due = new Set(plan.map(approvalOf));
  const left = seen.isWhole ? [...approved].filter((each) => due.has(each)) : [...approved];
  const next: RuleRecord = {
    scope,
    ...(isReleased ? { release: held.hash } : record?.release !== undefined && { release: record.release }),
    approved: isReleased ? [...left, ...held.actions.map(approvalOf)] : left,
  };
  const isNeeded = rule.spec.deletionPolicy === "Delete" || record !== undefined || isReleased;
  const isOther = !isSame || isReleased || left.length !== record.approved.length;
  return {
    held,
    limits,
    goes,
    ...(isNeeded && isOther && { record: next }),
    ...(isReleased && { released: held }),
  };
}

const SHOWN = 20;

/** The plan as status shows it. */
export function shown(plan: readonly PlannedAction[], hash: string): Readonly<Record<string, unknown>> {
  const first = inOrder(plan).slice(0, SHOWN);
  return {
    ...(first.length > 0 && {
      plan: first.map(({ action, secret, key, target }) => ({ action, secret, key, target: target.slice(0, 127) })),
    }),
    planTotal: plan.length,
    planHash: hash,
  };
}

/** The whole plan of a rule that only tells it. */
export const dryPlan = (rule: SyncRule, plan: readonly PlannedAction[], vaultUrl: string) =>
  shown(plan, hashOf(plan, placeOf(rule, vaultUrl)));

export const dryRun = (plan: readonly PlannedAction[]): OwnedCondition => ({
  type: "Synced",
  status: "Unknown",
  reason: "DryRun",
  message: `spec.dryRun is true, so nothing is written; remove it to have ${counted(plan.length, "entry", "entries")} of status.plan done`,
});

/** Both conditions that tell of it say the same. */
export function exceeded({ metadata }: SyncRule, held: Held, limits: Limits, isProtected: boolean): OwnedCondition {
  const { kinds, deletions, changes, hash } = held;
  const [tooMany, tooManyChanges] = [kinds.has("Deletions"), kinds.has("Changes")];
  const over = [
    ...(tooMany ? [`${counted(deletions, "deletion", "deletions")} at once, ${limits.deletions} may be`] : []),
    ...(tooManyChanges ? [`${counted(changes, "change", "changes")} at once, ${limits.changes} may be`] : []),
  ];
  const stands =
    tooMany && tooManyChanges ? "nothing is deleted or changed" : `nothing is ${tooMany ? "deleted" : "changed"}`;
  const goes = tooManyChanges ? "new entries are made all the same" : "everything else goes on";
  const why = isProtected ? " in a protected environment" : "";
  const release = `kubectl -n ${metadata.namespace} annotate --overwrite syncrules.mazevault.io ${metadata.name} ${RELEASE_ANNOTATION}=${hash}`;
  return {
    type: "LimitExceeded",
    status: "True",
    reason: reasonOf(tooMany, isProtected),
    message: `${over.join("; ")}${why} (spec.limits): ${stands}, ${goes}. See status.plan; to release exactly this plan: ${release}`,
  };
}

const reasonOf = (tooManyDeletions: boolean, isProtected: boolean): Reason =>
  isProtected ? "ProtectedEnvironment" : tooManyDeletions ? "TooManyDeletions" : "TooManyChanges";

const counted = (count: number, one: string, many: string): string => `${count} ${count === 1 ? one : many}`;

/** On record in the name of the rule: who set the annotation, the API server's own audit log tells. */
export function released(resource: ResourceType, rule: SyncRule, plan: Held | undefined): readonly AuditEntry[] {
  if (plan === undefined) return [];
  const { namespace, name, uid } = rule.metadata;
  return [
    {
      action: "SyncPlanReleased",
      actor: objectActor(resource, rule),
      subject: { kind: "SyncRule", id: uid, name: `${namespace}/${name}` },
      outcome: "Success",
      details: { hash: plan.hash, deletions: plan.deletions, changes: plan.changes },
    },
  ];
}
