/** Valid manifests that between them set every field of every kind; what is wrong is made from them. */
import { API_VERSION, type Resource } from "../common.ts";

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly spec: Resource["spec"];
}

export const NAMESPACE = "payments";
const tenantId = "11111111-2222-3333-4444-555555555555";
const clientId = "99999999-8888-7777-6666-555555555555";

const clusterWide = (kind: string, name: string, spec: object): Manifest => ({
  apiVersion: API_VERSION,
  kind,
  metadata: { name },
  spec,
});

const namespaced = (kind: string, name: string, spec: object): Manifest => ({
  apiVersion: API_VERSION,
  kind,
  metadata: { name, namespace: NAMESPACE },
  spec,
});

export const project = clusterWide("Project", "payments", {
  environments: [
    { name: "dev", gatewayEnvironment: "NPR" },
    { name: "pro", protected: true, gatewayEnvironment: "PRO" },
  ],
  namespaces: [
    { name: "payments", environments: ["pro", "dev"] },
    {
      selector: {
        matchLabels: { team: "payments", "example.com/tier": "" },
        matchExpressions: [
          { key: "stage", operator: "In", values: ["dev", "test"] },
          { key: "example.com/legacy", operator: "DoesNotExist" },
        ],
      },
      environments: ["dev"],
    },
  ],
  naming: {
    company: "crd",
    project: "mzv",
    zone: "int",
    region: "gwc",
    environments: [{ name: "dev", production: false, code: "dev" }],
    patterns: [{ type: "AKS", production: "{co}-{env}-{proj}-aks{nn}", nonProduction: "aks_{COMPANY}-{environment}" }],
    required: true,
  },
  keyVaults: ["https://crdprointmzvgwckv01.vault.azure.net/", "https://another.vault.azure.cn"],
  access: [
    {
      subjects: [{ localUser: { id: "0197f0a4-2f1c-7b3e-9d55-6f0f3c1f2a77" } }],
      environments: ["dev", "pro"],
      role: "auditor",
    },
    {
      subjects: [
        { serviceAccount: { namespace: "ci", name: "release" } },
        { clientCertificate: { name: "spiffe://example.com/ns/ci/sa/release" } },
        { clientCertificate: { fingerprint: "AB:".repeat(31).concat("cd") } },
      ],
      environments: ["pro"],
      secrets: ["orders-*", "shared"],
      certificates: ["*-tls"],
      issuers: ["orders-ca"],
      verbs: ["list", "read", "issue", "administer"],
    },
  ],
});

export const secret = namespaced("Secret", "orders-db", {
  projectRef: { name: "payments" },
  environment: "pro",
  entries: [
    { key: "username", literal: "orders" },
    { key: "password", generate: { kind: "Password", length: 32, exclude: "'\"`" } },
    { key: "salt", generate: { kind: "Hex", bytes: 16 } },
    { key: "id", generate: { kind: "UUID" } },
    {
      key: "pin",
      generate: {
        kind: "Password",
        length: 12,
        symbols: "-_.",
        minimum: { uppercase: 0, lowercase: 2, digits: 8, symbols: 2 },
      },
    },
    { key: "plain", generate: { kind: "Password", symbols: "" } },
    { key: "passphrase", generate: { kind: "Passphrase", words: 7, separator: " " } },
    { key: "signing.pem", generate: { kind: "RSA", size: 4096 } },
    { key: "ec.pem", generate: { kind: "EC", size: 384 } },
    { key: "ed25519.pem", generate: { kind: "Ed25519" } },
    { key: "deploy", generate: { kind: "SSH", algorithm: "ECDSA", size: 521 } },
    { key: "deploy.pub", template: "{{ deploy | ssh_public_key: 'deploy@example.com' }}" },
    { key: "tunnel", generate: { kind: "WireGuard" } },
    { key: "api-key", secretRef: { name: "legacy-db", key: "token" } },
    { key: "url", template: "postgres://{{ username }}:{{ password | url_encode }}@db:5432/orders" },
    { key: "partner", external: {} },
    { key: "licence", sealed: "AQ-_09" },
    { key: ".pgpass", literal: "" },
  ],
  deliver: {
    secretName: "orders-db-credentials",
    type: "Opaque",
    keys: [
      { from: "password", to: "DB_PASSWORD" },
      { from: "url", to: "db.url" },
    ],
    labels: { team: "payments", "app.kubernetes.io/name": "orders" },
    annotations: { contact: "payments@example.com, at any time", "app.kubernetes.io/part-of": "shop" },
    restart: [
      { kind: "Deployment", name: "orders" },
      { kind: "StatefulSet", name: "orders" },
    ],
    restartConsumers: true,
    adopt: true,
    overwrite: true,
  },
  rotation: {
    schedule: "30 3 1,15 * MON-FRI",
    timeZone: "Europe/Berlin",
    windows: [
      { days: ["Saturday", "Sunday"], from: "22:00", to: "04:00" },
      { from: "03:00", to: "05:00" },
    ],
    keys: ["password", "salt"],
    overlap: "24h",
  },
  deletionPolicy: "Retain",
  retention: { versions: 5, softDelete: "720h" },
});

