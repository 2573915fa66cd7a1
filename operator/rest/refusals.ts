import type { Verb } from "../../core/access/policy.ts";
import type { Actor, AuditEntry, AuditLog, AuditSubject } from "../../core/ports/audit-log.ts";

export interface Refusal {
  readonly actor: Actor;
  readonly subject: AuditSubject;
  readonly route: string;
  readonly verb: Verb;
  readonly reason: string;
  readonly requestId: string;
}

interface Counted {
  readonly refusal: Refusal;
  /** Since the last row. */
  requests: number;
}

const EVERY_MS = 60_000;
/** So many different refusals are told apart in one interval; the rest are counted with the first beyond them. */
const MOST = 1_000;
const REST = "";

/**
 * Puts refused requests on record: the first before it is answered, those like it that follow within a minute as one row
 * with their number. A row can never be deleted, so whoever is refused must not write one with every request.
 */
export class Refusals {
  readonly #audit: Pick<AuditLog, "append">;
  readonly #counted = new Map<string, Counted>();
  #timer: NodeJS.Timeout | undefined;

  constructor(audit: Pick<AuditLog, "append">) {
    this.#audit = audit;
  }

  /** Resolves when it is on record, or counted. */
  async add(refusal: Refusal): Promise<void> {
    const distinct = keyOf(refusal);
    const key = this.#counted.size >= MOST && !this.#counted.has(distinct) ? REST : distinct;
    const counted = this.#counted.get(key);
    if (counted !== undefined) {
      counted.requests += 1;
      return;
    }
    const first = { refusal, requests: 0 };
    this.#counted.set(key, first);
    this.#timer ??= setTimeout(() => void this.flush().catch(() => {}), EVERY_MS).unref();
    try {
      await this.#audit.append([entryOf(refusal, 1)]);
    } catch (error) {
      // The next one tries again to be the first.
      if (this.#counted.get(key) === first) this.#counted.delete(key);
      throw error;
    }
  }

  /** Begins a new interval. What cannot be written now is tried again with the next. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const rows = [...this.#counted].filter(([, { requests }]) => requests > 0);
    this.#counted.clear();
    try {
      await this.#audit.append(rows.map(([, { refusal, requests }]) => entryOf(refusal, requests)));
    } catch (error) {
      for (const [key, { refusal, requests }] of rows) {
        const since = this.#counted.get(key);
        if (since === undefined) this.#counted.set(key, { refusal, requests });
        else since.requests += requests;
      }
      this.#timer ??= setTimeout(() => void this.flush().catch(() => {}), EVERY_MS).unref();
      throw error;
    }
  }
}

const keyOf = ({ actor, subject, route, verb }: Refusal): string => JSON.stringify([actor, subject, route, verb]);

const entryOf = ({ actor, subject, route, verb, reason, requestId }: Refusal, requests: number): AuditEntry => ({
  action: "AccessDenied",
  actor,
  subject,
  outcome: "Denied",
  details: { route, verb, reason, requestId, requests },
});
