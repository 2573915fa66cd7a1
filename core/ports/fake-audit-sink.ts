import { GENESIS } from "../audit/chain.ts";
import { type AuditRecord, recordsOf } from "../audit/record.ts";
import { Unavailable } from "../errors.ts";
import type { AuditBatch, AuditSink, SinkCursor, SinkCursors } from "./audit-sink.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type { Writer } from "./vault-store.ts";

/** A receiver in memory. */
export class FakeAuditSink implements AuditSink {
  readonly received: AuditRecord[] = [];
  refuses = false;

  async deliver(batch: AuditBatch): Promise<void> {
    if (this.refuses) throw new Unavailable("SinkUnreachable", "the receiver is away");
    this.received.push(...recordsOf(batch));
  }

  async close(): Promise<void> {}
}

export class FakeSinkCursors implements SinkCursors {
  readonly #database: FakeDatabase;

  constructor(database: FakeDatabase) {
    this.#database = database;
  }

  async open(writer: Writer, uid: string, name: string): Promise<SinkCursor> {
    this.#database.fence(writer);
    for (const [other, held] of this.#database.sinks)
      if (held.name === name && other !== uid) this.#database.sinks.delete(other);
    const held = this.#database.sinks.get(uid) ?? { name, cursor: { position: 0n, link: GENESIS, checkpoint: 0n } };
    this.#database.sinks.set(uid, held);
    return held.cursor;
  }

  async move(writer: Writer, uid: string, cursor: SinkCursor): Promise<void> {
    this.#database.fence(writer);
    const held = this.#database.sinks.get(uid);
    if (held === undefined) throw new Unavailable("Failed", `there is no sink ${uid}`);
    held.cursor = cursor;
  }

  async forget(writer: Writer, name: string): Promise<void> {
    this.#database.fence(writer);
    for (const [uid, held] of this.#database.sinks) if (held.name === name) this.#database.sinks.delete(uid);
  }

  async list(): ReturnType<SinkCursors["list"]> {
    return [...this.#database.sinks].map(([uid, { name }]) => ({ uid, name }));
  }
}
