import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { identify } from "./identity.ts";
import { type Lock, tryLock } from "./lock.ts";

let dir: string;
let file: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-lock-"));
  file = path.join(dir, "lock");
});
afterEach(() => rmSync(dir, { recursive: true }));

function take(): Lock {
  const lock = tryLock(file);
  if ("heldBy" in lock) throw new Error(`held by ${lock.heldBy.pid}`);
  return lock;
}

test("a lock is exclusive until it is released", () => {
  const first = take();
  expect(tryLock(file)).toMatchObject({ heldBy: { pid: process.pid } });
  first.release();
  take();
  expect(readdirSync(dir)).toEqual(["lock"]);
});

test("the lock of a dead process is taken over", async () => {
  const holder = spawn("sleep", ["60"]);
  const { pid } = holder;
  if (pid === undefined) throw new Error("sleep did not start");
  writeFileSync(file, JSON.stringify({ ...identify(pid), token: "t" }));
  expect(tryLock(file)).toMatchObject({ heldBy: { pid } });
  holder.kill("SIGKILL");
  await once(holder, "exit");
  take();
});

test("the lock of a process whose pid another one has now is taken over", () => {
  writeFileSync(file, JSON.stringify({ pid: process.pid, startedAt: "earlier", token: "t" }));
  take();
});

test("a lock that was written half is taken over", () => {
  writeFileSync(file, '{"pid": 1');
  take();
});

test("releasing does not take away a lock that someone else holds by now", () => {
  const first = take();
  const foreign = JSON.stringify({ ...identify(process.pid), token: "other" });
  writeFileSync(file, foreign);
  first.release();
  expect(tryLock(file)).toMatchObject({ heldBy: { pid: process.pid } });
});
