import { createHash, randomBytes } from "node:crypto";
import { Fenced } from "../errors.ts";
import { gatewayEntry } from "../fleet/audit-entries.ts";
import type { Heartbeat } from "../fleet/protocol.ts";
import type { AuditLog } from "./audit-log.ts";
import type {
  CertificateAsked,
  FleetStore,
  GatewayRecord,
  NewToken,
  Place,
  Redeemed,
  Redemption,
} from "./fleet-store.ts";
import type { Leadership } from "./leadership.ts";
import { completion, newAuthority, reservation, statusSeal } from "./pki-samples.ts";
import type { PkiStore } from "./pki-store.ts";
import { actor } from "./samples.ts";
import { UNLED, type Writer } from "./vault-store.ts";

const NOW = new Date("2026-05-01T12:00:00.123Z");
const later = (ms: number): Date => new Date(NOW.getTime() + ms);
const HOUR_MS = 3_600_000;
const NPR: Place = { environment: "NPR", role: "primary" };
const PRO: Place = { environment: "PRO", role: "primary" };
/** No certificate has a later one. */
const LATEST = 1_000_000;
const BEAT: Heartbeat = {
  version: "1.0.0",
  problems: ["database"],
  queueLength: 3,
  certificateNotAfter: "2026-07-01T00:00:00Z",
};

const token = (name: string, place: Partial<Place> = NPR, change: Partial<NewToken> = {}): NewToken => ({
  name,
  place,
  hash: randomBytes(32),
  expiresAt: later(24 * HOUR_MS),
  mac: randomBytes(32),
  audit: (id) => [gatewayEntry("GatewayTokenIssued", { id, name }, actor)],
  ...change,
});

const redemption = ({ hash }: Pick<NewToken, "hash">, change: Partial<Redemption> = {}): Redemption => ({
  hash,
  keyDigest: randomBytes(32),
  place: NPR,
  now: NOW,
  audit: (gateway) => [gatewayEntry("GatewayRegistered", gateway, actor)],
  ...change,
});

const confirmed = (gateway: GatewayRecord) => [gatewayEntry("GatewayConfirmed", gateway, actor)];
const revoked = (gateway: GatewayRecord) => [gatewayEntry("GatewayRevoked", gateway, actor)];

