import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type Placement, place, removeOutside } from "./account.ts";

const isRoot = process.getuid?.() === 0;

let closed: string;
let programs: string;
let placement: Placement;

beforeEach(() => {
  closed = mkdtempSync(path.join(tmpdir(), "lab-account-"));
  programs = path.join(closed, "programs");
  mkdirSync(path.join(programs, "bin"), { recursive: true });
  writeFileSync(path.join(programs, "bin", "postgres"), "#!/bin/sh\n", { mode: 0o755 });
});
afterEach(() => {
  removeOutside(closed);
  rmSync(placement.programs, { recursive: true, force: true });
  rmSync(closed, { recursive: true });
});

/** Asks as the user that PostgreSQL runs as. */
function canRun(file: string): boolean {
  return spawnSync(file, { ...placement.account, cwd: "/" }).status === 0;
}

test("PostgreSQL never runs as root, and reaches its programs also where the checkout is closed to it", () => {
  placement = place(closed, { dir: programs, bin: "bin", version: `test-${process.pid}` });
  expect(placement.account === undefined).toBe(!isRoot);
  expect(placement.account?.uid).not.toBe(0);
  expect(canRun(path.join(placement.programs, "bin", "postgres"))).toBe(true);
  expect(path.dirname(placement.dataDir) === closed).toBe(!isRoot);
});

test("the data stays where it is, also when the checkout is opened later", () => {
  placement = place(closed, { dir: programs, bin: "bin", version: `test-${process.pid}` });
  const { dataDir } = placement;
  chmodSync(closed, 0o755);
  placement = place(closed, { dir: programs, bin: "bin", version: `test-${process.pid}` });
  expect(placement.dataDir).toBe(dataDir);
});

test("in an open checkout everything is in it", () => {
  chmodSync(closed, 0o755);
  placement = place(closed, { dir: programs, bin: "bin", version: `test-${process.pid}` });
  expect(placement).toMatchObject({ programs, dataDir: path.join(closed, "data") });
});

test("a reset removes what is outside of the checkout", () => {
  placement = place(closed, { dir: programs, bin: "bin", version: `test-${process.pid}` });
  mkdirSync(placement.dataDir);
  removeOutside(closed);
  expect(existsSync(placement.dataDir)).toBe(!isRoot);
});
