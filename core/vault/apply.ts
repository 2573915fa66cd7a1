/**
 * A version that is applied before it is current:
 *
 *   (none) --propose--> pending --promote--> current, the one before is the former --confirm--> overlap --end--> (none)
 *                          |
 *                          +--discard--> failed; another attempt makes other values
 *
 * Each arrow is one change of the pointer, and the record of where it stands is part of it: whoever leads next goes on from
 * there. While there is a pending or a former version no other rotation begins.
 */
import type { SecretSpec } from "../../crds/secret.ts";
import { durationMs } from "../duration.ts";
import type { ApplyCause, ApplyRecord, PendingVersion, RotationRecord, SecretRecord } from "../ports/vault-store.ts";
import { type RotationCause, type RotationPlan, rotatableKeys } from "./due.ts";
import { withHeld } from "./retention.ts";

export type ApplyPlan =
  /** Nothing stands in between. */
  | { readonly kind: "Idle" }
  | { readonly kind: "Propose"; readonly keys: readonly string[]; readonly cause: RotationCause }
  | { readonly kind: "Apply"; readonly pending: PendingVersion }
  /** What uses the former version may not use it any more. */
  | { readonly kind: "Confirm" }
  | { readonly kind: "End" }
  | { readonly kind: "Wait"; readonly for: "Overlap" | "Retry"; readonly until: Date }
  /** The manifest does not ask for it any more. */
  | { readonly kind: "Abandon" };

const DEFAULT_TIMEOUT = "10m";
const DEFAULT_OVERLAP = "5m";
/** Whoever asks for new values has a reason not to wait longer. */
const LONGEST_OVERLAP_OF_REQUEST_MS = 60_000;
const SHORTEST_PAUSE_MS = 60_000;
const LONGEST_PAUSE_MS = 3_600_000;
const MOST_FAILED = 100;
/** What is said to have happened later than this from now was written by a clock that was ahead. */
const CLOCKS_APART_MS = 60_000;

export const NOTHING_IS_PENDING_THERE =
  "spec.rotation.apply: the values are in a Key Vault, of which everybody reads the newest version, so none can be pending there; leave out apply, or use a Project with storage Platform";

export const applyTimeoutMs = ({ rotation }: Pick<SecretSpec, "rotation">): number =>
  durationMs(rotation?.apply?.timeout ?? DEFAULT_TIMEOUT);

/** Entries whose values count elsewhere once they are applied: nobody but a rotation gives them others. */
export function appliedKeys({ entries, rotation }: Pick<SecretSpec, "entries" | "rotation">): ReadonlySet<string> {
  if (rotation?.apply === undefined) return new Set();
  const generated = entries.flatMap(({ key, generate }) => (generate === undefined ? [] : [key]));
  const username = rotation.apply.postgres?.username;
  return new Set([...(rotation.keys ?? generated), ...(username === undefined ? [] : [username])]);
}

/** How long the former version counts after everything that uses it has the present one. */
const formerOverlapMs = ({ rotation }: Pick<SecretSpec, "rotation">): number =>
  durationMs(rotation?.overlap ?? DEFAULT_OVERLAP);

/** @param due what is to be done about rotating, were nothing in between */
export function planApply(
  spec: Pick<SecretSpec, "entries" | "rotation">,
  due: RotationPlan,
  record: Pick<SecretRecord, "entries" | "rotation">,
  now: Date,
): ApplyPlan {
  const asked = spec.rotation?.apply;
  const { pending, former, failure } = record.rotation?.apply ?? {};
  if (asked === undefined) return pending || former || failure ? { kind: "Abandon" } : { kind: "Idle" };
  if (pending !== undefined) return { kind: "Apply", pending };
  if (former !== undefined) {
    // Nobody knows when it was: the overlap begins now, rather than when the clock has come that far.
    const isAhead = (former.confirmed?.getTime() ?? 0) > now.getTime() + CLOCKS_APART_MS;
    if (former.confirmed === undefined || isAhead) return { kind: "Confirm" };
    const isAsked = (due.kind === "Rotate" && due.cause.kind === "Request") || record.rotation?.apply?.asked === true;
    const overlapMs = Math.min(formerOverlapMs(spec), isAsked ? LONGEST_OVERLAP_OF_REQUEST_MS : Infinity);
    const until = new Date(former.confirmed.getTime() + overlapMs);
    return until > now ? { kind: "Wait", for: "Overlap", until } : { kind: "End" };
  }
  // That is recorded first.
  if (due.kind === "Change") return { kind: "Idle" };
  const cause = due.kind === "Rotate" ? due.cause : causeWithout(spec, record);
  if (cause === undefined) {
    // Its window is closed.
    if (failure === undefined || due.next === undefined) return { kind: "Idle" };
    return { kind: "Wait", for: "Retry", until: new Date(Math.max(due.next.getTime(), failure.retryAt.getTime())) };
  }
  const isNew = record.rotation?.apply?.asked === true || (cause.kind === "Request" && cause.token !== undefined);
  const isPausing = (at: Date) => at > now && at.getTime() <= now.getTime() + LONGEST_PAUSE_MS + CLOCKS_APART_MS;
  if (failure !== undefined && isPausing(failure.retryAt) && !isNew) {
    return { kind: "Wait", for: "Retry", until: failure.retryAt };
  }
  const keys = due.kind === "Rotate" ? due.keys : rotatableKeys(spec, record);
  return keys.length === 0 ? { kind: "Idle" } : { kind: "Propose", keys, cause };
}

