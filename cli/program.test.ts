import { PassThrough } from "node:stream";
import { VARIABLES } from "./environment.ts";
import { EXIT, EXIT_MEANINGS } from "./errors.ts";
import { run } from "./program.ts";

test("help tells what scripts need: each exit code, and each variable of the environment", async () => {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  expect(await run(["--help"], { stdout, stderr, stdin: process.stdin, env: {} })).toBe(EXIT.ok);
  const lines = Buffer.concat(await stdout.end().toArray())
    .toString()
    .split("\n");
  for (const [name, code] of Object.entries(EXIT))
    expect(lines).toContain(`  ${code}  ${EXIT_MEANINGS[name as keyof typeof EXIT]}`);
  for (const [name, meaning] of Object.entries(VARIABLES))
    expect(lines).toContainEqual(expect.stringMatching(new RegExp(`^ {2}${name} +${meaning}$`)));
});
