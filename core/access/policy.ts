/**
 * Who may do what: the one place that every path to a value asks, whichever door it came through. Nothing is allowed
 * unless a grant says so.
 *
 * - An AccessPolicy reaches objects of its own namespace, where the project that it names admits that namespace.
 * - Project.spec.access reaches the project's objects in every namespace that it admits.
 * - The role of a local user holds in the whole installation; only such a role reaches what belongs to no project.
 * - Scopes of an API key only take away.
 *
 * A target that leaves something out means all of it: a Secret without its environment stands for every environment of
 * the project, and each of them needs a grant.
 */
import { type AccessSubject, ROLES, type Role, type Verb } from "../../crds/access.ts";
import type { AccessPolicy } from "../../crds/accesspolicy.ts";
import type { ObjectMeta } from "../../crds/common.ts";
import type { Project } from "../../crds/project.ts";
import { admittedEnvironments, type NamespaceFacts } from "./admission.ts";
import { covers, type Grant, grantsOf, misses, type Place } from "./grant.ts";
import { type Authenticated, accessSubjectKey, describeSubject, type Subject, subjectKeys } from "./subject.ts";

export type { Verb } from "../../crds/access.ts";
export type { Grant } from "./grant.ts";

export interface Target {
  readonly kind: "Secret" | "Certificate" | "Issuer" | "SyncRule" | "Project" | "Audit" | "Identity";
  readonly project?: string;
  readonly environment?: string;
  readonly namespace?: string;
  /** UID of the namespace that a stored object belonged to: the next namespace of that name does not inherit. */
  readonly namespaceUid?: string;
  readonly name?: string;
}

export interface Decision {
  readonly allowed: boolean;
  /** For the audit row and for `access explain`: names the grant, or what is missing. */
  readonly reason: string;
  /** Ids of the grants that it rests on. */
  readonly grant?: string;
}

/** A grant that was looked at, and why it counts or does not. */
export interface Consideration {
  readonly grant: string;
  readonly counts: boolean;
  readonly reason: string;
}

/** What is granted and to whom it applies; the caches of the cluster. */
export interface AccessSource {
  project(name: string): Project | undefined;
  projects(): Iterable<Project>;
  namespace(name: string): { readonly metadata: ObjectMeta } | undefined;
  /** By an index over `policyKeys`. */
  policiesBy(key: string): readonly AccessPolicy[];
  /** By an index over `projectKeys`. */
  projectsBy(key: string): readonly Project[];
}

/** Keys that an AccessPolicy is found by: of each subject, in its namespace and (`*`) anywhere, and of its namespace. */
export function policyKeys({ metadata: { namespace = "" }, spec }: AccessPolicy): string[] {
  const subjects = spec.subjects.flatMap((subject) => accessSubjectKey(subject) ?? []);
  return [
    inNamespace(namespace),
    ...subjects.flatMap((key) => [inNamespace(namespace, key), inNamespace(ANYWHERE, key)]),
  ];
}

/** Keys that a Project is found by: of each subject of its access. */
export const projectKeys = ({ spec }: Project): string[] =>
  (spec.access ?? []).flatMap(({ subjects }) => subjects.flatMap((subject) => accessSubjectKey(subject) ?? []));

const ANYWHERE = "*";

// Neither a namespace nor `*` holds a space, so two of these are equal only when both parts are.
const inNamespace = (namespace: string, subject = ""): string => `${namespace} ${subject}`;

/** What can be done with each kind; anything else is allowed to nobody. */
export const verbsOf: Readonly<Record<Target["kind"], readonly Verb[]>> = {
  Secret: ["list", "read", "write", "rotate", "delete", "audit"],
  Certificate: ["list", "read", "issue", "revoke", "audit"],
  Issuer: ["list", "issue", "audit"],
  SyncRule: ["list", "write", "audit"],
  Project: ["list", "audit", "administer"],
  Audit: ["audit"],
  Identity: ["administer"],
};

export class AccessPolicies {
  readonly #source: AccessSource;

