import { type AccessSubject, ROLES, type Verb } from "../../crds/access.ts";
import type { AccessPolicySpec } from "../../crds/accesspolicy.ts";
import type { ProjectSpec } from "../../crds/project.ts";
import { AccessPolicies, type Target, verbsOf } from "./policy.ts";
import { type Authenticated, describeAccessSubject, type Subject } from "./subject.ts";
import { namespaceOf, policyOf, projectOf, World } from "./testing/world.ts";

const orders: AccessSubject = { serviceAccount: { namespace: "payments", name: "orders" } };
const ordersAccount: Subject = { kind: "ServiceAccount", namespace: "payments", name: "orders", uid: "u1" };
const ada: Subject = { kind: "LocalUser", id: "u-ada", email: "ada@example.com" };
const adaByName: AccessSubject = { localUser: { id: "u-ada" } };

const asIs = (subject: Subject): Authenticated => ({ subject, via: "Token", id: "t1" });
const ordersDb: Target = {
  kind: "Secret",
  project: "payments",
  environment: "pro",
  namespace: "payments",
  name: "orders-db",
};

const payments = (spec: Partial<ProjectSpec> = {}) =>
  projectOf("payments", {
    namespaces: [
      { name: "payments", environments: ["pro"] },
      { selector: { matchLabels: { team: "payments" } }, environments: ["dev"] },
    ],
    ...spec,
  });
const namespaces = [namespaceOf("payments"), namespaceOf("payments-dev", { team: "payments" }), namespaceOf("hr")];

type Rule = AccessPolicySpec["rules"][number];
const reader = (change: Partial<Rule> = {}): Rule => ({
  projects: ["payments"],
  environments: ["pro"],
  role: "reader",
  ...change,
});
const readers = (...rules: Rule[]) => policyOf("payments", "readers", [orders], ...rules);
const world = (...objects: Parameters<World["set"]>[0][]) => new World(payments(), ...namespaces, ...objects);
const decide = (source: World, who: Subject, verb: Verb, target: Target) =>
  new AccessPolicies(source).decide(asIs(who), verb, target);

describe("allowed, because", () => {
  test.each<{ because: string; source: World; who?: Subject; verb?: Verb; target?: Target; reason: string }>([
    {
      because: "a policy of the namespace grants it",
      source: world(readers(reader())),
      reason: "AccessPolicy payments/readers rules[0] grants read on project payments, environment pro",
    },
    {
      because: "the pattern matches the name",
      source: world(readers(reader({ secrets: ["shared"] }), reader({ secrets: ["orders-*"] }))),
      reason: "AccessPolicy payments/readers rules[1] grants read on project payments, environment pro",
    },
    {
      because: "the project grants it in every namespace that it admits",
      source: new World(
        payments({ access: [{ subjects: [adaByName], environments: ["dev", "pro"], verbs: ["rotate"] }] }),
        ...namespaces,
      ),
      who: ada,
      verb: "rotate",
      target: { ...ordersDb, environment: "dev", namespace: "payments-dev" },
      reason: "Project payments access[0] grants rotate on project payments, environment dev",
    },
    {
      because: "a role of the installation grants it, whatever the project",
      source: world(),
      who: { ...ada, role: "auditor" },
      verb: "audit",
      target: { kind: "Audit" },
      reason: "role auditor of LocalUser ada@example.com grants audit in the whole installation",
    },
    {
      because: "several grants cover the environments together",
      source: new World(
        payments({
          access: ["dev", "pro"].map((name) => ({
            subjects: [adaByName],
            environments: [name],
            role: "auditor" as const,
          })),
        }),
        ...namespaces,
      ),
      who: ada,
      verb: "audit",
      target: { kind: "Audit", project: "payments" },
      reason:
        "Project payments access[0] and Project payments access[1] grant audit on project payments, environment dev, pro",
    },
    {
      because: "a certificate belongs to the environments of its namespace",
      source: world(readers(reader({ certificates: ["*-tls"], role: "operator" }))),
      verb: "revoke",
      target: { kind: "Certificate", namespace: "payments", name: "orders-tls" },
      reason: "AccessPolicy payments/readers rules[0] grants revoke on project payments, environment pro",
    },
    {
      because: "a client certificate is known by its fingerprint, however that is written",
      source: world(
        policyOf(
          "payments",
          "clients",
          [{ clientCertificate: { fingerprint: "AB:".repeat(31).concat("AB") } }],
          reader(),
        ),
      ),
      who: { kind: "Client", name: "orders", fingerprint: "ab".repeat(32) },
      reason: "AccessPolicy payments/clients rules[0] grants read on project payments, environment pro",
    },
  ])("$because", ({ source, who = ordersAccount, verb = "read", target = ordersDb, reason }) => {
    expect(decide(source, who, verb, target)).toMatchObject({ allowed: true, reason, grant: expect.any(String) });
  });
});

