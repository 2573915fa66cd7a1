/** What a rule with direction Pull has to take over from core Secrets, told from their metadata alone. */
import type { PulledItem, SourceEntry } from "../../../core/ports/sync-store.ts";
import { failure, label, type SyncFailure } from "../../../core/sync/entries.ts";
import type { WantedEntry } from "../../../core/sync/pull-plan.ts";
import type { Secret } from "../../../crds/secret.ts";
import type { SyncRule } from "../../../crds/syncrule.ts";
import type { Metadata } from "../../cluster.ts";
import { INSTALLATION_ANNOTATION, SOURCE_ANNOTATION } from "../../delivery/desired.ts";
import { isExternal, takenEntries } from "../coverage.ts";
import { coreSecretName, kubernetesOf, type TargetNamespace } from "./place.ts";

/**
 * On a core Secret: names of the namespaces, apart from each other by commas, whose rules may take its values. Who may
 * write rules must not by them read what they could not read before, so whoever owns the core Secret says so.
 */
export const ALLOW_PULL_ANNOTATION = "mazevault.io/allow-pull";

/** An external entry, what the platform has of it, and the core Secret and key that it comes from. */
export interface WantedValue extends Omit<WantedEntry, "owner"> {
  readonly coreName: string;
  readonly to: string;
}

/** The external entries of these Secrets that the rule takes over; what cannot be is among the failures. */
export function wantedValues(
  rule: SyncRule,
  secrets: readonly Secret[],
  sources: readonly SourceEntry[],
): { readonly entries: readonly WantedValue[]; readonly failures: readonly SyncFailure[] } {
  const { keys, namespaces } = kubernetesOf(rule);
  const stored = Map.groupBy(sources, ({ secretName }) => secretName);
  const entries: WantedValue[] = [];
  const failures: SyncFailure[] = [];
  for (const { metadata, spec } of secrets) {
    const held = stored.get(metadata.name) ?? [];
    const external = new Set(
      takenEntries(spec)
        .filter(isExternal)
        .map(({ key }) => key),
    );
    const coreName = coreSecretName(rule, metadata.name);
    for (const { from: key, to } of keys ?? [...external].map((key) => ({ from: key, to: key }))) {
      const place = { secretName: metadata.name, key, entryName: `${namespaces[0]}/${coreName}/${to}` };
      const fingerprint = held.find((each) => each.key === key)?.fingerprint;
      if (spec.protection === "EndToEnd") {
        const message =
          "the values are sealed for their readers and cannot be taken over; leave the Secret out of spec.secrets";
        failures.push(failure(place, "EndToEndProtected", message));
      } else if (!external.has(key)) {
        const message = `spec.target.kubernetes.keys: the Secret has no external entry ${key}; correct it, or leave the Secret out of spec.secrets`;
        failures.push(failure(place, "TargetKeyUnknown", message));
      } else {
        const known = {
          ...(held[0] && { secretId: held[0].secretId }),
          ...(fingerprint !== undefined && { fingerprint }),
        };
        entries.push({ ...place, coreName, to, ...known });
      }
    }
  }
  return { entries, failures };
}

/** Entries of one Secret that are due: what of them is there becomes one version. */
export interface Take {
  readonly secretName: string;
  readonly namespace: TargetNamespace;
  readonly coreName: string;
  readonly entries: readonly WantedValue[];
}

export interface Takes {
  readonly inStep: number;
  readonly due: readonly Take[];
  /** What the rule took over and no longer covers; the values stay. */
  readonly forget: readonly PulledItem[];
  readonly failures: readonly SyncFailure[];
}

export interface TakesInput {
  readonly ruleUid: string;
  /** Of the rule. */
  readonly ownNamespace: string;
  readonly installation: string;
  readonly namespace: TargetNamespace;
  readonly coreSecret: (name: string) => Metadata | undefined;
  readonly wanted: readonly WantedValue[];
  /** Of the secrets that are wanted and of this rule. */
  readonly pulled: readonly PulledItem[];
  /** UIDs of the rules that exist: what another one took over is its own. */
  readonly rules: ReadonlySet<string>;
}

/** As `PulledItem` has it; the UID, since a namespace that was made anew is another one. */
export const sourceUrl = ({ uid }: TargetNamespace): string => `kubernetes:${uid}`;

