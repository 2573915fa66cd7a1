/** The controller of `SyncRule`: what changes here goes at once, what changes in the vault is found by looking now and then. */
import { createHash } from "node:crypto";
import { Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import type { Actor, AuditLog } from "../../core/ports/audit-log.ts";
import type { SourceEntry, SyncStore } from "../../core/ports/sync-store.ts";
import { type TargetVault, Throttled, type VaultEntryProperties } from "../../core/ports/target-vault.ts";
import { normalVaultUrl, type Priority, type TargetVaults } from "../../core/ports/target-vaults.ts";
import { Conflict, type SecretRecord, type Writer } from "../../core/ports/vault-store.ts";
import type { Sensitive } from "../../core/sensitive.ts";
import {
  type EntryPlace,
  failure,
  foldName,
  label,
  type NamedEntry,
  type SyncFailure,
} from "../../core/sync/entries.ts";
import { type Expected, exchange, type Held } from "../../core/sync/exchange.ts";
import { conflictKey, type PlannedExchange, type SharedEntry } from "../../core/sync/exchange-plan.ts";
import { checkNames, entryNames, type Naming, nameFailure, namer, type Scope } from "../../core/sync/names.ts";
import { ownerOf } from "../../core/sync/ownership.ts";
import type { PlannedPush } from "../../core/sync/plan.ts";
import { pull } from "../../core/sync/pull.ts";
import { type PlannedPull, type Trouble, troubles, type WantedEntry } from "../../core/sync/pull-plan.ts";
import { type PushContext, push } from "../../core/sync/push.ts";
import { type FoundConflict, merged, type SyncResult } from "../../core/sync/run.ts";
import { selectSecrets } from "../../core/sync/select.ts";
import { unwritten } from "../../core/vault/recipe.ts";
import type { Vault } from "../../core/vault/vault.ts";
import { API_VERSION } from "../../crds/common.ts";
import type { KeyVault } from "../../crds/keyvault.ts";
import type { Secret, SecretEntry } from "../../crds/secret.ts";
import { type SyncConflict, syncConflictKind } from "../../crds/syncconflict.ts";
import { type SyncRule, syncRuleKind } from "../../crds/syncrule.ts";
import type { Logger } from "../../program/logging.ts";
import { objectActor } from "../actor.ts";
import { type Cluster, type Tenancy, tenancyOf } from "../cluster.ts";
import { vaultAccess } from "../keyvault/access.ts";
import { isAlreadyExists, isNotFound } from "../runtime/api-error.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { keyOf, resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { identityOf, lifecycleOf } from "../secret/observe.ts";
import {
  type Action,
  decide,
  intervalMs,
  keyOfConflict,
  type Observed,
  type SeenToExchange,
  type SeenToPull,
  type SeenToPush,
  SYNC_NOW_ANNOTATION,
} from "./decide.ts";

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

const KEY_VAULT_RECHECK_MS = 60_000;
const SOON_MS = 1_000;
/** Key Vault's times have whole seconds. */
const SETTLES_MS = 1_000;

export class SyncRuleController implements Controller<SyncRule, Observed, Action, Outcome> {
  readonly name = "syncrule";
  readonly fieldManager = "mazevault-syncrule";
  readonly resource = resourceType(syncRuleKind);
  readonly #deps: SyncRuleControllerDependencies;
  /** When each rule, by UID and vault, looked last; milliseconds since the epoch. Absent: it is to look again. */
  readonly #looked = new Map<string, number>();
  /** What each rule, by UID and vault, could not have when it looked last. */
  readonly #troubled = new Map<string, ReadonlyMap<string, Trouble>>();
  /**
   * By UID of a SyncConflict: which version of the vault's side was seen, and when first. In memory only: a new leader reads
   * each open conflict once more.
   */
  readonly #seenConflicts = new Map<
    string,
    { readonly targetVersion: string; readonly at: number; settled: boolean }
  >();

  constructor(deps: SyncRuleControllerDependencies) {
    this.#deps = deps;
  }

  async observe(rule: SyncRule, signal: AbortSignal): Promise<Observed> {
    const { cluster } = this.#deps;
    const tenancy = tenancyOf(cluster, rule);
    const keyVault = this.#keyVault(rule);
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
    const secrets = this.#secrets(rule);
    const scope = scopeOf(rule, tenancy);
    const sources = await store.sources({ ...scope, names: secrets.map(({ metadata }) => metadata.name) });
    const { complete, incomplete } = separate(secrets, sources);
    const named = entryNames(complete, scope, namingOf(rule));
    const holders = await store.holders(
      vaultUrl,
      named.map(({ entryName }) => entryName),
    );
    const refusing = refuseOpaque(secrets, checkNames(named, holders, rule.metadata.uid));
    const { entries, failures } = withoutOverlaps(refusing, this.#overlaps(rule, vaultUrl));
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
      over: this.#openConflicts(rule).conflicts,
      forgotten: false,
    };
  }

  async #observeToPull(rule: SyncRule, tenancy: Tenancy, vaultUrl: string, signal: AbortSignal): Promise<SeenToPull> {
    const { store, cluster } = this.#deps;
    const { uid: ruleUid, namespace = "" } = rule.metadata;
    const secrets = this.#secrets(rule).filter(({ spec }) => spec.entries.some(isExternal));
    const scope = scopeOf(rule, tenancy);
    const sources = await store.sources({ ...scope, names: secrets.map(({ metadata }) => metadata.name) });
    const pulled = await store.pulled(ruleUid, [...new Set(sources.map(({ secretId }) => secretId))]);
    const look = await this.#look(rule, vaultUrl, tenancy, signal);
    const { wanted: entries, failures: refused } = wantedEntries(secrets, sources, scope, namingOf(rule));
    const refusing = { entries, failures: refused };
    const { entries: wanted, failures } = withoutOverlaps(refusing, this.#overlaps(rule, vaultUrl));
    const place = placeOf(rule, vaultUrl);
    if (look.target !== undefined) this.#troubled.set(place, troubles(wanted, look.target));
    return {
      ...look,
      kind: "Pull",
      vaultUrl,
      ruleUid,
      wanted,
      covered: wanted.length,
      refused: failures,
      pulled,
      troubled: this.#troubled.get(place) ?? new Map(),
      rules: new Set(
        cluster
          .syncRulesIn(namespace)
          .filter(({ spec }) => spec.direction === "Pull")
          .map(({ metadata }) => metadata.uid),
      ),
      over: this.#openConflicts(rule).conflicts,
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
    const secrets = this.#secrets(rule);
    const scope = scopeOf(rule, tenancy);
    const sources = await store.sources({ ...scope, names: secrets.map(({ metadata }) => metadata.name) });
    const { complete, incomplete } = separate(secrets, sources);
    const { shared, failures: refused } = sharedEntries(secrets, sources, scope, namingOf(rule));
    // Also of those that are refused: what may be changed there is never only pushed.
    const shareable = new Set(
      secrets.flatMap((secret) => secret.spec.entries.filter(isShareable).map(entryOf(secret))),
    );
    const sealed = sealedSecrets(secrets);
    const own = complete.filter((entry) => !shareable.has(conflictKey(entry)) && !sealed.has(entry.secretName));
    const named: readonly (NamedEntry | SharedEntry)[] = [...entryNames(own, scope, namingOf(rule)), ...shared];
    const holders = await store.holders(
      vaultUrl,
      named.map(({ entryName }) => entryName),
    );
    const { entries, failures } = withoutOverlaps(checkNames(named, holders, uid), this.#overlaps(rule, vaultUrl));
    const wanted = entries.filter((entry): entry is SharedEntry => !("fingerprint" in entry));
    const place = placeOf(rule, vaultUrl);
    if (look.target !== undefined) this.#troubled.set(place, troubles(wanted, look.target));
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
      items: items.filter(
        ({ secretId, key }) =>
          !incomplete.has(secretId) || shared.some((entry) => entry.secretId === secretId && entry.key === key),
      ),
      holders,
      troubled: this.#troubled.get(place) ?? new Map(),
      ...this.#openConflicts(rule),
      over: [],
      forgotten: false,
    };
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    const { store, writer } = this.#deps;
    if (action.kind === "CloseConflict") {
      await this.#closeConflict(action.rule, action.conflict, signal);
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
        await this.#openConflict(action.rule, action.found, action.open, signal);
        return undefined;
    }
  }

  /** What is left of what a look found is only known to the next look: it must not wait for its time. */
  #told(rule: SyncRule, result: SyncResult, later = 0): SyncResult {
    const { namespace, name, uid } = rule.metadata;
    const left = later + result.failed + result.untried + result.waiting;
    if (rule.spec.direction !== "Push" && left > 0) {
      for (const place of this.#looked.keys()) if (place.startsWith(uid)) this.#looked.delete(place);
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
    const { store, cluster, writer, assertLeading } = this.#deps;
    const tenancy = tenancyOf(cluster, rule);
    return pull(plan, {
      vault: await this.#open(rule, tenancy, "Change", signal),
      store,
      writer: writer(),
      ruleUid: rule.metadata.uid,
      installation: this.#deps.installation,
      put: (secretName, values) => this.#take(rule, tenancy, secretName, values),
      assertLeading,
      signal,
    });
  }

  async #exchange(
    rule: SyncRule,
    plan: { readonly push: readonly PlannedPush[]; readonly exchange: readonly PlannedExchange[] },
    signal: AbortSignal,
  ): Promise<SyncResult> {
    const { cluster, store, writer, vault: platform } = this.#deps;
    const tenancy = tenancyOf(cluster, rule);
    const vault = await this.#open(rule, tenancy, "Change", signal);
    const started = performance.now();
    const pushed = await push(plan.push, this.#pushContext(rule, tenancy, vault, plan.push, signal));
    const exchanged = await exchange(plan.exchange, {
      ...this.#pushContext(rule, tenancy, vault, plan.exchange, signal),
      store,
      policy: rule.spec.conflictPolicy ?? "Manual",
      fingerprint: async (name, key, value) => {
        const identity = identityOf(this.#secretOf(rule, name), tenancy.namespace.uid);
        return (await platform.digester(writer(), identity)).fingerprint(key, value);
      },
      keeps: (secretId, key, fingerprint) => platform.keeps(secretId, key, fingerprint),
      fingerprintIn: async (name, version, key) => {
        const record = await platform.describe(identityOf(this.#secretOf(rule, name), tenancy.namespace.uid));
        return record && platform.fingerprintIn(record, version, key);
      },
      take: (name, values, expected) => this.#take(rule, tenancy, name, values, expected),
      keepBeside: (name, values, expected) => this.#keepBeside(rule, tenancy, name, values, expected),
    });
    this.#settleConflicts(rule, exchanged.conflicts, started);
    return merged(pushed, exchanged);
  }

  #openConflicts(rule: SyncRule): Pick<SeenToExchange, "conflicts" | "settled"> {
    const { uid, namespace = "" } = rule.metadata;
    const conflicts = this.#deps.cluster
      .syncConflictsIn(namespace)
      .filter(({ metadata }) => metadata.ownerReferences?.some((owner) => owner.uid === uid));
    const isSettled = ({ metadata, status }: SyncConflict): boolean => {
      const seen = this.#seenConflicts.get(metadata.uid);
      return seen?.settled === true && seen.targetVersion === status?.targetVersion;
    };
    return { conflicts, settled: new Set(conflicts.filter(isSettled).map(({ metadata }) => metadata.uid)) };
  }

  /** `readAt`: `performance.now()` before the entries were read. */
  #settleConflicts(rule: SyncRule, found: readonly FoundConflict[], readAt: number): void {
    const open = new Map(this.#openConflicts(rule).conflicts.map((each) => [keyOfConflict(each), each.metadata.uid]));
    for (const { entry, targetVersion } of found) {
      const uid = open.get(conflictKey(entry));
      if (uid === undefined) continue;
      const seen = this.#seenConflicts.get(uid);
      if (seen?.targetVersion !== targetVersion) {
        this.#seenConflicts.set(uid, { targetVersion, at: performance.now(), settled: false });
      } else seen.settled ||= readAt - seen.at >= SETTLES_MS;
    }
  }

  /** On record before anybody sees it; both values are where they were. */
  async #openConflict(
    rule: SyncRule,
    found: FoundConflict,
    open: SyncConflict | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const { api, audit } = this.#deps;
    const { entry, secretId, platformVersion, targetVersion, targetUpdatedOn } = found;
    const { namespace = "", name: ruleName, uid } = rule.metadata;
    await audit.append([
      {
        action: "SyncConflictFound",
        actor: objectActor(this.resource, rule),
        subject: { kind: "Secret", id: secretId, name: `${namespace}/${entry.secretName}` },
        outcome: "Success",
        details: { key: entry.key, rule: ruleName, entry: entry.entryName, platformVersion, targetVersion },
      },
    ]);
    const name = conflictName(rule, entry);
    const identity = { apiVersion: API_VERSION, kind: syncConflictKind.kind };
    const owner = { apiVersion: API_VERSION, kind: syncRuleKind.kind, name: ruleName, uid };
    // What a person said was said of other values: it is to be said anew.
    if (open?.spec.resolution !== undefined) await this.#closeConflict(rule, open, signal);
    if (open === undefined || open.spec.resolution !== undefined) {
      const metadata = { name, namespace, ownerReferences: [owner] };
      try {
        await api.create(
          conflictType,
          { ...identity, metadata, spec: {} },
          { fieldManager: this.fieldManager, signal },
        );
      } catch (error) {
        if (!isAlreadyExists(error)) throw error;
        // The cache has not seen yet what an earlier pass made; what somebody else made is not ours.
        const { metadata: found } = await api.get<SyncConflict>(conflictType, { namespace, name }, { signal });
        if (found.ownerReferences?.some((each) => each.uid === uid) !== true) {
          throw new Stalled("TargetNotOwned", `a SyncConflict ${name} is there that this rule did not make; delete it`);
        }
      }
    }
    const status: SyncConflict["status"] = {
      rule: ruleName,
      secret: entry.secretName,
      key: entry.key,
      name: entry.entryName,
      platformVersion,
      targetVersion,
      targetUpdatedOn: targetUpdatedOn.toISOString(),
    };
    const options = { fieldManager: this.fieldManager, force: true, signal };
    await api.applyStatus(conflictType, { ...identity, metadata: { name, namespace }, status }, options);
  }

  async #closeConflict(rule: SyncRule, { metadata, spec, status }: SyncConflict, signal: AbortSignal): Promise<void> {
    const { namespace = "", name, uid } = metadata;
    this.#seenConflicts.delete(uid);
    await this.#deps.audit.append([
      {
        action: "SyncConflictEnded",
        actor: objectActor(this.resource, rule),
        subject: { kind: "Secret", id: "", name: `${namespace}/${status?.secret ?? ""}` },
        outcome: "Success",
        details: { key: status?.key ?? "", conflict: name, resolution: spec.resolution ?? "None" },
      },
    ]);
    await this.#deps.api
      .delete(conflictType, { namespace, name }, { preconditions: { uid }, signal })
      .catch((error: unknown) => {
        if (!isNotFound(error, name)) throw error;
      });
  }

  #pushContext(
    rule: SyncRule,
    tenancy: Tenancy,
    vault: TargetVault,
    plan: readonly { readonly entry: ReadEntry }[],
    signal: AbortSignal,
  ): PushContext {
    const { store, audit, installation, writer, assertLeading } = this.#deps;
    const actor = objectActor(this.resource, rule);
    return {
      vault,
      store,
      audit,
      writer: writer(),
      ruleUid: rule.metadata.uid,
      actor,
      installation,
      open: this.#reader(rule, tenancy, plan, actor),
      assertLeading,
      signal,
    };
  }

  /** Stores what the vault has, as the Secret is now. */
  async #take(
    rule: SyncRule,
    tenancy: Tenancy,
    name: string,
    values: ReadonlyMap<string, Sensitive>,
    expected: Expected = new Map(),
  ): Promise<Held> {
    const { vault, writer, onPulled } = this.#deps;
    const secret = this.#secretOf(rule, name);
    const identity = identityOf(secret, tenancy.namespace.uid);
    const seen = await vault.describe(identity);
    assertExpected(secret, seen, expected);
    const { record, created } = await vault
      .put(writer(), {
        identity,
        seen,
        entries: secret.spec.entries,
        readers: undefined,
        values,
        alsoGenerated: rule.spec.direction === "Bidirectional",
        lifecycle: lifecycleOf(secret),
        actor: objectActor(this.resource, rule),
        details: this.#origin(rule, name, values),
      })
      .catch((error: unknown) => Promise.reject(meanwhile(secret, error)));
    if (created) onPulled(keyOf(secret));
    return { id: record.id, version: record.currentVersion, entries: record.entries };
  }

  async #keepBeside(
    rule: SyncRule,
    tenancy: Tenancy,
    name: string,
    values: ReadonlyMap<string, Sensitive>,
    expected: Expected,
  ): Promise<Held> {
    const { vault, writer, onPulled } = this.#deps;
    const secret = this.#secretOf(rule, name);
    const seen = await vault.describe(identityOf(secret, tenancy.namespace.uid));
    assertExpected(secret, seen, expected);
    if (seen === undefined) throw deletedMeanwhile(secret);
    const request = {
      entries: secret.spec.entries,
      values,
      actor: objectActor(this.resource, rule),
      details: this.#origin(rule, name, values),
    };
    const record = await vault
      .keepBeside(writer(), seen, request)
      .catch((error: unknown) => Promise.reject(meanwhile(secret, error)));
    if (record !== seen) onPulled(keyOf(secret));
    return { id: record.id, version: record.currentVersion, entries: record.entries };
  }

  /** For the record: from which entries of which vault. */
  #origin(rule: SyncRule, secretName: string, values: ReadonlyMap<string, Sensitive>) {
    const nameOf = namer(namingOf(rule));
    const names = [...values.keys()].map((key) => nameOf({ secretName, key })).sort();
    return { from: normalVaultUrl(this.#keyVault(rule).spec.vaultUrl), entries: names.join(",") };
  }

  #secretOf({ metadata: { namespace = "" } }: SyncRule, name: string): Secret {
    const secret = this.#deps.cluster.secret(namespace, name);
    if (secret === undefined) throw deletedMeanwhile({ metadata: { namespace, name } });
    return secret;
  }

  conditionFor(): OwnedConditionType {
    return "Synced";
  }

  async absent(): Promise<void> {
    // What a rule wrote stays in the vault, and its items stay too: a rule that is applied again goes on from them.
  }

  #keyVault(rule: SyncRule): KeyVault {
    const { namespace = "" } = rule.metadata;
    const name = rule.spec.target.keyVault?.ref.name ?? "";
    const keyVault = this.#deps.cluster.keyVault(namespace, name);
    if (keyVault === undefined) {
      throw new Waiting(
        "KeyVaultNotFound",
        `spec.target.keyVault.ref: there is no KeyVault ${namespace}/${name} yet; apply it`,
        KEY_VAULT_RECHECK_MS,
      );
    }
    if (keyVault.spec.projectRef.name !== rule.spec.projectRef.name) {
      throw new Stalled(
        "KeyVaultOfOtherProject",
        `spec.target.keyVault.ref: KeyVault ${name} belongs to Project ${keyVault.spec.projectRef.name}, the rule to ` +
          `${rule.spec.projectRef.name}; refer to a KeyVault of the same project`,
      );
    }
    return keyVault;
  }

  #secrets(rule: SyncRule): readonly Secret[] {
    const candidates = this.#deps.cluster
      .secretsIn(rule.metadata.namespace ?? "")
      .filter(
        ({ spec }) => spec.projectRef.name === rule.spec.projectRef.name && spec.environment === rule.spec.environment,
      )
      .map((secret) => ({ secret, name: secret.metadata.name, labels: secret.metadata.labels ?? {} }));
    return selectSecrets(candidates, rule.spec.secrets).map(({ secret }) => secret);
  }

  /**
   * The older rule, if any, with which this one would write an entry in turn: one of both takes it over from the vault entry
   * that the other only writes, or takes it over whatever is written here meanwhile.
   */
  #overlaps(rule: SyncRule, vaultUrl: string): (entry: EntryPlace) => SyncRule | undefined {
    const { namespace = "" } = rule.metadata;
    const { cluster } = this.#deps;
    const others = cluster
      .syncRulesIn(namespace)
      .filter((other) => isOlder(other, rule) && sameScope(other, rule))
      .map((other) => {
        const keyVault = cluster.keyVault(namespace, other.spec.target.keyVault?.ref.name ?? "");
        return {
          other,
          url: keyVault && normalVaultUrl(keyVault.spec.vaultUrl),
          names: new Set(this.#secrets(other).map(({ metadata }) => metadata.name)),
          nameOf: namer(namingOf(other)),
        };
      });
    return (entry) => {
      const { secretName, key, entryName } = entry;
      const spec = cluster.secret(namespace, secretName)?.spec.entries.find((each) => each.key === key);
      if (spec === undefined) return undefined;
      const ours = takesOver(rule, spec);
      return others.find(({ other, url, names, nameOf }) => {
        if (!names.has(secretName)) return false;
        const theirs = takesOver(other, spec);
        if (ours && theirs) return rule.spec.direction === "Pull" || other.spec.direction === "Pull";
        return ours !== theirs && url === vaultUrl && foldName(nameOf(entry)) === foldName(entryName);
      })?.other;
    };
  }

  async #open(rule: SyncRule, tenancy: Tenancy, priority: Priority, signal: AbortSignal): Promise<TargetVault> {
    const keyVault = this.#keyVault(rule);
    const access = await vaultAccess(this.#deps.api, keyVault, tenancy, signal);
    // Opened after it was forgotten, a KeyVault that is gone would stay open for ever.
    if (this.#keyVault(rule).metadata.uid !== access.uid) {
      throw new Waiting("KeyVaultNotFound", "spec.target.keyVault.ref: the KeyVault is being made anew", SOON_MS);
    }
    return this.#deps.vaults.open(access, priority);
  }

  async #look(
    rule: SyncRule,
    vaultUrl: string,
    tenancy: Tenancy,
    signal: AbortSignal,
  ): Promise<Pick<SeenToPush, "target" | "lookFailure" | "nextLook" | "syncNow">> {
    const syncNow = rule.metadata.annotations?.[SYNC_NOW_ANNOTATION];
    const place = placeOf(rule, vaultUrl);
    const last = this.#looked.get(place);
    const requested = syncNow !== undefined && syncNow !== rule.status?.lastHandledSyncNow;
    const due = last === undefined || requested || Date.now() - last >= intervalMs(rule);
    const looked = due ? await this.#lookNow(rule, place, tenancy, requested ? "Change" : "Look", signal) : {};
    const nextLook = new Date((this.#looked.get(place) ?? Date.now()) + intervalMs(rule));
    return { ...looked, nextLook, ...(syncNow !== undefined && { syncNow }) };
  }

  async #lookNow(
    rule: SyncRule,
    place: string,
    tenancy: Tenancy,
    priority: Priority,
    signal: AbortSignal,
  ): Promise<Pick<SeenToPush, "target" | "lookFailure">> {
    try {
      const vault = await this.#open(rule, tenancy, priority, signal);
      const target: VaultEntryProperties[] = [];
      const started = Date.now();
      for await (const page of vault.list(signal)) target.push(...page);
      this.#looked.set(place, started);
      return { target };
    } catch (error) {
      if (error instanceof Stalled || error instanceof Waiting || error instanceof Unavailable) {
        if (error.code === "ApiServerUnavailable") throw error;
        const retryAfterMs =
          error instanceof Waiting ? error.afterMs : error instanceof Throttled ? error.retryAfterMs : undefined;
        const { code: reason, message } = error;
        return { lookFailure: { reason, message, ...(retryAfterMs !== undefined && { retryAfterMs }) } };
      }
      throw error;
    }
  }

  /** Values for the push, each read audited; the record of a secret is looked up once. */
  #reader(rule: SyncRule, tenancy: Tenancy, plan: readonly { readonly entry: ReadEntry }[], actor: Actor) {
    const { vault, cluster } = this.#deps;
    const { namespace = "", name: ruleName } = rule.metadata;
    const names = new Map(plan.map(({ entry }) => [entry.secretId ?? "", entry.secretName]));
    const records = new Map<string, Promise<SecretRecord | undefined>>();
    const recordOf = (name: string): Promise<SecretRecord | undefined> => {
      const secret = cluster.secret(namespace, name);
      return secret === undefined
        ? Promise.resolve(undefined)
        : vault.describe(identityOf(secret, tenancy.namespace.uid));
    };
    return async (secretId: string, version: number, key: string): Promise<Sensitive> => {
      const name = names.get(secretId) ?? "";
      const pending = records.get(secretId) ?? recordOf(name);
      records.set(secretId, pending);
      const record = await pending;
      const purpose = `push by SyncRule ${namespace}/${ruleName}`;
      const opened = record && (await vault.open(record, { version, keys: [key], actor, purpose }));
      const value = opened?.values.get(key);
      if (value === undefined) {
        throw new Unavailable(
          "SecretNotStored",
          `version ${version} of Secret ${namespace}/${name} is not stored any more`,
        );
      }
      return value;
    };
  }
}

