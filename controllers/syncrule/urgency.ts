/** When what a rule heals gives way: to what a person changed meanwhile, and to other rules that wait for a worker. */

/** So long one rule heals at the most before others have their turn. */
const HEALING_MS = 10_000;
/** Whoever gave way within this time heals a while first, so that a stream of changes does not put healing off for ever. */
const GAVE_WAY_MS = 10_000;
const HEALS_FIRST_MS = 5_000;

export class Urgency {
  readonly #now: () => number;
  /** Rules of which something changed since their pass began, by `namespace/name`. */
  readonly #hurried = new Set<string>();
  readonly #gaveWay = new Map<string, number>();

  /** Monotonic milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  hurry(key: string): void {
    this.#hurried.add(key);
  }

  /** A pass reads what there is from here on. */
  passBegins(key: string): void {
    this.#hurried.delete(key);
  }

  /** Healing begins; the result says whether it has to give way by now. */
  healing(key: string): () => boolean {
    const begun = this.#now();
    const gaveWay = this.#gaveWay.get(key) ?? Number.NEGATIVE_INFINITY;
    const hurriesAt = begun - gaveWay < GAVE_WAY_MS ? begun + HEALS_FIRST_MS : begun;
    return () => {
      const now = this.#now();
      const gives = now - begun >= HEALING_MS || (this.#hurried.has(key) && now >= hurriesAt);
      if (gives) this.#gaveWay.set(key, now);
      return gives;
    };
  }

  forget(key: string): void {
    this.#hurried.delete(key);
    this.#gaveWay.delete(key);
  }
}
