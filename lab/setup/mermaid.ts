/**
 * Mermaid's own parser, which judges pictures of the documentation. With what it needs it is 225 MB in 125 packages, for which
 * nobody waits who only starts the product: `npm ci` puts it into the user's cache, each package by its hash (`mermaid/package-lock.json`).
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { cacheDir } from "../cache.ts";
import { errorMessage } from "../errors.ts";
import { waitForLock } from "../lock.ts";

const DRAFT_PREFIX = ".new-";
const PATIENCE_MS = 300_000;

const pinned = path.join(import.meta.dirname, "mermaid");
const LOCK = "package-lock.json";

export interface MermaidOptions {
  /** `mazevault/mermaid` in the user's cache. */
  readonly cache?: string;
}

/** The folder that has it; undefined where it was not obtained. Looks, and neither fetches nor runs anything. */
export function findMermaid({ cache = cacheDir("mermaid") }: MermaidOptions = {}): string | undefined {
  const folder = path.join(cache, version());
  return existsSync(folder) ? folder : undefined;
}

/** Finds it or installs it. @throws with the reason, for a person */
export async function obtainMermaid(
  report: (line: string) => void = () => {},
  options: MermaidOptions = {},
): Promise<string> {
  const { cache = cacheDir("mermaid") } = options;
  const found = findMermaid(options);
  if (found !== undefined) return found;
  const lock = await waitForLock(path.join(cache, "lock"), ({ pid }) =>
    report(`waiting for process ${pid}, which is installing Mermaid already`),
  );
  try {
    const meanwhile = findMermaid(options);
    if (meanwhile !== undefined) return meanwhile;
    report(`installing Mermaid into ${cache}`);
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
    for (const name of ["package.json", LOCK]) copyFileSync(path.join(pinned, name), path.join(draft, name));
    // Nothing of theirs runs here before a test asks for it.
    const args = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    const options = { cwd: draft, env: { ...process.env }, timeout: PATIENCE_MS };
    await promisify(execFile)("npm", args, options).catch(({ code, stderr }) => {
      if (code === "ENOENT") throw new Error("there is no npm on this machine");
      throw new Error(`npm ci: ${String(stderr).trim().split("\n")[0] || `ended with ${code}`}`);
    });
    const [problem] = await mermaidProblems(draft, ["flowchart LR\n  a --> b"]).catch((error) => [errorMessage(error)]);
    if (problem !== undefined) throw new Error(`it was installed and does not run: ${problem}`);
    const target = path.join(cache, version());
    renameSync(draft, target);
    return target;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** Differs where what is installed does. */
const version = (): string =>
  createHash("sha256")
    .update(readFileSync(path.join(pinned, LOCK)))
    .digest("hex")
    .slice(0, 12);

/**
 * What is wrong with each picture, in their order; undefined where nothing is.
 * @param folder of `findMermaid`
 */
export async function mermaidProblems(
  folder: string,
  pictures: readonly string[],
): Promise<readonly (string | undefined)[]> {
  const program = path.join(pinned, "parse.mjs");
  const running = promisify(execFile)(process.execPath, [program, folder], { timeout: PATIENCE_MS });
  running.child.stdin?.end(JSON.stringify(pictures));
  const problems = JSON.parse((await running).stdout) as readonly (string | null)[];
  return problems.map((problem) => problem ?? undefined);
}
