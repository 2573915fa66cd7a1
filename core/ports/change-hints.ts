/**
 * Tells other replicas that something changed which they may remember otherwise. Only a hint: what was lost is made up
 * for by how short they remember. `fake-change-hints.ts` is the in-memory fake; it and the adapter pass
 * `change-hints.contract.ts`.
 */
export interface ChangeHints {
  /** Returns at once, and never throws. */
  tell(): void;
  /** Calls for what others tell, and when something may have been lost. Returns what ends it. */
  listen(onHint: () => void): () => void;
}
