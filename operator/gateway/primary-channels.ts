/** The channel to the primary, as `core/ports/primary-channel.ts` has it, over the one of `adapters/channel`. */
import { Unavailable } from "../../core/errors.ts";
import { pem } from "../../core/pki/pem.ts";
import {
  type ChannelClient,
  PrimaryBusy,
  type PrimaryChannel,
  type PrimaryChannels,
  type PrimaryTrust,
} from "../../core/ports/primary-channel.ts";
import { answeredWith, type Tracer } from "../../core/ports/tracer.ts";

/** What `adapters/channel/client.ts` takes and gives, as far as it is used here. */
export interface ChannelOptions {
  readonly url: string;
  readonly outerCa?: string | Buffer;
  readonly trust:
    | { readonly kind: "Fingerprint"; readonly sha256OfRootSpki: Buffer }
    | { readonly kind: "Root"; readonly pem: string };
  readonly client?: { readonly key: string; readonly certificates: string };
  readonly signal?: AbortSignal;
}

export interface Channel {
  request(
    method: string,
    path: string,
    body?: unknown,
    options?: {
      readonly signal?: AbortSignal;
      readonly timeoutMs?: number;
      readonly traceParent?: string | undefined;
    },
  ): Promise<{ readonly status: number; readonly body: unknown }>;
  readonly closed: Promise<unknown>;
  close(): void;
}

export type OpenChannel = (options: ChannelOptions) => Promise<Channel>;

/** Longer than any request may take by itself, so that the caller's signal decides. */
const REQUEST_MS = 120_000;

export const primaryChannels = (
  openChannel: OpenChannel,
  { url, outerCa }: Pick<ChannelOptions, "url" | "outerCa">,
  tracer?: Tracer,
): PrimaryChannels => ({
  async open(trust, client, signal) {
    const options = { url, trust: trustOf(trust), signal, ...(client && { client: clientOf(client) }) };
    const channel = await told(openChannel({ ...options, ...(outerCa !== undefined && { outerCa }) }));
    return primaryChannel(channel, tracer);
  },
});

const primaryChannel = (channel: Channel, tracer: Tracer | undefined): PrimaryChannel => ({
  request(method, path, body, signal) {
    const send = () =>
      told(channel.request(method, path, body, { signal, timeoutMs: REQUEST_MS, traceParent: tracer?.current() }));
    if (tracer === undefined) return send();
    return tracer.span(`primary ${path}`, { "peer.service": "primary", "http.route": path }, async () => {
      const answer = await send();
      tracer.note(answeredWith(answer.status));
      return answer;
    });
  },
  closed: channel.closed.then((error) => (error as { readonly reason?: string } | undefined)?.reason),
  close: () => channel.close(),
});

const trustOf = (trust: PrimaryTrust): ChannelOptions["trust"] =>
  trust.kind === "Root"
    ? { kind: "Root", pem: pem("CERTIFICATE", trust.root) }
    : { kind: "Fingerprint", sha256OfRootSpki: trust.rootDigest };

const clientOf = ({ certificates, key }: ChannelClient): NonNullable<ChannelOptions["client"]> => ({
  key: key.export({ type: "pkcs8", format: "pem" }).toString(),
  certificates: certificates.map((der) => pem("CERTIFICATE", der)).join(""),
});

/** Of all but these three faults of the channel the way to the primary is at fault. */
async function told<T>(attempt: Promise<T>): Promise<T> {
  try {
    return await attempt;
  } catch (error) {
    const fault = error as {
      code?: unknown;
      reason?: unknown;
      name?: unknown;
      message?: unknown;
      retryAfterMs?: unknown;
    };
    if (fault.name !== "ChannelError" || typeof fault.message !== "string") throw error;
    if (typeof fault.retryAfterMs === "number")
      throw new PrimaryBusy(fault.retryAfterMs, fault.message, { cause: error });
    throw new Unavailable(reasonOf(fault), fault.message, { cause: error });
  }
}

function reasonOf({ code, reason }: { readonly code?: unknown; readonly reason?: unknown }) {
  if (reason === "GatewayRevoked" || reason === "CertificateUnknown") return reason;
  if (reason === "CertificateExpired") return "GatewayCertificateEnded";
  if (code === "CertificateRefused") return "GatewayCertificateRefused";
  return code === "PrimaryNotTrusted" ? "PrimaryUntrusted" : "PrimaryUnreachable";
}
