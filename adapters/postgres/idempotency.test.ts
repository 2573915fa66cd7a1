/** Requests with an idempotency key, changes and answers included, on replicas that die and replicas that are late. */
import { createHash } from "node:crypto";
import type { Authenticated } from "../../core/access/subject.ts";
import { IdempotentRequests } from "../../core/idempotency/requests.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import { actor, identity, lifecycle } from "../../core/ports/samples.ts";
import { UNLED } from "../../core/ports/vault-store.ts";
import { Sensitive } from "../../core/sensitive.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

const VALUE = "canary-of-idempotency";
const entries = [
  { key: "user", literal: "shop" },
  { key: "password", external: {} },
];
const who: Authenticated = {
  subject: { kind: "LocalUser", id: "alice", email: "a@example.com" },
  via: "Token",
  id: "s",
};
const request = { who, key: "k", content: ["putSecretValues", VALUE] };
const forever = new Promise<never>(() => {});

let server: TestServer;
let installation: TestInstallation;
let nowMs: number;

beforeAll(async () => {
  server = await startServer();
});
beforeEach(async () => {
  installation = await openInstallation(await server.database());
  const { stores, vault } = installation;
  const writer = { epoch: await stores.leadership.acquireEpoch("test") };
  await stores.keys.makeIdentityKey(writer, "Identity", 1);
  await vault.prepareProject(writer, "payments");
  await vault.store(writer, {
    identity: identity("one"),
    seen: undefined,
    entries,
    sources: new Map(),
    lifecycle,
    actor,
  });
  nowMs = Date.parse("2026-03-01T10:00:00Z");
});
afterEach(() => installation.stores.close());
afterAll(() => server.stop());

const replica = (onLost: (error: unknown) => void = () => {}) => {
  const { requests: store, keys } = installation.stores;
  return new IdempotentRequests({ store, keys, onLost, now: () => new Date(nowMs) });
};
const later = (ms: number) => {
  nowMs += ms;
};

/** A change as REST makes it: a new version, whatever was there before. */
async function put(attempt: string, value = VALUE): Promise<{ version: number }> {
  const { vault } = installation;
  const by: Actor = { kind: "Subject", subject: "LocalUser a@example.com", via: "Token", session: "s", attempt };
  const seen = await vault.describe(identity("one"));
  const values = new Map([["password", new Sensitive(`${value} ${seen?.currentVersion ?? 0}`)]]);
  const { record } = await vault.put(UNLED, {
    identity: identity("one"),
    entries,
    readers: undefined,
    values,
    lifecycle,
    actor: by,
    seen,
  });
  return { version: record.currentVersion };
}

async function versions(): Promise<number> {
  const record = await installation.vault.describe(identity("one"));
  return record?.currentVersion ?? 0;
}

const rows = () =>
  withConnection(
    installation.database,
    async (client) => (await client.query("SELECT * FROM mazevault.requests")).rows,
  );

test("of forty at once, on four replicas, one is done, and all are told the same", async () => {
  const before = await versions();
  const replicas = Array.from({ length: 4 }, () => replica());
  const send = (n: number) => replicas[n % 4]?.once(request, put);
  const first = await Promise.allSettled(Array.from({ length: 40 }, (_, n) => send(n)));
  const answers = first.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
  const refusals = first.flatMap((each) => (each.status === "rejected" ? [each.reason.code] : []));
  expect(answers.length).toBeGreaterThan(0);
  expect(new Set(refusals)).toEqual(new Set(refusals.length === 0 ? [] : ["RequestInProgress"]));
  later(86_399_000);
  const again = await Promise.all(Array.from({ length: 40 }, (_, n) => send(n)));
  expect(new Set([...answers, ...again].map((answer) => answer?.version)).size).toBe(1);
  expect((await versions()) - before).toBe(1);
  expect(await installation.stores.audit.verify()).toMatchObject({ ok: true });
});

