/**
 * What the linker signs now and then about the chain. A checkpoint says where the chain stood, who had written how much
 * since the one before, and names that one by its hash: none can be left out, and rows below one cannot be cut off.
 */
import { createHash, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import type { Writer } from "../ports/vault-store.ts";

/** Rows of one writer that were linked since the checkpoint before. */
export interface WriterCount {
  readonly writerId: string;
  /** The highest of their counters. */
  readonly counter: bigint;
  readonly rows: number;
}

/** The key that signs from the next checkpoint on. */
export interface Handover {
  readonly keyVersion: number;
  /** SubjectPublicKeyInfo in DER (RFC 8410). */
  readonly publicKey: Buffer;
}

export interface Statement {
  /** From 1, without a gap. */
  readonly number: bigint;
  /** Of the last row that was linked, and its link. */
  readonly position: bigint;
  readonly link: Buffer;
  /** Sorted by their ids. */
  readonly writers: readonly WriterCount[];
  /** Of the leader that signed. */
  readonly epoch: bigint;
  readonly at: Date;
  /** Which PostgreSQL, and on which of its timelines: another one after a restore from a backup. */
  readonly server: string;
  readonly handover?: Handover;
  /** Hash of the checkpoint before; zeros for the first. */
  readonly previous: Buffer;
  readonly keyVersion: number;
}

export interface Checkpoint extends Statement {
  /** Ed25519 (RFC 8032), 64 bytes. */
  readonly signature: Buffer;
}

/** A version of the audit signing key. */
export interface SigningKey {
  readonly version: number;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly createdAt: Date;
}

/** Who has the signing keys. */
export interface SigningKeys {
  readonly installationId: string;
  /** Lowest version first. With a writer, which leads, there is at least one: it is made where there was none. */
  auditSigning(writer?: Writer): Promise<readonly SigningKey[]>;
}

export const NO_CHECKPOINT: Buffer = Buffer.alloc(32);

export const spki = (key: KeyObject): Buffer => key.export({ type: "spki", format: "der" });
export const publicKeyOf = (spki: Buffer): KeyObject => createPublicKey({ key: spki, type: "spki", format: "der" });

export function signCheckpoint(installationId: string, statement: Statement, key: SigningKey): Checkpoint {
  return { ...statement, signature: sign(null, encode(installationId, statement), key.privateKey) };
}

export function checkpointHolds(installationId: string, checkpoint: Checkpoint, publicKey: KeyObject): boolean {
  try {
    return verify(null, encode(installationId, checkpoint), publicKey, checkpoint.signature);
  } catch {
    // What has no encoding was never signed.
    return false;
  }
}

export const checkpointHash = (installationId: string, checkpoint: Checkpoint): Buffer =>
  createHash("sha256").update(encode(installationId, checkpoint)).update(checkpoint.signature).digest();

function encode(installationId: string, statement: Statement): Buffer {
  const { number, position, link, writers, epoch, at, server, handover, previous, keyVersion } = statement;
  return encodeFields("mazevault audit checkpoint", [
    installationId,
    number,
    position,
    link,
    encodeFields(
      "writers",
      writers.flatMap(({ writerId, counter, rows }) => [writerId, counter, rows]),
    ),
    epoch,
    at,
    server,
    handover && encodeFields("handover", [handover.keyVersion, handover.publicKey]),
    previous,
    keyVersion,
  ]);
}

export type CheckpointFault = "checkpointForged" | "checkpointMissing";

/** Walks the checkpoints in the order of their numbers. */
export class CheckpointSequence {
  readonly #installationId: string;
  readonly #publicKeys: ReadonlyMap<number, KeyObject>;
  #last: Checkpoint | undefined;

  /** @param publicKeys by version */
  constructor(installationId: string, publicKeys: ReadonlyMap<number, KeyObject>) {
    this.#installationId = installationId;
    this.#publicKeys = publicKeys;
  }

  get last(): Checkpoint | undefined {
    return this.#last;
  }

  /** What is wrong with the next one; undefined when it is in order. `from` is the number that the first may have. */
  next(checkpoint: Checkpoint, from = 1n): CheckpointFault | undefined {
    const last = this.#last;
    if (checkpoint.number !== (last === undefined ? from : last.number + 1n)) return "checkpointMissing";
    const expected = last === undefined ? NO_CHECKPOINT : checkpointHash(this.#installationId, last);
    if ((last !== undefined || from === 1n) && !checkpoint.previous.equals(expected)) return "checkpointMissing";
    if (last !== undefined && checkpoint.keyVersion !== signerAfter(last)) return "checkpointForged";
    const publicKey = this.#publicKeys.get(checkpoint.keyVersion);
    if (publicKey === undefined || !checkpointHolds(this.#installationId, checkpoint, publicKey)) {
      return "checkpointForged";
    }
    if (checkpoint.handover !== undefined && !this.#knows(checkpoint.handover)) return "checkpointForged";
    this.#last = checkpoint;
    return undefined;
  }

  #knows({ keyVersion, publicKey }: Handover): boolean {
    const known = this.#publicKeys.get(keyVersion);
    return known !== undefined && spki(known).equals(publicKey);
  }
}

/** Version of the key that signs the next one. */
export const signerAfter = ({ keyVersion, handover }: Checkpoint): number => handover?.keyVersion ?? keyVersion;
