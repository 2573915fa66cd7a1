import { randomBytes, randomUUID } from "node:crypto";
import { Fenced } from "../errors.ts";
import { gatewayEntry } from "../fleet/audit-entries.ts";
import type { FleetStore } from "./fleet-store.ts";
import type { Leadership } from "./leadership.ts";
import { actor } from "./samples.ts";
import type { SigningOrder, SigningStore } from "./signing-store.ts";
import { UNLED, type Writer } from "./vault-store.ts";

const NOW = new Date("2026-05-01T12:00:00.123Z");
const later = (ms: number): Date => new Date(NOW.getTime() + ms);
const LONG_AGO = new Date(0);
const certificates = "-----BEGIN CERTIFICATE-----";
const refusal = { code: "PolicyViolated", message: "dnsNames[0]: it is not allowed" } as const;

export interface SigningStoreUnderTest {
  readonly signing: SigningStore;
  readonly fleet: Pick<FleetStore, "addToken">;
  readonly leadership: Leadership;
}

/** What every store of what gateways want signed does. `start` gives an empty one. */
export function signingStoreContract(start: () => Promise<SigningStoreUnderTest>): void {
  let store: SigningStore;
  let leadership: Leadership;
  let writer: Writer;
  /** Ids of two gateways. */
  let [one, other] = ["", ""];

  beforeEach(async () => {
    const under = await start();
    ({ signing: store, leadership } = under);
    writer = { epoch: await leadership.acquireEpoch("contract") };
    const known = async (name: string): Promise<string> => {
      const audit = (id: string) => [gatewayEntry("GatewayTokenIssued", { id, name }, actor)];
      const token = { name, place: {}, hash: randomBytes(32), expiresAt: later(1_000), mac: randomBytes(32), audit };
      const gateway = await under.fleet.addToken(UNLED, token);
      if (typeof gateway === "string") throw new Error(gateway);
      return gateway.id;
    };
    [one, other] = [await known("gw-npr"), await known("gw-pro")];
  });

  const order = (change: Partial<SigningOrder> = {}, gatewayId = one): SigningOrder => ({
    id: randomUUID(),
    kind: "Sign",
    gateway: { gatewayId, name: "gw-npr", environment: "NPR" },
    body: JSON.stringify({ csr: "-----BEGIN", usages: ["ü"] }),
    digest: randomBytes(32),
    requestedAt: NOW,
    mac: randomBytes(32),
    ...change,
  });
  const asked = async (change: Partial<SigningOrder> = {}, gatewayId = one): Promise<SigningOrder> => {
    const made = order(change, gatewayId);
    expect(await store.ask(made)).toBe(true);
    return made;
  };

  test("what is asked waits as it was written, oldest first, until it is answered", async () => {
    const second = await asked({ requestedAt: later(2) });
    const first = await asked({ kind: "Revoke" });
    expect(await store.pending(LONG_AGO, 10)).toEqual([first, second]);
    expect(await store.pending(later(1), 10)).toEqual([second]);
    expect(await store.outcome(first.id)).toBeUndefined();
    await store.answer(writer, second, { certificates }, later(1_000), "3f0a");
    await store.answer(writer, first, {}, later(1_000));
    expect(await store.pending(LONG_AGO, 10)).toEqual([]);
    expect(await store.outcome(second.id)).toEqual({ certificates });
    expect(await store.outcome(first.id)).toEqual({});
    expect(await store.outcome(randomUUID())).toBeUndefined();
  });

  test("repeating what waits makes it young again, as it is repeated; by another signature it is the same", async () => {
    const first = await asked();
    const again = { ...first, body: "{}", requestedAt: later(5), mac: randomBytes(32) };
    expect(await store.ask(again)).toBe(true);
    expect(await store.pending(later(5), 10)).toEqual([again]);
    expect(await store.forget(writer, NOW, later(5))).toBe(0);
    // The leader has read it as it was before, and comes to it once more.
    await store.answer(writer, first, { certificates }, later(1_000), "3f0a");
    expect(await store.outcome(first.id)).toBeUndefined();
  });

  test("repeating what was done changes nothing", async () => {
    const first = await asked();
    await store.answer(writer, first, { certificates }, later(1_000), "3f0a");
    expect(await store.ask({ ...first, body: "{}", requestedAt: later(5), mac: randomBytes(32) })).toBe(true);
    expect(await store.outcome(first.id)).toEqual({ certificates });
    expect(await store.signed(one, "3f0a")).toEqual([first]);
  });

  test("an id stands for one thing, of one gateway, for one environment", async () => {
    const first = await asked();
    expect(await store.ask({ ...first, digest: randomBytes(32) })).toBe(false);
    expect(await store.ask({ ...first, kind: "Revoke" })).toBe(false);
    expect(await store.ask({ ...first, gateway: { ...first.gateway, environment: "PRO" } })).toBe(false);
    expect(await store.ask({ ...first, gateway: { ...first.gateway, gatewayId: other } })).toBe(false);
    expect(await store.pending(LONG_AGO, 10)).toEqual([first]);
  });

  test("what was refused is asked anew, by its own gateway only", async () => {
    const first = await asked();
    await store.answer(writer, first, { refusal }, later(1_000));
    expect(await store.outcome(first.id)).toEqual({ refusal });
    expect(await store.ask({ ...first, gateway: { ...first.gateway, gatewayId: other } })).toBe(false);
    const again = { ...first, digest: randomBytes(32), requestedAt: later(7), mac: randomBytes(32) };
    expect(await store.ask(again)).toBe(true);
    expect(await store.outcome(first.id)).toBeUndefined();
    expect(await store.pending(LONG_AGO, 10)).toEqual([again]);
    // The leader has read it as it was before.
    await store.answer(writer, first, { certificates }, later(1_000), "3f0a");
    expect(await store.outcome(first.id)).toBeUndefined();
  });

  test("the first answer counts", async () => {
    const first = await asked();
    await store.answer(writer, first, { certificates }, later(1_000), "3f0a");
    await store.answer(writer, first, { refusal }, later(1_000));
    expect(await store.outcome(first.id)).toEqual({ certificates });
  });

  test("one gateway does not hold up the others", async () => {
    const [first, second] = [await asked(), await asked({ requestedAt: later(1) })];
    await asked({ requestedAt: later(2) });
    const theirs = await asked({ requestedAt: later(3) }, other);
    expect(await store.pending(LONG_AGO, 2)).toEqual([first, second, theirs]);
  });

  test("what was signed is found by its gateway and serial number", async () => {
    const first = await asked();
    await store.answer(writer, first, { certificates }, later(1_000), "3f0a");
    expect(await store.signed(one, "3f0a")).toEqual([first]);
    expect(await store.signed(other, "3f0a")).toEqual([]);
    expect(await store.signed(one, "3f0b")).toEqual([]);
  });

  test("is forgotten when its time is over", async () => {
    const kept = await asked();
    await store.answer(writer, kept, { certificates }, later(1_000), "3f0a");
    const over = await asked();
    await store.answer(writer, over, { refusal }, later(-1));
    const left = await asked({ requestedAt: later(-10) });
    const waits = await asked();
    expect(await store.forget(writer, NOW, later(-5))).toBe(2);
    expect(await store.outcome(over.id)).toBeUndefined();
    expect(await store.ask({ ...left, gateway: { ...left.gateway, gatewayId: other } })).toBe(true);
    expect((await store.pending(LONG_AGO, 10)).map(({ id }) => id).sort()).toEqual([left.id, waits.id].sort());
    expect(await store.outcome(kept.id)).toEqual({ certificates });
  });

  test("only the leader answers and forgets", async () => {
    const first = await asked();
    await leadership.acquireEpoch("successor");
    await expect(store.answer(writer, first, {}, NOW)).rejects.toThrow(Fenced);
    await expect(store.forget(writer, later(1), later(1))).rejects.toThrow(Fenced);
    expect(await store.pending(LONG_AGO, 10)).toEqual([first]);
  });
}
