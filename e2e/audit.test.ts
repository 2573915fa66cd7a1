/**
 * The audit record on its way out: a file and a webhook that is down, slow and back, an operator that dies between
 * handing over and noting it, a record that is proved by what the receivers have, and an export that a cut overtakes.
 */
import { execFile } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import path from "node:path";
import { Receiver } from "../adapters/auditsinks/testing/receiver.ts";
import { openStores } from "../adapters/postgres/stores.ts";
import { openRootKeyFile } from "../adapters/rootkey/file.ts";
import { linkOf } from "../core/audit/chain.ts";
import type { Cut } from "../core/audit/cut.ts";
import type { AuditRecord, RowRecord } from "../core/audit/record.ts";
import type { AuditLog, AuditVerdict } from "../core/ports/audit-log.ts";
import { auditEntry } from "../core/ports/samples.ts";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import type { Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { conditionOf, scrape, secretManifest, startWorld, total, type World } from "./harness.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const TEAM = "team";
const SINK = "auditsink.mazevault.io";
const soon = { timeoutMs: 60_000, intervalMs: 100 };

let world: World;
let operator: Operator;
let receiver: Receiver;
let config: Readonly<Record<string, Readonly<Record<string, unknown>>>>;

beforeAll(async () => {
  world = await startWorld();
  const { lab, mazevault } = world;
  const audit = { fileDirectory: lab.dir, checkpointRows: 20, checkpointMs: 1_000, sinkTimeoutMs: 2_000 };
  config = { audit, kubernetes: { leaseDurationMs: 3_000 } };
  operator = await mazevault.startOperator({ config });
  receiver = await Receiver.start(await lab.pki.issue("siem", { commonName: "siem", usage: "server" }));
  await world.tenant(TEAM);
  await world.apply(
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "siem", namespace: SYSTEM_NAMESPACE },
      stringData: { hmac: "key of the webhook" },
    },
    sink("file", { file: { name: "audit.jsonl" } }),
    sink("siem", {
      webhook: {
        url: receiver.url,
        caBundle: readFileSync(lab.pki.caFile, "utf8"),
        hmacSecretRef: { name: "siem", key: "hmac" },
      },
    }),
  );
  for (const name of ["file", "siem"]) await world.waitReady(SINK, name);
});

afterAll(async () => {
  await world?.stop();
  await receiver?.stop();
});

const sink = (name: string, spec: object) => ({
  apiVersion: "mazevault.io/v1",
  kind: "AuditSink",
  metadata: { name },
  spec,
});

const store = async (name: string): Promise<void> => {
  await world.apply(secretManifest(TEAM, name, { entries: [{ key: "value", literal: name }], deliver: {} }));
  await world.waitReady("secret.mazevault.io", name, TEAM);
};

const inFile = (): AuditRecord[] =>
  readFileSync(path.join(world.lab.dir, "audit.jsonl"), "utf8")
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line) as AuditRecord);
const atWebhook = (): AuditRecord[] =>
  receiver.messages.flatMap(({ body }) => (JSON.parse(body) as { records: AuditRecord[] }).records);

/** Without what came twice, which is the very same. */
const once = (records: readonly AuditRecord[]): AuditRecord[] => [
  ...new Map(records.map((record) => [JSON.stringify(record), record])).values(),
];
const rows = (records: readonly AuditRecord[]): RowRecord[] => once(records).filter((record) => record.type === "row");
const speaksOf = (name: string) => (record: AuditRecord) =>
  record.type === "row" && record.action === "SecretDelivered" && record.subject.name.endsWith(name);

/** Both have everything that is linked, and nothing new comes. */
async function caughtUp(): Promise<void> {
  const complete = async () => {
    const [head] = await world.sql<{ position: string }>("SELECT position FROM audit_head");
    return [inFile(), atWebhook()].every((records) => String(rows(records).at(-1)?.position) === head?.position);
  };
  await until("both receivers have the whole record", complete, soon);
}

/** Every row is there, each in its place: the links can be computed from what was received alone. */
function isChain(records: readonly AuditRecord[]): void {
  let previous: Buffer = Buffer.alloc(32);
  for (const [index, { position, link, mac, digest = "" }] of rows(records).entries()) {
    expect(position).toBe(index + 1);
    previous = linkOf(previous, BigInt(position), { mac: Buffer.from(mac, "hex"), digest: Buffer.from(digest, "hex") });
    expect(previous.toString("hex")).toBe(link);
  }
}

test("both receivers get every row in order, with checkpoints, and the file gets each once", async () => {
  await store("first");
  await until("the webhook knows of the delivery", async () => atWebhook().some(speaksOf("first")), soon);
  await caughtUp();
  for (const records of [inFile(), atWebhook()]) {
    isChain(records);
    expect(records.some(speaksOf("first"))).toBe(true);
    expect(records.filter(({ type }) => type === "checkpoint").length).toBeGreaterThan(0);
  }
  expect(once(inFile())).toEqual(inFile());
  expect(JSON.stringify([inFile(), atWebhook()])).not.toContain("key of the webhook");
});

