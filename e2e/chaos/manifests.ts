/** What a namespace needs beside its Project before its secrets meet a Key Vault: the first of the stand-in's vaults. */
import type { SyncRuleSpec } from "../../crds/syncrule.ts";
import { azure, type MazeVault } from "../../lab/mazevault.ts";

/** A KeyVault and a SyncRule of the namespace's name; `interval` is how often the vault is looked at. */
export const pushManifests = (mazevault: MazeVault, namespace: string, interval: string): readonly object[] => [
  ...vaultManifests(mazevault, namespace),
  ruleManifest(namespace, { direction: "Push", interval }),
];

/** A KeyVault of the namespace's name, and its credentials. */
export function vaultManifests(mazevault: MazeVault, namespace: string): readonly object[] {
  return [
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "service-principal", namespace },
      stringData: { secret: mazevault.servicePrincipal.secret },
    },
    {
      apiVersion: "mazevault.io/v1",
      kind: "KeyVault",
      metadata: { name: namespace, namespace },
      spec: {
        projectRef: { name: namespace },
        vaultUrl: `https://${azure.vaults[0]}.vault.azure.net/`,
        auth: {
          servicePrincipal: {
            tenantId: azure.tenantId,
            clientId: azure.servicePrincipal,
            clientSecretRef: { name: "service-principal", key: "secret" },
          },
        },
        budget: { callsPer10Seconds: 4000 },
      },
    },
  ];
}

/** A SyncRule of the namespace's name with its KeyVault. */
export const ruleManifest = (
  namespace: string,
  spec: Pick<SyncRuleSpec, "direction"> & Partial<SyncRuleSpec>,
): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "SyncRule",
  metadata: { name: namespace, namespace },
  spec: {
    projectRef: { name: namespace },
    environment: "pro",
    target: { keyVault: { ref: { name: namespace } } },
    ...spec,
  },
});

/** No replicas: it is about what restarts it, not about pods. */
export function consumerManifest(namespace: string, name: string, secretName: string): object {
  const labels = { app: name };
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name, namespace },
    spec: {
      replicas: 0,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels },
        spec: { containers: [{ name: "app", image: "app", envFrom: [{ secretRef: { name: secretName } }] }] },
      },
    },
  };
}
