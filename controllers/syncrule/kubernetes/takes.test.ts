import type { PulledItem, SourceEntry } from "../../../core/ports/sync-store.ts";
import type { KubernetesTarget } from "../../../crds/syncrule.ts";
import { allows, planTakes, type Takes, wantedValues } from "./takes.ts";
import { external, literal, ruleOf, secretOf } from "./testing/tenants.ts";

const jobs = { name: "jobs", uid: "uid-jobs" };
const letGo = { "mazevault.io/allow-pull": "pay" };

interface Case {
  readonly title: string;
  /** Annotations of what stands there; null: nothing does. */
  readonly there?: Record<string, string> | null;
  readonly resourceVersion?: string;
  /** What differs in what was taken last; absent: nothing was. */
  readonly base?: Partial<PulledItem>;
  /** What is stored now. */
  readonly fingerprint?: string;
  readonly keys?: KubernetesTarget["keys"];
  readonly expected: "InStep" | "Due" | { readonly reason: string; readonly says: RegExp };
  readonly forgets?: true;
}

const cases: readonly Case[] = [
  { title: "never taken", expected: "Due" },
  { title: "taken as it stands", base: {}, fingerprint: "f1", expected: "InStep" },
  { title: "changed there", base: {}, fingerprint: "f1", resourceVersion: "8", expected: "Due" },
  { title: "written here", base: {}, fingerprint: "f2", expected: "Due" },
  { title: "taken from another place", base: { vaultUrl: "https://v/" }, fingerprint: "f1", expected: "Due" },
  { title: "taken from another key", base: { targetVersion: "core/7/TOKEN" }, fingerprint: "f1", expected: "Due" },
  { title: "taken by a rule that is gone", base: { ruleUid: "gone" }, fingerprint: "f1", expected: "Due" },
  {
    title: "taken by another rule",
    base: { ruleUid: "other" },
    fingerprint: "f1",
    expected: { reason: "PulledByOther", says: /another SyncRule \(uid other\) takes partner\/token over/ },
  },
  {
    title: "not there",
    there: null,
    expected: {
      reason: "TargetMissing",
      says: /^there is no core Secret jobs\/partner with the annotation mazevault.io\/allow-pull: pay; create it, or have its owner annotate it$/,
    },
  },
  {
    title: "not let go, told like what is not there",
    there: {},
    expected: {
      reason: "TargetMissing",
      says: /^there is no core Secret jobs\/partner with the annotation mazevault.io\/allow-pull: pay; create it, or have its owner annotate it$/,
    },
  },
  {
    title: "let go to another namespace",
    there: { "mazevault.io/allow-pull": "pay-other,otherpay" },
    expected: { reason: "TargetMissing", says: /no core Secret/ },
  },
  {
    title: "no longer let go",
    there: {},
    base: {},
    fingerprint: "f1",
    expected: { reason: "TargetMissing", says: /partner\/token keeps the value that it had$/ },
  },
  {
    title: "delivered by us",
    there: { ...letGo, "mazevault.io/installation": "here", "mazevault.io/delivered-from": "pay/db" },
    expected: { reason: "TargetNotOwned", says: /was delivered by MazeVault from pay\/db/ },
  },
  {
    title: "delivered by another installation",
    there: { ...letGo, "mazevault.io/installation": "elsewhere", "mazevault.io/delivered-from": "pay/db" },
    expected: "Due",
  },
  {
    title: "a key that is no external entry",
    keys: [{ from: "user", to: "USER" }],
    expected: { reason: "TargetKeyUnknown", says: /no external entry user/ },
  },
  {
    title: "an entry that the rule no longer takes",
    keys: [{ from: "user", to: "USER" }],
    base: {},
    fingerprint: "f1",
    expected: { reason: "TargetKeyUnknown", says: /no external entry user/ },
    forgets: true,
  },
];

test.each(cases)("$title", ({ expected, forgets, ...given }) => {
  const { there = letGo, resourceVersion = "7", fingerprint } = given;
  const rule = ruleOf(
    "pay",
    "r",
    { namespaces: ["jobs"], ...(given.keys && { keys: given.keys }) },
    { direction: "Pull" },
  );
  const secret = secretOf("pay", "partner", { entries: [literal("user"), external("token")] });
  const source: SourceEntry = {
    secretId: "id",
    secretName: "partner",
    version: 1,
    key: "token",
    recipe: "r",
    fingerprint: fingerprint ?? "",
  };
  const base: PulledItem = {
    secretId: "id",
    key: "token",
    ruleUid: rule.metadata.uid,
    vaultUrl: "kubernetes:uid-jobs",
    entryName: "partner/token",
    fingerprint: "f1",
    targetVersion: "core/7/token",
    targetUpdatedOn: new Date(0),
    settled: false,
    ...given.base,
  };
  const { entries, failures } = wantedValues(rule, [secret], fingerprint === undefined ? [] : [source]);
  const plan: Takes = planTakes({
    ruleUid: rule.metadata.uid,
    ownNamespace: "pay",
    installation: "here",
    namespace: jobs,
    coreSecret: (name) =>
      there === null ? undefined : { metadata: { name, uid: "core", resourceVersion, annotations: there } },
    wanted: entries,
    pulled: given.base === undefined ? [] : [base],
    rules: new Set([rule.metadata.uid, "other"]),
  });
  const found = [...failures, ...plan.failures];
  expect(plan.forget).toEqual(forgets ? [base] : []);
  if (typeof expected === "object") {
    const { reason, says } = expected;
    expect(found).toEqual([expect.objectContaining({ reason, message: expect.stringMatching(says) })]);
    expect([plan.inStep, plan.due]).toEqual([0, []]);
    return;
  }
  expect(found).toEqual([]);
  expect([plan.inStep, plan.due.length]).toEqual(expected === "InStep" ? [1, 0] : [0, 1]);
});

test("all of a Secret is taken together, from the keys that the rule names", () => {
  const rule = ruleOf(
    "pay",
    "r",
    {
      namespaces: ["jobs"],
      secretName: "x-{secret}",
      keys: [
        { from: "a", to: "A" },
        { from: "b", to: "B" },
      ],
    },
    { direction: "Pull" },
  );
  const secret = secretOf("pay", "partner", { entries: [external("a"), external("b"), external("c")] });
  const { entries } = wantedValues(rule, [secret], []);
  expect(entries.map(({ key, coreName, to, entryName }) => [key, coreName, to, entryName])).toEqual([
    ["a", "x-partner", "A", "jobs/x-partner/A"],
    ["b", "x-partner", "B", "jobs/x-partner/B"],
  ]);
});

test.each([
  ["pay", true],
  [" other , pay ", true],
  ["", false],
  ["*", false],
  ["payx", false],
])("allow-pull: %j lets pay take: %s", (value, expected) => {
  const metadata = { name: "x", uid: "u", resourceVersion: "1", annotations: { "mazevault.io/allow-pull": value } };
  expect(allows({ metadata }, "pay")).toBe(expected);
});
