/** Puts the command line beside kubectl, also as its plugin, to be run by this very Node. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";

const NAMES = ["mazevault", "kubectl-mazevault"];

/** `program`: the bundled command line. */
export function writeLaunchers(folder: string, program: string): void {
  for (const name of NAMES) writeLauncher(folder, name, program);
}

/** @param program a bundled one */
export function writeLauncher(folder: string, name: string, program: string): void {
  mkdirSync(folder, { recursive: true });
  const script = `#!/bin/sh\nexec "${process.execPath}" "${program}" "$@"\n`;
  writeFileSync(path.join(folder, name), script, { mode: 0o755 });
}
