/** A Key Vault that a gateway calls is a Key Vault. */
import { until } from "../../lab/poll.ts";
import { Stalled } from "../errors.ts";
import { FakeAuditLog } from "../ports/fake-audit-log.ts";
import { FakeDatabase } from "../ports/fake-database.ts";
import { FakeTargetVault } from "../ports/fake-target-vault.ts";
import { targetVaultContract } from "../ports/target-vault.contract.ts";
import { Ambiguous, Throttled } from "../ports/target-vault.ts";
import type { TargetVaults, VaultAccess } from "../ports/target-vaults.ts";
import { Sensitive } from "../sensitive.ts";
import { GatewayVaults } from "./gateway-vaults.ts";
import { KeyVaultCalls } from "./key-vault-calls.ts";
import { ofAnyKind } from "./tasks.ts";
import { NPR_GATEWAY, TaskWorld, type TestGateway } from "./testing/task-world.ts";

const { signal } = new AbortController();
const ACCESS: VaultAccess = {
  uid: "uid",
  url: "https://fake.vault.azure.net/",
  auth: { kind: "Gateway", gateway: NPR_GATEWAY, clientId: "client", environments: ["NPR"] },
  callsPer10Seconds: 100,
};

/** The gateway's own Key Vaults: one, which asks before each request. */
class OneVault implements TargetVaults {
  readonly vault: FakeTargetVault;
  readonly opened: VaultAccess[] = [];
  readonly forgotten: string[] = [];
  refuses: Error | undefined;

  constructor(vault: FakeTargetVault) {
    this.vault = vault;
  }

  open(access: VaultAccess, _priority: unknown, beforeRequest: () => void = () => {}) {
    if (this.refuses !== undefined) throw this.refuses;
    this.opened.push(access);
    const asking = (target: FakeTargetVault, property: keyof FakeTargetVault) => {
      const value = target[property];
      if (typeof value !== "function") return value;
      return (...args: never[]) => {
        beforeRequest();
        return (value as (...given: never[]) => unknown).apply(target, args);
      };
    };
    return new Proxy(this.vault, { get: (target, property) => asking(target, property as keyof FakeTargetVault) });
  }

  forget(uid: string): void {
    this.forgotten.push(uid);
  }
  forgetAll(): void {}
  states() {
    return [];
  }
  async close(): Promise<void> {}
}

let world: TaskWorld;
let gateway: TestGateway;
let there: FakeTargetVault;
let own: OneVault;
let database: FakeDatabase;
let elapsed = 0;
let calls: KeyVaultCalls;
let vaults: GatewayVaults;

beforeEach(async () => {
  world = new TaskWorld();
  gateway = await world.gateway(NPR_GATEWAY, "NPR");
  there = new FakeTargetVault();
  own = new OneVault(there);
  database = new FakeDatabase();
  elapsed = 0;
  calls = new KeyVaultCalls({
    vaults: own,
    audit: new FakeAuditLog(database),
    requestTimeoutMs: 10_000,
    elapsed: () => elapsed,
  });
  gateway.start(ofAnyKind(calls));
  vaults = new GatewayVaults(none, world.exchange);
});
afterEach(() => world.stop());

const none = new OneVault(new FakeTargetVault());
const open = () => vaults.open(ACCESS, "Change");
const set = (name: string, value = "value") => open().set({ name, value: new Sensitive(value), tags: {} }, signal);

describe("as the contract has it", () => {
  targetVaultContract(() => ({
    vault: open(),
    hands: {
      put: async (name, value, tags) => void there.put(name, value, tags),
      tag: async (name, tags) => there.edit(name, { tags }),
      disable: async (name) => there.edit(name, { enabled: false }),
      delete: async (name) => there.remove(name),
      beginDelete: async (name) => there.suspend(name),
    },
  }));
});

