import { Unavailable } from "../errors.ts";
import { TestPki } from "../pki/testing/installation.ts";
import { FakeAuditLog } from "../ports/fake-audit-log.ts";
import { FakeFleetStore } from "../ports/fake-fleet-store.ts";
import type { KnownCertificate } from "../ports/fleet-store.ts";
import { actor } from "../ports/samples.ts";
import type { FleetAdmission, FleetAdmissionParts } from "./admission.ts";
import { FLEET_IDENTITY, FleetCa } from "./fleet-ca.ts";
import { memberName } from "./member.ts";
import { certificatesOf, NPR, newCsr, TestFleet } from "./testing/fleet.ts";

const DAY_MS = 24 * 3_600_000;

let pki: TestPki;
let store: FakeFleetStore;
let fleet: TestFleet;
let clock: number;
let problems: unknown[];
const admissions: FleetAdmission[] = [];

beforeEach(async () => {
  pki = await TestPki.start();
  clock = 0;
  problems = [];
  store = new FakeFleetStore(pki.database, pki.store, () => {
    void fleet.certificates.sign(pki.writer).finally(() => fleet.registrations.hint());
  });
  const audit = new FakeAuditLog(pki.database);
  fleet = new TestFleet({ store, pki: pki.store, keys: pki.keys, audit, now: () => pki.now });
  await fleet.certificates.ensure(pki.writer);
});
afterEach(async () => {
  for (const admission of admissions.splice(0)) await admission.stop();
});

function admission(change: Partial<FleetAdmissionParts> = {}): FleetAdmission {
  const onProblem = (error: unknown) => void problems.push(error);
  const made = fleet.admission({ clock: () => clock, onProblem, ...change });
  admissions.push(made);
  return made;
}

async function gateway(name: string): Promise<{ readonly id: string; readonly der: Buffer; readonly serial: string }> {
  const { certificates, gatewayId: id } = await fleet.register(await fleet.token(name), await newCsr());
  const [leaf] = certificatesOf(certificates);
  return { id, der: Buffer.from(leaf.raw), serial: leaf.serialNumber.toLowerCase() };
}

const codeOf = (admit: () => unknown): string => {
  try {
    admit();
    return "admitted";
  } catch (error) {
    return (error as Unavailable).code;
  }
};

test("a member is who its certificate says, as long as that is in the set", async () => {
  const { id, der, serial } = await gateway("gw-a");
  const set = admission();
  await set.read();
  expect(set.admit(der)).toEqual({ gatewayId: id, name: "gw-a", ...NPR, serialNumber: serial });
  expect(set.root()).toEqual(await fleet.ca.root());
  const left: string[] = [];
  const stop = set.onLeft((...told) => void left.push(...told));
  await set.read();
  expect(left).toEqual([]);
  await store.revoke(pki.writer, id, pki.now, []);
  expect(codeOf(() => set.admit(der))).toBe("admitted");
  await set.read();
  expect(left).toEqual([serial, "GatewayRevoked"]);
  expect(codeOf(() => set.admit(der))).toBe("GatewayRevoked");
  stop();
  await set.read();
  expect(left).toEqual([serial, "GatewayRevoked"]);
});

test("a set that is older than five seconds admits nobody, until it is read again", async () => {
  const { der } = await gateway("gw-a");
  let answers = true;
  const admitted: FakeFleetStore["certificates"] = (...asked) =>
    answers ? store.certificates(...asked) : Promise.reject(new Unavailable("DatabaseUnavailable", "no answer"));
  const set = admission({ store: { certificates: admitted } });
  await set.read();
  answers = false;
  clock += 5_000;
  await set.read();
  expect(problems).toMatchObject([{ code: "DatabaseUnavailable" }]);
  expect(codeOf(() => set.admit(der))).toBe("admitted");
  clock += 1;
  expect(codeOf(() => set.admit(der))).toBe("FleetStateStale");
  answers = true;
  await set.read();
  expect(codeOf(() => set.admit(der))).toBe("admitted");
});

