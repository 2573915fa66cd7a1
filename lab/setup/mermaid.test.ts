import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { findMermaid, obtainMermaid } from "./mermaid.ts";

const { PATH } = process.env;
let dir: string;
let cache: string;
let reported: string[];
beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-mermaid-"));
  cache = path.join(dir, "cache");
  reported = [];
});
afterEach(() => {
  process.env.PATH = PATH;
  rmSync(dir, { recursive: true });
});

/** What `happy-dom` and `mermaid` are to whoever parses with them, in a few lines. */
const PACKAGES: Readonly<Record<string, string>> = {
  "happy-dom": "exports.Window = class { document = {} };",
  mermaid: 'exports.parse = async (text) => { if (text === "nonsense") throw new Error("no diagram"); };',
};

/** An npm that writes these packages instead of fetching them, and then does as told. What it was asked stands in `calls`. */
function playNpm(packages: Readonly<Record<string, string>>, end = "exit 0"): void {
  const made = Object.entries(packages).map(
    ([name, code]) => `mkdir -p node_modules/${name}; echo '${code}' > node_modules/${name}/index.js`,
  );
  const file = path.join(dir, "bin", "npm");
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, ["#!/bin/sh", `echo "$*" >> ${dir}/calls`, ...made, end, ""].join("\n"));
  chmodSync(file, 0o755);
  process.env.PATH = `${path.dirname(file)}:${PATH}`;
}

const obtain = () => obtainMermaid((line) => reported.push(line), { cache });
const drafts = () => readdirSync(cache).filter((name) => name.startsWith("."));

test("it is installed once, each package by its hash, and nothing of it runs meanwhile", async () => {
  playNpm(PACKAGES);
  expect(findMermaid({ cache })).toBeUndefined();
  const folder = await obtain();
  expect(findMermaid({ cache })).toBe(folder);
  expect(await obtain()).toBe(folder);
  expect(readFileSync(path.join(dir, "calls"), "utf8")).toMatch(/^ci --ignore-scripts [^\n]*\n$/);
  const { packages } = JSON.parse(readFileSync(path.join(folder, "package-lock.json"), "utf8"));
  const pinned = Object.entries<{ integrity?: string }>(packages).filter(([name]) => name !== "");
  expect(pinned.filter(([, { integrity }]) => integrity === undefined)).toEqual([]);
  expect(reported).toEqual([expect.stringContaining("installing Mermaid")]);
});

test("what was installed and does not run is a reason, and is not kept", async () => {
  playNpm({ ...PACKAGES, mermaid: 'exports.parse = async () => { throw new Error("broken"); };' });
  await expect(obtain()).rejects.toThrow("it was installed and does not run: broken");
  expect(findMermaid({ cache })).toBeUndefined();
  expect(drafts()).toEqual([]);
});

test("what npm says is the reason, and nothing is left", async () => {
  playNpm({}, "echo 'npm error code E404' >&2; exit 1");
  await expect(obtain()).rejects.toThrow("npm ci: npm error code E404");
  expect(drafts()).toEqual([]);
  process.env.PATH = path.join(dir, "nothing");
  await expect(obtain()).rejects.toThrow("there is no npm on this machine");
});

test("what a killed one has left is removed", async () => {
  playNpm(PACKAGES);
  const left = path.join(cache, ".new-abc");
  mkdirSync(left, { recursive: true });
  await obtain();
  expect(existsSync(left)).toBe(false);
});
