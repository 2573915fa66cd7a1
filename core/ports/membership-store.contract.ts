import { randomBytes, randomUUID } from "node:crypto";
import { Fenced } from "../errors.ts";
import type { AuditLog } from "./audit-log.ts";
import type { Leadership } from "./leadership.ts";
import type { MemberKey, MembershipRecord, MembershipStore } from "./membership-store.ts";
import { auditEntry } from "./samples.ts";
import { Conflict, type Writer } from "./vault-store.ts";

export interface MembershipStoreUnderTest {
  readonly membership: MembershipStore;
  readonly leadership: Leadership;
  readonly audit: Pick<AuditLog, "read">;
}

/** What every membership store does. `start` gives an empty one. */
export function membershipStoreContract(start: () => Promise<MembershipStoreUnderTest>): void {
  let store: MembershipStore;
  let leadership: Leadership;
  let audit: MembershipStoreUnderTest["audit"];
  let writer: Writer;

  beforeEach(async () => {
    ({ membership: store, leadership, audit } = await start());
    writer = { epoch: await leadership.acquireEpoch("contract") };
  });

  const keyOf = (change: Partial<MemberKey> = {}): MemberKey => ({
    digest: randomBytes(32),
    sealed: { wrappedKey: randomBytes(60), keyId: randomUUID(), ciphertext: randomBytes(150) },
    certificates: [],
    receivedAt: undefined,
    ...change,
  });
  const began: MembershipRecord = {
    state: "Registering",
    primaryUrl: "https://primary.example.com:8443",
    tokenHash: randomBytes(32),
    rootDigest: randomBytes(32),
    identity: undefined,
    current: keyOf(),
    next: undefined,
  };
  const confirmed: MembershipRecord = {
    ...began,
    state: "Confirmed",
    identity: { gatewayId: randomUUID(), name: "gw-npr-primary", environment: "NPR", role: "dr-standby" },
    current: keyOf({
      certificates: [randomBytes(500), randomBytes(400), randomBytes(300)],
      receivedAt: new Date("2026-03-19T10:00:00.123Z"),
    }),
    next: keyOf(),
  };

  test("there is none, until one is written; it comes back as it was written, with its audit row", async () => {
    expect(await store.read()).toBeUndefined();
    expect(await store.write(writer, 0n, began, [auditEntry(randomUUID())])).toBe(1n);
    expect(await store.read()).toEqual({ generation: 1n, record: began });
    expect(await store.write(writer, 1n, confirmed, [])).toBe(2n);
    expect(await store.read()).toEqual({ generation: 2n, record: confirmed });
    expect((await audit.read({}, undefined, 500)).filter(({ entry }) => entry.action === "SecretRead")).toHaveLength(1);
  });

  test("a key that is no more goes with the write that leaves it out", async () => {
    await store.write(writer, 0n, confirmed, []);
    const { next, ...rest } = confirmed;
    const swapped: MembershipRecord = { ...rest, current: next ?? rest.current, next: undefined };
    await store.write(writer, 1n, swapped, []);
    expect(await store.read()).toEqual({ generation: 2n, record: swapped });
  });

  test("what was read before another write replaces nothing, and nothing is put on record", async () => {
    await store.write(writer, 0n, began, []);
    await expect(store.write(writer, 0n, confirmed, [auditEntry(randomUUID())])).rejects.toThrow(Conflict);
    await store.write(writer, 1n, began, []);
    await expect(store.write(writer, 1n, confirmed, [auditEntry(randomUUID())])).rejects.toThrow(Conflict);
    expect(await store.read()).toEqual({ generation: 2n, record: began });
    expect((await audit.read({}, undefined, 500)).filter(({ entry }) => entry.action === "SecretRead")).toEqual([]);
  });

  test("who does not lead any more writes nothing", async () => {
    await store.write(writer, 0n, began, []);
    await leadership.acquireEpoch("next");
    await expect(store.write(writer, 1n, confirmed, [])).rejects.toThrow(Fenced);
    expect(await store.read()).toEqual({ generation: 1n, record: began });
  });
}
