/**
 * Places where a test makes the process die as by `kill -9`. `MAZEVAULT_FAILPOINT` names one (`sync.afterIntent`), or
 * its nth passing (`sync.afterIntent:3`, counted from 1). `MAZEVAULT_FAILPOINT_FILE` names a file where the failpoint
 * stands by the time that SIGUSR2 arrives, from when on it counts. Without either every call is one comparison.
 */
import { readFileSync } from "node:fs";

let armed: string | undefined;
let left = 0;

function arm(failpoint: string): void {
  const [name, nth] = failpoint.trim().split(":");
  armed = name;
  left = Number(nth ?? 1);
}

const { MAZEVAULT_FAILPOINT, MAZEVAULT_FAILPOINT_FILE: file } = process.env;
if (MAZEVAULT_FAILPOINT !== undefined) arm(MAZEVAULT_FAILPOINT);
if (file !== undefined) process.on("SIGUSR2", () => arm(readFileSync(file, "utf8")));

/** Returns, or ends the process without any clean-up when this failpoint is armed and its turn has come. */
export function failpoint(name: string): void {
  if (name !== armed) return;
  left -= 1;
  if (left === 0) process.kill(process.pid, "SIGKILL");
}
