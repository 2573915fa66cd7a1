import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { Unavailable } from "../errors.ts";
import type { Writer } from "../ports/vault-store.ts";
import type { InstallationKey, KeyRing } from "../vault/keyring.ts";
import { Authenticity } from "./authenticity.ts";

export interface SigningKey {
  readonly id: string;
  readonly private: KeyObject;
  readonly public: KeyObject;
  /** When no token of it can be valid any more; undefined for the one that signs. */
  readonly endsAt?: Date;
}

export interface IdentityKeysOptions {
  readonly keys: KeyRing;
  /** Age at which the next key begins to sign. */
  readonly rotateAfterMs: number;
  /** How long a token is valid. */
  readonly tokenMs: number;
  readonly now: () => Date;
}

/** So long a replica may sign with a key after the next one was made. */
const KNOWN_FOR_MS = 60_000;
/** An unknown key id is looked up so often, however many ask. */
const LOOK_UP_EVERY_MS = 1_000;

/** DER of a PKCS #8 PrivateKeyInfo of Ed25519 up to its seed (RFC 8410, 7). */
const PKCS8_ED25519 = Buffer.from("302e020100300506032b657004220420", "hex");

/** The keys behind logins. The leader makes them; every replica reads them. */
export class IdentityKeys {
  readonly #options: IdentityKeysOptions;
  #authenticity: Promise<Authenticity> | undefined;
  #signing: { readonly keys: readonly SigningKey[]; readonly at: number } | undefined;
  #loading: Promise<readonly SigningKey[]> | undefined;

  constructor(options: IdentityKeysOptions) {
    this.#options = options;
  }

  /** Makes what does not exist yet, and the next signing key when the newest one is old. */
  async rotate(writer: Writer): Promise<void> {
    const { keys, rotateAfterMs, now } = this.#options;
    await keys.makeIdentityKey(writer, "Identity", 1);
    const newest = (await keys.identityKeys("Token")).at(-1);
    if (newest !== undefined && now().getTime() - newest.createdAt.getTime() < rotateAfterMs) return;
    await keys.makeIdentityKey(writer, "Token", (newest?.version ?? 0) + 1);
    this.#signing = undefined;
  }

  authenticity(): Promise<Authenticity> {
    this.#authenticity ??= this.#loadAuthenticity().catch((error: unknown) => {
      this.#authenticity = undefined;
      throw error;
    });
    return this.#authenticity;
  }

  /** The one that signs. */
  async signing(): Promise<SigningKey> {
    const newest = (await this.#known(KNOWN_FOR_MS)).at(-1);
    return newest ?? missing("Token");
  }

  /** The key of that id while a token of it can be valid. */
  async verifying(id: string): Promise<SigningKey | undefined> {
    const find = (keys: readonly SigningKey[]) => keys.find((key) => key.id === id);
    const key = find(await this.#known(KNOWN_FOR_MS)) ?? find(await this.#known(LOOK_UP_EVERY_MS));
    return key === undefined || (key.endsAt !== undefined && key.endsAt <= this.#options.now()) ? undefined : key;
  }

  async #loadAuthenticity(): Promise<Authenticity> {
    const { keys } = this.#options;
    const [key = missing("Identity")] = await keys.identityKeys("Identity");
    return new Authenticity(key.key, keys.installationId);
  }

  async #known(forMs: number): Promise<readonly SigningKey[]> {
    if (this.#signing !== undefined && performance.now() - this.#signing.at < forMs) return this.#signing.keys;
    this.#loading ??= this.#loadSigning().finally(() => {
      this.#loading = undefined;
    });
    return this.#loading;
  }

  async #loadSigning(): Promise<readonly SigningKey[]> {
    const at = performance.now();
    const stored = await this.#options.keys.identityKeys("Token");
    const keys = stored.map((key, index) => this.#signingKey(key, stored[index + 1]));
    if (keys.length > 0) this.#signing = { keys, at };
    return keys;
  }

  #signingKey({ id, key }: InstallationKey, next: InstallationKey | undefined): SigningKey {
    const seed = key.export();
    const pkcs8 = Buffer.concat([PKCS8_ED25519, seed]);
    const privateKey = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
    for (const bytes of [seed, pkcs8]) bytes.fill(0);
    const halves = { id, private: privateKey, public: createPublicKey(privateKey) };
    if (next === undefined) return halves;
    return { ...halves, endsAt: new Date(next.createdAt.getTime() + KNOWN_FOR_MS + this.#options.tokenMs) };
  }
}

function missing(purpose: string): never {
  throw new Unavailable("KeyUnavailable", `there is no ${purpose} key yet; the leading operator makes it`);
}
