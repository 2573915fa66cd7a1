/** What somebody wants to do something with, and where that lies: the projects and environments that have a say in it. */
import type { Verb } from "../../crds/access.ts";
import type { ObjectMeta } from "../../crds/common.ts";
import type { Project } from "../../crds/project.ts";
import { admittedEnvironments, type NamespaceFacts } from "./admission.ts";

/** What is left out means all of it: a Secret without `environment` stands for every environment of its project. */
export interface Target {
  readonly kind: "Secret" | "Certificate" | "Issuer" | "SyncRule" | "Project" | "Gateway" | "Audit" | "Identity";
  readonly project?: string;
  readonly environment?: string;
  readonly namespace?: string;
  /** UID of the namespace that a stored object belonged to: the next namespace of that name does not inherit. */
  readonly namespaceUid?: string;
  readonly name?: string;
  /** In mode gateway: it is the primary's, whose grants decide about it. */
  readonly replicated?: true;
}

/** What can be done with each kind; anything else is allowed to nobody. */
export const verbsOf: Readonly<Record<Target["kind"], readonly Verb[]>> = {
  Secret: ["list", "read", "write", "rotate", "delete", "audit"],
  Certificate: ["list", "read", "issue", "revoke", "audit"],
  Issuer: ["list", "issue", "audit"],
  SyncRule: ["list", "write", "audit"],
  Project: ["list", "audit", "administer"],
  Gateway: ["list", "administer"],
  Audit: ["audit"],
  Identity: ["administer"],
};

/** One environment of one project that the target lies in; a grant covers it or does not. */
export interface Place {
  readonly verb: Verb;
  readonly kind: Target["kind"];
  readonly project: string;
  readonly environment: string;
  readonly namespace: string | undefined;
  readonly name: string | undefined;
}

export interface Whereabouts {
  /** Each of them needs a grant. */
  readonly places: readonly Place[];
  /** Why there is none, where so: then only a role of the installation covers the target. */
  readonly nowhere: string;
}

export interface Tenants {
  project(name: string): Project | undefined;
  projects(): Iterable<Project>;
  namespace(name: string): { readonly metadata: ObjectMeta } | undefined;
}

export function whereabouts(tenants: Tenants, verb: Verb, target: Target): Whereabouts {
  if (!verbsOf[target.kind].includes(verb)) return { places: [], nowhere: notDone(verb, target) };
  switch (target.kind) {
    case "Identity":
      return { places: [], nowhere: "users and keys belong to no project" };
    case "Gateway":
      return { places: [], nowhere: "gateways belong to no project" };
    case "Project": {
      // It is wider than any namespace.
      const { namespace: _, ...ofCluster } = target;
      return findPlaces(tenants, verb, ofCluster);
    }
    case "Certificate":
    case "Issuer": {
      // They belong to their namespace, and so to every project and environment that admits it.
      const { project: _, environment: __, ...ofNamespace } = target;
      return findPlaces(tenants, verb, ofNamespace);
    }
    default:
      return findPlaces(tenants, verb, target);
  }
}

export const notDone = (verb: Verb, { kind }: Target): string =>
  `${verb} is not something that is done with ${kind}; that is ${verbsOf[kind].join(", ")}`;

function findPlaces(tenants: Tenants, verb: Verb, target: Target): Whereabouts {
  const { kind, project, environment, namespace, name } = target;
  if (namespace === undefined && project === undefined) return { places: [], nowhere: "it belongs to no project" };
  const facts = namespace === undefined ? undefined : namespaceFacts(tenants, namespace, target.namespaceUid);
  if (typeof facts === "string") return { places: [], nowhere: facts };

  const candidates = project === undefined ? [...tenants.projects()] : [tenants.project(project)];
  const projects = candidates.filter((found) => found !== undefined && isLive(found)) as readonly Project[];
  const places = projects.flatMap(({ metadata, spec }) =>
    [...(facts === undefined ? spec.environments.map((declared) => declared.name) : admittedEnvironments(spec, facts))]
      .filter((each) => environment === undefined || each === environment)
      .map((each): Place => ({ verb, kind, project: metadata.name, environment: each, namespace, name })),
  );
  return { places, nowhere: places.length > 0 ? "" : whyNowhere(target, projects.length > 0) };
}

/** Or why its objects are out of reach: what a namespace holds goes with it. */
function namespaceFacts(tenants: Tenants, name: string, uid: string | undefined): NamespaceFacts | string {
  const found = tenants.namespace(name);
  if (found === undefined || !isLive(found)) return `there is no namespace ${name}`;
  const { metadata } = found;
  if (uid !== undefined && uid !== metadata.uid) {
    return `it belongs to a namespace ${name} that is gone, and the one of today does not inherit`;
  }
  return { name, uid: metadata.uid, labels: metadata.labels ?? {} };
}

function whyNowhere({ project, environment, namespace }: Target, exists: boolean): string {
  if (!exists && project !== undefined) return `there is no Project ${project}`;
  if (namespace === undefined) return `Project ${project} has no environment ${environment}`;
  const where = `namespace ${namespace}${environment === undefined ? "" : ` for environment ${environment}`}`;
  return project === undefined ? `no Project admits ${where}` : `Project ${project} does not admit ${where}`;
}

const isLive = ({ metadata }: { readonly metadata: ObjectMeta }): boolean => metadata.deletionTimestamp === undefined;
