/** What the primary makes of writes that come through gateways, case by case. */
import { randomUUID } from "node:crypto";
import { Unavailable, Waiting } from "../errors.ts";
import { FakeHandledWrites } from "../ports/fake-handled-writes.ts";
import { identity, lifecycle } from "../ports/samples.ts";
import { newReaderKey } from "../vault/end-to-end.ts";
import { forgetHandledWrites } from "./gateway-writes.ts";
import { MEMBER, WritesWorld } from "./testing/writes-world.ts";
import type { GatewayWrite, WriteOutcome, WritesRequest } from "./writes.ts";

const DAY_MS = 86_400_000;
const PLACE = { namespace: identity("one").namespace, name: "one" };
const AUTHOR = { subject: "LocalUser alice@example.com", via: "Token" };

let world: WritesWorld;
beforeEach(async () => {
  world = await WritesWorld.start();
  world.pass(DAY_MS);
});

const encoded = (values: Readonly<Record<string, string>>): GatewayWrite["values"] =>
  Object.fromEntries(Object.entries(values).map(([key, value]) => [key, Buffer.from(value).toString("base64")]));
const meant = (name: string): GatewayWrite["secret"] => {
  const { project, environment, namespaceUid } = identity(name);
  return { id: world.ids.get(name) ?? randomUUID(), project, environment, namespaceUid };
};
const write = (values: Readonly<Record<string, string>>, change: Partial<GatewayWrite> = {}): GatewayWrite => ({
  id: randomUUID(),
  place: PLACE,
  secret: meant(change.place?.name ?? "one"),
  values: encoded(values),
  baseVersion: 1,
  ageMs: 60_000,
  author: AUTHOR,
  ...change,
});
const apply = (writes: readonly GatewayWrite[], settled: readonly string[] = [], by = MEMBER) =>
  world.primary.apply(by, { settled: [...settled], writes: [...writes] } satisfies WritesRequest);
const outcomeOf = async (given: GatewayWrite) => (await apply([given])).outcomes[0]?.outcome;
const audited = (action: string) => world.atPrimary.audit.filter(({ entry }) => entry.action === action);

test("a write whose base is current makes a version, on record for the gateway and for whom it acts", async () => {
  const given = write({ a: "new" });
  expect(await outcomeOf(given)).toEqual({ kind: "Applied", version: 2, changed: ["a"] });
  expect(await world.values("one")).toEqual({ a: "new", b: "one b" });
  expect(audited("SecretVersionCreated").at(-1)?.entry).toMatchObject({
    actor: { kind: "Subject", subject: "Gateway gw-npr", via: "GatewayCertificate", session: "01" },
    details: { onBehalfOf: AUTHOR.subject, gatewayWrite: given.id, made: "a" },
  });
});

test("sent again it is told the same, and nothing is done", async () => {
  const given = write({ a: "new" });
  const first = await outcomeOf(given);
  await world.write("one", { a: "newer" });
  expect(await outcomeOf(given)).toEqual(first);
  expect(await world.values("one")).toMatchObject({ a: "newer" });
  // Also by another gateway of its environment: one that registers anew has another id.
  const other = { ...MEMBER, gatewayId: randomUUID(), name: "gw-npr-2" };
  expect((await apply([given], [], other)).outcomes[0]?.outcome).toEqual(first);
});

test("values that are current already make no version", async () => {
  expect(await outcomeOf(write({ a: "one a" }))).toEqual({ kind: "Applied", version: 1, changed: [] });
});

test.each([
  ["somebody has set the key since", { a: "theirs" }, 60_000, "KeptBeside"],
  ["somebody had set it before it was written", { a: "theirs" }, 1_000, "Applied"],
  ["somebody has set another key", { b: "theirs" }, 60_000, "Applied"],
])("%s: %j, %i ms ago", async (_what, theirs, ageMs, kind) => {
  await world.write("one", theirs);
  world.pass(10_000);
  expect(await outcomeOf(write({ a: "ours" }, { ageMs }))).toMatchObject({ kind });
  const isCurrent = kind === "Applied";
  expect((await world.values("one")).a).toBe(isCurrent ? "ours" : "theirs");
  expect((await world.history("one")).map(({ values }) => values.a)).toContain("ours");
});

test("a write whose base is not kept any more wins where nobody has set its key since, however many versions came", async () => {
  world.writable.set("short", { lifecycle: { ...lifecycle, keepVersions: 2 } });
  await world.write("short", { a: "first", b: "first" });
  world.pass(DAY_MS);
  for (const b of ["1", "2", "3", "4"]) await world.write("short", { b });
  expect((await world.history("short")).map(({ version }) => version)).toEqual([4, 5]);
  world.pass(10_000);
  const place = { ...PLACE, name: "short" };
  expect(await outcomeOf(write({ b: "ours" }, { place }))).toMatchObject({ kind: "KeptBeside" });
  expect(await outcomeOf(write({ a: "ours" }, { place }))).toMatchObject({ kind: "Applied", changed: ["a"] });
  expect(await world.values("short")).toEqual({ a: "ours", b: "4" });
});

