/** What a program may do, held against what it needs. */
import type { PolicyRule } from "../../crds/generate/rbac.ts";
import { type Finding, failing } from "./finding.ts";

/** As a SelfSubjectRulesReview tells it. */
export interface GrantedRule {
  readonly verbs: readonly string[];
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
}

/** One thing to do with one kind of resource. */
export interface Right {
  readonly verb: string;
  readonly group: string;
  /** With its subresource: `secrets/status`. */
  readonly resource: string;
  readonly name?: string;
}

export const rightsOf = (rules: readonly PolicyRule[]): readonly Right[] =>
  rules.flatMap(({ apiGroups, resources, resourceNames = [undefined], verbs }) =>
    apiGroups.flatMap((group) =>
      resources.flatMap((resource) =>
        resourceNames.flatMap((name) =>
          verbs.map((verb): Right => ({ verb, group, resource, ...(name !== undefined && { name }) })),
        ),
      ),
    ),
  );

export const missingRights = (wanted: readonly Right[], granted: readonly GrantedRule[]): readonly Right[] =>
  wanted.filter((right) => !granted.some((rule) => allows(rule, right)));

function allows(rule: GrantedRule, { verb, group, resource, name }: Right): boolean {
  const { verbs, apiGroups = [], resources = [], resourceNames = [] } = rule;
  const has = (list: readonly string[], ...any: string[]) =>
    list.includes("*") || any.some((each) => list.includes(each));
  const named = resourceNames.length === 0 || (name !== undefined && resourceNames.includes(name));
  const subresource = resource.split("/")[1];
  return has(verbs, verb) && has(apiGroups, group) && has(resources, resource, `*/${subresource}`) && named;
}

export const RIGHTS = "kubernetes.rights";
export const APPLY_RIGHTS =
  "apply the rights of this version again: helm upgrade, or, where the chart is not used, kubectl apply --server-side --force-conflicts -f crds/generated/rbac.yaml";

/** @param where `in the whole cluster`, `in namespace shop` */
export function judgeRights(account: string, missing: readonly Right[], where: string): readonly Finding[] {
  if (missing.length === 0) return [];
  return [
    failing(RIGHTS, {
      problem: `${account} lacks rights ${where}: ${describe(missing).join("; ")}`,
      fix: APPLY_RIGHTS,
    }),
  ];
}

/** `get, list secrets.mazevault.io`. */
function describe(missing: readonly Right[]): readonly string[] {
  const verbs = new Map<string, Set<string>>();
  for (const { verb, group, resource, name } of missing) {
    const [plural, subresource] = resource.split("/");
    const what = [group === "" ? plural : `${plural}.${group}`, subresource].filter(Boolean).join("/");
    const key = name === undefined ? what : `${what} ${name}`;
    verbs.set(key, (verbs.get(key) ?? new Set()).add(verb));
  }
  return [...verbs].map(([what, names]) => `${[...names].join(", ")} ${what}`);
}
