#!/usr/bin/env node
/** The command line. As `kubectl-mazevault` on the PATH it is also `kubectl mazevault`. */
import { run } from "./program.ts";

const { stdout, stderr, stdin, env, argv } = process;
process.exitCode = await run(argv.slice(2), { stdout, stderr, stdin, env });
