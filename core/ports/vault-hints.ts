/** Tells the leader that something changed in a vault. Only a hint: who misses it finds the change at the next look. */
export interface VaultHints {
  /** By the vault's name, which is the first label of its host. Returns at once. */
  tell(vault: string): void;
}
