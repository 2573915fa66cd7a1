/** What the leader of the primary does with what gateways want of its CAs: each once, as the issuer's policy allows it now. */
import { Fenced } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoints.ts";
import { gatewayActor } from "../../core/fleet/audit-entries.ts";
import { type FleetKeys, sameMac, signingMac } from "../../core/fleet/authenticity.ts";
import {
  type RevocationRequest,
  revocationRequest,
  type SigningRequest,
  signingRequest,
} from "../../core/fleet/signing-protocol.ts";
import type { Authorities } from "../../core/pki/authority.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { parseCsr } from "../../core/pki/csr.ts";
import { pem } from "../../core/pki/pem.ts";
import { tampered } from "../../core/pki/status.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import type { FleetStore } from "../../core/ports/fleet-store.ts";
import { type CertificateRecord, PkiConflict, type PkiStore } from "../../core/ports/pki-store.ts";
import type { SigningOrder, SigningStore } from "../../core/ports/signing-store.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { ClusterIssuerPolicy } from "./policy.ts";

/** What waits longer was left behind; the gateway asks again. */
const PATIENCE_MS = 10 * 60_000;
/** What has no certificate is found again by who lost the answer for so long. */
const KEEP_MS = 3_600_000;
/** However much one gateway asks for, the others have their turn. */
const PER_GATEWAY = 20;
/** A request has one certificate, ever. */
const REVISION = 1;

export interface SigningOrdersParts {
  readonly store: SigningStore;
  readonly fleet: Pick<FleetStore, "gateway">;
  readonly pki: Pick<PkiStore, "certificatesBySerial" | "certificateFor">;
  readonly authorities: Pick<Authorities, "issue" | "chainOf" | "revoke" | "release">;
  readonly policy: Pick<ClusterIssuerPolicy, "verdict">;
  readonly keys: FleetKeys;
  readonly now?: () => Date;
}

class OrderRefused extends Error {
  readonly code: Reason;
  constructor(code: Reason, message: string) {
    super(message);
    this.code = code;
  }
}

export class SigningOrders {
  readonly #parts: SigningOrdersParts;
  readonly #now: () => Date;

  constructor(parts: SigningOrdersParts) {
    this.#parts = parts;
    this.#now = parts.now ?? (() => new Date());
  }