const tlsSecret = namespaced("Secret", "orders-tls", {
  projectRef: { name: "payments" },
  environment: "pro",
  entries: [
    { key: "certificate", secretRef: { name: "issued", key: "tls.crt" } },
    { key: "tls.key", secretRef: { name: "issued", key: "tls.key" } },
  ],
  deliver: {
    type: "kubernetes.io/tls",
    keys: [
      { from: "certificate", to: "tls.crt" },
      { from: "tls.key", to: "tls.key" },
    ],
  },
});

const publicKey = "CgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCk";

export const endToEndSecret = namespaced("Secret", "card", {
  projectRef: { name: "payments" },
  environment: "pro",
  protection: "EndToEnd",
  readers: [{ name: "alice", publicKey }],
  entries: [{ key: "pan", external: {} }],
});

export const smallestSecret = namespaced("Secret", "smallest", {
  projectRef: { name: "payments" },
  environment: "dev",
  entries: [{ key: "token", generate: { kind: "Base64" } }],
  deliver: {},
});

const freshSecret = namespaced("Secret", "fresh", {
  projectRef: { name: "payments" },
  environment: "dev",
  entries: [{ key: "token", generate: { kind: "Base64" } }],
  rotation: { every: "720h" },
});

const appliedSecret = (name: string, apply: object) =>
  namespaced("Secret", name, {
    projectRef: { name: "payments" },
    environment: "pro",
    entries: [{ key: "token", generate: { kind: "Base64" } }],
    rotation: { every: "720h", apply },
  });
const jobSecret = appliedSecret("by-job", { job: { cronJobRef: { name: "rotate-orders-db" } }, timeout: "30m" });
const webhookSecret = appliedSecret("by-webhook", {
  webhook: {
    url: "https://rotation.example.com/orders",
    caBundle: "-----BEGIN CERTIFICATE-----",
    hmacSecretRef: { name: "rotation", key: "key" },
    includeValues: true,
  },
});
export const alternatingSecret = namespaced("Secret", "two-roles", {
  projectRef: { name: "payments" },
  environment: "pro",
  entries: [
    { key: "username", external: {} },
    { key: "password", generate: { kind: "Password" } },
  ],
  deliver: { restartConsumers: true },
  rotation: {
    every: "720h",
    keys: ["password"],
    overlap: "10m",
    apply: {
      postgres: {
        host: "orders.example.com",
        port: 5433,
        database: "orders",
        caBundle: "-----BEGIN CERTIFICATE-----",
        admin: { username: "rotator", passwordSecretRef: { name: "rotator", key: "password" } },
        roles: ["orders_a", "orders_b"],
        username: "username",
        password: "password",
        endSessions: true,
      },
    },
  },
});

const inProject = { projectRef: { name: "payments" }, vaultUrl: "https://crdprointmzvgwckv01.vault.azure.net/" };

