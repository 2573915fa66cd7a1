import type { AuditSigner } from "../../core/audit/signer.ts";
import type { GatewayRole } from "../../core/fleet/protocol.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type {
  MemberKey,
  MembershipRecord,
  MembershipState,
  MembershipStore,
  StoredMembership,
} from "../../core/ports/membership-store.ts";
import { Conflict, type Writer } from "../../core/ports/vault-store.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read } from "./database.ts";
import { CONFLICT, mapWriteError, sqlState } from "./errors.ts";

const MEMBERSHIP = {
  name: "membership",
  text: `SELECT generation, state, primary_url, token_hash, root_digest, gateway_id, name, environment, role,
                slot, digest, wrapped_key, key_id, sealed_key, certificates, received_at
         FROM membership, membership_keys ORDER BY slot`,
};
const WRITE_MEMBERSHIP = {
  name: "write_membership",
  text: "SELECT write_membership($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS generation",
};

/** The membership with one of its keys; node-postgres reads bigint as text. */
interface Row {
  readonly generation: string;
  readonly state: MembershipState;
  readonly primary_url: string;
  readonly token_hash: Buffer;
  readonly root_digest: Buffer;
  readonly gateway_id: string | null;
  readonly name: string | null;
  readonly environment: string | null;
  readonly role: GatewayRole | null;
  readonly slot: "current" | "next";
  readonly digest: Buffer;
  readonly wrapped_key: Buffer;
  readonly key_id: string;
  readonly sealed_key: Buffer;
  readonly certificates: readonly Buffer[];
  readonly received_at: Date | null;
}

export class PostgresMembershipStore implements MembershipStore {
  readonly #database: Database;
  readonly #signer: AuditSigner;

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  async read(): Promise<StoredMembership | undefined> {
    const [current, next] = await read<Row>(this.#database, MEMBERSHIP, []);
    if (current === undefined) return undefined;
    return { generation: BigInt(current.generation), record: recordOf(current, next) };
  }

  async write(writer: Writer, before: bigint, record: MembershipRecord, audit: readonly AuditEntry[]): Promise<bigint> {
    const { state, primaryUrl, tokenHash, rootDigest, identity, current, next } = record;
    const keys = [keyJson("current", current), ...(next === undefined ? [] : [keyJson("next", next)])];
    const { gatewayId = null, name = null, environment = null, role = null } = identity ?? {};
    const place = [gatewayId, name, environment, role];
    const values = [writer.epoch, before, state, primaryUrl, tokenHash, rootDigest, ...place, JSON.stringify(keys)];
    try {
      await this.#database.query(WRITE_MEMBERSHIP, [...values, auditParameter(this.#signer, audit)]);
      return before + 1n;
    } catch (error) {
      throw sqlState(error) === CONFLICT ? new Conflict("membership") : mapWriteError(error, writer.epoch);
    }
  }
}

function recordOf(row: Row, next: Row | undefined): MembershipRecord {
  const { gateway_id: gatewayId, name, environment, role } = row;
  const known = gatewayId !== null && name !== null && environment !== null && role !== null;
  return {
    state: row.state,
    primaryUrl: row.primary_url,
    tokenHash: row.token_hash,
    rootDigest: row.root_digest,
    identity: known ? { gatewayId, name, environment, role } : undefined,
    current: keyOf(row),
    next: next && keyOf(next),
  };
}

const keyOf = (row: Row): MemberKey => ({
  digest: row.digest,
  sealed: { wrappedKey: row.wrapped_key, keyId: row.key_id, ciphertext: row.sealed_key },
  certificates: row.certificates,
  receivedAt: row.received_at ?? undefined,
});

const keyJson = (slot: Row["slot"], { digest, sealed, certificates, receivedAt }: MemberKey) => ({
  slot,
  digest: digest.toString("base64"),
  wrapped_key: sealed.wrappedKey.toString("base64"),
  key_id: sealed.keyId,
  sealed_key: sealed.ciphertext.toString("base64"),
  certificates: certificates.map((each) => each.toString("base64")),
  received_at: receivedAt?.toISOString(),
});
