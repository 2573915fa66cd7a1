/** A gateway as a part of the lab: MazeVault in mode `gateway` on a cluster and a database of its own, registered at a primary. */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { stringify } from "yaml";
import { API_VERSION } from "../crds/common.ts";
import type { GATEWAY_ROLES } from "../crds/gateway.ts";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import type { Cluster } from "./cluster.ts";
import { type Lab, startLab } from "./lab.ts";
import { azure, installMazeVault, type MazeVault, type ProgramOptions, type Rest } from "./mazevault.ts";
import { until } from "./poll.ts";

export interface GatewayPlace {
  /** Of the `Gateway` object at the primary, and of the operator here. */
  readonly name: string;
  readonly environment: keyof typeof azure.gateways;
  readonly role: (typeof GATEWAY_ROLES)[number];
}

/** What `npm start -- --with-gateway` runs. */
export const nprGateways: readonly GatewayPlace[] = [
  { name: "gw-npr-primary", environment: "NPR", role: "primary" },
  { name: "gw-npr-dr", environment: "NPR", role: "dr-standby" },
];

/** What a gateway meets of its primary. */
export interface Primary {
  readonly cluster: Pick<Cluster, "kubectl">;
  /** Where its REST surface is reached, whatever is in between. */
  readonly url: string;
  /** Of the certificate there. */
  readonly caFile: string;
}

export interface ConnectOptions extends GatewayPlace, Pick<ProgramOptions, "config" | "env" | "logLevel" | "programs"> {
  readonly lab: Pick<Lab, "dir">;
  readonly mazevault: Pick<MazeVault, "startGateway">;
  readonly primary: Primary;
}

export interface GatewayLab extends GatewayPlace {
  readonly lab: Lab;
  readonly mazevault: MazeVault;
  readonly operator: Rest;
}

export interface GatewayLabOptions extends GatewayPlace {
  /** For everything of this gateway that the next start continues with. */
  readonly dir: string;
  readonly report: (line: string) => void;
  /** Asked for when the gateway's own parts run. */
  readonly primary: Promise<Primary & { readonly mazevault: Pick<MazeVault, "keyVault" | "programs"> }>;
}

const CONNECTED_WITHIN_MS = 120_000;

/**
 * Starts control plane, PostgreSQL and the gateway's operator, and waits until the primary calls it connected. The Key Vault stand-in is the primary's.
 * @param onLab told as soon as there is something to stop
 * @throws after ending what it had started, when `onLab` was not told
 */
export async function startGatewayLab(options: GatewayLabOptions, onLab: (lab: Lab) => void): Promise<GatewayLab> {
  const { dir, name, environment, role } = options;
  const report = (line: string): void => options.report(`${name}: ${line}`);
  const lab = await startLab({ dir, report });
  onLab(lab);
  const primary = await options.primary;
  const { keyVault, programs } = primary.mazevault;
  const mazevault = await installMazeVault({ lab, cluster: lab.controlPlane, programs, keyVault, report });
  const place = { name, environment, role };
  const operator = await connectGateway({ ...place, lab, mazevault, primary });
  return { ...place, lab, mazevault, operator };
}

/**
 * Makes the gateway known at the primary, starts it, hands it the token that the primary has made for it, and waits until both sides
 * call it connected. One that is registered already needs no token.
 */
export async function connectGateway(options: ConnectOptions): Promise<Rest> {
  const {
    lab,
    mazevault,
    primary,
    name,
    environment,
    role,
    config = {},
    env = {},
    logLevel = "info",
    programs,
  } = options;
  const tokenFile = path.join(lab.dir, "operator", `${name}.token`);
  await applyGateway(primary.cluster, { name, environment, role });
  const operator = await mazevault.startGateway({
    name,
    logLevel,
    ...(programs !== undefined && { programs }),
    env: {
      MAZEVAULT_GATEWAY_ENVIRONMENT: environment,
      MAZEVAULT_GATEWAY_ROLE: role,
      PRIMARY_BACKEND_URL: primary.url,
      AZURE_MANAGED_IDENTITY_CLIENT_ID: azure.gateways[environment].managedIdentity,
      ...env,
    },
    config: { ...config, gateway: { primaryCaFile: primary.caFile, bootstrapTokenFile: tokenFile, ...config.gateway } },
  });
  await connected({ operator, primary, name, tokenFile });
  return operator;
}

interface Connecting {
  readonly operator: Pick<Rest, "httpPort">;
  readonly primary: Pick<Primary, "cluster">;
  readonly name: string;
  /** Takes the token while the primary has one for it. */
  readonly tokenFile?: string;
}

/** Waits until both sides call it connected. @throws with what the gateway says of itself */
export async function connected({ operator, primary, name, tokenFile }: Connecting): Promise<void> {
  let told = "";
  const holds = async (): Promise<boolean> => {
    const token = tokenFile === undefined ? undefined : await bootstrapToken(primary.cluster, name);
    if (token !== undefined && tokenFile !== undefined) writeFileSync(tokenFile, token, { mode: 0o600 });
    told = await (await fetch(`http://127.0.0.1:${operator.httpPort}/readyz`)).text();
    return /^channel: open$/m.test(told) && (await isConnected(primary.cluster, name));
  };
  try {
    await until("connected", holds, { timeoutMs: CONNECTED_WITHIN_MS, intervalMs: 250 });
  } catch (error) {
    throw new Error(`gateway ${name} does not connect: ${told.trim()}`, { cause: error });
  }
  // Nobody may use it again, and it need not lie about.
  if (tokenFile !== undefined) writeFileSync(tokenFile, "", { mode: 0o600 });
}

async function applyGateway({ kubectl }: Primary["cluster"], { name, environment, role }: GatewayPlace): Promise<void> {
  const manifest = { apiVersion: API_VERSION, kind: "Gateway", metadata: { name }, spec: { environment, role } };
  const { code, stderr } = await kubectl(["apply", "-f", "-"], { input: stringify(manifest) });
  if (code !== 0) throw new Error(`Gateway ${name}: ${stderr.trim()}`);
}

/** Undefined while there is none, as for a gateway that has registered. */
async function bootstrapToken({ kubectl }: Primary["cluster"], name: string): Promise<string | undefined> {
  const path = "jsonpath={.data.token}";
  const secret = ["-n", SYSTEM_NAMESPACE, "get", "secret", `${name}-bootstrap`, "--ignore-not-found", "-o", path];
  const { stdout } = await kubectl(secret);
  return stdout === "" ? undefined : Buffer.from(stdout, "base64").toString("utf8");
}

async function isConnected({ kubectl }: Primary["cluster"], name: string): Promise<boolean> {
  const path = 'jsonpath={.status.conditions[?(@.type=="Connected")].status}';
  const { stdout } = await kubectl(["get", "gateways.mazevault.io", name, "-o", path]);
  return stdout === "True";
}