/** A version is pushed as a whole, so not before every external entry was written. */
function separate(
  secrets: readonly Secret[],
  sources: readonly SourceEntry[],
): { readonly complete: readonly SourceEntry[]; readonly incomplete: ReadonlySet<string> } {
  const bySecret = Map.groupBy(sources, ({ secretName }) => secretName);
  const incomplete = secrets
    .map(({ metadata, spec }) => ({ spec, stored: bySecret.get(metadata.name) ?? [] }))
    .filter(({ spec, stored }) => unwritten(spec.entries, stored).length > 0)
    .flatMap(({ stored }) => stored.map(({ secretId }) => secretId));
  const ids = new Set(incomplete);
  return { complete: sources.filter(({ secretId }) => !ids.has(secretId)), incomplete: ids };
}

const scopeOf = ({ spec }: SyncRule, { namespace }: Tenancy): Scope => ({
  project: spec.projectRef.name,
  environment: spec.environment,
  namespace: namespace.name,
  namespaceUid: namespace.uid,
});

const namingOf = ({ spec }: SyncRule): Naming => ({ pattern: spec.target.keyVault?.name, mappings: spec.mappings });

const conflictType = resourceType(syncConflictKind);

/** The same for the same entry under the same rule, so that it is made once. */
function conflictName({ metadata: { name, uid } }: SyncRule, entry: EntryPlace): string {
  const digest = createHash("sha256")
    .update(`${uid} ${conflictKey(entry)}`)
    .digest("hex");
  return `${name.slice(0, 240).replace(/[^a-z0-9]+$/, "")}-${digest.slice(0, 10)}`;
}

