// Runs before `npm start`, `npm test` and `npm run bench` under whatever Node the user has, perhaps before anything is
// installed: built-ins only.
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const oldestNodeToInstall = 20;
const oldestNodeToRun = 26;
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

try {
  prepare();
} catch (error) {
  console.error(`\nMazeVault cannot start: ${error.message}\n`);
  process.exitCode = 1;
}

function prepare() {
  if (major(process.version) < oldestNodeToInstall) {
    throw new Error(
      `Node ${oldestNodeToInstall} or later is needed, this is ${process.version}. See https://nodejs.org`,
    );
  }
  if (process.platform === "win32") {
    throw new Error("Windows is not supported; use the Windows Subsystem for Linux (WSL).");
  }
  const reason = reasonToInstall();
  if (reason !== undefined) {
    console.log(`Installing dependencies (${reason})`);
    install();
    const remains = reasonToInstall();
    if (remains !== undefined) throw new Error(`npm install ended well, but ${remains}.`);
  }
  checkNodeOfScripts();
}

/** npm records what it installed in node_modules/.package-lock.json; it must be what package-lock.json asks for. */
function reasonToInstall() {
  const wanted = packagesOf("package-lock.json");
  if (wanted === undefined) throw new Error("package-lock.json is missing.");
  const installed = packagesOf("node_modules/.package-lock.json");
  if (installed === undefined) return "none are installed yet";
  for (const [name, { version, integrity, optional, devOptional }] of Object.entries(wanted)) {
    if (name === "") continue;
    const present = installed[name];
    // npm leaves out what another platform needs.
    if (present === undefined && (optional || devOptional)) continue;
    if (present?.version !== version || present?.integrity !== integrity) return `${name} ${version} is not installed`;
    if (!existsSync(path.join(root, name))) return `${name} was removed`;
  }
  return undefined;
}

function packagesOf(file) {
  try {
    return JSON.parse(readFileSync(path.join(root, file), "utf8")).packages;
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw new Error(`${file} cannot be read: ${error.message}`);
  }
}

function install() {
  // The npm that runs this script and its Node. The `node` on the PATH may be the project's own, which the installation may replace.
  const { npm_execpath: npm, npm_node_execpath: node = process.execPath } = process.env;
  // Not `npm ci`: it refuses a lock file that lacks the optional package of another platform, which is what npm writes
  // where the registry does not carry that package. This one follows the lock file too, and leaves it as it is.
  const install = ["install", "--no-save"];
  const [command, ...args] = npm === undefined ? ["npm", ...install] : [node, npm, ...install];
  try {
    execFileSync(command, args, { cwd: root, stdio: "inherit" });
  } catch (error) {
    throw new Error(`npm install failed (${error.message}). Its messages above tell why; npm start tries again.`);
  }
}

/** npm puts node_modules/.bin first on the PATH of every script, so this is the Node that will run everything. */
function checkNodeOfScripts() {
  const own = path.join(root, "node_modules/.bin/node");
  const node = existsSync(own) ? own : (process.env.npm_node_execpath ?? process.execPath);
  const platform = `${process.platform} ${process.arch}`;
  let version;
  try {
    version = execFileSync(node, ["--version"], { encoding: "utf8" }).trim();
  } catch (error) {
    throw new Error(
      `Node from ${path.relative(root, node)} does not run on this machine (${platform}): ${error.message}. ` +
        `Remove node_modules if it was copied from another machine; on a system without glibc install Node ` +
        `${oldestNodeToRun} or later yourself and run npm install --omit=optional.`,
    );
  }
  if (major(version) < oldestNodeToRun) {
    throw new Error(
      `Node ${oldestNodeToRun} or later is needed, this is ${version}. The project brings its own for Linux and macOS ` +
        `on x64 and arm64 as an optional dependency, but none is installed for ${platform}: ` +
        `run npm install --include=optional, or install Node ${oldestNodeToRun} or later.`,
    );
  }
}

function major(version) {
  return Number.parseInt(version.replace(/^v/, ""), 10);
}