test("a webhook that is down keeps nobody waiting, says so, and is caught up on", async () => {
  receiver.answer = { status: 503 };
  await store("second");
  const failing = await world.waitFor(SINK, "siem", undefined, (object) => {
    const ready = conditionOf(object, "Ready");
    return ready?.status === "False" && ready.reason === "SinkUnreachable";
  });
  expect(conditionOf(failing, "Delivering")?.message).toMatch(/^localhost:\d+ answers 503; \d+ rows wait/);
  await until(
    "the metric tells",
    async () => total(await scrape(operator), "mazevault_audit_sink_lag_rows", { sink: "siem" }) > 0,
    soon,
  );
  receiver.answer = "Hang";
  await store("third");
  await until("the file goes on", async () => inFile().some(speaksOf("third")), soon);
  receiver.answer = undefined;
  await world.waitReady(SINK, "siem", undefined, 90_000);
  await caughtUp();
  expect(["second", "third"].map((name) => atWebhook().some(speaksOf(name)))).toEqual([true, true]);
  isChain(atWebhook());
  const lag = async () => total(await scrape(operator), "mazevault_audit_sink_lag_rows");
  await until("the metric tells", async () => (await lag()) === 0, soon);
});

test.each(["auditsink.afterDeliver", "auditsink.afterMove"])(
  "an operator that dies at %s loses nothing",
  async (failpoint) => {
    await operator.process.stop();
    const name = failpoint.replace(".", "-").toLowerCase();
    const armed = await world.mazevault.startOperator({ name, env: { MAZEVAULT_FAILPOINT: failpoint }, config });
    armed.process.autoRestart = false;
    await until("it died", async () => armed.process.lastEnd === "died of SIGKILL", soon);
    await operator.process.start();
    await store(name);
    await caughtUp();
    isChain(atWebhook());
    isChain(inFile());
    expect(once(inFile())).toEqual(inFile());
  },
);

async function withRecord<T>(use: (audit: AuditLog) => Promise<T>): Promise<T> {
  const { lab, mazevault } = world;
  const stores = await openStores(mazevault.database, openRootKeyFile(path.join(lab.dir, "operator", "root.key")));
  try {
    return await use(stores.audit);
  } finally {
    await stores.close();
  }
}

/** Of the record in the database, with the last row that a receiver has now as anchor: more may come while it is proved. */
async function verdict(): Promise<{ anchor: number; found: AuditVerdict }> {
  const last = rows(atWebhook()).at(-1);
  if (last === undefined) throw new Error("expected rows");
  const anchor = { position: BigInt(last.position), link: Buffer.from(last.link, "hex") };
  return { anchor: last.position, found: await withRecord((audit) => audit.verify({ anchors: [anchor] })) };
}

/** What the leader does each hour, as it would when all of this is older than what it keeps. */
async function cut(): Promise<Cut | undefined> {
  const [leader] = await world.sql<{ epoch: string }>("SELECT epoch FROM leadership");
  return withRecord((audit) => audit.cut(BigInt(leader?.epoch ?? 0), new Date()));
}

test("the record is proved, as far as an anchor reaches that a receiver has", async () => {
  await caughtUp();
  const { anchor, found } = await verdict();
  expect(found).toMatchObject({ ok: true, anchoredTo: anchor });
  expect(found.ok && found.checkpoints).toBeGreaterThan(1);
});

test("what a manifest may not ask for is refused, and a missing credential is named", async () => {
  const refused = await world.applyRefused(sink("open", { webhook: { url: "https://siem.example.com/" } }));
  expect(refused).toMatch(/set hmacSecretRef, clientCertificateRef or both/);
  const plain = sink("plain", { otlp: { url: "http://collector.example.com/v1/logs" } });
  expect(await world.applyRefused(plain)).toMatch(/must be an https URL/);
  await world.apply(sink("later", { webhook: { url: receiver.url, hmacSecretRef: { name: "later", key: "hmac" } } }));
  const waiting = await world.waitFor(
    SINK,
    "later",
    undefined,
    (object) => conditionOf(object, "Ready")?.reason === "CredentialNotFound",
  );
  expect(conditionOf(waiting, "Delivering")?.message).toContain(`${SYSTEM_NAMESPACE}/later`);
  expect(await world.sql("SELECT position FROM audit_sinks WHERE name = 'later'")).toEqual([{ position: "0" }]);
});

