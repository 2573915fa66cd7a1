/** What an installation has that is upgraded: of all that writes something, enough to be told when one of them does. */
import { azure } from "../../lab/mazevault.ts";
import { secretManifest, type World } from "../harness.ts";

export const NAMESPACE = "steady";
export const COPIES = "copies";
/** Of those that the two vaults of the stand-in, and the others that it has, are for. */
const VAULTS = [...azure.vaults, ...azure.moreVaults];
const ISSUERS = 20;

export interface Resources {
  readonly manifests: readonly object[];
  /** How many there are of each kind, by the name of its controller. */
  readonly kinds: Readonly<
    Record<"project" | "clusterissuer" | "issuer" | "secret" | "certificate" | "keyvault" | "syncrule", number>
  >;
  /** Entries of each vault, by its name. */
  readonly entries: ReadonlyMap<string, number>;
}

export const secretName = (index: number): string => `secret-${index}`;
export const vaultName = (index: number): string => `vault-${index}`;

/** So many resources in one namespace, between them of each kind that a leader looks at again after it has taken over. */
export function resources(total: number, world: World): Resources {
  const count = (share: number, most = Number.POSITIVE_INFINITY) =>
    Math.max(2, Math.min(most, Math.floor(total * share)));
  const vaults = count(0.02, VAULTS.length);
  const issuers = count(0.02, ISSUERS);
  const certificates = count(0.25);
  // Beside the Project, the root, and the rule that copies.
  const secrets = total - 2 * vaults - issuers - certificates - 3;
  const pushed = Math.floor(secrets / 2);
  const entries = new Map(VAULTS.slice(0, vaults).map((name) => [name, 0]));
  const secretsOf = Array.from({ length: secrets }, (_, index) => {
    const vault = index < pushed ? index % vaults : undefined;
    if (vault !== undefined) {
      const name = VAULTS[vault] ?? "";
      entries.set(name, (entries.get(name) ?? 0) + KEYS);
    }
    return secret(index, vault);
  });
  return {
    manifests: [
      ...[NAMESPACE, COPIES].map((name) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } })),
      project,
      credentials(world),
      root,
      ...Array.from({ length: issuers }, (_, index) => issuer(index)),
      ...secretsOf,
      ...Array.from({ length: certificates }, (_, index) => certificate(index, issuers)),
      ...Array.from({ length: vaults }, (_, index) => [keyVault(index), rule(index)]).flat(),
      copyRule,
      consumer,
    ],
    kinds: {
      project: 1,
      clusterissuer: 1,
      issuer: issuers,
      secret: secrets,
      certificate: certificates,
      keyvault: vaults,
      syncrule: vaults + 1,
    },
    entries,
  };
}

/** Of each secret. */
const KEYS = 3;

const project = {
  apiVersion: "mazevault.io/v1",
  kind: "Project",
  metadata: { name: NAMESPACE },
  spec: {
    environments: [{ name: "pro" }],
    namespaces: [NAMESPACE, COPIES].map((name) => ({ name, environments: ["pro"] })),
  },
};

function secret(index: number, vault: number | undefined): object {
  const manifest = secretManifest(NAMESPACE, secretName(index), {
    entries: [
      { key: "user", literal: `app-${index}` },
      { key: "password", generate: { kind: "Password", length: 32 } },
      { key: "url", template: "db://{{ user }}:{{ password | url_encode }}@db" },
    ],
    deliver: { restartConsumers: true },
    ...(index % 10 === 0 && { rotation: { every: "2160h", keys: ["password"], overlap: "24h" } }),
  });
  const labels = { copied: String(index % 20 === 0), ...(vault !== undefined && { vault: vaultName(vault) }) };
  return { ...manifest, metadata: { name: secretName(index), namespace: NAMESPACE, labels } };
}

const certificate = (index: number, issuers: number): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Certificate",
  metadata: { name: `certificate-${index}`, namespace: NAMESPACE },
  spec: {
    secretName: `certificate-${index}-tls`,
    issuerRef: { kind: "Issuer", name: `issuer-${index % issuers}` },
    dnsNames: [`service-${index}.${NAMESPACE}.svc`],
    privateKey: { algorithm: "ECDSA" },
    ...(index % 20 === 0 && { additionalOutputFormats: [{ type: "CombinedPEM" }] }),
  },
});

const root = {
  apiVersion: "mazevault.io/v1",
  kind: "ClusterIssuer",
  metadata: { name: "root" },
  spec: {
    ca: { subject: { commonName: "Root" } },
    policy: { allowSubordinates: { namespaces: { names: [NAMESPACE] } } },
  },
};

const issuer = (index: number): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Issuer",
  metadata: { name: `issuer-${index}`, namespace: NAMESPACE },
  spec: {
    ca: {
      subject: { commonName: `Issuer ${index}` },
      parentRef: { kind: "ClusterIssuer", name: "root" },
    },
    policy: { profiles: ["Server"], dnsNames: [`*.${NAMESPACE}.svc`] },
  },
});

const credentials = (world: World): object => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name: "principal", namespace: NAMESPACE },
  stringData: { secret: world.mazevault.servicePrincipal.secret },
});

const keyVault = (index: number): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "KeyVault",
  metadata: { name: vaultName(index), namespace: NAMESPACE },
  spec: {
    projectRef: { name: NAMESPACE },
    vaultUrl: `https://${VAULTS[index]}.vault.azure.net/`,
    auth: {
      servicePrincipal: {
        tenantId: azure.tenantId,
        clientId: azure.servicePrincipal,
        clientSecretRef: { name: "principal", key: "secret" },
      },
    },
    budget: { callsPer10Seconds: 4000 },
  },
});

/** Every second one may be changed in the vault too. */
const rule = (index: number): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "SyncRule",
  metadata: { name: vaultName(index), namespace: NAMESPACE },
  spec: {
    projectRef: { name: NAMESPACE },
    environment: "pro",
    ...(index % 2 === 0 ? { direction: "Push" } : { direction: "Bidirectional", conflictPolicy: "PlatformWins" }),
    secrets: { selector: { matchLabels: { vault: vaultName(index) } } },
    target: { keyVault: { ref: { name: vaultName(index) } } },
  },
});

const copyRule = {
  apiVersion: "mazevault.io/v1",
  kind: "SyncRule",
  metadata: { name: "copies", namespace: NAMESPACE },
  spec: {
    projectRef: { name: NAMESPACE },
    environment: "pro",
    direction: "Push",
    secrets: { selector: { matchLabels: { copied: "true" } } },
    target: { kubernetes: { namespaces: [COPIES] } },
  },
};

const consumer = {
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "consumer", namespace: NAMESPACE },
  spec: {
    replicas: 0,
    selector: { matchLabels: { app: "consumer" } },
    template: {
      metadata: { labels: { app: "consumer" } },
      spec: { containers: [{ name: "app", image: "app", envFrom: [{ secretRef: { name: secretName(0) } }] }] },
    },
  },
};
