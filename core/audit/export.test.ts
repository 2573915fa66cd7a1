import { generateKeyPairSync, randomUUID } from "node:crypto";
import fc from "fast-check";
import type { AuditEntry } from "../ports/audit-log.ts";
import { FakeAuditLog } from "../ports/fake-audit-log.ts";
import { FakeSinkCursors } from "../ports/fake-audit-sink.ts";
import { FakeDatabase } from "../ports/fake-database.ts";
import { auditEntry } from "../ports/samples.ts";
import { csv, ExportOvertaken, type ExportRange, exportRecords, jsonLines, proveExport, rangeOf } from "./export.ts";

async function record(rows: number, every = 5) {
  const database = new FakeDatabase();
  const audit = new FakeAuditLog(database);
  const epoch = await database.acquireEpoch("test");
  for (let row = 1; row <= rows; row += 1) {
    if (row > 1) await audit.append([auditEntry(randomUUID(), BigInt(row))]);
    await audit.link(epoch, 1);
    if (row % every === 0) await audit.checkpoint(epoch, { rows: 1, ms: 0 });
  }
  return { database, audit, epoch };
}

async function all(lines: AsyncIterable<string>): Promise<string[]> {
  const list: string[] = [];
  for await (const line of lines) list.push(line);
  return list;
}

const exported = async ({ database, audit }: Awaited<ReturnType<typeof record>>, range?: ExportRange) =>
  all(jsonLines(exportRecords(audit, database.signer.signingKeys, range)));

async function* from(lines: readonly string[]): AsyncGenerator<string> {
  yield* lines;
}
const prove = (lines: readonly string[]) => proveExport(from(lines));
const key = expect.stringMatching(/^[0-9a-f]{64}$/);

test("an export is proved with nothing but what stands in it", async () => {
  const source = await record(23);
  const lines = await exported(source);
  expect(await prove(lines)).toEqual({ ok: true, from: 1, rows: 23, signedTo: 20, keys: [key], anchoredTo: 0 });
  expect(lines.join("")).not.toContain(source.database.signer.key.export().toString("hex"));
  expect(await prove(await exported(await record(0)))).toMatchObject({ ok: true, rows: 0, signedTo: 0, keys: [] });
});

test("a stretch begins at the checkpoint before it and ends at the one behind it", async () => {
  const source = await record(23);
  const of = async (range: ExportRange) => prove(await exported(source, range));
  expect(await of({ after: 7n, upTo: 12n })).toMatchObject({ ok: true, from: 6, rows: 10, signedTo: 15, keys: [key] });
  expect(await of({ after: 10n, upTo: 15n })).toMatchObject({ ok: true, from: 11, rows: 5, signedTo: 15 });
  expect(await of({ after: 3n, upTo: 5n })).toMatchObject({ ok: true, from: 1, rows: 5 });
  expect(await of({ after: 17n })).toMatchObject({ ok: true, from: 16, rows: 8, signedTo: 20 });
  expect(await of({ upTo: 22n })).toMatchObject({ ok: true, from: 1, rows: 23, signedTo: 20 });
});

test("what a sink has vouches for an export, and one that was written anew from an older state is told by it", async () => {
  const source = await record(23);
  const lines = await exported(source);
  const links = lines.map((line) => JSON.parse(line) as { type: string; position: number; link: string });
  const taken = new Map(
    links.filter(({ type }) => type === "checkpoint").map(({ position, link }) => [position, link]),
  );
  expect(await proveExport(from(lines), taken)).toMatchObject({ ok: true, anchoredTo: 20 });
  expect(await proveExport(from(lines), new Map([[99, "00"]]))).toMatchObject({ ok: true, anchoredTo: 0 });
  const forged = new Map([...taken, [15, "00".repeat(32)]]);
  expect(await proveExport(from(lines), forged)).toEqual({ ok: false, row: 15n, fault: "anchorMissed" });
});

test("the rows of a time are a stretch", async () => {
  const source = await record(23);
  const rows = await source.audit.chain(0n, 100);
  const at = (position: number) => rows[position - 1]?.at as Date;
  const of = (time: { from?: Date; to?: Date }) => rangeOf(source.audit, time);
  expect(await of({})).toEqual({});
  expect(await of({ from: new Date(0), to: new Date(at(23).getTime() + 1) })).toEqual({ after: 0n, upTo: 23n });
  expect(await of({ from: new Date(at(23).getTime() + 1) })).toEqual({ after: 23n });
  const first = rows.find((row) => row.at.getTime() === at(12).getTime());
  expect(await of({ from: at(12) })).toEqual({ after: (first?.position ?? 0n) - 1n });
});

test("an export goes over to a rotated key", async () => {
  const source = await record(10);
  const { database, audit, epoch } = source;
  database.signingKeys.push({ version: 2, createdAt: new Date(0), ...generateKeyPairSync("ed25519") });
  await audit.checkpoint(epoch, { rows: 1, ms: 0 });
  await audit.append([auditEntry("later")]);
  await audit.link(epoch, 10);
  await audit.checkpoint(epoch, { rows: 1, ms: 0 });
  expect(await prove(await exported(source))).toMatchObject({ ok: true, signedTo: 11, keys: [key, key] });
});

