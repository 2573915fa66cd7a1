/** The controller of `Project`. */
import { failpoint } from "../../core/failpoints.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import type { PreparedProject } from "../../core/vault/requests.ts";
import type { Vault } from "../../core/vault/vault.ts";
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

/** What lets one account into a namespace. */
export interface NamespaceAccess {
  /** Of the RoleBinding. */
  readonly name: string;
  readonly clusterRole: string;
  readonly serviceAccount: string;
  /** RoleBindings of that name, whoever made them. */
  readonly standing: { values(): Iterable<Metadata> };
}

export interface ProjectControllerDependencies {
  readonly api: KubernetesApi;
  readonly cluster: Cluster;
  readonly vault: Pick<Vault, "prepareProject">;
  readonly writer: () => Writer;
  readonly access: readonly NamespaceAccess[];
  readonly onboards: boolean;
  /** Where the ServiceAccounts live. */
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
    const { cluster, access, onboards } = this.#deps;
    const standing = access.map((each) => namespacesOf(each));
    const bound = new Set(standing.flatMap((names) => [...names]));
    return {
      projects: [...cluster.projects()],
      namespaces: [...cluster.namespaces()],
      onboarded: new Set([...bound].filter((name) => standing.every((names) => names.has(name)))),
      bound,
      onboards,
      keys: undefined,
    };
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    const { api, access, vault, writer } = this.#deps;
    switch (action.kind) {
      case "PrepareKeys":
        return vault.prepareProject(writer(), action.project);
      case "Onboard":
        for (const each of access) {
          await api
            .create(roleBindings, this.#binding(action.namespace, each), { fieldManager: this.fieldManager, signal })
            .catch(unless(isAlreadyExists));
        }
        failpoint("project.afterOnboard");
        return undefined;
      case "Offboard":
        for (const { name } of access) {
          const key = { namespace: action.namespace, name };
          await api.delete(roleBindings, key, { signal }).catch(unless((error) => isNotFound(error, name)));
        }
        return undefined;
    }
  }

  learn(seen: Observed, action: Action, outcome: Outcome): Observed {
    switch (action.kind) {
      case "PrepareKeys":
        return { ...seen, keys: outcome };
      case "Onboard": {
        const and = (names: ReadonlySet<string>) => new Set([...names, action.namespace]);
        return { ...seen, onboarded: and(seen.onboarded), bound: and(seen.bound) };
      }
      case "Offboard": {
        const but = (names: ReadonlySet<string>) => new Set([...names].filter((name) => name !== action.namespace));
        return { ...seen, onboarded: but(seen.onboarded), bound: but(seen.bound) };
      }
    }
  }

  conditionFor(): OwnedConditionType {
    return "KeysAvailable";
  }

  /** A project that is gone admits nobody. What was delivered and what is stored stays. */
  async absent(_key: string, signal: AbortSignal): Promise<void> {
    for (const action of offboardings(await this.observe())) await this.perform(action, signal);
  }

  #binding(namespace: string, { name, clusterRole, serviceAccount }: NamespaceAccess) {
    const { systemNamespace } = this.#deps;
    return {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata: { name, namespace, labels: { [MANAGED_BY_LABEL]: MANAGED_BY } },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: clusterRole },
      subjects: [{ kind: "ServiceAccount", name: serviceAccount, namespace: systemNamespace }],
    };
  }
}

const namespacesOf = ({ standing }: NamespaceAccess): ReadonlySet<string> =>
  new Set([...standing.values()].map(({ metadata }) => metadata.namespace ?? ""));

const unless =
  (expected: (error: unknown) => boolean) =>
  (error: unknown): void => {
    if (!expected(error)) throw error;
  };
