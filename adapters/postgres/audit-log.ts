import type pg from "pg";
import {
  type ChainHead,
  type ChainPosition,
  GENESIS,
  headMac,
  headMacHolds,
  isLinked,
  type LinkedRow,
  linkOf,
  type RecordedRow,
} from "../../core/audit/chain.ts";
import { type Checkpoint, CheckpointSequence, type WriterCount } from "../../core/audit/checkpoint.ts";
import { type Cut, cutEntry, cutHolds } from "../../core/audit/cut.ts";
import { isForked, nextCheckpoint, type Standing } from "../../core/audit/next-checkpoint.ts";
import { nextCut } from "../../core/audit/next-cut.ts";
import { rowHolds } from "../../core/audit/row.ts";
import type { AuditSigner } from "../../core/audit/signer.ts";
import { type Anchor, type RecordPages, verifyRecord } from "../../core/audit/verification.ts";
import { SafeError, Unavailable } from "../../core/errors.ts";
import type {
  AuditEntry,
  AuditFilter,
  AuditLog,
  AuditVerdict,
  CheckpointDue,
  VerifyOptions,
} from "../../core/ports/audit-log.ts";
import { HOME_ID } from "../../core/recovery/home.ts";
import { CHECKPOINT_COLUMNS, type CheckpointRow, checkpoint, insertCheckpoint } from "./audit-checkpoints.ts";
import { CUT, type CutRow, cutOf, readCut, storeCut } from "./audit-cut.ts";
import { auditParameter, ROW_COLUMNS, recordedRow, type StoredRow } from "./audit-rows.ts";
import { type Database, read, type Statement } from "./database.ts";
import { mapError, mapWriteError } from "./errors.ts";

const INSERT = { name: "insert_audit", text: "SELECT insert_audit($1)" };
const LARGEST_BATCH = 1_000;
const PAGE = 2_000;
const CHAIN = {
  name: "audit_chain",
  text: `SELECT ${ROW_COLUMNS} FROM audit
         WHERE position > greatest($1, (SELECT position FROM audit_cut)) ORDER BY position LIMIT $2`,
};
const CHECKPOINTS = {
  name: "audit_checkpoints",
  text: `SELECT ${CHECKPOINT_COLUMNS} FROM audit_checkpoints WHERE number > $1 ORDER BY number LIMIT $2`,
};
const LAST_CHECKPOINT = {
  name: "audit_last_checkpoint",
  text: `SELECT ${CHECKPOINT_COLUMNS} FROM audit_checkpoints WHERE position <= $1
         ORDER BY position DESC, number DESC LIMIT 1`,
};
const HEAD = { name: "audit_head", text: "SELECT position, link, mac FROM audit_head" };
/** Beside the lock of `fence`, which is the number before. */
const LINKING_LOCK = "5641863402551214";

interface HeadRow {
  readonly position: string;
  readonly link: Buffer;
  readonly mac: Buffer;
}

interface Waiter {
  readonly entries: readonly AuditEntry[];
  readonly resolve: () => void;
  readonly reject: (reason: Error) => void;
}

