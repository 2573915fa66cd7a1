/** Writing at a gateway, and asking what became of it, on a primary and a gateway in memory. */
import { jest } from "@jest/globals";
import type { Authenticated } from "../../../core/access/subject.ts";
import type { MembershipStatus } from "../../../core/fleet/membership.ts";
import { ALICE, sensitive, WritesWorld } from "../../../core/fleet/testing/writes-world.ts";
import { identity } from "../../../core/ports/samples.ts";
import { newReaderKey } from "../../../core/vault/end-to-end.ts";
import { until } from "../../../lab/poll.ts";
import { problemOf } from "../failure.ts";
import { Problem } from "../problem.ts";
import type { Answer, DocumentedAnswer } from "../route.ts";
import { gatewayWriteRoutes } from "./gateway-writes.ts";
import { queued, waitingAnswer } from "./secrets/queued.ts";
import { written } from "./secrets/secret.ts";

const BOB: Authenticated = {
  ...ALICE,
  subject: { kind: "ServiceAccount", namespace: "payments", name: "bob", uid: "uid-of-bob" },
};
const BY_ALICE = { kind: "Subject", subject: "alice", via: "Token", session: "s" } as const;

let world: WritesWorld;
let channel: MembershipStatus["channel"];
let isCurrent: boolean;
let readers: { name: string; publicKey: string }[] | undefined;
beforeEach(async () => {
  world = await WritesWorld.start();
  world.pass(1_000);
  [channel, isCurrent, readers] = ["Open", true, undefined];
});

const services = () => ({
  writes: world.writes,
  membership: () => ({ channel }),
  replica: {
    assertCurrent: () => {
      if (!isCurrent) throw new Problem(503, "OfflineLimitReached", "the primary is away");
    },
  },
});

function write(values: Readonly<Record<string, string>>, change: object = {}, asked: object = {}): Promise<Answer> {
  const call = { services: services(), who: ALICE, actor: BY_ALICE, signal: new AbortController().signal, ...change };
  const entries = ["a", "b"].map((key) => ({ key, source: "external" }));
  entries.push({ key: "made", source: "generate" });
  const secret = { ...identity("one"), id: world.ids.get("one"), version: 1, entries, readers };
  return queued(call as never, secret as never, asked, sensitive(values));
}

async function ask(id: string, input: object, who = ALICE, isAdmin = false): Promise<Answer> {
  const route = gatewayWriteRoutes.find((each) => each.id === id);
  if (route === undefined) throw new Error(`there is no route ${id}`);
  const answer = await route.handle({ input, services: services(), who, may: () => ({ allowed: isAdmin }) } as never);
  const documented: Readonly<Record<number, DocumentedAnswer>> = route.answers;
  documented[200]?.schema?.parse(answer.body);
  return answer;
}

/** While somebody waits for the answer. */
async function sent<T>(asking: Promise<T>): Promise<T> {
  const waits = async () => (await world.queue.length(world.recipient)).waiting > 0;
  await until("it is queued", waits, { timeoutMs: 10_000, intervalMs: 1 });
  await world.turn();
  return asking;
}

test("what the primary has done at once is answered as it would", async () => {
  const { status, body } = await sent(write({ a: "new" }));
  expect([status, written.parse(body)]).toEqual([200, { version: 2, changed: ["a"] }]);
});

test("while it is away the answer says where to ask, and waits for nobody", async () => {
  channel = "Closed";
  const { status, body, headers } = await write({ a: "new" });
  const { id = "" } = (waitingAnswer.schema?.parse(body) ?? {}) as { id?: string };
  expect([status, headers]).toEqual([202, { location: `/api/v1/gateway/writes/${id}` }]);
  expect((await ask("getGatewayWrite", { params: { id } })).body).toMatchObject({ id, state: "Waiting", name: "one" });
  await world.turn();
  expect((await ask("getGatewayWrite", { params: { id } })).body).toMatchObject({ state: "Applied", version: 2 });
});

