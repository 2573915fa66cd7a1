/** What the core Secret beside a Secret or a Certificate should be, and how what is there compares. Pure. */
import type { DeliveryRecord, EntryDigest } from "../../core/ports/vault-store.ts";
import type { Sensitive } from "../../core/sensitive.ts";
import type { Secret } from "../../crds/secret.ts";
import type { Cluster, Metadata } from "../cluster.ts";
import type { TlsBundle } from "./tls-bundle.ts";

export const MANAGED_BY_LABEL = "app.kubernetes.io/managed-by";
export const MANAGED_BY = "mazevault";
/** The object that the core Secret was delivered from; with the installation's id it says whose it is. */
export const SOURCE_ANNOTATION = "mazevault.io/delivered-from";
export const INSTALLATION_ANNOTATION = "mazevault.io/installation";
/** UID of the SyncRule, of the installation that is named, which delivers it through a gateway. */
export const RULE_ANNOTATION = "mazevault.io/sync-rule";

/** Digests by which what is delivered is recognised without keeping it. */
export interface Digests {
  /** Equal means same value under the same key of the source. */
  fingerprint(key: string, value: Sensitive): string;
  /** Of anything else; purposes never collide with each other. */
  digest(purpose: string, fields: readonly string[]): string;
}

export type DeliveringKind = "Secret" | "Certificate";

/** The object that a core Secret is delivered from. */
export interface Source {
  readonly kind: DeliveringKind;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export const sourceOf = (kind: DeliveringKind, { metadata }: Metadata): Source => ({
  kind,
  namespace: metadata.namespace ?? "",
  name: metadata.name,
  uid: metadata.uid,
});

/**
 * What the annotation of a core Secret says about its source: a Secret is its name alone, one of another namespace
 * or of another cluster `payments/orders-db`. Names of namespaces are in lower case, so none is taken for a kind.
 */
const sourceName = ({ source, namespace, field }: Pick<DesiredDelivery, "source" | "namespace" | "field">): string => {
  if (source.namespace !== namespace || field === "spec.target.gateway.kubernetes")
    return `${source.namespace}/${source.name}`;
  return source.kind === "Secret" ? source.name : `${source.kind}/${source.name}`;
};

export interface DesiredDelivery {
  readonly source: Source;
  /** Where the core Secret stands: beside its source, unless a SyncRule copies it. */
  readonly namespace: string;
  readonly secretName: string;
  readonly type: string;
  readonly keys: readonly { readonly from: string; readonly to: string }[];
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  /** Owned objects go with their owner; what `Retain` keeps has no owner. */
  readonly owned: boolean;
  /** `Deployment/orders`, or CONSUMERS. */
  readonly restarts: readonly string[];
  readonly adopt: boolean;
  readonly overwrite: boolean;
  /** Where adopt and overwrite stand in the manifest. */
  readonly field: "spec" | "spec.deliver" | "spec.target.kubernetes" | "spec.target.gateway.kubernetes";
}

/** Every workload of the namespace that uses the core Secret. */
export const CONSUMERS = "consumers";

/** What a manifest says about its core Secret, whatever its kind. */
export interface DeliverySettings {
  readonly labels?: Readonly<Record<string, string>> | undefined;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
  readonly restart?: readonly { readonly kind: string; readonly name: string }[] | undefined;
  readonly restartConsumers?: boolean | undefined;
  readonly adopt?: boolean | undefined;
  readonly overwrite?: boolean | undefined;
}

export const desiredDelivery = (
  what: Pick<DesiredDelivery, "source" | "namespace" | "secretName" | "type" | "keys" | "owned" | "field">,
  settings: DeliverySettings,
  installation: string,
): DesiredDelivery => ({
  ...what,
  labels: { ...settings.labels, [MANAGED_BY_LABEL]: MANAGED_BY },
  annotations: {
    ...settings.annotations,
    [SOURCE_ANNOTATION]: sourceName(what),
    [INSTALLATION_ANNOTATION]: installation,
  },
  restarts: [
    ...(settings.restart ?? []).map(({ kind, name }) => `${kind}/${name}`),
    ...(settings.restartConsumers === true ? [CONSUMERS] : []),
  ],
  adopt: settings.adopt === true,
  overwrite: settings.overwrite === true,
});

/** What is to be delivered, by key of the source. */
export type Delivered = readonly Pick<EntryDigest, "key" | "fingerprint">[];

const sorted = (entries: Readonly<Record<string, string>>): string[] =>
  Object.entries(entries)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flat();

/** Changes exactly when what a consumer of the core Secret reads changes: keys and values. */
export function dataDigest(digests: Pick<Digests, "digest">, desired: DesiredDelivery, entries: Delivered): string {
  const fingerprints = new Map(entries.map(({ key, fingerprint }) => [key, fingerprint]));
  const pairs = desired.keys.map(({ from, to }) => [to, fingerprints.get(from) ?? ""] as const);
  return digests.digest("delivery-data", sorted(Object.fromEntries(pairs)));
}

/** Changes with everything else that is put into the core Secret. */
function frameDigest(digests: Pick<Digests, "digest">, desired: DesiredDelivery): string {
  return digests.digest("delivery-frame", [
    desired.type,
    desired.owned ? desired.source.uid : "",
    ...sorted(desired.labels),
    "annotations",
    ...sorted(desired.annotations),
  ]);
}

/** The record's fingerprint: data and frame apart, since only changed data restarts a workload. */
export const deliveryFingerprint = (
  digests: Pick<Digests, "digest">,
  desired: DesiredDelivery,
  entries: Delivered,
): string => `${dataDigest(digests, desired, entries)}.${frameDigest(digests, desired)}`;

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
  /** Where it is of type kubernetes.io/tls. */
  readonly bundle?: TlsBundle;
  readonly terminating: boolean;
  /** Another object of the namespace that delivers here too, such as `Secret orders-db`. */
  readonly rival?: string;
  /** Its controlling owner, such as `ExternalSecret orders-db`: Kubernetes lets there be one only. */
  readonly controller?: string;
}

