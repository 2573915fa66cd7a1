/** Programs in Python that tests ask: from PyPI into virtual environments in the user's cache, each file by its hash. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { cacheDir } from "../cache.ts";
import { errorMessage } from "../errors.ts";
import { waitForLock } from "../lock.ts";

const DRAFT_PREFIX = ".new-";
/** checkov is the largest by far, with 100 MB. */
const PATIENCE_MS = 300_000;

/** Its requirements stand in `NAME-requirements.txt`. */
export type PythonTool = { readonly name: string } & (
  | {
      /** A module that is there when it can run. */
      readonly module: string;
    }
  | {
      /** What a package brings that is no Python; answers `--version`. */
      readonly program: string;
    }
);

export interface PythonToolOptions {
  /** `mazevault/NAME` in the user's cache. */
  readonly cache?: string;
}

export const pkilint: PythonTool = { name: "pkilint", module: "pkilint.bin.lint_pkix_cert" };
export const schemathesis: PythonTool = { name: "schemathesis", module: "schemathesis.cli" };
/** Not its `main`, which takes seconds to import. */
export const checkov: PythonTool = { name: "checkov", module: "checkov" };
export const hadolint: PythonTool = { name: "hadolint", program: "hadolint" };
/** Tells which migrations of PostgreSQL block others, or take something away from them. */
export const squawk: PythonTool = { name: "squawk", program: "squawk" };

/**
 * The Python that can import its module, or its program; undefined where it was not obtained. Looks, and neither fetches nor
 * runs anything.
 */
export function findPythonTool(tool: PythonTool, options: PythonToolOptions = {}): string | undefined {
  const file = fileOf(tool, path.join(options.cache ?? cacheDir(tool.name), version(tool)));
  return existsSync(file) ? file : undefined;
}

/** Finds it or installs it. @throws with the reason, for a person, when neither is possible */
export async function obtainPythonTool(
  tool: PythonTool,
  report: (line: string) => void = () => {},
  options: PythonToolOptions = {},
): Promise<string> {
  const { cache = cacheDir(tool.name) } = options;
  const found = findPythonTool(tool, options);
  if (found !== undefined && (await whyNotRunning(tool, found)) === undefined) return found;
  const lock = await waitForLock(path.join(cache, "lock"), ({ pid }) =>
    report(`waiting for process ${pid}, which is installing ${tool.name} already`),
  );
  try {
    const meanwhile = findPythonTool(tool, options);
    if (meanwhile !== undefined && (await whyNotRunning(tool, meanwhile)) === undefined) return meanwhile;
    report(`installing ${tool.name} into ${cache}`);
    return await install(tool, cache);
  } finally {
    lock.release();
  }
}

async function install(tool: PythonTool, cache: string): Promise<string> {
  // Of a holder of the lock that was killed.
  for (const name of readdirSync(cache).filter((each) => each.startsWith(DRAFT_PREFIX)))
    rmSync(path.join(cache, name), { recursive: true });
  const draft = mkdtempSync(path.join(cache, DRAFT_PREFIX));
  try {
    await run("python3", ["-m", "venv", draft]);
    // Wheels only: nothing of theirs runs here before a test asks for it.
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
    await run(pythonOf(draft), [...pip, "--require-hashes", "--requirement", requirements(tool)]);
    const problem = await whyNotRunning(tool, fileOf(tool, draft));
    if (problem !== undefined) throw new Error(`it was installed and does not run: ${problem}`);
    const target = path.join(cache, version(tool));
    rmSync(target, { recursive: true, force: true });
    // Python finds a virtual environment by where its program lies, so it may move.
    renameSync(draft, target);
    return fileOf(tool, target);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

const pythonOf = (environment: string): string => path.join(environment, "bin", "python");

const fileOf = (tool: PythonTool, environment: string): string =>
  "module" in tool ? pythonOf(environment) : path.join(environment, "bin", tool.program);

/** Differs where what is installed does. */
const version = (tool: PythonTool): string =>
  createHash("sha256")
    .update(readFileSync(requirements(tool)))
    .digest("hex")
    .slice(0, 12);

const requirements = ({ name }: PythonTool): string => path.join(import.meta.dirname, `${name}-requirements.txt`);

/** Undefined when it runs. */
const whyNotRunning = (tool: PythonTool, file: string): Promise<string | undefined> =>
  run(file, "module" in tool ? ["-c", `import ${tool.module}`] : ["--version"]).then(() => undefined, errorMessage);

async function run(program: string, args: readonly string[]): Promise<void> {
  try {
    await promisify(execFile)(program, [...args], { env: { ...process.env, LC_ALL: "C" }, timeout: PATIENCE_MS });
  } catch (error) {
    const { code, killed, stdout, stderr } = error as {
      code?: unknown;
      killed?: boolean;
      stdout?: string;
      stderr?: string;
    };
    const name = path.basename(program);
    if (code === "ENOENT") throw new Error(`there is no ${name} on this machine`, { cause: error });
    if (killed) throw new Error(`${name} took longer than ${PATIENCE_MS / 1000} seconds`, { cause: error });
    // pip and python end with the reason, the one on standard error, venv on standard output.
    const lines = `${stdout ?? ""}${stderr ?? ""}`.trim().split("\n");
    throw new Error(`${name}: ${lines.at(-1) || errorMessage(error)}`);
  }
}
