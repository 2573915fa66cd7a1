import { spawn } from "node:child_process";
import { createSecretKey, randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Authorities, newest } from "../../core/pki/authority.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { CrlPublication } from "../../core/pki/crl-publication.ts";
import { createCsr } from "../../core/pki/csr.ts";
import { generateKey, spkiOf } from "../../core/pki/key.ts";
import { ResponderCertificates } from "../../core/pki/responder-certificates.ts";
import { LocalSigner } from "../../core/pki/signer.ts";
import { leafRequest, rootSpec } from "../../core/pki/testing/installation.ts";
import type { OcspPosition } from "../../core/ports/ocsp-store.ts";
import { completion, issuer, newAuthority, reservation, revocation, statusSeal } from "../../core/ports/pki-samples.ts";
import type { AuthorityRecord } from "../../core/ports/pki-store.ts";
import { actor } from "../../core/ports/samples.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { LocalRootKey } from "../rootkey/local-root-key.ts";
import type { DatabaseOptions } from "./database.ts";
import { PostgresOcspStore } from "./ocsp-store.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

const ROOT_KEY = Buffer.alloc(32, 5);
const ISSUER = new URL("./testing/issue.ts", import.meta.url).pathname;

let server: TestServer;
let installation: TestInstallation;
let writer: Writer;
let authorities: Authorities;

beforeAll(async () => {
  server = await startServer();
});
beforeEach(async () => {
  const root = new LocalRootKey("test", createSecretKey(ROOT_KEY));
  installation = await openInstallation(await server.restored(), root);
  writer = { epoch: await installation.stores.leadership.acquireEpoch("test") };
  authorities = fresh();
});
afterEach(() => installation.stores.close());
afterAll(() => server.stop());

/** With nothing in memory. */
function fresh(): Authorities {
  const { pki: store, keys, audit } = installation.stores;
  return new Authorities({ store, keys, audit });
}
const sql = (text: string, values: readonly unknown[] = []) =>
  withConnection(installation.database, (client) => client.query(text, [...values]));
const tampered = { code: "TamperDetected" };

describe("a process that is killed while it issues", () => {
  /** Issues in a process of its own, which dies at the failpoint; tells how it ended. */
  async function killedAt(failpoint: string): Promise<NodeJS.Signals | null> {
    const child = spawn(process.execPath, [ISSUER, JSON.stringify(installation.database), `${writer.epoch}`], {
      env: { ...process.env, MAZEVAULT_FAILPOINT: failpoint },
      stdio: ["pipe", "ignore", "inherit"],
    });
    child.stdin.end(ROOT_KEY);
    const [, signal] = (await once(child, "exit")) as [number | null, NodeJS.Signals | null];
    return signal;
  }

  test.each([
    ["pki.afterAuthority", 0],
    ["pki.afterReserve", 0],
    ["pki.beforeComplete", 0],
    ["pki.afterComplete", 0],
    ["pki.beforeInstall", 0],
    ["pki.afterInstall", 0],
    ["pki.afterReserve:2", 1],
    ["pki.beforeComplete:2", 1],
    ["pki.afterComplete:2", 1],
  ])("at %s leaves what its successor finishes: one CA, one certificate", async (failpoint, leaves) => {
    const { pki: store, audit } = installation.stores;
    expect(await killedAt(failpoint)).toBe("SIGKILL");
    const before = await store.certificateFor("uid", 1);
    expect(before === undefined ? 0 : 1).toBe(leaves);
    const root = await authorities.ensure(writer, rootSpec("root"));
    const record = await authorities.issue(writer, leafRequest(root, "uid"));
    if (before !== undefined) expect(record.serialNumber).toBe(before.serialNumber);
    const { rows } = await sql("SELECT state, count(*)::int FROM certificates GROUP BY state");
    expect(rows).toEqual([{ state: "Issued", count: 2 }]);
    const key = await authorities.openKey(writer, record, { actor, purpose: "Test" });
    const certified = parseCertificate(record.certificate ?? Buffer.alloc(0)).spki;
    expect(spkiOf(key)).toEqual(certified);
    const { rows: reserved } = await sql("SELECT FROM audit WHERE action = 'CertificateReserved'");
    expect(reserved).toHaveLength(2);
    expect(await audit.verify()).toMatchObject({ ok: true });
  });
});

