/**
 * Ended spans on their way to the receiver, in batches. Nothing waits for it: beyond a bound they are dropped and counted, as
 * are those of a batch that the receiver did not take, so that memory stays as it is however long it is away.
 */
import { type ExportResult, ExportResultCode } from "@opentelemetry/core";
import { BatchSpanProcessor, type ReadableSpan, type SpanExporter, type SpanProcessor } from "@opentelemetry/sdk-trace";

export interface DeliveryLimits {
  /** Spans that may wait or be on their way. */
  readonly spans: number;
  readonly batch: number;
  /** How long the first of a batch waits for others. */
  readonly delayMs: number;
}

export class Delivery implements SpanProcessor {
  readonly #batches: BatchSpanProcessor;
  readonly #most: number;
  readonly #onChange: (problem: string | undefined) => void;
  #waiting = 0;
  #dropped = 0;
  #problem: string | undefined;

  /** @param onChange told when the receiver stops to take them, and when it takes them again */
  constructor(
    exporter: SpanExporter,
    { spans, batch, delayMs }: DeliveryLimits,
    onChange: (problem: string | undefined) => void,
  ) {
    this.#most = spans;
    this.#onChange = onChange;
    this.#batches = new BatchSpanProcessor({
      exporter: {
        export: (ended, done) =>
          exporter.export(ended, (result) => {
            this.#settled(ended.length, result);
            done(result);
          }),
        shutdown: () => exporter.shutdown(),
      },
      // Never reached, since those on their way count here too.
      maxQueueSize: spans,
      maxExportBatchSize: batch,
      scheduledDelayMillis: delayMs,
    });
  }

  /** Spans that no receiver got. */
  get dropped(): number {
    return this.#dropped;
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    if (this.#waiting < this.#most) {
      this.#waiting += 1;
      this.#batches.onEnd(span);
      return;
    }
    this.#dropped += 1;
    this.#change("takes traces more slowly than they come");
  }

  forceFlush(): Promise<void> {
    return this.#batches.forceFlush();
  }

  shutdown(): Promise<void> {
    return this.#batches.shutdown();
  }

  #settled(spans: number, result: ExportResult): void {
    this.#waiting -= spans;
    if (result.code !== ExportResultCode.SUCCESS) {
      this.#dropped += spans;
      this.#change(problemOf(result.error));
    } else if (this.#waiting < this.#most / 2) this.#change(undefined);
  }

  /** What is wrong may differ from one attempt to the next; that it is still wrong is no news. */
  #change(problem: string | undefined): void {
    const isNews = (problem === undefined) !== (this.#problem === undefined);
    this.#problem = problem;
    if (isNews) this.#onChange(problem);
  }
}

/** Its text is not shown: it may hold what the receiver answered. */
function problemOf(error: unknown): string {
  const { code } = (error ?? {}) as { readonly code?: unknown };
  if (typeof code === "number") return `answers ${code}`;
  if (typeof code === "string" && /^[A-Z0-9_]{1,64}$/.test(code)) return `does not answer (${code})`;
  return "does not answer in time, or asks to come again later";
}
