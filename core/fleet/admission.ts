import { Unavailable } from "../errors.ts";
import type { Authorities } from "../pki/authority.ts";
import { type Certificate, parseCertificate, verifySignedBy } from "../pki/certificate.ts";
import { DerError } from "../pki/der/reader.ts";
import type { FleetStore } from "../ports/fleet-store.ts";
import { FleetRefused, type MemberRefusalCode } from "./errors.ts";
import { type FleetCa, notMade } from "./fleet-ca.ts";
import { type Member, memberOf } from "./member.ts";
import { certificateUnknown, gatewayRevoked } from "./registrations.ts";

export type { Member } from "./member.ts";

const READ_EVERY_MS = 2_000;
/** As old may be what is decided by. */
const STALE_MS = 5_000;
/** Certificates that were seen and are in no set; each is one that the fleet's CA has signed. */
const MOST_SEEN = 10_000;

interface Known {
  readonly gatewayId: string;
  readonly admitted: boolean;
  readonly notAfter: Date;
}

interface AdmittedSet {
  /** Of the monotonic clock, when its reading began: it knows what was committed before. */
  readonly at: number;
  readonly root: Certificate;
  /** By serial number. */
  readonly certificates: ReadonlyMap<string, Known>;
}

type LeftListener = (serialNumber: string, why: MemberRefusalCode) => void;

/** A certificate that somebody came with, and since when it is known to be asked for. */
interface Seen {
  readonly der: Buffer;
  readonly certificate: Certificate;
  readonly member: Member;
  readonly since: number;
}

export interface FleetAdmissionParts {
  readonly store: Pick<FleetStore, "certificates">;
  readonly ca: Pick<FleetCa, "find">;
  readonly authorities: Pick<Authorities, "judgeStatus">;
  readonly keys: { readonly installationId: string };
  /** Told when the set cannot be read, or a row in it was tampered with: that one is not admitted. */
  readonly onProblem?: (error: unknown) => void;
  readonly now?: () => Date;
  /** Monotonic, in milliseconds. */
  readonly clock?: () => number;
  /** 2 seconds when absent. */
  readonly readEveryMs?: number;
}

/**
 * Which gateways are let in: those whose certificate is in the set that was read from the store less than 5 seconds ago. Each
 * replica that serves gateways has its own.
 */
export class FleetAdmission {
  readonly #parts: FleetAdmissionParts;
  readonly #clock: () => number;
  readonly #listeners = new Set<LeftListener>();
  /** By serial number. The oldest first. */
  readonly #seen = new Map<string, Seen>();
  #set: AdmittedSet | undefined;
  #reading: Promise<void> | undefined;
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #started = false;

  constructor(parts: FleetAdmissionParts) {
    this.#parts = parts;
    this.#clock = parts.clock ?? (() => performance.now());
  }

  start(): void {
    this.#started = true;
    this.hint();
  }

