/**
 * Retention: the oldest rows leave the record at a checkpoint, and a signed statement says so. From then on the record
 * begins there. Rows by which the present state is judged stay for ever: what they say is compared with the tables.
 */
import { createHash, type KeyObject, sign, verify } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import type { AuditEntry } from "../ports/audit-log.ts";
import type { LinkedRow, RecordedRow } from "./chain.ts";
import type { SigningKey } from "./checkpoint.ts";

export interface CutStatement {
  /** Number of the checkpoint at which the record begins, its position and its link. */
  readonly checkpoint: bigint;
  readonly position: bigint;
  readonly link: Buffer;
  /** Rows up to there that stay, and the hash over all of them in their order; the others are gone. */
  readonly kept: bigint;
  readonly keptHash: Buffer;
  readonly at: Date;
  readonly keyVersion: number;
}

export interface Cut extends CutStatement {
  /** Ed25519 (RFC 8032), 64 bytes. */
  readonly signature: Buffer;
}

export const NOTHING_KEPT: Buffer = Buffer.alloc(32);

/**
 * A pointer's, a status's or a user's generation, or that a certificate was revoked: without it an old state could be put
 * back. A session ends by itself before its rows may go.
 */
export const isKept = ({ entry: { action, subject } }: RecordedRow): boolean =>
  (subject.generation !== undefined && subject.kind !== "Session") || action === "CertificateRevoked";

export const keptHashOf = (before: Buffer, { position, mac }: Pick<LinkedRow, "position" | "mac">): Buffer =>
  createHash("sha256")
    .update(encodeFields("mazevault audit kept row", [before, position, mac]))
    .digest();

export const signCut = (installationId: string, statement: CutStatement, { privateKey }: SigningKey): Cut => ({
  ...statement,
  signature: sign(null, encode(installationId, statement), privateKey),
});

export function cutHolds(installationId: string, cut: Cut, publicKey: KeyObject | undefined): boolean {
  try {
    return publicKey !== undefined && verify(null, encode(installationId, cut), publicKey, cut.signature);
  } catch {
    // What has no encoding was never signed.
    return false;
  }
}

function encode(installationId: string, statement: CutStatement): Buffer {
  const { checkpoint, position, link, kept, keptHash, at, keyVersion } = statement;
  return encodeFields("mazevault audit cut", [
    installationId,
    checkpoint,
    position,
    link,
    kept,
    keptHash,
    at,
    keyVersion,
  ]);
}

export const cutEntry = ({ checkpoint, position, kept }: Cut, removed: number): AuditEntry => ({
  action: "AuditRowsRemoved",
  actor: { kind: "Controller", name: "housekeeping" },
  subject: { kind: "Installation", id: "audit", name: "audit" },
  outcome: "Success",
  details: { removed, upTo: Number(position), checkpoint: Number(checkpoint), kept: Number(kept) },
});

/** The rows from below a cut, as verification meets them. */
export class KeptRows {
  readonly #cut: Cut;
  #kept = 0n;
  #hash: Buffer = NOTHING_KEPT;

  constructor(cut: Cut) {
    this.#cut = cut;
  }

  take(row: LinkedRow): void {
    this.#kept += 1n;
    this.#hash = keptHashOf(this.#hash, row);
  }

  /** Whether they are those that the cut left. */
  get areAll(): boolean {
    return this.#kept === this.#cut.kept && this.#hash.equals(this.#cut.keptHash);
  }
}
