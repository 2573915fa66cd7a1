/** `npm start -- --with-gateway` as a new user has it: the printed walk through an outage and a failover, stop, start again. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { nprGateways } from "../lab/gateway.ts";
import { restCommands } from "../lab/guide.ts";
import { gatewayCommands } from "../lab/guide-gateways.ts";
import { resetLab } from "../lab/lab.ts";
import { until } from "../lab/poll.ts";
import { environmentOf, Started, shellIn, survivorsOf } from "./started.ts";

const dir = mkdtempSync(path.join(tmpdir(), "mazevault-fleet-"));
const labDir = path.join(dir, "lab");
const [atRest, replica, outage, failover] = gatewayCommands(labDir).map(({ commands }) =>
  commands.map(({ command }) => command),
);
const SOON = { timeoutMs: 60_000, intervalMs: 200 };

let started: Started;
let environment: string;
const run = (command: string | undefined): Promise<string> => shellIn(dir, environment, command ?? "false");

afterAll(async () => {
  await started?.interrupt();
  for (const each of [labDir, ...nprGateways.map(({ name }) => path.join(dir, "gateways", name))]) await resetLab(each);
  rmSync(dir, { recursive: true, force: true });
});

async function start(): Promise<void> {
  started = new Started(dir, "--with-gateway");
  const guide = await started.guide();
  environment = environmentOf(guide);
  for (const command of [atRest, replica, outage, failover].flat()) expect(guide).toContain(`  ${command}\n`);
}

/** As the primary sees them. */
async function bothConnected(): Promise<void> {
  const [table] = atRest ?? [];
  const rows = (await run(table)).split("\n").filter((line) => line.startsWith("gw-npr-"));
  expect(rows.map((row) => row.split(/ +/).slice(0, 6).join(" "))).toEqual([
    "gw-npr-dr True Succeeded NPR dr-standby True",
    "gw-npr-primary True Succeeded NPR primary True",
  ]);
}

test("the gateways are there, and each command says what it is said to", async () => {
  await start();
  await bothConnected();
  const [, login] = restCommands;
  await run(login?.command);
  const [, list, health, namespaces] = atRest ?? [];
  expect(await run(list)).toMatch(/gw-npr-dr[\s\S]*gw-npr-primary/);
  expect(JSON.parse(await run(health))).toMatchObject({
    status: "ok",
    mode: "gateway",
    gateway: { registration: { state: "Confirmed", name: "gw-npr-primary" }, channel: { state: "Open" } },
  });
  // The samples are in the primary's.
  expect(await run(namespaces)).not.toContain("payments");
});

test("what is set at the primary is read at the gateway", async () => {
  const [samples, account, put, read] = replica ?? [];
  await run(samples);
  await run(account);
  await until("the tenant is there", async () => (await run(put)).includes("booking/airline"), SOON);
  expect(await run(read)).toContain('"token":"written-at-the-primary"');
});

test("an outage of the primary", async () => {
  const [stop, health, read, write, restart, open, arrived] = outage ?? [];
  expect(await run(stop)).toBe("primary is stopped\n");
  await until("the gateway says so", async () => (await run(health)).includes('"channel":{"state":"Closed"'), SOON);
  expect(await run(read)).toContain('"token":"written-at-the-primary"');
  expect(await run(write)).toMatch(/"queued":true.*202\n$/);
  expect(await run(restart)).toBe("primary is running\n");
  expect(await run(open)).toContain('"state":"Open"');
  expect(await run(arrived)).toBe("written-at-the-gateway\n");
});

test("a failover", async () => {
  const [pair, status, stop, activate, stableDr, restart, open, failback, stable] = failover ?? [];
  expect(await run(pair)).toContain("condition met");
  const acting = async () => {
    const { active, activeGateway, epoch } = JSON.parse(await run(`${status} -o json`));
    return { active, activeGateway, epoch };
  };
  const first = { active: "primary", activeGateway: "gw-npr-primary" };
  const { epoch } = await acting();
  expect(await acting()).toEqual({ ...first, epoch });
  expect(await run(stop)).toBe("gw-npr-primary is stopped\n");
  await run(activate);
  await run(stableDr);
  expect(await acting()).toEqual({ active: "dr-standby", activeGateway: "gw-npr-dr", epoch: epoch + 1 });
  expect(await run(restart)).toBe("gw-npr-primary is running\n");
  expect(await run(open)).toContain('"state":"Open"');
  await run(failback);
  await run(stable);
  expect(await acting()).toEqual({ ...first, epoch: epoch + 2 });
});

test("Ctrl-C leaves no process behind, and the next start needs no token", async () => {
  expect(await started.interrupt()).toBe(0);
  expect(await survivorsOf(dir)).toBe("");
  expect(existsSync(path.join(labDir, "control.sock"))).toBe(false);
  const before = environment;
  await start();
  expect(environment).toBe(before);
  await bothConnected();
  for (const { name } of nprGateways) {
    const log = readFileSync(path.join(dir, "gateways", name, "logs", `${name}.log`), "utf8");
    expect(log.match(/Gateway registered successfully/g)).toHaveLength(1);
  }
});
