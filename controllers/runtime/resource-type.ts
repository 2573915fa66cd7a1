/** How a kind is addressed at the API server. */
import { GROUP, type KindDefinition, VERSION } from "../../crds/common.ts";

export interface ResourceType {
  /** Empty for core kinds. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

/** An object as far as every part of the runtime needs to know it. */
export interface KubernetesObject {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata: ObjectIdentity;
}

/** The part of `ObjectMeta` that the runtime itself acts on. */
export interface ObjectIdentity {
  readonly name: string;
  readonly namespace?: string;
  readonly uid: string;
  readonly resourceVersion: string;
  readonly generation?: number;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
}

export const resourceType = (kind: KindDefinition): ResourceType => ({
  group: GROUP,
  version: VERSION,
  plural: kind.plural,
  kind: kind.kind,
  namespaced: kind.scope === "Namespaced",
});

export const coreSecrets: ResourceType = {
  group: "",
  version: "v1",
  plural: "secrets",
  kind: "Secret",
  namespaced: true,
};

export const apiVersionOf = (type: ResourceType): string =>
  type.group === "" ? type.version : `${type.group}/${type.version}`;

/** `secrets`, or `secrets.mazevault.io` where the kind has a group: the label of metrics and messages. */
export const resourceLabel = (type: ResourceType): string =>
  type.group === "" ? type.plural : `${type.plural}.${type.group}`;

/**
 * Path of a collection or, with `name`, of an object or its subresource.
 * A namespaced kind without `namespace` gives the collection over all namespaces.
 */
export const resourcePath = (
  type: ResourceType,
  at: { readonly namespace?: string | undefined; readonly name?: string; readonly subresource?: string } = {},
): string => {
  if (type.namespaced && at.name !== undefined && at.namespace === undefined) {
    throw new TypeError(`${resourceLabel(type)} ${at.name} needs a namespace`);
  }
  let path = type.group === "" ? `/api/${type.version}` : `/apis/${type.group}/${type.version}`;
  if (type.namespaced && at.namespace !== undefined) path += `/namespaces/${encodeURIComponent(at.namespace)}`;
  path += `/${type.plural}`;
  if (at.name !== undefined) path += `/${encodeURIComponent(at.name)}`;
  if (at.subresource !== undefined) path += `/${at.subresource}`;
  return path;
};

/** `namespace/name`, or `name` for cluster-scoped objects: the key of caches and queues. */
export const keyOf = (object: { readonly metadata: { readonly name: string; readonly namespace?: string } }): string =>
  object.metadata.namespace === undefined
    ? object.metadata.name
    : `${object.metadata.namespace}/${object.metadata.name}`;

/** The parts of a key; the opposite of `keyOf`. */
export const splitKey = (key: string): { readonly name: string; readonly namespace?: string } => {
  const slash = key.indexOf("/");
  return slash < 0 ? { name: key } : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
};
