/** SyncRules whose target are core Secrets in other namespaces of this cluster: all of it is watched, nothing is polled. */
import { Stalled, Waiting } from "../../../core/errors.ts";
import type { AuditLog } from "../../../core/ports/audit-log.ts";
import type { CopyStore } from "../../../core/ports/copy-store.ts";
import type { SyncStore } from "../../../core/ports/sync-store.ts";
import type { Writer } from "../../../core/ports/vault-store.ts";
import type { SyncResult } from "../../../core/sync/run.ts";
import type { Vault } from "../../../core/vault/vault.ts";
import { type SyncRule, syncRuleKind } from "../../../crds/syncrule.ts";
import type { Logger } from "../../../program/logging.ts";
import { objectActor } from "../../actor.ts";
import { type Cluster, type Tenancy, tenancyOf } from "../../cluster.ts";
import { DeliveryObserver } from "../../delivery/observe.ts";
import { DeliveryPerformer, type DeliveryPerformerDependencies } from "../../delivery/perform.ts";
import type { Controller, OwnedConditionType } from "../../runtime/controller.ts";
import { resourceType } from "../../runtime/resource-type.ts";
import type { KubernetesApi } from "../../runtime/transport.ts";
import { identityOf } from "../../secret/observe.ts";
import { SyncConflicts } from "../conflicts.ts";
import { isExternal, scopeOf, secretsOf, separate, takenEntries } from "../coverage.ts";
import { overlapsOf, withoutOverlaps } from "../overlaps.ts";
import { RuleValues } from "../values.ts";
import { type CopiesInput, planCopies } from "./copies.ts";
import { CopyPerformer } from "./copy.ts";
import {
  type Action,
  type Closed,
  dealtWith,
  decide,
  describeDecided,
  type Observed,
  type SeenToCopy,
  type SeenToExchange,
  type SeenToTake,
} from "./decide.ts";
import { ExchangePerformer } from "./exchange.ts";
import { planExchanges } from "./exchanges.ts";
import { kubernetesOf, type TargetNamespace, targetNamespace } from "./place.ts";
import { rivalsIn } from "./rivals.ts";
import { TakePerformer } from "./take.ts";
import { planTakes, wantedValues } from "./takes.ts";

export interface CoreSecretRuleDependencies extends Pick<DeliveryPerformerDependencies, "events" | "absorb"> {
  readonly api: KubernetesApi;
  readonly cluster: Cluster;
  readonly vault: Vault;
  readonly store: SyncStore;
  readonly copies: CopyStore;
  readonly audit: Pick<AuditLog, "append">;
  readonly installation: string;
  readonly writer: () => Writer;
  /** A Secret, by `namespace/name`, has another version, to be delivered. */
  readonly onPulled: (key: string) => void;
  readonly log: Pick<Logger, "error">;
}

/** Undefined when something was forgotten. */
type Outcome = SyncResult | undefined;

export class CoreSecretRuleController implements Controller<SyncRule, Observed, Action, Outcome> {
  readonly name = "syncrule";
  readonly fieldManager = "mazevault-syncrule";
  readonly resource = resourceType(syncRuleKind);
  readonly #deps: CoreSecretRuleDependencies;
  readonly #copying: CopyPerformer;
  readonly #taking: TakePerformer;
  readonly #exchanging: ExchangePerformer;
  readonly #conflicts: SyncConflicts;

  constructor(deps: CoreSecretRuleDependencies) {
    this.#deps = deps;
    const observer = new DeliveryObserver(deps);
    const performer = new DeliveryPerformer({ ...deps, observer });
    this.#copying = new CopyPerformer({ ...deps, observer, performer });
    this.#taking = new TakePerformer(deps);
    this.#exchanging = new ExchangePerformer({ ...deps, performer });
    const { resource, fieldManager } = this;
    this.#conflicts = new SyncConflicts({ ...deps, resource, fieldManager });
  }

