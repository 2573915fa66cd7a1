/** Platforms whose rules with direction Bidirectional meet in one vault, and who follows whom. */
import type { FakeTargetVault } from "../../ports/fake-target-vault.ts";
import type { VaultEntryProperties } from "../../ports/target-vault.ts";
import { type ConflictPolicy, exchange } from "../exchange.ts";
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
    platform.store.now = () => vault.now();
    return new Site(platform, vault, installation, policy);
  }

  async plan(look: boolean): Promise<ExchangePlan> {
    const { platform } = this;
    const items = await platform.store.items(RULE);
    const target: VaultEntryProperties[] = [];
    if (look) for await (const page of this.vault.list(live)) target.push(...page);
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
    if (look) this.#troubled = troubles(entries, target);
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
      ...(look && { target }),
    });
    for (const each of plan.over) this.conflicts.delete(each);
    return plan;
  }

  /** What a person says of a conflict that is open. */
  resolve(key: string, resolution: Resolution): void {
    const name = conflictKey({ secretName: SECRET, key });
    const open = this.conflicts.get(name);
    if (open !== undefined) this.conflicts.set(name, { ...open, resolution });
  }

  /** One reconcile by a process of its own. */
  async reconcile({ look = true, death }: { look?: boolean; death?: Death } = {}): Promise<SyncResult> {
    const { exchange: planned } = await this.plan(look);
    return this.perform(planned, death);
  }

  /** What a process does that made this plan a while ago. */
  async perform(planned: readonly PlannedExchange[], death?: Death): Promise<SyncResult> {
    const { platform, installation, policy } = this;
    const writer = { epoch: await platform.database.acquireEpoch("test") };
    const mortal = mortality(death);
    const { store } = platform;
    const result = await exchange(planned, {
      vault: mortalVault(this.vault, mortal),
      store: {
        recordIntent: (...call) => mortal(() => store.recordIntent(...call)),
        recordOutcome: (...call) => mortal(() => store.recordOutcome(...call)),
        recordAgreement: (...call) => mortal(() => store.recordAgreement(...call)),
      },
      audit: { append: () => mortal(async () => undefined) },
      writer,
      ruleUid: RULE,
      actor: { kind: "Object", resource: "syncrules", uid: RULE, generation: 1 },
      installation,
      policy,
      open: (_, version, key) => platform.open(version, key),
      fingerprint: (_, key, value) => platform.fingerprint(writer, key, value),
      keeps: (id, key, fingerprint) => platform.vault.keeps(id, key, fingerprint),
      fingerprintIn: (_, version, key) => platform.fingerprintIn(version, key),
      take: (_, values, expected) => mortal(() => platform.put(writer, values, expected)),
      keepBeside: (_, values, expected) => mortal(() => platform.keepBeside(writer, values, expected)),
      assertLeading: () => undefined,
      signal: live,
    });
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
