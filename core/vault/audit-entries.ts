/** How secrets stand in the audit record. */
import type { Actor, AuditAction, AuditEntry } from "../ports/audit-log.ts";
import type { SecretRecord } from "../ports/vault-store.ts";
import type { RotationCause } from "./due.ts";

export function secretEntry(
  action: AuditAction,
  { id, identity, generation }: SecretRecord,
  actor: Actor,
  details: AuditEntry["details"],
): AuditEntry {
  const { project, environment, namespace, name } = identity;
  // A read does not move the pointer, so it says nothing about the generation.
  const anchored = action === "SecretRead" ? {} : { generation };
  return {
    action,
    actor,
    subject: { kind: "Secret", id, ...anchored, name: `${namespace}/${name}` },
    outcome: "Success",
    details: { project, environment, ...details },
  };
}

/** Why values were made. */
export function causeDetails(cause: RotationCause): AuditEntry["details"] {
  switch (cause.kind) {
    case "Timetable":
      return { cause: cause.kind, timetable: cause.timetable, due: cause.due.toISOString() };
    case "Request":
      return { cause: cause.kind, ...(cause.token !== undefined && { token: cause.token }) };
    case "First":
      return { cause: cause.kind };
  }
}