test("the age of a set counts from when its reading began", async () => {
  const { der } = await gateway("gw-a");
  const admitted: FakeFleetStore["certificates"] = (...asked) => {
    clock += 5_001;
    return store.certificates(...asked);
  };
  const set = admission({ store: { certificates: admitted } });
  await set.read();
  expect(codeOf(() => set.admit(der))).toBe("FleetStateStale");
});

test("one that was signed after the set was read is asked to repeat, and then is known", async () => {
  const set = admission();
  await set.read();
  clock += 10;
  const { der } = await gateway("gw-a");
  expect(codeOf(() => set.admit(der))).toBe("FleetStateStale");
  clock += 10;
  await set.read();
  expect(codeOf(() => set.admit(der))).toBe("admitted");
});

test("one that a row says is out is revoked, at once", async () => {
  const { id, der } = await gateway("gw-a");
  await store.revoke(pki.writer, id, pki.now, []);
  const set = admission();
  await set.read();
  expect(codeOf(() => set.admit(der))).toBe("GatewayRevoked");
});

test("one that an older state was restored under is unknown, and admitted again when its row comes back", async () => {
  const { der, serial } = await gateway("gw-a");
  let restored = false;
  const certificates: FakeFleetStore["certificates"] = async (...asked) =>
    restored ? [] : store.certificates(...asked);
  const set = admission({ store: { certificates } });
  const left: string[] = [];
  set.onLeft((...told) => void left.push(...told));
  await set.read();
  expect(codeOf(() => set.admit(der))).toBe("admitted");
  restored = true;
  clock += 10;
  await set.read();
  expect(left).toEqual([serial, "CertificateUnknown"]);
  expect(codeOf(() => set.admit(der))).toBe("CertificateUnknown");
  restored = false;
  await set.read();
  expect(codeOf(() => set.admit(der))).toBe("admitted");
});

test("one that is not in a younger set either is unknown", async () => {
  const { der } = await gateway("gw-a");
  const set = admission({ store: { certificates: async () => [] } });
  await set.read();
  clock += 10;
  expect(codeOf(() => set.admit(der))).toBe("FleetStateStale");
  clock += 10;
  await set.read();
  expect(codeOf(() => set.admit(der))).toBe("CertificateUnknown");
});

test("a certificate that has ended leaves the set", async () => {
  const { der, serial } = await gateway("gw-a");
  const set = admission();
  const left: string[] = [];
  set.onLeft((...told) => void left.push(...told));
  await set.read();
  expect(codeOf(() => set.admit(der))).toBe("admitted");
  pki.passes(91 * DAY_MS);
  expect(codeOf(() => set.admit(der))).toBe("CertificateExpired");
  await set.read();
  expect(left).toEqual([serial, "CertificateExpired"]);
  expect(codeOf(() => set.admit(der))).toBe("CertificateExpired");
  expect(codeOf(() => admission().admit(der))).toBe("FleetNotReady");
});

test("what the fleet's CA did not sign for a gateway is not admitted, whatever it says", async () => {
  const { id, der } = await gateway("gw-a");
  const set = admission();
  await set.read();
  const root = await pki.root();
  const name = memberName(pki.keys.installationId, { gatewayId: id, ...NPR });
  const subject = [[{ type: "2.5.4.3", value: "gw-a" }]];
  const said = { profile: "Client" as const, subject, subjectAltNames: [name] };
  const { certificate: foreign = der } = await pki.issue(root, "foreign", 1, said);
  const fleetCa = await fleet.ca.ensure(pki.writer);
  const ours = { profile: "Server" as const, subject, subjectAltNames: [{ kind: "dns", value: "a.example" } as const] };
  const { certificate: server = der } = await pki.issue(fleetCa, "server", 1, ours);
  const elsewhere = memberName("5f4f2a65-0a5e-4a53-8b5c-0c6f1a2b3c4d", { gatewayId: id, ...NPR });
  const { certificate: other = der } = await pki.issue(fleetCa, "other", 1, { ...said, subjectAltNames: [elsewhere] });
  const forged = Buffer.from(der);
  forged.writeUInt8(forged.readUInt8(forged.length - 1) ^ 1, forged.length - 1);
  for (const stranger of [foreign, server, other, forged, Buffer.from("no certificate"), set.root()]) {
    expect(codeOf(() => set.admit(stranger))).toBe("CertificateUnknown");
  }
  expect(codeOf(() => set.admit(der))).toBe("admitted");
  expect(codeOf(() => set.admit(forged))).toBe("CertificateUnknown");
});

