/** What a figure was measured on: without it no two results can be compared. */
import { execFileSync } from "node:child_process";
import { cpus, loadavg, release, totalmem } from "node:os";
import { fileURLToPath } from "node:url";
import { withClient } from "../lab/postgres/database.ts";
import type { Stage } from "./stage.ts";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly kernel: string;
  readonly node: string;
  readonly postgres: string;
  readonly kubernetes: string;
  readonly commit: string;
}

const root = fileURLToPath(new URL("..", import.meta.url));

export async function describeMachine({ world }: Stage): Promise<Machine> {
  const { stdout } = await world.lab.controlPlane.kubectl(["version", "-o", "json"]);
  const { serverVersion } = JSON.parse(stdout) as { serverVersion: { gitVersion: string } };
  const postgres = await withClient(world.lab.postgres.superuser, async (client) => {
    const { rows } = await client.query<{ server_version: string }>("SHOW server_version");
    return rows[0]?.server_version ?? "unknown";
  });
  const processors = cpus();
  return {
    cpu: processors[0]?.model ?? "unknown",
    cores: processors.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    node: process.version,
    postgres,
    kubernetes: serverVersion.gitVersion,
    commit: commit(),
  };
}

/** Runnable processes, averaged over a minute: well above the cores, something else was running too. */
export const load = (): number => loadavg()[0] ?? 0;

function commit(): string {
  try {
    const git = (...args: string[]): string => execFileSync("git", args, { cwd: root, encoding: "utf8" }).trim();
    const changed = git("status", "--porcelain", "--", ".", ":!bench/results") !== "";
    return `${git("rev-parse", "HEAD")}${changed ? " with changes" : ""}`;
  } catch {
    return "unknown";
  }
}
