/**
 * A primary and a gateway, with everything in between that can go wrong: latency, narrow bandwidth, resets, half-open connections; both
 * sides die by SIGKILL over it, gateways come, renew and are revoked, and both sides are written to. Afterwards the gateway must be back,
 * nothing that was acknowledged may be lost, and nothing may have happened twice. The seed repeats choices, not the timing of the machine.
 */
import { readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { openStores } from "../../adapters/postgres/stores.ts";
import { openRootKeyFile } from "../../adapters/rootkey/file.ts";
import { errorMessage } from "../../lab/errors.ts";
import { connected, connectGateway } from "../../lab/gateway.ts";
import type { Program, Rest } from "../../lab/mazevault.ts";
import { pause, until } from "../../lab/poll.ts";
import { startToxiproxy, type ToxicProxy } from "../../lab/toxiproxy/toxiproxy.ts";
import { secretManifest, startWorld, type World } from "../harness.ts";
import { firstAdmin, RestClient } from "../rest-client.ts";
import { Deaths } from "./channel/deaths.ts";
import { Disturbances } from "./channel/disturbances.ts";
import { PassingGateways } from "./channel/passing-gateways.ts";
import { type Surface, Writer } from "./channel/writes.ts";
import { Random } from "./random.ts";

export interface ChannelChaosOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly report?: (line: string) => void;
}

export interface ChannelChaosResult {
  readonly disturbances: Readonly<Record<string, number>>;
  readonly deaths: { readonly primary: readonly string[]; readonly gateway: readonly string[] };
  readonly writes: {
    readonly primary: number;
    /** Of its own. */
    readonly gateway: number;
    /** At the gateway, for the primary. */
    readonly queued: number;
    readonly repetitions: number;
  };
  readonly passing: { readonly registered: number; readonly revoked: number; readonly renewals: number };
  /** How often the gateway was revoked and registered anew. */
  readonly turnovers: number;
  /** Connections that the gateway opened meanwhile. */
  readonly connections: number;
  /** From the end of it all until both sides call the gateway connected. */
  readonly settleSeconds: number;
  readonly faults: readonly string[];
}

const NAME = "gw-npr-primary";
const TENANT = "shared";
/** Whose environment the gateway serves. */
const SERVED = "served";
const QUEUED = "at-gateway-for-primary";
const LEASE_MS = 4_000;
const SOON = { timeoutMs: 120_000, intervalMs: 200 };
const TURNOVER_EVERY_MS = 15_000;
/** Of one process of the gateway, before its pauses have grown, and for each turnover. */
const CONNECTIONS_AT_ONCE = 12;
/** Its pauses grow to half a minute, so that one in two seconds is far more than it may. */
const CONNECTIONS_PER_SECOND = 0.5;
/** Handles that a side may have more than when it began: pooled connections, watches that are being replaced. */
const MORE_HANDLES = 40;

const OPERATOR_FAILPOINTS = ["fleet.afterRevocation", "fleet.beforeAnswer"];
const REST_FAILPOINTS = ["fleet.afterRedemption", "gatewaywrites.beforeCommit", "gatewaywrites.afterCommit"];
const GATEWAY_FAILPOINTS = [
  "membership.beforeRegistration",
  "membership.afterRegistration",
  "membership.beforeConfirmation",
  "membership.afterConfirmation",
  "writequeue.afterAccept",
  "writequeue.beforeSend",
  "writequeue.afterSend",
  "writequeue.afterSettle",
  "replica.beforeWrite",
  "replica.afterWrite",
];

interface Side {
  readonly world: World;
  readonly rest: RestClient;
  readonly login: () => Promise<string>;
  /** By program. */
  readonly handlesAtFirst: ReadonlyMap<Program, number>;
}

export async function runChannelChaos(options: ChannelChaosOptions): Promise<ChannelChaosResult> {
  const worlds = await Promise.all([startWorld(), startWorld()]);
  try {
    return await chaos(...worlds, options);
  } finally {
    await Promise.all(worlds.map((world) => world.stop()));
  }
}

