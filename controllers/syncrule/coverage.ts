/** What a rule covers: its KeyVault, its Secrets, and their entries by the names that they have in the vault. */
import { isDeepStrictEqual } from "node:util";
import { Stalled, Waiting } from "../../core/errors.ts";
import { namedProject, vaultOfOtherEnvironment } from "../../core/naming/key-vaults.ts";
import type { SourceEntry } from "../../core/ports/sync-store.ts";
import { normalVaultUrl } from "../../core/ports/target-vaults.ts";
import { type EntryPlace, failure, type NamedEntry, type SyncFailure } from "../../core/sync/entries.ts";
import { conflictKey, type SharedEntry } from "../../core/sync/exchange-plan.ts";
import { type checkNames, type Naming, nameFailure, namer, type Scope } from "../../core/sync/names.ts";
import { ownerOf } from "../../core/sync/ownership.ts";
import type { WantedEntry } from "../../core/sync/pull-plan.ts";
import { selectSecrets } from "../../core/sync/select.ts";
import { appliedKeys } from "../../core/vault/apply.ts";
import { unwritten } from "../../core/vault/recipe.ts";
import type { KeyVault } from "../../crds/keyvault.ts";
import type { Secret, SecretEntry } from "../../crds/secret.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import type { Cluster, Tenancy } from "../cluster.ts";

const KEY_VAULT_RECHECK_MS = 60_000;

/** Throws `Waiting` and `Stalled`. */
export function keyVaultOf(cluster: Cluster, rule: SyncRule): KeyVault {
  const { namespace = "" } = rule.metadata;
  const name = rule.spec.target.keyVault?.ref.name ?? "";
  const keyVault = cluster.keyVault(namespace, name);
  if (keyVault === undefined) {
    throw new Waiting(
      "KeyVaultNotFound",
      `spec.target.keyVault.ref: there is no KeyVault ${namespace}/${name} yet; apply it`,
      KEY_VAULT_RECHECK_MS,
    );
  }
  if (keyVault.spec.projectRef.name !== rule.spec.projectRef.name) {
    throw new Stalled(
      "KeyVaultOfOtherProject",
      `spec.target.keyVault.ref: KeyVault ${name} belongs to Project ${keyVault.spec.projectRef.name}, the rule to ` +
        `${rule.spec.projectRef.name}; refer to a KeyVault of the same project`,
    );
  }
  const project = cluster.project(rule.spec.projectRef.name);
  const misplaced =
    project && vaultOfOtherEnvironment(namedProject(project), rule.spec.environment, keyVault.spec.vaultUrl);
  if (misplaced !== undefined) throw new Stalled("NameRefused", misplaced);
  return keyVault;
}

/** Throws `Stalled` where the rule would synchronise with the very entries that have values, of whichever environment. */
export function assertNotStorage(cluster: Pick<Cluster, "projects" | "keyVault">, keyVault: KeyVault): void {
  const url = normalVaultUrl(keyVault.spec.vaultUrl);
  for (const { metadata, spec } of cluster.projects()) {
    for (const { keyVault: storage } of spec.environments) {
      const kept = storage && cluster.keyVault(storage.namespace, storage.name);
      // One of another project has no values of this one.
      if (kept === undefined || kept.spec.projectRef.name !== metadata.name) continue;
      if (normalVaultUrl(kept.spec.vaultUrl) !== url) continue;
      // Not whose: who may write a rule need not know other projects.
      throw new Stalled(
        "TargetIsStorage",
        `spec.target.keyVault.ref: ${keyVault.spec.vaultUrl} has the values of an environment already (storage Orchestrator); remove the rule, or refer to another vault`,
      );
    }
  }
}

export const secretsOf = (cluster: Cluster, rule: SyncRule): readonly Secret[] =>
  coveredOf(rule, cluster.secretsIn(rule.metadata.namespace ?? ""));

