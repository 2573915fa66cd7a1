import type { ChangeHints } from "./change-hints.ts";

/** Hints among the replicas of one process. */
export class FakeChangeHints implements ChangeHints {
  readonly #all: Set<() => void>;
  readonly #own = new Set<() => void>();

  /** A replica beside `other`. */
  constructor(other?: FakeChangeHints) {
    this.#all = other === undefined ? new Set() : other.#all;
  }

  tell(): void {
    for (const onHint of this.#all) if (!this.#own.has(onHint)) onHint();
  }

  listen(onHint: () => void): () => void {
    this.#all.add(onHint);
    this.#own.add(onHint);
    return () => {
      this.#all.delete(onHint);
      this.#own.delete(onHint);
    };
  }
}
