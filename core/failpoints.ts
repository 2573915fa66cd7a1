/**
 * Places where a test makes the process die as by `kill -9`. `MAZEVAULT_FAILPOINT` names one (`sync.afterIntent`), or
 * its nth passing (`sync.afterIntent:3`, counted from 1); without it every call is one comparison.
 */
const [armed, nth] = (process.env.MAZEVAULT_FAILPOINT ?? "").split(":");
let passings = 0;

/** Returns, or ends the process without any clean-up when this failpoint is armed and its turn has come. */
export function failpoint(name: string): void {
  if (name !== armed) return;
  passings += 1;
  if (passings === Number(nth ?? 1)) process.kill(process.pid, "SIGKILL");
}
