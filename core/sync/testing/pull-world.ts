/** A rule with direction Pull over one secret with external entries: the vault that it takes from, and who follows whom. */
import { FakeTargetVault } from "../../ports/fake-target-vault.ts";
import type { VaultEntryProperties } from "../../ports/target-vault.ts";
import { pull } from "../pull.ts";
import { decidePull, type PullPlan, type Trouble, troubles, type WantedEntry } from "../pull-plan.ts";
import type { SyncResult } from "../run.ts";
import { INSTALLATION, RULE, VAULT_URL } from "./entries.ts";
import { entryNameOf, Platform, SECRET } from "./platform.ts";
import { type Death, live, mortality, mortalVault } from "./world.ts";

export class PullWorld {
  readonly platform: Platform;
  readonly vault = new FakeTargetVault(VAULT_URL);
  #troubled: ReadonlyMap<string, Trouble> = new Map();

  private constructor(platform: Platform) {
    this.platform = platform;
  }

  static async of(...keys: readonly string[]): Promise<PullWorld> {
    const world = new PullWorld(await Platform.of(...keys));
    world.platform.store.now = () => world.vault.now();
    return world;
  }

  async plan(look: boolean): Promise<PullPlan> {
    const { platform } = this;
    const sources = await platform.sources();
    const pulled = await platform.store.pulled(RULE, [...new Set(sources.map(({ secretId }) => secretId))]);
    const wanted = platform.keys.map((key): WantedEntry => {
      const stored = sources.find((source) => source.key === key);
      return {
        secretName: SECRET,
        key,
        entryName: entryNameOf(key),
        owner: "owner",
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
    const { platform } = this;
    const { pull: planned } = await this.plan(look);
    const writer = { epoch: await platform.database.acquireEpoch("test") };
    const mortal = mortality(death);
    return pull(planned, {
      vault: mortalVault(this.vault, mortal),
      store: { recordPulled: (...call) => mortal(() => platform.store.recordPulled(...call)) },
      writer,
      ruleUid: RULE,
      installation: INSTALLATION,
      put: (_, values) => mortal(() => platform.put(writer, values)),
      assertLeading: () => undefined,
      signal: live,
    });
  }
}
