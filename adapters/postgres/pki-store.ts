import type { AuditSigner } from "../../core/audit/signer.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import {
  type AuthorityIdentity,
  type AuthorityRecord,
  type CertificateHolder,
  type CertificateRecord,
  type CertificateStatus,
  type Completion,
  type CrlKey,
  type CrlWork,
  type NewAuthority,
  PkiConflict,
  type PkiStore,
  type PurgeTimes,
  type Reservation,
  type ResponderRequest,
  type Revocation,
  type SealedKey,
  type StatusSeal,
  type StoredCrl,
} from "../../core/ports/pki-store.ts";
import type { DeliveryRecord, Writer } from "../../core/ports/vault-store.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read, type Statement } from "./database.ts";
import { CONFLICT, mapWriteError, sqlState } from "./errors.ts";
import type { OutboxHint } from "./outbox-hint.ts";
import {
  type AuthorityRow,
  type CertificateRow,
  certificateOf,
  generationOf,
  type HolderRow,
  holderOf,
  type StatusRow,
  statusOf,
} from "./pki-rows.ts";
import { hex } from "./rows.ts";

const AUTHORITY = `
  SELECT a.id, a.kind, a.namespace, a.namespace_uid, a.name, a.state, a.crl_every_ms, a.ocsp_validity_ms, g.number,
         g.subject, g.spki, g.certificate, g.not_after, g.chain, g.wrapped_key, g.key_id, g.sealed_key, g.created_at
  FROM authorities a JOIN authority_generations g ON g.authority_id = a.id`;
const FIND_AUTHORITY = statement(
  "find_authority",
  `${AUTHORITY} WHERE a.kind = $1 AND a.namespace = $2 AND a.name = $3 AND a.namespace_uid = $4 ORDER BY g.number`,
);
const READ_AUTHORITY = statement("read_authority", `${AUTHORITY} WHERE a.id = $1 ORDER BY g.number`);
const AUTHORITIES_NAMED = statement(
  "authorities_named",
  `${AUTHORITY} WHERE a.kind = $1 AND a.namespace = $2 AND a.name = $3 ORDER BY a.id, g.number`,
);
const LIST_AUTHORITIES = statement(
  "list_authorities",
  `${AUTHORITY} WHERE a.id IN (SELECT id FROM authorities WHERE id > $1 ORDER BY id LIMIT $2) ORDER BY a.id, g.number`,
);
const CREATE_AUTHORITY = statement(
  "create_authority",
  "SELECT create_authority($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
);
const INSTALL = statement("install_certificate", "SELECT install_certificate($1, $2, $3, $4, $5, $6, $7, $8)");
const CHANGE_AUTHORITY = statement("change_authority", "SELECT change_authority($1, $2, $3, $4, $5, $6)");

const SEAL_COLUMNS = "status_generation, status_mac, audited_status(authority_id, serial) AS audited_status";
const CERTIFICATE_COLUMNS = `
  authority_id, generation, serial, state, requester_kind, namespace, namespace_uid, name, requester_uid, revision,
  profile, template, not_before, not_after, crl_partition, der, sealed_key IS NOT NULL AS has_key, revoked_at,
  revocation_reason, invalidity_date, ${SEAL_COLUMNS}`;
const STATUS_COLUMNS = `
  authority_id, generation, crl_partition, serial, not_after, revoked_at, revocation_reason, invalidity_date, ${SEAL_COLUMNS}`;
