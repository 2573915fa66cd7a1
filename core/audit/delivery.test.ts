import { randomUUID } from "node:crypto";
import type { SinkCursor } from "../ports/audit-sink.ts";
import { FakeAuditLog } from "../ports/fake-audit-log.ts";
import { FakeAuditSink, FakeSinkCursors } from "../ports/fake-audit-sink.ts";
import { FakeDatabase } from "../ports/fake-database.ts";
import { auditEntry } from "../ports/samples.ts";
import { deliver } from "./delivery.ts";

const { signal } = new AbortController();

async function record(rows: number) {
  const database = new FakeDatabase();
  const audit = new FakeAuditLog(database);
  const cursors = new FakeSinkCursors(database);
  const epoch = await database.acquireEpoch("test");
  await audit.append(Array.from({ length: rows - 1 }, () => auditEntry(randomUUID())));
  await audit.link(epoch, rows);
  await audit.checkpoint(epoch, { rows: 1, ms: 0 });
  const sink = new FakeAuditSink();
  const writer = { epoch };
  return {
    database,
    audit,
    cursors,
    sink,
    writer,
    delivery: { audit, cursors, sink, installation: "i", writer, uid: "u" },
  };
}

test("everything is handed over batch by batch, and the cursor tells how far", async () => {
  const { delivery, cursors, sink, writer } = await record(1_201);
  const until = performance.now() + 60_000;
  const cursor = await deliver(delivery, await cursors.open(writer, "u", "sink"), until, signal);
  expect(cursor).toMatchObject({ position: 1_201n, checkpoint: 1n });
  expect(await cursors.open(writer, "u", "sink")).toEqual(cursor);
  expect(sink.received.map(({ position }) => position)).toEqual([
    ...Array.from({ length: 1_201 }, (_, n) => n + 1),
    1_201,
  ]);
  expect(await deliver(delivery, cursor, until, signal)).toEqual(cursor);
});

test("it stops after a batch when the time is up, and goes on from there", async () => {
  const { delivery, cursors, sink, writer } = await record(700);
  const first = await deliver(delivery, await cursors.open(writer, "u", "sink"), 0, signal);
  expect(first).toMatchObject({ position: 500n, checkpoint: 0n });
  expect(await deliver(delivery, first, 0, signal)).toMatchObject({ position: 700n, checkpoint: 1n });
  expect(sink.received).toHaveLength(701);
});

test("what the receiver refuses, or a cursor that cannot move, is handed over again", async () => {
  const { delivery, cursors, sink, writer, database } = await record(10);
  const start = await cursors.open(writer, "u", "sink");
  sink.refuses = true;
  await expect(deliver(delivery, start, 0, signal)).rejects.toMatchObject({ code: "SinkUnreachable" });
  sink.refuses = false;
  const epoch = await database.acquireEpoch("next");
  await expect(deliver(delivery, start, 0, signal)).rejects.toMatchObject({ name: "Fenced" });
  const cursor: SinkCursor = await cursors.open({ epoch }, "u", "sink");
  expect(cursor.position).toBe(0n);
  await deliver({ ...delivery, writer: { epoch } }, cursor, 0, signal);
  expect(sink.received).toHaveLength(22);
});
