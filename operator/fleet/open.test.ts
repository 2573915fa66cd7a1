/** As in a running installation: one process that leads, another one that serves gateways, and PostgreSQL between them. */
import { pino } from "pino";
import { z } from "zod";
import { openStores, type Stores } from "../../adapters/postgres/stores.ts";
import { openInstallation } from "../../adapters/postgres/testing/installation.ts";
import { startServer, type TestServer } from "../../adapters/postgres/testing/server.ts";
import { spkiFingerprint } from "../../core/fleet/bootstrap-token.ts";
import { GatewayAway } from "../../core/fleet/tasks.ts";
import { certificatesOf, FROM, NPR, newCsr, TestFleet } from "../../core/fleet/testing/fleet.ts";
import { UNLED } from "../../core/ports/vault-store.ts";
import { until } from "../../lab/poll.ts";
import { FleetChores } from "../fleet-chores.ts";
import { type Fleet, openFleet } from "./open.ts";

const soon = { timeoutMs: 10_000, intervalMs: 20 };
const log = pino({ level: "silent" });

let server: TestServer;
let leading: Stores;
let serving: Stores;
let fleet: Fleet;
let stopLeading: () => Promise<void>;

beforeAll(async () => {
  server = await startServer();
  const installation = await openInstallation(await server.database());
  leading = installation.stores;
  serving = await openStores(installation.database, installation.root);
  fleet = openFleet(serving, { clusterIssuer: () => undefined }, log, { rememberedEpoch: () => undefined });
  const { fleet: store, pki, keys, audit } = leading;
  const { certificates } = new TestFleet({ store, pki, keys, audit, now: () => new Date() });
  const chores = new FleetChores({ certificates, log, onFenced: () => {}, lookEveryMs: 1_000_000 });
  chores.start({ epoch: await leading.leadership.acquireEpoch("test") });
  const hints = leading.listenFleet({ onHint: () => chores.hint() });
  stopLeading = async () => {
    await hints.stop();
    await chores.stop();
  };
});
afterAll(async () => {
  await fleet.stop();
  await stopLeading();
  await serving.close();
  await leading.close();
  await server.stop();
});

test("a gateway registers, is admitted, renews, and is out again when it is revoked", async () => {
  const { registrations, admission } = fleet;
  const { signal } = new AbortController();
  await until("the CA is known", () => rootOf(fleet) !== undefined, soon);
  const actor = { kind: "Controller", name: "test" } as const;
  const { token } = await registrations.issueToken(UNLED, { name: "gw-a", place: NPR, actor });
  const csr = await newCsr();
  const registration = await registrations.register({ token, csr, ...NPR, version: "1.0.0" }, FROM, signal);
  const [first, root] = certificatesOf(registration.certificates).map(({ raw }) => Buffer.from(raw));
  expect(rootOf(fleet)).toEqual(root);
  const member = await admitted(first);
  await registrations.confirm(member, spkiFingerprint(first ?? Buffer.alloc(0)));

  const renewed = await registrations.renew(member, spkiFingerprint(first ?? Buffer.alloc(0)), await newCsr(), signal);
  const [second] = certificatesOf(renewed).map(({ raw }) => Buffer.from(raw));
  const again = await admitted(second);
  expect(await admitted(first)).toEqual(member);
  const left: string[] = [];
  admission.onLeft((serialNumber) => void left.push(serialNumber));
  await registrations.confirm(again, spkiFingerprint(second ?? Buffer.alloc(0)));
  await until("the older one is out", () => left.includes(member.serialNumber), soon);
  const { gatewayId: id } = member;
  const reasons = async () => (await leading.pki.certificatesOf(id, 10)).map(({ revocation }) => revocation?.reason);
  await until("the older one is revoked", async () => (await reasons())[1] !== undefined, soon);

  await leading.fleet.revoke({ epoch: await leading.fleet.epoch() }, id, new Date(), []);
  await until("the newer one is out", () => left.includes(again.serialNumber), soon);
  await until("both are revoked", async () => (await reasons()).every((reason) => reason !== undefined), soon);
  expect(await reasons()).toEqual(["cessationOfOperation", "superseded"]);
});

test("of a gateway that is away nobody waits to hear so again, until something changes about gateways", async () => {
  const kind = { kind: "Greet", body: z.string(), result: z.string() };
  const options = { environments: ["NPR"], signal: new AbortController().signal };
  const asked = () => fleet.tasks.perform("gw-away", kind, "", options).catch((error: unknown) => error);
  const away = await asked();
  expect(away).toBeInstanceOf(GatewayAway);
  expect(await asked()).toBe(away);
  const actor = { kind: "Controller", name: "test" } as const;
  const { token } = await fleet.registrations.issueToken(UNLED, { name: "gw-b", place: NPR, actor });
  const csr = await newCsr();
  await fleet.registrations.register({ token, csr, ...NPR, version: "1.0.0" }, FROM, options.signal);
  await until("it is asked again", async () => (await asked()) !== away, soon);
});

/** As a gateway does: what is not known yet is asked again. */
const admitted = (certificate: Buffer | undefined) =>
  until("it is admitted", () => fleet.admission.admit(certificate ?? Buffer.alloc(0)), soon);

function rootOf({ admission }: Fleet): Buffer | undefined {
  try {
    return admission.root();
  } catch {
    return undefined;
  }
}