test("the gateway opens it with its own managed identity, and what the KeyVault may use of its budget", async () => {
  await set("entry");
  expect(own.opened).toEqual([
    {
      uid: "primary/uid",
      url: ACCESS.url,
      auth: { kind: "ManagedIdentity", clientId: "client" },
      callsPer10Seconds: 100,
    },
  ]);
});

test("what fails there fails here as what it is", async () => {
  own.refuses = new Stalled("VaultHostNotAllowed", "not allowed there");
  await expect(set("entry")).rejects.toEqual(own.refuses);
  own.refuses = undefined;
  there.disturb = () => new Throttled(5_000);
  await expect(open().get("entry", signal)).rejects.toMatchObject({ code: "VaultThrottled", retryAfterMs: 5_000 });
  there.disturb = () => "carriedOut";
  await expect(set("entry")).rejects.toBeInstanceOf(Ambiguous);
});

test("who looks at an entry that a write of before is still under way for sees what came of it; others do not wait", async () => {
  const gate = Promise.withResolvers<void>();
  const written = there.set.bind(there);
  there.set = async (request, given) => {
    await gate.promise;
    return written(request, given);
  };
  const abort = new AbortController();
  const value = new Sensitive("value");
  const begun = open().set({ name: "entry", value, tags: {} }, abort.signal);
  await until("it is under way", () => own.opened.length === 1, { timeoutMs: 5_000 });
  abort.abort(new Error("another one leads"));
  await expect(begun).rejects.toThrow("another one leads");
  const looked = open().get("entry", signal);
  expect(await open().get("other", signal)).toMatchObject({ kind: "Absent" });
  gate.resolve();
  expect(await looked).toMatchObject({ kind: "Present" });
});

test("a look of which nothing is known is tried again, since it changes nothing; a write is looked for", async () => {
  world.standings.set(NPR_GATEWAY, { active: true, environmentEpoch: 1n, actsFor: [NPR_GATEWAY], leaseMs: 12_000 });
  await gateway.stop();
  const begun = [open().get("entry", signal), set("entry")].map((call) => call.catch((error: unknown) => error));
  await until("they wait", () => world.store.size === 2, { timeoutMs: 5_000 });
  await world.exchange.poll(gateway.member, { waitMs: 0, most: 2 }, signal);
  world.activate(NPR_GATEWAY, 2n);
  await world.exchange.poll(gateway.member, { waitMs: 0, most: 2 }, signal);
  const [looked, written] = await Promise.all(begun);
  expect(looked).toMatchObject({ code: "GatewayUnavailable" });
  expect(written).toBeInstanceOf(Ambiguous);
});

test("no request goes out for which the lease does not last", async () => {
  await set("before");
  world.standings.set(NPR_GATEWAY, { active: true, environmentEpoch: 2n, actsFor: [NPR_GATEWAY], leaseMs: 9_000 });
  world.exchange.hint();
  const [failed] = await Promise.allSettled([set("after")]);
  expect(failed).toMatchObject({ status: "rejected", reason: { code: "GatewayFenced" } });
  expect(there.calls).toBe(1);
});

test("the first page is a call of its own, and the others come many at a time", async () => {
  for (let at = 0; at < 130; at += 1) there.put(`entry-${at}`, "value");
  const tasks = () => world.ended.length;
  const [first] = await all(take(open().list(signal), 1));
  expect([first?.length, tasks()]).toEqual([25, 1]);
  const pages = await all(open().list(signal));
  expect([pages.flat().length, tasks()]).toEqual([130, 3]);
});

