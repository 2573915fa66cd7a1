/** What to do for one Project: its key, and access of the operator to the namespaces that it admits. Pure. */
import { admittedEnvironments } from "../../core/access/admission.ts";
import { type NamedProject, namesOf, namingFault } from "../../core/naming/convention.ts";
import type { PreparedProject } from "../../core/vault/requests.ts";
import type { Project } from "../../crds/project.ts";
import { type Metadata, namespaceFacts } from "../cluster.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";

export interface Observed {
  readonly projects: readonly Project[];
  readonly namespaces: readonly Metadata[];
  /** Namespaces where every RoleBinding of ours stands. */
  readonly onboarded: ReadonlySet<string>;
  /** Namespaces where one of them does. */
  readonly bound: ReadonlySet<string>;
  /** False: the administrator grants access by hand, and RoleBindings are left alone. */
  readonly onboards: boolean;
  readonly keys: PreparedProject | undefined;
}

export type Action =
  | { readonly kind: "PrepareKeys"; readonly project: string }
  | { readonly kind: "Onboard"; readonly namespace: string }
  /** No project admits the namespace any more: the operator gives its access back. What was delivered stays. */
  | { readonly kind: "Offboard"; readonly namespace: string };

const isLive = ({ metadata }: Metadata): boolean => metadata.deletionTimestamp === undefined;

const admits = (project: Project, namespace: Metadata): boolean =>
  admittedEnvironments(project.spec, namespaceFacts(namespace)).size > 0;

/** For the namespaces where the operator has access although no project admits them any more. */
export function offboardings({ projects, namespaces, bound, onboards }: Observed): Action[] {
  if (!onboards) return [];
  return namespaces
    .filter((namespace) => isLive(namespace) && bound.has(namespace.metadata.name))
    .filter((namespace) => !projects.some((project) => admits(project, namespace)))
    .map(({ metadata }) => ({ kind: "Offboard", namespace: metadata.name }));
}

export function decide(project: Project, seen: Observed): Plan<Action> {
  const { keys } = seen;
  const admitted = seen.namespaces
    .filter((namespace) => isLive(namespace) && admits(project, namespace))
    .map(({ metadata }) => metadata.name);
  const prepare: Action[] = keys === undefined ? [{ kind: "PrepareKeys", project: project.metadata.name }] : [];
  const onboard = admitted
    .filter((name) => !seen.onboarded.has(name))
    .map((namespace): Action => ({ kind: "Onboard", namespace }));

  const available: OwnedCondition =
    keys === undefined
      ? { type: "KeysAvailable", status: "False", reason: "Progressing", message: "the project's keys are being made" }
      : {
          type: "KeysAvailable",
          status: "True",
          reason: "Available",
          message: `project key version ${keys.version} is in use`,
        };
  const naming = namingOf(project, seen.projects);
  return {
    actions: [...prepare, ...(seen.onboards ? onboard : []), ...offboardings(seen)],
    status: {
      conditions: [available, ...(naming === undefined ? [] : [naming.condition])],
      fields: {
        namespaces: admitted.length,
        ...(keys && { keyVersion: keys.version, sealingKey: keys.sealingKey }),
        ...(naming && { names: naming.names }),
      },
    },
    next: naming === undefined ? { kind: "settled" } : naming.next,
  };
}

const namedProject = ({ metadata, spec }: Project): NamedProject[] =>
  spec.naming === undefined
    ? []
    : [{ project: metadata.name, naming: spec.naming, environments: spec.environments.map(({ name }) => name) }];

/** Undefined when the project has no convention. */
function namingOf(project: Project, projects: readonly Project[]) {
  const [own] = namedProject(project);
  if (own === undefined) return undefined;
  // Who was first keeps its names: a new project must not bring a running one down.
  const others = projects.filter((each) => isLive(each) && isOlder(each, project));
  const names = namesOf(own.naming, own.environments);
  const fault = namingFault(own, others.flatMap(namedProject));
  if (fault !== undefined) {
    const condition: OwnedCondition = { type: "Named", status: "False", ...fault };
    return { names, condition, next: { kind: "stalled", ...fault } as const };
  }
  const message = `${names.length} names are valid and unique`;
  const condition: OwnedCondition = { type: "Named", status: "True", reason: "Succeeded", message };
  return { names, condition, next: { kind: "settled" } as const };
}

const isOlder = (one: Project, other: Project): boolean => ageKey(one) < ageKey(other);

const ageKey = ({ metadata }: Project): string => `${metadata.creationTimestamp ?? ""} ${metadata.name}`;