export class PostgresAuditLog implements AuditLog {
  readonly #database: Database;
  readonly #signer: AuditSigner;
  #waiting: Waiter[] = [];
  #flushing = false;
  /** Where this process left the chain, and on which server: an older state that is put back does not go unnoticed. */
  #left: (ChainPosition & { readonly server: string }) | undefined;

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  /** Entries that arrive while a batch is on its way go together in the next one: one commit for many reads. */
  append(entries: readonly AuditEntry[]): Promise<void> {
    if (entries.length === 0) return Promise.resolve();
    // One whose attempt is over must not take others with it.
    if (entries.some(({ actor }) => actor.kind === "Subject" && actor.attempt !== undefined)) {
      return this.#insert(entries).catch((error: unknown) => Promise.reject(mapError(error)));
    }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ entries, resolve, reject });
      if (!this.#flushing) void this.#flush();
    });
  }

  async #insert(entries: readonly AuditEntry[]): Promise<void> {
    await this.#database.query(INSERT, [auditParameter(this.#signer, entries)]);
  }

  async #flush(): Promise<void> {
    this.#flushing = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, LARGEST_BATCH);
      try {
        const entries = batch.flatMap((waiter) => waiter.entries);
        await this.#insert(entries);
        for (const { resolve } of batch) resolve();
      } catch (error) {
        const failure = mapError(error);
        // Behind a database that does not answer, each further batch would wait for its own time-out.
        const hopeless = failure.code === "DatabaseUnavailable" ? this.#waiting.splice(0) : [];
        for (const { reject } of [...batch, ...hopeless]) reject(failure);
      }
    }
    this.#flushing = false;
  }

  /**
   * The order of the chain is the order in which rows became visible, so no row can be passed over: one that commits
   * late is simply linked later.
   */
  async link(epoch: bigint, limit: number): Promise<number> {
    const { left, linked } = await this.#asLinker(epoch, async (client) => {
      const { head, server } = await this.#end(client);
      const { rows } = await client.query<{ sequence: string; mac: Buffer; digest: Buffer | null }>(
        "SELECT sequence, mac, digest FROM audit WHERE position IS NULL ORDER BY sequence LIMIT $1",
        [limit],
      );
      let { position, link } = head;
      const positions: string[] = [];
      const links: Buffer[] = [];
      for (const { mac, digest } of rows) {
        position += 1n;
        link = linkOf(link, position, { mac, digest: digest ?? undefined });
        positions.push(position.toString());
        links.push(link);
      }
      const left = { position, link, server };
      if (rows.length === 0) return { left, linked: 0 };
      await client.query(
        `UPDATE audit SET position = l.position, link = l.link
         FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS l (sequence, position, link)
         WHERE audit.sequence = l.sequence`,
        [rows.map(({ sequence }) => sequence), positions, links],
      );
      await client.query(
        `INSERT INTO audit_head (position, link, mac) VALUES ($1, $2, $3)
         ON CONFLICT (singleton) DO UPDATE SET position = $1, link = $2, mac = $3`,
        [position.toString(), link, headMac(this.#signer.key, position, link)],
      );
      return { left, linked: rows.length };
    });
    // Not before it is committed.
    this.#left = left;
    return linked;
  }

  async checkpoint(epoch: bigint, due: CheckpointDue): Promise<Checkpoint | undefined> {
    const { signingKeys } = this.#signer;
    const keys = await signingKeys.auditSigning({ epoch });
    return this.#asLinker(epoch, async (client) => {
      const { installationId } = signingKeys;
      const { head, server } = await this.#end(client);
      const last = await lastCheckpoint(client);
      const linkAtLast = last && (await linkAt(client, last.position));
      const standing: Standing = { installationId, keys, head, last, linkAtLast, epoch, at: new Date(), server };
      const made = await nextCheckpoint(standing, due, () => writersSince(client, last?.position ?? 0n));
      if (made === undefined) return undefined;
      await insertCheckpoint(client, made);
      if (last !== undefined && isForked(standing) && !(await isOnRecord(client, last))) {
        await client.query("SELECT insert_audit($1)", [auditParameter(this.#signer, [forked(last, made)])]);
      }
      return made;
    });
  }

  async cut(epoch: bigint, before: Date): Promise<Cut | undefined> {
    const { key, signingKeys } = this.#signer;
    const keys = await signingKeys.auditSigning({ epoch });
    return this.#asLinker(epoch, async (client) => {
      const last = await readCut(client);
      const made = await nextCut({
        installationId: signingKeys.installationId,
        keys,
        rowHolds: (row) => rowHolds(key, row),
        last,
        checkpoints: await cuttable(client, last, before),
        rows: (upTo) => rowsBetween(client, last?.position ?? 0n, upTo),
        at: new Date(),
      });
      if (made === undefined) return undefined;
      const removed = await storeCut(client, made);
      await client.query("SELECT insert_audit($1)", [auditParameter(this.#signer, [cutEntry(made, removed)])]);
      return made;
    });
  }

  async verify({ anchors = [], onProgress }: VerifyOptions = {}): Promise<AuditVerdict> {
    const { key, signingKeys } = this.#signer;
    return this.#snapshot(async (client) => {
      const { rows: heads } = await client.query<HeadRow>(HEAD.text);
      const head = parseHead(heads[0]) ?? this.#emptyHead();
      // After the snapshot was taken: a key that signed what is seen is among them.
      const keys = await signingKeys.auditSigning();
      const publicKeys = new Map(keys.map(({ version, publicKey }) => [version, publicKey]));
      const cut = await readCut(client);
      return verifyRecord(
        { head, cut, ...recordPages(client) },
        {
          rowHolds: (row) => rowHolds(key, row),
          headHolds: (each) => headMacHolds(key, each),
          cutHolds: (each) => cutHolds(signingKeys.installationId, each, publicKeys.get(each.keyVersion)),
          checkpoints: new CheckpointSequence(signingKeys.installationId, publicKeys),
          anchors: [...(await taken(client)), ...anchors.map((anchor) => ({ ...anchor, external: true }))].sort(
            (a, b) => Number(a.position - b.position),
          ),
        },
        onProgress && ((rows) => onProgress(rows, Number(head.position))),
      );
    });
  }

  async read(filter: AuditFilter, after: bigint | undefined, limit: number): Promise<readonly RecordedRow[]> {
    const { text, values } = readStatement(filter, after, limit);
    return (await this.#rows({ name: "audit_read", text }, values)).map(recordedRow);
  }

  async head(): Promise<ChainHead> {
    const [row] = await read<HeadRow>(this.#database, HEAD, []);
    return this.#judgeHead(row);
  }

  async chain(after: bigint, limit: number): Promise<readonly LinkedRow[]> {
    return (await this.#rows(CHAIN, [after.toString(), limit])).map(recordedRow).filter(isLinked);
  }

  async checkpoints(after: bigint, limit: number): Promise<readonly Checkpoint[]> {
    const rows = await read<CheckpointRow>(this.#database, CHECKPOINTS, [after.toString(), limit]);
    return rows.map(checkpoint);
  }

  async lastCheckpoint(upTo: bigint): Promise<Checkpoint | undefined> {
    const [row] = await read<CheckpointRow>(this.#database, LAST_CHECKPOINT, [upTo.toString()]);
    return row && checkpoint(row);
  }

  async lastCut(): Promise<Cut | undefined> {
    const [row] = await read<CutRow>(this.#database, CUT, []);
    return row && cutOf(row);
  }

  async #rows(statement: Statement, values: readonly unknown[]): Promise<readonly StoredRow[]> {
    try {
      return await this.#database.arrays<StoredRow>(statement, values);
    } catch (error) {
      throw mapError(error);
    }
  }

  /** One linker at a time, and only the leader's: two must not build on the same link. */
  async #asLinker<T>(epoch: bigint, work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    try {
      return await this.#database.transaction(async (client) => {
        await client.query("SELECT fence($1)", [epoch]);
        await client.query("SELECT pg_advisory_xact_lock($1)", [LINKING_LOCK]);
        return await work(client);
      });
    } catch (error) {
      throw error instanceof SafeError ? error : mapWriteError(error, epoch);
    }
  }

  /** A state in which nothing changes while it is read. */
  async #snapshot<T>(work: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    try {
      return await this.#database.transaction(async (client) => {
        await client.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY");
        // Reading a long record takes longer than a request may.
        await client.query("SET LOCAL statement_timeout = 0");
        return await work(client);
      });
    } catch (error) {
      throw error instanceof SafeError ? error : mapError(error);
    }
  }

  /** Where the chain ends. Throws when it is not where this process left it although the server is the same. */
  async #end(client: pg.ClientBase): Promise<{ readonly head: ChainPosition; readonly server: string }> {
    const { rows: heads } = await client.query<HeadRow>(HEAD.text);
    const head = this.#judgeHead(heads[0]);
    const { rows } = await client.query<{ server: string }>("SELECT audit_server() AS server");
    const server = rows[0]?.server ?? "";
    const left = this.#left;
    if (left !== undefined && left.server === server && left.position > 0n) {
      const link = await linkAt(client, left.position);
      // It may have been removed since, when another one led meanwhile.
      const gone = link === undefined && left.position <= ((await readCut(client))?.position ?? 0n);
      if (head.position < left.position || !(gone || link?.equals(left.link))) {
        throw new Unavailable(
          "TamperDetected",
          `the audit record does not reach row ${left.position} as it was linked before; see the runbook`,
        );
      }
    }
    return { head, server };
  }

  #judgeHead(row: HeadRow | undefined): ChainHead {
    const head = parseHead(row) ?? this.#emptyHead();
    if (!headMacHolds(this.#signer.key, head)) {
      throw new Unavailable("TamperDetected", "the head of the audit chain does not match its MAC; see the runbook");
    }
    return head;
  }

  #emptyHead(): ChainHead {
    return { position: 0n, link: GENESIS, mac: headMac(this.#signer.key, 0n, GENESIS) };
  }
}

