/** Which Secrets a rule covers: by name, by label, by both, or all of them. */
import type { LabelSelector } from "../../crds/common.ts";
import { matchesName } from "../name-pattern.ts";

export interface SecretScope {
  /** Names in which `*` stands for any characters; one of them must match. */
  readonly names?: readonly string[] | undefined;
  readonly selector?: LabelSelector | undefined;
}

export interface Selectable {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The Secrets in scope, in the order given. An absent scope means all; an empty selector matches all, as in Kubernetes. */
export function selectSecrets<T extends Selectable>(
  secrets: readonly T[],
  scope: SecretScope | undefined,
): readonly T[] {
  if (scope === undefined) return secrets;
  const { names, selector } = scope;
  return secrets.filter(
    (secret) =>
      (names === undefined || names.some((pattern) => matchesName(secret.name, pattern))) &&
      (selector === undefined || matchesLabels(secret.labels, selector)),
  );
}

function matchesLabels(labels: Readonly<Record<string, string>>, selector: LabelSelector): boolean {
  const exact = Object.entries(selector.matchLabels ?? {}).every(([key, value]) => labels[key] === value);
  return exact && (selector.matchExpressions ?? []).every((requirement) => meets(labels[requirement.key], requirement));
}

type Requirement = NonNullable<LabelSelector["matchExpressions"]>[number];

function meets(value: string | undefined, { operator, values }: Requirement): boolean {
  switch (operator) {
    case "In":
      return value !== undefined && (values ?? []).includes(value);
    case "NotIn":
      return value === undefined || !(values ?? []).includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
  }
}
