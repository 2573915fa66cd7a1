/** What `spec.rotation.apply` refers to in the namespace. */
import { Waiting } from "../../../core/errors.ts";
import { Sensitive } from "../../../core/sensitive.ts";
import { readCoreSecret } from "../../delivery/core-secret.ts";
import type { KubernetesApi } from "../../runtime/transport.ts";

const RECHECK_MS = 10_000;

/** @throws Waiting CredentialNotFound */
export async function referredValue(
  api: KubernetesApi,
  field: string,
  at: { readonly namespace: string; readonly name: string; readonly key: string },
  signal: AbortSignal,
): Promise<Sensitive> {
  const secret = await readCoreSecret(api, at.namespace, at.name, signal);
  const value = secret?.data?.[at.key];
  if (value !== undefined) return new Sensitive(Buffer.from(value, "base64"));
  const missing = secret === undefined ? "there is no" : `key ${at.key} is missing in`;
  throw new Waiting(
    "CredentialNotFound",
    `spec.rotation.apply.${field}: ${missing} core Secret ${at.namespace}/${at.name}; create it or correct the reference`,
    RECHECK_MS,
  );
}
