import { randomUUID } from "node:crypto";
import type { SecretEntry } from "../../crds/secret.ts";
import { Stalled, Unavailable, Waiting } from "../errors.ts";
import { actor, identity } from "../ports/samples.ts";
import { Throttled } from "../ports/target-vault.ts";
import { Conflict } from "../ports/vault-store.ts";
import { Sensitive } from "../sensitive.ts";
import { OWNER_TAG, ownerOf } from "../sync/ownership.ts";
import { Crash, mortality, mortalVault } from "../sync/testing/world.ts";
import { LEASE_MS } from "./key-vault-storage.ts";
import { KeptWorld } from "./testing/kept-world.ts";

let world: KeptWorld;

beforeEach(async () => {
  world = await KeptWorld.start();
});

const entries: readonly SecretEntry[] = [
  { key: "user", literal: "orders" },
  { key: "password", generate: { kind: "Password" } },
  { key: "api_key", external: {} },
  { key: "url", template: "pg://{{ user }}:{{ password | url_encode }}@db" },
];
const external: readonly SecretEntry[] = [
  { key: "a", external: {} },
  { key: "b", external: {} },
];
const failure = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );
const refusal = async (promise: Promise<unknown>) => {
  const error = await failure(promise);
  if (!(error instanceof Stalled || error instanceof Waiting || error instanceof Unavailable)) throw error;
  return { code: error.code, message: error.message };
};
test("values go into the vault, one entry for each key, and are read back by their versions", async () => {
  const record = await world.apply(entries);
  expect(record.vaultUrl).toBe(world.target.url);
  const values = await world.values();
  expect(values).toEqual({
    user: "orders",
    password: world.shown("one--password"),
    url: world.shown("one--url"),
  });
  expect(values.url).toBe(`pg://orders:${encodeURIComponent(values.password ?? "")}@db`);
  expect(world.actions()).toEqual([
    "SecretVersionCreated",
    "VaultEntryWritten",
    "VaultEntryWritten",
    "VaultEntryWritten",
    "SecretRead",
  ]);
  expect(world.target.versions("one--password")[0]?.tags).toMatchObject({ "mazevault-key": "password" });
});

test("what is stored beside is the place of a value, however long that is", async () => {
  await world.put(external, { a: "x".repeat(20_000), b: "y" });
  const record = await world.record();
  const sealed = await world.store.readVersion(record.id, 1);
  const [long, short] = sealed?.entries.map(({ ciphertext }) => ciphertext.length) ?? [];
  expect(long).toBe(short);
  expect(long).toBeLessThan(200);
});

test("storing the same again writes nothing and asks the vault nothing", async () => {
  const record = await world.apply(entries);
  const { calls } = world.target;
  const rows = world.database.audit.length;
  expect(await world.apply(entries)).toEqual(record);
  expect(world.target.calls).toBe(calls);
  expect(world.database.audit).toHaveLength(rows);
});

test("a version is the set of its versions in the vault: only what changed is written", async () => {
  await world.apply(entries);
  const first = await world.values();
  await world.apply([{ key: "user", literal: "orders2" }, ...entries.slice(1)]);
  expect(world.target.versions("one--password")).toHaveLength(1);
  expect(world.target.versions("one--user").map(({ value }) => value)).toEqual(["orders", "orders2"]);
  expect(await world.values(1)).toEqual(first);
  expect((await world.values()).user).toBe("orders2");
});

test("rotation, rollback and put make the vault show what is current", async () => {
  const made = await world.apply(entries);
  const before = await world.values();
  const { record } = await world.vault.rotate(world.writer, made, {
    entries,
    keys: ["password"],
    cause: { kind: "Request", token: "t" },
    overlapMs: 60_000,
    actor,
  });
  expect(record.currentVersion).toBe(2);
  const rotated = await world.values();
  expect(rotated.password).not.toBe(before.password);
  expect(world.shown("one--password")).toBe(rotated.password);
  expect(await world.values(1)).toEqual(before);
  await world.vault.rollback(world.writer, record, { version: 1, entries, actor });
  expect(await world.values()).toEqual(before);
  expect(world.shown("one--password")).toBe(before.password);
  await world.put(entries, { api_key: "k1" });
  expect(world.shown("one--api-key")).toBe("k1");
  expect((await world.values()).api_key).toBe("k1");
});

