/** A platform with one secret whose entries come from outside, its parts in memory. */
import { createSecretKey, randomBytes } from "node:crypto";
import type { SecretEntry } from "../../../crds/secret.ts";
import { Waiting } from "../../errors.ts";
import { FakeAuditLog } from "../../ports/fake-audit-log.ts";
import { FakeDatabase } from "../../ports/fake-database.ts";
import { FakeKeyStore } from "../../ports/fake-key-store.ts";
import { FakeSyncStore } from "../../ports/fake-sync-store.ts";
import { FakeVaultStore } from "../../ports/fake-vault-store.ts";
import { actor, identity, lifecycle } from "../../ports/samples.ts";
import type { SourceEntry } from "../../ports/sync-store.ts";
import { type SecretRecord, UNLED, type Unled, type Writer } from "../../ports/vault-store.ts";
import { Sensitive } from "../../sensitive.ts";
import { open, seal } from "../../vault/envelope.ts";
import { KeyRing } from "../../vault/keyring.ts";
import { Vault } from "../../vault/vault.ts";
import type { Expected } from "../exchange.ts";

export const SECRET = "one";
const SCOPE = identity(SECRET);
export const entryNameOf = (key: string): string => `${SECRET}--${key}`;

type Values = ReadonlyMap<string, Sensitive>;

export class Platform {
  readonly database: FakeDatabase;
  readonly store: FakeSyncStore;
  readonly vault: Vault;
  readonly keys: readonly string[];
  /** As few as a rule accepts: what loses must be readable all the same. */
  keepVersions = 2;
  readonly #entries: readonly SecretEntry[];

  readonly #versions: FakeVaultStore;
  readonly #readable = new Map<number, ReadonlyMap<string, string>>();

  private constructor(database: FakeDatabase, ring: KeyRing, keys: readonly string[]) {
    const store = new FakeVaultStore(database);
    this.#versions = store;
    this.database = database;
    this.store = new FakeSyncStore(database, store);
    this.vault = new Vault({ store, keys: ring, audit: new FakeAuditLog(database) });
    this.keys = keys;
    this.#entries = [{ key: "user", literal: "orders" }, ...keys.map((key) => ({ key, external: {} }))];
  }

  /** With external entries of these keys, of which none was ever written. */
  static async of(...keys: readonly string[]): Promise<Platform> {
    const key = createSecretKey(randomBytes(32));
    const database = new FakeDatabase();
    const ring = await KeyRing.open(new FakeKeyStore(database), {
      id: "root",
      source: "the root key",
      wrap: async (plaintext, context) => seal(key, plaintext, context),
      unwrap: async (wrapped, context) => open(key, wrapped, context) ?? Buffer.alloc(0),
    });
    await ring.project({ epoch: await database.acquireEpoch("test") }, SCOPE.project);
    return new Platform(database, ring, keys);
  }

  /** What the database's clock says, in milliseconds. */
  clock(now: () => number): void {
    this.store.now = now;
    this.#versions.now = now;
  }

  /** As through REST, by whoever does not lead. */
  async write(key: string, value: string): Promise<void> {
    await this.put(UNLED, new Map([[key, new Sensitive(Buffer.from(value))]]));
    await this.read();
  }

  async value(key: string): Promise<string | undefined> {
    return (await this.history(key)).at(-1);
  }

  /** All values that a key ever had here and that somebody could read between two passes, oldest first. */
  async history(key: string): Promise<readonly string[]> {
    await this.read();
    const values: string[] = [];
    for (const [, version] of [...this.#readable].sort(([a], [b]) => a - b)) {
      const value = version.get(key);
      if (value !== undefined && value !== values.at(-1)) values.push(value);
    }
    return values;
  }

  /** Reads what is kept, as `history` tells it from then on: after each pass and each write. */
  async read(): Promise<void> {
    const record = await this.#record();
    if (record === undefined) return;
    for (const { version } of await this.vault.versions(record)) {
      if (this.#readable.has(version)) continue;
      const { values } = await this.vault.open(record, { version, actor, purpose: "Test" });
      this.#readable.set(version, new Map([...values].map(([key, value]) => [key, value.reveal().toString("utf8")])));
    }
  }

  async versions(): Promise<number> {
    return (await this.#record())?.currentVersion ?? 0;
  }

  sources(): Promise<readonly SourceEntry[]> {
    const { namespace, namespaceUid, environment, project } = SCOPE;
    return this.store.sources({ namespace, namespaceUid, environment, project });
  }

  fingerprint(writer: Writer, key: string, value: Sensitive): Promise<string> {
    return this.vault.digester(writer, SCOPE).then((digester) => digester.fingerprint(key, value));
  }

  async open(version: number, key: string): Promise<Sensitive> {
    const record = await this.#record();
    const opened = record && (await this.vault.open(record, { version, keys: [key], actor, purpose: "Test" }));
    const value = opened?.values.get(key);
    if (value === undefined) throw new Error(`version ${version} of ${key} is not kept`);
    return value;
  }

  async fingerprintIn(version: number, key: string): Promise<string | undefined> {
    const record = await this.#record();
    return record && this.vault.fingerprintIn(record, version, key);
  }

  async put(writer: Writer | Unled, values: Values, expected?: Expected) {
    const seen = await this.#expecting(expected);
    const { record, created } = await this.vault.put(writer, {
      identity: SCOPE,
      seen,
      entries: this.#entries,
      readers: undefined,
      values,
      lifecycle: { ...lifecycle, keepVersions: this.keepVersions },
      actor,
    });
    return { id: record.id, version: record.currentVersion, entries: record.entries, created };
  }

  async keepBeside(writer: Writer, values: Values, expected: Expected) {
    const seen = await this.#expecting(expected);
    if (seen === undefined) throw new Error("nothing is stored");
    const record = await this.vault.keepBeside(writer, seen, { entries: this.#entries, values, actor });
    return { id: record.id, version: record.currentVersion, entries: record.entries };
  }

  #record(): Promise<SecretRecord | undefined> {
    return this.vault.describe(SCOPE);
  }

  async #expecting(expected: Expected | undefined): Promise<SecretRecord | undefined> {
    const record = await this.#record();
    const fingerprints = new Map(record?.entries.map(({ key, fingerprint }) => [key, fingerprint]));
    const isExpected = [...(expected ?? [])].every(([key, fingerprint]) => fingerprints.get(key) === fingerprint);
    if (!isExpected) throw new Waiting("Progressing", "it was written meanwhile", 0);
    return record;
  }
}
