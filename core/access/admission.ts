/**
 * Which namespace may use which project and environment. A missing grant means nobody: absent and empty lists, and empty
 * selectors, admit no namespace. Every controller asks here before it reads or writes anything for a tenant.
 */
import type { LabelSelector } from "../../crds/common.ts";
import type { ProjectSpec } from "../../crds/project.ts";
import { Stalled } from "../errors.ts";

export interface NamespaceFacts {
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** Whether an object with these labels meets every requirement; an empty selector meets everything, as in core. */
export function selectorMatches(selector: LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  const equal = Object.entries(selector.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
  return equal && (selector.matchExpressions ?? []).every((requirement) => requirementHolds(requirement, labels));
}

type Requirement = NonNullable<LabelSelector["matchExpressions"]>[number];

function requirementHolds({ key, operator, values }: Requirement, labels: Readonly<Record<string, string>>): boolean {
  const value = labels[key];
  switch (operator) {
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "In":
      return value !== undefined && (values ?? []).includes(value);
    case "NotIn":
      return value === undefined || !(values ?? []).includes(value);
  }
}

const isEmpty = (selector: LabelSelector): boolean =>
  Object.keys(selector.matchLabels ?? {}).length === 0 && (selector.matchExpressions ?? []).length === 0;

/** The environments of the project that this namespace may use; empty when it is not admitted at all. */
export function admittedEnvironments(project: ProjectSpec, namespace: NamespaceFacts): ReadonlySet<string> {
  const declared = new Set(project.environments.map(({ name }) => name));
  const granted = (project.namespaces ?? [])
    .filter(({ name, selector }) =>
      selector === undefined
        ? name === namespace.name
        : !isEmpty(selector) && selectorMatches(selector, namespace.labels),
    )
    .flatMap(({ environments }) => environments);
  return new Set(granted.filter((environment) => declared.has(environment)));
}

/** Throws `Stalled` unless the project admits this namespace for that environment. */
export function assertAdmitted(
  project: { readonly name: string; readonly spec: ProjectSpec },
  namespace: NamespaceFacts,
  environment: string,
): void {
  if (!project.spec.environments.some(({ name }) => name === environment)) {
    const declared = project.spec.environments.map(({ name }) => name).join(", ");
    throw new Stalled(
      "EnvironmentNotDeclared",
      `spec.environment: Project ${project.name} has no environment ${environment}, it has ${declared}; ` +
        "declare it in the Project's spec.environments, or delete this object and apply it with one of those",
    );
  }
  if (!admittedEnvironments(project.spec, namespace).has(environment)) {
    throw new Stalled(
      "NamespaceNotAdmitted",
      `spec.projectRef: Project ${project.name} does not admit namespace ${namespace.name} for environment ${environment}; ` +
        "add it to the Project's spec.namespaces",
    );
  }
}

/** Throws `Stalled` unless the project admits this namespace for at least one environment. */
export function assertAdmittedAnywhere(
  project: { readonly name: string; readonly spec: ProjectSpec },
  namespace: NamespaceFacts,
): void {
  if (admittedEnvironments(project.spec, namespace).size === 0) {
    throw new Stalled(
      "NamespaceNotAdmitted",
      `spec.projectRef: Project ${project.name} does not admit namespace ${namespace.name}; add it to the Project's spec.namespaces`,
    );
  }
}

/** Vault URLs are compared without case and without a slash at the end. */
const canonicalUrl = (url: string): string => url.toLowerCase().replace(/\/+$/, "");

/** Throws `Stalled` unless the project lists this vault for use by the operator's own identity, or that of a gateway. */
export function assertOwnIdentityAllowed(
  project: { readonly name: string; readonly spec: ProjectSpec },
  vaultUrl: string,
  by: "managedIdentity" | "gateway" = "managedIdentity",
): void {
  if (!(project.spec.keyVaults ?? []).some((url) => canonicalUrl(url) === canonicalUrl(vaultUrl))) {
    throw new Stalled(
      "VaultNotAllowed",
      `spec.auth.${by}: Project ${project.name} does not list ${vaultUrl} in spec.keyVaults, ` +
        `so the ${by === "gateway" ? "gateway's" : "operator's"} own identity may not be used for it; list it there or use another auth method`,
    );
  }
}

/**
 * Gateway environments whose work it is, for what a gateway does for one environment of the project, or for any of them where none
 * is given. What of NPR and PRO never meets is decided here and by what each gateway's certificate says.
 *
 * @throws Stalled GatewayEnvironmentDiffers when the project says none
 */
export function gatewayEnvironments(
  project: { readonly name: string; readonly spec: ProjectSpec },
  environment: string | undefined,
): readonly string[] {
  const concerned = project.spec.environments.filter(({ name }) => environment === undefined || name === environment);
  const found = concerned.flatMap(({ gatewayEnvironment }) => gatewayEnvironment ?? []);
  if (found.length > 0) return [...new Set(found)];
  const of = environment === undefined ? "any of its environments" : `environment ${environment}`;
  throw new Stalled(
    "GatewayEnvironmentDiffers",
    `spec.auth.gateway: Project ${project.name} has no gatewayEnvironment for ${of}, so nothing of it goes through a gateway; ` +
      "set spec.environments[].gatewayEnvironment of the Project, such as NPR",
  );
}
