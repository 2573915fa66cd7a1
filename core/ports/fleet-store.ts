/**
 * Where the primary remembers its gateways: tokens, registrations, requests for certificates, heartbeats. The platform's store is
 * PostgreSQL; `fake-fleet-store.ts` is the in-memory fake, and both pass `fleet-store.contract.ts`.
 *
 * Contract, common to all methods: as in `pki-store.ts`. What takes no `Writer` is written by whichever replica serves a gateway;
 * of calls for one gateway that come at once each sees what the one before it left. MACs are kept and not judged here.
 */
import type { GatewayRole, Heartbeat } from "../fleet/protocol.ts";
import type { AuditEntry } from "./audit-log.ts";
import type { CertificateStatus } from "./pki-store.ts";
import type { Unled, Writer } from "./vault-store.ts";

/** Where and as what a gateway works; fixed with its object or its token, or else by its first registration. */
export interface Place {
  readonly environment: string;
  readonly role: GatewayRole;
}

export interface GatewayRecord {
  /** UUID; stays the same over registrations under this name. */
  readonly id: string;
  readonly name: string;
  /** Undefined until it is fixed. */
  readonly environment: string | undefined;
  readonly role: GatewayRole | undefined;
  /** Of the first redemption of the last token that was redeemed. */
  readonly registeredAt: Date | undefined;
  /** When it first came with the certificate of that registration. */
  readonly confirmedAt: Date | undefined;
  /** Nothing under this name is served any more, until a new token is made. */
  readonly revokedAt: Date | undefined;
  /** End of the newest token that nobody has confirmed yet. */
  readonly tokenExpiresAt: Date | undefined;
  readonly heartbeat: (Heartbeat & { readonly at: Date }) | undefined;
}

export interface NewToken {
  readonly name: string;
  readonly place: Partial<Place>;
  /** SHA-256 of the token's secret, 32 bytes. */
  readonly hash: Buffer;
  readonly expiresAt: Date;
  /** Authenticates all of the above. */
  readonly mac: Buffer;
  readonly audit: (gatewayId: string) => readonly AuditEntry[];
}

/** Why a token was not taken; all but `PlaceDiffers` are told alike to whoever sent it. */
export type TokenRefusal = "Unknown" | "Expired" | "Confirmed" | "OtherKey" | "PlaceDiffers";

export interface Redemption {
  readonly hash: Buffer;
  /** SHA-256 of the SubjectPublicKeyInfo of the CSR. */
  readonly keyDigest: Buffer;
  readonly place: Place;
  readonly now: Date;
  readonly audit: (gateway: Pick<GatewayRecord, "id" | "name">) => readonly AuditEntry[];
}

/** What stands there after a redemption, with the token as it was made. */
export interface Redeemed extends GatewayRecord {
  readonly token: Pick<NewToken, "place" | "expiresAt" | "mac">;
}

export type FleetCertificateKind = "Gateway" | "Replica";

/** What somebody wants the fleet's CA to sign. */
export interface WantedCertificate {
  readonly kind: FleetCertificateKind;
  /** The gateway; undefined for a replica. */
  readonly gateway: (Pick<GatewayRecord, "id" | "name"> & Place) | undefined;
  /** DER. */
  readonly csr: Buffer;
  readonly requestedAt: Date;
}

/** Of the certificate that somebody came with. */
export interface PresentedCertificate {
  readonly revision: number;
  /** SHA-256 of its SubjectPublicKeyInfo. */
  readonly keyDigest: Buffer;
}

export interface CertificateAsked extends WantedCertificate {
  /** SHA-256 of the SubjectPublicKeyInfo of the CSR. */
  readonly keyDigest: Buffer;
  /** Undefined for a replica, and for a gateway that came with a token. */
  readonly presented: PresentedCertificate | undefined;
  /** Authenticates what is wanted, and the revision that it gets. */
  readonly mac: (revision: number) => Buffer;
}

/**
 * Revoked: the gateway is unknown or revoked, the certificate that it came with is from before what counts, or the token that is bound
 * to its key has ended. RegistrationOpen: a newer token is bound to another key, and is not confirmed yet.
 */
