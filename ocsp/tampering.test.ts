/** The OCSP process on a real PostgreSQL whose rows somebody edits: what a CRL has listed is never called good again. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { stringify } from "yaml";
import { withConnection } from "../adapters/postgres/testing/client.ts";
import { openInstallation, type TestInstallation } from "../adapters/postgres/testing/installation.ts";
import { startServer, type TestServer } from "../adapters/postgres/testing/server.ts";
import { Authorities } from "../core/pki/authority.ts";
import { parseCrl } from "../core/pki/crl.ts";
import { CrlPublication } from "../core/pki/crl-publication.ts";
import { ResponderCertificates } from "../core/pki/responder-certificates.ts";
import { leafRequest, rootSpec } from "../core/pki/testing/installation.ts";
import { Judge } from "../core/pki/testing/judge.ts";
import { crlPath } from "../core/pki/urls.ts";
import type { AuthorityRecord, CertificateRecord } from "../core/ports/pki-store.ts";
import { actor } from "../core/ports/samples.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import { until } from "../lab/poll.ts";
import { certIdOf, requestFor, verdictOf } from "./testing/asking.ts";

const MAIN = new URL("./main.ts", import.meta.url).pathname;
const soon = { timeoutMs: 30_000, intervalMs: 50 };
const ROLE = "ocsp_of_tampering";

let server: TestServer;
let installation: TestInstallation;
let authorities: Authorities;
let crls: CrlPublication;
let responders: ResponderCertificates;
let writer: Writer;
let root: AuthorityRecord;
let responder: ChildProcess | undefined;
let port: number;
let healthPort: number;
let configFile: string;
const judge = new Judge();
const leading = new AbortController();
let led: Promise<void>;

beforeAll(async () => {
  server = await startServer();
  installation = await openInstallation(await server.database());
  const { pki: store, keys, audit, leadership } = installation.stores;
  writer = { epoch: await leadership.acquireEpoch("test") };
  authorities = new Authorities({ store, keys, audit });
  crls = new CrlPublication({ store, authorities });
  responders = new ResponderCertificates({ store, authorities });
  root = await authorities.ensure(writer, rootSpec("root"));
  await crls.publishDue(writer, 10);
  led = lead();
  const { superuser } = server.postgres;
  await withConnection(superuser, (client) => client.query(`CREATE ROLE ${ROLE} LOGIN PASSWORD 'responder'`));
  await sql("SELECT grant_ocsp($1)", [ROLE]);
  [port, healthPort] = [await freePort(), await freePort()];
  const { host, port: databasePort, caFile } = superuser;
  const passwordFile = judge.write("password", "responder");
  const database = { host, port: databasePort, name: installation.database.database, user: ROLE, passwordFile, caFile };
  const at = { host: "127.0.0.1" };
  configFile = path.join(judge.folder, "ocsp.yaml");
  writeFileSync(configFile, stringify({ database, http: { ...at, port }, health: { ...at, port: healthPort } }));
  await start();
});
afterAll(async () => {
  leading.abort();
  await led;
  await stop();
  await installation?.stores.close();
  await server?.stop();
  judge.dispose();
});

const sql = (text: string, values: readonly unknown[] = []) =>
  withConnection(installation.database, (client) => client.query(text, [...values]));

/** What the leader does for the responder all the time. */
async function lead(): Promise<void> {
  while (!leading.signal.aborted) {
    await responders.sign(writer);
    await delay(50, undefined, { signal: leading.signal }).catch(() => undefined);
  }
}

async function freePort(): Promise<number> {
  const listener = createServer().listen(0, "127.0.0.1");
  await once(listener, "listening");
  const address = listener.address();
  listener.close();
  await once(listener, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

async function start(): Promise<void> {
  responder = spawn(process.execPath, [MAIN, "--config", configFile], { stdio: ["ignore", "ignore", "inherit"] });
  const ready = () => fetch(`http://127.0.0.1:${healthPort}/readyz`).then(({ status }) => status === 200);
  await until("the responder is ready", () => ready().catch(() => false), soon);
}

async function stop(): Promise<void> {
  if (responder === undefined || responder.exitCode !== null) return;
  const ended = once(responder, "exit");
  responder.kill("SIGKILL");
  await ended;
}

/** Without a nonce, by SHA-1, and with a nonce. */
async function verdicts({ serialNumber }: CertificateRecord): Promise<string[]> {
  const ids = [certIdOf(root, serialNumber), certIdOf(root, serialNumber, "sha1")];
  const requests = [...ids.map((id) => requestFor([id])), requestFor(ids.slice(0, 1), Buffer.alloc(32, 1))];
  return Promise.all(
    requests.map(async (body) => {
      const headers = { "content-type": "application/ocsp-request" };
      const response = await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body, headers });
      return verdictOf(Buffer.from(await response.arrayBuffer()));
    }),
  );
}
const all = (verdict: string) => [verdict, verdict, verdict];
const says = (record: CertificateRecord, verdict: string) =>
  until(`it is ${verdict}`, async () => (await verdicts(record)).every((one) => one === verdict), soon);

