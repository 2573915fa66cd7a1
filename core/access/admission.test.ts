import fc from "fast-check";
import type { ProjectSpec } from "../../crds/project.ts";
import { Stalled } from "../errors.ts";
import { admittedEnvironments, assertAdmitted, assertOwnIdentityAllowed, selectorMatches } from "./admission.ts";

const payments = { name: "payments", uid: "u1", labels: { team: "payments", tier: "gold" } };
const project = (spec: Partial<ProjectSpec>): ProjectSpec => ({
  environments: [{ name: "dev" }, { name: "pro" }],
  ...spec,
});

describe("admittedEnvironments", () => {
  test.each<{ because: string; spec: Partial<ProjectSpec>; admitted: string[] }>([
    { because: "an absent list admits nobody", spec: {}, admitted: [] },
    { because: "an empty list admits nobody", spec: { namespaces: [] }, admitted: [] },
    {
      because: "a name admits that namespace",
      spec: { namespaces: [{ name: "payments", environments: ["pro"] }] },
      admitted: ["pro"],
    },
    {
      because: "another name does not",
      spec: { namespaces: [{ name: "payment", environments: ["pro"] }] },
      admitted: [],
    },
    {
      because: "an empty selector admits nobody",
      spec: { namespaces: [{ selector: {}, environments: ["pro"] }] },
      admitted: [],
    },
    {
      because: "an empty matchLabels admits nobody",
      spec: { namespaces: [{ selector: { matchLabels: {} }, environments: ["pro"] }] },
      admitted: [],
    },
    {
      because: "grants add up",
      spec: {
        namespaces: [
          { name: "payments", environments: ["pro"] },
          { selector: { matchLabels: { team: "payments" } }, environments: ["dev"] },
        ],
      },
      admitted: ["pro", "dev"],
    },
    {
      because: "an environment that is not declared is not granted",
      spec: { namespaces: [{ name: "payments", environments: ["hot"] }] },
      admitted: [],
    },
  ])("$because", ({ spec, admitted }) => {
    expect([...admittedEnvironments(project(spec), payments)]).toEqual(admitted);
  });

  test("whatever the grants are, only a grant that names or selects the namespace counts", () => {
    const name = fc.constantFrom("payments", "orders", "hr");
    const grants = fc.array(fc.record({ name, environments: fc.subarray(["dev", "pro"], { minLength: 1 }) }));
    fc.assert(
      fc.property(grants, (namespaces) => {
        const expected = new Set(
          namespaces.filter((grant) => grant.name === "payments").flatMap((grant) => grant.environments),
        );
        expect(admittedEnvironments(project({ namespaces }), payments)).toEqual(expected);
      }),
    );
  });
});

describe("selectorMatches", () => {
  test.each([
    { operator: "In" as const, key: "tier", values: ["gold", "silver"], matches: true },
    { operator: "In" as const, key: "none", values: ["gold"], matches: false },
    { operator: "NotIn" as const, key: "tier", values: ["gold"], matches: false },
    { operator: "NotIn" as const, key: "none", values: ["gold"], matches: true },
    { operator: "Exists" as const, key: "team", matches: true },
    { operator: "DoesNotExist" as const, key: "team", matches: false },
  ])("$operator $key", ({ matches, ...requirement }) => {
    expect(selectorMatches({ matchExpressions: [requirement] }, payments.labels)).toBe(matches);
  });
});

test("a refusal names the field and the fix", () => {
  const refused = () => assertAdmitted({ name: "shop", spec: project({}) }, payments, "pro");
  expect(refused).toThrow(Stalled);
  expect(refused).toThrow(/spec\.projectRef: .*namespaces/);
  expect(() => assertAdmitted({ name: "shop", spec: project({}) }, payments, "hot")).toThrow(
    /spec\.environment: .*dev, pro/,
  );
});

test("the operator's own identity is only for listed vaults, however they are spelled", () => {
  const spec = project({ keyVaults: ["https://kv.vault.azure.net/"] });
  expect(() => assertOwnIdentityAllowed({ name: "shop", spec }, "https://kv.vault.azure.net")).not.toThrow();
  expect(() => assertOwnIdentityAllowed({ name: "shop", spec }, "https://kv2.vault.azure.net")).toThrow(/keyVaults/);
});
