/** A rule with direction Pull over one secret with external entries: the vault that it takes from, and who follows whom. */
import { createSecretKey, randomBytes } from "node:crypto";
import type { SecretEntry } from "../../../crds/secret.ts";
import { FakeAuditLog } from "../../ports/fake-audit-log.ts";
import { FakeDatabase } from "../../ports/fake-database.ts";
import { FakeKeyStore } from "../../ports/fake-key-store.ts";
import { FakeSyncStore } from "../../ports/fake-sync-store.ts";
import { FakeTargetVault } from "../../ports/fake-target-vault.ts";
import { FakeVaultStore } from "../../ports/fake-vault-store.ts";
import { actor, identity, lifecycle } from "../../ports/samples.ts";
import type { VaultEntryProperties } from "../../ports/target-vault.ts";
import { type SecretRecord, UNLED, type Unled, type Writer } from "../../ports/vault-store.ts";
import { Sensitive } from "../../sensitive.ts";
import { open, seal } from "../../vault/envelope.ts";
import { KeyRing } from "../../vault/keyring.ts";
import { Vault } from "../../vault/vault.ts";
import { pull } from "../pull.ts";
import { decidePull, type PullPlan, type Trouble, troubles, type WantedEntry } from "../pull-plan.ts";
import type { SyncResult } from "../run.ts";
import { RULE, VAULT_URL } from "./entries.ts";
import { type Death, live, type Mortal, mortality, mortalVault } from "./world.ts";

const SECRET = "one";
export const entryNameOf = (key: string): string => `${SECRET}--${key}`;

export class PullWorld {
  readonly database: FakeDatabase;
  readonly vault = new FakeTargetVault(VAULT_URL);
  readonly store: FakeSyncStore;
  readonly #platform: Vault;
  readonly #entries: readonly SecretEntry[];
  #troubled: ReadonlyMap<string, Trouble> = new Map();

  private constructor(database: FakeDatabase, ring: KeyRing, keys: readonly string[]) {
    const store = new FakeVaultStore(database);
    this.database = database;
    this.store = new FakeSyncStore(database, store);
    this.#platform = new Vault({ store, keys: ring, audit: new FakeAuditLog(database) });
    this.#entries = [{ key: "user", literal: "orders" }, ...keys.map((key) => ({ key, external: {} }))];
  }

  /** With external entries of these keys, of which none was ever written. */
  static async of(...keys: readonly string[]): Promise<PullWorld> {
    const key = createSecretKey(randomBytes(32));
    const database = new FakeDatabase();
    const ring = await KeyRing.open(new FakeKeyStore(database), {
      id: "root",
      source: "the root key",
      wrap: async (plaintext, context) => seal(key, plaintext, context),
      unwrap: async (wrapped, context) => open(key, wrapped, context) ?? Buffer.alloc(0),
    });
    await ring.project({ epoch: await database.acquireEpoch("test") }, identity(SECRET).project);
    return new PullWorld(database, ring, keys);
  }

  /** As through REST, by whoever does not lead. */
  async write(key: string, value: string): Promise<void> {
    await this.#put(UNLED, new Map([[key, new Sensitive(Buffer.from(value))]]));
  }

  /** All values that a key ever had here, oldest first. */
  async history(key: string): Promise<readonly string[]> {
    const record = await this.#record();
    if (record === undefined) return [];
    const values: string[] = [];
    for (const { version } of [...(await this.#platform.versions(record))].reverse()) {
      const opened = await this.#platform.open(record, { version, actor, purpose: "Test" });
      const value = opened.values.get(key)?.reveal().toString("utf8");
      if (value !== undefined && value !== values.at(-1)) values.push(value);
    }
    return values;
  }

  async versions(): Promise<number> {
    return (await this.#record())?.currentVersion ?? 0;
  }

  async plan(look: boolean): Promise<PullPlan> {
    const { namespace, namespaceUid, environment, project } = identity(SECRET);
    const sources = await this.store.sources({ namespace, namespaceUid, environment, project });
    const pulled = await this.store.pulled(RULE, [...new Set(sources.map(({ secretId }) => secretId))]);
    const wanted = this.#entries
      .filter(({ external }) => external !== undefined)
      .map(({ key }): WantedEntry => {
        const stored = sources.find((source) => source.key === key);
        return {
          secretName: SECRET,
          key,
          entryName: entryNameOf(key),
          ...(sources[0] !== undefined && { secretId: sources[0].secretId }),
          ...(stored !== undefined && { fingerprint: stored.fingerprint }),
        };
      });
    const target: VaultEntryProperties[] = [];
    if (look) {
      for await (const page of this.vault.list(live)) target.push(...page);
      this.#troubled = troubles(wanted, target);
    }
    return decidePull({
      ruleUid: RULE,
      vaultUrl: VAULT_URL,
      wanted,
      pulled,
      troubled: this.#troubled,
      rules: new Set([RULE]),
      ...(look && { target }),
    });
  }

  /** One reconcile by a process of its own. */
  async reconcile({ look = true, death }: { look?: boolean; death?: Death } = {}): Promise<SyncResult> {
    const { pull: planned } = await this.plan(look);
    const writer = { epoch: await this.database.acquireEpoch("test") };
    const mortal: Mortal = mortality(death);
    return pull(planned, {
      vault: mortalVault(this.vault, mortal),
      store: { recordPulled: (...call) => mortal(() => this.store.recordPulled(...call)) },
      writer,
      ruleUid: RULE,
      put: (_, values) => mortal(() => this.#put(writer, values)),
      assertLeading: () => undefined,
      signal: live,
    });
  }

  #record(): Promise<SecretRecord | undefined> {
    return this.#platform.describe(identity(SECRET));
  }

  async #put(writer: Writer | Unled, values: ReadonlyMap<string, Sensitive>) {
    const { record, created } = await this.#platform.put(writer, {
      identity: identity(SECRET),
      seen: await this.#record(),
      entries: this.#entries,
      readers: undefined,
      values,
      // All of them, so that a test can count them.
      lifecycle: { ...lifecycle, keepVersions: 1_000 },
      actor,
    });
    return { id: record.id, entries: record.entries, created };
  }
}
