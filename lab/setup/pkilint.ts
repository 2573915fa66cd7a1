/** pkilint, which tests ask about certificates: from PyPI into a virtual environment in the user's cache, each file by its hash. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { cacheDir } from "../cache.ts";
import { errorMessage } from "../errors.ts";
import { waitForLock } from "../lock.ts";

const REQUIREMENTS = path.join(import.meta.dirname, "pkilint-requirements.txt");
const DRAFT_PREFIX = ".new-";
/** All of it has 10 MB. */
const PATIENCE_MS = 180_000;

export interface PkilintOptions {
  /** `mazevault/pkilint` in the user's cache. */
  readonly cache?: string;
}

/** The Python that can import it; undefined where it was not obtained. Looks, and neither fetches nor runs anything. */
export function findPkilint({ cache = cacheDir("pkilint") }: PkilintOptions = {}): string | undefined {
  const python = pythonOf(path.join(cache, version()));
  return existsSync(python) ? python : undefined;
}

/** Finds it or installs it. @throws with the reason, for a person, when neither is possible */
export async function obtainPkilint(
  report: (line: string) => void = () => {},
  options: PkilintOptions = {},
): Promise<string> {
  const { cache = cacheDir("pkilint") } = options;
  const found = findPkilint(options);
  if (found !== undefined && (await whyNotRunning(found)) === undefined) return found;
  const lock = await waitForLock(path.join(cache, "lock"), ({ pid }) =>
    report(`waiting for process ${pid}, which is installing pkilint already`),
  );
  try {
    const meanwhile = findPkilint(options);
    if (meanwhile !== undefined && (await whyNotRunning(meanwhile)) === undefined) return meanwhile;
    report(`installing pkilint into ${cache}`);
    return await install(cache);
  } finally {
    lock.release();
  }
}

async function install(cache: string): Promise<string> {
  // Of a holder of the lock that was killed.
  for (const name of readdirSync(cache).filter((each) => each.startsWith(DRAFT_PREFIX)))
    rmSync(path.join(cache, name), { recursive: true });
  const draft = mkdtempSync(path.join(cache, DRAFT_PREFIX));
  try {
    await run("python3", ["-m", "venv", draft]);
    // Wheels only: nothing of theirs runs here before a test asks for it.
    const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
    await run(pythonOf(draft), [...pip, "--require-hashes", "--requirement", REQUIREMENTS]);
    const problem = await whyNotRunning(pythonOf(draft));
    if (problem !== undefined) throw new Error(`it was installed and does not run: ${problem}`);
    const target = path.join(cache, version());
    rmSync(target, { recursive: true, force: true });
    // Python finds a virtual environment by where its program lies, so it may move.
    renameSync(draft, target);
    return pythonOf(target);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

const pythonOf = (environment: string): string => path.join(environment, "bin", "python");

/** Differs where what is installed does. */
const version = (): string => createHash("sha256").update(readFileSync(REQUIREMENTS)).digest("hex").slice(0, 12);

/** Undefined when it runs. */
const whyNotRunning = (python: string): Promise<string | undefined> =>
  run(python, ["-c", "import pkilint.bin.lint_pkix_cert"]).then(() => undefined, errorMessage);

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
