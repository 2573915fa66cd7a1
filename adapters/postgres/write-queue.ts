import type { AuditSigner } from "../../core/audit/signer.ts";
import type { WriteOutcome } from "../../core/fleet/writes.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import type {
  NewQueuedWrite,
  QueuedWrite,
  QueuedWriteState,
  Settlement,
  WaitingWrite,
  WritePlace,
  WriteQueue,
  WriteQueueLength,
  WriteRecipient,
} from "../../core/ports/write-queue.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read, type Statement } from "./database.ts";
import { mapWriteError } from "./errors.ts";
import type { OutboxHint } from "./outbox-hint.ts";

/** There is a write to be sent, or an answer to one. */
export const WRITES_CHANNEL = "mazevault_writes";

const msSince = (time: string): string =>
  `greatest(0, extract(epoch FROM clock_timestamp() - ${time}) * 1000)::double precision`;
const COLUMNS = `sequence, id, gateway_environment, root_digest, namespace, name, secret_id, project, environment, namespace_uid,
  base_version, follows, subject, via, writer, fingerprint,
  state, outcome, ${msSince("accepted_at")} AS age_ms, ${msSince("settled_at")} AS settled_ms, settled_at IS NULL AS waits`;

const ACCEPT: Statement = {
  name: "accept_write",
  text: `SELECT accept_write($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
         AS accepted`,
};
const FIND: Statement = { name: "queued_write", text: `SELECT ${COLUMNS} FROM queued_writes WHERE id = $1` };
const LIST: Statement = {
  name: "queued_writes",
  text: `SELECT ${COLUMNS} FROM queued_writes
         WHERE ($1::text IS NULL OR writer = $1) AND ($2::text IS NULL OR state = $2) AND ($3::bigint IS NULL OR sequence < $3)
         ORDER BY sequence DESC LIMIT $4`,
};
const LENGTH: Statement = {
  name: "write_queue_length",
  text: `SELECT (count(*) FILTER (WHERE ours))::integer AS waiting, (count(*) FILTER (WHERE NOT ours))::integer AS stranded,
           ${msSince("min(accepted_at) FILTER (WHERE ours)")} AS oldest_ms,
           (SELECT count(*)::integer FROM queued_writes WHERE state = 'Refused') AS refused
         FROM (SELECT accepted_at, $1::text IS NULL OR (gateway_environment = $1 AND root_digest = $2::bytea) AS ours
               FROM queued_writes WHERE state = 'Waiting') AS q`,
};
const WAITING: Statement = {
  name: "waiting_writes",
  text: `SELECT ${COLUMNS}, wrapped_key, key_id, sealed FROM (
           SELECT q.*, sum(octet_length(sealed)) OVER (ORDER BY sequence) AS bytes, row_number() OVER (ORDER BY sequence) AS place
           FROM (
             SELECT * FROM queued_writes
             WHERE gateway_environment = $1 AND root_digest = $2 AND state = 'Waiting'
               AND (namespace, name) NOT IN (SELECT n, m FROM unnest($5::text[], $6::text[]) AS e (n, m))
             ORDER BY sequence LIMIT $3
           ) AS q
         ) AS first WHERE bytes <= $4 OR place = 1 ORDER BY sequence`,
};
const SETTLE: Statement = { name: "settle_writes", text: "SELECT settle_writes($1, $2, $3)" };
const LAST_SETTLED: Statement = {
  name: "last_settled_writes",
  text: `SELECT id FROM queued_writes
         WHERE gateway_environment = $1 AND root_digest = $2 AND state IN ('Applied', 'KeptBeside') AND sealed IS NOT NULL
         ORDER BY settlement DESC LIMIT $3`,
};
const SETTLED: Statement = {
  name: "settled_writes",
  text: `SELECT id, sequence FROM queued_writes
         WHERE gateway_environment = $1 AND root_digest = $2 AND state IN ('Applied', 'KeptBeside') AND sealed IS NOT NULL
           AND sequence > $3
         ORDER BY sequence LIMIT $4`,
};
const REQUEUE: Statement = { name: "requeue_writes", text: "SELECT requeue_writes($1, $2, $3)" };
const CLEAR: Statement = { name: "clear_settled_writes", text: "SELECT clear_settled_writes($1, $2) AS count" };
const FORGET: Statement = { name: "forget_writes", text: "SELECT forget_writes($1, $2, $3) AS count" };

interface Row {
  readonly sequence: string;
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly gateway_environment: string;
  readonly root_digest: Buffer;
  readonly secret_id: string;
  readonly project: string;
  readonly environment: string;
  readonly namespace_uid: string;
  readonly base_version: number;
  readonly follows: string | null;
  readonly subject: string;
  readonly via: string;
  readonly writer: string;
  readonly fingerprint: Buffer;
  readonly state: QueuedWriteState;
  readonly outcome: WriteOutcome | null;
  readonly age_ms: number;
  readonly settled_ms: number;
  readonly waits: boolean;
}

interface WaitingRow extends Row {
  readonly wrapped_key: Buffer;
  readonly key_id: string;
  readonly sealed: Buffer;
}

export class PostgresWriteQueue implements WriteQueue {
  readonly #database: Database;
  readonly #signer: AuditSigner;
  readonly #hint: OutboxHint;

  constructor(database: Database, signer: AuditSigner, hint: OutboxHint) {
    this.#database = database;
    this.#signer = signer;
    this.#hint = hint;
  }