test("nothing is proposed or requested: of a vault everybody reads the newest version", async () => {
  const record = await world.apply(entries);
  const request = { entries, keys: ["password"], cause: { kind: "Request" }, actor } as const;
  const refused = { code: "RotationInvalid", message: expect.stringMatching(/leave out apply/) };
  expect(await refusal(world.vault.applied.propose(world.writer, record, request))).toEqual(refused);
  expect(await refusal(world.vault.applied.requestApply(world.writer, record, actor))).toEqual(refused);
  expect(await world.record()).toEqual(record);
  expect(world.target.versions("one--password")).toHaveLength(1);
});

test("values that lost are kept as a version, and are at no end what the vault shows", async () => {
  await world.put(external, { a: "mine", b: "same" });
  const record = await world.record();
  await world.vault.keepBeside(world.writer, record, {
    entries: external,
    values: new Map([["a", new Sensitive("theirs")]]),
    actor,
  });
  expect(await world.values(2)).toEqual({ a: "theirs", b: "same" });
  expect(await world.values()).toEqual({ a: "mine", b: "same" });
  expect(world.shown("one--a")).toBe("mine");
  expect(world.target.versions("one--b")).toHaveLength(1);
});

test("bytes that are no text stand in base64, and come back as they were", async () => {
  const bytes = Buffer.from([0xff, 0x00, 0xfe]);
  await world.put(external, { a: bytes, b: "" });
  const opened = await world.vault.open(await world.record(), { actor, purpose: "Test" });
  expect(opened.values.get("a")?.reveal()).toEqual(bytes);
  expect(opened.values.get("b")?.byteLength).toBe(0);
  expect(world.target.versions("one--a")[0]).toMatchObject({
    value: bytes.toString("base64"),
    contentType: "application/octet-stream;base64",
  });
});

describe("before anything is written", () => {
  afterEach(() => {
    expect(world.target.calls).toBe(0);
    expect(world.store.records()).toEqual([]);
  });

  test.each<[string, readonly SecretEntry[], string, RegExp]>([
    [
      "a value that is too large",
      [{ key: "a", literal: "x".repeat(25 * 1024 + 1) }],
      "ValueTooLarge",
      /entry a: the value has 25601 bytes; Key Vault.* accepts 25600/,
    ],
    ["a name that is too long", [{ key: "k".repeat(200), literal: "v" }], "TargetNameInvalid", /1 to 127 letters/],
    [
      "two keys with one name",
      [
        { key: "a.b", literal: "1" },
        { key: "A_B", literal: "2" },
      ],
      "TargetNameCollision",
      /keys A_B and a\.b|keys a\.b and A_B/,
    ],
  ])("%s is refused", async (_, given, code, message) => {
    expect(await refusal(world.apply(given))).toEqual({ code, message: expect.stringMatching(message) });
  });

  test("bytes that fit only without base64 are refused", async () => {
    const refused = refusal(world.put(external, { a: Buffer.alloc(20_000, 0xff) }));
    expect(await refused).toMatchObject({ code: "ValueTooLarge", message: expect.stringContaining("26668 in base64") });
  });
});

describe("what is not ours", () => {
  test("is never overwritten, present or deleted", async () => {
    world.target.put("one--a", "theirs", { team: "x" });
    const refused = { code: "TargetNotOwned", message: expect.stringContaining("was not written by MazeVault") };
    expect(await refusal(world.put(external, { a: "mine" }))).toEqual(refused);
    world.target.remove("one--a");
    expect(await refusal(world.put(external, { a: "mine" }))).toEqual(refused);
    expect(world.target.versions("one--a").map(({ value }) => value)).toEqual(["theirs"]);
    expect(world.store.records()).toEqual([]);
    world.target.erase("one--a");
    await world.put(external, { a: "mine" });
  });

  test("of two secrets with one name the second is refused", async () => {
    await world.apply([{ key: "b--c", literal: "1" }], { name: "a" });
    const refused = await refusal(world.apply([{ key: "c", literal: "2" }], { name: "a--b" }));
    expect(refused).toMatchObject({ code: "TargetNameCollision" });
    expect(world.shown("a--b--c")).toBe("1");
  });
});

