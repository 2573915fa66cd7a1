/**
 * MazeVault on a lab: what the chart makes of the cluster, a database, the Key Vault stand-in, and any number of operators, REST
 * surfaces and responders, each as whom the chart's pods are.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { bundle, CLI, NODE_ARGUMENTS, OCSP, OPERATOR, REST } from "../build/bundle.ts";
import { API_VERSION } from "../crds/common.ts";
import { accessObjects, type Mode } from "../crds/generate/rbac.ts";
import { kinds } from "../crds/index.ts";
import { OPERATOR_ACCOUNT, REST_ACCOUNT, SYSTEM_NAMESPACE } from "../crds/installation.ts";
import type { Cluster } from "./cluster.ts";
import { Control } from "./keyvault/control.ts";
import type { Lab } from "./lab.ts";
import { until } from "./poll.ts";
import { type Database, withClient } from "./postgres/database.ts";
import type { SupervisedProcess } from "./supervised.ts";

/** Azure, as far as the stand-in plays it: identities and the vaults that they may use. */
export const azure = {
  tenantId: "7c9e6679-7425-40de-944b-e07fc1f90ae7",
  workloadIdentity: "0f8fad5b-d9cb-469f-a165-70867728950e",
  servicePrincipal: "550e8400-e29b-41d4-a716-446655440000",
  managedIdentity: "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
  /** Of two gateways that have one in production: with one each, what they do can be told apart. May do the same. */
  otherManagedIdentity: "8e5a4c1e-2b7d-4f0a-9c3e-6d1f0b9a7e52",
  /** Of gateways, by the environment that they work for: mi-mazevault-npr and mi-mazevault-pro. Each may use its own vault. */
  gateways: {
    NPR: { managedIdentity: "3f333df6-90a4-4fda-8dd3-9485d27cee36", vault: "crdnprdevintmzvgwckv01" },
    PRO: { managedIdentity: "b9e3c9a1-5a7f-4d7c-9f0e-2c1a7d0f6e58", vault: "crdprointmzvgwckv90" },
  },
  /** With the secrets of the gateways of NPR themselves, which their identity may read. */
  operationalVault: "kv-mazevault-npr",
  /** Known to Entra ID, without any right. */
  stranger: "16fd2706-8baf-433b-82eb-8c7fada847da",
  vaults: ["crdprointmzvgwckv01", "crdprointmzvgwckv02"],
  /** For those who need many. */
  moreVaults: Array.from({ length: 18 }, (_, index) => `crdprointmzvgwckv${String(index + 3).padStart(2, "0")}`),
} as const;

/**
 * What is installed in a cluster, and applied where it becomes a gateway's. A test (`checks/identities.test.ts`) holds them against what
 * the chart makes by default, and `identities` too.
 */
export const manifests: Readonly<Record<Mode, readonly string[]>> = {
  primary: ["crds/generated", "charts/mazevault/files/policies.yaml"],
  gateway: ["deploy/gateway/rbac.yaml"],
};

/** Who each program is at the API server, and what it is told of that. */
export const identities = {
  operator: { account: OPERATOR_ACCOUNT, settings: rightsSettings({ restServiceAccount: REST_ACCOUNT }) },
  rest: { account: REST_ACCOUNT, settings: rightsSettings({ restServiceAccount: REST_ACCOUNT }) },
  gateway: { account: OPERATOR_ACCOUNT, settings: rightsSettings({}) },
} as const;

function rightsSettings(more: object) {
  const kubernetes = { namespace: SYSTEM_NAMESPACE, serviceAccount: OPERATOR_ACCOUNT, ...more };
  return { kubernetes, controllers: { onboardNamespaces: true } };
}

const HOSTS = ["*.vault.azure.net", "login.microsoftonline.com"];
const root = fileURLToPath(new URL("..", import.meta.url));

export type MazeVaultLab = Pick<Lab, "dir" | "pki" | "ports" | "postgres" | "spawn">;

export interface MazeVaultOptions {
  readonly lab: MazeVaultLab;
  readonly cluster: Cluster;
  readonly report?: (line: string) => void;
  /** Where the programs are bundled already; they are bundled into the lab's folder otherwise. */
  readonly programs?: string;
  /** Resource definitions and rights are there already. */
  readonly installed?: boolean;
  /** Of another installation, so that both see one Azure; one of its own when absent. */
  readonly keyVault?: KeyVaultStandIn;
  /** Settings of the stand-in beyond what it has by itself, see `lab/keyvault/config.ts`. */
  readonly keyVaultSettings?: Readonly<Record<string, unknown>>;
}

