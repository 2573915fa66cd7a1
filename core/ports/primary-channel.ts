/** The gateway's way to its primary: one session of TLS 1.3 inside whatever leads there, see `core/fleet/protocol.ts`. */
import type { KeyObject } from "node:crypto";
import { Unavailable } from "../errors.ts";

/** The primary is there, and asks to come again later. */
export class PrimaryBusy extends Unavailable {
  readonly retryAfterMs: number;
  constructor(retryAfterMs: number, message: string, options?: { cause?: unknown }) {
    super("PrimaryUnreachable", message, options);
    this.name = "PrimaryBusy";
    this.retryAfterMs = retryAfterMs;
  }
}

/** By what the gateway knows the primary; checked before anything is sent. */
export type PrimaryTrust =
  /** SHA-256 of the SubjectPublicKeyInfo of the root of the primary's chain, 32 bytes; from a bootstrap token. */
  | { readonly kind: "Fingerprint"; readonly rootDigest: Buffer }
  /** The root itself, DER; of who is registered. */
  | { readonly kind: "Root"; readonly root: Buffer };

export interface ChannelClient {
  /** DER, the gateway's certificate first, without the root. */
  readonly certificates: readonly Buffer[];
  readonly key: KeyObject;
}

export interface ChannelAnswer {
  readonly status: number;
  /** JSON; undefined where there is no body. Of a refusal it is a problem (RFC 9457) with `code`. */
  readonly body: unknown;
}

export interface PrimaryChannel {
  /**
   * @throws Unavailable PrimaryUnreachable when no answer came, so that it is not known whether the primary acted on it;
   * GatewayRevoked, CertificateUnknown, GatewayCertificateEnded when the primary ended the channel for that reason
   */
  request(method: "GET" | "POST", path: string, body: unknown, signal: AbortSignal): Promise<ChannelAnswer>;
  /** Resolves when the channel has ended, whoever ended it; with the primary's reason where it told one, such as GatewayRevoked. */
  readonly closed: Promise<string | undefined>;
  close(): void;
}

export interface PrimaryChannels {
  /**
   * Without a client certificate only registration is answered.
   *
   * @throws Unavailable PrimaryUnreachable, as `PrimaryBusy` where the primary says when to come again; PrimaryUntrusted when what answers is not the primary that is trusted;
   * GatewayCertificateRefused when the primary ended the session at the sight of the client's certificate
   */
  open(trust: PrimaryTrust, client: ChannelClient | undefined, signal: AbortSignal): Promise<PrimaryChannel>;
}