  async accept(
    write: NewQueuedWrite,
    most: number,
    audit: readonly AuditEntry[],
  ): Promise<"Accepted" | "Known" | "Full"> {
    const { id, recipient, place, secret, baseVersion, author, writer, fingerprint, sealed } = write;
    const where = [place.namespace, place.name, secret.id, secret.project, secret.environment, secret.namespaceUid];
    const who = [author.subject, author.via, writer];
    const what = [fingerprint, sealed.wrappedKey, sealed.keyId, sealed.ciphertext];
    const values = [
      id,
      ...recipientParameters(recipient),
      ...where,
      baseVersion,
      ...who,
      ...what,
      most,
      auditParameter(this.#signer, audit),
    ];
    const [row] = await read<{ accepted: "Accepted" | "Known" | "Full" }>(this.#database, ACCEPT, values);
    if (row === undefined) throw new TypeError("accept_write returns one row");
    if (row.accepted === "Accepted") this.#hint.changed();
    return row.accepted;
  }

  async find(id: string): Promise<QueuedWrite | undefined> {
    const [row] = await read<Row>(this.#database, FIND, [id]);
    return row && queuedOf(row);
  }

  async list(
    { writer, state }: { readonly writer?: string; readonly state?: QueuedWriteState },
    before: bigint | undefined,
    limit: number,
  ): Promise<readonly QueuedWrite[]> {
    return (await read<Row>(this.#database, LIST, [writer, state, before, limit])).map(queuedOf);
  }

  async length(recipient: WriteRecipient | undefined): Promise<WriteQueueLength> {
    const values = recipient === undefined ? [null, null] : recipientParameters(recipient);
    const [row] = await read<{ waiting: number; stranded: number; oldest_ms: number; refused: number }>(
      this.#database,
      LENGTH,
      values,
    );
    const { waiting = 0, stranded = 0, refused = 0 } = row ?? {};
    return { waiting, stranded, oldestAgeMs: waiting === 0 ? undefined : row?.oldest_ms, refused };
  }

  async waiting(
    recipient: WriteRecipient,
    limit: number,
    bytes: number,
    except: readonly WritePlace[],
  ): Promise<readonly WaitingWrite[]> {
    const without = [except.map(({ namespace }) => namespace), except.map(({ name }) => name)];
    const values = [...recipientParameters(recipient), limit, bytes, ...without];
    return (await read<WaitingRow>(this.#database, WAITING, values)).map((row) => ({
      ...queuedOf(row),
      sealed: { wrappedKey: row.wrapped_key, keyId: row.key_id, ciphertext: row.sealed },
    }));
  }

  async settle(writer: Writer, settlements: readonly Settlement[], audit: readonly AuditEntry[]): Promise<void> {
    const outcomes = settlements.map(({ id, outcome }) => ({ id, state: outcome.kind, outcome }));
    await this.#write(writer, SETTLE, [JSON.stringify(outcomes), auditParameter(this.#signer, audit)]);
    this.#hint.changed();
  }

  async lastSettled(recipient: WriteRecipient, limit: number): Promise<readonly string[]> {
    const values = [...recipientParameters(recipient), limit];
    return (await read<{ id: string }>(this.#database, LAST_SETTLED, values)).map(({ id }) => id);
  }

  async settled(
    recipient: WriteRecipient,
    after: bigint | undefined,
    limit: number,
  ): Promise<readonly Pick<QueuedWrite, "id" | "sequence">[]> {
    const values = [...recipientParameters(recipient), after ?? 0n, limit];
    const rows = await read<{ id: string; sequence: string }>(this.#database, SETTLED, values);
    return rows.map(({ id, sequence }) => ({ id, sequence: BigInt(sequence) }));
  }

  async requeue(writer: Writer, ids: readonly string[], audit: readonly AuditEntry[]): Promise<void> {
    await this.#write(writer, REQUEUE, [ids, auditParameter(this.#signer, audit)]);
    this.#hint.changed();
  }

  async clearSettled(writer: Writer, limit: number): Promise<number> {
    const [row] = await this.#write<{ count: number }>(writer, CLEAR, [limit]);
    return row?.count ?? 0;
  }

  async forget(writer: Writer, olderThanMs: number, limit: number): Promise<number> {
    const [row] = await this.#write<{ count: number }>(writer, FORGET, [olderThanMs, limit]);
    return row?.count ?? 0;
  }

  async #write<R extends object>({ epoch }: Writer, statement: Statement, values: readonly unknown[]): Promise<R[]> {
    try {
      return await this.#database.query<R>(statement, [epoch, ...values]);
    } catch (error) {
      throw mapWriteError(error, epoch);
    }
  }
}

const recipientParameters = ({ gatewayEnvironment, rootDigest }: WriteRecipient): readonly unknown[] => [
  gatewayEnvironment,
  rootDigest,
];

const queuedOf = (row: Row): QueuedWrite => ({
  sequence: BigInt(row.sequence),
  id: row.id,
  place: { namespace: row.namespace, name: row.name },
  secret: {
    id: row.secret_id,
    project: row.project,
    environment: row.environment,
    namespaceUid: row.namespace_uid,
  },
  recipient: { gatewayEnvironment: row.gateway_environment, rootDigest: row.root_digest },
  baseVersion: row.base_version,
  follows: row.follows ?? undefined,
  author: { subject: row.subject, via: row.via },
  writer: row.writer,
  fingerprint: row.fingerprint,
  ageMs: row.age_ms,
  state: row.state,
  outcome: row.outcome ?? undefined,
  settledForMs: row.waits ? undefined : row.settled_ms,
});
