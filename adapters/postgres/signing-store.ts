import type { SigningOrder, SigningOutcome, SigningStore } from "../../core/ports/signing-store.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { type Database, read, type Statement } from "./database.ts";
import { mapWriteError } from "./errors.ts";
import type { OutboxHint } from "./outbox-hint.ts";
import { hex } from "./rows.ts";

const statement = (name: string, text: string): Statement => ({ name, text });

const COLUMNS = "id, kind, gateway_id, name, environment, body, digest, requested_at, mac";
const ASK = statement("request_signing", "SELECT request_signing($1, $2, $3, $4, $5, $6, $7, $8, $9) AS stands");
const OUTCOME = statement("signing_outcome", "SELECT answer FROM signing_requests WHERE id = $1");
const PENDING = statement(
  "pending_signing",
  `SELECT r.*
   FROM gateways g CROSS JOIN LATERAL (
     SELECT ${COLUMNS} FROM signing_requests s
     WHERE s.gateway_id = g.id AND s.requested_at >= $1 AND s.answer IS NULL
     ORDER BY s.requested_at, s.id LIMIT $2) r
   ORDER BY r.requested_at, r.id`,
);
const ANSWER = statement("answer_signing", "SELECT answer_signing($1, $2, $3, $4, $5, $6)");
const SIGNED = statement(
  "signed_for_gateway",
  `SELECT ${COLUMNS} FROM signing_requests WHERE gateway_id = $1 AND serial = $2 ORDER BY id`,
);
const FORGET = statement("forget_signing", "SELECT forget_signing($1, $2, $3) AS forgotten");

interface OrderRow {
  readonly id: string;
  readonly kind: SigningOrder["kind"];
  readonly gateway_id: string;
  readonly name: string;
  readonly environment: string;
  readonly body: string;
  readonly digest: Buffer;
  readonly requested_at: Date;
  readonly mac: Buffer;
}

export class PostgresSigningStore implements SigningStore {
  readonly #database: Database;
  readonly #hint: OutboxHint;

  constructor(database: Database, hint: OutboxHint) {
    this.#database = database;
    this.#hint = hint;
  }

  async ask({ id, kind, gateway, body, digest, requestedAt, mac }: SigningOrder): Promise<boolean> {
    const { gatewayId, name, environment } = gateway;
    const values = [id, kind, gatewayId, name, environment, body, digest, requestedAt, mac];
    const [row] = await read<{ stands: boolean }>(this.#database, ASK, values);
    this.#hint.changed();
    return row?.stands === true;
  }

  async outcome(id: string): Promise<SigningOutcome | undefined> {
    const [row] = await read<{ answer: SigningOutcome | null }>(this.#database, OUTCOME, [id]);
    return row?.answer ?? undefined;
  }

  async pending(since: Date, perGateway: number): Promise<readonly SigningOrder[]> {
    return (await read<OrderRow>(this.#database, PENDING, [since, perGateway])).map(orderOf);
  }

  async answer(
    writer: Writer,
    { id, mac }: Pick<SigningOrder, "id" | "mac">,
    outcome: SigningOutcome,
    keepUntil: Date,
    serialNumber?: string,
  ): Promise<void> {
    const serial = serialNumber === undefined ? null : hex(serialNumber);
    await this.#led(writer, ANSWER, [id, mac, JSON.stringify(outcome), serial, keepUntil]);
    this.#hint.changed();
  }

  async signed(gatewayId: string, serialNumber: string): Promise<readonly SigningOrder[]> {
    return (await read<OrderRow>(this.#database, SIGNED, [gatewayId, hex(serialNumber)])).map(orderOf);
  }

  async forget(writer: Writer, now: Date, unansweredBefore: Date): Promise<number> {
    const [row] = await this.#led<{ forgotten: number }>(writer, FORGET, [now, unansweredBefore]);
    return row?.forgotten ?? 0;
  }

  async #led<Row extends object>(
    { epoch }: Writer,
    write: Statement,
    values: readonly unknown[],
  ): Promise<readonly Row[]> {
    try {
      return await this.#database.query<Row>(write, [epoch, ...values]);
    } catch (error) {
      throw mapWriteError(error, epoch);
    }
  }
}

const orderOf = (row: OrderRow): SigningOrder => ({
  id: row.id,
  kind: row.kind,
  gateway: { gatewayId: row.gateway_id, name: row.name, environment: row.environment },
  body: row.body,
  digest: row.digest,
  requestedAt: row.requested_at,
  mac: row.mac,
});
