import { createHash, randomBytes, randomUUID } from "node:crypto";
import { Fenced } from "../errors.ts";
import type { WriteOutcome } from "../fleet/writes.ts";
import type { AuditLog } from "./audit-log.ts";
import type { Leadership } from "./leadership.ts";
import { auditEntry } from "./samples.ts";
import type { Writer } from "./vault-store.ts";
import type { NewQueuedWrite, WriteQueue, WriteRecipient } from "./write-queue.ts";

export interface WriteQueueUnderTest {
  readonly writeQueue: WriteQueue;
  readonly leadership: Leadership;
  readonly audit: Pick<AuditLog, "read">;
}

const NPR: WriteRecipient = { gatewayEnvironment: "NPR", rootDigest: Buffer.alloc(32, 1) };
const idOf = (name: string): string => {
  const hex = createHash("sha256").update(name).digest("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join("-");
};
const MOST = 1_000;
const ALL = 1_000_000;

/** What every write queue does. `start` gives an empty one. */
export function writeQueueContract(start: () => Promise<WriteQueueUnderTest>): void {
  let store: WriteQueue;
  let leadership: Leadership;
  let audit: WriteQueueUnderTest["audit"];
  let writer: Writer;

  beforeEach(async () => {
    ({ writeQueue: store, leadership, audit } = await start());
    writer = { epoch: await leadership.acquireEpoch("contract") };
  });

  const write = (name = "one", change: Partial<NewQueuedWrite> = {}): NewQueuedWrite => ({
    id: randomUUID(),
    place: { namespace: "payments", name },
    recipient: NPR,
    secret: { id: idOf(name), project: "payments", environment: "pro", namespaceUid: "uid" },
    baseVersion: 3,
    author: { subject: "LocalUser alice@example.com", via: "Token" },
    writer: '["LocalUser","1"]',
    fingerprint: randomBytes(32),
    sealed: { wrappedKey: randomBytes(60), keyId: randomUUID(), ciphertext: randomBytes(100) },
    ...change,
  });
  const accept = async (given: NewQueuedWrite, most = MOST): Promise<string> => {
    expect(await store.accept(given, most, [])).toBe("Accepted");
    return given.id;
  };
  const applied = (version = 4): WriteOutcome => ({ kind: "Applied", version, changed: ["password"] });
  const REFUSED: WriteOutcome = { kind: "Refused", code: "NotFound", detail: "there is no such Secret" };
  const settle = (id: string, outcome: WriteOutcome = applied()) => store.settle(writer, [{ id, outcome }], []);
  const waiting = async (...except: readonly string[]) =>
    (
      await store.waiting(
        NPR,
        100,
        ALL,
        except.map((name) => ({ namespace: "payments", name })),
      )
    ).map(({ id }) => id);
  const rows = async () =>
    (await audit.read({}, undefined, 500)).filter(({ entry }) => entry.action === "SecretRead").length;

  test("what was accepted waits as it was given, with its audit rows, and an id is accepted once", async () => {
    const given = write();
    expect(await store.accept(given, MOST, [auditEntry(randomUUID())])).toBe("Accepted");
    const [found, ...others] = await store.waiting(NPR, 100, ALL, []);
    const { sealed, ...told } = given;
    expect(others).toEqual([]);
    expect(found).toMatchObject({ ...told, sealed, state: "Waiting" });
    expect([found?.follows, found?.outcome, found?.settledForMs]).toEqual([undefined, undefined, undefined]);
    expect(found?.ageMs).toBeGreaterThanOrEqual(0);
    expect(await store.accept(write("one", { id: given.id }), MOST, [auditEntry(randomUUID())])).toBe("Known");
    expect(await store.find(given.id)).toMatchObject(told);
    expect(await store.find(randomUUID())).toBeUndefined();
    expect(await rows()).toBe(1);
  });

  test("of many at once as many are accepted as may wait, and of the others nothing is on record", async () => {
    const said = await Promise.all(
      Array.from({ length: 20 }, (_, index) => store.accept(write(`s${index}`), 7, [auditEntry(randomUUID())])),
    );
    expect(said.filter((each) => each === "Accepted")).toHaveLength(7);
    expect(said.filter((each) => each === "Full")).toHaveLength(13);
    expect([await rows(), (await store.length(NPR)).waiting]).toEqual([7, 7]);
    const [first = ""] = await waiting();
    await settle(first);
    await accept(write(), 7);
    expect(await store.accept(write(), 7, [])).toBe("Full");
  });

  test("they wait in order, without those of secrets that are left out, as many as fit", async () => {
    const ids: string[] = [];
    for (const name of ["one", "two", "one", "three"]) ids.push(await accept(write(name)));
    const [one, two, again, three] = ids;
    expect(await waiting()).toEqual(ids);
    expect(await waiting("one")).toEqual([two, three]);
    expect(await waiting("one", "three")).toEqual([two]);
    const sizes = async (limit: number, bytes: number) =>
      (await store.waiting(NPR, limit, bytes, [])).map(({ id }) => id);
    expect(await sizes(3, ALL)).toEqual([one, two, again]);
    expect(await sizes(100, 250)).toEqual([one, two]);
    expect(await sizes(100, 1)).toEqual([one]);
  });

  test("a write follows the last one of its secret that waits or was applied", async () => {
    const followsOf = async (id: string) => (await store.find(id))?.follows;
    const first = await accept(write());
    expect(await followsOf(await accept(write("other")))).toBeUndefined();
    const second = await accept(write());
    expect([await followsOf(first), await followsOf(second)]).toEqual([undefined, first]);
    await settle(first);
    await settle(second, REFUSED);
    expect(await followsOf(await accept(write()))).toBe(first);
  });

  test("what was settled waits no more, and comes back as it was answered", async () => {
    const [one, two, three] = [await accept(write()), await accept(write("two")), await accept(write("three"))];
    await store.settle(
      writer,
      [
        { id: one, outcome: applied(7) },
        { id: two, outcome: REFUSED },
      ],
      [auditEntry(randomUUID())],
    );
    expect(await waiting()).toEqual([three]);
    expect(await store.find(one)).toMatchObject({ state: "Applied", outcome: applied(7) });
    expect((await store.find(one))?.settledForMs).toBeGreaterThanOrEqual(0);
    expect(await store.find(two)).toMatchObject({ state: "Refused", outcome: REFUSED });
    expect(await store.length(NPR)).toEqual({ waiting: 1, stranded: 0, oldestAgeMs: expect.any(Number), refused: 1 });
    // Whoever answers later answers the same, so the first counts.
    await settle(one, applied(9));
    expect(await store.find(one)).toMatchObject({ outcome: applied(7) });
    expect(await rows()).toBe(1);
  });

  test("what the primary has lost waits again in its old place; what had no effect does not", async () => {
    const ids: string[] = [];
    for (const name of ["one", "two", "three", "four"]) ids.push(await accept(write(name)));
    const [one = "", two = "", three = "", four = ""] = ids;
    await settle(two);
    await settle(one, { kind: "KeptBeside", version: 2 });
    await settle(three, REFUSED);
    expect(await store.lastSettled(NPR, 10)).toEqual([one, two]);
    expect(await store.lastSettled(NPR, 1)).toEqual([one]);
    const page = await store.settled(NPR, undefined, 1);
    expect(page.map(({ id }) => id)).toEqual([one]);
    expect((await store.settled(NPR, page[0]?.sequence, 10)).map(({ id }) => id)).toEqual([two]);
    await store.requeue(writer, [one, three], [auditEntry(randomUUID())]);
    expect(await waiting()).toEqual([one, four]);
    expect(await store.find(one)).toMatchObject({ state: "Waiting", outcome: undefined, settledForMs: undefined });
    expect(await store.lastSettled(NPR, 10)).toEqual([two]);
    expect(await rows()).toBe(1);
  });

  test("once its values are cleared a settled write is told as before, and never waits again; what waits keeps them", async () => {
    const [one, two, three] = [await accept(write()), await accept(write("two")), await accept(write("three"))];
    await settle(one);
    await settle(two, { kind: "KeptBeside", version: 2 });
    expect(await store.clearSettled(writer, 1)).toBe(1);
    expect(await store.clearSettled(writer, 10)).toBe(1);
    expect(await store.clearSettled(writer, 10)).toBe(0);
    expect(await store.find(one)).toMatchObject({ state: "Applied", outcome: applied() });
    expect([await store.lastSettled(NPR, 10), await store.settled(NPR, undefined, 10)]).toEqual([[], []]);
    await store.requeue(writer, [one, two], []);
    expect(await waiting()).toEqual([three]);
  });

  test("of what was refused the values are gone at once", async () => {
    await settle(await accept(write()), REFUSED);
    expect(await store.clearSettled(writer, 10)).toBe(0);
  });

  test.each<[string, WriteRecipient]>([
    ["environment", { ...NPR, gatewayEnvironment: "PRO" }],
    ["primary", { ...NPR, rootDigest: Buffer.alloc(32, 2) }],
  ])("what is for one is nothing to another %s", async (_what, other) => {
    const [settled, first] = [await accept(write()), await accept(write())];
    await settle(settled);
    expect(await store.waiting(other, 100, ALL, [])).toEqual([]);
    expect([await store.lastSettled(other, 10), await store.settled(other, undefined, 10)]).toEqual([[], []]);
    expect(await store.length(other)).toEqual({ waiting: 0, stranded: 1, oldestAgeMs: undefined, refused: 0 });
    expect(await store.length(undefined)).toMatchObject({ waiting: 1, stranded: 0 });
    const theirs = await accept(write("one", { recipient: other }), 1);
    expect(await store.find(theirs)).toMatchObject({ follows: undefined, recipient: other });
    expect((await store.waiting(other, 100, ALL, [])).map(({ id }) => id)).toEqual([theirs]);
    expect(await waiting()).toEqual([first]);
  });

  test("a write does not follow one of another secret that was at its place", async () => {
    await accept(write());
    const anew = write();
    await accept({ ...anew, secret: { ...anew.secret, id: randomUUID() } });
    expect((await store.find(anew.id))?.follows).toBeUndefined();
  });

  test("they are listed newest first, by writer and by state, in pages", async () => {
    const mine = { writer: "me" };
    const ids = [await accept(write()), await accept(write("two", mine)), await accept(write("three", mine))];
    await settle(ids[2] ?? "");
    const list = async (...given: Parameters<WriteQueue["list"]>) => (await store.list(...given)).map(({ id }) => id);
    expect(await list({}, undefined, 10)).toEqual(ids.toReversed());
    expect(await list(mine, undefined, 10)).toEqual([ids[2], ids[1]]);
    expect(await list({ state: "Waiting" }, undefined, 10)).toEqual([ids[1], ids[0]]);
    const [newest] = await store.list({}, undefined, 1);
    expect(await list({}, newest?.sequence, 10)).toEqual([ids[1], ids[0]]);
  });

  test("what was settled long ago is forgotten, and never what waits", async () => {
    const [one, two] = [await accept(write()), await accept(write("two"))];
    await settle(one);
    expect(await store.forget(writer, 60_000, 10)).toBe(0);
    expect(await store.forget(writer, -60_000, 10)).toBe(1);
    expect(await store.find(one)).toBeUndefined();
    expect(await waiting()).toEqual([two]);
  });

  test("who does not lead any more settles, requeues and forgets nothing", async () => {
    const [one, two] = [await accept(write()), await accept(write("two"))];
    await settle(one);
    await leadership.acquireEpoch("next");
    await expect(settle(two)).rejects.toThrow(Fenced);
    await expect(store.requeue(writer, [one], [])).rejects.toThrow(Fenced);
    await expect(store.forget(writer, -60_000, 10)).rejects.toThrow(Fenced);
    await expect(store.clearSettled(writer, 10)).rejects.toThrow(Fenced);
    expect(await waiting()).toEqual([two]);
    expect(await store.find(one)).toMatchObject({ state: "Applied" });
  });
}
