import { randomUUID } from "node:crypto";
import { FakeAuditLog } from "../ports/fake-audit-log.ts";
import { FakeSinkCursors } from "../ports/fake-audit-sink.ts";
import { FakeDatabase } from "../ports/fake-database.ts";
import { auditEntry } from "../ports/samples.ts";

test("a cut takes few thousand rows at once, or those up to the next checkpoint", async () => {
  const database = new FakeDatabase();
  const audit = new FakeAuditLog(database);
  const cursors = new FakeSinkCursors(database);
  const epoch = await database.acquireEpoch("test");
  for (const rows of [2_000, 2_000, 2_000, 6_000, 1]) {
    await audit.append(Array.from({ length: rows }, () => auditEntry(randomUUID())));
    await audit.link(epoch, rows + 1);
    await audit.checkpoint(epoch, { rows: 1, ms: 0 });
  }
  const last = database.checkpoints.at(-1);
  if (last === undefined) throw new Error("expected checkpoints");
  await cursors.open({ epoch }, "uid", "siem");
  await cursors.move({ epoch }, "uid", { position: last.position, link: last.link, checkpoint: last.number });
  const cut: (bigint | undefined)[] = [];
  for (let n = 0; n < 4; n += 1) cut.push((await audit.cut(epoch, new Date(Date.now() + 3_600_000)))?.checkpoint);
  expect(cut).toEqual([2n, 3n, 4n, undefined]);
});
