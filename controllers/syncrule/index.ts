/** The controller of `SyncRule`: what changes here goes at once, what changes in the vault is found by looking now and then. */
import { Waiting } from "../../core/errors.ts";
import type { AuditLog } from "../../core/ports/audit-log.ts";
import type { SyncStore } from "../../core/ports/sync-store.ts";
import type { TargetVault } from "../../core/ports/target-vault.ts";
import { normalVaultUrl, type Priority, type TargetVaults } from "../../core/ports/target-vaults.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { deleteEntries } from "../../core/sync/deletion.ts";
import type { Doomed } from "../../core/sync/deletion-plan.ts";
import type { NamedEntry } from "../../core/sync/entries.ts";
import { exchange } from "../../core/sync/exchange.ts";
import { conflictKey, type PlannedExchange, type SharedEntry } from "../../core/sync/exchange-plan.ts";
import { checkNames, entryNames } from "../../core/sync/names.ts";
import { isHealing, type PlannedPush } from "../../core/sync/plan.ts";
import { pull } from "../../core/sync/pull.ts";
import type { PlannedPull } from "../../core/sync/pull-plan.ts";
import { type PushContext, push } from "../../core/sync/push.ts";
import { type DecidedConflict, merged, type SyncResult } from "../../core/sync/run.ts";
import type { Vault } from "../../core/vault/vault.ts";
import { type SyncRule, syncRuleKind } from "../../crds/syncrule.ts";
import type { Logger } from "../../program/logging.ts";
import { objectActor } from "../actor.ts";
import { type Cluster, type Tenancy, tenancyOf } from "../cluster.ts";
import { vaultAccess } from "../keyvault/access.ts";
import type { VaultSizes } from "../keyvault/sizes.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import type { EventRecorder } from "../runtime/events.ts";
import { keyOf, resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { dealtWith, SyncConflicts } from "./conflicts.ts";
import {
  assertNotStorage,
  isExternal,
  keyVaultOf,
  namingOf,
  refuseOpaque,
  scopeOf,
  sealedSecrets,
  secretsOf,
  separate,
  shareableKeys,
  sharedEntries,
  takenEntries,
  wantedEntries,
} from "./coverage.ts";
import {
  type Action,
  decide,
  deletionsOf,
  type Observed,
  type SeenToExchange,
  type SeenToPull,
  type SeenToPush,
} from "./decide.ts";
import { describeDecided } from "./decided.ts";
import { type Coverage, needsLook, observeDeletions, type RuleSafety, ruleSafety } from "./deletions.ts";
import { released, type Safety } from "./limiting.ts";
import { type Look, Looks } from "./looks.ts";
import { overlapsOf, withoutOverlaps } from "./overlaps.ts";
import { Urgency } from "./urgency.ts";
import { type ReadEntry, RuleValues } from "./values.ts";

export interface SyncRuleControllerDependencies {
  readonly api: KubernetesApi;
  readonly cluster: Cluster;
  readonly vault: Vault;
  readonly vaults: TargetVaults;
  readonly sizes: Pick<VaultSizes, "learn">;
  readonly store: SyncStore;
  readonly audit: Pick<AuditLog, "append">;
  readonly installation: string;
  readonly writer: () => Writer;
  /** Throws `Fenced` when another replica may lead. */
  readonly assertLeading: () => void;
  /** A Secret, by `namespace/name`, has another version, to be delivered. */
  readonly onPulled: (key: string) => void;
  readonly log: Pick<Logger, "error">;
  readonly events: Pick<EventRecorder, "record">;
}

/** Undefined when something was forgotten. */
type Outcome = SyncResult | undefined;

const SOON_MS = 1_000;

export class SyncRuleController implements Controller<SyncRule, Observed, Action, Outcome> {
  readonly name = "syncrule";
  readonly fieldManager = "mazevault-syncrule";
  readonly resource = resourceType(syncRuleKind);
  readonly #deps: SyncRuleControllerDependencies;
  readonly #looks = new Looks();
  /** By the object that a pass is about. */
  readonly #writers = new WeakMap<SyncRule, Writer>();
  readonly #conflicts: SyncConflicts;
  readonly #urgency = new Urgency();
  /** By rule: what was decided last, since the status of the pass that decided it may be refused. */
  readonly #decided = new Map<string, DecidedConflict>();
  /** By rule, see `ExchangeContext.recorded`. */
  readonly #recorded = new Map<string, Map<string, string>>();

  constructor(deps: SyncRuleControllerDependencies) {
    this.#deps = deps;
    const { resource, fieldManager } = this;
    this.#conflicts = new SyncConflicts({ ...deps, resource, fieldManager });
  }

  /** Something that a person may wait for changed: the rule is looked at again, and what it heals meanwhile gives way. */
  hurry(key: string): void {
    this.#urgency.hurry(key);
  }

  /** The vault of the rule is said to have changed: its next pass looks, unless it has just done so. */
  vaultChanged(key: string): void {
    this.#looks.evented(key);
  }

  async observe(rule: SyncRule, signal: AbortSignal): Promise<Observed> {
    const { cluster } = this.#deps;
    this.#urgency.passBegins(keyOf(rule));
    this.#writers.set(rule, this.#deps.writer());
    const tenancy = tenancyOf(cluster, rule);
    const keyVault = keyVaultOf(cluster, rule);
    assertNotStorage(cluster, keyVault);
    if (rule.spec.suspend === true) return { kind: "Suspended" };
    const vaultUrl = normalVaultUrl(keyVault.spec.vaultUrl);
    switch (rule.spec.direction) {
      case "Push":
        return this.#observeToPush(rule, tenancy, vaultUrl, signal);
      case "Pull":
        return this.#observeToPull(rule, tenancy, vaultUrl, signal);
      case "Bidirectional":
        return this.#observeToExchange(rule, tenancy, vaultUrl, signal);
    }
  }

  async #observeToPush(rule: SyncRule, tenancy: Tenancy, vaultUrl: string, signal: AbortSignal): Promise<SeenToPush> {
    const { store, installation } = this.#deps;
    const known = await this.#known(rule, tenancy, vaultUrl);
    // Read before the vault is looked at: what is written meanwhile is then newer than both, never older than the look.
    const items = await store.items(rule.metadata.uid);
    const look = await this.#look(rule, vaultUrl, tenancy, signal);
    const secrets = secretsOf(this.#deps.cluster, rule);
    const scope = scopeOf(rule, tenancy);
    const sources = await store.sources({ ...scope, names: secrets.map(({ metadata }) => metadata.name) });
    const { complete, incomplete } = separate(secrets, sources);
    const named = entryNames(complete, scope, namingOf(rule));
    const holders = await store.holders(
      vaultUrl,
      named.map(({ entryName }) => entryName),
    );
    const refusing = refuseOpaque(secrets, checkNames(named, holders, rule.metadata.uid));
    const { entries, failures } = withoutOverlaps(refusing, overlapsOf(this.#deps.cluster, rule, vaultUrl));
    const troubled = this.#looks.troubles(rule, vaultUrl, entries, look);
    const stored = new Set(complete.map(({ secretName }) => secretName));
    // What was pushed of a secret stays remembered while its next version waits for a value.
    const remembered = items.filter(({ secretId }) => !incomplete.has(secretId));
    const coverage = { items: remembered, vaultUrl, tenancy, secrets, named, entries };
    return {
      ...(await this.#withDeletions(rule, known, coverage, look, signal)),
      kind: "Push",
      vaultUrl,
      installation,
      entries,
      covered: entries.length,
      refused: failures,
      unstored: secrets.map(({ metadata }) => metadata.name).filter((name) => !stored.has(name)),
      items: remembered,
      holders,
      troubled,
      over: this.#conflicts.of(rule).conflicts,
      forgotten: false,
    };
  }

  async #observeToPull(rule: SyncRule, tenancy: Tenancy, vaultUrl: string, signal: AbortSignal): Promise<SeenToPull> {
    const { store, cluster } = this.#deps;
    const { uid: ruleUid, namespace = "" } = rule.metadata;
    const secrets = secretsOf(this.#deps.cluster, rule).filter(({ spec }) => takenEntries(spec).some(isExternal));
    const scope = scopeOf(rule, tenancy);
    const sources = await store.sources({ ...scope, names: secrets.map(({ metadata }) => metadata.name) });
    const pulled = await store.pulled(ruleUid, [...new Set(sources.map(({ secretId }) => secretId))]);
    const known = await this.#known(rule, tenancy, vaultUrl);
    const look = await this.#look(rule, vaultUrl, tenancy, signal);
    const { wanted: entries, failures: refused } = wantedEntries(secrets, sources, scope, namingOf(rule));
    const refusing = { entries, failures: refused };
    const { entries: wanted, failures } = withoutOverlaps(refusing, overlapsOf(this.#deps.cluster, rule, vaultUrl));
    return {
      ...look,
      safety: { ...known, doomed: [], undecided: [], isQuiet: true },
      kind: "Pull",
      vaultUrl,
      ruleUid,
      wanted,
      covered: wanted.length,
      refused: failures,
      pulled,
      troubled: this.#looks.troubles(rule, vaultUrl, wanted, look),
      rules: new Set(
        cluster
          .syncRulesIn(namespace)
          .filter(({ spec }) => spec.direction === "Pull")
          .map(({ metadata }) => metadata.uid),
      ),
      over: this.#conflicts.of(rule).conflicts,
      forgotten: false,
    };
  }

  async #observeToExchange(
    rule: SyncRule,
    tenancy: Tenancy,
    vaultUrl: string,
    signal: AbortSignal,
  ): Promise<SeenToExchange> {
    const { store, installation } = this.#deps;
    const { uid } = rule.metadata;
    const known = await this.#known(rule, tenancy, vaultUrl);
    const items = await store.items(uid);
    const looked = await this.#look(rule, vaultUrl, tenancy, signal);
    const secrets = secretsOf(this.#deps.cluster, rule);
    const scope = scopeOf(rule, tenancy);
    const sources = await store.sources({ ...scope, names: secrets.map(({ metadata }) => metadata.name) });
    const { complete, incomplete } = separate(secrets, sources);
    const { shared, failures: refused } = sharedEntries(secrets, sources, scope, namingOf(rule));
    // Also of those that are refused: what may be changed there is never only pushed.
    const shareable = shareableKeys(secrets);
    const sealed = sealedSecrets(secrets);
    const own = complete.filter((entry) => !shareable.has(conflictKey(entry)) && !sealed.has(entry.secretName));
    const isShared = new Set(shared.map(({ secretId, key }) => `${secretId} ${key}`));
    const named: readonly (NamedEntry | SharedEntry)[] = [...entryNames(own, scope, namingOf(rule)), ...shared];
    const holders = await store.holders(
      vaultUrl,
      named.map(({ entryName }) => entryName),
    );
    const { entries, failures } = withoutOverlaps(
      checkNames(named, holders, uid),
      overlapsOf(this.#deps.cluster, rule, vaultUrl),
    );
    const wanted = entries.filter((entry): entry is SharedEntry => !("fingerprint" in entry));
    const stored = new Set(complete.map(({ secretName }) => secretName));
    // What was pushed of a secret stays remembered while its next version waits for a value.
    const remembered = items.filter(
      ({ secretId, key }) => !incomplete.has(secretId) || isShared.has(`${secretId} ${key}`),
    );
    const coverage = { items: remembered, vaultUrl, tenancy, secrets, named, entries };
    const look = await this.#withDeletions(rule, known, coverage, looked, signal);
    const decided = this.#decided.get(keyOf(rule));
    return {
      ...look,
      kind: "Bidirectional",
      vaultUrl,
      installation,
      ours: entries.filter((entry): entry is NamedEntry => "fingerprint" in entry),
      shared: wanted,
      covered: entries.length,
      refused: [...refused, ...failures],
      unstored: secrets.map(({ metadata }) => metadata.name).filter((name) => !stored.has(name) && !sealed.has(name)),
      items: remembered,
      holders,
      troubled: this.#looks.troubles(rule, vaultUrl, entries, look),
      ...this.#conflicts.of(rule),
      over: [],
      ...(decided !== undefined && { decided }),
      forgotten: false,
    };
  }

  /** Read first, since it says whether this pass has to look. */
  async #known(rule: SyncRule, tenancy: Tenancy, vaultUrl: string): Promise<RuleSafety> {
    const known = await ruleSafety(this.#deps.store, rule, tenancy, vaultUrl);
    // Also when healing gave way: a plan without what a look finds would be below the limit that holds it.
    if (needsLook(rule, known.record)) this.#looks.now(rule);
    return known;
  }

  /** What is to be deleted is looked at, whatever time it is; what was changed over there not before the next look comes. */
  async #withDeletions(
    rule: SyncRule,
    known: RuleSafety,
    coverage: Coverage,
    look: Look,
    signal: AbortSignal,
  ): Promise<Look & { readonly safety: Safety }> {
    const { installation } = this.#deps;
    const { items, vaultUrl, tenancy } = coverage;
    const sorted = await observeDeletions(this.#deps, rule, known, coverage);
    const safety = { ...known, ...sorted };
    const { doomed } = sorted;
    let seen = look;
    if (doomed.length > 0 && look.target === undefined && look.lookFailure === undefined) {
      const left = this.#looks.leftOf(rule, vaultUrl, doomed);
      if (left !== undefined) return { ...look, safety: { ...safety, left } };
      this.#looks.again(rule);
      seen = await this.#look(rule, vaultUrl, tenancy, signal);
    }
    const { target } = seen;
    if (target !== undefined)
      this.#looks.leave(rule, vaultUrl, doomed, deletionsOf({ safety, target, items, installation }).failures);
    return { ...seen, safety };
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    const { store } = this.#deps;
    if (action.kind === "CloseConflict") {
      await this.#conflicts.close(action.rule, action.conflict, signal);
      return undefined;
    }
    const { uid } = action.rule.metadata;
    const writer = this.#writerOf(action.rule);
    switch (action.kind) {
      case "Forget":
        await store.forget(writer, uid, action.keys);
        return undefined;
      case "ForgetPulled":
        await store.forgetPulled(writer, uid, action.items);
        return undefined;
      case "Push":
        return this.#told(action.rule, await this.#push(action.rule, action.plan, action.later, signal));
      case "Pull":
        return this.#told(action.rule, await this.#pull(action.rule, action.plan, signal), action.later);
      case "Exchange":
        return this.#told(action.rule, await this.#exchange(action.rule, action, signal), action.later);
      case "RecordRule":
        await store.recordRule(writer, uid, action.record, released(this.resource, action.rule, action.released));
        return undefined;
      case "Delete":
        return this.#told(action.rule, await this.#delete(action.rule, action.doomed, signal));
      case "OpenConflict":
        await this.#conflicts.open(action.rule, action.found, action.open, signal);
        return undefined;
    }
  }

  /** What is left of what a look found is only known to the next look: it must not wait for its time. */
  #told(rule: SyncRule, result: SyncResult, later = 0): SyncResult {
    const { namespace, name } = rule.metadata;
    const left = later + result.failed + result.untried + result.waiting;
    if (rule.spec.direction !== "Push" && left > 0) {
      this.#looks.again(rule);
    }
    if (result.unexpected !== undefined) {
      this.#deps.log.error(
        { object: `${namespace}/${name}`, error: result.unexpected },
        "an entry failed unexpectedly",
      );
    }
    return result;
  }

  learn(seen: Observed, action: Action, outcome: Outcome): Observed {
    if (seen.kind === "Suspended") return seen;
    const { safety } = seen;
    switch (action.kind) {
      case "OpenConflict":
      case "CloseConflict":
        return dealtWith(seen, action);
      case "RecordRule":
        return { ...seen, safety: { ...safety, record: action.record } };
      case "Delete":
        return outcome === undefined ? seen : { ...seen, safety: { ...safety, deleted: outcome } };
      default:
        return outcome === undefined ? { ...seen, forgotten: true } : { ...seen, done: outcome };
    }
  }

  async #delete(rule: SyncRule, doomed: readonly Doomed[], signal: AbortSignal): Promise<SyncResult> {
    const tenancy = tenancyOf(this.#deps.cluster, rule);
    // After everything else: a change that a person made never waits for it.
    const vault = await this.#open(rule, tenancy, "Look", signal);
    return deleteEntries(doomed, {
      ...this.#pushContext(rule, tenancy, vault, [], signal),
      store: this.#deps.store,
    });
  }

  /**
   * What changed goes first, then what heals, which gives way. What is left of that, with the `later` that the plan has no
   * room for, only a look finds again: without one the rule would seem in step.
   */
  async #push(rule: SyncRule, plan: readonly PlannedPush[], later: number, signal: AbortSignal): Promise<SyncResult> {
    const urgent = plan.filter(({ cause }) => !isHealing(cause));
    const healing = plan.filter(({ cause }) => isHealing(cause));
    const pushed = await this.#pushAs("Change", rule, urgent, signal);
    if (later > 0) this.#looks.again(rule);
    if (healing.length === 0) return pushed;
    // What holds up the one holds up the other.
    if (pushed.stopped !== undefined) {
      this.#looks.again(rule);
      return { ...pushed, untried: pushed.untried + healing.length };
    }
    const healed = await this.#pushAs("Look", rule, healing, signal, this.#urgency.healing(keyOf(rule)));
    if (healed.gaveWay === true) this.#looks.putOff(rule, later + healed.untried);
    else if (healed.failed + healed.untried + healed.waiting > 0) this.#looks.again(rule);
    return merged(pushed, healed);
  }

  async #pushAs(
    priority: Priority,
    rule: SyncRule,
    plan: readonly PlannedPush[],
    signal: AbortSignal,
    giveWay: () => boolean = () => false,
  ): Promise<SyncResult> {
    const tenancy = tenancyOf(this.#deps.cluster, rule);
    const vault = await this.#open(rule, tenancy, priority, signal);
    return push(plan, { ...this.#pushContext(rule, tenancy, vault, plan, signal), giveWay });
  }

  async #pull(rule: SyncRule, plan: readonly PlannedPull[], signal: AbortSignal): Promise<SyncResult> {
    const { store, cluster, assertLeading, installation } = this.#deps;
    const tenancy = tenancyOf(cluster, rule);
    const values = this.#valuesOf(rule, tenancy);
    return pull(plan, {
      vault: await this.#open(rule, tenancy, "Change", signal),
      store,
      writer: this.#writerOf(rule),
      ruleUid: rule.metadata.uid,
      installation,
      put: (secretName, taken) => values.take(secretName, taken),
      assertLeading,
      signal,
    });
  }

  async #exchange(
    rule: SyncRule,
    plan: {
      readonly push: readonly PlannedPush[];
      readonly exchange: readonly PlannedExchange[];
      readonly later: number;
    },
    signal: AbortSignal,
  ): Promise<SyncResult> {
    const { cluster, store, vault: platform } = this.#deps;
    const tenancy = tenancyOf(cluster, rule);
    const values = this.#valuesOf(rule, tenancy);
    const vault = await this.#open(rule, tenancy, "Change", signal);
    const recorded = this.#recorded.get(keyOf(rule)) ?? new Map<string, string>();
    this.#recorded.set(keyOf(rule), recorded);
    const started = performance.now();
    const pushed = await this.#push(rule, plan.push, plan.later, signal);
    const exchanged = await exchange(plan.exchange, {
      ...this.#pushContext(rule, tenancy, vault, plan.exchange, signal),
      store,
      recorded,
      policy: rule.spec.conflictPolicy ?? "Manual",
      keeps: (secretId, key, fingerprint) => platform.keeps(secretId, key, fingerprint),
      heldForMs: (secretId, key, fingerprint) => platform.heldForMs(secretId, key, fingerprint),
      fingerprint: (name, key, value) => values.fingerprint(name, key, value),
      fingerprintIn: (name, version, key) => values.fingerprintIn(name, version, key),
      take: (name, taken, expected) => values.take(name, taken, expected),
      keepBeside: (name, lost, expected) => values.keepBeside(name, lost, expected),
    });
    this.#conflicts.settle(rule, exchanged.conflicts, started);
    for (const each of exchanged.decided) {
      this.#decided.set(keyOf(rule), each);
      const note = describeDecided(each);
      this.#deps.events.record(rule, { type: "Normal", reason: "ConflictDecided", action: "DecideConflict", note });
    }
    return merged(pushed, exchanged);
  }

  #pushContext(
    rule: SyncRule,
    tenancy: Tenancy,
    vault: TargetVault,
    plan: readonly { readonly entry: ReadEntry }[],
    signal: AbortSignal,
  ): PushContext {
    const { store, audit, installation, assertLeading } = this.#deps;
    return {
      vault,
      store,
      audit,
      writer: this.#writerOf(rule),
      ruleUid: rule.metadata.uid,
      actor: objectActor(this.resource, rule),
      installation,
      open: this.#valuesOf(rule, tenancy).reader(plan),
      assertLeading,
      signal,
    };
  }

  /** A pass writes under the epoch that it looked in: whoever led since then has changed what it saw. */
  #writerOf(rule: SyncRule): Writer {
    return this.#writers.get(rule) ?? this.#deps.writer();
  }

  #valuesOf(rule: SyncRule, tenancy: Tenancy): RuleValues {
    return new RuleValues(
      { ...this.#deps, writer: () => this.#writerOf(rule) },
      rule,
      tenancy,
      objectActor(this.resource, rule),
    );
  }

  async #look(rule: SyncRule, vaultUrl: string, tenancy: Tenancy, signal: AbortSignal): Promise<Look> {
    const open = (priority: Priority) => this.#open(rule, tenancy, priority, signal);
    const look = await this.#looks.look(rule, vaultUrl, open, signal);
    if (look.target !== undefined) this.#deps.sizes.learn(vaultUrl, look.target.length);
    return look;
  }

  conditionFor(): OwnedConditionType {
    return "Synced";
  }

  async absent(key: string): Promise<void> {
    this.#looks.forget(key);
    this.#urgency.forget(key);
    this.#recorded.delete(key);
    this.#decided.delete(key);
    // What a rule wrote stays in the vault, and its items stay too: a rule that is applied again goes on from them.
  }

  async #open(rule: SyncRule, tenancy: Tenancy, priority: Priority, signal: AbortSignal): Promise<TargetVault> {
    const keyVault = keyVaultOf(this.#deps.cluster, rule);
    const access = await vaultAccess(this.#deps.api, keyVault, tenancy, rule.spec.environment, signal);
    // Opened after it was forgotten, a KeyVault that is gone would stay open for ever.
    if (keyVaultOf(this.#deps.cluster, rule).metadata.uid !== access.uid) {
      throw new Waiting("KeyVaultNotFound", "spec.target.keyVault.ref: the KeyVault is being made anew", SOON_MS);
    }
    return this.#deps.vaults.open(access, priority);
  }
}
