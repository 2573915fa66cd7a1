import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, realpathSync, rmSync } from "node:fs";
import path from "node:path";
import { obtainBinaries } from "./controlplane/binaries.ts";
import { type ControlPlane, startControlPlane } from "./controlplane/controlplane.ts";
import { LabPki } from "./pki.ts";
import { Ports } from "./ports.ts";
import { copyOutside, removeOutside } from "./postgres/account.ts";
import { type Postgres, startPostgres } from "./postgres/postgres.ts";
import type { Programs } from "./postgres/programs.ts";
import { Supervisor } from "./processes.ts";
import type { ProcessSpec, SupervisedProcess } from "./supervised.ts";

export interface LabOptions {
  /** Holds everything that the next start continues with; `<checkout>/.mazevault/lab` for `npm start`. */
  readonly dir: string;
  /** Default true. false is faster and safe for tests that kill neither etcd nor the machine. */
  readonly durable?: boolean;
  /** The PostgreSQL that npm installed when absent. */
  readonly postgres?: Programs;
  /** Added to the arguments of kube-apiserver. */
  readonly apiServerArgs?: readonly string[];
  /** Receives progress and restarts, one line each; silent by default. */
  readonly report?: (line: string) => void;
}

/** PostgreSQL and whatever else is run beside it, on loopback, with persistent data, ports and identities. */
export interface Machine {
  readonly dir: string;
  readonly pki: LabPki;
  readonly ports: Ports;
  readonly postgres: Postgres;
  /** Runs one more child under the lab's supervision and waits until it is ready. */
  spawn(spec: ProcessSpec): Promise<SupervisedProcess>;
  /** Ends everything, the last started first. Further calls wait for the first. */
  stop(): Promise<void>;
}

/** A machine with a Kubernetes control plane of its own. */
export interface Lab extends Machine {
  readonly controlPlane: ControlPlane;
}

/** Starts PostgreSQL alone, for a cluster that exists already. @throws after ending what it had started */
export async function startMachine({ dir, ...options }: Omit<LabOptions, "apiServerArgs">): Promise<Machine> {
  return open(dir, options, async (common, labDir) => ({
    postgres: await startPostgres({ ...common, dir: path.join(labDir, "postgres") }),
  }));
}

/** Starts the lab. @throws after ending what it had started */
export async function startLab({ dir, postgres: programs, apiServerArgs = [], ...options }: LabOptions): Promise<Lab> {
  const binaries = await obtainBinaries(options.report);
  return open(dir, options, async (common, labDir) => {
    const [controlPlane, postgres] = await Promise.all([
      startControlPlane({ ...common, dir: path.join(labDir, "controlplane"), binaries, apiServerArgs }),
      startPostgres({ ...common, dir: path.join(labDir, "postgres"), ...(programs && { programs }) }),
    ]);
    return { controlPlane, postgres };
  });
}

interface Common {
  readonly supervisor: Supervisor;
  readonly ports: Ports;
  readonly pki: LabPki;
  readonly durable: boolean;
  readonly report: (line: string) => void;
}

async function open<Parts extends { readonly postgres: Postgres; readonly controlPlane?: ControlPlane }>(
  givenDir: string,
  { durable = true, report = () => {} }: Pick<LabOptions, "durable" | "report">,
  start: (common: Common, dir: string) => Promise<Parts>,
): Promise<Machine & Parts> {
  mkdirSync(givenDir, { recursive: true });
  const dir = path.resolve(givenDir);
  const supervisor = await Supervisor.open(dir, report);
  try {
    const ports = new Ports(path.join(dir, "ports.json"));
    const pki = await LabPki.open(path.join(dir, "pki"));
    const parts = await start({ supervisor, ports, pki, durable, report }, dir);
    let stopped: Promise<void> | undefined;
    return {
      dir,
      pki,
      ports,
      ...parts,
      spawn: (spec) => supervisor.run(spec),
      stop: () => {
        parts.controlPlane?.stop();
        stopped ??= supervisor.stop();
        return stopped;
      },
    };
  } catch (error) {
    await supervisor.stop();
    throw error;
  }
}

/** Copies a lab that does not run, with its data and identities; the copy gets ports of its own. */
export function copyLab(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  // Unlike what Node has for it, cp keeps owners and holes: etcd's log is mostly holes.
  execFileSync("cp", ["-a", `${from}/.`, to]);
  copyOutside(path.join(realpathSync(from), "postgres"), path.join(realpathSync(to), "postgres"));
  for (const own of ["ports.json", "logs"]) rmSync(path.join(to, own), { recursive: true, force: true });
}

/** Removes a lab with its data, ports and identities. @throws while it runs */
export async function resetLab(dir: string): Promise<void> {
  if (!existsSync(dir)) return;
  const supervisor = await Supervisor.open(path.resolve(dir));
  await supervisor.stop();
  removeOutside(path.join(realpathSync(dir), "postgres"));
  rmSync(dir, { recursive: true, force: true });
}
