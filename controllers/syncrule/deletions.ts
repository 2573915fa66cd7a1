/** What a rule no longer covers, and what proves that it was deleted. */
import { createHash } from "node:crypto";
import type { RuleRecord, SyncItem, SyncStore } from "../../core/ports/sync-store.ts";
import { normalVaultUrl } from "../../core/ports/target-vaults.ts";
import { type Sorted, type Standing, sortUncovered } from "../../core/sync/deletion-plan.ts";
import { type EntryPlace, foldName } from "../../core/sync/entries.ts";
import { namer } from "../../core/sync/names.ts";
import { ownerOf } from "../../core/sync/ownership.ts";
import type { Secret } from "../../crds/secret.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import type { Cluster, Tenancy } from "../cluster.ts";
import { namingOf, scopeOf, secretsOf } from "./coverage.ts";
import { RELEASE_ANNOTATION, type Safety } from "./limiting.ts";

/** What is known before the vault is looked at. */
export type RuleSafety = Pick<Safety, "isProtected" | "scope" | "record">;

export async function ruleSafety(
  store: Pick<SyncStore, "rule">,
  rule: SyncRule,
  { project }: Tenancy,
  vaultUrl: string,
): Promise<RuleSafety> {
  const { spec, metadata } = rule;
  const environment = project.spec.environments.find(({ name }) => name === spec.environment);
  const isProtected = environment?.protected === true;
  const isRecorded =
    isProtected ||
    spec.deletionPolicy === "Delete" ||
    spec.limits !== undefined ||
    metadata.annotations?.[RELEASE_ANNOTATION] !== undefined;
  const record = isRecorded ? await store.rule(metadata.uid) : undefined;
  return { isProtected, scope: scopeDigest(rule, vaultUrl), ...(record && { record }) };
}

/** What stands still, or is only told, is told anew from what is there: the next pass must not be blind. */
export const needsLook = ({ spec, status }: SyncRule, record: RuleRecord | undefined): boolean =>
  spec.dryRun === true ||
  (record !== undefined && record.approved.length > 0) ||
  status?.conditions?.some(({ type }) => type === "LimitExceeded") === true;

/** Whatever decides which entries of which Secrets stand under which names in which vault. */
function scopeDigest({ spec }: SyncRule, vaultUrl: string): string {
  const { projectRef, environment, secrets = null, mappings = null, target } = spec;
  const parts = [projectRef.name, environment, secrets, mappings, target, vaultUrl];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

export interface Coverage {
  readonly items: readonly SyncItem[];
  readonly vaultUrl: string;
  readonly tenancy: Tenancy;
  readonly secrets: readonly Secret[];
  /** What the rule covers, also what of it is refused. */
  readonly named: readonly EntryPlace[];
  /** What of it is not refused. */
  readonly entries: readonly (EntryPlace & { readonly secretId?: string })[];
}

export async function observeDeletions(
  { store, cluster }: { readonly store: Pick<SyncStore, "endings">; readonly cluster: Cluster },
  rule: SyncRule,
  { record, scope }: RuleSafety,
  { items, vaultUrl, tenancy, secrets, named, entries }: Coverage,
): Promise<Sorted> {
  if (rule.spec.deletionPolicy !== "Delete" || record?.scope !== scope) return NOTHING;
  const covered = new Set(entries.map((entry) => placeOf({ ...entry, secretId: entry.secretId ?? "" })));
  const uncovered = items.filter((item) => item.vaultUrl !== vaultUrl || !covered.has(placeOf(item)));
  if (uncovered.length === 0) return NOTHING;
  const found = await store.endings(uncovered.map(({ secretId }) => secretId));
  const { namespace = "" } = rule.metadata;
  const inScope = scopeOf(rule, tenancy);
  const names = new Set(secrets.map(({ metadata }) => metadata.name));
  const standing = (secretName: string): Standing => {
    const secret = cluster.secret(namespace, secretName);
    if (secret === undefined) return { kind: "Absent" };
    const { projectRef, environment, entries: manifest } = secret.spec;
    if (projectRef.name !== inScope.project || environment !== inScope.environment) return { kind: "Other" };
    return names.has(secretName) ? { kind: "Covered", keys: manifest.map(({ key }) => key) } : { kind: "NotCovered" };
  };
  const claimed = new Set(named.map(({ entryName }) => foldName(entryName)));
  for (const name of namesOfOthers(cluster, rule, vaultUrl)) claimed.add(foldName(name));
  // As the manifests say: what waits for a value, and is not pushed before, wants its name all the same.
  const nameOf = namer(namingOf(rule));
  const wanted = secrets.flatMap(({ metadata, spec }) =>
    spec.entries.map(({ key }) => ({ secretName: metadata.name, key })),
  );
  const claimants = Map.groupBy(wanted, (each) => foldName(nameOf(each)));
  return sortUncovered({
    items: uncovered,
    vaultUrl,
    endings: new Map(found.map((ending) => [ending.secretId, ending])),
    standing,
    claimed,
    claimants,
    ownerOf: (name) => ownerOf({ ...inScope, name }),
  });
}

const NOTHING: Sorted = { doomed: [], undecided: [], isQuiet: true };

const placeOf = ({ secretId, key, entryName }: Pick<SyncItem, "secretId" | "key" | "entryName">): string =>
  `${secretId} ${key} ${foldName(entryName)}`;

/** What other rules of the namespace want in this vault. */
function* namesOfOthers(cluster: Cluster, rule: SyncRule, vaultUrl: string): Iterable<string> {
  const { namespace = "", uid } = rule.metadata;
  for (const other of cluster.syncRulesIn(namespace)) {
    if (other.metadata.uid === uid) continue;
    const keyVault = cluster.keyVault(namespace, other.spec.target.keyVault?.ref.name ?? "");
    if (keyVault === undefined || normalVaultUrl(keyVault.spec.vaultUrl) !== vaultUrl) continue;
    const nameOf = namer(namingOf(other));
    for (const { metadata, spec } of secretsOf(cluster, other)) {
      for (const { key } of spec.entries) yield nameOf({ secretName: metadata.name, key });
    }
  }
}
