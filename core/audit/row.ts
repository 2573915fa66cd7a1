import { createHmac, hash, type KeyObject, timingSafeEqual } from "node:crypto";
import { encodeFields, type Field } from "../canonical.ts";
import type { Actor, AuditEntry } from "../ports/audit-log.ts";

/** An audit entry as it is stored: who wrote it, as its how-many-eth, when, and what authenticates all of it. */
export interface AuditRow {
  readonly writerId: string;
  /** From 1, without repetition; a number is missing where a transaction was rolled back. */
  readonly counter: bigint;
  /** Clock of the writer, whole milliseconds. */
  readonly at: Date;
  readonly entry: AuditEntry;
  /**
   * SHA-256 of the content, 32 bytes: whoever has no key can tell by it that a row is the one that was linked. Rows of
   * the time before there were digests have none.
   */
  readonly digest: Buffer | undefined;
  /** HMAC-SHA-256 of the content, 32 bytes. */
  readonly mac: Buffer;
}

type Content = Pick<AuditRow, "writerId" | "counter" | "at" | "entry">;

/** What digest and MAC are about. */
function content({ writerId, counter, at, entry }: Content): Buffer {
  const { action, actor, subject, outcome, details } = entry;
  return encodeFields("mazevault audit row", [
    writerId,
    counter,
    at,
    action,
    { purpose: "actor", fields: actorFields(actor) },
    { purpose: "subject", fields: [subject.kind, subject.id, subject.generation, subject.name] },
    outcome,
    { purpose: "details", fields: detailFields(details) },
  ]);
}

const digestOf = (bytes: Buffer): Buffer => hash("sha256", bytes, "buffer");
const macOf = (key: KeyObject, bytes: Buffer): Buffer => createHmac("sha256", key).update(bytes).digest();

export function authenticated(key: KeyObject, row: Content): AuditRow {
  const bytes = content(row);
  return { ...row, digest: digestOf(bytes), mac: macOf(key, bytes) };
}

export function rowHolds(key: KeyObject, row: AuditRow): boolean {
  const bytes = contentOrNone(row);
  if (bytes === undefined) return false;
  const mac = macOf(key, bytes);
  return mac.length === row.mac.length && timingSafeEqual(mac, row.mac) && digestIs(bytes, row);
}

/** As much as can be told without the key. */
export function digestHolds(row: AuditRow): boolean {
  const bytes = contentOrNone(row);
  return bytes !== undefined && digestIs(bytes, row);
}

const digestIs = (bytes: Buffer, { digest }: AuditRow): boolean => digest?.equals(digestOf(bytes)) ?? true;

/** What has no encoding at all was not written by us. */
function contentOrNone(row: AuditRow): Buffer | undefined {
  try {
    return content(row);
  } catch {
    return undefined;
  }
}

function actorFields(actor: Actor): readonly Field[] {
  switch (actor.kind) {
    case "Controller":
      return [actor.kind, actor.name];
    case "Object":
      return [actor.kind, actor.resource, actor.uid, actor.generation];
    case "Subject":
      return [actor.kind, actor.subject, actor.via, actor.session, actor.address];
  }
}

/** Sorted by name, each value with its type: a store may hand them back in another order. */
function detailFields(details: AuditEntry["details"]): readonly Field[] {
  const fields: Field[] = [];
  for (const name of Object.keys(details).sort()) fields.push(name, typeof details[name], String(details[name]));
  return fields;
}
