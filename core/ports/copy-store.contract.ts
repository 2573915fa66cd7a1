import { Fenced } from "../errors.ts";
import type { AuditLog } from "./audit-log.ts";
import type { CopyRecord, CopyStore } from "./copy-store.ts";
import type { Leadership } from "./leadership.ts";
import { auditEntry, digest, identity, nextVersion } from "./samples.ts";
import { Conflict, type SecretRecord, type VaultStore, type Writer } from "./vault-store.ts";

export interface CopyStoreUnderTest {
  readonly copies: CopyStore;
  readonly vault: VaultStore;
  readonly leadership: Leadership;
  readonly audit: Pick<AuditLog, "read">;
}

/** What every copy store does. `start` gives an empty one. */
export function copyStoreContract(start: () => Promise<CopyStoreUnderTest>): void {
  let copies: CopyStore;
  let vault: VaultStore;
  let leadership: Leadership;
  let audit: CopyStoreUnderTest["audit"];
  let writer: Writer;

  beforeEach(async () => {
    ({ copies, vault, leadership, audit } = await start());
    writer = { epoch: await leadership.acquireEpoch("contract") };
  });

  const stored = async (name: string): Promise<SecretRecord> => {
    await vault.commitVersion(writer, nextVersion(identity(name)));
    const found = await vault.find(identity(name));
    if (found === undefined) throw new Error("expected a stored secret");
    return found.record;
  };
  /** Rows of the action that `auditEntry` has. */
  const reads = async (): Promise<number> =>
    (await audit.read({}, undefined, 500)).filter(({ entry }) => entry.action === "SecretRead").length;
  const copyOf = (secretId: string, change: Partial<CopyRecord> = {}): CopyRecord => ({
    secretId,
    namespace: "jobs",
    namespaceUid: "uid-of-jobs",
    delivery: {
      secretName: "orders-db",
      uid: "uid-of-core-secret",
      resourceVersion: "17",
      fingerprint: `${digest()}.${digest()}`,
      version: 3,
      pendingRestarts: ["consumers"],
      agreed: { password: digest() },
      meant: [{ password: digest() }, { password: digest(), token: digest() }],
      taking: [{ token: digest() }],
    },
    ...change,
  });

  test("a copy comes back as it was recorded, with its audit row, and only with its secret", async () => {
    const [one, two] = [await stored("one"), await stored("two")];
    const copy = copyOf(one.id);
    await copies.recordCopy(writer, copy, [auditEntry(one.id)]);
    expect(await copies.copies([one.id, two.id])).toEqual([copy]);
    expect(await copies.copies([two.id])).toEqual([]);
    expect(await copies.copies([])).toEqual([]);
    expect(await reads()).toBe(1);
  });

  test("what is recorded later of the same core Secret replaces it, also of another secret", async () => {
    const [one, two] = [await stored("one"), await stored("two")];
    await copies.recordCopy(writer, copyOf(one.id), []);
    const later = copyOf(two.id);
    await copies.recordCopy(writer, later, []);
    expect(await copies.copies([one.id, two.id])).toEqual([later]);
  });

  test("a namespace that was made anew has copies of its own", async () => {
    const { id } = await stored("one");
    const [before, after] = [copyOf(id), copyOf(id, { namespaceUid: "uid-of-other-jobs" })];
    await copies.recordCopy(writer, before, []);
    await copies.recordCopy(writer, after, []);
    expect(await copies.copies([id])).toEqual(expect.arrayContaining([before, after]));
  });

  test("a purged secret takes what is known of its copies along, and none is recorded any more", async () => {
    const { id, generation } = await stored("one");
    await copies.recordCopy(writer, copyOf(id), []);
    await vault.purge(writer, id, generation, []);
    expect(await copies.copies([id])).toEqual([]);
    await expect(copies.recordCopy(writer, copyOf(id), [auditEntry(id)])).rejects.toThrow(Conflict);
    expect(await reads()).toBe(0);
  });

  test("who does not lead any more records nothing", async () => {
    const { id } = await stored("one");
    await leadership.acquireEpoch("next");
    await expect(copies.recordCopy(writer, copyOf(id), [])).rejects.toThrow(Fenced);
    expect(await copies.copies([id])).toEqual([]);
  });
}
