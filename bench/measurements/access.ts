/** Deciding access among 10,000 policies, in memory as the operator has them; nothing else is running in it. */
import { AccessPolicies, type Target } from "../../core/access/policy.ts";
import type { Authenticated } from "../../core/access/subject.ts";
import { namespaceOf, policyOf, projectOf, World } from "../../core/access/testing/world.ts";
import type { AccessPolicy } from "../../crds/accesspolicy.ts";
import { range } from "../in-flight.ts";
import type { Figure, Result } from "../result.ts";

const PROJECTS = 100;
const NAMESPACES_OF_PROJECT = 5;
const POLICIES_OF_NAMESPACE = 20;
const DECISIONS = 200_000;
const POLICIES = PROJECTS * NAMESPACES_OF_PROJECT * POLICIES_OF_NAMESPACE;

const account = (namespace: string, name: string) => ({ serviceAccount: { namespace, name } });

/** A policy for one application, and for a deployer that every policy of every namespace names. */
const policy = (project: string, namespace: string, index: number): AccessPolicy =>
  policyOf(
    namespace,
    `policy-${index}`,
    [account(namespace, `app-${index}`), account("ci", "deployer")],
    { projects: [project], environments: ["dev"], secrets: [`app-${index}-*`, "shared"], role: "operator" },
    { projects: [project], environments: ["pro"], secrets: [`app-${index}-*`, "shared"], role: "reader" },
  );

const admission = (index: number, of: number) => ({
  name: `ns-${index}-${of}`,
  environments: ["dev", "pro"],
});

export async function access(): Promise<Result> {
  const world = new World();
  for (const index of range(PROJECTS)) {
    const namespaces = range(NAMESPACES_OF_PROJECT).map((of) => admission(index, of));
    world.set(projectOf(`project-${index}`, { namespaces }));
    for (const { name } of namespaces) {
      world.set(namespaceOf(name));
      for (const each of range(POLICIES_OF_NAMESPACE)) world.set(policy(`project-${index}`, name, each));
    }
  }
  const policies = new AccessPolicies(world);
  const decide = (name: string, change: Partial<Target>, allowed: boolean, namespace?: string) => (): void => {
    const index = Math.floor(Math.random() * PROJECTS);
    const at = `ns-${index}-${index % NAMESPACES_OF_PROJECT}`;
    const who: Authenticated = {
      subject: { kind: "ServiceAccount", namespace: namespace ?? at, name, uid: "u" },
      via: "ServiceAccountToken",
      id: "t",
    };
    const target: Target = {
      kind: "Secret",
      project: `project-${index}`,
      environment: "pro",
      namespace: at,
      ...change,
    };
    if (policies.decide(who, "read", target).allowed !== allowed) throw new Error(`${name} was decided otherwise`);
  };
  return {
    name: `access-${POLICIES}`,
    figures: [
      perCall("an application reads its own", decide("app-7", { name: "app-7-db" }, true)),
      perCall("an application is refused another's", decide("app-7", { name: "app-8-db" }, false)),
      perCall("nobody knows who asks", decide("stranger", { name: "app-7-db" }, false)),
      perCall("somebody whom every policy names reads", decide("deployer", { name: "app-19-db" }, true, "ci")),
      perCall("a policy changes", () => world.set(policy("project-1", "ns-1-0", 3))),
    ],
  };
}

/** The first tenth warms up. */
function perCall(what: string, call: () => void): Figure {
  for (const _ of range(DECISIONS / 10)) call();
  const before = process.cpuUsage();
  for (const _ of range(DECISIONS)) call();
  const { user, system } = process.cpuUsage(before);
  return { what: `${what}, CPU each`, value: (user + system) / DECISIONS, unit: "µs" };
}