describe("what people do in the vault", () => {
  test("an edit changes nothing here, and the next change goes over it", async () => {
    await world.put(external, { a: "one" });
    world.target.put("one--a", "edited", { team: "x" });
    expect(await world.values()).toEqual({ a: "one" });
    await world.put(external, { a: "two" });
    expect(world.target.versions("one--a").map(({ value }) => value)).toEqual(["one", "edited", "two"]);
    expect(world.target.versions("one--a").at(-1)?.tags).toMatchObject({ team: "x", [OWNER_TAG]: expect.any(String) });
  });

  test("a deletion is undone by the next look", async () => {
    await world.put(external, { a: "one" });
    world.target.remove("one--a");
    expect(await refusal(world.values())).toMatchObject({
      code: "StoredValueMissing",
      message: expect.stringContaining("is being recovered"),
    });
    expect(await world.values()).toEqual({ a: "one" });
    world.target.remove("one--a");
    expect(await failure(world.put(external, { a: "two" }))).toBeInstanceOf(Waiting);
    await world.put(external, { a: "two" });
    expect(await world.values()).toEqual({ a: "two" });
    expect(world.actions()).toContain("VaultEntryRecovered");
  });

  test("a deletion after an edit is undone all the same", async () => {
    await world.put(external, { a: "one" });
    world.target.put("one--a", "edited", {});
    world.target.remove("one--a");
    expect(await failure(world.values())).toBeInstanceOf(Waiting);
    expect(await world.values()).toEqual({ a: "one" });
    world.target.remove("one--a");
    expect(await failure(world.put(external, { a: "two" }))).toBeInstanceOf(Waiting);
    await world.put(external, { a: "two" });
    expect(world.shown("one--a")).toBe("two");
  });

  test("a purge and a disabled version are told", async () => {
    await world.put(external, { a: "one", b: "two" });
    world.target.edit("one--b", { enabled: false });
    expect(await refusal(world.values())).toMatchObject({ code: "TargetDisabled" });
    world.target.edit("one--b", { enabled: true });
    world.target.erase("one--a");
    const told = await refusal(world.values());
    expect(told).toMatchObject({
      code: "StoredValueMissing",
      message: expect.stringContaining("restore it from a backup"),
    });
  });

  test("a value that is not what was stored is refused", async () => {
    await world.put(external, { a: "one" });
    const [version] = world.target.versions("one--a");
    Object.assign(version ?? {}, { value: "exchanged" });
    expect(await refusal(world.values())).toMatchObject({ code: "TamperDetected" });
    expect(world.actions()).not.toContain("SecretRead");
  });
});

describe("a project that says otherwise than before", () => {
  test("changes no secret, and does not read what the vault has", async () => {
    await world.apply(entries);
    world.orchestrates = false;
    const change = world.apply([{ key: "user", literal: "other" }]);
    expect(await refusal(change)).toMatchObject({
      code: "StorageDiffers",
      message: expect.stringContaining(world.target.url),
    });
    expect(await refusal(world.values())).toMatchObject({ code: "StorageDiffers" });
  });

  test("leaves readable what is in PostgreSQL", async () => {
    world.orchestrates = false;
    await world.apply([{ key: "user", literal: "orders" }]);
    world.orchestrates = true;
    expect(await world.values()).toEqual({ user: "orders" });
    expect(await refusal(world.apply([{ key: "user", literal: "other" }]))).toMatchObject({ code: "StorageDiffers" });
  });

  test("does not change where a record says that the values are", async () => {
    const record = await world.apply(entries);
    const found = await world.store.find(record.identity);
    Object.assign(found?.record ?? {}, { vaultUrl: "https://elsewhere.vault.azure.net/" });
    expect(await refusal(world.record())).toMatchObject({ code: "TamperDetected" });
  });
});

