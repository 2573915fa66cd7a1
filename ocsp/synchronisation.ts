import type { OcspPosition, OcspStore } from "../core/ports/ocsp-store.ts";
import type { Logger } from "../program/logging.ts";
import type { Documents, RefusedCrl } from "./documents.ts";
import type { Register } from "./register.ts";
import type { ResponderKeys } from "./responder-keys.ts";

const PAGE = 1_000;
/** Bounds what a lost hint costs. */
const EVERY_MS = 2_000;
/** However many ask about serial numbers that nobody knows, PostgreSQL is asked no more often. */
const APART_MS = 100;
/** Clients have better things to do than to wait for a database that does not answer. */
const PATIENCE_MS = 2_000;
const UNREADABLE = "the database cannot be read";

export interface SynchronisationParts {
  readonly store: OcspStore;
  readonly register: Register;
  readonly documents: Documents;
  readonly keys: ResponderKeys;
  readonly log: Logger;
  readonly now: () => number;
  /** From the beginning of a round to the next at least; 100 ms when absent. */
  readonly apartMs?: number;
}

/**
 * Keeps memory like the database, in rounds: at every hint, every two seconds, and when somebody has to know what was
 * committed until now. While PostgreSQL is away everything stays as it was.
 */
export class Synchronisation {
  readonly #parts: SynchronisationParts;
  readonly #stopped = new AbortController();
  #position: OcspPosition | undefined;
  #problem: string | undefined = "nothing was read yet";
  #running: Promise<void> | undefined;
  #due = false;
  #complaints: ReadonlySet<string> = new Set();
  #wake: () => void = () => {};
  /** Those who wait for a round that has not begun yet. */
  #waiting: ((caughtUp: boolean) => void)[] = [];

  constructor(parts: SynchronisationParts) {
    this.#parts = parts;
  }

  /** Why memory may be behind; undefined while it is not. */
  get problem(): string | undefined {
    return this.#problem;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#wake();
    await this.#running;
  }

  /** Something may have changed. */
  hint(): void {
    this.#due = true;
    this.#wake();
  }

  /** Resolves with true after everything that was committed before the call is known, with false when that takes too long. */
  caughtUp(): Promise<boolean> {
    if (this.#stopped.signal.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), PATIENCE_MS);
      this.#waiting.push((known) => {
        clearTimeout(timer);
        resolve(known);
      });
      this.hint();
    });
  }

  async #run(): Promise<void> {
    const { apartMs = APART_MS } = this.#parts;
    while (!this.#stopped.signal.aborted) {
      const began = performance.now();
      await this.#round();
      await this.#sleep(Math.max(0, began + apartMs - performance.now()), () => false);
      await this.#sleep(Math.max(0, began + EVERY_MS - performance.now()), () => this.#due);
    }
    this.#tell(false, this.#waiting);
  }

  async #round(): Promise<void> {
    const { store, register, documents, keys, log } = this.#parts;
    const waiting = this.#waiting;
    this.#waiting = [];
    this.#due = false;
    let known = false;
    try {
      const knownAt = await this.#readCertificates();
      for (const { issuer } of register.setAuthorities(await store.authorities())) documents.addCertificate(issuer);
      register.syncedAt = knownAt;
      known = true;
      this.#tell(true, waiting);
      this.#complain(await documents.fetchCrls(store, register));
      for (const authority of register.authorities) await keys.tend(authority);
      if (this.#problem !== undefined) log.info("knows what PostgreSQL knows");
      this.#problem = undefined;
    } catch (error) {
      if (this.#stopped.signal.aborted) return;
      if (this.#problem !== UNREADABLE) log.warn({ error }, UNREADABLE);
      this.#problem = UNREADABLE;
    } finally {
      if (!known) this.#tell(false, waiting);
    }
  }

  /** About what somebody who may write to the database wants to have believed; each once. */
  #complain(refused: readonly RefusedCrl[]): void {
    const { register, log } = this.#parts;
    const complaints = new Map<string, object>();
    for (const { path, number, problem } of refused)
      complaints.set(`${path} ${number}`, { crl: path, number, problem });
    for (const { issuer, tampered } of register.authorities) {
      for (const serialNumber of tampered) {
        const problem = "the CRL in force lists it, the database says otherwise";
        complaints.set(`${issuer.authorityId} ${serialNumber}`, {
          authority: issuer.authorityId,
          serialNumber,
          problem,
        });
      }
    }
    for (const [key, complaint] of complaints) {
      if (!this.#complaints.has(key))
        log.error({ code: "TamperDetected", ...complaint }, "the database was tampered with");
    }
    this.#complaints = new Set(complaints.keys());
  }

  /** How much of what the database says is contradicted by what the CAs have signed. */
  get tampered(): number {
    return this.#complaints.size;
  }

  /** Returns since when there may be others. */
  async #readCertificates(): Promise<number> {
    const { store, register, now } = this.#parts;
    for (;;) {
      const before = now();
      const { certificates, next, more } = await store.changes(this.#position, PAGE);
      register.apply(certificates, now());
      this.#position = next;
      if (!more) return before;
    }
  }

  #tell(caughtUp: boolean, waiting: readonly ((caughtUp: boolean) => void)[]): void {
    for (const resolve of waiting) resolve(caughtUp);
  }

  /** Until that time has passed, it is woken for a reason, or stopped. */
  async #sleep(ms: number, reason: () => boolean): Promise<void> {
    if (this.#stopped.signal.aborted || reason()) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        if (!reason() && !this.#stopped.signal.aborted) return;
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
