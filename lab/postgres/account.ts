import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, cpSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Programs } from "./programs.ts";

/** The operating system's user that PostgreSQL runs as. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/** Where PostgreSQL finds its programs and its data. */
export interface Placement {
  /** undefined: the user who runs the lab. */
  readonly account: Account | undefined;
  /** `Programs.dir`, or a copy of it. */
  readonly programs: string;
  readonly dataDir: string;
}

/** For what a root-owned checkout cannot hold; survives a reboot, unlike the temporary directory. */
const sharedDir = "/var/lib/mazevault-lab";
const accountName = "postgres";

/**
 * PostgreSQL refuses to run as root, so root runs it as user `postgres`. That user often cannot enter the checkout
 * (/root is closed to others), and opening such a directory would be worse than not using it: the data, and a copy of
 * the programs, then go to a directory of their own whose name is derived from the lab's.
 */
export function place(dir: string, programs: Pick<Programs, "dir" | "bin" | "version">): Placement {
  const dataDir = path.join(dir, "data");
  if (process.getuid?.() !== 0) return { account: undefined, programs: programs.dir, dataDir };
  const account = findAccount() ?? createAccount();
  mkdirSync(dir, { recursive: true });
  const outside = outsideOf(dir);
  return {
    account,
    programs: canEnter(account, path.join(programs.dir, programs.bin)) ? programs.dir : copyPrograms(programs),
    dataDir: existsSync(outside) || !canEnter(account, dir) ? openOutside(outside, dir) : dataDir,
  };
}

/** Copies what `place` may have put outside of a lab's directory, for the copy of that lab. */
export function copyOutside(from: string, to: string): void {
  if (existsSync(outsideOf(from))) execFileSync("cp", ["-a", outsideOf(from), outsideOf(to)]);
}

/** Removes what `place` may have put outside of the lab's directory. */
export function removeOutside(dir: string): void {
  rmSync(outsideOf(dir), { recursive: true, force: true });
}

function outsideOf(dir: string): string {
  return path.join(sharedDir, createHash("sha256").update(path.resolve(dir)).digest("hex").slice(0, 16));
}

function openOutside(outside: string, dir: string): string {
  openDirectory(outside);
  // For whoever finds the directory after its checkout was deleted.
  writeFileSync(path.join(outside, "belongs-to"), `${dir}\n`);
  return path.join(outside, "data");
}

function openDirectory(dir: string): string {
  mkdirSync(dir, { recursive: true });
  // The process' umask may have closed them.
  chmodSync(sharedDir, 0o755);
  chmodSync(dir, 0o755);
  return dir;
}

function copyPrograms({ dir, version }: Pick<Programs, "dir" | "version">): string {
  const target = path.join(openDirectory(sharedDir), `postgresql-${version}`);
  if (!existsSync(target)) {
    const draft = `${target}.${process.pid}`;
    cpSync(dir, draft, { recursive: true, verbatimSymlinks: true });
    renameSync(draft, target);
  }
  return target;
}

/** Asked of the kernel, as permissions, groups and access control lists decide together. */
function canEnter(account: Account, dir: string): boolean {
  return spawnSync("test", ["-x", dir], { ...account, cwd: "/" }).status === 0;
}

function findAccount(): Account | undefined {
  const [uid, gid] = ["-u", "-g"].map((flag) => spawnSync("id", [flag, accountName], { encoding: "utf8" }));
  if (uid?.status !== 0 || gid?.status !== 0) return undefined;
  return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
}

function createAccount(): Account {
  try {
    execFileSync(
      "useradd",
      ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", accountName],
      { encoding: "utf8", stdio: "pipe" },
    );
  } catch (error) {
    throw new Error(
      `PostgreSQL does not run as root and the user "${accountName}" could not be created; ` +
        "create it, or run as another user than root",
      { cause: error },
    );
  }
  const account = findAccount();
  if (account === undefined) throw new Error(`the user "${accountName}" was created but is not found`);
  return account;
}