/**
 * The other object that keeps this core Secret up to date. Two that took it over from each other would never come to
 * rest; one that is gone, or delivers elsewhere by now, is no rival.
 */
export function rivalOf(
  { metadata: { annotations = {} } }: Metadata,
  desired: DesiredDelivery,
  installation: string,
  cluster: Pick<Cluster, "secret" | "certificate">,
): string | undefined {
  const { namespace, secretName } = desired;
  const from = annotations[SOURCE_ANNOTATION];
  if (from === undefined || from === sourceName(desired)) return undefined;
  if (annotations[INSTALLATION_ANNOTATION] !== installation) return undefined;
  const [kind, name] = from.startsWith("Certificate/") ? ["Certificate", from.slice(12)] : ["Secret", from];
  const delivers =
    kind === "Certificate"
      ? cluster.certificate(namespace, name ?? "")?.spec.secretName
      : deliveredName(cluster.secret(namespace, name ?? ""));
  return delivers === secretName ? `${kind} ${name}` : undefined;
}

/** The core Secret that a Secret delivers; undefined when it delivers none. */
export const deliveredName = (secret: Secret | undefined): string | undefined =>
  secret?.spec.deliver && (secret.spec.deliver.secretName ?? secret.metadata.name);

export const isOurs = (
  live: Pick<LiveCoreSecret, "uid" | "annotations">,
  { annotations }: DesiredDelivery,
  record: DeliveryRecord | undefined,
): boolean =>
  live.uid === record?.uid ||
  [SOURCE_ANNOTATION, INSTALLATION_ANNOTATION].every((name) => live.annotations[name] === annotations[name]);

export function sameData(live: LiveCoreSecret, desired: DesiredDelivery, entries: Delivered): boolean {
  const fingerprints = new Map(entries.map(({ key, fingerprint }) => [key, fingerprint]));
  return (
    live.data.size === desired.keys.length &&
    desired.keys.every(({ from, to }) => live.data.has(to) && live.data.get(to) === fingerprints.get(from))
  );
}

export function sameFrame(live: LiveCoreSecret, desired: DesiredDelivery): boolean {
  const includes = (all: Readonly<Record<string, string>>, wanted: Readonly<Record<string, string>>): boolean =>
    Object.entries(wanted).every(([name, value]) => all[name] === value);
  return (
    live.type === desired.type &&
    includes(live.labels, desired.labels) &&
    includes(live.annotations, desired.annotations) &&
    live.ownerUids.includes(desired.source.uid) === desired.owned
  );
}
