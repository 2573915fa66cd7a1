/**
 * What is installed before new programs are there, while those of the last release go on: rights that they would lack, and policies that
 * would refuse what they do.
 */
import { isDeepStrictEqual } from "node:util";
import { parseAllDocuments } from "yaml";
import type { PolicyRule } from "../../crds/generate/rbac.ts";
import type { Break } from "./break.ts";

/** An object of rights or policies; what it has goes by its kind. */
export interface Installed {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly rules?: readonly PolicyRule[];
  readonly roleRef?: object;
  readonly subjects?: readonly object[];
  readonly spec?: {
    readonly validations?: readonly { readonly expression: string }[];
    /** Of a binding. */
    readonly policyName?: string;
  };
}

export const installedBy = (manifests: string): readonly Installed[] =>
  parseAllDocuments(manifests).map((document) => document.toJS() as Installed);

const UNUSED = "keep it until no release that uses it is left: rights come before programs";

/** Rights that are not granted any more. */
export function withdrawn(released: readonly Installed[], now: readonly Installed[]): readonly Break[] {
  return released.flatMap((before) => {
    const path = called(before);
    const today = now.find((each) => called(each) === path);
    if (today === undefined) return [{ path, change: "was removed", fix: UNUSED }];
    const lost = (before.rules ?? []).flatMap(rightsOf).filter((right) => !grants(today.rules ?? [], right));
    const unbound = (before.subjects ?? []).filter(
      (each) => !today.subjects?.some((it) => isDeepStrictEqual(it, each)),
    );
    return [
      ...lost.map((right) => ({ path, change: `may not ${said(right)} any more`, fix: UNUSED })),
      ...unbound.map((each) => ({ path, change: `is not for ${JSON.stringify(each)} any more`, fix: UNUSED })),
      ...(isDeepStrictEqual(before.roleRef, today.roleRef)
        ? []
        : [{ path, change: `binds ${JSON.stringify(today.roleRef)} now`, fix: UNUSED }]),
    ];
  });
}

interface Right {
  readonly group: string;
  readonly resource: string;
  readonly verb: string;
  /** Undefined: objects of any name. */
  readonly name: string | undefined;
}

const rightsOf = ({ apiGroups, resources, verbs, resourceNames = [] }: PolicyRule): readonly Right[] =>
  apiGroups.flatMap((group) =>
    resources.flatMap((resource) =>
      verbs.flatMap((verb) =>
        (resourceNames.length === 0 ? [undefined] : resourceNames).map((name) => ({ group, resource, verb, name })),
      ),
    ),
  );

const grants = (rules: readonly PolicyRule[], { group, resource, verb, name }: Right): boolean =>
  rules.some(
    ({ apiGroups, resources, verbs, resourceNames = [] }) =>
      apiGroups.includes(group) &&
      resources.includes(resource) &&
      verbs.includes(verb) &&
      (resourceNames.length === 0 || (name !== undefined && resourceNames.includes(name))),
  );

const said = ({ group, resource, verb, name }: Right): string =>
  [verb, group === "" ? resource : `${resource}.${group}`, name].filter((part) => part !== undefined).join(" ");

/** Policies that may refuse more than before; that one is gone takes nothing away. */
export function stricter(released: readonly Installed[], now: readonly Installed[]): readonly Break[] {
  const fix = "let it say nothing of what the last release does";
  return now.flatMap((today) => {
    const path = called(today);
    const before = released.find((each) => called(each) === path);
    if (before === undefined) {
      const { policyName } = today.spec ?? {};
      // A binding of a policy that is new says nothing more.
      const isToldOf = policyName !== undefined && !released.some(({ metadata: { name } }) => name === policyName);
      return isToldOf ? [] : [{ path, change: "is new", fix }];
    }
    const { validations = [], ...meaning } = today.spec ?? {};
    const { validations: known = [], ...meant } = before.spec ?? {};
    const added = validations.filter(({ expression }) => !known.some((each) => each.expression === expression));
    return [
      ...added.map(({ expression }) => ({ path, change: `has a new rule: ${expression}`, fix })),
      // To whom its rules apply, and what the names in them stand for.
      ...Object.keys({ ...meant, ...meaning })
        .filter((part) => !isDeepStrictEqual((meant as Parts)[part], (meaning as Parts)[part]))
        .map((part) => ({ path, change: `${part} differ`, fix })),
    ];
  });
}

type Parts = Readonly<Record<string, unknown>>;

const called = ({ kind, metadata: { name, namespace } }: Installed): string =>
  `${kind} ${namespace === undefined ? "" : `${namespace}/`}${name}`;
