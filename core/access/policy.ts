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
import type { Project } from "../../crds/project.ts";
import { covers, type Grant, grantsOf, misses } from "./grant.ts";
import { type Authenticated, accessSubjectKey, describeSubject, type Subject, subjectKeys } from "./subject.ts";
import { notDone, type Place, type Target, type Tenants, verbsOf, whereabouts } from "./target.ts";

export type { Verb } from "../../crds/access.ts";
export type { Grant } from "./grant.ts";
export { type Target, verbsOf } from "./target.ts";

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

/** What is granted, and the tenants that it is about: the caches of the cluster. */
export interface AccessSource extends Tenants {
  /** By an index over `policyKeys`. */
  policiesBy(key: string): readonly AccessPolicy[];
  /** By an index over `projectKeys`. */
  projectsBy(key: string): readonly Project[];
}

/** Keys that an AccessPolicy is found by: its namespace; each subject in that namespace; each subject anywhere. */
export function policyKeys({ metadata: { namespace = "" }, spec }: AccessPolicy): string[] {
  const subjects = spec.subjects.flatMap((subject) => accessSubjectKey(subject) ?? []);
  return [namespace, ...subjects.flatMap((key) => [subjectIn(namespace, key), subjectIn(ANYWHERE, key)])];
}

/** Keys that a Project is found by: of each subject of its access. */
export const projectKeys = ({ spec }: Project): string[] =>
  (spec.access ?? []).flatMap(({ subjects }) => subjects.flatMap((subject) => accessSubjectKey(subject) ?? []));

const ANYWHERE = "*";

// Neither a namespace nor `*` holds a space, so two of these are equal only when both parts are.
const subjectIn = (namespace: string, key: string): string => `${namespace} ${key}`;

export class AccessPolicies {
  readonly #source: AccessSource;

  constructor(source: AccessSource) {
    this.#source = source;
  }

  /** Whether no grant names this subject anywhere, and no role. */
  grantsNothing({ subject }: Authenticated): boolean {
    if (installationRole(subject) !== undefined) return false;
    return this.#grantsNaming(subject, ANYWHERE).length === 0;
  }

