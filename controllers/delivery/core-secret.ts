/** Reading and writing the core Secret that is delivered. Values are in memory for the length of one call only. */
import { Sensitive } from "../../core/sensitive.ts";
import { API_VERSION, type ObjectMeta, type OwnerReference } from "../../crds/common.ts";
import { notOnboarded } from "../cluster.ts";
import { isForbidden, isNotFound } from "../runtime/api-error.ts";
import { coreSecrets } from "../runtime/resource-type.ts";
import type { KubernetesApi, WritableObject } from "../runtime/transport.ts";
import {
  type DesiredDelivery,
  type Digests,
  INSTALLATION_ANNOTATION,
  type LiveCoreSecret,
  MANAGED_BY_LABEL,
  SOURCE_ANNOTATION,
  type Source,
} from "./desired.ts";
import { tlsBundle } from "./tls-bundle.ts";

/** Owner of the fields of a delivered core Secret. */
export const DELIVERY_FIELD_MANAGER = "mazevault-delivery";

interface ManagedFields {
  readonly manager: string;
  readonly time?: string;
  readonly fieldsV1?: { readonly "f:metadata"?: Readonly<Record<string, Readonly<Record<string, unknown>>>> };
}

export interface CoreSecret {
  readonly metadata: ObjectMeta & { readonly managedFields?: readonly ManagedFields[] };
  readonly type?: string;
  readonly immutable?: boolean;
  /** Base64. */
  readonly data?: Readonly<Record<string, string>>;
}

export interface WrittenCoreSecret {
  readonly metadata: ObjectMeta;
}

export async function readCoreSecret(
  api: KubernetesApi,
  namespace: string,
  name: string,
  signal: AbortSignal,
): Promise<CoreSecret | undefined> {
  try {
    return await api.get<CoreSecret>(coreSecrets, { namespace, name }, { signal });
  } catch (error) {
    if (isNotFound(error, name)) return undefined;
    throw isForbidden(error) ? notOnboarded(namespace, error) : error;
  }
}

/** What decide needs of a core Secret; `keys` tells which entry each key of the data comes from. */
export function liveCoreSecret(
  secret: CoreSecret,
  digests: Digests,
  keys: readonly { readonly from: string; readonly to: string }[],
): LiveCoreSecret {
  const { metadata, data = {} } = secret;
  const from = new Map(keys.map((key) => [key.to, key.from]));
  const fingerprint = (to: string, value: string): string | undefined => {
    const entry = from.get(to);
    return entry === undefined ? undefined : digests.fingerprint(entry, new Sensitive(Buffer.from(value, "base64")));
  };
  const { type = "Opaque" } = secret;
  const controller = metadata.ownerReferences?.find((owner) => owner.controller === true);
  return {
    uid: metadata.uid,
    resourceVersion: metadata.resourceVersion,
    type,
    immutable: secret.immutable === true,
    labels: metadata.labels ?? {},
    annotations: metadata.annotations ?? {},
    ownerUids: (metadata.ownerReferences ?? []).map(({ uid }) => uid),
    data: new Map(Object.entries(data).map(([to, value]) => [to, fingerprint(to, value)])),
    ...(type === "kubernetes.io/tls" && { bundle: tlsBundle(data) }),
    terminating: metadata.deletionTimestamp !== undefined,
    ...(controller && { controller: `${controller.kind} ${controller.name}` }),
  };
}

/** The object to create. */
export function coreSecretManifest(desired: DesiredDelivery, values: ReadonlyMap<string, Sensitive>): WritableObject {
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: {
      name: desired.secretName,
      namespace: desired.namespace,
      labels: desired.labels,
      annotations: desired.annotations,
      ownerReferences: desired.owned ? [ownerReference(desired.source)] : [],
    },
    type: desired.type,
    data: encoded(desired, values),
  };
}

/** JSON merge patch (RFC 7396) from what is there; what others put into its metadata stays. */
export function coreSecretPatch(
  desired: DesiredDelivery,
  values: ReadonlyMap<string, Sensitive>,
  live: CoreSecret,
): unknown {
  return {
    ...adoptionPatch(desired, live),
    data: { ...removed(Object.keys(live.data ?? {}), encoded(desired, values)), ...encoded(desired, values) },
  };
}

/** JSON merge patch that makes it ours as it stands: what is not ours in its metadata stays, and so does all of its data. */
export function adoptionPatch(desired: DesiredDelivery, live: CoreSecret) {
  const foreignOwners = (live.metadata.ownerReferences ?? []).filter((owner) => !isSameOrFormer(owner, desired.source));
  return {
    metadata: {
      ...precondition(live),
      labels: { ...removed(ownMetadata(live, "labels"), desired.labels), ...desired.labels },
      annotations: { ...removed(ownMetadata(live, "annotations"), desired.annotations), ...desired.annotations },
      ownerReferences: desired.owned ? [...foreignOwners, ownerReference(desired.source)] : foreignOwners,
    },
  };
}

/** JSON merge patch after which the core Secret goes on without us: nobody deletes it, and its data stays. */
export const releasePatch = (live: CoreSecret, ownerUid: string): unknown => ({
  metadata: {
    ...precondition(live),
    labels: { [MANAGED_BY_LABEL]: null },
    annotations: { [SOURCE_ANNOTATION]: null, [INSTALLATION_ANNOTATION]: null },
    ownerReferences: (live.metadata.ownerReferences ?? []).filter(({ uid }) => uid !== ownerUid),
  },
});

const precondition = ({ metadata: { uid, resourceVersion } }: CoreSecret) => ({ uid, resourceVersion });

/** An object that was deleted and applied again has another UID, and there can be one controlling owner only. */
const isSameOrFormer = ({ apiVersion, kind, name }: OwnerReference, source: Source): boolean =>
  apiVersion === API_VERSION && kind === source.kind && name === source.name;

const ownerReference = ({ kind, name, uid }: Source): OwnerReference => ({
  apiVersion: API_VERSION,
  kind,
  name,
  uid,
  controller: true,
});

const encoded = (desired: DesiredDelivery, values: ReadonlyMap<string, Sensitive>): Record<string, string> =>
  Object.fromEntries(
    desired.keys.flatMap(({ from, to }) => {
      const value = values.get(from);
      return value === undefined ? [] : [[to, value.reveal().toString("base64")]];
    }),
  );

const removed = (names: readonly string[], wanted: Readonly<Record<string, string>>): Record<string, null> =>
  Object.fromEntries(names.filter((name) => !(name in wanted)).map((name) => [name, null]));

/** Names of the labels or annotations that the API server knows as set by us. */
const ownMetadata = (live: CoreSecret, field: "labels" | "annotations"): string[] =>
  (live.metadata.managedFields ?? [])
    .filter(({ manager }) => manager === DELIVERY_FIELD_MANAGER)
    .flatMap(({ fieldsV1 }) => Object.keys(fieldsV1?.["f:metadata"]?.[`f:${field}`] ?? {}))
    .filter((name) => name !== ".")
    .map((name) => name.replace(/^f:/, ""));
