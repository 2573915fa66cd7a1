/** A store of the External Secrets Operator as the KeyVault of one namespace. */
import { z } from "zod";
import { type KeyVaultAuth, keyVaultSpec } from "../../crds/keyvault.ts";
import type { CoreSecrets } from "./core-secrets.ts";
import { type AzureStore, azureStore, type SecretKeySelector, storeSpec } from "./eso-schemas.ts";
import { type Manifest, unknownFields } from "./manifests.ts";
import { type Converted, Notes, UNKNOWN } from "./report.ts";
import { object } from "./secrets.ts";
import type { Tenant } from "./tenancy.ts";

export interface Identities {
  /** Core Secrets of the cluster, where client ids may stand. */
  readonly secrets: CoreSecrets;
  /** ServiceAccounts by `NAMESPACE/NAME`. */
  readonly serviceAccounts: ReadonlyMap<string, Manifest>;
  readonly clientId?: string | undefined;
  readonly tenantId?: string | undefined;
}

interface Place extends Tenant {
  readonly namespace: string;
  /** Of the KeyVault. */
  readonly name: string;
}

const AZURE = "spec.provider.azurekv";
const CLIENT_ID = "azure.workload.identity/client-id";
const TENANT_ID = "azure.workload.identity/tenant-id";

export const isAzure = ({ spec }: Manifest): boolean =>
  z.object({ provider: z.object({ azurekv: z.object({}) }) }).safeParse(spec).success;

/** @throws UsageError */
export function keyVaultOf(
  store: Manifest,
  place: Place,
  identities: Identities,
): { object?: Converted; notes: Notes } {
  const { kind, metadata, spec } = store;
  const notes = new Notes({ kind, namespace: metadata.namespace, name: metadata.name });
  const outer = storeSpec.safeParse(spec);
  const inner = azureStore.safeParse(outer.data?.provider.azurekv);
  if (!outer.success || !inner.success) {
    notes.block(AZURE, "it is not what external-secrets.io/v1 and v1beta1 have there; correct it");
    return { notes };
  }
  const azure = inner.data;
  for (const field of unknownFields(outer.data.provider.azurekv, azure, AZURE)) notes.lost(field, UNKNOWN);
  for (const field of unknownFields(spec, outer.data, "spec")) notes.lost(field, UNKNOWN);
  if (outer.data.conditions !== undefined) {
    notes.remark(
      "spec.conditions",
      "it is the Project that says which namespaces may have such a KeyVault: spec.namespaces",
    );
  }
  if ((azure.environmentType ?? "PublicCloud") !== "PublicCloud") {
    notes.block(`${AZURE}.environmentType`, "only Azure's public cloud is supported");
  }
  const auth = authOf(azure, place.namespace, identities, notes);
  const right = 'to pull, its identity needs the permission "list" on secrets besides "get"';
  notes.step(
    `${AZURE}.authType`,
    `${right}; KeyVault ${place.namespace}/${place.name} says so in its conditions when it lacks it`,
  );
  if (auth === undefined || notes.blocked) return { notes };
  const vaultUrl = azure.vaultUrl.toLowerCase();
  const keyVault = { projectRef: { name: place.project }, vaultUrl, auth };
  const { namespace, name } = place;
  const converted = object("KeyVault", { name, namespace }, keyVault, keyVaultSpec, notes);
  return { notes, ...(converted !== undefined && { object: converted }) };
}

function authOf(azure: AzureStore, namespace: string, identities: Identities, notes: Notes): KeyVaultAuth | undefined {
  switch (azure.authType ?? "ServicePrincipal") {
    case "ServicePrincipal":
      return servicePrincipal(azure, namespace, identities, notes);
    case "WorkloadIdentity":
      return workloadIdentity(azure, namespace, identities, notes);
    case "ManagedIdentity":
      notes.step(
        `${AZURE}.authType`,
        `the managed identity is the operator's own: give the one of MazeVault access, and list ${azure.vaultUrl} in spec.keyVaults of the Project`,
      );
      return { managedIdentity: azure.identityId === undefined ? {} : { clientId: azure.identityId.toLowerCase() } };
    default:
      notes.block(
        `${AZURE}.authType`,
        `${azure.authType} is none of ServicePrincipal, WorkloadIdentity, ManagedIdentity`,
      );
      return undefined;
  }
}

