/** What an installation has that is upgraded: of all that writes something, enough to be told when one of them does. */
import { createCsr } from "../../core/pki/csr.ts";
import { subjectAltName } from "../../core/pki/extension.ts";
import { generateKey } from "../../core/pki/key.ts";
import { parseLiteralSubject } from "../../core/pki/name.ts";
import { LocalSigner } from "../../core/pki/signer.ts";
import { azure } from "../../lab/mazevault.ts";
import { conditionOf, secretManifest, type World } from "../harness.ts";

export const NAMESPACE = "steady";
export const COPIES = "copies";
/** Where both sides of an entry were changed, and nobody decides. */
const [DISPUTED, DISPUTED_COPIES] = ["disputed", "disputed-copies"];
const [PRIMARY, STANDBY] = ["steady-primary", "steady-standby"];
/** Namespaces, and names of what is in none. */
export const PLACES: readonly string[] = [NAMESPACE, COPIES, DISPUTED, DISPUTED_COPIES, "root", PRIMARY, STANDBY];
/** Of those that the two vaults of the stand-in, and the others that it has, are for. */
const VAULTS = [...azure.vaults, ...azure.moreVaults];
const ISSUERS = 20;

export interface Resources {
  readonly manifests: readonly object[];
  /** How many there are of each kind, by the name of its controller. */
  readonly kinds: Readonly<
    Record<
      | "project"
      | "clusterissuer"
      | "issuer"
      | "secret"
      | "certificate"
      | "certificaterequest"
      | "keyvault"
      | "syncrule"
      | "accesspolicy"
      | "auditsink"
      | "gateway"
      | "gatewayenvironment"
      | "failover",
      number
    >
  >;
  /** Entries of each vault, by its name. */
  readonly entries: ReadonlyMap<string, number>;
}

export const secretName = (index: number): string => `secret-${index}`;
export const vaultName = (index: number): string => `vault-${index}`;

/** So many resources in one namespace, and a few elsewhere: between them of each kind. */
export async function resources(total: number, world: World): Promise<Resources> {
  const count = (share: number, most = Number.POSITIVE_INFINITY) =>
    Math.max(2, Math.min(most, Math.floor(total * share)));
  const vaults = count(0.02, VAULTS.length);
  const issuers = count(0.02, ISSUERS);
  const certificates = count(0.25);
  // Beside the Project, the root, the rule that copies, the request and the policy.
  const secrets = total - 2 * vaults - issuers - certificates - 5;
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
      ...[NAMESPACE, COPIES, DISPUTED, DISPUTED_COPIES].map((name) => ({
        apiVersion: "v1",
        kind: "Namespace",
        metadata: { name },
      })),
      project(NAMESPACE, COPIES),
      project(DISPUTED, DISPUTED_COPIES),
      credentials(world),
      root,
      ...Array.from({ length: issuers }, (_, index) => issuer(index)),
      ...secretsOf,
      ...Array.from({ length: certificates }, (_, index) => certificate(index, issuers)),
      ...Array.from({ length: vaults }, (_, index) => [keyVault(index), rule(index)]).flat(),
      copyRule,
      consumer,
      await certificateRequest(),
      accessPolicy,
      auditSink,
      gateway(PRIMARY, "primary"),
      gateway(STANDBY, "dr-standby"),
      gatewayEnvironment,
      failover,
      disputedSecret,
      disputedRule,
    ],
    kinds: {
      project: 2,
      clusterissuer: 1,
      issuer: issuers,
      secret: secrets + 1,
      certificate: certificates,
      certificaterequest: 1,
      keyvault: vaults,
      syncrule: vaults + 2,
      accesspolicy: 1,
      auditsink: 1,
      gateway: 2,
      gatewayenvironment: 1,
      failover: 1,
    },
    entries,
  };
}

/** Of each secret. */
const KEYS = 3;

const project = (name: string, ...others: readonly string[]): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Project",
  metadata: { name },
  spec: {
    environments: [{ name: "pro" }],
    namespaces: [name, ...others].map((namespace) => ({ name: namespace, environments: ["pro"] })),
  },
});

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

