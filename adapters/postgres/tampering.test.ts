import { exportRecords, jsonLines, proveExport } from "../../core/audit/export.ts";
import { Authorities } from "../../core/pki/authority.ts";
import { CrlPublication } from "../../core/pki/crl-publication.ts";
import { ExpiredCertificates } from "../../core/pki/expired-certificates.ts";
import { leafRequest, rootSpec } from "../../core/pki/testing/installation.ts";
import type { AuthorityRecord, CertificateRecord } from "../../core/ports/pki-store.ts";
import { actor, auditEntry, identity, lifecycle } from "../../core/ports/samples.ts";
import type { SecretRecord, Writer } from "../../core/ports/vault-store.ts";
import type { Sensitive } from "../../core/sensitive.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

let server: TestServer;
let installation: TestInstallation;
let writer: Writer;

beforeAll(async () => {
  server = await startServer();
});
beforeEach(async () => {
  installation = await openInstallation(await server.restored());
  writer = { epoch: await installation.stores.leadership.acquireEpoch("test") };
});
afterEach(() => installation.stores.close());
afterAll(() => server.stop());

const tampered = { code: "TamperDetected" };

const store = async (name: string, value: string, seen?: SecretRecord): Promise<SecretRecord> => {
  const entries = [
    { key: "a", literal: value },
    { key: "b", literal: "other" },
  ];
  const request = { identity: identity(name), seen, entries, sources: new Map<string, Sensitive>(), lifecycle, actor };
  return (await installation.vault.store(writer, request)).record;
};
const read = (record: SecretRecord) => installation.vault.open(record, { actor, purpose: "Test" });
const sql = (text: string, values: readonly unknown[] = []) =>
  withConnection(installation.database, (client) => client.query(text, [...values]));

describe("a stored secret", () => {
  test.each([
    ["ciphertext", "UPDATE entries SET ciphertext = set_byte(ciphertext, 20, get_byte(ciphertext, 20) # 1)"],
    ["nonce", "UPDATE entries SET ciphertext = set_byte(ciphertext, 0, get_byte(ciphertext, 0) # 1)"],
    ["truncated ciphertext", "UPDATE entries SET ciphertext = substring(ciphertext for 20)"],
    ["recipe", "UPDATE entries SET recipe = set_byte(recipe, 0, get_byte(recipe, 0) # 1)"],
    ["wrapped data key", "UPDATE versions SET wrapped_key = set_byte(wrapped_key, 20, get_byte(wrapped_key, 20) # 1)"],
    ["project key", "UPDATE versions SET project_key_id = gen_random_uuid()"],
    ["missing entry", "DELETE FROM entries WHERE key = 'b'"],
    ["renamed entry", "UPDATE entries SET key = 'c' WHERE key = 'b'"],
    ["missing version", "DELETE FROM versions"],
  ])("does not open with a changed %s", async (_, change) => {
    const record = await store("one", "value");
    expect((await read(record)).values.size).toBe(2);
    await sql(change);
    await expect(read(record)).rejects.toMatchObject(tampered);
  });

  test("does not open with entries exchanged between keys, versions or secrets", async () => {
    const first = await store("one", "first");
    const one = await store("one", "second", first);
    const two = await store("two", "second");
    const swap = `
      UPDATE entries e SET ciphertext = o.ciphertext, recipe = o.recipe, fingerprint = o.fingerprint FROM entries o
      WHERE e.secret_id = $1 AND e.version = $2 AND e.key = $3 AND o.secret_id = $4 AND o.version = $5 AND o.key = $6`;
    for (const [id, version, key] of [
      [one.id, 2, "b"],
      [one.id, 1, "a"],
      [two.id, 1, "a"],
    ]) {
      await sql("CREATE TABLE kept AS SELECT * FROM entries");
      await sql(swap, [one.id, 2, "a", id, version, key]);
      const described = await installation.vault.describe(identity("one"));
      if (described === undefined) throw new Error("expected a stored secret");
      await expect(read(described)).rejects.toMatchObject(tampered);
      await sql("TRUNCATE entries");
      await sql("INSERT INTO entries SELECT * FROM kept");
      await sql("DROP TABLE kept");
      expect((await read(one)).values.get("a")?.reveal().toString()).toBe("second");
    }
  });

  test("does not open as that of another namespace with the same name", async () => {
    const record = await store("one", "value");
    await expect(read({ ...record, identity: { ...record.identity, namespaceUid: "foreign" } })).rejects.toMatchObject(
      tampered,
    );
  });
});