  async observe(rule: SyncRule): Promise<Observed> {
    const tenancy = tenancyOf(this.#deps.cluster, rule);
    if (rule.spec.suspend === true) return { kind: "Suspended" };
    switch (rule.spec.direction) {
      case "Push":
        return this.#observeToCopy(rule, tenancy);
      case "Pull":
        return this.#observeToTake(rule, tenancy);
      case "Bidirectional":
        return this.#observeToExchange(rule, tenancy);
    }
  }

  async #observeToCopy(rule: SyncRule, tenancy: Tenancy): Promise<SeenToCopy> {
    const { input, ...seen } = await this.#copied(rule, tenancy);
    return { ...seen, kind: "Push", over: this.#conflicts.of(rule).conflicts, copies: planCopies(input) };
  }

  async #observeToExchange(rule: SyncRule, tenancy: Tenancy): Promise<SeenToExchange> {
    const { cluster } = this.#deps;
    const { input, ...seen } = await this.#copied(rule, tenancy);
    const { conflicts } = this.#conflicts.of(rule);
    const covered = new Set(secretsOf(cluster, rule).map(({ metadata }) => metadata.name));
    // No vault has this address, as below.
    const overlaps = overlapsOf(cluster, rule, "kubernetes:");
    const exchanges = planExchanges({ ...input, covered, conflicts, overlaps });
    return { ...seen, kind: "Bidirectional", over: exchanges.over, exchanges, conflicts };
  }

