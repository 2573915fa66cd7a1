/** Tokens by REST, and what is told of gateways, with and without credentials. */
import { createHash } from "node:crypto";
import { ApiError } from "../../../controllers/runtime/api-error.ts";
import type { WritableObject } from "../../../controllers/runtime/transport.ts";
import type { Target } from "../../../core/access/policy.ts";
import { gatewayEntry } from "../../../core/fleet/audit-entries.ts";
import { FleetRefused } from "../../../core/fleet/errors.ts";
import type { Registrations } from "../../../core/fleet/registrations.ts";
import { FakeDatabase } from "../../../core/ports/fake-database.ts";
import { FakeFleetStore } from "../../../core/ports/fake-fleet-store.ts";
import { UNLED } from "../../../core/ports/vault-store.ts";
import type { Gateway } from "../../../crds/gateway.ts";
import { problemOf } from "../failure.ts";
import type { Answer } from "../route.ts";
import { gatewayRoutes } from "./gateways.ts";

const NAME = "azure-gateway-gwc-01";
const DAY_MS = 86_400_000;

let database: FakeDatabase;
let store: FakeFleetStore;
let objects: Map<string, Gateway>;
let announced: string[];
let order: string[];
/** Whether the caller may list gateways. */
let lists: boolean;

const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest();

const issueToken: Registrations["issueToken"] = async (by, { name, place, actor }) => {
  order.push("token");
  const audit = (id: string) => [gatewayEntry("GatewayTokenIssued", { id, name }, actor)];
  const expiresAt = new Date(Date.now() + DAY_MS);
  const token = { name, place, hash: sha256(`token of ${name}`), expiresAt, mac: Buffer.alloc(32), audit };
  const made = await store.addToken(by, token);
  if (made === "PlaceDiffers") throw new FleetRefused("PlaceDiffers", "environment: it is fixed to another one");
  return { gatewayId: made.id, token: `token of ${name}`, expiresAt };
};

const api = {
  get: async (_type: unknown, { name }: { name: string }) => {
    const found = objects.get(name);
    if (found !== undefined) return found;
    throw new ApiError({ status: 404, reason: "NotFound", message: "there is none", details: { name } });
  },
  create: async (_type: unknown, object: WritableObject) => {
    order.push("object");
    const metadata = { ...object.metadata, uid: "uid-made", resourceVersion: "1" };
    const made = { ...object, metadata } as unknown as Gateway;
    objects.set(metadata.name, made);
    return made;
  },
  delete: async (_type: unknown, { name }: { name: string }, { preconditions }: { preconditions: { uid: string } }) => {
    order.push(`delete ${preconditions.uid}`);
    objects.delete(name);
  },
};

beforeEach(async () => {
  database = new FakeDatabase();
  store = new FakeFleetStore(database, { certificatesOf: async () => [] });
  objects = new Map();
  announced = [];
  order = [];
  lists = true;
});

const put = (name: string, spec: Gateway["spec"] = {}): void => {
  const metadata = { name, uid: `uid-${name}`, resourceVersion: "1" };
  objects.set(name, { apiVersion: "mazevault.io/v1", kind: "Gateway", metadata, spec });
};

async function ask(
  id: (typeof gatewayRoutes)[number]["id"],
  { params = {}, body = {} }: { params?: object; body?: object } = {},
) {
  const services = {
    api,
    fleet: store,
    registrations: { issueToken },
    view: { gateway: (name: string) => objects.get(name), gateways: () => objects.values() },
  };
  const announce = async (operation: string, { kind, name }: Target) => {
    announced.push(`${operation} ${kind} ${name}`);
  };
  const may = () => ({ allowed: lists, reason: "" });
  const actor = { kind: "Controller", name: "test" };
  const input = { params, query: { limit: 100 }, body };
  const call = { input, services, actor, announce, may, hasNoGrant: !lists, signal: new AbortController().signal };
  const route = gatewayRoutes.find((each) => each.id === id);
  if (route === undefined) throw new Error(`there is no route ${id}`);
  try {
    const answer: Answer = await route.handle(call as never);
    const schema = route.answers[answer.status]?.schema;
    // Every answer is one that the document promises.
    return { status: answer.status, body: schema === undefined ? undefined : (schema.parse(answer.body) as never) };
  } catch (error) {
    const { status, code, message, headers } = problemOf(error);
    return { status, code, message, headers };
  }
}

