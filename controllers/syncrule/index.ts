/** The controller of `SyncRule`, direction Push to a Key Vault: changes at once, drift by looking now and then. */
import { Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import type { Actor, AuditLog } from "../../core/ports/audit-log.ts";
import type { SourceEntry, SyncStore } from "../../core/ports/sync-store.ts";
import { type TargetVault, Throttled, type VaultEntryProperties } from "../../core/ports/target-vault.ts";
import { normalVaultUrl, type Priority, type TargetVaults } from "../../core/ports/target-vaults.ts";
import type { SecretRecord, Writer } from "../../core/ports/vault-store.ts";
import type { Sensitive } from "../../core/sensitive.ts";
import { failure } from "../../core/sync/entries.ts";
import { checkNames, entryNames } from "../../core/sync/names.ts";
import type { PlannedPush } from "../../core/sync/plan.ts";
import { type PushResult, push } from "../../core/sync/push.ts";
import { selectSecrets } from "../../core/sync/select.ts";
import { unwritten } from "../../core/vault/recipe.ts";
import type { Vault } from "../../core/vault/vault.ts";
import type { KeyVault } from "../../crds/keyvault.ts";
import type { Secret } from "../../crds/secret.ts";
import { type SyncRule, syncRuleKind } from "../../crds/syncrule.ts";
import { objectActor } from "../actor.ts";
import { type Cluster, type Tenancy, tenancyOf } from "../cluster.ts";
import { vaultAccess } from "../keyvault/access.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { identityOf } from "../secret/observe.ts";
import { type Action, decide, intervalMs, type Observed, SYNC_NOW_ANNOTATION, type VaultFailure } from "./decide.ts";

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
}

type Outcome = PushResult | undefined;

const KEY_VAULT_RECHECK_MS = 60_000;
const SOON_MS = 1_000;

export class SyncRuleController implements Controller<SyncRule, Observed, Action, Outcome> {
  readonly name = "syncrule";
  readonly fieldManager = "mazevault-syncrule";
  readonly resource = resourceType(syncRuleKind);
  readonly #deps: SyncRuleControllerDependencies;
  /** When each rule, by UID, looked at its vault last; milliseconds since the epoch. */
  readonly #looked = new Map<string, number>();

  constructor(deps: SyncRuleControllerDependencies) {
    this.#deps = deps;
  }

  async observe(rule: SyncRule, signal: AbortSignal): Promise<Observed> {
    const { cluster, store, installation } = this.#deps;
    const tenancy = tenancyOf(cluster, rule);
    const keyVault = this.#keyVault(rule);
    const vaultUrl = normalVaultUrl(keyVault.spec.vaultUrl);
    const syncNow = rule.metadata.annotations?.[SYNC_NOW_ANNOTATION];
    const common = { installation, vaultUrl, forgotten: false, ...(syncNow !== undefined && { syncNow }) };
    if (rule.spec.suspend === true) {
      return {
        ...common,
        kind: "Suspended",
        entries: [],
        nameFailures: [],
        unstored: [],
        items: [],
        holders: [],
        nextLook: new Date(0),
      };
    }

    // Read before the vault is looked at: what is written meanwhile is then newer than both, never older than the look.
    const items = await store.items(rule.metadata.uid);
    const look = await this.#look(rule, tenancy, syncNow, signal);
    const secrets = this.#secrets(rule);
    const scope = {
      project: rule.spec.projectRef.name,
      environment: rule.spec.environment,
      namespace: tenancy.namespace.name,
      namespaceUid: tenancy.namespace.uid,
    };
    const sources = await store.sources({ ...scope, names: secrets.map(({ metadata }) => metadata.name) });
    const naming = { pattern: rule.spec.target.keyVault?.name, mappings: rule.spec.mappings };
    const { complete, incomplete } = separate(secrets, sources);
    const named = entryNames(complete, scope, naming);
    const holders = await store.holders(
      vaultUrl,
      named.map(({ entryName }) => entryName),
    );
    const { entries, failures } = refuseOpaque(secrets, checkNames(named, holders, rule.metadata.uid));
    const stored = new Set(complete.map(({ secretName }) => secretName));
    return {
      ...common,
      ...look,
      kind: "Active",
      entries,
      nameFailures: failures,
      unstored: secrets.map(({ metadata }) => metadata.name).filter((name) => !stored.has(name)),
      // What was pushed of a secret stays remembered while its next version waits for a value.
      items: items.filter(({ secretId }) => !incomplete.has(secretId)),
      holders,
      nextLook: new Date((this.#looked.get(rule.metadata.uid) ?? Date.now()) + intervalMs(rule)),
    };
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    const { store, audit, cluster, installation, writer, assertLeading } = this.#deps;
    const { rule } = action;
    if (action.kind === "Forget") {
      await store.forget(writer(), rule.metadata.uid, action.keys);
      return undefined;
    }
    const tenancy = tenancyOf(cluster, rule);
    const actor = objectActor(this.resource, rule);
    return push(action.plan, {
      vault: await this.#open(rule, tenancy, "Change", signal),
      store,
      audit,
      writer: writer(),
      ruleUid: rule.metadata.uid,
      actor,
      installation,
      open: this.#reader(rule, tenancy, action.plan, actor),
      assertLeading,
      signal,
    });
  }

  learn(seen: Observed, action: Action, outcome: Outcome): Observed {
    if (action.kind === "Forget") return { ...seen, forgotten: true };
    return outcome === undefined ? seen : { ...seen, pushed: outcome };
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
    tenancy: Tenancy,
    syncNow: string | undefined,
    signal: AbortSignal,
  ): Promise<{ target?: readonly VaultEntryProperties[]; lookFailure?: VaultFailure }> {
    const last = this.#looked.get(rule.metadata.uid);
    const requested = syncNow !== undefined && syncNow !== rule.status?.lastHandledSyncNow;
    if (last !== undefined && !requested && Date.now() - last < intervalMs(rule)) return {};
    try {
      const vault = await this.#open(rule, tenancy, requested ? "Change" : "Look", signal);
      const target: VaultEntryProperties[] = [];
      const started = Date.now();
      for await (const page of vault.list(signal)) target.push(...page);
      this.#looked.set(rule.metadata.uid, started);
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
  #reader(rule: SyncRule, tenancy: Tenancy, plan: readonly PlannedPush[], actor: Actor) {
    const { vault, cluster } = this.#deps;
    const { namespace = "", name: ruleName } = rule.metadata;
    const names = new Map(plan.map(({ entry }) => [entry.secretId, entry.secretName]));
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

/** What MazeVault cannot open it cannot push. */
function refuseOpaque(
  secrets: readonly Secret[],
  { entries, failures }: ReturnType<typeof checkNames>,
): ReturnType<typeof checkNames> {
  const opaque = new Set(
    secrets.filter(({ spec }) => spec.protection === "EndToEnd").map(({ metadata }) => metadata.name),
  );
  const refused = entries.filter(({ secretName }) => opaque.has(secretName));
  const message = "the value is sealed for its readers and cannot be pushed; leave the Secret out of spec.secrets";
  return {
    entries: entries.filter((entry) => !refused.includes(entry)),
    failures: [...failures, ...refused.map((entry) => failure(entry, "EndToEndProtected", message))],
  };
}
