import { createHmac, type KeyObject } from "node:crypto";
import { encodeFields, type Field } from "../canonical.ts";
import type { SecretIdentity } from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";

/**
 * Keyed digests that answer "did it change" without the value, bound to one secret: HMAC-SHA-256 under the project's
 * fingerprint key, 64 hex digits. A bare hash would let anybody who reads the table try likely values.
 */
export class Digester {
  readonly #key: KeyObject;
  readonly #identity: readonly Field[];
  /** A pass asks for the same digests in each of its rounds. What has bytes in it is a value, and is not kept. */
  readonly #known = new Map<string, string>();

  constructor(key: KeyObject, installationId: string, identity: SecretIdentity) {
    this.#key = key;
    const { project, environment, namespace, namespaceUid, name } = identity;
    this.#identity = [installationId, project, environment, namespace, namespaceUid, name];
  }

  /** Equal means same value in the same entry of the same secret. */
  fingerprint(key: string, value: Sensitive | string): string {
    return this.digest("fingerprint", [key, typeof value === "string" ? Buffer.from(value, "utf8") : value.reveal()]);
  }

  /** Digest of anything else that concerns this secret; purposes never collide with each other. */
  digest(purpose: string, fields: readonly Field[]): string {
    if (!fields.every((field) => typeof field === "string" || typeof field === "number"))
      return this.#digest(purpose, fields);
    const question = JSON.stringify([purpose, ...fields]);
    let digest = this.#known.get(question);
    if (digest === undefined) {
      digest = this.#digest(purpose, fields);
      this.#known.set(question, digest);
    }
    return digest;
  }

  #digest(purpose: string, fields: readonly Field[]): string {
    return createHmac("sha256", this.#key)
      .update(encodeFields(`mazevault ${purpose}`, [...this.#identity, ...fields]))
      .digest("hex");
  }
}
