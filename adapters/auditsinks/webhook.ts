/** A webhook after https://www.standardwebhooks.com: signed by HMAC, or sent with a client certificate, or both. */
import { createHmac } from "node:crypto";
import { recordsOf } from "../../core/audit/record.ts";
import type { AuditBatch, AuditSink, SinkTarget } from "../../core/ports/audit-sink.ts";
import type { Sensitive } from "../../core/sensitive.ts";
import { type HttpsOptions, HttpsPost } from "./https.ts";

const ENCODED_KEY = "whsec_";

export class WebhookSink implements AuditSink {
  readonly #post: HttpsPost;
  readonly #hmacKey: Sensitive | undefined;

  constructor({ url, tls, hmacKey }: Extract<SinkTarget, { kind: "Webhook" }>, options: HttpsOptions) {
    this.#post = new HttpsPost(url, tls, options);
    this.#hmacKey = hmacKey;
  }

  async deliver(batch: AuditBatch, signal: AbortSignal): Promise<void> {
    const { installation } = batch;
    const records = recordsOf(batch);
    const [first, last] = [records[0], records.at(-1)];
    if (first === undefined || last === undefined) return;
    // The same for the same records, so that a receiver can drop a message which it has.
    const id = `${installation}.${first.link.slice(0, 16)}.${last.link.slice(0, 16)}.${records.length}`;
    const timestamp = String(Math.floor(Date.now() / 1_000));
    const body = JSON.stringify({ type: "mazevault.audit", installation, records });
    const key = this.#hmacKey;
    const signature = key && { "webhook-signature": webhookSignature(key, `${id}.${timestamp}.${body}`) };
    await this.#post.send({ "webhook-id": id, "webhook-timestamp": timestamp, ...signature }, body, signal);
  }

  close(): Promise<void> {
    return this.#post.close();
  }
}

/** Value of the header webhook-signature. */
export function webhookSignature(hmacKey: Sensitive, content: string): string {
  const text = hmacKey.revealText();
  const key = text.startsWith(ENCODED_KEY) ? Buffer.from(text.slice(ENCODED_KEY.length), "base64") : text;
  return `v1,${createHmac("sha256", key).update(content).digest("base64")}`;
}