/** The state of a core Secret that a value was read in, and under which key: what `PulledItem` folds is told apart here. */
export const stateOf = ({ metadata: { uid, resourceVersion } }: Metadata, { to }: Pick<WantedValue, "to">): string =>
  `${uid}/${resourceVersion}/${to}`;

export function planTakes(input: TakesInput): Takes {
  const { ruleUid, namespace } = input;
  const bases = new Map(input.pulled.map((item) => [`${item.secretId} ${item.key}`, item]));
  const covered = new Set<PulledItem>();
  const due: WantedValue[] = [];
  const failures: SyncFailure[] = [];
  let inStep = 0;
  for (const entry of input.wanted) {
    const base = bases.get(`${entry.secretId} ${entry.key}`);
    if (base !== undefined) covered.add(base);
    const there = input.coreSecret(entry.coreName);
    const fault = faultOf(entry, base, there, input);
    if (fault !== undefined) failures.push(fault);
    else if (base !== undefined && there !== undefined && isTaken(entry, base, there, input)) inStep += 1;
    else due.push(entry);
  }
  return {
    inStep,
    due: [...Map.groupBy(due, ({ secretName }) => secretName)].map(([secretName, entries]) => ({
      secretName,
      namespace,
      coreName: entries[0]?.coreName ?? "",
      entries,
    })),
    forget: input.pulled.filter((item) => item.ruleUid === ruleUid && !covered.has(item)),
    failures,
  };
}

const isTaken = (entry: WantedValue, base: PulledItem, there: Metadata, { ruleUid, namespace }: TakesInput): boolean =>
  base.ruleUid === ruleUid &&
  base.vaultUrl === sourceUrl(namespace) &&
  base.targetVersion === stateOf(there, entry) &&
  base.fingerprint === entry.fingerprint;

function faultOf(
  entry: WantedValue,
  base: PulledItem | undefined,
  there: Metadata | undefined,
  { ruleUid, rules, ownNamespace, installation, namespace }: TakesInput,
): SyncFailure | undefined {
  if (base !== undefined && base.ruleUid !== ruleUid && rules.has(base.ruleUid)) {
    return failure(
      entry,
      "PulledByOther",
      `another SyncRule (uid ${base.ruleUid}) takes ${label(entry)} over; leave it out of one of them with spec.secrets`,
    );
  }
  return refusalOf(entry, there, { ownNamespace, installation, namespace, known: base?.ruleUid === ruleUid });
}

/**
 * Why nothing may be taken from what stands there. What is not allowed is told like what is not there: the names of core
 * Secrets of another namespace are nobody's business either.
 */
export function refusalOf(
  entry: WantedValue,
  there: Metadata | undefined,
  about: Pick<TakesInput, "ownNamespace" | "installation" | "namespace"> & { readonly known: boolean },
): SyncFailure | undefined {
  const { ownNamespace, installation, namespace, known } = about;
  const place = `${namespace.name}/${entry.coreName}`;
  if (there === undefined || !allows(there, ownNamespace)) {
    const kept = known ? `; ${label(entry)} keeps the value that it had` : "";
    return failure(
      entry,
      "TargetMissing",
      `there is no core Secret ${place} with the annotation ${ALLOW_PULL_ANNOTATION}: ${ownNamespace}; create it, or have its owner annotate it${kept}`,
    );
  }
  const { annotations = {} } = there.metadata;
  if (annotations[INSTALLATION_ANNOTATION] !== installation || annotations[SOURCE_ANNOTATION] === undefined) {
    return undefined;
  }
  return failure(
    entry,
    "TargetNotOwned",
    `core Secret ${place} was delivered by MazeVault from ${annotations[SOURCE_ANNOTATION]}, and taking that back would go round in circles; copy it from there with direction Push, or remove the annotation ${SOURCE_ANNOTATION} if it is no longer so`,
  );
}

export const allows = ({ metadata: { annotations = {} } }: Metadata, namespace: string): boolean =>
  (annotations[ALLOW_PULL_ANNOTATION] ?? "")
    .split(",")
    .map((name) => name.trim())
    .includes(namespace);

export const missingKey = (entry: WantedValue): SyncFailure =>
  failure(
    entry,
    "TargetMissing",
    `core Secret ${entry.entryName.replace(/\/[^/]*$/, "")} has no key ${entry.to}; add it there, or say with spec.target.kubernetes.keys which key it is`,
  );