export type RequestOutcome =
  | { readonly kind: "Requested"; readonly id: string }
  | { readonly kind: "Revoked" | "RegistrationOpen" };

/** Waits for the leader's signature. */
export interface FleetCertificateRequest extends WantedCertificate {
  readonly id: string;
  /** Of the gateway's certificates, from 1, one more with each that is asked for; 1 for a replica. */
  readonly revision: number;
  readonly mac: Buffer;
}

/** A certificate that a gateway may come with. */
export interface KnownCertificate {
  readonly gatewayId: string;
  /** Whether it lets the gateway in: neither of the two was revoked, and it is not from before the one that was confirmed. */
  readonly admitted: boolean;
  readonly status: CertificateStatus;
}

/** A gateway of which certificates are to be revoked: those of revisions before `validFrom`. */
export interface SupersededGateway extends Pick<GatewayRecord, "id" | "name" | "revokedAt"> {
  readonly validFrom: number;
}

export interface FleetStore {
  /**
   * Makes the gateway where it is missing, and a token for it; older tokens of it that nobody has redeemed end. A gateway that was
   * revoked may register again, and gets its place anew. `PlaceDiffers` when the gateway's place is fixed to another one.
   */
  addToken(writer: Writer | Unled, token: NewToken): Promise<GatewayRecord | "PlaceDiffers">;
  /**
   * Binds the token to the key, in one step: of any number of calls with different keys one wins, and its key may repeat it until it
   * has confirmed. Fixes the gateway's place. Only the first one of a token is on record.
   */
  redeem(redemption: Redemption): Promise<Redeemed | TokenRefusal>;
  /**
   * The gateway came with its certificate of this revision, for this key. Ends the tokens that are bound to the key, and older ones
   * that are bound to another; certificates of revisions before it are not admitted any more. False when nothing changed.
   */
  confirm(
    gatewayId: string,
    keyDigest: Buffer,
    revision: number,
    now: Date,
    audit: readonly AuditEntry[],
  ): Promise<boolean>;
  /**
   * Told to whoever listens for the fleet. One of the same key that waits already, or was answered, is returned instead; another
   * one of the same gateway that waits is given up. Nothing is written when it is refused.
   */
  requestCertificate(asked: CertificateAsked): Promise<RequestOutcome>;
  /** Oldest first, at most `limit`; not those that are older than `since`. */
  pendingRequests(since: Date, limit: number): Promise<readonly FleetCertificateRequest[]>;
  /** How many requests were answered since then: by gateway, and those of all replicas as `Replica`. */
  answeredSince(since: Date): Promise<ReadonlyMap<string, number>>;
  /** Told as `requestCertificate`. Nothing happens when it was answered already or is gone. */
  answerRequest(writer: Writer, id: string, certificates: readonly Buffer[], now: Date): Promise<void>;
  /** DER, the leaf first, the root last; undefined while it waits. */
  answer(id: string): Promise<readonly Buffer[] | undefined>;
  /** Deletes requests that were answered or left behind before a time, and tokens that ended before it; returns how many. */
  forget(writer: Writer, before: Date): Promise<number>;
  /** At this moment, by the store's own clock. */
  heartbeat(gatewayId: string, heartbeat: Heartbeat): Promise<void>;
  /** By name. */
  gateways(): Promise<readonly GatewayRecord[]>;
  gateway(name: string): Promise<GatewayRecord | undefined>;
  /**
   * Ends its tokens and says that nothing of it is served; its certificates are revoked where those are. One that was revoked
   * already stays as it is. Told as `requestCertificate`.
   */
  revoke(writer: Writer, gatewayId: string, now: Date, audit: readonly AuditEntry[]): Promise<void>;
  /** Certificates of gateways that this authority has issued, and that have not ended. */
  certificates(authorityId: string, now: Date): Promise<readonly KnownCertificate[]>;
  /** Gateways of which certificates are to be revoked, at most `limit`. */
  superseded(limit: number): Promise<readonly SupersededGateway[]>;
  /** They are revoked. */
  settle(writer: Writer, gatewayId: string, validFrom: number): Promise<void>;
  /** The leadership's epoch. */
  epoch(): Promise<bigint>;
}
