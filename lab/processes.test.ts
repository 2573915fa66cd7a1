import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { descendants, identify } from "./identity.ts";
import { until } from "./poll.ts";
import { Supervisor } from "./processes.ts";
import type { ProcessSpec, SupervisedProcess } from "./supervised.ts";

let dir: string;
let supervisor: Supervisor;
const reported: string[] = [];

beforeEach(async () => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-processes-"));
  reported.length = 0;
  supervisor = await Supervisor.open(dir, (line) => reported.push(line));
});
afterEach(async () => {
  await supervisor.stop();
  rmSync(dir, { recursive: true });
});

/** A child that runs a shell script and is ready once it has made the file `up` (at its first start, if `once`). */
function shell(name: string, script: string, extra: Partial<ProcessSpec> = {}): ProcessSpec {
  const up = path.join(dir, `${name}.up`);
  return {
    name,
    command: "sh",
    args: ["-c", script],
    env: { UP: up },
    isReady: async () => existsSync(up),
    ...extra,
  };
}

const service = 'echo $$ > "$UP"; while :; do sleep 0.05; done';

function pidOf(child: SupervisedProcess): number {
  const { pid } = child;
  if (pid === undefined) throw new Error(`${child.name} is down`);
  return pid;
}

function processTree(child: SupervisedProcess): number[] {
  const pid = pidOf(child);
  return [pid, ...descendants(pid)];
}

async function gone(...pids: number[]): Promise<void> {
  await until(`${pids} gone`, () => pids.every((pid) => identify(pid) === undefined), { timeoutMs: 5_000 });
}

test("a child that is killed comes back", async () => {
  const child = await supervisor.run(shell("service", service));
  const first = pidOf(child);
  await child.kill();
  expect(child.isReady).toBe(false);
  await child.ready();
  expect(pidOf(child)).not.toBe(first);
  expect(child.restarts).toBe(1);
  expect(reported).toEqual(["service died of SIGKILL, starting it again in 0.1 s"]);
});

test("a child with auto-restart off stays down until it is started", async () => {
  const child = await supervisor.run(shell("service", service));
  child.autoRestart = false;
  await child.kill();
  expect(child.pid).toBeUndefined();
  await child.start();
  expect(child.isReady).toBe(true);
});

test("a child that cannot start is an error with the end of its log", async () => {
  const failing = supervisor.run(shell("broken", "echo no such flag >&2; exit 3"));
  await expect(failing).rejects.toThrow(/broken did not start: exited with 3.*no such flag/s);
});

test("a command that does not exist is an error at once", async () => {
  const failing = supervisor.run(shell("absent", "", { command: path.join(dir, "absent") }));
  await expect(failing).rejects.toThrow(/absent did not start: failed: .*ENOENT/);
});

test("a child that does not become ready in time is ended", async () => {
  const spec = shell("slow", 'echo $$ > "$UP.pid"; sleep 60', { readyTimeoutMs: 500 });
  await expect(supervisor.run(spec)).rejects.toThrow(/slow did not start: readiness: not so after 0.5 s/);
  await gone(Number(readFileSync(path.join(dir, "slow.up.pid"), "utf8")));
});

test("a child that ignores the stop signal is killed after its time-out, with its descendants", async () => {
  const script = `trap '' TERM; (trap '' TERM; ${service}) & ${service}`;
  const child = await supervisor.run(shell("stubborn", script, { stopTimeoutMs: 200 }));
  const tree = processTree(child);
  await child.stop();
  await gone(...tree);
});

test("a paused child is frozen, can be resumed, and can be stopped while paused", async () => {
  const ticks = path.join(dir, "ticks");
  const child = await supervisor.run(shell("ticking", `echo > "$UP"; while :; do echo >> ${ticks}; sleep 0.02; done`));
  const count = () => readFileSync(ticks, "utf8").length;
  await until("it ticks", () => existsSync(ticks) && count() > 2, { timeoutMs: 5_000 });
  child.pause();
  await until("frozen", () => frozen(pidOf(child)), { timeoutMs: 5_000 });
  const before = count();
  child.resume();
  await until("it ticks again", () => count() > before, { timeoutMs: 5_000 });
  child.pause();
  await child.stop();
  expect(child.pid).toBeUndefined();
});

test("children are stopped in reverse order", async () => {
  const log = path.join(dir, "order");
  for (const name of ["first", "second", "third"]) {
    await supervisor.run(shell(name, `trap 'echo ${name} >> ${log}; exit' TERM; ${service}`));
  }
  await supervisor.stop();
  expect(readFileSync(log, "utf8")).toBe("third\nsecond\nfirst\n");
});

test("stopping works while a child is down between two attempts", async () => {
  const child = await supervisor.run(shell("flapping", '[ -e "$UP" ] && exit 1; echo > "$UP"; sleep 60'));
  await child.kill();
  await until("it was tried again", () => child.restarts > 1, { timeoutMs: 10_000 });
  await supervisor.stop();
  expect(child.pid).toBeUndefined();
  await expect(supervisor.run(shell("late", service))).rejects.toThrow("everything is being stopped");
});

test("a second launcher on the directory is refused while the first runs", async () => {
  await expect(Supervisor.open(dir)).rejects.toThrow(`in use by the running process ${process.pid}`);
});

describe("after a launcher was killed", () => {
  /** Starts another program that opens the supervisor, runs a child and is killed. Resolves with the child's pid. */
  async function killedLauncher(): Promise<number> {
    await supervisor.stop();
    const program = `
      import { Supervisor } from "./lab/processes.ts";
      const supervisor = await Supervisor.open(${JSON.stringify(dir)});
      await supervisor.run({ name: "left", command: "sleep", args: ["60"], isReady: async () => true });
      process.kill(process.pid, "SIGKILL");`;
    const launcher = spawn(process.execPath, ["--input-type=module-typescript", "-e", program], {
      cwd: path.join(import.meta.dirname, ".."),
      stdio: "inherit",
    });
    const code = await new Promise((resolve) => launcher.once("exit", (_code, killedBy) => resolve(killedBy)));
    expect(code).toBe("SIGKILL");
    const [record] = JSON.parse(readFileSync(path.join(dir, "processes.json"), "utf8"));
    return record.pid;
  }

  test("the next one ends what it left behind", async () => {
    const left = await killedLauncher();
    expect(identify(left)).toBeDefined();
    supervisor = await Supervisor.open(dir);
    expect(identify(left)).toBeUndefined();
  });

  test("the next one leaves a foreign process alone that has the pid of a former child", async () => {
    await supervisor.stop();
    const foreign = spawn("sleep", ["60"], { detached: true });
    const record = { name: "left", pid: foreign.pid, startedAt: "earlier", stopSignal: "SIGTERM" };
    writeFileSync(path.join(dir, "processes.json"), JSON.stringify([record]));
    supervisor = await Supervisor.open(dir);
    expect(foreign.pid !== undefined && identify(foreign.pid)).toBeTruthy();
    foreign.kill("SIGKILL");
  });
});

function frozen(pid: number): boolean {
  return execFileSync("ps", ["-o", "state=", "-p", String(pid)], { encoding: "utf8" }).startsWith("T");
}
