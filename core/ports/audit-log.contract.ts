import { randomUUID } from "node:crypto";
import { Fenced } from "../errors.ts";
import type { AuditLog } from "./audit-log.ts";
import type { Leadership } from "./leadership.ts";
import { auditEntry } from "./samples.ts";

/** What every audit log does. `start` gives one without rows. */
export function auditLogContract(start: () => Promise<{ audit: AuditLog; leadership: Leadership }>): void {
  let audit: AuditLog;
  let leadership: Leadership;
  let epoch: bigint;

  beforeEach(async () => {
    ({ audit, leadership } = await start());
    epoch = await leadership.acquireEpoch("contract");
    await audit.link(epoch, 1_000);
  });

  const linked = async (): Promise<number> => {
    const verdict = await audit.verify();
    return verdict.ok ? verdict.linked : Number.NaN;
  };

  test("rows are durable first and linked afterwards, at most as many as asked for", async () => {
    const before = await linked();
    await audit.append([auditEntry(randomUUID(), 3n), auditEntry(randomUUID()), auditEntry(randomUUID())]);
    expect(await audit.verify()).toMatchObject({ ok: true, linked: before, unlinked: 3 });
    expect(await audit.link(epoch, 2)).toBe(2);
    expect(await audit.link(epoch, 2)).toBe(1);
    expect(await audit.link(epoch, 2)).toBe(0);
    expect(await audit.verify()).toMatchObject({ ok: true, linked: before + 3, unlinked: 0 });
  });

  test("the head changes with every row", async () => {
    const heads = new Set<string>();
    for (let count = 0; count < 3; count += 1) {
      await audit.append([auditEntry(randomUUID())]);
      await audit.link(epoch, 10);
      const verdict = await audit.verify();
      if (verdict.ok) heads.add(verdict.head);
    }
    expect(heads.size).toBe(3);
  });

  test("many appends at once are all written", async () => {
    const before = await linked();
    await Promise.all(Array.from({ length: 200 }, () => audit.append([auditEntry(randomUUID())])));
    expect(await audit.link(epoch, 1_000)).toBe(200);
    expect(await linked()).toBe(before + 200);
  });

  test("nothing to append is nothing to do", async () => {
    const before = await audit.verify();
    await audit.append([]);
    expect(await audit.verify()).toEqual(before);
  });

  test("only the leader links", async () => {
    await audit.append([auditEntry(randomUUID())]);
    await leadership.acquireEpoch("another");
    await expect(audit.link(epoch, 10)).rejects.toThrow(Fenced);
  });

  test("taking the lead is on record", async () => {
    await leadership.acquireEpoch("another");
    expect(await audit.verify()).toMatchObject({ ok: true, unlinked: 1 });
  });
}
