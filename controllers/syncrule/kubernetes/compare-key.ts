/** One key of a core Secret that was read, and the platform's value of it. */
import type { CopyDelivery } from "../../../core/ports/copy-store.ts";
import type { SecretRecord } from "../../../core/ports/vault-store.ts";
import type { Resolution } from "../../../core/sync/exchange-plan.ts";
import type { Vault } from "../../../core/vault/vault.ts";
import type { SyncConflict } from "../../../crds/syncconflict.ts";
import type { SyncRule } from "../../../crds/syncrule.ts";
import type { Metadata } from "../../cluster.ts";
import { changeOf, passing, type Sides, type Verdict, verdictOn } from "./compare.ts";
import { targetVersionOf } from "./exchanges.ts";

export interface Compared {
  readonly from: string;
  readonly to: string;
  /** Fingerprints, here and there. */
  readonly ours: string;
  readonly theirs: string;
  readonly verdict: Verdict;
  /** Who decided, where both sides changed. */
  readonly policy?: string;
  /** What a person has answered. */
  readonly answered?: SyncConflict;
}

export interface Known {
  readonly rule: SyncRule;
  readonly vault: Pick<Vault, "keeps" | "fingerprintIn">;
  readonly stored: SecretRecord;
  readonly record: CopyDelivery | undefined;
  readonly live: Metadata;
  readonly open: SyncConflict | undefined;
}

/** Undefined: nothing is stored of it. */
export async function compareKey(
  known: Known,
  { from, to }: { readonly from: string; readonly to: string },
  theirs: string | undefined,
): Promise<Compared | undefined> {
  const { rule, stored, open } = known;
  const ours = stored.entries.find(({ key }) => key === from)?.fingerprint;
  if (ours === undefined) return undefined;
  const change = changeOf({ ours, theirs, ...(await sidesKnown(known, from, { ours, theirs })) });
  const { conflictPolicy } = rule.spec;
  const said = change === "Both" && conflictPolicy === "Manual" ? await saidOf(known, from, ours) : undefined;
  const policy = said ?? conflictPolicy;
  return {
    from,
    to,
    ours,
    theirs: theirs ?? "",
    verdict: verdictOn(change, conflictPolicy, said),
    ...(change === "Both" && policy !== undefined && { policy }),
    ...(said !== undefined && open !== undefined && { answered: open }),
  };
}

async function sidesKnown(
  { record, vault, stored }: Known,
  key: string,
  { ours, theirs }: Pick<Sides, "ours" | "theirs">,
): Promise<Pick<Sides, "base" | "meant">> {
  const meant = passing(record, "meant", key);
  const taking = passing(record, "taking", key);
  // It came from there, by somebody who died over it: nobody changed it here.
  if (taking.includes(ours)) return { base: ours, meant };
  const base = await baseOf(record, key, { vault, stored });
  // It has come here, and was changed here since.
  const isTaken = theirs !== undefined && taking.includes(theirs) && (await vault.keeps(stored.id, key, theirs));
  return { base, meant: isTaken ? [...meant, theirs] : meant };
}

/** What both sides had last: on record, or what was copied last by a rule that only wrote. */
async function baseOf(
  record: CopyDelivery | undefined,
  key: string,
  { vault, stored }: Pick<Known, "vault" | "stored">,
): Promise<string | undefined> {
  if (record === undefined || record.uid === "") return undefined;
  if (record.agreed !== undefined) return record.agreed[key];
  return vault.fingerprintIn(stored, record.version, key);
}

/** What a person said of these two values, and of no others. */
async function saidOf(
  { open, live, stored, vault }: Known,
  key: string,
  ours: string,
): Promise<Resolution | undefined> {
  const { platformVersion = 0, targetVersion } = open?.status ?? {};
  if (open?.spec.resolution === undefined || targetVersion !== targetVersionOf(live)) return undefined;
  if (stored.currentVersion === platformVersion) return open.spec.resolution;
  const then = await vault.fingerprintIn(stored, platformVersion, key);
  return then === ours ? open.spec.resolution : undefined;
}