export interface ProgramOptions {
  /** Folder of the bundled programs, where it is not the installation's: of another version. */
  readonly programs?: string;
  /** Distinguishes programs that run side by side; what it is when absent: `operator`, `rest` or `gateway`. */
  readonly name?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly logLevel?: "info" | "debug" | "trace";
  readonly config?: Settings;
  /** Arguments for Node itself, for example to profile. */
  readonly nodeArgs?: readonly string[];
  /** A command that is given the program and its arguments, and becomes it; a shell that turns core dumps off when absent. */
  readonly launcher?: readonly string[];
  /** How long it may take to be ready; a minute when absent. */
  readonly readyTimeoutMs?: number;
}

export interface Program {
  readonly process: SupervisedProcess;
  /** Of health and metrics. */
  readonly httpPort: number;
  readonly configFile: string;
}

export interface Operator extends Program {
  /** Of the REST surface that it has for itself, on loopback as in its pod; people are served by others. */
  readonly loopbackUrl: string;
}

export interface Rest extends Program {
  /** The lab's CA has issued its certificate. */
  readonly restUrl: string;
}

export interface OcspOptions {
  /** Distinguishes responders that run side by side; `ocsp` when absent, which is the one at `pkiUrl`. */
  readonly name?: string;
  readonly config?: Settings;
}

export interface OcspResponder {
  readonly process: SupervisedProcess;
  readonly url: string;
  /** Of health and metrics. */
  readonly httpPort: number;
  /** As the responder reaches it. */
  readonly database: Database;
}

/** Azure on this machine: Key Vault, Entra ID and the metadata of managed identities. */
export interface KeyVaultStandIn {
  readonly process: SupervisedProcess;
  readonly control: Control;
  /** What a client certificate of the service principal looks like to the stand-in. */
  readonly servicePrincipal: { readonly secret: string; readonly certFile: string; readonly keyFile: string };
  /** How an operator gets there, for its settings. */
  readonly azure: {
    readonly connectTo: readonly { readonly host: string; readonly address: string }[];
    readonly caFile: string;
  };
}

export interface MazeVault {
  readonly keyVault: KeyVaultStandIn;
  readonly servicePrincipal: KeyVaultStandIn["servicePrincipal"];
  /** Folder of the bundled programs, for further installations. */
  readonly programs: string;
  readonly database: {
    readonly host: string;
    readonly port: number;
    readonly database: string;
    readonly user: string;
    readonly passwordFile: string;
    readonly caFile: string;
  };
  /** The command line, bundled as it ships. */
  readonly cli: string;
  /** Starts an operator of a primary and waits until it is ready. */
  startOperator(options?: ProgramOptions): Promise<Operator>;
  /** Starts the REST surface of a primary and waits until it is ready; what only a leader makes, an operator has to make. */
  startRest(options?: ProgramOptions): Promise<Rest>;
  /** Makes this a gateway's cluster, starts the gateway, which is operator and REST in one, and waits until it is ready. */
  startGateway(options?: ProgramOptions): Promise<Rest>;
  /** Where CRLs, CA certificates and OCSP are published, for the operator's setting `pki.baseUrl`. */
  readonly pkiUrl: string;
  /** Starts an OCSP responder under a role of its own, and waits until it is ready; an operator must have been started before. */
  startOcsp(options?: OcspOptions): Promise<OcspResponder>;
}

