import type { SyncItem } from "../ports/sync-store.ts";
import type { VaultEntryProperties } from "../ports/target-vault.ts";
import { tagsFor } from "./ownership.ts";
import { decidePush, type Plan, type PlanInput } from "./plan.ts";
import { INSTALLATION, item, named, outcome, VAULT_URL } from "./testing/entries.ts";

const entry = named();
const written = outcome();
const intent: NonNullable<SyncItem["intent"]> = {
  id: "intent-1",
  version: 1,
  fingerprint: "fingerprint-1",
  at: new Date("2026-01-01T00:00:00Z"),
};

const there = (change: Partial<VaultEntryProperties> = {}): VaultEntryProperties => ({
  name: "orders--password",
  enabled: true,
  updatedOn: written.targetUpdatedOn,
  tags: tagsFor({}, INSTALLATION, entry, { intentId: "intent-0" }),
  ...change,
});

const plan = (change: Partial<PlanInput>): Plan =>
  decidePush({ entries: [entry], vaultUrl: VAULT_URL, items: [], holders: [], installation: INSTALLATION, ...change });

const verdict = (change: Partial<PlanInput>): string => {
  const { push, inSync, failures } = plan(change);
  return push[0]?.cause ?? failures[0]?.reason ?? `${inSync} in sync`;
};

describe("decidePush", () => {
  const done = { items: [item({ outcome: written })] };
  const meant = { items: [item({ intent })] };
  it.each<[string, Partial<PlanInput>, string]>([
    ["an entry that nobody remembers is pushed", {}, "New"],
    ["an outcome with the current value leaves nothing to do", done, "1 in sync"],
    [
      "another value than the outcome's is pushed",
      { items: [item({ outcome: outcome({ fingerprint: "old" }) })] },
      "Changed",
    ],
    ["an open intent is settled first", meant, "IntentOpen"],
    [
      "an open intent is settled also when the outcome is current",
      { items: [item({ intent, outcome: written })] },
      "IntentOpen",
    ],
    [
      "the same entry held by another rule needs no second push",
      { holders: [item({ outcome: written, ruleUid: "rule-2" })] },
      "1 in sync",
    ],
    [
      "the case of the remembered name does not matter",
      { entries: [named({ entryName: "Orders--Password" })], ...done },
      "1 in sync",
    ],
    ["an untouched entry of the vault is in sync", { ...done, target: [there()] }, "1 in sync"],
    ["an entry missing in the vault is pushed again", { ...done, target: [] }, "TargetMissing"],
    [
      "another time than ours means that somebody wrote",
      { ...done, target: [there({ updatedOn: new Date(0) })] },
      "TargetEdited",
    ],
    [
      "missing tags mean that somebody wrote within the same second",
      { ...done, target: [there({ tags: {} })] },
      "TargetEdited",
    ],
    [
      "tags of others beside ours are no edit of the value",
      { ...done, target: [there({ tags: { ...there().tags, team: "a" } })] },
      "1 in sync",
    ],
    [
      "a disabled entry waits for a person and costs no call",
      { ...done, target: [there({ enabled: false })] },
      "TargetDisabled",
    ],
    [
      "a disabled entry waits between looks too, also with another value to push",
      {
        ...done,
        entries: [named({ fingerprint: "fingerprint-2" })],
        troubled: new Map([["orders--password", "Disabled" as const]]),
      },
      "TargetDisabled",
    ],
    ["a foreign entry is left alone and costs no call", { target: [there({ tags: {} })] }, "TargetNotOwned"],
    [
      "a foreign entry is left alone although a push was meant",
      { ...meant, target: [there({ tags: {} })] },
      "TargetNotOwned",
    ],
    ["a foreign disabled entry is foreign first", { target: [there({ tags: {}, enabled: false })] }, "TargetNotOwned"],
    ["our entry without an outcome is looked at", { ...meant, target: [there()] }, "IntentOpen"],
    [
      "entries that the rule does not cover do not matter",
      { ...done, target: [there(), there({ name: "other", tags: {} })] },
      "1 in sync",
    ],
  ])("%s", (_, change, expected) => {
    expect(verdict(change)).toBe(expected);
  });

  it("forgets items that the rule no longer covers, under this name or in this vault", () => {
    const renamed = item({ entryName: "old-name", outcome: written });
    const moved = item({ vaultUrl: "https://old.vault.azure.net/", outcome: written });
    const { forget, push } = plan({ items: [renamed, moved, item({ outcome: written })] });
    expect(forget.map(({ vaultUrl, entryName }) => `${vaultUrl}${entryName}`)).toEqual([
      `${VAULT_URL}old-name`,
      "https://old.vault.azure.net/orders--password",
    ]);
    expect(push).toEqual([]);
  });

  it("does not forget what another rule holds", () => {
    expect(plan({ entries: [], holders: [item({ ruleUid: "rule-2" })] }).forget).toEqual([]);
  });

  it("puts changes before new entries and both before repairs, then goes by name", () => {
    const entries = ["e", "d", "c", "b", "a"].map((key) => named({ key, entryName: key }));
    const items = [
      item({ key: "e", entryName: "e", outcome: written }),
      item({ key: "d", entryName: "d", outcome: outcome({ fingerprint: "old" }) }),
      item({ key: "a", entryName: "a", outcome: outcome({ fingerprint: "old" }) }),
    ];
    const { push } = plan({ entries, items, target: [] });
    expect(push.map(({ entry: { key }, cause }) => `${key} ${cause}`)).toEqual([
      "a Changed",
      "d Changed",
      "b New",
      "c New",
      "e TargetMissing",
    ]);
  });

  it("plans no more than the limit at once and tells how much is left", () => {
    const entries = Array.from({ length: 7 }, (_, at) => named({ key: `k${at}`, entryName: `k${at}` }));
    const { push, later } = plan({ entries, limit: 5 });
    expect([push.length, later]).toEqual([5, 2]);
  });
});
