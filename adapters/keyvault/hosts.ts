/** Hosts that may get a token for Key Vault. A tenant names the vault, so this is checked before any request is made. */
import { Stalled } from "../../core/errors.ts";

/**
 * Azure's clouds: public, China, US government. Managed HSM (`*.managedhsm.azure.net`) keeps keys, not secrets.
 * https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#vault-name-and-object-name
 */
const AZURE_CLOUDS = ["*.vault.azure.net", "*.vault.azure.cn", "*.vault.usgovcloudapi.net"] as const;

export interface AllowedHost {
  readonly host: string;
  /** Added by the installation: the vault's challenge names Azure's resource, not this host. */
  readonly custom: boolean;
}

/**
 * @param url of the vault
 * @param custom hosts that the installation adds; `*` at the beginning stands for one label
 * @throws Stalled with VaultHostNotAllowed
 */
export function allowedHost(url: string, custom: readonly string[]): AllowedHost {
  const parsed = URL.parse(url);
  const plain = parsed?.protocol === "https:" && parsed.href === `https://${parsed.host}/`;
  const host = parsed?.host ?? "";
  if (plain && AZURE_CLOUDS.some((pattern) => matchesHost(host, pattern))) return { host, custom: false };
  if (plain && custom.some((pattern) => matchesHost(host, pattern.toLowerCase()))) return { host, custom: true };
  const known = [...AZURE_CLOUDS, ...custom].join(", ");
  throw new Stalled(
    "VaultHostNotAllowed",
    `spec.vaultUrl: the host of ${url} is not on the installation's allow-list (${known}); apply a new KeyVault with the right URL, or ask for the host to be added`,
  );
}

/** `*.example.net` matches one label before `.example.net`; anything else must be equal. */
export function matchesHost(host: string, pattern: string): boolean {
  if (!pattern.startsWith("*.")) return host === pattern;
  const label = host.slice(0, -(pattern.length - 1));
  return host.endsWith(pattern.slice(1)) && label !== "" && !label.includes(".");
}