describe("deletion", () => {
  test("takes the entries along, for as long as the secret can be recovered", async () => {
    await world.apply(entries);
    const values = await world.values();
    await world.vault.softDelete(world.writer, await world.record(), actor);
    expect(world.shown("one--password")).toBeDefined();
    expect(await world.settle()).toBe(3);
    expect(world.shown("one--password")).toBeUndefined();
    expect(await world.settle()).toBe(0);
    await world.vault.recover(world.writer, await world.record(), actor);
    await world.settle();
    await world.settle();
    expect(await world.values()).toEqual(values);
    await world.vault.purge(world.writer, await world.record(), actor);
    await world.settle();
    expect(world.target.versions("one--password")).toEqual([]);
    expect(world.actions().filter((action) => action === "VaultEntryPurged")).toHaveLength(3);
  });

  test("and applying it again bring it back with what changed", async () => {
    await world.apply(entries);
    const { password } = await world.values();
    await world.vault.softDelete(world.writer, await world.record(), actor);
    await world.settle();
    const changed = [{ key: "user", literal: "orders2" }, ...entries.slice(1)];
    expect(await failure(world.apply(changed))).toBeInstanceOf(Waiting);
    await world.settle();
    await world.settle();
    await world.apply(changed);
    expect(await world.values()).toMatchObject({ user: "orders2", password });
  });

  test("for good is carried out for the keys that the one stored anew lacks", async () => {
    await world.put(external, { a: "one", b: "two" });
    await world.vault.purge(world.writer, await world.record(), actor);
    await world.put([{ key: "a", external: {} }], { a: "three" });
    await world.settle();
    expect(world.target.versions("one--b")).toEqual([]);
    expect(world.shown("one--a")).toBe("three");
    expect(await world.values()).toEqual({ a: "three" });
    expect(await world.entries.unsettled(world.writer, 10)).toEqual([]);
  });

  test("for good is not forgotten while the vault does not answer to the one stored anew", async () => {
    await world.put(external, { a: "one", b: "two" });
    await world.vault.purge(world.writer, await world.record(), actor);
    world.target.disturb = () => new Throttled(1_000);
    expect(await failure(world.put(external, { a: "three", b: "four" }))).toBeDefined();
    world.target.disturb = () => undefined;
    expect(await world.settle()).toBe(2);
    expect(world.target.versions("one--a")).toEqual([]);
    expect(world.target.versions("one--b")).toEqual([]);
  });

  test("never reaches what the stored one has, whatever id a row says", async () => {
    const b: SecretEntry = { key: "b", literal: "two" };
    await world.apply([{ key: "a", literal: "one" }, b]);
    await world.apply([b]);
    const unsettled = ["a", "b"].map((key) => ({
      key,
      entryName: `one--${key}`,
      vaultUrl: world.target.url,
      owner: ownerOf(identity("one")),
      secretId: "00000000-0000-4000-8000-000000000000",
      identity: identity("one"),
      wanted: "Purged" as const,
    }));
    world.entries.unsettled = async () => unsettled;
    await world.settle();
    expect(await world.values()).toEqual({ b: "two" });
    expect(await world.values(1)).toEqual({ a: "one", b: "two" });
  });

  test("is decided by the record: a row that says otherwise deletes nothing", async () => {
    await world.put(external, { a: "one" });
    const { id } = await world.record();
    for (const state of ["SoftDeleted", "Purged"] as const) {
      world.store.onState(id, state);
      expect(await world.settle()).toBe(0);
      expect(world.shown("one--a")).toBe("one");
    }
    world.store.onState(id, "Active");
    expect(await world.settle()).toBe(1);
    // Somebody deletes the secret behind our back: nothing is on record.
    world.store.find = async () => undefined;
    world.store.onState(id, "Purged");
    expect(await world.settle()).toBe(0);
    expect(world.shown("one--a")).toBe("one");
  });

  test("takes along what was edited by hand", async () => {
    await world.put(external, { a: "one" });
    world.target.put("one--a", "edited", { team: "x" });
    await world.vault.softDelete(world.writer, await world.record(), actor);
    await world.settle();
    expect(world.target.isDeleted("one--a")).toBe(true);
  });

  test("leaves what the vault protects, and what is another's by now", async () => {
    await world.put(external, { a: "one", b: "two" });
    world.target.purgeProtection = true;
    world.target.erase("one--b");
    world.target.put("one--b", "theirs", {});
    await world.vault.purge(world.writer, await world.record(), actor);
    expect(await world.settle()).toBe(2);
    expect(world.target.isDeleted("one--a")).toBe(true);
    expect(world.shown("one--b")).toBe("theirs");
    expect(await world.entries.unsettled(world.writer, 10)).toEqual([]);
  });

  test("waits for a vault that does not answer", async () => {
    await world.put(external, { a: "one" });
    await world.vault.purge(world.writer, await world.record(), actor);
    world.target.disturb = () => new Throttled(1_000);
    expect(await refusal(world.settle())).toMatchObject({ code: "VaultThrottled" });
    world.target.disturb = () => undefined;
    expect(await world.settle()).toBe(1);
    expect(world.target.versions("one--a")).toEqual([]);
  });
});

