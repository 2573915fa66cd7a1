/** Projects, namespaces and policies as the caches hold them, with the same indexes. */
import { ObjectStore } from "../../../controllers/runtime/object-store.ts";
import type { AccessPolicy, AccessPolicySpec } from "../../../crds/accesspolicy.ts";
import type { ObjectMeta } from "../../../crds/common.ts";
import { API_VERSION } from "../../../crds/common.ts";
import type { Project, ProjectSpec } from "../../../crds/project.ts";
import { type AccessSource, policyKeys, projectKeys } from "../policy.ts";

interface Labelled {
  readonly metadata: ObjectMeta;
}

export class World implements AccessSource {
  readonly #projects = new ObjectStore<Project>({ access: projectKeys });
  readonly #policies = new ObjectStore<AccessPolicy>({ access: policyKeys });
  readonly #namespaces = new Map<string, Labelled>();

  constructor(...objects: readonly (Project | AccessPolicy | Labelled)[]) {
    for (const object of objects) this.set(object);
  }

  set(object: Project | AccessPolicy | Labelled): void {
    const { name, namespace } = object.metadata;
    const kind = "kind" in object ? object.kind : "Namespace";
    if (kind === "Project") this.#projects.set(name, object as Project);
    else if (kind === "AccessPolicy") this.#policies.set(`${namespace}/${name}`, object as AccessPolicy);
    else this.#namespaces.set(name, object);
  }

  project(name: string): Project | undefined {
    return this.#projects.get(name);
  }

  projects(): Iterable<Project> {
    return this.#projects.values();
  }

  namespace(name: string): Labelled | undefined {
    return this.#namespaces.get(name);
  }

  policiesBy(key: string): readonly AccessPolicy[] {
    return this.#policies.byIndex("access", key);
  }

  projectsBy(key: string): readonly Project[] {
    return this.#projects.byIndex("access", key);
  }
}

const meta = (name: string, namespace?: string): ObjectMeta => ({
  name,
  ...(namespace !== undefined && { namespace }),
  uid: `uid of ${name}`,
  resourceVersion: "1",
  generation: 1,
});

export const namespaceOf = (name: string, labels: Readonly<Record<string, string>> = {}): Labelled => ({
  metadata: { ...meta(name), labels },
});

export const projectOf = (name: string, spec: Partial<ProjectSpec>): Project => ({
  apiVersion: API_VERSION,
  kind: "Project",
  metadata: meta(name),
  spec: { environments: [{ name: "dev" }, { name: "pro" }], ...spec },
});

export const policyOf = (
  namespace: string,
  name: string,
  subjects: AccessPolicySpec["subjects"],
  ...rules: AccessPolicySpec["rules"]
): AccessPolicy => ({
  apiVersion: API_VERSION,
  kind: "AccessPolicy",
  metadata: meta(name, namespace),
  spec: { subjects, rules },
});