/** Why new values are needed although no timetable says so. */
function causeWithout(
  { entries, rotation }: Pick<SecretSpec, "entries" | "rotation">,
  record: Pick<SecretRecord, "entries" | "rotation">,
): RotationCause | undefined {
  const { asked, failure } = record.rotation?.apply ?? {};
  if (asked === true || failure?.cause === "Request") return { kind: "Request" };
  const username = rotation?.apply?.postgres?.username;
  const isWritten = record.entries.some(({ key }) => key === username);
  return username === undefined || isWritten || !entries.some(({ key }) => key === username)
    ? undefined
    : { kind: "First" };
}

const NONE: ApplyRecord = { last: 0, failed: [] };

/** Somebody wants new values; who leads makes them. */
export function requested(rotation: RotationRecord | undefined, now: Date): RotationRecord {
  const { apply = NONE, ...others } = rotation ?? { since: now, held: [] };
  return { ...others, apply: { ...apply, asked: true } };
}

export interface Proposal {
  readonly version: number;
  readonly base: number;
  readonly keys: readonly string[];
  readonly cause: RotationCause;
}

export function proposed(
  rotation: RotationRecord | undefined,
  { version, base, keys, cause }: Proposal,
  now: Date,
): RotationRecord {
  const { apply = NONE, ...others } = rotation ?? { since: now, held: [] };
  const { asked: _, ...before } = apply;
  const kind: ApplyCause = cause.kind;
  const pending: PendingVersion = {
    version,
    base,
    keys,
    cause: kind,
    since: now,
    ...(cause.kind === "Timetable" && { due: cause.due }),
  };
  return {
    ...others,
    ...(cause.kind === "Request" && cause.token !== undefined && { request: cause.token }),
    apply: { ...before, last: version, pending },
  };
}

/** @param role that the version before logs in as, where it is to end */
export function promoted(
  rotation: RotationRecord,
  pending: PendingVersion,
  before: { readonly version: number; readonly role?: string | undefined },
  overlapMs: number,
  now: Date,
): RotationRecord {
  const { apply = NONE } = rotation;
  const { pending: _, failure: __, ...others } = apply;
  const { version, role } = before;
  const at = pending.due !== undefined && pending.due > now ? pending.due : now;
  return {
    ...withHeld(rotation, version, new Date(now.getTime() + overlapMs), now),
    at,
    apply: { ...others, last: Math.max(apply.last, version), former: { version, ...(role !== undefined && { role }) } },
  };
}

/** The current version has what is pending, or no longer any of its entries: it is over, and nothing else changes. */
export function overtaken(rotation: RotationRecord, currentVersion: number): RotationRecord {
  const { pending: _, failure: __, ...others } = rotation.apply ?? NONE;
  return { ...rotation, apply: { ...others, last: Math.max(others.last, currentVersion) } };
}

/** The next attempt is later each time. */
export function discarded(
  record: Discarding,
  rotation: RotationRecord,
  pending: PendingVersion,
  message: string,
  now: Date,
): RotationRecord {
  const { apply = NONE } = rotation;
  const { pending: _, ...others } = apply;
  const { version, cause } = pending;
  const count = (apply.failure?.count ?? 0) + 1;
  const pauseMs = Math.min(LONGEST_PAUSE_MS, SHORTEST_PAUSE_MS * 2 ** Math.min(count - 1, 10));
  const retryAt = new Date(now.getTime() + pauseMs);
  const failure = { version, cause, message: message.slice(0, LONGEST_MESSAGE), count, retryAt };
  return { ...rotation, apply: { ...others, failure, failed: withFailed(record, apply.failed, version) } };
}
const LONGEST_MESSAGE = 512;

type Discarding = Pick<SecretRecord, "currentVersion" | "lifecycle">;

/** While attempts fail no version becomes current that would let retention take those above it: as many stay as it keeps. */
function withFailed(
  { currentVersion, lifecycle }: Discarding,
  before: readonly number[],
  version: number,
): readonly number[] {
  const failed = [...before, version];
  const above = failed.filter((each) => each > currentVersion);
  const gone = new Set(above.slice(0, -Math.max(1, lifecycle.keepVersions)));
  return failed.filter((each) => !gone.has(each)).slice(-MOST_FAILED);
}

/** Everything that is known to use it has the present version. Without a role nothing is left to be done. */
export function confirmed(rotation: RotationRecord, now: Date): RotationRecord {
  const { apply = NONE } = rotation;
  const { former, ...others } = apply;
  return {
    ...rotation,
    apply: { ...others, ...(former?.role !== undefined && { former: { ...former, confirmed: now } }) },
  };
}

export function ended(rotation: RotationRecord): RotationRecord {
  const { former: _, ...apply } = rotation.apply ?? NONE;
  return { ...rotation, apply };
}

/** What stood in between is given up: a pending version has failed, and nothing is done about a former one. */
export function abandoned(record: Discarding, rotation: RotationRecord): RotationRecord {
  const { last, pending, failed } = rotation.apply ?? NONE;
  return {
    ...rotation,
    apply: { last, failed: pending === undefined ? failed : withFailed(record, failed, pending.version) },
  };
}

/** For the audit row, when it becomes current. */
export function causeOf({ timetable = "none" }: RotationRecord, { cause, due, since }: PendingVersion): RotationCause {
  return cause === "Timetable" ? { kind: cause, timetable, due: due ?? since } : { kind: cause };
}

export type VersionState = "Current" | "Pending" | "Failed" | "Kept";

export function stateOfVersion({ currentVersion, rotation }: SecretRecord, version: number): VersionState {
  if (version === currentVersion) return "Current";
  if (version === rotation?.apply?.pending?.version) return "Pending";
  return rotation?.apply?.failed.includes(version) ? "Failed" : "Kept";
}
