/** What the leader does for identities: keys that sign tokens, the first admin's password, what is over. */
import { setTimeout as delay } from "node:timers/promises";
import { isAlreadyExists, isNotFound } from "../controllers/runtime/api-error.ts";
import { coreSecrets } from "../controllers/runtime/resource-type.ts";
import type { KubernetesApi } from "../controllers/runtime/transport.ts";
import { Fenced } from "../core/errors.ts";
import type { IdempotentRequests } from "../core/idempotency/requests.ts";
import type { Identities } from "../core/identity/identities.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import { FIRST_ADMIN_SECRET } from "../crds/installation.ts";
import { Chores, type ChoresDependencies } from "./chores.ts";

export interface IdentityChoresDependencies extends ChoresDependencies {
  readonly identities: Pick<Identities, "rotateKeys" | "ensureFirstAdmin" | "forgetExpired">;
  readonly idempotency: Pick<IdempotentRequests, "forgetExpired">;
  /** Fenced. */
  readonly api: Pick<KubernetesApi, "create" | "get">;
  /** Of the installation. */
  readonly namespace: string;
}

const EVERY_MS = 600_000;
const RETRY_MS = 5_000;

export class IdentityChores extends Chores<IdentityChoresDependencies> {
  protected async work(writer: Writer, signal: AbortSignal): Promise<void> {
    const { identities, idempotency, log, onFenced } = this.deps;
    let handedOver = false;
    while (!signal.aborted) {
      let pauseMs = EVERY_MS;
      try {
        await identities.rotateKeys(writer);
        if (!handedOver) await this.#handOverFirstAdmin(signal);
        handedOver = true;
        await identities.forgetExpired();
        await idempotency.forgetExpired();
      } catch (error) {
        if (error instanceof Fenced) onFenced(error);
        else if (!signal.aborted) log.warn({ chore: "identities", error }, "housekeeping failed");
        pauseMs = RETRY_MS;
      }
      await delay(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  /** Looked for first: a restart must not write, and hashing a password takes a moment and much memory. */
  async #handOverFirstAdmin(signal: AbortSignal): Promise<void> {
    const { identities, api, namespace, log } = this.deps;
    const place = { namespace, name: FIRST_ADMIN_SECRET };
    const standing = await api.get(coreSecrets, place, { metadataOnly: true, signal }).catch((error: unknown) => {
      if (isNotFound(error, FIRST_ADMIN_SECRET)) return undefined;
      throw error;
    });
    const admin = standing === undefined ? await identities.ensureFirstAdmin() : undefined;
    if (admin === undefined) return;
    const secret = {
      apiVersion: "v1",
      kind: "Secret",
      metadata: place,
      type: "kubernetes.io/basic-auth",
      stringData: { username: admin.email, password: admin.password },
    };
    try {
      await api.create(coreSecrets, secret, { fieldManager: "mazevault-identity", metadataOnly: true, signal });
      log.warn(
        { secret: `${namespace}/${FIRST_ADMIN_SECRET}` },
        "made the first admin: log in, and change the password",
      );
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
  }
}