test("keys of one write belong together: it loses as a whole, and is kept as a whole", async () => {
  await world.write("one", { a: "theirs" });
  expect(await outcomeOf(write({ a: "ours a", b: "ours b" }))).toEqual({ kind: "KeptBeside", version: 3 });
  expect(await world.values("one")).toEqual({ a: "theirs", b: "one b" });
  expect(await world.values("one", 3)).toEqual({ a: "ours a", b: "ours b" });
});

test("between two gateways the one that was written to later wins, whichever reaches the primary first", async () => {
  const other = { ...MEMBER, gatewayId: randomUUID(), name: "gw-npr-2" };
  expect(await outcomeOf(write({ a: "an hour ago" }, { ageMs: 3_600_000 }))).toMatchObject({ kind: "Applied" });
  const later = await apply([write({ a: "half an hour ago" }, { ageMs: 1_800_000 })], [], other);
  expect(later.outcomes[0]?.outcome).toMatchObject({ kind: "Applied" });
  const older = await apply([write({ a: "two hours ago" }, { ageMs: 7_200_000 })], [], other);
  expect(older.outcomes[0]?.outcome).toMatchObject({ kind: "KeptBeside" });
  expect((await world.values("one")).a).toBe("half an hour ago");
});

test("a write has seen what the one before it has set, also where a clock was put back between them", async () => {
  const first = write({ a: "first" }, { ageMs: 60_000 });
  const second = write({ a: "second" }, { ageMs: 90_000, follows: first.id });
  const { outcomes } = await apply([first, second]);
  expect(outcomes.map(({ outcome }) => outcome)).toMatchObject([{ version: 2 }, { kind: "Applied", version: 3 }]);
});

test("a write has not seen what others had set below the one before it", async () => {
  await world.write("one", { a: "theirs" });
  const first = write({ b: "ours" });
  const { outcomes } = await apply([first, write({ a: "ours" }, { follows: first.id })]);
  expect(outcomes.map(({ outcome }) => outcome.kind)).toEqual(["Applied", "KeptBeside"]);
});

test("one that a replica of the primary may not have heard of yet comes again", async () => {
  await world.write("new", { a: "new a" });
  const given = write({ a: "x" }, { place: { ...PLACE, name: "new" }, ageMs: DAY_MS });
  expect(await outcomeOf(given)).toMatchObject({ kind: "Later", code: "NotFound" });
  world.pass(170_000);
  expect(await outcomeOf(given)).toMatchObject({ kind: "Later", code: "NotFound" });
  world.writable.set("new", {});
  expect(await outcomeOf(given)).toMatchObject({ kind: "Applied", version: 2 });
});

test.each<[string, Partial<GatewayWrite["secret"]>]>([
  ["id", { id: randomUUID() }],
  ["project", { project: "other" }],
  ["environment", { environment: "pro" }],
  ["namespace", { namespaceUid: "uid-of-another" }],
])("a secret that has another %s by now gets nothing of it", async (_what, other) => {
  const given = write({ a: "not for you" }, { secret: { ...meant("one"), ...other } });
  expect(await outcomeOf(given)).toMatchObject({ kind: "Later", code: "NotFound" });
  world.pass(180_000);
  expect(await outcomeOf(given)).toMatchObject({ kind: "Refused", code: "NotFound" });
  expect(await world.values("one")).toEqual({ a: "one a", b: "one b" });
});

test("what is not there, and what is of another environment, is refused alike, for good and on record", async () => {
  const place = { ...PLACE, name: "none" };
  const refused = { kind: "Refused", code: "NotFound", detail: expect.stringContaining("/none") };
  const gone = write({ a: "x" }, { place });
  const elsewhere = { ...MEMBER, environment: "PRO" };
  await outcomeOf(gone);
  await apply([write({ a: "x" })], [], elsewhere);
  world.pass(180_000);
  expect(await outcomeOf(gone)).toEqual(refused);
  world.writable.set("none", {});
  expect(await outcomeOf(gone)).toEqual(refused);
  expect((await apply([write({ a: "x" })], [], elsewhere)).outcomes[0]?.outcome).toMatchObject({
    kind: "Refused",
    code: "NotFound",
  });
  expect(audited("GatewayWriteRefused").map(({ entry }) => entry.outcome)).toEqual(["Denied", "Denied"]);
});

test("while a restored database is not settled what is not there is waited for, however long, and then as ever", async () => {
  const given = write({ a: "x" });
  world.writable.delete("one");
  await outcomeOf(given);
  world.recovering = true;
  for (let hour = 0; hour < 3; hour++) {
    world.pass(3_600_000);
    expect(await outcomeOf(given)).toMatchObject({ kind: "Later", code: "NotFound" });
  }
  world.recovering = false;
  expect(await outcomeOf(given)).toMatchObject({ kind: "Later", code: "NotFound" });
  world.writable.set("one", {});
  expect(await outcomeOf(given)).toMatchObject({ kind: "Applied", version: 2 });
  expect(audited("GatewayWriteRefused")).toEqual([]);
});

