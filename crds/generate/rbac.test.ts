import { missingRights, rightsOf } from "../../core/diagnosis/rights.ts";
import { NAMESPACE_BINDING, REST_NAMESPACE_BINDING } from "../installation.ts";
import { accessObjects, MODES, PROGRAMS, rightsFor } from "./rbac.ts";

test.each(MODES)("no binding of a %s has a name by which the operator takes access to a namespace away", (mode) => {
  const objects = accessObjects(mode) as { kind: string; metadata: { name: string } }[];
  const names = objects.filter(({ kind }) => kind === "RoleBinding").map(({ metadata }) => metadata.name);
  expect(names.length).toBe(mode === "primary" ? 2 : 1);
  expect(names).not.toContain(NAMESPACE_BINDING);
  expect(names).not.toContain(REST_NAMESPACE_BINDING);
});

test.each(PROGRAMS)("what the %s needs at a gateway it needs at a primary too, and more", (program) => {
  const [primary, gateway] = MODES.map((mode) => rightsFor(program, mode)) as [
    ReturnType<typeof rightsFor>,
    ReturnType<typeof rightsFor>,
  ];
  for (const where of ["everywhere", "inOnboardedNamespaces", "inSystemNamespace"] as const) {
    expect(missingRights(rightsOf(gateway[where]), primary[where])).toEqual([]);
  }
  expect(missingRights(rightsOf(primary.everywhere), gateway.everywhere)).not.toEqual([]);
});

test("whoever is kept from letting itself into namespaces may bind nothing", () => {
  const { everywhere } = rightsFor("operator", "primary", false);
  const verbs = rightsOf(everywhere).filter(({ group }) => group === "rbac.authorization.k8s.io");
  expect(verbs.map(({ verb }) => verb)).toEqual(["list", "watch"]);
});