test("rows whose time is over leave, the receivers keep them, and what is left is proved", async () => {
  await caughtUp();
  // The sink whose credential is missing has nothing yet.
  expect(await cut()).toBeUndefined();
  await operator.process.stop();
  await world.kubectl("delete", SINK, "later");
  const retaining = { ...config, audit: { ...config.audit, retentionMs: 2 * 86_400_000 } };
  operator = await world.mazevault.startOperator({ name: "retaining", config: retaining });
  const sinks = () => world.sql<{ name: string }>("SELECT name FROM audit_sinks");
  await until("it is forgotten", async () => (await sinks()).every(({ name }) => name !== "later"), soon);
  const made = await cut();
  await store("afterwards");
  await caughtUp();
  expect((await verdict()).found).toMatchObject({ ok: true, removedTo: Number(made?.position) });
  const gone = "SELECT FROM audit WHERE position <= $1 AND NOT audit_is_kept(audit)";
  expect(await world.sql(gone, [made?.position.toString()])).toEqual([]);
  for (const records of [inFile(), atWebhook()]) isChain(records);
});

/** Of what comes back on a connection, before the dam is opened. */
const LET_THROUGH = 256 * 1024;

/** Passes connections on to a port of this host, and holds back what comes from there, but for its beginning. */
async function dam(port: number) {
  const held: Socket[] = [];
  let isOpen = false;
  const server = createServer((client) => {
    const upstream = connect(port, "127.0.0.1");
    let passed = 0;
    upstream.on("data", (bytes: Buffer) => {
      client.write(bytes);
      passed += bytes.length;
      if (isOpen || passed < LET_THROUGH) return;
      upstream.pause();
      held.push(upstream);
    });
    upstream.on("close", () => client.end());
    client.pipe(upstream);
    for (const socket of [client, upstream]) socket.on("error", () => {});
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    held: () => held.length,
    open: () => {
      isOpen = true;
      for (const upstream of held) upstream.resume();
    },
    close: () => void server.close(),
  };
}

test("an export that a cut overtakes says so, and is not taken for a whole one", async () => {
  // Far more than a connection holds, so that the server has not read the last of it.
  const details = { purpose: "x".repeat(16_384) };
  const entries = Array.from({ length: 100 }, (_, n) => ({ ...auditEntry(`long-${n}`), details }));
  await withRecord(async (audit) => {
    for (let n = 0; n < 11; n++) await audit.append(entries);
  });
  const [last] = await world.sql<{ sequence: string }>("SELECT max(sequence) AS sequence FROM audit");
  const signed = "SELECT FROM audit a JOIN audit_checkpoints c ON c.position >= a.position WHERE a.sequence = $1";
  const mayGo = `${signed} AND c.number <= (SELECT min(checkpoint) FROM audit_sinks)
                 AND c.position < (SELECT max(position) FROM audit_checkpoints)`;
  const holds = async (statement: string) => (await world.sql(statement, [last?.sequence])).length > 0;
  await until("they are signed", () => holds(signed), soon);
  // The newest checkpoint is never cut at.
  await store("newer");
  await until("they may be removed", () => holds(mayGo), soon);

  const surface = await world.mazevault.startRest();
  const rest = RestClient.of(world, surface);
  const { email, password } = await firstAdmin(world);
  const between = await dam(Number(new URL(surface.restUrl).port));
  const env = {
    ...process.env,
    MAZEVAULT_SERVER: between.url,
    MAZEVAULT_CA_FILE: world.lab.pki.caFile,
    MAZEVAULT_TOKEN: await rest.login(email, password),
  };
  await rest.close();
  const mazevault = (...args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
    new Promise((resolve) => {
      const options = { env, maxBuffer: 2 ** 28 };
      execFile(process.execPath, [world.mazevault.cli, "audit", ...args], options, (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
      );
    });
  const file = path.join(world.lab.dir, "overtaken.jsonl");
  const overtaken = [
    mazevault("export", "--file", file),
    mazevault("export"),
    mazevault("export", "--format", "csv"),
  ] as const;
  try {
    await until("each is on its way", async () => between.held() === overtaken.length, soon);
    expect(await cut()).toBeDefined();
  } finally {
    between.open();
    between.close();
  }
  const [saved, lines, csv] = await Promise.all(overtaken);
  const said = "retention removed rows that it had not reached; export the record again";
  for (const { code, stderr } of [saved, lines, csv])
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining(said) });
  expect(saved.stderr).toContain(`nothing is kept in ${file}`);
  expect(existsSync(file)).toBe(false);

  // Whoever redirected it has what came, which says itself that it is not whole.
  expect(JSON.parse(lines.stdout.trimEnd().split("\n").at(-1) ?? "")).toMatchObject({
    type: "problem",
    problem: { status: 503, code: "ExportOvertaken" },
  });
  expect(csv.stdout.trimEnd().split("\r\n").at(-1)).toMatch(/^problem,+"\{""type"":""problem"",.*ExportOvertaken/);
  writeFileSync(file, lines.stdout);
  expect(await mazevault("verify", "--file", file)).toMatchObject({
    code: 7,
    stderr: expect.stringContaining("it is not whole"),
  });
});
