import { Fenced } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Authorities } from "../pki/authority.ts";
import { CsrError, parseCsr } from "../pki/csr.ts";
import type { IssueRequest } from "../pki/issuance.ts";
import { keySpecOf } from "../pki/key.ts";
import { oids } from "../pki/oid.ts";
import { type Profile, profileUsages } from "../pki/profile.ts";
import { tampered } from "../pki/status.ts";
import type { Actor } from "../ports/audit-log.ts";
import type { FleetCertificateRequest, FleetStore, SupersededGateway } from "../ports/fleet-store.ts";
import type { CertificateRecord, PkiStore } from "../ports/pki-store.ts";
import type { Writer } from "../ports/vault-store.ts";
import { type FleetKeys, requestMac, sameMac } from "./authenticity.ts";
import type { FleetCa } from "./fleet-ca.ts";
import { memberName } from "./member.ts";
import { CHANNEL_HOST } from "./protocol.ts";

const ACTOR: Actor = { kind: "Controller", name: "fleet" };
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
export const GATEWAY_DAYS = 90;
export const REPLICA_DAYS = 7;
/** A request that waits longer was left behind; whoever needs it has asked anew. */
const PATIENCE_MS = 10 * 60_000;
/** What was answered is found again by who lost the answer, and is counted, for so long. */
const KEEP_MS = HOUR_MS;
/** A gateway needs one in two months, a replica one in some days. */
const MOST_PER_HOUR = { Gateway: 20, Replica: 200 } as const;
const AT_A_TIME = 100;
/** Of one gateway; those of before have ended long ago. */
const MOST_CERTIFICATES = 1_000;

/** What the leader does for the certificates of gateways, and of the replicas that serve them. */
export class FleetCertificates {
  readonly #store: FleetStore;
  readonly #pki: Pick<PkiStore, "certificatesOf">;
  readonly #authorities: Authorities;
  readonly #ca: FleetCa;
  readonly #keys: FleetKeys;
  readonly #now: () => Date;

  constructor(parts: {
    readonly store: FleetStore;
    readonly pki: Pick<PkiStore, "certificatesOf">;
    readonly authorities: Authorities;
    readonly ca: FleetCa;
    readonly keys: FleetKeys;
    readonly now?: () => Date;
  }) {
    this.#store = parts.store;
    this.#pki = parts.pki;
    this.#authorities = parts.authorities;
    this.#ca = parts.ca;
    this.#keys = parts.keys;
    this.#now = parts.now ?? (() => new Date());
  }

  /** Makes the CA where it is missing. */
  async ensure(writer: Writer): Promise<void> {
    await this.#ca.ensure(writer);
  }

  /**
   * Answers the requests that wait; returns how many. Who asks too often waits. One that cannot be answered does not hold up the
   * others: its error is thrown at the end.
   *
   * @throws Fenced; PkiConflict; Unavailable
   */
  async sign(writer: Writer): Promise<number> {
    const now = this.#now().getTime();
    const pending = await this.#store.pendingRequests(new Date(now - PATIENCE_MS), AT_A_TIME);
    if (pending.length === 0) return 0;
    const answeredBefore = new Map(await this.#store.answeredSince(new Date(now - HOUR_MS)));
    return this.#each(pending, async (request) => {
      const who = request.gateway?.id ?? request.kind;
      const before = answeredBefore.get(who) ?? 0;
      if (before >= MOST_PER_HOUR[request.kind]) return false;
      answeredBefore.set(who, before + 1);
      await this.#answer(writer, request);
      return true;
    });
  }

  /**
   * Revokes certificates of gateways that have confirmed a newer one, and those of revoked gateways, which are not admitted any more
   * before that; returns of how many gateways.
   *
   * @throws as `sign`
   */
  async revokeSuperseded(writer: Writer): Promise<number> {
    return this.#each(await this.#store.superseded(AT_A_TIME), async (gateway) => {
      for (const record of await this.#standing(gateway)) {
        const reason = gateway.revokedAt === undefined ? "superseded" : "cessationOfOperation";
        await this.#authorities.revoke(writer, record, { reason }, ACTOR);
        failpoint("fleet.afterRevocation");
      }
      await this.#store.settle(writer, gateway.id, gateway.validFrom);
      return true;
    });
  }

  /** Deletes requests that nobody will ask for again, and tokens that have ended; returns how many. */
  forget(writer: Writer): Promise<number> {
    return this.#store.forget(writer, new Date(this.#now().getTime() - KEEP_MS));
  }

  async #each<T>(all: readonly T[], work: (each: T) => Promise<boolean>): Promise<number> {
    const failures: unknown[] = [];
    let done = 0;
    for (const each of all) {
      try {
        if (await work(each)) done += 1;
      } catch (error) {
        if (error instanceof Fenced) throw error;
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
    return done;
  }

  async #answer(writer: Writer, request: FleetCertificateRequest): Promise<void> {
    if (!sameMac(requestMac(this.#keys, request), request.mac)) {
      throw tampered(`request ${request.id} for a certificate of the fleet`);
    }
    const { authority } = await this.#ca.current();
    const issued = await this.#authorities.issue(writer, {
      authority,
      revision: request.revision,
      actor: ACTOR,
      ...(request.gateway === undefined ? ofReplica(request) : ofGateway(request.gateway, this.#keys)),
      ...keyOf(request.csr, request.kind === "Gateway" ? "Gateway" : "Server"),
    });
    failpoint("fleet.beforeAnswer");
    const chain = this.#authorities.chainOf(authority, issued.generation);
    if (issued.certificate === undefined) throw tampered(`certificate ${issued.serialNumber}`);
    await this.#store.answerRequest(writer, request.id, [issued.certificate, ...chain], this.#now());
  }

  async #standing({ id, validFrom }: SupersededGateway): Promise<readonly CertificateRecord[]> {
    const all = await this.#pki.certificatesOf(id, MOST_CERTIFICATES);
    return all.filter(
      ({ revision, revocation, notAfter }) =>
        revision < validFrom && revocation === undefined && notAfter > this.#now(),
    );
  }
}

type Said = Pick<IssueRequest, "requester" | "subject" | "subjectAltNames" | "durationMs">;

const named = (name: string): IssueRequest["subject"] => [[{ type: oids.commonName, value: name }]];

const ofGateway = (
  { id, name, environment, role }: NonNullable<FleetCertificateRequest["gateway"]>,
  { installationId }: FleetKeys,
): Said => ({
  requester: { kind: "Gateway", namespace: "", namespaceUid: "", name, uid: id },
  subject: named(name),
  subjectAltNames: [memberName(installationId, { gatewayId: id, environment, role })],
  durationMs: GATEWAY_DAYS * DAY_MS,
});

const ofReplica = ({ id }: FleetCertificateRequest): Said => ({
  requester: { kind: "Replica", namespace: "", namespaceUid: "", name: `replica ${id.slice(0, 8)}`, uid: id },
  subject: named(CHANNEL_HOST),
  subjectAltNames: [{ kind: "dns", value: CHANNEL_HOST }],
  durationMs: REPLICA_DAYS * DAY_MS,
});

/** Of the request only the key counts; it was judged when it was written, and its octets are those that were. */
function keyOf(csr: Buffer, profile: Profile): Pick<IssueRequest, "key" | "usages" | "profile"> {
  try {
    const { spki, publicKey } = parseCsr(csr);
    const spec = keySpecOf(publicKey);
    if (spec !== undefined) return { key: { spki }, usages: profileUsages(profile, spec), profile };
  } catch (error) {
    if (!(error instanceof CsrError)) throw error;
  }
  throw tampered("a request for a certificate of the fleet");
}
