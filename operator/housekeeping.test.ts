import { pino } from "pino";
import { Unavailable } from "../core/errors.ts";
import { FakeAuditLog } from "../core/ports/fake-audit-log.ts";
import { FakeSinkCursors } from "../core/ports/fake-audit-sink.ts";
import { FakeDatabase } from "../core/ports/fake-database.ts";
import type { SecretLocation, Writer } from "../core/ports/vault-store.ts";
import { HeldUids } from "../core/recovery/home.ts";
import type { AuditSink } from "../crds/auditsink.ts";
import type { Gateway } from "../crds/gateway.ts";
import type { SyncRule } from "../crds/syncrule.ts";
import { until } from "../lab/poll.ts";
import { Housekeeping, type HousekeepingDependencies } from "./housekeeping.ts";

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

function start(
  sinks: AuditSink[],
  warned: string[] = [],
  laterMs = RETENTION_MS + 1_000,
  change: Partial<HousekeepingDependencies> = {},
): void {
  const none = () => {};
  housekeeping = new Housekeeping({
    vault: { purgeExpired: async () => 0 },
    store: { listLocations: async () => [] },
    pki: { listHolders: async () => [] },
    copies: { gatewayCopyOwners: async () => [] },
    audit,
    cursors,
    checkpointDue: { rows: 1, ms: 0 },
    auditRetentionMs: RETENTION_MS,
    onRecorded: () => {},
    isRecovering: () => false,
    cluster: {
      held: new HeldUids(),
      secret: () => undefined,
      certificate: () => undefined,
      certificateRequest: () => undefined,
      namespace: () => undefined,
      auditSinks: () => sinks,
      gateway: () => undefined,
      syncRule: () => undefined,
    },
    log: pino(
      { level: "warn", serializers: { error: pino.stdSerializers.err } },
      { write: (line) => void warned.push(line) },
    ),
    endSecret: none,
    endCertificate: none,
    endCertificateRequest: none,
    endSyncRule: none,
    endGateway: none,
    endAuditSink: (name) => cursors.forget(writer, name),
    onFenced: () => {},
    now: () => new Date(Date.now() + laterMs),
    ...change,
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

const stored = (name: string, state: SecretLocation["state"] = "Active"): SecretLocation => ({
  id: `id-${name}`,
  identity: { project: "p", environment: "pro", namespace: "team", namespaceUid: "uid-team", name },
  state,
  lifecycle: { deletionPolicy: "SoftDelete", softDeleteMs: 1, keepVersions: 1 },
});

test("what vanished while nobody led is handed over once, and a failure before that costs a moment", async () => {
  const ended: string[] = [];
  let failures = 3;
  start([], [], 0, {
    store: {
      listLocations: async () => {
        if (failures-- > 0) throw new Unavailable("DatabaseUnavailable", "no connection in time");
        return [stored("gone"), stored("gone"), stored("former", "SoftDeleted")];
      },
    },
    endSecret: (key) => void ended.push(key),
  });
  await until("it is handed over", () => ended.length > 0, { ...soon, timeoutMs: 4_000 });
  expect(ended).toEqual(["team/gone"]);
});

test("what was delivered through gateways ends with its rule and its gateway, each once, though nobody led when they went", async () => {
  const ended: string[] = [];
  const owners = [
    { gateway: "held", rule: "team/gone" },
    { gateway: "gone", rule: "team/gone" },
    { gateway: "gone", rule: "team/held" },
  ];
  start([], [], 0, {
    copies: { gatewayCopyOwners: async () => owners },
    cluster: {
      held: new HeldUids(),
      secret: () => undefined,
      certificate: () => undefined,
      certificateRequest: () => undefined,
      namespace: () => undefined,
      auditSinks: () => [],
      gateway: (name) => (name === "held" ? ({} as Gateway) : undefined),
      syncRule: (key) => (key === "team/held" ? ({} as SyncRule) : undefined),
    },
    endSyncRule: (key) => void ended.push(`rule ${key}`),
    endGateway: (name) => void ended.push(`gateway ${name}`),
  });
  await until("both are handed over", () => ended.length > 1, { ...soon, timeoutMs: 4_000 });
  await housekeeping.stop();
  expect(ended).toEqual(["rule team/gone", "gateway gone"]);
});
