/** The controller of `SyncRule`: what changes here goes at once, what changes in the vault is found by looking now and then. */
import { Waiting } from "../../core/errors.ts";
import type { AuditLog } from "../../core/ports/audit-log.ts";
import type { SyncStore } from "../../core/ports/sync-store.ts";
import type { TargetVault } from "../../core/ports/target-vault.ts";
import { normalVaultUrl, type Priority, type TargetVaults } from "../../core/ports/target-vaults.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import type { NamedEntry } from "../../core/sync/entries.ts";
import { exchange } from "../../core/sync/exchange.ts";
import { conflictKey, type PlannedExchange, type SharedEntry } from "../../core/sync/exchange-plan.ts";
import { checkNames, entryNames } from "../../core/sync/names.ts";
import type { PlannedPush } from "../../core/sync/plan.ts";
import { pull } from "../../core/sync/pull.ts";
import type { PlannedPull } from "../../core/sync/pull-plan.ts";
import { type PushContext, push } from "../../core/sync/push.ts";
import { merged, type SyncResult } from "../../core/sync/run.ts";
import type { Vault } from "../../core/vault/vault.ts";
import { type SyncRule, syncRuleKind } from "../../crds/syncrule.ts";
import type { Logger } from "../../program/logging.ts";
import { objectActor } from "../actor.ts";
import { type Cluster, type Tenancy, tenancyOf } from "../cluster.ts";
import { vaultAccess } from "../keyvault/access.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { dealtWith, SyncConflicts } from "./conflicts.ts";
import {
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
  wantedEntries,
} from "./coverage.ts";
import { type Action, decide, type Observed, type SeenToExchange, type SeenToPull, type SeenToPush } from "./decide.ts";
import { type Look, Looks } from "./looks.ts";
import { overlapsOf, withoutOverlaps } from "./overlaps.ts";
import { type ReadEntry, RuleValues } from "./values.ts";

export interface SyncRuleControllerDependencies {
  readonly api: KubernetesApi;
  readonly cluster: Cluster;
  readonly vault: Vault;
  readonly vaults: TargetVaults;
  readonly store: SyncStore;
  readonly audit: Pick<AuditLog, "append">;
  readonly installation: string;
  readonly writer: () => Writer;
  /** Throws `Fenced` when another replica may lead. */
  readonly assertLeading: () => void;
  /** A Secret, by `namespace/name`, has another version, to be delivered. */
  readonly onPulled: (key: string) => void;
  readonly log: Pick<Logger, "error">;
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
  readonly #conflicts: SyncConflicts;

  constructor(deps: SyncRuleControllerDependencies) {
    this.#deps = deps;
    const { resource, fieldManager } = this;
    this.#conflicts = new SyncConflicts({ ...deps, resource, fieldManager });
  }

  async observe(rule: SyncRule, signal: AbortSignal): Promise<Observed> {
    const { cluster } = this.#deps;
    const tenancy = tenancyOf(cluster, rule);
    const keyVault = keyVaultOf(cluster, rule);
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
    const stored = new Set(complete.map(({ secretName }) => secretName));
    return {
      ...look,
      kind: "Push",
      vaultUrl,
      installation,
      entries,
      covered: entries.length,
      refused: failures,
      unstored: secrets.map(({ metadata }) => metadata.name).filter((name) => !stored.has(name)),
      // What was pushed of a secret stays remembered while its next version waits for a value.
      items: items.filter(({ secretId }) => !incomplete.has(secretId)),
      holders,
      over: this.#conflicts.of(rule).conflicts,
      forgotten: false,
    };
  }

