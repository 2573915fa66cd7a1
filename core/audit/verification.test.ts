import { createSecretKey, generateKeyPairSync, randomBytes, randomUUID } from "node:crypto";
import fc from "fast-check";
import type { AuditEntry } from "../ports/audit-log.ts";
import { auditEntry } from "../ports/samples.ts";
import { type ChainHead, GENESIS, headMac, headMacHolds, type LinkedRow, linkOf } from "./chain.ts";
import { type Checkpoint, CheckpointSequence, type SigningKey, signCheckpoint } from "./checkpoint.ts";
import { explainVerdict } from "./faults.ts";
import { nextCheckpoint } from "./next-checkpoint.ts";
import { authenticated, digestHolds, rowHolds } from "./row.ts";
import { AuditSigner } from "./signer.ts";
import { type Anchor, verifyRecord } from "./verification.ts";

const key = createSecretKey(randomBytes(32));
const installationId = "installation";
const signingKey = (version: number): SigningKey => ({
  version,
  createdAt: new Date(0),
  ...generateKeyPairSync("ed25519"),
});
const keys = [signingKey(1), signingKey(2)];

interface Record {
  readonly rows: readonly LinkedRow[];
  readonly head: ChainHead;
  readonly checkpoints: readonly Checkpoint[];
}

/** Rows of two writers, with a checkpoint after each `every` of them. */
async function chain(length: number, every = 4): Promise<Record> {
  const signing = keys.slice(0, 1);
  const signers = [new AuditSigner(), new AuditSigner()];
  for (const signer of signers) signer.useKeys(key, { installationId, auditSigning: async () => signing });
  const rows: LinkedRow[] = [];
  const checkpoints: Checkpoint[] = [];
  let link = GENESIS;
  for (let position = 1n; position <= BigInt(length); position += 1n) {
    const row = signers[Number(position % 3n) % 2]?.sign(auditEntry(randomUUID(), position));
    if (row === undefined) throw new Error("expected a row");
    link = linkOf(link, position, row);
    rows.push({ ...row, sequence: position * 10n, position, link });
    if (position % BigInt(every) === 0n) checkpoints.push(await checkpointOver(rows, checkpoints.at(-1)));
  }
  const position = BigInt(length);
  return { rows, checkpoints, head: { position, link, mac: headMac(key, position, link) } };
}

async function checkpointOver(
  rows: readonly LinkedRow[],
  last: Checkpoint | undefined,
  signing = keys.slice(0, 1),
): Promise<Checkpoint> {
  const head = rows.at(-1);
  if (head === undefined) throw new Error("expected rows");
  const since = Map.groupBy(
    rows.filter(({ position }) => position > (last?.position ?? 0n)),
    ({ writerId }) => writerId,
  );
  const writers = [...since].map(([writerId, of]) => ({
    writerId,
    counter: of.at(-1)?.counter ?? 0n,
    rows: of.length,
  }));
  const linkAtLast = rows.find(({ position }) => position === last?.position)?.link;
  const standing = { installationId, keys: signing, head, last, linkAtLast, epoch: 1n, at: new Date(0), server: "s" };
  const made = await nextCheckpoint(standing, { rows: 1, ms: 0 }, async () => writers);
  if (made === undefined) throw new Error("expected a checkpoint to be due");
  return made;
}

async function* pages<T>(all: readonly T[]): AsyncGenerator<readonly T[]> {
  for (let from = 0; from < all.length; from += 3) yield all.slice(from, from + 3);
}

const publicKeys = new Map(keys.map(({ version, publicKey }) => [version, publicKey]));

const verify = ({ rows, head, checkpoints }: Record, anchors: readonly Anchor[] = []) =>
  verifyRecord(
    { head, rows: pages(rows), checkpoints: pages(checkpoints) },
    {
      rowHolds: (row) => rowHolds(key, row),
      headHolds: (each) => headMacHolds(key, each),
      checkpoints: new CheckpointSequence(installationId, publicKeys),
      anchors,
    },
  );

test("a whole chain verifies, also an empty one", async () => {
  for (const length of [0, 1, 20]) {
    const record = await chain(length);
    expect(await verify(record)).toEqual({
      ok: true,
      linked: length,
      unlinked: 0,
      head: record.head.link.toString("hex"),
      checkpoints: Math.floor(length / 4),
      signedTo: length - (length % 4),
      anchoredTo: 0,
      missingNumbers: 0,
    });
  }
});