  constructor(source: AccessSource) {
    this.#source = source;
  }

  decide(who: Authenticated, verb: Verb, target: Target): Decision {
    const { scopes, subject } = who;
    if (scopes !== undefined && !scopes.includes(verb)) {
      return denied(`${who.via} ${who.id} is limited to ${scopes.join(", ") || "nothing"}, which is not ${verb}`);
    }
    if (!verbsOf[target.kind].includes(verb))
      return denied(`${verb} is not something that is done with ${target.kind}`);
    const role = installationRole(subject);
    if (role !== undefined && ROLES[role].includes(verb)) {
      return allowed(
        `role ${role} of ${describeSubject(subject)} grants ${verb} in the whole installation`,
        `role ${role}`,
      );
    }
    const asked = this.#places(verb, target);
    if (typeof asked === "string") return denied(`no grant: ${asked}`);
    const grants = this.#grantsNaming(subjectKeys(subject), target.namespace);
    const used = new Set<Grant>();
    for (const place of asked) {
      const grant = grants.find((candidate) => covers(candidate, place));
      if (grant === undefined) return denied(`no grant: ${whyNot(subject, place, grants)}`);
      used.add(grant);
    }
    const ids = [...used].map(({ id }) => id).join(" and ");
    return allowed(`${ids} grants ${verb} on ${describePlaces(asked)}`, ids);
  }

  /** The grants that let somebody do this, each with those of its subjects who can. Roles of the installation come on top. */
  whoCan(verb: Verb, target: Target): readonly Grant[] {
    if (!verbsOf[target.kind].includes(verb)) return [];
    const asked = this.#places(verb, target);
    if (typeof asked === "string") return [];
    const grants = this.#grantsOn(target).filter((grant) => asked.some((place) => covers(grant, place)));
    const can = (subject: AccessSubject): boolean => {
      const key = accessSubjectKey(subject) ?? "";
      return asked.every((place) => grants.some((grant) => grant.keys.has(key) && covers(grant, place)));
    };
    return grants
      .map((grant) => ({ ...grant, subjects: grant.subjects.filter(can) }))
      .filter(({ subjects }) => subjects.length > 0);
  }

  /** Every grant of this subject, wherever it stands, and whether it counts here. */
  explain(subject: Subject, verb: Verb, target: Target): readonly Consideration[] {
    const role = installationRole(subject);
    const considered: Consideration[] = [];
    if (role !== undefined) {
      const counts = verbsOf[target.kind].includes(verb) && ROLES[role].includes(verb);
      considered.push({
        grant: `role ${role}`,
        counts,
        reason: `grants ${ROLES[role].join(", ")} in the installation`,
      });
    }
    const asked = this.#places(verb, target);
    for (const grant of this.#grantsNaming(subjectKeys(subject), ANYWHERE)) {
      if (typeof asked === "string") considered.push({ grant: grant.id, counts: false, reason: asked });
      else considered.push(consider(grant, asked));
    }
    return considered;
  }

  /** Of Projects, and of the AccessPolicies of this namespace; without one only of Projects. */
  #grantsNaming(keys: readonly string[], namespace: string | undefined): readonly Grant[] {
    const policies =
      namespace === undefined ? [] : keys.flatMap((key) => this.#source.policiesBy(inNamespace(namespace, key)));
    const projects = keys.flatMap((key) => this.#source.projectsBy(key));
    return [...new Set([...policies, ...projects])]
      .flatMap(grantsOf)
      .filter((grant) => keys.some((key) => grant.keys.has(key)));
  }

  #grantsOn({ namespace, project }: Target): readonly Grant[] {
    const policies = namespace === undefined ? [] : this.#source.policiesBy(inNamespace(namespace));
    const projects = project === undefined ? this.#source.projects() : [this.#source.project(project)];
    return [...policies, ...projects].flatMap((source) => (source === undefined ? [] : grantsOf(source)));
  }