async function tampered(): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${healthPort}/metrics`)).text();
  return Number(/^mazevault_ocsp_tampered (\d+)$/m.exec(text)?.[1]);
}

/** As somebody who knows the schema: the responder looks at the row again. */
const edit = (record: CertificateRecord, change: string) =>
  sql(
    `UPDATE certificates SET ${change}, changed_transaction = pg_current_xact_id() WHERE serial = decode($1, 'hex')`,
    [record.serialNumber],
  );
const UNREVOKED = "revoked_at = NULL, revocation_reason = NULL, status_generation = 0, status_mac = NULL";

/** Whether the responder has the CRL that lists it. */
const isListed =
  ({ serialNumber }: CertificateRecord) =>
  async (): Promise<boolean> => {
    const response = await fetch(
      `http://127.0.0.1:${port}${crlPath({ authorityId: root.id, generation: 1, partition: 0 })}`,
    );
    const entries = [...parseCrl(Buffer.from(await response.arrayBuffer())).entries()];
    return entries.some((entry) => entry.serialNumber === serialNumber);
  };

/** Until the responder knows of something that is issued now. */
async function lookedAgain(): Promise<void> {
  await says(await authorities.issue(writer, leafRequest(root, randomUUID())), "good");
}

async function revoked(uid: string, reason: "keyCompromise" | "certificateHold"): Promise<CertificateRecord> {
  const record = await authorities.issue(writer, leafRequest(root, uid));
  await authorities.revoke(writer, record, { reason }, actor);
  await crls.publishDue(writer, 10);
  await says(record, reason);
  return record;
}

test("a revocation that is taken back in the database stays, also for a responder that starts then", async () => {
  const record = await revoked("edited", "keyCompromise");
  await sql("CREATE TABLE kept AS SELECT * FROM certificates");
  await until("the CRL is served", isListed(record), soon);
  await edit(record, UNREVOKED);
  await until("it is noticed", async () => (await tampered()) === 1, soon);
  expect(await verdicts(record)).toEqual(all("keyCompromise"));
  await stop();
  await start();
  expect(await verdicts(record)).toEqual(all("keyCompromise"));
  await sql("UPDATE crls SET changes = changes + 1");
  await expect(crls.publishDue(writer, 10)).rejects.toMatchObject({ code: "TamperDetected" });

  // Without the CRL it is not good either, for who starts then; and with another one it is none of the CA's.
  await sql("CREATE TABLE kept_crls AS SELECT * FROM crls");
  await sql("UPDATE crls SET number = NULL");
  await stop();
  await start();
  expect(await verdicts(record)).toEqual(all("tryLater"));
  await sql("UPDATE crls c SET number = k.number, der = set_byte(k.der, 40, get_byte(k.der, 40) # 1) FROM kept_crls k");
  await until("it is noticed", async () => (await tampered()) === 1, soon);
  expect(await verdicts(record)).toEqual(all("tryLater"));

  await sql("UPDATE crls c SET number = k.number, der = k.der FROM kept_crls k");
  await sql(`UPDATE certificates c SET revoked_at = k.revoked_at, revocation_reason = k.revocation_reason,
             status_generation = k.status_generation, status_mac = k.status_mac,
             changed_transaction = pg_current_xact_id() FROM kept k WHERE c.serial = k.serial`);
  await says(record, "keyCompromise");
  await until("all is well", async () => (await tampered()) === 0, soon);
  await crls.judge();
  expect(await crls.publishDue(writer, 10)).toBe(1);
});

test("a hold is not released by an edit, and is by the leader", async () => {
  const record = await revoked("held", "certificateHold");
  await until("the CRL is served", isListed(record), soon);
  await sql("DROP TABLE kept");
  await sql("CREATE TABLE kept AS SELECT * FROM certificates");
  await edit(record, "revoked_at = NULL, revocation_reason = NULL");
  await lookedAgain();
  expect(await verdicts(record)).toEqual(all("certificateHold"));
  await expect(authorities.release(writer, record, actor)).rejects.toMatchObject({ code: "TamperDetected" });
  await sql(`UPDATE certificates c SET revoked_at = k.revoked_at, revocation_reason = k.revocation_reason FROM kept k
             WHERE c.serial = k.serial`);
  expect(await authorities.release(writer, record, actor)).toBe(true);
  await crls.publishDue(writer, 10);
  await says(record, "good");
});
