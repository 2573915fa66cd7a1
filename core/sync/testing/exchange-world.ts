/** Platforms whose rules with direction Bidirectional meet in one vault, and who follows whom. */
import type { AuditEntry } from "../../ports/audit-log.ts";
import type { FakeTargetVault } from "../../ports/fake-target-vault.ts";
import type { VaultEntryProperties } from "../../ports/target-vault.ts";
import type { Writer } from "../../ports/vault-store.ts";
import type { ConflictPolicy } from "../comparison.ts";
import { exchange } from "../exchange.ts";
import {
  conflictKey,
  decideExchange,
  type ExchangePlan,
  type OpenConflict,
  type PlannedExchange,
  type Resolution,
  type SharedEntry,
} from "../exchange-plan.ts";
import { ownerOf } from "../ownership.ts";
import { type Trouble, troubles } from "../pull-plan.ts";
import type { SyncResult } from "../run.ts";
import { identity, RULE, VAULT_URL } from "./entries.ts";
import { entryNameOf, Platform, SECRET } from "./platform.ts";
import { type Death, live, mortality, mortalVault } from "./world.ts";

export class Site {
  readonly platform: Platform;
  readonly vault: FakeTargetVault;
  readonly installation: string;
  readonly policy: ConflictPolicy;
  /** As their objects would have them. */
  readonly conflicts = new Map<string, OpenConflict>();
  readonly #seen = new Map<string, { readonly targetVersion: string; readonly at: number }>();
  #troubled: ReadonlyMap<string, Trouble> = new Map();
  /** How far the database's clock and this process' are off. */
  skewMs = 0;
  readonly audited: AuditEntry[] = [];
  readonly #recorded = new Map<string, string>();

  private constructor(platform: Platform, vault: FakeTargetVault, installation: string, policy: ConflictPolicy) {
    this.platform = platform;
    this.vault = vault;
    this.installation = installation;
    this.policy = policy;
  }

  static async of(
    installation: string,
    { vault, keys, policy }: { vault: FakeTargetVault; keys: readonly string[]; policy: ConflictPolicy },
  ): Promise<Site> {
    const platform = await Platform.of(...keys);
    const site = new Site(platform, vault, installation, policy);
    platform.clock(() => vault.now() + site.skewMs);
    return site;
  }

  /** `pages`: of an earlier look, that arrive only now. */
  async plan(look: boolean, pages?: readonly VaultEntryProperties[]): Promise<ExchangePlan> {
    const { platform } = this;
    const items = await platform.store.items(RULE);
    const target = pages ?? (look ? await this.look() : []);
    const sources = await platform.sources();
    const entries = platform.keys.map((key): SharedEntry => {
      const stored = sources.find((source) => source.key === key);
      return {
        secretName: SECRET,
        key,
        entryName: entryNameOf(key),
        owner: ownerOf({ ...identity, project: this.installation }),
        ...(sources[0] !== undefined && { secretId: sources[0].secretId }),
        ...(stored !== undefined && { held: stored }),
      };
    });
    if (look || pages) this.#troubled = troubles(entries, target);
    const holders = await platform.store.holders(
      VAULT_URL,
      entries.map(({ entryName }) => entryName),
    );
    const plan = decideExchange({
      vaultUrl: VAULT_URL,
      entries,
      items,
      holders,
      troubled: this.#troubled,
      conflicts: this.conflicts,
      ...((look || pages) && { target }),
    });
    for (const each of plan.over) this.conflicts.delete(each);
    return plan;
  }

  async look(): Promise<readonly VaultEntryProperties[]> {
    const found: VaultEntryProperties[] = [];
    for await (const page of this.vault.list(live)) found.push(...page);
    return found;
  }

  /** What a person says of a conflict that is open. */
  resolve(key: string, resolution: Resolution): void {
    const name = conflictKey({ secretName: SECRET, key });
    const open = this.conflicts.get(name);
    if (open !== undefined) this.conflicts.set(name, { ...open, resolution });
  }

  /** One reconcile by a process of its own. */
  async reconcile({ look = true, death }: { look?: boolean; death?: Death } = {}): Promise<SyncResult> {
    const writer = await this.lead();
    const { exchange: planned } = await this.plan(look);
    return this.perform(planned, writer, death);
  }

  /** Of a process that begins to lead. */
  async lead(): Promise<Writer> {
    return { epoch: await this.platform.database.acquireEpoch("test") };
  }

  /** What a process does that made this plan a while ago, under the epoch that it had then. */
  async perform(planned: readonly PlannedExchange[], writer: Writer, death?: Death): Promise<SyncResult> {
    const { platform, installation, policy } = this;
    const mortal = mortality(death);
    const { store } = platform;
    const result = await exchange(planned, {
      vault: mortalVault(this.vault, mortal),
      store: {
        recordIntent: (...call) => mortal(() => store.recordIntent(...call)),
        recordOutcome: (...call) => mortal(() => store.recordOutcome(...call)),
        recordTaking: (...call) => mortal(() => store.recordTaking(...call)),
        recordAgreement: (...call) => mortal(() => store.recordAgreement(...call)),
      },
      audit: { append: (rows) => mortal(async () => void this.audited.push(...rows)) },
      writer,
      ruleUid: RULE,
      actor: { kind: "Object", resource: "syncrules", uid: RULE, generation: 1 },
      installation,
      policy,
      open: (_, version, key) => platform.open(version, key),
      fingerprint: (_, key, value) => platform.fingerprint(writer, key, value),
      keeps: (id, key, fingerprint) => platform.vault.keeps(id, key, fingerprint),
      heldForMs: (id, key, fingerprint) => platform.vault.heldForMs(id, key, fingerprint),
      monotonic: () => this.vault.now() + this.skewMs,
      fingerprintIn: (_, version, key) => platform.fingerprintIn(version, key),
      take: (_, values, expected) => mortal(() => platform.put(writer, values, expected)),
      keepBeside: (_, values, expected) => mortal(() => platform.keepBeside(writer, values, expected)),
      recorded: this.#recorded,
      assertLeading: () => undefined,
      signal: live,
    }).finally(() => platform.read());
    for (const { entry, platformVersion, targetVersion, targetUpdatedOn } of result.conflicts) {
      const name = conflictKey(entry);
      const seen = this.#seen.get(name);
      const settled = seen?.targetVersion === targetVersion && this.vault.now() - seen.at >= 1_000;
      if (seen?.targetVersion !== targetVersion) this.#seen.set(name, { targetVersion, at: this.vault.now() });
      // What was said of other values is forgotten.
      this.conflicts.set(name, { platformVersion, targetVersion, targetUpdatedOn, settled });
    }
    return result;
  }
}