function coveredOf({ spec: { projectRef, environment, secrets: scope } }: SyncRule, secrets: readonly Secret[]) {
  const candidates = secrets
    .filter(({ spec }) => spec.projectRef.name === projectRef.name && spec.environment === environment)
    .map((secret) => ({ secret, name: secret.metadata.name, labels: secret.metadata.labels ?? {} }));
  return selectSecrets(candidates, scope).map(({ secret }) => secret);
}

/** Rules of the namespace that a new version of this Secret concerns; one that is gone may have been anybody's. */
export function rulesOver(cluster: Pick<Cluster, "secret" | "syncRulesIn">, namespace: string, name: string) {
  const secret = cluster.secret(namespace, name);
  const rules = cluster.syncRulesIn(namespace);
  return secret === undefined ? rules : rules.filter((rule) => coveredOf(rule, [secret]).length > 0);
}

/**
 * Rules of the namespace that a change of this Secret concerns. Which names it claims is a matter of all of them; what
 * else it says, of those that cover it.
 */
export function rulesConcernedBy(
  cluster: Pick<Cluster, "secret" | "syncRulesIn">,
  secret: Secret,
  old: Secret | undefined,
): readonly SyncRule[] {
  const { namespace = "", name } = secret.metadata;
  if (old === undefined || !isDeepStrictEqual(claimsOf(secret), claimsOf(old))) return cluster.syncRulesIn(namespace);
  return secret.metadata.generation === old.metadata.generation ? [] : rulesOver(cluster, namespace, name);
}

const claimsOf = ({ metadata: { labels = {}, deletionTimestamp }, spec }: Secret) => ({
  labels,
  deletionTimestamp,
  project: spec.projectRef.name,
  environment: spec.environment,
  keys: spec.entries.map(({ key }) => key).sort(),
});

export const scopeOf = ({ spec }: SyncRule, { namespace }: Tenancy): Scope => ({
  project: spec.projectRef.name,
  environment: spec.environment,
  namespace: namespace.name,
  namespaceUid: namespace.uid,
});

export const namingOf = ({ spec }: SyncRule): Naming => ({
  pattern: spec.target.keyVault?.name,
  mappings: spec.mappings,
});

/** A version is pushed as a whole, so not before every external entry was written. */
export function separate(
  secrets: readonly Secret[],
  sources: readonly SourceEntry[],
): { readonly complete: readonly SourceEntry[]; readonly incomplete: ReadonlySet<string> } {
  const bySecret = Map.groupBy(sources, ({ secretName }) => secretName);
  const incomplete = secrets
    .map(({ metadata, spec }) => ({ spec, stored: bySecret.get(metadata.name) ?? [] }))
    .filter(({ spec, stored }) => unwritten(spec.entries, stored).length > 0)
    .flatMap(({ stored }) => stored.map(({ secretId }) => secretId));
  const ids = new Set(incomplete);
  return { complete: sources.filter(({ secretId }) => !ids.has(secretId)), incomplete: ids };
}

/** Entries that may get their values from the other side. */
export function takenEntries(spec: Secret["spec"]): readonly SecretEntry[] {
  const applied = appliedKeys(spec);
  return spec.entries.filter(({ key }) => !applied.has(key));
}

export const isExternal = ({ external }: SecretEntry): boolean => external !== undefined;

