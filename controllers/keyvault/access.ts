/** From a KeyVault resource to what gets an identity in: credentials are read where they stand, in its own namespace. */
import { assertOwnIdentityAllowed, gatewayEnvironments } from "../../core/access/admission.ts";
import { Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import { namedProject, vaultNameFault } from "../../core/naming/key-vaults.ts";
import type { VaultAccess, VaultAuth } from "../../core/ports/target-vaults.ts";
import { Sensitive } from "../../core/sensitive.ts";
import type { KeyVault } from "../../crds/keyvault.ts";
import { notOnboarded, type Tenancy } from "../cluster.ts";
import { readCoreSecret } from "../delivery/core-secret.ts";
import { isForbidden, isNotFound } from "../runtime/api-error.ts";
import type { ResourceType } from "../runtime/resource-type.ts";
import { resourcePath } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";

/** The audience that Entra ID demands of a federated token (workload identity federation). */
const FEDERATION_AUDIENCE = "api://AzureADTokenExchange";
const TOKEN_SECONDS = 3_600;
const CREDENTIAL_RECHECK_MS = 60_000;

const serviceAccounts: ResourceType = {
  group: "",
  version: "v1",
  plural: "serviceaccounts",
  kind: "ServiceAccount",
  namespaced: true,
};

/**
 * @param environment of the project, whose values are concerned; undefined when none are
 *
 * Throws `Waiting("CredentialNotFound")` while the credential is not there, `Stalled` when it may not be used or the vault
 * has not the name that its project requires.
 */
export async function vaultAccess(
  api: KubernetesApi,
  keyVault: KeyVault,
  tenancy: Tenancy,
  environment: string | undefined,
  signal: AbortSignal,
): Promise<VaultAccess> {
  const { budget, vaultUrl } = keyVault.spec;
  const { project } = tenancy;
  const misnamed = vaultNameFault(namedProject(project), vaultUrl);
  if (misnamed !== undefined && project.spec.naming?.required === true) throw new Stalled("NameRefused", misnamed);
  return {
    uid: keyVault.metadata.uid,
    url: vaultUrl,
    auth: await vaultAuth(api, keyVault, tenancy, environment, signal),
    ...(budget && { callsPer10Seconds: budget.callsPer10Seconds }),
  };
}

async function vaultAuth(
  api: KubernetesApi,
  { metadata, spec }: KeyVault,
  {
    project: {
      metadata: { name },
      spec: projectSpec,
    },
  }: Tenancy,
  environment: string | undefined,
  signal: AbortSignal,
): Promise<VaultAuth> {
  const namespace = metadata.namespace ?? "";
  const { servicePrincipal, workloadIdentity, managedIdentity, gateway } = spec.auth;
  if (servicePrincipal !== undefined) {
    const { tenantId, clientId, clientSecretRef, certificateSecretRef } = servicePrincipal;
    if (clientSecretRef !== undefined) {
      const { value, sourceVersion } = await credential(api, namespace, "clientSecretRef", clientSecretRef, signal);
      return { kind: "ClientSecret", tenantId, clientId, secret: value, sourceVersion };
    }
    if (certificateSecretRef !== undefined) {
      const { value, sourceVersion } = await credential(
        api,
        namespace,
        "certificateSecretRef",
        certificateSecretRef,
        signal,
      );
      return { kind: "ClientCertificate", tenantId, clientId, pem: value, sourceVersion };
    }
  }
  if (workloadIdentity !== undefined) {
    const { tenantId, clientId, serviceAccountRef } = workloadIdentity;
    return {
      kind: "WorkloadIdentity",
      tenantId,
      clientId,
      serviceAccount: `${namespace}/${serviceAccountRef.name}`,
      token: (tokenSignal) => serviceAccountToken(api, namespace, serviceAccountRef.name, tokenSignal),
    };
  }
  const project = { name, spec: projectSpec };
  if (gateway !== undefined) {
    assertOwnIdentityAllowed(project, spec.vaultUrl, "gateway");
    const { ref, clientId } = gateway;
    const environments = gatewayEnvironments(project, environment);
    return { kind: "Gateway", gateway: ref.name, environments, ...(clientId !== undefined && { clientId }) };
  }
  assertOwnIdentityAllowed(project, spec.vaultUrl);
  return { kind: "ManagedIdentity", ...(managedIdentity?.clientId && { clientId: managedIdentity.clientId }) };
}

async function credential(
  api: KubernetesApi,
  namespace: string,
  field: "clientSecretRef" | "certificateSecretRef",
  ref: { readonly name: string; readonly key: string },
  signal: AbortSignal,
): Promise<{ value: Sensitive; sourceVersion: string }> {
  const path = `spec.auth.servicePrincipal.${field}`;
  const secret = await readCoreSecret(api, namespace, ref.name, signal);
  if (secret === undefined) {
    throw new Waiting(
      "CredentialNotFound",
      `${path}: there is no core Secret ${namespace}/${ref.name} yet; create it or correct the reference`,
      CREDENTIAL_RECHECK_MS,
    );
  }
  const value = secret.data?.[ref.key];
  if (value === undefined) {
    throw new Waiting(
      "CredentialNotFound",
      `${path}: core Secret ${namespace}/${ref.name} has no key ${ref.key}; add it or correct the reference`,
      CREDENTIAL_RECHECK_MS,
    );
  }
  const { uid, resourceVersion } = secret.metadata;
  return { value: new Sensitive(Buffer.from(value, "base64")), sourceVersion: `${uid}/${resourceVersion}/${ref.key}` };
}

async function serviceAccountToken(
  api: KubernetesApi,
  namespace: string,
  name: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  try {
    const { body } = await api.request({
      method: "POST",
      path: resourcePath(serviceAccounts, { namespace, name, subresource: "token" }),
      body: {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec: { audiences: [FEDERATION_AUDIENCE], expirationSeconds: TOKEN_SECONDS },
      },
      verb: "create",
      type: serviceAccounts,
      signal,
    });
    return (body as { status: { token: string } }).status.token;
  } catch (error) {
    if (isNotFound(error, name)) {
      throw new Waiting(
        "CredentialNotFound",
        `spec.auth.workloadIdentity.serviceAccountRef: there is no ServiceAccount ${namespace}/${name} yet; create it or correct the reference`,
        CREDENTIAL_RECHECK_MS,
        { cause: error },
      );
    }
    if (isForbidden(error)) throw notOnboarded(namespace, error);
    if (error instanceof Unavailable) throw error;
    throw new Unavailable("IdentityUnavailable", `no token could be had for ServiceAccount ${namespace}/${name}`, {
      cause: error,
    });
  }
}