const parseHead = (row: HeadRow | undefined): ChainHead | undefined =>
  row && { position: BigInt(row.position), link: row.link, mac: row.mac };

/** Everything that is verified, page by page; PostgreSQL prepares the next one while a page is looked at. */
function recordPages(client: pg.ClientBase): Pick<RecordPages, "rows" | "checkpoints"> {
  let busy: Promise<unknown> = Promise.resolve();
  // One statement at a time on one connection.
  const ask = <Row extends unknown[] | object>(text: string, rowMode?: "array"): Promise<Row[]> => {
    const asked = busy.then(() =>
      client.query<unknown[]>({ text, ...(rowMode && { rowMode }) } as pg.QueryArrayConfig),
    );
    busy = asked.catch(() => {});
    return asked.then(({ rows }) => rows as Row[]);
  };
  async function* fetched<Row extends unknown[] | object>(name: string, select: string, rowMode?: "array") {
    await ask(`DECLARE ${name} NO SCROLL CURSOR FOR SELECT ${select}`);
    const fetch = () => ask<Row>(`FETCH ${PAGE} FROM ${name}`, rowMode);
    try {
      for (let next: Promise<Row[]> | undefined = fetch(); next !== undefined; ) {
        const page: Row[] = await next;
        next = page.length === PAGE ? fetch() : undefined;
        next?.catch(() => {});
        yield page;
      }
    } finally {
      await busy;
    }
  }
  async function* rows(): AsyncGenerator<readonly RecordedRow[]> {
    const linked = `${ROW_COLUMNS} FROM audit WHERE position IS NOT NULL ORDER BY position, sequence`;
    for await (const page of fetched<StoredRow & unknown[]>("linked", linked, "array")) yield page.map(recordedRow);
    const unlinked = `${ROW_COLUMNS} FROM audit WHERE position IS NULL ORDER BY sequence`;
    for await (const page of fetched<StoredRow & unknown[]>("unlinked", unlinked, "array")) yield page.map(recordedRow);
  }
  async function* checkpoints(): AsyncGenerator<readonly Checkpoint[]> {
    const all = `${CHECKPOINT_COLUMNS} FROM audit_checkpoints ORDER BY number`;
    for await (const page of fetched<CheckpointRow>("signed", all)) yield page.map(checkpoint);
  }
  return { rows: rows(), checkpoints: checkpoints() };
}