describe("a pointer", () => {
  test.each([
    ["state", "state = 'Retained'"],
    ["version", "current_version = 1"],
    ["generation", "generation = generation + 1"],
    ["namespace UID", "namespace_uid = 'foreign'"],
    ["purge time", "purge_after = now()"],
    ["deletion policy", "deletion_policy = 'Purge'"],
    ["place of its values", "vault_url = 'https://elsewhere.vault.azure.net/'"],
    ["rotation", "rotation = NULL"],
    ["time of its rotation", "rotation = jsonb_set(rotation::jsonb, '{at}', '\"2026-01-01T00:00:00.000Z\"')::json"],
    ["held version", "rotation = jsonb_set(rotation::jsonb, '{held}', '[]')::json"],
    ["number of its last version", "rotation = jsonb_set(rotation::jsonb, '{apply,last}', '1')::json"],
    ["role that is to end", "rotation = jsonb_set(rotation::jsonb, '{apply,former,role}', '\"other\"')::json"],
    ["failed version", "rotation = jsonb_set(rotation::jsonb, '{apply,failed}', '[]')::json"],
    ["MAC", "mac = set_byte(mac, 31, get_byte(mac, 31) # 1)"],
    ["short MAC", "mac = ''"],
  ])("with a changed %s is noticed", async (_, change) => {
    const record = await store("one", "second", await store("one", "first"));
    const at = new Date();
    const held = [{ version: 1, until: new Date(at.getTime() + 60_000) }];
    const apply = { last: 2, failed: [1], former: { version: 1, role: "orders_a" } };
    const rotation = { since: at, at, held, apply };
    await installation.vault.changeRotation(writer, record, rotation, actor);
    expect(await installation.vault.describe(identity("one"))).toMatchObject({ rotation });
    await sql(`UPDATE secrets SET ${change}`);
    const { namespaceUid } = identity("one");
    const uid = change.startsWith("namespace_uid") ? "foreign" : namespaceUid;
    await expect(installation.vault.describe({ ...identity("one"), namespaceUid: uid })).rejects.toMatchObject(
      tampered,
    );
  });

  test("that is older than the audit record is noticed, although its MAC is valid", async () => {
    const first = await store("one", "first");
    await sql("CREATE TABLE kept AS SELECT * FROM secrets");
    await store("one", "second", first);
    await sql(
      "UPDATE secrets s SET current_version = k.current_version, generation = k.generation, mac = k.mac FROM kept k",
    );
    await expect(installation.vault.describe(identity("one"))).rejects.toMatchObject(tampered);
  });

  test("does not expire by a changed list", async () => {
    await store("one", "value");
    await sql("UPDATE secrets SET state = 'SoftDeleted', purge_after = now() - interval '1 day'");
    await expect(installation.vault.purgeExpired(writer, actor, 10)).rejects.toMatchObject(tampered);
    expect((await sql("SELECT FROM versions")).rowCount).toBe(1);
  });
});

test("a changed wrapped key of the project is noticed", async () => {
  await store("one", "value");
  await sql("UPDATE keys SET wrapped = set_byte(wrapped, 20, get_byte(wrapped, 20) # 1) WHERE purpose = 'Project'");
  const restarted = await openInstallation(installation.database, installation.root);
  await expect(restarted.vault.describe(identity("one"))).rejects.toMatchObject(tampered);
  await restarted.stores.close();
});

test("keys that are exchanged between projects are noticed", async () => {
  await store("one", "value");
  await installation.vault.prepareProject(writer, "orders");
  await sql(`UPDATE keys k SET id = o.id, wrapped = o.wrapped FROM
    (SELECT gen_random_uuid() AS id, wrapped FROM keys WHERE purpose = 'Pointer' AND scope = 'orders') o
    WHERE k.purpose = 'Pointer' AND k.scope = 'payments'`);
  const restarted = await openInstallation(installation.database, installation.root);
  await expect(restarted.vault.describe(identity("one"))).rejects.toMatchObject(tampered);
  await restarted.stores.close();
});

