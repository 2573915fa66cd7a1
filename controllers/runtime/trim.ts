/** What of an object is worth keeping in memory. */
import { apiVersionOf, type KubernetesObject, type ResourceType } from "./resource-type.ts";

const LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration";

/**
 * Without managedFields, often half of an object, and without kubectl's copy of the manifest, which repeats the rest.
 * `transform` sees the result and trims further.
 */
export const trim = <T extends KubernetesObject>(
  object: T,
  options: {
    readonly type: ResourceType;
    readonly metadataOnly?: boolean;
    readonly transform?: (object: T) => T;
  },
): T => {
  const { type, metadataOnly, transform } = options;
  const { managedFields: _dropped, ...kept } = object.metadata as T["metadata"] & { managedFields?: unknown };
  const { [LAST_APPLIED]: lastApplied, ...annotations } = kept.annotations ?? {};
  const metadata = lastApplied === undefined ? kept : { ...kept, annotations };
  // Of metadata alone the API server says that it is a PartialObjectMetadata.
  const trimmed = metadataOnly
    ? { ...object, apiVersion: apiVersionOf(type), kind: type.kind, metadata }
    : { ...object, metadata };
  return transform === undefined ? trimmed : transform(trimmed);
};