test("what cannot be stored is refused, and holds up nothing", async () => {
  world.writable.set("two", { readers: [{ name: "alice", publicKey: newReaderKey().publicKey }] });
  await world.write("applied", { a: "of before" });
  world.writable.set("applied", { appliedUsername: "a" });
  const two = { ...PLACE, name: "two" };
  const { outcomes } = await apply([
    write({ c: "no entry" }),
    write({ a: "good" }),
    write({ a: "in plaintext" }, { place: two }),
    write({ a: "a login" }, { place: { ...PLACE, name: "applied" } }),
  ]);
  expect(outcomes.map(({ outcome }) => outcome)).toMatchObject([
    { kind: "Refused", code: "ValueInvalid" },
    { kind: "Applied", version: 2 },
    { kind: "Refused" },
    { kind: "Refused", code: "ValueInvalid" },
  ]);
  expect(JSON.stringify(outcomes)).not.toContain("plaintext");
});

test("refusals are on record once for each gateway, place, code and hour", async () => {
  const refused = () => audited("GatewayWriteRefused").length;
  const two = { ...PLACE, name: "two" };
  await apply([write({ c: "x" }), write({ c: "x" }), write({ c: "x" }, { place: two })]);
  expect(refused()).toBe(2);
  await apply([write({ c: "x" })], [], { ...MEMBER, gatewayId: randomUUID() });
  expect(refused()).toBe(3);
  world.pass(3_600_000);
  await apply([write({ c: "x" })]);
  expect(refused()).toBe(4);
});

test("what may end comes again, and so does what is behind it; other secrets go on", async () => {
  world.writable.set("two", {
    get identity(): never {
      throw new Waiting("Progressing", "the namespace is not known yet", 1_000);
    },
  });
  const two = { ...PLACE, name: "two" };
  const first = write({ a: "1" }, { place: two });
  const writes = [first, write({ a: "2" }, { place: two, follows: first.id }), write({ a: "3" })];
  const { outcomes } = await apply(writes);
  expect(outcomes.map(({ outcome }) => outcome.kind)).toEqual(["Later", "Later", "Applied"]);
  expect(outcomes[0]?.outcome).toMatchObject({ code: "Progressing" });
  world.writable.set("two", {});
  expect((await apply(writes)).outcomes.map(({ outcome }) => outcome.kind)).toEqual(["Applied", "Applied", "Applied"]);
});

test("a secret that was deleted is not made again by what was written to it", async () => {
  const record = await world.record("one");
  if (record === undefined) throw new Error("nothing is stored");
  await world.vault.softDelete({ epoch: world.atPrimary.epoch }, record, { kind: "Controller", name: "test" });
  expect(await outcomeOf(write({ a: "x" }, { baseVersion: 7 }))).toMatchObject({
    kind: "Later",
    code: "SecretNotStored",
  });
  expect((await world.record("one"))?.state).toBe("SoftDeleted");
});

test("what nobody has foreseen is told to the log, and comes again", async () => {
  world.writable.set("one", {
    get identity(): never {
      throw new TypeError("canary");
    },
  });
  const outcome = await outcomeOf(write({ a: "x" }));
  expect(outcome).toMatchObject({ kind: "Later", code: "Failed" });
  expect(JSON.stringify(outcome)).not.toContain("canary");
  expect(world.problems).toHaveLength(1);
});

test("where a write is not known any more that was settled, nothing is done", async () => {
  const restore = world.backup();
  const kept = write({ a: "kept" });
  expect(await outcomeOf(kept)).toMatchObject({ kind: "Applied" });
  expect(await apply([], [kept.id])).toEqual({ forgotten: [], outcomes: [] });
  restore();
  expect(await apply([write({ b: "next" })], [kept.id])).toEqual({ forgotten: [kept.id], outcomes: [] });
  expect(await world.values("one")).toEqual({ a: "one a", b: "one b" });
  expect(await world.primary.forgotten(MEMBER, [kept.id])).toEqual([kept.id]);
});

test("a row that somebody made up is not taken for an answer", async () => {
  const given = write({ a: "x" });
  const outcome: WriteOutcome = { kind: "Applied", version: 9, changed: [] };
  const handled = new FakeHandledWrites(world.atPrimary, world.versions);
  await handled.record({ environment: "NPR", id: given.id, outcome, mac: Buffer.alloc(32) }, []);
  await expect(apply([given])).rejects.toThrow(Unavailable);
  await expect(world.primary.forgotten(MEMBER, [given.id])).rejects.toMatchObject({ code: "TamperDetected" });
});

test("what was handled is known for two weeks", async () => {
  const handled = new FakeHandledWrites(world.atPrimary, world.versions);
  const given = write({ a: "x" });
  await apply([given]);
  world.pass(14 * DAY_MS);
  await forgetHandledWrites(handled);
  expect(await handled.find("NPR", [given.id])).toHaveLength(1);
  world.pass(1);
  await forgetHandledWrites(handled);
  expect(await handled.find("NPR", [given.id])).toEqual([]);
});