/** What every store of the fleet does. `start` gives an empty one. */
export function fleetStoreContract(
  start: () => Promise<{
    readonly store: FleetStore;
    readonly pki: PkiStore;
    readonly leadership: Leadership;
    readonly audit: AuditLog;
  }>,
): void {
  let store: FleetStore;
  let pki: PkiStore;
  let leadership: Leadership;
  let audit: AuditLog;
  let writer: Writer;
  /** By the gateway's id: the one of its last registration. */
  let keys: Map<string, Buffer>;

  beforeEach(async () => {
    keys = new Map();
    ({ store, pki, leadership, audit } = await start());
    writer = { epoch: await leadership.acquireEpoch("test") };
  });

  const actions = async (): Promise<readonly string[]> =>
    (await audit.read({ subject: { kind: "Gateway" }, order: "OldestFirst" }, undefined, 1_000)).map(
      ({ entry }) => entry.action,
    );
  async function added(made: NewToken): Promise<GatewayRecord> {
    const gateway = await store.addToken(UNLED, made);
    if (gateway === "PlaceDiffers") throw new Error(gateway);
    return gateway;
  }
  async function redeemed(made: NewToken, change: Partial<Redemption> = {}): Promise<Redeemed> {
    const { keyDigest = randomBytes(32) } = change;
    const gateway = await store.redeem(redemption(made, { ...change, keyDigest }));
    if (typeof gateway === "string") throw new Error(gateway);
    keys.set(gateway.id, keyDigest);
    return gateway;
  }
  /** A gateway that has come so far as to ask for a certificate, with its key. */
  async function registered(name: string, keyDigest = randomBytes(32)): Promise<Redeemed> {
    const made = token(name);
    await added(made);
    return redeemed(made, { keyDigest });
  }
  const wanted = ({ id, name }: GatewayRecord, keyDigest: Buffer, requestedAt = NOW) => ({
    kind: "Gateway" as const,
    gateway: { id, name, ...NPR },
    csr: Buffer.concat([Buffer.from("request for "), keyDigest]),
    keyDigest,
    requestedAt,
    mac: (revision: number) => createHash("sha256").update(keyDigest).update(`${revision}`).digest(),
    presented: undefined as CertificateAsked["presented"],
  });
  const ofReplica = (keyDigest = randomBytes(32), requestedAt = NOW) => ({
    kind: "Replica" as const,
    gateway: undefined,
    csr: randomBytes(100),
    keyDigest,
    requestedAt,
    mac: (revision: number) => Buffer.alloc(32, revision),
    presented: undefined,
  });
  async function requestOf(given: CertificateAsked): Promise<string> {
    const outcome = await store.requestCertificate(given);
    return outcome.kind === "Requested" ? outcome.id : outcome.kind;
  }
  /** By the certificate of its last registration. */
  const asked = (...request: Parameters<typeof wanted>): Promise<string> => {
    const keyDigest = keys.get(request[0].id) ?? randomBytes(32);
    return requestOf({ ...wanted(...request), presented: { revision: LATEST, keyDigest } });
  };
  const pending = (limit = 100) => store.pendingRequests(later(-HOUR_MS), limit);

  describe("tokens", () => {
    test("the first token makes the gateway, and fixes what it says of its place", async () => {
      const gateway = await added(token("gw-a", { environment: "NPR" }));
      expect(gateway).toEqual({
        id: expect.stringMatching(/^[0-9a-f-]{36}$/),
        name: "gw-a",
        environment: "NPR",
        role: undefined,
        registeredAt: undefined,
        confirmedAt: undefined,
        revokedAt: undefined,
        tokenExpiresAt: later(24 * HOUR_MS),
        heartbeat: undefined,
      });
      expect(await store.gateway("gw-a")).toEqual(gateway);
      expect(await store.gateway("gw")).toBeUndefined();
      expect(await actions()).toEqual(["GatewayTokenIssued"]);
    });

    test("a leader whose term is over adds none, and leaves no gateway behind", async () => {
      await leadership.acquireEpoch("other");
      await expect(store.addToken(writer, token("gw-a"))).rejects.toThrow(Fenced);
      expect(await store.gateways()).toEqual([]);
    });

    test("gateways come by name, each with its own id", async () => {
      for (const name of ["gw-b", "gw-a", "Gw"]) await added(token(name));
      const all = await store.gateways();
      expect(all.map(({ name }) => name)).toEqual(["Gw", "gw-a", "gw-b"]);
      expect(new Set(all.map(({ id }) => id)).size).toBe(3);
    });

    test("a place that is fixed otherwise is refused, and nothing is written", async () => {
      const first = token("gw-a");
      await added(first);
      expect(await store.addToken(UNLED, token("gw-a", PRO))).toBe("PlaceDiffers");
      expect(await store.addToken(UNLED, token("gw-a", { role: "dr-standby" }))).toBe("PlaceDiffers");
      expect(await actions()).toEqual(["GatewayTokenIssued"]);
      expect(await redeemed(first)).toMatchObject(NPR);
    });

    test("of two tokens the older one ends when nobody has redeemed it", async () => {
      const [first, second] = [token("gw-a"), token("gw-a", {}, { expiresAt: later(HOUR_MS) })];
      const { id } = await added(first);
      expect(await added(second)).toMatchObject({ id, tokenExpiresAt: later(HOUR_MS), ...NPR });
      expect(await store.redeem(redemption(first))).toBe("Expired");
      expect(await redeemed(second)).toMatchObject({ id });
    });

    test("one that was redeemed stays when another is made", async () => {
      const [first, second] = [token("gw-a"), token("gw-a")];
      const keyDigest = randomBytes(32);
      await added(first);
      await redeemed(first, { keyDigest });
      await added(second);
      expect(await redeemed(first, { keyDigest })).toMatchObject({ name: "gw-a" });
      expect(await redeemed(second)).toMatchObject({ name: "gw-a" });
    });
  });

  describe("redemption", () => {
    test("of a hundred keys at once exactly one wins, and it may repeat", async () => {
      const made = token("gw-a", {});
      const { id } = await added(made);
      const keys = Array.from({ length: 100 }, () => randomBytes(32));
      const answers = await Promise.all(keys.map((keyDigest) => store.redeem(redemption(made, { keyDigest }))));
      const winners = answers.flatMap((answer, at) => (typeof answer === "string" ? [] : [at]));
      expect(winners).toHaveLength(1);
      expect(new Set(answers.filter((answer) => typeof answer === "string"))).toEqual(new Set(["OtherKey"]));
      const keyDigest = keys[winners[0] ?? -1] ?? Buffer.alloc(0);
      expect(await redeemed(made, { keyDigest, now: later(1_000) })).toMatchObject({ id, registeredAt: NOW });
      expect(await actions()).toEqual(["GatewayTokenIssued", "GatewayRegistered"]);
    });

    test("it tells the gateway, and the token as it was made", async () => {
      const made = token("gw-a", { role: "primary" });
      await added(made);
      const { mac, expiresAt } = made;
      expect(await redeemed(made)).toMatchObject({
        ...NPR,
        name: "gw-a",
        registeredAt: NOW,
        token: { place: { role: "primary" }, mac, expiresAt },
      });
    });

    test("what is unknown, over, or for another place is refused", async () => {
      const made = token("gw-a", { environment: "NPR" });
      await added(made);
      expect(await store.redeem(redemption({ hash: randomBytes(32) }))).toBe("Unknown");
      expect(await store.redeem(redemption(made, { now: made.expiresAt }))).toBe("Expired");
      expect(await store.redeem(redemption(made, { place: PRO }))).toBe("PlaceDiffers");
      expect(await actions()).toEqual(["GatewayTokenIssued"]);
      const standby: Place = { environment: "NPR", role: "dr-standby" };
      expect(await redeemed(made, { place: standby, now: later(24 * HOUR_MS - 1) })).toMatchObject(standby);
    });

    test("the first registration fixes what the token left open", async () => {
      const keyDigest = randomBytes(32);
      const [first, second] = [token("gw-a", {}), token("gw-a", {})];
      await added(first);
      await redeemed(first, { keyDigest });
      expect(await store.redeem(redemption(first, { keyDigest, place: PRO }))).toBe("PlaceDiffers");
      await added(second);
      expect(await store.redeem(redemption(second, { place: PRO }))).toBe("PlaceDiffers");
      expect(await store.addToken(UNLED, token("gw-a", PRO))).toBe("PlaceDiffers");
    });
  });

  describe("confirmation", () => {
    test("it ends the token for its own key too, once", async () => {
      const made = token("gw-a");
      const keyDigest = randomBytes(32);
      await added(made);
      const gateway = await redeemed(made, { keyDigest });
      expect(await store.confirm(gateway.id, keyDigest, 1, later(5), confirmed(gateway))).toBe(true);
      expect(await store.confirm(gateway.id, keyDigest, 1, later(9), confirmed(gateway))).toBe(false);
      expect(await store.redeem(redemption(made, { keyDigest }))).toBe("Confirmed");
      expect(await store.gateway("gw-a")).toMatchObject({ confirmedAt: later(5), tokenExpiresAt: undefined });
      expect(await actions()).toEqual(["GatewayTokenIssued", "GatewayRegistered", "GatewayConfirmed"]);
    });

    test("another key does not end it", async () => {
      const gateway = await registered("gw-a");
      expect(await store.confirm(gateway.id, randomBytes(32), 1, NOW, confirmed(gateway))).toBe(false);
      expect(await store.gateway("gw-a")).toMatchObject({
        confirmedAt: undefined,
        tokenExpiresAt: later(24 * HOUR_MS),
      });
    });

    test("an older token that is bound to another key ends with it, a newer one does not", async () => {
      const [older, newer, newest] = [token("gw-a"), token("gw-a"), token("gw-a")];
      const [lost, used, next] = [randomBytes(32), randomBytes(32), randomBytes(32)];
      await added(older);
      await redeemed(older, { keyDigest: lost });
      await added(newer);
      const gateway = await redeemed(newer, { keyDigest: used });
      await added(newest);
      await redeemed(newest, { keyDigest: next });
      await store.confirm(gateway.id, used, 2, NOW, confirmed(gateway));
      expect(await store.redeem(redemption(older, { keyDigest: lost }))).toBe("Expired");
      expect(await redeemed(newest, { keyDigest: next })).toMatchObject({ name: "gw-a" });
    });

    test("a later registration is confirmed anew", async () => {
      const gateway = await registered("gw-a");
      const [again, keyDigest] = [token("gw-a"), randomBytes(32)];
      await store.confirm(gateway.id, randomBytes(32), 1, NOW, confirmed(gateway));
      await added(again);
      expect(await redeemed(again, { keyDigest, now: later(7) })).toMatchObject({
        registeredAt: later(7),
        confirmedAt: undefined,
      });
    });
  });

  describe("requests", () => {
    test("one waits until it is answered, as it was asked for", async () => {
      const keyDigest = randomBytes(32);
      const gateway = await registered("gw-a", keyDigest);
      const id = await asked(gateway, keyDigest);
      const { keyDigest: _, presented: __, mac, ...request } = wanted(gateway, keyDigest);
      expect(await pending()).toEqual([{ ...request, id, revision: 1, mac: mac(1) }]);
      expect(await store.answer(id)).toBeUndefined();
      const certificates = [randomBytes(300), randomBytes(200)];
      await store.answerRequest(writer, id, certificates, NOW);
      expect(await store.answer(id)).toEqual(certificates);
      expect(await pending()).toEqual([]);
      await store.answerRequest(writer, id, [randomBytes(10)], NOW);
      expect(await store.answer(id)).toEqual(certificates);
    });

    test("the same key gets the same request, which then waits anew; also when it was answered", async () => {
      const keyDigest = randomBytes(32);
      const gateway = await registered("gw-a", keyDigest);
      const ids = await Promise.all(Array.from({ length: 10 }, () => asked(gateway, keyDigest)));
      expect(new Set(ids).size).toBe(1);
      const [id = ""] = ids;
      expect(await asked(gateway, keyDigest, later(5))).toBe(id);
      expect(await pending()).toMatchObject([{ id, revision: 1, requestedAt: later(5) }]);
      await store.answerRequest(writer, id, [randomBytes(10)], NOW);
      expect(await asked(gateway, keyDigest, later(9))).toBe(id);
      expect(await pending()).toEqual([]);
    });

    test("another key of the gateway takes the place of what waits, with a revision of its own", async () => {
      const gateway = await registered("gw-a");
      const other = await registered("gw-b");
      const first = await asked(gateway, randomBytes(32));
      const elsewhere = await asked(other, randomBytes(32), later(1));
      const second = await asked(gateway, randomBytes(32), later(2));
      expect((await pending()).map(({ id, revision }) => [id, revision])).toEqual([
        [elsewhere, 1],
        [second, 2],
      ]);
      await store.answerRequest(writer, first, [randomBytes(10)], NOW);
      expect(await store.answer(first)).toBeUndefined();
    });

    test("a certificate from before what counts has nothing signed, also under a name that was made anew", async () => {
      const keyDigest = randomBytes(32);
      const gateway = await registered("gw-a", keyDigest);
      const by = (revision: number) =>
        requestOf({ ...wanted(gateway, randomBytes(32)), presented: { revision, keyDigest } });
      await store.confirm(gateway.id, keyDigest, 2, NOW, confirmed(gateway));
      expect(await by(1)).toBe("Revoked");
      expect(await pending()).toEqual([]);
      const id = await by(2);
      expect(await pending()).toMatchObject([{ id }]);
      await store.revoke(writer, gateway.id, NOW, revoked(gateway));
      await added(token("gw-a"));
      expect(await by(1)).toBe("Revoked");
      expect(await pending()).toEqual([]);
      expect(await requestOf(wanted(gateway, keyDigest))).toBe("Revoked");
    });

    test("while a newer token is bound to another key, only that key has something signed", async () => {
      const [first, second] = [randomBytes(32), randomBytes(32)];
      const gateway = await registered("gw-a", first);
      await store.confirm(gateway.id, first, 1, NOW, confirmed(gateway));
      const renewal = (requestedAt = NOW) => ({
        ...wanted(gateway, randomBytes(32), requestedAt),
        presented: { revision: 1, keyDigest: first },
      });
      const made = token("gw-a");
      await added(made);
      expect(await requestOf(renewal())).not.toBe("RegistrationOpen");
      await redeemed(made, { keyDigest: second });
      const waiting = await requestOf(wanted(gateway, second));
      expect(await requestOf(renewal())).toBe("RegistrationOpen");
      expect(await pending()).toMatchObject([{ id: waiting }]);
      expect(await requestOf(renewal(made.expiresAt))).not.toBe("RegistrationOpen");
      const again = { ...wanted(gateway, randomBytes(32)), presented: { revision: LATEST, keyDigest: second } };
      expect(await requestOf(again)).not.toBe("RegistrationOpen");
      await store.confirm(gateway.id, second, 2, NOW, confirmed(gateway));
      expect(await requestOf(renewal())).toBe("Revoked");
    });

    test("of two keys that have registered the one of the older token has nothing signed", async () => {
      const [older, newer] = [randomBytes(32), randomBytes(32)];
      const gateway = await registered("gw-a", older);
      await registered("gw-a", newer);
      expect(await requestOf(wanted(gateway, older))).toBe("RegistrationOpen");
      expect(await requestOf(wanted(gateway, newer))).not.toBe("RegistrationOpen");
      expect(await requestOf(wanted(gateway, randomBytes(32)))).toBe("Revoked");
    });

    test("replicas do not stand in each other's way", async () => {
      const keyDigest = randomBytes(32);
      const one = await requestOf(ofReplica(keyDigest));
      const other = await requestOf(ofReplica(undefined, later(1)));
      const again = { ...ofReplica(keyDigest), requestedAt: later(2) };
      expect(await requestOf(again)).toBe(one);
      const { keyDigest: _, presented: __, mac, ...request } = again;
      expect(await pending()).toEqual([
        expect.objectContaining({ id: other, kind: "Replica", gateway: undefined, revision: 1 }),
        { ...request, id: one, revision: 1, mac: mac(1) },
      ]);
      await store.answerRequest(writer, one, [randomBytes(10)], NOW);
      expect(await requestOf(ofReplica(keyDigest, later(3)))).toBe(one);
    });

    test("oldest first, no more than asked for, and none that was left behind", async () => {
      for (const ms of [3, -1, 2, 1]) await requestOf(ofReplica(undefined, later(ms)));
      const found = await store.pendingRequests(NOW, 2);
      expect(found.map(({ requestedAt }) => requestedAt)).toEqual([later(1), later(2)]);
    });

    test("what was answered is counted by whose it is", async () => {
      const gateway = await registered("gw-a");
      for (const ms of [-2, 1, 2]) {
        const id = await asked(gateway, randomBytes(32));
        await store.answerRequest(writer, id, [randomBytes(10)], later(ms));
      }
      const id = await requestOf(ofReplica());
      await store.answerRequest(writer, id, [randomBytes(10)], NOW);
      await asked(gateway, randomBytes(32));
      expect(await store.answeredSince(NOW)).toEqual(
        new Map([
          [gateway.id, 2],
          ["Replica", 1],
        ]),
      );
    });

    test("only the leader answers and forgets", async () => {
      const id = await requestOf(ofReplica());
      await leadership.acquireEpoch("other");
      await expect(store.answerRequest(writer, id, [randomBytes(10)], NOW)).rejects.toThrow(Fenced);
      await expect(store.forget(writer, later(HOUR_MS))).rejects.toThrow(Fenced);
      expect(await pending()).toHaveLength(1);
    });

    test("what is old is forgotten, the rest stays", async () => {
      const ended = token("gw-a", NPR, { expiresAt: later(-1) });
      const [lasting, keyDigest] = [token("gw-b"), randomBytes(32)];
      await added(ended);
      await added(lasting);
      const gateway = await redeemed(lasting, { keyDigest });
      await requestOf(ofReplica(undefined, later(-1)));
      await requestOf(ofReplica(undefined, NOW));
      const old = await asked(gateway, randomBytes(32), later(-HOUR_MS));
      await store.answerRequest(writer, old, [randomBytes(10)], later(-1));
      const young = await asked(gateway, keyDigest, later(-HOUR_MS));
      await store.answerRequest(writer, young, [randomBytes(10)], NOW);
      expect(await store.forget(writer, NOW)).toBe(3);
      expect(await store.answer(old)).toBeUndefined();
      expect(await store.answer(young)).toHaveLength(1);
      expect(await pending()).toHaveLength(1);
      expect(await store.redeem(redemption(ended))).toBe("Unknown");
      expect(await redeemed(lasting, { keyDigest })).toMatchObject({ name: "gw-b" });
      await store.confirm(gateway.id, keyDigest, 2, NOW, confirmed(gateway));
      expect(await store.forget(writer, later(1))).toBe(3);
      expect(await store.redeem(redemption(lasting, { keyDigest }))).toBe("Unknown");
    });
  });

  test("the last heartbeat is kept, with its time by the store's clock", async () => {
    const gateway = await registered("gw-a");
    const heartbeat = async () => (await store.gateway("gw-a"))?.heartbeat;
    await store.heartbeat(gateway.id, { ...BEAT, queueLength: 1 });
    const first = await heartbeat();
    await store.heartbeat(gateway.id, BEAT);
    const last = await heartbeat();
    expect(last).toEqual({ ...BEAT, at: expect.any(Date) });
    expect(last?.at.getTime()).toBeGreaterThanOrEqual(first?.at.getTime() ?? Number.POSITIVE_INFINITY);
  });

  test("the epoch is that of the last leader", async () => {
    expect(await store.epoch()).toBe(writer.epoch);
    const next = await leadership.acquireEpoch("other");
    expect(await store.epoch()).toBe(next);
  });

  describe("revocation", () => {
    test("it ends tokens and requests, and nothing is served until there is a new token", async () => {
      const made = token("gw-a");
      const keyDigest = randomBytes(32);
      await added(made);
      const gateway = await redeemed(made, { keyDigest });
      const id = await asked(gateway, keyDigest);
      await store.heartbeat(gateway.id, BEAT);
      await store.revoke(writer, gateway.id, later(1), revoked(gateway));
      await store.revoke(writer, gateway.id, later(2), revoked(gateway));
      expect(await store.gateway("gw-a")).toMatchObject({ revokedAt: later(1), tokenExpiresAt: undefined, ...NPR });
      expect((await actions()).filter((action) => action === "GatewayRevoked")).toHaveLength(1);
      expect(await store.redeem(redemption(made, { keyDigest }))).toBe("Expired");
      expect(await requestOf(wanted(gateway, keyDigest))).toBe("Revoked");
      expect(await asked(gateway, randomBytes(32))).toBe("Revoked");
      expect(await store.confirm(gateway.id, keyDigest, 1, NOW, confirmed(gateway))).toBe(false);
      await store.heartbeat(gateway.id, { ...BEAT, queueLength: 1 });
      expect((await store.gateway("gw-a"))?.heartbeat).toMatchObject(BEAT);
      expect(await pending()).toEqual([]);
      expect(await store.answer(id)).toBeUndefined();
    });

    test("a new token begins anew, under the same id and at any place", async () => {
      const gateway = await registered("gw-a");
      await store.heartbeat(gateway.id, BEAT);
      await store.revoke(writer, gateway.id, NOW, revoked(gateway));
      const again = token("gw-a", { environment: "PRO" });
      expect(await added(again)).toEqual({
        id: gateway.id,
        name: "gw-a",
        environment: "PRO",
        role: undefined,
        registeredAt: undefined,
        confirmedAt: undefined,
        revokedAt: undefined,
        tokenExpiresAt: again.expiresAt,
        heartbeat: undefined,
      });
      expect(await redeemed(again, { place: PRO })).toMatchObject({ ...PRO, registeredAt: NOW });
    });

    test("only the leader revokes; of whom nobody knows nothing is", async () => {
      const gateway = await registered("gw-a");
      await store.revoke(writer, "5f4f2a65-0a5e-4a53-8b5c-0c6f1a2b3c4d", NOW, revoked(gateway));
      await leadership.acquireEpoch("other");
      await expect(store.revoke(writer, gateway.id, NOW, revoked(gateway))).rejects.toThrow(Fenced);
      expect(await store.gateway("gw-a")).toMatchObject({ revokedAt: undefined });
      expect(await actions()).not.toContain("GatewayRevoked");
    });
  });

  describe("admission", () => {
    let authorityId: string;

    beforeEach(async () => {
      const kind = "Installation";
      const fleet = newAuthority({ kind, namespace: "", namespaceUid: "", name: "fleet" });
      authorityId = (await pki.createAuthority(writer, fleet)).id;
    });

    /** The serial number of the next certificate of a gateway, as the leader signs it. */
    async function certified(gateway: GatewayRecord, notAfter = later(HOUR_MS)): Promise<string> {
      const id = await asked(gateway, randomBytes(32));
      const revision = (await pending()).find((each) => each.id === id)?.revision ?? 0;
      const reserved = reservation(authorityId, gateway.id, revision, {
        requester: { kind: "Gateway", namespace: "", namespaceUid: "", name: gateway.name, uid: gateway.id },
        profile: "Gateway",
        notAfter,
      });
      await pki.reserve(writer, reserved, []);
      await pki.complete(writer, completion(reserved));
      await store.answerRequest(writer, id, [randomBytes(10)], NOW);
      return reserved.serialNumber;
    }
    const admitted = async (now = NOW) =>
      (await store.certificates(authorityId, now))
        .filter(({ admitted }) => admitted)
        .map(({ gatewayId, status }) => `${gatewayId} ${status.serialNumber}`);
    /** Those that are known and out. */
    const out = async () =>
      (await store.certificates(authorityId, NOW))
        .filter(({ admitted }) => !admitted)
        .map(({ gatewayId, status }) => `${gatewayId} ${status.serialNumber}`);
    const revoke = (serialNumber: string) =>
      pki.revoke(writer, authorityId, serialNumber, { at: NOW, reason: "superseded" }, statusSeal(1n), []);

    test("what was issued by this authority is, until it ends or is revoked", async () => {
      const gateway = await registered("gw-a");
      const [one, other] = [await certified(gateway), await certified(gateway, later(2 * HOUR_MS))];
      const both = [`${gateway.id} ${one}`, `${gateway.id} ${other}`];
      expect(new Set(await admitted())).toEqual(new Set(both));
      const [found] = await store.certificates(authorityId, later(HOUR_MS));
      expect(found).toMatchObject({
        gatewayId: gateway.id,
        admitted: true,
        status: { authorityId, serialNumber: other, notAfter: later(2 * HOUR_MS), crlPartition: 0 },
      });
      await revoke(other);
      expect(await admitted()).toEqual([`${gateway.id} ${one}`]);
      expect(await out()).toEqual([`${gateway.id} ${other}`]);
      expect(await store.certificates("5f4f2a65-0a5e-4a53-8b5c-0c6f1a2b3c4d", NOW)).toEqual([]);
    });

    test("what others asked for, or was only reserved, is not", async () => {
      const gateway = await registered("gw-a");
      const replica = reservation(authorityId, gateway.id, 1, {
        requester: { kind: "Replica", namespace: "", namespaceUid: "", name: "replica", uid: gateway.id },
        notAfter: later(HOUR_MS),
      });
      await pki.reserve(writer, replica, []);
      await pki.complete(writer, completion(replica));
      const kind = "Gateway";
      const requester = { kind, namespace: "", namespaceUid: "", name: "gw-a", uid: gateway.id } as const;
      await pki.reserve(writer, reservation(authorityId, gateway.id, 2, { requester, notAfter: later(HOUR_MS) }), []);
      expect(await store.certificates(authorityId, NOW)).toEqual([]);
    });

    test("a confirmation ends what is older at once, and says that it is to be revoked", async () => {
      const gateway = await registered("gw-a");
      const other = await registered("gw-b");
      const older = await certified(gateway);
      const [newer, elsewhere] = [await certified(gateway), await certified(other)];
      expect(await store.confirm(gateway.id, randomBytes(32), 2, NOW, confirmed(gateway))).toBe(true);
      expect(await store.confirm(gateway.id, randomBytes(32), 1, NOW, confirmed(gateway))).toBe(false);
      expect(new Set(await admitted())).toEqual(new Set([`${gateway.id} ${newer}`, `${other.id} ${elsewhere}`]));
      expect(await out()).toEqual([`${gateway.id} ${older}`]);
      expect(await store.superseded(10)).toEqual([
        { id: gateway.id, name: "gw-a", revokedAt: undefined, validFrom: 2 },
      ]);
      await store.settle(writer, gateway.id, 2);
      expect(await store.superseded(10)).toEqual([]);
    });

    test("of a revoked gateway nothing is, also not when it may register again", async () => {
      const gateway = await registered("gw-a");
      await certified(gateway);
      await certified(gateway);
      await store.revoke(writer, gateway.id, NOW, revoked(gateway));
      expect(await admitted()).toEqual([]);
      expect(await out()).toHaveLength(2);
      expect(await store.superseded(10)).toEqual([{ id: gateway.id, name: "gw-a", revokedAt: NOW, validFrom: 3 }]);
      const again = token("gw-a");
      await added(again);
      await redeemed(again);
      expect(await admitted()).toEqual([]);
      const serialNumber = await certified(gateway);
      expect(await admitted()).toEqual([`${gateway.id} ${serialNumber}`]);
      await store.settle(writer, gateway.id, 3);
      expect(await store.superseded(10)).toEqual([]);
    });

    test("what was superseded meanwhile is not settled; only the leader settles", async () => {
      const gateway = await registered("gw-a");
      await store.confirm(gateway.id, randomBytes(32), 3, NOW, confirmed(gateway));
      await store.settle(writer, gateway.id, 2);
      expect(await store.superseded(10)).toMatchObject([{ validFrom: 3 }]);
      expect(await store.superseded(0)).toEqual([]);
      await leadership.acquireEpoch("other");
      await expect(store.settle(writer, gateway.id, 3)).rejects.toThrow(Fenced);
    });
  });
}
