import type { CopyDelivery } from "../../../core/ports/copy-store.ts";
import type { Secret } from "../../../crds/secret.ts";
import type { SyncConflict } from "../../../crds/syncconflict.ts";
import type { SyncRule } from "../../../crds/syncrule.ts";
import { deliveryFingerprint } from "../../delivery/desired.ts";
import { overlapsOf } from "../overlaps.ts";
import { desiredCopy } from "./copies.ts";
import { type Exchanges, keyIn, planExchanges } from "./exchanges.ts";
import { rivalsIn } from "./rivals.ts";
import { external, literal, ruleOf, secretOf, T0, Tenants } from "./testing/tenants.ts";

const jobs = { name: "jobs", uid: "uid-jobs" };
const digests = { digest: (purpose: string, fields: readonly string[]) => `${purpose}(${fields.join()})` };
const manual = { direction: "Bidirectional", conflictPolicy: "Manual" } as const;
const entries = [literal("user"), external("token")];
const letGo = { "mazevault.io/allow-pull": "pay" };

const conflict = (key: string, targetVersion: string, spec: SyncConflict["spec"] = {}): SyncConflict =>
  ({ spec, status: { secret: "db", key, platformVersion: 2, targetVersion } }) as unknown as SyncConflict;

interface Case {
  readonly title: string;
  readonly policy?: "PlatformWins";
  readonly secret?: Partial<Secret["spec"]>;
  /** What differs in what is on record; null: nothing is. */
  readonly record?: Partial<CopyDelivery> | null;
  /** What stands there; null: nothing does. */
  readonly there?: { readonly resourceVersion?: string; readonly annotations?: Record<string, string> } | null;
  readonly conflicts?: readonly SyncConflict[];
  /** Older than the rule. */
  readonly other?: SyncRule;
  readonly keys?: readonly { readonly from: string; readonly to: string }[];
  readonly expected: "InStep" | "Due" | "Held" | { readonly reason: string; readonly says: RegExp };
  readonly over?: readonly string[];
  readonly unshared?: readonly string[];
}

const older = (rule: SyncRule): SyncRule => ({
  ...rule,
  metadata: { ...rule.metadata, creationTimestamp: "2025-01-01T00:00:00Z" },
});

const cases: readonly Case[] = [
  { title: "as it was agreed", expected: "InStep" },
  { title: "as it was agreed, but not let go", there: { annotations: {} }, expected: "InStep", unshared: ["jobs/db"] },
  {
    title: "nothing in it may be changed there",
    there: { annotations: {} },
    secret: { entries: [literal("user")] },
    expected: "InStep",
  },
  {
    title: "what a rotation applies elsewhere is not taken from there",
    there: { annotations: {} },
    secret: {
      entries: [literal("user"), { key: "token", generate: { kind: "Hex" } }],
      rotation: { every: "720h", apply: { webhook: {} } } as never,
    },
    expected: "InStep",
  },
  { title: "copied by a rule that only writes", record: { agreed: undefined as never }, expected: "Due" },
  { title: "never copied", record: null, there: null, expected: "Due" },
  { title: "edited there", there: { resourceVersion: "8" }, expected: "Due" },
  { title: "changed here", record: { fingerprint: "of another version" }, expected: "Due" },
  { title: "deleted there", there: null, expected: "Due" },
  {
    title: "in conflict, as it was found",
    there: { resourceVersion: "8" },
    conflicts: [conflict("token", "core/8")],
    expected: "Held",
  },
  {
    title: "in conflict, and edited again",
    there: { resourceVersion: "9" },
    conflicts: [conflict("token", "core/8")],
    expected: "Due",
  },
  {
    title: "a person has said it",
    there: { resourceVersion: "8" },
    conflicts: [conflict("token", "core/8", { resolution: "KeepTarget" })],
    expected: "Due",
  },
  {
    title: "a person has said one of two",
    there: { resourceVersion: "8" },
    conflicts: [conflict("user", "core/8", { resolution: "KeepTarget" }), conflict("token", "core/8")],
    expected: "Held",
  },
  {
    title: "under another policy nobody is waited for",
    policy: "PlatformWins",
    there: { resourceVersion: "8" },
    conflicts: [conflict("token", "core/8")],
    expected: "Due",
  },
  { title: "both agree again", conflicts: [conflict("token", "core/8")], expected: "InStep", over: ["token"] },
  {
    title: "one version is too few",
    secret: { entries, retention: { versions: 1 } },
    expected: { reason: "RetentionTooShort", says: /set it to 2 or more/ },
  },
  {
    title: "one version is enough where nothing may lose",
    secret: { entries: [literal("user")], retention: { versions: 1 } },
    expected: "InStep",
  },
  {
    title: "sealed for its readers",
    secret: { entries, protection: "EndToEnd" },
    expected: { reason: "EndToEndProtected", says: /cannot be copied/ },
  },
  {
    title: "another rule takes the value over",
    other: older(ruleOf("pay", "taking", { namespaces: ["batch"] }, { direction: "Pull" })),
    expected: { reason: "RulesOverlap", says: /SyncRule taking with direction Pull covers db\/token too/ },
  },
  {
    title: "what another rule takes over is not copied",
    other: older(ruleOf("pay", "taking", { namespaces: ["batch"] }, { direction: "Pull" })),
    keys: [{ from: "user", to: "USER" }],
    expected: "InStep",
  },
  {
    title: "another rule with both directions, to another namespace",
    other: older(ruleOf("pay", "both", { namespaces: ["batch"] }, manual)),
    expected: "InStep",
  },
  {
    title: "another rule with both directions has this core Secret",
    other: older(ruleOf("pay", "both", { namespaces: ["jobs"] }, manual)),
    expected: { reason: "RulesOverlap", says: /SyncRule both writes core Secret db of namespace jobs already/ },
  },
];