test("a wrong root key is told apart from tampering", async () => {
  await expect(openInstallation(installation.database)).rejects.toMatchObject({ code: "KeyUnavailable" });
});

describe("whether a certificate is revoked", () => {
  let authorities: Authorities;
  let crls: CrlPublication;
  let told: string[];
  let root: AuthorityRecord;
  let revoked: CertificateRecord;
  let held: CertificateRecord;

  beforeEach(async () => {
    const { pki, keys, audit } = installation.stores;
    authorities = new Authorities({ store: pki, keys, audit });
    told = [];
    crls = new CrlPublication({ store: pki, authorities, onProblem: ({ id }) => told.push(id) });
    root = await authorities.ensure(writer, rootSpec("root"));
    revoked = await authorities.issue(writer, leafRequest(root, "revoked"));
    held = await authorities.issue(writer, leafRequest(root, "held"));
    await authorities.issue(writer, leafRequest(root, "good"));
    await authorities.revoke(writer, revoked, { reason: "keyCompromise" }, actor);
    await authorities.revoke(writer, held, { reason: "certificateHold" }, actor);
    await crls.judge();
    expect(await crls.publishDue(writer, 10)).toBe(1);
  });

  const UNREVOKED = "revoked_at = NULL, revocation_reason = NULL, invalidity_date = NULL";
  /** Noticed at the next look, and before the next CRL is signed; nothing is published. */
  async function noticed(): Promise<void> {
    await expect(crls.judge()).rejects.toMatchObject(tampered);
    await sql("UPDATE crls SET changes = changes + 1");
    await expect(crls.publishDue(writer, 10)).rejects.toMatchObject(tampered);
    expect(crls.problemOf(root.id)).toMatchObject(tampered);
    expect(crls.tampered).toBe(1);
    expect((await installation.stores.pki.crl({ authorityId: root.id, generation: 1, partition: 0 }))?.number).toBe(1n);
  }

  test.each([
    ["taken back", `${UNREVOKED} WHERE requester_uid = 'revoked'`],
    [
      "taken back without a trace",
      `${UNREVOKED}, status_generation = 0, status_mac = NULL WHERE requester_uid = 'revoked'`,
    ],
    ["made a hold", "revocation_reason = 'certificateHold' WHERE requester_uid = 'revoked'"],
    ["made later", "revoked_at = revoked_at + interval '1 day' WHERE requester_uid = 'revoked'"],
    ["given an invalidity date", "invalidity_date = now() WHERE requester_uid = 'revoked'"],
    ["released", `${UNREVOKED} WHERE requester_uid = 'held'`],
    ["made up", "revoked_at = now(), revocation_reason = 'superseded' WHERE requester_uid = 'good'"],
    ["given another generation", "status_generation = 2 WHERE requester_uid = 'held'"],
    ["given no MAC", "status_mac = '' WHERE requester_uid = 'held'"],
    [
      "exchanged with another one",
      `revocation_reason = o.revocation_reason, revoked_at = o.revoked_at, status_mac = o.status_mac FROM certificates o
       WHERE certificates.requester_uid = 'revoked' AND o.requester_uid = 'held'`,
    ],
  ])("is noticed when a revocation is %s", async (_, change) => {
    await sql(`UPDATE certificates SET ${change}`);
    await noticed();
  });

  test.each([
    ["has ended", "not_after = now() - interval '1 day' WHERE requester_uid = 'revoked'"],
    ["is in another CRL", "crl_partition = 1 WHERE requester_uid = 'revoked'"],
    ["is in the CRL of another key", "generation = 2 WHERE requester_uid = 'revoked'"],
  ])("is noticed when a certificate is said to be one that %s", async (_, change) => {
    await sql(`UPDATE certificates SET ${change}`);
    await sql("UPDATE crls SET changes = changes + 1");
    await expect(crls.publishDue(writer, 10)).rejects.toMatchObject(tampered);
  });

  test.each([
    ["another one", "der = set_byte(der, 60, get_byte(der, 60) # 1)"],
    ["none", "der = '\\x3000'"],
  ])("is noticed when the CRL in force is %s", async (_, change) => {
    await sql(`UPDATE crls SET ${change}, changes = changes + 1`);
    await expect(crls.publishDue(writer, 10)).rejects.toMatchObject(tampered);
  });

  test("is noticed when the row is gone", async () => {
    await sql("DELETE FROM certificates WHERE requester_uid = 'revoked'");
    await noticed();
  });

  const DAY_MS = 24 * 3_600_000;
  /** Those of 90 days ended, and are kept no longer. */
  const inDays = (days: number) => () => new Date(Date.now() + days * DAY_MS);
  const purge = (now: () => Date) =>
    new ExpiredCertificates({ store: installation.stores.pki, authorities, keepMs: 2 * DAY_MS, now }).purge(
      writer,
      100,
    );

  test("is not missed with a row that was purged, while one that is deleted beside it is noticed", async () => {
    const { pki } = installation.stores;
    const longer = await authorities.issue(writer, leafRequest(root, "longer", 1, { durationMs: 200 * DAY_MS }));
    await authorities.revoke(writer, longer, { reason: "superseded" }, actor);
    await new CrlPublication({ store: pki, authorities, now: inDays(91) }).publishDue(writer, 10);
    expect(await purge(inDays(93))).toBe(3);
    expect(await pki.countStatuses(root.id)).toEqual({ sealed: 1, audited: 1 });
    // The CRL in force lists two that have no row any more.
    expect(await new CrlPublication({ store: pki, authorities, now: inDays(93) }).publishDue(writer, 10)).toBe(1);
    await crls.judge();
    await sql("DELETE FROM certificates WHERE requester_uid = 'longer'");
    await expect(crls.judge()).rejects.toMatchObject({
      ...tampered,
      message: expect.stringContaining("has 0 certificates with a status, the audit record says 1"),
    });
  });

  test("is not purged with a row that was edited so that it ended, or was never revoked", async () => {
    await sql(`UPDATE certificates SET not_after = now() - interval '3 days' WHERE requester_uid = 'revoked'`);
    await sql(`UPDATE certificates SET not_after = now() - interval '3 days', ${UNREVOKED}, status_generation = 0,
               status_mac = NULL WHERE requester_uid = 'held'`);
    await sql(`UPDATE crls SET this_update = now()`);
    await expect(purge(inDays(0))).rejects.toMatchObject(tampered);
    expect((await sql("SELECT FROM certificates WHERE requester_uid IN ('revoked', 'held')")).rowCount).toBe(2);
  });

  test("is noticed when an old row is put back, although its MAC is valid", async () => {
    await authorities.release(writer, held, actor);
    expect(await crls.publishDue(writer, 10)).toBe(1);
    await sql("CREATE TABLE kept AS SELECT * FROM certificates WHERE requester_uid = 'held'");
    await authorities.revoke(writer, held, { reason: "keyCompromise" }, actor);
    await crls.judge();
    await sql("DELETE FROM certificates WHERE requester_uid = 'held'");
    await sql("INSERT INTO certificates SELECT * FROM kept");
    await expect(crls.publishDue(writer, 10)).rejects.toMatchObject({
      ...tampered,
      message: expect.stringContaining("has generation 2, the audit record says 3"),
    });
  });

  test("is noticed before it is changed again", async () => {
    await sql(`UPDATE certificates SET ${UNREVOKED} WHERE requester_uid = 'held'`);
    await expect(authorities.revoke(writer, held, { reason: "superseded" }, actor)).rejects.toMatchObject(tampered);
    await expect(authorities.release(writer, held, actor)).rejects.toMatchObject(tampered);
  });

  test("does not keep other CAs from publishing, and is over when the row is as it was", async () => {
    const other = await authorities.ensure(writer, rootSpec("other"));
    await sql("CREATE TABLE kept AS SELECT * FROM certificates WHERE requester_uid = 'revoked'");
    await sql(`UPDATE certificates SET ${UNREVOKED} WHERE requester_uid = 'revoked'`);
    await expect(crls.judge()).rejects.toMatchObject(tampered);
    expect(await crls.publishDue(writer, 10)).toBe(1);
    expect(crls.problemOf(other.id)).toBeUndefined();
    await sql(`UPDATE certificates c SET revoked_at = k.revoked_at, revocation_reason = k.revocation_reason FROM kept k
               WHERE c.serial = k.serial`);
    await crls.judge();
    expect(crls.problemOf(root.id)).toBeUndefined();
    expect(told).toEqual([root.id, root.id]);
  });

  test("from before there were MACs is sealed once, as far as the audit record knows of it", async () => {
    const former = "status_generation = 0, status_mac = NULL";
    await sql("ALTER TABLE audit DISABLE TRIGGER USER");
    await sql("UPDATE audit SET subject_generation = NULL");
    await sql("ALTER TABLE audit ENABLE TRIGGER USER");
    await sql(`UPDATE certificates SET ${former}`);
    await sql(
      "UPDATE certificates SET revoked_at = now(), revocation_reason = 'superseded' WHERE requester_uid = 'good'",
    );
    await expect(crls.judge()).rejects.toMatchObject(tampered);
    expect(await authorities.sealFormer(writer)).toBe(2);
    expect(await authorities.sealFormer(writer)).toBe(0);
    // Nobody here revoked that one.
    await expect(crls.judge()).rejects.toMatchObject({ ...tampered, message: expect.stringContaining("has no MAC") });
    await sql(`UPDATE certificates SET ${UNREVOKED} WHERE requester_uid = 'good'`);
    await crls.judge();
    expect(await authorities.release(writer, held, actor)).toBe(true);
  });
});

