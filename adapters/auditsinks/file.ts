/** JSON Lines in a file, for a log collector of the node or for a volume that only grows. */
import { type FileHandle, open } from "node:fs/promises";
import path from "node:path";
import { type AuditRecord, recordsOf } from "../../core/audit/record.ts";
import type { AuditBatch, AuditSink } from "../../core/ports/audit-sink.ts";
import { unreachable } from "./failure.ts";

/** More than the longest line. */
const TAIL_BYTES = 1_048_576;
const NEWLINE = 0x0a;

/** Appends only; opens the file anew for each batch, so that it may be rotated away at any time. */
export class FileSink implements AuditSink {
  readonly #file: string;
  /** The file as this process left it, which then needs no look at its end. */
  #left: { readonly inode: number; readonly size: number } | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  async deliver(batch: AuditBatch): Promise<void> {
    try {
      const handle = await open(this.#file, "a+", 0o600);
      try {
        await this.#append(handle, recordsOf(batch));
      } finally {
        await handle.close();
      }
    } catch (error) {
      throw unreachable(`${this.#file} cannot be written`, error);
    }
  }

  async close(): Promise<void> {}

  async #append(handle: FileHandle, records: readonly AuditRecord[]): Promise<void> {
    const { ino: inode, size: before } = await handle.stat();
    const known = this.#left?.inode === inode && this.#left.size === before;
    const { size, last } = known ? { size: before, last: undefined } : await mend(handle, before);
    const added = Buffer.from(
      withoutKnown(records, last)
        .map((record) => `${JSON.stringify(record)}\n`)
        .join(""),
    );
    this.#left = undefined;
    try {
      await handle.appendFile(added);
      await handle.datasync();
    } catch (error) {
      // Half a batch on a full disk would be half a line; if this fails too, the next look at the end mends it.
      await handle.truncate(size).catch(() => {});
      throw error;
    }
    if (before === 0) await syncDirectory(this.#file);
    this.#left = { inode, size: size + added.length };
  }
}

/** Cuts off a line that a crash left unfinished, which nobody was told of; the last whole one. */
async function mend(handle: FileHandle, size: number): Promise<{ readonly size: number; readonly last?: string }> {
  const tail = Buffer.alloc(Math.min(size, TAIL_BYTES));
  await handle.read(tail, 0, tail.length, size - tail.length);
  const end = tail.lastIndexOf(NEWLINE) + 1;
  const whole = size - tail.length + end;
  if (whole < size) await handle.truncate(whole);
  if (end === 0) return { size: whole };
  const begin = tail.lastIndexOf(NEWLINE, end - 2) + 1;
  return { size: whole, last: tail.toString("utf8", begin, end - 1) };
}

/** What comes again after a crash is left out; only up to a record that is the very same, for the record may be a fork. */
function withoutKnown(records: readonly AuditRecord[], last: string | undefined): readonly AuditRecord[] {
  return records.slice(records.findIndex((record) => JSON.stringify(record) === last) + 1);
}

async function syncDirectory(file: string): Promise<void> {
  const directory = await open(path.dirname(file), "r");
  await directory.sync().finally(() => directory.close());
}
