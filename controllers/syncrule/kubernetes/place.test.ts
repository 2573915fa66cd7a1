import fc from "fast-check";
import { Stalled, Waiting } from "../../../core/errors.ts";
import { tenancyOf } from "../../cluster.ts";
import { coreSecretName, isCoreSecretName, secretNameFor, targetNamespace } from "./place.ts";
import { ruleOf, Tenants } from "./testing/tenants.ts";

const open = (tenants: Tenants, name: string, direction: "Push" | "Pull" = "Push"): unknown => {
  const rule = ruleOf("pay", "r", { namespaces: [name] }, { direction });
  try {
    return targetNamespace(tenants, rule, tenancyOf(tenants, rule), name);
  } catch (error) {
    if (error instanceof Stalled || error instanceof Waiting) return error;
    throw error;
  }
};

const admitting = (...namespaces: string[]) => new Tenants().admit("pay", "pay", ...namespaces);

test("a namespace that the Project admits is open", () => {
  expect(open(admitting("jobs"), "jobs")).toEqual({ name: "jobs", uid: "uid-jobs" });
});

test.each<{ title: string; tenants: Tenants; name: string; code: string; says: RegExp; direction?: "Pull" }>([
  {
    title: "not admitted",
    tenants: admitting().admit("other", "jobs"),
    name: "jobs",
    code: "NamespaceNotAdmitted",
    says: /namespaces: jobs is not admitted by Project pay for environment pro; add it/,
  },
  {
    title: "neither admitted nor there, told alike",
    tenants: admitting(),
    name: "jobs",
    code: "NamespaceNotAdmitted",
    says: /namespaces: jobs is not admitted by Project pay for environment pro; add it/,
  },
  {
    title: "admitted and not there",
    tenants: (() => {
      const tenants = admitting("jobs");
      tenants.existing.delete("jobs");
      return tenants;
    })(),
    name: "jobs",
    code: "TargetNamespaceNotFound",
    says: /jobs does not exist yet; create it, or leave it out here/,
  },
  {
    title: "on its way out",
    tenants: (() => {
      const tenants = admitting("jobs");
      tenants.closing.add("jobs");
      return tenants;
    })(),
    name: "jobs",
    code: "TargetNamespaceNotFound",
    says: /jobs is being deleted/,
  },
  {
    title: "without rights",
    tenants: (() => {
      const tenants = admitting("jobs");
      tenants.withoutRights.add("jobs");
      return tenants;
    })(),
    name: "jobs",
    code: "NamespaceNotOnboarded",
    says: /no access to namespace jobs yet: RoleBinding mazevault is missing or new/,
  },
  {
    title: "its own, to push into",
    tenants: admitting(),
    name: "pay",
    code: "TargetIsOwnNamespace",
    says: /use spec.deliver of the Secret/,
  },
  {
    title: "its own, to pull from",
    tenants: admitting(),
    name: "pay",
    direction: "Pull",
    code: "TargetIsOwnNamespace",
    says: /use secretRef of an entry/,
  },
])("$title: refused", ({ tenants, name, code, says, direction }) => {
  expect(open(tenants, name, direction)).toMatchObject({ code, message: expect.stringMatching(says) });
});

const labels = fc.stringMatching(/^[a-z]([-a-z0-9]{0,6}[a-z0-9])?$/);

test("a name is told back from its core Secret, and two Secrets of a rule never share one", () => {
  const around = fc.constantFrom(
    "{secret}",
    "a-{secret}",
    "{secret}.z",
    "{namespace}-{secret}",
    "x.{namespace}.{secret}-y",
  );
  fc.assert(
    fc.property(around, labels, labels, labels, (secretName, namespace, one, other) => {
      const rule = ruleOf(namespace, "r", { namespaces: ["jobs"], secretName });
      expect(secretNameFor(rule, coreSecretName(rule, one))).toBe(one);
      expect(coreSecretName(rule, one) === coreSecretName(rule, other)).toBe(one === other);
      expect(isCoreSecretName(coreSecretName(rule, one))).toBe(true);
    }),
  );
});

test("what no Secret is called is told of none", () => {
  const rule = ruleOf("pay", "r", { namespaces: ["jobs"], secretName: "a-{secret}-b" });
  expect(["a-b", "a--b", "b", "a-x", "x-b"].map((name) => secretNameFor(rule, name))).toEqual(Array(5).fill(undefined));
});

test.each(["a..b", "-a", "a-", "a".repeat(254), ""])("%s is no name of a core Secret", (name) => {
  expect(isCoreSecretName(name)).toBe(false);
});