test("no row can be left out, doubled, exchanged or moved", async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 2, max: 12 }), fc.nat(), fc.nat(), async (length, i, j) => {
      const record = await chain(length);
      const { rows } = record;
      const failsWith = async (changed: readonly LinkedRow[]) =>
        expect((await verify({ ...record, rows: changed })).ok).toBe(false);
      const [a, b] = [i % length, j % length];
      const [first, second] = [rows[a], rows[b]];
      if (first === undefined || second === undefined) throw new Error("expected rows");
      await failsWith(rows.filter((_, index) => index !== a));
      await failsWith([...rows.slice(0, a), first, ...rows.slice(a)]);
      if (a !== b) {
        await failsWith(rows.with(a, second).with(b, first));
        // The contents exchanged, the places kept.
        await failsWith(rows.with(a, { ...second, position: first.position, link: first.link }));
      }
    }),
  );
});

test("the first bad row is named", async () => {
  const record = await chain(5);
  const { rows } = record;
  const [one, two, , four] = rows;
  if (one === undefined || two === undefined || four === undefined) throw new Error("expected rows");
  const changed = { ...four, entry: { ...four.entry, outcome: "Denied" as const } };
  const of = (rows: readonly LinkedRow[]) => verify({ ...record, rows });
  expect(await of(rows.with(3, changed))).toEqual({ ok: false, row: 40n, fault: "macDiffers" });
  expect(await of(rows.with(3, { ...four, digest: randomBytes(32) }))).toMatchObject({ row: 40n, fault: "macDiffers" });
  expect(await of(rows.with(3, { ...four, digest: undefined }))).toMatchObject({ row: 40n, fault: "chainBroken" });
  expect(await of([one, ...rows.slice(2)])).toEqual({ ok: false, row: 30n, fault: "rowMissing" });
  expect(await of(rows.slice(0, 4))).toMatchObject({ ok: false, row: 5n, fault: "rowMissing" });
  expect(await of([two, ...rows.slice(1)])).toMatchObject({ ok: false, fault: "rowMissing" });
});

describe("checkpoints", () => {
  let record: Record;
  beforeEach(async () => {
    record = await chain(14);
  });
  const headAt = (position: number): ChainHead => {
    const row = record.rows[position - 1];
    if (row === undefined) throw new Error("expected a row");
    return { position: row.position, link: row.link, mac: headMac(key, row.position, row.link) };
  };

  test("show that the end was cut off, with an older head put back", async () => {
    const cut = { ...record, rows: record.rows.slice(0, 10), head: headAt(10) };
    expect(await verify(cut)).toEqual({ ok: false, row: 11n, fault: "rowMissing", checkpoint: 3n });
    expect(await verify({ ...record, head: headAt(9) })).toEqual({ ok: false, row: 9n, fault: "headOlder" });
    expect(await verify({ ...record, head: { ...record.head, mac: randomBytes(32) } })).toMatchObject({
      fault: "headForged",
      row: 14n,
    });
    expect(await verify({ ...(await chain(0)), checkpoints: record.checkpoints })).toMatchObject({
      fault: "rowMissing",
      row: 1n,
    });
  });

  test("cannot be left out, doubled, replaced or signed anew", async () => {
    const [one, two, three] = record.checkpoints;
    if (one === undefined || two === undefined || three === undefined) throw new Error("expected checkpoints");
    const of = (checkpoints: readonly Checkpoint[]) => verify({ ...record, checkpoints });
    expect(await of([one, three])).toMatchObject({ fault: "checkpointMissing", checkpoint: 3n });
    expect(await of([two, three])).toMatchObject({ fault: "checkpointMissing", checkpoint: 2n });
    expect(await of([one, one, two, three])).toMatchObject({ fault: "checkpointMissing", checkpoint: 1n });
    const forged = { ...two, epoch: 7n };
    expect(await of([one, forged, three])).toMatchObject({ fault: "checkpointForged", checkpoint: 2n });
    const foreign = signCheckpoint(installationId, two, signingKey(1));
    expect(await of([one, foreign, three])).toMatchObject({ fault: "checkpointForged", checkpoint: 2n });
    const elsewhere = signCheckpoint("elsewhere", two, keys[0] as SigningKey);
    expect(await of([one, elsewhere, three])).toMatchObject({ fault: "checkpointForged", checkpoint: 2n });
    // Signed with the right key by somebody who has it, but over other rows.
    const again = (change: Partial<Checkpoint>) =>
      signCheckpoint(installationId, { ...three, ...change }, keys[0] as SigningKey);
    expect(await of([one, two, again({ link: randomBytes(32) })])).toMatchObject({ fault: "checkpointDiffers" });
    expect(await of([one, two, again({ writers: three.writers.slice(1) })])).toEqual({
      ok: false,
      row: 12n,
      fault: "countersDiffer",
      checkpoint: 3n,
    });
  });

  test("go over to another key only where the one before hands over", async () => {
    const rotated = await checkpointOver(record.rows, record.checkpoints.at(-1), keys);
    expect(rotated).toMatchObject({ keyVersion: 1, handover: { keyVersion: 2 } });
    const more = (await chain(1)).rows[0] as LinkedRow;
    const rows = [...record.rows, { ...more, position: 15n, link: linkOf(record.head.link, 15n, more) }];
    const signedByNew = await checkpointOver(rows, rotated, keys);
    expect(signedByNew).toMatchObject({ keyVersion: 2, number: 5n });
    const all = [...record.checkpoints, rotated, signedByNew];
    const { position, link } = rows.at(-1) as LinkedRow;
    const whole = { rows, checkpoints: all, head: { position, link, mac: headMac(key, position, link) } };
    expect(await verify(whole)).toMatchObject({ ok: true, checkpoints: 5 });
    const unannounced = signCheckpoint(installationId, { ...rotated, keyVersion: 2 }, keys[1] as SigningKey);
    expect(await verify({ ...record, checkpoints: [...record.checkpoints, unannounced] })).toMatchObject({
      fault: "checkpointForged",
      checkpoint: 4n,
    });
  });

  test("are not made on top of one that does not hold", async () => {
    const last = record.checkpoints.at(-1);
    if (last === undefined) throw new Error("expected a checkpoint");
    const tampered = { code: "TamperDetected" };
    await expect(checkpointOver(record.rows, { ...last, epoch: 9n })).rejects.toMatchObject(tampered);
    await expect(checkpointOver(record.rows.slice(0, 8), last)).rejects.toMatchObject(tampered);
    const replaced = record.rows.with(11, { ...(record.rows[11] as LinkedRow), link: randomBytes(32) });
    await expect(checkpointOver(replaced, last)).rejects.toMatchObject(tampered);
  });
});

