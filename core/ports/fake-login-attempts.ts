import type { AttemptLimit, LoginAttempts } from "./login-attempts.ts";

interface Counted {
  readonly failures: number;
  readonly lastAt: number;
  readonly blockedUntil: number;
}

/** Attempts in memory, with the contract of the real store. */
export class FakeLoginAttempts implements LoginAttempts {
  readonly #counted = new Map<string, Counted>();

  async begin(limits: readonly AttemptLimit[], now: Date): ReturnType<LoginAttempts["begin"]> {
    const at = now.getTime();
    const [longest] = limits
      .map(({ key }) => ({ key, until: this.#counted.get(key)?.blockedUntil ?? 0 }))
      .filter(({ until }) => until > at)
      .sort((a, b) => b.until - a.until);
    if (longest !== undefined) return { key: longest.key, until: new Date(longest.until) };
    for (const { key, free, firstMs, mostMs, forgetMs } of limits) {
      const before = this.#counted.get(key);
      const failures = 1 + (before === undefined || before.lastAt < at - forgetMs ? 0 : before.failures);
      const blockedUntil = failures >= free ? at + Math.min(mostMs, firstMs * 2 ** (failures - free)) : 0;
      this.#counted.set(key, { failures, lastAt: at, blockedUntil });
    }
    return undefined;
  }

  async end(cleared: readonly string[], returned: readonly string[], began: Date): Promise<void> {
    for (const key of cleared) this.#counted.delete(key);
    for (const key of returned) {
      const { failures, lastAt, blockedUntil } = this.#counted.get(key) ?? { failures: 0, lastAt: 0, blockedUntil: 0 };
      const later = lastAt > began.getTime();
      this.#counted.set(key, { failures: Math.max(failures - 1, 0), lastAt, blockedUntil: later ? blockedUntil : 0 });
    }
  }

  async forget(before: Date, limit: number): Promise<number> {
    const old = [...this.#counted].filter(([, { lastAt }]) => lastAt < before.getTime()).slice(0, limit);
    for (const [key] of old) this.#counted.delete(key);
    return old.length;
  }
}
