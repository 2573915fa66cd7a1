/** The tracer as it is, whose spans stay here. */
import { type ReadableSpan, TracerProvider } from "@opentelemetry/sdk-trace";
import type { Tracer } from "../../../core/ports/tracer.ts";
import { SpanTracer } from "../tracer.ts";

/** Spans in the order in which they ended. */
export function recordedSpans(): { readonly tracer: Tracer; readonly spans: readonly ReadableSpan[] } {
  const spans: ReadableSpan[] = [];
  const nothing = async (): Promise<void> => {};
  const provider = new TracerProvider({
    spanProcessors: [
      { onStart: () => {}, onEnd: (span) => void spans.push(span), forceFlush: nothing, shutdown: nothing },
    ],
  });
  return { tracer: new SpanTracer(provider.getTracer("test")), spans };
}
