import { Fenced } from "../errors.ts";
import type { CopyStoreUnderTest } from "./copy-store.contract.ts";
import type { GatewayCopyRecord, GatewayCopyStore } from "./gateway-copy-store.ts";
import { auditEntry, digest, identity, nextVersion } from "./samples.ts";
import type { SecretRecord, Writer } from "./vault-store.ts";

export type GatewayCopyStoreUnderTest = Omit<CopyStoreUnderTest, "copies"> & { readonly copies: GatewayCopyStore };

const RULE = "payments/rule";

/** What every store of copies through gateways does. `start` gives an empty one. */
export function gatewayCopyStoreContract(start: () => Promise<GatewayCopyStoreUnderTest>): void {
  let tested: GatewayCopyStoreUnderTest;
  let copies: GatewayCopyStore;
  let writer: Writer;

  beforeEach(async () => {
    tested = await start();
    ({ copies } = tested);
    writer = { epoch: await tested.leadership.acquireEpoch("contract") };
  });

  const stored = async (name: string): Promise<SecretRecord> => {
    await tested.vault.commitVersion(writer, nextVersion(identity(name)));
    const found = await tested.vault.find(identity(name));
    if (found === undefined) throw new Error("expected a stored secret");
    return found.record;
  };
  /** Rows of the action that `auditEntry` has. */
  const reads = async (): Promise<number> =>
    (await tested.audit.read({}, undefined, 500)).filter(({ entry }) => entry.action === "SecretRead").length;
  const copyOf = (
    secretId: string,
    secretName: string,
    change: Partial<GatewayCopyRecord> = {},
  ): GatewayCopyRecord => ({
    secretId,
    gateway: "gw-npr-primary",
    namespace: "payments",
    madeOf: `${digest()}.${digest()}`,
    delivery: {
      secretName,
      uid: "uid-of-core-secret",
      resourceVersion: "17",
      fingerprint: `${digest()}.${digest()}`,
      version: 3,
      pendingRestarts: [],
    },
    ...change,
  });

  test("copies come back as they were recorded, with the audit rows, by gateway and secret", async () => {
    const [one, two] = [await stored("one"), await stored("two")];
    const [first, second] = [copyOf(one.id, "one"), copyOf(two.id, "two")];
    const elsewhere = copyOf(one.id, "one", { gateway: "gw-npr-dr" });
    await copies.recordGatewayCopies(
      writer,
      RULE,
      [first, second, elsewhere],
      [auditEntry(one.id), auditEntry(two.id)],
    );
    expect(await copies.gatewayCopies("gw-npr-primary", [one.id, two.id])).toEqual([first, second]);
    expect(await copies.gatewayCopies("gw-npr-primary", [two.id])).toEqual([second]);
    expect(await copies.gatewayCopies("gw-npr-dr", [one.id, two.id])).toEqual([elsewhere]);
    expect(await copies.gatewayCopies("gw-npr-dr", [])).toEqual([]);
    expect(await reads()).toBe(2);
  });

  test("what is recorded later of the same core Secret replaces it, also of another secret", async () => {
    const [one, two] = [await stored("one"), await stored("two")];
    await copies.recordGatewayCopies(writer, RULE, [copyOf(one.id, "db")], []);
    const later = copyOf(two.id, "db");
    await copies.recordGatewayCopies(writer, RULE, [later], []);
    expect(await copies.gatewayCopies("gw-npr-primary", [one.id, two.id])).toEqual([later]);
  });

  test("a purged secret takes what is known of its copies along, and is left out from then on", async () => {
    const [one, two] = [await stored("one"), await stored("two")];
    await copies.recordGatewayCopies(writer, RULE, [copyOf(one.id, "one")], []);
    await tested.vault.purge(writer, one.id, one.generation, []);
    expect(await copies.gatewayCopies("gw-npr-primary", [one.id])).toEqual([]);
    const left = copyOf(two.id, "two");
    await copies.recordGatewayCopies(writer, RULE, [copyOf(one.id, "one"), left], [auditEntry(one.id)]);
    expect(await copies.gatewayCopies("gw-npr-primary", [one.id, two.id])).toEqual([left]);
    expect(await reads()).toBe(1);
  });

  test("what a rule made last is forgotten with it, and nothing else is", async () => {
    const [one, two] = [await stored("one"), await stored("two")];
    await copies.recordGatewayCopies(writer, RULE, [copyOf(one.id, "one"), copyOf(two.id, "two")], []);
    const taken = copyOf(two.id, "two");
    await copies.recordGatewayCopies(writer, "payments/other", [taken], []);
    await copies.forgetGatewayCopies(writer, { rule: RULE });
    expect(await copies.gatewayCopies("gw-npr-primary", [one.id, two.id])).toEqual([taken]);
    await tested.leadership.acquireEpoch("next");
    await expect(copies.forgetGatewayCopies(writer, { rule: "payments/other" })).rejects.toThrow(Fenced);
    expect(await copies.gatewayCopies("gw-npr-primary", [two.id])).toEqual([taken]);
  });

  test("what is at a gateway is forgotten with it, whichever rule made it, and each owner is told once", async () => {
    const [one, two] = [await stored("one"), await stored("two")];
    const there = copyOf(one.id, "one", { gateway: "gw-npr-dr" });
    await copies.recordGatewayCopies(writer, RULE, [copyOf(one.id, "one"), copyOf(two.id, "two"), there], []);
    await copies.recordGatewayCopies(writer, "payments/other", [copyOf(two.id, "other")], []);
    const owners = async () =>
      (await copies.gatewayCopyOwners()).map(({ gateway, rule }) => `${gateway} ${rule}`).sort();
    const left = `gw-npr-dr ${RULE}`;
    expect(await owners()).toEqual([left, "gw-npr-primary payments/other", `gw-npr-primary ${RULE}`]);
    await copies.forgetGatewayCopies(writer, { gateway: "gw-npr-primary" });
    expect(await owners()).toEqual([left]);
    expect(await copies.gatewayCopies("gw-npr-dr", [one.id])).toEqual([there]);
    await tested.leadership.acquireEpoch("next");
    await expect(copies.forgetGatewayCopies(writer, { gateway: "gw-npr-dr" })).rejects.toThrow(Fenced);
  });

  test("who does not lead any more records nothing", async () => {
    const { id } = await stored("one");
    await tested.leadership.acquireEpoch("next");
    await expect(copies.recordGatewayCopies(writer, RULE, [copyOf(id, "one")], [auditEntry(id)])).rejects.toThrow(
      Fenced,
    );
    expect(await copies.gatewayCopies("gw-npr-primary", [id])).toEqual([]);
    expect(await reads()).toBe(0);
  });
}
