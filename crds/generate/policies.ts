/**
 * Policies that the API server evaluates itself, without a webhook: an author may refer only to what they may use themselves
 * (`references.ts`), the operator may do to a workload nothing but restart it, and a stamp of who changed an object.
 */
import { GROUP, type KindDefinition, VERSION } from "../common.ts";
import { RESTART_PREFIX, RESTARTABLE_KINDS } from "../delivery.ts";
import { kinds } from "../index.ts";
import { OPERATOR_ACCOUNT, SYSTEM_NAMESPACE } from "../installation.ts";
import { secretKind } from "../secret.ts";
import { type AskedRight, HERE, type Reference, references } from "./references.ts";

const API = "admissionregistration.k8s.io/v1";

interface MatchedResources {
  readonly apiGroups: readonly string[];
  readonly apiVersions: readonly string[];
  readonly operations: readonly ("CREATE" | "UPDATE")[];
  readonly resources: readonly string[];
}

interface NamedExpression {
  readonly name: string;
  readonly expression: string;
}

interface Policy {
  readonly name: string;
  readonly matches: MatchedResources;
  readonly matchConditions: readonly NamedExpression[];
  readonly variables?: readonly NamedExpression[];
}

interface Validation {
  readonly expression: string;
  readonly message: string;
  readonly messageExpression?: string;
}

const specOf = ({ matches, matchConditions, variables }: Policy) => ({
  failurePolicy: "Fail",
  matchConstraints: { resourceRules: [matches] },
  matchConditions,
  ...(variables && { variables }),
});

/** The policy, and the binding without which it does nothing. */
function validating(policy: Policy, validations: readonly Validation[]): readonly object[] {
  const { name } = policy;
  const spec = { ...specOf(policy), validations: validations.map((each) => ({ ...each, reason: "Forbidden" })) };
  return [
    { apiVersion: API, kind: "ValidatingAdmissionPolicy", metadata: { name }, spec },
    {
      apiVersion: API,
      kind: "ValidatingAdmissionPolicyBinding",
      metadata: { name },
      spec: { policyName: name, validationActions: ["Deny"] },
    },
  ];
}

const own = (...resources: string[]): MatchedResources => ({
  apiGroups: [GROUP],
  apiVersions: [VERSION],
  operations: ["CREATE", "UPDATE"],
  resources,
});

/** Writes of status, labels and annotations, and manifests that are applied again as they were, are never asked about. */
const SPEC_CHANGED = "oldObject == null || object.spec != oldObject.spec";

/** CEL: a text between quotes. */
const text = (literal: string): string => `'${literal.replaceAll("'", "\\'")}'`;

/** `spec.entries[].secretRef` -> `entriesSecretRef`. */
const variableOf = (field: string): string =>
  field
    .replaceAll("[]", "")
    .split(".")
    .slice(1)
    .map((part, at) => (at === 0 ? part : part.slice(0, 1).toUpperCase() + part.slice(1)))
    .join("");

/** CEL over `part`: whether the author has the right. */
function mayUse({ verbs, group, resource, subresource, name, namespace = "''" }: AskedRight): string {
  const asked = [
    `authorizer.group('${group}').resource(${resource})`,
    ...(subresource === undefined ? [] : [`.subresource('${subresource}')`]),
    `.namespace(${namespace})`,
    ...(name === undefined ? [] : [`.name(${name})`]),
  ].join("");
  return verbs.map((verb) => `${asked}.check('${verb}').allowed()`).join(" || ");
}

/** The same for whatever there is of that kind: in the namespace, or where each part has one of its own, in the cluster. */
const forAll = ({ name: _name, namespace, ...right }: AskedRight): AskedRight =>
  namespace === HERE ? { ...right, namespace } : right;

