/** The audit record: how fast rows are written, linked and signed, and how long a long chain takes to verify. */
import { createSecretKey, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { Session } from "node:inspector/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { DatabaseOptions } from "../../adapters/postgres/database.ts";
import { migrate } from "../../adapters/postgres/migrate.ts";
import { openStores } from "../../adapters/postgres/stores.ts";
import { LocalRootKey } from "../../adapters/rootkey/local-root-key.ts";
import { exportRecords, jsonLines, proveExport } from "../../core/audit/export.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import { inFlight, range, seconds } from "../in-flight.ts";
import { type ProfileSummary, summarizeProfile } from "../profile.ts";
import type { Result } from "../result.ts";
import type { Stage } from "../stage.ts";

const WRITTEN_AT_ONCE = 1_000;
const LINKED_AT_ONCE = 2_000;
const DUE = { rows: 10_000, ms: 60_000 };
const MIB = 2 ** 20;

/** A hundred rows for each secret of the population: a million. */
export async function audit(stage: Stage): Promise<Result> {
  return auditOf(await stage.world.lab.postgres.createDatabase("audit"), stage.sizes.many * 100, stage.report);
}

export async function auditOf(
  database: DatabaseOptions,
  rows: number,
  report: (line: string) => void,
): Promise<Result> {
  await migrate(database);
  const root = new LocalRootKey("bench", createSecretKey(randomBytes(32)));
  const { audit: log, keys, leadership, close } = await openStores(database, root);
  try {
    const epoch = await leadership.acquireEpoch("bench");
    report(`writing ${rows} audit rows`);
    let started = performance.now();
    const parts = range(Math.ceil(rows / WRITTEN_AT_ONCE));
    await inFlight(2, parts, (part) =>
      log.append(range(WRITTEN_AT_ONCE).map((row) => read(part * WRITTEN_AT_ONCE + row))),
    );
    const written = rows / seconds(started);
    report("linking them");
    started = performance.now();
    while ((await log.link(epoch, LINKED_AT_ONCE)) === LINKED_AT_ONCE) await log.checkpoint(epoch, DUE);
    const linked = rows / seconds(started);
    report("verifying them");
    const before = process.memoryUsage().rss;
    let highest = before;
    const cpu = process.cpuUsage();
    started = performance.now();
    const verdict = await log.verify({
      onProgress: () => {
        highest = Math.max(highest, process.memoryUsage().rss);
      },
    });
    const verified = seconds(started);
    const { user, system } = process.cpuUsage(cpu);
    if (!verdict.ok) throw new Error(`the record does not verify: ${verdict.fault}`);
    report("exporting them");
    started = performance.now();
    const proof = await proveExport(jsonLines(exportRecords(log, keys)));
    const proved = seconds(started);
    if (!proof.ok) throw new Error("the export does not prove itself");
    return {
      name: `audit-${rows}`,
      figures: [
        { what: `rows written, ${WRITTEN_AT_ONCE} in a statement`, value: written, unit: "/s" },
        { what: "rows linked and signed", value: linked, unit: "/s" },
        { what: `${rows} rows verified`, value: verified, unit: "s", aim: { atMost: (60 * rows) / 1_000_000 } },
        { what: "CPU time of the verifying process", value: (user + system) / 1e6, unit: "s" },
        { what: "memory that verifying added", value: (highest - before) / MIB, unit: "MiB" },
        { what: `${rows} rows exported and proved without a key`, value: proved, unit: "s" },
      ],
      details: { verdict: { ...verdict }, profile: await profiled(() => log.verify()) },
    };
  } finally {
    await close();
  }
}

const read = (row: number): AuditEntry => ({
  action: "SecretRead",
  actor: {
    kind: "Subject",
    subject: `LocalUser user${row % 100}@example.com`,
    via: "Token",
    session: `session-${row}`,
  },
  subject: { kind: "Secret", id: `secret-${row % 10_000}`, name: `payments/orders-${row % 10_000}` },
  outcome: "Success",
  details: { version: row % 7, purpose: "Read", project: "payments", environment: "pro" },
});

async function profiled(work: () => Promise<unknown>): Promise<ProfileSummary> {
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-profile-"));
  const session = new Session();
  session.connect();
  try {
    await session.post("Profiler.enable");
    await session.post("Profiler.start");
    await work();
    const { profile } = await session.post("Profiler.stop");
    writeFileSync(path.join(dir, "verify.cpuprofile"), JSON.stringify(profile));
    return summarizeProfile(dir);
  } finally {
    session.disconnect();
    rmSync(dir, { recursive: true });
  }
}
