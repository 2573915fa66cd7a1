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

/** Whose a file is, and who may do what with it, as `stat` says. */
export interface Ownership {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** Whom a process acts as. */
export interface Identity {
  readonly uid: number;
  readonly groups: readonly number[];
}

/**
 * Whether anybody but the process can do anything with the file. A volume of Kubernetes hands a Secret to a process that is not root as a file
 * of root that one group may read, which is the pod's alone (`fsGroup`): that is as good as a file of its own.
 */
export function othersMayRead({ mode, uid, gid }: Ownership, by: Identity): boolean {
  const handedOver = uid === 0 && by.uid !== 0 && by.groups.includes(gid) && (mode & 0o077) === 0o040;
  return (mode & 0o077) !== 0 && !handedOver;
}

const ownIdentity = (): Identity => ({
  uid: process.geteuid?.() ?? 0,
  groups: [process.getegid?.() ?? 0, ...(process.getgroups?.() ?? [])],
});

/** Reads the root key. Throws `Unavailable("KeyUnavailable")` that says what is wrong with the file. */
export function openRootKeyFile(path: string): LocalRootKey {
  const refuse = (fault: string, cause?: unknown) =>
    new Unavailable("KeyUnavailable", `root key file ${path}: ${fault}`, { cause });
  let text: string;
  let file: Ownership;
  try {
    file = statSync(path);
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
  if (othersMayRead(file, ownIdentity())) throw refuse("others can read it; set its mode to 0600");
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