describe("denied, because", () => {
  const admin = new World(
    payments({ access: [{ subjects: [orders], environments: ["dev", "pro"], role: "admin" }] }),
    projectOf("hr", { namespaces: [{ name: "hr", environments: ["pro"] }] }),
    ...namespaces,
  );
  test.each<{ because: string; source: World; who?: Subject; verb?: Verb; target?: Target; reason: string | RegExp }>([
    {
      because: "nothing grants anything by default",
      source: world(),
      reason: "no grant: ServiceAccount payments/orders has no read on project payments, environment pro",
    },
    {
      because: "the policy names somebody else",
      source: world(readers(reader())),
      who: { ...ordersAccount, namespace: "hr" } as Subject,
      reason: "no grant: ServiceAccount hr/orders has no read on project payments, environment pro",
    },
    {
      because: "the grant is for another environment",
      source: new World(
        payments({ access: [{ subjects: [adaByName], environments: ["dev"], role: "reader" }] }),
        ...namespaces,
      ),
      who: ada,
      reason:
        "no grant: LocalUser ada@example.com has no read on project payments, environment pro; " +
        "Project payments access[0] covers environment dev, not pro",
    },
    {
      because: "the grant that comes nearest lacks the verb",
      source: world(readers(reader({ environments: ["dev"], secrets: ["x"] }), reader())),
      verb: "write",
      reason:
        "no grant: ServiceAccount payments/orders has no write on project payments, environment pro; " +
        "AccessPolicy payments/readers rules[1] grants list, read, not write",
    },
    {
      because: "the role of the installation lacks the verb",
      source: world(),
      who: { ...ada, role: "auditor" },
      reason:
        "no grant: LocalUser ada@example.com has no read on project payments, environment pro; " +
        "role auditor grants list, audit, not read",
    },
    {
      because: "the rule names other objects",
      source: world(readers(reader({ secrets: ["order-*", "*-orders"], issuers: ["ca"] }))),
      reason:
        "no grant: ServiceAccount payments/orders has no read on project payments, environment pro; " +
        "AccessPolicy payments/readers rules[0] covers secrets order-*, *-orders, issuers ca, not Secret orders-db",
    },
    {
      because: "a rule that names objects does not cover all of them",
      source: world(readers(reader({ secrets: ["orders-*"] }))),
      verb: "list",
      target: { kind: "Secret", project: "payments", environment: "pro", namespace: "payments" },
      reason: /covers secrets orders-\*, not every Secret$/,
    },
    {
      because: "a policy reaches its own namespace only",
      source: world(readers(reader({ environments: ["dev", "pro"] }))),
      target: { ...ordersDb, environment: "dev", namespace: "payments-dev" },
      reason: "no grant: ServiceAccount payments/orders has no read on project payments, environment dev",
    },
    {
      because: "a policy does not reach what is wider than a namespace",
      source: world(readers(reader({ role: "admin", environments: ["dev", "pro"] }))),
      verb: "audit",
      target: { kind: "Audit", project: "payments" },
      reason: "no grant: ServiceAccount payments/orders has no audit on project payments, environment dev",
    },
    {
      because: "a policy does not reach the project itself, even where its namespace is named",
      source: world(readers(reader({ role: "admin", environments: ["dev", "pro"] }))),
      verb: "administer",
      target: { kind: "Project", project: "payments", environment: "pro", namespace: "payments" },
      reason: "no grant: ServiceAccount payments/orders has no administer on project payments, environment pro",
    },
    {
      because: "the project does not admit the namespace for that environment",
      source: world(readers(reader({ environments: ["dev"] }))),
      target: { ...ordersDb, environment: "dev" },
      reason:
        "no grant: Project payments does not admit namespace payments for environment dev, so only a role of the installation covers it",
    },
    {
      because: "the project does not admit the namespace at all",
      source: admin,
      target: { ...ordersDb, namespace: "hr" },
      reason: /Project payments does not admit namespace hr for environment pro,/,
    },
    {
      because: "the project does not exist",
      source: world(readers(reader({ projects: ["shop"] }))),
      target: { ...ordersDb, project: "shop" },
      reason: /there is no Project shop,/,
    },
    {
      because: "the namespace was made anew under its name",
      source: world(readers(reader())),
      target: { ...ordersDb, namespaceUid: "uid of the one before" },
      reason: /it belongs to a namespace payments that is gone/,
    },
    {
      because: "the environment is left out, and one of them has no grant",
      source: world(readers(reader({ environments: ["dev"] }))),
      target: { kind: "Secret", project: "payments", namespace: "payments", name: "orders-db" },
      reason: /covers environment dev, not pro$/,
    },
    {
      because: "a certificate belongs to every project that admits its namespace",
      source: new World(
        payments({ access: [{ subjects: [orders], environments: ["dev", "pro"], role: "admin" }] }),
        projectOf("platform", { namespaces: [{ name: "payments", environments: ["dev"] }] }),
        ...namespaces,
      ),
      target: { kind: "Certificate", namespace: "payments", name: "orders-tls", project: "payments" },
      reason: /has no read on project platform, environment dev/,
    },
    {
      because: "the admin of one project is nobody in another",
      source: admin,
      target: { ...ordersDb, project: "hr", namespace: "hr" },
      reason: /covers project payments, not hr$/,
    },
    {
      because: "users and keys belong to no project",
      source: admin,
      verb: "administer",
      target: { kind: "Identity", project: "payments" },
      reason: /users and keys belong to no project,/,
    },
    {
      because: "gateways belong to no project",
      source: admin,
      verb: "list",
      target: { kind: "Gateway", name: "gw-npr-primary", project: "payments" },
      reason: /gateways belong to no project,/,
    },
    {
      because: "no policy can name a subject of an identity provider",
      source: world(readers(reader())),
      who: { kind: "External", provider: "entra", tenant: "t", objectId: "o", appRoles: ["admin"], groups: [] },
      reason: "no grant: entra t/o has no read on project payments, environment pro",
    },
  ])("$because", ({ source, who = ordersAccount, verb = "read", target = ordersDb, reason }) => {
    const decision = decide(source, who, verb, target);
    expect(decision).toEqual({ allowed: false, reason: expect.any(String) });
    expect(decision.reason).toMatch(reason);
  });

  test("what is being deleted grants nothing, and goes with its namespace", () => {
    const deletionTimestamp = "2026-01-01T00:00:00Z";
    const leaving = <T extends { metadata: object }>(object: T): T => ({
      ...object,
      metadata: { ...object.metadata, deletionTimestamp },
    });
    const policy = readers(reader());
    expect(decide(world(policy), ordersAccount, "read", ordersDb).allowed).toBe(true);
    expect(decide(world(leaving(policy)), ordersAccount, "read", ordersDb).allowed).toBe(false);
    expect(decide(world(policy, leaving(payments())), ordersAccount, "read", ordersDb).allowed).toBe(false);
    expect(decide(world(policy, leaving(namespaceOf("payments"))), ordersAccount, "read", ordersDb).allowed).toBe(
      false,
    );
  });
});

