import { randomUUID } from "node:crypto";
import type { AuditSigner } from "../../core/audit/signer.ts";
import { Unavailable } from "../../core/errors.ts";
import type { GatewayRole, Heartbeat } from "../../core/fleet/protocol.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type {
  CertificateAsked,
  FleetCertificateRequest,
  FleetStore,
  GatewayRecord,
  KnownCertificate,
  NewToken,
  Redeemed,
  Redemption,
  RequestOutcome,
  SupersededGateway,
  TokenRefusal,
} from "../../core/ports/fleet-store.ts";
import { UNLED, type Unled, type Writer } from "../../core/ports/vault-store.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read, type Statement } from "./database.ts";
import { mapWriteError } from "./errors.ts";
import type { OutboxHint } from "./outbox-hint.ts";
import { type StatusRow, statusOf } from "./pki-rows.ts";
import { STATUS_COLUMNS } from "./pki-statements.ts";

export const FLEET_CHANNEL = "mazevault_fleet";

const statement = (name: string, text: string): Statement => ({ name, text });

const NAME_GATEWAY = statement("name_gateway", "SELECT name_gateway($1, $2, $3) AS id");
const ADD_TOKEN = statement("add_fleet_token", "SELECT add_fleet_token($1, $2, $3, $4, $5, $6, $7, $8) AS added");
const FIND_TOKEN = statement(
  "find_fleet_token",
  `SELECT g.id, g.name, t.environment, t.role, t.expires_at, t.mac
   FROM fleet_tokens t JOIN gateways g ON g.id = t.gateway_id WHERE t.hash = $1`,
);
const REDEEM = statement("redeem_fleet_token", "SELECT redeem_fleet_token($1, $2, $3, $4, $5, $6) AS outcome");
const CONFIRM = statement("confirm_fleet_key", "SELECT confirm_fleet_key($1, $2, $3, $4, $5) AS changed");
const REQUEST = statement(
  "request_fleet_certificate",
  "SELECT outcome, requested, of_revision AS revision FROM request_fleet_certificate($1, $2, $3, $4, $5, $6)",
);
const WRITE_REQUEST = statement(
  "write_fleet_request",
  "SELECT write_fleet_request($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS id",
);
const PENDING = statement(
  "pending_fleet_requests",
  `SELECT id, kind, gateway_id, name, environment, role, revision, csr, requested_at, mac FROM fleet_requests
   WHERE certificates IS NULL AND requested_at >= $1 ORDER BY requested_at, id LIMIT $2`,
);
const ANSWERED = statement(
  "answered_fleet_requests",
  `SELECT coalesce(gateway_id::text, kind) AS who, count(*)::integer AS count FROM fleet_requests
   WHERE certificates IS NOT NULL AND answered_at >= $1 GROUP BY who`,
);
const ANSWER = statement("answer_fleet_request", "SELECT answer_fleet_request($1, $2, $3, $4)");
const READ_ANSWER = statement("fleet_answer", "SELECT certificates FROM fleet_requests WHERE id = $1");
const FORGET = statement("forget_fleet", "SELECT forget_fleet($1, $2) AS forgotten");
const HEARTBEAT = statement(
  "gateway_heartbeat",
  "UPDATE gateways SET heartbeat = $2, heartbeat_at = clock_timestamp() WHERE id = $1 AND revoked_at IS NULL",
);
const GATEWAYS = `
  SELECT g.id, g.name, g.environment, g.role, g.registered_at, g.confirmed_at, g.revoked_at, g.heartbeat, g.heartbeat_at,
         (SELECT t.expires_at FROM fleet_tokens t
          WHERE t.gateway_id = g.id AND t.confirmed_at IS NULL AND t.ended_at IS NULL
          ORDER BY t.number DESC LIMIT 1) AS token_expires_at
  FROM gateways g`;
const LIST = statement("gateways", `${GATEWAYS} ORDER BY g.name`);
const FIND = statement("gateway", `${GATEWAYS} WHERE g.name = $1`);
const READ = statement("gateway_by_id", `${GATEWAYS} WHERE g.id = $1`);
const REVOKE = statement("revoke_gateway", "SELECT revoke_gateway($1, $2, $3, $4)");
const CERTIFICATES = statement(
  "gateway_certificates",
  `SELECT gateway_id, serves AND c.revision >= valid_from_revision AND c.revoked_at IS NULL AS admitted, ${STATUS_COLUMNS}
   FROM (SELECT id::text AS gateway_id, valid_from_revision, revoked_at IS NULL AS serves FROM gateways) g
     JOIN certificates c ON c.requester_uid = gateway_id
   WHERE c.authority_id = $1 AND c.requester_kind = 'Gateway' AND c.state = 'Issued' AND c.not_after > $2`,
);
const SUPERSEDED = statement(
  "superseded_gateways",
  `SELECT id, name, revoked_at, valid_from_revision FROM gateways WHERE revoked_to_revision < valid_from_revision
   ORDER BY id LIMIT $1`,
);
const SETTLE = statement("settle_gateway", "SELECT settle_gateway($1, $2, $3)");
const EPOCH = statement("epoch", "SELECT epoch FROM leadership");

