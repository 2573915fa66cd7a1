/** What every `TargetVault` must do; run by the fake and by the adapter against a stand-in of the service. */
import { Sensitive } from "../sensitive.ts";
import type { EntryState, TargetVault, VaultEntry, VaultEntryProperties } from "./target-vault.ts";

/** What somebody else does to the same vault. */
export interface VaultHands {
  put(name: string, value: string, tags: Record<string, string>): Promise<void>;
  disable(name: string): Promise<void>;
  tag(name: string, tags: Record<string, string>): Promise<void>;
  delete(name: string): Promise<void>;
  /** Leaves it in the middle of its deletion. */
  beginDelete(name: string): Promise<void>;
}

export interface VaultSubject {
  readonly vault: TargetVault;
  readonly hands: VaultHands;
}

const bytes = (text: string) => new Sensitive(Buffer.from(text));
const signal = new AbortController().signal;

export function targetVaultContract(subject: () => VaultSubject): void {
  const set = (name: string, value: string, tags: Record<string, string> = {}) =>
    subject().vault.set({ name, value: bytes(value), tags }, signal);
  const present = async (name: string, version?: string) => entryOf(await subject().vault.get(name, signal, version));
  const listed = async () => {
    const pages: (readonly VaultEntryProperties[])[] = [];
    for await (const page of subject().vault.list(signal)) pages.push(page);
    return pages;
  };

  it("says Absent for a name that nobody wrote", async () => {
    expect(await subject().vault.get("never", signal)).toEqual({ kind: "Absent", asOf: expect.any(Date) });
    expect(await subject().vault.getDeleted("never", signal)).toBeUndefined();
  });

  it("gives back what was set", async () => {
    const request = { name: "whole", value: bytes("pässwörd\n✓"), tags: { team: "a" }, contentType: "text/plain" };
    const result = await subject().vault.set(request, signal);
    const entry = await present("whole");
    expect(entry.value.reveal().toString()).toBe("pässwörd\n✓");
    expect(entry).toMatchObject({ name: "whole", enabled: true, tags: { team: "a" }, contentType: "text/plain" });
    expect(result).toEqual({ kind: "Written", version: entry.version, updatedOn: entry.updatedOn });
    expect(entry.version).toMatch(/^[0-9a-f]{32}$/);
    expect(entry.updatedOn.getTime() % 1000).toBe(0);
    expect(entry.createdOn).toEqual(entry.updatedOn);
    // By the clock that made it: never before, and this test took no minute.
    const age = Number(entry.asOf?.getTime()) - entry.createdOn.getTime();
    expect(age).toBeGreaterThanOrEqual(0);
    expect(age).toBeLessThan(60_000);
  });

  it("makes a new version with each set, and still shows the one before by its id", async () => {
    await set("twice", "one", { first: "1" });
    const before = await present("twice");
    await set("twice", "two", { second: "2" });
    const after = await present("twice");
    expect(after.version).not.toBe(before.version);
    expect(after.tags).toEqual({ second: "2" });
    expect((await present("twice", before.version)).value.reveal().toString()).toBe("one");
  });

  it("lists the versions of an entry alone, with times and tags", async () => {
    await set("many", "one", { at: "1" });
    await set("many-others", "other");
    await set("many", "two", { at: "2" });
    const all = await subject().vault.listVersions("many", signal);
    expect(all.map(({ tags }) => tags.at).sort()).toEqual(["1", "2"]);
    const current = await present("many");
    expect(all).toContainEqual({
      version: current.version,
      createdOn: current.createdOn,
      enabled: true,
      tags: { at: "2" },
    });
    expect(await subject().vault.listVersions("never", signal)).toEqual([]);
  });

  it("lists more versions than fit on a page", async () => {
    for (let at = 0; at < 27; at += 1) await set("long", `value-${at}`);
    expect(new Set((await subject().vault.listVersions("long", signal)).map(({ version }) => version)).size).toBe(27);
  });

  it("keeps the time of a version whose tags somebody changed", async () => {
    await subject().hands.put("tagged", "value", {});
    const before = await present("tagged");
    await subject().hands.tag("tagged", { owner: "alice" });
    expect(await present("tagged")).toMatchObject({ version: before.version, createdOn: before.createdOn });
  });

  it("says Absent for a version that the entry does not have", async () => {
    await set("versioned", "one");
    expect(await subject().vault.get("versioned", signal, "f".repeat(32))).toMatchObject({ kind: "Absent" });
  });

  it("ignores the case of names", async () => {
    await set("Case-Name", "one");
    await set("case-name", "two");
    expect((await present("CASE-NAME")).value.reveal().toString()).toBe("two");
  });

  it("lists all entries in pages of at most 25, with tags and without values", async () => {
    await Promise.all(Array.from({ length: 30 }, (_, at) => set(`page-${at}`, "value", { at: `${at}` })));
    const pages = await listed();
    expect(Math.max(...pages.map((page) => page.length))).toBeLessThanOrEqual(25);
    const found = pages.flat().filter((entry) => entry.name.startsWith("page-"));
    expect(new Map(found.map((entry) => [entry.name, entry.tags.at])).size).toBe(30);
    expect(found.every((entry) => entry.enabled && !("value" in entry))).toBe(true);
  });

  it("does not show an entry that somebody disabled", async () => {
    await subject().hands.put("disabled", "value", {});
    await subject().hands.disable("disabled");
    expect(await subject().vault.get("disabled", signal)).toEqual({ kind: "Disabled" });
    expect((await listed()).flat().find((entry) => entry.name === "disabled")?.enabled).toBe(false);
  });

  it("keeps the name and the tags of a deleted entry, and brings it back", async () => {
    await subject().hands.put("deleted", "value", { team: "a" });
    await subject().hands.delete("deleted");
    expect(await subject().vault.get("deleted", signal)).toMatchObject({ kind: "Absent" });
    expect(await set("deleted", "other")).toEqual({ kind: "SoftDeleted" });
    expect((await subject().vault.getDeleted("deleted", signal))?.tags).toEqual({ team: "a" });
    expect((await listed()).flat().some((entry) => entry.name === "deleted")).toBe(false);
    await subject().vault.recover("deleted", signal);
    await subject().vault.recover("deleted", signal);
    await expectSoon(async () => (await subject().vault.get("deleted", signal)).kind === "Present");
    expect((await present("deleted")).value.reveal().toString()).toBe("value");
  });

  it("deletes so that it can be recovered, and purges for good", async () => {
    await set("ended", "value", { team: "a" });
    await subject().vault.delete("ended", signal);
    await subject().vault.delete("ended", signal);
    expect((await subject().vault.get("ended", signal)).kind).toBe("Absent");
    expect((await subject().vault.getDeleted("ended", signal))?.tags).toEqual({ team: "a" });
    await expectSoon(async () => (await subject().vault.purge("ended", signal)) === "Purged");
    expect(await subject().vault.purge("ended", signal)).toBe("Purged");
    await expectSoon(async () => (await set("ended", "anew")).kind === "Written");
    expect((await present("ended")).tags).toEqual({});
  });

  it("has nothing to purge where nothing is", async () => {
    expect(await subject().vault.purge("nowhere", signal)).toBe("Purged");
  });

  it("says InTransition while an entry is being deleted", async () => {
    await subject().hands.put("leaving", "value", {});
    await subject().hands.beginDelete("leaving");
    expect(await set("leaving", "other")).toEqual({ kind: "InTransition" });
  });

  it("deletes an entry so that it can be recovered, with all its versions", async () => {
    await set("going", "one", { team: "a" });
    await set("going", "two", { team: "a" });
    const { version } = await present("going");
    expect(await subject().vault.delete("GOING", signal)).toEqual({ kind: "Deleted" });
    await expectSoon(async () => (await subject().vault.getDeleted("going", signal)) !== undefined);
    expect((await subject().vault.get("going", signal)).kind).toBe("Absent");
    expect((await subject().vault.getDeleted("going", signal))?.tags).toEqual({ team: "a" });
    await subject().vault.recover("going", signal);
    await expectSoon(async () => (await subject().vault.get("going", signal)).kind === "Present");
    expect(await present("going")).toMatchObject({ version });
  });

  it("deletes an entry that somebody disabled, as any other", async () => {
    await subject().hands.put("disabled-going", "value", {});
    await subject().hands.disable("disabled-going");
    expect(await subject().vault.delete("disabled-going", signal)).toEqual({ kind: "Deleted" });
    await expectSoon(async () => (await set("disabled-going", "other")).kind === "SoftDeleted");
  });

  it("has nothing to delete where there is no such entry, or it was deleted already", async () => {
    expect(await subject().vault.delete("never-there", signal)).toEqual({ kind: "Absent" });
    await subject().hands.put("gone", "value", {});
    await subject().hands.delete("gone");
    expect(await subject().vault.delete("gone", signal)).toEqual({ kind: "Absent" });
  });

  it("rejects with the reason of an aborted signal", async () => {
    const reason = new Error("shutting down");
    await expect(subject().vault.get("any", AbortSignal.abort(reason))).rejects.toBe(reason);
  });
}

function entryOf(state: EntryState): VaultEntry {
  if (state.kind !== "Present") throw new Error(`the entry is ${state.kind}`);
  return state.entry;
}

/** Asks again until it is so; the test's own time-out ends it. */
async function expectSoon(question: () => Promise<boolean>): Promise<void> {
  while (!(await question())) await new Promise(setImmediate);
}
