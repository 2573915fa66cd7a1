/** Tells a receiver of a pending version, which takes it or refuses it. */
import type { RotationWebhook } from "../../../core/ports/apply-targets.ts";
import type { Vault } from "../../../core/vault/vault.ts";
import type { WebhookApplySpec } from "../../../crds/rotation-apply.ts";
import type { KubernetesApi } from "../../runtime/transport.ts";
import { type Applier, type ApplyOutcome, outcomeOf, type PendingContext } from "./applier.ts";
import { referredValue } from "./reference.ts";

export interface WebhookApplierParts {
  readonly api: KubernetesApi;
  readonly vault: Pick<Vault, "open">;
  readonly webhook: RotationWebhook;
  readonly installation: string;
}

export class WebhookApplier implements Applier {
  readonly #parts: WebhookApplierParts;
  readonly #spec: WebhookApplySpec;

  constructor(parts: WebhookApplierParts, spec: WebhookApplySpec) {
    this.#parts = parts;
    this.#spec = spec;
  }

  async apply(context: PendingContext, signal: AbortSignal): Promise<ApplyOutcome> {
    const { secret, record, pending } = context;
    const { api, webhook, installation } = this.#parts;
    const { url, caBundle: ca, hmacSecretRef: ref } = this.#spec;
    const { namespace = "", name } = secret.metadata;
    const hmacKey = await referredValue(api, "webhook.hmacSecretRef", { namespace, ...ref }, signal);
    try {
      const id = `${installation}.${record.id}.${pending.version}`;
      const body = JSON.stringify({
        type: "mazevault.rotation",
        installation,
        id,
        namespace,
        name,
        version: pending.version,
        keys: [...pending.keys].sort(),
        ...(this.#spec.includeValues === true && { values: await this.#values(context) }),
      });
      return outcomeOf(await webhook.send({ url, ca, hmacKey }, { id, body }, signal), pending.since);
    } finally {
      hmacKey.dispose();
    }
  }

  async #values({ record, pending, actor }: PendingContext): Promise<Readonly<Record<string, string>>> {
    const purpose = `send to ${new URL(this.#spec.url).host}`;
    const { version, keys } = pending;
    const { values } = await this.#parts.vault.open(record, { version, keys, actor, purpose });
    try {
      return Object.fromEntries([...values].map(([key, value]) => [key, value.reveal().toString("base64")]));
    } finally {
      for (const value of values.values()) value.dispose();
    }
  }
}