/** By this a rule's looks at a vault are remembered. */
const placeOf = ({ metadata }: SyncRule, vaultUrl: string): string => `${metadata.uid} ${vaultUrl}`;

/** Somebody was faster: it is looked into again. */
const meanwhile = ({ metadata }: Secret, error: unknown): unknown =>
  error instanceof Conflict
    ? new Waiting("Progressing", `Secret ${metadata.name} was written meanwhile`, SOON_MS)
    : error;

/** In this pass it is not to be opened or closed again. */
function dealtWith(
  seen: Exclude<Observed, { kind: "Suspended" }>,
  action: Extract<Action, { kind: "OpenConflict" | "CloseConflict" }>,
): Observed {
  if (action.kind === "CloseConflict" && seen.kind !== "Bidirectional") {
    return { ...seen, over: seen.over.filter((each) => each !== action.conflict) };
  }
  if (seen.kind !== "Bidirectional") return seen;
  if (action.kind === "CloseConflict") {
    return { ...seen, conflicts: seen.conflicts.filter((each) => each !== action.conflict) };
  }
  const { entry, platformVersion, targetVersion, targetUpdatedOn } = action.found;
  const opened = {
    ...action.open,
    spec: {},
    status: {
      secret: entry.secretName,
      key: entry.key,
      platformVersion,
      targetVersion,
      targetUpdatedOn: targetUpdatedOn.toISOString(),
    },
  } as SyncConflict;
  return { ...seen, conflicts: [...seen.conflicts.filter((each) => each !== action.open), opened] };
}

