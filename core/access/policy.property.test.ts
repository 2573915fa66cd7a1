/** What holds for every set of projects and policies, whatever is in them. */
import fc from "fast-check";
import { type AccessSubject, ROLE_NAMES, ROLES, VERBS } from "../../crds/access.ts";
import type { AccessPolicy, AccessPolicySpec } from "../../crds/accesspolicy.ts";
import type { Project } from "../../crds/project.ts";
import { admittedEnvironments } from "./admission.ts";
import { AccessPolicies, type Target, type Verb, verbsOf } from "./policy.ts";
import { accessSubjectKey, type Subject, subjectKeys } from "./subject.ts";
import { namespaceOf, policyOf, projectOf, World } from "./testing/world.ts";

const PROJECTS = ["payments", "hr"];
const ENVIRONMENTS = ["dev", "pro"];
const NAMESPACES = ["payments", "shared"];
const NAMES = ["orders-db", "hr-db"];

/** The same party as it comes in, and as a policy names it. */
const parties: readonly { readonly subject: Subject; readonly named: AccessSubject }[] = [
  {
    subject: { kind: "ServiceAccount", namespace: "payments", name: "orders", uid: "u" },
    named: { serviceAccount: { namespace: "payments", name: "orders" } },
  },
  {
    subject: { kind: "ServiceAccount", namespace: "shared", name: "orders", uid: "u" },
    named: { serviceAccount: { namespace: "shared", name: "orders" } },
  },
  { subject: { kind: "LocalUser", id: "orders", email: "ada@example.com" }, named: { localUser: { id: "orders" } } },
  {
    subject: { kind: "Client", name: "payments orders", fingerprint: "0f".repeat(32) },
    named: { clientCertificate: { name: "payments orders" } },
  },
];

const some = <T>(values: readonly T[]) => fc.subarray([...values], { minLength: 1 });
const patterns = fc.option(some(["*", "orders-*", "*-db", "hr-db"]), { nil: undefined });
const granted = {
  environments: some(ENVIRONMENTS),
  secrets: patterns,
  certificates: patterns,
  role: fc.constantFrom(...ROLE_NAMES, undefined),
};
const withVerbs = <T extends { role: unknown }>(rules: fc.Arbitrary<T>) =>
  fc.tuple(rules, some(VERBS)).map(([rule, verbs]) => (rule.role === undefined ? { ...rule, verbs } : rule));
const subjects = some(parties.map(({ named }) => named));

const policy: fc.Arbitrary<AccessPolicy> = fc
  .record({
    namespace: fc.constantFrom(...NAMESPACES),
    name: fc.constantFrom("a", "b", "c"),
    subjects,
    rules: fc.array(withVerbs(fc.record({ projects: some(PROJECTS), ...granted })), { minLength: 1, maxLength: 3 }),
  })
  .map(({ namespace, name, rules, ...rest }) =>
    policyOf(namespace, name, rest.subjects, ...(rules as AccessPolicySpec["rules"])),
  );
const admission = fc.record({ name: fc.constantFrom(...NAMESPACES), environments: some(ENVIRONMENTS) });
const project = (name: string): fc.Arbitrary<Project> =>
  fc
    .record({
      namespaces: fc.array(admission, { maxLength: 3 }),
      access: fc.array(withVerbs(fc.record({ subjects, ...granted })), { maxLength: 2 }),
    })
    .map((spec) => projectOf(name, spec as Partial<Project["spec"]>));
interface Cluster {
  readonly projects: readonly Project[];
  readonly policies: readonly AccessPolicy[];
}
const cluster: fc.Arbitrary<Cluster> = fc.record({
  projects: fc.tuple(...PROJECTS.map(project)),
  policies: fc.uniqueArray(policy, {
    maxLength: 5,
    selector: ({ metadata }) => `${metadata.namespace}/${metadata.name}`,
  }),
});