  decide({ subject, via, id, scopes }: Authenticated, verb: Verb, target: Target): Decision {
    if (scopes !== undefined && !scopes.includes(verb)) {
      return denied(`${via} ${id} is limited to ${scopes.join(", ") || "nothing"}, not ${verb}`);
    }
    if (!verbsOf[target.kind].includes(verb)) return denied(notDone(verb, target));
    const role = installationRole(subject);
    if (role !== undefined && ROLES[role].includes(verb)) {
      const grant = `role ${role} of ${describeSubject(subject)}`;
      return { allowed: true, reason: `${grant} grants ${verb} in the whole installation`, grant };
    }
    const { places, nowhere } = whereabouts(this.#source, verb, target);
    if (places.length === 0) return denied(`no grant: ${nowhere}, so only a role of the installation covers it`);
    const grants = this.#grantsNaming(subject, target.namespace);
    const used = new Set<string>();
    for (const place of places) {
      const grant = grants.find((candidate) => covers(candidate, place));
      if (grant === undefined) return denied(`no grant: ${whyNot(subject, place, grants)}`);
      used.add(grant.id);
    }
    const grant = [...used].join(" and ");
    return {
      allowed: true,
      reason: `${grant} ${used.size > 1 ? "grant" : "grants"} ${verb} on ${describePlaces(places)}`,
      grant,
    };
  }

  /** The grants that let somebody do this, each with those of its subjects who can. Roles of the installation come on top. */
  whoCan(verb: Verb, target: Target): readonly Grant[] {
    const { places } = whereabouts(this.#source, verb, target);
    const grants = this.#grantsOn(target).filter((grant) => places.some((place) => covers(grant, place)));
    const can = (subject: AccessSubject): boolean => {
      const key = accessSubjectKey(subject);
      const own = grants.filter(({ keys }) => key !== undefined && keys.has(key));
      return places.every((place) => own.some((grant) => covers(grant, place)));
    };
    return grants
      .map((grant) => ({ ...grant, subjects: grant.subjects.filter(can) }))
      .filter(({ subjects }) => subjects.length > 0);
  }

  /** Every grant of this subject, wherever it stands, and whether it counts here. */
  explain(subject: Subject, verb: Verb, target: Target): readonly Consideration[] {
    const { places, nowhere } = whereabouts(this.#source, verb, target);
    const role = installationRole(subject);
    const considered = this.#grantsNaming(subject, ANYWHERE).map((grant) => consider(grant, places, nowhere));
    return role === undefined ? considered : [considerRole(role, verb), ...considered];
  }

  /** Of Projects, and of the AccessPolicies of this namespace; without one only of Projects. */
  #grantsNaming(subject: Subject, namespace: string | undefined): readonly Grant[] {
    const keys = subjectKeys(subject);
    const policies =
      namespace === undefined ? [] : keys.flatMap((key) => this.#source.policiesBy(subjectIn(namespace, key)));
    const projects = keys.flatMap((key) => this.#source.projectsBy(key));
    return [...new Set([...policies, ...projects])]
      .flatMap(grantsOf)
      .filter((grant) => keys.some((key) => grant.keys.has(key)));
  }

  /** Whoever they name. */
  #grantsOn({ namespace }: Target): readonly Grant[] {
    const policies = namespace === undefined ? [] : this.#source.policiesBy(namespace);
    return [...policies, ...this.#source.projects()].flatMap(grantsOf);
  }
}

const denied = (reason: string): Decision => ({ allowed: false, reason });

const installationRole = (subject: Subject): Role | undefined =>
  subject.kind === "LocalUser" ? subject.role : undefined;

function considerRole(role: Role, verb: Verb): Consideration {
  const counts = ROLES[role].includes(verb);
  const granted = `grants ${ROLES[role].join(", ")}`;
  return {
    grant: `role ${role}`,
    counts,
    reason: counts ? `${granted} in the whole installation` : `${granted}, not ${verb}`,
  };
}

function consider(grant: Grant, places: readonly Place[], nowhere: string): Consideration {
  const { id } = grant;
  if (places.length === 0) return { grant: id, counts: false, reason: nowhere };
  const missed = places.map((place) => ({ place, reasons: misses(grant, place) }));
  const covered = missed.filter(({ reasons }) => reasons.length === 0).map(({ place }) => place);
  if (covered.length > 0) {
    return { grant: id, counts: true, reason: `grants ${grant.verbs.join(", ")} on ${describePlaces(covered)}` };
  }
  return { grant: id, counts: false, reason: fewest(missed.map(({ reasons }) => reasons)).join("; ") };
}

/** Names the grant that comes nearest, so that a person sees what to change. */
function whyNot(subject: Subject, place: Place, grants: readonly Grant[]): string {
  const role = installationRole(subject);
  const reasons = grants.map((grant) => {
    const [first, ...others] = misses(grant, place);
    return [`${grant.id} ${first}`, ...others];
  });
  if (role !== undefined) reasons.push([`role ${role} ${considerRole(role, place.verb).reason}`]);
  const lacks = `${describeSubject(subject)} has no ${place.verb} on ${describePlaces([place])}`;
  return reasons.length === 0 ? lacks : `${lacks}; ${fewest(reasons).join(", ")}`;
}

/** The shortest of these lists. */
const fewest = (lists: readonly (readonly string[])[]): readonly string[] =>
  lists.toSorted((a, b) => a.length - b.length)[0] ?? [];

const distinct = (names: readonly string[]): string => [...new Set(names)].join(", ");

const describePlaces = (places: readonly Place[]): string =>
  `project ${distinct(places.map(({ project }) => project))}, environment ${distinct(places.map(({ environment }) => environment))}`;
