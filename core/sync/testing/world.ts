/** A vault, a database and a rule's secrets in memory, in which processes live, die and are followed by others. */
import { createHash } from "node:crypto";
import { FakeAuditLog } from "../../ports/fake-audit-log.ts";
import { FakeDatabase } from "../../ports/fake-database.ts";
import { FakeSyncStore } from "../../ports/fake-sync-store.ts";
import { FakeTargetVault } from "../../ports/fake-target-vault.ts";
import { FakeVaultStore } from "../../ports/fake-vault-store.ts";
import type { TargetVault, VaultEntryProperties } from "../../ports/target-vault.ts";
import { Sensitive } from "../../sensitive.ts";
import type { NamedEntry } from "../entries.ts";
import { INSTALLATION_TAG, INTENT_TAG, KEY_TAG, OWNER_TAG, SECRET_TAG } from "../ownership.ts";
import { decidePush, type Plan } from "../plan.ts";
import { type PushContext, push } from "../push.ts";
import type { SyncResult } from "../run.ts";
import { INSTALLATION, named, RULE, VAULT_URL } from "./entries.ts";

/** The process is gone: whatever it still tries has no effect. */
export class Crash extends Error {}

/** Dies at its nth effect, before or after it was carried out. */
export interface Death {
  readonly atEffect: number;
  readonly carriedOut: boolean;
}

export const live = new AbortController().signal;

export class World {
  readonly database = new FakeDatabase();
  readonly store = new FakeSyncStore(this.database, new FakeVaultStore(this.database));
  readonly vault = new FakeTargetVault(VAULT_URL);
  readonly #values = new Map<string, { version: number; value: string }>();
  #epoch = 0n;

  /** Gives a key a value; a second time makes a new version. */
  keep(key: string, value: string): void {
    const version = (this.#values.get(key)?.version ?? 0) + 1;
    this.#values.set(key, { version, value });
  }

  entries(): readonly NamedEntry[] {
    return [...this.#values].map(([key, { version, value }]) =>
      named({ key, entryName: nameOf(key), version, fingerprint: createHash("sha256").update(value).digest("hex") }),
    );
  }

  entry(key: string): NamedEntry {
    const found = this.entries().find((each) => each.key === key);
    if (found === undefined) throw new Error(`no key ${key}`);
    return found;
  }

  value(key: string): string | undefined {
    return this.#values.get(key)?.value;
  }

  async plan(look: boolean): Promise<Plan> {
    const items = await this.store.items(RULE);
    const target: VaultEntryProperties[] = [];
    if (look) for await (const page of this.vault.list(live)) target.push(...page);
    const names = this.entries().map((each) => each.entryName);
    const holders = await this.store.holders(VAULT_URL, names);
    return decidePush({
      entries: this.entries(),
      vaultUrl: VAULT_URL,
      items,
      holders,
      installation: INSTALLATION,
      ...(look && { target }),
    });
  }

  /** One reconcile by a process of its own. */
  async reconcile({ look = true, death }: { look?: boolean; death?: Death } = {}): Promise<SyncResult> {
    const plan = await this.plan(look);
    return push(plan.push, await this.process(death));
  }

  /** What a new leader pushes with. */
  async process(death?: Death): Promise<PushContext> {
    this.#epoch = await this.database.acquireEpoch("test");
    const mortal = mortality(death);
    const audit = new FakeAuditLog(this.database);
    return {
      vault: mortalVault(this.vault, mortal),
      store: {
        recordIntent: (...call) => mortal(() => this.store.recordIntent(...call)),
        recordOutcome: (...call) => mortal(() => this.store.recordOutcome(...call)),
      },
      audit: { append: (entries) => mortal(() => audit.append(entries)) },
      writer: { epoch: this.#epoch },
      ruleUid: RULE,
      actor: { kind: "Object", resource: "syncrules", uid: RULE, generation: 1 },
      installation: INSTALLATION,
      open: async (_, version, key) => {
        const kept = this.#values.get(key);
        if (kept?.version !== version) throw new Error(`version ${version} of ${key} is not kept`);
        return new Sensitive(Buffer.from(kept.value));
      },
      assertLeading: () => undefined,
      signal: live,
    };
  }

  /** Versions in the vault that the audit record knows. */
  audited(): ReadonlySet<unknown> {
    return new Set(
      this.database.audit
        .filter(({ entry }) => entry.action === "VaultEntryWritten")
        .map(({ entry }) => entry.details.targetVersion),
    );
  }
}

export const nameOf = (key: string): string => `orders--${key}`;

/** Tags as an earlier run of this installation left them. */
export const ourTags = (entry: NamedEntry, intentId = "intent-earlier"): Record<string, string> => ({
  [INSTALLATION_TAG]: INSTALLATION,
  [OWNER_TAG]: entry.owner,
  [SECRET_TAG]: entry.secretId,
  [KEY_TAG]: entry.key,
  [INTENT_TAG]: intentId,
});

export type Mortal = <T>(effect: () => Promise<T>) => Promise<T>;

export function mortality(death: Death | undefined): Mortal {
  let effects = 0;
  let dead = false;
  return async (effect) => {
    if (dead) throw new Crash();
    effects += 1;
    if (effects !== death?.atEffect) return effect();
    dead = true;
    if (death.carriedOut) await effect();
    throw new Crash();
  };
}

export function mortalVault(vault: TargetVault, mortal: Mortal): TargetVault {
  return {
    url: vault.url,
    list: (signal) => vault.list(signal),
    get: (...call) => mortal(() => vault.get(...call)),
    listVersions: (...call) => mortal(() => vault.listVersions(...call)),
    set: (...call) => mortal(() => vault.set(...call)),
    getDeleted: (...call) => mortal(() => vault.getDeleted(...call)),
    delete: (...call) => mortal(() => vault.delete(...call)),
    recover: (...call) => mortal(() => vault.recover(...call)),
    purge: (...call) => mortal(() => vault.purge(...call)),
  };
}
