/** Rules of a namespace that would write the same entry in turn: the younger one leaves it alone. */
import { normalVaultUrl } from "../../core/ports/target-vaults.ts";
import { type EntryPlace, failure, foldName, label, type SyncFailure } from "../../core/sync/entries.ts";
import { namer } from "../../core/sync/names.ts";
import type { SecretEntry } from "../../crds/secret.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import type { Cluster } from "../cluster.ts";
import { isExternal, isShareable, namingOf, secretsOf, takenEntries } from "./coverage.ts";

/**
 * The older rule, if any, with which this one would write an entry in turn: one of both takes it over from the vault entry
 * that the other only writes, or takes it over whatever is written here meanwhile.
 */
export function overlapsOf(
  cluster: Cluster,
  rule: SyncRule,
  vaultUrl: string,
): (entry: EntryPlace) => SyncRule | undefined {
  const { namespace = "" } = rule.metadata;
  const others = cluster
    .syncRulesIn(namespace)
    .filter((other) => isOlder(other, rule) && sameScope(other, rule))
    .map((other) => {
      const keyVault = cluster.keyVault(namespace, other.spec.target.keyVault?.ref.name ?? "");
      return {
        other,
        url: keyVault && normalVaultUrl(keyVault.spec.vaultUrl),
        names: new Set(secretsOf(cluster, other).map(({ metadata }) => metadata.name)),
        nameOf: namer(namingOf(other)),
      };
    });
  return (entry) => {
    const { secretName, key, entryName } = entry;
    const secret = cluster.secret(namespace, secretName);
    // What a rotation applies elsewhere is only written, whatever the direction.
    const spec = secret && takenEntries(secret.spec).find((each) => each.key === key);
    if (spec === undefined) return undefined;
    const ours = takesOver(rule, spec);
    return others.find(({ other, url, names, nameOf }) => {
      if (!names.has(secretName)) return false;
      const theirs = takesOver(other, spec);
      if (ours && theirs) return rule.spec.direction === "Pull" || other.spec.direction === "Pull";
      return ours !== theirs && url === vaultUrl && foldName(nameOf(entry)) === foldName(entryName);
    })?.other;
  };
}

const takesOver = ({ spec: { direction } }: SyncRule, entry: SecretEntry): boolean =>
  direction === "Pull" ? isExternal(entry) : direction === "Bidirectional" && isShareable(entry);

const sameScope = ({ spec: a }: SyncRule, { spec: b }: SyncRule): boolean =>
  a.projectRef.name === b.projectRef.name && a.environment === b.environment;

/** Of two rules the one that was there first stays as it is. */
function isOlder({ metadata: a }: SyncRule, { metadata: b }: SyncRule): boolean {
  const [first, second] = [a, b].map(({ creationTimestamp = "", name }) => `${creationTimestamp} ${name}`);
  return a.uid !== b.uid && (first ?? "") < (second ?? "");
}

export function withoutOverlaps<Entry extends EntryPlace>(
  { entries, failures }: { readonly entries: readonly Entry[]; readonly failures: readonly SyncFailure[] },
  overlaps: (entry: EntryPlace) => SyncRule | undefined,
): { readonly entries: readonly Entry[]; readonly failures: readonly SyncFailure[] } {
  const kept: Entry[] = [];
  const refused: SyncFailure[] = [];
  for (const entry of entries) {
    const other = overlaps(entry);
    if (other === undefined) {
      kept.push(entry);
      continue;
    }
    const { metadata, spec } = other;
    const message = `SyncRule ${metadata.name} with direction ${spec.direction} covers ${label(entry)} too, and both would write in turn; leave it out of one of them with spec.secrets`;
    refused.push(failure(entry, "RulesOverlap", message));
  }
  return { entries: kept, failures: [...failures, ...refused] };
}
