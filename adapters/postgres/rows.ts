import type {
  ApplyFailure,
  ApplyRecord,
  DeliveryRecord,
  EntryDigest,
  FormerVersion,
  HeldVersion,
  Lifecycle,
  PendingVersion,
  RotationRecord,
  SealedVersion,
  SecretIdentity,
  SecretLocation,
  SecretRecord,
  SecretState,
  StoredPointer,
} from "../../core/ports/vault-store.ts";

export interface IdentityRow {
  readonly project: string;
  readonly environment: string;
  readonly namespace: string;
  readonly namespace_uid: string;
  readonly name: string;
}

/** Columns of `secrets` that say where a secret is; node-postgres reads bigint as text. */
export interface LocationRow extends IdentityRow {
  readonly id: string;
  readonly state: SecretState;
  readonly deletion_policy: Lifecycle["deletionPolicy"];
  readonly soft_delete_ms: string;
  readonly keep_versions: number;
  readonly delivery: DeliveryRecord | null;
}

/** Times are ISO 8601 texts. */
type AsText<T> = { readonly [Field in keyof T]: T[Field] extends Date | undefined ? string : T[Field] };

interface RotationRow extends Pick<RotationRecord, "timetable" | "request"> {
  readonly since: string;
  readonly at?: string;
  readonly held: readonly AsText<HeldVersion>[];
  readonly apply?: ApplyRow;
}

interface ApplyRow extends Pick<ApplyRecord, "last" | "asked" | "failed"> {
  readonly pending?: AsText<PendingVersion>;
  readonly former?: AsText<FormerVersion>;
  readonly failure?: AsText<ApplyFailure>;
}

export interface PointerRow extends LocationRow {
  readonly current_version: number;
  readonly generation: string;
  readonly deleted_at: Date | null;
  readonly purge_after: Date | null;
  readonly rotation: RotationRow | null;
  readonly vault_url: string | null;
  readonly mac: Buffer;
  readonly audited_generation: string | null;
  readonly entries: readonly EntryDigest[] | null;
}

/** The pointer with the version that is current; digests and ciphertexts are hexadecimal. */
export interface SealedPointerRow extends Omit<PointerRow, "entries"> {
  readonly entries: readonly (EntryDigest & { readonly ciphertext: string })[] | null;
  readonly wrapped_key: Buffer | null;
  readonly project_key_id: string | null;
  readonly entries_key_id: string | null;
}

/** Columns of an entry are null where a version has none. */
export type EntryRow = {
  readonly wrapped_key: Buffer;
  readonly project_key_id: string;
  readonly entries_key_id: string;
} & (
  | { readonly key: string; readonly recipe: Buffer; readonly fingerprint: Buffer; readonly ciphertext: Buffer }
  | { readonly key: null; readonly recipe: null; readonly fingerprint: null; readonly ciphertext: null }
);

export const hex = (digest: string): Buffer => Buffer.from(digest, "hex");

export function identityOf(row: IdentityRow): SecretIdentity {
  const { project, environment, namespace, namespace_uid: namespaceUid, name } = row;
  return { project, environment, namespace, namespaceUid, name };
}

const lifecycleOf = (row: LocationRow): Lifecycle => ({
  deletionPolicy: row.deletion_policy,
  softDeleteMs: Number(row.soft_delete_ms),
  keepVersions: row.keep_versions,
});

export function locationOf(row: LocationRow): SecretLocation {
  const { id, state, delivery } = row;
  const located = { id, identity: identityOf(row), state, lifecycle: lifecycleOf(row) };
  if (delivery === null) return located;
  const { secretName, uid, resourceVersion } = delivery;
  return { ...located, delivery: { secretName, uid, resourceVersion } };
}

const pendingOf = ({ due, since, ...pending }: AsText<PendingVersion>): PendingVersion => ({
  ...pending,
  ...(due !== undefined && { due: new Date(due) }),
  since: new Date(since),
});

const formerOf = ({ confirmed, ...former }: AsText<FormerVersion>): FormerVersion => ({
  ...former,
  ...(confirmed !== undefined && { confirmed: new Date(confirmed) }),
});

const applyOf = ({ last, asked, pending, former, failure, failed }: ApplyRow): ApplyRecord => ({
  last,
  ...(asked === true && { asked }),
  ...(pending && { pending: pendingOf(pending) }),
  ...(former && { former: formerOf(former) }),
  ...(failure && { failure: { ...failure, retryAt: new Date(failure.retryAt) } }),
  failed,
});

const rotationOf = ({ timetable, since, at, request, held, apply }: RotationRow): RotationRecord => ({
  ...(timetable !== undefined && { timetable }),
  since: new Date(since),
  ...(at !== undefined && { at: new Date(at) }),
  ...(request !== undefined && { request }),
  held: held.map(({ version, until }) => ({ version, until: new Date(until) })),
  ...(apply !== undefined && { apply: applyOf(apply) }),
});

export function pointerOf(row: PointerRow): StoredPointer {
  const record: SecretRecord = {
    id: row.id,
    identity: identityOf(row),
    state: row.state,
    currentVersion: row.current_version,
    generation: BigInt(row.generation),
    lifecycle: lifecycleOf(row),
    ...(row.rotation === null ? {} : { rotation: rotationOf(row.rotation) }),
    ...(row.vault_url === null ? {} : { vaultUrl: row.vault_url }),
    entries: row.entries ?? [],
    ...(row.deleted_at === null ? {} : { deletedAt: row.deleted_at }),
    ...(row.purge_after === null ? {} : { purgeAfter: row.purge_after }),
    ...(row.delivery === null ? {} : { delivery: row.delivery }),
  };
  return { record, mac: row.mac, auditedGeneration: BigInt(row.audited_generation ?? 0) };
}

export function sealedPointerOf(row: SealedPointerRow): StoredPointer {
  const { wrapped_key: wrappedKey, project_key_id: projectKeyId, entries_key_id: entriesKeyId } = row;
  const entries = (row.entries ?? []).map((entry) => ({ ...entry, ciphertext: hex(entry.ciphertext) }));
  const found = pointerOf({ ...row, entries: entries.map(({ ciphertext: _, ...digest }) => digest) });
  if (wrappedKey === null || projectKeyId === null || entriesKeyId === null) return found;
  const sealed: SealedVersion = { version: row.current_version, wrappedKey, projectKeyId, entriesKeyId, entries };
  return { ...found, record: { ...found.record, sealed } };
}
