/**
 * Where the primary keeps what gateways want of its CAs until the leader has answered, and for as long as it may be repeated. Every
 * replica that serves gateways writes it. The platform's store is PostgreSQL; `fake-signing-store.ts` is the in-memory fake, and both
 * pass `signing-store.contract.ts`.
 *
 * Contract, common to all methods: as of `FleetStore`. The store keeps the MAC and does not judge it.
 */
import type { Reason } from "../../crds/conditions.ts";
import type { Member } from "../fleet/member.ts";
import type { Writer } from "./vault-store.ts";

export type AskedOfCa = "Sign" | "Revoke";

export interface SigningOrder {
  /** UUID of the gateway and the id that it chose, which stands in the body. */
  readonly id: string;
  readonly kind: AskedOfCa;
  /** Who asks, as its certificate said. */
  readonly gateway: Pick<Member, "gatewayId" | "name" | "environment">;
  /** JSON, as of `signing-protocol.ts`. */
  readonly body: string;
  /** SHA-256 of what is asked for: who repeats it may have signed its request anew. */
  readonly digest: Buffer;
  readonly requestedAt: Date;
  /** Authenticates all of the above. */
  readonly mac: Buffer;
}

export type SigningOutcome =
  | { readonly refusal: { readonly code: Reason; readonly message: string } }
  /** PEM, the certificate first, the root last; of a revocation there is none. */
  | { readonly certificates?: string };

export interface SigningStore {
  /**
   * Told to whoever listens for the fleet. One that was done stays as it is; one that waits stands as it was repeated, from now on; one that
   * was refused is asked anew. False when the id stands for something else, or for something of another gateway; nothing is written then.
   */
  ask(order: SigningOrder): Promise<boolean>;
  /** Undefined while it waits, or when there is none. */
  outcome(id: string): Promise<SigningOutcome | undefined>;
  /** Unanswered ones that are not older than `since`, oldest first, at most `perGateway` of each gateway. */
  pending(since: Date, perGateway: number): Promise<readonly SigningOrder[]>;
  /**
   * Told as `ask`. Nothing happens when it was answered already, is another one by now, or is gone.
   *
   * @param keepUntil when it is forgotten
   * @param serialNumber of the certificate that was signed, lower-case hex
   */
  answer(
    writer: Writer,
    order: Pick<SigningOrder, "id" | "mac">,
    outcome: SigningOutcome,
    keepUntil: Date,
    serialNumber?: string,
  ): Promise<void>;
  /** What was signed for this gateway with that serial number, by whichever CA. */
  signed(gatewayId: string, serialNumber: string): Promise<readonly SigningOrder[]>;
  /** Deletes what need not be kept any more, and what has waited since before `unansweredBefore`; returns how many. */
  forget(writer: Writer, now: Date, unansweredBefore: Date): Promise<number>;
}
