import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

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

  it("counts from the signal on when a file says where", () => {
    const file = path.join(mkdtempSync(path.join(tmpdir(), "failpoint-")), "failpoint");
    const program = `
      import { writeFileSync, writeSync } from "node:fs";
      import { failpoint } from "${MODULE}";
      failpoint("a");
      writeFileSync(${JSON.stringify(file)}, "a:2");
      failpoint("a");
      process.once("SIGUSR2", () => { for (;;) { failpoint("a"); writeSync(1, "."); } });
      process.kill(process.pid, "SIGUSR2");
      setTimeout(() => {}, 60_000);`;
    const env = { ...process.env, MAZEVAULT_FAILPOINT_FILE: file };
    const { stdout, signal } = spawnSync(process.execPath, ["--input-type=module", "--eval", program], { env });
    rmSync(path.dirname(file), { recursive: true });
    expect({ passed: stdout.toString(), signal }).toEqual({ passed: ".", signal: "SIGKILL" });
  });
});
