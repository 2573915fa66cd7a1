import { projectOf } from "../../core/access/testing/world.ts";
import type { NamingSpec } from "../../crds/naming.ts";
import type { Project } from "../../crds/project.ts";
import { decide } from "./decide.ts";

const crd: NamingSpec = { company: "crd", project: "mzv", zone: "int", region: "gwc" };
const made = (name: string, creationTimestamp: string, naming?: NamingSpec): Project => {
  const project = projectOf(name, { environments: [{ name: "pro" }], ...(naming && { naming }) });
  return { ...project, metadata: { ...project.metadata, creationTimestamp } };
};

const decided = (project: Project, ...others: Project[]) => {
  const seen = {
    projects: [project, ...others],
    namespaces: [],
    onboarded: new Set<string>(),
    bound: new Set<string>(),
    onboards: false,
  };
  const { status, next } = decide(project, { ...seen, keys: undefined });
  return { named: status.conditions.find(({ type }) => type === "Named"), names: status.fields?.names, next };
};

test("a project without a convention says nothing of names", () => {
  expect(decided(made("plain", "2026-01-01T00:00:00Z"))).toEqual({
    named: undefined,
    names: undefined,
    next: { kind: "settled" },
  });
});

test("names are listed, also those that are wrong", () => {
  const wrong = decided(made("long", "2026-01-01T00:00:00Z", { ...crd, project: "accounting" }));
  expect(wrong.names).toContainEqual({ environment: "pro", type: "KeyVault", name: "crdprointaccountinggwckv01" });
  expect(wrong.named).toMatchObject({ status: "False", reason: "NameInvalid" });
  const right = decided(made("right", "2026-01-01T00:00:00Z", crd));
  expect(right).toMatchObject({ named: { status: "True" }, next: { kind: "settled" } });
});

test("of two projects with the same names the older one keeps them", () => {
  const first = made("first", "2026-01-01T00:00:00Z", crd);
  const second = made("second", "2026-02-01T00:00:00Z", crd);
  expect(decided(first, second).named?.status).toBe("True");
  expect(decided(second, first)).toMatchObject({
    named: { status: "False", reason: "NameCollision" },
    next: { kind: "stalled", reason: "NameCollision" },
  });
});