  /** Every project and environment that the target lies in, each of which needs a grant. Or why there is none. */
  #places(verb: Verb, target: Target): readonly Place[] | string {
    const { kind, namespace, name } = target;
    if (kind === "Identity") return "users and keys belong to no project; only a role of the installation covers them";
    const { project, environment } = OF_NO_PROJECT.has(kind) ? {} : (target as Pick<Target, "project" | "environment">);
    const known = project === undefined ? undefined : this.#project(project);
    if (project !== undefined && known === undefined) return `there is no Project ${project}`;
    if (namespace === undefined && known === undefined) {
      return "it belongs to no project; only a role of the installation covers it";
    }
    const facts = namespace === undefined ? undefined : this.#namespaceFacts(namespace, target.namespaceUid);
    if (typeof facts === "string") return facts;
    const places = [...(known === undefined ? this.#source.projects() : [known])].flatMap(({ metadata, spec }) =>
      [...(facts === undefined ? spec.environments.map((each) => each.name) : admittedEnvironments(spec, facts))]
        .filter((each) => environment === undefined || each === environment)
        .map((each): Place => ({ verb, kind, project: metadata.name, environment: each, namespace, name })),
    );
    if (places.length > 0) return places;
    const where = environment === undefined ? "" : ` for environment ${environment}`;
    if (namespace === undefined) return `Project ${project} has no environment ${environment}`;
    return known === undefined
      ? `no Project admits namespace ${namespace}${where}`
      : `Project ${project} does not admit namespace ${namespace}${where}`;
  }

  #project(name: string): Project | undefined {
    const project = this.#source.project(name);
    return project?.metadata.deletionTimestamp === undefined ? project : undefined;
  }

  /** Or why objects of it are out of reach: what a namespace holds goes with it. */
  #namespaceFacts(name: string, uid: string | undefined): NamespaceFacts | string {
    const metadata = this.#source.namespace(name)?.metadata;
    if (metadata === undefined || metadata.deletionTimestamp !== undefined) return `there is no namespace ${name}`;
    if (uid !== undefined && uid !== metadata.uid) {
      return `it belongs to a namespace ${name} that is gone; the one of today does not inherit`;
    }
    return { name, uid: metadata.uid, labels: metadata.labels ?? {} };
  }
}

/** They belong to their namespace, and so to every project and environment that admits it. */
const OF_NO_PROJECT: ReadonlySet<Target["kind"]> = new Set(["Certificate", "Issuer"]);

const allowed = (reason: string, grant: string): Decision => ({ allowed: true, reason, grant });
const denied = (reason: string): Decision => ({ allowed: false, reason });

const installationRole = (subject: Subject): Role | undefined =>
  subject.kind === "LocalUser" ? subject.role : undefined;

function consider(grant: Grant, asked: readonly Place[]): Consideration {
  const missed = asked.map((place) => [...misses(grant, place)]);
  const nearest = missed.toSorted((a, b) => a.length - b.length)[0] ?? [];
  const counts = nearest.length === 0;
  return { grant: grant.id, counts, reason: counts ? `grants ${grant.verbs.join(", ")}` : nearest.join("; ") };
}

/** Names the grant that comes nearest, so that a person sees what to change. */
function whyNot(subject: Subject, place: Place, grants: readonly Grant[]): string {
  const who = describeSubject(subject);
  const [nearest] = grants
    .map((grant) => ({ grant, missed: [...misses(grant, place)] }))
    .toSorted((a, b) => a.missed.length - b.missed.length);
  const wanted = `${who} has no ${place.verb} on ${describePlaces([place])}`;
  return nearest === undefined ? `${wanted}` : `${wanted}: ${nearest.grant.id} ${nearest.missed.join("; ")}`;
}

function describePlaces(places: readonly Place[]): string {
  const [first] = places;
  if (first === undefined) return "nothing";
  const projects = [...new Set(places.map(({ project }) => project))];
  const environments = [...new Set(places.map(({ environment }) => environment))];
  return `project ${projects.join(", ")}, environment ${environments.join(", ")}`;
}
