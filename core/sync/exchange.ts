/**
 * Brings entries that both sides may change into step, as their comparison says (`comparison.ts`).
 *
 * Whoever loses stays as a version of the secret. Each step is found done by whoever comes after a crash: a value that was
 * taken over is equal, one that was written is known by its intent, one that lost is kept already.
 */
import { Stalled } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { AuditEntry } from "../ports/audit-log.ts";
import { NameTaken, type SyncItem, type SyncStore } from "../ports/sync-store.ts";
import type { VaultEntry } from "../ports/target-vault.ts";
import type { EntryDigest } from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import { type Compared, type ComparisonContext, clockToPush, compare, type Read, readOf } from "./comparison.ts";
import { failure, type NamedEntry } from "./entries.ts";
import type { PlannedExchange, SharedEntry } from "./exchange-plan.ts";
import { overtakenBy } from "./overtaken.ts";
import { isNotShared, isOfAnotherSecret } from "./ownership.ts";
import { disabled, notOwned, type PlannedPush } from "./plan.ts";
import { missing } from "./pull-plan.ts";
import { nameTaken, type PushContext, pushOver, type Shared } from "./push-entry.ts";
import { type Done, type SyncResult, workThrough } from "./run.ts";

export interface ExchangeContext extends Omit<PushContext, "store" | "shared">, ComparisonContext {
  readonly store: PushContext["store"] & Pick<SyncStore, "recordAgreement" | "recordTaking">;
  /**
   * Stores values as one version. Throws `Waiting` when an entry has another fingerprint by now than `expected` says. The
   * values are not disposed of, here and below.
   */
  take(secretName: string, values: ReadonlyMap<string, Sensitive>, expected: Expected): Promise<Held>;
  /** Keeps values as a version below the current one, unless a kept version has them; throws as `take` does. */
  keepBeside(secretName: string, values: ReadonlyMap<string, Sensitive>, expected: Expected): Promise<Held>;
  readonly concurrency?: number;
  /**
   * By entry: the decision that is on record and not carried out yet, so that what keeps failing is not recorded each time.
   * Forgotten with the process: recorded once more is better than never.
   */
  readonly recorded: Map<string, string>;
}

/** Fingerprints by key; undefined for what was never written. */
export type Expected = ReadonlyMap<string, string | undefined>;

/** What a secret has afterwards. */
export interface Held {
  readonly id: string;
  readonly version: number;
  readonly entries: readonly EntryDigest[];
}

