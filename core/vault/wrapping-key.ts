import type { KeyObject } from "node:crypto";
import { Unavailable } from "../errors.ts";
import type { KeyStore } from "../ports/key-store.ts";
import type { Unled, Writer } from "../ports/vault-store.ts";
import { seal } from "./envelope.ts";

/**
 * NIST SP 800-38D, section 8.3, allows 2^32 invocations of GCM per key with random nonces; half of it leaves room for
 * uses that were reserved and lost in a crash.
 */
export const MOST_USES = 2n ** 31n;
/** Reserved at a time, so that counting costs one write in 65,536 wraps. */
const BLOCK = 65_536;

/** A key that wraps other keys, and counts durably how often it did. */
export class WrappingKey {
  readonly id: string;
  readonly #key: KeyObject;
  readonly #store: KeyStore;
  #reserved = 0;
  #reserving: Promise<void> | undefined;

  constructor(id: string, key: KeyObject, store: KeyStore) {
    this.id = id;
    this.#key = key;
    this.#store = store;
  }

  /** Throws `Unavailable("KeyUnavailable")` when the key has been used up. */
  async wrap(writer: Writer | Unled, plaintext: Buffer, additionalData: Buffer): Promise<Buffer> {
    while (this.#reserved === 0) {
      this.#reserving ??= this.#reserve(writer).finally(() => {
        this.#reserving = undefined;
      });
      await this.#reserving;
    }
    this.#reserved -= 1;
    return seal(this.#key, plaintext, additionalData);
  }

  /** For unwrapping; decryption is not limited. */
  get key(): KeyObject {
    return this.#key;
  }

  async #reserve(writer: Writer | Unled): Promise<void> {
    const total = await this.#store.reserveUses(writer, this.id, BLOCK);
    if (total > MOST_USES) {
      throw new Unavailable(
        "KeyUnavailable",
        `key ${this.id} was used ${MOST_USES} times, which is as often as AES-GCM allows; a new version of it is needed`,
      );
    }
    this.#reserved = BLOCK;
  }
}
