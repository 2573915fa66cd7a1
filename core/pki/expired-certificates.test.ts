import type { AuthorityRecord, CertificateRecord } from "../ports/pki-store.ts";
import { actor } from "../ports/samples.ts";
import { CrlPublication } from "./crl-publication.ts";
import { ExpiredCertificates } from "./expired-certificates.ts";
import { TestPki } from "./testing/installation.ts";

const DAY_MS = 24 * 3_600_000;
const KEPT = 90 * DAY_MS;

let pki: TestPki;
let root: AuthorityRecord;

beforeEach(async () => {
  pki = await TestPki.start();
  root = await pki.root();
});

const purge = (limit = 100, keepMs = KEPT): Promise<number> => {
  const { store, authorities, writer } = pki;
  return new ExpiredCertificates({ store, authorities, keepMs, now: () => pki.now }).purge(writer, limit);
};
const publish = async (): Promise<void> => {
  const { store, authorities, urls, writer } = pki;
  await new CrlPublication({ store, authorities, urls, now: () => pki.now }).publishDue(writer, 10);
};
const standing = async ({ serialNumber }: CertificateRecord) =>
  (await pki.store.certificate(root.id, serialNumber)) !== undefined;
/** Until so long after the end of a certificate of 90 days. */
const pass = (afterEndMs: number): void => pki.passes(90 * DAY_MS + afterEndMs);

test("a certificate goes when its time after its end is over, not before, and is one row in the audit record", async () => {
  const records = [await pki.issue(root, "one"), await pki.issue(root, "two")];
  pass(KEPT - 10 * 60_000);
  expect(await purge()).toBe(0);
  pki.passes(10 * 60_000);
  expect(await purge()).toBe(2);
  expect(await Promise.all(records.map(standing))).toEqual([false, false]);
  const [entry, ...others] = pki.database.audit.filter(({ entry: { action } }) => action === "CertificatesPurged");
  expect(others).toEqual([]);
  const end = records[0]?.notAfter.toISOString();
  expect(entry?.entry).toMatchObject({
    actor: { kind: "Controller", name: "housekeeping" },
    subject: { kind: "Authority", id: root.id, name: "root" },
    details: { certificates: 2, endedFrom: end, endedUntil: end },
  });
  expect(await purge()).toBe(0);
});

test("no more go at once than asked, and those of several CAs each have their row", async () => {
  const other = await pki.root("other");
  for (const authority of [root, other, root]) await pki.issue(authority, `${Math.random()}`);
  pass(KEPT + DAY_MS);
  expect([await purge(2), await purge(2), await purge(2)]).toEqual([2, 1, 0]);
  const rows = pki.database.audit.filter(({ entry }) => entry.action === "CertificatesPurged");
  expect(rows.map(({ entry }) => entry.details.certificates).reduce((sum, each) => Number(sum) + Number(each))).toBe(3);
  expect(new Set(rows.map(({ entry }) => entry.subject.id))).toEqual(new Set([root.id, other.id]));
});

test("a revoked one is on a CRL after its end before it goes, however long that takes", async () => {
  const record = await pki.issue(root, "uid");
  await pki.authorities.revoke(pki.writer, record, { reason: "keyCompromise" }, actor);
  await publish();
  pass(KEPT + DAY_MS);
  expect(await purge()).toBe(0);
  await publish();
  const crl = await pki.store.crl({ authorityId: root.id, generation: 1, partition: 0 });
  expect(crl?.der.includes(Buffer.from(record.serialNumber, "hex"))).toBe(true);
  expect(await purge()).toBe(1);
  expect(await standing(record)).toBe(false);
});

test("what was revoked or on hold has a row of its own in the audit record, and is not missed afterwards", async () => {
  const [final, released] = [await pki.issue(root, "final"), await pki.issue(root, "released")];
  await pki.authorities.revoke(pki.writer, final, { reason: "keyCompromise" }, actor);
  await pki.authorities.revoke(pki.writer, released, { reason: "certificateHold" }, actor);
  await pki.authorities.release(pki.writer, released, actor);
  pass(KEPT + DAY_MS);
  await publish();
  expect(await purge()).toBe(2);
  const rows = pki.database.audit.filter(({ entry: { action } }) => action === "CertificatePurged");
  expect(rows.map(({ entry: { subject } }) => subject.generation).sort()).toEqual([1n, 2n]);
  for (const { entry } of rows) {
    expect(entry.details).toEqual({ authority: root.id, notAfter: final.notAfter.toISOString() });
  }
  const { store, authorities } = pki;
  await new CrlPublication({ store, authorities, now: () => pki.now }).judge();
  pki.passes(2 * DAY_MS);
  // The CRL in force lists one that has no row any more.
  await publish();
  expect(await store.crl({ authorityId: root.id, generation: 1, partition: 0 })).toMatchObject({ number: 2n });
});

test("however short the installation's time, one stays for as long as responders speak of it", async () => {
  const record = await pki.issue(root, "uid");
  pass(DAY_MS);
  expect(await purge(100, 1)).toBe(0);
  expect(await standing(record)).toBe(true);
  pki.passes(DAY_MS);
  expect(await purge(100, 1)).toBe(1);
});

test("CRL partitions go on where they were", async () => {
  await pki.issue(root, "uid");
  const before = await pki.store.countCertificates(root.id, 1);
  pass(KEPT);
  expect(await purge()).toBe(1);
  expect(await pki.store.countCertificates(root.id, 1)).toBe(before);
});

test("a CA goes on when the row of its own certificate is gone", async () => {
  const below = await pki.root("below", {
    parent: { kind: "Authority", authority: root },
    pathLength: 0,
    durationMs: 10 * DAY_MS,
  });
  const { length } = below.generations[0]?.chain ?? [];
  pki.passes(KEPT + 11 * DAY_MS);
  expect(await purge()).toBe(1);
  const again = await pki.authorities.describe(below.identity);
  expect(again?.generations[0]?.chain).toHaveLength(Number(length));
});
