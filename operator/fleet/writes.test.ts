/** A gateway's queue, sent through the channel as it is: TLS in a WebSocket, with a certificate of the fleet. */
import { pino } from "pino";
import { type Channel, type ChannelOptions, openChannel } from "../../adapters/channel/client.ts";
import { TestFleet as TestCa, TestPrimary } from "../../adapters/channel/testing/primary.ts";
import { memoryRateCounters } from "../../adapters/memory/rate-counters.ts";
import type { FleetAdmission } from "../../core/fleet/admission.ts";
import { parseBootstrapToken } from "../../core/fleet/bootstrap-token.ts";
import type { Registration } from "../../core/fleet/protocol.ts";
import { certificatesOf, NPR, TestFleet } from "../../core/fleet/testing/fleet.ts";
import { WritesWorld } from "../../core/fleet/testing/writes-world.ts";
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
import type { FleetServices } from "./services.ts";
import { UNASKED } from "./testing/unasked.ts";

const log = pino({ level: "silent" });
const soon = { timeoutMs: 30_000, intervalMs: 10 };
/** What REST takes in one request, less what stands around it. */
const LARGEST = 1_048_576 - 1_024;

let world: WritesWorld;
let pki: TestPki;
let store: FakeFleetStore;
let fleet: TestFleet;
let admission: FleetAdmission;
let chores: FleetChores;
let channel: FleetChannel;
let primary: TestPrimary;
let url: string;
let session: Channel;
let gatewayId: string;
const channels: Channel[] = [];

beforeEach(async () => {
  world = await WritesWorld.start();
  world.pass(1_000);
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
  // As it is after a restore, too.
  const writes: FleetServices["writes"] = {
    apply: (...given) => world.primary.apply(...given),
    forgotten: (...given) => world.primary.forgotten(...given),
  };
  channel = new FleetChannel({
    services: { ...UNASKED, registrations, writes },
    registrations,
    admission,
    rateCounters: memoryRateCounters,
    log,
  });
  const outer = await TestCa.make();
  primary = new TestPrimary(await outer.outer(), channel.server);
  outer.dispose();
  url = await primary.listen();
  session = await registered();
  world.ask = async (path, body) => session.request("POST", path, body);
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

async function registered(): Promise<Channel> {
  const token = await fleet.token("gw-npr");
  const { rootFingerprint } = parseBootstrapToken(token);
  const stranger = await open({ trust: { kind: "Fingerprint", sha256OfRootSpki: rootFingerprint } });
  const key = await generateKey({ algorithm: "ECDSA", size: 256 });
  const csr = pem("CERTIFICATE REQUEST", await createCsr([], [], new LocalSigner(key)));
  const answer = await stranger.request("POST", "/fleet/v1/registration", { token, csr, ...NPR, version: "1.0.0" });
  const { certificates, ...identity } = answer.body as Registration;
  ({ gatewayId } = identity);
  const [, root] = certificatesOf(certificates);
  const trust = { kind: "Root", pem: root.toString() } as const;
  const client = { key: key.export({ type: "pkcs8", format: "pem" }).toString(), certificates };
  const opened = await open({ trust, client });
  const confirmed = async () => (await opened.request("POST", "/fleet/v1/confirmation", {})).status === 204;
  await until("it is confirmed", confirmed, soon);
  return opened;
}

const stateOf = async (id: string) => (await world.queue.find(id))?.state;

test("what waits goes through it, by name and environment of the certificate, and what was lost goes again", async () => {
  const restore = world.backup();
  const ids: string[] = [];
  for (let n = 0; n < 250; n++) ids.push((await world.accept(n % 2 ? "one" : "two", { a: `${n}` }, 1)).id);
  for (let n = 0; n < 3; n++) expect(await world.turn()).toBe(true);
  for (const id of ids) expect(await stateOf(id)).toBe("Applied");
  expect([(await world.values("one")).a, (await world.values("two")).a]).toEqual(["249", "248"]);
  const made = world.atPrimary.audit.findLast(({ entry }) => entry.action === "SecretVersionCreated")?.entry;
  expect(made?.actor).toMatchObject({ subject: "Gateway gw-npr", via: "GatewayCertificate" });
  restore();
  await world.settle();
  expect((await world.history("one")).map(({ values }) => values.a)).toHaveLength(126);
});

test("the largest write that REST takes fits into it", async () => {
  const { id } = await world.accept("one", { a: "x".repeat(LARGEST) }, 1);
  expect(await world.turn()).toBe(true);
  expect(await stateOf(id)).toBe("Applied");
});

test("of a gateway that is revoked nothing is taken, and what waits stays", async () => {
  await store.revoke(pki.writer, gatewayId, new Date(), []);
  await session.closed;
  const { id } = await world.accept("one", { a: "late" }, 1);
  await expect(world.turn()).rejects.toThrow();
  expect([await stateOf(id), (await world.values("one")).a]).toEqual(["Waiting", "one a"]);
});