/** Whose values a plan may have to read. */
type ReadEntry = Pick<EntryPlace, "secretName"> & { readonly secretId?: string };

const deletedMeanwhile = ({
  metadata: { namespace, name },
}: {
  readonly metadata: { readonly namespace?: string | undefined; readonly name: string };
}): Waiting => new Waiting("SecretNotStored", `Secret ${namespace}/${name} was deleted meanwhile`, SOON_MS);

/** Throws when somebody wrote an entry since the plan was made. */
function assertExpected({ metadata }: Secret, seen: SecretRecord | undefined, expected: Expected): void {
  const fingerprints = new Map(seen?.entries.map(({ key, fingerprint }) => [key, fingerprint]));
  for (const [key, fingerprint] of expected) {
    if (fingerprints.get(key) === fingerprint) continue;
    throw new Waiting("Progressing", `entry ${key} of Secret ${metadata.name} was written meanwhile`, SOON_MS);
  }
}

const isExternal = ({ external }: SecretEntry): boolean => external !== undefined;

/** The external entries of these Secrets, by their names in the vault; what has none that can be used is among the failures. */
function wantedEntries(
  secrets: readonly Secret[],
  sources: readonly SourceEntry[],
  scope: Scope,
  naming: Naming,
): { readonly wanted: readonly WantedEntry[]; readonly failures: readonly SyncFailure[] } {
  const stored = Map.groupBy(sources, ({ secretName }) => secretName);
  const nameOf = namer(naming);
  const wanted: WantedEntry[] = [];
  const failures: SyncFailure[] = [];
  for (const { metadata, spec } of secrets) {
    const held = stored.get(metadata.name) ?? [];
    for (const { key } of spec.entries.filter(isExternal)) {
      const place = { secretName: metadata.name, key };
      const entry = { ...place, entryName: nameOf(place), owner: ownerOf({ ...scope, name: metadata.name }) };
      const reason = spec.protection === "EndToEnd" ? opaque(entry) : nameFailure(entry);
      const fingerprint = held.find((each) => each.key === key)?.fingerprint;
      if (reason !== undefined) failures.push(reason);
      else {
        wanted.push({
          ...entry,
          ...(held[0] !== undefined && { secretId: held[0].secretId }),
          ...(fingerprint !== undefined && { fingerprint }),
        });
      }
    }
  }
  return { wanted, failures };
}

