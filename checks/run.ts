import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** What a program said, and whether it ended with 0. */
export interface Answer {
  readonly ok: boolean;
  readonly stdout: string;
  /** Of both, in this order. */
  readonly output: string;
}

/** None of them takes half of it on an idle machine. */
const PATIENCE_MS = 120_000;

/** Runs a program to its end. @throws when it cannot be run or does not end */
export function run(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { env: { ...process.env, ...env }, timeout: PATIENCE_MS, maxBuffer: 256 * 1024 * 1024 };
    const child = execFile(file, [...args], options, (error, stdout, stderr) => {
      if (error !== null && typeof error.code !== "number") reject(error);
      else resolve({ ok: error === null, stdout, output: `${stdout}${stderr}`.trim() });
    });
    child.stdin?.end();
  });
}

/** Hands over a folder that is removed afterwards. */
export async function inFolder<Result>(use: (dir: string) => Promise<Result>): Promise<Result> {
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-check-"));
  try {
    return await use(dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** @returns paths of the files */
export function writeAll(dir: string, contents: Iterable<readonly [name: string, content: string]>): readonly string[] {
  mkdirSync(dir, { recursive: true });
  return Array.from(contents, ([name, content]) => {
    const file = path.join(dir, name);
    writeFileSync(file, content);
    return file;
  });
}
