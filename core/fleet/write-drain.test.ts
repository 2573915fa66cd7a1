/** A gateway's queue and what becomes of it, case by case. */
import { RequestRefused } from "../idempotency/requests.ts";
import { WriteQueueFull } from "./queued-writes.ts";
import { WritesWorld } from "./testing/writes-world.ts";

const SIGNAL = new AbortController().signal;

let world: WritesWorld;
beforeEach(async () => {
  world = await WritesWorld.start();
  world.pass(1_000);
});

const stateOf = async (id: string) => (await world.queue.find(id))?.state;
const accept = async (name: string, a: string): Promise<string> => (await world.accept(name, { a }, 1)).id;

test("the same request with the same key is accepted once, and another one is refused", async () => {
  const one = await world.accept("one", { a: "x" }, 1, "key");
  expect((await world.accept("one", { a: "x" }, 1, "key")).id).toBe(one.id);
  expect((await world.accept("one", { a: "x" }, 1, "other")).id).not.toBe(one.id);
  await expect(world.accept("one", { a: "y" }, 1, "key")).rejects.toThrow(RequestRefused);
  await expect(world.accept("two", { a: "x" }, 1, "key")).rejects.toThrow(RequestRefused);
  expect((await world.queue.length(world.recipient)).waiting).toBe(2);
  expect(one.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test("over the bound a write is refused and says what to do", async () => {
  world.most = 2;
  await world.restartGateway();
  await accept("one", "1");
  await accept("one", "2");
  await expect(accept("one", "3")).rejects.toThrow(WriteQueueFull);
  await expect(accept("one", "3")).rejects.toThrow(/gateway\.writeQueueLimit/);
  expect(await world.turn()).toBe(true);
  await accept("one", "3");
});

test("who waits is told at once, or what is known when the time is over", async () => {
  const id = await accept("one", "new");
  const waiting = world.writes.settled(id, 60_000, SIGNAL);
  expect(await world.writes.settled(id, 0, SIGNAL)).toMatchObject({ state: "Waiting" });
  await world.turn();
  expect(await waiting).toMatchObject({ state: "Applied", outcome: { version: 2 } });
  expect(await world.writes.settled("6ba7b810-9dad-41d1-80b4-00c04fd430c8", 0, SIGNAL)).toBeUndefined();
});

test("an outage loses nothing; what was not answered is sent again and done once", async () => {
  world.away = true;
  const ids = [await accept("one", "1"), await accept("two", "2"), await accept("one", "3")];
  expect(await world.turn()).toBeUndefined();
  await world.writes.look();
  expect(world.writes.length).toEqual({ waiting: 3, stranded: 0, oldestAgeMs: 0, refused: 0 });
  world.away = false;
  world.fates.push("answerLost", "dies");
  expect([await world.turn(), await world.turn(), await world.turn()]).toEqual([undefined, undefined, true]);
  for (const id of ids) expect(await stateOf(id)).toBe("Applied");
  expect((await world.history("one")).map(({ values }) => values.a)).toEqual(["one a", "1", "3"]);
});

test("what was accepted for one environment or primary goes to no other one, and goes on when it is registered there again", async () => {
  const done = await accept("one", "1");
  await world.turn();
  const id = await accept("one", "2");
  const npr = world.recipient;
  for (const other of [
    undefined,
    { gatewayEnvironment: "PRO", rootDigest: Buffer.alloc(32, 1) },
    { gatewayEnvironment: "NPR", rootDigest: Buffer.alloc(32, 2) },
  ]) {
    world.recipient = other;
    await world.restartGateway();
    world.pass(61_000);
    expect(await world.turn()).toBe(false);
    await world.writes.look();
    expect(world.writes.length.stranded).toBe(other === undefined ? 0 : 1);
  }
  expect(world.requests).toHaveLength(1);
  world.recipient = npr;
  await world.turn();
  expect([await stateOf(done), await stateOf(id)]).toEqual(["Applied", "Applied"]);
});

test("a gateway that was revoked keeps the values of what waits alone, and goes on with them when it is registered again", async () => {
  const done = await accept("one", "1");
  await world.turn();
  const id = await accept("one", "2");
  world.revoked = true;
  expect(await world.turn()).toBe(false);
  expect(world.requests).toHaveLength(1);
  expect(await world.queue.clearSettled({ epoch: world.atGateway.epoch }, 10)).toBe(0);
  world.revoked = false;
  world.pass(61_000);
  await world.turn();
  expect(world.requests.at(-1)?.settled).toEqual([]);
  expect([await stateOf(done), await stateOf(id)]).toEqual(["Applied", "Applied"]);
});

test("a write that is refused is told, and those behind it go on", async () => {
  const bad = (await world.accept("one", { c: "no such entry" }, 1)).id;
  const good = await accept("one", "good");
  await world.turn();
  expect([await stateOf(bad), await stateOf(good)]).toEqual(["Refused", "Applied"]);
  expect(await world.queue.find(bad)).toMatchObject({ outcome: { code: "ValueInvalid" } });
  expect((await world.queue.length(world.recipient)).refused).toBe(1);
});

test("a secret whose writes have to wait holds up no other one, and is tried again with pauses", async () => {
  const record = await world.record("one");
  if (record === undefined) throw new Error("nothing is stored");
  await world.vault.softDelete({ epoch: world.atPrimary.epoch }, record, { kind: "Controller", name: "test" });
  const [one, two] = [await accept("one", "1"), await accept("two", "2")];
  expect(await world.turn()).toBe(true);
  expect([await stateOf(one), await stateOf(two)]).toEqual(["Waiting", "Applied"]);
  expect(world.paused).toEqual([expect.stringContaining("one: SecretNotStored")]);
  await world.turn();
  expect(world.paused).toHaveLength(1);
  world.pass(1_000);
  await world.turn();
  expect(world.paused).toHaveLength(2);
});

test("secrets that have to wait, more than fit into one request, hold up none behind them", async () => {
  for (let n = 0; n < 100; n++) await accept(`gone-${n}`, "x");
  const id = await accept("one", "1");
  expect(await world.turn()).toBe(true);
  expect(await world.turn()).toBe(true);
  expect(await stateOf(id)).toBe("Applied");
  expect(await world.turn()).toBe(false);
});

test("a write that the primary cannot read holds up no other one", async () => {
  const odd = (await world.accept("one", { "not/a/key": "x" }, 1)).id;
  const behind = await accept("one", "behind");
  const other = await accept("two", "other");
  expect(await world.turn()).toBe(true);
  expect([await stateOf(odd), await stateOf(behind), await stateOf(other)]).toEqual(["Waiting", "Waiting", "Applied"]);
  expect(world.paused).toEqual([expect.stringContaining("one: PrimaryAnswerInvalid")]);
});

test("a primary that was restored gets again what it has lost, before what came later; also while nothing is written", async () => {
  await accept("one", "1");
  await world.turn();
  const restore = world.backup();
  const lost = [await accept("one", "2"), await accept("one", "3")];
  await world.turn();
  restore();
  const next = await accept("one", "4");
  await world.settle();
  expect((await world.history("one")).map(({ values }) => values.a)).toEqual(["one a", "1", "2", "3", "4"]);
  for (const id of [...lost, next]) expect(await stateOf(id)).toBe("Applied");
  restore();
  expect(await world.turn()).toBe(false);
  world.pass(60_000);
  await world.settle();
  expect((await world.values("one")).a).toBe("4");
  expect(world.atGateway.audit.filter(({ entry }) => entry.action === "WritesRequeued")).toHaveLength(2);
});

test("what was settled is kept for a week, and what is at rest asks once a minute and writes nothing", async () => {
  const id = await accept("one", "1");
  await world.turn();
  const rows = world.atGateway.audit.length;
  const asked = world.requests.length;
  for (let n = 0; n < 10; n++) {
    world.pass(30_000);
    await world.turn();
  }
  expect(world.requests.length - asked).toBeLessThanOrEqual(5);
  expect(world.atGateway.audit).toHaveLength(rows);
  const writer = { epoch: world.atGateway.epoch };
  world.pass(6 * 86_400_000);
  await world.drain.forgetOld(writer);
  expect(await stateOf(id)).toBe("Applied");
  world.pass(2 * 86_400_000);
  await world.drain.forgetOld(writer);
  expect(await stateOf(id)).toBeUndefined();
});
