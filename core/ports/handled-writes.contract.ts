import { randomBytes, randomUUID } from "node:crypto";
import type { WriteOutcome } from "../fleet/writes.ts";
import type { AuditLog } from "./audit-log.ts";
import type { HandledWrite, HandledWrites } from "./handled-writes.ts";
import { auditEntry, digest, identity, nextVersion, withPassword } from "./samples.ts";
import {
  type ApplyRecord,
  Conflict,
  type NewVersion,
  type RotationRecord,
  type SecretRecord,
  UNLED,
  type VaultStore,
} from "./vault-store.ts";

export interface HandledWritesUnderTest {
  readonly handledWrites: HandledWrites;
  readonly vault: VaultStore;
  readonly audit: Pick<AuditLog, "read">;
}

/** A version over the current one, or over another one of its own transaction; with an age it comes of a gateway's write. */
interface Wanted {
  readonly password: string;
  readonly over?: SecretRecord | undefined;
  readonly ageMs?: number;
  readonly keep?: number;
  readonly rotation?: RotationRecord;
}

/** What every store of handled writes does, along with the one of versions. `start` gives an empty one. */
export function handledWritesContract(start: () => Promise<HandledWritesUnderTest>): void {
  let store: HandledWrites;
  let vault: VaultStore;
  let audit: HandledWritesUnderTest["audit"];

  beforeEach(async () => {
    ({ handledWrites: store, vault, audit } = await start());
  });

  const applied = (version = 1): WriteOutcome => ({ kind: "Applied", version, changed: ["password"] });
  const handled = (change: Partial<HandledWrite> = {}): HandledWrite => ({
    environment: "NPR",
    id: randomUUID(),
    outcome: applied(),
    mac: randomBytes(32),
    ...change,
  });
  const seen = async (): Promise<SecretRecord | undefined> => (await vault.find(identity("one")))?.record;
  const rows = async () =>
    (await audit.read({}, undefined, 500)).filter(({ entry }) => entry.action === "SecretRead").length;

  test("what was recorded is found in its environment, and recorded once", async () => {
    const [one, other] = [handled(), handled({ outcome: { kind: "Refused", code: "NotFound", detail: "none" } })];
    expect(await store.record(one, [auditEntry(randomUUID())])).toBe(true);
    expect(await store.record(other, [])).toBe(true);
    expect(await store.record({ ...one, outcome: applied(9) }, [auditEntry(randomUUID())])).toBe(false);
    const found = await store.find("NPR", [randomUUID(), one.id, other.id]);
    expect(found.toSorted((a) => (a.id === one.id ? -1 : 1))).toEqual([one, other]);
    expect(await store.find("PRO", [one.id])).toEqual([]);
    const inOrder = [one, other].toSorted((a, b) => (a.id < b.id ? -1 : 1));
    expect(await store.list(undefined, 5)).toEqual(inOrder);
    expect(await store.list(undefined, 1)).toEqual(inOrder.slice(0, 1));
    expect(await store.list(inOrder[0], 5)).toEqual(inOrder.slice(1));
    expect(await rows()).toBe(1);
    expect(await store.record({ ...one, environment: "PRO" }, [])).toBe(true);
  });

  test("a version that comes of a write is made with its record, or not at all", async () => {
    const write = handled();
    const first: NewVersion = { ...nextVersion(identity("one")), handled: { write, ageMs: 0 } };
    await vault.commitVersion(UNLED, first);
    expect(await store.find("NPR", [write.id])).toEqual([write]);
    const record = await seen();
    const again: NewVersion = { ...nextVersion(identity("one"), record), handled: { write, ageMs: 0 } };
    await expect(vault.commitVersion(UNLED, again)).rejects.toThrow(Conflict);
    expect((await seen())?.generation).toBe(1n);
    const stale: NewVersion = { ...again, expected: 7n, handled: { write: handled(), ageMs: 0 } };
    await expect(vault.commitVersion(UNLED, stale)).rejects.toThrow(Conflict);
    expect(await store.find("NPR", [stale.handled?.write.id ?? ""])).toEqual([]);
  });

  test("of the same write at once one makes a version", async () => {
    await vault.commitVersion(UNLED, nextVersion(identity("one")));
    const record = await seen();
    const write = handled();
    const versions = Array.from({ length: 5 }, () => nextVersion(identity("one"), record));
    const results = await Promise.allSettled(
      versions.map((each) => vault.commitVersion(UNLED, { ...each, handled: { write, ageMs: 0 } })),
    );
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect((await seen())?.currentVersion).toBe(2);
  });

  test("a value counts from when it was set at the gateway, however many versions have it since", async () => {
    const heldForMs = async (): Promise<number> => {
      const record = await seen();
      const { key = "", fingerprint = "" } = record?.entries.find((each) => each.key === "password") ?? {};
      return (await vault.heldForMs(record?.id ?? "", key, fingerprint)) ?? Number.NaN;
    };
    await vault.commitVersion(UNLED, nextVersion(identity("one")));
    expect(await heldForMs()).toBeLessThan(3_600_000);
    const next: NewVersion = {
      ...nextVersion(identity("one"), await seen()),
      handled: { write: handled(), ageMs: 7_200_000 },
    };
    await vault.commitVersion(UNLED, next);
    expect(await heldForMs()).toBeGreaterThanOrEqual(7_200_000);
    const later = nextVersion(identity("one"), await seen());
    const entries = later.sealed.entries.map(
      (entry) => next.sealed.entries.find(({ key }) => key === entry.key) ?? entry,
    );
    await vault.commitVersion(UNLED, {
      ...later,
      sealed: { ...later.sealed, entries },
      handled: { write: handled(), ageMs: 90_000_000 },
    });
    expect(await heldForMs()).toBeGreaterThanOrEqual(7_200_000);
    expect(await heldForMs()).toBeLessThan(86_400_000);
    // Also when none of the versions is kept any more that had it first.
    const { fingerprint: password = "" } = entries.find(({ key }) => key === "password") ?? {};
    for (const keepVersions of [3, 2, 1, 1]) {
      const other = nextVersion(identity("one"), await seen(), keepVersions);
      await vault.commitVersion(UNLED, withPassword(other, password));
    }
    expect(await vault.listVersions((await seen())?.id ?? "")).toHaveLength(1);
    expect(await heldForMs()).toBeGreaterThanOrEqual(7_200_000);
    expect(await heldForMs()).toBeLessThan(86_400_000);
    const changed = nextVersion(identity("one"), await seen(), 1);
    await vault.commitVersion(UNLED, changed);
    expect(await heldForMs()).toBeLessThan(3_600_000);
  });

  const HOUR_MS = 3_600_000;
  const wanted = async ({ password, over, ageMs, keep = 1, rotation }: Wanted): Promise<NewVersion> => {
    const next = withPassword(nextVersion(identity("one"), over ?? (await seen()), keep, rotation), password);
    const version = Math.max(next.sealed.version, (rotation?.apply?.last ?? 0) + 1);
    const sealed = { ...next.sealed, version };
    return { ...next, sealed, ...(ageMs !== undefined && { handled: { write: handled(), ageMs } }) };
  };
  const set = async (version: Wanted): Promise<void> => vault.commitVersion(UNLED, await wanted(version));
  /** As a write that lost: what stands is set again in the same transaction. */
  const keepBeside = async (lost: Wanted, standing: string): Promise<void> => {
    const below = await wanted(lost);
    const record = await seen();
    const between = record && { ...record, generation: below.generation, currentVersion: below.sealed.version };
    const above = await wanted({ ...lost, password: standing, over: between });
    const { handled: _, ...again } = above;
    await vault.commitVersions(UNLED, [below, again]);
  };
  const heldFor = async (password: string): Promise<number> =>
    (await vault.heldForMs((await seen())?.id ?? "", "password", password)) ?? Number.NaN;
  const rotating = (held: readonly number[], apply?: ApplyRecord): RotationRecord => ({
    since: new Date("2026-03-01T10:00:00Z"),
    held: held.map((version) => ({ version, until: new Date("2026-03-02T10:00:00Z") })),
    ...(apply && { apply }),
  });

  test.each([
    ["held", rotating([2])],
    ["kept no longer than others", rotating([])],
  ])("what loses makes no value younger where one version is kept, and the loser is %s", async (_, rotation) => {
    const [standing, lost] = [digest(), digest()];
    await set({ password: standing, ageMs: 2 * HOUR_MS });
    await keepBeside({ password: lost, ageMs: 3 * HOUR_MS, rotation }, standing);
    const kept = await vault.listVersions((await seen())?.id ?? "");
    expect(kept.map(({ version }) => version)).toEqual([3, ...rotation.held.map(({ version }) => version)]);
    expect(await heldFor(standing)).toBeGreaterThanOrEqual(2 * HOUR_MS);
    expect(await heldFor(standing)).toBeLessThan(3 * HOUR_MS);
  });

  test("what is set anew is new, though a version is held that had it before", async () => {
    const [again, other] = [digest(), digest()];
    const rotation = rotating([1]);
    await set({ password: again, ageMs: 24 * HOUR_MS, rotation });
    await set({ password: other, rotation });
    for (let count = 0; count < 2; count += 1) {
      await set({ password: again, rotation });
      expect(await heldFor(again)).toBeLessThan(HOUR_MS);
    }
    expect((await vault.listVersions((await seen())?.id ?? "")).map(({ version }) => version)).toEqual([4, 1]);
  });

  test("what has lost and is set later is new, though the version is held in which it lost", async () => {
    const [standing, lost] = [digest(), digest()];
    const rotation = rotating([2]);
    await set({ password: standing });
    await keepBeside({ password: lost, ageMs: 24 * HOUR_MS, rotation }, standing);
    for (let count = 0; count < 2; count += 1) {
      await set({ password: lost, rotation });
      expect(await heldFor(lost)).toBeLessThan(HOUR_MS);
    }
    expect((await vault.listVersions((await seen())?.id ?? "")).map(({ version }) => version)).toEqual([5, 2]);
  });

  const pending = { version: 2, base: 1, keys: ["password"], cause: "Request", since: new Date() } as const;
  test.each([
    ["is pending", rotating([], { last: 2, failed: [], pending })],
    ["has failed", rotating([], { last: 2, failed: [2] })],
  ])("a version that %s was never current, and makes no value younger", async (_, rotation) => {
    const [password, keep] = [digest(), 9];
    await set({ password, ageMs: 2 * HOUR_MS, keep });
    const proposal = nextVersion(identity("one"), await seen(), keep, rotation);
    await vault.commitVersion(UNLED, { ...proposal, currentVersion: 1 });
    await set({ password, keep, rotation });
    const { id = "", currentVersion } = (await seen()) ?? {};
    expect([currentVersion, (await vault.listVersions(id)).length]).toEqual([3, 3]);
    expect(await heldFor(password)).toBeGreaterThanOrEqual(2 * HOUR_MS);
    await set({ password, rotation });
    expect(await heldFor(password)).toBeGreaterThanOrEqual(2 * HOUR_MS);
  });

  test("what was handled long ago is forgotten", async () => {
    const write = handled();
    await store.record(write, []);
    expect(await store.forget(60_000, 10)).toBe(0);
    expect(await store.forget(-60_000, 10)).toBe(1);
    expect(await store.find("NPR", [write.id])).toEqual([]);
  });
}
