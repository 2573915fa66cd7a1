import { pino } from "pino";
import { spkiFingerprint } from "../core/fleet/bootstrap-token.ts";
import { FLEET_IDENTITY } from "../core/fleet/fleet-ca.ts";
import { certificatesOf, newCsr, TestFleet } from "../core/fleet/testing/fleet.ts";
import { TestPki } from "../core/pki/testing/installation.ts";
import { FakeAuditLog } from "../core/ports/fake-audit-log.ts";
import { FakeFleetStore } from "../core/ports/fake-fleet-store.ts";
import { until } from "../lab/poll.ts";
import { FleetChores, type FleetChoresDependencies } from "./fleet-chores.ts";

const soon = { timeoutMs: 5_000, intervalMs: 5 };
const NEVER_MS = 1_000_000;

let pki: TestPki;
let store: FakeFleetStore;
let fleet: TestFleet;
let chores: FleetChores;
let fenced: string[];
let told: string[];

beforeEach(async () => {
  pki = await TestPki.start();
  fenced = [];
  told = [];
  store = new FakeFleetStore(pki.database, pki.store, () => {
    chores?.hint();
    fleet?.registrations.hint();
  });
  const audit = new FakeAuditLog(pki.database);
  fleet = new TestFleet({ store, pki: pki.store, keys: pki.keys, audit, now: () => pki.now });
});
afterEach(() => chores.stop());

function start(change: Partial<FleetChoresDependencies> = {}, writer = pki.writer): void {
  chores = new FleetChores({
    certificates: fleet.certificates,
    log: pino({ level: "warn" }, { write: (line: string) => void told.push(line) }),
    onFenced: ({ message }) => void fenced.push(message),
    lookEveryMs: NEVER_MS,
    ...change,
  });
  chores.start(writer);
}

const made = () => until("the CA", async () => (await fleet.ca.find()) !== undefined, soon);

test("the leader makes the CA, signs at a hint, and revokes what a confirmation or a revocation leaves", async () => {
  start();
  await made();
  const { certificates, gatewayId } = await fleet.register(await fleet.token("gw-a"), await newCsr());
  await store.revoke(pki.writer, gatewayId, pki.now, []);
  await until(
    "the revocation",
    async () => (await pki.store.certificatesOf(gatewayId, 1))[0]?.revocation !== undefined,
    soon,
  );
  expect(spkiFingerprint(certificatesOf(certificates)[1].raw)).toEqual(spkiFingerprint(await fleet.ca.root()));
  expect(told).toEqual([]);
});

test("without any hint it looks from time to time", async () => {
  start({ lookEveryMs: 10 });
  await made();
  const quiet = new FakeFleetStore(pki.database, pki.store);
  const { certificates } = new TestFleet({ ...fleet.ground, store: quiet });
  await chores.stop();
  start({ lookEveryMs: 10, certificates });
  const asking = new TestFleet({ ...fleet.ground, store: quiet }, { lookEveryMs: 5 });
  expect(await asking.register(await asking.token("gw-a"), await newCsr())).toMatchObject({ name: "gw-a" });
});

test("what fails is told, does not keep the rest from being done, and is tried again", async () => {
  let failures = 2;
  const done: string[] = [];
  start({
    lookEveryMs: 5,
    certificates: {
      ensure: async () => {
        if (failures-- > 0) throw new Error("no CA today");
        done.push("ensure");
      },
      sign: async () => done.push("sign"),
      revokeSuperseded: () => Promise.reject(new Error("no revocation today")),
      forget: async () => done.push("forget"),
    },
  });
  await until("the third turn", () => done.filter((each) => each === "sign").length >= 4, soon);
  await chores.stop();
  expect(done.filter((each) => each === "ensure")).toHaveLength(1);
  expect(done.filter((each) => each === "forget")).toHaveLength(1);
  expect(done.indexOf("sign")).toBeLessThan(done.indexOf("ensure"));
  expect(told.filter((line) => line.includes("make the fleet's CA"))).toHaveLength(2);
  expect(told.join("")).toContain("revoke certificates of gateways");
});

test("a leader whose term is over makes nothing, and is told so", async () => {
  start({}, { epoch: 99n });
  await until("the fence", () => fenced.length > 0, soon);
  expect(await pki.store.findAuthority(FLEET_IDENTITY)).toBeUndefined();
});
