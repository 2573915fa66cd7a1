/** What the servers that MazeVault works with spend: it shares their cores, and on a busy machine only this is exact. */
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { descendants } from "../lab/identity.ts";
import type { Figure } from "./result.ts";
import type { Stage } from "./stage.ts";

export type LabCpu = Readonly<Record<string, number>>;

const TICKS_PER_SECOND = 100;

/** CPU seconds so far by server; NaN where the kernel does not tell. */
export function labCpu({ world: { lab } }: Stage): LabCpu {
  const of = (pid: number | undefined): number => (pid === undefined ? Number.NaN : tree(pid));
  return {
    "kube-apiserver": of(lab.controlPlane.apiServer.pid),
    etcd: of(lab.controlPlane.etcd.pid),
    PostgreSQL: of(lab.postgres.process.pid),
    "the benchmark itself": (({ user, system }) => (user + system) / 1e6)(process.cpuUsage()),
  };
}

/** CPU seconds since then; in one second each core has one. */
export function labCpuFigures(before: LabCpu, after: LabCpu, operatorSeconds: number): Figure[] {
  const spent = Object.keys(after).map((server) => [server, (after[server] ?? 0) - (before[server] ?? 0)] as const);
  const all = spent.reduce((sum, [, seconds]) => sum + seconds, operatorSeconds);
  return [
    ...spent.map(([server, value]): Figure => ({ what: `CPU of ${server}`, value, unit: "s" })),
    { what: "all this CPU, spread over all cores", value: all / cpus().length, unit: "s" },
  ];
}

/** Of a process with its descendants, also those that have ended. */
function tree(pid: number): number {
  try {
    return [pid, ...descendants(pid)].reduce((sum, member) => sum + own(member), 0);
  } catch {
    return Number.NaN;
  }
}

function own(pid: number): number {
  // The command name may hold spaces and parentheses; utime, stime, cutime and cstime are fields 14 to 17 of proc(5).
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)?.split(" ").slice(11, 15) ?? [];
  return fields.reduce((sum, ticks) => sum + Number(ticks), 0) / TICKS_PER_SECOND;
}
