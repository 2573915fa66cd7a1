import { randomBytes, randomUUID } from "node:crypto";
import { Fenced } from "../errors.ts";
import type { AuditLog } from "./audit-log.ts";
import type { EnvironmentRecord, EnvironmentStore } from "./environment-store.ts";
import type { FleetStore } from "./fleet-store.ts";
import type { Leadership } from "./leadership.ts";
import { auditEntry } from "./samples.ts";
import { Conflict, type Writer } from "./vault-store.ts";

export interface EnvironmentStoreUnderTest {
  readonly environments: EnvironmentStore;
  readonly leadership: Leadership;
  readonly audit: Pick<AuditLog, "read">;
}

/** What every environment store does. `start` gives an empty one. */
export function environmentStoreContract(start: () => Promise<EnvironmentStoreUnderTest>): void {
  let store: EnvironmentStore;
  let leadership: Leadership;
  let audit: EnvironmentStoreUnderTest["audit"];
  let writer: Writer;

  beforeEach(async () => {
    ({ environments: store, leadership, audit } = await start());
    writer = { epoch: await leadership.acquireEpoch("contract") };
  });

  const gatewayId = randomUUID();
  const mac = randomBytes(32);
  const paired: EnvironmentRecord = {
    environment: "NPR",
    pair: { object: "npr", primary: "gw-npr-primary", standby: "gw-npr-dr" },
    active: "Primary",
    epoch: 1n,
    since: new Date("2026-03-19T10:00:00.123Z"),
    fencedUntil: new Date("2026-03-19T10:00:00.123Z"),
    failover: undefined,
    settled: true,
  };
  const switched: EnvironmentRecord = {
    ...paired,
    active: "Standby",
    epoch: 9_007_199_254_740_993n,
    fencedUntil: undefined,
    failover: { uid: randomUUID(), name: "npr-x7k2p" },
    settled: false,
  };
  const recorded = async () =>
    (await audit.read({}, undefined, 500)).filter(({ entry }) => entry.action === "SecretRead").length;

  test("there is none, until one is written; it comes back as it was written, with its audit row", async () => {
    expect(await store.ground(gatewayId, "NPR")).toMatchObject({ environment: undefined, succeededAt: undefined });
    expect((await store.environments()).stored).toEqual([]);
    await store.write(writer, 0n, paired, mac, [auditEntry(randomUUID())]);
    expect((await store.ground(gatewayId, "NPR")).environment).toEqual({ record: paired, generation: 1n, mac });
    await store.write(writer, 1n, switched, mac, []);
    expect((await store.ground(gatewayId, "NPR")).environment).toEqual({ record: switched, generation: 2n, mac });
    await store.write(writer, 2n, { ...switched, pair: undefined }, mac, []);
    expect((await store.environments()).stored).toEqual([
      { record: { ...switched, pair: undefined }, generation: 3n, mac },
    ]);
    expect(await recorded()).toBe(1);
  });

  test("environments have nothing to do with each other, and come in the order of their names", async () => {
    const pro: EnvironmentRecord = { ...switched, environment: "PRO" };
    await store.write(writer, 0n, pro, mac, []);
    await store.write(writer, 0n, paired, mac, []);
    expect((await store.environments()).stored.map(({ record }) => record)).toEqual([paired, pro]);
    expect((await store.ground(gatewayId, "DEV")).environment).toBeUndefined();
  });

  test("what was read before another write replaces nothing, and nothing is put on record", async () => {
    await store.write(writer, 0n, paired, mac, []);
    await expect(store.write(writer, 0n, switched, mac, [auditEntry(randomUUID())])).rejects.toThrow(Conflict);
    await store.write(writer, 1n, paired, mac, []);
    await expect(store.write(writer, 1n, switched, mac, [auditEntry(randomUUID())])).rejects.toThrow(Conflict);
    expect((await store.ground(gatewayId, "NPR")).environment).toEqual({ record: paired, generation: 2n, mac });
    expect(await recorded()).toBe(0);
  });

  test("who does not lead any more writes nothing", async () => {
    await store.write(writer, 0n, paired, mac, []);
    await leadership.acquireEpoch("next");
    await expect(store.write(writer, 1n, switched, mac, [])).rejects.toThrow(Fenced);
    expect((await store.ground(gatewayId, "NPR")).environment).toEqual({ record: paired, generation: 1n, mac });
  });

  test("its clock does not stand still", async () => {
    const { at } = await store.ground(gatewayId, "NPR");
    let later = at;
    while (later <= at) ({ at: later } = await store.environments());
    expect(later.getTime()).toBeGreaterThan(at.getTime());
  });
}

export interface SuccessionUnderTest {
  readonly environments: EnvironmentStore;
  readonly fleet: FleetStore;
}

/** That a gateway registered anew is known. Stores that share their gateways only. */
export function successionContract(start: () => Promise<SuccessionUnderTest>): void {
  test("a gateway that took the name of another process over is known, one that renewed its certificate is not", async () => {
    const { environments, fleet } = await start();
    const place = { environment: "NPR", role: "primary" } as const;
    const at = (seconds: number) => new Date(Date.parse("2026-03-19T10:00:00Z") + seconds * 1_000);
    const register = async (key: string, revision: number, now: Date): Promise<string> => {
      const [hash, keyDigest] = [`token ${key}`, key].map((text) => Buffer.from(text.padEnd(32)));
      if (hash === undefined || keyDigest === undefined) throw new TypeError("both are there");
      const expiresAt = new Date(now.getTime() + 60_000);
      await fleet.addToken({ epoch: undefined }, { name: "gw", place, hash, expiresAt, mac: hash, audit: () => [] });
      const redeemed = await fleet.redeem({ hash, keyDigest, place, now, audit: () => [] });
      if (typeof redeemed === "string") throw new Error(redeemed);
      await fleet.confirm(redeemed.id, keyDigest, revision, now, []);
      return redeemed.id;
    };
    const id = await register("first", 1, at(0));
    expect((await environments.ground(id, "NPR")).succeededAt).toBeUndefined();
    await register("second", 2, at(60));
    expect((await environments.ground(id, "NPR")).succeededAt).toEqual(at(60));
    await fleet.confirm(id, Buffer.from("renewed".padEnd(32)), 3, at(120), []);
    expect((await environments.ground(id, "NPR")).succeededAt).toEqual(at(60));
  });
}