test("a hundred that ask for the same revision get the same certificate, from however many processes' memories", async () => {
  const root = await authorities.ensure(writer, rootSpec("root"));
  const others = Array.from({ length: 4 }, fresh);
  const asked = Array.from({ length: 100 }, (_, n) => others[n % 4]?.issue(writer, leafRequest(root, "uid")));
  const outcomes = await Promise.allSettled(asked);
  const serials = new Set<string>();
  for (const outcome of outcomes) {
    // In another memory the loser of the race is told so, and finds the certificate when it asks again.
    if (outcome.status === "rejected") expect(outcome.reason).toMatchObject({ name: "PkiConflict" });
    else serials.add(outcome.value?.serialNumber ?? "");
  }
  expect(serials.size).toBe(1);
  const again = await Promise.all(others.map((other) => other.issue(writer, leafRequest(root, "uid"))));
  expect(new Set(again.map(({ serialNumber }) => serialNumber))).toEqual(serials);
  expect((await sql("SELECT FROM certificates WHERE requester_uid = 'uid'")).rowCount).toBe(1);
});

describe("rows that somebody changed", () => {
  let root: AuthorityRecord;
  beforeEach(async () => {
    root = await authorities.ensure(writer, rootSpec("root"));
  });
  const issue = (uid: string, by = authorities) => by.issue(writer, leafRequest(root, uid));
  const openKey = async (uid: string) => {
    const record = await installation.stores.pki.certificateFor(uid, 1);
    if (record === undefined) throw new Error("expected a certificate");
    return authorities.openKey(writer, record, { actor, purpose: "Test" });
  };

  test.each([
    ["sealed key", "sealed_key = o.sealed_key"],
    ["whole envelope", "sealed_key = o.sealed_key, wrapped_key = o.wrapped_key"],
    ["certificate", "der = o.der"],
    ["certificate and envelope", "der = o.der, sealed_key = o.sealed_key, wrapped_key = o.wrapped_key"],
    [
      "requester",
      "requester_uid = 'one'",
      "UPDATE certificates SET requester_uid = 'gone' WHERE requester_uid = 'one'",
    ],
  ])("a leaf's key does not open with another row's %s", async (_, change, first = "SELECT") => {
    await issue("one");
    await issue("two");
    expect((await openKey("one")).type).toBe("private");
    await sql(first);
    const victim = change.startsWith("requester") ? "two" : "one";
    await sql(
      `UPDATE certificates c SET ${change} FROM certificates o WHERE c.requester_uid = $1 AND o.requester_uid = 'two'`,
      [victim],
    );
    await expect(openKey("one")).rejects.toMatchObject(tampered);
  });

  test("a CA does not sign with another CA's envelope or certificate", async () => {
    const other = await authorities.ensure(writer, rootSpec("other"));
    for (const change of ["sealed_key = o.sealed_key, wrapped_key = o.wrapped_key", "certificate = o.certificate"]) {
      await sql("CREATE TABLE kept AS SELECT * FROM authority_generations");
      await sql(
        `UPDATE authority_generations g SET ${change} FROM authority_generations o
         WHERE g.authority_id = $1 AND o.authority_id = $2`,
        [root.id, other.id],
      );
      const changed = await installation.stores.pki.authority(root.id);
      if (changed === undefined) throw new Error("expected an authority");
      await expect(fresh().issue(writer, leafRequest(changed, randomUUID()))).rejects.toMatchObject(tampered);
      await sql(
        `UPDATE authority_generations g SET sealed_key = k.sealed_key, wrapped_key = k.wrapped_key,
           certificate = k.certificate
         FROM kept k WHERE k.authority_id = g.authority_id`,
      );
      await sql("DROP TABLE kept");
    }
    expect(await issue("uid", fresh())).toMatchObject({ state: "Issued" });
  });

  test("a certificate of another serial number is not handed out as the one that was issued", async () => {
    await issue("one");
    await issue("two");
    await sql(
      `UPDATE certificates c SET der = o.der FROM certificates o
       WHERE c.requester_uid = 'one' AND o.requester_uid = 'two'`,
    );
    await expect(issue("one")).rejects.toMatchObject(tampered);
  });

  test("the Pki key itself is noticed", async () => {
    await issue("one");
    await sql("UPDATE keys SET wrapped = set_byte(wrapped, 20, get_byte(wrapped, 20) # 1) WHERE purpose = 'Pki'");
    const restarted = await openInstallation(installation.database, installation.root);
    const { pki: store, keys, audit } = restarted.stores;
    const by = new Authorities({ store, keys, audit });
    await expect(by.issue(writer, leafRequest(root, "two"))).rejects.toMatchObject(tampered);
    await restarted.stores.close();
  });
});

