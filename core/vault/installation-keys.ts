import { Unavailable } from "../errors.ts";
import type { KeyStore, RootKey, WrappedKey } from "../ports/key-store.ts";
import { importKey, keyContext } from "./envelope.ts";
import { WrappingKey } from "./wrapping-key.ts";

/** The root key in use and, while it is being replaced, the one before. */
export interface RootKeys {
  readonly current: RootKey;
  readonly previous?: RootKey;
}

/**
 * The versions of the installation key, unwrapped. What was replaced stays in memory: somebody may be about to open a key
 * that was read before it was wrapped anew.
 */
export class InstallationKeys {
  readonly #store: KeyStore;
  readonly #installationId: string;
  readonly #roots: RootKeys;
  readonly #known = new Map<string, WrappingKey>();
  #newest: WrappingKey | undefined;

  private constructor(store: KeyStore, installationId: string, roots: RootKeys) {
    this.#store = store;
    this.#installationId = installationId;
    this.#roots = roots;
  }

  /** Throws `Unavailable("KeyUnavailable")` that names the root key which is missing. */
  static async open(store: KeyStore, installationId: string, roots: RootKeys): Promise<InstallationKeys> {
    const keys = new InstallationKeys(store, installationId, roots);
    await keys.reload();
    return keys;
  }

  /** Wraps what is new. */
  get current(): WrappingKey {
    if (this.#newest === undefined) throw lost();
    return this.#newest;
  }

  /** The version that wrapped something; another replica may have made it. */
  async find(id: string): Promise<WrappingKey | undefined> {
    if (!this.#known.has(id)) await this.reload();
    return this.#known.get(id);
  }

  async byId(id: string): Promise<WrappingKey> {
    const key = await this.find(id);
    if (key === undefined)
      throw new Unavailable("TamperDetected", `there is no installation key ${id}; see the runbook`);
    return key;
  }

  async reload(): Promise<void> {
    const versions = await this.#store.load("Installation", "");
    for (const key of versions) {
      if (!this.#known.has(key.id)) this.#known.set(key.id, await this.#unwrap(key));
    }
    this.#newest = this.#known.get(versions.at(-1)?.id ?? "");
    if (this.#newest === undefined) throw lost();
  }

  async #unwrap(key: WrappedKey): Promise<WrappingKey> {
    const root = rootOf(this.#roots, key);
    const material = await root.unwrap(key.wrapped, keyContext(this.#installationId, key));
    return new WrappingKey(key.id, importKey(material), this.#store);
  }
}

/** The root key that wrapped this version of the installation key. */
export function rootOf({ current, previous }: RootKeys, { version, wrappedBy }: WrappedKey): RootKey {
  const root = [current, previous].find((each) => each?.id === wrappedBy);
  if (root !== undefined) return root;
  const given = [current, previous].flatMap((each) => (each === undefined ? [] : [`${each.source} is ${each.id}`]));
  throw new Unavailable(
    "KeyUnavailable",
    `version ${version} of the installation's key was wrapped by root key ${wrappedBy}, which is missing: ${given.join(", ")}; ` +
      "check that the root key file or passphrase is the one this database was set up with, or, where it is being replaced, name the other one in keys.previous",
  );
}

const lost = (): Unavailable => new Unavailable("TamperDetected", "the installation has lost its key; see the runbook");