describe("the scopes of an API key", () => {
  const key = (scopes: readonly Verb[], subject: Subject = ordersAccount): Authenticated => ({
    subject,
    via: "ApiKey",
    id: "k1",
    scopes,
  });
  const policies = new AccessPolicies(world(readers(reader({ role: "operator" }))));

  test("take away, also from a role of the installation", () => {
    expect(policies.decide(key(["list", "read"]), "read", ordersDb).allowed).toBe(true);
    expect(policies.decide(key(["list", "read"]), "write", ordersDb)).toEqual({
      allowed: false,
      reason: "ApiKey k1 is limited to list, read, not write",
    });
    expect(policies.decide(key([]), "read", ordersDb).reason).toBe("ApiKey k1 is limited to nothing, not read");
    expect(policies.decide(key(["list"], { ...ada, role: "admin" }), "read", ordersDb).allowed).toBe(false);
  });

  test("add nothing", () => {
    expect(policies.decide(key(["audit"]), "audit", ordersDb).allowed).toBe(false);
  });
});

test("each role does what its verbs say with each kind, and nothing else is done by anybody", () => {
  const policies = new AccessPolicies(world());
  const kinds = Object.keys(verbsOf) as Target["kind"][];
  for (const role of Object.keys(ROLES) as (keyof typeof ROLES)[]) {
    for (const verb of ROLES.admin) {
      for (const kind of kinds) {
        const { allowed } = policies.decide(asIs({ ...ada, role }), verb, { kind });
        expect({ role, verb, kind, allowed }).toEqual({
          role,
          verb,
          kind,
          allowed: ROLES[role].includes(verb) && verbsOf[kind].includes(verb),
        });
      }
    }
  }
});