/** The external entries of these Secrets, by their names in the vault; what has none that can be used is among the failures. */
export function wantedEntries(
  secrets: readonly Secret[],
  sources: readonly SourceEntry[],
  scope: Scope,
  naming: Naming,
): { readonly wanted: readonly WantedEntry[]; readonly failures: readonly SyncFailure[] } {
  const stored = Map.groupBy(sources, ({ secretName }) => secretName);
  const nameOf = namer(naming);
  const wanted: WantedEntry[] = [];
  const failures: SyncFailure[] = [];
  for (const { metadata, spec } of secrets) {
    const held = stored.get(metadata.name) ?? [];
    for (const { key } of takenEntries(spec).filter(isExternal)) {
      const place = { secretName: metadata.name, key };
      const entry = { ...place, entryName: nameOf(place), owner: ownerOf({ ...scope, name: metadata.name }) };
      const reason = spec.protection === "EndToEnd" ? opaque(entry) : nameFailure(entry);
      const fingerprint = held.find((each) => each.key === key)?.fingerprint;
      if (reason !== undefined) failures.push(reason);
      else {
        wanted.push({
          ...entry,
          ...(held[0] !== undefined && { secretId: held[0].secretId }),
          ...(fingerprint !== undefined && { fingerprint }),
        });
      }
    }
  }
  return { wanted, failures };
}

/** Entries of these Secrets that both sides may change, also those that are refused: by `conflictKey`. */
export const shareableKeys = (secrets: readonly Secret[]): ReadonlySet<string> =>
  new Set(
    secrets.flatMap(({ metadata, spec }) =>
      takenEntries(spec)
        .filter(isShareable)
        .map(({ key }) => conflictKey({ secretName: metadata.name, key })),
    ),
  );

const KEEP_TWO =
  "spec.retention.versions of the Secret is 1, so a value that loses could not be kept; set it to 2 or more";

/** What both sides may change: values that no manifest and no core Secret decides. */
export const isShareable = ({ external, generate }: SecretEntry): boolean =>
  external !== undefined || generate !== undefined;

/** The entries of these Secrets that both sides may change, by their names in the vault. */
export function sharedEntries(
  secrets: readonly Secret[],
  sources: readonly SourceEntry[],
  scope: Scope,
  naming: Naming,
): { readonly shared: readonly SharedEntry[]; readonly failures: readonly SyncFailure[] } {
  const stored = Map.groupBy(sources, ({ secretName }) => secretName);
  const nameOf = namer(naming);
  const shared: SharedEntry[] = [];
  const failures: SyncFailure[] = [];
  for (const { metadata, spec } of secrets) {
    const held = stored.get(metadata.name) ?? [];
    for (const { key, generate } of takenEntries(spec).filter(isShareable)) {
      const place = { secretName: metadata.name, key };
      const entry = { ...place, entryName: nameOf(place), owner: ownerOf({ ...scope, name: metadata.name }) };
      const [first] = held;
      const current = held.find((each) => each.key === key);
      // What is generated here is made here first.
      if (generate !== undefined && current === undefined) continue;
      if (spec.protection === "EndToEnd") failures.push(opaque(entry));
      else if (spec.retention?.versions === 1) failures.push(failure(entry, "RetentionTooShort", KEEP_TWO));
      else {
        shared.push({
          ...entry,
          ...(first !== undefined && { secretId: first.secretId }),
          ...(current !== undefined && {
            held: { version: current.version, recipe: current.recipe, fingerprint: current.fingerprint },
          }),
        });
      }
    }
  }
  return { shared, failures };
}

const opaque = (entry: EntryPlace): SyncFailure =>
  failure(
    entry,
    "EndToEndProtected",
    "the value is sealed for its readers and cannot be synchronised; leave the Secret out of spec.secrets",
  );

export const sealedSecrets = (secrets: readonly Secret[]): ReadonlySet<string> =>
  new Set(secrets.filter(({ spec }) => spec.protection === "EndToEnd").map(({ metadata }) => metadata.name));

/** What MazeVault cannot open it cannot push. */
export function refuseOpaque(
  secrets: readonly Secret[],
  { entries, failures }: ReturnType<typeof checkNames<NamedEntry>>,
): ReturnType<typeof checkNames<NamedEntry>> {
  const sealed = sealedSecrets(secrets);
  const refused = entries.filter(({ secretName }) => sealed.has(secretName));
  return {
    entries: entries.filter((entry) => !refused.includes(entry)),
    failures: [...failures, ...refused.map(opaque)],
  };
}
