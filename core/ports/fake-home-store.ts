import { bindingId, HOME_ID } from "../recovery/home.ts";
import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type { HeldObject, HomeRecord, HomeStore, StoredBinding, StoredHome } from "./home-store.ts";
import { Conflict, type Writer } from "./vault-store.ts";

/** The home in memory, with the contract of the real store. */
export class FakeHomeStore implements HomeStore {
  readonly #database: FakeDatabase;
  readonly #bindings = new Map<string, Omit<StoredBinding, "auditedGeneration">>();
  #home: Omit<StoredHome, "auditedGeneration"> | undefined;
  /** What rows stand for. */
  held: readonly Omit<HeldObject, "generation">[] = [];
  readonly renamedRules = new Map<string, string>();
  readonly renamedSinks = new Map<string, string>();

  constructor(database: FakeDatabase) {
    this.#database = database;
  }

  async home(): Promise<StoredHome | undefined> {
    return this.#home && { ...this.#home, auditedGeneration: this.#audited(HOME_ID) };
  }

  async mark(): Promise<string> {
    const generations = [...this.#bindings.values()].map(({ generation }) => generation);
    return [this.#home?.generation, ...generations].join(" ");
  }

  async writeHome(
    writer: Writer,
    before: bigint,
    record: HomeRecord,
    mac: Buffer,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    this.#database.fence(writer);
    if ((this.#home?.generation ?? 0n) !== before) throw new Conflict(HOME_ID);
    this.#home = { record, generation: before + 1n, mac };
    if (record.state === "Settled")
      for (const [id, { binding }] of this.#bindings) if (binding.uid === undefined) this.#bindings.delete(id);
    this.#database.record(audit);
  }

  async bindings(): Promise<readonly StoredBinding[]> {
    return [...this.#bindings]
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([id, stored]) => ({ ...stored, auditedGeneration: this.#audited(id) }));
  }

  async writeBindings(
    writer: Writer,
    bindings: readonly Omit<StoredBinding, "auditedGeneration">[],
    audit: readonly AuditEntry[],
  ): Promise<void> {
    this.#database.fence(writer);
    for (const { binding, generation } of bindings) {
      const before = this.#bindings.get(bindingId(binding));
      if (before !== undefined && before.generation !== generation - 1n) throw new Conflict(HOME_ID);
    }
    for (const each of bindings) {
      const { kind, heldUid, uid } = each.binding;
      const stands = [...this.#bindings.values()].some(
        ({ binding }) => binding.kind === kind && binding.uid === uid && binding.heldUid !== heldUid,
      );
      if (uid !== undefined && stands) throw new Error(`${kind} ${uid} stands for another one already`);
      this.#bindings.set(bindingId(each.binding), each);
    }
    this.#database.record(audit);
  }

  async heldObjects(
    after: Pick<HeldObject, "kind" | "heldUid"> | undefined,
    limit: number,
  ): Promise<readonly HeldObject[]> {
    const order = ({ kind, heldUid }: Pick<HeldObject, "kind" | "heldUid">): string => `${kind} ${heldUid}`;
    return [...this.held]
      .sort((one, other) => (order(one) < order(other) ? -1 : 1))
      .filter((each) => after === undefined || order(each) > order(after))
      .slice(0, limit)
      .map((each) => ({ ...each, generation: this.#audited(bindingId(each)) }));
  }

  async renameRules(writer: Writer, uids: ReadonlyMap<string, string>): Promise<void> {
    this.#database.fence(writer);
    for (const [before, uid] of uids) this.renamedRules.set(before, uid);
  }

  async renameSinks(writer: Writer, uids: ReadonlyMap<string, string>): Promise<void> {
    this.#database.fence(writer);
    for (const [name, uid] of uids) this.renamedSinks.set(name, uid);
  }

  #audited(id: string): bigint {
    return this.#database.audit.reduce(
      (most, { entry: { subject } }) =>
        subject.id === id && (subject.generation ?? 0n) > most ? (subject.generation ?? 0n) : most,
      0n,
    );
  }
}
