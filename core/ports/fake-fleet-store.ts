import { randomUUID } from "node:crypto";
import type { GatewayRole, Heartbeat } from "../fleet/protocol.ts";
import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type {
  CertificateAsked,
  FleetCertificateRequest,
  FleetStore,
  GatewayRecord,
  KnownCertificate,
  NewToken,
  Redeemed,
  Redemption,
  RequestOutcome,
  SupersededGateway,
  TokenRefusal,
} from "./fleet-store.ts";
import type { PkiStore } from "./pki-store.ts";
import type { Unled, Writer } from "./vault-store.ts";

interface Token extends Pick<NewToken, "hash" | "place" | "expiresAt" | "mac"> {
  readonly gatewayId: string;
  keyDigest?: Buffer;
  confirmedAt?: Date;
  endedAt?: Date;
}

interface Gateway {
  readonly id: string;
  readonly name: string;
  environment: string | undefined;
  role: GatewayRole | undefined;
  registeredAt: Date | undefined;
  confirmedAt: Date | undefined;
  revokedAt: Date | undefined;
  heartbeat: (Heartbeat & { readonly at: Date }) | undefined;
  revision: number;
  validFrom: number;
  revokedTo: number;
}

interface Request {
  wanted: FleetCertificateRequest;
  readonly keyDigest: Buffer;
  answered?: { readonly certificates: readonly Buffer[]; readonly at: Date };
}

/** More certificates than any gateway has. */
const ALL = 1_000_000;

/** The fleet in memory, with the contract of the real store. */
export class FakeFleetStore implements FleetStore {
  readonly #database: FakeDatabase;
  readonly #pki: Pick<PkiStore, "certificatesOf">;
  readonly #onChange: () => void;
  readonly #clock: () => Date;
  readonly #gateways = new Map<string, Gateway>();
  /** Oldest first. */
  #tokens: Token[] = [];
  readonly #requests = new Map<string, Request>();

  /**
   * @param onChange what the real one tells its listeners
   * @param clock of its own, for heartbeats
   */
  constructor(
    database: FakeDatabase,
    pki: Pick<PkiStore, "certificatesOf">,
    onChange: () => void = () => {},
    clock = () => new Date(),
  ) {
    this.#database = database;
    this.#pki = pki;
    this.#onChange = onChange;
    this.#clock = clock;
  }