  /**
   * Answers what waits. One that cannot be answered does not hold up the others: its error is thrown at the end.
   *
   * @throws Fenced; PkiConflict; Unavailable
   */
  async answer(writer: Writer): Promise<void> {
    const since = new Date(this.#now().getTime() - PATIENCE_MS);
    const failures: unknown[] = [];
    for (const order of await this.#parts.store.pending(since, PER_GATEWAY)) {
      try {
        await this.#answer(writer, order);
      } catch (error) {
        if (error instanceof Fenced) throw error;
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Deletes what nobody will ask for again, and of certificates what has ended; returns how many. */
  forget(writer: Writer): Promise<number> {
    const now = this.#now();
    return this.#parts.store.forget(writer, now, new Date(now.getTime() - KEEP_MS));
  }

  async #answer(writer: Writer, order: SigningOrder): Promise<void> {
    const { store } = this.#parts;
    const soon = new Date(this.#now().getTime() + KEEP_MS);
    this.#assertGenuine(order);
    try {
      await this.#assertServed(order);
      if (order.kind === "Revoke") {
        await this.#revoke(writer, order);
        await store.answer(writer, order, {}, soon);
        return;
      }
      const signed = await this.#sign(writer, order);
      if (signed === undefined) return;
      failpoint("signing.beforeAnswer");
      const certificates = signed.chain.map((der) => pem("CERTIFICATE", der)).join("");
      await store.answer(writer, order, { certificates }, signed.record.notAfter, signed.record.serialNumber);
    } catch (error) {
      if (!(error instanceof OrderRefused)) throw error;
      await store.answer(writer, order, { refusal: { code: error.code, message: error.message } }, soon);
    }
  }

  /** Nothing is done for a gateway that was revoked, or has registered for another environment, since it asked. */
  async #assertServed({ gateway: { gatewayId, name, environment } }: SigningOrder): Promise<void> {
    const known = await this.#parts.fleet.gateway(name);
    if (known?.id === gatewayId && known.revokedAt === undefined && known.environment === environment) return;
    throw new OrderRefused("GatewayRevoked", `gateway ${name} is not served any more as one of ${environment}`);
  }

  /** Undefined: it can still come by itself. */
  async #sign(
    writer: Writer,
    order: SigningOrder,
  ): Promise<{ readonly record: CertificateRecord; readonly chain: readonly Buffer[] } | undefined> {
    const { authorities, policy, pki } = this.#parts;
    const { id, gateway } = order;
    const request = signingRequest.parse(JSON.parse(order.body));
    const verdict = await policy.verdict(gateway, request);
    if (verdict.kind === "Refused") {
      if (verdict.waiting) return undefined;
      throw new OrderRefused(verdict.code, verdict.message);
    }
    const { authority, wanted } = verdict;
    const { key: _, spki, csr: __, ...contents } = wanted;
    const { kind, namespace, name } = request.requester;
    const whose = `${gateway.name}/${kind}/${namespace}/${name}`;
    const requester = {
      kind: "GatewayObject",
      namespace: "",
      namespaceUid: gateway.gatewayId,
      name: whose,
      uid: id,
    } as const;
    try {
      const asked = { ...contents, authority, requester, revision: REVISION, key: { spki }, actor: actorOf(order) };
      const record = await authorities.issue(writer, asked);
      if (record.certificate === undefined) throw tampered(`certificate ${record.serialNumber}`);
      return { record, chain: [record.certificate, ...authorities.chainOf(authority, record.generation)] };
    } catch (error) {
      // What stands for this id was signed for something else, as after the request was forgotten.
      if (!(error instanceof PkiConflict) || (await pki.certificateFor(id, REVISION))?.state !== "Issued") throw error;
      throw new OrderRefused("RequestIdTaken", "id: another certificate was signed for it; take a new one");
    }
  }

  /** A gateway revokes what was signed for it, as one of the same environment. */
  async #revoke(writer: Writer, order: SigningOrder): Promise<void> {
    const { authorities, store } = this.#parts;
    const { gatewayId, environment } = order.gateway;
    const { serialNumber, reason } = revocationRequest.parse(JSON.parse(order.body));
    for (const signed of await store.signed(gatewayId, serialNumber)) {
      this.#assertGenuine(signed);
      const record =
        signed.gateway.environment === environment ? await this.#certificateOf(signed, serialNumber) : undefined;
      if (record === undefined) continue;
      if (reason === "removeFromCRL") await authorities.release(writer, record, actorOf(order));
      else await authorities.revoke(writer, record, { reason }, actorOf(order));
      return;
    }
    throw new OrderRefused("SerialNumberUnknown", `serialNumber: ${serialNumber} was not signed for this gateway`);
  }

  /** Of the key that the request was made with, which its MAC covers: a row that was moved revokes nothing of others. */
  async #certificateOf({ id, body }: SigningOrder, serialNumber: string): Promise<CertificateRecord | undefined> {
    const [record] = await this.#parts.pki.certificatesBySerial(id, serialNumber);
    if (record?.certificate === undefined || record.requester.kind !== "GatewayObject") return undefined;
    const { spki } = parseCsr(signingRequest.parse(JSON.parse(body)).csr);
    return parseCertificate(record.certificate).spki.equals(spki) ? record : undefined;
  }

  #assertGenuine(order: SigningOrder): void {
    if (!sameMac(signingMac(this.#parts.keys, order), order.mac)) {
      throw tampered(`request ${order.id} of gateway ${order.gateway.name}`);
    }
  }
}

/** By this id the gateway's own record knows it. */
const actorOf = ({ body, gateway: { name } }: SigningOrder): Actor =>
  gatewayActor(name, (JSON.parse(body) as SigningRequest | RevocationRequest).id);