test("one whose revocation was taken out of its row is not admitted, and the others are", async () => {
  const [tampered, good] = [await gateway("gw-a"), await gateway("gw-b")];
  const authority = await pki.store.findAuthority(FLEET_IDENTITY);
  const record = await pki.store.certificate(authority?.id ?? "", tampered.serial);
  if (record === undefined) throw new TypeError("the certificate is gone");
  await pki.authorities.revoke(pki.writer, record, { reason: "keyCompromise" }, actor);
  const { revocation: _, ...edited } = (await pki.store.certificate(record.authorityId, tampered.serial)) ?? record;
  const put = async (...asked: Parameters<FakeFleetStore["certificates"]>): Promise<readonly KnownCertificate[]> => [
    ...(await store.certificates(...asked)),
    { gatewayId: tampered.id, admitted: true, status: edited },
  ];
  const set = admission({ store: { certificates: put } });
  await set.read();
  clock += 10;
  await set.read();
  expect(problems[0]).toMatchObject({ code: "TamperDetected" });
  expect(codeOf(() => set.admit(tampered.der))).not.toBe("admitted");
  expect(codeOf(() => set.admit(good.der))).toBe("admitted");
});

test("a root that was exchanged in its row is not believed", async () => {
  const { der } = await gateway("gw-a");
  const [attacker] = (await (await TestPki.start()).root()).generations;
  const { authorities } = fleet;
  const exchanged = new FleetCa({
    ensure: (...asked) => authorities.ensure(...asked),
    signingCa: (...asked) => authorities.signingCa(...asked),
    describe: async (identity) => {
      const found = await authorities.describe(identity);
      const generations = found?.generations.map((own) => ({ ...own, ...attacker, sealedKey: own.sealedKey }));
      return found && { ...found, generations: generations ?? [] };
    },
  });
  const set = admission({ ca: exchanged });
  await set.read();
  expect(problems).toMatchObject([{ code: "TamperDetected" }]);
  expect(codeOf(() => set.admit(der))).toBe("FleetNotReady");
  expect(codeOf(() => set.root())).toBe("FleetNotReady");
});

test("a hint is followed at once, and one that comes while it reads by another reading", async () => {
  const { promise: reading, resolve: begin } = Promise.withResolvers<void>();
  const { promise: mayEnd, resolve: end } = Promise.withResolvers<void>();
  let reads = 0;
  const admitted: FakeFleetStore["certificates"] = async (...asked) => {
    reads += 1;
    const found = await store.certificates(...asked);
    if (reads === 1) {
      begin();
      await mayEnd;
    }
    return found;
  };
  const set = admission({ store: { certificates: admitted }, readEveryMs: 1_000_000 });
  set.hint();
  expect(reads).toBe(0);
  set.start();
  await reading;
  const { der } = await gateway("gw-a");
  set.hint();
  set.hint();
  end();
  await set.stop();
  expect(reads).toBe(2);
  expect(codeOf(() => set.admit(der))).toBe("admitted");
});

test("without hints it reads from time to time, also after it failed", async () => {
  const { promise: third, resolve } = Promise.withResolvers<void>();
  let reads = 0;
  const admitted: FakeFleetStore["certificates"] = async (...asked) => {
    reads += 1;
    if (reads === 2) throw new Unavailable("DatabaseUnavailable", "no answer");
    if (reads === 3) resolve();
    return store.certificates(...asked);
  };
  admission({ store: { certificates: admitted }, readEveryMs: 5 }).start();
  await third;
});
