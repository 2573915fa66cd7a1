import {
  type Argon2Algorithm,
  type Argon2Parameters,
  argon2,
  type BinaryLike,
  randomBytes,
  timingSafeEqual,
} from "node:crypto";
import { promisify } from "node:util";
import { IdentityRefused, TooManyAttempts } from "./errors.ts";

const SHORTEST = 12;
const LONGEST_BYTES = 1_024;
const NONCE_BYTES = 16;
const TAG_BYTES = 32;
/** A hash takes about this long, so there is room again by then. */
const ROOM_AFTER_MS = 1_000;

/** What a hash costs. Stored with it, so that it can be checked after they were changed. */
export interface HashCost {
  readonly memoryKiB: number;
  readonly passes: number;
  readonly parallelism: number;
}

/** OWASP Password Storage Cheat Sheet, argon2id: as strong as more memory with fewer passes, and fits a small pod. */
export const HASH_COST: HashCost = { memoryKiB: 19_456, passes: 2, parallelism: 1 };

/** NIST SP 800-63B-4, 3.1.1.2: the same characters are the same password, however a keyboard composes them. */
const normalised = (password: string): Buffer => Buffer.from(password.normalize("NFKC"), "utf8");

/** Throws `IdentityRefused` when a password must not be used for this address. */
export function requirePassword(password: string, email: string): void {
  if ([...password].length < SHORTEST) {
    throw new IdentityRefused("PasswordTooShort", `password: at least ${SHORTEST} characters`);
  }
  if (normalised(password).length > LONGEST_BYTES) {
    throw new IdentityRefused("PasswordTooLong", `password: at most ${LONGEST_BYTES} bytes`);
  }
  const [localPart] = email.split("@");
  if ([email, localPart].includes(password.trim().toLowerCase())) {
    throw new IdentityRefused(
      "PasswordIsEmail",
      "password: must not be the email address, nor what stands before its @",
    );
  }
}

export type Argon2 = (algorithm: Argon2Algorithm, parameters: Argon2Parameters) => Promise<Buffer>;

export interface PasswordHasherOptions {
  readonly cost: HashCost;
  /** So many hashes are computed at once; each takes its memory. */
  readonly atOnce: number;
  /** So many more wait; who comes then is refused. */
  readonly waiting: number;
  readonly compute?: Argon2;
}

/**
 * Hashes of passwords: argon2id (RFC 9106) in the PHC string format. They are keyed (RFC 9106, 3.1, secret value K), so
 * that whoever only reads the table cannot try likely passwords.
 */
export class PasswordHasher {
  readonly #options: PasswordHasherOptions;
  readonly #compute: Argon2;
  readonly #waiting: (() => void)[] = [];
  #running = 0;

  constructor(options: PasswordHasherOptions) {
    this.#options = options;
    this.#compute = options.compute ?? promisify(argon2);
  }

  /** Throws `TooManyAttempts` when too many wait already. */
  async hash(password: string, secret: Buffer): Promise<string> {
    const nonce = randomBytes(NONCE_BYTES);
    const { cost } = this.#options;
    return phc(cost, nonce, await this.#tag(password, secret, cost, nonce));
  }

  /** With no hash to compare with, takes as long and is false. Throws `TooManyAttempts` when too many wait already. */
  async verify(password: string, hash: string | undefined, secret: Buffer): Promise<boolean> {
    const expected = hash === undefined ? this.#nobodys() : parsePhc(hash);
    const tag = await this.#tag(password, secret, expected.cost, expected.nonce);
    return timingSafeEqual(tag, expected.tag) && hash !== undefined;
  }

  /** Whether the hash was made at another cost than one that is made now. */
  outdated(hash: string): boolean {
    const { cost } = parsePhc(hash);
    return phcCost(cost) !== phcCost(this.#options.cost);
  }

  #nobodys() {
    return { cost: this.#options.cost, nonce: randomBytes(NONCE_BYTES), tag: randomBytes(TAG_BYTES) };
  }

  async #tag(password: string, secret: BinaryLike, cost: HashCost, nonce: Buffer): Promise<Buffer> {
    await this.#enter();
    try {
      return await this.#compute("argon2id", {
        message: normalised(password),
        nonce,
        secret,
        memory: cost.memoryKiB,
        passes: cost.passes,
        parallelism: cost.parallelism,
        tagLength: TAG_BYTES,
      });
    } finally {
      this.#leave();
    }
  }

  async #enter(): Promise<void> {
    if (this.#running < this.#options.atOnce) {
      this.#running += 1;
      return;
    }
    if (this.#waiting.length >= this.#options.waiting) throw new TooManyAttempts(ROOM_AFTER_MS);
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** Whoever waited longest takes the place over. */
  #leave(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#running -= 1;
    else next();
  }
}

const unpadded = (bytes: Buffer): string => bytes.toString("base64").replaceAll("=", "");

const phcCost = ({ memoryKiB, passes, parallelism }: HashCost): string => `m=${memoryKiB},t=${passes},p=${parallelism}`;

const phc = (cost: HashCost, nonce: Buffer, tag: Buffer): string =>
  `$argon2id$v=19$${phcCost(cost)}$${unpadded(nonce)}$${unpadded(tag)}`;

const PHC = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]{43})$/;

/** Of a row whose MAC was judged, so it is one of ours. */
function parsePhc(hash: string): { readonly cost: HashCost; readonly nonce: Buffer; readonly tag: Buffer } {
  const [, memory, passes, parallelism, nonce, tag] = PHC.exec(hash) ?? [];
  if (nonce === undefined || tag === undefined) throw new Error("not a hash of argon2id in PHC string format");
  return {
    cost: { memoryKiB: Number(memory), passes: Number(passes), parallelism: Number(parallelism) },
    nonce: Buffer.from(nonce, "base64"),
    tag: Buffer.from(tag, "base64"),
  };
}
