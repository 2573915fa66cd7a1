/** OpenTelemetry logs: OTLP/HTTP with JSON, https://opentelemetry.io/docs/specs/otlp/#otlphttp. */
import { type AuditRecord, recordsOf } from "../../core/audit/record.ts";
import { Unavailable } from "../../core/errors.ts";
import type { AuditBatch, AuditSink, SinkTarget } from "../../core/ports/audit-sink.ts";
import type { Sensitive } from "../../core/sensitive.ts";
import { type HttpsOptions, HttpsPost } from "./https.ts";

/** SeverityNumber of the log data model: INFO, WARN, ERROR. */
const SEVERITY = { Success: 9, Denied: 13, Failure: 17 } as const;

export class OtlpSink implements AuditSink {
  readonly #post: HttpsPost;
  readonly #authorization: Sensitive | undefined;

  constructor({ url, tls, authorization }: Extract<SinkTarget, { kind: "Otlp" }>, options: HttpsOptions) {
    this.#post = new HttpsPost(url, tls, options);
    this.#authorization = authorization;
  }

  async deliver(batch: AuditBatch, signal: AbortSignal): Promise<void> {
    const resource = attributes({ "service.name": "mazevault", "mazevault.installation": batch.installation });
    const logRecords = recordsOf(batch).map(logRecord);
    const body = { resourceLogs: [{ resource, scopeLogs: [{ scope: { name: "mazevault.audit" }, logRecords }] }] };
    const authorization = this.#authorization?.revealText().trim();
    const answer = await this.#post.send(
      authorization === undefined ? {} : { authorization },
      JSON.stringify(body),
      signal,
    );
    const rejected = rejectedBy(answer);
    // The protocol says not to send them again, but a record without them would have a hole: so a person is told.
    if (rejected > 0)
      throw new Unavailable("SinkRefused", `the collector rejected ${rejected} of ${logRecords.length} records`);
  }

  close(): Promise<void> {
    return this.#post.close();
  }
}

/** The whole record is the body; attributes are what one searches by. */
function logRecord(record: AuditRecord) {
  const nanoseconds = `${Date.parse(record.at)}000000`;
  const common = {
    timeUnixNano: nanoseconds,
    observedTimeUnixNano: nanoseconds,
    body: { stringValue: JSON.stringify(record) },
  };
  if (record.type === "checkpoint") {
    const { number, position } = record;
    const named = attributes({ "mazevault.audit.checkpoint": number, "mazevault.audit.position": position });
    return { ...common, eventName: "mazevault.audit.checkpoint", severityNumber: SEVERITY.Success, ...named };
  }
  const { action, outcome, position, subject } = record;
  return {
    ...common,
    eventName: "mazevault.audit.row",
    severityNumber: SEVERITY[outcome],
    ...attributes({
      "mazevault.audit.position": position,
      "mazevault.audit.action": action,
      "mazevault.audit.outcome": outcome,
      "mazevault.audit.subject.kind": subject.kind,
      "mazevault.audit.subject.name": subject.name,
    }),
  };
}

/** Integers are text in the JSON of protocol buffers. */
const attributes = (values: Readonly<Record<string, string | number>>) => ({
  attributes: Object.entries(values).map(([key, value]) => ({
    key,
    value: typeof value === "number" ? { intValue: String(value) } : { stringValue: value },
  })),
});

function rejectedBy(answer: string): number {
  try {
    const { partialSuccess } = JSON.parse(answer) as { partialSuccess?: { rejectedLogRecords?: string | number } };
    return Number(partialSuccess?.rejectedLogRecords ?? 0);
  } catch {
    return 0;
  }
}
