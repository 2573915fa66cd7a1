import type { VaultHints } from "../../core/ports/vault-hints.ts";
import type { Database } from "./database.ts";

export const VAULT_CHANNEL = "mazevault_vaults";

/** Events come in crowds, and NOTIFY takes a lock of the whole server. */
const APART_MS = 1_000;
/** Vaults that wait to be told of; beyond them the next look finds what changed. */
const MOST = 1_000;
const NOTIFY = { name: "notify_vault", text: "SELECT pg_notify($1, $2)" };

/** The first hint about a vault is told at once, those that follow within a second as one. */
export class VaultHint implements VaultHints {
  readonly #database: Database;
  /** By vault, while its second lasts: whether there is more to tell then. */
  readonly #recent = new Map<string, { again: boolean; readonly timer: NodeJS.Timeout }>();

  constructor(database: Database) {
    this.#database = database;
  }

  tell(vault: string): void {
    const recent = this.#recent.get(vault);
    if (recent !== undefined) recent.again = true;
    else if (this.#recent.size < MOST) this.#notify(vault);
  }

  close(): void {
    for (const { timer } of this.#recent.values()) clearTimeout(timer);
    this.#recent.clear();
  }

  #notify(vault: string): void {
    const timer = setTimeout(() => {
      const again = this.#recent.get(vault)?.again === true;
      this.#recent.delete(vault);
      if (again) this.#notify(vault);
    }, APART_MS);
    this.#recent.set(vault, { again: false, timer });
    this.#database.query(NOTIFY, [VAULT_CHANNEL, vault]).catch(() => {});
  }
}
