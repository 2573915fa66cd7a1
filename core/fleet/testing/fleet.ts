import { X509Certificate } from "node:crypto";
import { Authorities } from "../../pki/authority.ts";
import { createCsr } from "../../pki/csr.ts";
import { generateKey } from "../../pki/key.ts";
import { parsePem, pem } from "../../pki/pem.ts";
import { LocalSigner } from "../../pki/signer.ts";
import type { Actor, AuditLog } from "../../ports/audit-log.ts";
import type { FleetStore, Place } from "../../ports/fleet-store.ts";
import type { PkiStore } from "../../ports/pki-store.ts";
import { UNLED } from "../../ports/vault-store.ts";
import type { KeyRing } from "../../vault/keyring.ts";
import { FleetAdmission, type FleetAdmissionParts } from "../admission.ts";
import { FleetCa } from "../fleet-ca.ts";
import { FleetCertificates } from "../fleet-certificates.ts";
import type { RegistrationRequest } from "../protocol.ts";
import { Registrations, type RegistrationsParts } from "../registrations.ts";
import { LEASE_MS, type StandingOf } from "../standing.ts";

export const NPR: Place = { environment: "NPR", role: "primary" };
export const PRO: Place = { environment: "PRO", role: "primary" };
const OPERATOR: Actor = { kind: "Controller", name: "test" };
export const FROM = { address: "192.0.2.7" } as const;

/** PEM of a request for a new P-256 key. */
export async function newCsr(): Promise<string> {
  const signer = new LocalSigner(await generateKey({ algorithm: "ECDSA", size: 256 }));
  return pem("CERTIFICATE REQUEST", await createCsr([], [], signer));
}

export const certificatesOf = (chain: string): readonly [X509Certificate, X509Certificate] => {
  const [leaf, root] = parsePem(chain, "certificates").map(({ der }) => new X509Certificate(der));
  if (leaf === undefined || root === undefined) throw new TypeError("a chain of two certificates is expected");
  return [leaf, root];
};

export interface Ground {
  readonly store: FleetStore;
  readonly pki: PkiStore;
  readonly keys: KeyRing;
  readonly audit: AuditLog;
  readonly now: () => Date;
}

/** Of gateways that are in no pair. */
const standingByRole: StandingOf = async ({ name, role }) => ({
  active: role === "primary",
  environmentEpoch: 1n,
  leaseMs: LEASE_MS,
  actsFor: role === "primary" ? [name] : [],
});

/** The parts of the fleet on the stores of one process. */
export class TestFleet {
  readonly ground: Ground;
  readonly authorities: Authorities;
  readonly ca: FleetCa;
  readonly certificates: FleetCertificates;
  readonly registrations: Registrations;

  constructor(ground: Ground, change: Partial<RegistrationsParts> = {}) {
    this.ground = ground;
    this.authorities = new Authorities({ ...ground, store: ground.pki });
    this.ca = new FleetCa(this.authorities);
    const { authorities, ca } = this;
    this.certificates = new FleetCertificates({ ...ground, authorities, ca });
    this.registrations = new Registrations({ ...ground, ca, standing: standingByRole, ...change });
  }

  admission(change: Partial<FleetAdmissionParts> = {}): FleetAdmission {
    const { authorities, ca, ground } = this;
    const onProblem = (error: unknown) => {
      throw error;
    };
    return new FleetAdmission({ ...ground, ca, authorities, onProblem, ...change });
  }

  async token(name: string, place: Partial<Place> = NPR): Promise<string> {
    return (await this.registrations.issueToken(UNLED, { name, place, actor: OPERATOR })).token;
  }

  /** Asks; that somebody signs is the caller's to see to. */
  register(token: string, csr: string, change: Partial<RegistrationRequest> = {}, signal?: AbortSignal) {
    const request = { token, csr, ...NPR, version: "1.0.0", ...change };
    return this.registrations.register(request, FROM, signal ?? new AbortController().signal);
  }
}
