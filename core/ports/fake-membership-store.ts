import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type { MembershipRecord, MembershipStore, StoredMembership } from "./membership-store.ts";
import { Conflict, type Writer } from "./vault-store.ts";

/** A membership in memory, with the contract of the real store. */
export class FakeMembershipStore implements MembershipStore {
  readonly #database: FakeDatabase;
  #stored: StoredMembership | undefined;

  constructor(database: FakeDatabase) {
    this.#database = database;
  }

  async read(): Promise<StoredMembership | undefined> {
    return this.#stored;
  }

  async write(writer: Writer, before: bigint, record: MembershipRecord, audit: readonly AuditEntry[]): Promise<bigint> {
    this.#database.fence(writer);
    if ((this.#stored?.generation ?? 0n) !== before) throw new Conflict("membership");
    this.#stored = { generation: before + 1n, record };
    this.#database.record(audit);
    return before + 1n;
  }
}