const RESERVE = statement(
  "reserve_certificate",
  `SELECT ${CERTIFICATE_COLUMNS} FROM reserve_certificate($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                                                          $15, $16, $17, $18, $19)`,
);
const ABANDON = statement("abandon_certificate", "SELECT abandon_certificate($1, $2, $3, $4)");
const COMPLETE = statement(
  "complete_certificate",
  `SELECT ${CERTIFICATE_COLUMNS} FROM complete_certificate($1, $2, $3, $4, $5, $6)`,
);
const CERTIFICATE = statement(
  "certificate",
  `SELECT ${CERTIFICATE_COLUMNS} FROM certificates WHERE authority_id = $1 AND serial = $2`,
);
const CERTIFICATE_FOR = statement(
  "certificate_for",
  `SELECT ${CERTIFICATE_COLUMNS} FROM certificates
   WHERE requester_uid = $1 AND revision = $2 AND state <> 'Abandoned'`,
);
const CERTIFICATES_OF = statement(
  "certificates_of",
  `SELECT ${CERTIFICATE_COLUMNS} FROM certificates
   WHERE requester_uid = $1 AND state = 'Issued' ORDER BY revision DESC LIMIT $2`,
);
const CERTIFICATES_BY_SERIAL = statement(
  "certificates_by_serial",
  `SELECT ${CERTIFICATE_COLUMNS} FROM certificates
   WHERE requester_uid = $1 AND serial = $2 AND state = 'Issued' ORDER BY authority_id`,
);
const READ_KEY = statement(
  "read_certificate_key",
  `SELECT wrapped_key, key_id, sealed_key FROM certificates
   WHERE authority_id = $1 AND serial = $2 AND sealed_key IS NOT NULL`,
);
const REVOKE = statement(
  "revoke_certificate",
  "SELECT revoke_certificate($1, $2, $3, $4, $5, $6, $7, $8, $9) AS changed",
);
const RELEASE = statement("release_certificate", "SELECT release_certificate($1, $2, $3, $4, $5, $6) AS changed");
const UNSEALED = statement(
  "unsealed_certificates",
  `SELECT ${CERTIFICATE_COLUMNS} FROM certificates
   WHERE (status_generation > 0 OR revoked_at IS NOT NULL) AND status_generation = 0
     AND EXISTS (SELECT FROM audit a WHERE a.action = 'CertificateRevoked' AND a.subject_id = serial_text(serial))
   ORDER BY authority_id, serial LIMIT $1`,
);
const SEAL = statement("seal_status", "SELECT seal_status($1, $2, $3, $4, $5)");

// Each half by itself in order, so that neither looks at more than it hands out.
const PURGEABLE = statement(
  "purgeable_certificates",
  `WITH found AS (
   (SELECT c.authority_id, c.serial FROM certificates c
    WHERE c.not_after < $1 AND may_be_purged(c, $3) ORDER BY c.not_after LIMIT $4)
   UNION
   (SELECT c.authority_id, c.serial
    FROM certificate_holders h
      CROSS JOIN LATERAL (
        SELECT max(n.revision) AS revision FROM certificates n WHERE n.requester_uid = h.uid AND n.state = 'Issued') newest
      JOIN certificates c ON c.requester_uid = h.uid AND c.revision <= newest.revision - h.revision_history_limit
        AND c.state <> 'Abandoned'
    WHERE h.revision_history_limit IS NOT NULL AND c.not_after < $2 AND may_be_purged(c, $3) LIMIT $4))
   SELECT ${STATUS_COLUMNS} FROM found JOIN certificates USING (authority_id, serial)
   ORDER BY not_after, authority_id, serial LIMIT $4`,
);
const PURGE = statement("purge_certificates", "SELECT purge_certificates($1, $2, $3, $4, $5, $6, $7)");
const COUNT = statement(
  "count_certificates",
  `SELECT g.purged + (SELECT count(*) FROM certificates WHERE authority_id = $1 AND generation = $2) AS count
   FROM authority_generations g WHERE g.authority_id = $1 AND g.number = $2`,
);

const HOLDER_COLUMNS = "kind, uid, namespace, namespace_uid, name, deletion_policy, revision_history_limit, delivery";
const FIND_HOLDER = statement("find_holder", `SELECT ${HOLDER_COLUMNS} FROM certificate_holders WHERE uid = $1`);
const HOLDERS_NAMED = statement(
  "holders_named",
  `SELECT ${HOLDER_COLUMNS} FROM certificate_holders WHERE kind = $1 AND namespace = $2 AND name = $3 ORDER BY uid`,
);
const LIST_HOLDERS = statement(
  "list_holders",
  `SELECT ${HOLDER_COLUMNS} FROM certificate_holders WHERE uid > $1 ORDER BY uid LIMIT $2`,
);
const RECORD_HOLDER = statement("record_holder", "SELECT record_holder($1, $2, $3, $4, $5, $6, $7, $8)");
const DELIVERY = statement("record_certificate_delivery", "SELECT record_certificate_delivery($1, $2, $3, $4)");
const REMOVE_HOLDER = statement("remove_holder", "SELECT remove_holder($1, $2, $3)");

