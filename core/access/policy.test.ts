import type { AccessSubject, Verb } from "../../crds/access.ts";
import { AccessPolicies, type Target } from "./policy.ts";
import type { Authenticated, Subject } from "./subject.ts";
import { namespaceOf, policyOf, projectOf, World } from "./testing/world.ts";

const orders: AccessSubject = { serviceAccount: { namespace: "payments", name: "orders" } };
const ordersAccount: Subject = { kind: "ServiceAccount", namespace: "payments", name: "orders", uid: "u1" };
const ada: Subject = { kind: "LocalUser", id: "u-ada", email: "ada@example.com" };

const password = (subject: Subject): Authenticated => ({ subject, via: "Password", id: "s1" });
const secret: Target = {
  kind: "Secret",
  project: "payments",
  environment: "pro",
  namespace: "payments",
  name: "orders-db",
};

const payments = projectOf("payments", {
  namespaces: [
    { name: "payments", environments: ["pro"] },
    { selector: { matchLabels: { team: "payments" } }, environments: ["dev"] },
  ],
});
const namespaces = [namespaceOf("payments"), namespaceOf("payments-dev", { team: "payments" }), namespaceOf("hr")];
const reading = { projects: ["payments"], environments: ["pro"], role: "reader" as const };

const decide = (world: World, who: Authenticated, verb: Verb, target: Target) =>
  new AccessPolicies(world).decide(who, verb, target);

test("nobody may do anything by default", () => {
  expect(decide(new World(payments, ...namespaces), password(ordersAccount), "read", secret)).toEqual({
    allowed: false,
    reason: "no grant: ServiceAccount payments/orders has no read on project payments, environment pro",
  });
});

test("a policy grants what it says in its own namespace", () => {
  const world = new World(payments, ...namespaces, policyOf("payments", "readers", [orders], reading));
  expect(decide(world, password(ordersAccount), "read", secret)).toEqual({
    allowed: true,
    reason: "AccessPolicy payments/readers rules[0] grants read on project payments, environment pro",
    grant: "AccessPolicy payments/readers rules[0]",
  });
  expect(decide(world, password(ordersAccount), "write", secret).allowed).toBe(false);
  expect(decide(world, password(ada), "read", secret).allowed).toBe(false);
});
