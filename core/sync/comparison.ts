/**
 * Which side changed an entry that both may change, and what is to be done: a comparison of three, what both sides agreed on
 * last (base), the platform's value and the vault's.
 *
 *   platform  vault       then
 *   same      same        nothing but to remember the vault's time
 *   changed   same        it is written to the vault
 *   same      changed     it is taken over
 *   changed   changed     equal: agreed; else a conflict, which the rule's policy decides
 */
import { Stalled, Waiting } from "../errors.ts";
import type { EntryState, VaultEntry } from "../ports/target-vault.ts";
import type { Sensitive } from "../sensitive.ts";
import { isNewer, platformStamp, type Stamp, targetStamp, writtenAt } from "./clock.ts";
import type { PlannedExchange, Resolution, SharedEntry } from "./exchange-plan.ts";
import { INSTALLATION_TAG, INTENT_TAG, isOurs } from "./ownership.ts";
import type { DecidedConflict } from "./run.ts";

/** Which value both sides have after a conflict. */
export type ConflictPolicy = "NewestWins" | "PlatformWins" | "TargetWins" | "Manual";

const SOON_MS = 1_000;

export interface ComparisonContext {
  /** Id of the installation. */
  readonly installation: string;
  readonly policy: ConflictPolicy;
  /** Whether a version that is kept has this value. */
  keeps(secretId: string, key: string, fingerprint: string): Promise<boolean>;
  /** See `VaultStore.heldForMs`. */
  heldForMs(secretId: string, key: string, fingerprint: string): Promise<number | undefined>;
  /** The fingerprint that an entry had in a version; undefined when that is not kept. */
  fingerprintIn(secretName: string, version: number, key: string): Promise<string | undefined>;
  /** Of the value, if this entry had it; as in `EntryDigest`. */
  fingerprint(secretName: string, key: string, value: Sensitive): Promise<string>;
  /** Milliseconds since any moment, never going back; `performance.now` when absent. */
  readonly monotonic?: () => number;
}

export type Verdict = "Agreed" | "Take" | "Push" | "KeepAndPush" | "Conflict";

/** What came of comparing the two sides. */
export interface Compared {
  readonly verdict: Verdict;
  /** When the value was set that both sides have afterwards; absent: since it is written, or as it was. */
  readonly clock?: number;
  readonly decided?: DecidedConflict;
}

/** An answer of the vault. */
export interface Read {
  /** What its clock said; undefined when it did not tell. */
  readonly asOf: Date | undefined;
  /** When this process had the answer. */
  readonly answeredAt: number;
}

export const readOf = (state: EntryState, context: ComparisonContext): Read => ({
  asOf: asOfState(state),
  answeredAt: monotonic(context),
});

/** `there`: what the vault has, as it was read. */
export async function compare(
  planned: PlannedExchange,
  there: VaultEntry,
  read: Read,
  context: ComparisonContext,
): Promise<Compared & { readonly theirs: string; readonly landed: boolean }> {
  const { fingerprint, installation } = context;
  const { entry, item } = planned;
  const theirs = await fingerprint(entry.secretName, entry.key, there.value);
  // Whoever edits it may keep our tags: only the value that was meant is ours.
  const intent = item?.intent;
  const landed = intent !== undefined && there.tags[INTENT_TAG] === intent.id && intent.fingerprint === theirs;
  const copied = there.tags[INSTALLATION_TAG] === installation && !landed;
  const target = targetStamp(there, { base: baseOf(planned)?.clock, copied });
  return { ...(await judge(planned, there, { theirs, landed, target, read }, context)), landed, theirs };
}

async function judge(
  planned: PlannedExchange,
  there: VaultEntry,
  { theirs, landed, target, read }: Seen,
  context: ComparisonContext,
): Promise<Compared> {
  const { entry, item, conflict } = planned;
  const ours = entry.held?.fingerprint;
  const agreed = baseOf(planned)?.fingerprint;
  // The same value set once more is no change, and as old as it was.
  if (ours === theirs) return { verdict: "Agreed", ...(theirs !== agreed && { clock: target.at }) };
  if (ours === undefined) return { verdict: "Take", clock: target.at };
  const base = landed ? theirs : agreed;
  const isSame = theirs === base || (!landed && item?.outcome?.targetVersion === there.version);
  if (isSame || (await isLate(entry, there, theirs, context))) {
    return { verdict: "Push", ...(await clockToPush(planned, read, context)) };
  }
  if (ours === base) return { verdict: "Take", clock: target.at };
  const said = await resolutionOf(entry, conflict, there, context);
  const policy = said ?? context.policy;
  if (policy === "Manual") return { verdict: "Conflict" };
  const platform = await stamp(planned, read, context);
  const verdict = policy === "NewestWins" ? newest(platform, target, there) : decisions[policy];
  const decided: DecidedConflict = {
    entry,
    policy,
    winner: verdict === "Take" ? "Target" : "Platform",
    platformVersion: entry.held?.version ?? 0,
    targetVersion: there.version,
    ...(platform && { platformSetOn: new Date(platform.at) }),
    targetSetOn: new Date(target.at),
  };
  if (verdict === "Take") return { verdict, clock: target.at, decided };
  // It was decided by whoever had seen the other one.
  return { verdict, decided, ...(platform && { clock: Math.max(platform.at, target.at + 1) }) };
}

