/** Programs in Go that this machine lacks: built once for all checkouts, from modules that pin every dependency by checksum. */
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { cacheDir } from "../cache.ts";
import { errorMessage } from "../errors.ts";
import { buildGo, type GoProgram } from "../go.ts";
import { waitForLock } from "../lock.ts";

const DRAFT_PREFIX = ".new-";

export interface PinnedGoProgram extends GoProgram {
  /** What its go.mod pins. */
  readonly version: string;
  /** What it is asked once it is built, and what must be in its answer. */
  readonly question: { readonly args: readonly string[]; readonly answer: string };
}

export interface GoProgramOptions {
  /** `mazevault/NAME` in the user's cache. */
  readonly cache?: string;
}

/** Where it is, when this machine has it. Looks, and neither builds nor runs anything. */
export function findGoProgram(
  { name, version }: PinnedGoProgram,
  { cache = cacheDir(name) }: GoProgramOptions = {},
): string | undefined {
  const file = path.join(cache, version, name);
  return existsSync(file) ? file : undefined;
}

/** Finds or builds it: seconds to minutes, the result is kept. @throws with the reason, for a person */
export async function obtainGoProgram(
  program: PinnedGoProgram,
  report: (line: string) => void = () => {},
  options: GoProgramOptions = {},
): Promise<string> {
  const found = findGoProgram(program, options);
  if (found !== undefined) return found;
  const { name, version } = program;
  const dir = path.join(options.cache ?? cacheDir(name), version);
  const lock = await waitForLock(path.join(dir, "lock"), ({ pid }) =>
    report(`waiting for process ${pid}, which is building ${name} already`),
  );
  try {
    return findGoProgram(program, options) ?? (await build(program, dir, report));
  } finally {
    lock.release();
  }
}

async function build(program: PinnedGoProgram, dir: string, report: (line: string) => void): Promise<string> {
  const { name, version } = program;
  // Of a holder of the lock that was killed.
  for (const each of readdirSync(dir).filter((entry) => entry.startsWith(DRAFT_PREFIX)))
    rmSync(path.join(dir, each), { recursive: true });
  const draft = path.join(mkdtempSync(path.join(dir, DRAFT_PREFIX)), name);
  try {
    report(`building ${name} ${version} from source (the result is kept)`);
    await buildGo(program, draft, report);
    await check(program, draft);
    const file = path.join(dir, name);
    renameSync(draft, file);
    return file;
  } finally {
    rmSync(path.dirname(draft), { recursive: true, force: true });
  }
}

async function check({ question: { args, answer } }: PinnedGoProgram, file: string): Promise<void> {
  const said = await promisify(execFile)(file, [...args], { timeout: 30_000 }).catch((error: unknown) => {
    throw new Error(`it was built and does not run: ${errorMessage(error)}`);
  });
  if (!said.stdout.includes(answer)) throw new Error(`it was built and says ${said.stdout.trim().slice(0, 200)}`);
}