describe("a vault that is slow", () => {
  let go: () => void;
  beforeEach(() => {
    const gate = Promise.withResolvers<void>();
    go = gate.resolve;
    const looked = there.get.bind(there);
    there.get = async (...given) => {
      await gate.promise;
      return looked(...given);
    };
  });
  const looks = (vaults: GatewayVaults, of: string, many: number, access = ACCESS) =>
    Array.from({ length: many }, (_, at) => vaults.open(access, "Change").get(`${of}-${at}`, signal));

  test("has no more than four calls under way of one replica; the others follow, and another vault's do not wait", async () => {
    const looked = looks(vaults, "entry", 20);
    await until("some are under way", () => own.opened.length === 4, { timeoutMs: 5_000 });
    const url = "https://other.vault.azure.net/";
    await vaults.open({ ...ACCESS, uid: "other", url }, "Change").getDeleted("entry", signal);
    expect(own.opened.map((access) => access.url)).toEqual([...Array(4).fill(ACCESS.url), url]);
    expect(world.store.size).toBe(4);
    go();
    expect(await Promise.all(looked)).toHaveLength(20);
  });

  test("leaves room at the gateway whoever asks, and so do all vaults together", async () => {
    const refused = async (of: string, access: VaultAccess) => {
      const replicas = Array.from({ length: 2 }, () => new GatewayVaults(none, world.exchange));
      const looked = replicas.flatMap((vaults, at) => looks(vaults, `${of}-${at}`, 4, access));
      const ended = looked.map((look) => look.then(() => "Looked").catch(({ code }) => code as string));
      await until("all are there", () => world.ended.length + world.store.size === started + 8, { timeoutMs: 5_000 });
      started += 8;
      return ended;
    };
    let started = 0;
    const all: Promise<string>[] = [];
    for (const name of ["one", "two", "three"])
      all.push(...(await refused(name, { ...ACCESS, uid: name, url: `https://${name}.vault.azure.net/` })));
    await until("the others are refused", () => world.ended.length === 12, { timeoutMs: 5_000 });
    go();
    const told = await Promise.all(all);
    expect(told.map((each) => each === "VaultThrottled").filter(Boolean)).toHaveLength(12);
    expect(own.opened).toHaveLength(12);
  });
});

test("pages with much in them come with more tasks", async () => {
  const tags = Object.fromEntries(Array.from({ length: 15 }, (_, at) => [`tag-${at}`, "x".repeat(256)]));
  for (let at = 0; at < 425; at += 1) there.put(`entry-${at}`, "value", tags);
  expect((await all(open().list(signal))).flat()).toHaveLength(425);
  // The first page, then pages of 25 entries with 4 KB each.
  expect(world.ended.length).toBeGreaterThanOrEqual(5);
});

test("a list that the gateway does not know any more is begun anew by whoever looks", async () => {
  for (let at = 0; at < 60; at += 1) there.put(`entry-${at}`, "value");
  const pages = open().list(signal)[Symbol.asyncIterator]();
  await pages.next();
  elapsed += 61_000;
  await expect(pages.next()).rejects.toMatchObject({ code: "GatewayUnavailable" });
  expect((await all(open().list(signal))).flat()).toHaveLength(60);
});

test("a vault that is not called any more is forgotten there", async () => {
  await set("entry");
  elapsed += 901_000;
  await set("entry");
  expect(own.forgotten).toEqual(["primary/uid"]);
});

test("each call with a value is on the gateway's record before it is made, without one", async () => {
  await set("entry", "canary");
  await open().get("entry", signal);
  await all(open().list(signal));
  const rows = database.audit.map(({ entry }) => entry);
  expect(rows.map(({ action, subject, details }) => [action, subject.name, details.operation])).toEqual([
    ["VaultCallRequested", "https://fake.vault.azure.net/secrets/entry", "set"],
    ["VaultCallRequested", "https://fake.vault.azure.net/secrets/entry", "get"],
  ]);
  expect(JSON.stringify(rows)).not.toContain("canary");
});

async function all<T>(from: AsyncIterable<T>): Promise<readonly T[]> {
  const found: T[] = [];
  for await (const each of from) found.push(each);
  return found;
}

async function* take<T>(from: AsyncIterable<T>, most: number): AsyncIterable<T> {
  let taken = 0;
  for await (const each of from) {
    yield each;
    taken += 1;
    if (taken === most) return;
  }
}
