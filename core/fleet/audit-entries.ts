/** How gateways stand in the audit record. */
import type { Actor, AuditAction, AuditEntry } from "../ports/audit-log.ts";
import type { GatewayRecord } from "../ports/fleet-store.ts";

/** A gateway that came with its certificate, of which `session` is the serial number; of what the leader does later, the request's id. */
export const gatewayActor = (name: string, session: string, address?: string): Actor => ({
  kind: "Subject",
  subject: `Gateway ${name}`,
  via: "GatewayCertificate",
  session,
  ...(address !== undefined && { address }),
});

export const gatewayEntry = (
  action: AuditAction,
  { id, name }: Pick<GatewayRecord, "id" | "name">,
  actor: Actor,
  details: AuditEntry["details"] = {},
  outcome: AuditEntry["outcome"] = "Success",
): AuditEntry => ({ action, actor, subject: { kind: "Gateway", id, name }, outcome, details });
