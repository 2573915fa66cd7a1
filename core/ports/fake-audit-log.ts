import { ChainVerification } from "../audit/chain.ts";
import type { AuditEntry, AuditLog, AuditVerdict } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";

/** The audit record in memory; its rows and links are real ones. */
export class FakeAuditLog implements AuditLog {
  readonly #database: FakeDatabase;

  constructor(database: FakeDatabase) {
    this.#database = database;
  }

  async append(entries: readonly AuditEntry[]): Promise<void> {
    this.#database.record(entries);
  }

  async link(epoch: bigint, limit: number): Promise<number> {
    this.#database.fence({ epoch });
    return this.#database.link(limit);
  }

  async verify(): Promise<AuditVerdict> {
    const verification = new ChainVerification(this.#database.signer.key);
    for (const { position, link, ...row } of this.#database.audit) {
      if (position !== undefined && link !== undefined) verification.linked({ ...row, position, link });
      else verification.unlinked(row);
    }
    return verification.finish(this.#database.head);
  }
}