test("no line can be left out, doubled, exchanged or changed up to the last signature", async () => {
  const lines = await exported(await record(15));
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: lines.length - 1 }), fc.nat(), async (a, seed) => {
      const b = 1 + (seed % (lines.length - 1));
      const line = lines[a] ?? "";
      const failing = [[...lines.slice(0, a), line, ...lines.slice(a)]];
      // Whoever cuts off the end leaves an export that ends earlier.
      if (a < lines.length - 1) failing.push(lines.filter((_, index) => index !== a));
      if (a !== b) failing.push(lines.with(a, lines[b] ?? "").with(b, line));
      for (const changed of failing) expect((await prove(changed)).ok).toBe(false);
      // Any digit or letter of a value changes what is meant.
      const at = [...line.matchAll(/[0-9a-f]/g)].map(({ index }) => index)[seed % 60] ?? 0;
      const digit = line[at] === "1" ? "2" : "1";
      const altered = line.slice(0, at) + digit + line.slice(at + 1);
      const verdict = await prove(lines.with(a, altered));
      // The number by which the database knows a row proves nothing.
      const meant = (text: string) => ({ ...JSON.parse(text), sequence: 0 });
      if (verdict.ok) expect(meant(altered)).toEqual(meant(line));
    }),
  );
  expect(await prove([])).toEqual({ ok: false, line: "header" });
  expect(await prove(lines.slice(1))).toEqual({ ok: false, line: "header" });
  expect(await prove(lines.with(3, "{}\n"))).toMatchObject({ ok: false, row: 3n });
});

/** Cuts the record at its last checkpoint but one. */
async function cut({ database, audit, epoch }: Awaited<ReturnType<typeof record>>): Promise<void> {
  const last = database.checkpoints.at(-1);
  if (last === undefined) throw new Error("expected checkpoints");
  const { position, link, number: checkpoint } = last;
  const cursors = new FakeSinkCursors(database);
  await cursors.open({ epoch }, "uid", "sink");
  await cursors.move({ epoch }, "uid", { position, link, checkpoint });
  expect(await audit.cut(epoch, new Date(Date.now() + 3_600_000))).toBeDefined();
}

test("an export of a record that was cut begins there, also at the first checkpoint", async () => {
  for (const [rows, from] of [
    [12, 6],
    [23, 16],
  ] as const) {
    const source = await record(rows);
    await cut(source);
    expect(await prove(await exported(source))).toMatchObject({ ok: true, from });
    expect(await prove(await exported(source, { after: 1n }))).toMatchObject({ ok: true, from });
  }
});

test("rows that left without a signed cut are missing in an export", async () => {
  const source = await record(23);
  await cut(source);
  const { database } = source;
  const signed = database.cut;
  if (signed === undefined) throw new Error("expected a cut");
  database.cut = { ...signed, signature: Buffer.alloc(64) };
  expect(await prove(await exported(source))).toMatchObject({ ok: false, fault: "checkpointMissing" });
  database.cut = undefined;
  expect(await prove(await exported(source))).toMatchObject({ ok: false, fault: "rowMissing" });
  database.cut = signed;
  database.checkpoints.shift();
  expect(await prove(await exported(source))).toMatchObject({ ok: false, fault: "checkpointMissing" });
});

test("an export that a cut overtakes says so; one that loses rows otherwise shows it", async () => {
  for (const harm of ["cut", "tampering"]) {
    const source = await record(1_302, 100);
    const { audit, database } = source;
    const lines: string[] = [];
    const whole = async () => {
      for await (const line of jsonLines(exportRecords(audit, database.signer.signingKeys))) {
        lines.push(line);
        if (lines.length !== 10) continue;
        if (harm === "cut") await cut(source);
        else database.audit.splice(700, 1);
      }
    };
    if (harm === "cut") {
      await expect(whole()).rejects.toThrow(ExportOvertaken);
      expect(await prove([...lines, '{"type":"problem","problem":{}}\n'])).toEqual({ ok: false, line: "problem" });
    } else {
      await whole();
      expect(await prove(lines)).toMatchObject({ ok: false, fault: "rowMissing", row: 702n });
    }
  }
});

test("nothing is read before it is consumed", async () => {
  const { audit, database } = await record(1);
  await audit.append(Array.from({ length: 1_500 }, () => auditEntry(randomUUID())));
  await audit.link(await database.acquireEpoch("again"), 2_000);
  let pages = 0;
  const chain = audit.chain.bind(audit);
  audit.chain = (...page) => {
    pages += 1;
    return chain(...page);
  };
  let taken = 0;
  for await (const _ of exportRecords(audit, database.signer.signingKeys)) {
    taken += 1;
    if (taken === 700) break;
  }
  expect(pages).toBe(2);
});

test("a spreadsheet shows the rows, and takes none of them for a formula", async () => {
  const { database, audit, epoch } = await record(1, 100);
  const entry: AuditEntry = {
    ...auditEntry("=id"),
    subject: { kind: "Secret", id: "=cmd()", generation: 3n, name: 'with "quotes", and more' },
    details: {},
  };
  await audit.append([entry]);
  await audit.link(epoch, 10);
  await audit.checkpoint(epoch, { rows: 1, ms: 0 });
  const lines = await all(csv(exportRecords(audit, database.signer.signingKeys)));
  expect(lines).toHaveLength(5);
  expect(lines[0]).toMatch(/^type,position,at,action,.*,statement\r\n$/);
  expect(lines[3]).toContain(`,Secret,'=cmd(),3,"with ""quotes"", and more",{},`);
  expect(lines[4]).toMatch(/^checkpoint,2,.*"{""type"":""checkpoint"",.*""signature"":/);
});