  async #observeToPull(rule: SyncRule, tenancy: Tenancy, vaultUrl: string, signal: AbortSignal): Promise<SeenToPull> {
    const { store, cluster } = this.#deps;
    const { uid: ruleUid, namespace = "" } = rule.metadata;
    const secrets = secretsOf(this.#deps.cluster, rule).filter(({ spec }) => spec.entries.some(isExternal));
    const scope = scopeOf(rule, tenancy);
    const sources = await store.sources({ ...scope, names: secrets.map(({ metadata }) => metadata.name) });
    const pulled = await store.pulled(ruleUid, [...new Set(sources.map(({ secretId }) => secretId))]);
    const look = await this.#look(rule, vaultUrl, tenancy, signal);
    const { wanted: entries, failures: refused } = wantedEntries(secrets, sources, scope, namingOf(rule));
    const refusing = { entries, failures: refused };
    const { entries: wanted, failures } = withoutOverlaps(refusing, overlapsOf(this.#deps.cluster, rule, vaultUrl));
    return {
      ...look,
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
    const items = await store.items(uid);
    const look = await this.#look(rule, vaultUrl, tenancy, signal);
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
      // What was pushed of a secret stays remembered while its next version waits for a value.
      items: items.filter(({ secretId, key }) => !incomplete.has(secretId) || isShared.has(`${secretId} ${key}`)),
      holders,
      troubled: this.#looks.troubles(rule, vaultUrl, wanted, look),
      ...this.#conflicts.of(rule),
      over: [],
      forgotten: false,
    };
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    const { store, writer } = this.#deps;
    if (action.kind === "CloseConflict") {
      await this.#conflicts.close(action.rule, action.conflict, signal);
      return undefined;
    }
    const { uid } = action.rule.metadata;
    switch (action.kind) {
      case "Forget":
        await store.forget(writer(), uid, action.keys);
        return undefined;
      case "ForgetPulled":
        await store.forgetPulled(writer(), uid, action.items);
        return undefined;
      case "Push":
        return this.#told(action.rule, await this.#push(action.rule, action.plan, signal));
      case "Pull":
        return this.#told(action.rule, await this.#pull(action.rule, action.plan, signal), action.later);
      case "Exchange":
        return this.#told(action.rule, await this.#exchange(action.rule, action, signal), action.later);
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
    if (action.kind === "OpenConflict" || action.kind === "CloseConflict") return dealtWith(seen, action);
    return outcome === undefined ? { ...seen, forgotten: true } : { ...seen, done: outcome };
  }

  async #push(rule: SyncRule, plan: readonly PlannedPush[], signal: AbortSignal): Promise<SyncResult> {
    const tenancy = tenancyOf(this.#deps.cluster, rule);
    const vault = await this.#open(rule, tenancy, "Change", signal);
    return push(plan, this.#pushContext(rule, tenancy, vault, plan, signal));
  }

  async #pull(rule: SyncRule, plan: readonly PlannedPull[], signal: AbortSignal): Promise<SyncResult> {
    const { store, cluster, writer, assertLeading, installation } = this.#deps;
    const tenancy = tenancyOf(cluster, rule);
    const values = this.#valuesOf(rule, tenancy);
    return pull(plan, {
      vault: await this.#open(rule, tenancy, "Change", signal),
      store,
      writer: writer(),
      ruleUid: rule.metadata.uid,
      installation,
      put: (secretName, taken) => values.take(secretName, taken),
      assertLeading,
      signal,
    });
  }

  async #exchange(
    rule: SyncRule,
    plan: { readonly push: readonly PlannedPush[]; readonly exchange: readonly PlannedExchange[] },
    signal: AbortSignal,
  ): Promise<SyncResult> {
    const { cluster, store, vault: platform } = this.#deps;
    const tenancy = tenancyOf(cluster, rule);
    const values = this.#valuesOf(rule, tenancy);
    const vault = await this.#open(rule, tenancy, "Change", signal);
    const started = performance.now();
    const pushed = await push(plan.push, this.#pushContext(rule, tenancy, vault, plan.push, signal));
    const exchanged = await exchange(plan.exchange, {
      ...this.#pushContext(rule, tenancy, vault, plan.exchange, signal),
      store,
      policy: rule.spec.conflictPolicy ?? "Manual",
      keeps: (secretId, key, fingerprint) => platform.keeps(secretId, key, fingerprint),
      fingerprint: (name, key, value) => values.fingerprint(name, key, value),
      fingerprintIn: (name, version, key) => values.fingerprintIn(name, version, key),
      take: (name, taken, expected) => values.take(name, taken, expected),
      keepBeside: (name, lost, expected) => values.keepBeside(name, lost, expected),
    });
    this.#conflicts.settle(rule, exchanged.conflicts, started);
    return merged(pushed, exchanged);
  }

  #pushContext(
    rule: SyncRule,
    tenancy: Tenancy,
    vault: TargetVault,
    plan: readonly { readonly entry: ReadEntry }[],
    signal: AbortSignal,
  ): PushContext {
    const { store, audit, installation, writer, assertLeading } = this.#deps;
    return {
      vault,
      store,
      audit,
      writer: writer(),
      ruleUid: rule.metadata.uid,
      actor: objectActor(this.resource, rule),
      installation,
      open: this.#valuesOf(rule, tenancy).reader(plan),
      assertLeading,
      signal,
    };
  }

  #valuesOf(rule: SyncRule, tenancy: Tenancy): RuleValues {
    return new RuleValues(this.#deps, rule, tenancy, objectActor(this.resource, rule));
  }

  #look(rule: SyncRule, vaultUrl: string, tenancy: Tenancy, signal: AbortSignal): Promise<Look> {
    return this.#looks.look(rule, vaultUrl, (priority) => this.#open(rule, tenancy, priority, signal), signal);
  }

  conditionFor(): OwnedConditionType {
    return "Synced";
  }

  async absent(key: string): Promise<void> {
    this.#looks.forget(key);
    // What a rule wrote stays in the vault, and its items stay too: a rule that is applied again goes on from them.
  }

  async #open(rule: SyncRule, tenancy: Tenancy, priority: Priority, signal: AbortSignal): Promise<TargetVault> {
    const keyVault = keyVaultOf(this.#deps.cluster, rule);
    const access = await vaultAccess(this.#deps.api, keyVault, tenancy, signal);
    // Opened after it was forgotten, a KeyVault that is gone would stay open for ever.
    if (keyVaultOf(this.#deps.cluster, rule).metadata.uid !== access.uid) {
      throw new Waiting("KeyVaultNotFound", "spec.target.keyVault.ref: the KeyVault is being made anew", SOON_MS);
    }
    return this.#deps.vaults.open(access, priority);
  }
}