interface GatewayRow {
  readonly id: string;
  readonly name: string;
  readonly environment: string | null;
  readonly role: GatewayRole | null;
  readonly registered_at: Date | null;
  readonly confirmed_at: Date | null;
  readonly revoked_at: Date | null;
  readonly token_expires_at: Date | null;
  readonly heartbeat: Heartbeat | null;
  readonly heartbeat_at: Date | null;
}

interface TokenRow {
  readonly id: string;
  readonly name: string;
  readonly environment: string | null;
  readonly role: GatewayRole | null;
  readonly expires_at: Date;
  readonly mac: Buffer;
}

interface CertificateRow extends StatusRow {
  readonly gateway_id: string;
  readonly admitted: boolean;
}

interface ReservedRow {
  readonly outcome: RequestOutcome["kind"];
  /** The one that stands; null where a new one is to be written. */
  readonly requested: string | null;
  readonly revision: number;
}

type RequestRow = {
  readonly id: string;
  readonly revision: number;
  readonly csr: Buffer;
  readonly requested_at: Date;
  readonly mac: Buffer;
} & (
  | {
      readonly kind: "Gateway";
      readonly gateway_id: string;
      readonly name: string;
      readonly environment: string;
      readonly role: GatewayRole;
    }
  | { readonly kind: "Replica" }
);

export class PostgresFleetStore implements FleetStore {
  readonly #database: Database;
  readonly #signer: AuditSigner;
  readonly #hint: OutboxHint;

  constructor(database: Database, signer: AuditSigner, hint: OutboxHint) {
    this.#database = database;
    this.#signer = signer;
    this.#hint = hint;
  }

