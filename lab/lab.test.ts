import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { descendants, identify } from "./identity.ts";
import { type Lab, resetLab, startLab } from "./lab.ts";
import { until } from "./poll.ts";
import { type Database, withClient } from "./postgres/database.ts";
import type { SupervisedProcess } from "./supervised.ts";

const root = path.join(import.meta.dirname, "..");
const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "payments" } };
const deployment = {
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name: "checkout", namespace: "payments" },
  spec: {
    replicas: 1,
    selector: { matchLabels: { app: "checkout" } },
    template: {
      metadata: { labels: { app: "checkout" } },
      spec: { containers: [{ name: "checkout", image: "checkout" }] },
    },
  },
};

let dir: string;
let lab: Lab;

beforeAll(async () => {
  // Closed to all others, as the home directory of root is: PostgreSQL's user cannot enter it.
  dir = mkdtempSync(path.join(tmpdir(), "lab-"));
  lab = await startLab({ dir });
});
afterAll(async () => {
  await lab.stop();
  await resetLab(dir);
});

function children({ controlPlane, postgres }: Lab): SupervisedProcess[] {
  return [controlPlane.etcd, controlPlane.apiServer, controlPlane.controllerManager, postgres.process];
}

function pidsOf(running: Lab): number[] {
  return children(running).flatMap(({ pid }) => (pid === undefined ? [] : [pid, ...descendants(pid)]));
}

function living(pids: readonly number[]): number[] {
  return pids.filter((pid) => identify(pid) !== undefined);
}

async function kubectl(running: Lab, args: readonly string[], input?: unknown): Promise<string> {
  const options = input === undefined ? {} : { input: JSON.stringify(input) };
  const { code, stdout, stderr } = await running.controlPlane.kubectl(args, options);
  if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
  return stdout;
}

function rows(database: Database, sql: string): Promise<unknown[]> {
  return withClient(database, async (client) => (await client.query(sql)).rows);
}

test("controllers act on what kubectl applies", async () => {
  await kubectl(lab, ["apply", "-f", "-"], { apiVersion: "v1", kind: "List", items: [namespace, deployment] });
  await until(
    "a pod of the deployment",
    () => kubectl(lab, ["get", "pods", "-n", "payments", "-l", "app=checkout", "-o", "name"]),
    { timeoutMs: 30_000 },
  );
});

test("a service account has a kubeconfig with only its own rights", async () => {
  const account = { namespace: "payments", name: "default", dir: path.join(dir, "accounts") };
  const kubeconfig = await lab.controlPlane.serviceAccountKubeconfig(account);
  const who = await lab.controlPlane.kubectl(["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"], {
    kubeconfig,
  });
  expect(who).toEqual({ code: 0, stdout: "system:serviceaccount:payments:default", stderr: "" });
  const refused = await lab.controlPlane.kubectl(["get", "secrets", "-n", "payments"], { kubeconfig });
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("Forbidden") });
});

test("the issuer of service account tokens answers OIDC discovery", async () => {
  const configuration = await kubectl(lab, ["get", "--raw", "/.well-known/openid-configuration"]);
  expect(JSON.parse(configuration)).toMatchObject({ issuer: lab.controlPlane.serviceAccountIssuer });
});

test("the product's role owns its database, is no superuser and needs TLS and its password", async () => {
  const database = await lab.postgres.createDatabase("vault");
  await rows(database, "CREATE TABLE note (body text)");
  await rows(database, "INSERT INTO note VALUES ('kept')");
  expect(
    await rows(
      database,
      "SELECT usesuper, ssl FROM pg_user, pg_stat_ssl WHERE usename = user AND pid = pg_backend_pid()",
    ),
  ).toEqual([{ usesuper: false, ssl: true }]);
  const impostor = { ...database, passwordFile: lab.postgres.superuser.passwordFile };
  await expect(rows(impostor, "SELECT 1")).rejects.toMatchObject({ code: "28P01" });
});

test("the database can be looked into from a terminal", () => {
  const look = (...args: string[]) =>
    spawnSync(process.execPath, ["lab/psql.ts", "--dir", dir, ...args], { cwd: root, encoding: "utf8" });
  expect(look("--database", "vault", "SELECT body, NULL AS nothing FROM note").stdout).toBe(
    " body | nothing\n------+---------\n kept |\n(1 row)\n",
  );
  expect(look("--database", "vault", "SELECT oops")).toMatchObject({
    status: 1,
    stdout: "",
    stderr: 'column "oops" does not exist\n',
  });
  expect(look("--database", "absent", "SELECT 1").stderr).toMatch(
    /absent\.json does not exist: has the lab been started/,
  );
});

test.each([0, 1, 2, 3])("child %i comes back after kill -9, and nothing is lost", async (index) => {
  const child = children(lab)[index];
  const before = child?.pid;
  await child?.kill();
  await child?.ready();
  expect(child?.pid).not.toBe(before);
  await until("kubectl works", () => kubectl(lab, ["get", "namespace", "payments", "-o", "name"]), {
    timeoutMs: 30_000,
  });
  expect(await rows(await lab.postgres.createDatabase("vault"), "SELECT body FROM note")).toEqual([{ body: "kept" }]);
});

test("PostgreSQL comes back although a backend of the killed server is frozen", async () => {
  const { pid = 0 } = lab.postgres.process;
  const [backend = 0] = descendants(pid);
  process.kill(backend, "SIGSTOP");
  await lab.postgres.process.kill();
  await lab.postgres.process.ready();
  expect(living([backend])).toEqual([]);
});

