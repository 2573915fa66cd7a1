/** Tokens, registrations and revocation over several passes, with the fleet in memory. */
import { createHash, randomBytes } from "node:crypto";
import { Fenced, Unavailable } from "../../core/errors.ts";
import { gatewayEntry } from "../../core/fleet/audit-entries.ts";
import type { Registrations } from "../../core/fleet/registrations.ts";
import { FakeDatabase } from "../../core/ports/fake-database.ts";
import { FakeFleetStore } from "../../core/ports/fake-fleet-store.ts";
import { UNLED, type Writer } from "../../core/ports/vault-store.ts";
import { API_VERSION } from "../../crds/common.ts";
import type { Gateway, GatewaySpec } from "../../crds/gateway.ts";
import { ApiError } from "../runtime/api-error.ts";
import type { KubernetesApi, Preconditions, WritableObject } from "../runtime/transport.ts";
import { GatewayController } from "./index.ts";

const { signal } = new AbortController();
const NAME = "gw-npr-primary";
const SECRET = `${NAME}-bootstrap`;
const HOUR = 3_600_000;

interface StoredSecret extends WritableObject {
  readonly metadata: WritableObject["metadata"] & { readonly uid: string; readonly resourceVersion: string };
  readonly stringData?: Readonly<Record<string, string>>;
}

const refused = (status: number, reason: string, name: string) =>
  new ApiError({ status, reason, message: reason, details: { name } });

/** Gateways and core Secrets of one namespace, with what the API server says of them. */
class CoreSecrets {
  readonly stored = new Map<string, StoredSecret>();
  #version = 0;

  readonly get = async ({ kind }: { kind: string }, { name }: { name: string }) => {
    if (kind === "Gateway") {
      if (!stands) throw refused(404, "NotFound", name);
      return { metadata: object.metadata };
    }
    const found = this.stored.get(name);
    if (found === undefined) throw refused(404, "NotFound", name);
    const { metadata } = found;
    return { metadata };
  };

