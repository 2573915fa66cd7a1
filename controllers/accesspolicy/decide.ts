/** What one AccessPolicy grants, and what keeps a rule of it from counting. Pure; deciding access does not wait for it. */
import { admittedEnvironments, type NamespaceFacts } from "../../core/access/admission.ts";
import { describeObjects, type Grant, grantsOf } from "../../core/access/grant.ts";
import { describeAccessSubject } from "../../core/access/subject.ts";
import type { AccessPolicy } from "../../crds/accesspolicy.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { Project } from "../../crds/project.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";

export interface Observed {
  readonly namespace: NamespaceFacts;
  /** Those that its rules name, and that exist. */
  readonly projects: ReadonlyMap<string, Project>;
}

interface Fault {
  readonly reason: Reason;
  /** Names the field and the fix. */
  readonly message: string;
}

const SHOWN_SUBJECTS = 3;
const SHOWN_FAULTS = 5;

export function decide(policy: AccessPolicy, seen: Observed): Plan<never> {
  const faults = policy.spec.rules.map((rule, index) =>
    rule.projects.flatMap((project) => faultsOf(`spec.rules[${index}]`, project, rule.environments, seen)),
  );
  // What can still come goes first: once everything that is named exists, only a person can go on.
  const ordered = faults.flat().toSorted((a, b) => Number(isAwaited(b)) - Number(isAwaited(a)));
  const [fault] = ordered;
  const message = describeFaults(ordered);
  const effective: OwnedCondition =
    fault === undefined
      ? { type: "Effective", status: "True", reason: "Available", message: describe(policy) }
      : { type: "Effective", status: "False", reason: fault.reason, message };
  return {
    actions: [],
    status: {
      conditions: [effective],
      fields: { rules: faults.filter((ofRule) => ofRule.length === 0).length },
      message: effective.message,
    },
    next:
      fault === undefined || isAwaited(fault)
        ? { kind: "settled" }
        : { kind: "stalled", reason: fault.reason, message },
  };
}

const isAwaited = ({ reason }: Fault): boolean => reason === "ProjectNotFound";

function faultsOf(
  rule: string,
  name: string,
  environments: readonly string[],
  { projects, namespace }: Observed,
): Fault[] {
  const project = projects.get(name);
  if (project === undefined) {
    return [{ reason: "ProjectNotFound", message: `${rule}.projects: there is no Project ${name} yet; apply it` }];
  }
  const declared = project.spec.environments.map((environment) => environment.name);
  const admitted = admittedEnvironments(project.spec, namespace);
  return environments
    .filter((environment) => !admitted.has(environment))
    .map(
      (environment): Fault =>
        declared.includes(environment)
          ? {
              reason: "NamespaceNotAdmitted",
              message:
                `${rule}.projects: Project ${name} does not admit namespace ${namespace.name} for environment ${environment}; ` +
                "add it to the Project's spec.namespaces, or take the environment out of the rule",
            }
          : {
              reason: "EnvironmentNotDeclared",
              message: `${rule}.environments: Project ${name} has no environment ${environment}, it has ${declared.join(", ")}`,
            },
    );
}

const describeFaults = (faults: readonly Fault[]): string =>
  [
    ...faults.slice(0, SHOWN_FAULTS).map(({ message }) => message),
    ...(faults.length > SHOWN_FAULTS ? [`and ${faults.length - SHOWN_FAULTS} more`] : []),
  ].join("; ");

function describe(policy: AccessPolicy): string {
  const subjects = policy.spec.subjects.map(describeAccessSubject);
  const more = subjects.length > SHOWN_SUBJECTS ? ` and ${subjects.length - SHOWN_SUBJECTS} more` : "";
  const granted = grantsOf(policy).map(describeGrant);
  return `grants ${subjects.slice(0, SHOWN_SUBJECTS).join(", ")}${more}: ${granted.join("; ")}`;
}

const describeGrant = (grant: Grant): string =>
  `${grant.verbs.join(", ")} on ${describeObjects(grant)} of project ${grant.projects.join(", ")}, environment ${grant.environments.join(", ")}`;