/** When the value was set that is pushed; nothing when that is not known. */
export async function clockToPush(
  planned: PlannedExchange,
  read: Read,
  context: ComparisonContext,
): Promise<{ readonly clock?: number }> {
  const base = baseOf(planned);
  const isAgreed = base !== undefined && planned.entry.held?.fingerprint === base.fingerprint;
  const clock = isAgreed ? base.clock : (await stamp(planned, read, context))?.at;
  return clock === undefined ? {} : { clock };
}

/** When the platform's value was set; undefined when the vault does not say what time it is. */
async function stamp(
  planned: PlannedExchange,
  { asOf, answeredAt }: Read,
  context: ComparisonContext,
): Promise<Stamp | undefined> {
  const { secretId, key, held, secretName } = planned.entry;
  if (secretId === undefined || held === undefined || asOf === undefined) return undefined;
  const { heldForMs, installation } = context;
  const age = await heldForMs(secretId, key, held.fingerprint);
  if (age === undefined)
    throw new Waiting("Progressing", `entry ${key} of Secret ${secretName} was written meanwhile`, SOON_MS);
  return platformStamp({
    asOf,
    elapsedMs: monotonic(context) - answeredAt,
    heldForMs: age,
    base: baseOf(planned)?.clock,
    installation,
  });
}

const monotonic = (context: ComparisonContext): number => (context.monotonic ?? (() => performance.now()))();

/** A write of ours that arrived after a later one. A version here has the value, so nothing is lost with it. */
async function isLate(
  { secretId, ...place }: SharedEntry,
  { tags }: VaultEntry,
  theirs: string,
  { installation, keeps }: ComparisonContext,
): Promise<boolean> {
  if (secretId === undefined || !isOurs(tags, installation, { ...place, secretId })) return false;
  return keeps(secretId, place.key, theirs);
}

/** What a person said, unless one of the two sides has moved since. */
async function resolutionOf(
  { key, held, secretName }: SharedEntry,
  conflict: PlannedExchange["conflict"],
  there: VaultEntry,
  { fingerprintIn }: ComparisonContext,
): Promise<Resolution | undefined> {
  const { resolution, platformVersion = 0, targetVersion } = conflict ?? {};
  if (resolution === undefined || targetVersion !== there.version) return undefined;
  if (held?.version === platformVersion) return resolution;
  const then = await fingerprintIn(secretName, platformVersion, key);
  return then === held?.fingerprint ? resolution : undefined;
}

interface Seen {
  /** Fingerprint of the vault's value. */
  readonly theirs: string;
  readonly landed: boolean;
  /** When it was set. */
  readonly target: Stamp;
  readonly read: Read;
}

/** No version is of the future, whichever of the service's machines answered. */
function asOfState(state: EntryState): Date | undefined {
  if (state.kind === "Absent") return state.asOf;
  if (state.kind === "Disabled" || state.entry.asOf === undefined) return undefined;
  const { asOf, createdOn } = state.entry;
  return new Date(Math.max(asOf.getTime(), createdOn.getTime()));
}

/** What both sides agreed on last, and when it was set. */
function baseOf({ entry: { held }, item }: PlannedExchange) {
  const { outcome, taking } = item ?? {};
  // It came from the vault, by somebody who died over it: nobody changed it here.
  if (taking !== undefined && taking.fingerprint === held?.fingerprint) return taking;
  return outcome && { fingerprint: outcome.fingerprint, clock: outcome.clock ?? writtenAt(outcome.targetUpdatedOn) };
}

function newest(platform: Stamp | undefined, target: Stamp, { name }: VaultEntry): "KeepAndPush" | "Take" {
  if (platform === undefined) {
    throw new Stalled(
      "VaultTimeUnknown",
      `the vault's answer about ${name} has no Date, by which NewestWins compares; let what is on the way pass that header, or set another conflictPolicy`,
    );
  }
  return isNewer(platform, target) ? "KeepAndPush" : "Take";
}

/** What is done about a conflict without looking at times. */
const decisions: Readonly<
  Record<Exclude<ConflictPolicy, "Manual" | "NewestWins"> | Resolution, "KeepAndPush" | "Take">
> = {
  PlatformWins: "KeepAndPush",
  KeepPlatform: "KeepAndPush",
  TargetWins: "Take",
  KeepTarget: "Take",
};
