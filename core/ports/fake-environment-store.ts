import type { AuditEntry } from "./audit-log.ts";
import type { EnvironmentRecord, EnvironmentStore, Ground, StoredEnvironment } from "./environment-store.ts";
import type { FakeDatabase } from "./fake-database.ts";
import { Conflict, type Writer } from "./vault-store.ts";

/** Environments in memory, with the contract of the real store. */
export class FakeEnvironmentStore implements EnvironmentStore {
  readonly #database: FakeDatabase;
  readonly #now: () => Date;
  readonly #stored = new Map<string, StoredEnvironment>();
  /** By gateway. */
  readonly succeededAt = new Map<string, Date>();

  constructor(database: FakeDatabase, now: () => Date = () => new Date()) {
    this.#database = database;
    this.#now = now;
  }

  async ground(gatewayId: string, environment: string): Promise<Ground> {
    const succeededAt = this.succeededAt.get(gatewayId);
    return { environment: this.#stored.get(environment), succeededAt, at: this.#now() };
  }

  async environments(): Promise<{ readonly stored: readonly StoredEnvironment[]; readonly at: Date }> {
    const stored = [...this.#stored.values()].sort((one, other) =>
      one.record.environment < other.record.environment ? -1 : 1,
    );
    return { stored, at: this.#now() };
  }

  async write(
    writer: Writer,
    before: bigint,
    record: EnvironmentRecord,
    mac: Buffer,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    this.#database.fence(writer);
    const { environment } = record;
    if ((this.#stored.get(environment)?.generation ?? 0n) !== before) throw new Conflict(`environment ${environment}`);
    this.#stored.set(environment, { record, generation: before + 1n, mac });
    this.#database.record(audit);
  }

  /** As somebody does who can write into the database. */
  tamper(environment: string, change: Partial<EnvironmentRecord>): void {
    const stored = this.#stored.get(environment);
    if (stored !== undefined) this.#stored.set(environment, { ...stored, record: { ...stored.record, ...change } });
  }

  /** As the restore of an older state does. */
  restore(environment: string, older: StoredEnvironment | undefined): void {
    if (older === undefined) this.#stored.delete(environment);
    else this.#stored.set(environment, older);
  }
}
