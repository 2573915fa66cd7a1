/**
 * Brings entries that both sides may change into step: a comparison of three, what both sides agreed on last (base), the
 * platform's value and the vault's.
 *
 *   platform  vault       then
 *   same      same        nothing but to remember the vault's time
 *   changed   same        it is written to the vault
 *   same      changed     it is taken over
 *   changed   changed     equal: agreed; else a conflict, which the rule's policy decides
 *
 * Whoever loses stays as a version of the secret. Each step is found done by whoever comes after a crash: a value that was
 * taken over is equal, one that was written is known by its intent, one that lost is kept already.
 */
import { Stalled } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import { NameTaken, type SyncItem, type SyncStore } from "../ports/sync-store.ts";
import type { VaultEntry } from "../ports/target-vault.ts";
import type { EntryDigest } from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import { failure, type NamedEntry } from "./entries.ts";
import type { PlannedExchange, Resolution, SharedEntry } from "./exchange-plan.ts";
import { INTENT_TAG, isNotShared, isOfAnotherSecret, isOurs } from "./ownership.ts";
import { disabled, notOwned, type PlannedPush } from "./plan.ts";
import { missing } from "./pull-plan.ts";
import { nameTaken, type PushContext, pushOver } from "./push-entry.ts";
import { type Done, type SyncResult, workThrough } from "./run.ts";

/** Which value both sides have after a conflict. */
export type ConflictPolicy = "PlatformWins" | "TargetWins" | "Manual";

export interface ExchangeContext extends Omit<PushContext, "store"> {
  readonly store: PushContext["store"] & Pick<SyncStore, "recordAgreement">;
  readonly policy: ConflictPolicy;
  /** Whether a version that is kept has this value. */
  keeps(secretId: string, key: string, fingerprint: string): Promise<boolean>;
  /** The fingerprint that an entry had in a version; undefined when that is not kept. */
  fingerprintIn(secretName: string, version: number, key: string): Promise<string | undefined>;
  /** Of the value, if this entry had it; as in `EntryDigest`. */
  fingerprint(secretName: string, key: string, value: Sensitive): Promise<string>;
  /**
   * Stores values as one version. Throws `Waiting` when an entry has another fingerprint by now than `expected` says. The
   * values are not disposed of, here and below.
   */
  take(secretName: string, values: ReadonlyMap<string, Sensitive>, expected: Expected): Promise<Held>;
  /** Keeps values as a version below the current one, unless a kept version has them; throws as `take` does. */
  keepBeside(secretName: string, values: ReadonlyMap<string, Sensitive>, expected: Expected): Promise<Held>;
  readonly concurrency?: number;
}

/** Fingerprints by key; undefined for what was never written. */
export type Expected = ReadonlyMap<string, string | undefined>;

/** What a secret has afterwards. */
export interface Held {
  readonly id: string;
  readonly version: number;
  readonly entries: readonly EntryDigest[];
}

type Verdict = "Agreed" | "Take" | "Push" | "KeepAndPush" | "Conflict";

interface Met {
  readonly planned: PlannedExchange;
  readonly verdict: Verdict;
  /** Undefined: the vault has no such entry. */
  readonly there: VaultEntry | undefined;
  /** See `Seen`. */
  readonly landed: boolean;
  /** `performance.now()` before it was asked for. */
  readonly at: number;
}

/** As `workThrough` does it, secret by secret. */
export const exchange = (planned: readonly PlannedExchange[], context: ExchangeContext): Promise<SyncResult> =>
  workThrough(
    [...Map.groupBy(planned, ({ entry }) => entry.secretName)].map(([secretName, group]) => ({
      entries: group.map(({ entry }) => entry),
      run: () => new SecretExchange(secretName, context).run(group),
    })),
    context,
  );

class SecretExchange {
  readonly #secretName: string;
  readonly #context: ExchangeContext;

  constructor(secretName: string, context: ExchangeContext) {
    this.#secretName = secretName;
    this.#context = context;
  }

