/** Where a project has the values of its Secrets: in PostgreSQL, or in the Key Vault that it names for their environment. */
import { Stalled, Waiting } from "../../core/errors.ts";
import type { AuditLog } from "../../core/ports/audit-log.ts";
import type { KeptEntries } from "../../core/ports/kept-entries.ts";
import type { TargetVault } from "../../core/ports/target-vault.ts";
import { normalVaultUrl, type TargetVaults } from "../../core/ports/target-vaults.ts";
import type { SecretIdentity } from "../../core/ports/vault-store.ts";
import { KeyVaultStorage } from "../../core/vault/key-vault-storage.ts";
import { type StorageOf, sealedStorage } from "../../core/vault/storage.ts";
import type { KeyVault } from "../../crds/keyvault.ts";
import type { Project } from "../../crds/project.ts";
import { type Cluster, type TenancyCluster, tenancyOf } from "../cluster.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { vaultAccess } from "./access.ts";

export interface ProjectStorageDependencies {
  readonly api: KubernetesApi;
  readonly cluster: TenancyCluster & Pick<Cluster, "keyVault">;
  readonly vaults: TargetVaults;
  readonly entries: KeptEntries;
  readonly audit: Pick<AuditLog, "append">;
  readonly installation: string;
  /** Throws `Fenced` when another replica may lead; absent where nobody leads. */
  readonly assertLeading?: () => void;
}

type Where = Pick<SecretIdentity, "project" | "environment">;

/** Watches tell at once when it appears; this is only the safety net. */
const RECHECK_MS = 60_000;
const ACCESS_MS = 20_000;

const isOrchestrated = ({ spec }: Project): boolean => spec.storage === "Orchestrator";

/** Whether the values of this environment, or of any, are in that KeyVault. */
export const isStorageOf = (
  project: Project,
  { metadata }: Pick<KeyVault, "metadata">,
  environment?: string,
): boolean =>
  isOrchestrated(project) &&
  project.spec.environments.some(
    ({ name, keyVault }) =>
      (environment === undefined || name === environment) &&
      keyVault?.name === metadata.name &&
      keyVault.namespace === metadata.namespace,
  );

/**
 * The KeyVault that has the values of an environment; undefined: PostgreSQL has them.
 *
 * @throws Waiting ProjectNotFound, KeyVaultNotFound; Stalled EnvironmentNotDeclared, KeyVaultOfOtherProject
 */
export function storageKeyVault(
  cluster: Pick<Cluster, "project" | "keyVault">,
  { project: projectName, environment }: Where,
): KeyVault | undefined {
  const project = cluster.project(projectName);
  if (project === undefined) {
    throw new Waiting("ProjectNotFound", `there is no Project ${projectName} yet; apply it`, RECHECK_MS);
  }
  if (!isOrchestrated(project)) return undefined;
  const index = project.spec.environments.findIndex(({ name }) => name === environment);
  const ref = project.spec.environments[index]?.keyVault;
  if (ref === undefined) {
    throw new Stalled(
      "EnvironmentNotDeclared",
      `Project ${projectName} names no Key Vault for environment ${environment}; add the environment with its keyVault to spec.environments of the Project`,
    );
  }
  const field = `spec.environments[${index}].keyVault of Project ${projectName}`;
  const keyVault = cluster.keyVault(ref.namespace, ref.name);
  if (keyVault === undefined) {
    throw new Waiting(
      "KeyVaultNotFound",
      `${field}: there is no KeyVault ${ref.namespace}/${ref.name} yet, which has the values of environment ${environment}; apply it`,
      RECHECK_MS,
    );
  }
  if (keyVault.spec.projectRef.name !== projectName) {
    throw new Stalled(
      "KeyVaultOfOtherProject",
      `${field}: KeyVault ${ref.namespace}/${ref.name} belongs to Project ${keyVault.spec.projectRef.name}; it must be one of this project`,
    );
  }
  return keyVault;
}

export class ProjectStorage {
  readonly #deps: ProjectStorageDependencies;

  constructor(deps: ProjectStorageDependencies) {
    this.#deps = deps;
  }

  readonly of: StorageOf = async (identity) => {
    const keyVault = storageKeyVault(this.#deps.cluster, identity);
    if (keyVault === undefined) return sealedStorage;
    const { entries, audit, installation, assertLeading } = this.#deps;
    const vault = await this.#open(keyVault, identity.environment);
    return new KeyVaultStorage({ vault, entries, audit, installation, ...(assertLeading && { assertLeading }) });
  };

  /** For what is left to be done in it; the vault that it was written to, or none. */
  readonly vaultOf = async (identity: SecretIdentity, vaultUrl: string): Promise<TargetVault> => {
    const keyVault = storageKeyVault(this.#deps.cluster, identity);
    const url = keyVault === undefined ? "PostgreSQL" : normalVaultUrl(keyVault.spec.vaultUrl);
    if (keyVault !== undefined && url === vaultUrl) return this.#open(keyVault, identity.environment);
    throw new Waiting(
      "StorageDiffers",
      `Key Vault ${vaultUrl} has entries of environment ${identity.environment} of Project ${identity.project} that are to be deleted, and the project now says ${url}; let it name that vault again, or delete them there`,
      RECHECK_MS,
    );
  };

  async #open(keyVault: KeyVault, environment: string): Promise<TargetVault> {
    const { api, cluster, vaults } = this.#deps;
    const tenancy = tenancyOf(cluster, keyVault);
    const access = await vaultAccess(api, keyVault, tenancy, environment, AbortSignal.timeout(ACCESS_MS));
    const { namespace = "", name } = keyVault.metadata;
    // Opened after it was forgotten, a KeyVault that is gone would stay open for ever.
    if (cluster.keyVault(namespace, name)?.metadata.uid !== access.uid) {
      throw new Waiting("KeyVaultNotFound", `KeyVault ${namespace}/${name} is being made anew`, SOON_MS);
    }
    return vaults.open(access, "Change");
  }
}

const SOON_MS = 1_000;
