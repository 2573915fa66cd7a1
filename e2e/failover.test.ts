/**
 * A primary and the two gateways of an environment, each with an API server, a database and a program of its own: one is frozen
 * over what it does in a Key Vault and comes back when the other one does it, the primary dies over each step, and at no moment do
 * both act. Each switch takes as long as what was granted before may last, so a test asks for several things of one.
 */
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { MADE_BY, SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { azure, type Operator, type Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { ActingWatch } from "./acting-watch.ts";
import { cliEnvironment } from "./cli-environment.ts";
import { conditionOf, type KubernetesObject, scrape, startWorld, total, type World } from "./harness.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";
import { StoreClock } from "./store-clock.ts";
import { isSet, VaultLoad } from "./vault-load.ts";

const ENVIRONMENTS = "gatewayenvironments.mazevault.io";
const FAILOVERS = "failovers.mazevault.io";
const GATEWAYS = "gateways.mazevault.io";
const PRIMARY = "gw-npr-primary";
const STANDBY = "gw-npr-dr";
/** In production they have one; here the log of the vault tells by it who called. */
const IDENTITY = { [PRIMARY]: azure.managedIdentity, [STANDBY]: azure.otherManagedIdentity } as const;
const SOON = { timeoutMs: 90_000, intervalMs: 100 };

let worlds: readonly World[];
let primary: World;
let operator: Operator;
let main: Rest;
let gateways: Readonly<Record<string, Rest>>;
let clients: Readonly<Record<string, RestClient>>;
let rest: RestClient;
let session: string;
let folder: string;
let failpointFile: string;
let watch: ActingWatch;
let clock: StoreClock;

/** The commands of the guide, block by block. */
const guide = readFileSync(fileURLToPath(new URL("../docs/guides/fail-over-and-back.md", import.meta.url)), "utf8");
const [pairUp = "", activate = "", goBack = "", byObject = "", ...more] = [
  ...guide.matchAll(/^```sh\n([\s\S]*?)^```$/gm),
].map(([, block = ""]) => block);

beforeAll(async () => {
  worlds = await Promise.all([startWorld(), startWorld(), startWorld()]);
  const [first, ofPrimary, ofStandby] = worlds;
  if (first === undefined || ofPrimary === undefined || ofStandby === undefined) throw new Error("three are there");
  primary = first;
  folder = path.join(primary.lab.dir, "failover");
  mkdirSync(folder, { recursive: true });
  failpointFile = path.join(folder, "failpoint");
  clock = await StoreClock.of(primary);
  operator = await primary.mazevault.startOperator({ env: { MAZEVAULT_FAILPOINT_FILE: failpointFile } });
  main = await primary.mazevault.startRest();
  rest = RestClient.of(primary, main);
  const { email, password } = await firstAdmin(primary);
  session = await rest.login(email, password);
  const [one, two] = [
    await startGateway(ofPrimary, PRIMARY, "primary", ofPrimary),
    await startGateway(ofStandby, STANDBY, "dr-standby", ofPrimary),
  ];
  gateways = { [PRIMARY]: one, [STANDBY]: two };
  clients = { [PRIMARY]: RestClient.of(ofPrimary, one), [STANDBY]: RestClient.of(ofStandby, two) };
  for (const name of [PRIMARY, STANDBY]) {
    await primary.waitFor(
      GATEWAYS,
      name,
      undefined,
      (each) => conditionOf(each, "Connected")?.status === "True",
      90_000,
    );
  }
  watch = new ActingWatch(PRIMARY, STANDBY, isActive);
});

afterAll(async () => {
  await watch?.stop();
  await rest?.close();
  for (const client of Object.values(clients ?? {})) await client.close();
  await Promise.all((worlds ?? []).map((world) => world.stop()));
});

async function startGateway(world: World, name: keyof typeof IDENTITY, role: string, vaultOf: World): Promise<Rest> {
  const body = { name, environment: "NPR", role };
  const made = await rest.send("POST", "/api/v1/gateways/bootstrap", { token: session, body });
  expect(made.status).toBe(201);
  return world.mazevault.startGateway({
    env: {
      MAZEVAULT_GATEWAY_ENVIRONMENT: "NPR",
      MAZEVAULT_GATEWAY_ROLE: role,
      PRIMARY_BACKEND_URL: main.restUrl,
      GATEWAY_BOOTSTRAP_TOKEN: made.body.token as string,
      AZURE_MANAGED_IDENTITY_CLIENT_ID: IDENTITY[name],
    },
    config: { gateway: { primaryCaFile: primary.lab.pki.caFile }, azure: vaultOf.mazevault.keyVault.azure },
  });
}

/** Undefined when it does not answer, as one that is frozen. */
async function isActive(name: string): Promise<boolean | undefined> {
  const answer = clients[name]?.send("GET", "/api/v1/health").catch(() => undefined);
  const told = await Promise.race([answer, delay(500, undefined)]);
  return told?.body?.gateway?.active as boolean | undefined;
}

/** Of one that runs: on a busy machine its answer may take more than one try. */
async function toldActive(name: string): Promise<boolean> {
  let told: boolean | undefined;
  const tells = async () => {
    told = await isActive(name);
    return told !== undefined;
  };
  await until(`${name} tells whether it acts`, tells, SOON);
  return told === true;
}

const untilActive = (name: string) => until(`${name} acts`, async () => (await isActive(name)) === true, SOON);

interface State {
  readonly active: string;
  readonly activeGateway: string;
  readonly epoch: number;
  readonly phase: string;
  readonly message?: string;
  readonly primary: { readonly state: string };
  readonly standby: { readonly state: string };
}

const told = async (): Promise<State> =>
  (await rest.send("GET", "/api/v1/admin/failover/NPR", { token: session })).body as State;

const untilStable = (active: string) =>
  until(
    `${active} is in charge`,
    async () => {
      const state = await told();
      return state.active === active && state.phase === "stable" && state;
    },
    SOON,
  );

const bash = (script: string, env: NodeJS.ProcessEnv = {}): Promise<string> =>
  promisify(execFile)("bash", ["--norc", "-euo", "pipefail", "-c", script], {
    cwd: folder,
    env: { ...cliEnvironment(primary, main, folder), MAZEVAULT_TOKEN: session, ...env },
  }).then(({ stdout }) => stdout);

/** As they are printed in the documentation, with nothing but host and token put in, and without the need for jq. */
const curl = (lines: string): Promise<string> =>
  bash(`jq() { cat; }\n${lines.replaceAll("CENTRAL_SERVER", new URL(main.restUrl).host)}`, {
    ADMIN_TOKEN: session,
    CURL_CA_BUNDLE: primary.lab.pki.caFile,
  });

const failoverActive = () =>
  scrape(operator).then((figures) => total(figures, "mazevault_gateway_failover_active", { environment: "NPR" }));

test("the guide pairs them: the primary acts, and the standby sends heartbeats and does not", async () => {
  expect(more).toEqual([]);
  expect(await bash(pairUp)).toMatch(/NPR +primary +gw-npr-primary +1 .*stable/);
  await untilActive(PRIMARY);
  expect(await toldActive(STANDBY)).toBe(false);
  const { status, body } = await rest.send("GET", "/api/v1/admin/failover/NPR");
  expect(status).toBe(200);
  expect(body).toEqual({
    environment: "NPR",
    active: "primary",
    activeGateway: PRIMARY,
    epoch: 1,
    since: expect.any(String),
    phase: "stable",
    primary: { name: PRIMARY, state: "healthy" },
    standby: { name: STANDBY, state: "healthy" },
    automaticFailover: false,
  });
});

test("what is not there is told with what is, and nobody hands over without credentials", async () => {
  const stranger = await rest.send("GET", "/api/v1/admin/failover/PRO");
  expect(stranger).toMatchObject({ status: 404, body: { detail: expect.not.stringContaining("NPR") } });
  const unknown = await rest.send("GET", "/api/v1/admin/failover/PRO", { token: session });
  expect(unknown).toMatchObject({ status: 404, body: { detail: expect.stringMatching(/for PRO; there is NPR/) } });
  for (const verb of ["activate-dr", "failback"]) {
    expect((await rest.send("POST", `/api/v1/admin/failover/NPR/${verb}`)).status).toBe(401);
  }
  // It is in charge already.
  const same = await rest.send("POST", "/api/v1/admin/failover/NPR/failback", { token: session });
  expect(same).toMatchObject({ status: 200, body: { active: "primary", epoch: 1 } });
  expect(await primary.list(FAILOVERS)).toEqual([]);
});

/** From when it is called, each call with a value waits at this gateway for its audit entry, so that it has tasks in hand. */
const delayCalls = async (world: World): Promise<void> => {
  await world.sql(`CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_sleep(0.3); RETURN NEW; END $$`);
  await world.sql(`CREATE TRIGGER wait BEFORE INSERT ON audit FOR EACH ROW
    WHEN (NEW.action = 'VaultCallRequested') EXECUTE FUNCTION wait()`);
};

test("what is written to a Key Vault while one is frozen over it and the other one takes its place is there once", async () => {
  const [, ofPrimary = primary] = worlds;
  const vault = ofPrimary.mazevault.keyVault.control;
  const load = new VaultLoad({ primary, rest, session, vault, gateway: PRIMARY });
  const written = async (name: keyof typeof IDENTITY) => (await load.calls(IDENTITY[name])).filter(isSet).length;
  const tasks = async (status: string) => total(await scrape(operator), "mazevault_gateway_tasks_total", { status });
  await load.start();
  await until("it works", async () => (await written(PRIMARY)) > 60, SOON);
  await delayCalls(ofPrimary);
  const inHand = () => primary.sql("SELECT FROM tasks WHERE state = 'Claimed'");
  await until("it has tasks in hand", async () => (await inHand()).length >= 4, SOON);
  await gateways[PRIMARY]?.process.kill("SIGSTOP");
  try {
    const answers = await curl(`
# Check current gateway health
curl -s https://CENTRAL_SERVER/api/v1/admin/gateway-health | jq

# Check failover status for an environment
curl -s https://CENTRAL_SERVER/api/v1/admin/failover/NPR | jq

# Activate DR for NPR
curl -X POST https://CENTRAL_SERVER/api/v1/admin/failover/NPR/activate-dr \\
  -H "Authorization: Bearer $ADMIN_TOKEN"`);
    expect(answers).toContain('"active":"primary"');
    await until("the other one works", async () => (await written(STANDBY)) > 0, SOON);
  } finally {
    await gateways[PRIMARY]?.process.kill("SIGCONT");
  }
  await until("it answers again", async () => (await isActive(PRIMARY)) !== undefined, SOON);
  const atReturn = await written(STANDBY);
  await until("the other one goes on", async () => (await written(STANDBY)) >= atReturn + 60, SOON);
  await load.stop();
  await load.arrived();
  expect(await toldActive(PRIMARY)).toBe(false);
  expect(await untilStable("dr-standby")).toMatchObject({ activeGateway: STANDBY, epoch: 2 });
  await until("the metric says so", async () => (await failoverActive()) === 1, SOON);

  const [row] = await primary.sql<{ until: Date }>("SELECT fenced_until AS until FROM environments");
  const fencedUntil = row?.until.getTime() ?? Number.NaN;
  const { lastOfFormer, firstOfNext, figures, ...wrong } = await load.verdict(IDENTITY[PRIMARY], IDENTITY[STANDBY]);
  const [succeeded, interrupted] = [await tasks("Succeeded"), await tasks("Interrupted")];
  const apart = { "former before": fencedUntil - lastOfFormer, "next after": firstOfNext - fencedUntil };
  console.info(JSON.stringify({ ...figures, succeeded, interrupted, ...apart }));
  expect(wrong).toEqual({ doubled: [], strange: [], lost: [], unlogged: [] });
  expect(lastOfFormer).toBeLessThan(fencedUntil);
  expect(firstOfNext).toBeGreaterThanOrEqual(fencedUntil);
  // Those that it had in hand: what became of them was looked up before they were done anew.
  expect(interrupted).toBeGreaterThan(0);
  expect(succeeded).toBeGreaterThanOrEqual(figures.versions ?? 0);
  const wellBoth = ({ primary: one, standby: other }: State) => one.state === "healthy" && other.state === "healthy";
  await until("both are well", async () => wellBoth(await told()), SOON);
}, 300_000);

/** As many writes wait at the standby, as each of its heartbeats tells. */
async function queueAtStandby(length: number): Promise<void> {
  await primary.sql("DROP TRIGGER IF EXISTS queue ON gateways");
  await primary.sql(`CREATE OR REPLACE FUNCTION queue() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    NEW.heartbeat := (NEW.heartbeat::jsonb || '{"queueLength": ${length}}')::json; RETURN NEW; END $$`);
  await primary.sql(`CREATE TRIGGER queue BEFORE UPDATE ON gateways FOR EACH ROW
    WHEN (NEW.name = '${STANDBY}' AND NEW.heartbeat IS NOT NULL) EXECUTE FUNCTION queue()`);
  await primary.sql("UPDATE gateways SET heartbeat = heartbeat");
}

const failovers = async (): Promise<readonly KubernetesObject[]> =>
  (await primary.list(FAILOVERS)).toSorted((one, other) => (madeAt(one) < madeAt(other) ? -1 : 1));
const madeAt = ({ metadata }: KubernetesObject): string => metadata.creationTimestamp ?? "";
const outcome = (object: KubernetesObject | undefined): unknown => object?.status?.outcome;

/** Which of two was made later can be told when they were not made in the same second. */
const nextSecond = async (): Promise<void> => {
  const made = madeAt((await failovers()).at(-1) as KubernetesObject);
  await until("the next second", () => new Date().toISOString().slice(0, 19) > made.slice(0, 19), SOON);
};

const FAILBACK = `
# Failback NPR to primary
curl -X POST https://CENTRAL_SERVER/api/v1/admin/failover/NPR/failback \\
  -H "Authorization: Bearer $ADMIN_TOKEN"`;

test("the way back waits for an empty queue and gives way to a newer request; when the primary dies over it, the next leader ends it, once", async () => {
  await queueAtStandby(3);
  expect(JSON.parse(await curl(FAILBACK))).toMatchObject({
    environment: "NPR",
    active: "dr-standby",
    phase: "waiting",
  });
  const waiting = () =>
    until("it waits", async () => (await told()).message?.includes(`3 writes wait at ${STANDBY}`), SOON);
  await waiting();
  await nextSecond();
  const stay = await rest.send("POST", "/api/v1/admin/failover/NPR/activate-dr", { token: session });
  expect(stay).toMatchObject({ status: 202, body: { active: "dr-standby" } });
  await until("the newer one is done", async () => outcome((await failovers()).at(-1)) === "Completed", SOON);
  await until("the one that waited is not", async () => outcome((await failovers()).at(-2)) === "Superseded", SOON);
  expect(await untilStable("dr-standby")).toMatchObject({ epoch: 2 });

  await nextSecond();
  await curl(FAILBACK);
  await waiting();
  expect(await toldActive(STANDBY)).toBe(true);
  await dieAt(["failover.afterSwitch", "failover.beforeCompletion"], () => queueAtStandby(0));
  await untilActive(PRIMARY);
  expect(await toldActive(STANDBY)).toBe(false);
  expect(await untilStable("primary")).toMatchObject({ activeGateway: PRIMARY, epoch: 3 });
  expect(await stepsOfLast()).toEqual(["FailoverBegun", "FailoverFenced", "FailoverCompleted"]);
  await until("the metric says so", async () => (await failoverActive()) === 0, SOON);
  const [first] = await failovers();
  const changed = await primary.applyRefused(failover(first?.metadata.name ?? "", "Primary"));
  expect(changed).toMatch(/done once, as it was made; create another one/);
});

/** As by kill -9 at each of these, one after the other, while the work is done; the process after it is armed before it leads. */
async function dieAt<T>([first, ...others]: readonly [string, ...string[]], work: () => Promise<T>): Promise<T> {
  const { process } = operator;
  const arm = async (failpoint: string): Promise<number> => {
    const { restarts } = process;
    writeFileSync(failpointFile, failpoint);
    await process.kill("SIGUSR2");
    return restarts;
  };
  const died = async (failpoint: string, restarts: number): Promise<void> => {
    await until(`death at ${failpoint}`, () => process.restarts > restarts, SOON);
    expect(process.lastEnd).toBe("died of SIGKILL");
    await process.ready();
  };
  // The one before is dead, so nobody need wait until its lease runs out.
  const leaderless = () =>
    primary.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
  const deaths = async (restarts: number): Promise<void> => {
    await died(first, restarts);
    for (const failpoint of others) {
      const before = await arm(failpoint);
      await leaderless();
      await died(failpoint, before);
    }
    rmSync(failpointFile, { force: true });
    await leaderless();
  };
  const restarts = await arm(first);
  const [result] = await Promise.all([work(), deaths(restarts)]);
  return result;
}

async function stepsOfLast(): Promise<readonly string[]> {
  const steps = await primary.sql<{ action: string }>(
    "SELECT action FROM audit WHERE subject_kind = 'GatewayEnvironment' AND details->>'failover' = $1 ORDER BY sequence",
    [(await failovers()).at(-1)?.metadata.name],
  );
  return steps.map(({ action }) => action);
}

const failover = (name: string, activate: "Primary" | "Standby"): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Failover",
  metadata: { name },
  spec: { environmentRef: { name: "npr" }, activate },
});

