import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type { OcspAuthority, OcspChanges, OcspPosition, OcspStore } from "./ocsp-store.ts";
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
} from "./pki-store.ts";
import type { DeliveryRecord, Writer } from "./vault-store.ts";

interface Held {
  record: CertificateRecord;
  key: SealedKey | undefined;
  /** Grows with every change that a responder must learn of. */
  changed: bigint;
}

interface Partition extends CrlKey {
  changes: bigint;
  crl?: StoredCrl;
}

interface Responder extends ResponderRequest {
  answer?: { readonly certificate: Buffer; readonly notAfter: Date };
}

/** The PKI in memory, as the operator and as the responders see it, with the contracts of the real stores. */
export class FakePkiStore implements PkiStore, OcspStore {
  readonly #database: FakeDatabase;
  readonly #authorities = new Map<string, AuthorityRecord>();
  readonly #certificates = new Map<string, Held>();
  readonly #holders = new Map<string, CertificateHolder>();
  readonly #crls = new Map<string, Partition>();
  readonly #responders = new Map<string, Responder>();
  /** How many were purged, by authority and generation. */
  readonly #purged = new Map<string, number>();
  #change = 0n;

  constructor(database: FakeDatabase) {
    this.#database = database;
  }

  async findAuthority(identity: AuthorityIdentity): Promise<AuthorityRecord | undefined> {
    const text = identityText(identity);
    return [...this.#authorities.values()].find((authority) => identityText(authority.identity) === text);
  }

  async authority(id: string): Promise<AuthorityRecord | undefined> {
    return this.#authorities.get(id);
  }

  async authoritiesNamed(
    kind: AuthorityIdentity["kind"],
    namespace: string,
    name: string,
  ): Promise<readonly AuthorityRecord[]> {
    const all = await this.listAuthorities(undefined, Number.POSITIVE_INFINITY);
    return all.filter(
      ({ identity }) => identity.kind === kind && identity.namespace === namespace && identity.name === name,
    );
  }

  async listAuthorities(after: string | undefined, limit: number): Promise<readonly AuthorityRecord[]> {
    return page([...this.#authorities.values()], ({ id }) => id, after, limit);
  }

  async createAuthority(writer: Writer, authority: NewAuthority): Promise<AuthorityRecord> {
    this.#database.fence(writer);
    const { id, identity, revocation, primaryIssuer, generation, audit } = authority;
    const text = identityText(identity);
    const standing = [...this.#authorities.values()].find((other) => identityText(other.identity) === text);
    if (standing !== undefined) return standing;
    const first = { ...generation, number: 1, chain: [], createdAt: new Date() };
    const elsewhere = primaryIssuer !== undefined && { primaryIssuer };
    const record: AuthorityRecord = { id, identity, state: "Active", revocation, ...elsewhere, generations: [first] };
    this.#authorities.set(id, record);
    if (primaryIssuer === undefined) this.#partition({ authorityId: id, generation: 1, partition: 0 });
    this.#database.record(audit);
    return record;
  }

  async installCertificate(writer: Writer, installed: Parameters<PkiStore["installCertificate"]>[1]): Promise<void> {
    this.#database.fence(writer);
    const { authorityId, generation: number, certificate, notAfter, chain, replaces, audit } = installed;
    const record = this.#authorities.get(authorityId);
    const generation = record?.generations.find((each) => each.number === number);
    if (record === undefined || generation === undefined) throw new PkiConflict(`authority ${authorityId}`);
    const standing = generation.certificate;
    if (standing?.equals(certificate) && sameList(generation.chain, chain)) return;
    const expected = standing === undefined ? replaces === undefined : replaces?.equals(standing) === true;
    if (!expected) throw new PkiConflict(`generation ${number} of authority ${authorityId}`);
    const generations = record.generations.map((each) =>
      each === generation ? { ...each, certificate, notAfter, chain } : each,
    );
    this.#authorities.set(authorityId, { ...record, generations });
    this.#database.record(audit);
  }

  async changeAuthority(writer: Writer, change: Parameters<PkiStore["changeAuthority"]>[1]): Promise<void> {
    this.#database.fence(writer);
    const { id, state, revocation, audit } = change;
    const record = this.#authorities.get(id);
    if (record === undefined) throw new PkiConflict(`authority ${id}`);
    this.#authorities.set(id, { ...record, state, revocation });
    this.#database.record(audit);
  }

  async reserve(writer: Writer, reservation: Reservation, audit: readonly AuditEntry[]): Promise<CertificateRecord> {
    this.#database.fence(writer);
    const { sealedKey: key, ...wanted } = reservation;
    const authority = this.#authorities.get(wanted.authorityId);
    const generation = authority?.generations.some(({ number }) => number === wanted.generation);
    const what = `revision ${wanted.revision} of ${wanted.requester.kind} ${wanted.requester.name}`;
    const issues = authority?.state === "Active" || wanted.requester.kind === "Responder";
    if (!issues || generation !== true) throw new PkiConflict(what);
    const standing = this.#standing(wanted.requester.uid, wanted.revision);
    if (standing !== undefined) return standing;
    const place = serialText(wanted);
    if (this.#certificates.has(place)) throw new PkiConflict(what);
    const record: CertificateRecord = { ...wanted, state: "Reserved", hasKey: key !== undefined };
    this.#certificates.set(place, { record, key, changed: this.#next() });
    this.#database.record(audit);
    return record;
  }

  async abandon(
    writer: Writer,
    authorityId: string,
    serialNumber: string,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    this.#database.fence(writer);
    const held = this.#certificates.get(serialText({ authorityId, serialNumber }));
    if (held?.record.state !== "Reserved") throw new PkiConflict(`certificate ${serialNumber}`);
    held.record = { ...held.record, state: "Abandoned", hasKey: false };
    held.key = undefined;
    this.#database.record(audit);
  }

  async complete(writer: Writer, completion: Completion): Promise<CertificateRecord> {
    this.#database.fence(writer);
    const { chosen } = completion;
    const place = serialText(completion);
    const placeAfter = chosen === undefined ? place : serialText({ ...completion, serialNumber: chosen.serialNumber });
    const standing = this.#certificates.get(placeAfter);
    if (standing?.record.state === "Issued") return standing.record;
    const held = this.#certificates.get(place);
    if (held?.record.state !== "Reserved" || (placeAfter !== place && standing !== undefined)) {
      throw new PkiConflict(`certificate ${completion.serialNumber}`);
    }
    const { sealedKey, ...said } = chosen ?? {};
    held.record = { ...held.record, ...said, state: "Issued", certificate: completion.certificate };
    if (chosen !== undefined) held.key = sealedKey;
    this.#certificates.delete(place);
    this.#certificates.set(placeAfter, held);
    held.changed = this.#next();
    const { requester, revision, authorityId, generation, crlPartition: partition } = held.record;
    this.#dropKeys(
      ({ record }) => record.requester.uid === requester.uid && record.revision <= revision - completion.keepKeys,
    );
    if (this.#authorities.get(authorityId)?.primaryIssuer === undefined) {
      this.#partition({ authorityId, generation, partition });
    }
    this.#database.record(completion.audit);
    return held.record;
  }

  async certificate(authorityId: string, serialNumber: string): Promise<CertificateRecord | undefined> {
    return this.#records().find((each) => each.authorityId === authorityId && each.serialNumber === serialNumber);
  }

  async certificateFor(requesterUid: string, revision: number): Promise<CertificateRecord | undefined> {
    return this.#standing(requesterUid, revision);
  }

  async certificatesOf(requesterUid: string, limit: number): Promise<readonly CertificateRecord[]> {
    return this.#records()
      .filter(({ requester, state }) => requester.uid === requesterUid && state === "Issued")
      .sort((a, b) => b.revision - a.revision)
      .slice(0, limit);
  }

  async certificatesBySerial(requesterUid: string, serialNumber: string): Promise<readonly CertificateRecord[]> {
    return (await this.certificatesOf(requesterUid, Number.POSITIVE_INFINITY)).filter(
      (each) => each.serialNumber === serialNumber,
    );
  }

  async listCertificates(
    after: Pick<CertificateRecord, "authorityId" | "serialNumber"> | undefined,
    limit: number,
  ): Promise<readonly CertificateRecord[]> {
    return [...this.#records()]
      .sort((a, b) => (serialText(a) < serialText(b) ? -1 : 1))
      .filter((each) => after === undefined || serialText(each) > serialText(after))
      .slice(0, limit);
  }

  async readKey(authorityId: string, serialNumber: string): Promise<SealedKey | undefined> {
    return this.#certificates.get(serialText({ authorityId, serialNumber }))?.key;
  }

  async revoke(
    writer: Writer,
    authorityId: string,
    serialNumber: string,
    revocation: Revocation,
    seal: StatusSeal,
    audit: readonly AuditEntry[],
  ): Promise<boolean> {
    this.#database.fence(writer);
    const held = this.#certificates.get(serialText({ authorityId, serialNumber }));
    if (held?.record.state !== "Issued") throw new PkiConflict(`certificate ${serialNumber}`);
    const before = held.record.revocation;
    const onHold = before?.reason === "certificateHold" && revocation.reason !== "certificateHold";
    if (before !== undefined && !onHold) return false;
    this.#judgeGeneration(held, seal);
    held.record = { ...held.record, seal, revocation: { ...revocation, at: before?.at ?? revocation.at } };
    this.#revocationChanged(held, audit);
    return true;
  }

  async release(
    writer: Writer,
    authorityId: string,
    serialNumber: string,
    seal: StatusSeal,
    audit: readonly AuditEntry[],
  ): Promise<boolean> {
    this.#database.fence(writer);
    const held = this.#certificates.get(serialText({ authorityId, serialNumber }));
    if (held?.record.revocation?.reason !== "certificateHold") return false;
    this.#judgeGeneration(held, seal);
    const { revocation: _, ...record } = held.record;
    held.record = { ...record, seal };
    this.#revocationChanged(held, audit);
    return true;
  }

  async unsealed(limit: number): Promise<readonly CertificateRecord[]> {
    const audited = (serialNumber: string) =>
      this.#database.audit.some(
        ({ entry: { action, subject } }) => action === "CertificateRevoked" && subject.id === auditedId(serialNumber),
      );
    return this.#records()
      .filter(({ revocation, seal, serialNumber }) => revocation && seal === undefined && audited(serialNumber))
      .slice(0, limit);
  }

  async seal(
    writer: Writer,
    authorityId: string,
    serialNumber: string,
    seal: StatusSeal,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    this.#database.fence(writer);
    const held = this.#certificates.get(serialText({ authorityId, serialNumber }));
    if (held?.record.revocation === undefined || held.record.seal !== undefined) return;
    held.record = { ...held.record, seal };
    this.#database.record(audit);
  }

  async countCertificates(authorityId: string, generation: number): Promise<number> {
    const standing = this.#records().filter(
      (each) => each.authorityId === authorityId && each.generation === generation,
    );
    return standing.length + (this.#purged.get(`${authorityId} ${generation}`) ?? 0);
  }

  async listPurgeable(times: PurgeTimes, limit: number): Promise<readonly CertificateStatus[]> {
    return this.#records()
      .filter((record) => this.#isPurgeable(record, times))
      .sort((a, b) => a.notAfter.getTime() - b.notAfter.getTime() || (serialText(a) < serialText(b) ? -1 : 1))
      .slice(0, limit)
      .map(statusOf);
  }

  async purge(writer: Writer, certificates: Parameters<PkiStore["purge"]>[1]): Promise<void> {
    this.#database.fence(writer);
    const { authorityId, statuses, times, audit } = certificates;
    const records = statuses.flatMap(({ serialNumber, seal }) => {
      const record = this.#certificates.get(serialText({ authorityId, serialNumber }))?.record;
      const same = record !== undefined && record.seal?.generation === seal?.generation;
      return same && this.#isPurgeable(record, times) ? [record] : [];
    });
    if (records.length < statuses.length) throw new PkiConflict(`certificates of authority ${authorityId}`);
    for (const record of records) {
      this.#certificates.delete(serialText(record));
      const place = `${authorityId} ${record.generation}`;
      this.#purged.set(place, (this.#purged.get(place) ?? 0) + 1);
    }
    this.#database.record(audit);
  }

  async findHolder(uid: string): Promise<CertificateHolder | undefined> {
    return this.#holders.get(uid);
  }

  async holdersNamed(
    kind: CertificateHolder["kind"],
    namespace: string,
    name: string,
  ): Promise<readonly CertificateHolder[]> {
    const all = await this.listHolders(undefined, Number.POSITIVE_INFINITY);
    return all.filter((each) => each.kind === kind && each.namespace === namespace && each.name === name);
  }

  async listHolders(after: string | undefined, limit: number): Promise<readonly CertificateHolder[]> {
    return page([...this.#holders.values()], ({ uid }) => uid, after, limit);
  }

  async recordHolder(writer: Writer, holder: Omit<CertificateHolder, "delivery">): Promise<void> {
    this.#database.fence(writer);
    const before = this.#holders.get(holder.uid);
    this.#holders.set(holder.uid, { ...holder, ...(before?.delivery && { delivery: before.delivery }) });
  }

  async recordDelivery(
    writer: Writer,
    uid: string,
    delivery: DeliveryRecord | undefined,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    this.#database.fence(writer);
    const before = this.#holders.get(uid);
    if (before === undefined) throw new PkiConflict(`holder ${uid}`);
    const { delivery: _, ...holder } = before;
    this.#holders.set(uid, delivery === undefined ? holder : { ...holder, delivery });
    this.#database.record(audit);
  }

  async removeHolder(writer: Writer, uid: string, audit: readonly AuditEntry[]): Promise<void> {
    this.#database.fence(writer);
    if (!this.#holders.delete(uid)) return;
    this.#dropKeys(({ record }) => record.requester.uid === uid);
    this.#database.record(audit);
  }

  async listDueCrls(now: Date, limit: number): Promise<readonly CrlWork[]> {
    const due = [...this.#crls.values()].filter(({ authorityId, generation, changes, crl }) => {
      const authority = this.#authorities.get(authorityId);
      const { notAfter } = authority?.generations.find(({ number }) => number === generation) ?? {};
      if (authority === undefined || notAfter === undefined || notAfter <= now) return false;
      if (crl === undefined || changes > crl.covers) return true;
      return crl.thisUpdate.getTime() + authority.revocation.crlEveryMs <= now.getTime();
    });
    const lastAt = ({ crl }: Partition): number => crl?.thisUpdate.getTime() ?? 0;
    const ordered = due.sort((a, b) => lastAt(a) - lastAt(b) || (crlText(a) < crlText(b) ? -1 : 1));
    return ordered.slice(0, limit).map(workOf);
  }

  async crlWork(key: CrlKey): Promise<CrlWork | undefined> {
    const partition = this.#crls.get(crlText(key));
    return partition && workOf(partition);
  }

  async changedStatuses(
    key: CrlKey,
    unexpiredAt: Date,
    after: string | undefined,
    limit: number,
  ): Promise<readonly CertificateStatus[]> {
    const listed = this.#records().filter(({ authorityId, generation, crlPartition, notAfter, revocation, seal }) => {
      const scope = crlText({ authorityId, generation, partition: crlPartition });
      return scope === crlText(key) && notAfter >= unexpiredAt && (revocation ?? seal) !== undefined;
    });
    return page(listed.map(statusOf), ({ serialNumber }) => serialNumber, after, limit);
  }

  async countStatuses(authorityId: string): Promise<{ readonly sealed: number; readonly audited: number }> {
    const sealed = this.#records().filter((each) => each.authorityId === authorityId && each.seal !== undefined);
    const audited = this.#auditedStatuses(authorityId);
    const purged = audited.filter(({ action }) => action === "CertificatePurged");
    return { sealed: sealed.length, audited: new Set(audited.map(({ subject }) => subject.id)).size - purged.length };
  }

  async wasPurged(authorityId: string, serialNumber: string): Promise<boolean> {
    return this.#auditedStatuses(authorityId).some(
      ({ action, subject }) => action === "CertificatePurged" && subject.id === auditedId(serialNumber),
    );
  }

  async publishCrl(writer: Writer, crl: StoredCrl, audit: readonly AuditEntry[]): Promise<void> {
    this.#database.fence(writer);
    const partition = this.#crls.get(crlText(crl));
    if (partition === undefined || (partition.crl?.number ?? 0n) + 1n !== crl.number) {
      throw new PkiConflict(`the CRL of authority ${crl.authorityId}`);
    }
    partition.crl = crl;
    this.#database.record(audit);
  }

  async crl(key: CrlKey): Promise<StoredCrl | undefined> {
    return this.#crls.get(crlText(key))?.crl;
  }

  async crls(): ReturnType<OcspStore["crls"]> {
    return [...this.#crls.values()].flatMap(({ crl }) => {
      if (crl === undefined) return [];
      const { covers: _, der: __, ...listed } = crl;
      return [listed];
    });
  }

  async pendingResponders(since: Date, perAuthority: number): Promise<readonly ResponderRequest[]> {
    const taken = new Map<string, number>();
    return [...this.#responders.values()]
      .filter(({ requestedAt, answer }) => requestedAt >= since && answer === undefined)
      .filter(({ authorityId }) => {
        const count = (taken.get(authorityId) ?? 0) + 1;
        taken.set(authorityId, count);
        return count <= perAuthority && this.#authorities.has(authorityId);
      });
  }

  async respondersSince(since: Date): Promise<ReadonlyMap<string, number>> {
    const answered = [...this.#responders.values()].filter((each) => each.answer && each.requestedAt >= since);
    const counts = new Map<string, number>();
    for (const { authorityId } of answered) counts.set(authorityId, (counts.get(authorityId) ?? 0) + 1);
    return counts;
  }

  async answerResponder(
    writer: Writer,
    id: string,
    answer: { readonly certificate: Buffer; readonly notAfter: Date },
  ): Promise<void> {
    this.#database.fence(writer);
    const responder = this.#responders.get(id);
    if (responder !== undefined) responder.answer ??= answer;
  }

  async forgetResponders(writer: Writer, now: Date, unansweredBefore: Date): Promise<number> {
    this.#database.fence(writer);
    const over = [...this.#responders.values()].filter(({ answer, requestedAt }) =>
      answer === undefined ? requestedAt < unansweredBefore : answer.notAfter <= now,
    );
    for (const { id } of over) this.#responders.delete(id);
    return over.length;
  }

  async authorities(): Promise<readonly OcspAuthority[]> {
    return [...this.#authorities.values()].flatMap(({ id: authorityId, generations, revocation, primaryIssuer }) =>
      generations.flatMap(({ number: generation, subject, spki, certificate }) =>
        certificate === undefined || primaryIssuer !== undefined
          ? []
          : [{ authorityId, generation, subject, spki, certificate, ocspValidityMs: revocation.ocspValidityMs }],
      ),
    );
  }

  async changes(after: OcspPosition | undefined, limit: number): Promise<OcspChanges> {
    const from = after?.round?.transaction ?? after?.from ?? 0n;
    const found = [...this.#certificates.values()]
      .filter(({ record, changed }) => record.state === "Issued" && changed > from)
      .sort((a, b) => (a.changed < b.changed ? -1 : 1))
      .slice(0, limit);
    const last = found.at(-1);
    const more = found.length === limit;
    const certificates = found.map(
      ({ record: { authorityId, generation, serialNumber, notAfter, crlPartition, revocation } }) => ({
        authorityId,
        generation,
        serialNumber,
        notAfter,
        partition: crlPartition,
        ...(revocation === undefined ? {} : { revocation }),
      }),
    );
    return { certificates, next: { from: last?.changed ?? from }, more };
  }

  async requestResponder(request: Parameters<OcspStore["requestResponder"]>[0]): Promise<void> {
    if (!this.#responders.has(request.id)) this.#responders.set(request.id, { ...request, requestedAt: new Date() });
  }

  async responder(id: string): Promise<Buffer | "Pending" | "Gone"> {
    const responder = this.#responders.get(id);
    return responder === undefined ? "Gone" : (responder.answer?.certificate ?? "Pending");
  }

  #isPurgeable(record: CertificateRecord, { now, endedBefore, surplusEndedBefore }: PurgeTimes): boolean {
    const { requester, revision, notAfter, revocation, authorityId, generation, crlPartition: partition } = record;
    const newer = this.#records().filter(
      (each) => each.requester.uid === requester.uid && each.revision > revision && each.state === "Issued",
    );
    const holder = this.#holders.get(requester.uid);
    const limit = holder?.revisionHistoryLimit;
    const newest = Math.max(0, ...newer.map((each) => each.revision));
    const surplus = limit !== undefined && revision <= newest - limit;
    if (notAfter >= endedBefore && !(surplus && notAfter < surplusEndedBefore)) return false;
    if (holder?.kind === "Certificate") return revocation === undefined && newer.length > 0;
    const { crl } = this.#crls.get(crlText({ authorityId, generation, partition })) ?? {};
    const ca = this.#authorities.get(authorityId)?.generations.find(({ number }) => number === generation);
    const told = crl !== undefined && crl.thisUpdate > notAfter;
    return revocation === undefined || told || (ca?.notAfter !== undefined && ca.notAfter <= now);
  }

  #standing(requesterUid: string, revision: number): CertificateRecord | undefined {
    const held = [...this.#certificates.values()].map(({ record }) => record);
    return held.find(
      (each) => each.requester.uid === requesterUid && each.revision === revision && each.state !== "Abandoned",
    );
  }

  #records(): readonly CertificateRecord[] {
    return [...this.#certificates.values()].map(({ record }) => {
      const auditedStatus = this.#database.auditedGeneration(auditedId(record.serialNumber));
      return auditedStatus === 0n ? record : { ...record, auditedStatus };
    });
  }

  #auditedStatuses(authorityId: string): readonly AuditEntry[] {
    return this.#database.audit
      .map(({ entry }) => entry)
      .filter(
        ({ subject, details }) =>
          subject.kind === "Certificate" && subject.generation !== undefined && details.authority === authorityId,
      );
  }

  #judgeGeneration({ record }: Held, { generation }: StatusSeal): void {
    if ((record.seal?.generation ?? 0n) + 1n !== generation)
      throw new PkiConflict(`certificate ${record.serialNumber}`);
  }

  #next(): bigint {
    this.#change += 1n;
    return this.#change;
  }