  async run(group: readonly PlannedExchange[]): Promise<readonly Done[]> {
    const met: Met[] = [];
    const done: Done[] = [];
    try {
      for (const planned of group) {
        const found = await this.#meet(planned);
        if ("verdict" in found) met.push(found);
        else done.push(found);
      }
      const by = Map.groupBy(met, ({ verdict }) => verdict);
      for (const each of by.get("Agreed") ?? []) done.push(await this.#agree(each));
      for (const each of by.get("Conflict") ?? []) done.push(conflictOf(each));
      // Of the version that was decided on, whatever else becomes of the Secret.
      for (const each of by.get("Push") ?? []) done.push(await this.#push(each, undefined));
      done.push(...(await this.#take(by.get("Take") ?? [])));
      const losing = by.get("KeepAndPush") ?? [];
      const version = await this.#keep(losing);
      for (const each of losing) done.push(await this.#push(each, version));
      return done;
    } finally {
      for (const { there } of met) there?.value.dispose();
    }
  }

  async #meet(planned: PlannedExchange): Promise<Met | Done> {
    const { vault, signal, assertLeading, installation } = this.#context;
    const { entry, item } = planned;
    assertLeading();
    const at = performance.now();
    const state = await vault.get(entry.entryName, signal);
    if (state.kind === "Disabled") return { kind: "Failed", failure: disabled(entry) };
    if (state.kind === "Absent") {
      return entry.held === undefined
        ? { kind: "Failed", failure: missing(entry, item?.outcome) }
        : { planned, verdict: "Push", there: undefined, landed: false, at };
    }
    const there = state.entry;
    try {
      const { verdict, landed } = await this.#compare(planned, there);
      const { tags } = there;
      const notOurs =
        isOfAnotherSecret(tags, installation, { ...entry, secretId: entry.secretId ?? "" }) ||
        ((verdict === "Push" || verdict === "KeepAndPush") && isNotShared(tags, installation));
      if (!notOurs) return { planned, verdict, there, landed, at };
      there.value.dispose();
      return { kind: "Failed", failure: notOwned(entry, tags, installation) };
    } catch (error) {
      there.value.dispose();
      throw error;
    }
  }

  async #compare(planned: PlannedExchange, there: VaultEntry): Promise<Pick<Met, "verdict" | "landed">> {
    const { fingerprint } = this.#context;
    const { entry, item } = planned;
    const theirs = await fingerprint(this.#secretName, entry.key, there.value);
    // Whoever edits it may keep our tags: only the value that was meant is ours.
    const intent = item?.intent;
    const landed = intent !== undefined && there.tags[INTENT_TAG] === intent.id && intent.fingerprint === theirs;
    return { verdict: await this.#verdict(planned, there, { theirs, landed }), landed };
  }

  async #verdict(
    { entry, item, conflict }: PlannedExchange,
    there: VaultEntry,
    { theirs, landed }: { readonly theirs: string; readonly landed: boolean },
  ): Promise<Verdict> {
    const ours = entry.held?.fingerprint;
    if (ours === theirs) return "Agreed";
    if (ours === undefined) return "Take";
    const base = landed ? theirs : item?.outcome?.fingerprint;
    // The same value set once more is no change.
    const isSame = theirs === base || (!landed && item?.outcome?.targetVersion === there.version);
    if (isSame || (await this.#isLate(entry, there, theirs))) return "Push";
    if (ours === base) return "Take";
    const resolution = await this.#resolution(entry, conflict, there);
    return decisions[resolution ?? this.#context.policy];
  }

  /** A write of ours that arrived after a later one. A version here has the value, so nothing is lost with it. */
  async #isLate({ secretId, ...place }: SharedEntry, { tags }: VaultEntry, theirs: string): Promise<boolean> {
    const { installation, keeps } = this.#context;
    if (secretId === undefined || !isOurs(tags, installation, { ...place, secretId })) return false;
    return keeps(secretId, place.key, theirs);
  }

  /** What a person said, unless one of the two sides has moved since. */
  async #resolution(
    { key, held }: SharedEntry,
    conflict: PlannedExchange["conflict"],
    there: VaultEntry,
  ): Promise<Resolution | undefined> {
    const { resolution, platformVersion = 0, targetVersion } = conflict ?? {};
    if (resolution === undefined || targetVersion !== there.version) return undefined;
    if (held?.version === platformVersion) return resolution;
    const then = await this.#context.fingerprintIn(this.#secretName, platformVersion, key);
    return then === held?.fingerprint ? resolution : undefined;
  }

  async #agree(met: Met): Promise<Done> {
    const { secretId, held } = met.planned.entry;
    if (secretId === undefined || held === undefined) throw new Error("what was never written cannot be agreed on");
    return this.#remember(met, { id: secretId, ...held }, "Confirmed");
  }

  /** Together, so that they become one version; each by itself when one of them does not fit. */
  async #take(met: readonly Met[]): Promise<readonly Done[]> {
    if (met.length === 0) return [];
    try {
      return await this.#takeTogether(met);
    } catch (error) {
      if (!(error instanceof Stalled) || met.length === 1) throw error;
    }
    const done: Done[] = [];
    for (const each of met) {
      try {
        done.push(...(await this.#takeTogether([each])));
      } catch (error) {
        if (!(error instanceof Stalled)) throw error;
        done.push({ kind: "Failed", failure: failure(each.planned.entry, error.code, error.message) });
      }
    }
    return done;
  }

  async #takeTogether(met: readonly Met[]): Promise<readonly Done[]> {
    failpoint("sync.beforeTake");
    const held = await this.#context.take(this.#secretName, valuesOf(met), expectedOf(met));
    failpoint("sync.afterTake");
    const fingerprints = new Map(held.entries.map(({ key, fingerprint }) => [key, fingerprint]));
    const done: Done[] = [];
    for (const each of met) {
      const fingerprint = fingerprints.get(each.planned.entry.key);
      if (fingerprint === undefined) throw new Error("what was taken over is not there");
      done.push(await this.#remember(each, { id: held.id, version: held.version, fingerprint }, "Written"));
    }
    return done;
  }

  /** The version that the platform's values are in from then on; undefined when it is the one they were in. */
  async #keep(met: readonly Met[]): Promise<number | undefined> {
    if (met.length === 0) return undefined;
    failpoint("sync.beforeKeep");
    const { version } = await this.#context.keepBeside(this.#secretName, valuesOf(met), expectedOf(met));
    failpoint("sync.afterKeep");
    return version;
  }

  #push({ planned: { entry, item }, there, landed }: Met, version: number | undefined): Promise<Done> {
    const named = namedEntry(entry, version);
    const planned: PlannedPush = { entry: named, cause: "Changed", ...(item && { item }) };
    return pushOver(planned, there && { entry: there, landed }, { ...this.#context, shared: true });
  }

  async #remember(
    { planned: { entry }, there, at }: Met,
    { id, version, fingerprint }: { readonly id: string; readonly version: number; readonly fingerprint: string },
    kind: "Confirmed" | "Written",
  ): Promise<Done> {
    const { store, writer, vault, ruleUid } = this.#context;
    const { key, entryName } = entry;
    if (there === undefined) throw new Error("the vault has nothing to remember");
    const target = { targetVersion: there.version, targetUpdatedOn: there.updatedOn };
    const outcome = { version, fingerprint, ...target, settled: false };
    const agreed: SyncItem = { secretId: id, key, vaultUrl: vault.url, entryName, ruleUid, outcome };
    try {
      await store.recordAgreement(writer, agreed, performance.now() - at);
    } catch (error) {
      if (!(error instanceof NameTaken)) throw error;
      return nameTaken(entry, error);
    }
    failpoint("sync.afterAgreement");
    return { kind };
  }
}

/** What is done about a conflict. */
const decisions: Readonly<Record<ConflictPolicy | Resolution, Verdict>> = {
  Manual: "Conflict",
  PlatformWins: "KeepAndPush",
  KeepPlatform: "KeepAndPush",
  TargetWins: "Take",
  KeepTarget: "Take",
};

function conflictOf({ planned: { entry }, there }: Met): Done {
  const { secretId, held } = entry;
  if (secretId === undefined || held === undefined || there === undefined) throw new Error("one side has nothing");
  const target = { targetVersion: there.version, targetUpdatedOn: there.updatedOn };
  return { kind: "Conflict", conflict: { entry, secretId, platformVersion: held.version, ...target } };
}

const valuesOf = (met: readonly Met[]): ReadonlyMap<string, Sensitive> =>
  new Map(
    met.flatMap(({ planned, there }) => (there === undefined ? [] : [[planned.entry.key, there.value] as const])),
  );

const expectedOf = (met: readonly Met[]): Expected =>
  new Map(met.map(({ planned: { entry } }) => [entry.key, entry.held?.fingerprint]));

function namedEntry({ secretId, held, ...place }: SharedEntry, version: number | undefined): NamedEntry {
  if (secretId === undefined || held === undefined) throw new Error("what was never written cannot be pushed");
  return { ...place, ...held, secretId, version: version ?? held.version };
}