const takesOver = ({ spec: { direction } }: SyncRule, entry: SecretEntry): boolean =>
  direction === "Pull" ? isExternal(entry) : direction === "Bidirectional" && isShareable(entry);

const sameScope = ({ spec: a }: SyncRule, { spec: b }: SyncRule): boolean =>
  a.projectRef.name === b.projectRef.name && a.environment === b.environment;

/** Of two rules the one that was there first stays as it is. */
function isOlder({ metadata: a }: SyncRule, { metadata: b }: SyncRule): boolean {
  const [first, second] = [a, b].map(({ creationTimestamp = "", name }) => `${creationTimestamp} ${name}`);
  return a.uid !== b.uid && (first ?? "") < (second ?? "");
}

function withoutOverlaps<Entry extends EntryPlace>(
  { entries, failures }: { readonly entries: readonly Entry[]; readonly failures: readonly SyncFailure[] },
  overlaps: (entry: EntryPlace) => SyncRule | undefined,
): { readonly entries: readonly Entry[]; readonly failures: readonly SyncFailure[] } {
  const kept: Entry[] = [];
  const refused: SyncFailure[] = [];
  for (const entry of entries) {
    const other = overlaps(entry);
    if (other === undefined) {
      kept.push(entry);
      continue;
    }
    const { metadata, spec } = other;
    const message = `SyncRule ${metadata.name} with direction ${spec.direction} covers ${label(entry)} too, and both would write in turn; leave it out of one of them with spec.secrets`;
    refused.push(failure(entry, "RulesOverlap", message));
  }
  return { entries: kept, failures: [...failures, ...refused] };
}