const bootstrap = (place: object = {}) => ask("bootstrapGateway", { body: { name: NAME, ...place } });

describe("a token by REST:", () => {
  test("makes the object, put on record, before the token", async () => {
    expect(await bootstrap({ environment: "NPR", role: "primary" })).toMatchObject({
      status: 201,
      body: { token: `token of ${NAME}`, name: NAME, gatewayId: (await store.gateway(NAME))?.id },
    });
    expect(announced).toEqual([`Create Gateway ${NAME}`]);
    expect(order).toEqual(["object", "token"]);
    expect(objects.get(NAME)).toMatchObject({
      spec: { environment: "NPR", role: "primary" },
      metadata: { annotations: { "mazevault.io/made-by": "rest" } },
    });
    expect(await store.gateway(NAME)).toMatchObject({ environment: "NPR", role: "primary" });
  });

  test("leaves an object alone that is there, whose place counts", async () => {
    put(NAME, { environment: "PRO" });
    expect(await bootstrap({ role: "dr-standby" })).toMatchObject({ status: 201 });
    expect(announced).toEqual([]);
    expect(objects.get(NAME)?.spec).toEqual({ environment: "PRO" });
    expect(await store.gateway(NAME)).toMatchObject({ environment: "PRO", role: "dr-standby" });
  });

  test("is refused for another place than the object has", async () => {
    put(NAME, { environment: "PRO" });
    expect(await bootstrap({ environment: "NPR" })).toMatchObject({
      status: 409,
      code: "PlaceDiffers",
      message: expect.stringMatching(/^environment: Gateway .* says PRO, and the request NPR; leave environment out/),
    });
    expect(order).toEqual([]);
  });

  test("is refused for another place than the gateway registered with", async () => {
    put(NAME);
    await bootstrap({ environment: "NPR" });
    expect(await bootstrap({ environment: "PRO" })).toMatchObject({ status: 409, code: "PlaceDiffers" });
  });

  test("waits until a gateway of that name that was deleted is revoked, which would end it too", async () => {
    await bootstrap();
    objects.delete(NAME);
    order = [];
    expect(await bootstrap()).toMatchObject({
      status: 409,
      code: "GatewayNotRevoked",
      headers: { "retry-after": "1" },
    });
    expect(order).toEqual([]);
    const writer = { epoch: await database.acquireEpoch("test") };
    await store.revoke(writer, (await store.gateway(NAME))?.id ?? "", new Date(), []);
    expect(await bootstrap()).toMatchObject({ status: 201 });
  });
});

describe("a token for an object that is newer than the registration under its name", () => {
  const registeredAt = new Date("2026-03-01T12:00:00Z");
  const fromThen = (ms: number): string => new Date(registeredAt.getTime() + ms).toISOString();
  beforeEach(async () => {
    await bootstrap();
    const [hash, keyDigest] = [sha256(`token of ${NAME}`), sha256("k")];
    const place = { environment: "NPR", role: "primary" } as const;
    expect(await store.redeem({ hash, keyDigest, place, now: registeredAt, audit: () => [] })).toMatchObject({
      name: NAME,
    });
    order = [];
  });

  const anew = (creationTimestamp: string, status?: Gateway["status"]): void => {
    put(NAME);
    const found = objects.get(NAME);
    if (found === undefined) throw new Error("it was put there");
    const metadata = { ...found.metadata, creationTimestamp };
    objects.set(NAME, { ...found, metadata, ...(status && { status }) });
  };

  test("waits until that one is revoked, which would end it too", async () => {
    anew(fromThen(1_000));
    expect(await bootstrap()).toMatchObject({ status: 409, code: "GatewayNotRevoked" });
    expect(order).toEqual([]);
    const writer = { epoch: await database.acquireEpoch("test") };
    await store.revoke(writer, (await store.gateway(NAME))?.id ?? "", new Date(), []);
    expect(await bootstrap()).toMatchObject({ status: 201 });
  });

  test.each<[string, string, Gateway["status"]]>([
    ["the object is older", fromThen(-1_000), {}],
    ["its status names the gateway", fromThen(1_000), { gatewayId: "0197f0a4-2f1c-7b3e-9d55-6f0f3c1f2a77" }],
  ])("is made where %s", async (_, creationTimestamp, status) => {
    anew(creationTimestamp, status);
    expect(await bootstrap()).toMatchObject({ status: 201 });
  });
});

