import { Unavailable } from "../../core/errors.ts";
import type { SinkCursor, SinkCursors } from "../../core/ports/audit-sink.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { type Database, read, type Statement } from "./database.ts";
import { mapWriteError } from "./errors.ts";

const OPEN = { name: "open_audit_sink", text: "SELECT * FROM open_audit_sink($1, $2, $3)" };
const MOVE = { name: "move_audit_sink", text: "SELECT move_audit_sink($1, $2, $3, $4, $5)" };
const FORGET = { name: "forget_audit_sink", text: "SELECT forget_audit_sink($1, $2)" };
const LIST = { name: "list_audit_sinks", text: "SELECT uid, name FROM audit_sinks ORDER BY name" };

interface CursorRow {
  readonly position: string;
  readonly link: Buffer;
  readonly checkpoint: string;
}

export class PostgresSinkCursors implements SinkCursors {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async open(writer: Writer, uid: string, name: string): Promise<SinkCursor> {
    const [row] = await this.#write<CursorRow>(writer, OPEN, [uid, name]);
    if (row === undefined) throw new Unavailable("Failed", `there is no cursor for audit sink ${name}`);
    return { position: BigInt(row.position), link: row.link, checkpoint: BigInt(row.checkpoint) };
  }

  async move(writer: Writer, uid: string, { position, link, checkpoint }: SinkCursor): Promise<void> {
    await this.#write(writer, MOVE, [uid, position.toString(), link, checkpoint.toString()]);
  }

  async forget(writer: Writer, name: string): Promise<void> {
    await this.#write(writer, FORGET, [name]);
  }

  list(): ReturnType<SinkCursors["list"]> {
    return read<{ uid: string; name: string }>(this.#database, LIST, []);
  }

  async #write<Row extends object>(
    { epoch }: Writer,
    statement: Statement,
    values: readonly unknown[],
  ): Promise<Row[]> {
    try {
      return await this.#database.query<Row>(statement, [epoch, ...values]);
    } catch (error) {
      throw mapWriteError(error, epoch);
    }
  }
}
