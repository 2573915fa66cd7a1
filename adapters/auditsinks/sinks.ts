import path from "node:path";
import { Stalled } from "../../core/errors.ts";
import type { AuditSink, AuditSinks, SinkTarget } from "../../core/ports/audit-sink.ts";
import { FileSink } from "./file.ts";
import type { HttpsOptions } from "./https.ts";
import { OtlpSink } from "./otlp.ts";
import { WebhookSink } from "./webhook.ts";

export interface SinkOptions extends HttpsOptions {
  /** Where files may be; none when absent. */
  readonly fileDirectory?: string;
}

export class Sinks implements AuditSinks {
  readonly #options: SinkOptions;

  constructor(options: SinkOptions) {
    this.#options = options;
  }

  open(target: SinkTarget): AuditSink {
    switch (target.kind) {
      case "File":
        return new FileSink(this.#fileNamed(target.name));
      case "Otlp":
        return new OtlpSink(target, this.#options);
      case "Webhook":
        return new WebhookSink(target, this.#options);
    }
  }

  #fileNamed(name: string): string {
    const { fileDirectory } = this.#options;
    if (fileDirectory === undefined) {
      throw new Stalled(
        "SinkNotAllowed",
        "spec.file: the installation allows no files; set audit.fileDirectory in the operator's configuration",
      );
    }
    return path.join(fileDirectory, name);
  }
}