/** What the sinks have: an older state that was put back does not reach so far. */
async function taken(client: pg.ClientBase): Promise<readonly Anchor[]> {
  const { rows } = await client.query<{ position: string; link: Buffer }>(
    "SELECT position, link FROM audit_sinks WHERE position > 0",
  );
  return rows.map(({ position, link }) => ({ position: BigInt(position), link, external: false }));
}

async function lastCheckpoint(client: pg.ClientBase): Promise<Checkpoint | undefined> {
  const { rows } = await client.query<CheckpointRow>(
    `SELECT ${CHECKPOINT_COLUMNS} FROM audit_checkpoints ORDER BY number DESC LIMIT 1`,
  );
  return rows[0] && checkpoint(rows[0]);
}

async function linkAt(client: pg.ClientBase, position: bigint): Promise<Buffer | undefined> {
  const { rows } = await client.query<{ link: Buffer }>("SELECT link FROM audit WHERE position = $1", [
    position.toString(),
  ]);
  return rows[0]?.link;
}

/** The checkpoint of the last cut, and those behind it that are old enough and that every sink has; never the newest. */
async function cuttable(client: pg.ClientBase, last: Cut | undefined, before: Date): Promise<readonly Checkpoint[]> {
  const { rows } = await client.query<CheckpointRow>(
    `SELECT ${CHECKPOINT_COLUMNS} FROM audit_checkpoints
     WHERE number = $1 OR (number > $1 AND at < $2 AND position < (SELECT max(position) FROM audit_checkpoints)
                           AND number <= (SELECT min(checkpoint) FROM audit_sinks))
     ORDER BY number LIMIT 1000`,
    [(last?.checkpoint ?? 0n).toString(), before],
  );
  return rows.map(checkpoint);
}

