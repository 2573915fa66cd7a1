/** What a rule with direction Push has to make in other namespaces, and what stands against it. */
import type { CopyDelivery, CopyRecord } from "../../../core/ports/copy-store.ts";
import type { SourceEntry } from "../../../core/ports/sync-store.ts";
import { failure, type SyncFailure } from "../../../core/sync/entries.ts";
import type { Reason } from "../../../crds/conditions.ts";
import type { Secret } from "../../../crds/secret.ts";
import type { SyncRule } from "../../../crds/syncrule.ts";
import type { Metadata } from "../../cluster.ts";
import {
  type DesiredDelivery,
  type Digests,
  deliveryFingerprint,
  desiredDelivery,
  sourceOf,
} from "../../delivery/desired.ts";
import { coreSecretName, coreSecretsOf, isCoreSecretName, type TargetNamespace } from "./place.ts";
import type { Rivalry } from "./rivals.ts";

/** One core Secret that a rule makes of a Secret. */
export interface Copy {
  readonly secretName: string;
  readonly namespace: TargetNamespace;
  readonly desired: DesiredDelivery;
  /** What was delivered last; absent: nothing that is known of. */
  readonly record?: CopyDelivery;
}

/** A Secret with a complete version, and what its copies are told apart by. */
export interface CopiedSecret {
  readonly secret: Secret;
  readonly entries: readonly SourceEntry[];
  readonly digests: Pick<Digests, "digest">;
}

export interface Copies {
  /** Those that are as they should be, as far as metadata tells. */
  readonly inStep: number;
  readonly due: readonly Copy[];
  /** How many are refused, and why. */
  readonly refused: number;
  readonly failures: readonly SyncFailure[];
}

export interface CopiesInput {
  readonly rule: SyncRule;
  readonly installation: string;
  readonly secrets: readonly CopiedSecret[];
  /** Those that passed every check. */
  readonly namespaces: readonly (TargetNamespace & {
    /** Metadata of a core Secret there. */
    coreSecret(name: string): Metadata | undefined;
    rivalOf(coreName: string): Rivalry | undefined;
  })[];
  readonly records: readonly CopyRecord[];
  /** Whether what is on record of a core Secret that is in step will do; absent: it does. */
  readonly suffices?: (record: CopyDelivery) => boolean;
}

/** Where a core Secret stands, for people. */
export const placeOf = ({ namespace, desired }: Pick<Copy, "namespace" | "desired">): string =>
  `${namespace.name}/${desired.secretName}`;

export function planCopies({ rule, installation, secrets, namespaces, records, suffices }: CopiesInput): Copies {
  const recorded = new Map(
    records.map(({ secretId, namespaceUid, delivery }) => [
      `${secretId} ${namespaceUid} ${delivery.secretName}`,
      delivery,
    ]),
  );
  const due: Copy[] = [];
  const failures: SyncFailure[] = [];
  let [inStep, refused] = [0, 0];
  for (const { secret, entries, digests } of secrets) {
    const faulty = faultOf(rule, secret);
    if (faulty !== undefined) {
      refused += namespaces.length;
      failures.push(faulty);
      continue;
    }
    for (const { coreSecret, rivalOf, ...namespace } of namespaces) {
      const desired = desiredCopy(rule, secret, namespace, installation);
      const rivalry = rivalOf(desired.secretName);
      if (rivalry !== undefined) {
        refused += 1;
        failures.push(
          refusal({ secretName: secret.metadata.name, namespace, desired }, rivalry.reason, rivalry.message),
        );
        continue;
      }
      const record = recorded.get(`${entries[0]?.secretId} ${namespace.uid} ${desired.secretName}`);
      const there = coreSecret(desired.secretName)?.metadata;
      const isInStep =
        record !== undefined &&
        record.uid === there?.uid &&
        record.resourceVersion === there.resourceVersion &&
        record.pendingRestarts.length === 0 &&
        suffices?.(record) !== false &&
        record.fingerprint === deliveryFingerprint(digests, desired, entries);
      if (isInStep) inStep += 1;
      else due.push({ secretName: secret.metadata.name, namespace, desired, ...(record && { record }) });
    }
  }
  return { inStep, due, refused, failures };
}

export const refusal = (
  copy: Pick<Copy, "secretName" | "namespace" | "desired">,
  reason: Reason,
  message: string,
): SyncFailure => failure({ secretName: copy.secretName, key: "", entryName: placeOf(copy) }, reason, message);

/** What stands against core Secrets of this Secret, whatever the namespace is. */
export function faultOf(rule: SyncRule, { metadata: { name }, spec }: Secret): SyncFailure | undefined {
  const entryName = coreSecretName(rule, name);
  const { settings, field } = coreSecretsOf(rule);
  const refuse = (reason: Reason, message: string): SyncFailure =>
    failure({ secretName: name, key: "", entryName }, reason, message);
  if (spec.protection === "EndToEnd") {
    return refuse(
      "EndToEndProtected",
      "the values are sealed for their readers and cannot be copied; leave the Secret out of spec.secrets",
    );
  }
  if (!isCoreSecretName(entryName)) {
    return refuse(
      "TargetNameInvalid",
      `its core Secrets would be named "${entryName.slice(0, 253)}", which Kubernetes does not accept; choose another ${field}.secretName`,
    );
  }
  const own = new Set(spec.entries.map(({ key }) => key));
  const unknown = settings.keys?.find(({ from }) => !own.has(from));
  if (unknown === undefined) return undefined;
  return refuse(
    "TargetKeyUnknown",
    `${field}.keys: the Secret has no key ${unknown.from}; correct it, or leave the Secret out of spec.secrets`,
  );
}

export function desiredCopy(
  rule: SyncRule,
  secret: Secret,
  { name: namespace }: Pick<TargetNamespace, "name">,
  installation: string,
): DesiredDelivery {
  const { settings: said, field } = coreSecretsOf(rule);
  const { keys, type = "Opaque", ...settings } = said;
  const what = {
    source: sourceOf("Secret", secret),
    namespace,
    secretName: coreSecretName(rule, secret.metadata.name),
    type,
    keys: keys ?? secret.spec.entries.map(({ key }) => ({ from: key, to: key })),
    // Kubernetes knows no owner in another namespace.
    owned: false,
    field,
  } as const;
  return desiredDelivery(what, settings, installation);
}
