/** `npm start -- --kubeconfig FILE`: the product on a cluster that somebody else runs. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type Lab, resetLab, startLab } from "../lab/lab.ts";
import { until } from "../lab/poll.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const dir = mkdtempSync(path.join(tmpdir(), "mazevault-existing-"));
const [theirs, ours] = [path.join(dir, "theirs"), path.join(dir, "ours")];

let lab: Lab;
let child: ChildProcess | undefined;

beforeAll(async () => {
  lab = await startLab({ dir: theirs, durable: false });
});

afterAll(async () => {
  if (child?.exitCode === null) child.kill("SIGKILL");
  await lab?.stop();
  await resetLab(theirs);
  await resetLab(path.join(ours, "lab"));
  rmSync(dir, { recursive: true, force: true });
});

test("it installs itself there, and leaves the cluster running when it stops", async () => {
  const args = ["lab/start.ts", "--dir", ours, "--kubeconfig", lab.controlPlane.kubeconfigPath];
  const started = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "pipe", "inherit"] });
  child = started;
  let output = "";
  started.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  await until("the guide", () => output.includes("begins anew") || started.exitCode !== null, { timeoutMs: 120_000 });
  expect(output).toContain("everything is Ready");

  const ended = new Promise<number | null>((resolve) => started.once("exit", resolve));
  started.kill("SIGINT");
  expect(await ended).toBe(0);
  const { code, stdout } = await lab.controlPlane.kubectl([
    "-n",
    "payments",
    "get",
    "secret",
    "orders-db",
    "-o",
    "name",
  ]);
  expect({ code, stdout }).toEqual({ code: 0, stdout: "secret/orders-db\n" });
});
