import { createHmac, hkdfSync, type KeyObject, timingSafeEqual } from "node:crypto";
import { encodeFields, type Field } from "../canonical.ts";
import { Unavailable } from "../errors.ts";
import type { ApiKeyRow, Authentic, SessionRow, Stored, UserRow } from "../ports/identity-store.ts";
import { KEY_BYTES } from "../vault/envelope.ts";

/** Bytes of a password that is derived; 24 characters of base64url. */
const DERIVED_PASSWORD_BYTES = 18;

const userFields = (user: UserRow): readonly Field[] => [
  user.id,
  user.email,
  user.state,
  user.role,
  user.password,
  user.sessionEpoch,
  user.generation,
  user.createdAt,
];

const sessionFields = (session: SessionRow): readonly Field[] => [
  session.id,
  session.userId,
  session.sessionEpoch,
  session.address,
  session.refreshHash,
  session.createdAt,
  session.expiresAt,
  session.endedAt,
];

const apiKeyFields = (key: ApiKeyRow): readonly Field[] => [
  key.id,
  key.ownerId,
  key.name,
  key.hash,
  encodeFields("scopes", key.scopes),
  key.createdAt,
  key.expiresAt,
  key.revokedAt,
];

export const sessionGeneration = ({ endedAt }: SessionRow): bigint => (endedAt === undefined ? 1n : 2n);
export const apiKeyGeneration = ({ revokedAt }: ApiKeyRow): bigint => (revokedAt === undefined ? 1n : 2n);

/**
 * Tells rows that we wrote from others: whoever can write into the tables cannot make himself an admin, nor a session,
 * nor bring an old row back, since the audit record knows its generation.
 */
export class Authenticity {
  readonly #key: KeyObject;
  readonly #installationId: string;
  /** Keys the hashes of passwords. */
  readonly passwordSecret: Buffer;

  constructor(key: KeyObject, installationId: string) {
    this.#key = key;
    this.#installationId = installationId;
    this.passwordSecret = this.#derive("mazevault password", KEY_BYTES);
  }

  user(row: UserRow): Authentic<UserRow> {
    return { row, mac: this.#mac("user", userFields(row)) };
  }

  session(row: SessionRow): Authentic<SessionRow> {
    return { row, mac: this.#mac("session", sessionFields(row)) };
  }

  apiKey(row: ApiKeyRow): Authentic<ApiKeyRow> {
    return { row, mac: this.#mac("api key", apiKeyFields(row)) };
  }

  /** @throws Unavailable TamperDetected */
  verifiedUser(stored: Stored<UserRow>): UserRow {
    return verified(`user ${stored.row.id}`, stored, this.user(stored.row).mac, stored.row.generation);
  }

  /** @throws Unavailable TamperDetected */
  verifiedSession(stored: Stored<SessionRow>): SessionRow {
    const { row } = stored;
    return verified(`session ${row.id}`, stored, this.session(row).mac, sessionGeneration(row));
  }

  /** @throws Unavailable TamperDetected */
  verifiedApiKey(stored: Stored<ApiKeyRow>): ApiKeyRow {
    const { row } = stored;
    return verified(`API key ${row.id}`, stored, this.apiKey(row).mac, apiKeyGeneration(row));
  }

  /** Stands for a text in a table in which it must not be read. */
  digest(purpose: string, text: string): string {
    return this.#mac(purpose, [text]).toString("hex");
  }

  /** The password that the first admin has until it is changed. */
  firstPassword(userId: string): string {
    return this.#derive(`mazevault first password ${userId}`, DERIVED_PASSWORD_BYTES).toString("base64url");
  }

  #mac(purpose: string, fields: readonly Field[]): Buffer {
    return createHmac("sha256", this.#key)
      .update(encodeFields(`mazevault ${purpose}`, [this.#installationId, ...fields]))
      .digest();
  }

  #derive(purpose: string, bytes: number): Buffer {
    return Buffer.from(hkdfSync("sha256", this.#key, Buffer.from(this.#installationId), purpose, bytes));
  }
}

function verified<Row>(name: string, stored: Stored<Row>, expected: Buffer, generation: bigint): Row {
  if (stored.mac.length !== expected.length || !timingSafeEqual(stored.mac, expected)) {
    throw new Unavailable("TamperDetected", `the row of ${name} does not match its MAC; see the runbook`);
  }
  if (generation !== stored.auditedGeneration) {
    throw new Unavailable(
      "TamperDetected",
      `the row of ${name} has generation ${generation}, the audit record says ${stored.auditedGeneration}; see the runbook`,
    );
  }
  return stored.row;
}