describe("the audit record", () => {
  const verdict = () => installation.stores.audit.verify();

  beforeEach(async () => {
    await store("one", "second", await store("one", "first"));
    await read(await store("two", "value"));
    await installation.stores.audit.link(writer.epoch, 1_000);
    expect(await verdict()).toMatchObject({ ok: true, unlinked: 0 });
  });

  const tamper = (change: string) =>
    withConnection(installation.database, async (client) => {
      await client.query("ALTER TABLE audit DISABLE TRIGGER USER");
      await client.query(change);
      await client.query("ALTER TABLE audit ENABLE TRIGGER USER");
    });

  test.each([
    "UPDATE audit SET outcome = 'Denied' WHERE sequence = 3",
    "UPDATE audit SET position = NULL, link = NULL WHERE sequence = 3",
    "UPDATE audit SET position = position",
    "DELETE FROM audit WHERE sequence = 3",
    "TRUNCATE audit",
  ])("refuses: %s", async (statement) => {
    await expect(sql(statement)).rejects.toMatchObject({ code: "MV003" });
    expect(await verdict()).toMatchObject({ ok: true });
  });

  test.each([
    ["a changed row", "UPDATE audit SET subject_name = 'someone/else' WHERE position = 4", "macDiffers", 4n],
    ["a changed detail", `UPDATE audit SET details = '{"version":9}' WHERE position = 4`, "macDiffers", 4n],
    ["a changed time", "UPDATE audit SET at = at + interval '1 ms' WHERE position = 4", "macDiffers", 4n],
    ["a deleted row", "DELETE FROM audit WHERE position = 4", "rowMissing", 5n],
    [
      "rows in another order",
      `UPDATE audit SET position = 9 - position, link = (SELECT o.link FROM audit o WHERE o.position = 9 - audit.position)
       WHERE position IN (4, 5)`,
      "chainBroken",
      5n,
    ],
    [
      "a row deleted and the rest moved up",
      "WITH gone AS (DELETE FROM audit WHERE position = 4) UPDATE audit SET position = position - 1 WHERE position > 4",
      "chainBroken",
      5n,
    ],
  ])("tells %s", async (_, change, fault, row) => {
    await tamper(change);
    expect(await verdict()).toEqual({ ok: false, fault, row });
  });

  test("tells when its end was cut off", async () => {
    await tamper("DELETE FROM audit WHERE position > 5");
    expect(await verdict()).toMatchObject({ ok: false, fault: "rowMissing", row: 6n });
    await sql("UPDATE audit_head SET position = 5, link = (SELECT link FROM audit WHERE position = 5)");
    expect(await verdict()).toMatchObject({ ok: false, fault: "headForged" });
  });

  test("is not continued on a head that is not ours", async () => {
    await sql("UPDATE audit_head SET position = 3");
    await read(await store("three", "value"));
    await expect(installation.stores.audit.link(writer.epoch, 10)).rejects.toMatchObject(tampered);
  });

  test("tells a forged row that is not linked yet", async () => {
    await sql(`INSERT INTO audit (writer_id, counter, at, action, actor, subject_kind, subject_id, subject_name, outcome,
      details, mac) SELECT writer_id, counter + 1000, at, action, actor, subject_kind, subject_id, subject_name, outcome,
      details, mac FROM audit WHERE position = 4`);
    expect(await verdict()).toMatchObject({ ok: false, fault: "macDiffers" });
  });

  describe("behind a cut", () => {
    const later = new Date(Date.now() + 3_600_000);
    let cut: bigint;

    const sign = async () => {
      await installation.stores.audit.link(writer.epoch, 1_000);
      return installation.stores.audit.checkpoint(writer.epoch, { rows: 1, ms: 0 });
    };
    const handOver = async () => {
      const { sinkCursors, audit } = installation.stores;
      const last = await audit.lastCheckpoint(1_000n);
      if (last === undefined) throw new Error("expected a checkpoint");
      await sinkCursors.open(writer, "uid", "sink");
      const { position, link, number: checkpoint } = last;
      await sinkCursors.move(writer, "uid", { position, link, checkpoint });
    };
    const change = (statement: string) =>
      withConnection(installation.database, async (client) => {
        for (const table of ["audit", "audit_checkpoints"])
          await client.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
        await client.query(statement);
        for (const table of ["audit", "audit_checkpoints"])
          await client.query(`ALTER TABLE ${table} ENABLE TRIGGER USER`);
      });

    beforeEach(async () => {
      const one = await store("three", "value");
      for (let round = 0; round < 3; round += 1) {
        await read(one);
        await sign();
      }
      await handOver();
      cut = (await installation.stores.audit.cut(writer.epoch, later))?.position ?? 0n;
      await read(await store("four", "value"));
      await sign();
    });

    test("verifies, exports what proves itself, and what it kept still tells an old row that is put back", async () => {
      const { audit, keys } = installation.stores;
      expect(cut).toBeGreaterThan(5n);
      expect(await verdict()).toMatchObject({ ok: true, removedTo: Number(cut) });
      expect(
        await sql("SELECT FROM audit WHERE position <= $1 AND subject_generation IS NULL", [cut.toString()]),
      ).toMatchObject({ rowCount: 0 });
      expect(await proveExport(jsonLines(exportRecords(audit, keys)))).toMatchObject({
        ok: true,
        from: Number(cut) + 1,
      });
      const record = await store("five", "first");
      await sql("CREATE TABLE old AS SELECT * FROM secrets WHERE name = 'five'");
      await store("five", "second", record);
      for (let round = 0; round < 2; round += 1) {
        await read(await store(`more-${round}`, "value"));
        await sign();
      }
      await handOver();
      expect((await audit.cut(writer.epoch, later))?.position).toBeGreaterThan(cut);
      expect(await verdict()).toMatchObject({ ok: true });
      await sql(
        "UPDATE secrets s SET generation = o.generation, current_version = o.current_version, mac = o.mac FROM old o WHERE s.id = o.id",
      );
      await expect(installation.vault.describe(identity("five"))).rejects.toMatchObject(tampered);
    });

    test.each([
      ["a row beyond it removed", () => `DELETE FROM audit WHERE position = ${cut + 2n}`, "rowMissing"],
      [
        "more rows removed than it says",
        () => `DELETE FROM audit WHERE position <= ${cut + 2n} AND NOT audit_is_kept(audit)`,
        "rowMissing",
      ],
      [
        "a row that it kept removed",
        () => `DELETE FROM audit WHERE position = (SELECT min(position) FROM audit)`,
        "keptDiffer",
      ],
      [
        "a row that it kept changed",
        () => `UPDATE audit SET outcome = 'Denied' WHERE position = (SELECT min(position) FROM audit)`,
        "macDiffers",
      ],
      [
        "its statement moved on",
        () => `DELETE FROM audit WHERE position = ${cut + 1n}; UPDATE audit_cut SET position = position + 1`,
        "cutForged",
      ],
      ["its statement removed", () => "DELETE FROM audit_cut", "rowMissing"],
      [
        "its checkpoint removed",
        () => "DELETE FROM audit_checkpoints WHERE number = (SELECT min(number) FROM audit_checkpoints)",
        "checkpointMissing",
      ],
    ])("tells %s", async (_, statement, fault) => {
      await change(statement());
      expect(await verdict()).toMatchObject({ ok: false, fault });
    });

    test("tells an older statement that is put back", async () => {
      await sql("CREATE TABLE older AS SELECT * FROM audit_cut");
      await handOver();
      await sign();
      expect((await installation.stores.audit.cut(writer.epoch, later))?.position).toBeGreaterThan(cut);
      await sql("DELETE FROM audit_cut");
      await sql("INSERT INTO audit_cut SELECT * FROM older");
      expect(await verdict()).toMatchObject({ ok: false });
    });

    test("is made within the time that every statement has", async () => {
      await sql("CREATE TABLE limits (setting text)");
      await sql(`CREATE FUNCTION note_limit() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO limits VALUES (current_setting('statement_timeout')); RETURN NULL; END $$`);
      await sql("CREATE TRIGGER noted AFTER DELETE ON audit FOR EACH STATEMENT EXECUTE FUNCTION note_limit()");
      await sign();
      await handOver();
      expect(await installation.stores.audit.cut(writer.epoch, later)).toBeDefined();
      expect((await sql("SELECT setting FROM limits")).rows).toEqual([{ setting: "10s" }]);
    });

    test("refuses to remove anything else, and what does not verify", async () => {
      for (const statement of [
        `DELETE FROM audit WHERE position = ${cut + 1n}`,
        "DELETE FROM audit WHERE position = (SELECT min(position) FROM audit)",
        "DELETE FROM audit_checkpoints WHERE number = (SELECT min(number) FROM audit_checkpoints)",
      ]) {
        await expect(sql(statement)).rejects.toMatchObject({ code: "MV003" });
      }
      await handOver();
      await read(await store("five", "value"));
      await sign();
      const rows = async () => (await sql("SELECT FROM audit")).rowCount;
      const before = await rows();
      await change(`UPDATE audit SET outcome = 'Denied' WHERE position = ${cut + 2n}`);
      await expect(installation.stores.audit.cut(writer.epoch, later)).rejects.toMatchObject(tampered);
      expect(await rows()).toBe(before);
      expect(await verdict()).toMatchObject({ ok: false, fault: "macDiffers" });
    });
  });

  describe("below checkpoints", () => {
    /** Positions of four checkpoints; the third stands where `head_before` does. */
    let signed: bigint[];

    const sign = async () => {
      const made = await installation.stores.audit.checkpoint(writer.epoch, { rows: 1, ms: 0 });
      await installation.stores.audit.link(writer.epoch, 1_000);
      return made?.position ?? 0n;
    };
    const change = (statements: string) =>
      withConnection(installation.database, async (client) => {
        await client.query("ALTER TABLE audit_checkpoints DISABLE TRIGGER USER");
        await client.query(statements);
        await client.query("ALTER TABLE audit_checkpoints ENABLE TRIGGER USER");
      });

    beforeEach(async () => {
      // The first one makes the key that signs, which is on record too.
      signed = [await sign()];
      for (const name of ["four", "five", "six"]) {
        await store(name, "value");
        await installation.stores.audit.link(writer.epoch, 1_000);
        if (name === "five") await sql("CREATE TABLE head_before AS SELECT * FROM audit_head");
        signed.push(await sign());
      }
      await store("seven", "value");
      await installation.stores.audit.link(writer.epoch, 1_000);
      expect(await verdict()).toMatchObject({ ok: true, checkpoints: 4, signedTo: Number(signed[3]) });
    });

    test("what changes one is refused, and what changed one all the same is told", async () => {
      for (const statement of [
        "UPDATE audit_checkpoints SET epoch = 9",
        "DELETE FROM audit_checkpoints",
        "TRUNCATE audit_checkpoints",
      ]) {
        await expect(sql(statement)).rejects.toMatchObject({ code: "MV003" });
      }
      await sql("CREATE TABLE kept AS SELECT * FROM audit_checkpoints");
      const one = "UPDATE audit_checkpoints SET";
      const changes = [
        [`${one} at = at + interval '1 ms' WHERE number = 2`, "checkpointForged", 2n],
        [`${one} writers = '[]' WHERE number = 2`, "checkpointForged", 2n],
        [`${one} writers = '{"a": 1}' WHERE number = 2`, "checkpointForged", 2n],
        [`${one} handover = '{"keyVersion": 2, "publicKey": ""}' WHERE number = 2`, "checkpointForged", 2n],
        [`${one} link = set_byte(link, 0, get_byte(link, 0) # 1) WHERE number = 4`, "checkpointForged", 4n],
        [`${one} signature = '' WHERE number = 3`, "checkpointForged", 3n],
        ["DELETE FROM audit_checkpoints WHERE number = 2", "checkpointMissing", 3n],
        ["DELETE FROM audit_checkpoints WHERE number = 1", "checkpointMissing", 2n],
        [`${one} number = 5 WHERE number = 4`, "checkpointMissing", 5n],
        [
          `${one} number = 9 WHERE number = 2; ${one} number = 2 WHERE number = 3; ${one} number = 3 WHERE number = 9`,
          "checkpointMissing",
          2n,
        ],
      ] as const;
      for (const [statements, fault, checkpoint] of changes) {
        await change(statements);
        expect([statements, await verdict()]).toMatchObject([statements, { ok: false, fault, checkpoint }]);
        await change("DELETE FROM audit_checkpoints; INSERT INTO audit_checkpoints SELECT * FROM kept");
      }
      expect(await verdict()).toMatchObject({ ok: true, checkpoints: 4 });
    });

    test("it is told that the end was cut off and an old head put back, and nothing is built on that", async () => {
      const { audit } = installation.stores;
      const [tail] = await audit.chain((await audit.head()).position - 1n, 1);
      if (tail === undefined) throw new Error("expected rows");
      const cut = `DELETE FROM audit WHERE position > ${signed[2]}`;
      await tamper(cut);
      await sql("UPDATE audit_head SET (position, link, mac) = (SELECT position, link, mac FROM head_before)");
      expect(await verdict()).toEqual({ ok: false, fault: "rowMissing", row: (signed[2] ?? 0n) + 1n, checkpoint: 4n });
      // The process that linked what is gone notices, and so does another one by the checkpoint.
      await audit.append([auditEntry("later")]);
      await expect(audit.link(writer.epoch, 10)).rejects.toMatchObject(tampered);
      const restarted = await openInstallation(installation.database, installation.root);
      await expect(restarted.stores.audit.checkpoint(writer.epoch, { rows: 1, ms: 0 })).rejects.toMatchObject(tampered);
      await restarted.stores.close();
      // With the checkpoint gone as well, only who kept something outside of the database can tell.
      await change("DELETE FROM audit_checkpoints WHERE number > 3");
      expect(await verdict()).toMatchObject({ ok: true, anchoredTo: 0 });
      expect(await audit.verify({ anchors: [tail] })).toMatchObject({ ok: false, fault: "anchorMissed" });
    });

    test("a restored database goes on, and that is on record", async () => {
      await sql(
        `CREATE OR REPLACE FUNCTION audit_server() RETURNS text LANGUAGE sql AS $$ SELECT 'another/00000002' $$`,
      );
      await tamper(`DELETE FROM audit WHERE position > ${signed[2]}`);
      await change("DELETE FROM audit_checkpoints WHERE number > 3");
      await sql(`UPDATE audit_head SET (position, link, mac) = (SELECT position, link, mac FROM head_before)`);
      await sign();
      const [fork] = await installation.stores.audit.read({ action: "AuditRecordForked" }, undefined, 10);
      expect(fork?.entry.details).toMatchObject({
        checkpoint: 4,
        position: Number(signed[2]),
        now: "another/00000002",
      });
      await store("eight", "value");
      expect(await sign()).toBeGreaterThan(signed[2] ?? 0n);
      expect(await verdict()).toMatchObject({ ok: true, checkpoints: 5 });
    });

    test("a rotated key signs on, after the one before has handed over", async () => {
      await installation.stores.keys.rotateAuditSigning(writer);
      await sign();
      await store("eight", "value");
      await installation.stores.audit.link(writer.epoch, 1_000);
      await sign();
      const all = await installation.stores.audit.checkpoints(4n, 10);
      expect(all).toMatchObject([
        { keyVersion: 1, handover: { keyVersion: 2 } },
        { keyVersion: 2, number: 6n },
      ]);
      expect(await verdict()).toMatchObject({ ok: true, checkpoints: 6 });
    });
  });
});