/** CEL over `part`: which right is missing, for what, and the line by which somebody who has it gives it. */
function refusal(field: string, right: AskedRight): string {
  const { verbs, group, resource, subresource, what, kind, name, namespace } = right;
  const verb = verbs.at(-1) ?? "";
  const role = namespace === undefined ? "clusterrole" : "role";
  const kubectl = namespace === undefined ? [text("kubectl")] : [text("kubectl -n "), namespace];
  const roleName = [text(`${verb}-`), resource, ...(name === undefined ? [] : [text("-"), name])];
  const suffix = `${group && `.${group}`}${subresource === undefined ? "" : `/${subresource}`}`;
  // kubectl knows the verb `use` of Kubernetes' own resources only.
  const [made, corrected] =
    verb === "use" ? ["get", ` --dry-run=client -o yaml | sed "s/- get$/- ${verb}/" | kubectl apply -f -`] : [verb, ""];
  return [
    text(`${field}: you need the right to ${verbs.join(" or ")} ${what} `),
    ...(kind === undefined ? [] : [kind, text(" ")]),
    name ?? text("objects of any name"),
    ...(namespace === undefined ? [] : [text(" in namespace "), namespace]),
    text(". Somebody who has it gives it with: "),
    ...kubectl,
    text(` create ${role} `),
    ...roleName,
    text(` --verb=${made} --resource=`),
    resource,
    text(suffix),
    ...(name === undefined ? [] : [text(" --resource-name="), name]),
    text(`${corrected}; `),
    ...kubectl,
    text(` create ${role}binding `),
    ...roleName,
    text(` --${role}=`),
    ...roleName,
    text(' --user="'),
    "request.userInfo.username",
    text('"'),
  ].join(" + ");
}

function variablesOf({ field, parts, flattened }: Reference): readonly NamedExpression[] {
  const name = variableOf(field);
  // A variable is computed once, the filter's condition for each part.
  const before = { name: `${name}Before`, expression: `oldObject == null ? [] : ${parts("oldObject")}` };
  const expression = `${parts("object")}.filter(part, !(part in variables.${before.name}))`;
  if (flattened === undefined) return [before, { name, expression }];
  const whole = `variables.${name}Whole`;
  const flat = `${whole}.size() == 0 ? [] : ${whole}.map(part, ${flattened}.join(',')).join(',').split(',')`;
  return [before, { name: `${name}Whole`, expression }, { name, expression: flat }];
}

function validationsOf({ field, most = 1, right }: Reference): readonly Validation[] {
  const { verbs, what, resource, resources = [resource] } = right;
  const parts = `variables.${variableOf(field)}`;
  const few = Array.from({ length: most }, (_, at): Validation => {
    const about = (expression: string) => expression.replaceAll(/\bpart\b/g, `${parts}[${at}]`);
    const spared = [`${parts}.size() <= ${at}`, ...(most === 1 ? [] : [`${parts}.size() > ${most}`])];
    return {
      expression: [...spared, about(mayUse(right))].join(" || "),
      message: `${field}: you need the right to ${verbs.join(" or ")} each ${what} that it names`,
      messageExpression: about(refusal(field, right)),
    };
  });
  if (most === 1) return few;
  const many = resources.map((each): Validation => {
    const concerned = resources.length === 1 ? "" : ` || !${parts}.exists(part, ${resource} == ${each})`;
    return {
      expression: `${parts}.size() <= ${most}${concerned} || ${mayUse(forAll({ ...right, resource: each }))}`,
      message: `${field}: more than ${most} new ones at once are only for who has the right to ${verbs.join(" or ")} ${what} objects of any name; add at most ${most} at once`,
    };
  });
  return [...few, ...many];
}

function ofAuthors(kind: KindDefinition): readonly object[] {
  const asked = references.filter((reference) => reference.kind === kind);
  if (asked.length === 0) return [];
  return validating(
    {
      name: `${kind.plural}.references.${GROUP}`,
      matches: own(kind.plural),
      matchConditions: [{ name: "spec-changed", expression: SPEC_CHANGED }],
      variables: asked.flatMap(variablesOf),
    },
    asked.flatMap(validationsOf),
  );
}

/** CEL: two maps are the same, but for some keys. `dyn` since kinds have different fields. */
function sameBut(now: string, before: string, exempt: string): string {
  const both = (one: string, other: string, and = "") => `${one}.all(key, ${exempt} || (key in ${other}${and}))`;
  return `${both(now, before, ` && ${now}[key] == ${before}[key]`)} && ${both(before, now)}`;
}