export const keyVault = namespaced("KeyVault", "workload-identity", {
  ...inProject,
  auth: { workloadIdentity: { tenantId, clientId, serviceAccountRef: { name: "kv" } } },
  budget: { callsPer10Seconds: 400 },
});

const servicePrincipal = namespaced("KeyVault", "client-secret", {
  ...inProject,
  auth: { servicePrincipal: { tenantId, clientId, clientSecretRef: { name: "kv", key: "secret" } } },
});

const certificate = namespaced("KeyVault", "client-certificate", {
  ...inProject,
  auth: { servicePrincipal: { tenantId, clientId, certificateSecretRef: { name: "kv", key: "both.pem" } } },
});

const managedIdentity = namespaced("KeyVault", "managed-identity", {
  ...inProject,
  auth: { managedIdentity: { clientId } },
});

const throughGateway = namespaced("KeyVault", "through-gateway", {
  ...inProject,
  auth: { gateway: { ref: { name: "gw-pro-primary" }, clientId } },
});

const systemIdentity = namespaced("KeyVault", "system-identity", { ...inProject, auth: { managedIdentity: {} } });

export const syncRule = namespaced("SyncRule", "payments-pro-vault", {
  projectRef: { name: "payments" },
  environment: "pro",
  secrets: {
    names: ["orders-*"],
    selector: {
      matchLabels: { tier: "db" },
      matchExpressions: [{ key: "stage", operator: "NotIn", values: ["dev"] }],
    },
  },
  direction: "Push",
  mappings: [
    { secret: "orders-db", key: "password", name: "OrdersDbPwd" },
    { secret: "orders-db", key: "username", name: "OrdersDbUser" },
  ],
  target: { keyVault: { ref: { name: "payments-pro" }, name: "{secret}--{key}" } },
  interval: "1m30s",
  deletionPolicy: "Delete",
  limits: { deletions: 10, changes: "50%", minimum: 5 },
  dryRun: false,
  suspend: false,
});

const smallestRule = namespaced("SyncRule", "everything", {
  projectRef: { name: "payments" },
  environment: "pro",
  direction: "Push",
  target: { keyVault: { ref: { name: "payments-pro" } } },
});

const copies = namespaced("SyncRule", "copies", {
  projectRef: { name: "payments" },
  environment: "pro",
  secrets: { names: ["orders-*"] },
  direction: "Push",
  target: {
    kubernetes: {
      namespaces: ["payments-jobs", "payments-batch"],
      secretName: "from-{namespace}.{secret}",
      keys: [{ from: "password", to: "DB_PASSWORD" }],
      type: "Opaque",
      labels: { tier: "db" },
      annotations: { about: "orders" },
      restartConsumers: true,
      adopt: true,
    },
  },
});

const smallestCopies = namespaced("SyncRule", "smallest-copies", {
  projectRef: { name: "payments" },
  environment: "pro",
  direction: "Push",
  target: { kubernetes: { namespaces: ["payments-jobs"] } },
});

export const passingRule = namespaced("SyncRule", "through-gateway", {
  projectRef: { name: "payments" },
  environment: "pro",
  secrets: { names: ["orders-*"] },
  direction: "Push",
  target: {
    gateway: {
      ref: { name: "gw-pro-primary" },
      kubernetes: {
        namespace: "payments",
        secretName: "from-{namespace}.{secret}",
        keys: [{ from: "password", to: "DB_PASSWORD" }],
        type: "Opaque",
        labels: { tier: "db" },
        annotations: { about: "orders" },
        restartConsumers: true,
        adopt: true,
      },
    },
  },
  interval: "1m",
});

const smallestPassingRule = namespaced("SyncRule", "smallest-through-gateway", {
  projectRef: { name: "payments" },
  environment: "pro",
  direction: "Push",
  target: { gateway: { ref: { name: "gw-pro-primary" }, kubernetes: { namespace: "payments" } } },
});