interface Met extends Compared {
  readonly planned: PlannedExchange;
  readonly read: Read;
  /** Undefined: the vault has no such entry. */
  readonly there: VaultEntry | undefined;
  /** Fingerprint of the vault's value; undefined along with `there`. */
  readonly theirs?: string;
  /** It is what the open intent meant to write. */
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
  /** Since values were kept beside. What is current by now has a number that retention has not come to. */
  #kept: Held | undefined;

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
    const read = readOf(state, this.#context);
    if (state.kind === "Disabled") return { kind: "Failed", failure: disabled(entry) };
    if (state.kind === "Absent") {
      if (entry.held === undefined) return { kind: "Failed", failure: missing(entry, item?.outcome) };
      return {
        planned,
        read,
        verdict: "Push",
        ...(await clockToPush(planned, read, this.#context)),
        there: undefined,
        landed: false,
        at,
      };
    }
    const there = state.entry;
    try {
      const compared = await compare(planned, there, read, this.#context);
      const { verdict } = compared;
      const { tags } = there;
      const notOurs =
        isOfAnotherSecret(tags, installation, { ...entry, secretId: entry.secretId ?? "" }) ||
        ((verdict === "Push" || verdict === "KeepAndPush") && isNotShared(tags, installation));
      if (!notOurs) return { planned, read, ...compared, there, at };
      there.value.dispose();
      return { kind: "Failed", failure: notOwned(entry, tags, installation) };
    } catch (error) {
      there.value.dispose();
      throw error;
    }
  }

  async #agree(met: Met): Promise<Done> {
    const { secretId, held } = met.planned.entry;
    if (secretId === undefined || held === undefined) throw new Error("what was never written cannot be agreed on");
    await this.#endIntent(met);
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
    await this.#recordDecided(met);
    for (const each of met) await this.#recordTaking(each);
    failpoint("sync.beforeTake");
    const held = await this.#context.take(this.#secretName, valuesOf(met), expectedOf(met));
    failpoint("sync.afterTake");
    const fingerprints = new Map(held.entries.map(({ key, fingerprint }) => [key, fingerprint]));
    const done: Done[] = [];
    for (const each of met) {
      await this.#endIntent(each);
      const fingerprint = fingerprints.get(each.planned.entry.key);
      if (fingerprint === undefined) throw new Error("what was taken over is not there");
      const remembered = await this.#remember(each, { id: held.id, version: held.version, fingerprint }, "Written");
      const { decided } = each;
      if (remembered.kind === "Written") this.#context.recorded.delete(this.#placeOf(each));
      done.push(remembered.kind === "Written" && decided ? { ...remembered, decided } : remembered);
    }
    return done;
  }

  /** Nothing of a secret that was never stored: it has no id yet. */
  async #recordTaking({ planned: { entry }, theirs, clock }: Met): Promise<void> {
    const { store, writer, vault, ruleUid } = this.#context;
    const { secretId, key, entryName } = entry;
    if (secretId === undefined || theirs === undefined || clock === undefined) return;
    const taking = { fingerprint: theirs, clock };
    try {
      await store.recordTaking(writer, { secretId, key, vaultUrl: vault.url, entryName, ruleUid, taking });
    } catch (error) {
      // Told when the agreement is to be recorded.
      if (!(error instanceof NameTaken)) throw error;
    }
  }

  /** The version that the platform's values are in from then on; undefined when it is the one they were in. */
  async #keep(met: readonly Met[]): Promise<number | undefined> {
    if (met.length === 0) return undefined;
    await this.#recordDecided(met);
    failpoint("sync.beforeKeep");
    this.#kept = await this.#context.keepBeside(this.#secretName, valuesOf(met), expectedOf(met));
    failpoint("sync.afterKeep");
    return this.#kept.version;
  }

  async #push(met: Met, version: number | undefined): Promise<Done> {
    const { planned, there, landed, decided } = met;
    const { entry, item } = planned;
    const push: PlannedPush = { entry: namedEntry(entry, version), cause: "Changed", ...(item && { item }) };
    const shared = this.#sharedBy(met);
    const open: PushContext["open"] = (id, decidedOn, key) =>
      this.#context.open(id, this.#versionOf(push.entry) ?? decidedOn, key);
    const done = await pushOver(push, there && { entry: there, landed }, { ...this.#context, shared, open });
    if (done.kind === "Written" || done.kind === "Confirmed") this.#context.recorded.delete(this.#placeOf(met));
    return done.kind === "Written" && decided !== undefined ? { ...done, decided } : done;
  }

  /** Of the same value: with few versions kept, the one that was decided on may be gone. */
  #versionOf({ key, fingerprint }: Pick<NamedEntry, "key" | "fingerprint">): number | undefined {
    const isSame = this.#kept?.entries.some((each) => each.key === key && each.fingerprint === fingerprint);
    return isSame === true ? this.#kept?.version : undefined;
  }