/** Mostly one of these, now and then one that there is not, or none. */
const mostly = (values: readonly string[], unknown: string) =>
  fc.oneof(
    { weight: 8, arbitrary: fc.constantFrom(...values) },
    { weight: 1, arbitrary: fc.constantFrom(unknown, undefined) },
  );
const target: fc.Arbitrary<Target> = fc
  .record({
    kind: fc.oneof(
      { weight: 3, arbitrary: fc.constantFrom<Target["kind"]>("Secret", "Certificate") },
      { weight: 1, arbitrary: fc.constantFrom(...(Object.keys(verbsOf) as Target["kind"][])) },
    ),
    project: mostly(PROJECTS, "nowhere"),
    environment: mostly(ENVIRONMENTS, "hot"),
    namespace: mostly(NAMESPACES, "elsewhere"),
    name: mostly(NAMES, "*"),
  })
  .map((fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never);
const question: fc.Arbitrary<Question> = fc.record({
  party: fc.constantFrom(...parties),
  verb: fc.constantFrom<Verb>("list", "list", "read", "write", "issue", "audit", "administer"),
  target,
});
interface Question {
  readonly party: (typeof parties)[number];
  readonly verb: Verb;
  readonly target: Target;
}

const policiesOf = ({ projects, policies }: Cluster): AccessPolicies =>
  new AccessPolicies(new World(...NAMESPACES.map((name) => namespaceOf(name)), ...projects, ...policies));
const allowed = (access: AccessPolicies, { party, verb, target: asked }: Question, scopes?: readonly Verb[]): boolean =>
  access.decide({ subject: party.subject, via: "ApiKey", id: "k", ...(scopes && { scopes }) }, verb, asked).allowed;

interface Answer {
  readonly asked: Question;
  readonly allowed: boolean;
}

/** `wrong` finds none, for clusters and questions of which enough are allowed that this says something. */
const holds = (wrong: (cluster: Cluster, answers: readonly Answer[]) => readonly Answer[]): void => {
  let yes = 0;
  fc.assert(
    fc.property(cluster, fc.array(question, { minLength: 20, maxLength: 20 }), (given, questions) => {
      const access = policiesOf(given);
      const answered = questions.map((asked) => ({ asked, allowed: allowed(access, asked) }));
      yes += answered.filter((answer) => answer.allowed).length;
      expect(wrong(given, answered)).toEqual([]);
    }),
    { numRuns: 100 },
  );
  expect(yes).toBeGreaterThan(50);
};

/** The rules of the house once more, as simply as they can be said. */
function expected({ projects, policies }: Cluster, { party, verb, target: asked }: Question): boolean {
  const { kind, name } = asked;
  const namespace = kind === "Project" ? undefined : asked.namespace;
  if (!verbsOf[kind].includes(verb) || kind === "Identity" || kind === "Gateway") return false;
  const keys = subjectKeys(party.subject);
  const patternsFor = ({ secrets, certificates }: { secrets?: unknown; certificates?: unknown }) =>
    secrets === undefined && certificates === undefined
      ? ["*"]
      : (({ Secret: secrets, Certificate: certificates }[kind as "Secret"] as string[] | undefined) ?? []);
  const matches = (pattern: string) =>
    name === undefined ? pattern === "*" : new RegExp(`^${pattern.replaceAll("*", ".*")}$`).test(name);
  const ofNamespace = kind === "Certificate" || kind === "Issuer";
  const places = projects.flatMap(({ metadata, spec }) =>
    ENVIRONMENTS.filter((environment) => {
      if (!ofNamespace && asked.project !== undefined && asked.project !== metadata.name) return false;
      if (!ofNamespace && asked.environment !== undefined && asked.environment !== environment) return false;
      if (namespace === undefined) return !ofNamespace && asked.project !== undefined;
      return admittedEnvironments(spec, { name: namespace, uid: "", labels: {} }).has(environment);
    }).map((environment) => ({ project: metadata.name, environment })),
  );
  const grants = [
    ...policies
      .filter(({ metadata }) => metadata.namespace === namespace)
      .flatMap(({ spec }) => spec.rules.map((rule) => ({ ...rule, subjects: spec.subjects }))),
    ...projects.flatMap(({ metadata, spec }) =>
      (spec.access ?? []).map((item) => ({ ...item, projects: [metadata.name] })),
    ),
  ];
  return (
    places.length > 0 &&
    places.every((place) =>
      grants.some(
        (grant) =>
          grant.subjects.some((subject) => keys.includes(accessSubjectKey(subject) ?? "none")) &&
          grant.projects.includes(place.project) &&
          grant.environments.includes(place.environment) &&
          (grant.verbs ?? ROLES[grant.role ?? "reader"]).includes(verb) &&
          patternsFor(grant).some(matches),
      ),
    )
  );
}

test("a decision is what the rules say", () => {
  holds((given, answers) => answers.filter((answer) => answer.allowed !== expected(given, answer.asked)));
});

test("taking anything away from what is granted never allows more", () => {
  holds((given, answers) => {
    const denied = answers.filter((answer) => !answer.allowed);
    return [...withOneLess(given)]
      .map(policiesOf)
      .flatMap((less) => denied.filter(({ asked }) => allowed(less, asked)));
  });
});

test("nothing that stands in another namespace, or in another project, decides", () => {
  holds((given, answers) =>
    answers.filter(({ asked, allowed: before }) => {
      const { kind, namespace, project: name } = asked.target;
      const policies = given.policies.filter(({ metadata }) => metadata.namespace === namespace);
      const ofProject = kind !== "Certificate" && kind !== "Issuer" && name !== undefined;
      const projects = given.projects.filter(({ metadata }) => !ofProject || metadata.name === name);
      return allowed(policiesOf({ projects, policies }), asked) !== before;
    }),
  );
});

test("scopes only narrow", () => {
  holds((given, answers) => {
    const access = policiesOf(given);
    return answers.filter(
      ({ asked, allowed: without }) =>
        allowed(access, asked, [...VERBS]) !== without ||
        allowed(access, asked, ["audit", asked.verb]) !== without ||
        allowed(
          access,
          asked,
          VERBS.filter((verb) => verb !== asked.verb),
        ),
    );
  });
});

test("who can do something, and what is explained, is what is decided", () => {
  holds((given, answers) => {
    const access = policiesOf(given);
    return answers.filter(({ asked: { party, verb, target: what }, allowed: decided }) => {
      const holders = access.whoCan(verb, what).flatMap(({ subjects: found }) => found.map(accessSubjectKey));
      const counting = access.explain(party.subject, verb, what).some(({ counts }) => counts);
      // Where several environments are meant, a grant may count for one and another have none.
      const explained = counting === decided || (counting && !isOnePlace(what));
      return holders.includes(accessSubjectKey(party.named)) !== decided || !explained;
    });
  });
});

const isOnePlace = ({ kind, project, environment }: Target): boolean =>
  kind !== "Certificate" && kind !== "Issuer" && project !== undefined && environment !== undefined;

/** Every cluster with one policy, rule, subject, or item of a project's access less. */
function* withOneLess({ projects, policies }: Cluster): Generator<Cluster> {
  for (const [index, policy] of policies.entries()) {
    const { spec } = policy;
    const rules = spec.rules.map((_, at) => ({ ...spec, rules: spec.rules.toSpliced(at, 1) }));
    const subjects = spec.subjects.map((_, at) => ({ ...spec, subjects: spec.subjects.toSpliced(at, 1) }));
    yield { projects, policies: policies.toSpliced(index, 1) };
    for (const less of [...rules, ...subjects]) {
      yield { projects, policies: policies.with(index, { ...policy, spec: less }) };
    }
  }
  for (const [index, project] of projects.entries()) {
    const { access = [] } = project.spec;
    for (const at of access.keys()) {
      const spec = { ...project.spec, access: access.toSpliced(at, 1) };
      yield { policies, projects: projects.with(index, { ...project, spec }) };
    }
  }
}
