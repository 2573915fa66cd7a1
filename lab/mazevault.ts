/** MazeVault on a lab: resource definitions and rights, database, Key Vault stand-in, any number of operators and responders. */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { bundle, CLI, NODE_ARGUMENTS, OCSP, OPERATOR, REST } from "../build/bundle.ts";
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

export interface OperatorOptions {
  /** REST alone, on the same settings; the operator when absent. */
  readonly program?: "rest";
  /** Distinguishes operators that run side by side; `operator` when absent. */
  readonly name?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly logLevel?: "info" | "debug" | "trace";
  readonly config?: Settings;
  /** Arguments for Node itself, for example to profile. */
  readonly nodeArgs?: readonly string[];
  /** How long it may take until it is ready, where it has something to wait for. */
  readonly readyTimeoutMs?: number;
  /** A command that is given the program and its arguments, and becomes it; a shell that turns core dumps off when absent. */
  readonly launcher?: readonly string[];
}

export interface Operator {
  readonly process: SupervisedProcess;
  readonly httpPort: number;
  readonly configFile: string;
  /** Of its REST surface, whose certificate the lab's CA has issued. */
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
  /** Starts an operator and waits until it is ready. */
  startOperator(options?: OperatorOptions): Promise<Operator>;
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
    (options.installed ? resourcesServed(cluster) : install(cluster, "crds/generated")).then(async () => ({
      operator: await kubeconfigOf(OPERATOR_ACCOUNT),
      rest: await kubeconfigOf(REST_ACCOUNT),
    })),
    options.programs ?? bundle(programs),
  ]);
  const ocspPort = await lab.ports.get("ocsp");

  return {
    keyVault,
    servicePrincipal: keyVault.servicePrincipal,
    programs,
    database,
    cli: path.join(programs, CLI),
    async startOperator({
      program,
      name = program ?? "operator",
      env = {},
      logLevel = "info",
      config = {},
      nodeArgs = [],
      readyTimeoutMs,
      launcher = WITHOUT_CORE_DUMPS,
    } = {}) {
      const httpPort = await lab.ports.get(name);
      const restPort = await lab.ports.get(`${name}-rest`);
      const certificate = await lab.pki.issue("rest", { commonName: "mazevault", usage: "server" });
      const dir = path.join(lab.dir, "operator");
      const configFile = path.join(dir, `${name}.yaml`);
      const fileDirectory = path.join(dir, "audit");
      mkdirSync(fileDirectory, { recursive: true });
      // A gateway may do less than a primary, and REST alone less than either.
      if (env.MAZEVAULT_MODE === "gateway") await install(cluster, "deploy/gateway/rbac.yaml");
      const base = {
        audit: { fileDirectory },
        kubernetes: { kubeconfig: kubeconfigs[program ?? "operator"], namespace: SYSTEM_NAMESPACE },
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
        rest: { host: "127.0.0.1", port: restPort, ...certificate, clientCaFile: lab.pki.caFile },
        log: { level: logLevel },
      };
      writeFileSync(configFile, stringify(withSettings(base, config)), { mode: 0o600 });
      const process = await lab.spawn({
        name,
        ...launched(launcher, [
          ...NODE_ARGUMENTS,
          ...nodeArgs,
          path.join(programs, program === "rest" ? REST : OPERATOR),
          "--config",
          configFile,
        ]),
        env,
        ...(readyTimeoutMs !== undefined && { readyTimeoutMs }),
        isReady: () => answersOk(`http://127.0.0.1:${httpPort}/readyz`),
      });
      return { process, httpPort, configFile, restUrl: `https://127.0.0.1:${restPort}` };
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

/** Resource definitions, rights and the installation's namespace; applied, so that repeating changes nothing. */
async function install(cluster: Cluster, what: "crds/generated" | "deploy/gateway/rbac.yaml"): Promise<void> {
  const run = async (...args: string[]): Promise<void> => {
    const { code, stderr } = await cluster.kubectl(args);
    if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr.trim()}`);
  };
  const options = ["--server-side", "--force-conflicts", "--field-manager=mazevault-install"];
  await run("apply", ...options, "-f", path.join(root, what));
  if (what !== "crds/generated") return;
  const definitions = kinds.map(({ plural }) => `crd/${plural}.mazevault.io`);
  await run("wait", "--for=condition=Established", "--timeout=60s", ...definitions);
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
