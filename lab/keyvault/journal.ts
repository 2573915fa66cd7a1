import { closeSync, existsSync, fdatasync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { promisify } from "node:util";

const synchronise = promisify(fdatasync);

/**
 * An append-only file of JSON records, one a line. A record is handed to the operating system before `append`
 * returns, so nothing that another request could have seen is lost when the process is killed; the promise resolves
 * when the record is on disk. Records that arrive while the disk is busy share the next synchronisation.
 */
export class Journal<Entry> {
  readonly #descriptor: number;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  private constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  /**
   * The records of a journal in order; none when there is no file. A torn last line was never acknowledged.
   * @throws Error naming the line that is damaged
   */
  static read<Entry>(file: string): Entry[] {
    if (!existsSync(file)) {
      return [];
    }
    const lines = readFileSync(file, "utf8").split("\n");
    lines.pop();
    return lines.map((line, index) => {
      try {
        return JSON.parse(line) as Entry;
      } catch (error) {
        throw new Error(`${file}:${index + 1}: damaged record`, { cause: error });
      }
    });
  }

  /** Replaces the file by the given records, atomically, and opens it for appending. */
  static replace<Entry>(file: string, entries: Iterable<Entry>): Journal<Entry> {
    const temporary = `${file}.new`;
    const descriptor = openSync(temporary, "w", 0o600);
    for (const entry of entries) {
      writeLine(descriptor, entry);
    }
    fsyncSync(descriptor);
    renameSync(temporary, file);
    const folder = openSync(dirname(file), "r");
    fsyncSync(folder);
    closeSync(folder);
    return new Journal(descriptor);
  }

  append(entry: Entry): Promise<void> {
    writeLine(this.#descriptor, entry);
    if (this.#running === undefined) {
      this.#running = this.#synchronise();
      return this.#running;
    }
    this.#next ??= this.#running.then(() => {
      this.#running = this.#next;
      this.#next = undefined;
      return this.#synchronise();
    });
    return this.#next;
  }

  /** Waits for what was appended, then closes the file. */
  async close(): Promise<void> {
    await (this.#next ?? this.#running);
    closeSync(this.#descriptor);
  }

  async #synchronise(): Promise<void> {
    await synchronise(this.#descriptor);
    if (this.#next === undefined) {
      this.#running = undefined;
    }
  }
}

function writeLine(descriptor: number, entry: unknown): void {
  const line = Buffer.from(`${JSON.stringify(entry)}\n`);
  for (let written = 0; written < line.length; ) {
    written += writeSync(descriptor, line, written);
  }
}
