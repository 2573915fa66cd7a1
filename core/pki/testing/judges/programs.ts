/** The programs that judge, as far as this machine has them; `npm test` says which it lacks. */
import { execFile } from "node:child_process";
import path from "node:path";
import { findKeytool } from "../../../../lab/setup/needs.ts";
import { findPackage, type InstalledPackage, libraryPath, testPackages } from "../../../../lab/setup/packages.ts";
import { findPythonTool, pkilint } from "../../../../lab/setup/python-tool.ts";

/** A program and what it needs in its environment. */
export interface Program {
  readonly file: string;
  readonly env: Readonly<Record<string, string>>;
}

/** What it said, on both outputs, and whether it ended with 0. */
export interface Answer {
  readonly ok: boolean;
  readonly output: string;
}

/** Nothing here takes more than a second on an idle machine. */
const PATIENCE_MS = 60_000;

/** Runs a program to its end. @throws when it cannot be run or does not end */
export function ask({ file, env }: Program, args: readonly string[]): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { env: { ...process.env, LC_ALL: "C", ...env }, timeout: PATIENCE_MS, maxBuffer: 16 * 1024 * 1024 };
    const child = execFile(file, [...args], options, (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== "number") reject(error);
      else resolve({ ok: error === null, output: `${stdout}${stderr}` });
    });
    child.stdin?.end();
  });
}

export const openssl: Program = { file: "openssl", env: {} };

/** A program of a package, where the package is there. */
export const programOf = (found: InstalledPackage | undefined, name: string): Program | undefined =>
  found && { file: path.join(found.root, name), env: libraryPath(found.root, found.libraries) };

const gnutls = findPackage(testPackages["gnutls-bin"]);
export const certtool = programOf(gnutls, "usr/bin/certtool");
export const ocsptool = programOf(gnutls, "usr/bin/ocsptool");
export const curl = programOf(findPackage(testPackages.curl), testPackages.curl.program);
export const nginx = programOf(findPackage(testPackages.nginx), testPackages.nginx.program);

const keytoolFile = findKeytool();
export const keytool: Program | undefined = keytoolFile === undefined ? undefined : { file: keytoolFile, env: {} };

const pythonFile = findPythonTool(pkilint);
/** The Python that has pkilint. */
export const python: Program | undefined = pythonFile === undefined ? undefined : { file: pythonFile, env: {} };
