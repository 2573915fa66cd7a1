/** Traces to a receiver of OTLP over HTTP, in JSON. Only loaded where there is one: the SDK is not for nothing. */
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { getCACertificates } from "node:tls";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { ParentBasedSampler, TraceIdRatioBasedSampler, TracerProvider } from "@opentelemetry/sdk-trace";
import type { Tracer } from "../../core/ports/tracer.ts";
import { Delivery, type DeliveryLimits } from "./delivery.ts";
import { SpanTracer } from "./tracer.ts";

export interface TracingOptions {
  /** `/v1/traces` is added. */
  readonly endpoint: string;
  /** Asked for each batch; must not throw. */
  readonly headers: () => Record<string, string>;
  /** PEM, beside those that Node.js knows. */
  readonly ca?: string;
  /** From 0 to 1, of the traces that begin here; a caller's are sampled as it says. */
  readonly sampleRatio: number;
  readonly service: { readonly name: string; readonly version: string; readonly instance: string };
  /** For one batch, attempts of it included. */
  readonly timeoutMs: number;
  readonly onChange: (problem: string | undefined) => void;
  readonly limits?: Partial<DeliveryLimits>;
}

export interface Tracing {
  readonly tracer: Tracer;
  readonly dropped: number;
  /** Sends what waits; however long that takes. */
  close(): Promise<void>;
}

const LIMITS: DeliveryLimits = { spans: 4_096, batch: 512, delayMs: 2_000 };

export function openTracing(options: TracingOptions): Tracing {
  const { endpoint, headers, ca, sampleRatio, service, timeoutMs, onChange, limits } = options;
  const tls = ca !== undefined && { ca: [...getCACertificates("default"), ca] };
  const exporter = new OTLPTraceExporter({
    url: `${endpoint.replace(/\/+$/, "")}/v1/traces`,
    headers: async () => headers(),
    timeoutMillis: timeoutMs,
    httpAgentOptions: (protocol) =>
      protocol === "http:" ? new HttpAgent({ keepAlive: true }) : new HttpsAgent({ keepAlive: true, ...tls }),
  });
  const delivery = new Delivery(exporter, { ...LIMITS, ...limits }, onChange);
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      "service.name": service.name,
      "service.version": service.version,
      "service.instance.id": service.instance,
    }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(sampleRatio) }),
    spanLimits: { attributeValueLengthLimit: 512 },
    spanProcessors: [delivery],
  });
  return {
    tracer: new SpanTracer(provider.getTracer("mazevault")),
    get dropped() {
      return delivery.dropped;
    },
    close: () => provider.shutdown(),
  };
}
