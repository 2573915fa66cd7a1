import { ChainVerification, GENESIS, headMac, headMacHolds, linkOf } from "../../core/audit/chain.ts";
import type { AuditSigner } from "../../core/audit/signer.ts";
import { Unavailable } from "../../core/errors.ts";
import type { AuditEntry, AuditLog, AuditVerdict } from "../../core/ports/audit-log.ts";
import { auditParameter, auditRow, type StoredAuditRow } from "./audit-rows.ts";
import type { Database } from "./database.ts";
import { mapError, mapWriteError } from "./errors.ts";

const INSERT = { name: "insert_audit", text: "SELECT insert_audit($1)" };
const LARGEST_BATCH = 1_000;
const PAGE = 2_000;
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

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  /** Entries that arrive while a batch is on its way go together in the next one: one commit for many reads. */
  append(entries: readonly AuditEntry[]): Promise<void> {
    if (entries.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ entries, resolve, reject });
      if (!this.#flushing) void this.#flush();
    });
  }

  async #flush(): Promise<void> {
    this.#flushing = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.splice(0, LARGEST_BATCH);
      try {
        const entries = batch.flatMap((waiter) => waiter.entries);
        await this.#database.query(INSERT, [auditParameter(this.#signer, entries)]);
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
    try {
      return await this.#database.transaction(async (client) => {
        await client.query("SELECT fence($1)", [epoch]);
        // Two linkers must not build on the same link, and before the first one there is no row to lock.
        await client.query("SELECT pg_advisory_xact_lock($1)", [LINKING_LOCK]);
        const { rows: heads } = await client.query<HeadRow>("SELECT position, link, mac FROM audit_head");
        const head = this.#judgeHead(heads[0]);
        const { rows } = await client.query<{ sequence: string; mac: Buffer }>(
          "SELECT sequence, mac FROM audit WHERE position IS NULL ORDER BY sequence LIMIT $1",
          [limit],
        );
        if (rows.length === 0) return 0;
        let { position, link } = head;
        const positions: string[] = [];
        const links: Buffer[] = [];
        for (const { mac } of rows) {
          position += 1n;
          link = linkOf(link, position, mac);
          positions.push(position.toString());
          links.push(link);
        }
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
        return rows.length;
      });
    } catch (error) {
      throw error instanceof Unavailable ? error : mapWriteError(error, epoch);
    }
  }

  async verify(): Promise<AuditVerdict> {
    try {
      return await this.#database.transaction(async (client) => {
        await client.query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY");
        // Reading a long record takes longer than a request may.
        await client.query("SET LOCAL statement_timeout = 0");
        const { rows: heads } = await client.query<HeadRow>("SELECT position, link, mac FROM audit_head");
        const verification = new ChainVerification(this.#signer.key);
        await client.query(
          "DECLARE chain NO SCROLL CURSOR FOR SELECT * FROM audit ORDER BY position NULLS LAST, sequence",
        );
        for (;;) {
          const { rows } = await client.query<StoredAuditRow>(`FETCH ${PAGE} FROM chain`);
          for (const row of rows) {
            const sequence = BigInt(row.sequence);
            if (row.position === null || row.link === null) verification.unlinked({ ...auditRow(row), sequence });
            else {
              const position = BigInt(row.position);
              verification.linked({ ...auditRow(row), sequence, position, link: row.link });
            }
          }
          if (rows.length < PAGE || verification.failed) break;
        }
        return verification.finish(parseHead(heads[0]) ?? this.#emptyHead());
      });
    } catch (error) {
      throw mapError(error);
    }
  }

  #judgeHead(row: HeadRow | undefined): { position: bigint; link: Buffer } {
    const head = parseHead(row) ?? this.#emptyHead();
    if (!headMacHolds(this.#signer.key, head)) {
      throw new Unavailable("TamperDetected", "the head of the audit chain does not match its MAC; see the runbook");
    }
    return head;
  }

  #emptyHead() {
    return { position: 0n, link: GENESIS, mac: headMac(this.#signer.key, 0n, GENESIS) };
  }
}

function parseHead(row: HeadRow | undefined) {
  return row === undefined ? undefined : { position: BigInt(row.position), link: row.link, mac: row.mac };
}
