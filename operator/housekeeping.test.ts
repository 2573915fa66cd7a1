import { pino } from "pino";
import { FakeAuditLog } from "../core/ports/fake-audit-log.ts";
import { FakeSinkCursors } from "../core/ports/fake-audit-sink.ts";
import { FakeDatabase } from "../core/ports/fake-database.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import type { AuditSink } from "../crds/auditsink.ts";
import { until } from "../lab/poll.ts";
import { Housekeeping } from "./housekeeping.ts";

const soon = { timeoutMs: 5_000, intervalMs: 10 };
const RETENTION_MS = 90 * 86_400_000;

let database: FakeDatabase;
let audit: FakeAuditLog;
let cursors: FakeSinkCursors;
let writer: Writer;
let housekeeping: Housekeeping;

beforeEach(async () => {
  database = new FakeDatabase();
  audit = new FakeAuditLog(database);
  cursors = new FakeSinkCursors(database);
  writer = { epoch: await database.acquireEpoch("test") };
});
afterEach(() => housekeeping.stop());

const sink = (name: string, uid: string): AuditSink => ({
  apiVersion: "mazevault.io/v1",
  kind: "AuditSink",
  metadata: { name, uid, resourceVersion: "1" },
  spec: { file: { name: "audit.jsonl" } },
});

/** Rows below two checkpoints, which every sink has that has a cursor. */
async function grow(): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    await audit.append([
      {
        action: "SecretRead",
        actor: { kind: "Controller", name: "test" },
        subject: { kind: "Secret", id: `${round}`, name: "payments/orders" },
        outcome: "Success",
        details: {},
      },
    ]);
    await audit.link(writer.epoch, 10);
    await audit.checkpoint(writer.epoch, { rows: 1, ms: 0 });
  }
  const last = database.checkpoints.at(-1);
  if (last === undefined) throw new Error("expected a checkpoint");
  const { position, link, number: checkpoint } = last;
  for (const { uid } of await cursors.list()) await cursors.move(writer, uid, { position, link, checkpoint });
}

function start(sinks: AuditSink[], warned: string[] = [], laterMs = RETENTION_MS + 1_000): void {
  const none = async () => {};
  housekeeping = new Housekeeping({
    vault: { purgeExpired: async () => 0 },
    store: { listLocations: async () => [] },
    pki: { listHolders: async () => [] },
    audit,
    cursors,
    checkpointDue: { rows: 1, ms: 0 },
    auditRetentionMs: RETENTION_MS,
    onRecorded: () => {},
    cluster: {
      secret: () => undefined,
      certificate: () => undefined,
      certificateRequest: () => undefined,
      namespace: () => undefined,
      auditSinks: () => sinks,
    },
    log: pino(
      { level: "warn", serializers: { error: pino.stdSerializers.err } },
      { write: (line) => void warned.push(line) },
    ),
    endSecret: none,
    endCertificate: none,
    endCertificateRequest: none,
    endAuditSink: (name) => cursors.forget(writer, name),
    onFenced: () => {},
    now: () => new Date(Date.now() + laterMs),
  });
  housekeeping.start(writer);
}

test("rows leave when they are as old as is set", async () => {
  await cursors.open(writer, "uid", "siem");
  await grow();
  start([sink("siem", "uid")]);
  await until("the record is cut", () => database.cut !== undefined, soon);
  expect(await audit.verify()).toMatchObject({ ok: true, removedTo: Number(database.cut?.position) });
});

test("rows stay while they are younger, or while a sink is not known yet that was made when nobody led", async () => {
  await cursors.open(writer, "uid", "siem");
  await grow();
  start([sink("siem", "uid")], [], RETENTION_MS - 60_000);
  await until("its rows are linked", () => database.audit.every(({ position }) => position !== undefined), soon);
  await housekeeping.stop();
  expect(database.cut).toBeUndefined();
  const warned: string[] = [];
  start([sink("siem", "uid"), sink("new", "another")], warned);
  await until("it says so", () => warned.some((line) => line.includes("AuditSink new")), soon);
  expect(database.cut).toBeUndefined();
});

test("a sink that was deleted while nobody led holds nothing up", async () => {
  await cursors.open(writer, "uid", "siem");
  await cursors.open(writer, "gone", "gone");
  start([sink("siem", "uid")]);
  const left = async () => (await cursors.list()).map(({ name }) => name).join();
  await until("it is forgotten", async () => (await left()) === "siem", soon);
});
