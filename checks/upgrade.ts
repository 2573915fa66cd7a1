/**
 * `npm run test:upgrade -- --from COMMIT`: the test of the upgrade with 1,000 resources that the programs of another commit have made,
 * of the one before this when none is named. Programs that were built once are kept in the user's cache.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { cacheDir } from "../lab/cache.ts";

const root = path.join(import.meta.dirname, "..");
const RESOURCES = 1_000;
const TIMEOUT_MS = 900_000;

const { values } = parseArgs({
  options: {
    from: { type: "string", default: "HEAD~1" },
    resources: { type: "string", default: String(RESOURCES) },
  },
});

function git(...args: readonly string[]): Buffer {
  return execFileSync("git", args, { cwd: root, maxBuffer: 1024 * 1024 * 1024, stdio: ["ignore", "pipe", "pipe"] });
}

function resolve(from: string): string {
  try {
    return git("rev-parse", "--verify", "--quiet", `${from}^{commit}`).toString().trim();
  } catch {
    const shallow = git("rev-parse", "--is-shallow-repository").toString().trim() === "true";
    const fix = shallow ? "this clone has no history: git fetch --unshallow" : "name one that git log lists";
    console.error(`there is no commit ${from} here; ${fix}`);
    process.exit(2);
  }
}

/** @returns the folder with `programs/` and `crds/` of that commit */
function build(commit: string): string {
  const cache = cacheDir("versions");
  const built = path.join(cache, commit.slice(0, 12));
  if (existsSync(built)) return built;
  console.log(`building the programs of ${commit.slice(0, 12)}`);
  mkdirSync(cache, { recursive: true });
  const draft = mkdtempSync(path.join(cache, ".new-"));
  try {
    const sources = path.join(draft, "sources");
    mkdirSync(sources);
    execFileSync("tar", ["-x", "-C", sources], { input: git("archive", commit) });
    const lock = (folder: string): string => readFileSync(path.join(folder, "package-lock.json"), "utf8");
    if (lock(sources) === lock(root)) symlinkSync(path.join(root, "node_modules"), path.join(sources, "node_modules"));
    else execFileSync("npm", ["ci", "--ignore-scripts"], { cwd: sources, stdio: ["ignore", "ignore", "inherit"] });
    execFileSync(process.execPath, ["build/main.ts"], { cwd: sources, stdio: "inherit" });
    const done = path.join(draft, "built");
    mkdirSync(done);
    cpSync(path.join(sources, "dist"), path.join(done, "programs"), { recursive: true });
    cpSync(path.join(sources, "crds/generated"), path.join(done, "crds"), { recursive: true });
    renameSync(done, built);
    return built;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

const from = build(resolve(values.from));
const args = ["run", "test:e2e", "--", "e2e/upgrade", `--testTimeout=${TIMEOUT_MS}`];
const env = { ...process.env, UPGRADE_FROM: from, UPGRADE_RESOURCES: values.resources };
const { status } = spawnSync("npm", args, { cwd: root, env, stdio: "inherit" });
process.exitCode = status ?? 1;