async function chaos(main: World, cluster: World, options: ChannelChaosOptions): Promise<ChannelChaosResult> {
  const { seed, seconds, report = () => {} } = options;
  const randomOf = (part: number): Random => new Random(seed + part);
  const leases = { kubernetes: { leaseDurationMs: LEASE_MS } };
  const failpointFiles = [main, cluster].map(({ lab }) => path.join(lab.dir, "failpoint"));
  const [ofPrimary = "", ofGateway = ""] = failpointFiles;
  const armed = { env: { MAZEVAULT_FAILPOINT_FILE: ofPrimary }, config: leases };
  const [operator, surface] = [await main.mazevault.startOperator(armed), await main.mazevault.startRest(armed)];
  const toxiproxy = await startToxiproxy(main.lab);
  const restPort = Number(new URL(surface.restUrl).port);
  const [way, passingWay] = [await toxiproxy.proxy("gateway", restPort), await toxiproxy.proxy("passing", restPort)];
  const through = (proxy: ToxicProxy) => `https://127.0.0.1:${proxy.port}`;
  const tokenFile = path.join(cluster.lab.dir, "operator", `${NAME}.token`);
  const gatewayOperator = await connectGateway({
    name: NAME,
    environment: "NPR",
    role: "primary",
    lab: cluster.lab,
    mazevault: cluster.mazevault,
    primary: { cluster: main.lab.controlPlane, url: through(way), caFile: main.lab.pki.caFile },
    env: { MAZEVAULT_FAILPOINT_FILE: ofGateway },
    config: leases,
  });
  const primary = await sideOf(main, surface, operator);
  const gateway = await sideOf(cluster, gatewayOperator);

  const body = { project: TENANT, environment: "dev" };
  const application = await serveTenant(primary, gateway, Math.ceil(seconds / 10) + 2);
  const writers = [
    new Writer({ to: primary, from: primary, namespace: TENANT, prefix: "at-primary", versions: 5, body }),
    new Writer({ to: gateway, from: gateway, namespace: TENANT, prefix: "at-gateway", versions: 5, body }),
    // Queued there, and to arrive at the primary.
    new Writer({
      ...{ to: application, from: primary, namespace: SERVED, prefix: QUEUED, versions: 50, body: {} },
      // While it is revoked it serves nothing of the primary's.
      comesBack: [403, 404],
    }),
  ];
  const passing = new PassingGateways({ ...primary, url: through(passingWay), random: randomOf(1) });
  const disturbances = new Disturbances({ proxies: [way, passingWay], random: randomOf(2), report });
  const mortals = [
    {
      side: "primary",
      world: main,
      failpointFile: ofPrimary,
      program: operator,
      leads: true,
      failpoints: OPERATOR_FAILPOINTS,
    },
    {
      side: "primary",
      world: main,
      failpointFile: ofPrimary,
      program: surface,
      leads: false,
      failpoints: REST_FAILPOINTS,
    },
    {
      side: "gateway",
      world: cluster,
      failpointFile: ofGateway,
      program: gatewayOperator,
      leads: true,
      failpoints: GATEWAY_FAILPOINTS,
    },
  ] as const;
  const deaths = new Deaths({ mortals, random: randomOf(3), report });
  const turnovers = new Turnovers(primary, tokenFile);
  const before = way.accepted();

  const over = new AbortController();
  const parts = { passing, disturbances, deaths, turnovers };
  const named = [...writers.map((each) => ["a writer", each] as const), ...Object.entries(parts)];
  const running = named.map(async ([name, each]) => {
    try {
      await each.run(over.signal);
    } catch (error) {
      throw new Error(`${name}: ${errorMessage(error)}`, { cause: error });
    }
  });
  // The first that fails ends all; else time does.
  await Promise.race([pause(seconds * 1_000), Promise.all(running)]).catch(() => {});
  over.abort();
  await Promise.all(running);
  const ended = performance.now();
  const connections = way.accepted() - before;
  const sides = [primary, gateway];
  const programs = [operator, surface, gatewayOperator];
  await Promise.all(programs.map(({ process }) => process.ready()));
  for (const each of programs) await until("its health", () => isWell(each), SOON);
  await connected({ operator: gatewayOperator, primary: { cluster: main.lab.controlPlane }, name: NAME, tokenFile });
  await emptied(gateway);
  const settleSeconds = Math.round((performance.now() - ended) / 100) / 10;

  const faults = [
    ...(await passing.faults()),
    ...(await writeFaults(writers, main, cluster)),
    ...(await queueFaults(gateway)),
    ...(await gatewayFaults(main, [NAME, ...passing.staying])),
    ...(await Promise.all(sides.map(auditFaults))).flat(),
    ...sides.flatMap(processFaults),
    ...connectionFaults(connections, seconds, deaths.at.gateway.length + turnovers.count),
  ];
  await Promise.all(sides.map(({ rest }) => rest.close()));
  return {
    disturbances: Object.fromEntries(disturbances.counts),
    deaths: deaths.at,
    writes: {
      primary: writers[0]?.count ?? 0,
      gateway: writers[1]?.count ?? 0,
      queued: writers[2]?.count ?? 0,
      repetitions: writers.reduce((sum, { repetitions }) => sum + repetitions, 0),
    },
    passing: passing.counts,
    turnovers: turnovers.count,
    connections,
    settleSeconds,
    faults,
  };
}

