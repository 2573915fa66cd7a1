/**
 * `npm start`: the product with everything around it on this machine, and the samples applied.
 *
 *   npm start                          goes on with the data of the last start
 *   npm start -- --reset               begins anew
 *   npm start -- --kubeconfig FILE     uses that cluster instead of one of its own
 *   npm start -- --with-gateway        and two gateways of NPR, each with a cluster and a database of its own
 */
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { API_VERSION } from "../crds/common.ts";
import { type Cluster, existingCluster } from "./cluster.ts";
import { serveControl } from "./control.ts";
import { obtainBinaries } from "./controlplane/binaries.ts";
import { errorMessage } from "./errors.ts";
import { type GatewayLab, nprGateways, type Primary, startGatewayLab } from "./gateway.ts";
import { environmentLine, guide, pkiCommands } from "./guide.ts";
import { gatewayCommands, gatewayVariables } from "./guide-gateways.ts";
import { type Machine, resetLab, startLab, startMachine } from "./lab.ts";
import { writeLaunchers } from "./launcher.ts";
import { installMazeVault, type MazeVault, type Program } from "./mazevault.ts";
import { until } from "./poll.ts";
import { stopOnSignals } from "./signals.ts";
import { asOne } from "./supervised.ts";

const USAGE = "usage: npm start -- [--reset] [--with-gateway | --kubeconfig FILE] [--dir FOLDER]";
const READY_MS = 120_000;
const root = fileURLToPath(new URL("..", import.meta.url));
const defaultDir = path.join(root, ".mazevault");
const samples = path.join(root, "e2e/samples");

const started = performance.now();
const report = (line: string): void =>
  console.log(`${((performance.now() - started) / 1000).toFixed(1).padStart(6)} s  ${line}`);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      reset: { type: "boolean", default: false },
      kubeconfig: { type: "string" },
      "with-gateway": { type: "boolean", default: false },
      dir: { type: "string", default: defaultDir },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  if (values["with-gateway"] && values.kubeconfig !== undefined) throw new Error(USAGE);
  const dir = path.resolve(values.dir);
  const labDir = path.join(dir, "lab");
  if (values.reset) {
    report("removing the data of the last start");
    for (const each of [labDir, ...nprGateways.map((gateway) => gatewayDir(dir, gateway))]) await resetLab(each);
  }

  // Stopped together: a gateway without its primary goes on as well as it can.
  const machines: Pick<Machine, "stop">[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(machines.map((machine) => machine.stop()));
  };
  stopOnSignals(stop, report);
  const starting = startPrimary(labDir, values.kubeconfig, (machine) => machines.push(machine));
  try {
    const gateways = values["with-gateway"] ? nprGateways : [];
    const [primary, ...labs] = await Promise.all([
      starting,
      ...gateways.map((gateway) =>
        startGatewayLab({ ...gateway, dir: gatewayDir(dir, gateway), report, primary: starting }, (lab) =>
          machines.push(lab),
        ),
      ),
    ]);
    report("everything is Ready");
    if (labs.length > 0) machines.push(await controlOf(labDir, primary, labs));
    const { mazevault, cluster, url, caFile } = primary;
    const elsewhere = dir === defaultDir ? {} : { labDir };
    console.log(
      guide({
        environment: environmentLine({
          ...linkPrograms(dir, cluster, mazevault.cli),
          restUrl: url,
          caFile,
          ...(labs.length > 0 && { variables: gatewayVariables(labs) }),
        }),
        pki: pkiCommands(dir, mazevault.pkiUrl),
        ...(labs.length > 0 && { gateways: gatewayCommands(elsewhere.labDir) }),
        ...elsewhere,
      }),
    );
  } catch (error) {
    await stop();
    throw error;
  }
}

const gatewayDir = (dir: string, { name }: { readonly name: string }): string => path.join(dir, "gateways", name);

interface RunningPrimary extends Primary {
  readonly cluster: Cluster;
  readonly mazevault: MazeVault;
  readonly programs: readonly Program[];
}