export async function installMazeVault(options: MazeVaultOptions): Promise<MazeVault> {
  const { lab, cluster, programs = path.join(lab.dir, "programs") } = options;
  if (options.programs === undefined) rmSync(programs, { recursive: true, force: true });
  const kubeconfigOf = (name: string): Promise<string> =>
    cluster.serviceAccountKubeconfig({ namespace: SYSTEM_NAMESPACE, name, dir: path.join(lab.dir, "operator") });
  const [database, keyVault, kubeconfigs] = await Promise.all([
    lab.postgres.createDatabase("mazevault"),
    options.keyVault ?? startKeyVault(options),
    (options.installed ? resourcesServed(cluster) : install(cluster)).then(async () => ({
      [OPERATOR_ACCOUNT]: await kubeconfigOf(OPERATOR_ACCOUNT),
      [REST_ACCOUNT]: await kubeconfigOf(REST_ACCOUNT),
    })),
    options.programs ?? bundle(programs),
  ]);
  const ocspPort = await lab.ports.get("ocsp");

  let gateway: Promise<void> | undefined;
  const start = async (what: keyof typeof identities, options: ProgramOptions = {}) => {
    const { name = what, env = {}, logLevel = "info", config = {}, nodeArgs = [], launcher } = options;
    const folder = options.programs ?? programs;
    const { account, settings } = identities[what];
    const httpPort = await lab.ports.get(name);
    const restPort = await lab.ports.get(`${name}-rest`);
    const certificate = await lab.pki.issue("rest", { commonName: "mazevault", usage: "server" });
    const dir = path.join(lab.dir, "operator");
    const configFile = path.join(dir, `${name}.yaml`);
    const fileDirectory = path.join(dir, "audit");
    mkdirSync(fileDirectory, { recursive: true });
    const base = {
      ...settings,
      kubernetes: { kubeconfig: kubeconfigs[account], ...settings.kubernetes },
      audit: { fileDirectory },
      database: {
        host: database.host,
        port: database.port,
        name: database.database,
        user: database.user,
        passwordFile: database.passwordFile,
        caFile: database.caFile,
      },
      keys: { provider: "file", file: path.join(dir, "root.key"), create: true },
      // The lab's own server of PostgreSQL.
      rotation: { allowedHosts: ["127.0.0.1"] },
      azure: keyVault.azure,
      http: { host: "127.0.0.1", port: httpPort },
      // An operator has it too, since the keys of REST and its first admin are the leader's.
      rest: { host: "127.0.0.1", port: restPort, ...certificate, clientCaFile: lab.pki.caFile },
      log: { level: logLevel },
    };
    writeFileSync(configFile, stringify(withSettings(base, config)), { mode: 0o600 });
    const program = path.join(folder, what === "rest" ? REST : OPERATOR);
    const process = await lab.spawn({
      name,
      ...launched(launcher ?? WITHOUT_CORE_DUMPS, [...NODE_ARGUMENTS, ...nodeArgs, program, "--config", configFile]),
      env: { ...(what === "gateway" && { MAZEVAULT_MODE: "gateway" }), ...env },
      isReady: () => answersOk(`http://127.0.0.1:${httpPort}/readyz`),
      ...(options.readyTimeoutMs !== undefined && { readyTimeoutMs: options.readyTimeoutMs }),
    });
    return { process, httpPort, configFile, restUrl: `https://127.0.0.1:${restPort}` };
  };

  return {
    keyVault,
    servicePrincipal: keyVault.servicePrincipal,
    programs,
    database,
    cli: path.join(programs, CLI),
    async startOperator(options) {
      const { restUrl: loopbackUrl, ...operator } = await start("operator", options);
      return { ...operator, loopbackUrl };
    },
    startRest: (options) => start("rest", options),
    async startGateway(options) {
      gateway ??= becomeGateway(cluster);
      await gateway;
      return start("gateway", options);
    },
    pkiUrl: `http://127.0.0.1:${ocspPort}`,
    async startOcsp({ name = "ocsp", config = {} } = {}) {
      const port = name === "ocsp" ? ocspPort : await lab.ports.get(name);
      const httpPort = await lab.ports.get(`${name}-health`);
      const role = await lab.postgres.createRole("mazevault_ocsp", database.database);
      await withClient(database, async (client) => {
        await client.query("SET search_path = mazevault");
        await client.query("SELECT grant_ocsp($1)", [role.user]);
      });
      const configFile = path.join(lab.dir, "operator", `${name}.yaml`);
      const base = {
        database: {
          host: role.host,
          port: role.port,
          name: role.database,
          user: role.user,
          passwordFile: role.passwordFile,
          caFile: role.caFile,
        },
        http: { host: "127.0.0.1", port },
        health: { host: "127.0.0.1", port: httpPort },
      };
      writeFileSync(configFile, stringify(withSettings(base, config)), { mode: 0o600 });
      const process = await lab.spawn({
        name,
        ...launched(WITHOUT_CORE_DUMPS, [path.join(programs, OCSP), "--config", configFile]),
        isReady: () => answersOk(`http://127.0.0.1:${httpPort}/readyz`),
      });
      return { process, url: `http://127.0.0.1:${port}`, httpPort, database: role };
    },
  };
}

/** Node cannot set a limit for itself; a core dump would hold every key and value that is in memory. */
const WITHOUT_CORE_DUMPS = ["/bin/sh", "-c", 'ulimit -c 0 && exec "$0" "$@"'] as const;

