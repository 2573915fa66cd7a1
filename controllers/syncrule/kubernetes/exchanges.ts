/** What a rule with direction Bidirectional has to look into: its one core Secret of each Secret, and who waits for whom. */
import { type EntryPlace, failure, type SyncFailure } from "../../../core/sync/entries.ts";
import type { Secret } from "../../../crds/secret.ts";
import type { SyncConflict } from "../../../crds/syncconflict.ts";
import type { SyncRule } from "../../../crds/syncrule.ts";
import type { Metadata } from "../../cluster.ts";
import { isShareable, takenEntries } from "../coverage.ts";
import { withoutOverlaps } from "../overlaps.ts";
import { type CopiedSecret, type Copies, type CopiesInput, type Copy, placeOf, planCopies } from "./copies.ts";
import { coreSecretName, kubernetesOf } from "./place.ts";
import { ALLOW_PULL_ANNOTATION, allows } from "./takes.ts";

/** A core Secret, and which of its keys both sides may change. */
export interface Exchange extends Copy {
  readonly shared: readonly { readonly from: string; readonly to: string }[];
  /** Open ones, by key of the Secret. */
  readonly conflicts: ReadonlyMap<string, SyncConflict>;
}

export interface Exchanges extends Omit<Copies, "due"> {
  readonly due: readonly Exchange[];
  /** Left alone until a person has said of each of these what shall become of it. */
  readonly held: readonly { readonly secretName: string; readonly conflicts: readonly SyncConflict[] }[];
  /** Conflicts that are over. */
  readonly over: readonly SyncConflict[];
  /** Core Secrets from which nothing may be taken: what is edited there is written over. */
  readonly unshared: readonly string[];
}

export interface ExchangesInput extends CopiesInput {
  /** Names of all Secrets that the rule covers, stored or not. */
  readonly covered: ReadonlySet<string>;
  readonly conflicts: readonly SyncConflict[];
  readonly overlaps: (entry: EntryPlace) => SyncRule | undefined;
}

/** The resourceVersion says what was compared; with the UID, since a core Secret that was made anew is another one. */
export const targetVersionOf = ({ metadata: { uid, resourceVersion } }: Metadata): string =>
  `${uid}/${resourceVersion}`;

export const secretOf = ({ status }: SyncConflict): string => status?.secret ?? "";
export const keyIn = ({ status }: SyncConflict): string => status?.key ?? "";

export function planExchanges(input: ExchangesInput): Exchanges {
  const { rule, conflicts, namespaces, covered } = input;
  const [namespace] = namespaces;
  const refused: SyncFailure[] = [];
  const secrets = input.secrets.filter((each) => {
    const faults = faultsOf(input, each);
    refused.push(...faults);
    return faults.length === 0;
  });
  const plan = planCopies({ ...input, secrets, suffices: ({ agreed }) => agreed !== undefined });
  const bySecret = Map.groupBy(conflicts, secretOf);
  const ofName = new Map(secrets.map((each) => [each.secret.metadata.name, each]));
  const isOpen = new Set([
    ...plan.due.map(({ secretName }) => secretName),
    ...plan.failures.map(({ secret }) => secret),
  ]);
  const due: Exchange[] = [];
  const held: Exchanges["held"][number][] = [];
  for (const copy of plan.due) {
    const { secretName, desired } = copy;
    const each = ofName.get(secretName);
    if (each === undefined) continue;
    const open = bySecret.get(secretName) ?? [];
    const there = namespace?.coreSecret(desired.secretName);
    if (rule.spec.conflictPolicy === "Manual" && isHeld(open, each, there)) held.push({ secretName, conflicts: open });
    else {
      const byKey = new Map(open.map((conflict) => [keyIn(conflict), conflict]));
      due.push({ ...copy, shared: sharedKeys(each.secret, desired.keys), conflicts: byKey });
    }
  }
  const isStep = (name: string): boolean => namespace !== undefined && ofName.has(name) && !isOpen.has(name);
  return {
    ...plan,
    due,
    held,
    refused: plan.refused + (namespace === undefined ? 0 : input.secrets.length - secrets.length),
    failures: [...refused, ...plan.failures],
    over: conflicts.filter((conflict) => !covered.has(secretOf(conflict)) || isStep(secretOf(conflict))),
    unshared: secrets.flatMap(({ secret }) => {
      const coreName = coreSecretName(rule, secret.metadata.name);
      const there = namespace?.coreSecret(coreName);
      if (there === undefined || sharedKeys(secret, keysOf(rule, secret)).length === 0) return [];
      return allows(there, rule.metadata.namespace ?? "") ? [] : [`${namespace?.name}/${coreName}`];
    }),
  };
}

/** One core Secret is written as a whole, so one value that waits for a person holds up the others. */
function isHeld(open: readonly SyncConflict[], { entries }: CopiedSecret, there: Metadata | undefined): boolean {
  const unsaid = open.filter(({ spec }) => spec.resolution === undefined);
  return (
    unsaid.length > 0 &&
    there !== undefined &&
    unsaid.every(
      ({ status }) =>
        status?.targetVersion === targetVersionOf(there) && status.platformVersion === entries[0]?.version,
    )
  );
}

const keysOf = (rule: SyncRule, { spec }: Secret): Exchange["shared"] =>
  kubernetesOf(rule).keys ?? spec.entries.map(({ key }) => ({ from: key, to: key }));

function sharedKeys({ spec }: Secret, keys: Exchange["shared"]): Exchange["shared"] {
  const shareable = new Set(
    takenEntries(spec)
      .filter(isShareable)
      .map(({ key }) => key),
  );
  return keys.filter(({ from }) => shareable.has(from));
}

/** Only of what both sides may change; the rest is found as it is for direction Push. */
function faultsOf(
  { rule, overlaps, namespaces: [namespace] }: ExchangesInput,
  { secret }: CopiedSecret,
): readonly SyncFailure[] {
  const { name } = secret.metadata;
  const entryName = `${namespace?.name ?? ""}/${coreSecretName(rule, name)}`;
  const shared = sharedKeys(secret, keysOf(rule, secret));
  if (shared.length === 0 || secret.spec.protection === "EndToEnd") return [];
  if (secret.spec.retention?.versions === 1) {
    const message =
      "spec.retention.versions of the Secret is 1, so a value that loses could not be kept; set it to 2 or more";
    return [failure({ secretName: name, key: "", entryName }, "RetentionTooShort", message)];
  }
  const entries = shared.map(({ from }) => ({ secretName: name, key: from, entryName }));
  return withoutOverlaps({ entries, failures: [] }, overlaps).failures;
}

/** Of an entry, as conflicts and failures call it. */
export const entryOf = (copy: Copy, key: string): EntryPlace => ({
  secretName: copy.secretName,
  key,
  entryName: placeOf(copy),
});

export const unsharedMessage = (places: readonly string[], namespace: string): string =>
  `edits in ${places.slice(0, 3).join(", ")}${places.length > 3 ? " and others" : ""} are written over, not taken over, until who owns it annotates it with ${ALLOW_PULL_ANNOTATION}: ${namespace}`;
