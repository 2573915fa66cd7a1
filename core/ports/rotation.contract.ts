import { randomBytes, randomUUID } from "node:crypto";
import { Fenced } from "../errors.ts";
import type { AuditLog } from "./audit-log.ts";
import { type KeyPurpose, KeyReplaced, type KeyStore, MANY_USES, type WrappedKey } from "./key-store.ts";
import type { Leadership } from "./leadership.ts";
import { auditEntry, identity, nextVersion } from "./samples.ts";
import { type NewVersion, UNLED, type VaultStore, type Writer } from "./vault-store.ts";

export interface RotationUnderTest {
  readonly keys: KeyStore;
  readonly vault: VaultStore;
  readonly leadership: Leadership;
  readonly audit: AuditLog;
}

/** What key store and vault store do together while a key is rotated. `start` gives an empty installation. */
export function rotationContract(start: () => Promise<RotationUnderTest>): void {
  let keys: KeyStore;
  let vault: VaultStore;
  let leadership: Leadership;
  let audit: AuditLog;
  let writer: Writer;
  let first: WrappedKey;

  beforeEach(async () => {
    ({ keys, vault, leadership, audit } = await start());
    writer = { epoch: await leadership.acquireEpoch("contract") };
    first = await keys.insert(writer, wrappedKey("Project", 1), []);
  });

  const wrappedKey = (purpose: KeyPurpose, version: number, wrappedBy = "root", scope = "payments"): WrappedKey => ({
    id: randomUUID(),
    purpose,
    scope,
    version,
    wrappedBy,
    wrapped: randomBytes(60),
    createdAt: new Date(),
  });
  const rotated = async (version = 2): Promise<WrappedKey> => {
    const key = wrappedKey("Project", version);
    expect(await keys.rotate(writer, key, [auditEntry(key.id)])).toBe(true);
    return key;
  };
  const versionOf = (name: string, key: WrappedKey): NewVersion => {
    const next = nextVersion(identity(name));
    return { ...next, sealed: { ...next.sealed, projectKeyId: key.id, entriesKeyId: key.id } };
  };
  const stored = async (name: string, key = first): Promise<NewVersion> => {
    const next = versionOf(name, key);
    await vault.commitVersion(writer, next);
    return next;
  };
  const auditRows = async (): Promise<number> => (await audit.read({}, undefined, 500)).length;
  const versions = async () => (await keys.versions("Project", "payments")).map(({ version, left }) => [version, left]);

  test("a version is replaced by the next, once, whoever asks", async () => {
    const before = await auditRows();
    const asked = Array.from({ length: 5 }, () => wrappedKey("Project", 2));
    const made = await Promise.all(asked.map((key) => keys.rotate(UNLED, key, [auditEntry(key.id)])));
    expect(made.filter(Boolean)).toHaveLength(1);
    expect(await auditRows()).toBe(before + 1);
    expect(await versions()).toEqual([
      [1, 0],
      [2, undefined],
    ]);
    expect((await keys.load("Project", "payments")).map(({ version }) => version)).toEqual([1, 2]);
    expect(await keys.rotate(writer, wrappedKey("Project", 3), [])).toBe(false);
  });

  test("nothing new is wrapped by a version that was replaced", async () => {
    const second = await rotated();
    await expect(vault.commitVersion(UNLED, versionOf("late", first))).rejects.toThrow(KeyReplaced);
    expect(await vault.find(identity("late"))).toBeUndefined();
    await expect(keys.insert(writer, wrappedKey("Sealing", 1, first.id), [])).rejects.toThrow(KeyReplaced);
    await stored("one", second);
    expect(await keys.insert(writer, wrappedKey("Sealing", 1, second.id), [])).toMatchObject({ wrappedBy: second.id });
  });

  test("data keys are wrapped anew, and what they encrypt stays as it is", async () => {
    const one = await stored("one");
    const two = await stored("two");
    const second = await rotated();
    const listed = await vault.listDataKeys(first.id, undefined, 10);
    expect(listed.map(({ id }) => id)).toEqual([one.id, two.id].sort());
    const [data] = listed.filter(({ id }) => id === one.id);
    expect(data).toEqual({ id: one.id, identity: one.identity, version: 1, wrappedKey: one.sealed.wrappedKey });
    const [lower] = listed;
    expect(await vault.listDataKeys(first.id, lower, 10)).toEqual(listed.slice(1));
    expect(await vault.listDataKeys(first.id, undefined, 1)).toEqual(listed.slice(0, 1));

    const after = randomBytes(60);
    const rewraps = [
      { id: one.id, version: 1, before: one.sealed.wrappedKey, after },
      // What was changed meanwhile, or is gone, is left alone.
      { id: two.id, version: 1, before: randomBytes(60), after },
      { id: randomUUID(), version: 1, before: after, after },
    ];
    expect(await vault.rewrapDataKeys(writer, first.id, second.id, rewraps)).toBe(1);
    expect(await vault.readVersion(one.id, 1)).toEqual({
      ...one.sealed,
      wrappedKey: after,
      projectKeyId: second.id,
      entriesKeyId: first.id,
    });
    expect(await vault.readVersion(two.id, 1)).toEqual(two.sealed);
    // The same once more changes nothing.
    expect(await vault.rewrapDataKeys(writer, first.id, second.id, rewraps)).toBe(0);
    expect(await versions()).toEqual([
      [1, 1],
      [2, undefined],
    ]);
  });

  test("a data key is wrapped anew as often as its project key is rotated, its entries bound to the first", async () => {
    const one = await stored("one");
    let from = first;
    for (const version of [2, 3]) {
      const to = await rotated(version);
      const [data] = await vault.listDataKeys(from.id, undefined, 10);
      const before = data?.wrappedKey ?? Buffer.alloc(0);
      const rewraps = [{ id: one.id, version: 1, before, after: randomBytes(60) }];
      expect(await vault.rewrapDataKeys(writer, from.id, to.id, rewraps)).toBe(1);
      expect(await keys.retire(writer, from.id, [])).toBe(true);
      expect(await vault.readVersion(one.id, 1)).toMatchObject({ projectKeyId: to.id, entriesKeyId: first.id });
      from = to;
    }
  });

  test("keys are wrapped anew, each only as it was", async () => {
    const wrapped = await keys.insert(writer, wrappedKey("Sealing", 1, first.id), []);
    const other = await keys.insert(writer, wrappedKey("Sealing", 2, first.id), []);
    const second = await rotated();
    const listed = await keys.wrappedBy(first.id, undefined, 10);
    expect(listed.map(({ id }) => id)).toEqual([wrapped.id, other.id].sort());
    expect(await keys.wrappedBy(first.id, listed[0]?.id, 10)).toEqual(listed.slice(1));
    const after = randomBytes(60);
    const rewraps = [
      { id: wrapped.id, before: wrapped.wrapped, after },
      { id: other.id, before: randomBytes(60), after },
    ];
    const before = await auditRows();
    expect(await keys.rewrap(writer, first.id, second.id, rewraps, [auditEntry("k")])).toBe(1);
    expect(await keys.rewrap(writer, first.id, second.id, rewraps, [auditEntry("k")])).toBe(0);
    expect(await auditRows()).toBe(before + 1);
    expect(await keys.load("Sealing", "payments")).toMatchObject([
      { wrappedBy: second.id, wrapped: after },
      { wrappedBy: first.id, wrapped: other.wrapped },
    ]);
  });

  test("a version is retired when it wraps nothing, never the newest, and then another rotation can begin", async () => {
    const one = await stored("one");
    const sealing = await keys.insert(writer, wrappedKey("Sealing", 1, first.id), []);
    expect(await keys.retire(writer, first.id, [])).toBe(false);
    const second = await rotated();
    expect(await keys.replaced()).toMatchObject([{ id: first.id, version: 1, left: 2 }]);
    expect(await keys.retire(writer, first.id, [])).toBe(false);
    const after = randomBytes(60);
    await keys.rewrap(writer, first.id, second.id, [{ id: sealing.id, before: sealing.wrapped, after }], []);
    expect(await keys.retire(writer, first.id, [])).toBe(false);
    await vault.purge(writer, one.id, 1n, []);
    const before = await auditRows();
    expect(await keys.retire(writer, first.id, [auditEntry(first.id)])).toBe(true);
    expect(await keys.retire(writer, first.id, [auditEntry(first.id)])).toBe(false);
    expect(await auditRows()).toBe(before + 1);
    expect((await keys.load("Project", "payments")).map(({ id }) => id)).toEqual([second.id]);
    await expect(keys.reserveUses(UNLED, first.id, 1)).rejects.toThrow(KeyReplaced);
    expect(await keys.replaced()).toEqual([]);
    await rotated(3);
  });

  test("what is due is told by age and by uses, unless it is being replaced", async () => {
    const past = new Date(Date.now() - 3_600_000);
    const future = new Date(Date.now() + 3_600_000);
    expect(await keys.due("Project", past, 1_000n, 10)).toEqual([]);
    expect(await keys.due("Project", future, 1_000n, 10)).toMatchObject([{ id: first.id, uses: 0n }]);
    await keys.reserveUses(writer, first.id, 1_000);
    expect(await keys.due("Project", past, 1_000n, 10)).toMatchObject([{ id: first.id, uses: 1_000n }]);
    expect(await keys.due("Project", past, 1_001n, 10)).toEqual([]);
    await rotated();
    expect(await keys.due("Project", future, 1n, 10)).toEqual([]);
  });

  test("a version that is about to be used up is replaced also while an older one still wraps something", async () => {
    const future = new Date(Date.now() + 3_600_000);
    await stored("one");
    const second = await rotated();
    await keys.reserveUses(writer, second.id, Number(MANY_USES) - 1);
    expect(await keys.due("Project", future, MANY_USES, 10)).toEqual([]);
    expect(await keys.rotate(writer, wrappedKey("Project", 3), [])).toBe(false);
    await keys.reserveUses(UNLED, second.id, 1);
    expect(await keys.due("Project", future, MANY_USES, 10)).toMatchObject([{ id: second.id }]);
    await rotated(3);
    expect(await keys.due("Project", future, MANY_USES, 10)).toEqual([]);
    expect(await keys.retire(writer, first.id, [])).toBe(false);
    expect(await keys.retire(writer, second.id, [])).toBe(true);
    expect(await versions()).toEqual([
      [1, 1],
      [3, undefined],
    ]);
  });

  test("keys of projects are listed in pages of projects", async () => {
    for (const scope of ["orders", "shop"]) await keys.insert(writer, wrappedKey("Project", 1, "root", scope), []);
    await rotated();
    const scopes = async (after: string | undefined, limit: number) =>
      (await keys.projectVersions(after, limit)).map(({ scope, version }) => `${scope} ${version}`);
    expect(await scopes(undefined, 2)).toEqual(["orders 1", "payments 1", "payments 2"]);
    expect(await scopes("payments", 2)).toEqual(["shop 1"]);
  });

  test("the installation key is not rotated below a root key that was replaced", async () => {
    const standing = (await keys.load("Installation", ""))[0];
    const one = standing ?? (await keys.insert(writer, { ...wrappedKey("Installation", 1), scope: "" }, []));
    const next = (wrappedBy: string) => ({ ...wrappedKey("Installation", 2, wrappedBy), scope: "" });
    await expect(keys.rotate(UNLED, next("another root"), [])).rejects.toThrow(KeyReplaced);
    expect(await keys.rotate(UNLED, next(one.wrappedBy), [])).toBe(true);
  });

  test("a stale writer neither wraps anew nor retires nor rotates", async () => {
    const one = await stored("one");
    const sealing = await keys.insert(writer, wrappedKey("Sealing", 1, first.id), []);
    const second = await rotated();
    await leadership.acquireEpoch("another");
    const after = randomBytes(60);
    const rewrap = { id: one.id, version: 1, before: one.sealed.wrappedKey, after };
    await expect(vault.rewrapDataKeys(writer, first.id, second.id, [rewrap])).rejects.toThrow(Fenced);
    const key = { id: sealing.id, before: sealing.wrapped, after };
    await expect(keys.rewrap(writer, first.id, second.id, [key], [])).rejects.toThrow(Fenced);
    await expect(keys.retire(writer, first.id, [])).rejects.toThrow(Fenced);
    await expect(keys.rotate(writer, wrappedKey("Project", 3), [])).rejects.toThrow(Fenced);
    expect(await vault.readVersion(one.id, 1)).toEqual(one.sealed);
    expect(await keys.load("Sealing", "payments")).toMatchObject([{ wrappedBy: first.id, wrapped: sealing.wrapped }]);
  });
}
