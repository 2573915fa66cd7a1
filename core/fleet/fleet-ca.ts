import { Unavailable, Waiting } from "../errors.ts";
import { type Authorities, type AuthoritySpec, newest } from "../pki/authority.ts";
import { oids } from "../pki/oid.ts";
import type { Actor } from "../ports/audit-log.ts";
import type { AuthorityIdentity, AuthorityRecord } from "../ports/pki-store.ts";
import { UNLED, type Writer } from "../ports/vault-store.ts";

const DAY_MS = 24 * 3_600_000;
const ACTOR: Actor = { kind: "Controller", name: "fleet" };

export const FLEET_IDENTITY: AuthorityIdentity = {
  kind: "Installation",
  namespace: "",
  namespaceUid: "",
  name: "fleet",
};

/** Signs gateways, and the replicas that serve them. It belongs to the installation: no object asks for it. */
const spec: AuthoritySpec = {
  identity: FLEET_IDENTITY,
  subject: [[{ type: oids.commonName, value: "MazeVault fleet" }]],
  key: { algorithm: "ECDSA", size: 256 },
  durationMs: 3_652 * DAY_MS,
  pathLength: 0,
  // Whoever is let in is looked up each second or two, so these are for others that look at the certificates.
  revocation: { crlEveryMs: DAY_MS, ocspValidityMs: DAY_MS },
  parent: { kind: "Self" },
  actor: ACTOR,
};

/** The CA as it signs. */
export interface Fleet {
  readonly authority: AuthorityRecord;
  /** DER of its self-signed certificate. */
  readonly root: Buffer;
}

/** The certification authority of the fleet. */
export class FleetCa {
  readonly #authorities: Pick<Authorities, "describe" | "ensure" | "signingCa">;

  constructor(authorities: Pick<Authorities, "describe" | "ensure" | "signingCa">) {
    this.#authorities = authorities;
  }

  /** Made where it is missing; nothing is written when it is there. Errors as of `Authorities.ensure`. */
  async ensure(writer: Writer): Promise<AuthorityRecord> {
    return this.#authorities.ensure(writer, spec);
  }

  /**
   * As it stands in the store, judged by its key; undefined while it is not made.
   *
   * @throws Unavailable DatabaseUnavailable, KeyUnavailable, TamperDetected, FleetNotReady when it has ended
   */
  async find(): Promise<Fleet | undefined> {
    const authority = await this.#authorities.describe(FLEET_IDENTITY);
    if (authority === undefined || newest(authority).certificate === undefined) return undefined;
    try {
      const { certificate } = await this.#authorities.signingCa(UNLED, authority);
      return certificate && { authority, root: certificate.der };
    } catch (error) {
      throw error instanceof Waiting ? new Unavailable("FleetNotReady", error.message) : error;
    }
  }

  /**
   * @returns DER of its certificate
   * @throws as `find`, and Unavailable FleetNotReady while it is not made
   */
  async root(): Promise<Buffer> {
    return (await this.current()).root;
  }

  /** As `find`; throws FleetNotReady where that finds none. */
  async current(): Promise<Fleet> {
    const fleet = await this.find();
    if (fleet === undefined) throw notMade();
    return fleet;
  }
}

export const notMade = (): Unavailable =>
  new Unavailable("FleetNotReady", "the fleet's CA is not made yet: the leader makes it; look whether there is one");
