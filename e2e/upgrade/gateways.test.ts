/** A primary and its gateway while they are of two versions: the primary is upgraded first, and a gateway that is newer serves as well. */
import { symlinkSync, unlinkSync } from "node:fs";
import path from "node:path";
import { connectGateway } from "../../lab/gateway.ts";
import { installDefinitions } from "../../lab/mazevault.ts";
import { until } from "../../lab/poll.ts";
import type { SupervisedProcess } from "../../lab/supervised.ts";
import { secretManifest, startWorld, type World } from "../harness.ts";
import { firstAdmin, RestClient } from "../rest-client.ts";
import { type OlderVersion, olderVersion } from "./older.ts";

const SOON = { timeoutMs: 90_000, intervalMs: 200 };
const NAME = "gw-npr-upgraded";
const VALUES = "/api/v1/namespaces/shop/secrets/orders/values";

interface Installation {
  readonly world: World;
  /** A link to the programs that it runs, which stays where they are replaced. */
  readonly programs: string;
  readonly processes: readonly SupervisedProcess[];
  readonly rest: RestClient;
}

let older: OlderVersion;
let primary: Installation;
let gateway: Installation;
let admin: { readonly email: string; readonly password: string };
let app: string;

beforeAll(async () => {
  const [main, cluster] = await Promise.all([startWorld(), startWorld()]);
  older = await olderVersion(main.lab.dir);
  const [ofPrimary, ofGateway] = [main, cluster].map(({ lab }) => path.join(lab.dir, "upgraded")) as [string, string];
  for (const link of [ofPrimary, ofGateway]) symlinkSync(older.programs, link);
  for (const { lab } of [main, cluster]) await installDefinitions(lab.controlPlane, older.definitions);
  const operator = await main.mazevault.startOperator({ programs: ofPrimary });
  const surface = await main.mazevault.startRest({ programs: ofPrimary });
  primary = {
    world: main,
    programs: ofPrimary,
    processes: [operator.process, surface.process],
    rest: RestClient.of(main, surface),
  };
  const connected = await connectGateway({
    name: NAME,
    environment: "NPR",
    role: "primary",
    lab: cluster.lab,
    mazevault: cluster.mazevault,
    programs: ofGateway,
    primary: { cluster: main.lab.controlPlane, url: surface.restUrl, caFile: main.lab.pki.caFile },
  });
  gateway = {
    world: cluster,
    programs: ofGateway,
    processes: [connected.process],
    rest: RestClient.of(cluster, connected),
  };
  admin = await firstAdmin(main);
  await cluster.apply(
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } },
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "app", namespace: "shop" } },
  );
  app = (await cluster.kubectl("-n", "shop", "create", "token", "app", "--audience=mazevault")).trim();
  await main.apply(
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop" } },
    {
      apiVersion: "mazevault.io/v1",
      kind: "Project",
      metadata: { name: "shop" },
      spec: {
        environments: [{ name: "dev", gatewayEnvironment: "NPR" }],
        namespaces: [{ name: "shop", environments: ["dev"] }],
      },
    },
  );
  await main.waitReady("project.mazevault.io", "shop");
  await main.apply(
    {
      apiVersion: "mazevault.io/v1",
      kind: "AccessPolicy",
      metadata: { name: "app", namespace: "shop" },
      spec: {
        subjects: [{ serviceAccount: { namespace: "shop", name: "app" } }],
        rules: [{ projects: ["shop"], environments: ["dev"], role: "operator" }],
      },
    },
    secretManifest("shop", "orders", { environment: "dev", entries: [{ key: "password", external: {} }] }),
  );
}, 300_000);

afterAll(async () => {
  for (const installation of [primary, gateway]) {
    await installation?.rest.close();
    await installation?.world.stop();
  }
});

/** As a new image does it: the same settings, the same database. */
async function replace(
  { world, programs, processes }: Installation,
  by: Pick<OlderVersion, "programs" | "definitions"> | undefined,
) {
  await installDefinitions(world.lab.controlPlane, by?.definitions);
  unlinkSync(programs);
  symlinkSync(by?.programs ?? world.mazevault.programs, programs);
  for (const process of processes) await process.restart();
}

const holds = (what: string, { rest }: Installation, token: () => string, value: string) =>
  until(
    what,
    async () => {
      const { status, body, text } = await rest.send("GET", VALUES, { token: token() });
      if (status === 200 && body.values.password === value) return true;
      throw new Error(status === 200 ? "it has another value" : `${status} ${text}`);
    },
    SOON,
  );

async function write({ rest }: Installation, token: string, value: string): Promise<void> {
  const write = async () => {
    const { status, text } = await rest.send("PUT", VALUES, { token, body: { values: { password: value } } });
    if (status !== 200 && status !== 202) throw new Error(`${status} ${text}`);
    return true;
  };
  await until(`${value} is taken`, write, SOON);
}

/** Each hears of what is written at the other one. */
async function assertInTouch(when: string): Promise<void> {
  // A token lasts for ten minutes.
  const session = await until("logged in", () => primary.rest.login(admin.email, admin.password), SOON);
  await write(primary, session, `at the primary ${when}`);
  await holds("the gateway has it", gateway, () => app, `at the primary ${when}`);
  await write(gateway, app, `at the gateway ${when}`);
  await holds("the primary has it", primary, () => session, `at the gateway ${when}`);
}

test("the primary is upgraded first, and its older gateway goes on", async () => {
  await assertInTouch("before");
  await replace(primary, undefined);
  await assertInTouch("after the primary");
});

test("the gateway follows", async () => {
  await replace(gateway, undefined);
  await assertInTouch("after both");
});

test("a gateway that is newer than its primary serves too", async () => {
  // One that cannot work with the database of a newer version cannot come back, and reads no newer heartbeats either.
  if (older.knowsNewer) await replace(primary, older);
  await assertInTouch("at the end");
});
