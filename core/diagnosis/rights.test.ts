import { rightsFor } from "../../crds/generate/rbac.ts";
import { judgeRights, missingRights, rightsOf } from "./rights.ts";

const { everywhere } = rightsFor("operator", "primary");
const wanted = rightsOf(everywhere);

test("what was granted as it is installed lacks nothing, and so does everything", () => {
  expect(wanted.length).toBeGreaterThan(50);
  expect(missingRights(wanted, everywhere)).toEqual([]);
  expect(missingRights(wanted, [{ verbs: ["*"], apiGroups: ["*"], resources: ["*"] }])).toEqual([]);
  expect(missingRights(wanted, [])).toEqual(wanted);
});

test.each([
  { name: "another group", change: { apiGroups: ["other.io"] } },
  { name: "only the object itself", change: { resources: ["secrets"] } },
  { name: "another verb", change: { verbs: ["get"] } },
  { name: "only one object", change: { resourceNames: ["one"] } },
])("$name is not it", ({ change }) => {
  const right = { verb: "patch", group: "mazevault.io", resource: "secrets/status" };
  const rule = { verbs: ["patch"], apiGroups: ["mazevault.io"], resources: ["secrets/status"] };
  expect(missingRights([right], [rule])).toEqual([]);
  expect(missingRights([right], [{ ...rule, resources: ["*/status"] }])).toEqual([]);
  expect(missingRights([right], [{ ...rule, ...change }])).toEqual([right]);
});

test("what is missing is told by resource", () => {
  const missing = rightsOf([
    { apiGroups: [""], resources: ["secrets"], verbs: ["get", "list"] },
    {
      apiGroups: ["rbac.authorization.k8s.io"],
      resources: ["rolebindings"],
      resourceNames: ["mazevault"],
      verbs: ["get"],
    },
    { apiGroups: ["mazevault.io"], resources: ["secrets/status"], verbs: ["patch"] },
    // Of another program that has the same account.
    { apiGroups: [""], resources: ["secrets"], verbs: ["get"] },
  ]);
  expect(judgeRights("mazevault-operator", missing, "in namespace shop")).toMatchObject([
    {
      problem:
        "mazevault-operator lacks rights in namespace shop: get, list secrets; get rolebindings.rbac.authorization.k8s.io mazevault; patch secrets.mazevault.io/status",
    },
  ]);
});