test("another request, caller or key is another one", async () => {
  const before = await versions();
  await replica().once(request, put);
  const other = { ...request, content: ["putSecretValues", "another value"] };
  await expect(replica().once(other, put)).rejects.toMatchObject({ code: "IdempotencyKeyReused" });
  const bob: Authenticated = { ...who, subject: { kind: "LocalUser", id: "bob", email: "a@example.com" } };
  const key: Authenticated = { ...who, via: "ApiKey", id: "of alice", scopes: ["read"] };
  for (const each of [
    { ...request, who: bob },
    { ...request, who: key },
    { ...request, key: "k2" },
  ]) {
    await replica().once(each, put);
  }
  expect((await versions()) - before).toBe(4);
  later(86_400_000);
  await replica().once(request, put);
  expect((await versions()) - before).toBe(5);
});

test("whoever dies after the change has done it once, and that is known", async () => {
  const before = await versions();
  const { promise: changed, resolve } = Promise.withResolvers<void>();
  void replica().once(request, async (attempt) => {
    await put(attempt);
    resolve();
    return forever;
  });
  await changed;
  await expect(replica().once(request, put)).rejects.toMatchObject({ code: "RequestInProgress" });
  later(60_000);
  await expect(replica().once(request, put)).rejects.toMatchObject({ code: "OutcomeUnknown" });
  expect((await versions()) - before).toBe(1);
});

test("whoever dies before the change is followed by another, and if he only was late changes nothing", async () => {
  const before = await versions();
  const { promise: begun, resolve } = Promise.withResolvers<string>();
  void replica().once(request, async (attempt) => {
    resolve(attempt);
    return forever;
  });
  const late = await begun;
  later(60_000);
  const answer = await replica().once(request, put);
  await expect(put(late, "late")).rejects.toMatchObject({ code: "Failed" });
  expect(await replica().once(request, put)).toEqual(answer);
  expect((await versions()) - before).toBe(1);
});

test("a request that failed may be sent again, unless it changed something before it did", async () => {
  const fails = async () => {
    throw new Error("refused");
  };
  await expect(replica().once(request, fails)).rejects.toThrow("refused");
  expect(await rows()).toEqual([]);
  const failsLate = async (attempt: string) => {
    await put(attempt);
    return fails();
  };
  await expect(replica().once(request, failsLate)).rejects.toThrow("refused");
  await expect(replica().once(request, put)).rejects.toMatchObject({ code: "OutcomeUnknown" });
});

test("an answer that cannot be kept is given all the same", async () => {
  const lost: unknown[] = [];
  await withConnection(installation.database, (client) =>
    client.query("ALTER TABLE mazevault.requests ADD CHECK (answer IS NULL)"),
  );
  const answer = await replica((error) => lost.push(error)).once(request, put);
  expect(answer).toEqual({ version: 2 });
  expect(lost).toHaveLength(1);
});

test("what is kept tells nothing, belongs where it stands, and goes after a day", async () => {
  const secret = { secret: VALUE };
  await replica().once(request, async () => secret);
  await replica().once({ ...request, key: "other" }, async () => ({ secret: "of another" }));
  const kept = await rows();
  const bytes = Buffer.concat(kept.flatMap((row) => Object.values(row).filter(Buffer.isBuffer)));
  const bare = createHash("sha256").update(VALUE).digest();
  for (const plain of [Buffer.from(VALUE), Buffer.from("alice"), bare]) expect(bytes.includes(plain)).toBe(false);
  expect(await replica().once(request, () => forever)).toEqual(secret);

  await withConnection(installation.database, (client) =>
    client.query("UPDATE mazevault.requests r SET answer = o.answer FROM mazevault.requests o WHERE o.id <> r.id"),
  );
  await expect(replica().once(request, () => forever)).rejects.toMatchObject({ code: "TamperDetected" });
  later(86_400_001);
  await replica().forgetExpired();
  expect(await rows()).toEqual([]);
});
