/**
 * How much a rule may delete and change at once without a person. A plan beyond that stands still, whole, until somebody
 * releases exactly it, by its hash; making new entries counts for nothing.
 */
import { createHash } from "node:crypto";
import { type EntryPlace, foldName, label } from "./entries.ts";

export type PlannedKind = "Create" | "Update" | "Recover" | "TakeOver" | "Delete";

export interface PlannedAction {
  readonly action: PlannedKind;
  readonly secret: string;
  readonly key: string;
  /** Name of the entry in the vault. */
  readonly target: string;
  /** Which limit it counts against, if any. */
  readonly counts?: "Changes" | "Deletions";
}

export const planned = (
  action: PlannedKind,
  { secretName, key, entryName }: EntryPlace,
  counts?: PlannedAction["counts"],
): PlannedAction => ({ action, secret: secretName, key, target: entryName, ...(counts && { counts }) });

export interface LimitsSpec {
  readonly deletions?: number | undefined;
  /** A number, or a percentage of the entries that the rule covers. */
  readonly changes?: string | undefined;
  readonly minimum?: number | undefined;
}

export interface Limits {
  readonly deletions: number;
  readonly changes: number;
}

const DELETIONS = 10;
/** Of few entries half is soon reached. */
const MINIMUM = 5;
/** In an environment that its Project protects, whatever the rule says. */
export const PROTECTED: Limits = { deletions: 3, changes: 10 };

/** `covered`: how many entries the rule covers. */
export function limitsOf(spec: LimitsSpec = {}, covered: number, isProtected: boolean): Limits {
  const { deletions = DELETIONS, changes, minimum = MINIMUM } = spec;
  const own = { deletions, changes: changesOf(changes, covered, minimum) };
  if (!isProtected) return own;
  return {
    deletions: Math.min(own.deletions, PROTECTED.deletions),
    changes: Math.min(own.changes, PROTECTED.changes),
  };
}

function changesOf(changes: string | undefined, covered: number, minimum: number): number {
  if (changes === undefined) return Number.POSITIVE_INFINITY;
  if (!changes.endsWith("%")) return Number(changes);
  return covered < minimum ? Number.POSITIVE_INFINITY : Math.floor((covered * Number(changes.slice(0, -1))) / 100);
}

export interface Held {
  /** Which kinds stand still. */
  readonly kinds: ReadonlySet<NonNullable<PlannedAction["counts"]>>;
  readonly actions: readonly PlannedAction[];
  readonly deletions: number;
  readonly changes: number;
  /** What lets this plan run; another one after it was used. */
  readonly hash: string;
}

/** Identifies what was released; stands in the record of the rule. */
export const approvalOf = ({ counts, secret, key, target }: PlannedAction): string =>
  `${counts ?? ""} ${secret}/${key} ${foldName(target)}`;

/** What is held back of a plan; undefined when nothing is. `release`: the one that was handled last. */
export function heldOf(
  plan: readonly PlannedAction[],
  limits: Limits,
  {
    approved,
    release,
    place,
  }: { readonly approved: ReadonlySet<string>; readonly release?: string | undefined; readonly place: string },
): Held | undefined {
  const open = plan.filter((action) => action.counts !== undefined && !approved.has(approvalOf(action)));
  const deletions = open.filter(({ counts }) => counts === "Deletions").length;
  const changes = open.length - deletions;
  const kinds = new Set<NonNullable<PlannedAction["counts"]>>();
  if (deletions > limits.deletions) kinds.add("Deletions");
  if (changes > limits.changes) kinds.add("Changes");
  if (kinds.size === 0) return undefined;
  const actions = open.filter(({ counts }) => counts !== undefined && kinds.has(counts));
  return { kinds, actions, deletions, changes, hash: hashOf(actions, place, release) };
}

/** The same for the same plan of the same rule at the same vault, in whatever order. */
export function hashOf(plan: readonly PlannedAction[], place: string, release = ""): string {
  const lines = plan.map((action) => `${action.action} ${approvalOf(action)}`).sort();
  return createHash("sha256")
    .update([place, release, ...lines].join("\n"))
    .digest("hex")
    .slice(0, 16);
}

/** In the order in which a person reads it: what goes first. */
export function inOrder(plan: readonly PlannedAction[]): readonly PlannedAction[] {
  const order: readonly PlannedKind[] = ["Delete", "Update", "TakeOver", "Recover", "Create"];
  const place = ({ action, secret, key, target }: PlannedAction): string =>
    `${order.indexOf(action)} ${label({ secretName: secret, key })} ${target}`;
  return plan.toSorted((a, b) => (place(a) < place(b) ? -1 : 1));
}