test("only an anchor from outside excludes that the end was cut off with its checkpoints", async () => {
  const whole = await chain(14);
  const row = whole.rows[13] as LinkedRow;
  const anchor = { position: row.position, link: row.link, external: true };
  expect(await verify(whole, [anchor])).toMatchObject({ ok: true, anchoredTo: 14 });
  const last = whole.rows[9] as LinkedRow;
  const head = { position: 10n, link: last.link, mac: headMac(key, 10n, last.link) };
  const cut = { rows: whole.rows.slice(0, 10), checkpoints: whole.checkpoints.slice(0, 2), head };
  const verdict = await verify(cut);
  expect(verdict).toMatchObject({ ok: true, anchoredTo: 0 });
  expect(explainVerdict(verdict).join()).toMatch(/no external anchor was given.*cannot be excluded/);
  const missed = await verify(cut, [anchor]);
  expect(missed).toEqual({ ok: false, row: 11n, fault: "anchorMissed" });
  expect(explainVerdict(missed).join()).toMatch(/audit row 11: .*not what stands in the chain.*restore a backup/);
  expect(await verify(whole, [{ ...anchor, link: randomBytes(32) }])).toMatchObject({
    fault: "anchorMissed",
    row: 140n,
  });
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
    { ...entry, actor: { kind: "Subject", subject: "s", via: "Token", session: "t" } },
    { ...entry, actor: { kind: "Subject", subject: "s", via: "Token", session: "t", address: "::1" } },
    { ...entry, actor: { ...entry.actor, kind: "Object", resource: "r", uid: "u", generation: 1 } },
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
  const all = [row, ...variants, ...entries.map((other) => ({ ...row, entry: other }))].map((each) =>
    authenticated(key, each),
  );
  expect(new Set(all.map(({ mac }) => mac.toString("hex"))).size).toBe(all.length);
  expect(new Set(all.map(({ digest }) => digest?.toString("hex"))).size).toBe(all.length);
});

test("the order in which a store hands back details does not matter", () => {
  const row = { writerId: "w", counter: 1n, at: new Date(0), entry: auditEntry("id") };
  const reversed = Object.fromEntries(Object.entries(row.entry.details).reverse());
  const { mac, digest } = authenticated(key, row);
  const stored = { ...row, entry: { ...row.entry, details: reversed }, mac, digest };
  expect([rowHolds(key, stored), digestHolds(stored)]).toEqual([true, true]);
  expect(rowHolds(key, { ...stored, mac: mac.subarray(1) })).toBe(false);
  expect(rowHolds(key, { ...stored, entry: { ...stored.entry, actor: null as never } })).toBe(false);
});

test("rows are numbered without repetition, and not signed before there is a key", () => {
  const signer = new AuditSigner();
  expect(() => signer.sign(auditEntry("id"))).toThrow(expect.objectContaining({ code: "KeyUnavailable" }));
  signer.useKeys(key, { installationId, auditSigning: async () => keys });
  expect([1, 2, 3].map(() => signer.sign(auditEntry("id")).counter)).toEqual([1n, 2n, 3n]);
  expect(new AuditSigner().writerId).not.toBe(signer.writerId);
});