test("PostgreSQL starts although another program has the pid of its last server", async () => {
  await lab.postgres.process.stop();
  const pidFile = path.join(lab.postgres.dataDir, "postmaster.pid");
  expect(existsSync(pidFile)).toBe(false);
  const foreign = spawn("sleep", ["60"], lab.postgres.account ?? {});
  writeFileSync(pidFile, `${foreign.pid}\n${lab.postgres.dataDir}\n0\n5432\n\n127.0.0.1\n`);
  await lab.postgres.process.start();
  expect(foreign.pid !== undefined && living([foreign.pid])).toHaveLength(1);
  foreign.kill("SIGKILL");
});

test("stopping leaves no process, starting again continues with the same data, ports and identities", async () => {
  const before = { url: lab.controlPlane.url, ca: readFileSync(lab.pki.caFile, "utf8"), pids: pidsOf(lab) };
  const { port } = lab.postgres.superuser;
  await lab.stop();
  expect(living(before.pids)).toEqual([]);

  lab = await startLab({ dir });
  expect({ url: lab.controlPlane.url, ca: readFileSync(lab.pki.caFile, "utf8") }).toEqual({
    url: before.url,
    ca: before.ca,
  });
  expect(lab.postgres.superuser.port).toBe(port);
  expect(await kubectl(lab, ["get", "deployment", "-n", "payments", "-o", "name"])).toBe("deployment.apps/checkout\n");
  expect(await rows(await lab.postgres.createDatabase("vault"), "SELECT body FROM note")).toEqual([{ body: "kept" }]);
});

test("a running lab is neither started twice nor reset", async () => {
  await expect(startLab({ dir })).rejects.toThrow(`in use by the running process ${process.pid}`);
  await expect(resetLab(dir)).rejects.toThrow(`in use by the running process ${process.pid}`);
});

describe("beside it, a lab of another launcher", () => {
  let otherDir: string;
  let launcher: ChildProcess;
  let pids: number[];

  beforeAll(() => {
    otherDir = mkdtempSync(path.join(tmpdir(), "lab-other-"));
    chmodSync(otherDir, 0o755);
  });
  afterAll(async () => {
    await resetLab(otherDir);
    expect(existsSync(otherDir)).toBe(false);
  });

  async function launch(): Promise<void> {
    const program = `
      import { startLab } from "./lab/lab.ts";
      import { stopOnSignals } from "./lab/signals.ts";
      const lab = await startLab({ dir: ${JSON.stringify(otherDir)}, durable: false });
      stopOnSignals(lab.stop, () => {});
      const { etcd, apiServer, controllerManager } = lab.controlPlane;
      await controllerManager.kill();
      console.log(JSON.stringify([etcd, apiServer, lab.postgres.process].map(({ pid }) => pid)));`;
    launcher = spawn(process.execPath, ["--input-type=module-typescript", "-e", program], {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { pid = 0, stdout, stderr } = launcher;
    let errors = "";
    stderr?.on("data", (chunk) => {
      errors += String(chunk);
    });
    const line = await new Promise<string>((resolve, reject) => {
      stdout?.once("data", (chunk) => resolve(String(chunk)));
      launcher.once("exit", (code, killedBy) =>
        reject(new Error(`the launcher ended (${killedBy ?? code}) before its lab was up: ${errors}`)),
      );
    });
    pids = [...new Set([...JSON.parse(line), ...descendants(pid)])];
    expect(living(pids)).toEqual(pids);
  }

  function ended(): Promise<[number | null, NodeJS.Signals | null]> {
    return new Promise((resolve) => launcher.once("exit", (code, killedBy) => resolve([code, killedBy])));
  }

  test("ends in order by Ctrl-C, also with a child down", async () => {
    await launch();
    launcher.kill("SIGINT");
    expect(await ended()).toEqual([0, null]);
    expect(living(pids)).toEqual([]);
  });

  test("ends at once when it is asked again", async () => {
    await launch();
    const [etcd = 0] = pids;
    process.kill(etcd, "SIGSTOP");
    // On a busy machine it may have ended before anybody looks again.
    const end = ended();
    launcher.kill("SIGTERM");
    await until("the first request is under way", () => living(pids).length < pids.length, { timeoutMs: 10_000 });
    const again = setInterval(() => launcher.kill("SIGTERM"), 100);
    expect((await end)[0]).not.toBeNull();
    clearInterval(again);
    await until("nothing is left", () => living(pids).length === 0, { timeoutMs: 10_000 });
  });

  test("has its leftovers ended by the next launcher when it is killed", async () => {
    await launch();
    launcher.kill("SIGKILL");
    expect(await ended()).toEqual([null, "SIGKILL"]);
    expect(living(pids)).not.toEqual([]);
    const next = await startLab({ dir: otherDir, durable: false });
    try {
      expect(living(pids)).toEqual([]);
      expect(next.controlPlane.url).not.toBe(lab.controlPlane.url);
      const names = await kubectl(next, ["get", "namespaces", "-o", "name"]);
      expect(names).not.toContain("payments");
    } finally {
      await next.stop();
    }
  });
});

test("a reset removes everything", async () => {
  const { dataDir } = lab.postgres;
  await lab.stop();
  await resetLab(dir);
  expect([dir, dataDir].filter((file) => existsSync(file))).toEqual([]);
});
