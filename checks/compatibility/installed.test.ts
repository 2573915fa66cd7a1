import { sentence } from "./break.ts";
import { type Installed, installedBy, stricter, withdrawn } from "./installed.ts";

const role = (rules: Installed["rules"]): Installed => ({
  kind: "ClusterRole",
  metadata: { name: "operator" },
  ...(rules !== undefined && { rules }),
});
const rule = { apiGroups: ["apps"], resources: ["deployments", "daemonsets"], verbs: ["get", "patch"] };
const account = { kind: "ServiceAccount", name: "operator", namespace: "system" };
const binding = (name: string, subjects: readonly object[]): Installed => ({
  kind: "RoleBinding",
  metadata: { name: "operator", namespace: "system" },
  roleRef: { kind: "Role", name },
  subjects,
});

test.each<[string, Installed, Installed | undefined, readonly string[]]>([
  ["an object", role([rule]), undefined, ["ClusterRole operator: was removed"]],
  [
    "a verb",
    role([rule]),
    role([{ ...rule, verbs: ["get"] }]),
    [
      "ClusterRole operator: may not patch deployments.apps any more",
      "ClusterRole operator: may not patch daemonsets.apps any more",
    ],
  ],
  [
    "a resource",
    role([{ apiGroups: [""], resources: ["secrets"], verbs: ["get"] }]),
    role([rule]),
    ["ClusterRole operator: may not get secrets any more"],
  ],
  [
    "objects of any name",
    role([{ ...rule, resources: ["deployments"], verbs: ["get"] }]),
    role([{ ...rule, resourceNames: ["one"] }]),
    ["ClusterRole operator: may not get deployments.apps any more"],
  ],
  [
    "a name",
    role([{ ...rule, resources: ["deployments"], verbs: ["get"], resourceNames: ["one", "two"] }]),
    role([{ ...rule, resourceNames: ["one"] }]),
    ["ClusterRole operator: may not get deployments.apps two any more"],
  ],
  [
    "whom it is for",
    binding("a", [account]),
    binding("a", []),
    [`RoleBinding system/operator: is not for ${JSON.stringify(account)} any more`],
  ],
  [
    "what it binds",
    binding("a", [account]),
    binding("b", [account]),
    ['RoleBinding system/operator: binds {"kind":"Role","name":"b"} now'],
  ],
])("rights that go are found: %s", (_, before, now, problems) => {
  expect(withdrawn([before], now === undefined ? [] : [now]).map(sentence)).toEqual(problems);
});

test("rights that come, are told in other rules, or hold for more names, are none of it", () => {
  const before = role([{ ...rule, resourceNames: ["one"] }]);
  const now = role([
    { ...rule, resources: ["daemonsets"] },
    { ...rule, resources: ["deployments"], verbs: ["get", "list"] },
    { ...rule, resources: ["deployments"], verbs: ["patch"], resourceNames: ["two", "one"] },
  ]);
  expect(withdrawn([before, binding("a", [account])], [binding("a", [{ kind: "User" }, account]), now])).toEqual([]);
});

const policy = (spec: Installed["spec"] & object): Installed => ({
  kind: "ValidatingAdmissionPolicy",
  metadata: { name: "workloads" },
  spec,
});
const own = { matchConditions: [{ name: "ours", expression: "true" }], validations: [{ expression: "a" }] };

test("a policy that may refuse more is found", () => {
  const now = policy({
    ...own,
    matchConditions: [],
    validations: [{ expression: "a" }, { expression: "b" }],
  } as object);
  const other = { ...now, metadata: { name: "others" } };
  const bindings = ["workloads", "others"].map((policyName) => ({
    kind: "ValidatingAdmissionPolicyBinding",
    metadata: { name: policyName },
    spec: { policyName },
  }));
  expect(stricter([policy(own)], [now, other, ...bindings]).map(sentence)).toEqual([
    "ValidatingAdmissionPolicy workloads: has a new rule: b",
    "ValidatingAdmissionPolicy workloads: matchConditions differ",
    "ValidatingAdmissionPolicy others: is new",
    "ValidatingAdmissionPolicyBinding workloads: is new",
  ]);
});

test("one that goes, has a rule less or says it in other words is none of it", () => {
  const before = policy({ ...own, validations: [{ expression: "a" }, { expression: "b" }] });
  const now = policy({ ...own, validations: [{ expression: "a", message: "in other words" }] } as object);
  const gone = { ...before, metadata: { name: "others" } };
  expect(stricter([before, gone], [now])).toEqual([]);
});

test("manifests are read object by object", () => {
  const manifests = "# Generated.\nkind: Role\nmetadata:\n  name: a\n---\nkind: Role\nmetadata:\n  name: b\n";
  expect(installedBy(manifests).map(({ metadata }) => metadata.name)).toEqual(["a", "b"]);
});