test("no private key stands in the database in the clear", async () => {
  const root = await authorities.ensure(writer, rootSpec("root"));
  const record = await authorities.issue(writer, leafRequest(root, "uid"));
  const key = await authorities.openKey(writer, record, { actor, purpose: "Test" });
  const { d = "" } = key.export({ format: "jwk" });
  const secret = Buffer.from(d, "base64url").toString("hex");
  const { rows } = await sql("SELECT c::text AS row FROM certificates c UNION ALL SELECT a::text FROM audit a");
  const dump = rows.map(({ row }) => row).join("\n");
  expect(dump).toContain(record.serialNumber);
  expect(dump).not.toContain(secret);
  expect(newest(root).sealedKey?.ciphertext.includes(Buffer.from(secret, "hex"))).toBe(false);
});

describe("the feed of the responders", () => {
  let ocsp: PostgresOcspStore;
  let authority: AuthorityRecord;
  beforeEach(async () => {
    ocsp = new PostgresOcspStore(installation.database);
    authority = await installation.stores.pki.createAuthority(writer, newAuthority(issuer("root")));
  });
  afterEach(() => ocsp.close());

  const issue = async (uid: string): Promise<string> => {
    const { pki: store } = installation.stores;
    const { serialNumber } = await store.reserve(writer, reservation(authority.id, uid, 1), []);
    await store.complete(writer, completion({ authorityId: authority.id, serialNumber }));
    return serialNumber;
  };
  /** What a reader knows that has read up to now. */
  class Reader {
    readonly known = new Map<string, string>();
    position: OcspPosition | undefined;
    /** Rows of the last `follow`. */
    rows = 0;

    async follow(limit = 3): Promise<void> {
      this.rows = 0;
      for (let more = true; more; ) {
        const read = await ocsp.changes(this.position, limit);
        for (const { serialNumber, revocation: found } of read.certificates) {
          this.known.set(serialNumber, found?.reason ?? "good");
          this.rows += 1;
        }
        this.position = read.next;
        ({ more } = read);
      }
    }
  }

  test("misses no revocation whose transaction commits after a later one", async () => {
    const [slow, fast] = [await issue("slow"), await issue("fast")];
    const reader = new Reader();
    await reader.follow();
    const revoke = "SELECT revoke_certificate($1, $2, decode($3, 'hex'), now(), 'superseded', NULL, 1, '\\x00', '[]')";
    await withConnection(installation.database, async (client) => {
      await client.query("BEGIN");
      await client.query(revoke, [writer.epoch, authority.id, slow]);
      // The CRL's row is counted up in the same transaction: another partition's need not wait.
      await sql("UPDATE certificates SET crl_partition = 1 WHERE serial = decode($1, 'hex')", [fast]);
      await sql(revoke, [writer.epoch, authority.id, fast]);
      await reader.follow();
      expect([reader.known.get(slow), reader.known.get(fast)]).toEqual(["good", "superseded"]);
      await client.query("COMMIT");
    });
    await reader.follow();
    expect([reader.known.get(slow), reader.known.get(fast)]).toEqual(["superseded", "superseded"]);
    await reader.follow();
    expect(reader.rows).toBe(0);
  });

  test("follows concurrent writers to the last change", async () => {
    const { pki: store } = installation.stores;
    const reader = new Reader();
    let writing = true;
    const expected = new Map<string, string>();
    const write = async (n: number) => {
      for (let number = 0; number < 25; number += 1) {
        const serialNumber = await issue(`${n}.${number}`);
        const hold = revocation({ reason: "certificateHold" });
        if (number % 3 > 0) await store.revoke(writer, authority.id, serialNumber, hold, statusSeal(1n), []);
        if (number % 3 === 2) await store.release(writer, authority.id, serialNumber, statusSeal(2n), []);
        expected.set(serialNumber, number % 3 === 1 ? "certificateHold" : "good");
      }
    };
    const written = Promise.all(Array.from({ length: 6 }, (_, n) => write(n))).finally(() => {
      writing = false;
    });
    while (writing) await reader.follow();
    await written;
    await reader.follow();
    expect(reader.known).toEqual(expected);
  });

  test("begins again on a server whose transactions are younger (a restored backup)", async () => {
    const serialNumber = await issue("one");
    const reader = new Reader();
    reader.position = { from: 999_999_999n };
    await reader.follow();
    expect(reader.known.get(serialNumber)).toBe("good");
  });
});