async function rowsBetween(client: pg.ClientBase, after: bigint, upTo: bigint): Promise<readonly RecordedRow[]> {
  const { rows } = await client.query<StoredRow & unknown[]>({
    text: `SELECT ${ROW_COLUMNS} FROM audit WHERE position > $1 AND position <= $2 ORDER BY position, sequence`,
    values: [after.toString(), upTo.toString()],
    rowMode: "array",
  } as pg.QueryArrayConfig);
  return rows.map((row) => recordedRow(row as StoredRow));
}

async function writersSince(client: pg.ClientBase, position: bigint): Promise<readonly WriterCount[]> {
  const { rows } = await client.query<{ writer: string; counter: string; rows: string }>(
    `SELECT writer_id AS writer, max(counter) AS counter, count(*) AS rows FROM audit WHERE position > $1
     GROUP BY writer_id ORDER BY writer_id`,
    [position.toString()],
  );
  return rows.map((row) => ({ writerId: row.writer, counter: BigInt(row.counter), rows: Number(row.rows) }));
}

/** Whoever has taken a restored database over has said it, with the backup that it came from. */
async function isOnRecord(client: pg.ClientBase, { position }: Checkpoint): Promise<boolean> {
  const { rowCount } = await client.query(
    "SELECT FROM audit WHERE (position > $1 OR position IS NULL) AND action = 'AuditRecordForked' AND subject_id = $2 LIMIT 1",
    [position.toString(), HOME_ID],
  );
  return rowCount !== null && rowCount > 0;
}

const forked = (last: Checkpoint, made: Checkpoint): AuditEntry => ({
  action: "AuditRecordForked",
  actor: { kind: "Controller", name: "linker" },
  subject: { kind: "Installation", id: "audit", name: "audit" },
  outcome: "Success",
  details: { checkpoint: Number(made.number), position: Number(made.position), before: last.server, now: made.server },
});

function readStatement(filter: AuditFilter, after: bigint | undefined, limit: number) {
  const { action, actor, subject = {}, outcome, from, to, order = "OldestFirst", linked = false } = filter;
  const key = linked ? "position" : "sequence";
  const [beyond, direction] = order === "OldestFirst" ? [">", "ASC"] : ["<", "DESC"];
  const tests: readonly (readonly [test: string, value: unknown])[] = [
    ["action =", action],
    ["subject_kind =", subject.kind],
    ["subject_id =", subject.id],
    ["subject_name =", subject.name],
    ["outcome =", outcome],
    ["at >=", from],
    ["at <", to],
    [`${key} ${beyond}`, after?.toString()],
  ];
  const used = tests.filter(([, value]) => value !== undefined);
  const conditions = used.map(([test], index) => `${test} $${index + 1}`);
  const values = used.map(([, value]) => value);
  if (actor !== undefined) {
    values.push(actor);
    conditions.push(`$${values.length} IN (actor->>'subject', actor->>'name', actor->>'uid')`);
  }
  if (linked) conditions.push("position IS NOT NULL");
  values.push(limit);
  const where = conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")}`;
  return {
    text: `SELECT ${ROW_COLUMNS} FROM audit ${where} ORDER BY ${key} ${direction} LIMIT $${values.length}`,
    values,
  };
}