test("when the primary dies over what the guide has kubectl create, the next leader ends it, once", async () => {
  const { epoch } = await told();
  await nextSecond();
  const failpoints = ["failover.beforeSwitch", "failover.afterFence", "failover.afterCompletion"] as const;
  expect(await dieAt(failpoints, () => bash(byObject))).toMatch(/npr-\w+ .*Standby +Completed/);
  expect(await untilStable("dr-standby")).toMatchObject({ epoch: epoch + 1 });
  await untilActive(STANDBY);
  expect(await stepsOfLast()).toEqual(["FailoverBegun", "FailoverFenced", "FailoverCompleted"]);
});

test("docs/guides/fail-over-and-back.md works as printed, also when one is frozen while it acts and comes back in the middle", async () => {
  await bash(goBack);
  await untilActive(PRIMARY);
  const frozen = gateways[PRIMARY]?.process;
  await frozen?.kill("SIGSTOP");
  const isFenced = async () => {
    const { active, phase } = await told();
    return active === "dr-standby" && phase === "fencing";
  };
  const backInTheMiddle = until("it is fenced", isFenced, SOON)
    .finally(() => frozen?.kill("SIGCONT"))
    // What it was granted before may not be over yet; it is when the other one acts, which is watched all the time.
    .then(() => until("it answers again", async () => (await isActive(PRIMARY)) !== undefined, SOON));
  const [printed] = await Promise.all([bash(activate), backInTheMiddle]);
  expect(printed).toMatch(/NPR +dr-standby +gw-npr-dr .*stable/);
  await untilActive(STANDBY);
  expect(await isActive(PRIMARY)).toBe(false);
});

