import { createHmac, type KeyObject, timingSafeEqual } from "node:crypto";
import { encodeFields, type Field } from "../canonical.ts";
import type { Actor, AuditEntry } from "../ports/audit-log.ts";

/** An audit entry as it is stored: who wrote it, as its how-many-eth, when, and the MAC over all of it. */
export interface AuditRow {
  readonly writerId: string;
  /** From 1, without repetition; a number is missing where a transaction was rolled back. */
  readonly counter: bigint;
  /** Clock of the writer, whole milliseconds. */
  readonly at: Date;
  readonly entry: AuditEntry;
  /** HMAC-SHA-256, 32 bytes. */
  readonly mac: Buffer;
}

export function rowMac(key: KeyObject, row: Omit<AuditRow, "mac">): Buffer {
  const { action, actor, subject, outcome, details } = row.entry;
  return createHmac("sha256", key)
    .update(
      encodeFields("mazevault audit row", [
        row.writerId,
        row.counter,
        row.at,
        action,
        encodeFields("actor", actorFields(actor)),
        encodeFields("subject", [subject.kind, subject.id, subject.generation, subject.name]),
        outcome,
        encodeFields("details", detailFields(details)),
      ]),
    )
    .digest();
}

export function rowMacHolds(key: KeyObject, row: AuditRow): boolean {
  const expected = rowMac(key, row);
  return row.mac.length === expected.length && timingSafeEqual(row.mac, expected);
}

function actorFields(actor: Actor): readonly Field[] {
  switch (actor.kind) {
    case "Object":
      return [actor.kind, actor.resource, actor.uid, actor.generation];
    case "Controller":
      return [actor.kind, actor.name];
    case "Subject":
      return [actor.kind, actor.subject, actor.via, actor.session, actor.address];
  }
}

/** Sorted by name, each value with its type: a store may hand them back in another order. */
function detailFields(details: AuditEntry["details"]): readonly Field[] {
  return Object.entries(details)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([name, value]) => [name, typeof value, String(value)]);
}
