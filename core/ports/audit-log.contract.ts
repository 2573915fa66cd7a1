import { randomUUID } from "node:crypto";
import { Fenced } from "../errors.ts";
import type { AuditEntry, AuditFilter, AuditLog } from "./audit-log.ts";
import type { SinkCursors } from "./audit-sink.ts";
import type { Leadership } from "./leadership.ts";
import { auditEntry } from "./samples.ts";

/** What every audit log does. `start` gives one without rows. */
export function auditLogContract(
  start: () => Promise<{ audit: AuditLog; leadership: Leadership; sinkCursors: SinkCursors }>,
): void {
  let audit: AuditLog;
  let leadership: Leadership;
  let sinkCursors: SinkCursors;
  let epoch: bigint;

  beforeEach(async () => {
    ({ audit, leadership, sinkCursors } = await start());
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

  describe("checkpoints", () => {
    const due = { rows: 3, ms: 3_600_000 };
    const grow = async (rows: number) => {
      await audit.append(Array.from({ length: rows }, () => auditEntry(randomUUID())));
      await audit.link(epoch, 1_000);
    };

    test("are signed after so many rows, or after some time when there is a new one", async () => {
      const first = await audit.checkpoint(epoch, due);
      expect(first).toMatchObject({ number: 1n, position: BigInt(await linked()), epoch, keyVersion: 1 });
      await audit.link(epoch, 1_000);
      const after = await audit.checkpoint(epoch, { rows: 1, ms: 0 });
      const last = after ?? first;
      expect(await audit.checkpoint(epoch, { rows: 1, ms: 0 })).toBeUndefined();
      await grow(2);
      expect(await audit.checkpoint(epoch, due)).toBeUndefined();
      const timely = await audit.checkpoint(epoch, { ...due, ms: 0 });
      expect(timely).toMatchObject({ position: (last?.position ?? 0n) + 2n, writers: [{ rows: 2 }] });
      await grow(3);
      const third = await audit.checkpoint(epoch, due);
      expect(third?.number).toBe((timely?.number ?? 0n) + 1n);
      const verdict = await audit.verify();
      expect(verdict).toMatchObject({
        ok: true,
        checkpoints: Number(third?.number),
        signedTo: Number(third?.position),
      });
      const all = await audit.checkpoints(0n, 100);
      expect(all.at(-1)).toEqual(third);
      expect(await audit.checkpoints(all[0]?.number ?? 0n, 1)).toEqual([all[1]]);
      expect(await audit.lastCheckpoint((third?.position ?? 0n) + 1n)).toEqual(third);
      expect(await audit.lastCheckpoint((third?.position ?? 0n) - 1n)).toEqual(timely);
      expect(await audit.lastCheckpoint(0n)).toBeUndefined();
    });

    test("are the leader's", async () => {
      await grow(1);
      await leadership.acquireEpoch("another");
      await expect(audit.checkpoint(epoch, { rows: 1, ms: 0 })).rejects.toThrow(Fenced);
    });

    test("and links are what an anchor is compared with", async () => {
      await grow(5);
      const rows = await audit.chain(0n, 1_000);
      expect(rows.map(({ position }) => position)).toEqual(rows.map((_, index) => BigInt(index + 1)));
      const { position, link } = await audit.head();
      expect(rows.at(-1)).toMatchObject({ position, link });
      const third = rows[2];
      if (third === undefined) throw new Error("expected rows");
      const progress: [number, number][] = [];
      const onProgress = (...told: [number, number]) => progress.push(told);
      const verdict = await audit.verify({ anchors: [third], onProgress });
      expect(verdict).toMatchObject({ ok: true, anchoredTo: 3 });
      expect(progress.at(-1)).toEqual([Number(position), Number(position)]);
      const foreign = { position: third.position, link: Buffer.alloc(32) };
      expect(await audit.verify({ anchors: [foreign] })).toMatchObject({ ok: false, fault: "anchorMissed" });
      const beyond = { position: position + 1n, link };
      expect(await audit.verify({ anchors: [beyond] })).toMatchObject({ ok: false, row: position + 1n });
    });
  });

  describe("rows whose time is over", () => {
    const later = new Date(Date.now() + 3_600_000);
    const grow = async (...entries: AuditEntry[]) => {
      await audit.append(entries);
      await audit.link(epoch, 1_000);
      const made = await audit.checkpoint(epoch, { rows: 1, ms: 0 });
      if (made === undefined) throw new Error("expected a checkpoint");
      return made;
    };
    const reads = (count: number) => Array.from({ length: count }, () => auditEntry(randomUUID()));
    const revoked: AuditEntry = { ...auditEntry("serial"), action: "CertificateRevoked" };

    const login: AuditEntry = {
      ...auditEntry("session"),
      action: "LoginSucceeded",
      subject: { kind: "Session", id: "session", generation: 1n, name: "ada@example.com" },
    };

    test("leave when every sink has them, save those that the present state is compared with", async () => {
      await grow(auditEntry("living", 1n, "SecretVersionCreated"), login, ...reads(2));
      const second = await grow(revoked, ...reads(2), auditEntry("living", 2n, "SecretVersionCreated"));
      const third = await grow(...reads(3));
      await grow(...reads(1));
      const before = await audit.verify();
      const all = await audit.read({}, undefined, 1_000);
      expect(await audit.cut(epoch, later)).toBeUndefined();
      await sinkCursors.open({ epoch }, "slow", "slow");
      await sinkCursors.open({ epoch }, "fast", "fast");
      const has = (uid: string, { position, link, number: checkpoint }: typeof second) =>
        sinkCursors.move({ epoch }, uid, { position, link, checkpoint });
      await has("fast", third);
      expect(await audit.cut(epoch, later)).toBeUndefined();
      await has("slow", second);
      expect(await audit.cut(epoch, new Date(0))).toBeUndefined();
      expect(await audit.cut(epoch, later)).toMatchObject({ checkpoint: second.number, position: second.position });
      expect(await audit.cut(epoch, later)).toBeUndefined();

      const stays = ({ entry, position = 0n }: (typeof all)[number]) =>
        position > second.position ||
        (entry.subject.generation !== undefined && entry.subject.kind !== "Session") ||
        entry.action === "CertificateRevoked";
      const left = await audit.read({}, undefined, 1_000);
      expect(left.slice(0, -1)).toEqual(all.filter(stays));
      expect(left.at(-1)?.entry).toMatchObject({
        action: "AuditRowsRemoved",
        details: { upTo: Number(second.position) },
      });
      const removedTo = Number(second.position);
      expect(await audit.verify()).toEqual({
        ...before,
        removedTo,
        unlinked: 1,
        checkpoints: expect.any(Number),
        missingNumbers: expect.any(Number),
      });
      expect((await audit.chain(0n, 1))[0]?.position).toBe(second.position + 1n);
      expect((await audit.checkpoints(0n, 1))[0]).toEqual(second);
      expect(await audit.verify({ anchors: [third] })).toMatchObject({ ok: true, anchoredTo: Number(third.position) });

      await has("slow", third);
      const fifth = await grow(...reads(1));
      expect(await audit.cut(epoch, later)).toMatchObject({ checkpoint: third.number, position: third.position });
      expect(await audit.verify()).toMatchObject({
        ok: true,
        removedTo: Number(third.position),
        signedTo: Number(fifth.position),
      });
      await audit.link(epoch, 10);
      expect(await audit.verify()).toMatchObject({ ok: true, unlinked: 0 });
    });

    test("are removed by the leader, and never up to the newest checkpoint", async () => {
      const newest = await grow(...reads(3));
      const { position, link, number: checkpoint } = newest;
      await sinkCursors.open({ epoch }, "one", "one");
      await sinkCursors.move({ epoch }, "one", { position, link, checkpoint });
      expect((await audit.cut(epoch, later))?.position ?? 0n).toBeLessThan(position);
      await leadership.acquireEpoch("another");
      await expect(audit.cut(epoch, later)).rejects.toThrow(Fenced);
    });
  });

  test("rows are read page by page, from either end, by what they say", async () => {
    const before = (await audit.read({}, undefined, 100)).length;
    const person = { kind: "Subject", subject: "LocalUser ada@example.com", via: "Token", session: "t" } as const;
    const entries: AuditEntry[] = [
      auditEntry("a"),
      { ...auditEntry("b", 1n, "SecretPurged"), outcome: "Denied" },
      { ...auditEntry("c"), actor: person },
      { ...auditEntry("a"), subject: { kind: "Key", id: "a", name: "Project payments" } },
    ];
    for (const entry of entries) await audit.append([entry]);
    const all = await audit.read({}, undefined, 100);
    expect(all.slice(before).map(({ entry }) => entry)).toEqual(entries);
    expect(await audit.read({ order: "NewestFirst" }, undefined, 100)).toEqual(all.toReversed());
    const [first, second] = all.slice(before);
    if (first === undefined || second === undefined) throw new Error("expected rows");
    expect(await audit.read({}, first.sequence, 1)).toEqual([second]);
    expect(await audit.read({ order: "NewestFirst" }, second.sequence, 1)).toEqual([first]);
    const found = async (filter: AuditFilter) => (await audit.read(filter, undefined, 100)).map(({ entry }) => entry);
    const [a, b, c, key] = entries;
    expect(await found({ action: "SecretPurged" })).toEqual([b]);
    expect(await found({ outcome: "Denied" })).toEqual([b]);
    expect(await found({ actor: person.subject })).toEqual([c]);
    expect(await found({ actor: "uid-of-object", action: "SecretRead" })).toEqual([a, key]);
    expect(await found({ subject: { id: "a" } })).toEqual([a, key]);
    expect(await found({ subject: { kind: "Key", name: "Project payments" } })).toEqual([key]);
    expect(await found({ from: new Date(Date.now() + 60_000) })).toEqual([]);
    expect(await found({ subject: { id: "a" }, to: new Date(Date.now() + 60_000) })).toEqual([a, key]);
  });

  test("rows of the chain are read page by page, from either end, by their position", async () => {
    await audit.append([auditEntry("a"), auditEntry("b"), { ...auditEntry("c"), outcome: "Denied" }]);
    const linked = async (filter: AuditFilter = {}, after?: bigint, limit = 100) =>
      (await audit.read({ ...filter, linked: true }, after, limit)).map(({ position }) => position);
    const { position: head } = await audit.head();
    expect(await linked({}, head)).toEqual([]);
    await audit.link(epoch, 2);
    expect(await linked({}, head)).toEqual([head + 1n, head + 2n]);
    await audit.link(epoch, 2);
    expect(await linked({ order: "NewestFirst" }, undefined, 2)).toEqual([head + 3n, head + 2n]);
    expect(await linked({ order: "NewestFirst" }, head + 2n, 1)).toEqual([head + 1n]);
    expect(await linked({}, head + 1n, 1)).toEqual([head + 2n]);
    expect(await linked({ outcome: "Denied" })).toEqual([head + 3n]);
  });
}