test("whoever changes the state in PostgreSQL lets nobody act; as the guide says, it is mended by deleting the row", async () => {
  const { epoch } = await told();
  await primary.sql("UPDATE environments SET active = 'Primary'");
  await until("nobody acts", async () => (await isActive(STANDBY)) === false, SOON);
  expect(await toldActive(PRIMARY)).toBe(false);
  const reason = (object: KubernetesObject) => conditionOf(object, "Paired")?.reason;
  await primary.waitFor(ENVIRONMENTS, "npr", undefined, (object) => reason(object) === "TamperDetected");
  await primary.sql("DELETE FROM environments");
  await untilActive(STANDBY);
  expect(await untilStable("dr-standby")).toMatchObject({ epoch: epoch + 1 });
});

test("deleting the GatewayEnvironment lets the primary act by its role, and the standby not", async () => {
  const { epoch } = await told();
  await primary.kubectl("delete", ENVIRONMENTS, "npr");
  await untilActive(PRIMARY);
  expect(await toldActive(STANDBY)).toBe(false);
  const [row] = await primary.sql<{ epoch: string; object: string | null }>("SELECT epoch, object FROM environments");
  expect(row).toEqual({ epoch: `${epoch + 1}`, object: null });
});

/** A heartbeat of the standby, earlier than the next one is due: it does not act, and a program that starts sends one at once. */
async function standbyBeats(): Promise<void> {
  const last = async () => {
    const [row] = await primary.sql<{ at: Date }>("SELECT heartbeat_at AS at FROM gateways WHERE name = $1", [STANDBY]);
    return row?.at.getTime() ?? 0;
  };
  const before = await last();
  await gateways[STANDBY]?.process.restart();
  await until("it sends a heartbeat", async () => (await last()) > before, SOON);
}

