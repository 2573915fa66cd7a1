import { Fenced } from "../errors.ts";
import type { AuditLog } from "./audit-log.ts";
import type { Leadership } from "./leadership.ts";
import { auditEntry, digest, identity, nextVersion, softDeletion } from "./samples.ts";
import {
  type ApplyRecord,
  Conflict,
  type NewVersion,
  type PendingVersion,
  type RotationRecord,
  type SecretIdentity,
  type SecretRecord,
  UNLED,
  type VaultStore,
  type Writer,
} from "./vault-store.ts";

export interface VaultStoreUnderTest {
  readonly store: VaultStore;
  readonly leadership: Leadership;
  readonly audit: AuditLog;
}

/** What every vault store does. `start` gives an empty one. */
export function vaultStoreContract(start: () => Promise<VaultStoreUnderTest>): void {
  let store: VaultStore;
  let leadership: Leadership;
  let audit: AuditLog;
  let writer: Writer;

  beforeEach(async () => {
    ({ store, leadership, audit } = await start());
    writer = { epoch: await leadership.acquireEpoch("contract") };
  });

  const find = async (of: SecretIdentity): Promise<SecretRecord> => {
    const found = await store.find(of);
    if (found === undefined) throw new Error("expected a stored secret");
    return found.record;
  };
  const commit = async (of: SecretIdentity, seen?: SecretRecord, keep?: number): Promise<SecretRecord> => {
    await store.commitVersion(writer, nextVersion(of, seen, keep));
    return find(of);
  };
  const auditRows = async (): Promise<number> => {
    const verdict = await audit.verify();
    if (!verdict.ok) throw new Error(`audit record: ${verdict.fault}`);
    return verdict.linked + verdict.unlinked;
  };

  test("a secret that was never stored is not found", async () => {
    expect(await store.find(identity("absent"))).toBeUndefined();
    expect(await store.findSealed(identity("absent"))).toBeUndefined();
    expect(await store.readVersion("6f2b6b7e-5a53-4e0f-8a0e-1f1d0c9f3b55", 1)).toBeUndefined();
  });

  test("a version is read back as it was written", async () => {
    const first = nextVersion(identity("one"));
    await store.commitVersion(writer, first);
    const found = await store.find(identity("one"));
    const digests = first.sealed.entries.map(({ ciphertext: _, ...entry }) => entry);
    expect(found).toEqual({
      record: {
        id: first.id,
        identity: first.identity,
        state: "Active",
        currentVersion: 1,
        generation: 1n,
        lifecycle: first.lifecycle,
        entries: digests,
      },
      mac: first.mac,
      auditedGeneration: 1n,
    });
    expect(await store.readVersion(first.id, 1)).toEqual(first.sealed);
    expect(await store.findSealed(identity("one"))).toEqual({
      ...found,
      record: { ...found?.record, sealed: first.sealed },
    });
  });

  test("a version may be without any entry", async () => {
    const seen = await commit(identity("one"));
    const { sealed, ...next } = nextVersion(identity("one"), seen);
    await store.commitVersion(writer, { ...next, sealed: { ...sealed, entries: [] } });
    expect(await find(identity("one"))).toMatchObject({ currentVersion: 2, entries: [] });
    expect(await store.readVersion(seen.id, 2)).toEqual({ ...sealed, entries: [] });
    expect((await store.findSealed(identity("one")))?.record.sealed).toEqual({ ...sealed, entries: [] });
    expect((await store.listVersions(seen.id)).map(({ keys }) => keys.length)).toEqual([0, 2]);
  });

  test("another namespace UID is another secret", async () => {
    await commit(identity("one"));
    expect(await store.find({ ...identity("one"), namespaceUid: "of-a-recreated-namespace" })).toBeUndefined();
  });

  test("versions beyond keepVersions go, the newest stay", async () => {
    let record = await commit(identity("one"), undefined, 2);
    for (let count = 0; count < 3; count += 1) record = await commit(identity("one"), record, 2);
    const versions = await store.listVersions(record.id);
    expect(versions.map(({ version, keys }) => [version, keys])).toEqual([
      [4, ["password", "username"]],
      [3, ["password", "username"]],
    ]);
    expect(await store.readVersion(record.id, 2)).toBeUndefined();
    expect((await store.readVersion(record.id, 4))?.entries.map(({ fingerprint }) => fingerprint)).toEqual(
      record.entries.map(({ fingerprint }) => fingerprint),
    );
  });

  const rotation: RotationRecord = {
    timetable: "0 3 1 * * Europe/Berlin",
    since: new Date("2026-03-01T10:00:00.123Z"),
    at: new Date("2026-03-02T10:00:00.456Z"),
    request: 'a token, "quoted", of 🔑',
    held: [
      { version: 1, until: new Date("2026-03-03T10:00:00.789Z") },
      { version: 2, until: new Date("2026-03-04T10:00:00.789Z") },
    ],
  };

  test("how a rotation stands is read back as it was written, with each change of the pointer", async () => {
    await store.commitVersion(writer, nextVersion(identity("one"), undefined, 3, rotation));
    const first = await find(identity("one"));
    expect(first.rotation).toEqual(rotation);
    expect((await store.findSealed(identity("one")))?.record.rotation).toEqual(rotation);
    const least: RotationRecord = { since: new Date("2026-03-05T10:00:00.001Z"), held: [] };
    await store.changePointer(writer, { ...softDeletion(first, new Date(), new Date()), rotation: least });
    const second = await find(identity("one"));
    expect(second.rotation).toEqual(least);
    const { rotation: _, ...without } = nextVersion(identity("one"), second);
    await store.commitVersion(writer, without);
    expect(await find(identity("one"))).not.toHaveProperty("rotation");
  });

  test("of two that saw the same rotation due one makes a version, and the other changes nothing", async () => {
    const seen = await commit(identity("one"));
    const due = (second: number) =>
      nextVersion(identity("one"), seen, 3, { ...rotation, at: new Date(second * 1_000) });
    const outcomes = await Promise.allSettled([
      store.commitVersion(writer, due(1)),
      store.commitVersion(UNLED, due(2)),
    ]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    const winner = outcomes[0].status === "fulfilled" ? 1 : 2;
    expect(await find(identity("one"))).toMatchObject({
      currentVersion: 2,
      rotation: { at: new Date(winner * 1_000) },
    });
  });

  test("a version that is held stays beyond keepVersions, and goes with the next change when it is held no longer", async () => {
    const held = (...versions: number[]): RotationRecord => ({
      since: rotation.since,
      held: versions.map((version) => ({ version, until: rotation.since })),
    });
    let record = await commit(identity("one"), undefined, 1);
    for (let count = 0; count < 4; count += 1) {
      await store.commitVersion(writer, nextVersion(identity("one"), record, 1, held(1, 3)));
      record = await find(identity("one"));
    }
    const kept = async () => (await store.listVersions(record.id)).map(({ version }) => version);
    expect(await kept()).toEqual([5, 3, 1]);
    await store.changePointer(writer, { ...softDeletion(record, new Date(), new Date()), rotation: held(3) });
    expect(await kept()).toEqual([5, 3]);
    record = await find(identity("one"));
    await store.commitVersion(writer, nextVersion(identity("one"), record, 1, held()));
    expect(await kept()).toEqual([6]);
  });

  const applied = (apply: Partial<ApplyRecord>): RotationRecord => ({
    since: rotation.since,
    held: [],
    apply: { last: 2, failed: [], ...apply },
  });
  const pending: PendingVersion = {
    version: 2,
    base: 1,
    keys: ["password"],
    cause: "Timetable",
    due: new Date("2026-03-06T10:00:00.002Z"),
    since: new Date("2026-03-06T10:00:00.003Z"),
  };

  test("a pending version stands beside the current one, and how it is applied is read back as it was written", async () => {
    const seen = await commit(identity("one"));
    const next = { ...nextVersion(identity("one"), seen, 3, applied({ pending })), currentVersion: 1 };
    await store.commitVersion(UNLED, next);
    const found = await find(identity("one"));
    expect(found).toMatchObject({ currentVersion: 1, generation: 2n, state: "Active", entries: seen.entries });
    expect(found.rotation).toEqual(applied({ pending }));
    expect(found.lifecycle).toEqual(seen.lifecycle);
    expect((await store.listVersions(seen.id)).map(({ version }) => version)).toEqual([2, 1]);
    expect(await store.readVersion(seen.id, 2)).toEqual(next.sealed);
    expect((await store.readOutbox(undefined, 10)).at(-1)).toMatchObject({ name: "one", unled: true });
    await expect(store.commitVersion(writer, next)).rejects.toThrow(Conflict);

    const whole = applied({
      asked: true,
      former: { version: 1, role: "orders_a", confirmed: new Date("2026-03-06T10:00:00.004Z") },
      failure: { version: 3, cause: "First", message: "why", count: 2, retryAt: new Date("2026-03-06T10:00:00.005Z") },
      failed: [3, 4],
    });
    const change = { ...softDeletion(found, new Date(), new Date()), state: "Active", currentVersion: 2 } as const;
    await store.changePointer(writer, { ...change, rotation: whole });
    const current = await find(identity("one"));
    expect(current.rotation).toEqual(whole);
    expect(current.currentVersion).toBe(2);
    expect(current.entries.map(({ fingerprint }) => fingerprint)).toEqual(
      next.sealed.entries.map(({ fingerprint }) => fingerprint),
    );
  });

  test("a pending version does not fall to retention, whatever becomes current meanwhile", async () => {
    const seen = await commit(identity("one"), undefined, 1);
    const proposal = nextVersion(identity("one"), seen, 1, applied({ pending }));
    await store.commitVersion(writer, { ...proposal, currentVersion: 1 });
    let record = await find(identity("one"));
    for (const version of [3, 4]) {
      const next = nextVersion(identity("one"), record, 1);
      await store.commitVersion(writer, { ...next, sealed: { ...next.sealed, version } });
      record = await find(identity("one"));
    }
    const kept = async () => (await store.listVersions(record.id)).map(({ version }) => version);
    expect(await kept()).toEqual([4, 2]);
    const next = nextVersion(identity("one"), record, 1, applied({ failed: [2] }));
    await store.commitVersion(writer, next);
    expect(await kept()).toEqual([5]);
  });

  test("above the current version those that failed stay while they are listed, and the pending one", async () => {
    let record = await commit(identity("one"), undefined, 1);
    for (const version of [2, 3, 4]) {
      const failed = Array.from({ length: version - 2 }, (_, index) => index + 2);
      const proposal = nextVersion(identity("one"), record, 1, applied({ pending: { ...pending, version }, failed }));
      await store.commitVersion(writer, {
        ...proposal,
        sealed: { ...proposal.sealed, version },
        currentVersion: 1,
      });
      record = await find(identity("one"));
    }
    const kept = async () => (await store.listVersions(record.id)).map(({ version }) => version);
    expect(await kept()).toEqual([4, 3, 2, 1]);
    const change = { ...softDeletion(record, new Date(), new Date()), state: "Active" } as const;
    const standing = applied({ pending: { ...pending, version: 4 }, failed: [3] });
    await store.changePointer(writer, { ...change, rotation: standing });
    expect(await kept()).toEqual([4, 3, 1]);
    record = await find(identity("one"));
    const next = { ...softDeletion(record, new Date(), new Date()), state: "Active" } as const;
    await store.changePointer(writer, { ...next, rotation: applied({ failed: [4] }) });
    expect(await kept()).toEqual([4, 1]);
  });

  test("of two writers that saw the same generation one wins and the other changes nothing", async () => {
    const seen = await commit(identity("one"));
    const before = await auditRows();
    const outcomes = await Promise.allSettled([
      store.commitVersion(writer, nextVersion(identity("one"), seen)),
      store.commitVersion(writer, nextVersion(identity("one"), seen)),
    ]);
    expect(outcomes.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(outcomes.find(({ status }) => status === "rejected")).toMatchObject({ reason: expect.any(Conflict) });
    expect(await find(identity("one"))).toMatchObject({ currentVersion: 2, generation: 2n });
    expect(await auditRows()).toBe(before + 1);
  });

  test("a value is held since the version that brought it, whatever came to other keys or was kept beside", async () => {
    const one = identity("one");
    const seen = await commit(one, undefined, 20);
    const [password, username] = ["password", "username"].map(
      (key) => seen.entries.find((entry) => entry.key === key)?.fingerprint ?? "",
    );
    /** The user name stays. */
    const withPassword = (before: SecretRecord, fingerprint = ""): NewVersion => {
      const next = nextVersion(one, before, 20);
      const entries = next.sealed.entries.map((entry) => ({
        ...entry,
        fingerprint: (entry.key === "password" ? fingerprint : username) ?? "",
      }));
      return { ...next, sealed: { ...next.sealed, entries } };
    };
    const heldFor = async (fingerprint = "", key = "password") =>
      Number(await store.heldForMs(seen.id, key, fingerprint));
    /** Between two versions at the least, by the clock that gave them their times; those are cut to milliseconds. */
    const passed = async (from: number, to: number) => {
      const times = new Map(
        (await store.listVersions(seen.id)).map((each) => [each.version, each.createdAt.getTime()]),
      );
      return Number(times.get(to)) - Number(times.get(from)) - 1;
    };
    expect(await heldFor(password)).toBeGreaterThanOrEqual(0);
    expect(await store.heldForMs(seen.id, "password", digest())).toBeUndefined();
    expect(await store.heldForMs(seen.id, "absent", password ?? "")).toBeUndefined();

    await store.commitVersion(writer, withPassword(seen, password));
    const second = await find(one);
    // Kept beside: made together with the one above it, which has the value again.
    const below = withPassword(second, digest());
    const between = { ...second, generation: below.generation, currentVersion: below.sealed.version };
    await store.commitVersions(writer, [below, withPassword(between, password)]);
    expect(await heldFor(password)).toBeGreaterThanOrEqual(await passed(1, 4));

    const other = digest();
    await store.commitVersion(writer, withPassword(await find(one), other));
    expect(await store.heldForMs(seen.id, "password", password ?? "")).toBeUndefined();
    // What comes back was not held all along.
    await store.commitVersion(writer, withPassword(await find(one), password));
    expect(await store.heldForMs(seen.id, "password", other)).toBeUndefined();
    const back = await heldFor(password);
    expect((await heldFor(username, "username")) - back).toBeGreaterThanOrEqual(await passed(1, 6));

    // Above the current one: whether it ever counts is open.
    const pending = withPassword(await find(one), other);
    const { currentVersion } = await find(one);
    await store.commitVersion(writer, { ...pending, currentVersion });
    expect(await heldFor(password)).toBeGreaterThanOrEqual(back);
    expect(await store.heldForMs(seen.id, "password", other)).toBeUndefined();
  });

  test("several versions are made together, each above the one before, or none is", async () => {
    const seen = await commit(identity("one"));
    const below = nextVersion(identity("one"), seen);
    const between = { ...seen, generation: below.generation, currentVersion: below.sealed.version };
    const above = nextVersion(identity("one"), between);
    const before = await auditRows();
    await store.commitVersions(writer, [below, above]);
    expect(await find(identity("one"))).toMatchObject({ currentVersion: 3, generation: 3n });
    expect((await store.listVersions(seen.id)).map(({ version }) => version)).toEqual([3, 2, 1]);
    expect(await auditRows()).toBe(before + 2);
    const [entry] = below.sealed.entries;
    expect(await store.keeps(seen.id, "password", entry?.fingerprint ?? "")).toBe(true);
    expect(await store.keeps(seen.id, "username", entry?.fingerprint ?? "")).toBe(false);

    const now = await find(identity("one"));
    const next = nextVersion(identity("one"), now);
    const stale = nextVersion(identity("one"), seen);
    await expect(store.commitVersions(writer, [stale, next])).rejects.toThrow(Conflict);
    expect(await find(identity("one"))).toEqual(now);
    expect(await auditRows()).toBe(before + 2);
  });

  test("who does not lead commits on the same condition, and the outbox says so", async () => {
    const first = await commit(identity("one"));
    await store.commitVersion(UNLED, nextVersion(identity("one"), first));
    await expect(store.commitVersion(UNLED, nextVersion(identity("one"), first))).rejects.toThrow(Conflict);
    await expect(store.commitVersion(writer, nextVersion(identity("one"), first))).rejects.toThrow(Conflict);
    await expect(store.commitVersion(UNLED, nextVersion(identity("one")))).rejects.toThrow(Conflict);
    const second = await find(identity("one"));
    await store.changePointer(UNLED, softDeletion(second, new Date(), new Date()));
    await expect(store.changePointer(UNLED, softDeletion(second, new Date(), new Date()))).rejects.toThrow(Conflict);
    expect(await find(identity("one"))).toMatchObject({ state: "SoftDeleted", currentVersion: 2, generation: 3n });
    const rows = await store.readOutbox(undefined, 10);
    expect(rows.map(({ unled }) => unled)).toEqual([false, true, true]);
  });

  test("a first version for a secret that exists is a conflict", async () => {
    await commit(identity("one"));
    await expect(store.commitVersion(writer, nextVersion(identity("one")))).rejects.toThrow(Conflict);
  });

  test("a pointer moves to soft-deleted and back without a new version", async () => {
    const seen = await commit(identity("one"));
    const deletedAt = new Date("2026-03-01T10:00:00.123Z");
    const purgeAfter = new Date("2026-03-02T10:00:00.456Z");
    await store.changePointer(writer, softDeletion(seen, deletedAt, purgeAfter));
    const deleted = await find(identity("one"));
    expect(deleted).toMatchObject({ state: "SoftDeleted", currentVersion: 1, generation: 2n, deletedAt, purgeAfter });
    const again = await commit(identity("one"), deleted);
    expect(again).toMatchObject({ state: "Active", currentVersion: 2, generation: 3n });
    expect(again).not.toHaveProperty("deletedAt");
    await expect(store.changePointer(writer, softDeletion(seen, deletedAt, purgeAfter))).rejects.toThrow(Conflict);
  });

  test("only soft-deleted secrets whose time is over are listed as expired", async () => {
    const late = await commit(identity("late"));
    const early = await commit(identity("early"));
    await commit(identity("active"));
    const now = new Date("2026-03-02T00:00:00Z");
    await store.changePointer(writer, softDeletion(late, now, new Date("2026-03-03T00:00:00Z")));
    await store.changePointer(writer, softDeletion(early, now, now));
    expect(await store.listExpired(now, 10)).toEqual([{ id: early.id, generation: 2n, identity: early.identity }]);
  });

  test("purging deletes every version and keeps the audit rows", async () => {
    const seen = await commit(identity("one"), await commit(identity("one")));
    const before = await auditRows();
    await expect(store.purge(writer, seen.id, 1n, [])).rejects.toThrow(Conflict);
    await store.purge(writer, seen.id, seen.generation, [auditEntry(seen.id, 3n, "SecretPurged")]);
    expect(await store.find(identity("one"))).toBeUndefined();
    expect(await store.listVersions(seen.id)).toEqual([]);
    expect(await auditRows()).toBe(before + 1);
    expect(await commit(identity("one"))).toMatchObject({ currentVersion: 1, generation: 1n });
  });

  test("a delivery is remembered without moving the pointer, and outlives a new version", async () => {
    const seen = await commit(identity("one"));
    const delivery = {
      secretName: "one",
      uid: "uid-of-core-secret",
      resourceVersion: "17",
      fingerprint: "f",
      version: 1,
      pendingRestarts: ["Deployment/api"],
    };
    await store.recordDelivery(writer, seen.id, delivery, [auditEntry(seen.id)]);
    expect(await find(identity("one"))).toEqual({ ...seen, delivery });
    expect(await commit(identity("one"), await find(identity("one")))).toMatchObject({ delivery });
    await store.recordDelivery(writer, seen.id, undefined, []);
    expect(await find(identity("one"))).not.toHaveProperty("delivery");
    await expect(store.recordDelivery(writer, "6f2b6b7e-5a53-4e0f-8a0e-1f1d0c9f3b55", delivery, [])).rejects.toThrow(
      Conflict,
    );
  });

  test("locations come in pages, and by name whatever the project", async () => {
    for (const name of ["a", "b", "c"]) await commit(identity(name));
    await commit({ ...identity("a"), project: "other" });
    const first = await store.listLocations(undefined, 3);
    const rest = await store.listLocations(first.at(-1)?.id, 3);
    expect([first.length, rest.length]).toEqual([3, 1]);
    const ids = [...first, ...rest].map(({ id }) => id);
    expect(new Set(ids).size).toBe(4);
    const located = await store.locate("payments-staging", "a");
    expect(located.map(({ identity: { project } }) => project).sort()).toEqual(["other", "payments"]);
    expect(await store.locate("elsewhere", "a")).toEqual([]);
  });

  test("every change of a secret is in the outbox once, in order", async () => {
    const one = await commit(identity("one"));
    await commit(identity("two"));
    await store.changePointer(writer, softDeletion(one, new Date(), new Date()));
    const rows = await store.readOutbox(undefined, 10);
    expect(rows.map(({ name }) => name)).toEqual(["one", "two", "one"]);
    const [, second] = rows;
    expect((await store.readOutbox(second?.position, 10)).map(({ name }) => name)).toEqual(["one"]);
    expect(await store.readOutbox(rows.at(-1)?.position, 10)).toEqual([]);
    expect(await store.readOutbox(undefined, 2)).toHaveLength(2);
  });

  test("a stale writer changes nothing, by no method", async () => {
    const seen = await commit(identity("one"));
    await leadership.acquireEpoch("another");
    const before = [await store.find(identity("one")), await auditRows(), await store.readOutbox(undefined, 100)];
    const delivery = {
      secretName: "x",
      uid: "",
      resourceVersion: "",
      fingerprint: "",
      version: 1,
      pendingRestarts: [],
    };
    const attempts = [
      store.commitVersion(writer, nextVersion(identity("one"), seen)),
      store.commitVersion(writer, nextVersion(identity("new"))),
      store.changePointer(writer, softDeletion(seen, new Date(), new Date())),
      store.purge(writer, seen.id, seen.generation, []),
      store.recordDelivery(writer, seen.id, delivery, [auditEntry(seen.id)]),
    ];
    for (const attempt of await Promise.allSettled(attempts)) {
      expect(attempt).toMatchObject({ status: "rejected", reason: expect.any(Fenced) });
    }
    expect([await store.find(identity("one")), await auditRows(), await store.readOutbox(undefined, 100)]).toEqual(
      before,
    );
    expect(await store.find(identity("new"))).toBeUndefined();
  });
}
