/** How many entries each vault had when a rule looked at it last: nobody asks the vault for that alone. */
import { normalVaultUrl } from "../../core/ports/target-vaults.ts";

export class VaultSizes {
  readonly #entries = new Map<string, number>();
  readonly #onChange: (vaultUrl: string) => void;

  /** `onChange` is told the normal URL of a vault whose size is another one than before. */
  constructor(onChange: (vaultUrl: string) => void = () => {}) {
    this.#onChange = onChange;
  }

  of(vaultUrl: string): number | undefined {
    return this.#entries.get(normalVaultUrl(vaultUrl));
  }

  learn(vaultUrl: string, entries: number): void {
    const url = normalVaultUrl(vaultUrl);
    if (this.#entries.get(url) === entries) return;
    this.#entries.set(url, entries);
    this.#onChange(url);
  }

  forget(vaultUrl: string): void {
    this.#entries.delete(normalVaultUrl(vaultUrl));
  }
}
