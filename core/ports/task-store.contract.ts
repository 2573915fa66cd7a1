import { randomBytes, randomUUID } from "node:crypto";
import type { FleetStore, Place } from "./fleet-store.ts";
import type { Claim, SealedTask, TaskStore } from "./task-store.ts";
import { UNLED } from "./vault-store.ts";

const NPR: Place = { environment: "NPR", role: "primary" };
const PRO: Place = { environment: "PRO", role: "primary" };
const STANDBY: Place = { environment: "NPR", role: "dr-standby" };
const MINUTE_MS = 60_000;
const RESULT = Buffer.from("result");

/** As if it had come with a token; its UUID. */
export async function registerGateway(fleet: FleetStore, name: string, place: Place): Promise<string> {
  const now = new Date();
  const hash = randomBytes(32);
  const expiresAt = new Date(now.getTime() + MINUTE_MS);
  const gateway = await fleet.addToken(UNLED, { name, place, hash, expiresAt, mac: randomBytes(32), audit: () => [] });
  if (gateway === "PlaceDiffers") throw new TypeError(`${name} has another place`);
  await fleet.redeem({ hash, keyDigest: randomBytes(32), place, now, audit: () => [] });
  return gateway.id;
}

/** What every store of tasks does. `start` gives an empty one beside the fleet's. */
export function taskStoreContract(
  start: () => Promise<{ readonly tasks: TaskStore; readonly fleet: FleetStore }>,
): void {
  let tasks: TaskStore;
  let fleet: FleetStore;
  let npr: string;
  let standby: string;
  let pro: string;

  beforeEach(async () => {
    ({ tasks, fleet } = await start());
    npr = await registerGateway(fleet, "gw-npr", NPR);
    standby = await registerGateway(fleet, "gw-npr-dr", STANDBY);
    pro = await registerGateway(fleet, "gw-pro", PRO);
  });

  const task = (change: Partial<SealedTask> = {}): SealedTask => ({
    id: randomUUID(),
    addressee: "gw-npr",
    environment: "NPR",
    kind: "Test",
    body: randomBytes(8),
    ...change,
  });
  const added = async (change: Partial<SealedTask> = {}, claimableMs = MINUTE_MS): Promise<SealedTask> => {
    const made = task(change);
    expect(await tasks.add(made, claimableMs)).toBe("Added");
    return made;
  };
  const claim = (change: Partial<Claim> = {}) =>
    tasks.claim({
      gatewayId: npr,
      environment: "NPR",
      epoch: 1n,
      addressees: ["gw-npr"],
      most: 10,
      deadlineMs: MINUTE_MS,
      ...change,
    });
  const by = (gatewayId: string, epoch = 1n, environment = "NPR") => ({ gatewayId, environment, epoch });

  test("a task is handed out as it was made, once, to the one that it is for", async () => {
    const made = await added();
    expect(await claim()).toEqual([made]);
    expect(await claim()).toEqual([]);
    expect(await tasks.finish(made.id, by(npr), RESULT)).toBe(true);
    expect(await tasks.collect(made.id, {})).toEqual({ state: "Done", result: RESULT });
    expect(await tasks.collect(made.id, {})).toEqual({ state: "Gone" });
  });

  test("the oldest go first, no more than are asked for", async () => {
    const [first, second, third] = [await added(), await added(), await added()];
    expect((await claim({ most: 2 })).map(({ id }) => id).sort()).toEqual([first.id, second.id].sort());
    expect(await claim({ most: 2 })).toEqual([third]);
  });

  test("of many who ask at once each task goes to one", async () => {
    const made = await Promise.all(Array.from({ length: 40 }, () => added()));
    const claims = await Promise.all(Array.from({ length: 20 }, () => claim({ most: 3 })));
    const ids = claims.flat().map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    const rest = await claim({ most: 40 });
    expect([...ids, ...rest.map(({ id }) => id)].sort()).toEqual(made.map(({ id }) => id).sort());
  });

  test("it tells how a task stands, and for how long it is still claimed", async () => {
    const { id } = await added();
    expect(await tasks.collect(id, {})).toEqual({ state: "Waiting" });
    await claim({ deadlineMs: 10_000 });
    const standing = await tasks.collect(id, { withdraw: true });
    expect(standing).toEqual({ state: "Claimed", leftMs: expect.any(Number) });
    const { leftMs } = standing as { leftMs: number };
    expect(leftMs).toBeGreaterThan(0);
    expect(leftMs).toBeLessThanOrEqual(10_000);
  });

  test("who withdraws a task that waits knows that nobody has it; a claim that comes at once with that has it or not", async () => {
    const { id } = await added();
    expect(await tasks.collect(id, { withdraw: true })).toEqual({ state: "Withdrawn" });
    expect(await claim()).toEqual([]);
    for (let round = 0; round < 20; round += 1) {
      const raced = await added();
      const [standing, claimed] = await Promise.all([tasks.collect(raced.id, { withdraw: true }), claim()]);
      expect(standing.state).toBe(claimed.length === 1 ? "Claimed" : "Withdrawn");
    }
  });

  test("who gives up a task that is claimed hears nothing of it any more", async () => {
    const { id } = await added();
    await claim();
    expect(await tasks.collect(id, { giveUp: true })).toEqual({ state: "Interrupted" });
    expect(await tasks.finish(id, by(npr), RESULT)).toBe(false);
  });

  test("a task that nobody claimed in time is claimed by nobody, also when nobody withdraws it", async () => {
    const { id } = await added({}, 0);
    expect(await claim()).toEqual([]);
    expect(await tasks.collect(id, {})).toEqual({ state: "Waiting" });
  });

  test("a result counts from the gateway that claimed it, in the epoch of that, once", async () => {
    const { id } = await added();
    expect(await tasks.finish(id, by(npr), RESULT)).toBe(false);
    await claim({ epoch: 2n });
    for (const other of [by(standby, 2n), by(pro, 2n), by(npr, 1n), by(npr, 3n), by(npr, 2n, "PRO")])
      expect(await tasks.finish(id, other, Buffer.from("other"))).toBe(false);
    expect(await tasks.finish(id, by(npr, 2n), RESULT)).toBe(true);
    expect(await tasks.finish(id, by(npr, 2n), Buffer.from("again"))).toBe(false);
    expect(await tasks.collect(id, {})).toEqual({ state: "Done", result: RESULT });
    expect(await tasks.finish(randomUUID(), by(npr), RESULT)).toBe(false);
  });

  test("the one in charge performs what is for the other of its pair; what an older epoch began is interrupted", async () => {
    const begun = await added();
    await claim({ epoch: 1n });
    const next = await added();
    const addressees = ["gw-npr", "gw-npr-dr"];
    expect(await claim({ gatewayId: standby, epoch: 2n, addressees })).toEqual([next]);
    expect(await tasks.finish(begun.id, by(npr, 1n), RESULT)).toBe(false);
    expect(await tasks.collect(begun.id, {})).toEqual({ state: "Interrupted" });
    expect(await tasks.finish(next.id, by(standby, 2n), RESULT)).toBe(true);
  });

  test("an epoch of one environment ends nothing in another", async () => {
    const { id } = await added({ addressee: "gw-pro", environment: "PRO" });
    await claim({ gatewayId: pro, environment: "PRO", addressees: ["gw-pro"] });
    await claim({ epoch: 9n });
    expect(await tasks.finish(id, by(pro, 1n, "PRO"), RESULT)).toBe(true);
  });

  test("a task is for a gateway that is registered, and for its own environment", async () => {
    expect(await tasks.add(task({ environment: "PRO" }), MINUTE_MS)).toBe("EnvironmentDiffers");
    expect(await tasks.add(task({ addressee: "gw-pro" }), MINUTE_MS)).toBe("EnvironmentDiffers");
    expect(await tasks.add(task({ addressee: "gw-unknown" }), MINUTE_MS)).toBe("Unknown");
    await fleet.addToken(UNLED, {
      name: "gw-awaited",
      place: NPR,
      hash: randomBytes(32),
      expiresAt: new Date(Date.now() + MINUTE_MS),
      mac: randomBytes(32),
      audit: () => [],
    });
    expect(await tasks.add(task({ addressee: "gw-awaited" }), MINUTE_MS)).toBe("Unknown");
  });

  test.each([
    ["another environment, of which it names the gateways", () => ({ gatewayId: pro, environment: "PRO" })],
    ["another environment, which it says is its own", () => ({ gatewayId: pro, environment: "NPR" })],
    ["its environment, for none that it acts for", () => ({ gatewayId: standby, addressees: ["gw-npr-dr"] })],
    ["none that is known", () => ({ gatewayId: randomUUID() })],
  ])("a gateway of %s gets nothing", async (_title, change) => {
    await added();
    expect(await claim({ addressees: ["gw-npr", "gw-pro"], ...change() })).toEqual([]);
  });

  test("what was left behind goes when it is old", async () => {
    const { id } = await added({}, 0);
    await added({}, 0);
    const waiting = await added();
    expect(await tasks.sweep(MINUTE_MS, 10)).toBe(0);
    expect(await tasks.sweep(0, 1)).toBe(1);
    expect(await tasks.sweep(0, 10)).toBe(1);
    expect(await tasks.collect(id, {})).toEqual({ state: "Gone" });
    expect(await claim()).toEqual([waiting]);
  });
}
