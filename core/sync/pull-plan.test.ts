import type { PulledItem } from "../ports/sync-store.ts";
import type { VaultEntryProperties } from "../ports/target-vault.ts";
import { decidePull, type PullPlanInput, type WantedEntry } from "./pull-plan.ts";
import { RULE, VAULT_URL } from "./testing/entries.ts";

const at = (second: number): Date => new Date(Date.UTC(2026, 0, 1, 0, 0, second));
const wanted = (change: Partial<WantedEntry> = {}): WantedEntry => ({
  secretName: "orders",
  key: "password",
  entryName: "Orders--password",
  secretId: "id-orders",
  fingerprint: "fingerprint-1",
  owner: "owner",
  ...change,
});
const base = (change: Partial<PulledItem> = {}): PulledItem => ({
  secretId: "id-orders",
  key: "password",
  ruleUid: RULE,
  vaultUrl: VAULT_URL,
  entryName: "orders--password",
  fingerprint: "fingerprint-1",
  targetVersion: "1".repeat(32),
  targetUpdatedOn: at(1),
  settled: true,
  ...change,
});
const there = (change: Partial<VaultEntryProperties> = {}): VaultEntryProperties => ({
  name: "ORDERS--password",
  enabled: true,
  updatedOn: at(1),
  tags: {},
  ...change,
});
const never: WantedEntry = { secretName: "orders", key: "password", entryName: "orders--password", owner: "owner" };

interface Case extends Partial<PullPlanInput> {
  readonly what: string;
  readonly because: string;
  /** A cause, a reason, or InSync. */
  readonly is: string;
}

test.each<Case>([
  { what: "nothing is stored yet", because: "it is taken by its name, without a look", wanted: [never], is: "New" },
  { what: "nothing changed", because: "list pages say so", pulled: [base()], target: [there()], is: "InSync" },
  { what: "nobody looked", because: "nothing is known to have changed", pulled: [base()], is: "InSync" },
  {
    what: "a later time in the vault",
    because: "somebody edited it",
    pulled: [base()],
    target: [there({ updatedOn: at(2) })],
    is: "TargetChanged",
  },
  {
    what: "an earlier time in the vault",
    because: "it was purged and made anew by another clock, or restored from a backup",
    pulled: [base()],
    target: [there({ updatedOn: at(0) })],
    is: "TargetChanged",
  },
  {
    what: "an edit in the same second",
    because: "times cannot tell it, so it is read once more",
    pulled: [base({ settled: false })],
    target: [there()],
    is: "Unsettled",
  },
  {
    what: "another value here",
    because: "the vault is what counts",
    pulled: [base({ fingerprint: "older" })],
    is: "PlatformChanged",
  },
  {
    what: "another vault",
    because: "what was taken from the former one says nothing",
    pulled: [base({ vaultUrl: "https://other.vault.azure.net/" })],
    target: [there()],
    is: "New",
  },
  {
    what: "another name in the vault",
    because: "a mapping was added",
    pulled: [base({ entryName: "former" })],
    target: [there()],
    is: "New",
  },
  {
    what: "no such entry",
    because: "there is nothing to take",
    pulled: [base({ fingerprint: "older" })],
    troubled: new Map([["orders--password", "Absent"]]),
    is: "TargetMissing",
  },
  {
    what: "a disabled entry",
    because: "Key Vault does not show its value",
    pulled: [base()],
    troubled: new Map([["orders--password", "Disabled"]]),
    is: "TargetDisabled",
  },
  {
    what: "an entry that another rule takes over",
    because: "both would write in turn",
    pulled: [base({ ruleUid: "other" })],
    rules: new Set([RULE, "other"]),
    target: [there()],
    is: "PulledByOther",
  },
  {
    what: "an entry that a rule took over which is gone",
    because: "nobody else does",
    pulled: [base({ ruleUid: "other" })],
    target: [there()],
    is: "New",
  },
])("$what: $is, since $because", ({ is, what: _, because: __, ...given }) => {
  const plan = decidePull({
    ruleUid: RULE,
    vaultUrl: VAULT_URL,
    wanted: [wanted()],
    pulled: [],
    rules: new Set([RULE]),
    troubled: new Map(),
    ...given,
  });
  const told = [
    ...plan.pull.map(({ cause }) => cause as string),
    ...plan.failures.map(({ reason }) => reason as string),
    ...Array.from({ length: plan.inSync }, () => "InSync"),
  ];
  expect(told).toEqual([is]);
  expect(plan.forget).toEqual([]);
});

test("what the rule no longer covers is forgotten, and of another rule's nothing", () => {
  const [left, theirs] = [base({ key: "left" }), base({ key: "theirs", ruleUid: "other" })];
  const plan = decidePull({
    ruleUid: RULE,
    vaultUrl: VAULT_URL,
    wanted: [wanted()],
    pulled: [base(), left, theirs],
    rules: new Set([RULE]),
    troubled: new Map(),
  });
  expect(plan).toMatchObject({ inSync: 1, forget: [left] });
});

test("what a person waits for comes first, and no more than the limit at once", () => {
  const keys = ["new", "edited", "unsettled"];
  const plan = decidePull({
    ruleUid: RULE,
    vaultUrl: VAULT_URL,
    wanted: keys.map((key) => wanted({ key, entryName: key })),
    pulled: [
      base({ key: "edited", entryName: "edited" }),
      base({ key: "unsettled", entryName: "unsettled", settled: false }),
    ],
    rules: new Set([RULE]),
    troubled: new Map(),
    target: [there({ name: "edited", updatedOn: at(2) }), there({ name: "unsettled" }), there({ name: "new" })],
    limit: 2,
  });
  expect(plan.pull.map(({ cause }) => cause)).toEqual(["TargetChanged", "New"]);
  expect(plan.later).toBe(1);
});
