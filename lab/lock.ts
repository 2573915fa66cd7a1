import { randomUUID } from "node:crypto";
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { errorCode } from "./errors.ts";
import { isAlive, ownIdentity, type ProcessIdentity } from "./identity.ts";
import { pause } from "./poll.ts";

/** A lock file held by a living process. It needs no clean-up: it ends with its holder. */
export interface Lock {
  release(): void;
}

/**
 * Takes the lock, or tells who holds it.
 * A lock whose holder has died, also by `kill -9`, is taken over.
 */
export function tryLock(file: string): Lock | { readonly heldBy: ProcessIdentity } {
  mkdirSync(path.dirname(file), { recursive: true });
  const own = JSON.stringify({ ...ownIdentity(), token: randomUUID() });
  const draft = `${file}.${randomUUID()}`;
  writeFileSync(draft, own);
  try {
    for (;;) {
      // A hard link appears with its whole content and fails when the name exists: no reader sees a half-written lock.
      if (tryLink(draft, file)) return { release: () => release(file, own) };
      const seen = read(file);
      if (seen === undefined) continue;
      const holder = parseHolder(seen);
      if (holder !== undefined && isAlive(holder)) return { heldBy: holder };
      removeStale(file, seen);
    }
  } finally {
    rmSync(draft, { force: true });
  }
}

/** Takes the lock as soon as its holder lets go of it or has died; tells once whom it waits for. */
export async function waitForLock(file: string, waitsFor: (holder: ProcessIdentity) => void): Promise<Lock> {
  for (let told = false; ; told = true) {
    const lock = tryLock(file);
    if (!("heldBy" in lock)) return lock;
    if (!told) waitsFor(lock.heldBy);
    await pause(500);
  }
}

function removeStale(file: string, expected: string): void {
  const aside = `${file}.${randomUUID()}`;
  try {
    renameSync(file, aside);
  } catch {
    return;
  }
  // Another process may have taken the stale lock over between our read and our rename: then this is its lock.
  if (read(aside) !== expected) tryLink(aside, file);
  rmSync(aside, { force: true });
}

function release(file: string, own: string): void {
  if (read(file) === own) rmSync(file, { force: true });
}

function tryLink(existing: string, name: string): boolean {
  try {
    linkSync(existing, name);
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  }
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

function parseHolder(text: string): ProcessIdentity | undefined {
  try {
    const { pid, startedAt } = JSON.parse(text);
    return typeof pid === "number" && typeof startedAt === "string" ? { pid, startedAt } : undefined;
  } catch {
    return undefined;
  }
}
