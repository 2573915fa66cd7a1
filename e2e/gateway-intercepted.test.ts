/**
 * A proxy between gateway and primary that ends TLS with a certificate that both trust, as an inspecting one of a company has it: it sees
 * neither token nor content, and what it changes ends the session.
 */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type Change, TerminatingProxy } from "../adapters/channel/testing/proxy.ts";
import { CHANNEL_HOST, CHANNEL_PATH, CHANNEL_PROTOCOL, heartbeatAnswer } from "../core/fleet/protocol.ts";
import { connected, connectGateway } from "../lab/gateway.ts";
import type { Operator, Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { Random } from "./chaos/random.ts";
import { scrape, startWorld, total, type World } from "./harness.ts";
import { found, type Surface } from "./leaks.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";
import { SimulatedGateway } from "./simulated-gateway.ts";

const NAME = "gw-npr-primary";
const SIMULATED = "gw-npr-simulated";
const SOON = { timeoutMs: 60_000, intervalMs: 100 };
const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 2 ** 31);
const SESSIONS = Number(process.env.FLIPPED_SESSIONS ?? 60);

let primary: World;
let cluster: World;
let operator: Operator;
let main: Rest;
let gateway: Rest;
let rest: RestClient;
let session: string;
let proxy: TerminatingProxy;
let url: string;
let simulated: SimulatedGateway;
const tokens: string[] = [];
const random = new Random(SEED);

beforeAll(async () => {
  [primary, cluster] = await Promise.all([startWorld(), startWorld()]);
  operator = await primary.mazevault.startOperator();
  main = await primary.mazevault.startRest();
  rest = RestClient.of(primary, main);
  const { email, password } = await firstAdmin(primary);
  session = await rest.login(email, password);
  const { certFile, keyFile } = await primary.lab.pki.issue("proxy", { commonName: "proxy", usage: "server" });
  const outer = { cert: readFileSync(certFile, "utf8"), key: readFileSync(keyFile, "utf8") };
  proxy = new TerminatingProxy(outer, Number(new URL(main.restUrl).port));
  url = await proxy.listen();
});

afterAll(async () => {
  simulated?.close();
  await proxy?.close();
  await rest?.close();
  await Promise.all([primary?.stop(), cluster?.stop()]);
});

async function bootstrap(name: string): Promise<string> {
  const { status, body } = await rest.send("POST", "/api/v1/gateways/bootstrap", {
    token: session,
    body: { name, environment: "NPR", role: "primary" },
  });
  expect(status).toBe(201);
  tokens.push(body.token);
  return body.token as string;
}

/** Of both, with the time left out, and the epoch, which a gateway knows from its second one on. */
const heard = async () =>
  (
    await primary.sql<{ name: string; heartbeat: { environmentEpoch?: string } }>(
      "SELECT name, heartbeat FROM gateways ORDER BY name",
    )
  ).map(({ name, heartbeat: { environmentEpoch: _, ...heartbeat } }) => ({ name, heartbeat }));

/** What the record says of gateways. */
const recorded = () =>
  primary.sql<{ action: string; count: number }>(
    "SELECT action, count(*)::int AS count FROM audit WHERE action LIKE 'Gateway%' OR action LIKE 'Certificate%' GROUP BY 1 ORDER BY 1",
  );

test("a gateway registers, is heard, and comes back through it", async () => {
  // What `connectGateway` hands over.
  const token = await bootstrap(NAME);
  const tokenFile = path.join(cluster.lab.dir, "operator", `${NAME}.token`);
  writeFileSync(tokenFile, token, { mode: 0o600 });
  gateway = await connectGateway({
    name: NAME,
    environment: "NPR",
    role: "primary",
    lab: cluster.lab,
    mazevault: cluster.mazevault,
    primary: { cluster: primary.lab.controlPlane, url, caFile: primary.lab.pki.caFile },
  });
  await gateway.process.restart();
  await connected({ operator: gateway, primary: { cluster: primary.lab.controlPlane }, name: NAME });

  simulated = await SimulatedGateway.make({
    url,
    token: await bootstrap(SIMULATED),
    environment: "NPR",
    role: "primary",
  });
  await simulated.register();
  expect(await simulated.heartbeat()).toMatchObject({ status: 200 });
  await simulated.renew();
  expect(proxy.forwarded.length).toBeGreaterThanOrEqual(6);
});

