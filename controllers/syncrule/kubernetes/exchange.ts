/**
 * Brings core Secrets that both sides may change into step. Order of effects: what is taken over, or loses, becomes a
 * version first; then what is about to be written is on record; then the core Secret is written, if it is still the one
 * that was compared; then both sides have agreed. Whoever comes after a death in between finds a value that was taken
 * equal, one that lost kept, and one that was written meant.
 */
import { isDeepStrictEqual } from "node:util";
import { Waiting } from "../../../core/errors.ts";
import { failpoint } from "../../../core/failpoints.ts";
import type { AuditEntry, AuditLog } from "../../../core/ports/audit-log.ts";
import type { Agreed, CopyDelivery } from "../../../core/ports/copy-store.ts";
import { Sensitive } from "../../../core/sensitive.ts";
import {
  type DecidedConflict,
  type Done,
  type FoundConflict,
  type SyncResult,
  workThrough,
} from "../../../core/sync/run.ts";
import { type SyncRule, syncRuleKind } from "../../../crds/syncrule.ts";
import { objectActor } from "../../actor.ts";
import type { Cluster } from "../../cluster.ts";
import { type CoreSecret, liveCoreSecret, readCoreSecret } from "../../delivery/core-secret.ts";
import { type Digests, isOurs, rivalOf } from "../../delivery/desired.ts";
import { type DeliveryFacts, type ObservedCoreSecret, planDelivery } from "../../delivery/plan.ts";
import { MAX_STEPS } from "../../delivery/settle.ts";
import { keyOf, resourceType } from "../../runtime/resource-type.ts";
import type { KubernetesApi } from "../../runtime/transport.ts";
import type { RuleValues } from "../values.ts";
import { type Compared, compareKey } from "./compare-key.ts";
import { placeOf, refusal } from "./copies.ts";
import {
  asKnown,
  assertSameNamespace,
  type CopyPerformerDependencies,
  type CopySource,
  copyContext,
  copySource,
  SOON_MS,
} from "./copy.ts";
import { type Exchange, entryOf, targetVersionOf } from "./exchanges.ts";
import { allows } from "./takes.ts";

export interface ExchangePerformerDependencies extends Omit<CopyPerformerDependencies, "observer"> {
  readonly api: KubernetesApi;
  readonly cluster: Cluster;
  readonly audit: Pick<AuditLog, "append">;
  readonly installation: string;
}

export type ExchangeValues = Pick<RuleValues, "take" | "keepBeside">;

interface Seen {
  readonly core: ObservedCoreSecret;
  /** With its values; absent where it was not read. */
  readonly live?: CoreSecret;
}

export class ExchangePerformer {
  readonly #deps: ExchangePerformerDependencies;
  /** By rule, `namespace/name`: see `ExchangeContext.recorded`. */
  readonly #recorded = new Map<string, Map<string, string>>();

  constructor(deps: ExchangePerformerDependencies) {
    this.#deps = deps;
  }

  /** One core Secret counts as one, however many of its values are in conflict; `conflicts` has them all. */
  async exchangeAll(
    rule: SyncRule,
    due: readonly Exchange[],
    values: ExchangeValues,
    signal: AbortSignal,
  ): Promise<SyncResult> {
    const decided: DecidedConflict[] = [];
    const conflicts: FoundConflict[] = [];
    const recorded = this.#recorded.get(keyOf(rule)) ?? new Map<string, string>();
    this.#recorded.set(keyOf(rule), recorded);
    const tasks = due.map((each) => ({
      entries: [entryOf(each, "")],
      run: async () => {
        const one = new OneExchange(this.#deps, rule, each, values, recorded);
        const done = await one.run(signal).catch((error) => Promise.reject(asKnown(error)));
        if (done.kind === "Written") decided.push(...one.decided);
        conflicts.push(...one.conflicts);
        return [done];
      },
    }));
    return { ...(await workThrough(tasks, { signal })), conflicts, decided };
  }

  /** The rule, by `namespace/name`, is gone. */
  forget(key: string): void {
    this.#recorded.delete(key);
  }
}

class OneExchange {
  readonly #deps: ExchangePerformerDependencies;
  readonly #rule: SyncRule;
  readonly #exchange: Exchange;
  readonly #values: ExchangeValues;
  readonly #recorded: Map<string, string>;
  #record: CopyDelivery | undefined;
  decided: readonly DecidedConflict[] = [];
  conflicts: readonly FoundConflict[] = [];