const WORK_COLUMNS = "c.authority_id, c.generation, c.partition, c.changes, c.number, c.this_update, c.next_update";
const DUE_CRLS = statement(
  "due_crls",
  `SELECT ${WORK_COLUMNS}
   FROM crls c JOIN authorities a ON a.id = c.authority_id
     JOIN authority_generations g ON g.authority_id = c.authority_id AND g.number = c.generation
   WHERE g.not_after > $1
     AND (c.number IS NULL OR c.changes > c.covers OR c.this_update + a.crl_every_ms * interval '1 ms' <= $1)
   ORDER BY c.this_update NULLS FIRST, c.authority_id, c.generation, c.partition LIMIT $2`,
);
const CRL_WORK = statement(
  "crl_work",
  `SELECT ${WORK_COLUMNS} FROM crls c WHERE c.authority_id = $1 AND c.generation = $2 AND c.partition = $3`,
);
const CHANGED_STATUSES = statement(
  "changed_statuses",
  `SELECT ${STATUS_COLUMNS} FROM certificates
   WHERE authority_id = $1 AND generation = $2 AND crl_partition = $3 AND not_after >= $4 AND serial > $5
     AND (status_generation > 0 OR revoked_at IS NOT NULL)
   ORDER BY serial LIMIT $6`,
);
const COUNT_STATUSES = statement(
  "count_statuses",
  `SELECT
     (SELECT count(*) FROM certificates
      WHERE authority_id = $1 AND (status_generation > 0 OR revoked_at IS NOT NULL) AND status_generation > 0) AS sealed,
     (SELECT count(DISTINCT subject_id) - count(*) FILTER (WHERE action = 'CertificatePurged') FROM audit
      WHERE details->>'authority' = $1::text AND subject_kind = 'Certificate' AND subject_generation IS NOT NULL) AS audited`,
);
const PURGED = statement(
  "purged_certificate",
  `SELECT FROM audit
   WHERE details->>'authority' = $1::text AND subject_id = serial_text($2) AND action = 'CertificatePurged'
     AND subject_kind = 'Certificate' AND subject_generation IS NOT NULL`,
);
const PUBLISH = statement("publish_crl", "SELECT publish_crl($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");
const READ_CRL = statement(
  "read_crl",
  `SELECT authority_id, generation, partition, number, this_update, next_update, covers, der FROM crls
   WHERE authority_id = $1 AND generation = $2 AND partition = $3 AND number IS NOT NULL`,
);

const PENDING = statement(
  "pending_responders",
  `SELECT r.id, r.authority_id, r.generation, r.csr, r.requested_at
   FROM authorities a CROSS JOIN LATERAL (
     SELECT * FROM ocsp_responders o
     WHERE o.authority_id = a.id AND o.requested_at >= $1 AND o.certificate IS NULL
     ORDER BY o.requested_at, o.id LIMIT $2) r
   ORDER BY r.requested_at, r.id`,
);
const ANSWERED = statement(
  "responders_since",
  `SELECT authority_id, count(*) AS answered FROM ocsp_responders
   WHERE requested_at >= $1 AND certificate IS NOT NULL GROUP BY authority_id`,
);
const ANSWER = statement("answer_responder", "SELECT answer_responder($1, $2, $3, $4)");
const FORGET = statement("forget_responders", "SELECT forget_responders($1, $2, $3) AS forgotten");

const LOWEST_UUID = "00000000-0000-0000-0000-000000000000";

function statement(name: string, text: string): Statement {
  return { name, text };
}

interface WorkRow {
  readonly authority_id: string;
  readonly generation: number;
  readonly partition: number;
  readonly changes: string;
  readonly number: string | null;
  readonly this_update: Date | null;
  readonly next_update: Date | null;
}