/** @param others the programs beside the one that serves REST */
async function sideOf(world: World, surface: Rest, ...others: readonly Program[]): Promise<Side> {
  const rest = RestClient.of(world, surface);
  const { email, password } = await firstAdmin(world);
  await world.tenant(TENANT);
  const login = () => rest.login(email, password);
  const handlesAtFirst = new Map([surface, ...others].map((program) => [program, handlesOf(program)]));
  return { world, rest, login, handlesAtFirst };
}

/** The gateway itself is revoked now and then, and comes back as the same one with another token. */
class Turnovers {
  readonly #primary: Side;
  readonly #tokenFile: string;
  count = 0;

  constructor(primary: Side, tokenFile: string) {
    this.#primary = primary;
    this.#tokenFile = tokenFile;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { rest, login } = this.#primary;
    for (;;) {
      await pause(TURNOVER_EVERY_MS, signal);
      if (signal.aborted) return;
      const asked = async (method: string, url: string, status: number, body?: object) => {
        const token = await login();
        const answer = await rest.send(method, url, { token, ...(body && { body }) });
        if (answer.status !== status && !(method === "DELETE" && answer.status === 404))
          throw new Error(`${method} ${url}: ${answer.status} ${answer.text}`);
        return answer.body;
      };
      await until("revoked", async () => [await asked("DELETE", `/api/v1/gateways/${NAME}`, 204)], SOON);
      const place = { name: NAME, environment: "NPR", role: "primary" };
      const { token } = await until("a token", () => asked("POST", "/api/v1/gateways/bootstrap", 201, place), SOON);
      writeFileSync(this.#tokenFile, token);
      this.count += 1;
    }
  }
}

async function isWell({ httpPort }: Program): Promise<boolean> {
  return (await fetch(`http://127.0.0.1:${httpPort}/readyz`)).ok;
}

/** Secrets of the primary that the gateway serves, and an application in its cluster that may write them. */
async function serveTenant(primary: Side, gateway: Side, secrets: number): Promise<Surface> {
  const metadata = (name: string) => ({ name, namespace: SERVED });
  const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: SERVED } };
  const apiVersion = "mazevault.io/v1";
  await gateway.world.apply(namespace, { apiVersion: "v1", kind: "ServiceAccount", metadata: metadata("app") });
  await primary.world.apply(
    namespace,
    {
      apiVersion,
      kind: "Project",
      metadata: { name: SERVED },
      spec: {
        environments: [{ name: "dev", gatewayEnvironment: "NPR" }],
        namespaces: [{ name: SERVED, environments: ["dev"] }],
      },
    },
    {
      apiVersion,
      kind: "AccessPolicy",
      metadata: metadata("app"),
      spec: {
        subjects: [{ serviceAccount: metadata("app") }],
        rules: [{ projects: [SERVED], environments: ["dev"], verbs: ["list", "read", "write"] }],
      },
    },
    ...Array.from({ length: secrets }, (_, at) =>
      secretManifest(SERVED, `${QUEUED}-${at + 1}`, {
        environment: "dev",
        retention: { versions: 100 },
        entries: [
          { key: "user", literal: "app" },
          { key: "value", external: {} },
        ],
      }),
    ),
  );
  const login = async () =>
    (await gateway.world.kubectl("-n", SERVED, "create", "token", "app", "--audience=mazevault")).trim();
  const token = await login();
  const url = `/api/v1/namespaces/${SERVED}/secrets/${QUEUED}-${secrets}`;
  const served = async () => (await gateway.rest.send("GET", url, { token })).status === 200;
  await until("the gateway serves them", served, SOON);
  return { rest: gateway.rest, login };
}

