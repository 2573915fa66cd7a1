#!/usr/bin/env node
/** The command line. As `kubectl-mazevault` on the PATH it is also `kubectl mazevault`. */
import { run } from "./program.ts";

const { stdout, stderr, stdin, env, argv } = process;
// Who has seen enough, such as `head`, is no error.
stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit();
});
process.exitCode = await run(argv.slice(2), { stdout, stderr, stdin, env });