/** What the operator is let into a namespace for includes `patch` of workloads, which RBAC cannot narrow. */
function ofOperator(): readonly object[] {
  const workloads = RESTARTABLE_KINDS.map((kind) => `${kind.toLowerCase()}s`);
  const part = (name: string, at: string): readonly NamedExpression[] => [
    { name, expression: `dyn(object.${at})` },
    { name: `${name}Before`, expression: `dyn(oldObject.${at})` },
  ];
  const annotations = (name: string, metadata: string): NamedExpression => ({
    name,
    expression: `has(${metadata}.annotations) ? dyn(${metadata}.annotations) : dyn({})`,
  });
  const message = `the operator may only set annotations ${RESTART_PREFIX}* of a workload's pod template, by which its pods are restarted`;
  const validations = [
    sameBut("variables.spec", "variables.specBefore", "key == 'template'"),
    sameBut("variables.template", "variables.templateBefore", "key == 'metadata'"),
    sameBut("variables.pod", "variables.podBefore", "key == 'annotations'"),
    sameBut("variables.annotations", "variables.annotationsBefore", `key.startsWith('${RESTART_PREFIX}')`),
    sameBut(
      "variables.metadata",
      "variables.metadataBefore",
      "key in ['annotations', 'generation', 'managedFields', 'resourceVersion']",
    ),
    // The API server counts there itself how often the template of a DaemonSet has changed.
    sameBut("variables.own", "variables.ownBefore", "key == 'deprecated.daemonset.template.generation'"),
  ].map((expression) => ({ expression, message }));
  return validating(
    {
      name: `workloads.operator.${GROUP}`,
      matches: { apiGroups: ["apps"], apiVersions: ["v1"], operations: ["UPDATE"], resources: workloads },
      matchConditions: [
        {
          name: "by-the-operator",
          expression: `request.userInfo.username == 'system:serviceaccount:${SYSTEM_NAMESPACE}:${OPERATOR_ACCOUNT}'`,
        },
      ],
      variables: [
        ...part("metadata", "metadata"),
        ...part("spec", "spec"),
        ...part("template", "spec.template"),
        ...part("pod", "spec.template.metadata"),
        annotations("annotations", "object.spec.template.metadata"),
        annotations("annotationsBefore", "oldObject.spec.template.metadata"),
        annotations("own", "object.metadata"),
        annotations("ownBefore", "oldObject.metadata"),
      ],
    },
    validations,
  );
}

/** In the order of installation: no binding before its policy. Those of Secrets are last, so that whoever waits for them waits for all. */
export const policies: readonly object[] = [
  ...ofOperator(),
  ...kinds.filter((kind) => kind !== secretKind).flatMap(ofAuthors),
  ...ofAuthors(secretKind),
];

/** Who last changed the spec of an object, as the API server knows them. */
export const CHANGED_BY = `${GROUP}/changed-by`;

/** A stamp, and a rule that holds where another webhook or policy comes after it. For API servers from 1.36 on. */
export const changedBy: readonly object[] = (() => {
  const name = `changed-by.${GROUP}`;
  const matches = own(...kinds.map(({ plural }) => plural));
  const stamp = (object: string) =>
    `(has(${object}.metadata.annotations) && '${CHANGED_BY}' in ${object}.metadata.annotations ? ${object}.metadata.annotations['${CHANGED_BY}'] : '')`;
  // What nobody changed keeps the name that it has, whatever a manifest says.
  const wanted = `(${SPEC_CHANGED} ? request.userInfo.username : ${stamp("oldObject")})`;
  const differs = { name: "not-stamped", expression: `${stamp("object")} != ${wanted}` };
  const path = `'/metadata/annotations/' + jsonpatch.escapeKey('${CHANGED_BY}')`;
  const patch = [
    `has(object.metadata.annotations) ? [] : [JSONPatch{op: 'add', path: '/metadata/annotations', value: {}}]`,
    `${wanted} == '' ? [JSONPatch{op: 'remove', path: ${path}}] : [JSONPatch{op: 'add', path: ${path}, value: ${wanted}}]`,
  ];
  return [
    {
      apiVersion: API,
      kind: "MutatingAdmissionPolicy",
      metadata: { name },
      spec: {
        ...specOf({ name, matches, matchConditions: [differs] }),
        reinvocationPolicy: "IfNeeded",
        mutations: [
          { patchType: "JSONPatch", jsonPatch: { expression: patch.map((each) => `(${each})`).join(" + ") } },
        ],
      },
    },
    { apiVersion: API, kind: "MutatingAdmissionPolicyBinding", metadata: { name }, spec: { policyName: name } },
    ...validating({ name, matches, matchConditions: [differs] }, [
      {
        expression: "false",
        message: `annotation ${CHANGED_BY} says who changed the spec last; it cannot be set by hand`,
      },
    ]),
  ];
})();
