/** What the core Secret beside a MazeVault Secret should be, and how what is there compares. Pure. */
import type { DeliveryRecord, EntryDigest } from "../../core/ports/vault-store.ts";
import type { Digester } from "../../core/vault/fingerprint.ts";
import type { DeliverSpec, Secret } from "../../crds/secret.ts";
import type { Cluster, Metadata } from "../cluster.ts";

export const MANAGED_BY_LABEL = "app.kubernetes.io/managed-by";
export const MANAGED_BY = "mazevault";
/** Name of the Secret that the core Secret was delivered from; with the installation's id it says whose it is. */
export const SOURCE_ANNOTATION = "mazevault.io/delivered-from";
export const INSTALLATION_ANNOTATION = "mazevault.io/installation";

/** Keyed digests of one secret. */
export type Digests = Digester;

export interface DesiredDelivery {
  readonly secretName: string;
  readonly type: string;
  readonly keys: readonly { readonly from: string; readonly to: string }[];
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Owned objects go with their owner; what `Retain` keeps has no owner. */
  readonly owned: boolean;
}

export function desiredDelivery(secret: Secret, deliver: DeliverSpec, installation: string): DesiredDelivery {
  return {
    secretName: deliver.secretName ?? secret.metadata.name,
    type: deliver.type ?? "Opaque",
    keys: deliver.keys ?? secret.spec.entries.map(({ key }) => ({ from: key, to: key })),
    labels: { ...deliver.labels, [MANAGED_BY_LABEL]: MANAGED_BY },
    annotations: {
      ...deliver.annotations,
      [SOURCE_ANNOTATION]: secret.metadata.name,
      [INSTALLATION_ANNOTATION]: installation,
    },
    owned: secret.spec.deletionPolicy !== "Retain",
  };
}

const sorted = (entries: Readonly<Record<string, string>>): string[] =>
  Object.entries(entries)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flat();

/** Changes exactly when what a consumer of the core Secret reads changes: keys and values. */
export function dataDigest(digests: Digests, desired: DesiredDelivery, entries: readonly EntryDigest[]): string {
  const fingerprints = new Map(entries.map(({ key, fingerprint }) => [key, fingerprint]));
  const pairs = desired.keys.map(({ from, to }) => [to, fingerprints.get(from) ?? ""] as const);
  return digests.digest("delivery-data", sorted(Object.fromEntries(pairs)));
}

/** Changes with everything else that is put into the core Secret. */
function frameDigest(digests: Digests, desired: DesiredDelivery, ownerUid: string): string {
  return digests.digest("delivery-frame", [
    desired.type,
    desired.owned ? ownerUid : "",
    ...sorted(desired.labels),
    "annotations",
    ...sorted(desired.annotations),
  ]);
}

/** The record's fingerprint: data and frame apart, since only changed data restarts a workload. */
export function deliveryFingerprint(
  digests: Digests,
  desired: DesiredDelivery,
  entries: readonly EntryDigest[],
  ownerUid: string,
): string {
  return `${dataDigest(digests, desired, entries)}.${frameDigest(digests, desired, ownerUid)}`;
}

/** Whether the delivery on record had other data than what is wanted now: then workloads have something to notice. */
export const dataDiffers = (record: DeliveryRecord, fingerprint: string): boolean =>
  record.fingerprint.split(".")[0] !== fingerprint.split(".")[0];

/** What stands in the cluster, without values: fingerprints of the data under the entry that each key comes from. */
export interface LiveCoreSecret {
  readonly uid: string;
  readonly resourceVersion: string;
  readonly type: string;
  readonly immutable: boolean;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly ownerUids: readonly string[];
  /** By key of the data; the fingerprint is undefined for keys that the delivery does not know. */
  readonly data: ReadonlyMap<string, string | undefined>;
  readonly terminating: boolean;
  /** Another Secret of the namespace that delivers here too. */
  readonly rival?: string;
}

/**
 * Name of the other Secret that keeps this core Secret up to date. Two that took it over from each other would never come
 * to rest; one that is gone, or delivers elsewhere by now, is no rival.
 */
export function rivalOf(
  { metadata: { annotations = {} } }: Metadata,
  secret: Secret,
  secretName: string,
  installation: string,
  cluster: Pick<Cluster, "secret">,
): string | undefined {
  const source = annotations[SOURCE_ANNOTATION];
  if (source === undefined || source === secret.metadata.name) return undefined;
  if (annotations[INSTALLATION_ANNOTATION] !== installation) return undefined;
  const deliver = cluster.secret(secret.metadata.namespace ?? "", source)?.spec.deliver;
  return deliver !== undefined && (deliver.secretName ?? source) === secretName ? source : undefined;
}

export const isOurs = (
  live: Pick<LiveCoreSecret, "uid" | "annotations">,
  secretName: string,
  installation: string,
  record: DeliveryRecord | undefined,
): boolean =>
  live.uid === record?.uid ||
  (live.annotations[INSTALLATION_ANNOTATION] === installation && live.annotations[SOURCE_ANNOTATION] === secretName);

export function sameData(live: LiveCoreSecret, desired: DesiredDelivery, entries: readonly EntryDigest[]): boolean {
  const fingerprints = new Map(entries.map(({ key, fingerprint }) => [key, fingerprint]));
  return (
    live.data.size === desired.keys.length &&
    desired.keys.every(({ from, to }) => live.data.has(to) && live.data.get(to) === fingerprints.get(from))
  );
}

export function sameFrame(live: LiveCoreSecret, desired: DesiredDelivery, ownerUid: string): boolean {
  const includes = (all: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean =>
    Object.entries(wanted).every(([name, value]) => all[name] === value);
  return (
    live.type === desired.type &&
    includes(live.labels, desired.labels) &&
    includes(live.annotations, desired.annotations) &&
    live.ownerUids.includes(ownerUid) === desired.owned
  );
}
