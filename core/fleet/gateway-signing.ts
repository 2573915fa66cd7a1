import { createHash } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import { Stalled } from "../errors.ts";
import { namedUuid } from "../named-uuid.ts";
import { CsrError, parseCsr } from "../pki/csr.ts";
import { MalformedInput } from "../pki/malformed-input.ts";
import { pem } from "../pki/pem.ts";
import type { AuditLog } from "../ports/audit-log.ts";
import type { SigningOrder, SigningStore } from "../ports/signing-store.ts";
import { Answers } from "./answers.ts";
import { gatewayActor, gatewayEntry } from "./audit-entries.ts";
import { type FleetKeys, signingMac } from "./authenticity.ts";
import type { Member } from "./member.ts";
import type { RevocationRequest, SigningRequest } from "./signing-protocol.ts";

/** Whether a gateway may have an issuer of the primary sign. The environment is the one that its certificate says. */
export interface SigningPolicy {
  /**
   * DER of the issuer's certificate and of those above it, the root last.
   *
   * @throws Stalled IssuerNotAllowed; Waiting IssuerNotReady
   */
  issuer(member: Pick<Member, "environment">, name: string): Promise<readonly Buffer[]>;
  /** @throws as `issuer`; Stalled RequestInvalid, PolicyViolated */
  judge(member: Pick<Member, "environment">, request: SigningRequest): Promise<unknown>;
}

export interface GatewaySigningParts {
  readonly store: Pick<SigningStore, "ask" | "outcome">;
  readonly policy: SigningPolicy;
  readonly keys: FleetKeys;
  readonly audit: Pick<AuditLog, "append">;
  readonly now?: () => Date;
  /** Tests wait less. */
  readonly answers?: Answers;
}

/** So many different refusals are put on record by one replica; a row can never be deleted. */
const MOST_TOLD = 1_000;

/**
 * The side of a replica that serves gateways: it takes what they ask the CAs of the primary for, and waits until the leader has answered.
 * What the policy refuses is refused at once and stands nowhere but on record; the leader judges again before it signs.
 */
export class GatewaySigning {
  readonly #parts: GatewaySigningParts;
  readonly #answers: Answers;
  readonly #told = new Set<string>();

  constructor(parts: GatewaySigningParts) {
    this.#parts = parts;
    this.#answers = parts.answers ?? new Answers();
  }

  /** Something was asked for or answered in the fleet. */
  hint(): void {
    this.#answers.hint();
  }

  /** PEM: the issuer's certificate first, the root last. */
  async issuer(member: Member, name: string): Promise<string> {
    const chain = await this.#onRecord(member, name, () => this.#parts.policy.issuer(member, name));
    return chain.map((der) => pem("CERTIFICATE", der)).join("");
  }

  /**
   * PEM, the certificate first, the root last; undefined while the leader has not signed: ask again.
   *
   * @throws Stalled, Waiting as of `SigningPolicy`; Stalled RequestIdTaken when the id stands for something else; MalformedInput of `csr`
   */
  async sign(member: Member, request: SigningRequest, signal: AbortSignal): Promise<string | undefined> {
    const digest = digestOf(request);
    await this.#onRecord(member, request.issuer.name, () => this.#parts.policy.judge(member, request));
    const outcome = await this.#ask(member, "Sign", request, digest, signal);
    return outcome?.certificates;
  }

  /**
   * Whether it is done; false while the leader has not answered: ask again.
   *
   * @throws Stalled SerialNumberUnknown when nothing of that number was signed for this gateway; RequestIdTaken as `sign`
   */
  async revoke(member: Member, request: RevocationRequest, signal: AbortSignal): Promise<boolean> {
    const { serialNumber, reason } = request;
    const digest = sha256("mazevault revocation of a gateway", [serialNumber, reason]);
    return (await this.#ask(member, "Revoke", request, digest, signal)) !== undefined;
  }

  async #ask(
    { gatewayId, name, environment }: Member,
    kind: SigningOrder["kind"],
    request: SigningRequest | RevocationRequest,
    digest: Buffer,
    signal: AbortSignal,
  ): Promise<{ readonly certificates?: string } | undefined> {
    const { store, keys, now = () => new Date() } = this.#parts;
    const gateway = { gatewayId, name, environment };
    // Of its own for each gateway: none can take an id before another one, or choose whose certificates it stands among.
    const id = namedUuid("mazevault request of a gateway", [gatewayId, request.id]);
    const order = { id, kind, gateway, body: JSON.stringify(request), digest, requestedAt: now() };
    if (!(await store.ask({ ...order, mac: signingMac(keys, order) }))) {
      throw new Stalled("RequestIdTaken", "id: it stands for another request; take a new one");
    }
    const outcome = await this.#answers.wait(() => store.outcome(id), signal);
    if (outcome === undefined || !("refusal" in outcome)) return outcome;
    throw new Stalled(outcome.refusal.code, outcome.refusal.message);
  }

  /** What is refused for good is put on record, once for each gateway, issuer and reason. */
  async #onRecord<T>(member: Member, issuer: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Stalled) await this.#tell(member, issuer, error);
      throw error;
    }
  }

  async #tell({ gatewayId: id, name, environment, serialNumber }: Member, issuer: string, { code }: Stalled) {
    const key = JSON.stringify([id, environment, issuer, code]);
    if (this.#told.has(key) || this.#told.size >= MOST_TOLD) return;
    this.#told.add(key);
    const actor = gatewayActor(name, serialNumber);
    const details = { environment, issuer, reason: code };
    await this.#parts.audit.append([gatewayEntry("GatewaySigningRefused", { id, name }, actor, details, "Denied")]);
  }
}

/** Of what is asked for: the signature of the request counts for nothing once it was judged. */
function digestOf({ issuer, csr, profile, usages, durationSeconds, requester }: SigningRequest): Buffer {
  const { kind, namespace, name, uid } = requester;
  const said = [
    issuer.name,
    profile,
    usages.keyUsage.join(),
    usages.extendedKeyUsage.join(),
    durationSeconds,
    kind,
    namespace,
    name,
    uid,
  ];
  return sha256("mazevault request of a gateway", [infoOf(csr), ...said]);
}

function infoOf(csr: string): Buffer {
  try {
    return parseCsr(csr).info;
  } catch (error) {
    if (!(error instanceof CsrError)) throw error;
    throw new MalformedInput("csr", `${error.message}; send a PKCS #10 request that its own key signed`);
  }
}

const sha256 = (purpose: string, fields: Parameters<typeof encodeFields>[1]): Buffer =>
  createHash("sha256").update(encodeFields(purpose, fields)).digest();
