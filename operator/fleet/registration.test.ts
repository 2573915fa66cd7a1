/** The whole way of a gateway: from its token to its revocation, with all parts but PostgreSQL. */
import { pino } from "pino";
import { type Channel, type ChannelOptions, type ChannelResponse, openChannel } from "../../adapters/channel/client.ts";
import { TestFleet as TestCa, TestPrimary } from "../../adapters/channel/testing/primary.ts";
import { memoryRateCounters } from "../../adapters/memory/rate-counters.ts";
import type { FleetAdmission } from "../../core/fleet/admission.ts";
import { parseBootstrapToken } from "../../core/fleet/bootstrap-token.ts";
import type { Registration } from "../../core/fleet/protocol.ts";
import { certificatesOf, NPR, TestFleet } from "../../core/fleet/testing/fleet.ts";
import { createCsr } from "../../core/pki/csr.ts";
import { generateKey } from "../../core/pki/key.ts";
import { pem } from "../../core/pki/pem.ts";
import { LocalSigner } from "../../core/pki/signer.ts";
import { TestPki } from "../../core/pki/testing/installation.ts";
import { FakeAuditLog } from "../../core/ports/fake-audit-log.ts";
import { FakeFleetStore } from "../../core/ports/fake-fleet-store.ts";
import { until } from "../../lab/poll.ts";
import { FleetChores } from "../fleet-chores.ts";
import { FleetChannel } from "./channel.ts";
import { UNASKED } from "./testing/unasked.ts";

const log = pino({ level: "silent" });
const soon = { timeoutMs: 30_000, intervalMs: 10 };

let pki: TestPki;
let store: FakeFleetStore;
let fleet: TestFleet;
let admission: FleetAdmission;
let chores: FleetChores;
let channel: FleetChannel;

let primary: TestPrimary;
let url: string;
const channels: Channel[] = [];

beforeEach(async () => {
  pki = await TestPki.start();
  store = new FakeFleetStore(pki.database, pki.store, () => {
    chores?.hint();
    fleet?.registrations.hint();
    admission?.hint();
  });
  const audit = new FakeAuditLog(pki.database);
  fleet = new TestFleet({ store, pki: pki.store, keys: pki.keys, audit, now: () => new Date() });
  chores = new FleetChores({ certificates: fleet.certificates, log, onFenced: () => {}, lookEveryMs: 50 });
  chores.start(pki.writer);
  await until("the fleet has a CA", async () => (await fleet.ca.find()) !== undefined, soon);
  admission = fleet.admission({ readEveryMs: 20 });
  admission.start();
  const { registrations } = fleet;
  channel = new FleetChannel({
    services: { ...UNASKED, registrations },
    registrations,
    admission,
    rateCounters: memoryRateCounters,
    log,
  });
  const outer = await TestCa.make();
  primary = new TestPrimary(await outer.outer(), channel.server);
  outer.dispose();
  url = await primary.listen();
});
afterEach(async () => {
  for (const each of channels.splice(0)) each.close();
  await primary.kill();
  await channel.stop();
  await admission.stop();
  await chores.stop();
});

const open = (options: Omit<ChannelOptions, "url">): Promise<Channel> =>
  until(
    "the replica takes gateways",
    async () => {
      const opened = await openChannel({ url, ...options });
      channels.push(opened);
      return opened;
    },
    soon,
  );

async function newKey(): Promise<{ readonly key: string; readonly csr: string }> {
  const key = await generateKey({ algorithm: "ECDSA", size: 256 });
  return {
    key: key.export({ type: "pkcs8", format: "pem" }).toString(),
    csr: pem("CERTIFICATE REQUEST", await createCsr([], [], new LocalSigner(key))),
  };
}

/** A certificate that was just signed may not be known to the replica yet, which then asks to come again. */
const ask = (session: Channel, route: string, body: unknown, status: number): Promise<ChannelResponse> =>
  until(
    `${route} is answered ${status}`,
    async () => {
      const answer = await session.request("POST", `/fleet/v1/${route}`, body);
      if (answer.status !== status) throw new Error(`it is answered ${answer.status}`);
      return answer;
    },
    soon,
  );

test("a gateway registers, confirms, tells how it is, renews, and is revoked", async () => {
  const token = await fleet.token("gw-npr");
  const { rootFingerprint } = parseBootstrapToken(token);
  const stranger = await open({ trust: { kind: "Fingerprint", sha256OfRootSpki: rootFingerprint } });
  const first = await newKey();
  const request = { token, csr: first.csr, ...NPR, version: "1.0.0" };
  const registered = await stranger.request("POST", "/fleet/v1/registration", request);
  expect(registered).toMatchObject({ status: 201, body: { name: "gw-npr", environment: "NPR", role: "primary" } });
  const { gatewayId, certificates } = registered.body as Registration;

  const [, root] = certificatesOf(certificates);
  const trust = { kind: "Root", pem: root.toString() } as const;
  const session = await open({ trust, client: { key: first.key, certificates } });
  await ask(session, "confirmation", {}, 204);
  const other = await newKey();
  const again = await stranger.request("POST", "/fleet/v1/registration", { ...request, csr: other.csr });
  expect(again).toMatchObject({ status: 403, body: { code: "TokenRefused" } });
  const beat = { version: "1.0.0", problems: [], queueLength: 0, certificateNotAfter: new Date().toISOString() };
  expect((await ask(session, "heartbeat", beat, 200)).body).toMatchObject({ heartbeatSeconds: 60 });
  expect(await store.gateway("gw-npr")).toMatchObject({ heartbeat: { version: "1.0.0" } });

  const renewed = await ask(session, "certificate", { csr: other.csr }, 201);
  const client = { key: other.key, certificates: (renewed.body as { certificates: string }).certificates };
  const second = await open({ trust, client });
  await ask(second, "confirmation", {}, 204);
  expect(await session.closed).toMatchObject({ reason: "GatewayRevoked" });
  await ask(second, "heartbeat", beat, 200);

  await store.revoke(pki.writer, gatewayId, new Date(), []);
  expect(await second.closed).toMatchObject({ reason: "GatewayRevoked" });
  expect(await (await open({ trust, client })).closed).toMatchObject({ reason: "GatewayRevoked" });
});