export const takingRule = namespaced("SyncRule", "partners", {
  projectRef: { name: "payments" },
  environment: "pro",
  direction: "Pull",
  target: {
    kubernetes: { namespaces: ["payments-jobs"], secretName: "{secret}", keys: [{ from: "token", to: "TOKEN" }] },
  },
});

const sharedCopies = namespaced("SyncRule", "shared-copies", {
  projectRef: { name: "payments" },
  environment: "pro",
  direction: "Bidirectional",
  conflictPolicy: "Manual",
  target: {
    kubernetes: {
      namespaces: ["payments-jobs"],
      secretName: "from-{namespace}.{secret}",
      keys: [{ from: "token", to: "TOKEN" }],
      restartConsumers: true,
      adopt: true,
    },
  },
});

const conflict = namespaced("SyncConflict", "shared-0123456789", { resolution: "KeepTarget" });

const sharedRule = namespaced("SyncRule", "shared", {
  projectRef: { name: "payments" },
  environment: "pro",
  direction: "Bidirectional",
  conflictPolicy: "NewestWins",
  target: { keyVault: { ref: { name: "payments-pro" } } },
});

export const clusterIssuer = clusterWide("ClusterIssuer", "payments-ca", {
  ca: {
    subject: {
      commonName: "Payments Issuing CA",
      organizations: ["Example"],
      organizationalUnits: ["Payments"],
      countries: ["AT"],
      localities: ["Wien"],
      provinces: ["Wien"],
    },
    parentRef: { kind: "ClusterIssuer", name: "root" },
    duration: "43800h",
    key: { algorithm: "ECDSA", size: 384 },
    nameConstraints: {
      permitted: {
        dnsDomains: ["svc", "example.com"],
        ipRanges: ["10.0.0.0/8", "fd00::/8"],
        emailAddresses: ["example.com", ".example.com", "ca@example.org"],
        uriDomains: ["example.com", ".example.com"],
      },
      excluded: {
        dnsDomains: ["forbidden.example.com"],
        ipRanges: ["10.1.0.0/16"],
        emailAddresses: ["boss@example.com"],
        uriDomains: ["forbidden.example.com"],
      },
    },
  },
  policy: {
    profiles: ["Server", "Client"],
    maxDuration: "2160h",
    approval: "Manual",
    dnsNames: ["*.{namespace}.svc", "münchen.example.com"],
    ipRanges: ["10.0.0.0/8"],
    uris: ["spiffe://example.com/ns/{namespace}/sa/*"],
    otherNames: ["1.3.6.1.4.1.311.20.2.3"],
    emailDomains: ["example.com", "{namespace}.example.com"],
    commonNames: ["{namespace}-*", "Orders Service"],
    subject: {
      organizations: ["Example", "Exämple & Söhne"],
      organizationalUnits: ["Payments"],
      countries: ["AT", "DE"],
      localities: ["Wien"],
      provinces: ["Wien"],
    },
    allowSubordinates: {
      namespaces: { names: ["payments", "orders"] },
      pathLength: 0,
      nameConstraints: {
        permitted: {
          dnsDomains: ["{namespace}.svc"],
          ipRanges: ["10.0.0.0/8"],
          emailAddresses: ["example.com"],
          uriDomains: ["example.com"],
        },
        excluded: {
          dnsDomains: ["forbidden.{namespace}.svc"],
          ipRanges: ["10.1.0.0/16"],
          emailAddresses: ["boss@example.com"],
          uriDomains: [".forbidden.example.com"],
        },
      },
    },
  },
  revocation: { crl: { every: "24h" }, ocsp: { validity: "12h" } },
  namespaces: { selector: { matchLabels: { team: "payments" } } },
  gatewayEnvironments: ["NPR"],
  gatewayRevocations: [{ serialNumber: "3f:0a:77", reason: "keyCompromise" }],
});