/** Resolves when the leader has looked at it as it is now. */
async function failsOverByItself(automaticFailover: { readonly missedHeartbeats: number } | null): Promise<void> {
  const patch = JSON.stringify({ spec: { automaticFailover } });
  await primary.kubectl("patch", ENVIRONMENTS, "npr", "--type=merge", "-p", patch);
  const isSeen = ({ metadata, status }: KubernetesObject) => status?.observedGeneration === metadata.generation;
  await primary.waitFor(ENVIRONMENTS, "npr", undefined, isSeen);
}

/** The leader has looked at the environment once more, from beginning to end. */
async function leaderLooks(): Promise<void> {
  const name = "mazevault_reconcile_duration_seconds_count";
  const looks = async () => total(await scrape(operator), name, { controller: "gatewayenvironment" });
  const before = await looks();
  await until("it is looked at", async () => (await looks()) > before + 1, SOON);
}

test("a frozen primary is replaced by itself only where that is asked for, and only while the standby is heard without it; it comes back as one that does not act", async () => {
  await bash(pairUp);
  await untilActive(PRIMARY);
  const { epoch } = await told();
  const names = async () => (await failovers()).map(({ metadata }) => metadata.name);
  const before = await names();
  await gateways[PRIMARY]?.process.kill("SIGSTOP");
  try {
    // As after a pause of the primary: nobody was heard, and one of the two is the first to come back.
    await clock.forward(11);
    await standbyBeats();
    await failsOverByItself({ missedHeartbeats: 3 });
    expect(await names()).toEqual(before);
    for (const missed of [1, 2]) {
      await clock.forward(1);
      await standbyBeats();
      // A heartbeat counts that the leader sees before the next one.
      await failsOverByItself({ missedHeartbeats: 3 + missed });
    }
    await failsOverByItself(null);
    await clock.forward(1);
    await standbyBeats();
    await leaderLooks();
    expect(await names()).toEqual(before);
    expect((await told()).primary.state).toBe("offline");
    await failsOverByItself({ missedHeartbeats: 3 });
    await untilActive(STANDBY);
  } finally {
    await gateways[PRIMARY]?.process.kill("SIGCONT");
  }
  await until("it answers again", async () => (await isActive(PRIMARY)) !== undefined, SOON);
  expect(await toldActive(PRIMARY)).toBe(false);
  expect(await untilStable("dr-standby")).toMatchObject({ activeGateway: STANDBY, epoch: epoch + 1 });
  const made = (await failovers()).slice(before.length);
  expect(made.map(outcome)).toEqual(["Completed"]);
  expect(made[0]?.metadata.annotations).toMatchObject({ [MADE_BY]: "automatic-failover" });
  expect(await stepsOfLast()).toEqual(["FailoverBegun", "FailoverFenced", "FailoverCompleted"]);
  const requests = await primary.sql<{ missed: string }>(
    "SELECT details->>'missedHeartbeats' AS missed FROM audit WHERE action = 'FailoverRequested' AND actor->>'kind' = 'Controller'",
  );
  expect(requests.map(({ missed }) => Number(missed) >= 3)).toEqual([true]);
});

test("at no moment did both act, and each did", async () => {
  await watch.stop();
  expect(watch.both).toEqual([]);
  expect(watch.seen).toEqual(new Set([PRIMARY, STANDBY]));
  expect(watch.looks).toBeGreaterThan(100);
});
