import type { SourceEntry, SyncItem } from "../../ports/sync-store.ts";
import type { SecretIdentity } from "../../ports/vault-store.ts";
import type { NamedEntry } from "../entries.ts";
import { ownerOf } from "../ownership.ts";

export const VAULT_URL = "https://fake.vault.azure.net/";
export const RULE = "rule-1";
export const INSTALLATION = "installation-1";

export const identity: SecretIdentity = {
  project: "payments",
  environment: "pro",
  namespace: "payments",
  namespaceUid: "uid-payments",
  name: "orders",
};

export const source = (change: Partial<SourceEntry> = {}): SourceEntry => ({
  secretId: "id-orders",
  secretName: "orders",
  key: "password",
  version: 1,
  recipe: "recipe",
  fingerprint: "fingerprint-1",
  ...change,
});

export const named = (change: Partial<NamedEntry> = {}): NamedEntry => ({
  ...source(),
  entryName: "orders--password",
  owner: ownerOf(identity),
  ...change,
});

export const item = (change: Partial<SyncItem> = {}): SyncItem => ({
  secretId: "id-orders",
  key: "password",
  vaultUrl: VAULT_URL,
  entryName: "orders--password",
  ruleUid: RULE,
  ...change,
});

export const outcome = (change: Partial<NonNullable<SyncItem["outcome"]>> = {}): NonNullable<SyncItem["outcome"]> => ({
  version: 1,
  fingerprint: "fingerprint-1",
  targetVersion: "0".repeat(32),
  targetUpdatedOn: new Date("2026-01-01T00:00:00Z"),
  settled: true,
  ...change,
});