const selectingIssuer = clusterWide("ClusterIssuer", "selecting", {
  ca: { subject: { commonName: "Root" } },
  policy: {
    allowSubordinates: {
      namespaces: {
        selector: {
          matchLabels: { team: "payments" },
          matchExpressions: [{ key: "stage", operator: "In", values: ["dev"] }],
        },
      },
    },
  },
  namespaces: {
    selector: {
      matchLabels: { team: "payments" },
      matchExpressions: [{ key: "stage", operator: "In", values: ["dev"] }],
    },
  },
});

const namingIssuer = clusterWide("ClusterIssuer", "naming", {
  ca: { subject: { commonName: "Root" }, key: { algorithm: "Ed25519" } },
  namespaces: { names: ["payments"] },
});

const {
  namespaces: _namespaces,
  gatewayEnvironments: _environments,
  gatewayRevocations: _revocations,
  ...sharedByBoth
} = clusterIssuer.spec as {
  namespaces: object;
  gatewayEnvironments: string[];
  gatewayRevocations: object[];
  policy: object;
};

export const issuer = namespaced("Issuer", "orders-ca", {
  ...sharedByBoth,
  policy: {
    ...sharedByBoth.policy,
    allowSubordinates: {
      pathLength: 1,
      nameConstraints: {
        permitted: {
          dnsDomains: ["payments.svc"],
          ipRanges: ["10.0.0.0/8"],
          emailAddresses: ["example.com"],
          uriDomains: ["example.com"],
        },
        excluded: {
          dnsDomains: ["forbidden.payments.svc"],
          ipRanges: ["10.1.0.0/16"],
          emailAddresses: ["boss@example.com"],
          uriDomains: [".forbidden.example.com"],
        },
      },
    },
  },
});

const smallestIssuer = namespaced("Issuer", "root", { ca: { subject: { commonName: "Root" } } });

/** Its certificate is judged by the operator: the schema only bounds it. */
const signedElsewhere = {
  ca: {
    subject: { commonName: "Issuing CA" },
    key: { algorithm: "RSA", size: 3072 },
    external: { certificate: "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n" },
  },
};
export const externalIssuer = clusterWide("ClusterIssuer", "external", signedElsewhere);
const externalTenantIssuer = namespaced("Issuer", "external", signedElsewhere);
const awaitingIssuer = namespaced("Issuer", "awaiting", {
  ca: { subject: { commonName: "Issuing CA" }, external: {} },
});

export const primaryIssuer = clusterWide("ClusterIssuer", "of-primary", {
  primary: { issuerRef: { kind: "ClusterIssuer", name: "payments-ca" } },
  policy: { profiles: ["Server"], dnsNames: ["*.{namespace}.svc"] },
  namespaces: { names: ["payments"] },
});

export const tlsCertificate = namespaced("Certificate", "orders-tls", {
  secretName: "orders-tls",
  gateways: { environment: "NPR" },
  issuerRef: { kind: "ClusterIssuer", name: "payments-ca" },
  commonName: "orders.payments.svc",
  subject: {
    organizations: ["Example"],
    organizationalUnits: ["Payments"],
    countries: ["AT"],
    localities: ["Wien"],
    provinces: ["Wien"],
  },
  dnsNames: ["orders.payments.svc", "*.orders.payments.svc", "münchen.example.com"],
  ipAddresses: ["10.0.0.1", "fd00::1"],
  uris: ["spiffe://example.com/ns/payments/sa/orders"],
  emailAddresses: ["orders@example.com", "bestellung@münchen.example.com"],
  otherNames: [{ oid: "1.3.6.1.4.1.311.20.2.3", utf8Value: "orders@example.com" }],
  duration: "2160h",
  renewBefore: "720h",
  usages: ["digital signature", "key encipherment", "server auth", "client auth"],
  privateKey: { algorithm: "RSA", size: 2048, encoding: "PKCS1", rotationPolicy: "Always" },
  secretTemplate: { labels: { team: "payments" }, annotations: { contact: "payments@example.com" } },
  keystores: {
    pkcs12: { create: true, passwordSecretRef: { name: "keystore-password", key: "password" } },
    jks: { create: true, passwordSecretRef: { name: "keystore-password", key: "password" }, alias: "Orders TLS" },
  },
  additionalOutputFormats: [{ type: "DER" }, { type: "CombinedPEM" }],
  revocations: [
    { serialNumber: "3f:0a:77", reason: "keyCompromise" },
    { serialNumber: "3F0A78", reason: "certificateHold" },
  ],
  deletionPolicy: "Revoke",
  restart: [{ kind: "Deployment", name: "orders" }],
  restartConsumers: false,
  adopt: true,
  overwrite: true,
});

