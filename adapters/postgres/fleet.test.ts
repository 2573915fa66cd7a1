/** The fleet's registry on PostgreSQL: a leader and a replica, each with its own pool, and somebody who writes by hand. */
import { Fenced } from "../../core/errors.ts";
import { spkiFingerprint } from "../../core/fleet/bootstrap-token.ts";
import { FleetRefused } from "../../core/fleet/errors.ts";
import type { Member } from "../../core/fleet/member.ts";
import { memberOf } from "../../core/fleet/member.ts";
import type { Registration } from "../../core/fleet/protocol.ts";
import type { RegistrationsParts } from "../../core/fleet/registrations.ts";
import { certificatesOf, NPR, newCsr, PRO, TestFleet } from "../../core/fleet/testing/fleet.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import type { DatabaseOptions } from "./database.ts";
import type { HintListener } from "./hint-listener.ts";
import { openStores, type Stores } from "./stores.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

/** Without the hint the test would wait for it until its own time is over. */
const NEVER_MS = 1_000_000;

let server: TestServer;
let database: DatabaseOptions;
let leading: Stores;
let serving: Stores;
let leader: TestFleet;
let replica: TestFleet;
let writer: Writer;
let now: Date;
let listeners: HintListener[];
/** What the leader does at each hint. */
let atHint: () => Promise<unknown>;

beforeAll(async () => {
  server = await startServer();
});
beforeEach(async () => {
  const installation = await openInstallation(await server.restored());
  ({ database, stores: leading } = installation);
  serving = await openStores(database, installation.root);
  writer = { epoch: await leading.leadership.acquireEpoch("test") };
  now = new Date();
  leader = fleetOn(leading);
  replica = fleetOn(serving, { lookEveryMs: NEVER_MS });
  atHint = async () => {};
  await leader.certificates.ensure(writer);
  listeners = [
    leading.listenFleet({ onHint: () => void atHint() }),
    serving.listenFleet({ onHint: () => replica.registrations.hint() }),
  ];
});
afterEach(async () => {
  for (const listener of listeners) await listener.stop();
  await leading.close();
  await serving.close();
});
afterAll(() => server.stop());

function fleetOn({ fleet: store, pki, keys, audit }: Stores, change: Partial<RegistrationsParts> = {}): TestFleet {
  return new TestFleet({ store, pki, keys, audit, now: () => now }, change);
}

/** Each turn sees what was asked for before it began. */
function signing(): void {
  let turns = Promise.resolve();
  atHint = () => {
    turns = turns.then(async () => {
      await leader.certificates.sign(writer);
    });
    return turns;
  };
}
const impatient = (): TestFleet => fleetOn(serving, { patienceMs: 0 });
const sql = (text: string, values: readonly unknown[] = []) =>
  withConnection(database, (client) => client.query(text, [...values]));

function memberIn({ certificates }: Pick<Registration, "certificates">): Member {
  const [leaf] = certificatesOf(certificates);
  const found = memberOf(parseCertificate(leaf.raw), serving.keys.installationId);
  if (found === undefined) throw new TypeError("no gateway's certificate");
  return found;
}
const keyDigestOf = ({ certificates }: Pick<Registration, "certificates">): Buffer =>
  spkiFingerprint(certificatesOf(certificates)[0].raw);
const derOf = ({ certificates }: Pick<Registration, "certificates">): Buffer =>
  Buffer.from(certificatesOf(certificates)[0].raw);

test("of a hundred gateways with one token one gets a certificate, signed at a hint by who leads", async () => {
  signing();
  const token = await replica.token("gw-a");
  const csrs = await Promise.all(Array.from({ length: 100 }, newCsr));
  const results = await Promise.allSettled(csrs.map((csr) => replica.register(token, csr)));
  const winners = results.flatMap((result, at) => (result.status === "fulfilled" ? [{ ...result.value, at }] : []));
  expect(winners).toHaveLength(1);
  for (const result of results) {
    if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "TokenRefused" });
  }
  const [{ at, ...winner } = { at: -1 }] = winners;
  const again = await Promise.all(Array.from({ length: 5 }, () => replica.register(token, csrs[at] ?? "")));
  for (const each of again) expect(each).toEqual(winner);
  const issued = await sql("SELECT count(*)::integer AS count FROM certificates WHERE requester_kind = 'Gateway'");
  expect(issued.rows).toEqual([{ count: 1 }]);
});

test("a member is admitted within a hint of its registration, and not any more after its revocation", async () => {
  signing();
  const admission = replica.admission();
  const { promise: left, resolve } = Promise.withResolvers<string>();
  admission.onLeft(resolve);
  listeners.push(serving.listenFleet({ onHint: () => admission.hint() }));
  admission.start();
  try {
    const registration = await replica.register(await replica.token("gw-a"), await newCsr());
    const admitted = async () => {
      await admission.read();
      return admission.admit(derOf(registration));
    };
    const member = await admitted();
    expect(member).toEqual(memberIn(registration));
    await replica.registrations.confirm(member, keyDigestOf(registration));
    await leading.fleet.revoke(writer, member.gatewayId, now, []);
    expect(await left).toBe(member.serialNumber);
    await expect(admitted()).rejects.toMatchObject({ code: "GatewayRevoked" });
    expect(await leader.certificates.revokeSuperseded(writer)).toBe(1);
    const revoked = await sql("SELECT revocation_reason FROM certificates WHERE requester_kind = 'Gateway'");
    expect(revoked.rows).toEqual([{ revocation_reason: "cessationOfOperation" }]);
  } finally {
    await admission.stop();
  }
});

