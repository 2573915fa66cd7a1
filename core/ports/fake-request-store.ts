import type { FakeDatabase } from "./fake-database.ts";
import type { Attempt, NamedRequest, RequestStore, Standing } from "./request-store.ts";

interface Kept extends Attempt {
  readonly fingerprint: Buffer;
  readonly answer?: Buffer;
}

/** Requests in memory, with the contract of the real store. */
export class FakeRequestStore implements RequestStore {
  readonly #database: FakeDatabase;
  readonly #kept = new Map<string, Kept>();

  constructor(database: FakeDatabase) {
    this.#database = database;
    database.onAttempt = (attempt) => {
      if (this.#find(attempt) === undefined) throw new Error(`attempt ${attempt} is over`);
    };
  }

  async begin({ id, fingerprint }: NamedRequest, attempt: Attempt): Promise<Standing> {
    const kept = this.#kept.get(id.toString("hex"));
    const over = kept === undefined || kept.expiresAt <= attempt.at;
    if (!over) {
      if (!kept.fingerprint.equals(fingerprint)) return { outcome: "Reused" };
      if (kept.answer !== undefined) return { outcome: "Answered", attempt: kept.attempt, answer: kept.answer };
      if (kept.leaseUntil > attempt.at) return { outcome: "InProgress", until: kept.leaseUntil };
      if (this.#database.attempts.has(kept.attempt)) return { outcome: "Unknown" };
    }
    this.#kept.set(id.toString("hex"), { ...attempt, fingerprint });
    return { outcome: "Begun" };
  }

  async answer(attempt: string, answer: Buffer): Promise<boolean> {
    const [id, kept] = this.#find(attempt) ?? [];
    if (id === undefined || kept === undefined) return false;
    this.#kept.set(id, { ...kept, answer });
    return true;
  }

  async release(attempt: string, at: Date): Promise<void> {
    const [id, kept] = this.#find(attempt) ?? [];
    if (id === undefined || kept === undefined) return;
    if (this.#database.attempts.has(attempt)) this.#kept.set(id, { ...kept, leaseUntil: at });
    else this.#kept.delete(id);
  }

  async forget(before: Date, limit: number): Promise<number> {
    const old = [...this.#kept].filter(([, { expiresAt }]) => expiresAt < before).slice(0, limit);
    for (const [id] of old) this.#kept.delete(id);
    return old.length;
  }

  #find(attempt: string): [string, Kept] | undefined {
    return [...this.#kept].find(([, kept]) => kept.attempt === attempt);
  }
}