  readonly create = async (_type: unknown, object: WritableObject) => {
    const { name } = object.metadata;
    if (this.stored.has(name)) throw refused(409, "AlreadyExists", name);
    this.#version += 1;
    const metadata = { ...object.metadata, uid: `uid-${this.#version}`, resourceVersion: String(this.#version) };
    this.stored.set(name, { ...object, metadata });
    return { metadata };
  };

  readonly delete = async (_type: unknown, { name }: { name: string }, options?: { preconditions?: Preconditions }) => {
    const found = this.stored.get(name);
    if (found === undefined) throw refused(404, "NotFound", name);
    if (options?.preconditions?.uid !== found.metadata.uid) throw refused(409, "Conflict", name);
    this.stored.delete(name);
  };

  get api(): Pick<KubernetesApi, "get" | "create" | "delete"> {
    return this as unknown as Pick<KubernetesApi, "get" | "create" | "delete">;
  }

  get token(): string | undefined {
    return this.stored.get(SECRET)?.stringData?.token;
  }
}

const sha256 = (text: string): Buffer => createHash("sha256").update(text).digest();

let database: FakeDatabase;
let store: FakeFleetStore;
let secrets: CoreSecrets;
let writer: Writer;
let controller: GatewayController;
let now: Date;
/** What happens once the token is kept, and does not count yet. */
let afterKept: () => void;
/** Whose copies were. */
let forgotten: unknown[];

const issueToken: Registrations["issueToken"] = async (by, { name, place, validForMs = 24 * HOUR, actor, keep }) => {
  const token = randomBytes(32).toString("base64url");
  const expiresAt = new Date(now.getTime() + validForMs);
  await keep?.(token, expiresAt);
  afterKept();
  const audit = (id: string) => [gatewayEntry("GatewayTokenIssued", { id, name }, actor)];
  const made = await store.addToken(by, { name, place, hash: sha256(token), expiresAt, mac: Buffer.alloc(32), audit });
  if (made === "PlaceDiffers") throw new Error("the place differs");
  return { gatewayId: made.id, token, expiresAt };
};

beforeEach(async () => {
  database = new FakeDatabase();
  store = new FakeFleetStore(database, { certificatesOf: async () => [] }, undefined, () => now);
  secrets = new CoreSecrets();
  writer = { epoch: await database.acquireEpoch("test") };
  now = new Date("2026-03-01T12:00:00Z");
  afterKept = () => {};
  forgotten = [];
  controller = new GatewayController({
    api: secrets.api,
    store,
    copies: {
      forgetGatewayCopies: async (by, of) => {
        database.fence(by);
        forgotten.push(of);
      },
    },
    registrations: { issueToken },
    systemNamespace: "mazevault-system",
    writer: () => writer,
    now: () => now,
  });
});

let object: Gateway;
/** Whether the API server has the object. */
let stands: boolean;
beforeEach(() => {
  stands = true;
  object = gateway();
});

const gateway = (spec: GatewaySpec = {}, uid = "uid-gateway"): Gateway => ({
  apiVersion: API_VERSION,
  kind: "Gateway",
  metadata: { name: NAME, uid, resourceVersion: "1", creationTimestamp: now.toISOString() },
  spec,
});

/** As the runner does it: until nothing is left to do or something fails, and then the status is written. */
async function pass() {
  let seen = await controller.observe(object, signal);
  for (let round = 0; round < 5; round++) {
    const { actions, status, next } = controller.decide(object, seen, now);
    if (actions.length === 0) {
      object = { ...object, status: status.fields as NonNullable<Gateway["status"]> };
      return { next, reasons: status.conditions.map(({ reason }) => reason) };
    }
    try {
      for (const action of actions) seen = controller.learn(seen, action, await controller.perform(action, signal));
    } catch (error) {
      object = { ...object, status: { ...object.status, ...(status.fields as Gateway["status"]) } };
      throw error;
    }
  }
  throw new Error("it does not come to an end");
}

const later = (ms: number): void => {
  now = new Date(now.getTime() + ms);
};

const redeem = (token: string | undefined, place = { environment: "NPR", role: "primary" as const }) =>
  store.redeem({ hash: sha256(token ?? ""), keyDigest: sha256("key"), place, now, audit: () => [] });

async function registers(): Promise<string> {
  const redeemed = await redeem(secrets.token);
  if (typeof redeemed === "string") throw new Error(redeemed);
  await store.confirm(redeemed.id, sha256("key"), 1, now, []);
  const certificateNotAfter = new Date(now.getTime() + 2_000 * HOUR).toISOString();
  await store.heartbeat(redeemed.id, { version: "1.5.0", problems: [], queueLength: 0, certificateNotAfter });
  return redeemed.id;
}

const recorded = (action: string) => database.audit.filter(({ entry }) => entry.action === action).length;

test("it gets a token, once, which is deleted when it has registered and come back", async () => {
  expect((await pass()).reasons).toEqual(["AwaitingRegistration", "AwaitingRegistration"]);
  const first = secrets.token;
  expect(secrets.stored.get(SECRET)).toMatchObject({
    type: "Opaque",
    metadata: { namespace: "mazevault-system", ownerReferences: [{ kind: "Gateway", name: NAME, uid: "uid-gateway" }] },
    stringData: { token: first, expiresAt: "2026-03-02T12:00:00.000Z" },
  });
  expect(object.status?.bootstrapSecretRef).toMatchObject({ name: SECRET, expiresAt: "2026-03-02T12:00:00.000Z" });
  later(1_000);
  await pass();
  expect(secrets.token).toBe(first);
  expect(recorded("GatewayTokenIssued")).toBe(1);

  const id = await registers();
  expect((await pass()).reasons).toEqual(["Succeeded", "Available"]);
  expect(secrets.stored.size).toBe(0);
  expect(object.status).toMatchObject({ gatewayId: id, environment: "NPR", role: "primary", version: "1.5.0" });
  expect(object.status).not.toHaveProperty("bootstrapSecretRef");
});

test("it is told to be silent, and to be back", async () => {
  await pass();
  const id = await registers();
  later(181_000);
  expect((await pass()).reasons).toEqual(["Succeeded", "HeartbeatMissing"]);
  const { heartbeat } = (await store.gateway(NAME)) ?? {};
  if (heartbeat === undefined) throw new Error("there was no heartbeat");
  const { at: _, ...told } = heartbeat;
  await store.heartbeat(id, told);
  expect((await pass()).reasons).toEqual(["Succeeded", "Available"]);
});

test("the token is made anew before it ends, and the one before does not count any more", async () => {
  await pass();
  const first = secrets.token;
  later(23 * HOUR);
  await pass();
  expect(secrets.token).not.toBe(first);
  expect(await redeem(first)).toBe("Expired");
  expect(await redeem(secrets.token)).toMatchObject({ name: NAME });
});

test("whoever dies between the core Secret and the token leaves none that counts and nobody has", async () => {
  afterKept = () => {
    throw new Unavailable("DatabaseUnavailable", "PostgreSQL does not answer");
  };
  await expect(pass()).rejects.toMatchObject({ code: "DatabaseUnavailable" });
  const lost = secrets.token;
  expect(lost).toBeDefined();
  afterKept = () => {};
  await pass();
  expect(secrets.token).not.toBe(lost);
  expect(await redeem(lost)).toBe("Unknown");
  expect(await redeem(secrets.token)).toMatchObject({ name: NAME });
});

test("a token that somebody was given in the same moment is not ended", async () => {
  const seen = await controller.observe(object, signal);
  const { actions } = controller.decide(object, seen, now);
  const actor = { kind: "Controller", name: "test" } as const;
  const { token } = await issueToken(UNLED, { name: NAME, place: {}, actor });
  for (const action of actions) await controller.perform(action, signal);
  expect(secrets.stored.size).toBe(0);
  await pass();
  expect(secrets.stored.size).toBe(0);
  expect(await redeem(token)).toMatchObject({ name: NAME });
});

test("a core Secret that is not ours stays as it is, also when the Gateway is deleted", async () => {
  const foreign = { apiVersion: "v1", kind: "Secret", metadata: { name: SECRET }, stringData: { token: "theirs" } };
  await secrets.create(undefined, foreign);
  const before = structuredClone(secrets.stored.get(SECRET));
  expect((await pass()).reasons).toEqual(["TargetNotOwned", "AwaitingRegistration"]);
  expect(recorded("GatewayTokenIssued")).toBe(0);
  stands = false;
  await controller.absent(NAME, signal);
  expect(secrets.stored.get(SECRET)).toEqual(before);
});

test("deleting revokes once, ends the token, and the name may register anew for another place", async () => {
  await pass();
  const former = secrets.token;
  stands = false;
  await controller.absent(NAME, signal);
  await controller.absent(NAME, signal);
  expect(recorded("GatewayRevoked")).toBe(1);
  expect(secrets.stored.size).toBe(0);
  expect(forgotten).toEqual([{ gateway: NAME }, { gateway: NAME }]);
  expect(await redeem(former)).toBe("Expired");
  stands = true;

  object = gateway({ environment: "PRO" }, "uid-anew");
  await pass();
  expect(await redeem(secrets.token, { environment: "PRO", role: "primary" })).toMatchObject({ environment: "PRO" });
});

test("what is late about a former object leaves the one alone that was made anew", async () => {
  await pass();
  const { token } = secrets;
  await controller.absent(NAME, signal);
  expect(recorded("GatewayRevoked")).toBe(0);
  expect(forgotten).toEqual([]);
  expect(secrets.token).toBe(token);
  expect(await redeem(token)).toMatchObject({ name: NAME });
});

test("an object that was made anew while nobody watched begins anew", async () => {
  await pass();
  const id = await registers();
  later(HOUR);
  object = gateway({}, "uid-anew");
  expect((await pass()).reasons).toEqual(["AwaitingRegistration", "AwaitingRegistration"]);
  expect(recorded("GatewayRevoked")).toBe(1);
  expect(await store.gateway(NAME)).toMatchObject({ id, registeredAt: undefined });
});

test("it is revoked also when that fails at first", async () => {
  await pass();
  const id = await registers();
  later(HOUR);
  object = gateway({}, "uid-anew");
  const revoke = store.revoke.bind(store);
  store.revoke = async () => {
    store.revoke = revoke;
    throw new Unavailable("DatabaseUnavailable", "PostgreSQL does not answer");
  };
  await expect(pass()).rejects.toMatchObject({ code: "DatabaseUnavailable" });
  expect(recorded("GatewayRevoked")).toBe(0);
  await pass();
  expect(recorded("GatewayRevoked")).toBe(1);
  expect(await store.gateway(NAME)).toMatchObject({ id, registeredAt: undefined });
});

test("who does not lead any more neither issues nor revokes", async () => {
  await pass();
  await database.acquireEpoch("another");
  stands = false;
  await expect(controller.absent(NAME, signal)).rejects.toBeInstanceOf(Fenced);
  stands = true;
  later(23 * HOUR);
  await expect(pass()).rejects.toBeInstanceOf(Fenced);
});