async function writeFaults(writers: readonly Writer[], main: World, cluster: World): Promise<string[]> {
  const counted = [versionsIn(main, TENANT), versionsIn(cluster, TENANT), versionsIn(main, SERVED)];
  const faults = await Promise.all(
    writers.map((writer, at) => {
      const versionsOf = counted[at] ?? (async () => Number.NaN);
      // The first has only what its manifest says.
      return writer.faults(async (secret) => (await versionsOf(secret)) - (at === 2 ? 1 : 0));
    }),
  );
  return faults.flat();
}

/** Each on record once. */
function versionsIn(world: World, namespace: string): (secret: string) => Promise<number> {
  return async (secret) => {
    const [row] = await world.sql<{ versions: number; recorded: number }>(
      `SELECT (SELECT count(*)::int FROM versions WHERE secret_id = id) AS versions,
              (SELECT count(*)::int FROM audit WHERE subject_id = id::text AND action = 'SecretVersionCreated') AS recorded
       FROM secrets WHERE namespace = $1 AND name = $2`,
      [namespace, secret],
    );
    return row === undefined || row.versions !== row.recorded ? Number.NaN : row.versions;
  };
}

/** Waits until nothing waits at the gateway any more. */
const emptied = ({ world }: Side): Promise<unknown> =>
  until(
    "the queue is empty",
    async () => (await world.sql("SELECT FROM queued_writes WHERE state = 'Waiting'")).length === 0,
    SOON,
  );

/** Nobody else writes these, so each is the current one for a while. */
async function queueFaults({ world }: Side): Promise<string[]> {
  const rows = await world.sql<{ name: string; state: string }>(
    "SELECT name, state FROM queued_writes WHERE state <> 'Applied'",
  );
  return rows.map(({ name, state }) => `a write of ${name} is ${state}`);
}

/** Of each gateway that counts there is one row and one certificate, of the others none. */
async function gatewayFaults(world: World, names: readonly string[]): Promise<string[]> {
  const wanted = names.toSorted().join(", ");
  const counting = async (): Promise<string> => {
    const rows = await world.sql<{ name: string }>(
      `SELECT name FROM certificates
       WHERE requester_kind = 'Gateway' AND state = 'Issued' AND revocation_reason IS NULL ORDER BY 1`,
    );
    return rows.map(({ name }) => name).join(", ");
  };
  const objects = (await world.list("gateways.mazevault.io")).map(({ metadata }) => metadata.name).toSorted();
  let found = "";
  // What the leader revokes comes a moment after what is refused already.
  const agree = async () => {
    found = await counting();
    return found === wanted;
  };
  const agreed = await until("certificates", agree, { timeoutMs: 30_000 }).catch(() => false);
  return [
    ...(agreed ? [] : [`certificates count of ${found}, not of ${wanted}`]),
    ...(objects.join(", ") === wanted ? [] : [`there are the Gateways ${objects.join(", ")}, not ${wanted}`]),
  ];
}

async function auditFaults({ world: { lab, mazevault } }: Side): Promise<string[]> {
  const stores = await openStores(mazevault.database, openRootKeyFile(path.join(lab.dir, "operator", "root.key")));
  try {
    let verdict = await stores.audit.verify();
    const linked = async () => {
      verdict = await stores.audit.verify();
      return !verdict.ok || verdict.unlinked === 0;
    };
    await until("all is linked", linked, { timeoutMs: 30_000 }).catch(() => false);
    if (!verdict.ok) return [`audit row ${verdict.row}: ${verdict.fault}`];
    return verdict.unlinked === 0 ? [] : [`${verdict.unlinked} audit rows are not linked`];
  } finally {
    await stores.close();
  }
}

const processFaults = ({ handlesAtFirst }: Side): string[] =>
  [...handlesAtFirst].flatMap(([program, atFirst]) => {
    const { process } = program;
    const handles = handlesOf(program);
    return [
      ...(process.restarts > 0 && process.lastEnd !== "died of SIGKILL" ? [`${process.name} ${process.lastEnd}`] : []),
      ...(handles > atFirst + MORE_HANDLES ? [`${process.name} has ${handles} handles, ${atFirst} at first`] : []),
    ];
  });

const handlesOf = ({ process: { pid } }: Program): number => readdirSync(`/proc/${pid}/fd`).length;

function connectionFaults(connections: number, seconds: number, beginnings: number): string[] {
  const most = (beginnings + 1) * CONNECTIONS_AT_ONCE + seconds * CONNECTIONS_PER_SECOND;
  return connections > most ? [`the gateway opened ${connections} connections, ${most} at most are its due`] : [];
}
