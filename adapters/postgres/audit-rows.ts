import type { AuditRow } from "../../core/audit/row.ts";
import type { AuditSigner } from "../../core/audit/signer.ts";
import type { Actor, AuditAction, AuditEntry } from "../../core/ports/audit-log.ts";

/** The parameter of `insert_audit`: the entries, numbered and authenticated by this writer. */
export function auditParameter(signer: AuditSigner, entries: readonly AuditEntry[]): string {
  return JSON.stringify(entries.map((entry) => rowJson(signer.sign(entry))));
}

function rowJson({ writerId, counter, at, entry, mac }: AuditRow) {
  const { action, actor, subject, outcome, details } = entry;
  return {
    writer_id: writerId,
    counter: counter.toString(),
    at: at.toISOString(),
    action,
    actor,
    subject_kind: subject.kind,
    subject_id: subject.id,
    subject_generation: subject.generation?.toString(),
    subject_name: subject.name,
    outcome,
    details,
    mac: mac.toString("base64"),
  };
}

/** A row of the table `audit`, as node-postgres reads it. */
export interface StoredAuditRow {
  readonly sequence: string;
  readonly writer_id: string;
  readonly counter: string;
  readonly at: Date;
  readonly action: AuditAction;
  readonly actor: Actor;
  readonly subject_kind: AuditEntry["subject"]["kind"];
  readonly subject_id: string;
  readonly subject_generation: string | null;
  readonly subject_name: string;
  readonly outcome: AuditEntry["outcome"];
  readonly details: AuditEntry["details"];
  readonly mac: Buffer;
  readonly position: string | null;
  readonly link: Buffer | null;
}

export function auditRow(stored: StoredAuditRow): AuditRow {
  const generation = stored.subject_generation === null ? {} : { generation: BigInt(stored.subject_generation) };
  return {
    writerId: stored.writer_id,
    counter: BigInt(stored.counter),
    at: stored.at,
    entry: {
      action: stored.action,
      actor: stored.actor,
      subject: { kind: stored.subject_kind, id: stored.subject_id, ...generation, name: stored.subject_name },
      outcome: stored.outcome,
      details: stored.details,
    },
    mac: stored.mac,
  };
}
