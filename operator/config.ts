/** The settings of the operator. */
import { z } from "zod";
import { durationMs } from "../core/duration.ts";
import { BOOTSTRAP_TOKEN } from "../core/fleet/bootstrap-token.ts";
import { gatewayEnvironment, gatewayRole } from "../core/fleet/protocol.ts";
import { SHORTEST_LOGIN_RECORD_MS } from "../core/identity/identities.ts";
import { SHORTEST_KEPT_MS } from "../core/pki/expired-certificates.ts";
import { Sensitive } from "../core/sensitive.ts";
import type { RotationAges } from "../core/vault/rotation.ts";
import { OPERATOR_ACCOUNT, SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { database, log, milliseconds, port } from "../program/common-settings.ts";
import { listeningHost } from "../program/listening.ts";
import { VERSION } from "../program/version.ts";
import {
  DEFAULT_ROOT_KEY_FILE,
  operationalSecrets,
  sourceProblems,
  vaultEntry,
} from "./operational-secrets/settings.ts";
import { tracing } from "./tracing/settings.ts";

const DAY_MS = 86_400_000;
const SHORTEST_OFFLINE_MS = 5_000;
const YEAR_MS = 366 * DAY_MS;
/** In whole days. */
const SHORTEST_RETENTION_MS = Math.ceil(SHORTEST_LOGIN_RECORD_MS / DAY_MS) * DAY_MS;

const keyAge = z
  .int()
  .min(3_600_000)
  .max(20 * YEAR_MS);

const previousRootKey = z.strictObject({
  provider: z.enum(["file", "passphrase"]).default("file").describe("Who holds it."),
  file: z.string().min(1).optional().describe("As of keys.file."),
  passphraseFile: z.string().min(1).optional().describe("As of keys.passphraseFile."),
  rootKeySecret: vaultEntry.optional().describe("As of keys.rootKeySecret."),
  passphraseSecret: vaultEntry.optional().describe("As of keys.passphraseSecret."),
});

const keys = z.strictObject({
  provider: z.enum(["file", "passphrase"]).default("file").describe("Who holds the root key."),
  file: z
    .string()
    .min(1)
    .default(DEFAULT_ROOT_KEY_FILE)
    .describe(
      "file: the root key, 32 bytes in base64, readable by its owner only. passphrase: where salt and parameters stand.",
    ),
  passphraseFile: z.string().min(1).optional().describe("passphrase: file with the passphrase."),
  rootKeySecret: vaultEntry
    .optional()
    .describe(
      "file: entry of operationalSecrets.vaultUrl with the root key, 32 bytes in base64, instead of keys.file.",
    ),
  passphraseSecret: vaultEntry
    .optional()
    .describe("passphrase: entry of operationalSecrets.vaultUrl with it, instead of keys.passphraseFile."),
  create: z
    .boolean()
    .default(false)
    .describe("Make keys.file on first start when it does not exist; never while keys.previous is set."),
  previous: previousRootKey
    .optional()
    .describe("The root key that is being replaced; needed until `mazevault keys status` says that it is not."),
  installationMaxAgeMs: keyAge
    .default(YEAR_MS)
    .describe("The installation key is replaced when it is older, in milliseconds; a year unless said."),
  projectMaxAgeMs: keyAge
    .default(YEAR_MS)
    .describe("The key of a project is replaced when it is older, in milliseconds; a year unless said."),
});

const connectTo = z.strictObject({
  host: z.string().min(1).describe("Host name, or *.domain, as it stands in the URL."),
  address: z
    .string()
    .regex(/^\S+:\d{1,5}$/)
    .describe("Where to connect instead, host:port. The name in TLS and in the request stays the true one."),
});

const azure = z.strictObject({
  authorityHost: z.url().default("https://login.microsoftonline.com").describe("Where Entra ID hands out tokens."),
  allowedVaultHosts: z
    .array(z.string().min(1))
    .default([])
    .describe(
      "Vault hosts beside those of Azure and its sovereign clouds that a KeyVault may name; *.domain is allowed.",
    ),
  connectTo: z.array(connectTo).default([]).describe("Other destinations for some hosts, as for a private endpoint."),
  caFile: z.string().min(1).optional().describe("Additional CA certificates for those destinations."),
  timeoutMs: milliseconds.default(10_000).describe("Longest wait for an answer of Azure, in milliseconds."),
  managedIdentityClientId: z
    .guid()
    .optional()
    .meta({
      aliases: ["AZURE_MANAGED_IDENTITY_CLIENT_ID"],
      description:
        "Client ID of the managed identity of a KeyVault whose auth.managedIdentity names none. None: the system-assigned one.",
    }),
});

const kubernetes = z.strictObject({
  kubeconfig: z.string().min(1).optional().describe("Kubeconfig file; the pod's ServiceAccount otherwise."),
  namespace: z
    .string()
    .min(1)
    .default(SYSTEM_NAMESPACE)
    .describe("Namespace of the installation: its Lease lives there."),
  serviceAccount: z
    .string()
    .min(1)
    .default(OPERATOR_ACCOUNT)
    .describe("ServiceAccount of the operator in that namespace: whom RoleBinding mazevault lets into a namespace."),
  restServiceAccount: z
    .string()
    .min(1)
    .optional()
    .describe(
      "ServiceAccount of REST in that namespace, where REST is a program of its own: whom RoleBinding mazevault-rest lets in. None: there is no such binding.",
    ),
  leaseDurationMs: milliseconds.default(15_000).describe("How long leadership lasts without renewal, in milliseconds."),
  watchInactivityMs: milliseconds
    .default(90_000)
    .describe(
      "A watch that is silent for longer is taken for dead, in milliseconds. Bookmarks come about once a minute.",
    ),
});

const http = z.strictObject({
  host: listeningHost("/healthz, /readyz and /metrics"),
  port: port.default(8081).describe("Port of /healthz, /readyz and /metrics."),
});

const controllers = z.strictObject({
  concurrency: z.int().min(1).max(256).default(16).describe("How many resources of a kind are worked on at once."),
  resyncMs: milliseconds
    .default(3_600_000)
    .describe("How often each resource is looked at without a cause, in milliseconds."),
  onboardNamespaces: z
    .boolean()
    .default(true)
    .describe("Grant the operator access to a namespace (RoleBinding mazevault) when a Project admits it."),
});

const pki = z.strictObject({
  baseUrl: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe(
      "Where relying parties reach CRLs, OCSP and CA certificates, such as http://pki.example.com; written into certificates. None: certificates do not say.",
    ),
  keepExpiredMs: z
    .int()
    .min(SHORTEST_KEPT_MS)
    .max(20 * YEAR_MS)
    .default(90 * DAY_MS)
    .describe(
      "How long certificates stay on record after their end, in milliseconds; 90 days unless said, never less than two. What is in use, and what was revoked by a manifest that is there, stays longer.",
    ),
});

const rest = z.strictObject({
  host: listeningHost("the REST surface"),
  port: port.default(8443).describe("Port of the REST surface."),
  certFile: z
    .string()
    .min(1)
    .optional()
    .describe("PEM of the server's certificate, read again when it changes. None: REST is off."),
  keyFile: z.string().min(1).optional().describe("PEM of its private key."),
  clientCaFile: z
    .string()
    .min(1)
    .optional()
    .describe("PEM of CA certificates whose client certificates are known as subjects. None: they are not asked for."),
  clientCrlFile: z
    .string()
    .min(1)
    .optional()
    .describe(
      "CRLs (PEM, or one in DER) of all CAs in clientCaFile that issue certificates, read again when they change. With it a client certificate without a valid CRL of its issuer is refused. None: client certificates cannot be revoked.",
    ),
  eventTokensFile: z
    .string()
    .min(1)
    .optional()
    .describe(
      "Tokens of senders of Key Vault events (Azure Event Grid), one a line, 32 characters or more, read again when it changes. None: events are refused.",
    ),
  audience: z
    .string()
    .min(1)
    .default("mazevault")
    .describe("Audience that Kubernetes ServiceAccount tokens must have, and that our own tokens get."),
  maxConnections: z.int().min(1).max(100_000).default(10_000).describe("Highest number of connections."),
  requestsPerAddress: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(500)
    .describe("Requests from one address in a second, on average over ten. Behind a proxy that is the proxy's."),
  requestsPerSubject: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(500)
    .describe("Requests of one subject in a second, on average over ten."),
  firstAdmin: z
    .email()
    .default("admin@mazevault.com")
    .describe("Email of the first admin, whose password is written to core Secret mazevault-first-admin."),
});

const redisFields = z.strictObject({
  url: z
    .url({ protocol: /^rediss?$/ })
    .refine((url) => new URL(url).password === "", "must hold no password: redis.passwordFile names a file for it")
    .optional()
    .describe(
      "redis://HOST:PORT/DATABASE, or rediss:// for TLS, of a Redis 7 or later that replicas share counters through. None: each counts by itself, and logins are counted in PostgreSQL.",
    ),
  sentinels: z
    .array(z.string().regex(/^\S+:\d{1,5}$/, "must be HOST:PORT"))
    .min(1)
    .optional()
    .describe(
      "HOST:PORT of Sentinels, with TLS where redis.url has it; the host of redis.url is then their name for the primary, as in rediss://mymaster.",
    ),
  sentinelPasswordFile: z
    .string()
    .min(1)
    .optional()
    .describe("File with the password of the Sentinels, read again for each connection; none otherwise."),
  username: z.string().min(1).optional().describe("User of Redis; its default user otherwise."),
  passwordFile: z.string().min(1).optional().describe("File with the password, read again for each connection."),
  passwordSecret: vaultEntry
    .optional()
    .describe("Entry of operationalSecrets.vaultUrl with the password instead, read again when Redis refuses it."),
  caFile: z.string().min(1).optional().describe("PEM of the CA certificates for Redis; the system's otherwise."),
  timeoutMs: milliseconds
    .default(250)
    .describe("Longest wait for an answer of Redis, in milliseconds; after that each replica goes on by itself."),
});
const redis = redisFields.superRefine(({ url, sentinels, sentinelPasswordFile }, context) => {
  const wrong = (field: keyof z.infer<typeof redisFields>, message: string) =>
    context.addIssue({ code: "custom", path: [field], message });
  if (sentinels === undefined) {
    if (sentinelPasswordFile !== undefined) wrong("sentinels", "must name the Sentinels of redis.sentinelPasswordFile");
  } else if (url === undefined) wrong("url", "must name the primary as the Sentinels do, as in rediss://mymaster");
  else if (new URL(url).port !== "") wrong("url", "must have no port: the Sentinels tell where the primary is");
});

const audit = z.strictObject({
  checkpointRows: z
    .int()
    .min(1)
    .max(20_000)
    .default(10_000)
    .describe("A checkpoint of the audit chain is signed at the latest after so many rows."),
  checkpointMs: milliseconds
    .default(60_000)
    .describe("A checkpoint is signed at the latest after this time when rows were linked, in milliseconds."),
  fileDirectory: z
    .string()
    .min(1)
    .optional()
    .describe("Where AuditSinks of kind file may write. None: there may be no such sinks."),
  retentionMs: z
    .int()
    .min(SHORTEST_RETENTION_MS)
    .max(20 * YEAR_MS)
    .optional()
    .describe(
      "Audit rows that are older are removed once every AuditSink has them, in milliseconds, never less than two days; none are when absent, or while there is no sink.",
    ),
  sinkTimeoutMs: milliseconds
    .default(10_000)
    .describe("Longest wait for an answer of an AuditSink's receiver, in milliseconds."),
});

const rotation = z.strictObject({
  allowedHosts: z
    .array(z.string().min(1))
    .default([])
    .describe(
      "Hosts that spec.rotation.apply of a Secret may name, for webhook and postgres; *.domain is allowed, for one label. None unless said: whoever may write Secrets would have the operator connect to anything.",
    ),
  timeoutMs: milliseconds
    .default(10_000)
    .describe("Longest wait for an answer of what new values are applied to, in milliseconds."),
});

const holdsCredentials = (url: string): boolean => {
  const { username = "", password = "" } = URL.parse(url) ?? {};
  return username !== "" || password !== "";
};

const gateway = z.strictObject({
  environment: gatewayEnvironment
    .optional()
    .describe("Environment that this gateway works for, such as NPR or PRO; required in mode gateway."),
  role: gatewayRole
    .default("primary")
    .describe("primary works for its environment, dr-standby takes over from it when it is told to."),
  primaryUrl: z
    .url({ protocol: /^https$/ })
    .refine((url) => !holdsCredentials(url), "must hold no credentials: gateway.bootstrapToken is all it takes")
    .refine((url) => !/[?#]/.test(url), "must have neither query nor fragment: https://HOST:PORT is all it takes")
    .optional()
    .meta({
      aliases: ["PRIMARY_BACKEND_URL"],
      description: "https://HOST:PORT of the primary's REST surface; required in mode gateway.",
    }),
  primaryCaFile: z
    .string()
    .min(1)
    .optional()
    .describe(
      "PEM of CA certificates for that URL. None: the certificate there is not verified, since what counts is the primary's own inside, which the bootstrap token names.",
    ),
  offlineLimit: z
    .string()
    .regex(/^(?=.)(\d{1,6}h)?(\d{1,6}m)?(\d{1,6}s)?$/, "must be a duration such as 24h, 1h30m or 90s")
    .refine((text) => durationMs(text) >= SHORTEST_OFFLINE_MS, "must be 5s or longer")
    .default("24h")
    .meta({
      aliases: ["GATEWAY_OFFLINE_LIMIT"],
      description:
        "How long the primary's secrets are served from here when it does not answer, such as 24h; a secret that was deleted there, or a grant that was taken away, counts here for as long. 24h unless said.",
    }),
  bootstrapToken: z
    .string()
    .trim()
    .regex(BOOTSTRAP_TOKEN, "must be a token as `mazevault gateways bootstrap NAME` prints it, mvg1.….…")
    .transform((text) => new Sensitive(text))
    .optional()
    .meta({
      aliases: ["GATEWAY_BOOTSTRAP_TOKEN"],
      secret: true,
      description:
        "Registers this gateway, once; it may go as soon as that is done. In the environment only, there is no flag for it.",
    }),
  bootstrapTokenFile: z
    .string()
    .min(1)
    .optional()
    .describe("File with that token instead, read again while one is needed; it may be missing otherwise."),
  bootstrapTokenSecret: vaultEntry
    .optional()
    .describe(
      "Entry of operationalSecrets.vaultUrl with that token instead, read again while one is needed; it may be missing otherwise.",
    ),
  writeQueueLimit: z
    .int()
    .min(1)
    .max(1_000_000)
    .default(10_000)
    .describe(
      "Writes that may wait here for the primary; beyond it they are refused, and none that was accepted is lost.",
    ),
});

const settingsSchema = z.strictObject({
  mode: z
    .enum(["primary", "gateway"])
    .default("primary")
    .describe("What this program is: the primary, or a gateway of one in another cluster."),
  version: z
    .string()
    .min(1)
    .max(64)
    .default(VERSION)
    .describe("As what this program is known to whoever asks, and to the primary; its own unless said."),
  gateway: gateway.prefault({}),
  kubernetes: kubernetes.prefault({}),
  operationalSecrets: operationalSecrets.prefault({}),
  database: database
    .extend({
      passwordSecret: vaultEntry
        .optional()
        .describe(
          "Entry of operationalSecrets.vaultUrl with the password instead, read again when PostgreSQL refuses it.",
        ),
    })
    .prefault({}),
  keys: keys.prefault({}),
  audit: audit.prefault({}),
  azure: azure.prefault({}),
  http: http.prefault({}),
  controllers: controllers.prefault({}),
  rotation: rotation.prefault({}),
  pki: pki.prefault({}),
  rest: rest.prefault({}),
  redis: redis.prefault({}),
  log: log.prefault({}),
  tracing: tracing.prefault({}),
});

export const configSchema = settingsSchema.superRefine((config, context) => {
  for (const [setting, message] of sourceProblems(config))
    context.addIssue({ code: "custom", path: setting.split("."), message });
  const { mode, gateway } = config;
  if (mode !== "gateway") return;
  const wrong = (field: keyof typeof gateway, message: string) =>
    context.addIssue({ code: "custom", path: ["gateway", field], message });
  if (gateway.environment === undefined)
    wrong("environment", "required in mode gateway: set MAZEVAULT_GATEWAY_ENVIRONMENT, such as NPR or PRO");
  if (gateway.primaryUrl === undefined)
    wrong("primaryUrl", "required in mode gateway: set PRIMARY_BACKEND_URL, such as https://primary.example.com:8443");
  if (gateway.bootstrapToken !== undefined && gateway.bootstrapTokenFile !== undefined)
    wrong("bootstrapTokenFile", "names a token where GATEWAY_BOOTSTRAP_TOKEN gives one; keep one of the two");
});
export type Config = z.infer<typeof configSchema>;

export const rotationAges = ({ keys }: Config): RotationAges => ({
  installationMs: keys.installationMaxAgeMs,
  projectMs: keys.projectMaxAgeMs,
});