  async addToken(writer: Writer | Unled, token: NewToken): Promise<GatewayRecord | "PlaceDiffers"> {
    this.#database.fenceLed(writer);
    const { name, place, hash, expiresAt, mac, audit } = token;
    const gateway = [...this.#gateways.values()].find((each) => each.name === name) ?? this.#newGateway(name);
    if (gateway.revokedAt === undefined && differs(gateway, place)) return "PlaceDiffers";
    if (gateway.revokedAt !== undefined) {
      const unknown = { environment: undefined, role: undefined, registeredAt: undefined, confirmedAt: undefined };
      Object.assign(gateway, { ...unknown, heartbeat: undefined, revokedAt: undefined });
    }
    gateway.environment = place.environment ?? gateway.environment;
    gateway.role = place.role ?? gateway.role;
    for (const older of this.#open(gateway.id)) if (older.keyDigest === undefined) older.endedAt = new Date();
    this.#tokens.push({ hash, place, expiresAt, mac, gatewayId: gateway.id });
    this.#database.record(audit(gateway.id));
    return this.#record(gateway);
  }

  async redeem({ hash, keyDigest, place, now, audit }: Redemption): Promise<Redeemed | TokenRefusal> {
    const token = this.#tokens.find((each) => each.hash.equals(hash));
    const gateway = token && this.#gateways.get(token.gatewayId);
    if (token === undefined || gateway === undefined) return "Unknown";
    if (token.confirmedAt !== undefined) return "Confirmed";
    if (token.endedAt !== undefined || token.expiresAt <= now) return "Expired";
    if (token.keyDigest !== undefined && !token.keyDigest.equals(keyDigest)) return "OtherKey";
    if (differs(token.place, place) || differs(gateway, place)) return "PlaceDiffers";
    if (token.keyDigest === undefined) {
      token.keyDigest = keyDigest;
      Object.assign(gateway, { ...place, registeredAt: now, confirmedAt: undefined });
      this.#database.record(audit(gateway));
    }
    return { ...this.#record(gateway), token };
  }

  async confirm(
    gatewayId: string,
    keyDigest: Buffer,
    revision: number,
    now: Date,
    audit: readonly AuditEntry[],
  ): Promise<boolean> {
    const gateway = this.#gateways.get(gatewayId);
    if (gateway === undefined || gateway.revokedAt !== undefined) return false;
    const open = this.#open(gatewayId);
    const newest = open.findLastIndex((token) => token.keyDigest?.equals(keyDigest));
    for (const [at, token] of open.entries()) {
      if (token.keyDigest?.equals(keyDigest)) token.confirmedAt = now;
      else if (at < newest) token.endedAt = now;
    }
    if (newest >= 0) gateway.confirmedAt ??= now;
    if (newest < 0 && revision <= gateway.validFrom) return false;
    gateway.validFrom = Math.max(gateway.validFrom, revision);
    this.#database.record(audit);
    this.#onChange();
    return true;
  }

  async requestCertificate(asked: CertificateAsked): Promise<RequestOutcome> {
    const { keyDigest, presented: _, mac, ...wanted } = asked;
    const gateway = wanted.gateway && this.#gateways.get(wanted.gateway.id);
    const refused = wanted.kind === "Gateway" ? this.#refusal(gateway, asked) : undefined;
    if (refused !== undefined) return { kind: refused };
    const ofSame = [...this.#requests.values()].filter(
      (each) => each.wanted.kind === wanted.kind && each.wanted.gateway?.id === gateway?.id,
    );
    const same = ofSame.find((each) => each.keyDigest.equals(keyDigest));
    if (same !== undefined && same.wanted.revision >= (gateway?.validFrom ?? 1)) {
      if (same.answered === undefined) same.wanted = { ...same.wanted, ...wanted, mac: mac(same.wanted.revision) };
      this.#onChange();
      return { kind: "Requested", id: same.wanted.id };
    }
    if (gateway !== undefined) {
      for (const each of ofSame)
        if (each === same || each.answered === undefined) this.#requests.delete(each.wanted.id);
      gateway.revision += 1;
    }
    const id = randomUUID();
    const revision = gateway?.revision ?? 1;
    this.#requests.set(id, { wanted: { ...wanted, id, revision, mac: mac(revision) }, keyDigest });
    this.#onChange();
    return { kind: "Requested", id };
  }

  #refusal(
    gateway: Gateway | undefined,
    { keyDigest, presented, requestedAt }: CertificateAsked,
  ): "Revoked" | "RegistrationOpen" | undefined {
    if (gateway === undefined || gateway.revokedAt !== undefined) return "Revoked";
    if (presented !== undefined && presented.revision < gateway.validFrom) return "Revoked";
    const open = this.#open(gateway.id);
    const own = open.findLastIndex((token) => token.keyDigest?.equals(presented?.keyDigest ?? keyDigest));
    if (presented === undefined && own < 0) return "Revoked";
    const newer = open.slice(own + 1).some((token) => token.keyDigest !== undefined && token.expiresAt > requestedAt);
    return newer ? "RegistrationOpen" : undefined;
  }

  async pendingRequests(since: Date, limit: number): Promise<readonly FleetCertificateRequest[]> {
    return [...this.#requests.values()]
      .filter(({ answered, wanted }) => answered === undefined && wanted.requestedAt >= since)
      .map(({ wanted }) => wanted)
      .sort((one, other) => one.requestedAt.getTime() - other.requestedAt.getTime() || (one.id < other.id ? -1 : 1))
      .slice(0, limit);
  }

  async answeredSince(since: Date): Promise<ReadonlyMap<string, number>> {
    const counts = new Map<string, number>();
    for (const { wanted, answered } of this.#requests.values()) {
      const who = wanted.gateway?.id ?? wanted.kind;
      if (answered !== undefined && answered.at >= since) counts.set(who, (counts.get(who) ?? 0) + 1);
    }
    return counts;
  }

  async answerRequest(writer: Writer, id: string, certificates: readonly Buffer[], now: Date): Promise<void> {
    this.#database.fence(writer);
    const request = this.#requests.get(id);
    if (request !== undefined) request.answered ??= { certificates, at: now };
    this.#onChange();
  }

  async answer(id: string): Promise<readonly Buffer[] | undefined> {
    return this.#requests.get(id)?.answered?.certificates;
  }

  async forget(writer: Writer, before: Date): Promise<number> {
    this.#database.fence(writer);
    const requests = [...this.#requests.values()].filter(
      ({ wanted, answered }) => (answered?.at ?? wanted.requestedAt) < before,
    );
    for (const { wanted } of requests) this.#requests.delete(wanted.id);
    const over = (at: Date | undefined) => at !== undefined && at < before;
    const kept = this.#tokens.filter(
      (token) => !over(token.expiresAt) && !over(token.confirmedAt) && !over(token.endedAt),
    );
    const tokens = this.#tokens.length - kept.length;
    this.#tokens = kept;
    return requests.length + tokens;
  }

  async heartbeat(gatewayId: string, heartbeat: Heartbeat): Promise<void> {
    const gateway = this.#gateways.get(gatewayId);
    if (gateway !== undefined && gateway.revokedAt === undefined)
      gateway.heartbeat = { ...heartbeat, at: this.#clock() };
  }

  async gateways(): Promise<readonly GatewayRecord[]> {
    return [...this.#gateways.values()]
      .sort((one, other) => (one.name < other.name ? -1 : 1))
      .map((gateway) => this.#record(gateway));
  }

  async gateway(name: string): Promise<GatewayRecord | undefined> {
    return (await this.gateways()).find((each) => each.name === name);
  }

  async revoke(writer: Writer, gatewayId: string, now: Date, audit: readonly AuditEntry[]): Promise<void> {
    this.#database.fence(writer);
    const gateway = this.#gateways.get(gatewayId);
    if (gateway === undefined || gateway.revokedAt !== undefined) return;
    gateway.revokedAt = now;
    gateway.validFrom = gateway.revision + 1;
    for (const token of this.#open(gatewayId)) token.endedAt = now;
    for (const { wanted } of this.#requests.values()) {
      if (wanted.gateway?.id === gatewayId) this.#requests.delete(wanted.id);
    }
    this.#database.record(audit);
    this.#onChange();
  }

  async certificates(authorityId: string, now: Date): Promise<readonly KnownCertificate[]> {
    const found: KnownCertificate[] = [];
    for (const { id, revokedAt, validFrom } of this.#gateways.values()) {
      for (const record of await this.#pki.certificatesOf(id, ALL)) {
        const { authorityId: by, requester, revocation, notAfter, revision } = record;
        if (by !== authorityId || requester.kind !== "Gateway" || notAfter <= now) continue;
        const admitted = revokedAt === undefined && revocation === undefined && revision >= validFrom;
        found.push({ gatewayId: id, admitted, status: record });
      }
    }
    return found;
  }

  async superseded(limit: number): Promise<readonly SupersededGateway[]> {
    return [...this.#gateways.values()]
      .filter(({ validFrom, revokedTo }) => revokedTo < validFrom)
      .sort((one, other) => (one.id < other.id ? -1 : 1))
      .slice(0, limit)
      .map(({ id, name, revokedAt, validFrom }) => ({ id, name, revokedAt, validFrom }));
  }

  async settle(writer: Writer, gatewayId: string, validFrom: number): Promise<void> {
    this.#database.fence(writer);
    const gateway = this.#gateways.get(gatewayId);
    if (gateway !== undefined) gateway.revokedTo = Math.max(gateway.revokedTo, validFrom);
  }

  async epoch(): Promise<bigint> {
    return this.#database.epoch;
  }

  #newGateway(name: string): Gateway {
    const unknown = { environment: undefined, role: undefined, registeredAt: undefined, confirmedAt: undefined };
    const counts = { revision: 0, validFrom: 1, revokedTo: 1 };
    const gateway = { id: randomUUID(), name, ...unknown, revokedAt: undefined, heartbeat: undefined, ...counts };
    this.#gateways.set(gateway.id, gateway);
    return gateway;
  }

  #open(gatewayId: string): readonly Token[] {
    return this.#tokens.filter(
      (token) => token.gatewayId === gatewayId && token.confirmedAt === undefined && token.endedAt === undefined,
    );
  }

  #record({ revision: _, validFrom: __, revokedTo: ___, ...gateway }: Gateway): GatewayRecord {
    return { ...gateway, tokenExpiresAt: this.#open(gateway.id).at(-1)?.expiresAt };
  }
}

interface AnyPlace {
  readonly environment?: string | undefined;
  readonly role?: GatewayRole | undefined;
}

/** What either leaves open does not differ. */
const differs = (one: AnyPlace, other: AnyPlace): boolean =>
  [
    [one.environment, other.environment],
    [one.role, other.role],
  ].some(([here, there]) => here !== undefined && there !== undefined && here !== there);
