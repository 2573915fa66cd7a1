import type {
  AuthorityGeneration,
  AuthorityIdentity,
  AuthorityState,
  CertificateHolder,
  CertificateRecord,
  CertificateState,
  CertificateStatus,
  Requester,
  Revocation,
  RevocationReason,
} from "../../core/ports/pki-store.ts";
import type { DeliveryRecord } from "../../core/ports/vault-store.ts";

/** An authority with one of its generations; node-postgres reads bigint as text. */
export interface AuthorityRow {
  readonly id: string;
  readonly kind: AuthorityIdentity["kind"];
  readonly namespace: string;
  readonly namespace_uid: string;
  readonly name: string;
  readonly state: AuthorityState;
  readonly crl_every_ms: string;
  readonly ocsp_validity_ms: string;
  readonly primary_issuer: string | null;
  readonly number: number;
  readonly subject: Buffer;
  readonly spki: Buffer;
  readonly certificate: Buffer | null;
  readonly not_after: Date | null;
  readonly chain: readonly Buffer[];
  readonly wrapped_key: Buffer | null;
  readonly key_id: string | null;
  readonly sealed_key: Buffer | null;
  readonly created_at: Date;
}

export interface RevocationRow {
  readonly revoked_at: Date | null;
  readonly revocation_reason: RevocationReason | null;
  readonly invalidity_date: Date | null;
}

/** What a status is judged by; node-postgres reads bigint as text. */
export interface SealRow {
  readonly status_generation: string;
  readonly status_mac: Buffer | null;
  readonly audited_status: string | null;
}

export interface CertificateRow extends RevocationRow, SealRow {
  readonly authority_id: string;
  readonly generation: number;
  readonly serial: Buffer;
  readonly state: CertificateState;
  readonly requester_kind: Requester["kind"];
  readonly namespace: string;
  readonly namespace_uid: string;
  readonly name: string;
  readonly requester_uid: string;
  readonly revision: number;
  readonly profile: string;
  readonly template: Buffer;
  readonly not_before: Date;
  readonly not_after: Date;
  readonly crl_partition: number;
  readonly der: Buffer | null;
  readonly has_key: boolean;
}

export type StatusRow = Pick<
  CertificateRow,
  "authority_id" | "generation" | "crl_partition" | "serial" | "not_after" | keyof RevocationRow | keyof SealRow
>;

export interface HolderRow {
  readonly kind: CertificateHolder["kind"];
  readonly uid: string;
  readonly namespace: string;
  readonly namespace_uid: string;
  readonly name: string;
  readonly deletion_policy: CertificateHolder["deletionPolicy"];
  readonly revision_history_limit: number | null;
  readonly delivery: DeliveryRecord | null;
}

export const generationOf = (row: AuthorityRow): AuthorityGeneration => ({
  number: row.number,
  subject: row.subject,
  spki: row.spki,
  ...(row.certificate === null ? {} : { certificate: row.certificate }),
  ...(row.not_after === null ? {} : { notAfter: row.not_after }),
  chain: row.chain,
  ...sealedKeyOf(row),
  createdAt: row.created_at,
});

const sealedKeyOf = ({ wrapped_key: wrappedKey, key_id: keyId, sealed_key: ciphertext }: AuthorityRow) =>
  wrappedKey === null || keyId === null || ciphertext === null ? {} : { sealedKey: { wrappedKey, keyId, ciphertext } };

export const revocationOf = ({ revoked_at: at, revocation_reason: reason, invalidity_date }: RevocationRow) =>
  at === null || reason === null
    ? undefined
    : ({ at, reason, ...(invalidity_date === null ? {} : { invalidityDate: invalidity_date }) } satisfies Revocation);

export const sealOf = ({ status_generation: generation, status_mac: mac, audited_status: audited }: SealRow) => ({
  ...(mac === null ? {} : { seal: { generation: BigInt(generation), mac } }),
  ...(audited === null ? {} : { auditedStatus: BigInt(audited) }),
});

export function statusOf(row: StatusRow): CertificateStatus {
  const revocation = revocationOf(row);
  return {
    authorityId: row.authority_id,
    generation: row.generation,
    crlPartition: row.crl_partition,
    serialNumber: row.serial.toString("hex"),
    notAfter: row.not_after,
    ...(revocation === undefined ? {} : { revocation }),
    ...sealOf(row),
  };
}

export function certificateOf(row: CertificateRow): CertificateRecord {
  const revocation = revocationOf(row);
  return {
    authorityId: row.authority_id,
    generation: row.generation,
    serialNumber: row.serial.toString("hex"),
    state: row.state,
    requester: {
      kind: row.requester_kind,
      namespace: row.namespace,
      namespaceUid: row.namespace_uid,
      name: row.name,
      uid: row.requester_uid,
    },
    revision: row.revision,
    profile: row.profile,
    templateDigest: row.template.toString("hex"),
    notBefore: row.not_before,
    notAfter: row.not_after,
    crlPartition: row.crl_partition,
    ...(row.der === null ? {} : { certificate: row.der }),
    hasKey: row.has_key,
    ...(revocation === undefined ? {} : { revocation }),
    ...sealOf(row),
  };
}

export const holderOf = (row: HolderRow): CertificateHolder => ({
  kind: row.kind,
  uid: row.uid,
  namespace: row.namespace,
  namespaceUid: row.namespace_uid,
  name: row.name,
  deletionPolicy: row.deletion_policy,
  ...(row.revision_history_limit === null ? {} : { revisionHistoryLimit: row.revision_history_limit }),
  ...(row.delivery === null ? {} : { delivery: row.delivery }),
});
