/** A platform whose values are in a Key Vault, both in memory. */
import { createSecretKey, randomBytes } from "node:crypto";
import type { SecretEntry } from "../../../crds/secret.ts";
import { FakeAuditLog } from "../../ports/fake-audit-log.ts";
import { FakeDatabase } from "../../ports/fake-database.ts";
import { FakeKeptEntries } from "../../ports/fake-kept-entries.ts";
import { FakeKeyStore } from "../../ports/fake-key-store.ts";
import { FakeTargetVault } from "../../ports/fake-target-vault.ts";
import { FakeVaultStore } from "../../ports/fake-vault-store.ts";
import { actor, identity, lifecycle } from "../../ports/samples.ts";
import type { TargetVault } from "../../ports/target-vault.ts";
import { type Lifecycle, type SecretRecord, UNLED, type Unled, type Writer } from "../../ports/vault-store.ts";
import { Sensitive } from "../../sensitive.ts";
import { open, seal } from "../envelope.ts";
import { KeptSettlement, type KeptSettlementParts } from "../kept-settlement.ts";
import { KeyVaultStorage } from "../key-vault-storage.ts";
import { KeyRing } from "../keyring.ts";
import { sealedStorage } from "../storage.ts";
import { Vault } from "../vault.ts";

export const INSTALLATION = "fake";

export class KeptWorld {
  readonly database: FakeDatabase;
  readonly store: FakeVaultStore;
  readonly entries: FakeKeptEntries;
  readonly target = new FakeTargetVault();
  readonly #ring: KeyRing;
  writer: Writer = { epoch: 0n };
  vault: Vault;
  /** False: the project says that its values are in PostgreSQL. */
  orchestrates = true;

  private constructor(database: FakeDatabase, ring: KeyRing) {
    this.database = database;
    this.store = new FakeVaultStore(database);
    this.entries = new FakeKeptEntries(database, this.store);
    this.#ring = ring;
    this.vault = this.platform();
  }

  static async start(): Promise<KeptWorld> {
    const key = createSecretKey(randomBytes(32));
    const database = new FakeDatabase();
    const ring = await KeyRing.open(new FakeKeyStore(database), {
      id: "root",
      source: "the root key",
      wrap: async (plaintext, context) => seal(key, plaintext, context),
      unwrap: async (wrapped, context) => open(key, wrapped, context) ?? Buffer.alloc(0),
    });
    const world = new KeptWorld(database, ring);
    await world.lead();
    await ring.project(world.writer, identity("one").project);
    return world;
  }

  /** Another process; its calls to the vault and to PostgreSQL may be made mortal. */
  platform(target: TargetVault = this.target, store: FakeVaultStore = this.store): Vault {
    const audit = new FakeAuditLog(this.database);
    const kept = new KeyVaultStorage({ vault: target, entries: this.entries, audit, installation: INSTALLATION });
    return new Vault({
      store,
      keys: this.#ring,
      audit,
      storage: async () => (this.orchestrates ? kept : sealedStorage),
    });
  }

  /** A new leader. */
  async lead(): Promise<void> {
    this.writer = { epoch: await this.database.acquireEpoch("test") };
  }

  apply(
    entries: readonly SecretEntry[],
    { name = "one", as = lifecycle }: { readonly name?: string; readonly as?: Lifecycle } = {},
  ): Promise<SecretRecord> {
    return this.vault.describe(identity(name)).then(async (seen) => {
      const request = { identity: identity(name), seen, entries, sources: new Map(), lifecycle: as, actor };
      return (await this.vault.store(this.writer, request)).record;
    });
  }

  async put(
    entries: readonly SecretEntry[],
    values: Readonly<Record<string, string | Buffer>>,
    { vault = this.vault, writer = UNLED }: { readonly vault?: Vault; readonly writer?: Writer | Unled } = {},
  ): Promise<SecretRecord> {
    const seen = await vault.describe(identity("one"));
    const given = new Map(Object.entries(values).map(([key, value]) => [key, new Sensitive(Buffer.from(value))]));
    const request = { identity: identity("one"), seen, entries, readers: undefined, values: given, lifecycle, actor };
    return (await vault.put(writer, request)).record;
  }

  async record(name = "one"): Promise<SecretRecord> {
    const record = await this.vault.describe(identity(name));
    if (record === undefined) throw new Error(`${name} is not stored`);
    return record;
  }

  async values(version?: number, name = "one"): Promise<Record<string, string>> {
    const options = { actor, purpose: "Test", ...(version !== undefined && { version }) };
    const opened = await this.vault.open(await this.record(name), options);
    return Object.fromEntries([...opened.values].map(([key, value]) => [key, value.revealText()]));
  }

  /** What the vault shows as current. */
  shown(entryName: string): string | undefined {
    return this.target.isDeleted(entryName) ? undefined : this.target.versions(entryName).at(-1)?.value;
  }

  /** As another process each time. */
  async settle(): Promise<number> {
    const { settled, failures } = await this.settlement().settle(this.writer, 100);
    if (failures.length > 0) throw failures[0];
    return settled;
  }

  settlement(parts: Partial<Pick<KeptSettlementParts, "open" | "now">> = {}): KeptSettlement {
    return new KeptSettlement({
      entries: this.entries,
      vault: this.vault,
      audit: new FakeAuditLog(this.database),
      installation: INSTALLATION,
      assertLeading: () => {},
      open: async () => this.target,
      ...parts,
    });
  }

  actions(): readonly string[] {
    return this.database.audit.map(({ entry }) => entry.action).filter((action) => /^(Secret|VaultEntry)/.test(action));
  }
}