  async addToken({ epoch }: Writer | Unled, token: NewToken): Promise<GatewayRecord | "PlaceDiffers"> {
    const { name, place, hash, expiresAt, mac, audit } = token;
    const { environment = null, role = null } = place;
    try {
      return await this.#database.transaction(async (client) => {
        const call = <Row>({ name, text }: Statement, values: readonly unknown[]) =>
          client.query<Row & object>({ name, text, values: [...values] }).then(({ rows: [row] }) => row);
        const { id = "" } = (await call<{ id: string }>(NAME_GATEWAY, [epoch, randomUUID(), name])) ?? {};
        const values = [epoch, id, environment, role, hash, expiresAt, mac, this.#audit(audit(id))];
        const { added } = (await call<{ added: boolean }>(ADD_TOKEN, values)) ?? {};
        const row = await call<GatewayRow>(READ, [id]);
        return added === true && row !== undefined ? gatewayOf(row) : "PlaceDiffers";
      });
    } catch (error) {
      throw mapWriteError(error, epoch);
    }
  }

  async redeem(redemption: Redemption): Promise<Redeemed | TokenRefusal> {
    const { hash, keyDigest, place, now, audit } = redemption;
    // Whose it is never changes, so it may be read before.
    const [token] = await read<TokenRow>(this.#database, FIND_TOKEN, [hash]);
    if (token === undefined) return "Unknown";
    const { id, name } = token;
    const values = [hash, keyDigest, place.environment, place.role, now, this.#audit(audit({ id, name }))];
    const { outcome } = await this.#one<{ outcome: "Redeemed" | "Repeated" | TokenRefusal }>(REDEEM, values);
    if (outcome !== "Redeemed" && outcome !== "Repeated") return outcome;
    return {
      ...gatewayOf(await this.#one<GatewayRow>(READ, [id])),
      token: { place: placeOf(token), expiresAt: token.expires_at, mac: token.mac },
    };
  }

  async confirm(
    gatewayId: string,
    keyDigest: Buffer,
    revision: number,
    now: Date,
    audit: readonly AuditEntry[],
  ): Promise<boolean> {
    const values = [gatewayId, keyDigest, revision, now, this.#audit(audit)];
    const { changed } = await this.#one<{ changed: boolean }>(CONFIRM, values);
    if (changed) this.#hint.changed();
    return changed;
  }

  async requestCertificate(asked: CertificateAsked): Promise<RequestOutcome> {
    const { kind, gateway, csr, keyDigest, requestedAt, mac, presented } = asked;
    const by = [kind, gateway?.id, keyDigest, requestedAt, presented?.revision, presented?.keyDigest];
    const whose = [kind, gateway?.id, gateway?.name, gateway?.environment, gateway?.role];
    try {
      const answer = await this.#database.transaction<RequestOutcome>(async (client) => {
        const call = <Row>({ name, text }: Statement, values: readonly unknown[]) =>
          client.query<Row & object>({ name, text, values: [...values] }).then(({ rows: [row] }) => row);
        const reserved = await call<ReservedRow>(REQUEST, by);
        if (reserved === undefined) throw new Unavailable("Failed", "PostgreSQL reserved no revision");
        const { outcome, requested, revision } = reserved;
        if (outcome !== "Requested") return { kind: outcome };
        const written = [requested, ...whose, revision, csr, keyDigest, requestedAt, mac(revision)];
        const { id = "" } = (await call<{ id: string }>(WRITE_REQUEST, written)) ?? {};
        return { kind: outcome, id };
      });
      if (answer.kind === "Requested") this.#hint.changed();
      return answer;
    } catch (error) {
      throw mapWriteError(error, UNLED.epoch);
    }
  }

  async pendingRequests(since: Date, limit: number): Promise<readonly FleetCertificateRequest[]> {
    return (await read<RequestRow>(this.#database, PENDING, [since, limit])).map(requestOf);
  }

  async answeredSince(since: Date): Promise<ReadonlyMap<string, number>> {
    const rows = await read<{ who: string; count: number }>(this.#database, ANSWERED, [since]);
    return new Map(rows.map(({ who, count }) => [who, count]));
  }

  async answerRequest(writer: Writer, id: string, certificates: readonly Buffer[], now: Date): Promise<void> {
    await this.#led(writer, ANSWER, [id, certificates, now]);
    this.#hint.changed();
  }

  async answer(id: string): Promise<readonly Buffer[] | undefined> {
    const [row] = await read<{ certificates: readonly Buffer[] | null }>(this.#database, READ_ANSWER, [id]);
    return row?.certificates ?? undefined;
  }

  async forget(writer: Writer, before: Date): Promise<number> {
    const [row] = await this.#led<{ forgotten: number }>(writer, FORGET, [before]);
    return row?.forgotten ?? 0;
  }

  async heartbeat(gatewayId: string, heartbeat: Heartbeat): Promise<void> {
    await read(this.#database, HEARTBEAT, [gatewayId, JSON.stringify(heartbeat)]);
  }

  async gateways(): Promise<readonly GatewayRecord[]> {
    return (await read<GatewayRow>(this.#database, LIST, [])).map(gatewayOf);
  }

  async gateway(name: string): Promise<GatewayRecord | undefined> {
    return (await read<GatewayRow>(this.#database, FIND, [name])).map(gatewayOf)[0];
  }

  async revoke(writer: Writer, gatewayId: string, now: Date, audit: readonly AuditEntry[]): Promise<void> {
    await this.#led(writer, REVOKE, [gatewayId, now, this.#audit(audit)]);
    this.#hint.changed();
  }

  async certificates(authorityId: string, now: Date): Promise<readonly KnownCertificate[]> {
    const rows = await read<CertificateRow>(this.#database, CERTIFICATES, [authorityId, now]);
    return rows.map((row) => ({ gatewayId: row.gateway_id, admitted: row.admitted, status: statusOf(row) }));
  }

  async superseded(limit: number): Promise<readonly SupersededGateway[]> {
    const rows = await read<Pick<GatewayRow, "id" | "name" | "revoked_at"> & { valid_from_revision: number }>(
      this.#database,
      SUPERSEDED,
      [limit],
    );
    return rows.map(({ id, name, revoked_at, valid_from_revision: validFrom }) => ({
      id,
      name,
      revokedAt: revoked_at ?? undefined,
      validFrom,
    }));
  }

  async settle(writer: Writer, gatewayId: string, validFrom: number): Promise<void> {
    await this.#led(writer, SETTLE, [gatewayId, validFrom]);
  }

  async epoch(): Promise<bigint> {
    return BigInt((await this.#one<{ epoch: string }>(EPOCH, [])).epoch);
  }

  async #led<Row extends object>(
    { epoch }: Writer,
    statement: Statement,
    values: readonly unknown[],
  ): Promise<readonly Row[]> {
    try {
      return await this.#database.query<Row>(statement, [epoch, ...values]);
    } catch (error) {
      throw mapWriteError(error, epoch);
    }
  }

  async #one<Row extends object>(statement: Statement, values: readonly unknown[]): Promise<Row> {
    const [row] = await read<Row>(this.#database, statement, values);
    if (row === undefined) throw new Unavailable("Failed", `PostgreSQL gave no answer to ${statement.name}`);
    return row;
  }

  #audit(entries: readonly AuditEntry[]): string {
    return auditParameter(this.#signer, entries);
  }
}

const placeOf = ({ environment, role }: TokenRow): NewToken["place"] => ({
  ...(environment !== null && { environment }),
  ...(role !== null && { role }),
});

const gatewayOf = (row: GatewayRow): GatewayRecord => ({
  id: row.id,
  name: row.name,
  environment: row.environment ?? undefined,
  role: row.role ?? undefined,
  registeredAt: row.registered_at ?? undefined,
  confirmedAt: row.confirmed_at ?? undefined,
  revokedAt: row.revoked_at ?? undefined,
  tokenExpiresAt: row.token_expires_at ?? undefined,
  heartbeat:
    row.heartbeat === null || row.heartbeat_at === null ? undefined : { ...row.heartbeat, at: row.heartbeat_at },
});

function requestOf(row: RequestRow): FleetCertificateRequest {
  const { id, kind, revision, csr, requested_at: requestedAt, mac } = row;
  const gateway =
    row.kind === "Gateway"
      ? { id: row.gateway_id, name: row.name, environment: row.environment, role: row.role }
      : undefined;
  return { id, kind, gateway, revision, csr, requestedAt, mac };
}
