import { randomUUID } from "node:crypto";
import { GENESIS } from "../audit/chain.ts";
import { type AuditRecord, recordsOf } from "../audit/record.ts";
import { Fenced } from "../errors.ts";
import type { AuditBatch, AuditSink, SinkCursors } from "./audit-sink.ts";
import { FakeAuditLog } from "./fake-audit-log.ts";
import { FakeDatabase } from "./fake-database.ts";
import type { Leadership } from "./leadership.ts";
import { auditEntry } from "./samples.ts";

export interface SinkUnderTest {
  readonly sink: AuditSink;
  /** What the receiver has. */
  received(): Promise<readonly AuditRecord[]>;
  /** Whether the receiver takes nothing. */
  refuse(refusing: boolean): Promise<void>;
}

/** A record of so many rows, with a checkpoint after each ten. */
export async function sampleBatch(rows: number): Promise<AuditBatch> {
  const database = new FakeDatabase();
  const log = new FakeAuditLog(database);
  const epoch = await database.acquireEpoch("sample");
  for (let row = 1; row < rows; row += 1) {
    if (row % 10 === 0) {
      await log.link(epoch, rows);
      await log.checkpoint(epoch, { rows: 1, ms: 0 });
    }
    await log.append([auditEntry(randomUUID(), BigInt(row))]);
  }
  await log.link(epoch, rows);
  return { installation: "fake", rows: await log.chain(0n, rows), checkpoints: await log.checkpoints(0n, rows) };
}

/** What every sink does. `start` gives one whose receiver has nothing. */
export function auditSinkContract(start: () => Promise<SinkUnderTest>): void {
  const { signal } = new AbortController();
  const part = (batch: AuditBatch, from: number, to: number): AuditBatch => ({
    ...batch,
    rows: batch.rows.slice(from, to),
    checkpoints: batch.checkpoints.filter(({ position }) => position > from && position <= to),
  });
  const once = (records: readonly AuditRecord[]) => [...new Set(records.map((record) => JSON.stringify(record)))];
  const text = (records: readonly AuditRecord[]) => records.map((record) => JSON.stringify(record));

  test("the receiver has everything in the order of the chain, checkpoints behind their rows", async () => {
    const { sink, received } = await start();
    const batch = await sampleBatch(35);
    await sink.deliver(part(batch, 0, 20), signal);
    await sink.deliver(part(batch, 20, 35), signal);
    const records = await received();
    expect(text(records)).toEqual(text(recordsOf(batch)));
    const kinds = records.flatMap(({ type }, index) => (type === "checkpoint" ? [index] : []));
    expect(kinds).toEqual([10, 21, 32]);
    await sink.close();
  });

  test("what comes again can be told from what is new", async () => {
    const { sink, received } = await start();
    const batch = await sampleBatch(25);
    await sink.deliver(part(batch, 0, 15), signal);
    await sink.deliver(part(batch, 0, 15), signal);
    await sink.deliver(part(batch, 5, 25), signal);
    expect(once(await received())).toEqual(text(recordsOf(batch)));
    await sink.close();
  });

  test("what was refused is taken later", async () => {
    const { sink, received, refuse } = await start();
    const batch = await sampleBatch(12);
    await refuse(true);
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const code = expect.stringMatching(/^Sink(Unreachable|Refused)$/);
      await expect(sink.deliver(batch, signal)).rejects.toMatchObject({ code });
    }
    await refuse(false);
    await sink.deliver(batch, signal);
    expect(once(await received())).toEqual(text(recordsOf(batch)));
    await sink.close();
  });
}

/** What every store of cursors does. */
export function sinkCursorsContract(start: () => Promise<{ cursors: SinkCursors; leadership: Leadership }>): void {
  test("a cursor begins at the beginning, stays where it was moved to, and ends with its name", async () => {
    const { cursors, leadership } = await start();
    const writer = { epoch: await leadership.acquireEpoch("contract") };
    const beginning = { position: 0n, link: GENESIS, checkpoint: 0n };
    expect(await cursors.open(writer, "uid", "one")).toMatchObject(beginning);
    const moved = { position: 7n, link: Buffer.alloc(32, 1), checkpoint: 2n };
    await cursors.move(writer, "uid", moved);
    expect(await cursors.open(writer, "uid", "one")).toMatchObject(moved);
    expect(await cursors.open(writer, "other", "two")).toMatchObject(beginning);
    expect((await cursors.list()).toSorted((a, b) => (a.name < b.name ? -1 : 1))).toEqual([
      { uid: "uid", name: "one" },
      { uid: "other", name: "two" },
    ]);
    // Made anew under the same name.
    expect(await cursors.open(writer, "again", "one")).toMatchObject(beginning);
    expect(await cursors.open(writer, "uid", "one")).toMatchObject(beginning);
    await cursors.forget(writer, "one");
    expect(await cursors.list()).toEqual([{ uid: "other", name: "two" }]);
    await expect(cursors.move(writer, "uid", moved)).rejects.toMatchObject({ code: "Failed" });
    await leadership.acquireEpoch("another");
    await expect(cursors.open(writer, "uid", "one")).rejects.toThrow(Fenced);
    await expect(cursors.move(writer, "other", moved)).rejects.toThrow(Fenced);
    await expect(cursors.forget(writer, "two")).rejects.toThrow(Fenced);
  });
}
