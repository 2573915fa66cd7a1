import { randomBytes, randomUUID } from "node:crypto";
import { Fenced } from "../errors.ts";
import { serialToText } from "../pki/serial.ts";
import type { AuditEntry, AuditLog } from "./audit-log.ts";
import type { Leadership } from "./leadership.ts";
import type { OcspCertificate, OcspPosition, OcspStore } from "./ocsp-store.ts";
import {
  completion,
  crl,
  holder,
  issuer,
  newAuthority,
  pkiEntry,
  reservation,
  revocation,
  sealedKey,
  statusSeal,
} from "./pki-samples.ts";
import {
  type AuthorityRecord,
  type CertificateRecord,
  PkiConflict,
  type PkiStore,
  type Reservation,
} from "./pki-store.ts";
import type { Writer } from "./vault-store.ts";

export interface PkiStoreUnderTest {
  readonly store: PkiStore;
  /** On the same data. */
  readonly ocsp: OcspStore;
  readonly leadership: Leadership;
  readonly audit: AuditLog;
}

/** What every PKI store does. `start` gives an empty one. */
export function pkiStoreContract(start: () => Promise<PkiStoreUnderTest>): void {
  let store: PkiStore;
  let ocsp: OcspStore;
  let leadership: Leadership;
  let audit: AuditLog;
  let writer: Writer;

  beforeEach(async () => {
    ({ store, ocsp, leadership, audit } = await start());
    writer = { epoch: await leadership.acquireEpoch("contract") };
  });

  const auditRows = async (): Promise<number> => {
    const verdict = await audit.verify();
    if (!verdict.ok) throw new Error(`audit record: ${verdict.fault}`);
    return verdict.linked + verdict.unlinked;
  };
  const create = (name = "root"): Promise<AuthorityRecord> => store.createAuthority(writer, newAuthority(issuer(name)));
  const install = (authority: AuthorityRecord, certificate = randomBytes(500)) =>
    store.installCertificate(writer, {
      authorityId: authority.id,
      generation: 1,
      certificate,
      notAfter: new Date("2036-01-01T00:00:00Z"),
      chain: [],
      audit: [pkiEntry("AuthorityCertified", authority.id)],
    });
  const installed = async (name = "root"): Promise<AuthorityRecord> => {
    const authority = await create(name);
    await install(authority);
    return authority;
  };
  const reserve = (wanted: Reservation) =>
    store.reserve(writer, wanted, [pkiEntry("CertificateReserved", wanted.serialNumber)]);
  const issue = async (
    authority: AuthorityRecord,
    uid: string,
    revision = 1,
    change: Partial<Reservation> = {},
    keepKeys = 1,
  ): Promise<CertificateRecord> =>
    store.complete(writer, completion(await reserve(reservation(authority.id, uid, revision, change)), keepKeys));
  /** The CRL of an authority's first key. */
  const key = (authority: AuthorityRecord, partition = 0) => ({ authorityId: authority.id, generation: 1, partition });
  /** Everything that is told from a position on, read to its end. */
  const changes = async (after?: OcspPosition, limit = 100) => {
    const certificates: OcspCertificate[] = [];
    let next = after;
    for (let more = true; more; ) {
      const read = await ocsp.changes(next, limit);
      certificates.push(...read.certificates);
      ({ next, more } = read);
    }
    return { certificates, next };
  };

  describe("authorities", () => {
    test("one that was never made is not found", async () => {
      expect(await store.findAuthority(issuer("absent"))).toBeUndefined();
      expect(await store.authority(randomUUID())).toBeUndefined();
    });

    test("one is read back as it was made, and only one is made for an identity", async () => {
      const made = newAuthority(issuer("root"));
      const record = await store.createAuthority(writer, made);
      expect(record).toEqual({
        id: made.id,
        identity: made.identity,
        state: "Active",
        revocation: made.revocation,
        generations: [{ ...made.generation, number: 1, chain: [], createdAt: expect.any(Date) }],
      });
      const before = await auditRows();
      expect(await create()).toEqual(record);
      expect(await store.findAuthority(issuer("root"))).toEqual(record);
      expect(await store.authority(made.id)).toEqual(record);
      expect(await auditRows()).toBe(before);
      expect((await create("other")).id).not.toBe(made.id);
    });

    test("a namespaced one belongs to its namespace's UID", async () => {
      const identity = { kind: "Issuer", namespace: "payments", namespaceUid: "first", name: "ca" } as const;
      const record = await store.createAuthority(writer, newAuthority(identity));
      expect(await store.findAuthority({ ...identity, namespaceUid: "re-created" })).toBeUndefined();
      expect((await store.findAuthority(identity))?.id).toBe(record.id);
      const other = await store.createAuthority(writer, newAuthority({ ...identity, namespaceUid: "re-created" }));
      const named = await store.authoritiesNamed("Issuer", "payments", "ca");
      expect(named.map(({ id }) => id)).toEqual([record.id, other.id].sort());
      expect(await store.authoritiesNamed("ClusterIssuer", "payments", "ca")).toEqual([]);
    });

    test("a certificate is installed once", async () => {
      const authority = await create();
      const certificate = randomBytes(500);
      expect(await ocsp.authorities()).toEqual([]);
      await install(authority, certificate);
      const before = await auditRows();
      await install(authority, certificate);
      expect(await auditRows()).toBe(before);
      await expect(install(authority)).rejects.toThrow(PkiConflict);
      const [generation] = (await store.authority(authority.id))?.generations ?? [];
      expect(generation).toMatchObject({ certificate, notAfter: new Date("2036-01-01T00:00:00Z"), chain: [] });
      const { subject, spki } = authority.generations[0] ?? {};
      const told = { authorityId: authority.id, generation: 1, subject, spki, certificate, ocspValidityMs: 86_400_000 };
      expect(await ocsp.authorities()).toEqual([told]);
    });

    test("a certificate takes the place of the one that is named, and of no other", async () => {
      const { id } = await create();
      const [first, second, third] = [randomBytes(500), randomBytes(500), randomBytes(500)];
      const replace = (certificate: Buffer, replaces: Buffer, chain: readonly Buffer[] = [randomBytes(9)]) =>
        store.installCertificate(writer, {
          authorityId: id,
          generation: 1,
          certificate,
          notAfter: new Date("2037-01-01T00:00:00Z"),
          chain,
          replaces,
          audit: [pkiEntry("AuthorityCertified", id)],
        });
      const standing = async () => (await store.authority(id))?.generations[0];
      await expect(replace(second, first)).rejects.toThrow(PkiConflict);
      await store.installCertificate(writer, {
        authorityId: id,
        generation: 1,
        certificate: first,
        notAfter: new Date("2036-01-01T00:00:00Z"),
        chain: [],
        audit: [],
      });
      const chain = [randomBytes(300)];
      await replace(second, first, chain);
      expect(await standing()).toMatchObject({
        certificate: second,
        notAfter: new Date("2037-01-01T00:00:00Z"),
        chain,
      });
      const before = await auditRows();
      await replace(second, first, chain);
      await replace(second, second, chain);
      expect(await auditRows()).toBe(before);
      await expect(replace(third, first)).rejects.toThrow(PkiConflict);
      expect(await standing()).toMatchObject({ certificate: second, chain });
      const longer = [...chain, randomBytes(300)];
      await replace(second, second, longer);
      expect(await standing()).toMatchObject({ certificate: second, chain: longer });
      expect(await auditRows()).toBe(before + 1);
      expect(await ocsp.authorities()).toMatchObject([{ certificate: second }]);
    });

    test("the chain above is kept in its order", async () => {
      const { id } = await create();
      const chain = [randomBytes(300), randomBytes(400)];
      const notAfter = new Date("2030-01-01T00:00:00Z");
      await store.installCertificate(writer, {
        authorityId: id,
        generation: 1,
        certificate: randomBytes(9),
        notAfter,
        chain,
        audit: [],
      });
      expect((await store.authority(id))?.generations[0]?.chain).toEqual(chain);
    });

    test("state and settings change, and a retired one reserves nothing", async () => {
      const { id } = await installed();
      const settings = { crlEveryMs: 60_000, ocspValidityMs: 7_200_000 };
      const change = { id, revocation: settings, audit: [pkiEntry("AuthorityChanged", id)] };
      await store.changeAuthority(writer, { ...change, state: "Retired" });
      expect(await store.authority(id)).toMatchObject({ state: "Retired", revocation: settings });
      await expect(reserve(reservation(id, "uid", 1))).rejects.toThrow(PkiConflict);
      const responder = { ...reservation(id, "responder", 1).requester, kind: "Responder" } as const;
      expect(await reserve(reservation(id, "", 1, { requester: responder }))).toMatchObject({ state: "Reserved" });
      await store.changeAuthority(writer, { ...change, state: "Active" });
      expect(await reserve(reservation(id, "uid", 1))).toMatchObject({ state: "Reserved" });
      await expect(store.changeAuthority(writer, { ...change, id: randomUUID(), state: "Active" })).rejects.toThrow(
        PkiConflict,
      );
    });

    test("they come in pages", async () => {
      for (const name of ["a", "b", "c"]) await create(name);
      const first = await store.listAuthorities(undefined, 2);
      const rest = await store.listAuthorities(first.at(-1)?.id, 2);
      expect([first.length, rest.length]).toEqual([2, 1]);
      expect(new Set([...first, ...rest].map(({ identity }) => identity.name))).toEqual(new Set(["a", "b", "c"]));
    });
  });

  describe("certificates", () => {
    test("one is reserved, and then issued", async () => {
      const authority = await installed();
      const { sealedKey, ...wanted } = reservation(authority.id, "uid", 1);
      const reserved = await reserve({ ...wanted, ...(sealedKey && { sealedKey }) });
      expect(reserved).toEqual({ ...wanted, state: "Reserved", hasKey: true });
      expect(await store.readKey(authority.id, wanted.serialNumber)).toEqual(sealedKey);
      expect(await store.certificatesOf("uid", 10)).toEqual([]);
      expect(await store.certificateFor("uid", 1)).toEqual(reserved);
      const done = completion(wanted);
      const issued = await store.complete(writer, done);
      expect(issued).toEqual({ ...reserved, state: "Issued", certificate: done.certificate });
      expect(await store.certificate(authority.id, wanted.serialNumber)).toEqual(issued);
      expect(await store.certificatesOf("uid", 10)).toEqual([issued]);
      expect(await store.listCertificates(undefined, 10)).toEqual([issued]);
      expect(await store.listCertificates(issued, 10)).toEqual([]);
    });

    test("a key that was made elsewhere is not there", async () => {
      const authority = await installed();
      const { sealedKey: _, ...wanted } = reservation(authority.id, "uid", 1);
      expect(await reserve(wanted)).toMatchObject({ hasKey: false });
      expect(await store.readKey(authority.id, wanted.serialNumber)).toBeUndefined();
    });

    describe("of the primary", () => {
      const ofPrimary = async (): Promise<AuthorityRecord> => {
        const { generation, ...rest } = newAuthority(issuer("of-primary"));
        const { sealedKey: _, ...keyless } = generation;
        const authority = { ...rest, primaryIssuer: "payments-ca", generation: keyless };
        return store.createAuthority(writer, authority);
      };
      const chosenFor = (change = {}) => ({
        serialNumber: randomBytes(18).toString("hex"),
        notBefore: new Date("2026-03-02T00:00:00Z"),
        notAfter: new Date("2026-05-01T00:00:00Z"),
        sealedKey: sealedKey(),
        ...change,
      });

      test("the CA has no key, and publishes nothing", async () => {
        const authority = await ofPrimary();
        expect(authority.primaryIssuer).toBe("payments-ca");
        expect(authority.generations[0]).not.toHaveProperty("sealedKey");
        const [certificate, notAfter] = [randomBytes(500), new Date("2036-01-01T00:00:00Z")];
        const { id: authorityId } = authority;
        await store.installCertificate(writer, {
          authorityId,
          generation: 1,
          certificate,
          notAfter,
          chain: [],
          audit: [],
        });
        expect(await store.authority(authorityId)).toMatchObject({ primaryIssuer: "payments-ca", state: "Active" });
        expect(await store.listDueCrls(new Date("2026-03-01T00:00:00Z"), 10)).toEqual([]);
        expect(await ocsp.authorities()).toEqual([]);
      });

      test("what was reserved becomes what was chosen there, under its own number and key; once", async () => {
        const { id } = await ofPrimary();
        const wanted = reservation(id, "uid", 1);
        const reserved = await reserve(wanted);
        const chosen = chosenFor();
        const done = { ...completion(wanted), chosen };
        const { sealedKey: key, ...said } = chosen;
        const issued = await store.complete(writer, done);
        expect(issued).toEqual({ ...reserved, ...said, state: "Issued", certificate: done.certificate });
        const before = await auditRows();
        expect(await store.complete(writer, done)).toEqual(issued);
        expect(await auditRows()).toBe(before);
        expect(await store.readKey(id, chosen.serialNumber)).toEqual(key);
        expect(await store.readKey(id, wanted.serialNumber)).toBeUndefined();
        expect(await store.certificate(id, wanted.serialNumber)).toBeUndefined();
        expect(await store.certificatesOf("uid", 10)).toEqual([issued]);
        expect(await store.revoke(writer, id, chosen.serialNumber, revocation(), statusSeal(1n), [])).toBe(true);
        expect(await store.listDueCrls(new Date("2026-03-01T00:00:00Z"), 10)).toEqual([]);
      });

      test("a key that only the requester has does not come by it", async () => {
        const { id } = await ofPrimary();
        const { sealedKey: _, ...wanted } = reservation(id, "uid", 1);
        await reserve(wanted);
        const { sealedKey: __, ...chosen } = chosenFor();
        expect(await store.complete(writer, { ...completion(wanted), chosen })).toMatchObject({ hasKey: false });
      });

      test("a number that is taken, or a reservation that is gone, is a conflict, and the keys of before go", async () => {
        const { id } = await ofPrimary();
        const [first, second] = [reservation(id, "uid", 1), reservation(id, "uid", 2)];
        await reserve(first);
        await reserve(second);
        const chosen = chosenFor();
        const taken = chosenFor({ serialNumber: second.serialNumber });
        await expect(store.complete(writer, { ...completion(first), chosen: taken })).rejects.toThrow(PkiConflict);
        await store.complete(writer, { ...completion(first), chosen });
        await expect(store.complete(writer, { ...completion(first), chosen: chosenFor() })).rejects.toThrow(
          PkiConflict,
        );
        await store.complete(writer, { ...completion(second), chosen: chosenFor() });
        expect(await store.readKey(id, chosen.serialNumber)).toBeUndefined();
      });
    });

    test("of many reservations of one revision, one stands, and all are told which", async () => {
      const authority = await installed();
      const before = await auditRows();
      const wanted = Array.from({ length: 20 }, () => reservation(authority.id, "uid", 1));
      const standing = await Promise.all(wanted.map(reserve));
      expect(new Set(standing.map(({ serialNumber }) => serialNumber)).size).toBe(1);
      expect(await auditRows()).toBe(before + 1);
      const [first] = standing;
      if (first === undefined) throw new Error("expected a reservation");
      const completions = await Promise.all(wanted.map(() => store.complete(writer, completion(first))));
      expect(new Set(completions.map(({ certificate }) => certificate?.toString("hex"))).size).toBe(1);
      expect(await auditRows()).toBe(before + 2);
      expect(await store.certificatesOf("uid", 10)).toHaveLength(1);
    });

    test("a serial number is taken once in an authority", async () => {
      const [one, other] = [await installed("one"), await installed("other")];
      const { serialNumber } = await issue(one, "first");
      await expect(reserve(reservation(one.id, "second", 1, { serialNumber }))).rejects.toThrow(PkiConflict);
      expect(await reserve(reservation(other.id, "second", 1, { serialNumber }))).toMatchObject({ serialNumber });
    });

    test("nothing is reserved without the generation", async () => {
      const authority = await installed();
      await expect(reserve(reservation(authority.id, "uid", 1, { generation: 2 }))).rejects.toThrow(PkiConflict);
      await expect(reserve(reservation(randomUUID(), "uid", 1))).rejects.toThrow(PkiConflict);
    });

    test("an abandoned reservation frees the revision, never the serial number, and loses its key", async () => {
      const authority = await installed();
      const first = await reserve(reservation(authority.id, "uid", 1));
      await store.abandon(writer, authority.id, first.serialNumber, []);
      expect(await store.certificate(authority.id, first.serialNumber)).toEqual({
        ...first,
        state: "Abandoned",
        hasKey: false,
      });
      await expect(store.complete(writer, completion(first))).rejects.toThrow(PkiConflict);
      await expect(store.abandon(writer, authority.id, first.serialNumber, [])).rejects.toThrow(PkiConflict);
      const { serialNumber } = first;
      await expect(reserve(reservation(authority.id, "uid", 1, { serialNumber }))).rejects.toThrow(PkiConflict);
      const second = await issue(authority, "uid");
      expect(await store.certificateFor("uid", 1)).toEqual(second);
      await expect(store.abandon(writer, authority.id, second.serialNumber, [])).rejects.toThrow(PkiConflict);
    });

    test("what was never reserved is not completed", async () => {
      const authority = await installed();
      await expect(store.complete(writer, completion(reservation(authority.id, "uid", 1)))).rejects.toThrow(
        PkiConflict,
      );
    });

    test("revisions come newest first, and keep as many keys as asked", async () => {
      const authority = await installed();
      await issue(authority, "other");
      for (const revision of [1, 2, 3]) await issue(authority, "uid", revision, {}, 2);
      const all = await store.certificatesOf("uid", 10);
      expect(all.map(({ revision, hasKey }) => [revision, hasKey])).toEqual([
        [3, true],
        [2, true],
        [1, false],
      ]);
      expect(await store.readKey(authority.id, all[2]?.serialNumber ?? "")).toBeUndefined();
      expect((await store.certificatesOf("uid", 1)).map(({ revision }) => revision)).toEqual([3]);
      expect(await store.certificatesOf("other", 10)).toMatchObject([{ hasKey: true }]);
    });

    test("they are counted by generation, in whatever state", async () => {
      const authority = await installed();
      expect(await store.countCertificates(authority.id, 1)).toBe(0);
      await issue(authority, "uid");
      await reserve(reservation(authority.id, "uid", 2));
      expect(await store.countCertificates(authority.id, 1)).toBe(2);
      expect(await store.countCertificates(authority.id, 2)).toBe(0);
    });

    test("one is found by serial number only for whom it was issued to", async () => {
      const authority = await installed();
      const issued = await issue(authority, "uid");
      expect(await store.certificatesBySerial("uid", issued.serialNumber)).toEqual([issued]);
      expect(await store.certificatesBySerial("other", issued.serialNumber)).toEqual([]);
      const reserved = await reserve(reservation(authority.id, "uid", 2));
      expect(await store.certificatesBySerial("uid", reserved.serialNumber)).toEqual([]);
    });
  });

  describe("revocation", () => {
    test("is final", async () => {
      const authority = await installed();
      const issued = await issue(authority, "uid");
      const { serialNumber } = issued;
      const first = revocation({ reason: "keyCompromise", invalidityDate: new Date("2026-03-30T00:00:00Z") });
      const before = await auditRows();
      const entry = [pkiEntry("CertificateRevoked", serialNumber)];
      const seal = statusSeal(1n);
      expect(await store.revoke(writer, authority.id, serialNumber, first, seal, entry)).toBe(true);
      expect(await store.revoke(writer, authority.id, serialNumber, revocation(), statusSeal(2n), entry)).toBe(false);
      expect(await store.release(writer, authority.id, serialNumber, statusSeal(2n), entry)).toBe(false);
      expect(await store.certificate(authority.id, serialNumber)).toEqual({ ...issued, revocation: first, seal });
      expect(await auditRows()).toBe(before + 1);
    });

    test("on hold is released, or becomes final and keeps its time", async () => {
      const authority = await installed();
      const { serialNumber } = await issue(authority, "uid");
      const hold = revocation({ reason: "certificateHold" });
      const change = (wanted: typeof hold, generation: bigint) =>
        store.revoke(writer, authority.id, serialNumber, wanted, statusSeal(generation), []);
      const release = (generation: bigint) =>
        store.release(writer, authority.id, serialNumber, statusSeal(generation), []);
      expect(await change(hold, 1n)).toBe(true);
      expect(await change(hold, 2n)).toBe(false);
      expect(await release(2n)).toBe(true);
      expect(await store.certificate(authority.id, serialNumber)).not.toHaveProperty("revocation");
      expect(await release(3n)).toBe(false);
      expect(await change(hold, 3n)).toBe(true);
      const later = new Date("2026-05-01T00:00:00Z");
      expect(await change(revocation({ at: later, reason: "superseded" }), 4n)).toBe(true);
      expect(await store.certificate(authority.id, serialNumber)).toMatchObject({
        revocation: { at: hold.at, reason: "superseded" },
        seal: { generation: 4n },
      });
    });

    test("has a status whose generation grows by one, and that the audit record knows", async () => {
      const authority = await installed();
      const { serialNumber } = await issue(authority, "uid");
      const entry = (generation: bigint) => {
        const { subject, ...rest } = pkiEntry("CertificateRevoked", serialToText(Buffer.from(serialNumber, "hex")));
        return [{ ...rest, subject: { ...subject, generation }, details: { authority: authority.id } }];
      };
      const hold = revocation({ reason: "certificateHold" });
      const change = (wanted: typeof hold, generation: bigint) =>
        store.revoke(writer, authority.id, serialNumber, wanted, statusSeal(generation), entry(generation));
      await expect(change(hold, 2n)).rejects.toThrow(PkiConflict);
      expect(await store.countStatuses(authority.id)).toEqual({ sealed: 0, audited: 0 });
      await change(hold, 1n);
      await expect(change(revocation(), 1n)).rejects.toThrow(PkiConflict);
      await expect(store.release(writer, authority.id, serialNumber, statusSeal(1n), [])).rejects.toThrow(PkiConflict);
      await store.release(writer, authority.id, serialNumber, statusSeal(2n), entry(2n));
      expect(await store.certificate(authority.id, serialNumber)).toMatchObject({
        seal: { generation: 2n },
        auditedStatus: 2n,
      });
      expect(await store.countStatuses(authority.id)).toEqual({ sealed: 1, audited: 1 });
      // Released, and to be judged all the same.
      expect(await store.changedStatuses(key(authority), new Date(0), undefined, 10)).toMatchObject([
        { serialNumber, seal: { generation: 2n }, auditedStatus: 2n },
      ]);
      expect(await store.unsealed(10)).toEqual([]);
    });

    test("needs a certificate that was issued", async () => {
      const authority = await installed();
      const { serialNumber } = await reserve(reservation(authority.id, "uid", 1));
      await expect(store.revoke(writer, authority.id, serialNumber, revocation(), statusSeal(1n), [])).rejects.toThrow(
        PkiConflict,
      );
      await expect(store.revoke(writer, authority.id, "00ff", revocation(), statusSeal(1n), [])).rejects.toThrow(
        PkiConflict,
      );
    });
  });

  describe("certificates that ended long ago", () => {
    // Those of the samples end on 1 June.
    const times = {
      now: new Date("2026-12-01T00:00:00Z"),
      endedBefore: new Date("2026-09-02T00:00:00Z"),
      surplusEndedBefore: new Date("2026-11-29T00:00:00Z"),
    };
    const ends = (notAfter: string) => ({ notAfter: new Date(notAfter) });
    const purgeable = async (at = times): Promise<string[]> =>
      (await store.listPurgeable(at, 100)).map(({ serialNumber }) => serialNumber);
    const purge = async (authority: AuthorityRecord, serialNumbers: readonly string[]) => {
      const records = await Promise.all(serialNumbers.map((each) => store.certificate(authority.id, each)));
      const gone = { authorityId: authority.id, generation: 1, crlPartition: 0, notAfter: times.now };
      const statuses = serialNumbers.map((serialNumber, index) => ({ ...gone, serialNumber, ...records[index] }));
      const entry = pkiEntry("CertificatesPurged", authority.id);
      await store.purge(writer, { authorityId: authority.id, statuses, times, audit: [entry] });
    };

    test("are told oldest first, in whatever state, and no more than asked", async () => {
      const authority = await installed();
      const second = await issue(authority, "second", 1, ends("2026-09-01T00:00:00Z"));
      const first = await issue(authority, "first");
      const reserved = await reserve(reservation(authority.id, "reserved", 1, ends("2026-05-01T00:00:00Z")));
      const abandoned = await reserve(reservation(authority.id, "abandoned", 1, ends("2026-05-02T00:00:00Z")));
      await store.abandon(writer, authority.id, abandoned.serialNumber, []);
      await issue(authority, "valid", 1, ends("2026-09-02T00:00:00Z"));
      const oldest = [reserved, abandoned, first, second];
      expect(await purgeable()).toEqual(oldest.map(({ serialNumber }) => serialNumber));
      expect(await store.listPurgeable(times, 1)).toEqual([
        {
          authorityId: authority.id,
          generation: 1,
          crlPartition: 0,
          serialNumber: reserved.serialNumber,
          notAfter: reserved.notAfter,
        },
      ]);
    });

    test("are removed with one audit row, are unknown from then on, and still counted", async () => {
      const authority = await installed();
      const serials: string[] = [];
      for (const uid of ["one", "two"]) serials.push((await issue(authority, uid)).serialNumber);
      const [first = ""] = serials;
      const before = await auditRows();
      await purge(authority, serials);
      expect(await auditRows()).toBe(before + 1);
      expect(await store.certificate(authority.id, first)).toBeUndefined();
      expect(await store.readKey(authority.id, first)).toBeUndefined();
      expect(await store.certificatesOf("one", 10)).toEqual([]);
      expect((await changes()).certificates).toEqual([]);
      expect(await store.countCertificates(authority.id, 1)).toBe(2);
      await expect(purge(authority, serials)).rejects.toThrow(PkiConflict);
      expect(await auditRows()).toBe(before + 1);
    });

    test("stay all when one of them must", async () => {
      const authority = await installed();
      const { serialNumber } = await issue(authority, "one");
      const valid = await issue(authority, "valid", 1, ends("2027-01-01T00:00:00Z"));
      await expect(purge(authority, [serialNumber, valid.serialNumber])).rejects.toThrow(PkiConflict);
      expect(await store.certificate(authority.id, serialNumber)).toMatchObject({ serialNumber });
    });

    test("stay as the newest of an object that is there, and as one that its manifest may list as revoked", async () => {
      const authority = await installed();
      const old = await issue(authority, "uid", 1);
      const { serialNumber } = await issue(authority, "uid", 2);
      const newest = await issue(authority, "uid", 3);
      await store.recordHolder(writer, holder("uid"));
      await store.revoke(writer, authority.id, serialNumber, revocation(), statusSeal(1n), []);
      await store.publishCrl(writer, crl(authority.id, 1n, { thisUpdate: times.now }), []);
      expect(await purgeable()).toEqual([old.serialNumber]);
      await expect(purge(authority, [serialNumber])).rejects.toThrow(PkiConflict);
      await store.removeHolder(writer, "uid", []);
      const all = [old.serialNumber, serialNumber, newest.serialNumber].sort();
      expect((await purgeable()).sort()).toEqual(all);
    });

    test("stay while revoked, until one CRL was made beyond their end, or their CA ended", async () => {
      const authority = await installed();
      const { serialNumber, notAfter } = await issue(authority, "uid");
      await store.revoke(writer, authority.id, serialNumber, revocation(), statusSeal(1n), []);
      expect(await purgeable()).toEqual([]);
      await expect(purge(authority, [serialNumber])).rejects.toThrow(PkiConflict);
      expect(await purgeable({ ...times, now: new Date("2036-01-01T00:00:00Z") })).toEqual([serialNumber]);
      await store.publishCrl(writer, crl(authority.id, 1n, { thisUpdate: notAfter }), []);
      expect(await purgeable()).toEqual([]);
      // One that was made at the very end is not beyond it: the next one lists it again.
      expect(await store.changedStatuses(key(authority), notAfter, undefined, 10)).toHaveLength(1);
      const beyond = new Date(notAfter.getTime() + 1_000);
      await store.publishCrl(writer, crl(authority.id, 2n, { thisUpdate: beyond }), []);
      expect(await purgeable()).toEqual([serialNumber]);
      await purge(authority, [serialNumber]);
      expect(await store.changedStatuses(key(authority), notAfter, undefined, 10)).toEqual([]);
    });

    test("go with the status that was judged, and leave word of it in the audit record", async () => {
      const authority = await installed();
      const issued = await issue(authority, "uid");
      const { serialNumber } = issued;
      const entry = (action: AuditEntry["action"], generation: bigint) => {
        const { subject, ...rest } = pkiEntry(action, serialToText(Buffer.from(serialNumber, "hex")));
        return { ...rest, subject: { ...subject, generation }, details: { authority: authority.id } };
      };
      const hold = revocation({ reason: "certificateHold" });
      await store.revoke(writer, authority.id, serialNumber, hold, statusSeal(1n), [entry("CertificateRevoked", 1n)]);
      const [before] = await store.changedStatuses(key(authority), new Date(0), undefined, 1);
      await store.release(writer, authority.id, serialNumber, statusSeal(2n), [entry("CertificateReleased", 2n)]);
      const [status] = await store.listPurgeable(times, 10);
      expect(status).toMatchObject({ serialNumber, seal: { generation: 2n }, auditedStatus: 2n });
      const purgeAs = (judged: typeof status) =>
        store.purge(writer, {
          authorityId: authority.id,
          statuses: judged === undefined ? [] : [judged],
          times,
          audit: [entry("CertificatePurged", 2n)],
        });
      await expect(purgeAs(before)).rejects.toThrow(PkiConflict);
      await expect(purgeAs(issued)).rejects.toThrow(PkiConflict);
      expect(await store.wasPurged(authority.id, serialNumber)).toBe(false);
      await purgeAs(status);
      expect(await store.certificate(authority.id, serialNumber)).toBeUndefined();
      expect(await store.wasPurged(authority.id, serialNumber)).toBe(true);
      expect(await store.countStatuses(authority.id)).toEqual({ sealed: 0, audited: 0 });
    });

    test("of a request go whether its object is there or not, since its status says what became of them", async () => {
      const authority = await installed();
      const { serialNumber } = await issue(authority, "uid");
      await store.recordHolder(writer, { ...holder("uid"), kind: "CertificateRequest" });
      expect(await purgeable()).toEqual([serialNumber]);
    });

    test("go earlier where an object limits its revisions, the valid ones and the others' never", async () => {
      const authority = await installed();
      const limited = { ...holder("limited"), revisionHistoryLimit: 2 };
      await store.recordHolder(writer, limited);
      expect(await store.findHolder("limited")).toEqual(limited);
      await store.recordHolder(writer, holder("unlimited"));
      const recent = ends("2026-11-01T00:00:00Z");
      const valid = ends("2026-11-30T00:00:00Z");
      for (const uid of ["limited", "unlimited"]) {
        for (const [revision, change] of [recent, valid, recent, recent, valid].entries()) {
          await issue(authority, uid, revision + 1, change);
        }
      }
      const told = (await store.listPurgeable(times, 100)).map(({ serialNumber }) => serialNumber);
      const revisions = (await store.certificatesOf("limited", 10)).filter((each) => told.includes(each.serialNumber));
      expect([told.length, revisions.map(({ revision }) => revision)]).toEqual([2, [3, 1]]);
      await purge(authority, told);
      expect((await store.certificatesOf("limited", 10)).map(({ revision }) => revision)).toEqual([5, 4, 2]);
      await store.recordHolder(writer, holder("limited"));
      expect(await store.findHolder("limited")).toEqual(holder("limited"));
    });

    test("are removed by nobody whose term is over", async () => {
      const authority = await installed();
      const { serialNumber } = await issue(authority, "uid");
      await leadership.acquireEpoch("another");
      await expect(purge(authority, [serialNumber])).rejects.toThrow(Fenced);
      expect(await store.certificate(authority.id, serialNumber)).toMatchObject({ serialNumber });
    });
  });

  describe("CRLs", () => {
    const now = new Date("2026-04-02T00:30:00Z");

    test("the first one is due as soon as the CA has a certificate", async () => {
      const authority = await create();
      expect(await store.listDueCrls(now, 10)).toEqual([]);
      await install(authority);
      expect(await store.listDueCrls(now, 10)).toEqual([{ ...key(authority), covers: 0n }]);
      expect(await store.crl(key(authority))).toBeUndefined();
      expect(await store.listDueCrls(new Date("2036-01-01T00:00:00Z"), 10)).toEqual([]);
    });

    test("the next one is due after its time, and at once after a revocation or a release", async () => {
      const authority = await installed();
      const { serialNumber } = await issue(authority, "uid");
      const first = crl(authority.id, 1n);
      await store.publishCrl(writer, first, [pkiEntry("CrlPublished", authority.id)]);
      expect(await store.crl(key(authority))).toEqual(first);
      expect(await store.listDueCrls(now, 10)).toEqual([]);
      const { number, thisUpdate, nextUpdate } = first;
      const last = { number, thisUpdate, nextUpdate };
      const afterItsTime = new Date(thisUpdate.getTime() + authority.revocation.crlEveryMs);
      expect(await store.listDueCrls(afterItsTime, 10)).toEqual([{ ...key(authority), covers: 0n, last }]);
      await store.revoke(
        writer,
        authority.id,
        serialNumber,
        revocation({ reason: "certificateHold" }),
        statusSeal(1n),
        [],
      );
      expect(await store.listDueCrls(now, 10)).toEqual([{ ...key(authority), covers: 1n, last }]);
      await store.publishCrl(writer, crl(authority.id, 2n, { covers: 1n }), []);
      expect(await store.listDueCrls(now, 10)).toEqual([]);
      await store.release(writer, authority.id, serialNumber, statusSeal(2n), []);
      expect(await store.listDueCrls(now, 10)).toMatchObject([{ covers: 2n, last: { number: 2n } }]);
      expect(await store.crlWork(key(authority))).toMatchObject({ covers: 2n });
    });

    test("one that does not cover the newest revocation leaves it due", async () => {
      const authority = await installed();
      const { serialNumber } = await issue(authority, "uid");
      const [work] = await store.listDueCrls(now, 10);
      await store.revoke(writer, authority.id, serialNumber, revocation(), statusSeal(1n), []);
      await store.publishCrl(writer, crl(authority.id, 1n, { covers: work?.covers ?? 9n }), []);
      expect(await store.listDueCrls(now, 10)).toMatchObject([{ covers: 1n }]);
    });

    test("numbers grow by one", async () => {
      const authority = await installed();
      await expect(store.publishCrl(writer, crl(authority.id, 2n), [])).rejects.toThrow(PkiConflict);
      await store.publishCrl(writer, crl(authority.id, 1n), []);
      await expect(store.publishCrl(writer, crl(authority.id, 1n), [])).rejects.toThrow(PkiConflict);
      await expect(store.publishCrl(writer, crl(authority.id, 1n, { partition: 1 }), [])).rejects.toThrow(PkiConflict);
      expect((await store.crl(key(authority)))?.number).toBe(1n);
    });

    test("each partition is for itself, and exists from its first certificate on", async () => {
      const authority = await installed();
      expect(await store.crlWork(key(authority, 1))).toBeUndefined();
      const { serialNumber } = await issue(authority, "uid", 1, { crlPartition: 1 });
      await store.publishCrl(writer, crl(authority.id, 1n), []);
      await store.publishCrl(writer, crl(authority.id, 1n, { partition: 1 }), []);
      await store.revoke(writer, authority.id, serialNumber, revocation(), statusSeal(1n), []);
      expect(await store.listDueCrls(now, 10)).toMatchObject([{ partition: 1 }]);
      const all = (partition: number) => store.changedStatuses(key(authority, partition), now, undefined, 10);
      expect([(await all(0)).length, (await all(1)).length]).toEqual([0, 1]);
    });

    test("entries come in pages, without certificates that had expired before", async () => {
      const [authority, other] = [await installed("one"), await installed("other")];
      const expired = { notAfter: new Date("2026-04-01T00:00:00Z") };
      for (const [name, of, change] of [
        ["a", authority, {}],
        ["b", authority, {}],
        ["c", authority, {}],
        ["expired", authority, expired],
        ["good", authority, {}],
        ["other", other, {}],
      ] as const) {
        const { serialNumber } = await issue(of, name, 1, change);
        if (name !== "good") await store.revoke(writer, of.id, serialNumber, revocation(), statusSeal(1n), []);
      }
      const first = await store.changedStatuses(key(authority), now, undefined, 2);
      const rest = await store.changedStatuses(key(authority), now, first.at(-1)?.serialNumber, 2);
      expect([first.length, rest.length]).toEqual([2, 1]);
      const serials = [...first, ...rest].map(({ serialNumber }) => serialNumber);
      expect(serials).toEqual([...serials].sort());
      expect(first[0]?.revocation).toEqual(revocation());
      const before = new Date(expired.notAfter.getTime() - 1);
      expect(await store.changedStatuses(key(authority), before, undefined, 10)).toHaveLength(4);
      expect(await store.changedStatuses(key(authority), expired.notAfter, undefined, 10)).toHaveLength(4);
      const after = new Date(expired.notAfter.getTime() + 1);
      expect(await store.changedStatuses(key(authority), after, undefined, 10)).toHaveLength(3);
    });

    test("responders see what is in force", async () => {
      const authority = await installed();
      expect(await ocsp.crls()).toEqual([]);
      expect(await ocsp.crl(key(authority))).toBeUndefined();
      const published = crl(authority.id, 1n);
      await store.publishCrl(writer, published, []);
      const { covers: _, der: __, ...listed } = published;
      expect(await ocsp.crls()).toEqual([listed]);
      expect(await ocsp.crl(key(authority))).toMatchObject({ ...listed, der: published.der });
    });
  });

  describe("holders", () => {
    const delivery = {
      secretName: "orders-tls",
      uid: "uid-of-core-secret",
      resourceVersion: "17",
      fingerprint: "f",
      version: 1,
      pendingRestarts: ["Deployment/api"],
    };

    test("a delivery outlives a change of the deletion policy", async () => {
      expect(await store.findHolder("uid")).toBeUndefined();
      await store.recordHolder(writer, holder("uid"));
      expect(await store.findHolder("uid")).toEqual(holder("uid"));
      await store.recordDelivery(writer, "uid", delivery, [pkiEntry("CertificateDelivered", "uid")]);
      await store.recordHolder(writer, { ...holder("uid"), deletionPolicy: "Revoke" });
      expect(await store.findHolder("uid")).toEqual({ ...holder("uid"), deletionPolicy: "Revoke", delivery });
      await store.recordDelivery(writer, "uid", undefined, []);
      expect(await store.findHolder("uid")).not.toHaveProperty("delivery");
      await expect(store.recordDelivery(writer, "absent", delivery, [])).rejects.toThrow(PkiConflict);
    });

    test("with a holder its keys go, its certificates stay", async () => {
      const authority = await installed();
      const issued = await issue(authority, "uid");
      const other = await issue(authority, "other");
      await store.recordHolder(writer, holder("uid"));
      const before = await auditRows();
      const entry = [pkiEntry("CertificateHolderRemoved", "uid")];
      await store.removeHolder(writer, "uid", entry);
      await store.removeHolder(writer, "uid", entry);
      expect(await auditRows()).toBe(before + 1);
      expect(await store.findHolder("uid")).toBeUndefined();
      expect(await store.certificatesOf("uid", 10)).toEqual([{ ...issued, hasKey: false }]);
      expect(await store.readKey(authority.id, issued.serialNumber)).toBeUndefined();
      expect(await store.readKey(authority.id, other.serialNumber)).toBeDefined();
    });

    test("they are found by name, the former ones too", async () => {
      for (const uid of ["b", "a"]) await store.recordHolder(writer, { ...holder(uid), namespaceUid: uid });
      await store.recordHolder(writer, { ...holder("c"), name: "other" });
      await store.recordHolder(writer, { ...holder("d"), namespace: "other" });
      await store.recordHolder(writer, { ...holder("e"), kind: "CertificateRequest" });
      expect((await store.holdersNamed("Certificate", "payments", "orders")).map(({ uid }) => uid)).toEqual(["a", "b"]);
      expect(await store.holdersNamed("Certificate", "payments", "absent")).toEqual([]);
      expect(await store.holdersNamed("CertificateRequest", "payments", "orders")).toEqual([
        { ...holder("e"), kind: "CertificateRequest" },
      ]);
    });

    test("they come in pages", async () => {
      for (const uid of ["a", "b", "c"]) await store.recordHolder(writer, holder(uid));
      const first = await store.listHolders(undefined, 2);
      const rest = await store.listHolders(first.at(-1)?.uid, 2);
      expect([...first, ...rest].map(({ uid }) => uid)).toEqual(["a", "b", "c"]);
      expect(first).toHaveLength(2);
    });
  });

  describe("responders", () => {
    const ask = async (authority: AuthorityRecord) => {
      const request = { id: randomUUID(), authorityId: authority.id, generation: 1, csr: randomBytes(200) };
      await ocsp.requestResponder(request);
      return request;
    };
    const ago = (ms: number): Date => new Date(Date.now() - ms);

    test("what one asks for is answered once", async () => {
      const authority = await installed();
      const request = await ask(authority);
      await ocsp.requestResponder(request);
      expect(await ocsp.responder(request.id)).toBe("Pending");
      const pending = await store.pendingResponders(ago(60_000), 10);
      expect(pending).toEqual([{ ...request, requestedAt: expect.any(Date) }]);
      const answer = { certificate: randomBytes(300), notAfter: new Date(Date.now() + 60_000) };
      await store.answerResponder(writer, request.id, answer);
      await store.answerResponder(writer, request.id, { ...answer, certificate: randomBytes(300) });
      expect(await ocsp.responder(request.id)).toEqual(answer.certificate);
      expect(await store.pendingResponders(ago(60_000), 10)).toEqual([]);
      expect(await store.respondersSince(ago(60_000))).toEqual(new Map([[authority.id, 1]]));
      expect(await store.respondersSince(new Date(Date.now() + 60_000))).toEqual(new Map());
    });

    test("no authority's requests hold up another's, and one that does not exist is not heard", async () => {
      const [one, other] = [await installed("one"), await installed("other")];
      for (let count = 0; count < 3; count += 1) await ask(one);
      const asked = await ask(other);
      await ocsp.requestResponder({ ...asked, id: randomUUID(), authorityId: randomUUID() });
      const pending = await store.pendingResponders(ago(60_000), 2);
      expect(pending.map(({ authorityId }) => authorityId).sort()).toEqual([one.id, one.id, other.id].sort());
      expect(await store.pendingResponders(new Date(Date.now() + 60_000), 2)).toEqual([]);
    });

    test("expired and old unanswered ones are forgotten", async () => {
      const authority = await installed();
      const [answered, unanswered] = [await ask(authority), await ask(authority)];
      const notAfter = new Date(Date.now() + 60_000);
      await store.answerResponder(writer, answered.id, { certificate: randomBytes(300), notAfter });
      expect(await store.forgetResponders(writer, ago(0), ago(60_000))).toBe(0);
      expect(await store.forgetResponders(writer, notAfter, ago(60_000))).toBe(1);
      expect(await ocsp.responder(answered.id)).toBe("Gone");
      expect(await store.forgetResponders(writer, notAfter, new Date(Date.now() + 60_000))).toBe(1);
      expect(await ocsp.responder(unanswered.id)).toBe("Gone");
    });
  });

  describe("changes for responders", () => {
    const serials = (certificates: readonly OcspCertificate[]) =>
      new Set(certificates.map((each) => each.serialNumber));

    test("are issued certificates and what becomes of them", async () => {
      const authority = await installed();
      const issued = await issue(authority, "uid");
      await reserve(reservation(authority.id, "reserved", 1));
      const { serialNumber, notAfter } = issued;
      const row = { authorityId: authority.id, generation: 1, serialNumber, notAfter, partition: 0 };
      const first = await changes();
      expect(first.certificates).toEqual([row]);
      await store.revoke(
        writer,
        authority.id,
        serialNumber,
        revocation({ reason: "certificateHold" }),
        statusSeal(1n),
        [],
      );
      const second = await changes(first.next);
      expect(second.certificates).toContainEqual({ ...row, revocation: revocation({ reason: "certificateHold" }) });
      await store.release(writer, authority.id, serialNumber, statusSeal(2n), []);
      const third = await changes(second.next);
      expect(third.certificates).toContainEqual(row);
    });

    test("come whole in pages of any size", async () => {
      const authority = await installed();
      const all = new Set<string>();
      for (let count = 0; count < 7; count += 1) all.add((await issue(authority, `uid${count}`)).serialNumber);
      for (const limit of [1, 2, 7, 8]) expect(serials((await changes(undefined, limit)).certificates)).toEqual(all);
    });
  });

  test("a stale writer changes nothing, by no method", async () => {
    const authority = await installed();
    const bare = await create("bare");
    const issued = await issue(authority, "uid");
    const held = await issue(authority, "held");
    await store.revoke(
      writer,
      authority.id,
      held.serialNumber,
      revocation({ reason: "certificateHold" }),
      statusSeal(1n),
      [],
    );
    const reserved = await reserve(reservation(authority.id, "reserved", 1));
    await store.recordHolder(writer, holder("uid"));
    const responder = { id: randomUUID(), authorityId: authority.id, generation: 1, csr: randomBytes(200) };
    await ocsp.requestResponder(responder);
    await leadership.acquireEpoch("another");
    const state = async () => [
      await store.listAuthorities(undefined, 10),
      await store.certificateFor("uid", 1),
      await store.certificateFor("held", 1),
      await store.certificateFor("reserved", 1),
      await store.certificateFor("new", 1),
      await store.listHolders(undefined, 10),
      await store.listDueCrls(new Date("2026-04-02T00:30:00Z"), 10),
      await ocsp.responder(responder.id),
      await auditRows(),
    ];
    const before = await state();
    const settings = authority.revocation;
    const { serialNumber } = issued;
    const attempts = [
      create("new"),
      install(bare),
      store.changeAuthority(writer, { id: authority.id, state: "Retired", revocation: settings, audit: [] }),
      reserve(reservation(authority.id, "new", 1)),
      store.abandon(writer, authority.id, reserved.serialNumber, []),
      store.complete(writer, completion(reserved)),
      store.revoke(writer, authority.id, serialNumber, revocation(), statusSeal(1n), []),
      store.release(writer, authority.id, held.serialNumber, statusSeal(2n), []),
      store.recordHolder(writer, holder("new")),
      store.recordDelivery(writer, "uid", undefined, [pkiEntry("CertificateDelivered", "uid")]),
      store.removeHolder(writer, "uid", []),
      store.publishCrl(writer, crl(authority.id, 1n), []),
      store.answerResponder(writer, responder.id, { certificate: randomBytes(9), notAfter: new Date() }),
      store.forgetResponders(writer, new Date(), new Date(Date.now() + 60_000)),
    ];
    for (const attempt of await Promise.allSettled(attempts)) {
      expect(attempt).toMatchObject({ status: "rejected", reason: expect.any(Fenced) });
    }
    expect(await state()).toEqual(before);
  });
}
