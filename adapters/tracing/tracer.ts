/** Spans by OpenTelemetry's SDK. Nothing of it is registered globally, so that what else loads its API stays without effect. */
import { AsyncLocalStorage } from "node:async_hooks";
import {
  type Context,
  type Tracer as OtelTracer,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  type SpanOptions,
  SpanStatusCode,
  trace,
} from "@opentelemetry/api";
import { parseTraceParent } from "@opentelemetry/core";
import type { Attributes, Begun, TracedCall, TraceParent, Tracer } from "../../core/ports/tracer.ts";

interface UnderWay {
  readonly span: Span;
  readonly context: Context;
  /** Milliseconds since 1970, finer than `Date.now` and never backwards within one trace. */
  readonly clock: () => number;
  /** What was begun in its course and goes on, such as a watch, is no part of it. */
  ended: boolean;
}

export class SpanTracer implements Tracer {
  readonly #spans: OtelTracer;
  readonly #underWay = new AsyncLocalStorage<UnderWay | undefined>();

  constructor(spans: OtelTracer) {
    this.#spans = spans;
  }

  trace<T>(name: string, { kind, attributes, parent, cause }: Begun, work: () => Promise<T>): Promise<T> {
    const from = contextOf(parent);
    const causedBy = contextOf(cause);
    const options: SpanOptions = {
      kind: kind === "server" ? SpanKind.SERVER : SpanKind.INTERNAL,
      attributes,
      ...(causedBy !== undefined && { links: [{ context: causedBy }] }),
    };
    const context = from === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, from);
    return this.#run(name, options, context, newClock(), work);
  }

  span<T>(name: string, attributes: Attributes, work: () => Promise<T>): Promise<T> {
    const around = this.#around;
    if (around === undefined) return work();
    return this.#run(name, { kind: SpanKind.CLIENT, attributes }, around.context, around.clock, work);
  }

  called({ target, operation, code, seconds, host }: TracedCall): void {
    const around = this.#around;
    if (around === undefined) return;
    const endTime = around.clock();
    const span = this.#spans.startSpan(
      `${target} ${operation}`,
      { kind: SpanKind.CLIENT, startTime: endTime - seconds * 1_000 },
      around.context,
    );
    setAll(span, {
      "peer.service": target,
      "mazevault.operation": operation,
      "mazevault.code": code,
      "server.address": host,
      "error.type": isGood(code) ? undefined : code,
    });
    span.end(endTime);
  }

  note(attributes: Attributes): void {
    const around = this.#around;
    if (around !== undefined) setAll(around.span, attributes);
  }

  current(): TraceParent | undefined {
    const context = this.#around?.span.spanContext();
    return context && `00-${context.traceId}-${context.spanId}-01`;
  }

  get #around(): UnderWay | undefined {
    const around = this.#underWay.getStore();
    return around?.ended === false ? around : undefined;
  }

  async #run<T>(
    name: string,
    options: SpanOptions,
    parent: Context,
    clock: () => number,
    work: () => Promise<T>,
  ): Promise<T> {
    const span = this.#spans.startSpan(name, { ...options, startTime: clock() }, parent);
    if (!span.isRecording()) return this.#underWay.run(undefined, work);
    const here: UnderWay = { span, context: trace.setSpan(parent, span), clock, ended: false };
    try {
      return await this.#underWay.run(here, work);
    } catch (error) {
      setAll(span, { "error.type": codeOf(error) });
      throw error;
    } finally {
      here.ended = true;
      span.end(clock());
    }
  }
}

function contextOf(parent: TraceParent | undefined): SpanContext | undefined {
  const context = parent === undefined ? null : parseTraceParent(parent);
  return context === null ? undefined : { ...context, isRemote: true };
}

function setAll(span: Span, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) span.setAttribute(name, value);
  if (attributes["error.type"] !== undefined) span.setStatus({ code: SpanStatusCode.ERROR });
}

const newClock = (): (() => number) => {
  const began = Date.now() - performance.now();
  return () => began + performance.now();
};

/** SQLSTATEs have five characters, and faults are words. */
const isGood = (code: string): boolean => code === "ok" || /^[123]\d\d$/.test(code);

/** Constants such as ECONNREFUSED; the message may quote anything. */
function codeOf(error: unknown): string {
  const { code, name } = (error ?? {}) as { readonly code?: unknown; readonly name?: unknown };
  const word = [code, name].find((each) => typeof each === "string" && /^[A-Za-z0-9_]{1,64}$/.test(each));
  return (word as string | undefined) ?? "error";
}
