/** Resources of the tests, in the namespace and project of the installation. */
import { azure } from "../../lab/mazevault.ts";
import { secretManifest } from "../harness.ts";
import { TEAM } from "./installation.ts";

export const object = (kind: string, name: string, spec: object, metadata: object = { namespace: TEAM }): object => ({
  apiVersion: "mazevault.io/v1",
  kind,
  metadata: { name, ...metadata },
  spec,
});
export const secret = (name: string, entry: object, spec: object = {}): object =>
  secretManifest(TEAM, name, { entries: [{ key: "k", ...entry }], ...spec });
export const keyVault = (
  name: string,
  url: string,
  credential: object,
  clientId: string = azure.servicePrincipal,
): object =>
  object("KeyVault", name, {
    projectRef: { name: TEAM },
    vaultUrl: `https://${url}/`,
    auth: { servicePrincipal: { tenantId: azure.tenantId, clientId, ...credential } },
  });
export const azureVault = (name: string): string => `${name}.vault.azure.net`;
export const source = (name: string, stringData: Readonly<Record<string, string>>): object => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, namespace: TEAM },
  stringData,
});
