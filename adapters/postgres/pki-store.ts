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
import * as sql from "./pki-statements.ts";
import { hex } from "./rows.ts";

const LOWEST_UUID = "00000000-0000-0000-0000-000000000000";

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
    const rows = await read<AuthorityRow>(this.#database, sql.FIND_AUTHORITY, [kind, namespace, name, namespaceUid]);
    return authoritiesOf(rows)[0];
  }

  async authority(id: string): Promise<AuthorityRecord | undefined> {
    return authoritiesOf(await read<AuthorityRow>(this.#database, sql.READ_AUTHORITY, [id]))[0];
  }

  async authoritiesNamed(
    kind: AuthorityIdentity["kind"],
    namespace: string,
    name: string,
  ): Promise<readonly AuthorityRecord[]> {
    return authoritiesOf(await read<AuthorityRow>(this.#database, sql.AUTHORITIES_NAMED, [kind, namespace, name]));
  }

  async listAuthorities(after: string | undefined, limit: number): Promise<readonly AuthorityRecord[]> {
    return authoritiesOf(await read<AuthorityRow>(this.#database, sql.LIST_AUTHORITIES, [after ?? LOWEST_UUID, limit]));
  }

  async createAuthority(writer: Writer, authority: NewAuthority): Promise<AuthorityRecord> {
    const { id, identity, revocation, generation, primaryIssuer } = authority;
    const { wrappedKey, keyId, ciphertext } = generation.sealedKey ?? {};
    const what = `the authority of ${identity.kind} ${identity.name}`;
    const statement = primaryIssuer === undefined ? sql.CREATE_AUTHORITY : sql.CREATE_PRIMARY_AUTHORITY;
    await this.#write(writer, what, statement, [
      id,
      identity.kind,
      identity.namespace,
      identity.namespaceUid,
      identity.name,
      revocation.crlEveryMs,
      revocation.ocspValidityMs,
      generation.subject,
      generation.spki,
      ...(primaryIssuer === undefined ? [wrappedKey, keyId, ciphertext] : [primaryIssuer]),
      this.#audit(authority.audit),
    ]);
    this.#hint.changed();
    const standing = await this.findAuthority(identity);
    if (standing === undefined) throw new PkiConflict(what);
    return standing;
  }

  async installCertificate(writer: Writer, installed: Parameters<PkiStore["installCertificate"]>[1]): Promise<void> {
    const { authorityId, generation, certificate, notAfter, chain, replaces, audit } = installed;
    await this.#write(writer, `generation ${generation} of authority ${authorityId}`, sql.INSTALL, [
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
    await this.#write(writer, `authority ${id}`, sql.CHANGE_AUTHORITY, [
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
    const [standing] = await this.#write<CertificateRow>(writer, what, sql.RESERVE, [
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
    await this.#write(writer, `certificate ${serialNumber}`, sql.ABANDON, [
      authorityId,
      hex(serialNumber),
      this.#audit(audit),
    ]);
  }

  async complete(writer: Writer, completion: Completion): Promise<CertificateRecord> {
    const { authorityId, serialNumber, certificate, keepKeys, chosen, audit } = completion;
    const what = `certificate ${serialNumber}`;
    const { wrappedKey, keyId, ciphertext } = chosen?.sealedKey ?? {};
    const [standing] = await this.#write<CertificateRow>(
      writer,
      what,
      chosen === undefined ? sql.COMPLETE : sql.COMPLETE_OF_PRIMARY,
      [
        authorityId,
        hex(serialNumber),
        certificate,
        keepKeys,
        ...(chosen === undefined
          ? []
          : [hex(chosen.serialNumber), chosen.notBefore, chosen.notAfter, wrappedKey, keyId, ciphertext]),
        this.#audit(audit),
      ],
    );
    if (standing === undefined) throw new PkiConflict(what);
    this.#hint.changed();
    return certificateOf(standing);
  }

  async certificate(authorityId: string, serialNumber: string): Promise<CertificateRecord | undefined> {
    return (await this.#certificates(sql.CERTIFICATE, [authorityId, hex(serialNumber)]))[0];
  }

  async certificateFor(requesterUid: string, revision: number): Promise<CertificateRecord | undefined> {
    return (await this.#certificates(sql.CERTIFICATE_FOR, [requesterUid, revision]))[0];
  }

  listCertificates(
    after: Pick<CertificateRecord, "authorityId" | "serialNumber"> | undefined,
    limit: number,
  ): Promise<readonly CertificateRecord[]> {
    const from = after === undefined ? [LOWEST_UUID, Buffer.alloc(0)] : [after.authorityId, hex(after.serialNumber)];
    return this.#certificates(sql.LIST_CERTIFICATES, [...from, limit]);
  }

  certificatesOf(requesterUid: string, limit: number): Promise<readonly CertificateRecord[]> {
    return this.#certificates(sql.CERTIFICATES_OF, [requesterUid, limit]);
  }

  certificatesBySerial(requesterUid: string, serialNumber: string): Promise<readonly CertificateRecord[]> {
    return this.#certificates(sql.CERTIFICATES_BY_SERIAL, [requesterUid, hex(serialNumber)]);
  }

  async readKey(authorityId: string, serialNumber: string): Promise<SealedKey | undefined> {
    const [row] = await read<{ wrapped_key: Buffer; key_id: string; sealed_key: Buffer }>(
      this.#database,
      sql.READ_KEY,
      [authorityId, hex(serialNumber)],
    );
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
    return this.#changed(writer, serialNumber, sql.REVOKE, [
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
    return this.#changed(writer, serialNumber, sql.RELEASE, values);
  }

  unsealed(limit: number): Promise<readonly CertificateRecord[]> {
    return this.#certificates(sql.UNSEALED, [limit]);
  }

  async seal(
    writer: Writer,
    authorityId: string,
    serialNumber: string,
    { mac }: StatusSeal,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    const values = [authorityId, hex(serialNumber), mac, this.#audit(audit)];
    await this.#write(writer, `certificate ${serialNumber}`, sql.SEAL, values);
  }

  async listPurgeable(
    { now, endedBefore, surplusEndedBefore }: PurgeTimes,
    limit: number,
  ): Promise<readonly CertificateStatus[]> {
    const values = [endedBefore, surplusEndedBefore, now, limit];
    return (await read<StatusRow>(this.#database, sql.PURGEABLE, values)).map(statusOf);
  }

  async purge(writer: Writer, certificates: Parameters<PkiStore["purge"]>[1]): Promise<void> {
    const { authorityId, statuses, times, audit } = certificates;
    const { now, surplusEndedBefore } = times;
    await this.#write(writer, `certificates of authority ${authorityId}`, sql.PURGE, [
      authorityId,
      statuses.map(({ serialNumber }) => hex(serialNumber)),
      statuses.map(({ seal }) => seal?.generation ?? 0n),
      surplusEndedBefore,
      now,
      this.#audit(audit),
    ]);
  }

  async countCertificates(authorityId: string, generation: number): Promise<number> {
    const [row] = await read<{ count: string }>(this.#database, sql.COUNT, [authorityId, generation]);
    return Number(row?.count ?? 0);
  }

  async findHolder(uid: string): Promise<CertificateHolder | undefined> {
    return (await read<HolderRow>(this.#database, sql.FIND_HOLDER, [uid])).map(holderOf)[0];
  }

  async holdersNamed(
    kind: CertificateHolder["kind"],
    namespace: string,
    name: string,
  ): Promise<readonly CertificateHolder[]> {
    return (await read<HolderRow>(this.#database, sql.HOLDERS_NAMED, [kind, namespace, name])).map(holderOf);
  }

  async listHolders(after: string | undefined, limit: number): Promise<readonly CertificateHolder[]> {
    return (await read<HolderRow>(this.#database, sql.LIST_HOLDERS, [after ?? "", limit])).map(holderOf);
  }

  async recordHolder(writer: Writer, holder: Omit<CertificateHolder, "delivery">): Promise<void> {
    const { kind, uid, namespace, namespaceUid, name, deletionPolicy, revisionHistoryLimit } = holder;
    const values = [uid, namespace, namespaceUid, name, deletionPolicy, revisionHistoryLimit, kind];
    await this.#write(writer, `holder ${uid}`, sql.RECORD_HOLDER, values);
  }

  async recordDelivery(
    writer: Writer,
    uid: string,
    delivery: DeliveryRecord | undefined,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    const stored = delivery === undefined ? null : JSON.stringify(delivery);
    await this.#write(writer, `holder ${uid}`, sql.DELIVERY, [uid, stored, this.#audit(audit)]);
  }

  async removeHolder(writer: Writer, uid: string, audit: readonly AuditEntry[]): Promise<void> {
    await this.#write(writer, `holder ${uid}`, sql.REMOVE_HOLDER, [uid, this.#audit(audit)]);
  }

  async listDueCrls(now: Date, limit: number): Promise<readonly CrlWork[]> {
    return (await read<WorkRow>(this.#database, sql.DUE_CRLS, [now, limit])).map(workOf);
  }

  async crlWork({ authorityId, generation, partition }: CrlKey): Promise<CrlWork | undefined> {
    return (await read<WorkRow>(this.#database, sql.CRL_WORK, [authorityId, generation, partition])).map(workOf)[0];
  }

  async changedStatuses(
    { authorityId, generation, partition }: CrlKey,
    unexpiredAt: Date,
    after: string | undefined,
    limit: number,
  ): Promise<readonly CertificateStatus[]> {
    const values = [authorityId, generation, partition, unexpiredAt, hex(after ?? ""), limit];
    return (await read<StatusRow>(this.#database, sql.CHANGED_STATUSES, values)).map(statusOf);
  }

  async wasPurged(authorityId: string, serialNumber: string): Promise<boolean> {
    return (await read(this.#database, sql.PURGED, [authorityId, hex(serialNumber)])).length > 0;
  }

  async countStatuses(authorityId: string): Promise<{ readonly sealed: number; readonly audited: number }> {
    const [row] = await read<{ sealed: string; audited: string }>(this.#database, sql.COUNT_STATUSES, [authorityId]);
    return { sealed: Number(row?.sealed ?? 0), audited: Number(row?.audited ?? 0) };
  }

  async publishCrl(writer: Writer, crl: StoredCrl, audit: readonly AuditEntry[]): Promise<void> {
    await this.#write(writer, `the CRL of authority ${crl.authorityId}`, sql.PUBLISH, [
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
      sql.READ_CRL,
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
    }>(this.#database, sql.PENDING, [since, perAuthority]);
    return rows.map(({ authority_id: authorityId, requested_at: requestedAt, ...row }) => ({
      ...row,
      authorityId,
      requestedAt,
    }));
  }

  async respondersSince(since: Date): Promise<ReadonlyMap<string, number>> {
    const rows = await read<{ authority_id: string; answered: string }>(this.#database, sql.ANSWERED, [since]);
    return new Map(rows.map(({ authority_id: authorityId, answered }) => [authorityId, Number(answered)]));
  }

  async answerResponder(
    writer: Writer,
    id: string,
    { certificate, notAfter }: { readonly certificate: Buffer; readonly notAfter: Date },
  ): Promise<void> {
    await this.#write(writer, `responder ${id}`, sql.ANSWER, [id, certificate, notAfter]);
    this.#hint.changed();
  }

  async forgetResponders(writer: Writer, now: Date, unansweredBefore: Date): Promise<number> {
    const [row] = await this.#write<{ forgotten: number }>(writer, "responders", sql.FORGET, [now, unansweredBefore]);
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
        ...(row.primary_issuer !== null && { primaryIssuer: row.primary_issuer }),
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
