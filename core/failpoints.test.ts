import { spawnSync } from "node:child_process";

const MODULE = new URL("./failpoints.ts", import.meta.url).href;

/** Passes the failpoint `a` three times; tells how often it came through, and how it ended. */
function passThrough(armed: string | undefined): { passed: string; signal: NodeJS.Signals | null } {
  const program = `
    import { writeSync } from "node:fs";
    import { failpoint } from "${MODULE}";
    for (let at = 0; at < 3; at += 1) { failpoint("a"); failpoint("b"); writeSync(1, "."); }`;
  const env = { ...process.env, ...(armed !== undefined && { MAZEVAULT_FAILPOINT: armed }) };
  const { stdout, signal } = spawnSync(process.execPath, ["--input-type=module", "--eval", program], { env });
  return { passed: stdout.toString(), signal };
}

describe("failpoint", () => {
  it.each([
    ["nothing when none is armed", undefined, "...", null],
    ["nothing when another one is armed", "c", "...", null],
    ["at the first passing", "a", "", "SIGKILL"],
    ["at the nth passing", "a:3", "..", "SIGKILL"],
    ["nothing when it is not passed often enough", "b:4", "...", null],
  ] as const)("does %s", (_, armed, passed, signal) => {
    expect(passThrough(armed)).toEqual({ passed, signal });
  });
});
