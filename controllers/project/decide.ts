/** What to do for one Project: its key, and access of the operator to the namespaces that it admits. Pure. */
import { admittedEnvironments } from "../../core/access/admission.ts";
import type { PreparedProject } from "../../core/vault/vault.ts";
import type { Project } from "../../crds/project.ts";
import { type Metadata, namespaceFacts } from "../cluster.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";

export interface Observed {
  readonly projects: readonly Project[];
  readonly namespaces: readonly Metadata[];
  /** Namespaces where our RoleBinding stands. */
  readonly onboarded: ReadonlySet<string>;
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
export function offboardings({ projects, namespaces, onboarded, onboards }: Observed): Action[] {
  if (!onboards) return [];
  return namespaces
    .filter((namespace) => isLive(namespace) && onboarded.has(namespace.metadata.name))
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
  return {
    actions: [...prepare, ...(seen.onboards ? onboard : []), ...offboardings(seen)],
    status: {
      conditions: [available],
      fields: { namespaces: admitted.length, ...(keys && { keyVersion: keys.version, sealingKey: keys.sealingKey }) },
    },
    next: { kind: "settled" },
  };
}
