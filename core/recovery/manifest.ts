/**
 * What a backup says of itself, signed by the installation: by it a copy is told from an older, shorter or changed one, and objects of
 * another cluster find their rows again. There is nothing secret in it.
 */
import { sign, verify } from "node:crypto";
import { z } from "zod";
import type { SigningKey } from "../audit/checkpoint.ts";
import { encodeFields } from "../canonical.ts";
import { SafeError } from "../errors.ts";
import { recoveredKinds } from "../ports/cluster-objects.ts";

const text = z.string().min(1).max(1_024);
const digest = z.string().regex(/^[0-9a-f]{64}$/);
const position = z.string().regex(/^\d{1,19}$/);

const objectOfBackup = z.strictObject({
  kind: z.enum(recoveredKinds),
  namespace: z.string().max(253),
  name: text,
  /** Under which its rows stand. */
  heldUid: text,
});

const dump = z.strictObject({
  /** Beside the manifest. */
  file: text,
  bytes: z.int().nonnegative(),
  sha256: digest,
});

const body = z.strictObject({
  format: z.literal(1),
  installation: z.guid(),
  takenAt: z.iso.datetime(),
  /** Of the program that made it. */
  version: text,
  /** The last migration that the database has. */
  schema: text,
  /** Of PostgreSQL: its version, system identifier and timeline. */
  server: z.strictObject({ version: text, id: text }),
  cluster: text,
  /** Ids of the root keys that wrap the installation key. */
  rootKeys: z.array(text),
  /** Where the audit chain ended; everything up to there is in the copy. */
  head: z.strictObject({ position, link: digest }),
  epoch: position,
  /** Rows, by table. */
  rows: z.record(text, z.int().nonnegative()),
  objects: z.array(objectOfBackup),
  /** Absent where PostgreSQL's platform makes the copies. */
  dump: dump.optional(),
});
export type BackupBody = z.infer<typeof body>;
export type BackupObject = z.infer<typeof objectOfBackup>;

const manifest = z.strictObject({
  body,
  keyVersion: z.int().positive(),
  /** Ed25519 (RFC 8032) of an audit signing key, base64. */
  signature: z.base64(),
});

export interface BackupManifest {
  readonly body: BackupBody;
  /** What was signed. */
  readonly signed: Buffer;
  readonly keyVersion: number;
  readonly signature: Buffer;
}

/** A backup cannot be used, with what to do. */
export class BackupUnusable extends SafeError {
  constructor(message: string) {
    super(message);
    this.name = "BackupUnusable";
  }
}

/** As it is stored. */
export function signedManifest(made: BackupBody, key: SigningKey): string {
  const signature = sign(null, signedBytes(made), key.privateKey).toString("base64");
  return `${JSON.stringify({ body: made, keyVersion: key.version, signature }, undefined, 1)}\n`;
}

/** @throws BackupUnusable when it is not a manifest; who signed it is not asked */
export function parseManifest(stored: string): BackupManifest {
  let raw: unknown;
  try {
    raw = JSON.parse(stored);
  } catch {
    throw new BackupUnusable("the manifest is not JSON: take manifest.json of the backup, whole");
  }
  const found = manifest.safeParse(raw);
  if (!found.success) {
    const [issue] = found.error.issues;
    throw new BackupUnusable(
      `the manifest is not of a form that this program knows (${issue?.path.join(".")}: ${issue?.message}): take the program version that made the backup, or a newer one`,
    );
  }
  const { keyVersion, signature } = found.data;
  // In the order in which it stands there.
  const signed = signedBytes((raw as { readonly body: BackupBody }).body);
  return { body: found.data.body, signed, keyVersion, signature: Buffer.from(signature, "base64") };
}

/**
 * @param keys audit signing keys of the installation
 * @throws BackupUnusable when none of them signed it
 */
export function judgeManifest(
  { body: made, ...proof }: BackupManifest,
  installation: string,
  keys: readonly SigningKey[],
): void {
  if (made.installation !== installation)
    throw new BackupUnusable(
      `the manifest is of installation ${made.installation}, and the database of ${installation}: take the manifest that was made with this copy`,
    );
  const key = keys.find(({ version }) => version === proof.keyVersion);
  if (key === undefined)
    throw new BackupUnusable(
      `the manifest is signed by version ${proof.keyVersion} of the audit signing key, which the database does not have: it is older than the backup`,
    );
  if (!verify(null, proof.signed, key.publicKey, proof.signature))
    throw new BackupUnusable("the manifest does not match its signature: it was changed; take another copy of it");
}

const signedBytes = (made: BackupBody): Buffer => encodeFields("mazevault backup manifest", [JSON.stringify(made)]);