describe("the role of the responders", () => {
  let responder: DatabaseOptions;
  let passwordFile: string;
  beforeAll(async () => {
    const { superuser } = server.postgres;
    passwordFile = path.join(mkdtempSync(path.join(tmpdir(), "mazevault-ocsp-")), "password");
    writeFileSync(passwordFile, randomUUID());
    await withConnection(superuser, (client) =>
      client.query(`CREATE ROLE ocsp_of_test LOGIN PASSWORD '${readFileSync(passwordFile, "utf8")}'`),
    );
    responder = { ...superuser, user: "ocsp_of_test", passwordFile };
  });
  beforeEach(async () => {
    responder = { ...responder, database: installation.database.database };
    await sql("SELECT grant_ocsp($1)", [responder.user]);
  });
  afterAll(() => rmSync(path.dirname(passwordFile), { recursive: true }));
  const asResponder = (text: string, values: readonly unknown[] = []) =>
    withConnection(responder, (client) => client.query(text, [...values]));

  test("does all that the responder's store does", async () => {
    const { pki: store } = installation.stores;
    const root = await authorities.ensure(writer, rootSpec("root"));
    const record = await authorities.issue(writer, leafRequest(root, "uid"));
    await new CrlPublication({ store, authorities }).publishDue(writer, 10);
    const ocsp = new PostgresOcspStore(responder);
    expect(await ocsp.authorities()).toMatchObject([{ authorityId: root.id, generation: 1 }]);
    const { certificates } = await ocsp.changes(undefined, 10);
    expect(certificates.map(({ serialNumber }) => serialNumber)).toContain(record.serialNumber);
    const [crl] = await ocsp.crls();
    if (crl === undefined) throw new Error("expected a CRL");
    expect(await ocsp.crl(crl)).toMatchObject({ number: 1n, der: expect.any(Buffer) });
    const id = randomUUID();
    const signer = new LocalSigner(await generateKey({ algorithm: "ECDSA", size: 256 }));
    const csr = await createCsr([], [], signer);
    await ocsp.requestResponder({ id, authorityId: root.id, generation: 1, csr });
    expect(await new ResponderCertificates({ store, authorities }).sign(writer)).toBe(1);
    expect(parseCertificate((await ocsp.responder(id)) as Buffer).spki).toEqual(signer.spki);
    await ocsp.close();
    await asResponder("NOTIFY mazevault_pki");
  });

  test.each([
    "SELECT * FROM certificates",
    "SELECT * FROM authority_generations",
    "SELECT * FROM authorities",
    "SELECT * FROM crls",
    "SELECT * FROM keys",
    "SELECT * FROM secrets",
    "SELECT * FROM audit",
    "SELECT revoke_certificate(1, gen_random_uuid(), '', now(), 'superseded', NULL, 1, '', '[]')",
    "SELECT insert_audit('[]')",
    "INSERT INTO ocsp_responders (id, authority_id, generation, csr, certificate) VALUES (gen_random_uuid(), gen_random_uuid(), 1, '', '')",
    "INSERT INTO ocsp_responders (id, authority_id, generation, csr, requested_at) VALUES (gen_random_uuid(), gen_random_uuid(), 1, '', now())",
    "UPDATE ocsp_responders SET csr = ''",
    "DELETE FROM ocsp_responders",
    "UPDATE ocsp_certificates SET revoked_at = NULL",
  ])("may not: %s", async (statement) => {
    await expect(asResponder(statement)).rejects.toMatchObject({ code: "42501" });
  });

  test("cannot fill the disk with one request", async () => {
    const insert = "INSERT INTO ocsp_responders (id, authority_id, generation, csr) VALUES ($1, $1, 1, $2)";
    await expect(asResponder(insert, [randomUUID(), Buffer.alloc(4_097)])).rejects.toMatchObject({ code: "23514" });
  });
});