test("what is deleted is the object that was seen, and that is on record", async () => {
  put(NAME);
  expect(await ask("deleteGateway", { params: { name: NAME } })).toMatchObject({ status: 204 });
  expect(announced).toEqual([`Delete Gateway ${NAME}`]);
  expect(order).toEqual([`delete uid-${NAME}`]);
  expect(await ask("deleteGateway", { params: { name: NAME } })).toMatchObject({ status: 404, code: "NotFound" });
});

test("gateways are listed for who may, and one by one", async () => {
  put("gw-b");
  put("gw-a", { environment: "NPR" });
  const notReady = { ready: false, reason: "Progressing", message: "it was not looked at yet" };
  expect((await ask("listGateways")).body).toEqual({
    items: [
      { name: "gw-a", environment: "NPR", ...notReady },
      { name: "gw-b", ...notReady },
    ],
  });
  expect(await ask("getGateway", { params: { name: "gw-b" } })).toMatchObject({ status: 200, body: { name: "gw-b" } });
  lists = false;
  expect((await ask("listGateways")).body).toEqual({ items: [] });
});

describe("their health", () => {
  beforeEach(async () => {
    put("gw-new", { role: "primary" });
    await bootstrap({ environment: "NPR", role: "primary" });
    const now = new Date();
    const place = { environment: "NPR", role: "primary" as const };
    const redeemed = await store.redeem({
      hash: sha256(`token of ${NAME}`),
      keyDigest: sha256("k"),
      place,
      now,
      audit: () => [],
    });
    if (typeof redeemed === "string") throw new Error(redeemed);
    const certificateNotAfter = new Date(now.getTime() + 90 * DAY_MS).toISOString();
    const told = { version: "1.5.0", problems: ["database"], queueLength: 12, certificateNotAfter };
    await store.heartbeat(redeemed.id, told);
  });

  test("is told with everything to who may list them", async () => {
    expect((await ask("getGatewayHealth")).body).toEqual({
      items: [
        {
          name: NAME,
          environment: "NPR",
          role: "primary",
          status: "degraded",
          healthScore: 0.75,
          lastHeartbeat: expect.any(String),
          ageSeconds: expect.any(Number),
          version: "1.5.0",
          queueLength: 12,
          certificateNotAfter: expect.any(String),
          problems: ["database"],
        },
        { name: "gw-new", role: "primary", status: "awaitingRegistration", healthScore: 0, problems: [] },
      ],
    });
  });

  test("of one that has registered anew is not that of its life before", async () => {
    const place = { environment: "NPR", role: "primary" as const };
    const expiresAt = new Date(Date.now() + DAY_MS);
    const hash = sha256("another token");
    await store.addToken(UNLED, { name: NAME, place, hash, expiresAt, mac: hash, audit: () => [] });
    const now = new Date(Date.now() + 10_000);
    await store.redeem({ hash, keyDigest: sha256("another"), place, now, audit: () => [] });
    const { items } = (await ask("getGatewayHealth")).body as unknown as { items: readonly object[] };
    const { ageSeconds: _, ...told } = items[0] as { ageSeconds: number };
    expect(told).toEqual({ name: NAME, ...place, status: "healthy", healthScore: 1, problems: [] });
  });

  test("is told in a word to anyone else", async () => {
    lists = false;
    expect((await ask("getGatewayHealth")).body).toEqual({
      items: [
        { name: NAME, environment: "NPR", role: "primary", status: "degraded" },
        { name: "gw-new", role: "primary", status: "awaitingRegistration" },
      ],
    });
  });
});
