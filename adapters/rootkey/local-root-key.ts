import { createHmac, type KeyObject } from "node:crypto";
import { Unavailable } from "../../core/errors.ts";
import type { RootKey } from "../../core/ports/key-store.ts";
import { open, seal } from "../../core/vault/envelope.ts";

/** A root key that is held in memory. Its id is derived from the key itself, so another key has another id. */
export class LocalRootKey implements RootKey {
  readonly id: string;
  readonly source: string;
  readonly #key: KeyObject;

  /** `provider` begins the id; `key` has 32 bytes. */
  constructor(provider: string, key: KeyObject, source = `the ${provider} given`) {
    const name = createHmac("sha256", key).update("mazevault root key id").digest("hex").slice(0, 16);
    this.id = `${provider}:${name}`;
    this.source = source;
    this.#key = key;
  }

  async wrap(plaintext: Buffer, additionalData: Buffer): Promise<Buffer> {
    return seal(this.#key, plaintext, additionalData);
  }

  async unwrap(wrapped: Buffer, additionalData: Buffer): Promise<Buffer> {
    const plaintext = open(this.#key, wrapped, additionalData);
    if (plaintext === undefined) {
      throw new Unavailable(
        "KeyUnavailable",
        `root key ${this.id} does not open the installation's key: it is not the key that wrapped it, or the stored key was changed`,
      );
    }
    return plaintext;
  }
}
