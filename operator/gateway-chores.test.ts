import { ApiError } from "../controllers/runtime/api-error.ts";
import { FakeDatabase } from "../core/ports/fake-database.ts";
import { FakeFleetStore } from "../core/ports/fake-fleet-store.ts";
import { UNLED } from "../core/ports/vault-store.ts";
import type { Gateway } from "../crds/gateway.ts";
import { until } from "../lab/poll.ts";
import { GatewayChores } from "./gateway-chores.ts";

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} } as never;
const place = { environment: "NPR", role: "primary" as const };
const names = (chores: GatewayChores): string[] => chores.figures.map(({ name }) => name);

let store: FakeFleetStore;
let chores: GatewayChores;
let cached: Set<string>;
let stored: Set<string>;
let ended: string[];
let asked: string[];
let now: Date;

beforeEach(async () => {
  const database = new FakeDatabase();
  const writer = { epoch: await database.acquireEpoch("test") };
  store = new FakeFleetStore(database, { certificatesOf: async () => [] }, undefined, () => now);
  cached = new Set();
  stored = new Set();
  ended = [];
  asked = [];
  now = new Date("2026-03-01T12:00:00Z");
  chores = new GatewayChores({
    store,
    cluster: { gateway: (name) => (cached.has(name) ? ({} as Gateway) : undefined) },
    api: {
      get: async (_type: unknown, { name }: { name: string }) => {
        asked.push(name);
        if (!stored.has(name)) throw new ApiError({ status: 404, reason: "NotFound", message: "", details: { name } });
        return {} as never;
      },
    },
    log,
    endGateway: (name) => void ended.push(name),
    onFenced: () => {},
    now: () => now,
    lookEveryMs: 5,
  });
  for (const name of ["held", "new", "gone", "revoked"]) await registers(name);
  await store.revoke(writer, (await store.gateway("revoked"))?.id ?? "", now, []);
  cached.add("held");
  stored.add("held").add("new");
  chores.start(writer);
});
afterEach(() => chores.stop());

async function registers(name: string, text = name): Promise<void> {
  const hash = Buffer.from(text.padEnd(32));
  const expiresAt = new Date(now.getTime() + 1_000);
  await store.addToken(UNLED, { name, place, hash, expiresAt, mac: hash, audit: () => [] });
  const redeemed = await store.redeem({ hash, keyDigest: hash, place, now, audit: () => [] });
  if (typeof redeemed === "string") throw new Error(redeemed);
}

test("a gateway is ended whose object the API server does not have, and no other one", async () => {
  await until("it is ended", () => ended.length > 1, { intervalMs: 2, timeoutMs: 4_000 });
  expect(new Set(ended)).toEqual(new Set(["gone"]));
  // A cache that knows the object is enough, and what is revoked is not looked for.
  expect(new Set(asked)).toEqual(new Set(["new", "gone"]));
});

test("metrics are told of what has registered; ages go on, and the next leader tells them", async () => {
  await until("they are known", () => chores.figures.length > 0, { intervalMs: 2, timeoutMs: 4_000 });
  expect(names(chores)).toEqual(["gone", "held", "new"]);
  const [one] = chores.figures;
  expect(one).toMatchObject({ ...place, score: 1, ageSeconds: 0, certificateSeconds: undefined });
  now = new Date(now.getTime() + 200_000);
  expect(chores.figures[0]).toMatchObject({ score: 0, ageSeconds: 200 });
  await chores.stop();
  expect(chores.figures).toEqual([]);
});

test("what one told before it registered anew is not told of it", async () => {
  const id = (await store.gateway("held"))?.id ?? "";
  const certificateNotAfter = new Date(now.getTime() + 100_000).toISOString();
  await store.heartbeat(id, { version: "1.5.0", problems: [], queueLength: 7, certificateNotAfter });
  const held = () => chores.figures.find(({ name }) => name === "held");
  await until("it is told", () => held()?.queueLength === 7, { intervalMs: 2, timeoutMs: 4_000 });
  now = new Date(now.getTime() + 500);
  await registers("held", "held anew");
  await until("it is not told", () => held()?.queueLength === undefined, { intervalMs: 2, timeoutMs: 4_000 });
  expect(held()).toMatchObject({ certificateSeconds: undefined });
});