/** Everything of a start without gateways. */
async function startPrimary(
  labDir: string,
  kubeconfig: string | undefined,
  onMachine: (machine: Machine) => void,
): Promise<RunningPrimary> {
  const { machine, cluster } = await startMachineWithCluster(labDir, kubeconfig);
  onMachine(machine);
  report("installing resource definitions, rights and admission policies; starting the Key Vault stand-in");
  const mazevault = await installMazeVault({ lab: machine, cluster, report });
  report("starting the operator, REST and the OCSP responder");
  const config = { pki: { baseUrl: mazevault.pkiUrl } };
  const operator = await mazevault.startOperator({ config });
  const [rest] = await Promise.all([mazevault.startRest({ config }), mazevault.startOcsp()]);
  // Once: whoever edits or deletes a sample meets that again at the next start.
  const applied = path.join(labDir, "samples.applied");
  if (!existsSync(applied)) {
    report("applying e2e/samples");
    await applySamples(cluster);
    writeFileSync(applied, "");
  }
  await samplesReady(cluster);
  return { cluster, mazevault, programs: [operator, rest], url: rest.restUrl, caFile: machine.pki.caFile };
}

/** So that the guide's outage is one. */
async function controlOf(labDir: string, primary: RunningPrimary, gateways: readonly GatewayLab[]) {
  const parts = [
    ["primary", asOne(...primary.programs.map(({ process }) => process))],
    ...gateways.map(({ name, operator }) => [name, operator.process]),
  ];
  const control = await serveControl(labDir, Object.fromEntries(parts));
  return { stop: async () => control.close() };
}

async function startMachineWithCluster(
  dir: string,
  kubeconfig: string | undefined,
): Promise<{ machine: Machine; cluster: Cluster }> {
  if (kubeconfig === undefined) {
    report("starting etcd, kube-apiserver, kube-controller-manager and PostgreSQL");
    const lab = await startLab({ dir, report });
    return { machine: lab, cluster: lab.controlPlane };
  }
  const cluster = await existingCluster(kubeconfig, await findKubectl(), report);
  report("starting PostgreSQL");
  return { machine: await startMachine({ dir, report }), cluster };
}

/** Who has a cluster has kubectl, as a rule. */
async function findKubectl(): Promise<string> {
  const onPath = (process.env.PATH ?? "").split(path.delimiter).map((folder) => path.join(folder, "kubectl"));
  return onPath.find((file) => existsSync(file)) ?? (await obtainBinaries(report)).kubectl;
}

async function applySamples({ kubectl }: Cluster): Promise<void> {
  const { code, stderr } = await kubectl(["apply", "-f", samples]);
  if (code !== 0) throw new Error(`kubectl apply -f e2e/samples: ${stderr.trim()}`);
}

/** What is not Ready is named, so that a person knows where to look. */
async function samplesReady({ kubectl }: Cluster): Promise<void> {
  let waiting = "";
  try {
    await until(
      "the samples are Ready",
      async () => {
        waiting = await notReady(kubectl);
        return waiting === "";
      },
      { timeoutMs: READY_MS, intervalMs: 250 },
    );
  } catch {
    throw new Error(
      `these are not Ready after ${READY_MS / 1000} s: ${waiting}\nsee their status, and the operator's log`,
    );
  }
}

interface Listed {
  readonly items: readonly {
    readonly apiVersion: string;
    readonly kind: string;
    readonly metadata: { readonly name: string; readonly namespace?: string };
    readonly status?: {
      readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message: string }[];
    };
  }[];
}

async function notReady(kubectl: Cluster["kubectl"]): Promise<string> {
  const { stdout } = await kubectl(["get", "-f", samples, "--ignore-not-found", "-o", "json"]);
  return (JSON.parse(stdout === "" ? '{"items":[]}' : stdout) as Listed).items
    .filter(({ apiVersion, status }) => apiVersion === API_VERSION && readiness(status)?.status !== "True")
    .map(({ kind, metadata, status }) => `${kind} ${metadata.name} (${readiness(status)?.message ?? "no status yet"})`)
    .join("; ");
}

const readiness = (status: Listed["items"][number]["status"]) =>
  status?.conditions?.find(({ type }) => type === "Ready");

/** Short, lasting names for what the guide refers to. */
function linkPrograms(dir: string, cluster: Cluster, cli: string): { kubeconfig: string; programs: string } {
  const programs = path.join(dir, "bin");
  const kubeconfig = path.join(dir, "kubeconfig");
  mkdirSync(programs, { recursive: true });
  for (const [target, link] of [
    [cluster.kubectlPath, path.join(programs, "kubectl")],
    [cluster.kubeconfigPath, kubeconfig],
  ] as const) {
    rmSync(link, { force: true });
    symlinkSync(target, link);
  }
  writeLaunchers(programs, cli);
  return { kubeconfig, programs };
}

main().catch((error: unknown) => {
  console.error(`\n${errorMessage(error)}\n`);
  process.exit(1);
});
