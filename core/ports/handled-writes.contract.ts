import { randomBytes, randomUUID } from "node:crypto";
import type { WriteOutcome } from "../fleet/writes.ts";
import type { AuditLog } from "./audit-log.ts";
import type { HandledWrite, HandledWrites } from "./handled-writes.ts";
import { auditEntry, identity, nextVersion } from "./samples.ts";
import { Conflict, type NewVersion, type SecretRecord, UNLED, type VaultStore } from "./vault-store.ts";

export interface HandledWritesUnderTest {
  readonly handledWrites: HandledWrites;
  readonly vault: VaultStore;
  readonly audit: Pick<AuditLog, "read">;
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
    const password = entries.find(({ key }) => key === "password");
    for (const keepVersions of [3, 2, 1, 1]) {
      const other = nextVersion(identity("one"), await seen(), keepVersions);
      const kept = other.sealed.entries.map((entry) => (entry.key === "password" ? (password ?? entry) : entry));
      await vault.commitVersion(UNLED, { ...other, sealed: { ...other.sealed, entries: kept } });
    }
    expect(await vault.listVersions((await seen())?.id ?? "")).toHaveLength(1);
    expect(await heldForMs()).toBeGreaterThanOrEqual(7_200_000);
    expect(await heldForMs()).toBeLessThan(86_400_000);
    const changed = nextVersion(identity("one"), await seen(), 1);
    await vault.commitVersion(UNLED, changed);
    expect(await heldForMs()).toBeLessThan(3_600_000);
  });

  test("what was handled long ago is forgotten", async () => {
    const write = handled();
    await store.record(write, []);
    expect(await store.forget(60_000, 10)).toBe(0);
    expect(await store.forget(-60_000, 10)).toBe(1);
    expect(await store.find("NPR", [write.id])).toEqual([]);
  });
}
