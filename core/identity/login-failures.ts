import type { AuditEntry, AuditLog } from "../ports/audit-log.ts";
import { anonymous } from "./actor.ts";

export interface LoginFailure {
  /** UnknownUser: what was given as a name is not kept, it may have been a password. */
  readonly reason: "WrongPassword" | "UnknownUser" | "UserDisabled" | "TooManyAttempts";
  /**
   * Stands for the name that was given. Failures are told apart by it and not by the user, else the time that a row takes
   * would tell whether there is one.
   */
  readonly name: string;
  readonly user?: { readonly id: string; readonly email: string };
  readonly address: string;
}

interface Counted {
  readonly failure: LoginFailure;
  /** Since the last row. */
  attempts: number;
}

/** So many different failures are told apart in one interval; the rest are counted together. */
const MOST = 1_000;
const REST: LoginFailure = { reason: "TooManyAttempts", name: "", address: "" };

/**
 * Puts failed logins on record: the first at once, those like it that follow within the interval as one row with their
 * number. So a flood writes at most a thousand rows in an interval. What was only counted is lost with the process.
 */
export class LoginFailures {
  readonly #audit: Pick<AuditLog, "append">;
  readonly #everyMs: number;
  readonly #counted = new Map<string, Counted>();
  #timer: NodeJS.Timeout | undefined;

  constructor(audit: Pick<AuditLog, "append">, everyMs: number) {
    this.#audit = audit;
    this.#everyMs = everyMs;
  }

  /** Resolves when it is on record, or counted. */
  async add(failure: LoginFailure): Promise<void> {
    const distinct = keyOf(failure);
    const full = this.#counted.size >= MOST && !this.#counted.has(distinct);
    const key = full ? keyOf(REST) : distinct;
    const counted = this.#counted.get(key);
    if (counted !== undefined) {
      counted.attempts += 1;
      return;
    }
    const first = { failure: full ? REST : failure, attempts: 0 };
    this.#counted.set(key, first);
    this.#timer ??= setTimeout(() => void this.flush().catch(() => {}), this.#everyMs).unref();
    try {
      await this.#audit.append([entryOf(first.failure, 1)]);
    } catch (error) {
      // The next one tries again to be the first.
      if (this.#counted.get(key) === first) this.#counted.delete(key);
      throw error;
    }
  }

  /** Begins a new interval. What cannot be written stays counted, and is tried again after the next. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const counted = [...this.#counted];
    this.#counted.clear();
    const rows = counted.filter(([, { attempts }]) => attempts > 0);
    try {
      await this.#audit.append(rows.map(([, { failure, attempts }]) => entryOf(failure, attempts)));
    } catch (error) {
      for (const [key, { failure, attempts }] of rows) {
        const since = this.#counted.get(key);
        if (since === undefined) this.#counted.set(key, { failure, attempts });
        else since.attempts += attempts;
      }
      this.#timer ??= setTimeout(() => void this.flush().catch(() => {}), this.#everyMs).unref();
      throw error;
    }
  }
}

const keyOf = ({ reason, name, address }: LoginFailure): string => JSON.stringify([reason, name, address]);

const entryOf = ({ reason, user, address }: LoginFailure, attempts: number): AuditEntry => ({
  action: "LoginFailed",
  actor: anonymous(address),
  subject: { kind: "User", id: user?.id ?? "unknown", name: user?.email ?? "unknown" },
  outcome: "Denied",
  details: { reason, attempts },
});
