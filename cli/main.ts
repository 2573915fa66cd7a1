#!/usr/bin/env node
/** The command line. As `kubectl-mazevault` on the PATH it is also `kubectl mazevault`. */
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import path from "node:path";
import type { Environment } from "./environment.ts";

const { stdout, stderr, stdin, argv } = process;
const env: Environment = process.env;
// Half of the time that a command takes is compiling it. The folder is the user's own: from one that others may write to,
// Node would run what they put there.
enableCompileCache(path.join(env.XDG_CACHE_HOME ?? path.join(homedir(), ".cache"), "mazevault", "compiled"));
// Who has seen enough, such as `head`, is no error.
stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit();
});
// Only now, so that it comes from there.
const { run } = await import("./program.ts");
process.exitCode = await run(argv.slice(2), { stdout, stderr, stdin, env });
