import { createHash } from "node:crypto";
import { Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import { CsrError, parseCsr } from "../pki/csr.ts";
import { MalformedInput } from "../pki/malformed-input.ts";
import { parsePem, pem } from "../pki/pem.ts";
import { tampered } from "../pki/status.ts";
import type { Actor, AuditLog } from "../ports/audit-log.ts";
import type {
  FleetStore,
  GatewayRecord,
  Place,
  PresentedCertificate,
  Redeemed,
  TokenRefusal,
} from "../ports/fleet-store.ts";
import type { PkiStore } from "../ports/pki-store.ts";
import type { Unled, Writer } from "../ports/vault-store.ts";
import { gatewayActor, gatewayEntry } from "./audit-entries.ts";
import { type FleetKeys, requestMac, sameMac, tokenMac } from "./authenticity.ts";
import { type BootstrapToken, makeBootstrapToken, parseBootstrapToken, spkiFingerprint } from "./bootstrap-token.ts";
import { FleetRefused } from "./errors.ts";
import type { FleetCa } from "./fleet-ca.ts";
import type { Member } from "./member.ts";
import {
  HEARTBEAT_SECONDS,
  type Heartbeat,
  type HeartbeatAnswer,
  type Registration,
  type RegistrationRequest,
} from "./protocol.ts";
import { grantOf, type StandingOf } from "./standing.ts";

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
const LONGEST_MS = 7 * DAY_MS;
const PATIENCE_MS = 20_000;
/** Bounds what a lost hint costs. */
const LOOK_EVERY_MS = 500;
/** As Kubernetes names objects, as short as a common name must be (RFC 5280 A.1). */
const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
/** So many refusals are told apart; they come from whoever has had a token. */
const MOST_TOLD = 1_000;

export interface RegistrationsParts {
  readonly store: FleetStore;
  readonly pki: Pick<PkiStore, "certificatesBySerial">;
  readonly ca: Pick<FleetCa, "root">;
  readonly keys: FleetKeys;
  readonly audit: Pick<AuditLog, "append">;
  readonly standing: StandingOf;
  /** Told of each token that is refused; the reason is for the log, never for whoever sent it. */
  readonly onRefused?: (reason: TokenRefusal | "OtherRoot", from: { readonly address: string }) => void;
  readonly now?: () => Date;
  /** How long the leader's signature is waited for; 20 seconds when absent. */
  readonly patienceMs?: number;
  readonly lookEveryMs?: number;
}

type Wanted =
  | {
      readonly kind: "Gateway";
      readonly gateway: Pick<GatewayRecord, "id" | "name"> & Place;
      /** Undefined when it came with a token. */
      readonly presented: PresentedCertificate | undefined;
    }
  | { readonly kind: "Replica"; readonly gateway: undefined; readonly presented: undefined };

/** DER of a request, and SHA-256 of its key's SubjectPublicKeyInfo. */
interface Csr {
  readonly der: Buffer;
  readonly keyDigest: Buffer;
}

/**
 * Tokens, registrations, certificates and heartbeats of gateways, on whichever replica they come to; only the leader signs.
 *
 * Errors, common to all methods: `Unavailable` with DatabaseUnavailable, KeyUnavailable, TamperDetected, and FleetNotReady when the
 * leader has not made the fleet's CA yet or does not sign within 20 seconds. Whoever asks again with the same key goes on
 * where it was.
 */
export class Registrations {
  readonly #parts: RegistrationsParts;
  readonly #now: () => Date;
  readonly #waiting = new Set<() => void>();
  /** Refusals that are on record, so that one who repeats them does not fill it. */
  readonly #told = new Set<string>();

  constructor(parts: RegistrationsParts) {
    this.#parts = parts;
    this.#now = parts.now ?? (() => new Date());
  }

  /** Something was answered: whoever waits looks at once. */
  hint(): void {
    for (const wake of this.#waiting) wake();
  }

  /**
   * Makes the gateway where it is missing, and a token for it, which is told this once.
   *
   * @throws MalformedInput of `name`, `validFor`; FleetRefused PlaceDiffers; Fenced
   */
  async issueToken(
    writer: Writer | Unled,
    request: {
      readonly name: string;
      readonly place: Partial<Place>;
      /** 24 hours when absent, 7 days at most. */
      readonly validForMs?: number;
      readonly actor: Actor;
      /**
       * Puts the token where it shall be found. Called before it counts, so that nothing that dies in between leaves a token
       * behind which counts and which nobody has; when it throws, there is no token.
       */
      readonly keep?: (token: string, expiresAt: Date) => Promise<void>;
    },
  ): Promise<{ readonly gatewayId: string; readonly token: string; readonly expiresAt: Date }> {
    const { name, place, validForMs = DAY_MS, actor, keep } = request;
    if (!NAME.test(name)) {
      throw new MalformedInput("name", "must be 1 to 63 small letters, digits and hyphens, such as gw-npr-primary");
    }
    if (!(validForMs >= MINUTE_MS && validForMs <= LONGEST_MS)) {
      throw new MalformedInput("validFor", "must be from 1 minute to 7 days (168h)");
    }
    const { token, hash } = makeBootstrapToken(spkiFingerprint(await this.#parts.ca.root()));
    const expiresAt = new Date(this.#now().getTime() + validForMs);
    const decided = { name, place, hash, expiresAt };
    const details = { ...place, expiresAt: expiresAt.toISOString() };
    await keep?.(token, expiresAt);
    const gateway = await this.#parts.store.addToken(writer, {
      ...decided,
      mac: tokenMac(this.#parts.keys, decided),
      audit: (id) => [gatewayEntry("GatewayTokenIssued", { id, name }, actor, details)],
    });
    if (gateway === "PlaceDiffers") throw placeDiffers();
    return { gatewayId: gateway.id, token, expiresAt };
  }

  /**
   * Redeems the token for the key of the request, and has that certified.
   *
   * @throws FleetRefused TokenMalformed, TokenRefused, PlaceDiffers; MalformedInput of `csr`
   */
  async register(
    request: RegistrationRequest,
    from: { readonly address: string },
    signal: AbortSignal,
  ): Promise<Registration> {
    const { environment, role, version } = request;
    const token = parseBootstrapToken(request.token);
    const csr = readCsr(request.csr);
    if (!token.rootFingerprint.equals(spkiFingerprint(await this.#parts.ca.root()))) {
      this.#parts.onRefused?.("OtherRoot", from);
      throw tokenRefused();
    }
    const actor = (name: string) => subject(name, "BootstrapToken", csr.keyDigest.toString("hex"), from.address);
    const redeemed = await this.#parts.store.redeem({
      hash: token.hash,
      keyDigest: csr.keyDigest,
      place: { environment, role },
      now: this.#now(),
      audit: (gateway) => [
        gatewayEntry("GatewayRegistered", gateway, actor(gateway.name), { environment, role, version }),
      ],
    });
    if (typeof redeemed === "string") return this.#refuse(redeemed, token, from);
    this.#judge(token, redeemed);
    failpoint("fleet.afterRedemption");
    const { id, name } = redeemed;
    const gateway = { id, name, environment, role };
    const certificates = pemChain(
      await this.#certificate({ kind: "Gateway", gateway, presented: undefined }, csr, signal),
    );
    return { gatewayId: id, name, environment, role, certificates, heartbeatSeconds: HEARTBEAT_SECONDS };
  }

  /**
   * The gateway has come with the certificate for this key: its token ends, and so do older certificates of it. Repeating it
   * changes nothing.
   *
   * @param keyDigest SHA-256 of the SubjectPublicKeyInfo of the certificate that it came with
   */
  async confirm(member: Member, keyDigest: Buffer): Promise<void> {
    const { gatewayId: id, name, serialNumber } = member;
    const revision = await this.#revisionOf(member);
    const entry = gatewayEntry("GatewayConfirmed", { id, name }, memberActor(member), { serialNumber });
    await this.#parts.store.confirm(id, keyDigest, revision, this.#now(), [entry]);
  }

  /**
   * A certificate for a new key, all else as in the one that it came with; PEM, the root last.
   *
   * @param keyDigest as of `confirm`
   * @param csr PEM
   * @throws MalformedInput of `csr`; FleetRefused GatewayRevoked; Unavailable RegistrationOpen
   */
  async renew(member: Member, keyDigest: Buffer, csr: string, signal: AbortSignal): Promise<string> {
    const { gatewayId: id, name, environment, role } = member;
    const asked = readCsr(csr);
    const presented = { revision: await this.#revisionOf(member), keyDigest };
    const wanted = { kind: "Gateway", gateway: { id, name, environment, role }, presented } as const;
    return pemChain(await this.#certificate(wanted, asked, signal));
  }

  async heartbeat(member: Member, heartbeat: Heartbeat): Promise<HeartbeatAnswer> {
    await this.#parts.store.heartbeat(member.gatewayId, heartbeat);
    const epoch = await this.#parts.store.epoch();
    const standing = await this.#parts.standing(member);
    return { ...grantOf(standing), epoch: epoch.toString(), heartbeatSeconds: HEARTBEAT_SECONDS };
  }

  /**
   * A certificate of the fleet's CA for a replica that serves the channel; DER, the leaf first, the root last.
   *
   * @throws MalformedInput of `csr`
   */
  async replicaCertificate(csrDer: Buffer, signal: AbortSignal): Promise<readonly Buffer[]> {
    return this.#certificate({ kind: "Replica", gateway: undefined, presented: undefined }, readCsr(csrDer), signal);
  }

  /** Whoever has had the token is put on record; others only in the log, as everybody can be one of them. */
  async #refuse(reason: TokenRefusal, { hash }: BootstrapToken, from: { readonly address: string }): Promise<never> {
    this.#parts.onRefused?.(reason, from);
    const id = hash.toString("hex");
    if (reason !== "Unknown" && !this.#told.has(`${reason} ${id}`) && this.#told.size < MOST_TOLD) {
      const actor = subject("unknown", "BootstrapToken", id, from.address);
      const entry = gatewayEntry("GatewayTokenRefused", { id, name: "bootstrap token" }, actor, { reason }, "Denied");
      await this.#parts.audit.append([entry]);
      this.#told.add(`${reason} ${id}`);
    }
    throw reason === "PlaceDiffers" ? placeDiffers() : tokenRefused();
  }

  #judge({ hash }: BootstrapToken, { name, token: { place, expiresAt, mac } }: Redeemed): void {
    if (!sameMac(tokenMac(this.#parts.keys, { name, place, hash, expiresAt }), mac)) {
      throw tampered(`a bootstrap token of gateway ${name} is not as it was made`);
    }
  }

  async #revisionOf({ gatewayId, serialNumber }: Member): Promise<number> {
    const records = await this.#parts.pki.certificatesBySerial(gatewayId, serialNumber);
    const [revision] = records.flatMap(({ requester, revision }) => (requester.kind === "Gateway" ? [revision] : []));
    if (revision === undefined) throw certificateUnknown();
    return revision;
  }

  async #certificate({ kind, gateway, presented }: Wanted, csr: Csr, signal: AbortSignal): Promise<readonly Buffer[]> {
    const wanted = { kind, gateway, csr: csr.der, requestedAt: this.#now() };
    const outcome = await this.#parts.store.requestCertificate({
      ...wanted,
      keyDigest: csr.keyDigest,
      mac: (revision) => requestMac(this.#parts.keys, { ...wanted, revision }),
      presented,
    });
    switch (outcome.kind) {
      case "Requested":
        return this.#answer(outcome.id, signal);
      case "Revoked":
        throw presented === undefined ? tokenRefused() : gatewayRevoked();
      case "RegistrationOpen":
        throw new Unavailable(
          "RegistrationOpen",
          "the gateway has registered anew with another key, and has not confirmed that yet; repeat the request after it has, or after the end of its token",
        );
    }
  }

  async #answer(id: string, signal: AbortSignal): Promise<readonly Buffer[]> {
    const { store, patienceMs = PATIENCE_MS } = this.#parts;
    const until = performance.now() + patienceMs;
    for (;;) {
      // Begun before the look: a hint that comes meanwhile is not lost.
      const pause = this.#pause(signal);
      try {
        const certificates = await store.answer(id);
        if (certificates !== undefined) return certificates;
        signal.throwIfAborted();
        if (performance.now() >= until) {
          throw new Unavailable(
            "FleetNotReady",
            "the leader has not signed in time; repeat the request with the same key, and look whether there is a leader",
          );
        }
        await pause.over;
      } finally {
        pause.end();
      }
    }
  }

  /** Over at the next hint, at the end of the time, or when nobody waits any more. */
  #pause(signal: AbortSignal): { readonly over: Promise<void>; end(): void } {
    const { promise: over, resolve } = Promise.withResolvers<void>();
    const end = () => resolve();
    const timer = setTimeout(end, this.#parts.lookEveryMs ?? LOOK_EVERY_MS);
    signal.addEventListener("abort", end, { once: true });
    this.#waiting.add(end);
    return {
      over,
      end: () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        this.#waiting.delete(end);
      },
    };
  }
}

/** @throws MalformedInput of `csr` */
function readCsr(given: string | Buffer): Csr {
  try {
    const { spki } = parseCsr(given);
    const der = typeof given === "string" ? (parsePem(given, "csr")[0]?.der ?? Buffer.alloc(0)) : given;
    return { der, keyDigest: createHash("sha256").update(spki).digest() };
  } catch (error) {
    if (!(error instanceof CsrError)) throw error;
    throw new MalformedInput("csr", `${error.message}; send a PKCS #10 request that its own key signed`);
  }
}

const pemChain = (certificates: readonly Buffer[]): string =>
  certificates.map((certificate) => pem("CERTIFICATE", certificate)).join("");

const subject = (name: string, via: string, session: string, address?: string): Actor => ({
  kind: "Subject",
  subject: `Gateway ${name}`,
  via,
  session,
  ...(address !== undefined && { address }),
});

const memberActor = ({ name, serialNumber }: Member): Actor => gatewayActor(name, serialNumber);

const tokenRefused = (): FleetRefused =>
  new FleetRefused(
    "TokenRefused",
    "token: it is not one that counts for this key; have a new one made for the gateway, and register with that",
  );

const placeDiffers = (): FleetRefused =>
  new FleetRefused(
    "PlaceDiffers",
    "environment, role: the gateway is fixed to another environment or role; use those, or revoke it first",
  );

export const gatewayRevoked = (): FleetRefused =>
  new FleetRefused("GatewayRevoked", "the gateway's certificate does not count any more; register it with a new token");

export const certificateUnknown = (): FleetRefused =>
  new FleetRefused(
    "CertificateUnknown",
    "nothing is known here of the gateway's certificate, as after the restore of an older state; wait for a newer one, or register the gateway with a new token",
  );