  /** What there is to copy, and what of it can be. */
  async #copied(
    rule: SyncRule,
    tenancy: Tenancy,
  ): Promise<Pick<SeenToCopy, "closed" | "unreached" | "unstored"> & { readonly input: CopiesInput }> {
    const { cluster, store, vault, copies, installation, writer } = this.#deps;
    const { open, closed } = this.#namespaces(rule, tenancy);
    const covered = secretsOf(cluster, rule);
    const sources = await store.sources({
      ...scopeOf(rule, tenancy),
      names: covered.map(({ metadata }) => metadata.name),
    });
    const bySecret = Map.groupBy(separate(covered, sources).complete, ({ secretName }) => secretName);
    const secrets = await Promise.all(
      covered
        .filter(({ metadata }) => bySecret.has(metadata.name))
        .map(async (secret) => ({
          secret,
          entries: bySecret.get(secret.metadata.name) ?? [],
          digests: await vault.digester(writer(), identityOf(secret, tenancy.namespace.uid)),
        })),
    );
    return {
      closed,
      unreached: secrets.length * closed.length,
      unstored: covered.map(({ metadata }) => metadata.name).filter((name) => !bySecret.has(name)),
      input: {
        rule,
        installation,
        secrets,
        namespaces: open.map((namespace) => ({
          ...namespace,
          coreSecret: (name) => cluster.coreSecret(namespace.name, name),
          rivalOf: rivalsIn(cluster, rule, namespace.name),
        })),
        records: await copies.copies(secrets.map(({ entries }) => entries[0]?.secretId ?? "")),
      },
    };
  }

  async #observeToTake(rule: SyncRule, tenancy: Tenancy): Promise<SeenToTake> {
    const { cluster, store, installation } = this.#deps;
    const { uid: ruleUid, namespace: ownNamespace = "" } = rule.metadata;
    const { open, closed } = this.#namespaces(rule, tenancy);
    const covered = secretsOf(cluster, rule).filter(({ spec }) => takenEntries(spec).some(isExternal));
    const sources = await store.sources({
      ...scopeOf(rule, tenancy),
      names: covered.map(({ metadata }) => metadata.name),
    });
    const pulled = await store.pulled(ruleUid, [...new Set(sources.map(({ secretId }) => secretId))]);
    // No vault has this address: what another rule only pushes has no part in it.
    const overlaps = overlapsOf(cluster, rule, "kubernetes:");
    const { entries: wanted, failures: refused } = withoutOverlaps(wantedValues(rule, covered, sources), overlaps);
    const [namespace] = open;
    const over = this.#conflicts.of(rule).conflicts;
    const base = { kind: "Pull", closed, over, unstored: [], forgotten: false } as const;
    if (namespace === undefined) {
      const takes = { inStep: 0, due: [], forget: [], failures: refused };
      return { ...base, unreached: wanted.length, takes };
    }
    const takes = planTakes({
      ruleUid,
      ownNamespace,
      installation,
      namespace,
      coreSecret: (name) => cluster.coreSecret(namespace.name, name),
      wanted,
      pulled,
      rules: new Set(
        cluster
          .syncRulesIn(ownNamespace)
          .filter(({ spec }) => spec.direction === "Pull")
          .map(({ metadata }) => metadata.uid),
      ),
    });
    return { ...base, unreached: 0, takes: { ...takes, failures: [...refused, ...takes.failures] } };
  }

  #namespaces(
    rule: SyncRule,
    tenancy: Tenancy,
  ): { readonly open: readonly TargetNamespace[]; readonly closed: readonly Closed[] } {
    const open: TargetNamespace[] = [];
    const closed: Closed[] = [];
    for (const name of kubernetesOf(rule).namespaces) {
      try {
        open.push(targetNamespace(this.#deps.cluster, rule, tenancy, name));
      } catch (error) {
        if (error instanceof Stalled) closed.push({ reason: error.code, message: error.message });
        else if (error instanceof Waiting) {
          closed.push({ reason: error.code, message: error.message, afterMs: error.afterMs });
        } else throw error;
      }
    }
    return { open, closed };
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    const { store, writer } = this.#deps;
    const { rule } = action;
    switch (action.kind) {
      case "ForgetTaken":
        await store.forgetPulled(writer(), rule.metadata.uid, action.items);
        return undefined;
      case "Copy":
        return this.#told(rule, await this.#copying.copyAll(rule, action.copies, signal));
      case "Exchange": {
        const result = await this.#exchanging.exchangeAll(rule, action.exchanges, this.#valuesOf(rule), signal);
        for (const each of result.decided) {
          const note = describeDecided(each);
          this.#deps.events.record(rule, { type: "Normal", reason: "ConflictDecided", action: "DecideConflict", note });
        }
        return this.#told(rule, result);
      }
      case "OpenConflict":
        await this.#conflicts.open(rule, action.found, action.open, signal);
        return undefined;
      case "CloseConflict":
        await this.#conflicts.close(rule, action.conflict, signal);
        return undefined;
      case "Take": {
        const values = this.#valuesOf(rule);
        const put = (name: string, taken: Parameters<RuleValues["take"]>[1]) => values.take(name, taken);
        return this.#told(rule, await this.#taking.takeAll(rule, action.takes, put, signal));
      }
    }
  }

  async absent(key: string): Promise<void> {
    this.#exchanging.forget(key);
  }

  #valuesOf(rule: SyncRule): RuleValues {
    return new RuleValues(this.#deps, rule, tenancyOf(this.#deps.cluster, rule), objectActor(this.resource, rule));
  }

  #told({ metadata: { namespace, name } }: SyncRule, result: SyncResult): SyncResult {
    if (result.unexpected !== undefined) {
      this.#deps.log.error(
        { object: `${namespace}/${name}`, error: result.unexpected },
        "a core Secret failed unexpectedly",
      );
    }
    return result;
  }

  learn(seen: Observed, action: Action, outcome: Outcome): Observed {
    if (seen.kind === "Suspended") return seen;
    if (action.kind === "OpenConflict" || action.kind === "CloseConflict") return dealtWith(seen, action);
    if (outcome !== undefined) return { ...seen, done: outcome };
    return seen.kind === "Pull" ? { ...seen, forgotten: true } : seen;
  }

  conditionFor(): OwnedConditionType {
    return "Synced";
  }
}