const entryOf =
  ({ metadata }: Secret) =>
  ({ key }: SecretEntry): string =>
    conflictKey({ secretName: metadata.name, key });

const KEEP_TWO =
  "spec.retention.versions of the Secret is 1, so a value that loses could not be kept; set it to 2 or more";

/** What both sides may change: values that no manifest and no core Secret decides. */
const isShareable = ({ external, generate }: SecretEntry): boolean => external !== undefined || generate !== undefined;

/** The entries of these Secrets that both sides may change, by their names in the vault. */
function sharedEntries(
  secrets: readonly Secret[],
  sources: readonly SourceEntry[],
  scope: Scope,
  naming: Naming,
): { readonly shared: readonly SharedEntry[]; readonly failures: readonly SyncFailure[] } {
  const stored = Map.groupBy(sources, ({ secretName }) => secretName);
  const nameOf = namer(naming);
  const shared: SharedEntry[] = [];
  const failures: SyncFailure[] = [];
  for (const { metadata, spec } of secrets) {
    const held = stored.get(metadata.name) ?? [];
    for (const { key, generate } of spec.entries.filter(isShareable)) {
      const place = { secretName: metadata.name, key };
      const entry = { ...place, entryName: nameOf(place), owner: ownerOf({ ...scope, name: metadata.name }) };
      const [first] = held;
      const current = held.find((each) => each.key === key);
      // What is generated here is made here first.
      if (generate !== undefined && current === undefined) continue;
      if (spec.protection === "EndToEnd") failures.push(opaque(entry));
      else if (spec.retention?.versions === 1) failures.push(failure(entry, "RetentionTooShort", KEEP_TWO));
      else {
        shared.push({
          ...entry,
          ...(first !== undefined && { secretId: first.secretId }),
          ...(current !== undefined && {
            held: { version: current.version, recipe: current.recipe, fingerprint: current.fingerprint },
          }),
        });
      }
    }
  }
  return { shared, failures };
}

const opaque = (entry: EntryPlace): SyncFailure =>
  failure(
    entry,
    "EndToEndProtected",
    "the value is sealed for its readers and cannot be synchronised; leave the Secret out of spec.secrets",
  );

const sealedSecrets = (secrets: readonly Secret[]): ReadonlySet<string> =>
  new Set(secrets.filter(({ spec }) => spec.protection === "EndToEnd").map(({ metadata }) => metadata.name));

/** What MazeVault cannot open it cannot push. */
function refuseOpaque(
  secrets: readonly Secret[],
  { entries, failures }: ReturnType<typeof checkNames<NamedEntry>>,
): ReturnType<typeof checkNames<NamedEntry>> {
  const sealed = sealedSecrets(secrets);
  const refused = entries.filter(({ secretName }) => sealed.has(secretName));
  return {
    entries: entries.filter((entry) => !refused.includes(entry)),
    failures: [...failures, ...refused.map(opaque)],
  };
}