function launched([command = "", ...before]: readonly string[], args: readonly string[]) {
  return { command, args: [...before, process.execPath, ...args] };
}

type Settings = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

/** Settings with some of them replaced, part by part. */
function withSettings(base: Settings, changed: Settings): Settings {
  const parts = new Set([...Object.keys(base), ...Object.keys(changed)]);
  return Object.fromEntries([...parts].map((part) => [part, { ...base[part], ...changed[part] }]));
}

/** As a primary; applied, so that repeating changes nothing. */
async function install(cluster: Cluster): Promise<void> {
  await apply(cluster, "primary");
  await definitionsEstablished(cluster);
  await until("the admission policies count", () => policiesCount(cluster), { timeoutMs: 60_000 });
}

/**
 * Resource definitions, rights and the installation's namespace, in the place of those that are there.
 *
 * @param folder of another version; this one's when absent
 */
export async function installDefinitions(cluster: Cluster, folder = path.join(root, "crds/generated")): Promise<void> {
  await succeeded(cluster, ["apply", ...APPLY, "-f", folder]);
  await definitionsEstablished(cluster);
}

async function definitionsEstablished(cluster: Cluster): Promise<void> {
  const definitions = kinds.map(({ plural }) => `crd/${plural}.mazevault.io`);
  await succeeded(cluster, ["wait", "--for=condition=Established", "--timeout=60s", ...definitions]);
}

/** Rights of a primary that stay bound would add to those of a gateway. */
async function becomeGateway(cluster: Cluster): Promise<void> {
  const bindings = (accessObjects("primary") as { kind: string }[]).filter(({ kind }) => kind.endsWith("Binding"));
  const input = JSON.stringify({ apiVersion: "v1", kind: "List", items: bindings });
  await succeeded(cluster, ["delete", "--ignore-not-found", "-f", "-"], input);
  await apply(cluster, "gateway");
}

const APPLY = ["--server-side", "--force-conflicts", "--field-manager=mazevault-install"] as const;

async function apply(cluster: Cluster, mode: Mode): Promise<void> {
  const files = manifests[mode].flatMap((file) => ["-f", path.join(root, file)]);
  await succeeded(cluster, ["apply", ...APPLY, ...files]);
}

