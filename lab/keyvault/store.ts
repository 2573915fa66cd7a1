import type { Configuration } from "./config.ts";
import { Journal } from "./journal.ts";
import type { Settings } from "./settings.ts";
import type { VaultEvent } from "./vault/state.ts";
import { Vault } from "./vault/vault.ts";

type Entry = { readonly vault: string; readonly event: VaultEvent } | { readonly softDeleteLead: number };

/** All vaults and the journal from which they are rebuilt after a crash. */
export class Store {
  readonly vaults: ReadonlyMap<string, Vault>;
  readonly #journal: Journal<Entry>;
  #softDeleteLead = 0;

  /** Rebuilds every configured vault and compacts the journal; records of vaults no longer configured are kept. */
  constructor(file: string, vaults: Configuration["vaults"], settings: Pick<Settings, "transitions">) {
    this.vaults = new Map(
      vaults.map((configuration) => [
        configuration.name.toLowerCase(),
        new Vault(configuration, {
          transitions: () => settings.transitions,
          record: (event) => this.#journal.append({ vault: configuration.name, event }),
          softDeleteLead: () => this.#softDeleteLead,
        }),
      ]),
    );
    const foreign: Entry[] = [];
    for (const entry of Journal.read<Entry>(file)) {
      if ("softDeleteLead" in entry) {
        this.#softDeleteLead = entry.softDeleteLead;
        continue;
      }
      const vault = this.vaults.get(entry.vault.toLowerCase());
      if (vault === undefined) {
        foreign.push(entry);
      } else {
        vault.restoreEvent(entry.event);
      }
    }
    this.#journal = Journal.replace(file, this.#snapshot(foreign));
  }

  /** Moves the clock of soft delete ahead, so that retention runs out without waiting. */
  advanceSoftDeleteClock(milliseconds: number): Promise<void> {
    this.#softDeleteLead += milliseconds;
    return this.#journal.append({ softDeleteLead: this.#softDeleteLead });
  }

  close(): Promise<void> {
    return this.#journal.close();
  }

  *#snapshot(foreign: readonly Entry[]): Iterable<Entry> {
    yield* foreign;
    yield { softDeleteLead: this.#softDeleteLead };
    for (const vault of this.vaults.values()) {
      for (const event of vault.snapshot()) {
        yield { vault: vault.name, event };
      }
    }
  }
}
