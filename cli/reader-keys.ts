/**
 * Keys of protection EndToEnd: those of one's own, with their private halves, and the fingerprints of others that were
 * accepted. The server hands out the readers' public keys, so it alone must not decide whom a value is sealed for.
 */
import { readdirSync, readFileSync, renameSync, statSync } from "node:fs";
import path from "node:path";
import { z } from "zod";
import { Sensitive } from "../core/sensitive.ts";
import { newReaderKey, readerFingerprint } from "../core/vault/end-to-end.ts";
import type { Place } from "./context.ts";
import { CommandError, EXIT, UsageError } from "./errors.ts";
import { writeOwnFile } from "./input.ts";

const keyFile = z.strictObject({
  kind: z.literal("ReaderKey"),
  name: z.string(),
  publicKey: z.string(),
  privateKey: z.string(),
});

export interface OwnKey {
  readonly name: string;
  readonly publicKey: string;
  readonly fingerprint: string;
  readonly privateKey: Sensitive;
}

const OTHERS = 0o077;

export function readOwnKey(file: string): OwnKey {
  let text: string;
  try {
    if ((statSync(file).mode & OTHERS) !== 0)
      throw new UsageError(`${file} can be read by others; let nobody but you: chmod 600 ${file}`);
    text = readFileSync(file, "utf8");
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${file} cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
  try {
    const { name, publicKey, privateKey } = keyFile.parse(JSON.parse(text));
    return { name, publicKey, fingerprint: readerFingerprint(publicKey), privateKey: new Sensitive(privateKey) };
  } catch {
    // What the parser says may quote the private key.
    throw new UsageError(`${file} is no file of mazevault reader-keys new`);
  }
}

/** One's own, a file each. */
export class OwnKeys {
  readonly folder: string;

  constructor(settingsFolder: string) {
    this.folder = path.join(settingsFolder, "reader-keys");
  }

  create(name: string): { readonly file: string; readonly publicKey: string; readonly fingerprint: string } {
    const { publicKey, privateKey } = newReaderKey();
    const file = this.fileOf(name);
    const content = { kind: "ReaderKey", name, publicKey, privateKey: privateKey.revealText() };
    writeOwnFile(file, `${JSON.stringify(content, null, 2)}\n`);
    privateKey.dispose();
    return { file, publicKey, fingerprint: readerFingerprint(publicKey) };
  }

  all(): readonly OwnKey[] {
    let files: string[];
    try {
      files = readdirSync(this.folder);
    } catch {
      return [];
    }
    return files
      .filter((file) => file.endsWith(".json"))
      .sort()
      .map((file) => readOwnKey(path.join(this.folder, file)));
  }

  fileOf(name: string): string {
    return path.join(this.folder, `${name}.json`);
  }
}

export const FINGERPRINT = /^SHA256:[A-Za-z0-9+/]{43}$/;

const acceptedOfServer = z.strictObject({
  /** By NAMESPACE/READER. */
  readers: z.record(z.string(), z.string().regex(FINGERPRINT)),
  /** NAMESPACE/NAME of what was sealed from here: a server that denies it later is not believed. */
  sealed: z.array(z.string()),
});
const accepted = z.record(z.string(), acceptedOfServer);
type Accepted = z.infer<typeof accepted>;

export interface Reader {
  readonly name: string;
  readonly publicKey: string;
}

/** Of others, as accepted for one server. */
export class AcceptedKeys {
  readonly #file: string;
  readonly #server: string;

  constructor(settingsFolder: string, server: string) {
    this.#file = path.join(settingsFolder, "readers.json");
    this.#server = server;
  }

  get readers(): Readonly<Record<string, string>> {
    return this.#ofServer(this.#read()).readers;
  }

  accept(reader: string, fingerprint: string, replace: boolean): void {
    const before = this.readers[reader];
    if (before !== undefined && before !== fingerprint && !replace) {
      throw new CommandError(
        EXIT.conflict,
        `${reader} has another key so far, ${before}; once you know why it changed, add it with --replace`,
      );
    }
    this.#change(({ readers, sealed }) => ({ readers: { ...readers, [reader]: fingerprint }, sealed }));
  }

  forget(reader: string): void {
    if (this.readers[reader] === undefined) throw new CommandError(EXIT.notFound, `no key of ${reader} was accepted`);
    this.#change(({ readers: { [reader]: _, ...readers }, sealed }) => ({ readers, sealed }));
  }

  wasSealed(place: Place): boolean {
    return this.#ofServer(this.#read()).sealed.includes(nameOf(place));
  }

  noteSealed(place: Place): void {
    if (this.wasSealed(place)) return;
    this.#change(({ readers, sealed }) => ({ readers, sealed: [...sealed, nameOf(place)].sort() }));
  }

  noteManaged(place: Place): void {
    if (!this.wasSealed(place)) return;
    this.#change(({ readers, sealed }) => ({ readers, sealed: sealed.filter((each) => each !== nameOf(place)) }));
  }

  /** Throws unless each has the key that was accepted for it. */
  assertAccepted(namespace: string, readers: readonly Reader[]): void {
    const { readers: known } = this.#ofServer(this.#read());
    for (const { name, publicKey } of readers) {
      const reader = `${namespace}/${name}`;
      if (known[reader] === readerFingerprint(publicKey)) continue;
      const add = `mazevault reader-keys add ${reader} FINGERPRINT`;
      const ask = `have the reader read out the fingerprint that mazevault reader-keys fingerprint ${name} shows`;
      throw new CommandError(
        EXIT.conflict,
        known[reader] === undefined
          ? `nothing was sent: the key of reader ${reader} was not accepted here yet; ${ask}, and accept that one: ${add}`
          : `nothing was sent: the server names another key for reader ${reader} than the one that was accepted, ${known[reader]}; ${ask}, and only if it really changed: ${add} --replace`,
      );
    }
  }

  #ofServer(all: Accepted): Accepted[string] {
    return all[this.#server] ?? { readers: {}, sealed: [] };
  }

  #read(): Accepted {
    let text: string;
    try {
      text = readFileSync(this.#file, "utf8");
    } catch (error) {
      // Were it taken for empty for any other reason, a changed key would pass for a new one.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
      throw new UsageError(`${this.#file} cannot be read (${(error as NodeJS.ErrnoException).code})`);
    }
    try {
      return accepted.parse(JSON.parse(text));
    } catch {
      throw new UsageError(`${this.#file} is damaged; restore it, or remove it and accept the keys of readers again`);
    }
  }

  #change(change: (before: Accepted[string]) => Accepted[string]): void {
    const all = this.#read();
    const next = { ...all, [this.#server]: change(this.#ofServer(all)) };
    const written = `${this.#file}.${process.pid}`;
    writeOwnFile(written, `${JSON.stringify(next, null, 2)}\n`);
    renameSync(written, this.#file);
  }
}

const nameOf = ({ namespace, name }: Place): string => `${namespace}/${name}`;
