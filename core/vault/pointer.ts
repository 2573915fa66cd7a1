import { createHmac, type KeyObject, timingSafeEqual } from "node:crypto";
import { encodeFields, type Field } from "../canonical.ts";
import { Unavailable } from "../errors.ts";
import type {
  ApplyRecord,
  Lifecycle,
  RotationRecord,
  SecretIdentity,
  SecretRecord,
  SecretState,
  StoredPointer,
} from "../ports/vault-store.ts";

/** The row that says which version is current, as far as its MAC covers it. */
export interface Pointer {
  readonly id: string;
  readonly identity: SecretIdentity;
  readonly state: SecretState;
  readonly currentVersion: number;
  readonly generation: bigint;
  readonly deletedAt?: Date;
  readonly purgeAfter?: Date;
  readonly lifecycle: Lifecycle;
  readonly rotation?: RotationRecord;
  readonly vaultUrl?: string;
}

/** HMAC-SHA-256 over the whole pointer, 32 bytes. */
export function pointerMac(key: KeyObject, installationId: string, pointer: Pointer): Buffer {
  const { identity, lifecycle, rotation, vaultUrl } = pointer;
  return createHmac("sha256", key)
    .update(
      encodeFields("mazevault pointer", [
        installationId,
        pointer.id,
        identity.project,
        identity.environment,
        identity.namespace,
        identity.namespaceUid,
        identity.name,
        pointer.state,
        pointer.currentVersion,
        pointer.generation,
        pointer.deletedAt,
        pointer.purgeAfter,
        lifecycle.deletionPolicy,
        lifecycle.softDeleteMs,
        lifecycle.keepVersions,
        // Without one the bytes are those from before there were rotations.
        ...(rotation === undefined ? [] : [rotationField(rotation)]),
        // Without one they are those from before a Key Vault could have the values.
        ...(vaultUrl === undefined ? [] : [{ purpose: "storage", fields: [vaultUrl] }]),
      ]),
    )
    .digest();
}

const rotationField = ({ timetable, since, at, request, held, apply }: RotationRecord): Field => ({
  purpose: "rotation",
  fields: [
    timetable,
    since,
    at,
    request,
    ...held.flatMap(({ version, until }) => [version, until]),
    // As above.
    ...(apply === undefined ? [] : [applyField(apply)]),
  ],
});

const applyField = ({ last, asked, pending, former, failure, failed }: ApplyRecord): Field => ({
  purpose: "apply",
  fields: [
    last,
    asked && "asked",
    pending && {
      purpose: "pending",
      fields: [pending.version, pending.base, pending.cause, pending.due, pending.since, ...pending.keys],
    },
    former && { purpose: "former", fields: [former.version, former.role, former.confirmed] },
    failure && {
      purpose: "failure",
      fields: [failure.version, failure.cause, failure.message, failure.count, failure.retryAt],
    },
    ...failed,
  ],
});

/**
 * The record, once its MAC and its age are judged: an old row put back carries a valid MAC, but a generation below what
 * the audit rows say.
 */
export function verifiedRecord(key: KeyObject, installationId: string, stored: StoredPointer): SecretRecord {
  const { record, mac, auditedGeneration } = stored;
  const name = `secret ${record.identity.namespace}/${record.identity.name}`;
  const expected = pointerMac(key, installationId, record);
  if (mac.length !== expected.length || !timingSafeEqual(mac, expected)) {
    throw new Unavailable("TamperDetected", `the pointer of ${name} does not match its MAC; see the runbook`);
  }
  if (record.generation !== auditedGeneration) {
    throw new Unavailable(
      "TamperDetected",
      `the pointer of ${name} has generation ${record.generation}, the audit record says ${auditedGeneration}; see the runbook`,
    );
  }
  return record;
}

export const sameLifecycle = (a: Lifecycle, b: Lifecycle): boolean =>
  a.deletionPolicy === b.deletionPolicy && a.softDeleteMs === b.softDeleteMs && a.keepVersions === b.keepVersions;

/** What of a record is under the MAC. */
export function pointerOf({
  id,
  identity,
  state,
  currentVersion,
  generation,
  deletedAt,
  purgeAfter,
  lifecycle,
  rotation,
  vaultUrl,
}: SecretRecord) {
  return {
    id,
    identity,
    state,
    currentVersion,
    generation,
    lifecycle,
    ...(deletedAt === undefined ? {} : { deletedAt }),
    ...(purgeAfter === undefined ? {} : { purgeAfter }),
    ...(rotation === undefined ? {} : { rotation }),
    ...(vaultUrl === undefined ? {} : { vaultUrl }),
  } satisfies Pointer;
}
