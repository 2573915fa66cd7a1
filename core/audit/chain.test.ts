import { createSecretKey, randomBytes, randomUUID } from "node:crypto";
import fc from "fast-check";
import type { AuditEntry } from "../ports/audit-log.ts";
import { auditEntry } from "../ports/samples.ts";
import { ChainVerification, GENESIS, headMac, type LinkedRow, linkOf } from "./chain.ts";
import { rowMac, rowMacHolds } from "./row.ts";
import { AuditSigner } from "./signer.ts";

const key = createSecretKey(randomBytes(32));

function chain(length: number): { rows: LinkedRow[]; head: { position: bigint; link: Buffer; mac: Buffer } } {
  const signer = new AuditSigner();
  signer.useKey(key);
  const rows: LinkedRow[] = [];
  let link = GENESIS;
  for (let position = 1n; position <= BigInt(length); position += 1n) {
    const row = signer.sign(auditEntry(randomUUID(), position));
    link = linkOf(link, position, row.mac);
    rows.push({ ...row, sequence: position * 10n, position, link });
  }
  const position = BigInt(length);
  return { rows, head: { position, link, mac: headMac(key, position, link) } };
}

function verify(rows: readonly LinkedRow[], head: ReturnType<typeof chain>["head"]) {
  const verification = new ChainVerification(key);
  for (const row of rows) verification.linked(row);
  return verification.finish(head);
}

test("a whole chain verifies, also an empty one", () => {
  for (const length of [0, 1, 20]) {
    const { rows, head } = chain(length);
    expect(verify(rows, head)).toEqual({ ok: true, linked: length, unlinked: 0, head: head.link.toString("hex") });
  }
});

test("no row can be left out, doubled, exchanged or moved", () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 12 }), fc.nat(), fc.nat(), (length, i, j) => {
      const { rows, head } = chain(length);
      const [a, b] = [i % length, j % length];
      const without = rows.filter((_, index) => index !== a);
      const [first, second] = [rows[a], rows[b]];
      if (first === undefined || second === undefined) throw new Error("expected rows");
      expect(verify(without, head).ok).toBe(false);
      expect(verify([...rows.slice(0, a), first, ...rows.slice(a)], head).ok).toBe(false);
      if (a !== b) {
        expect(verify(rows.with(a, second).with(b, first), head).ok).toBe(false);
        // The contents exchanged, the places kept.
        const moved = { ...second, position: first.position, link: first.link };
        expect(verify(rows.with(a, moved), head).ok).toBe(false);
      }
    }),
  );
});

test("the first bad row is named", () => {
  const { rows, head } = chain(5);
  const [one, two, , four] = rows;
  if (one === undefined || two === undefined || four === undefined) throw new Error("expected rows");
  const changed = { ...four, entry: { ...four.entry, outcome: "Denied" as const } };
  expect(verify(rows.with(3, changed), head)).toEqual({ ok: false, row: 40n, fault: "macDiffers" });
  expect(verify([one, ...rows.slice(2)], head)).toEqual({ ok: false, row: 30n, fault: "rowMissing" });
  expect(verify(rows.slice(0, 4), head)).toMatchObject({ ok: false, fault: "rowMissing" });
  expect(verify([two, ...rows.slice(1)], head)).toMatchObject({ ok: false, fault: "rowMissing" });
});

test("every part of a row is under its MAC", () => {
  const entry = auditEntry("id", 3n);
  const row = { writerId: "w", counter: 1n, at: new Date(0), entry };
  const variants: Omit<typeof row, never>[] = [
    { ...row, writerId: "x" },
    { ...row, counter: 2n },
    { ...row, at: new Date(1) },
  ];
  const entries: AuditEntry[] = [
    { ...entry, action: "SecretPurged" },
    { ...entry, outcome: "Failure" },
    { ...entry, actor: { kind: "Controller", name: "c" } },
    { ...entry, actor: { ...entry.actor, kind: "Object", resource: "r", uid: "u", generation: 1 } },
    { ...entry, actor: { kind: "Subject", subject: "s", via: "v", session: "i" } },
    { ...entry, actor: { kind: "Subject", subject: "s", via: "v", session: "i", address: "a" } },
    { ...entry, subject: { ...entry.subject, id: "other" } },
    { ...entry, subject: { ...entry.subject, kind: "Key" } },
    { ...entry, subject: { ...entry.subject, name: "other" } },
    { ...entry, subject: { ...entry.subject, generation: 4n } },
    { ...entry, subject: { kind: "Secret", id: "id", name: entry.subject.name } },
    { ...entry, details: { ...entry.details, number: "1.5" } },
    { ...entry, details: { ...entry.details, flag: false } },
    { ...entry, details: { ...entry.details, more: 1 } },
    { ...entry, details: {} },
  ];
  const macs = [row, ...variants, ...entries.map((other) => ({ ...row, entry: other }))].map((each) =>
    rowMac(key, each).toString("hex"),
  );
  expect(new Set(macs).size).toBe(macs.length);
});

test("the order in which a store hands back details does not matter", () => {
  const row = { writerId: "w", counter: 1n, at: new Date(0), entry: auditEntry("id") };
  const reversed = Object.fromEntries(Object.entries(row.entry.details).reverse());
  const mac = rowMac(key, row);
  expect(rowMacHolds(key, { ...row, entry: { ...row.entry, details: reversed }, mac })).toBe(true);
  expect(rowMacHolds(key, { ...row, mac: mac.subarray(1) })).toBe(false);
});

test("rows are numbered without repetition, and not signed before there is a key", () => {
  const signer = new AuditSigner();
  expect(() => signer.sign(auditEntry("id"))).toThrow(expect.objectContaining({ code: "KeyUnavailable" }));
  signer.useKey(key);
  expect([1, 2, 3].map(() => signer.sign(auditEntry("id")).counter)).toEqual([1n, 2n, 3n]);
  expect(new AuditSigner().writerId).not.toBe(signer.writerId);
});
