/** The controller of `Project`. */
import { failpoint } from "../../core/failpoints.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import type { PreparedProject } from "../../core/vault/requests.ts";
import type { Vault } from "../../core/vault/vault.ts";
import { NAMESPACE_BINDING, NAMESPACE_ROLE, OPERATOR_ACCOUNT } from "../../crds/installation.ts";
import { type Project, projectKind } from "../../crds/project.ts";
import type { Cluster, Metadata } from "../cluster.ts";
import { MANAGED_BY, MANAGED_BY_LABEL } from "../delivery/desired.ts";
import { isAlreadyExists, isNotFound } from "../runtime/api-error.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { type ResourceType, resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { type Action, decide, type Observed, offboardings } from "./decide.ts";

export const roleBindings: ResourceType = {
  group: "rbac.authorization.k8s.io",
  version: "v1",
  plural: "rolebindings",
  kind: "RoleBinding",
  namespaced: true,
};

export interface ProjectControllerDependencies {
  readonly api: KubernetesApi;
  readonly cluster: Cluster;
  readonly vault: Pick<Vault, "prepareProject">;
  readonly writer: () => Writer;
  /** RoleBindings named `mazevault`, whoever made them. */
  readonly bindings: { values(): Iterable<Metadata> };
  readonly onboards: boolean;
  /** Where the operator's ServiceAccount lives. */
  readonly systemNamespace: string;
}

type Outcome = PreparedProject | undefined;

export class ProjectController implements Controller<Project, Observed, Action, Outcome> {
  readonly name = "project";
  readonly fieldManager = "mazevault-project";
  readonly resource = resourceType(projectKind);
  readonly #deps: ProjectControllerDependencies;

  constructor(deps: ProjectControllerDependencies) {
    this.#deps = deps;
  }

  async observe(): Promise<Observed> {
    const { cluster, bindings, onboards } = this.#deps;
    return {
      projects: [...cluster.projects()],
      namespaces: [...cluster.namespaces()],
      onboarded: new Set([...bindings.values()].map(({ metadata }) => metadata.namespace ?? "")),
      onboards,
      keys: undefined,
    };
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    const { api, vault, writer } = this.#deps;
    switch (action.kind) {
      case "PrepareKeys":
        return vault.prepareProject(writer(), action.project);
      case "Onboard":
        await api
          .create(roleBindings, this.#binding(action.namespace), { fieldManager: this.fieldManager, signal })
          .catch(unless(isAlreadyExists));
        failpoint("project.afterOnboard");
        return undefined;
      case "Offboard": {
        const key = { namespace: action.namespace, name: NAMESPACE_BINDING };
        await api.delete(roleBindings, key, { signal }).catch(unless((error) => isNotFound(error, NAMESPACE_BINDING)));
        return undefined;
      }
    }
  }

  learn(seen: Observed, action: Action, outcome: Outcome): Observed {
    switch (action.kind) {
      case "PrepareKeys":
        return { ...seen, keys: outcome };
      case "Onboard":
        return { ...seen, onboarded: new Set([...seen.onboarded, action.namespace]) };
      case "Offboard":
        return { ...seen, onboarded: new Set([...seen.onboarded].filter((name) => name !== action.namespace)) };
    }
  }

  conditionFor(): OwnedConditionType {
    return "KeysAvailable";
  }

  /** A project that is gone admits nobody. What was delivered and what is stored stays. */
  async absent(_key: string, signal: AbortSignal): Promise<void> {
    for (const action of offboardings(await this.observe())) await this.perform(action, signal);
  }

  #binding(namespace: string) {
    const { systemNamespace } = this.#deps;
    return {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata: { name: NAMESPACE_BINDING, namespace, labels: { [MANAGED_BY_LABEL]: MANAGED_BY } },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: NAMESPACE_ROLE },
      subjects: [{ kind: "ServiceAccount", name: OPERATOR_ACCOUNT, namespace: systemNamespace }],
    };
  }
}

const unless =
  (expected: (error: unknown) => boolean) =>
  (error: unknown): void => {
    if (!expected(error)) throw error;
  };
