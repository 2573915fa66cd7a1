import { createSecretKey, randomBytes, scrypt } from "node:crypto";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { Unavailable } from "../../core/errors.ts";
import { createDurably } from "./file.ts";
import { LocalRootKey } from "./local-root-key.ts";

const derive = promisify<string, Buffer, number, { N: number; r: number; p: number; maxmem: number }, Buffer>(scrypt);

/** RFC 7914. Not secret, but needed to derive the same key again; kept beside the database's configuration. */
export interface ScryptParameters {
  /** Base64, 16 bytes. */
  readonly salt: string;
  /** Power of two, at least 2^17. */
  readonly N: number;
  readonly r: number;
  readonly p: number;
}

const KEY_BYTES = 32;
const SALT_BYTES = 16;
const FEWEST_BYTES_OF_SALT = 16;
const LEAST_COST = 2 ** 17;
const MOST_COST = 2 ** 22;
const SHORTEST_PASSPHRASE = 16;

export function newScryptParameters(): ScryptParameters {
  return { salt: randomBytes(SALT_BYTES).toString("base64"), N: LEAST_COST, r: 8, p: 1 };
}

/** Stores new parameters. As `createRootKeyFile` it never overwrites. */
export function createScryptParametersFile(path: string): void {
  createDurably(path, `${JSON.stringify(newScryptParameters())}\n`);
}

/** The parameters stored in `path` (JSON). Throws `Unavailable("KeyUnavailable")` that says what is wrong with the file. */
export function readScryptParametersFile(path: string): ScryptParameters {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as ScryptParameters;
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    const fault = missing
      ? `it does not exist; restore it, or, for a root key that is to be new, make it, the same on every replica: ${makingIt(path)}`
      : "it cannot be read";
    throw new Unavailable("KeyUnavailable", `scrypt parameters in ${path}: ${fault}`, { cause });
  }
}

/** Without what JSON would escape outside of the single quotes, as this is read in a log. */
const makingIt = (path: string): string =>
  `printf '{"salt":"%s","N":${LEAST_COST},"r":8,"p":1}' $(openssl rand -base64 ${SALT_BYTES}) > ${path}`;

/**
 * Derives the root key by scrypt, which takes 128 * N * r bytes of memory for some tenths of a second. Throws
 * `Unavailable("KeyUnavailable")` when passphrase or parameters are too weak; a wrong passphrase gives a key with
 * another id.
 *
 * @param source where the passphrase was read, for whoever looks for it
 */
export async function openPassphrase(
  passphrase: string,
  parameters: ScryptParameters,
  source?: string,
): Promise<LocalRootKey> {
  const { N, r, p } = parameters;
  const salt = Buffer.from(String(parameters.salt), "base64");
  // The same passphrase can be typed as different code points.
  const normalized = passphrase.normalize("NFC");
  if ([...normalized].length < SHORTEST_PASSPHRASE) {
    throw new Unavailable("KeyUnavailable", `the passphrase has fewer than ${SHORTEST_PASSPHRASE} characters`);
  }
  const costly = Number.isInteger(Math.log2(N)) && N >= LEAST_COST && N <= MOST_COST && r === 8 && p === 1;
  if (!costly || salt.length < FEWEST_BYTES_OF_SALT) {
    throw new Unavailable(
      "KeyUnavailable",
      `scrypt parameters must be N from 2^17 to 2^22, r = 8, p = 1 and a salt of at least ${FEWEST_BYTES_OF_SALT} bytes`,
    );
  }
  const bytes = await derive(normalized, salt, KEY_BYTES, { N, r, p, maxmem: 256 * N * r });
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return new LocalRootKey("passphrase", key, source);
}
