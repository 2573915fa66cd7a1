/** The controller of `AccessPolicy`: tells what a policy grants. Access itself is decided from the caches. */
import { type AccessPolicy, accessPolicyKind } from "../../crds/accesspolicy.ts";
import { type Cluster, livingNamespace } from "../cluster.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { resourceType } from "../runtime/resource-type.ts";
import { decide, type Observed } from "./decide.ts";

export class AccessPolicyController implements Controller<AccessPolicy, Observed, never, never> {
  readonly name = "accesspolicy";
  readonly fieldManager = "mazevault-accesspolicy";
  readonly resource = resourceType(accessPolicyKind);
  readonly #cluster: Cluster;

  constructor({ cluster }: { readonly cluster: Cluster }) {
    this.#cluster = cluster;
  }

  async observe({ metadata, spec }: AccessPolicy): Promise<Observed> {
    const named = new Set(spec.rules.flatMap(({ projects }) => projects));
    const found = [...named]
      .flatMap((name) => this.#cluster.project(name) ?? [])
      .filter(({ metadata: { deletionTimestamp } }) => deletionTimestamp === undefined);
    return {
      namespace: livingNamespace(this.#cluster, metadata),
      projects: new Map(found.map((project) => [project.metadata.name, project])),
    };
  }

  decide = decide;

  async perform(): Promise<never> {
    throw new TypeError("an AccessPolicy has no actions");
  }

  learn(seen: Observed): Observed {
    return seen;
  }

  conditionFor(): OwnedConditionType {
    return "Effective";
  }
}
