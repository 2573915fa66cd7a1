import { SafeError } from "../../core/errors.ts";

/** Why there is no channel, or no answer; which part of the way failed. */
export type ChannelFault =
  /** The address of the primary cannot be one. */
  | "InvalidUrl"
  | "NameNotResolved"
  | "ConnectionRefused"
  /** No connection, or it broke before anything was agreed. */
  | "ConnectionFailed"
  /** Outer TLS, with the primary or with a proxy. */
  | "OuterTlsFailed"
  /** Whoever answers does not open the channel; see `status`. */
  | "NotAWebSocket"
  /** It says 429 or 503, and may have said when to come again. */
  | "PrimaryBusy"
  /** The TLS inside of the WebSocket; also a certificate of the right root that does not hold. */
  | "InnerTlsFailed"
  /** The certificates do not lead to the root that is trusted. Nothing was sent. */
  | "PrimaryNotTrusted"
  /** The primary ended the session when it saw our certificate. */
  | "CertificateRefused"
  | "TimedOut"
  /** It was open, and is not any more. */
  | "Closed"
  /** What the primary answered is no JSON, or too long. */
  | "MalformedAnswer";

/** Its message says how to mend it; it quotes neither a token nor anything that was sent. */
export class ChannelError extends SafeError {
  readonly code: ChannelFault;
  /** HTTP status of what answered instead of the channel. */
  readonly status: number | undefined;
  /** How long the primary wants to be left alone. */
  readonly retryAfterMs: number | undefined;
  /** With `Closed`: why, in a word of the primary's such as GatewayRevoked; undefined when it said nothing. */
  readonly reason: string | undefined;

  constructor(
    code: ChannelFault,
    message: string,
    more: {
      readonly status?: number | undefined;
      readonly retryAfterMs?: number | undefined;
      readonly reason?: string | undefined;
      readonly cause?: unknown;
    } = {},
  ) {
    super(message, more.cause === undefined ? {} : { cause: more.cause });
    this.name = "ChannelError";
    this.code = code;
    this.status = more.status;
    this.retryAfterMs = more.retryAfterMs;
    this.reason = more.reason;
  }
}

/** Of Node.js or OpenSSL, such as ECONNRESET or CERT_HAS_EXPIRED; a message may quote what it was given. */
export const codeOf = (error: unknown): string =>
  (error as { readonly code?: unknown } | undefined)?.code?.toString() ?? "no code";
