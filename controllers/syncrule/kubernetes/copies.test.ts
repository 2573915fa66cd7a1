import type { SourceEntry } from "../../../core/ports/sync-store.ts";
import type { DeliveryRecord } from "../../../core/ports/vault-store.ts";
import type { KubernetesTarget } from "../../../crds/syncrule.ts";
import { deliveryFingerprint } from "../../delivery/desired.ts";
import { type Copies, type CopiesInput, desiredCopy, planCopies } from "./copies.ts";
import { literal, ruleOf, secretOf } from "./testing/tenants.ts";

const digests = { digest: (purpose: string, fields: readonly string[]) => `${purpose}(${fields.join()})` };
const entryOf = (key: string, fingerprint = "f1"): SourceEntry => ({
  secretId: "id-db",
  secretName: "db",
  version: 1,
  key,
  recipe: "r",
  fingerprint,
});
const jobs = { name: "jobs", uid: "uid-jobs" };
const target: KubernetesTarget = { namespaces: ["jobs"], restartConsumers: true };

interface Case {
  readonly title: string;
  readonly kubernetes?: Partial<KubernetesTarget>;
  readonly secret?: Parameters<typeof secretOf>[2];
  readonly entries?: readonly SourceEntry[];
  /** What differs in what was delivered last; absent: nothing was. */
  readonly record?: Partial<DeliveryRecord>;
  readonly namespaceUid?: string;
  readonly secretId?: string;
  readonly there?: { readonly uid: string; readonly resourceVersion: string };
  readonly rivalry?: ReturnType<CopiesInput["namespaces"][number]["rivalOf"]>;
  readonly expected: Omit<Partial<Copies>, "due" | "failures"> & {
    readonly due?: readonly string[];
    readonly reasons?: readonly string[];
    readonly says?: RegExp;
  };
}

const delivered = { uid: "core", resourceVersion: "7" };

const cases: readonly Case[] = [
  { title: "nothing was delivered yet", expected: { due: ["jobs/db"] } },
  { title: "it is as it was left", record: {}, there: delivered, expected: { inStep: 1 } },
  {
    title: "somebody touched it",
    record: {},
    there: { uid: "core", resourceVersion: "8" },
    expected: { due: ["jobs/db"] },
  },
  {
    title: "somebody made it anew",
    record: {},
    there: { uid: "other", resourceVersion: "7" },
    expected: { due: ["jobs/db"] },
  },
  { title: "somebody deleted it", record: {}, expected: { due: ["jobs/db"] } },
  {
    title: "the value is another",
    record: {},
    there: delivered,
    entries: [entryOf("password", "f2")],
    expected: { due: ["jobs/db"] },
  },
  {
    title: "the rule wants other labels",
    record: {},
    there: delivered,
    kubernetes: { labels: { tier: "db" } },
    expected: { due: ["jobs/db"] },
  },
  {
    title: "a restart is still to be done",
    record: { pendingRestarts: ["consumers"] },
    there: delivered,
    expected: { due: ["jobs/db"] },
  },
  {
    title: "what is on record is of the namespace before",
    record: {},
    namespaceUid: "uid-former",
    there: delivered,
    expected: { due: ["jobs/db"] },
  },
  {
    title: "what is on record is of another secret",
    record: {},
    secretId: "id-other",
    there: delivered,
    expected: { due: ["jobs/db"] },
  },
  {
    title: "it is called by the pattern",
    kubernetes: { secretName: "{namespace}.{secret}-x" },
    expected: { due: ["jobs/pay.db-x"] },
  },
  {
    title: "somebody else writes it",
    record: {},
    there: delivered,
    rivalry: { reason: "RulesOverlap", message: "other" },
    expected: { refused: 1, reasons: ["RulesOverlap"] },
  },
  {
    title: "sealed for its readers",
    secret: { protection: "EndToEnd" },
    expected: { refused: 1, reasons: ["EndToEndProtected"] },
  },
  {
    title: "no such key",
    kubernetes: { keys: [{ from: "pasword", to: "P" }] },
    expected: { refused: 1, reasons: ["TargetKeyUnknown"], says: /keys: the Secret has no key pasword/ },
  },
  {
    title: "a name that Kubernetes does not take",
    kubernetes: { secretName: "a..{secret}" },
    expected: { refused: 1, reasons: ["TargetNameInvalid"], says: /named "a\.\.db"/ },
  },
];

test.each(cases)("$title", ({ expected, ...given }) => {
  const secret = secretOf("pay", "db", given.secret);
  const entries = given.entries ?? [entryOf("password")];
  const rule = ruleOf("pay", "r", { ...target, ...given.kubernetes });
  const asLeft = desiredCopy(ruleOf("pay", "r", target), secret, jobs, "here");
  const delivery: DeliveryRecord = {
    ...delivered,
    secretName: "db",
    version: 1,
    pendingRestarts: [],
    fingerprint: deliveryFingerprint(digests, asLeft, [entryOf("password")]),
    ...given.record,
  };
  const { secretId = "id-db", namespaceUid = jobs.uid } = given;
  const plan = planCopies({
    rule,
    installation: "here",
    secrets: [{ secret, entries, digests }],
    namespaces: [
      {
        ...jobs,
        coreSecret: (name) => given.there && { metadata: { name, namespace: "jobs", ...given.there } },
        rivalOf: () => given.rivalry,
      },
    ],
    records: given.record === undefined ? [] : [{ secretId, namespace: "jobs", namespaceUid, delivery }],
  });
  const { inStep = 0, refused = 0, due = [], reasons = [], says = /^/ } = expected;
  expect(plan).toMatchObject({ inStep, refused });
  expect(plan.due.map(({ namespace, desired }) => `${namespace.name}/${desired.secretName}`)).toEqual(due);
  expect(plan.failures.map(({ reason }) => reason)).toEqual(reasons);
  expect(plan.failures[0]?.message ?? "").toMatch(says);
});

test("what is copied has no owner in another namespace, and says where it is from", () => {
  const secret = secretOf("pay", "db", { entries: [literal("a"), literal("b")] });
  const rule = ruleOf("pay", "r", { namespaces: ["jobs"], annotations: { about: "db" }, adopt: true });
  expect(desiredCopy(rule, secret, jobs, "here")).toMatchObject({
    namespace: "jobs",
    secretName: "db",
    type: "Opaque",
    keys: [
      { from: "a", to: "a" },
      { from: "b", to: "b" },
    ],
    owned: false,
    annotations: { about: "db", "mazevault.io/delivered-from": "pay/db", "mazevault.io/installation": "here" },
    labels: { "app.kubernetes.io/managed-by": "mazevault" },
    restarts: [],
    adopt: true,
    overwrite: false,
  });
});