export const caCertificate = namespaced("Certificate", "mesh-ca", {
  secretName: "mesh-ca",
  issuerRef: { kind: "ClusterIssuer", name: "payments-ca" },
  commonName: "Mesh CA",
  duration: "8760h",
  isCA: true,
  usages: ["cert sign", "crl sign", "digital signature"],
  nameConstraints: {
    critical: true,
    permitted: {
      dnsDomains: ["mesh.example.com"],
      ipRanges: ["10.20.0.0/16"],
      emailAddresses: ["mesh.example.com"],
      uriDomains: [".mesh.example.com"],
    },
    excluded: {
      dnsDomains: ["admin.mesh.example.com"],
      ipRanges: ["10.20.30.0/24"],
      emailAddresses: ["root@mesh.example.com"],
      uriDomains: ["admin.mesh.example.com"],
    },
  },
  revisionHistoryLimit: 3,
  revocations: [{ serialNumber: "3f:0a:79", reason: "cACompromise" }],
});

const literalCertificate = namespaced("Certificate", "orders-client", {
  secretName: "orders-client",
  issuerRef: { name: "orders-ca" },
  literalSubject: "CN=orders,OU=Payments,O=Example,DC=example,DC=com",
  renewBeforePercentage: 30,
  profile: "Client",
  privateKey: { algorithm: "Ed25519", encoding: "PKCS8" },
});

const smallestCertificate = namespaced("Certificate", "smallest", {
  secretName: "smallest",
  issuerRef: { name: "root" },
  dnsNames: ["smallest.payments.svc"],
});

const request = [
  "-----BEGIN CERTIFICATE REQUEST-----",
  "MIIBCTCBsQIBADAeMRwwGgYDVQQDDBNvcmRlcnMucGF5bWVudHMuc3ZjMFkwEwYH",
  "KoZIzj0CAQYIKoZIzj0DAQcDQgAETAb32pkRKeRpG+GUC33XeQHMqGMSuHUzeNNA",
  "iW9qTyd6EoAnDphtLRNMwW3ki7pqwCUaD7NCDzOjBnXNly6NpqAxMC8GCSqGSIb3",
  "DQEJDjEiMCAwHgYDVR0RBBcwFYITb3JkZXJzLnBheW1lbnRzLnN2YzAKBggqhkjO",
  "PQQDAgNHADBEAiB26WFuIh7zXpkETbpT3Y7be64dzB3hQ0Y1SxIFKhwqrgIgaMdd",
  "0FFsWAnRbUnJJKfouV6zDjSr3nCjGg5Ha0AAPDw=",
  "-----END CERTIFICATE REQUEST-----",
  "",
].join("\n");

export const certificateRequest = namespaced("CertificateRequest", "orders", {
  request,
  issuerRef: { kind: "ClusterIssuer", name: "payments-ca" },
  duration: "720h",
  usages: ["digital signature", "server auth"],
});

const encodedRequest = namespaced("CertificateRequest", "orders-client", {
  request: Buffer.from(request).toString("base64"),
  issuerRef: { name: "orders-ca" },
  profile: "Client",
  revocation: { reason: "certificateHold" },
  deletionPolicy: "Revoke",
});

const smallestRequest = namespaced("CertificateRequest", "smallest", {
  request: request.split("\n").slice(1, -2).join(""),
  issuerRef: { name: "root" },
});