  /** Resolves when nothing of it runs any more. */
  async stop(): Promise<void> {
    this.#started = false;
    clearTimeout(this.#timer);
    await this.#reading;
  }

  /** Something changed: reads the set at once. */
  hint(): void {
    if (this.#started) void this.read();
  }

  /** Reads the set; one that began before this was called is followed by another. What fails is told, and tried again. */
  read(): Promise<void> {
    if (this.#reading !== undefined) {
      this.#again = true;
      return this.#reading;
    }
    clearTimeout(this.#timer);
    this.#reading = this.#readAll().finally(() => {
      this.#reading = undefined;
      if (this.#started) this.#timer = setTimeout(() => void this.read(), this.#parts.readEveryMs ?? READ_EVERY_MS);
    });
    return this.#reading;
  }

  /**
   * Who it is. One that is not known yet is asked to repeat its request until the set is younger than that: its certificate may have
   * been signed after the set was read.
   *
   * @param certificateDer the certificate that the peer has proved to have the key of
   * @throws Unavailable FleetStateStale when the set is too old, FleetNotReady while there is no CA; FleetRefused GatewayRevoked
   * when it is known as one that is out, CertificateExpired when it has ended, CertificateUnknown when nothing is known of it, or it
   * is not one of the fleet's
   */
  admit(certificateDer: Buffer): Member {
    const { at, root, certificates } = this.#current();
    const { certificate, member, since } = this.#identify(certificateDer, root);
    this.#assertInTime(certificate);
    const { serialNumber, gatewayId } = member;
    const known = certificates.get(serialNumber);
    if (known?.gatewayId === gatewayId) {
      if (known.admitted) return member;
      throw gatewayRevoked();
    }
    if (at > since) throw certificateUnknown();
    this.hint();
    throw stale("this certificate is not known here yet");
  }

  /** Tells the serial number of each certificate that is not admitted any more, lower-case hex; the answer ends the telling. */
  onLeft(listener: LeftListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * DER of the fleet root's certificate.
   *
   * @throws Unavailable FleetNotReady while none was read
   */
  root(): Buffer {
    if (this.#set === undefined) throw notMade();
    return this.#set.root.der;
  }

  #current(): AdmittedSet {
    if (this.#set === undefined) throw notMade();
    const age = this.#clock() - this.#set.at;
    if (age <= STALE_MS) return this.#set;
    throw stale(`which gateways are admitted was read ${Math.floor(age / 1_000)} s ago`);
  }

  #assertInTime({ notBefore, notAfter }: Certificate): void {
    const now = this.#now();
    if (now < notBefore) throw stale("this certificate does not count yet by the clock here");
    if (now > notAfter) throw certificateExpired();
  }

  #now(): Date {
    return this.#parts.now?.() ?? new Date();
  }

  #identify(der: Buffer, root: Certificate): Seen {
    const certificate = parsed(der);
    const seen = this.#seen.get(certificate.serialNumber.toString("hex"));
    if (seen?.der.equals(der)) return seen;
    const ours = certificate.issuerDer.equals(root.subjectDer) && verifySignedBy(certificate, root.spki);
    const member = memberOf(certificate, this.#parts.keys.installationId);
    if (!ours || member === undefined) throw certificateUnknown();
    const found = { der, certificate, member, since: this.#clock() };
    this.#seen.set(member.serialNumber, found);
    const { value: oldest } = this.#seen.keys().next();
    if (this.#seen.size > MOST_SEEN && oldest !== undefined) this.#seen.delete(oldest);
    return found;
  }

  async #readAll(): Promise<void> {
    do {
      this.#again = false;
      try {
        await this.#readOnce();
      } catch (error) {
        this.#parts.onProblem?.(error);
      }
    } while (this.#again);
  }

  async #readOnce(): Promise<void> {
    const { store, ca } = this.#parts;
    const at = this.#clock();
    const fleet = await ca.find();
    if (fleet === undefined) return;
    const now = this.#now();
    const certificates = new Map<string, Known>();
    for (const { gatewayId, admitted, status } of await store.certificates(fleet.authority.id, now)) {
      const { serialNumber, notAfter } = status;
      if (!admitted || this.#isGenuine(status)) certificates.set(serialNumber, { gatewayId, admitted, notAfter });
    }
    const before = this.#set?.certificates ?? new Map<string, Known>();
    const root = this.#set?.root.der.equals(fleet.root) ? this.#set.root : parseCertificate(fleet.root);
    this.#set = { at, root, certificates };
    for (const [serialNumber, { admitted, notAfter }] of before) {
      const known = certificates.get(serialNumber);
      if (!admitted || known?.admitted === true) continue;
      const gone = notAfter <= now ? "CertificateExpired" : "CertificateUnknown";
      this.#leave(serialNumber, known === undefined ? gone : "GatewayRevoked");
    }
  }

  #isGenuine(status: Parameters<Authorities["judgeStatus"]>[0]): boolean {
    try {
      this.#parts.authorities.judgeStatus(status);
      return true;
    } catch (error) {
      this.#parts.onProblem?.(error);
      return false;
    }
  }

  #leave(serialNumber: string, why: MemberRefusalCode): void {
    for (const listener of this.#listeners) listener(serialNumber, why);
  }
}

function parsed(der: Buffer): Certificate {
  try {
    return parseCertificate(der);
  } catch (error) {
    throw error instanceof DerError ? certificateUnknown() : error;
  }
}

const certificateExpired = (): FleetRefused =>
  new FleetRefused(
    "CertificateExpired",
    "the gateway's certificate has ended by the clock here; look whether the clocks are right, and if they are, register it with a new token",
  );

const stale = (what: string): Unavailable =>
  new Unavailable("FleetStateStale", `${what}; repeat the request, and look whether PostgreSQL answers if that lasts`);