test("a vault that does not answer is looked at more and more seldom, and holds up no other", async () => {
  await world.put(external, { a: "one" });
  await world.vault.purge(world.writer, await world.record(), actor);
  const dead = "https://dead.vault.azure.net/";
  const write = {
    id: randomUUID(),
    secretId: randomUUID(),
    identity: identity("two"),
    owner: ownerOf(identity("two")),
    vaultUrl: dead,
    entries: [{ key: "a", entryName: "a" }],
    leaseMs: 1_000,
  };
  await world.entries.begin(world.writer, write);
  await world.entries.release(write.id, true);
  let now = 0;
  let looks = 0;
  const settlement = world.settlement({
    now: () => now,
    open: async (_, url) => {
      if (url !== dead) return world.target;
      looks += 1;
      throw new Unavailable("VaultUnreachable", "no answer");
    },
  });
  const first = await settlement.settle(world.writer, 100);
  expect(first).toMatchObject({ settled: 1, failures: [{ code: "VaultUnreachable" }] });
  expect(await settlement.settle(world.writer, 100)).toEqual({ settled: 0, failures: [] });
  for (now = 1_000; now <= 30_000; now += 1_000) await settlement.settle(world.writer, 100);
  // At 0, 4, 12 and 28 seconds.
  expect(looks).toBe(4);
});

test("a deletion that has to be tried again is told once, and again the next time", async () => {
  await world.put(external, { a: "one" });
  const settlement = world.settlement({ now: () => (clock += 120_000) });
  let clock = 0;
  const told = () => world.actions().filter((action) => action === "VaultEntryDeleted").length;
  await world.vault.softDelete(world.writer, await world.record(), actor);
  world.target.disturb = (operation) => (operation === "delete" ? new Throttled(1_000) : undefined);
  for (let attempt = 0; attempt < 3; attempt += 1) {
    expect(await settlement.settle(world.writer, 100)).toMatchObject({ failures: [{ code: "VaultThrottled" }] });
  }
  expect(told()).toBe(1);
  world.target.disturb = () => undefined;
  await settlement.settle(world.writer, 100);
  expect(told()).toBe(1);
  await world.vault.recover(world.writer, await world.record(), actor);
  await settlement.settle(world.writer, 100);
  await settlement.settle(world.writer, 100);
  await world.vault.softDelete(world.writer, await world.record(), actor);
  await settlement.settle(world.writer, 100);
  expect(told()).toBe(2);
});