export class PostgresPkiStore implements PkiStore {
  readonly #database: Database;
  readonly #signer: AuditSigner;
  readonly #hint: OutboxHint;

  constructor(database: Database, signer: AuditSigner, hint: OutboxHint) {
    this.#database = database;
    this.#signer = signer;
    this.#hint = hint;
  }

  async findAuthority(identity: AuthorityIdentity): Promise<AuthorityRecord | undefined> {
    const { kind, namespace, name, namespaceUid } = identity;
    const rows = await read<AuthorityRow>(this.#database, FIND_AUTHORITY, [kind, namespace, name, namespaceUid]);
    return authoritiesOf(rows)[0];
  }

  async authority(id: string): Promise<AuthorityRecord | undefined> {
    return authoritiesOf(await read<AuthorityRow>(this.#database, READ_AUTHORITY, [id]))[0];
  }

  async authoritiesNamed(
    kind: AuthorityIdentity["kind"],
    namespace: string,
    name: string,
  ): Promise<readonly AuthorityRecord[]> {
    return authoritiesOf(await read<AuthorityRow>(this.#database, AUTHORITIES_NAMED, [kind, namespace, name]));
  }

  async listAuthorities(after: string | undefined, limit: number): Promise<readonly AuthorityRecord[]> {
    return authoritiesOf(await read<AuthorityRow>(this.#database, LIST_AUTHORITIES, [after ?? LOWEST_UUID, limit]));
  }

  async createAuthority(writer: Writer, authority: NewAuthority): Promise<AuthorityRecord> {
    const { id, identity, revocation, generation } = authority;
    const { wrappedKey, keyId, ciphertext } = generation.sealedKey;
    const what = `the authority of ${identity.kind} ${identity.name}`;
    await this.#write(writer, what, CREATE_AUTHORITY, [
      id,
      identity.kind,
      identity.namespace,
      identity.namespaceUid,
      identity.name,
      revocation.crlEveryMs,
      revocation.ocspValidityMs,
      generation.subject,
      generation.spki,
      wrappedKey,
      keyId,
      ciphertext,
      this.#audit(authority.audit),
    ]);
    this.#hint.changed();
    const standing = await this.findAuthority(identity);
    if (standing === undefined) throw new PkiConflict(what);
    return standing;
  }

  async installCertificate(writer: Writer, installed: Parameters<PkiStore["installCertificate"]>[1]): Promise<void> {
    const { authorityId, generation, certificate, notAfter, chain, replaces, audit } = installed;
    await this.#write(writer, `generation ${generation} of authority ${authorityId}`, INSTALL, [
      authorityId,
      generation,
      certificate,
      notAfter,
      chain,
      replaces ?? null,
      this.#audit(audit),
    ]);
    this.#hint.changed();
  }

  async changeAuthority(writer: Writer, change: Parameters<PkiStore["changeAuthority"]>[1]): Promise<void> {
    const { id, state, revocation, audit } = change;
    await this.#write(writer, `authority ${id}`, CHANGE_AUTHORITY, [
      id,
      state,
      revocation.crlEveryMs,
      revocation.ocspValidityMs,
      this.#audit(audit),
    ]);
    this.#hint.changed();
  }

  async reserve(writer: Writer, reservation: Reservation, audit: readonly AuditEntry[]): Promise<CertificateRecord> {
    const { requester, sealedKey } = reservation;
    const what = `revision ${reservation.revision} of ${requester.kind} ${requester.namespace}/${requester.name}`;
    const [standing] = await this.#write<CertificateRow>(writer, what, RESERVE, [
      reservation.authorityId,
      reservation.generation,
      hex(reservation.serialNumber),
      requester.kind,
      requester.namespace,
      requester.namespaceUid,
      requester.name,
      requester.uid,
      reservation.revision,
      reservation.profile,
      hex(reservation.templateDigest),
      reservation.notBefore,
      reservation.notAfter,
      reservation.crlPartition,
      sealedKey?.wrappedKey,
      sealedKey?.keyId,
      sealedKey?.ciphertext,
      this.#audit(audit),
    ]);
    if (standing === undefined) throw new PkiConflict(what);
    return certificateOf(standing);
  }

  async abandon(
    writer: Writer,
    authorityId: string,
    serialNumber: string,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    await this.#write(writer, `certificate ${serialNumber}`, ABANDON, [
      authorityId,
      hex(serialNumber),
      this.#audit(audit),
    ]);
  }

  async complete(writer: Writer, completion: Completion): Promise<CertificateRecord> {
    const { authorityId, serialNumber, certificate, keepKeys, audit } = completion;
    const what = `certificate ${serialNumber}`;
    const [standing] = await this.#write<CertificateRow>(writer, what, COMPLETE, [
      authorityId,
      hex(serialNumber),
      certificate,
      keepKeys,
      this.#audit(audit),
    ]);
    if (standing === undefined) throw new PkiConflict(what);
    this.#hint.changed();
    return certificateOf(standing);
  }

  async certificate(authorityId: string, serialNumber: string): Promise<CertificateRecord | undefined> {
    return (await this.#certificates(CERTIFICATE, [authorityId, hex(serialNumber)]))[0];
  }

  async certificateFor(requesterUid: string, revision: number): Promise<CertificateRecord | undefined> {
    return (await this.#certificates(CERTIFICATE_FOR, [requesterUid, revision]))[0];
  }

  certificatesOf(requesterUid: string, limit: number): Promise<readonly CertificateRecord[]> {
    return this.#certificates(CERTIFICATES_OF, [requesterUid, limit]);
  }

  certificatesBySerial(requesterUid: string, serialNumber: string): Promise<readonly CertificateRecord[]> {
    return this.#certificates(CERTIFICATES_BY_SERIAL, [requesterUid, hex(serialNumber)]);
  }

  async readKey(authorityId: string, serialNumber: string): Promise<SealedKey | undefined> {
    const [row] = await read<{ wrapped_key: Buffer; key_id: string; sealed_key: Buffer }>(this.#database, READ_KEY, [
      authorityId,
      hex(serialNumber),
    ]);
    return row && { wrappedKey: row.wrapped_key, keyId: row.key_id, ciphertext: row.sealed_key };
  }

  async revoke(
    writer: Writer,
    authorityId: string,
    serialNumber: string,
    { at, reason, invalidityDate }: Revocation,
    { generation, mac }: StatusSeal,
    audit: readonly AuditEntry[],
  ): Promise<boolean> {
    return this.#changed(writer, serialNumber, REVOKE, [
      authorityId,
      hex(serialNumber),
      at,
      reason,
      invalidityDate,
      generation,
      mac,
      this.#audit(audit),
    ]);
  }

  async release(
    writer: Writer,
    authorityId: string,
    serialNumber: string,
    { generation, mac }: StatusSeal,
    audit: readonly AuditEntry[],
  ): Promise<boolean> {
    const values = [authorityId, hex(serialNumber), generation, mac, this.#audit(audit)];
    return this.#changed(writer, serialNumber, RELEASE, values);
  }

  unsealed(limit: number): Promise<readonly CertificateRecord[]> {
    return this.#certificates(UNSEALED, [limit]);
  }

  async seal(
    writer: Writer,
    authorityId: string,
    serialNumber: string,
    { mac }: StatusSeal,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    const values = [authorityId, hex(serialNumber), mac, this.#audit(audit)];
    await this.#write(writer, `certificate ${serialNumber}`, SEAL, values);
  }

  async listPurgeable(
    { now, endedBefore, surplusEndedBefore }: PurgeTimes,
    limit: number,
  ): Promise<readonly CertificateStatus[]> {
    const values = [endedBefore, surplusEndedBefore, now, limit];
    return (await read<StatusRow>(this.#database, PURGEABLE, values)).map(statusOf);
  }

  async purge(writer: Writer, certificates: Parameters<PkiStore["purge"]>[1]): Promise<void> {
    const { authorityId, statuses, times, audit } = certificates;
    const { now, surplusEndedBefore } = times;
    await this.#write(writer, `certificates of authority ${authorityId}`, PURGE, [
      authorityId,
      statuses.map(({ serialNumber }) => hex(serialNumber)),
      statuses.map(({ seal }) => seal?.generation ?? 0n),
      surplusEndedBefore,
      now,
      this.#audit(audit),
    ]);
  }

  async countCertificates(authorityId: string, generation: number): Promise<number> {
    const [row] = await read<{ count: string }>(this.#database, COUNT, [authorityId, generation]);
    return Number(row?.count ?? 0);
  }

  async findHolder(uid: string): Promise<CertificateHolder | undefined> {
    return (await read<HolderRow>(this.#database, FIND_HOLDER, [uid])).map(holderOf)[0];
  }

  async holdersNamed(
    kind: CertificateHolder["kind"],
    namespace: string,
    name: string,
  ): Promise<readonly CertificateHolder[]> {
    return (await read<HolderRow>(this.#database, HOLDERS_NAMED, [kind, namespace, name])).map(holderOf);
  }

  async listHolders(after: string | undefined, limit: number): Promise<readonly CertificateHolder[]> {
    return (await read<HolderRow>(this.#database, LIST_HOLDERS, [after ?? "", limit])).map(holderOf);
  }

  async recordHolder(writer: Writer, holder: Omit<CertificateHolder, "delivery">): Promise<void> {
    const { kind, uid, namespace, namespaceUid, name, deletionPolicy, revisionHistoryLimit } = holder;
    const values = [uid, namespace, namespaceUid, name, deletionPolicy, revisionHistoryLimit, kind];
    await this.#write(writer, `holder ${uid}`, RECORD_HOLDER, values);
  }

  async recordDelivery(
    writer: Writer,
    uid: string,
    delivery: DeliveryRecord | undefined,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    const stored = delivery === undefined ? null : JSON.stringify(delivery);
    await this.#write(writer, `holder ${uid}`, DELIVERY, [uid, stored, this.#audit(audit)]);
  }

  async removeHolder(writer: Writer, uid: string, audit: readonly AuditEntry[]): Promise<void> {
    await this.#write(writer, `holder ${uid}`, REMOVE_HOLDER, [uid, this.#audit(audit)]);
  }

  async listDueCrls(now: Date, limit: number): Promise<readonly CrlWork[]> {
    return (await read<WorkRow>(this.#database, DUE_CRLS, [now, limit])).map(workOf);
  }

  async crlWork({ authorityId, generation, partition }: CrlKey): Promise<CrlWork | undefined> {
    return (await read<WorkRow>(this.#database, CRL_WORK, [authorityId, generation, partition])).map(workOf)[0];
  }

  async changedStatuses(
    { authorityId, generation, partition }: CrlKey,
    unexpiredAt: Date,
    after: string | undefined,
    limit: number,
  ): Promise<readonly CertificateStatus[]> {
    const values = [authorityId, generation, partition, unexpiredAt, hex(after ?? ""), limit];
    return (await read<StatusRow>(this.#database, CHANGED_STATUSES, values)).map(statusOf);
  }

  async wasPurged(authorityId: string, serialNumber: string): Promise<boolean> {
    return (await read(this.#database, PURGED, [authorityId, hex(serialNumber)])).length > 0;
  }

  async countStatuses(authorityId: string): Promise<{ readonly sealed: number; readonly audited: number }> {
    const [row] = await read<{ sealed: string; audited: string }>(this.#database, COUNT_STATUSES, [authorityId]);
    return { sealed: Number(row?.sealed ?? 0), audited: Number(row?.audited ?? 0) };
  }

  async publishCrl(writer: Writer, crl: StoredCrl, audit: readonly AuditEntry[]): Promise<void> {
    await this.#write(writer, `the CRL of authority ${crl.authorityId}`, PUBLISH, [
      crl.authorityId,
      crl.generation,
      crl.partition,
      crl.number,
      crl.thisUpdate,
      crl.nextUpdate,
      crl.covers,
      crl.der,
      this.#audit(audit),
    ]);
    this.#hint.changed();
  }

  async crl({ authorityId, generation, partition }: CrlKey): Promise<StoredCrl | undefined> {
    const [row] = await read<{ number: string; this_update: Date; next_update: Date; covers: string; der: Buffer }>(
      this.#database,
      READ_CRL,
      [authorityId, generation, partition],
    );
    if (row === undefined) return undefined;
    const { this_update: thisUpdate, next_update: nextUpdate, der } = row;
    const [number, covers] = [BigInt(row.number), BigInt(row.covers)];
    return { authorityId, generation, partition, number, thisUpdate, nextUpdate, der, covers };
  }

  async pendingResponders(since: Date, perAuthority: number): Promise<readonly ResponderRequest[]> {
    const rows = await read<{
      id: string;
      authority_id: string;
      generation: number;
      csr: Buffer;
      requested_at: Date;
    }>(this.#database, PENDING, [since, perAuthority]);
    return rows.map(({ authority_id: authorityId, requested_at: requestedAt, ...row }) => ({
      ...row,
      authorityId,
      requestedAt,
    }));
  }

  async respondersSince(since: Date): Promise<ReadonlyMap<string, number>> {
    const rows = await read<{ authority_id: string; answered: string }>(this.#database, ANSWERED, [since]);
    return new Map(rows.map(({ authority_id: authorityId, answered }) => [authorityId, Number(answered)]));
  }

  async answerResponder(
    writer: Writer,
    id: string,
    { certificate, notAfter }: { readonly certificate: Buffer; readonly notAfter: Date },
  ): Promise<void> {
    await this.#write(writer, `responder ${id}`, ANSWER, [id, certificate, notAfter]);
    this.#hint.changed();
  }

  async forgetResponders(writer: Writer, now: Date, unansweredBefore: Date): Promise<number> {
    const [row] = await this.#write<{ forgotten: number }>(writer, "responders", FORGET, [now, unansweredBefore]);
    return row?.forgotten ?? 0;
  }

  async #certificates(query: Statement, values: readonly unknown[]): Promise<readonly CertificateRecord[]> {
    return (await read<CertificateRow>(this.#database, query, values)).map(certificateOf);
  }

  async #changed(writer: Writer, serialNumber: string, write: Statement, values: readonly unknown[]): Promise<boolean> {
    const [row] = await this.#write<{ changed: boolean }>(writer, `certificate ${serialNumber}`, write, values);
    this.#hint.changed();
    return row?.changed === true;
  }

  async #write<Row extends object>(
    writer: Writer,
    what: string,
    write: Statement,
    values: readonly unknown[],
  ): Promise<Row[]> {
    try {
      return await this.#database.query<Row>(write, [writer.epoch, ...values]);
    } catch (error) {
      throw sqlState(error) === CONFLICT ? new PkiConflict(what) : mapWriteError(error, writer.epoch);
    }
  }

  #audit(entries: readonly AuditEntry[]): string {
    return auditParameter(this.#signer, entries);
  }
}

/** Rows come ordered by authority and number. */
function authoritiesOf(rows: readonly AuthorityRow[]): readonly AuthorityRecord[] {
  return rows.flatMap((row, index) => {
    const { id, kind, namespace, namespace_uid: namespaceUid, name, state } = row;
    if (rows[index - 1]?.id === id) return [];
    return [
      {
        id,
        identity: { kind, namespace, namespaceUid, name },
        state,
        revocation: { crlEveryMs: Number(row.crl_every_ms), ocspValidityMs: Number(row.ocsp_validity_ms) },
        generations: rows.filter((each) => each.id === id).map(generationOf),
      },
    ];
  });
}

function workOf(row: WorkRow): CrlWork {
  const { authority_id: authorityId, generation, partition, number } = row;
  const { this_update: thisUpdate, next_update: nextUpdate } = row;
  const work = { authorityId, generation, partition, covers: BigInt(row.changes) };
  if (number === null || thisUpdate === null || nextUpdate === null) return work;
  return { ...work, last: { number: BigInt(number), thisUpdate, nextUpdate } };
}
