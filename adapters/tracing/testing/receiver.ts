/** A receiver of traces, OTLP over HTTP in JSON, which keeps all that it gets, and takes it as it is told to. */
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { buffer } from "node:stream/consumers";

export interface ReceivedSpan {
  readonly service: string;
  readonly traceId: string;
  readonly spanId: string;
  /** Empty at the first of a trace. */
  readonly parentSpanId: string;
  readonly name: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** Of the spans that it links to. */
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly failed: boolean;
  readonly startMs: number;
  readonly endMs: number;
}

export class TraceReceiver {
  readonly #server: Server;
  readonly port: number;
  /** Bodies as they came. */
  readonly bodies: Buffer[] = [];
  readonly headers: IncomingHttpHeaders[] = [];
  readonly spans: ReceivedSpan[] = [];
  /** What is answered; nothing at all while it is undefined. */
  status: number | undefined = 200;

  private constructor(server: Server) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
  }

  static async start(port = 0): Promise<TraceReceiver> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
    const receiver = new TraceReceiver(server);
    server.on("request", async (request, response) => {
      const body = await buffer(request);
      receiver.headers.push(request.headers);
      const { status } = receiver;
      if (request.method !== "POST" || request.url !== "/v1/traces") response.writeHead(404).end();
      else if (status !== undefined) {
        if (status === 200) receiver.#take(body);
        response.writeHead(status, { "content-type": "application/json" }).end("{}");
      }
    });
    return receiver;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  childrenOf({ traceId, spanId }: Pick<ReceivedSpan, "traceId" | "spanId">): readonly ReceivedSpan[] {
    return this.spans.filter((span) => span.traceId === traceId && span.parentSpanId === spanId);
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #take(body: Buffer): void {
    this.bodies.push(body);
    const { resourceSpans } = JSON.parse(body.toString("utf8")) as Export;
    for (const { resource, scopeSpans } of resourceSpans) {
      const service = String(attributesIn(resource.attributes)["service.name"]);
      for (const span of scopeSpans.flatMap(({ spans }) => spans)) {
        this.spans.push({
          service,
          traceId: span.traceId,
          spanId: span.spanId,
          parentSpanId: span.parentSpanId ?? "",
          name: span.name,
          attributes: attributesIn(span.attributes ?? []),
          links: span.links ?? [],
          failed: span.status?.code === STATUS_ERROR,
          startMs: Number(BigInt(span.startTimeUnixNano) / 1_000n) / 1_000,
          endMs: Number(BigInt(span.endTimeUnixNano) / 1_000n) / 1_000,
        });
      }
    }
  }
}

const STATUS_ERROR = 2;

/** https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding, as far as it is read here. */
interface Export {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly Attribute[] };
    readonly scopeSpans: readonly {
      readonly spans: readonly {
        readonly traceId: string;
        readonly spanId: string;
        readonly parentSpanId?: string;
        readonly name: string;
        readonly attributes?: readonly Attribute[];
        readonly links?: readonly { readonly traceId: string; readonly spanId: string }[];
        readonly status?: { readonly code?: number };
        readonly startTimeUnixNano: string;
        readonly endTimeUnixNano: string;
      }[];
    }[];
  }[];
}

interface Attribute {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

const attributesIn = (attributes: readonly Attribute[]): Record<string, unknown> =>
  Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