async function certificateRequest(): Promise<object> {
  const dnsName = `requested.${NAMESPACE}.svc`;
  const signer = new LocalSigner(await generateKey({ algorithm: "ECDSA", size: 256 }));
  const names = subjectAltName([{ kind: "dns", value: dnsName }], false);
  const csr = await createCsr(parseLiteralSubject(`CN=${dnsName}`), [names], signer);
  return {
    apiVersion: "mazevault.io/v1",
    kind: "CertificateRequest",
    metadata: { name: "requested", namespace: NAMESPACE },
    spec: { request: csr.toString("base64"), issuerRef: { kind: "Issuer", name: "issuer-0" } },
  };
}

const accessPolicy = {
  apiVersion: "mazevault.io/v1",
  kind: "AccessPolicy",
  metadata: { name: "app", namespace: NAMESPACE },
  spec: {
    subjects: [{ serviceAccount: { namespace: NAMESPACE, name: "app" } }],
    rules: [{ projects: [NAMESPACE], environments: ["pro"], role: "reader" }],
  },
};

const auditSink = {
  apiVersion: "mazevault.io/v1",
  kind: "AuditSink",
  metadata: { name: NAMESPACE },
  spec: { file: { name: "audit.jsonl" } },
};

/** Which nobody starts. */
const gateway = (name: string, role: "primary" | "dr-standby"): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Gateway",
  metadata: { name },
  spec: { environment: "NPR", role },
});

const gatewayEnvironment = {
  apiVersion: "mazevault.io/v1",
  kind: "GatewayEnvironment",
  metadata: { name: NAMESPACE },
  spec: { environment: "NPR", primaryRef: { name: PRIMARY }, standbyRef: { name: STANDBY } },
};

/** To the one that is in charge already, so it is over at once. */
const failover = {
  apiVersion: "mazevault.io/v1",
  kind: "Failover",
  metadata: { name: NAMESPACE },
  spec: { environmentRef: { name: NAMESPACE }, activate: "Primary" },
};

const disputedSecret = secretManifest(DISPUTED, "both", {
  entries: [{ key: "token", generate: { kind: "Hex", bytes: 16 } }],
  rotation: { every: "2160h", keys: ["token"] },
});

const disputedRule = {
  apiVersion: "mazevault.io/v1",
  kind: "SyncRule",
  metadata: { name: "both", namespace: DISPUTED },
  spec: {
    projectRef: { name: DISPUTED },
    environment: "pro",
    direction: "Bidirectional",
    conflictPolicy: "Manual",
    secrets: { names: ["both"] },
    target: { kubernetes: { namespaces: [DISPUTED_COPIES], keys: [{ from: "token", to: "TOKEN" }] } },
  },
};

/** Has both sides changed before the rule can look, so that there is a SyncConflict. */
export async function dispute(world: World, timeoutMs: number): Promise<void> {
  const rule = ["syncrule.mazevault.io", "both", DISPUTED] as const;
  const suspend = (is: boolean) =>
    world.kubectl("-n", DISPUTED, "patch", rule[0], "both", "--type=merge", "-p", `{"spec":{"suspend":${is}}}`);
  const synced = (is: (told: { readonly reason: string; readonly message: string }) => boolean) =>
    world.waitFor(
      ...rule,
      (object) => {
        const told = conditionOf(object, "Synced");
        return told !== undefined && is(told);
      },
      timeoutMs,
    );
  await world.waitReady(...rule, timeoutMs);
  await world.kubectl("-n", DISPUTED_COPIES, "annotate", "secret", "both", `mazevault.io/allow-pull=${DISPUTED}`);
  await synced(({ message }) => message === "1 core Secrets are in step");
  await suspend(true);
  await synced(({ reason }) => reason === "Suspended");
  await world.kubectl("-n", DISPUTED, "annotate", "secrets.mazevault.io", "both", "mazevault.io/rotate=once");
  await world.waitFor("secret.mazevault.io", "both", DISPUTED, ({ status }) => status?.version === 2, timeoutMs);
  await world.kubectl("-n", DISPUTED_COPIES, "patch", "secret", "both", "-p", '{"stringData":{"TOKEN":"theirs"}}');
  await suspend(false);
  await synced(({ reason }) => reason === "ChangedOnBothSides");
}
