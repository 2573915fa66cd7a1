/** What contract suites and tests of the stores write. */
import { randomBytes, randomUUID } from "node:crypto";
import type { AuditEntry } from "./audit-log.ts";
import type {
  Lifecycle,
  NewVersion,
  PointerChange,
  RotationRecord,
  SecretIdentity,
  SecretRecord,
} from "./vault-store.ts";

export const lifecycle: Lifecycle = { deletionPolicy: "SoftDelete", softDeleteMs: 60_000, keepVersions: 3 };

export const actor = { kind: "Object", resource: "secrets.mazevault.io", uid: "uid-of-object", generation: 1 } as const;

export const identity = (name: string): SecretIdentity => ({
  project: "payments",
  environment: "staging",
  namespace: "payments-staging",
  namespaceUid: "uid-of-namespace",
  name,
});

export const digest = (): string => randomBytes(32).toString("hex");

export const auditEntry = (
  id: string,
  generation?: bigint,
  action: AuditEntry["action"] = "SecretRead",
): AuditEntry => ({
  action,
  actor,
  subject: { kind: "Secret", id, ...(generation === undefined ? {} : { generation }), name: "payments-staging/sample" },
  outcome: "Success",
  details: { purpose: "Test", number: 1.5, flag: true },
});

/** The version after `seen`, or the first one; bytes that only look sealed. */
export function nextVersion(
  of: SecretIdentity,
  seen?: SecretRecord,
  keepVersions = 3,
  rotation: RotationRecord | undefined = seen?.rotation,
): NewVersion {
  const generation = (seen?.generation ?? 0n) + 1n;
  const id = seen?.id ?? randomUUID();
  const projectKeyId = randomUUID();
  const entry = (key: string) => ({ key, recipe: digest(), fingerprint: digest(), ciphertext: randomBytes(60) });
  return {
    id,
    identity: of,
    expected: seen?.generation,
    generation,
    mac: randomBytes(32),
    sealed: {
      version: (seen?.currentVersion ?? 0) + 1,
      wrappedKey: randomBytes(60),
      projectKeyId,
      entriesKeyId: projectKeyId,
      entries: [entry("password"), entry("username")],
    },
    lifecycle: { ...lifecycle, keepVersions },
    ...(rotation !== undefined && { rotation }),
    audit: [auditEntry(id, generation, "SecretVersionCreated")],
  };
}

/** The same with a password of this fingerprint. */
export function withPassword({ sealed, ...next }: NewVersion, fingerprint: string): NewVersion {
  const entries = sealed.entries.map((entry) => (entry.key === "password" ? { ...entry, fingerprint } : entry));
  return { ...next, sealed: { ...sealed, entries } };
}

export function softDeletion(seen: SecretRecord, deletedAt: Date, purgeAfter: Date): PointerChange {
  const generation = seen.generation + 1n;
  return {
    id: seen.id,
    expected: seen.generation,
    generation,
    mac: randomBytes(32),
    state: "SoftDeleted",
    currentVersion: seen.currentVersion,
    deletedAt,
    purgeAfter,
    lifecycle: seen.lifecycle,
    ...(seen.rotation !== undefined && { rotation: seen.rotation }),
    audit: [auditEntry(seen.id, generation, "SecretSoftDeleted")],
  };
}
