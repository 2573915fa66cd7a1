import type { Leadership } from "./leadership.ts";
import { identity, nextVersion, softDeletion } from "./samples.ts";
import type { SecretHeads } from "./secret-heads.ts";
import type { VaultStore, Writer } from "./vault-store.ts";

export interface SecretHeadsUnderTest {
  readonly heads: SecretHeads;
  readonly store: VaultStore;
  readonly leadership: Leadership;
}

/** What everybody who tells of stored secrets does. `start` gives an empty store. */
export function secretHeadsContract(start: () => Promise<SecretHeadsUnderTest>): void {
  let heads: SecretHeads;
  let store: VaultStore;
  let writer: Writer;

  beforeEach(async () => {
    const under = await start();
    ({ heads, store } = under);
    writer = { epoch: await under.leadership.acquireEpoch("contract") };
  });

  const stored = async (name: string) => {
    const version = nextVersion(identity(name));
    await store.commitVersion(writer, version);
    return version;
  };
  const names = async (position: bigint) =>
    (await heads.changedSince(position))?.heads.map(({ identity: { name } }) => name);

  test("all are listed in pages by id, each with the fingerprints of its current version", async () => {
    const versions = await Promise.all(["one", "two", "three"].map(stored));
    const ids = versions.map(({ id }) => id).sort();
    const first = await heads.list(undefined, 2);
    const rest = await heads.list(first.at(-1)?.id, 2);
    expect([...first, ...rest].map(({ id }) => id)).toEqual(ids);
    expect(await heads.list(rest.at(-1)?.id, 2)).toEqual([]);
    const [version] = versions;
    expect([...first, ...rest].find(({ id }) => id === version?.id)).toEqual({
      id: version?.id,
      identity: identity("one"),
      state: "Active",
      currentVersion: 1,
      generation: 1n,
      fingerprints: version?.sealed.entries.map(({ key, fingerprint }) => ({ key, fingerprint })),
    });
  });

  test("what is written after a position is told of, whatever was changed", async () => {
    await stored("before");
    const changed = await stored("changed");
    const deleted = await stored("deleted");
    const position = await heads.position();
    await stored("new");
    const record = (await store.find(changed.identity))?.record;
    await store.commitVersion(writer, nextVersion(changed.identity, record));
    const gone = (await store.find(deleted.identity))?.record;
    if (gone === undefined) throw new Error("it is stored");
    await store.changePointer(writer, softDeletion(gone, new Date(), new Date()));
    expect(await names(position)).toEqual(expect.arrayContaining(["new", "changed", "deleted"]));
    const told = await heads.changedSince(position);
    expect(told?.heads.find(({ id }) => id === changed.id)).toMatchObject({ currentVersion: 2, generation: 2n });
    expect(told?.heads.find(({ id }) => id === deleted.id)).toMatchObject({ state: "SoftDeleted" });
    await stored("later");
    expect(await names(told?.position ?? 0n)).toContain("later");
  });

  test("what is at rest is not told of again for ever", async () => {
    await stored("at rest");
    // A position is before whatever runs at its moment, so it may take another write to be behind the first one.
    for (let turn = 0; turn < 3; turn += 1) await stored(`other ${turn}`);
    expect(await names(await heads.position())).not.toContain("at rest");
  });

  test("a position of another database tells nothing", async () => {
    expect(await heads.changedSince((await heads.position()) + 1_000_000_000n)).toBeUndefined();
  });

  test("many are found at once with what they hold; those that are not there are left out", async () => {
    const versions = await Promise.all(["one", "two"].map(stored));
    const ids = [...versions.map(({ id }) => id), "00000000-0000-4000-8000-000000000000"];
    const found = await store.findSealedAll(ids);
    expect(found.map(({ record: { id, sealed } }) => [id, sealed?.entries.length]).sort()).toEqual(
      versions.map(({ id }) => [id, 2]).sort(),
    );
    expect(found).toEqual(
      expect.arrayContaining(await Promise.all(versions.map((version) => store.findSealed(version.identity)))),
    );
  });
}