describe("an answer that is lost", () => {
  test("to what brings back the recorded value leaves that to its own time", async () => {
    await world.put(external, { a: "a1", b: "b1" });
    world.target.disturb = (operation, name) =>
      operation === "set" && name === "one--b" ? new Throttled(1_000) : undefined;
    expect(await failure(world.put(external, { a: "a2", b: "b2" }))).toBeInstanceOf(Throttled);
    world.target.disturb = (operation) => (operation === "set" ? "lost" : undefined);
    expect(await refusal(world.settle())).toMatchObject({ code: "VaultUnreachable" });
    world.target.disturb = () => undefined;
    expect(await failure(world.put(external, { a: "a3" }))).toBeInstanceOf(Conflict);
    world.entries.now = () => Date.now() + LEASE_MS;
    await world.settle();
    expect(world.shown("one--a")).toBe("a1");
    await world.put(external, { a: "a3" });
    expect(await world.values()).toEqual({ a: "a3", b: "b1" });
  });

  test.each(["lost", "carriedOut"] as const)("(%s) leads to one acknowledged version", async (fate) => {
    let once = true;
    world.target.disturb = (operation) => {
      if (operation !== "set" || !once) return undefined;
      once = false;
      return fate;
    };
    const error = await failure(world.put(external, { a: "one" }));
    if (fate === "lost") {
      expect(error).toMatchObject({ code: "VaultUnreachable" });
      // It may still arrive, so until its time is over nobody writes, and nothing is settled.
      expect(await failure(world.put(external, { a: "other" }))).toBeInstanceOf(Conflict);
      expect(await world.settle()).toBe(0);
      world.entries.now = () => Date.now() + LEASE_MS;
    } else expect(error).toBeUndefined();
    await world.put(external, { a: "one" });
    expect(await world.values()).toEqual({ a: "one" });
    expect(world.target.versions("one--a")).toHaveLength(1);
  });
});

/** Every call to the vault, carried out and not, while somebody who does not lead writes two entries over two others. */
const deaths = [1, 2, 3, 4, 5, 6].flatMap((atEffect) => [false, true].map((carriedOut) => ({ atEffect, carriedOut })));

test.each(deaths)("death at call $atEffect (carried out: $carriedOut) loses nothing acknowledged", async (death) => {
  await world.put(external, { a: "a1", b: "b1" });
  const mortal = world.platform(mortalVault(world.target, mortality(death)));
  const written = await failure(world.put(external, { a: "a2", b: "b2" }, { vault: mortal }));
  const died = written instanceof Crash;
  const acknowledged = died ? { a: "a1", b: "b1" } : { a: "a2", b: "b2" };
  expect(await world.values()).toEqual(acknowledged);
  // A process that died says nothing any more: its time has to pass. Here it was released.
  await world.settle();
  expect({ a: world.shown("one--a"), b: world.shown("one--b") }).toEqual(acknowledged);
  expect(await world.entries.unsettled(world.writer, 10)).toEqual([]);
  await world.put(external, { a: "a3", b: "b3" });
  expect(await world.values()).toEqual({ a: "a3", b: "b3" });
});

test("a writer that is overtaken commits nothing", async () => {
  await world.put(external, { a: "a1" });
  const seen = await world.record();
  let overtaken: Promise<unknown> = Promise.resolve();
  world.target.disturb = (operation) => {
    if (operation !== "set") return undefined;
    world.target.disturb = () => undefined;
    world.entries.now = () => Date.now() + 120_000;
    overtaken = world.put(external, { a: "a3" });
    return undefined;
  };
  const request = {
    identity: identity("one"),
    seen,
    entries: external,
    readers: undefined,
    lifecycle: seen.lifecycle,
    actor,
  };
  const late = world.vault.put(world.writer, { ...request, values: new Map([["a", new Sensitive("a2")]]) });
  const [first, second] = [await failure(late), await failure(overtaken)];
  expect([first, second].filter((error) => error instanceof Conflict)).toHaveLength(1);
  await world.settle();
  expect(world.shown("one--a")).toBe((await world.values()).a);
});
