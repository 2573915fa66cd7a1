import { namespaceOf, policyOf, projectOf } from "../../core/access/testing/world.ts";
import type { AccessPolicySpec } from "../../crds/accesspolicy.ts";
import type { Project } from "../../crds/project.ts";
import { namespaceFacts } from "../cluster.ts";
import { decide } from "./decide.ts";

type Rule = AccessPolicySpec["rules"][number];

const orders = { serviceAccount: { namespace: "payments", name: "orders" } };
const reader = (change: Partial<Rule> = {}): Rule => ({
  projects: ["payments"],
  environments: ["pro"],
  role: "reader",
  ...change,
});
const payments = projectOf("payments", { namespaces: [{ name: "payments", environments: ["pro"] }] });

const decided = (rules: readonly Rule[], projects: readonly Project[] = [payments], subjects = [orders]) =>
  decide(policyOf("payments", "readers", subjects, ...rules), {
    namespace: namespaceFacts(namespaceOf("payments")),
    projects: new Map(projects.map((project) => [project.metadata.name, project])),
  });

test.each<{ because: string; rules: Rule[]; message: string }>([
  {
    because: "a role is shown as the verbs that it stands for",
    rules: [reader()],
    message: "grants ServiceAccount payments/orders: list, read on everything of project payments, environment pro",
  },
  {
    because: "every rule is shown with the objects that it names",
    rules: [
      reader({ secrets: ["orders-*", "shared"] }),
      reader({ certificates: ["*-tls"], issuers: ["ca"], role: undefined, verbs: ["issue"] }),
    ],
    message:
      "grants ServiceAccount payments/orders: list, read on secrets orders-*, shared of project payments, environment pro; " +
      "issue on certificates *-tls, issuers ca of project payments, environment pro",
  },
])("$because", ({ rules, message }) => {
  const { status, next, actions } = decided(rules);
  expect(status).toEqual({
    conditions: [{ type: "Effective", status: "True", reason: "Available", message }],
    fields: { rules: rules.length },
    message,
  });
  expect(next).toEqual({ kind: "settled" });
  expect(actions).toEqual([]);
});

test.each<{ because: string; rules: Rule[]; reason: string; says: RegExp; counting: number; waits: boolean }>([
  {
    because: "a project that does not exist can still come",
    rules: [reader(), reader({ projects: ["shop"] })],
    reason: "ProjectNotFound",
    says: /^spec\.rules\[1\]\.projects: there is no Project shop yet; apply it$/,
    counting: 1,
    waits: true,
  },
  {
    because: "a project that does not admit the namespace must change",
    rules: [reader({ environments: ["pro", "dev"] })],
    reason: "NamespaceNotAdmitted",
    says: /^spec\.rules\[0\]\.projects: Project payments does not admit namespace payments for environment dev; add it to .*spec\.namespaces/,
    counting: 0,
    waits: false,
  },
  {
    because: "an environment that is not declared is told from one that is not admitted",
    rules: [reader({ environments: ["test"] }), reader()],
    reason: "EnvironmentNotDeclared",
    says: /^spec\.rules\[0\]\.environments: Project payments has no environment test, it has dev, pro$/,
    counting: 1,
    waits: false,
  },
  {
    because: "what can still come is told first",
    rules: [reader({ environments: ["test"] }), reader({ projects: ["shop"] })],
    reason: "ProjectNotFound",
    says: /^spec\.rules\[1\]\.projects: there is no Project shop yet; apply it; spec\.rules\[0\]\.environments: /,
    counting: 0,
    waits: true,
  },
  {
    because: "of many faults the first are told",
    rules: Array.from({ length: 8 }, () => reader({ environments: ["test"] })),
    reason: "EnvironmentNotDeclared",
    says: /; and 3 more$/,
    counting: 0,
    waits: false,
  },
])("$because", ({ rules, reason, says, counting, waits }) => {
  const { status, next } = decided(rules);
  expect(status.conditions).toMatchObject([{ type: "Effective", status: "False", reason }]);
  expect(status.conditions[0]?.message).toMatch(says);
  expect(status.fields).toEqual({ rules: counting });
  expect(next).toMatchObject(waits ? { kind: "settled" } : { kind: "stalled", reason });
});

test("of many subjects the first are shown", () => {
  const subjects = Array.from({ length: 5 }, (_, index) => ({
    serviceAccount: { namespace: "payments", name: `app-${index}` },
  }));
  expect(decided([reader()], [payments], subjects).status.message).toMatch(
    /^grants ServiceAccount payments\/app-0, ServiceAccount payments\/app-1, ServiceAccount payments\/app-2 and 2 more: /,
  );
});
