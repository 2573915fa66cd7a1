import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { askControl, serveControl } from "./control.ts";
import { Supervisor } from "./processes.ts";
import type { SupervisedProcess } from "./supervised.ts";

let dir: string;
let supervisor: Supervisor;
let child: SupervisedProcess;
let control: { close(): void };

beforeAll(async () => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-control-"));
  supervisor = await Supervisor.open(dir);
  child = await supervisor.run({ name: "sleeper", command: "sleep", args: ["600"], isReady: async () => true });
  control = await serveControl(dir, { primary: child });
});

afterAll(async () => {
  control.close();
  await supervisor.stop();
  rmSync(dir, { recursive: true });
});

test("a part is stopped, stays down, and is started again", async () => {
  expect(await askControl(dir, "list")).toBe("primary: running");
  expect(await askControl(dir, "stop", "primary")).toBe("primary is stopped");
  expect([child.pid, child.isReady]).toEqual([undefined, false]);
  expect(await askControl(dir, "list")).toBe("primary: stopped");
  expect(await askControl(dir, "start", "primary")).toBe("primary is running");
  expect(child.restarts).toBe(0);
});

test("one that is killed comes back", async () => {
  const { pid } = child;
  expect(await askControl(dir, "kill", "primary")).toBe("primary was killed and is running again");
  expect(child.restarts).toBe(1);
  expect(child.pid).not.toBe(pid);
});

test("what cannot be done is told with what can", async () => {
  await expect(askControl(dir, "stop", "nobody")).rejects.toThrow("there is no nobody; there are primary");
  await expect(askControl(dir, "burn", "primary")).rejects.toThrow("burn is none of list, stop, start, kill");
  await askControl(dir, "stop", "primary");
  await expect(askControl(dir, "kill", "primary")).rejects.toThrow("sleeper is not running");
  await expect(askControl(path.join(dir, "none"), "list")).rejects.toThrow("npm start -- --with-gateway");
  await expect(serveControl(path.join(dir, "x".repeat(100)), {})).rejects.toThrow("choose a shorter folder");
});

test("nobody else may use it, and nothing is left of it", () => {
  const file = path.join(dir, "control.sock");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  control.close();
  expect(existsSync(file)).toBe(false);
});
