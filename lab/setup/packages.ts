/**
 * Debian packages that tests use beside what npm brings. Where one is not installed, it and what it needs are unpacked into
 * the user's cache: nothing is configured, no service starts, no rights are needed, and apt leaves the system as it was.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { cacheDir } from "../cache.ts";
import { errorCode, errorMessage } from "../errors.ts";
import { waitForLock } from "../lock.ts";

export interface TestPackage {
  readonly name: string;
  /** What is tested by it, for the line that says that it was not. */
  readonly purpose: string;
  /** Below the root; answers `--version` when the package and its libraries are complete. */
  readonly program: string;
  /** Where the program has another name for `--version`. */
  readonly versionOption?: string;
}

export const testPackages = {
  "postgresql-15": {
    name: "postgresql-15",
    purpose: "PostgreSQL 15, the oldest that is supported, and backups by its pg_dump",
    program: "usr/lib/postgresql/15/bin/postgres",
  },
  "gnutls-bin": {
    name: "gnutls-bin",
    purpose: "certificates, CRLs and OCSP answers as GnuTLS sees them",
    program: "usr/bin/certtool",
  },
  curl: {
    name: "curl",
    purpose: "OCSP by GET and CRLs, as curl fetches them",
    program: "usr/bin/curl",
  },
  nginx: {
    name: "nginx",
    purpose: "OCSP answers stapled by nginx",
    program: "usr/sbin/nginx",
    versionOption: "-v",
  },
  "redis-server": {
    name: "redis-server",
    purpose: "what replicas share through Redis",
    program: "usr/bin/redis-server",
  },
  "openssh-client": {
    name: "openssh-client",
    purpose: "SSH keys as ssh-keygen reads them",
    program: "usr/bin/ssh",
    versionOption: "-V",
  },
  "wireguard-tools": {
    name: "wireguard-tools",
    purpose: "WireGuard keys as wg reads them",
    program: "usr/bin/wg",
  },
  "apache2-utils": {
    name: "apache2-utils",
    purpose: "password hashes as htpasswd verifies them",
    program: "usr/bin/ab",
    versionOption: "-V",
  },
  prometheus: {
    name: "prometheus",
    purpose: "alerts and dashboards, as Prometheus reads them",
    program: "usr/bin/promtool",
  },
} satisfies Readonly<Record<string, TestPackage>>;

export interface InstalledPackage {
  /** `/`, or where it was unpacked. */
  readonly root: string;
  /** Folders below the root with libraries that the system may lack. */
  readonly libraries: readonly string[];
  /** Of what was unpacked: another id, other files. Absent for the system's own. */
  readonly id?: string;
}

export interface PackageOptions {
  /** `/` */
  readonly systemRoot?: string;
  /** `mazevault/debian` in the user's cache. */
  readonly cache?: string;
}

const CONTENTS = ".packages";
const DRAFT_PREFIX = ".new-";

/** Looks, and neither fetches nor runs anything. */
export function findPackage(
  { name, program }: TestPackage,
  options: PackageOptions = {},
): InstalledPackage | undefined {
  const { systemRoot = "/", cache = cacheDir("debian") } = options;
  if (existsSync(path.join(systemRoot, program))) return { root: systemRoot, libraries: [] };
  const root = path.join(cache, name);
  return existsSync(path.join(root, program)) ? unpacked(root) : undefined;
}

/** Finds the package or unpacks it. @throws with the reason, for a person, when neither is possible */
export async function obtainPackage(
  wanted: TestPackage,
  report: (line: string) => void = () => {},
  options: PackageOptions = {},
): Promise<InstalledPackage> {
  const { cache = cacheDir("debian") } = options;
  const usable = async (): Promise<InstalledPackage | undefined> => {
    const found = findPackage(wanted, options);
    return found !== undefined && (await whyNotRunning(found, wanted)) === undefined ? found : undefined;
  };
  const found = await usable();
  if (found !== undefined) return found;
  const lock = await waitForLock(path.join(cache, "lock"), ({ pid }) =>
    report(`waiting for process ${pid}, which is unpacking packages already`),
  );
  try {
    const meanwhile = await usable();
    if (meanwhile !== undefined) return meanwhile;
    report(`unpacking the Debian package ${wanted.name} into ${cache}`);
    return await unpack(wanted, cache);
  } finally {
    lock.release();
  }
}