test("it sees neither token nor content", async () => {
  const { installationId } = (
    await primary.sql<{ installationId: string }>(`SELECT id::text AS "installationId" FROM installation`)
  )[0] ?? { installationId: "none" };
  const { gatewayId, certificates } = simulated.registration;
  const text = (value: string): Buffer => Buffer.from(value, "utf8");
  const canaries = new Map<string, Buffer>([
    ...tokens.flatMap((token, at): [string, Buffer][] => [
      [`token ${at}`, text(token)],
      [`secret of token ${at}`, Buffer.from(token.split(".")[1] ?? "", "base64url")],
    ]),
    ["a gateway's id", text(gatewayId)],
    ["a gateway's name", text(SIMULATED)],
    ["a certificate", Buffer.from(certificates.split("-----")[2] ?? "", "base64").subarray(0, 200)],
    ["the name in it", text(`mazevault://${installationId}`)],
    ...["registration", "confirmation", "heartbeat", "certificate"].map((each): [string, Buffer] => [
      `path of ${each}`,
      text(`/fleet/v1/${each}`),
    ]),
    ["HTTP/2", text("PRI * HTTP/2.0")],
    ["a field of a body", text("queueLength")],
  ]);
  const surface: Surface = ["what the proxy saw", proxy.seen];
  expect(found([surface], canaries)).toEqual([]);
  // That it would be found is shown by what the proxy may see: the outer request, and the inner handshake's server name.
  const known = [CHANNEL_PATH, CHANNEL_PROTOCOL, CHANNEL_HOST].map((each): [string, Buffer] => [each, text(each)]);
  expect(found([surface], new Map(known))).toHaveLength(known.length);
});

/** One bit of each session, at a place of its own: after so many bytes of whoever it is. */
function oneBit(): { readonly change: Change; readonly done: () => boolean } {
  let left = random.below(random.pick([300, 3_000, 6_000]));
  const sender = random.pick(["gateway", "primary"] as const);
  let done = false;
  const change: Change = (bytes, from) => {
    if (done || from !== sender) return false;
    if (left >= bytes.length) {
      left -= bytes.length;
      return false;
    }
    bytes.writeUInt8(bytes.readUInt8(left) ^ (1 << random.below(8)), left);
    done = true;
    return true;
  };
  return { change, done: () => done };
}

const flipped = async (): Promise<void> => {
  expect(await simulated.heartbeat()).toMatchObject({ status: 200 });
  // The one before the renewal, which the leader revokes a moment later.
  const isRevoked = async () => (await recorded()).some(({ action }) => action === "CertificateRevoked");
  await until("the certificate before is revoked", isRevoked, SOON);
  const before = { heard: await heard(), recorded: await recorded() };
  const outcomes = { answered: 0, changed: 0 };
  for (let n = 0; n < SESSIONS; n += 1) {
    simulated.close();
    const { change, done } = oneBit();
    proxy.change(change);
    // More than one request, so that there is something after the changed bit.
    for (let request = 0; request < 4; request += 1) {
      const answer = await simulated.heartbeat().catch(() => undefined);
      if (answer === undefined) break;
      outcomes.answered += 1;
      expect(answer.status).toBe(200);
      expect(heartbeatAnswer.parse(answer.body)).toMatchObject({ heartbeatSeconds: 60 });
    }
    proxy.change(() => false);
    if (done()) outcomes.changed += 1;
  }
  simulated.close();
  const changed = proxy.forwarded.filter((each) => each.changed);
  // One that is ending may have met two.
  expect(changed.length).toBeLessThanOrEqual(outcomes.changed);
  expect(changed.length).toBeGreaterThan(SESSIONS / 4);
  await until("all sessions with a changed bit have ended", () => changed.every(({ ended }) => ended), SOON);
  console.info(`${SESSIONS} sessions with CHAOS_SEED=${SEED}: ${JSON.stringify(outcomes)}`);
  expect(await simulated.heartbeat()).toMatchObject({ status: 200 });
  expect({ heard: await heard(), recorded: await recorded() }).toEqual(before);
};
// A session that waits for the rest of a record takes as long as opening one may.
const FLIPPED_MS = 120_000 + SESSIONS * 1_000;
test(`a bit that it changes ends the session, and nothing of it counts (CHAOS_SEED=${SEED})`, flipped, FLIPPED_MS);

test("the gateway itself goes on through it, and all is well afterwards", async () => {
  const { restarts } = gateway.process;
  const changedBefore = proxy.forwarded.filter(({ changed }) => changed).length;
  // Every session of it, as soon as it begins.
  proxy.change((bytes) => {
    const at = random.below(bytes.length);
    bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << random.below(8)), at);
    return true;
  });
  await until(
    "three sessions of it have met it",
    () => proxy.forwarded.filter(({ changed }) => changed).length >= changedBefore + 3,
    SOON,
  );
  proxy.change(() => false);
  await connected({ operator: gateway, primary: { cluster: primary.lab.controlPlane }, name: NAME });
  await until(
    "it is heard",
    async () => total(await scrape(gateway), "mazevault_gateway_heartbeat_consecutive_failures") === 0,
    SOON,
  );
  expect([gateway, operator, main].map(({ process }) => process.restarts)).toEqual([restarts, 0, 0]);
  for (const { process } of [operator, main])
    expect(readFileSync(process.logFile, "utf8")).not.toContain("InternalError");
  const verified = await rest.send("POST", "/api/v1/audit/verification", { token: session, body: {} });
  expect(verified.text).toContain('"ok":true');
});
