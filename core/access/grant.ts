/** What AccessPolicies and Projects grant, in one form, and whether a grant covers what is asked for. */
import { type AccessSubject, ROLES, type Verb } from "../../crds/access.ts";
import type { AccessPolicy } from "../../crds/accesspolicy.ts";
import type { Project } from "../../crds/project.ts";
import { matchesName } from "../name-pattern.ts";
import { accessSubjectKey } from "./subject.ts";
import type { Place, Target } from "./target.ts";

export interface Grant {
  /** Where it stands: `AccessPolicy payments/readers rules[0]` or `Project payments access[0]`. */
  readonly id: string;
  readonly subjects: readonly AccessSubject[];
  /** The same, as `subjectKeys` has them. */
  readonly keys: ReadonlySet<string>;
  readonly verbs: readonly Verb[];
  readonly projects: readonly string[];
  readonly environments: readonly string[];
  /** It reaches objects of this namespace only; absent: of every namespace that the project admits. */
  readonly namespace?: string;
  /** Patterns by kind; absent: everything. */
  readonly objects?: Readonly<Partial<Record<NamedKind, readonly string[]>>>;
}

type NamedKind = Extract<Target["kind"], "Secret" | "Certificate" | "Issuer">;

/** Compiled once for each state of an object; the caches replace an object when it changes. */
const compiled = new WeakMap<AccessPolicy | Project, readonly Grant[]>();

export function grantsOf(source: AccessPolicy | Project): readonly Grant[] {
  const known = compiled.get(source);
  if (known !== undefined) return known;
  const grants = isProject(source) ? projectGrants(source) : policyGrants(source);
  compiled.set(source, grants);
  return grants;
}

const isProject = (source: AccessPolicy | Project): source is Project => "environments" in source.spec;

/** What is being deleted grants nothing. */
const isLeaving = ({ metadata }: AccessPolicy | Project): boolean => metadata.deletionTimestamp !== undefined;

function policyGrants(policy: AccessPolicy): readonly Grant[] {
  const { namespace = "", name } = policy.metadata;
  if (isLeaving(policy)) return [];
  return policy.spec.rules.map((rule, index) => {
    const { verbs, ...rest } = given(rule);
    return {
      id: `AccessPolicy ${namespace}/${name} rules[${index}]`,
      ...named(policy.spec.subjects),
      projects: rule.projects,
      namespace,
      ...rest,
      // A project is wider than a namespace.
      verbs: verbs.filter((verb) => verb !== "administer"),
    };
  });
}

function projectGrants(project: Project): readonly Grant[] {
  const { name } = project.metadata;
  if (isLeaving(project)) return [];
  return (project.spec.access ?? []).map((item, index) => ({
    id: `Project ${name} access[${index}]`,
    ...named(item.subjects),
    projects: [name],
    ...given(item),
  }));
}

const named = (subjects: readonly AccessSubject[]) => ({
  subjects,
  keys: new Set(subjects.flatMap((subject) => accessSubjectKey(subject) ?? [])),
});

type Given = AccessPolicy["spec"]["rules"][number] | NonNullable<Project["spec"]["access"]>[number];

function given({ environments, role, verbs, secrets, certificates, issuers }: Given) {
  const everything = secrets === undefined && certificates === undefined && issuers === undefined;
  return {
    environments,
    // A role that a later version brings grants nothing here.
    verbs: verbs ?? (role === undefined ? [] : (ROLES[role] ?? [])),
    ...(!everything && { objects: { Secret: secrets ?? [], Certificate: certificates ?? [], Issuer: issuers ?? [] } }),
  };
}

interface Check {
  holds(grant: Grant, place: Place): boolean;
  miss(grant: Grant, place: Place): string;
}

/** A grant covers a place when all of them hold. */
const checks: readonly Check[] = [
  {
    holds: ({ namespace }, place) => namespace === undefined || namespace === place.namespace,
    miss: ({ namespace }, place) => `covers namespace ${namespace}, not ${place.namespace ?? "every one"}`,
  },
  {
    holds: ({ projects }, { project }) => projects.includes(project),
    miss: ({ projects }, { project }) => `covers project ${projects.join(", ")}, not ${project}`,
  },
  {
    holds: ({ environments }, { environment }) => environments.includes(environment),
    miss: ({ environments }, { environment }) => `covers environment ${environments.join(", ")}, not ${environment}`,
  },
  {
    holds: coversObject,
    miss: (grant, { kind, name }) =>
      `covers ${describeObjects(grant)}, not ${name === undefined ? `every ${kind}` : `${kind} ${name}`}`,
  },
  {
    holds: ({ verbs }, { verb }) => verbs.includes(verb),
    miss: ({ verbs }, { verb }) => `grants ${verbs.join(", ")}, not ${verb}`,
  },
];

export const covers = (grant: Grant, place: Place): boolean => checks.every(({ holds }) => holds(grant, place));

/** Why the grant does not cover the place; nothing when it does. */
export const misses = (grant: Grant, place: Place): readonly string[] =>
  checks.filter(({ holds }) => !holds(grant, place)).map(({ miss }) => miss(grant, place));

/** Without a name every object of the kind is meant, so only a pattern that matches everything covers it. */
function coversObject({ objects }: Grant, { kind, name }: Place): boolean {
  if (objects === undefined) return true;
  const patterns = objects[kind as NamedKind] ?? [];
  return patterns.some((pattern) => (name === undefined ? /^\*+$/.test(pattern) : matchesName(name, pattern)));
}

/** For example `secrets orders-*, certificates orders-tls`. */
export function describeObjects({ objects }: Grant): string {
  if (objects === undefined) return "everything";
  const { Secret: secrets = [], Certificate: certificates = [], Issuer: issuers = [] } = objects;
  return Object.entries({ secrets, certificates, issuers })
    .filter(([, patterns]) => patterns.length > 0)
    .map(([kind, patterns]) => `${kind} ${patterns.join(", ")}`)
    .join(", ");
}
