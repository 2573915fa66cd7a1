import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

const lock = {
  packages: {
    "": { version: "1.0.0" },
    "node_modules/needed": { version: "1.0.0", integrity: "sha512-a" },
    "node_modules/elsewhere": { version: "1.0.0", integrity: "sha512-b", optional: true },
  },
};

let root: string;

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), "lab-prepare-"));
  cpSync(import.meta.dirname, path.join(root, "lab", "setup"), { recursive: true });
  write("package-lock.json", JSON.stringify(lock));
});
afterEach(() => rmSync(root, { recursive: true }));

function write(file: string, content: string, mode = 0o644): void {
  mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
  writeFileSync(path.join(root, file), content, { mode });
}

/** Runs it with an npm that only does what the given program says. */
function prepare(npm = ""): { code: number | null; output: string } {
  write("npm.cjs", `const fs = require("node:fs"); fs.appendFileSync("calls", process.argv[2] + "\\n"); ${npm}`);
  const { status, stdout, stderr } = spawnSync(process.execPath, [path.join(root, "lab/setup/prepare.mjs")], {
    encoding: "utf8",
    env: { ...process.env, npm_execpath: path.join(root, "npm.cjs"), npm_node_execpath: process.execPath },
  });
  return { code: status, output: stdout + stderr };
}

/** What npm leaves after an installation on a platform that needs no optional package. */
function install(packages: object = { "node_modules/needed": lock.packages["node_modules/needed"] }): void {
  write("node_modules/needed/package.json", "{}");
  write("node_modules/.package-lock.json", JSON.stringify({ packages }));
}

const npmInstalls = `
  fs.mkdirSync("node_modules/needed", { recursive: true });
  const { packages } = JSON.parse(fs.readFileSync("package-lock.json", "utf8"));
  const installed = { "node_modules/needed": packages["node_modules/needed"] };
  fs.writeFileSync("node_modules/.package-lock.json", JSON.stringify({ packages: installed }));`;

test("it says nothing and installs nothing when everything is there", () => {
  install();
  expect(prepare()).toEqual({ code: 0, output: "" });
  expect(existsSync(path.join(root, "calls"))).toBe(false);
});

test("it installs in a clean checkout", () => {
  expect(prepare(npmInstalls)).toEqual({
    code: 0,
    output: "Installing dependencies (none are installed yet)\n",
  });
  expect(readFileSync(path.join(root, "calls"), "utf8")).toBe("install\n");
  expect(prepare()).toEqual({ code: 0, output: "" });
});

test("it installs when the lock file asks for another version", () => {
  install({ "node_modules/needed": { version: "0.9.0", integrity: "sha512-a" } });
  const { code, output } = prepare(npmInstalls);
  expect({ code, output }).toEqual({
    code: 0,
    output: "Installing dependencies (node_modules/needed 1.0.0 is not installed)\n",
  });
});

test("it installs when a package was removed", () => {
  install();
  rmSync(path.join(root, "node_modules/needed"), { recursive: true });
  expect(prepare(npmInstalls).output).toBe("Installing dependencies (node_modules/needed was removed)\n");
});

test("a failing npm is an error", () => {
  const { code, output } = prepare("process.exit(7)");
  expect(code).toBe(1);
  expect(output).toContain("MazeVault cannot start: npm install failed");
});

test("a Node of the project that is too old is an error with the fix", () => {
  install();
  write("node_modules/.bin/node", "#!/bin/sh\necho v22.1.0\n", 0o755);
  const { code, output } = prepare();
  expect(code).toBe(1);
  expect(output).toContain("Node 26 or later is needed, this is v22.1.0");
});

test("a Node of the project that does not run here is an error with the fix", () => {
  install();
  write("node_modules/.bin/node", "#!/absent\n", 0o755);
  const { code, output } = prepare();
  expect(code).toBe(1);
  expect(output).toMatch(/Node from node_modules.\.bin.node does not run on this machine/);
});
