/** A signed POST by which something is told of new values, after https://www.standardwebhooks.com. */
import { Unavailable, Waiting } from "../../core/errors.ts";
import type { ApplyAnswer, RotationMessage, RotationWebhook, WebhookTarget } from "../../core/ports/apply-targets.ts";
import { type HttpsOptions, HttpsPost } from "../auditsinks/https.ts";
import { webhookSignature } from "../auditsinks/webhook.ts";
import { refusedHost } from "./hosts.ts";

export interface WebhookOptions extends HttpsOptions {
  readonly allowedHosts: readonly string[];
}

export class HttpsWebhook implements RotationWebhook {
  readonly #options: WebhookOptions;

  constructor(options: WebhookOptions) {
    this.#options = { ...options, target: "rotation" };
  }

  async send(
    { url, ca, hmacKey }: WebhookTarget,
    { id, body }: RotationMessage,
    signal: AbortSignal,
  ): Promise<ApplyAnswer> {
    const notAllowed = refusedHost(new URL(url).hostname, this.#options.allowedHosts);
    if (notAllowed !== undefined) return notAllowed;
    const post = new HttpsPost(url, { ...(ca !== undefined && { ca }) }, this.#options);
    const timestamp = String(Math.floor(Date.now() / 1_000));
    const signature = webhookSignature(hmacKey, `${id}.${timestamp}.${body}`);
    try {
      const headers = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature };
      await post.send(headers, body, signal);
      return { kind: "Done" };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Unavailable || error instanceof Waiting)) throw error;
      return { kind: error.code === "SinkRefused" ? "Refused" : "Unreachable", message: error.message };
    } finally {
      await post.close();
    }
  }
}