  #partition(key: CrlKey): Partition {
    const standing = this.#crls.get(crlText(key));
    if (standing !== undefined) return standing;
    const made: Partition = { ...key, changes: 0n };
    this.#crls.set(crlText(key), made);
    return made;
  }

  #dropKeys(where: (held: Held) => boolean): void {
    for (const held of this.#certificates.values()) {
      if (!where(held)) continue;
      held.key = undefined;
      held.record = { ...held.record, hasKey: false };
    }
  }

  #revocationChanged(held: Held, audit: readonly AuditEntry[]): void {
    const { authorityId, generation, crlPartition: partition } = held.record;
    held.changed = this.#next();
    const work = this.#crls.get(crlText({ authorityId, generation, partition }));
    if (work !== undefined) work.changes += 1n;
    this.#database.record(audit);
  }
}

/** As the audit record names a certificate. */
const auditedId = (serialNumber: string): string => serialNumber.replace(/..(?=.)/g, "$&:");

const identityText = ({ kind, namespace, namespaceUid, name }: AuthorityIdentity): string =>
  JSON.stringify([kind, namespace, namespaceUid, name]);

const serialText = ({ authorityId, serialNumber }: { authorityId: string; serialNumber: string }): string =>
  `${authorityId} ${serialNumber}`;

const crlText = ({ authorityId, generation, partition }: CrlKey): string => `${authorityId} ${generation} ${partition}`;

const sameList = (a: readonly Buffer[], b: readonly Buffer[]): boolean =>
  a.length === b.length && a.every((each, index) => b[index]?.equals(each));

function workOf({ authorityId, generation, partition, changes: covers, crl }: Partition): CrlWork {
  const work = { authorityId, generation, partition, covers };
  if (crl === undefined) return work;
  const { number, thisUpdate, nextUpdate } = crl;
  return { ...work, last: { number, thisUpdate, nextUpdate } };
}

function page<T>(all: readonly T[], key: (each: T) => string, after: string | undefined, limit: number): readonly T[] {
  return all
    .filter((each) => after === undefined || key(each) > after)
    .sort((a, b) => (key(a) < key(b) ? -1 : 1))
    .slice(0, limit);
}

function statusOf(record: CertificateRecord): CertificateStatus {
  const { authorityId, generation, crlPartition, serialNumber, notAfter, revocation, seal, auditedStatus } = record;
  const status = { ...(revocation && { revocation }), ...(seal && { seal }), ...(auditedStatus && { auditedStatus }) };
  return { authorityId, generation, crlPartition, serialNumber, notAfter, ...status };
}