async function succeeded(cluster: Cluster, args: readonly string[], input?: string): Promise<void> {
  const { code, stderr } = await cluster.kubectl(args, input === undefined ? {} : { input });
  if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr.trim()}`);
}

/**
 * Whether what REST may not do is refused by the policy of Secrets, which is the last one: the API server takes up all that are stored
 * at once, a moment after they are. One that starts waits for them before it admits anything.
 */
async function policiesCount(cluster: Cluster): Promise<boolean> {
  const manifest = {
    apiVersion: API_VERSION,
    kind: "Secret",
    metadata: { name: "refused", namespace: SYSTEM_NAMESPACE },
    spec: {
      projectRef: { name: "none" },
      environment: "none",
      entries: [{ key: "key", secretRef: { name: "none", key: "none" } }],
    },
  };
  const rest = `system:serviceaccount:${SYSTEM_NAMESPACE}:${REST_ACCOUNT}`;
  const asked = ["create", "--dry-run=server", "--as", rest, "-f", "-"];
  const { stdout, stderr } = await cluster.kubectl(asked, { input: JSON.stringify(manifest) });
  if (stderr.includes("denied request: spec.entries[].secretRef")) return true;
  throw new Error(`a Secret of REST that refers to a core Secret: ${stdout}${stderr}`.trim());
}

/** Resolves when an API server that has just started knows the kinds. */
async function resourcesServed(cluster: Cluster): Promise<void> {
  const served = async (): Promise<boolean> => {
    const { stdout } = await cluster.kubectl(["api-resources", "--api-group=mazevault.io", "-o", "name"]);
    const names = stdout.split("\n");
    return kinds.every(({ plural }) => names.includes(`${plural}.mazevault.io`));
  };
  await until("resource definitions are served", served, { timeoutMs: 60_000 });
}

async function startKeyVault({ lab, cluster, keyVaultSettings = {} }: MazeVaultOptions): Promise<KeyVaultStandIn> {
  const dir = path.join(lab.dir, "keyvault");
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const listenPort = await lab.ports.get("keyvault");
  const controlPort = await lab.ports.get("keyvault-control");
  const imdsPort = await lab.ports.get("keyvault-imds");
  const server = await lab.pki.issue("keyvault", { commonName: "keyvault", usage: "server", dnsNames: HOSTS });
  const client = await lab.pki.issue("service-principal", {
    commonName: "service-principal",
    usage: "client",
    rsa: true,
  });
  const tokenFile = path.join(dir, "control.token");
  const secretFile = path.join(dir, "service-principal.secret");
  for (const file of [tokenFile, secretFile])
    if (!existsSync(file)) writeFileSync(file, randomBytes(24).toString("hex"), { mode: 0o600 });
  const secret = readText(secretFile);
  const { issuer, jwksFile } = await federation(cluster, dir);
  const subjects = ["payments", "payments-dev"].map((namespace) => `system:serviceaccount:${namespace}:kv`);
  const gateways = Object.values(azure.gateways);
  const managed = [azure.managedIdentity, azure.otherManagedIdentity];
  const officers = [azure.workloadIdentity, azure.servicePrincipal, ...managed];
  const config = {
    listen: { host: "127.0.0.1", port: listenPort },
    certFile: server.certFile,
    keyFile: server.keyFile,
    imds: { host: "127.0.0.1", port: imdsPort },
    control: { host: "127.0.0.1", port: controlPort, tokenFile },
    stateFile: path.join(dir, "state.jsonl"),
    tenants: [
      {
        id: azure.tenantId,
        applications: [
          {
            clientId: azure.workloadIdentity,
            federatedCredentials: subjects.map((subject) => ({
              issuer,
              subject,
              audience: "api://AzureADTokenExchange",
              jwksFile,
            })),
          },
          { clientId: azure.servicePrincipal, secret, certificateFile: client.certFile },
          ...[...managed, ...gateways.map(({ managedIdentity }) => managedIdentity)].map((clientId) => ({
            clientId,
            managedIdentity: true,
          })),
          { clientId: azure.stranger, secret },
        ],
      },
    ],
    vaults: [
      ...[...azure.vaults, ...azure.moreVaults].map((name) => vaultOf(name, officers)),
      ...gateways.map(({ vault, managedIdentity }) => vaultOf(vault, [managedIdentity])),
      vaultOf(azure.operationalVault, [azure.gateways.NPR.managedIdentity], "Key Vault Secrets User"),
    ],
    settings: keyVaultSettings,
  };
  const configFile = path.join(dir, "config.json");
  writeFileSync(configFile, JSON.stringify(config, null, 2), { mode: 0o600 });
  const control = new Control({ host: "127.0.0.1", port: controlPort }, readText(tokenFile));
  const process = await lab.spawn({
    name: "keyvault",
    command: globalThis.process.execPath,
    args: [path.join(root, "lab/keyvault/main.ts"), "--config", configFile],
    isReady: async () => {
      await control.counters();
      return true;
    },
  });
  const address = `127.0.0.1:${listenPort}`;
  return {
    process,
    control,
    servicePrincipal: { secret, certFile: client.certFile, keyFile: client.keyFile },
    azure: {
      connectTo: [
        ...HOSTS.map((host) => ({ host, address })),
        { host: "169.254.169.254", address: `127.0.0.1:${imdsPort}` },
      ],
      caFile: lab.pki.caFile,
    },
  };
}

type Role = "Key Vault Secrets Officer" | "Key Vault Secrets User";

const vaultOf = (name: string, identities: readonly string[], role: Role = "Key Vault Secrets Officer") => ({
  name,
  tenant: azure.tenantId,
  grants: identities.map((clientId) => ({ clientId, role })),
  softDeleteRetentionDays: 90,
});

/** What Entra ID needs to believe the cluster's ServiceAccount tokens: issuer and keys, as the cluster publishes them. */
async function federation(cluster: Cluster, dir: string): Promise<{ issuer: string; jwksFile: string }> {
  const raw = async (url: string): Promise<string> => {
    const { code, stdout, stderr } = await cluster.kubectl(["get", "--raw", url]);
    if (code !== 0) throw new Error(`the cluster does not publish ${url}: ${stderr.trim()}`);
    return stdout;
  };
  const { issuer } = JSON.parse(await raw("/.well-known/openid-configuration")) as { issuer: string };
  const jwksFile = path.join(dir, "service-account-jwks.json");
  writeFileSync(jwksFile, await raw("/openid/v1/jwks"));
  return { issuer, jwksFile };
}

function answersOk(url: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    get(url, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    }).on("error", reject);
  });
}

const readText = (file: string): string => readFileSync(file, "utf8").trim();
