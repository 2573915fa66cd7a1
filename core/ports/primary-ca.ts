/**
 * The CAs of a gateway's primary, as a gateway has them sign. What may be signed is the primary's to decide: by the environment that the
 * gateway's certificate names, and the policy of the issuer.
 *
 * Errors, common to all methods: `Unavailable` PrimaryUnreachable when no answer came, so that it is not known whether the primary acted
 * on it; PrimaryAnswerInvalid; the primary's reason when it refuses, such as IssuerNotAllowed or PolicyViolated.
 */
import type { CERTIFICATE_PROFILES } from "../../crds/names.ts";
import { Unavailable } from "../errors.ts";
import type { Usages } from "../pki/profile.ts";
import type { RevocationReason } from "./pki-store.ts";

export interface PrimarySigningRequest {
  /** UUID: whoever repeats it gets the same certificate. */
  readonly id: string;
  /** Name of the primary's ClusterIssuer. */
  readonly issuer: string;
  /** PKCS #10, DER. */
  readonly csr: Buffer;
  readonly profile: (typeof CERTIFICATE_PROFILES)[number];
  readonly usages: Usages;
  readonly durationMs: number;
  /** The object in the gateway's cluster. */
  readonly requester: {
    readonly kind: "Certificate" | "CertificateRequest";
    readonly namespace: string;
    readonly name: string;
    readonly uid: string;
  };
}

export interface PrimaryCa {
  /** Whether the gateway may have this ClusterIssuer sign: DER of its certificate and of those above it, the root last. */
  chainOf(issuer: string): Promise<readonly Buffer[]>;
  /**
   * DER, the certificate first, the root last.
   *
   * @throws Waiting SignatureAwaited while the primary has not signed yet; it goes on with that. Unavailable RequestIdTaken when the id
   *   stands for something else there
   */
  sign(request: PrimarySigningRequest): Promise<readonly Buffer[]>;
  /**
   * Of a certificate that was signed for this gateway; repeating it changes nothing. removeFromCRL ends a hold (RFC 5280, section 5.3.1).
   *
   * @param serialNumber lower-case hex
   * @param change which change of this certificate's status it is: what was lost is repeated by the same one
   * @throws Waiting SignatureAwaited; Unavailable SerialNumberUnknown when it was not signed for this gateway
   */
  revoke(serialNumber: string, reason: RevocationReason | "removeFromCRL", change: bigint): Promise<void>;
}

/** Asking the primary again to revoke it does not help, as after the gateway has registered under another name. */
export const isRefusedForGood = (error: unknown): error is Unavailable =>
  error instanceof Unavailable && error.code === "SerialNumberUnknown";