function servicePrincipal(
  { authSecretRef = {}, tenantId: own }: AzureStore,
  namespace: string,
  identities: Identities,
  notes: Notes,
): KeyVaultAuth | undefined {
  const at = `${AZURE}.authSecretRef`;
  const clientId = identities.clientId ?? told(authSecretRef.clientId, namespace, identities);
  if (clientId === undefined) notes.block(`${at}.clientId`, idMissing(authSecretRef.clientId, "--client-id"));
  const tenantId = own ?? identities.tenantId;
  if (tenantId === undefined) notes.block(`${AZURE}.tenantId`, "it is missing; give it with --tenant-id");
  const { clientSecret, clientCertificate } = authSecretRef;
  const field = clientSecret === undefined ? "clientCertificate" : "clientSecret";
  const reference = clientSecret ?? clientCertificate;
  if (reference?.name === undefined || reference.key === undefined) {
    notes.block(at, "it names neither clientSecret nor clientCertificate with name and key");
    return undefined;
  }
  const { name, key } = reference;
  if ((reference.namespace ?? namespace) !== namespace) {
    notes.step(
      `${at}.${field}`,
      `a KeyVault takes it from its own namespace: core Secret ${reference.namespace}/${name} must be in ${namespace} too`,
    );
  }
  if (field === "clientCertificate") {
    notes.remark(`${at}.${field}`, "certificate and private key must stand there as PEM, both in one value");
  }
  if (clientId === undefined || tenantId === undefined) return undefined;
  const ids = { tenantId: tenantId.toLowerCase(), clientId: clientId.toLowerCase() };
  const credential =
    field === "clientSecret" ? { clientSecretRef: { name, key } } : { certificateSecretRef: { name, key } };
  return { servicePrincipal: { ...ids, ...credential } };
}

function workloadIdentity(
  { serviceAccountRef, authSecretRef = {}, tenantId: own }: AzureStore,
  namespace: string,
  identities: Identities,
  notes: Notes,
): KeyVaultAuth | undefined {
  const at = `${AZURE}.serviceAccountRef`;
  if (serviceAccountRef === undefined) {
    notes.block(
      at,
      `it acts as the operator's own ServiceAccount; make one in ${namespace}, let the identity trust it (federated credential), and name it here`,
    );
    return undefined;
  }
  const { name, namespace: of = namespace } = serviceAccountRef;
  if (of !== namespace) {
    notes.step(
      `${at}.namespace`,
      `a KeyVault acts as a ServiceAccount of its own namespace: make ${namespace}/${name}, and let the identity trust it (federated credential for system:serviceaccount:${namespace}:${name})`,
    );
  }
  const annotations = identities.serviceAccounts.get(`${of}/${name}`)?.metadata.annotations ?? {};
  const clientId = identities.clientId ?? annotations[CLIENT_ID] ?? told(authSecretRef.clientId, namespace, identities);
  const tenantId =
    own ?? annotations[TENANT_ID] ?? told(authSecretRef.tenantId, namespace, identities) ?? identities.tenantId;
  const where = `annotation of ServiceAccount ${of}/${name}, which is not among what was given`;
  if (clientId === undefined) notes.block(at, `the client id is an ${where}; add serviceaccounts, or give --client-id`);
  if (tenantId === undefined)
    notes.block(at, `the tenant id may be an ${where}; add serviceaccounts, or give --tenant-id`);
  if (clientId === undefined || tenantId === undefined) return undefined;
  return {
    workloadIdentity: {
      tenantId: tenantId.toLowerCase(),
      clientId: clientId.toLowerCase(),
      serviceAccountRef: { name },
    },
  };
}

/** An identifier, which is not secret, where it stands in a core Secret. */
function told(
  reference: SecretKeySelector | undefined,
  namespace: string,
  { secrets }: Identities,
): string | undefined {
  if (reference?.name === undefined || reference.key === undefined) return undefined;
  const value = secrets.get(reference.namespace ?? namespace, reference.name)?.values.get(reference.key);
  const text = value?.toString("utf8").trim();
  // Anything else that stands there may be secret.
  return text !== undefined && /^[0-9a-f-]{36}$/i.test(text) ? text : undefined;
}

const idMissing = (reference: SecretKeySelector | undefined, option: string): string =>
  reference?.name === undefined
    ? `it is missing; give it with ${option}`
    : `it stands in key ${reference.key} of core Secret ${reference.name}, and a KeyVault has it in the manifest; give --secrets with that core Secret, or ${option}`;