test("what the primary refuses is refused, and a value that lost says where it is", async () => {
  world.writable.set("one", undefined);
  const gone = write({ a: "x" });
  await until("it is queued", async () => (await world.queue.length(world.recipient)).waiting > 0, {
    timeoutMs: 10_000,
    intervalMs: 1,
  });
  await world.turn();
  world.pass(180_000);
  await world.turn();
  await expect(gone).rejects.toMatchObject({ status: 404, code: "NotFound" });
  world.writable.set("one", {});
  const losing = write({ a: "older" });
  await until("it is queued", async () => (await world.queue.length(world.recipient)).waiting > 0, {
    timeoutMs: 10_000,
    intervalMs: 1,
  });
  world.pass(10_000);
  await world.write("one", { a: "newer" });
  await world.turn();
  await expect(losing).rejects.toMatchObject({
    status: 409,
    code: "KeptBeside",
    message: expect.stringContaining("version 3"),
  });
});

test.each<[string, Readonly<Record<string, string>>, boolean]>([
  ["a key that it does not have", { a: "x", c: "x" }, false],
  ["one whose value comes from elsewhere", { made: "x" }, false],
  ["one that is not sealed for its readers", { a: "in plaintext" }, true],
])("a value for %s is refused as the primary would, and not even kept", async (_what, values, isSealed) => {
  if (isSealed) readers = [{ name: "alice", publicKey: newReaderKey().publicKey }];
  const refused = write(values).catch(problemOf);
  expect(await refused).toMatchObject({ status: 409, code: "ValueInvalid" });
  expect(await world.queue.list({}, undefined, 10)).toEqual([]);
});

test("where others wait for longer than anybody would, nobody is made to wait", async () => {
  await world.accept("two", { a: "x" }, 1);
  world.pass(6_000);
  await world.writes.look();
  const patience = jest.spyOn(world.writes, "settled");
  expect((await write({ a: "new" })).status).toBe(202);
  expect(patience.mock.calls[0]?.[1]).toBe(0);
});

test.each([
  ["If-Match", { ifMatch: "1" }, {}, 412, "NotJudgedHere"],
  ["another project", {}, { project: "other" }, 409, "BelongsElsewhere"],
])("%s is refused before anything is queued", async (_what, change, asked, status, code) => {
  await expect(write({ a: "x" }, change, asked)).rejects.toMatchObject({ status, code });
  expect((await world.queue.length(world.recipient)).waiting).toBe(0);
});

test("grants that are older than the limit let nobody write", async () => {
  isCurrent = false;
  await expect(write({ a: "x" })).rejects.toMatchObject({ code: "OfflineLimitReached" });
  expect((await world.queue.length(world.recipient)).waiting).toBe(0);
});

test("authors see their own writes and administrators all, in pages, with the queue's length", async () => {
  channel = "Closed";
  for (const who of [ALICE, BOB, ALICE]) await write({ a: "x" }, { who });
  const list = async (query: object, ...as: [Authenticated?, boolean?]) =>
    (await ask("listGatewayWrites", { query: { limit: 100, ...query } }, ...as)).body as {
      items: { by: string; id: string }[];
      next?: string;
      length: number;
    };
  expect(await list({}, BOB)).toMatchObject({
    length: 3,
    limit: 10_000,
    items: [{ by: "ServiceAccount payments/bob" }],
  });
  expect((await list({}, BOB, true)).items).toHaveLength(3);
  const first = await list({ limit: 1 });
  const second = await list({ limit: 1, after: first.next });
  expect([first.items.length, second.items.length, second.next]).toEqual([1, 1, undefined]);
  expect(second.items[0]?.id).not.toBe(first.items[0]?.id);
  expect((await list({ state: "Applied" })).items).toEqual([]);
  const { id = "" } = first.items[0] ?? {};
  await expect(ask("getGatewayWrite", { params: { id } }, BOB)).rejects.toMatchObject({ status: 404 });
  expect((await ask("getGatewayWrite", { params: { id } }, BOB, true)).status).toBe(200);
  await expect(list({ after: "eA" })).rejects.toMatchObject({ status: 400 });
});