async function unpack(wanted: TestPackage, cache: string): Promise<InstalledPackage> {
  // Of a holder of the lock that was killed.
  for (const name of readdirSync(cache).filter((each) => each.startsWith(DRAFT_PREFIX)))
    rmSync(path.join(cache, name), { recursive: true });
  const draft = mkdtempSync(path.join(cache, DRAFT_PREFIX));
  try {
    const archives = await download(wanted.name, draft);
    const root = path.join(draft, "root");
    for (const archive of archives) await run("dpkg-deb", ["-x", path.join(draft, archive), root], draft);
    writeFileSync(path.join(root, CONTENTS), archives.join("\n"));
    const problem = await whyNotRunning(unpacked(root), wanted);
    if (problem !== undefined) throw new Error(`it was unpacked and does not run: ${problem}`);
    const target = path.join(cache, wanted.name);
    rmSync(target, { recursive: true, force: true });
    renameSync(root, target);
    return unpacked(target);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** Names of the archives in `dir`: the package's, and those of what it needs and this machine lacks. */
async function download(name: string, dir: string): Promise<readonly string[]> {
  const [state, archives] = [path.join(dir, "state"), path.join(dir, "archives")];
  mkdirSync(path.join(state, "lists", "partial"), { recursive: true });
  mkdirSync(path.join(archives, "partial"), { recursive: true });
  // Lists of its own, fresh and writable for everybody; what is installed is read where the system has it.
  const settings = {
    "Dir::State": state,
    "Dir::Cache": archives,
    "APT::Sandbox::User": "root",
    "Acquire::Retries": "2",
  };
  const apt = (...args: string[]): Promise<string> => {
    const options = Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`]);
    return run("apt-get", [...options, "-q", ...args], dir);
  };
  await apt("update");
  const plan = await apt("--simulate", "--no-install-recommends", "install", name);
  // `Inst NAME (VERSION ...`; with the installed version before it where one is there, and that one will do.
  const missing = [...plan.matchAll(/^Inst (\S+) \(/gm)].map(([, each]) => each ?? "");
  await apt("download", ...new Set([name, ...missing]));
  return readdirSync(dir).filter((file) => file.endsWith(".deb"));
}

function unpacked(root: string): InstalledPackage {
  const libraries = ["lib", "usr/lib"].flatMap((folder) => {
    const dir = path.join(root, folder);
    const names = existsSync(dir) ? readdirSync(dir).filter((name) => /-linux-gnu\w*$/.test(name)) : [];
    return names.map((name) => path.join(folder, name));
  });
  const id = createHash("sha256")
    .update(readFileSync(path.join(root, CONTENTS)))
    .digest("hex")
    .slice(0, 12);
  return { root, libraries, id };
}

/** What its programs need in their environment, below `root`. */
export function libraryPath(root: string, libraries: readonly string[]): Readonly<Record<string, string>> {
  if (libraries.length === 0) return {};
  return { LD_LIBRARY_PATH: libraries.map((folder) => path.join(root, folder)).join(path.delimiter) };
}

/** Undefined when the program runs. */
async function whyNotRunning({ root, libraries }: InstalledPackage, wanted: TestPackage) {
  const { program, versionOption = "--version" } = wanted;
  const file = path.join(root, program);
  return run(file, [versionOption], root, libraryPath(root, libraries)).then(() => undefined, errorMessage);
}

async function run(file: string, args: readonly string[], cwd: string, env: object = {}): Promise<string> {
  const options = { cwd, env: { ...process.env, LC_ALL: "C", ...env }, maxBuffer: 64 * 1024 * 1024 };
  try {
    return (await promisify(execFile)(file, [...args], options)).stdout;
  } catch (error) {
    const name = path.basename(file);
    if (errorCode(error) === "ENOENT") throw new Error(`there is no ${name} on this machine`, { cause: error });
    // apt and dpkg end with the reason.
    const lines = String((error as { stderr?: unknown }).stderr ?? "")
      .trim()
      .split("\n");
    throw new Error(`${name}: ${lines.at(-1) || errorMessage(error)}`);
  }
}
