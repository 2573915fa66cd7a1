import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import path from "node:path";
import { identify, signal } from "../identity.ts";
import { until } from "../poll.ts";

/**
 * Clears the way for a new server after the last one was killed.
 *
 * Its backends end by themselves when they notice, but one that is frozen never does, and PostgreSQL rightly refuses to
 * start while one is left. And `postmaster.pid` may name a pid that another program has got since, after a reboot or in
 * a container that was restarted: PostgreSQL would refuse for ever.
 *
 * Elsewhere than on Linux PostgreSQL's own checks decide.
 */
export async function clearLeftovers(dataDir: string): Promise<void> {
  if (process.platform !== "linux" || !existsSync(dataDir)) return;
  for (const pid of serversIn(dataDir)) signal(pid, "SIGKILL");
  await until("PostgreSQL's last processes ended", () => serversIn(dataDir).length === 0, { timeoutMs: 10_000 });
  const pidFile = path.join(dataDir, "postmaster.pid");
  if (!existsSync(pidFile)) return;
  // Kept where its process is gone: it tells PostgreSQL which shared memory to free.
  const [line = ""] = readFileSync(pidFile, "utf8").split("\n");
  if (identify(Number(line)) !== undefined) rmSync(pidFile);
}

/** Postmaster and backends: each has the data directory as its working directory. */
function serversIn(dataDir: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return (
          readlinkSync(`/proc/${pid}/cwd`) === dataDir && path.basename(readlinkSync(`/proc/${pid}/exe`)) === "postgres"
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}