  constructor(
    deps: ExchangePerformerDependencies,
    rule: SyncRule,
    exchange: Exchange,
    values: ExchangeValues,
    recorded: Map<string, string>,
  ) {
    this.#deps = deps;
    this.#rule = rule;
    this.#exchange = exchange;
    this.#values = values;
    this.#recorded = recorded;
    this.#record = exchange.record;
  }

  async run(signal: AbortSignal): Promise<Done> {
    const { vault, writer, cluster } = this.#deps;
    let written = false;
    for (let step = 0; step < MAX_STEPS; step++) {
      const before = await copySource(this.#deps, this.#rule, this.#exchange);
      const digests = await vault.digester(writer(), before.stored.identity);
      assertSameNamespace(cluster, this.#rule, this.#exchange.namespace);
      const seen = await this.#look(digests, signal);
      const source = await this.#compare(seen, before);
      if (source === undefined) {
        const [conflict] = this.conflicts;
        if (conflict === undefined) throw new Error("nothing is in conflict");
        return { kind: "Conflict", conflict };
      }
      written ||= source !== before;
      const done = await this.#deliver(seen.core, source, digests, signal);
      if (done === "Written" || done === "Settled") this.#done();
      if (done === "Written") written = true;
      else if (done === "Settled") return { kind: written ? "Written" : "Confirmed" };
      else if (done !== "Again") return done;
    }
    throw new Waiting(
      "Progressing",
      `core Secret ${placeOf(this.#exchange)} changes faster than it is looked at`,
      SOON_MS,
    );
  }

  /** Read only where its UID or resourceVersion is not the one on record. */
  async #look(digests: Digests, signal: AbortSignal): Promise<Seen> {
    const { cluster, api, installation } = this.#deps;
    const { desired } = this.#exchange;
    const record = this.#record;
    const untouched = ({ metadata: { uid, resourceVersion } }: Pick<CoreSecret, "metadata">): boolean =>
      uid === record?.uid && resourceVersion === record.resourceVersion;
    const cached = cluster.coreSecret(desired.namespace, desired.secretName);
    if (cached === undefined && record === undefined) return { core: { kind: "Absent" } };
    if (cached !== undefined && untouched(cached)) return { core: { kind: "Untouched" } };
    const live = await readCoreSecret(api, desired.namespace, desired.secretName, signal);
    if (live === undefined) return { core: { kind: "Absent" } };
    if (untouched(live)) return { core: { kind: "Untouched" } };
    const rival = rivalOf(live, desired, installation, cluster);
    const known = { ...liveCoreSecret(live, digests, desired.keys), ...(rival !== undefined && { rival }) };
    return { core: { kind: "Live", live: known }, live };
  }

  /** What is to be delivered after both sides were compared; undefined: a person is waited for. */
  async #compare({ core, live }: Seen, source: CopySource): Promise<CopySource | undefined> {
    const { desired, shared, conflicts } = this.#exchange;
    const { vault } = this.#deps;
    const { stored } = source;
    const rule = this.#rule;
    const record = this.#record;
    if (core.kind !== "Live" || live === undefined || core.live.terminating || core.live.rival !== undefined) {
      return source;
    }
    if (!isOurs(core.live, desired, record) || core.live.type !== desired.type) return source;
    // Who may write there must have said that it may be read from here; else it is repaired, as with direction Push.
    if (!allows(live, rule.metadata.namespace ?? "")) return source;
    const compared: Compared[] = [];
    for (const key of shared) {
      const theirs = core.live.data.get(key.to);
      const one = await compareKey({ rule, vault, stored, record, live, open: conflicts.get(key.from) }, key, theirs);
      if (one !== undefined) compared.push(one);
    }
    if (compared.some(({ verdict }) => verdict === "Conflict")) {
      this.conflicts = compared.flatMap((each) => this.#conflictOf(each, live, source));
      return undefined;
    }
    const takes = compared.filter(({ verdict }) => verdict === "Take");
    const losing = compared.filter(({ verdict }) => verdict === "Keep");
    if (takes.length + losing.length === 0) return source;
    await this.#decide([...takes, ...losing], live, source);
    // Beside first: what is taken over would hide that nobody wrote here meanwhile.
    if (losing.length > 0) await this.#store("Keep", losing, live);
    if (takes.length > 0) {
      await this.#pass("taking", Object.fromEntries(takes.map(({ from, theirs }) => [from, theirs])), stored);
      await this.#store("Take", takes, live);
    }
    return copySource(this.#deps, rule, this.#exchange);
  }

  #conflictOf(
    { from, verdict, answered }: Compared,
    live: CoreSecret,
    { stored }: CopySource,
  ): readonly FoundConflict[] {
    if (verdict !== "Conflict" && answered === undefined) return [];
    return [
      {
        entry: entryOf(this.#exchange, from),
        secretId: stored.id,
        // As it was found, where what a person has said is still to be done.
        platformVersion: answered?.status?.platformVersion ?? stored.currentVersion,
        targetVersion: targetVersionOf(live),
        targetUpdatedOn: changedOn(live),
      },
    ];
  }

  /** Before the effect, and once while it keeps failing: what was decided without a person is on record. */
  async #decide(compared: readonly Compared[], live: CoreSecret, { stored }: CopySource): Promise<void> {
    const { metadata } = this.#rule;
    this.decided = compared.flatMap(({ from, verdict, policy }): DecidedConflict[] =>
      policy === undefined
        ? []
        : [
            {
              entry: entryOf(this.#exchange, from),
              policy,
              winner: verdict === "Take" ? "Target" : "Platform",
              platformVersion: stored.currentVersion,
              targetVersion: targetVersionOf(live),
              targetSetOn: changedOn(live),
            },
          ],
    );
    // Of the values: what loses may have become a version since.
    const ours = new Map(compared.map((each) => [each.from, each.ours]));
    const decisionOf = ({ entry, policy, winner, targetVersion }: DecidedConflict): string =>
      `${policy} ${winner} ${ours.get(entry.key)} ${targetVersion}`;
    const fresh = this.decided.filter((each) => this.#recorded.get(this.#placeOf(each)) !== decisionOf(each));
    const rows = fresh.map(
      ({ entry, policy, winner, platformVersion, targetVersion }): AuditEntry => ({
        action: "SyncConflictDecided",
        actor: objectActor(resourceType(syncRuleKind), this.#rule),
        subject: { kind: "Secret", id: stored.id, name: `${metadata.namespace}/${entry.secretName}` },
        outcome: "Success",
        details: {
          key: entry.key,
          rule: metadata.uid,
          coreSecret: entry.entryName,
          policy,
          winner,
          platformVersion,
          targetVersion,
        },
      }),
    );
    if (rows.length > 0) await this.#deps.audit.append(rows);
    for (const each of fresh) this.#recorded.set(this.#placeOf(each), decisionOf(each));
  }

  #placeOf({ entry }: DecidedConflict): string {
    return `${this.#exchange.namespace.uid} ${entry.entryName} ${entry.key}`;
  }

  /** What was decided has been done: the same anew is another decision. */
  #done(): void {
    for (const each of this.decided) this.#recorded.delete(this.#placeOf(each));
  }

  async #store(verdict: "Take" | "Keep", compared: readonly Compared[], live: CoreSecret): Promise<void> {
    const values = new Map(
      compared.map(({ from, to }) => [from, new Sensitive(Buffer.from(live.data?.[to] ?? "", "base64"))]),
    );
    const expected = new Map(compared.map(({ from, ours }) => [from, ours]));
    const { secretName } = this.#exchange;
    try {
      if (verdict === "Take") {
        failpoint("sync.beforeTake");
        await this.#values.take(secretName, values, expected);
        failpoint("sync.afterTake");
      } else {
        failpoint("sync.beforeKeep");
        await this.#values.keepBeside(secretName, values, expected);
        failpoint("sync.afterKeep");
      }
    } finally {
      for (const value of values.values()) value.dispose();
    }
  }

  async #deliver(
    core: ObservedCoreSecret,
    source: CopySource,
    digests: Digests,
    signal: AbortSignal,
  ): Promise<Done | "Written" | "Settled" | "Again"> {
    const { desired } = this.#exchange;
    const { stored } = source;
    const record = this.#record;
    const facts: DeliveryFacts = { digests, entries: stored.entries, version: stored.currentVersion, record, core };
    const plan = planDelivery(desired, facts, new Date());
    switch (plan.kind) {
      case "Settled":
        await this.#agree(stored);
        return "Settled";
      case "RecheckAt":
        return { kind: "Waiting", afterMs: plan.at.getTime() - Date.now() };
      case "Refused":
        return { kind: "Failed", failure: refusal(this.#exchange, plan.reason, plan.message) };
      case "Act": {
        const { action } = plan;
        const agreed = this.#agreedOn(stored);
        if (action.kind === "Deliver") await this.#mean(action.delivery, source, agreed);
        const recorded = ({ meant: _, taking: __, ...delivery }: CopyDelivery): CopyDelivery => ({
          ...delivery,
          agreed,
        });
        const outcome = await this.#deps.performer.perform(action, copyContext(this.#deps, source, recorded), signal);
        // Something came between: it is compared before anything is written over it.
        if (outcome.kind === "Found") return "Again";
        this.#record = outcome.delivery && recorded(outcome.delivery);
        return action.kind === "Deliver" ? "Written" : "Again";
      }
    }
  }

  /** Of what a rule with direction Push has copied, which knows of no agreement. */
  async #agree(stored: CopySource["stored"]): Promise<void> {
    if (this.#record === undefined || this.#record.agreed !== undefined) return;
    await this.#remember({ ...this.#record, agreed: this.#agreedOn(stored) }, stored);
  }

  async #remember(delivery: CopyDelivery, stored: CopySource["stored"]): Promise<void> {
    const { copies, writer } = this.#deps;
    const { name, uid } = this.#exchange.namespace;
    await copies.recordCopy(writer(), { secretId: stored.id, namespace: name, namespaceUid: uid, delivery }, []);
    this.#record = delivery;
  }

  #agreedOn({ entries }: CopySource["stored"]): Agreed {
    const copied = new Set(this.#exchange.desired.keys.map(({ from }) => from));
    return Object.fromEntries(
      entries.flatMap(({ key, fingerprint }) => (copied.has(key) ? [[key, fingerprint] as const] : [])),
    );
  }

  /** On record before the effect: what stands there afterwards, written by one who died over it, is then no edit. */
  async #mean(
    delivery: Pick<CopyDelivery, "fingerprint" | "pendingRestarts">,
    { stored }: CopySource,
    agreed: Agreed,
  ): Promise<void> {
    const { secretName } = this.#exchange.desired;
    const nothing = { secretName, uid: "", resourceVersion: "", version: stored.currentVersion, ...delivery };
    const record = this.#record ?? { ...nothing, pendingRestarts: [] };
    this.#record = record;
    await this.#pass("meant", agreed, stored);
    failpoint("sync.afterMeant");
  }

  async #pass(how: "meant" | "taking", values: Agreed, stored: CopySource["stored"]): Promise<void> {
    if (this.#record === undefined) return;
    const before = this.#record[how] ?? [];
    if (before.some((each) => isDeepStrictEqual(each, values))) return;
    await this.#remember({ ...this.#record, [how]: [...before, values].slice(-MOST_PASSING) }, stored);
  }
}

/** Each is of a step that nobody saw the end of; so many in a row were not carried out before the last ones. */
const MOST_PASSING = 16;

/** When the API server says that somebody changed it, for people. */
function changedOn({ metadata: { creationTimestamp, managedFields = [] } }: CoreSecret): Date {
  const times = managedFields.flatMap(({ time }) => (time === undefined ? [] : [Date.parse(time)]));
  return new Date(Math.max(Date.parse(creationTimestamp ?? "") || 0, ...times));
}
