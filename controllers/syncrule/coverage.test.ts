import type { KeyVault } from "../../crds/keyvault.ts";
import type { Project } from "../../crds/project.ts";
import type { Secret } from "../../crds/secret.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import { assertNotStorage, rulesConcernedBy, rulesOver } from "./coverage.ts";

const URL = "https://values.vault.azure.net";
const keyVaultAt = (vaultUrl: string, project = "shop") =>
  ({ metadata: { name: "values", namespace: project }, spec: { projectRef: { name: project }, vaultUrl } }) as KeyVault;
const storing = (project: string, namespace: string): Project =>
  ({
    metadata: { name: project },
    spec: {
      storage: "Orchestrator",
      environments: [{ name: "dev" }, { name: "pro", keyVault: { namespace, name: "values" } }],
    },
  }) as unknown as Project;

const vaults: Readonly<Record<string, KeyVault>> = {
  shop: keyVaultAt(`${URL}/`),
  bank: keyVaultAt("https://bank.vault.azure.net", "bank"),
};

test.each<[string, { projects: readonly Project[]; target: string; refused: boolean }]>([
  ["of an environment of the project", { projects: [storing("shop", "shop")], target: URL, refused: true }],
  [
    "of an environment of another project, spelled otherwise",
    {
      projects: [storing("shop", "shop"), storing("bank", "bank")],
      target: "https://BANK.vault.azure.net/",
      refused: true,
    },
  ],
  ["of none", { projects: [storing("shop", "shop")], target: "https://other.vault.azure.net", refused: false }],
  ["that a project only claims", { projects: [storing("thief", "shop")], target: URL, refused: false }],
  ["that is not there", { projects: [storing("shop", "nowhere")], target: URL, refused: false }],
])("a rule onto the storage vault %s", (_, { projects, target, refused }) => {
  const cluster = { projects: () => projects, keyVault: (namespace: string) => vaults[namespace] };
  const attempt = () => assertNotStorage(cluster, keyVaultAt(target));
  if (refused) expect(attempt).toThrow(/^spec\.target\.keyVault\.ref: .* has the values of an environment already/);
  else expect(attempt).not.toThrow();
});

const rule = (name: string, tier: string): SyncRule =>
  ({
    metadata: { name, namespace: "shop" },
    spec: { projectRef: { name: "shop" }, environment: "pro", secrets: { selector: { matchLabels: { tier } } } },
  }) as unknown as SyncRule;
const secret = (change: {
  readonly tier?: string;
  readonly environment?: string;
  readonly keys?: readonly string[];
  readonly literal?: string;
  readonly generation?: number;
}): Secret => {
  const { tier = "db", environment = "pro", keys = ["a", "b"], literal = "one", generation = 1 } = change;
  return {
    metadata: { name: "orders", namespace: "shop", labels: { tier }, generation },
    spec: { projectRef: { name: "shop" }, environment, entries: keys.map((key) => ({ key, literal })) },
  } as unknown as Secret;
};
const rules = [rule("over-db", "db"), rule("over-web", "web")];
const of = (stored: Secret | undefined) => ({ secret: () => stored, syncRulesIn: () => rules });
const names = (found: readonly SyncRule[]) => found.map(({ metadata }) => metadata.name);
const ALL = ["over-db", "over-web"];

test.each<[string, Secret | undefined, readonly string[]]>([
  ["one rule covers", secret({}), ["over-db"]],
  ["no rule covers", secret({ environment: "dev" }), []],
  ["is gone", undefined, ALL],
])("a new version of a Secret that %s", (_, stored, concerned) => {
  expect(names(rulesOver(of(stored), "shop", "orders"))).toEqual(concerned);
});

test.each<[string, { readonly now: Secret; readonly old?: Secret; readonly concerned: readonly string[] }]>([
  ["is new", { now: secret({}), concerned: ALL }],
  ["is as it was", { now: secret({}), old: secret({}), concerned: [] }],
  ["has another value", { now: secret({ literal: "two", generation: 2 }), old: secret({}), concerned: ["over-db"] }],
  ["has other keys", { now: secret({ keys: ["a"], generation: 2 }), old: secret({}), concerned: ALL }],
  [
    "has its keys in another order",
    { now: secret({ keys: ["b", "a"], generation: 2 }), old: secret({}), concerned: ["over-db"] },
  ],
  ["has other labels", { now: secret({ tier: "web" }), old: secret({}), concerned: ALL }],
  [
    "is of another environment",
    { now: secret({ environment: "dev", generation: 2 }), old: secret({}), concerned: ALL },
  ],
])("a Secret that %s", (_, { now, old, concerned }) => {
  expect(names(rulesConcernedBy(of(now), now, old))).toEqual(concerned);
});
