import { randomBytes } from "node:crypto";
import { Fenced } from "../errors.ts";
import { bindingEntry, homeEntry } from "../recovery/home.ts";
import type { Actor, AuditLog } from "./audit-log.ts";
import type { Binding, HomeRecord, HomeStore } from "./home-store.ts";
import type { Leadership } from "./leadership.ts";
import { Conflict, type Writer } from "./vault-store.ts";

export interface HomeStoreUnderTest {
  readonly home: HomeStore;
  readonly leadership: Leadership;
  readonly audit: Pick<AuditLog, "read">;
}

const actor: Actor = { kind: "Controller", name: "test" };

/** What every home store does. `start` gives an empty one. */
export function homeStoreContract(start: () => Promise<HomeStoreUnderTest>): void {
  let store: HomeStore;
  let leadership: Leadership;
  let audit: HomeStoreUnderTest["audit"];
  let writer: Writer;

  beforeEach(async () => {
    ({ home: store, leadership, audit } = await start());
    writer = { epoch: await leadership.acquireEpoch("contract") };
  });

  const mac = randomBytes(32);
  const settled: HomeRecord = { clusterUid: "one", state: "Settled" };
  const adopted: HomeRecord = { clusterUid: "two", state: "Adopted" };
  const choose = (before: bigint, record: HomeRecord, by = writer) =>
    store.writeHome(by, before, record, mac, [homeEntry("ClusterChosen", before + 1n, actor, {})]);
  const shop: Binding = { kind: "Namespace", namespace: "", name: "shop", heldUid: "held", uid: "uid" };
  const web: Binding = { kind: "Certificate", namespace: "shop", name: "web", heldUid: "held", uid: undefined };
  const bind = (binding: Binding, generation: bigint, by = writer) =>
    store.writeBindings(by, [{ binding, generation, mac }], [bindingEntry(binding, generation, actor)]);
  const recorded = async (): Promise<number> =>
    (await audit.read({}, undefined, 500)).filter(({ entry }) => entry.subject.generation !== undefined).length;

  test("there is no home until one is written; it comes back as it was, with what the record knows of its age", async () => {
    expect(await store.home()).toBeUndefined();
    await choose(0n, settled);
    expect(await store.home()).toEqual({ record: settled, generation: 1n, mac, auditedGeneration: 1n });
    await choose(1n, adopted);
    expect(await store.home()).toEqual({ record: adopted, generation: 2n, mac, auditedGeneration: 2n });
    expect(await recorded()).toBe(2);
  });

  test("a home is written over what its writer has seen, and by who leads, or not at all", async () => {
    await choose(0n, settled);
    await expect(choose(0n, adopted)).rejects.toThrow(Conflict);
    await expect(choose(2n, adopted)).rejects.toThrow(Conflict);
    const former = writer;
    await leadership.acquireEpoch("another");
    await expect(choose(1n, adopted, former)).rejects.toThrow(Fenced);
    await expect(bind(shop, 1n, former)).rejects.toThrow(Fenced);
    await expect(store.renameRules(former, new Map([["a", "b"]]))).rejects.toThrow(Fenced);
    await expect(store.renameSinks(former, new Map([["a", "b"]]))).rejects.toThrow(Fenced);
    expect(await store.home()).toMatchObject({ record: settled, generation: 1n });
    expect(await store.bindings()).toEqual([]);
    expect(await recorded()).toBe(1);
  });

  test("bindings come back by kind and UID, and grow by one with each write", async () => {
    await store.writeBindings(
      writer,
      [
        { binding: shop, generation: 1n, mac },
        { binding: web, generation: 1n, mac },
      ],
      [bindingEntry(shop, 1n, actor), bindingEntry(web, 1n, actor)],
    );
    const there = { ...web, uid: "web" };
    await bind(there, 2n);
    expect(await store.bindings()).toEqual([
      { binding: there, generation: 2n, mac, auditedGeneration: 2n },
      { binding: shop, generation: 1n, mac, auditedGeneration: 1n },
    ]);
  });

  test("of bindings that were seen otherwise none is written", async () => {
    await bind(shop, 1n);
    const rows = [
      { binding: web, generation: 1n, mac },
      { binding: { ...shop, uid: "other" }, generation: 3n, mac },
    ];
    await expect(store.writeBindings(writer, rows, [bindingEntry(web, 1n, actor)])).rejects.toThrow(Conflict);
    expect(await store.bindings()).toMatchObject([{ binding: shop, generation: 1n }]);
    expect(await recorded()).toBe(1);
  });

  test("an object stands for one alone, and is given to another one in one write", async () => {
    await bind(shop, 1n);
    const other: Binding = { ...shop, heldUid: "other" };
    const former = { ...shop, uid: undefined };
    await expect(bind(other, 1n)).rejects.toThrow();
    await store.writeBindings(
      writer,
      [
        { binding: former, generation: 2n, mac },
        { binding: other, generation: 1n, mac },
      ],
      [bindingEntry(former, 2n, actor), bindingEntry(other, 1n, actor)],
    );
    expect(await store.bindings()).toMatchObject([{ binding: former }, { binding: other }]);
  });

  test("what is settled forgets what was awaited, and nothing else", async () => {
    await choose(0n, adopted);
    await bind(shop, 1n);
    await bind(web, 1n);
    await choose(1n, { ...adopted, state: "Settled" });
    expect(await store.bindings()).toMatchObject([{ binding: shop }]);
  });

  test("the mark is another one after each write, and the same in between", async () => {
    const marks = [await store.mark()];
    await choose(0n, adopted);
    marks.push(await store.mark());
    await bind(web, 1n);
    marks.push(await store.mark());
    await bind({ ...web, uid: "uid" }, 2n);
    marks.push(await store.mark());
    expect(new Set(marks).size).toBe(4);
    expect(await store.mark()).toBe(marks.at(-1));
  });
}