  /** Whoever meant to write it died over it: what it has written over, if it did, is looked for before that is forgotten. */
  async #endIntent(met: Met): Promise<void> {
    if (met.planned.item?.intent !== undefined) await this.#sharedBy(met).keepOvertaken(undefined);
  }

  #sharedBy({ planned: { entry, item }, there, clock, read: { asOf } }: Met): Shared {
    const base = item?.outcome?.targetVersion;
    const seen = item?.intent === undefined ? (there?.version ?? base) : base;
    return {
      ...(clock !== undefined && asOf !== undefined && { clock, asOf: asOf.getTime() }),
      keepOvertaken: async (written) => {
        const known = new Set([base, there?.version, written].filter((version) => version !== undefined));
        for await (const value of overtakenBy(written, { entryName: entry.entryName, seen, known }, this.#context)) {
          await this.#keepOvertaken(entry.key, value);
        }
      },
    };
  }

  /** Beside whatever is current by now. */
  async #keepOvertaken(key: string, value: Sensitive): Promise<void> {
    try {
      failpoint("sync.beforeKeep");
      this.#kept = await this.#context.keepBeside(this.#secretName, new Map([[key, value]]), new Map());
      failpoint("sync.afterKeep");
    } catch (error) {
      // One that does not fit here stays in the vault's own versions.
      if (!(error instanceof Stalled)) throw error;
    }
  }

  /** Before the effect: what was decided without a person is on record, also when the effect failed. */
  async #recordDecided(met: readonly Met[]): Promise<void> {
    const { audit, actor, vault, ruleUid, recorded } = this.#context;
    const isNew = (each: Met): boolean => recorded.get(this.#placeOf(each)) !== decisionOf(each);
    const fresh = met.filter((each) => each.decided !== undefined && isNew(each));
    const rows = fresh.flatMap(({ decided, planned: { entry } }): AuditEntry[] => {
      if (decided === undefined) return [];
      const { policy, winner, platformVersion, targetVersion, platformSetOn, targetSetOn } = decided;
      return [
        {
          action: "SyncConflictDecided",
          actor,
          subject: { kind: "VaultEntry", id: entry.secretId ?? "", name: `${vault.url}secrets/${entry.entryName}` },
          outcome: "Success",
          details: {
            secret: this.#secretName,
            key: entry.key,
            rule: ruleUid,
            policy,
            winner,
            platformVersion,
            targetVersion,
            ...(platformSetOn && { platformSetOn: platformSetOn.toISOString() }),
            targetSetOn: targetSetOn.toISOString(),
          },
        },
      ];
    });
    if (rows.length > 0) await audit.append(rows);
    for (const each of fresh) recorded.set(this.#placeOf(each), decisionOf(each));
  }

  #placeOf({ planned: { entry } }: Met): string {
    return `${this.#context.vault.url} ${entry.entryName} ${entry.secretId ?? ""} ${entry.key}`;
  }

  async #remember(
    { planned: { entry }, there, at, clock, read: { asOf } }: Met,
    { id, version, fingerprint }: { readonly id: string; readonly version: number; readonly fingerprint: string },
    kind: "Confirmed" | "Written",
  ): Promise<Done> {
    const { store, writer, vault, ruleUid } = this.#context;
    const { key, entryName } = entry;
    if (there === undefined) throw new Error("the vault has nothing to remember");
    const target = { targetVersion: there.version, targetUpdatedOn: there.updatedOn };
    // An edit of the second that the vault tells would have the same time: it is settled once that second is over there.
    const settled = asOf !== undefined && asOf.getTime() - there.updatedOn.getTime() >= SETTLED_MS;
    const outcome = { version, fingerprint, ...target, settled, ...(clock !== undefined && { clock }) };
    const agreed: SyncItem = { secretId: id, key, vaultUrl: vault.url, entryName, ruleUid, outcome };
    try {
      await store.recordAgreement(writer, agreed, asOf === undefined ? performance.now() - at : undefined);
    } catch (error) {
      if (!(error instanceof NameTaken)) throw error;
      return nameTaken(entry, error);
    }
    failpoint("sync.afterAgreement");
    return { kind };
  }
}

/** Of whole seconds. Two, as the service has more than one clock. */
const SETTLED_MS = 2_000;

function conflictOf({ planned: { entry }, there }: Met): Done {
  const { secretId, held } = entry;
  if (secretId === undefined || held === undefined || there === undefined) throw new Error("one side has nothing");
  const target = { targetVersion: there.version, targetUpdatedOn: there.updatedOn };
  return { kind: "Conflict", conflict: { entry, secretId, platformVersion: held.version, ...target } };
}

/** Who wins over what. */
const decisionOf = ({ planned: { entry }, decided }: Met): string =>
  `${decided?.policy} ${decided?.winner} ${entry.held?.fingerprint} ${decided?.targetVersion}`;

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