test("tokens that were tampered with, are over, foreign or replayed are refused alike", async () => {
  signing();
  const token = await replica.token("gw-a");
  const csr = await newCsr();
  const registration = await replica.register(token, csr);
  const messages = new Set<string>();
  const refused = async (attempt: Promise<unknown>) => {
    const error = await attempt.catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(FleetRefused);
    messages.add((error as Error).message);
  };
  await refused(replica.register(token, await newCsr()));
  await refused(replica.register(token.replace(/^mvg1\.../, "mvg1.AA"), await newCsr()));
  const [, secret] = (await replica.token("gw-b")).split(".");
  await refused(replica.register(`mvg1.${secret}.${"A".repeat(43)}`, await newCsr()));
  const expiring = await replica.token("gw-c");
  now = new Date(now.getTime() + 24 * 3_600_000);
  await refused(replica.register(expiring, await newCsr()));
  now = new Date();
  await replica.registrations.confirm(memberIn(registration), keyDigestOf(registration));
  await refused(replica.register(token, csr));
  expect(messages.size).toBe(1);
});

test("a gateway that is fixed to one environment does not register in another", async () => {
  const token = await replica.token("gw-a", NPR);
  const attempt = impatient().register(token, await newCsr(), PRO);
  await expect(attempt).rejects.toMatchObject({ code: "PlaceDiffers" });
  const request = { name: "gw-a", place: PRO, actor: { kind: "Controller", name: "test" } } as const;
  await expect(leader.registrations.issueToken(writer, request)).rejects.toMatchObject({ code: "PlaceDiffers" });
  signing();
  expect(memberIn(await replica.register(token, await newCsr()))).toMatchObject(NPR);
});

test("a crash between redemption and signature costs nothing: the same key comes again and is certified", async () => {
  const token = await replica.token("gw-a");
  const csr = await newCsr();
  await expect(impatient().register(token, csr)).rejects.toMatchObject({ code: "FleetNotReady" });
  await expect(impatient().register(token, await newCsr())).rejects.toMatchObject({ code: "TokenRefused" });
  signing();
  expect(await replica.register(token, csr)).toMatchObject({ name: "gw-a" });
});

test("who does not lead any more signs nothing, and leaves to the next leader what it began", async () => {
  const token = await replica.token("gw-a");
  const csr = await newCsr();
  await expect(impatient().register(token, csr)).rejects.toMatchObject({ code: "FleetNotReady" });
  const successor = { epoch: await leading.leadership.acquireEpoch("other") };
  await expect(leader.certificates.sign(writer)).rejects.toThrow(Fenced);
  await expect(leader.certificates.forget(writer)).rejects.toThrow(Fenced);
  await expect(impatient().register(token, csr)).rejects.toMatchObject({ code: "FleetNotReady" });
  expect(await leader.certificates.sign(successor)).toBe(1);
  expect(await impatient().register(token, csr)).toMatchObject({ name: "gw-a" });
  const beat = { version: "1.0.0", problems: [], queueLength: 0, certificateNotAfter: now.toISOString() };
  const member = memberIn(await impatient().register(token, csr));
  expect(await replica.registrations.heartbeat(member, beat)).toMatchObject({ epoch: successor.epoch.toString() });
});

test("rows that were written by hand make nobody a gateway", async () => {
  const tampered = { code: "TamperDetected" };
  // A token for one gateway, moved to another; and a request, changed to say another environment.
  const token = await replica.token("gw-npr", {});
  await replica.token("gw-pro", PRO);
  await sql("UPDATE fleet_tokens t SET gateway_id = g.id FROM gateways g WHERE g.name = 'gw-pro' AND t.role IS NULL");
  await expect(impatient().register(token, await newCsr(), PRO)).rejects.toMatchObject(tampered);
  await expect(impatient().register(await replica.token("gw-a"), await newCsr())).rejects.toMatchObject({
    code: "FleetNotReady",
  });
  await sql("UPDATE fleet_requests SET environment = 'PRO'");
  await expect(leader.certificates.sign(writer)).rejects.toMatchObject(tampered);
  await sql("UPDATE fleet_requests SET environment = 'NPR', requested_at = requested_at + interval '1 hour'");
  await expect(leader.certificates.sign(writer)).rejects.toMatchObject(tampered);
  const issued = await sql("SELECT FROM certificates WHERE requester_kind = 'Gateway'");
  expect(issued.rows).toEqual([]);
});

test("neither a revocation that was taken back by hand nor another root is believed", async () => {
  signing();
  const registration = await replica.register(await replica.token("gw-a"), await newCsr());
  const { gatewayId } = memberIn(registration);
  await leading.fleet.revoke(writer, gatewayId, now, []);
  await leader.certificates.revokeSuperseded(writer);
  await sql("UPDATE certificates SET revoked_at = NULL, revocation_reason = NULL WHERE requester_kind = 'Gateway'");
  await sql("UPDATE gateways SET revoked_at = NULL, valid_from_revision = 1");
  const problems: unknown[] = [];
  const admission = replica.admission({ onProblem: (error) => void problems.push(error) });
  await admission.read();
  expect(problems).toMatchObject([{ code: "TamperDetected" }]);
  const admit = () => admission.admit(derOf(registration));
  expect(admit).toThrow(expect.objectContaining({ code: "FleetStateStale" }));
  await admission.read();
  expect(admit).toThrow(expect.objectContaining({ code: "CertificateUnknown" }));
  await sql("UPDATE authority_generations SET certificate = $1", [derOf(registration)]);
  await expect(replica.ca.root()).rejects.toMatchObject({ code: "TamperDetected" });
});