describe("explained", () => {
  const release: AccessSubject = { clientCertificate: { name: "release" } };
  const source = new World(
    payments({ access: [{ subjects: [adaByName, release], environments: ["pro"], verbs: ["list", "read", "write"] }] }),
    ...namespaces,
    policyOf(
      "payments",
      "readers",
      [orders, adaByName],
      reader({ secrets: ["orders-*"] }),
      reader({ secrets: ["hr-*"] }),
    ),
    policyOf("payments-dev", "readers", [adaByName], reader({ environments: ["dev"] })),
    policyOf("hr", "readers", [orders], reader()),
  );
  const policies = new AccessPolicies(source);

  test("every grant of a subject, and whether it counts", () => {
    expect(policies.explain({ ...ada, role: "auditor" }, "read", ordersDb)).toEqual([
      { grant: "role auditor", counts: false, reason: "grants list, audit, not read" },
      {
        grant: "AccessPolicy payments/readers rules[0]",
        counts: true,
        reason: "grants list, read on project payments, environment pro",
      },
      {
        grant: "AccessPolicy payments/readers rules[1]",
        counts: false,
        reason: "covers secrets hr-*, not Secret orders-db",
      },
      {
        grant: "AccessPolicy payments-dev/readers rules[0]",
        counts: false,
        reason: "covers namespace payments-dev, not payments; covers environment dev, not pro",
      },
      {
        grant: "Project payments access[0]",
        counts: true,
        reason: "grants list, read, write on project payments, environment pro",
      },
    ]);
  });

  test("where nothing can count, because the project does not admit the namespace", () => {
    expect(policies.explain(ordersAccount, "read", { ...ordersDb, namespace: "hr" })).toEqual(
      [
        "AccessPolicy payments/readers rules[0]",
        "AccessPolicy payments/readers rules[1]",
        "AccessPolicy hr/readers rules[0]",
      ].map((grant) => ({
        grant,
        counts: false,
        reason: "Project payments does not admit namespace hr for environment pro",
      })),
    );
  });

  const holders = (verb: Verb, target: Target) =>
    policies.whoCan(verb, target).map(({ id, subjects }) => `${id}: ${subjects.map(describeAccessSubject).join(", ")}`);

  test("who can do something", () => {
    expect(holders("read", ordersDb)).toEqual([
      "AccessPolicy payments/readers rules[0]: ServiceAccount payments/orders, LocalUser u-ada",
      "Project payments access[0]: LocalUser u-ada, Client release",
    ]);
    expect(holders("write", ordersDb)).toEqual(["Project payments access[0]: LocalUser u-ada, Client release"]);
    expect(holders("issue", ordersDb)).toEqual([]);
    expect(holders("read", { ...ordersDb, namespace: "hr" })).toEqual([]);
  });

  test("who can do it in every environment that is meant", () => {
    const anywhere: Target = { kind: "SyncRule", project: "payments" };
    expect(holders("list", anywhere)).toEqual([]);
    expect(holders("list", { ...anywhere, environment: "pro" })).toEqual([
      "Project payments access[0]: LocalUser u-ada, Client release",
    ]);
  });
});
