import { createSecretKey, randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, readFileSync, statSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { Unavailable } from "../../core/errors.ts";
import { LocalRootKey } from "./local-root-key.ts";

const KEY_BYTES = 32;

/**
 * Makes a new root key: 32 random bytes in base64, in a file that only its owner can read. It never overwrites: throws
 * EEXIST when the file is there. Without a copy of it kept elsewhere, losing the file loses every secret.
 */
export function createRootKeyFile(path: string): void {
  createDurably(path, `${randomBytes(KEY_BYTES).toString("base64")}\n`);
}

/** A file that only its owner can read; it is there after a power failure before anything is wrapped with what it holds. */
export function createDurably(path: string, text: string): void {
  synced(openSync(path, "wx", 0o600), (file) => writeSync(file, text));
  synced(openSync(dirname(path), "r"), () => {});
}

function synced(file: number, use: (file: number) => void): void {
  try {
    use(file);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Reads the root key. Throws `Unavailable("KeyUnavailable")` that says what is wrong with the file. */
export function openRootKeyFile(path: string): LocalRootKey {
  const refuse = (fault: string, cause?: unknown) =>
    new Unavailable("KeyUnavailable", `root key file ${path}: ${fault}`, { cause });
  let text: string;
  let mode: number;
  try {
    mode = statSync(path).mode;
    text = readFileSync(path, "utf8").trim();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const making = `(umask 077; openssl rand -base64 ${KEY_BYTES} > ${path})`;
    throw refuse(
      code === "ENOENT"
        ? `it does not exist; restore it, or, for a root key that is to be new, make it, the same on every replica: ${making}`
        : `${code}`,
    );
  }
  if ((mode & 0o077) !== 0) throw refuse("others can read it; set its mode to 0600");
  return rootKeyIn(text, `root key file ${path}`);
}

/**
 * The root key as it stands in a file, or elsewhere: the same key has the same id wherever it is kept. Throws
 * `Unavailable("KeyUnavailable")` that says what is wrong with it.
 *
 * @param source where it was read, for whoever looks for it
 */
export function rootKeyIn(text: string, source: string): LocalRootKey {
  const refuse = (fault: string) => new Unavailable("KeyUnavailable", `${source}: ${fault}`);
  // Node's decoder skips what is not base64, so the text is held against its canonical form.
  const bytes = Buffer.from(text, "base64");
  if (bytes.toString("base64") !== text) throw refuse("it is not base64");
  if (bytes.length !== KEY_BYTES) throw refuse(`it holds ${bytes.length} bytes instead of ${KEY_BYTES}`);
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return new LocalRootKey("file", key, source);
}
