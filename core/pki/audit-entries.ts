/** How authorities and certificates stand in the audit record. */
import type { Actor, AuditAction, AuditEntry } from "../ports/audit-log.ts";
import type { AuthorityRecord, CertificateRecord } from "../ports/pki-store.ts";
import { serialToText } from "./serial.ts";

export function authorityEntry(
  action: AuditAction,
  { id, identity }: Pick<AuthorityRecord, "id" | "identity">,
  actor: Actor,
  details: AuditEntry["details"],
): AuditEntry {
  const { kind, namespace, name } = identity;
  const subject = { kind: "Authority", id, name: namespace === "" ? name : `${namespace}/${name}` } as const;
  return { action, actor, subject, outcome: "Success", details: { kind, ...details } };
}

export function certificateEntry(
  action: AuditAction,
  { serialNumber, requester }: Pick<CertificateRecord, "serialNumber" | "requester">,
  actor: Actor,
  details: AuditEntry["details"],
  /** Of its status, where that changes. */
  generation?: bigint,
): AuditEntry {
  const { kind, namespace, name, uid } = requester;
  const subject = {
    kind: "Certificate",
    id: serialToText(Buffer.from(serialNumber, "hex")),
    ...(generation !== undefined && { generation }),
    name: namespace === "" ? name : `${namespace}/${name}`,
  } as const;
  return { action, actor, subject, outcome: "Success", details: { kind, uid, ...details } };
}
