import { projectOf } from "../../core/access/testing/world.ts";
import type { Metadata } from "../cluster.ts";
import { decide, offboardings } from "./decide.ts";
import { type NamespaceAccess, ProjectController } from "./index.ts";

const metadata = (name: string, namespace?: string): Metadata => ({
  metadata: { name, uid: name, resourceVersion: "1", ...(namespace !== undefined && { namespace }) },
});

const access = (name: string, serviceAccount: string, ...namespaces: string[]): NamespaceAccess => ({
  name,
  clusterRole: `${name}-role`,
  serviceAccount,
  standing: { values: () => namespaces.map((namespace) => metadata(name, namespace)) },
});

const project = projectOf("shop", {
  environments: [{ name: "pro" }],
  namespaces: ["whole", "half", "new"].map((name) => ({ name, environments: ["pro"] })),
});

function controllerOf(...all: NamespaceAccess[]) {
  const calls: unknown[] = [];
  const namespaces = ["whole", "half", "new", "left"].map((name) => metadata(name));
  const controller = new ProjectController({
    api: {
      create: async (_type: unknown, object: unknown) => calls.push(object),
      delete: async (_type: unknown, key: unknown) => calls.push(key),
    },
    cluster: { projects: () => [project], namespaces: () => namespaces },
    access: all,
    onboards: true,
    systemNamespace: "vault",
  } as never);
  return { controller, calls };
}

describe("of two accounts", () => {
  const operator = access("mazevault", "the-operator", "whole", "half");
  const rest = access("mazevault-rest", "the-rest", "whole", "left");
  const { controller, calls } = controllerOf(operator, rest);
  const { signal } = new AbortController();

  test("a namespace is onboarded when both are let in, and offboarded while one of them is", async () => {
    const seen = await controller.observe();
    const onboarding = decide(project, seen).actions.filter(({ kind }) => kind === "Onboard");
    expect(onboarding).toEqual(["half", "new"].map((namespace) => ({ kind: "Onboard", namespace })));
    expect(offboardings(seen)).toEqual([{ kind: "Offboard", namespace: "left" }]);
  });

  test("each has a RoleBinding, to whom and where the settings say", async () => {
    await controller.perform({ kind: "Onboard", namespace: "new" }, signal);
    expect(calls.splice(0)).toMatchObject(
      [operator, rest].map(({ name, clusterRole, serviceAccount }) => ({
        metadata: { name, namespace: "new" },
        roleRef: { name: clusterRole },
        subjects: [{ name: serviceAccount, namespace: "vault" }],
      })),
    );
    await controller.perform({ kind: "Offboard", namespace: "left" }, signal);
    expect(calls.splice(0)).toEqual([operator, rest].map(({ name }) => ({ name, namespace: "left" })));
  });
});
