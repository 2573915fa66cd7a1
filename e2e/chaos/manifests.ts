/** What a namespace needs beside its Project before its secrets go to a Key Vault: the first of the stand-in's vaults. */
import { azure, type MazeVault } from "../../lab/mazevault.ts";

/** A KeyVault and a SyncRule of the namespace's name; `interval` is how often the vault is looked at. */
export function pushManifests(mazevault: MazeVault, namespace: string, interval: string): readonly object[] {
  const projectRef = { name: namespace };
  const metadata = { name: namespace, namespace };
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
      metadata,
      spec: {
        projectRef,
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
    {
      apiVersion: "mazevault.io/v1",
      kind: "SyncRule",
      metadata,
      spec: {
        projectRef,
        environment: "pro",
        direction: "Push",
        target: { keyVault: { ref: { name: namespace } } },
        interval,
      },
    },
  ];
}

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