test.each(cases)("$title", ({ expected, over = [], unshared = [], conflicts = [], ...given }) => {
  const keys = given.keys && { keys: [...given.keys] };
  const spec = given.policy ? { ...manual, conflictPolicy: given.policy } : manual;
  const rule = ruleOf("pay", "r", { namespaces: ["jobs"], ...keys }, spec);
  const secret = secretOf("pay", "db", { entries, ...given.secret });
  const source = { secretId: "id", secretName: "db", version: 2, recipe: "r" };
  const stored = secret.spec.entries.map(({ key }) => ({ ...source, key, fingerprint: `f-${key}` }));
  const tenants = new Tenants().admit("pay", "pay", "jobs", "batch");
  tenants.secrets = [secret];
  tenants.rules = given.other === undefined ? [rule] : [rule, given.other];
  const { there = {}, record = {} } = given;
  const delivery: CopyDelivery = {
    secretName: "db",
    uid: "core",
    resourceVersion: "7",
    fingerprint: deliveryFingerprint(digests, desiredCopy(rule, secret, jobs, "here"), stored),
    version: 2,
    pendingRestarts: [],
    agreed: { token: "f-token" },
    ...record,
  };
  const plan: Exchanges = planExchanges({
    rule,
    installation: "here",
    secrets: [{ secret, digests, entries: stored }],
    namespaces: [
      {
        ...jobs,
        coreSecret: (name) =>
          there === null
            ? undefined
            : {
                metadata: {
                  name,
                  uid: "core",
                  resourceVersion: "7",
                  annotations: letGo,
                  creationTimestamp: T0,
                  ...there,
                },
              },
        rivalOf: rivalsIn(tenants, rule, "jobs"),
      },
    ],
    records: record === null ? [] : [{ secretId: "id", namespace: "jobs", namespaceUid: "uid-jobs", delivery }],
    covered: new Set(["db"]),
    conflicts,
    overlaps: overlapsOf(tenants, rule, "kubernetes:"),
  });
  const counts = { inStep: plan.inStep, due: plan.due.length, held: plan.held.length, refused: plan.refused };
  const none = { inStep: 0, due: 0, held: 0, refused: 0 };
  if (typeof expected === "object") {
    const { reason, says } = expected;
    expect(plan.failures).toEqual([expect.objectContaining({ reason, message: expect.stringMatching(says) })]);
    expect(counts).toEqual({ ...none, refused: 1 });
    return;
  }
  expect(plan.failures).toEqual([]);
  expect(counts).toEqual({ ...none, [{ InStep: "inStep", Due: "due", Held: "held" }[expected]]: 1 });
  expect(plan.over.map(keyIn)).toEqual(over);
  expect(plan.unshared).toEqual(unshared);
});

test("the conflict of a Secret that the rule no longer covers is over, and none while its namespace is closed", () => {
  const rule = ruleOf("pay", "r", { namespaces: ["jobs"] }, manual);
  const known = { rule, installation: "here", namespaces: [], records: [], overlaps: () => undefined };
  const secret = secretOf("pay", "db", { entries });
  const conflicts = [conflict("token", "core/8")];
  const secrets = [{ secret, digests, entries: [] }];
  expect(planExchanges({ ...known, secrets: [], covered: new Set(), conflicts }).over).toEqual(conflicts);
  expect(planExchanges({ ...known, secrets, covered: new Set(["db"]), conflicts })).toEqual({
    inStep: 0,
    due: [],
    held: [],
    refused: 0,
    failures: [],
    over: [],
    unshared: [],
  });
});

test("a younger rule does not take over what this one shares", () => {
  const sharing = older(ruleOf("pay", "sharing", { namespaces: ["jobs"] }, manual));
  const taking = ruleOf("pay", "taking", { namespaces: ["batch"] }, { direction: "Pull" });
  const tenants = new Tenants().admit("pay", "pay", "jobs", "batch");
  tenants.secrets = [secretOf("pay", "db", { entries })];
  tenants.rules = [sharing, taking];
  const entry = { secretName: "db", key: "token", entryName: "batch/db/token" };
  expect(overlapsOf(tenants, taking, "kubernetes:")(entry)).toBe(sharing);
  expect(overlapsOf(tenants, sharing, "kubernetes:")(entry)).toBeUndefined();
});

test("what a rotation applies elsewhere no rule takes over, so two of them may write it into one vault", () => {
  const sharing = older(ruleOf("pay", "sharing", { namespaces: ["jobs"] }, manual));
  const pushing = ruleOf("pay", "pushing", { namespaces: ["batch"] });
  const tenants = new Tenants().admit("pay", "pay", "jobs", "batch");
  tenants.rules = [sharing, pushing];
  const vaultUrl = "https://one.vault.azure.net/";
  const cluster = Object.assign(tenants, { keyVault: () => ({ spec: { vaultUrl } }) as never });
  const overlap = (spec: Partial<Secret["spec"]>) => {
    tenants.secrets = [secretOf("pay", "db", { entries: [{ key: "token", generate: { kind: "Hex" } }], ...spec })];
    return overlapsOf(cluster, pushing, vaultUrl)({ secretName: "db", key: "token", entryName: "db--token" });
  };
  expect(overlap({})).toBe(sharing);
  expect(overlap({ rotation: { every: "720h", apply: { webhook: {} } } as never })).toBeUndefined();
});
