import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { errorCode } from "./errors.ts";

/** A process that the kernel cannot confuse with a later one of the same pid. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Opaque; equal for the same process, different for every later holder of the pid. */
  readonly startedAt: string;
}

/**
 * Identifies a living process.
 * @returns undefined when no process has this pid, or only a zombie that nobody has reaped.
 */
export function identify(pid: number): ProcessIdentity | undefined {
  const startedAt = process.platform === "linux" ? startTimeFromProc(pid) : startTimeFromPs(pid);
  return startedAt === undefined ? undefined : { pid, startedAt };
}

/** Whether exactly this process, not another one with its pid, still runs. */
export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.startedAt === identity.startedAt;
}

/** The identity of this program. */
export function ownIdentity(): ProcessIdentity {
  const own = identify(process.pid);
  if (own === undefined) throw new Error(`cannot read the start time of the own process ${process.pid}`);
  return own;
}

/** All living descendants of a process, nearest first, without itself. */
export function descendants(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const line of execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" }).split("\n")) {
    const [child, parent] = line.trim().split(/\s+/).map(Number);
    if (child === undefined || parent === undefined) continue;
    children.set(parent, [...(children.get(parent) ?? []), child]);
  }
  const found: number[] = [];
  for (let generation = [pid]; generation.length > 0; ) {
    generation = generation.flatMap((parent) => children.get(parent) ?? []);
    found.push(...generation);
  }
  return found;
}

/** Sends a signal; a process that is already gone is not an error. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (errorCode(error) !== "ESRCH") throw error;
  }
}

function startTimeFromProc(pid: number): string | undefined {
  try {
    // The command name (field 2) may contain spaces and parentheses, so count from the last closing one.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state] = fields;
    const threads = Number(fields[17]);
    const ticksSinceBoot = fields[19];
    // Where the main thread has ended before the others, its state is Z already while they still hold files and ports.
    const dead = state === "X" || (state === "Z" && threads <= 1);
    if (dead || ticksSinceBoot === undefined) return undefined;
    // Ticks since boot repeat after a reboot, and so do low pids.
    return `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()}/${ticksSinceBoot}`;
  } catch {
    return undefined;
  }
}

function startTimeFromPs(pid: number): string | undefined {
  try {
    const [state, ...start] = execFileSync("ps", ["-o", "state=,lstart=", "-p", String(pid)], {
      encoding: "utf8",
      env: { ...process.env, LC_ALL: "C" },
      stdio: ["ignore", "pipe", "ignore"],
    })
      .trim()
      .split(/\s+/);
    return state === undefined || state.startsWith("Z") || start.length === 0 ? undefined : start.join(" ");
  } catch {
    return undefined;
  }
}