export const accessPolicy = namespaced("AccessPolicy", "applications", {
  subjects: [
    { serviceAccount: { namespace: "payments", name: "orders" } },
    { localUser: { id: "0197f0a4-2f1c-7b3e-9d55-6f0f3c1f2a77" } },
    { clientCertificate: { name: "orders.payments.example.com" } },
    { clientCertificate: { fingerprint: "0f".repeat(32) } },
  ],
  rules: [
    { projects: ["payments"], environments: ["pro"], secrets: ["orders-*", "shared"], role: "reader" },
    {
      projects: ["payments", "platform"],
      environments: ["dev", "pro"],
      certificates: ["orders-tls"],
      issuers: ["*"],
      verbs: ["list", "issue", "revoke"],
    },
  ],
});

const smallestPolicy = namespaced("AccessPolicy", "smallest", {
  subjects: [{ serviceAccount: { namespace: "payments", name: "default" } }],
  rules: [{ projects: ["payments"], environments: ["dev"], role: "reader" }],
});

export const webhookSink = clusterWide("AuditSink", "siem", {
  webhook: {
    url: "https://siem.example.com/hooks/mazevault?tenant=1",
    caBundle: "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    clientCertificateRef: { name: "siem-client" },
    hmacSecretRef: { name: "siem", key: "hmac" },
  },
});

const otlpSink = clusterWide("AuditSink", "collector", {
  otlp: {
    url: "https://collector.example.com:4318/v1/logs",
    caBundle: "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    clientCertificateRef: { name: "collector-client" },
    authorizationSecretRef: { name: "collector", key: "authorization" },
  },
});

export const fileSink = clusterWide("AuditSink", "file", { file: { name: "audit.jsonl" } });

export const orchestratedProject = clusterWide("Project", "shop", {
  storage: "Orchestrator",
  environments: [{ name: "pro", keyVault: { namespace: NAMESPACE, name: "shop-pro" } }],
  namespaces: [{ name: NAMESPACE, environments: ["pro"] }],
});

export const gateway = clusterWide("Gateway", "gw-npr-dr", { environment: "NPR", role: "dr-standby" });

const smallestGateway = clusterWide("Gateway", "gw-pro-primary", {});

export const gatewayEnvironment = clusterWide("GatewayEnvironment", "npr", {
  environment: "NPR",
  primaryRef: { name: "gw-npr-primary" },
  standbyRef: { name: "gw-npr-dr" },
  automaticFailover: { missedHeartbeats: 5 },
});

const smallestEnvironment = clusterWide("GatewayEnvironment", "pro", {
  environment: "PRO",
  primaryRef: { name: "gw-pro-primary" },
  standbyRef: { name: "gw-pro-dr" },
});

export const failover = clusterWide("Failover", "npr-1", {
  environmentRef: { name: "npr" },
  activate: "Standby",
  force: true,
});

const smallestFailover = clusterWide("Failover", "npr-2", { environmentRef: { name: "npr" }, activate: "Primary" });

export const validManifests: readonly Manifest[] = [
  orchestratedProject,
  project,
  secret,
  tlsSecret,
  smallestSecret,
  freshSecret,
  jobSecret,
  webhookSecret,
  alternatingSecret,
  endToEndSecret,
  keyVault,
  servicePrincipal,
  certificate,
  managedIdentity,
  throughGateway,
  systemIdentity,
  syncRule,
  smallestRule,
  copies,
  smallestCopies,
  passingRule,
  smallestPassingRule,
  takingRule,
  sharedCopies,
  sharedRule,
  conflict,
  clusterIssuer,
  selectingIssuer,
  namingIssuer,
  issuer,
  smallestIssuer,
  externalIssuer,
  externalTenantIssuer,
  awaitingIssuer,
  primaryIssuer,
  tlsCertificate,
  caCertificate,
  literalCertificate,
  smallestCertificate,
  certificateRequest,
  encodedRequest,
  smallestRequest,
  accessPolicy,
  smallestPolicy,
  webhookSink,
  otlpSink,
  fileSink,
  gateway,
  smallestGateway,
  gatewayEnvironment,
  smallestEnvironment,
  failover,
  smallestFailover,
];
