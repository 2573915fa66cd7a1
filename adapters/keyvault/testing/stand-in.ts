/** The stand-in of Azure with the adapter in front of it. */
import { readFileSync, writeFileSync } from "node:fs";
import type { VaultAccess, VaultAuth } from "../../../core/ports/target-vaults.ts";
import { Sensitive } from "../../../core/sensitive.ts";
import type { ConfigurationInput } from "../../../lab/keyvault/config.ts";
import {
  CERTIFIED,
  ClusterIssuer,
  DIRECTORY,
  makeApplicationCertificate,
  OFFICER,
  TENANT,
  VAULT,
} from "../../../lab/keyvault/testing/identities.ts";
import { Lab } from "../../../lab/keyvault/testing/lab.ts";
import { type AzureCall, type KeyVaultOptions, KeyVaults } from "../vaults.ts";

export const VAULT_NAME = VAULT;
export const VAULT_URL = `https://${VAULT}.vault.azure.net/`;

/** A second vault, so that a test can see whether the one suffers from the other. */
export const OTHER_VAULT_NAME = "other-vault";
export const OTHER_VAULT_URL = `https://${OTHER_VAULT_NAME}.vault.azure.net/`;

/** Deletion, recovery and purge take no time. */
const INSTANT = { deleting: 0, recovering: 0, settling: 0, purging: 0 };

export class StandIn {
  readonly lab = new Lab();
  readonly calls: AzureCall[] = [];
  issuer: ClusterIssuer | undefined;
  certificatePem = "";
  readonly #vaults: KeyVaults[] = [];

  async start(settings: ConfigurationInput["settings"] = {}): Promise<void> {
    const certificate = await makeApplicationCertificate(CERTIFIED.clientId);
    this.certificatePem = certificate.pem;
    writeFileSync(this.lab.path("application.pem"), certificate.certificate);
    this.issuer = new ClusterIssuer(this.lab);
    const all = { transitions: INSTANT, emptyLastPage: "always" as const, ...settings };
    const [vault] = DIRECTORY.vaults;
    const vaults = [...DIRECTORY.vaults, ...(vault ? [{ ...vault, name: OTHER_VAULT_NAME }] : [])];
    await this.lab.start({ ...DIRECTORY, vaults, settings: all });
  }

  /** As the operator makes it: a real URL, and the installation's map to where the stand-in listens. */
  vaults(options: KeyVaultOptions = {}): KeyVaults {
    const { listen, imds } = this.lab.addresses;
    const azure = `${listen.host}:${listen.port}`;
    const vaults = new KeyVaults({
      connectTo: [
        { host: "*.vault.azure.net", address: azure },
        { host: "login.microsoftonline.com", address: azure },
        ...(imds ? [{ host: "169.254.169.254", address: `${imds.host}:${imds.port}` }] : []),
      ],
      ca: readFileSync(this.lab.path("ca.pem"), "utf8"),
      onCall: (call) => this.calls.push(call),
      ...options,
    });
    this.#vaults.push(vaults);
    return vaults;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#vaults.map((each) => each.close()));
    await this.lab.dispose();
  }
}

export const sensitive = (text: string): Sensitive => new Sensitive(Buffer.from(text));

export function clientSecret(
  who: { readonly clientId: string; readonly secret: string } = OFFICER,
  tenantId: string = TENANT,
): VaultAuth {
  return {
    kind: "ClientSecret",
    tenantId,
    clientId: who.clientId,
    secret: sensitive(who.secret),
    sourceVersion: who.secret,
  };
}

export function access(change: Partial<VaultAccess> = {}): VaultAccess {
  return { uid: "uid-1", url: VAULT_URL, auth: clientSecret(), ...change };
}
