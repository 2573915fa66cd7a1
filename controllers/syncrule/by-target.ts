/** One kind, and a controller of its own for each target that a rule can have. */
import { Stalled } from "../../core/errors.ts";
import type { SyncResult } from "../../core/sync/run.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import type { Controller, OwnedConditionType, Plan } from "../runtime/controller.ts";
import type { ResourceType } from "../runtime/resource-type.ts";
import type * as vault from "./decide.ts";
import type * as gateways from "./gateway/decide.ts";
import type { GatewayRuleController } from "./gateway/index.ts";
import type { SyncRuleController } from "./index.ts";
import type * as cores from "./kubernetes/decide.ts";
import type { CoreSecretRuleController } from "./kubernetes/index.ts";

export type Observed =
  | { readonly target: "KeyVault"; readonly seen: vault.Observed }
  | { readonly target: "Kubernetes"; readonly seen: cores.Observed }
  | { readonly target: "Gateway"; readonly seen: gateways.Observed };

export type Action =
  | { readonly target: "KeyVault"; readonly kind: string; readonly action: vault.Action }
  | { readonly target: "Kubernetes"; readonly kind: string; readonly action: cores.Action }
  | { readonly target: "Gateway"; readonly kind: string; readonly action: gateways.Action };

type Outcome = SyncResult | undefined;

export class RulesByTarget implements Controller<SyncRule, Observed, Action, Outcome> {
  readonly name: string;
  readonly fieldManager: string;
  readonly resource: ResourceType;
  readonly #keyVault: SyncRuleController;
  readonly #kubernetes: CoreSecretRuleController;
  readonly #gateway: GatewayRuleController | undefined;

  /** Absent: this installation is a gateway itself, and has none. */
  constructor(keyVault: SyncRuleController, kubernetes: CoreSecretRuleController, gateway?: GatewayRuleController) {
    this.#keyVault = keyVault;
    this.#kubernetes = kubernetes;
    this.#gateway = gateway;
    ({ name: this.name, fieldManager: this.fieldManager, resource: this.resource } = keyVault);
  }

  async observe(rule: SyncRule, signal: AbortSignal): Promise<Observed> {
    const { target } = rule.spec;
    if (target.gateway !== undefined) return { target: "Gateway", seen: await this.#gateways.observe(rule, signal) };
    return target.kubernetes === undefined
      ? { target: "KeyVault", seen: await this.#keyVault.observe(rule, signal) }
      : { target: "Kubernetes", seen: await this.#kubernetes.observe(rule) };
  }

  decide(rule: SyncRule, observed: Observed, now: Date): Plan<Action> {
    switch (observed.target) {
      case "KeyVault": {
        const plan = this.#keyVault.decide(rule, observed.seen, now);
        return { ...plan, actions: plan.actions.map((action) => ({ target: "KeyVault", kind: action.kind, action })) };
      }
      case "Kubernetes": {
        const plan = this.#kubernetes.decide(rule, observed.seen, now);
        return {
          ...plan,
          actions: plan.actions.map((action) => ({ target: "Kubernetes", kind: action.kind, action })),
        };
      }
      case "Gateway": {
        const plan = this.#gateways.decide(rule, observed.seen, now);
        return { ...plan, actions: plan.actions.map((action) => ({ target: "Gateway", kind: action.kind, action })) };
      }
    }
  }

  perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    switch (action.target) {
      case "KeyVault":
        return this.#keyVault.perform(action.action, signal);
      case "Kubernetes":
        return this.#kubernetes.perform(action.action, signal);
      case "Gateway":
        return this.#gateways.perform(action.action, signal);
    }
  }

  learn(observed: Observed, action: Action, outcome: Outcome): Observed {
    if (observed.target === "KeyVault" && action.target === "KeyVault") {
      return { ...observed, seen: this.#keyVault.learn(observed.seen, action.action, outcome) };
    }
    if (observed.target === "Kubernetes" && action.target === "Kubernetes") {
      return { ...observed, seen: this.#kubernetes.learn(observed.seen, action.action, outcome) };
    }
    if (observed.target === "Gateway" && action.target === "Gateway") {
      return { ...observed, seen: this.#gateways.learn(observed.seen, action.action, outcome) };
    }
    throw new TypeError("an action of one target was learned of by another");
  }

  get #gateways(): GatewayRuleController {
    if (this.#gateway !== undefined) return this.#gateway;
    throw new Stalled(
      "TargetUnavailableHere",
      "spec.target.gateway: this installation is a gateway itself and has no gateways; apply the rule at the primary, or choose target.kubernetes",
    );
  }

  conditionFor(): OwnedConditionType {
    return "Synced";
  }

  async absent(key: string): Promise<void> {
    await this.#gateway?.absent(key);
    await this.#kubernetes.absent(key);
    await this.#keyVault.absent(key);
  }
}
