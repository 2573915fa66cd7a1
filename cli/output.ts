/** What a command prints: for a person a table, for a program JSON or YAML. */
import { stringify } from "yaml";
import type { Environment } from "./environment.ts";

export type Format = "table" | "json" | "yaml";
export const FORMATS: readonly Format[] = ["table", "json", "yaml"];

export interface Terminal {
  readonly stdout: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly stderr: NodeJS.WritableStream & { readonly isTTY?: boolean };
  readonly stdin: NodeJS.ReadStream;
  readonly env: Environment;
}

type Row = Readonly<Record<string, string | number | boolean | undefined>>;

export class Output {
  readonly #terminal: Terminal;
  readonly #format: Format;

  constructor(terminal: Terminal, format: Format) {
    this.#terminal = terminal;
    this.#format = format;
  }

  get format(): Format {
    return this.#format;
  }

  /** Whether a person looks at it: then values are not shown unless asked for. */
  get isTerminal(): boolean {
    return this.#terminal.stdout.isTTY === true;
  }

  /** The data for programs, or for a person these rows of it. */
  rows(data: unknown, rows: readonly Row[]): void {
    if (this.#format !== "table") this.data(data);
    else this.#terminal.stdout.write(table(rows, (text) => this.#bold(text)));
  }

  data(data: unknown): void {
    this.#terminal.stdout.write(this.#format === "yaml" ? stringify(data) : `${JSON.stringify(data, null, 2)}\n`);
  }

  /** Exactly these bytes. */
  raw(bytes: Buffer | string): void {
    this.#terminal.stdout.write(bytes);
  }

  line(text: string): void {
    this.#terminal.stdout.write(`${text}\n`);
  }

  /** What is said besides, and is no part of the answer. */
  note(text: string): void {
    this.#terminal.stderr.write(`${text}\n`);
  }

  /** How far long work is; only for a person. */
  progress(done: number, all: number): void {
    if (this.#terminal.stderr.isTTY !== true || all === 0) return;
    const width = 30;
    const filled = Math.round((done / all) * width);
    this.#terminal.stderr.write(
      `\r[${"#".repeat(filled)}${" ".repeat(width - filled)}] ${done}/${all}${done === all ? "\n" : ""}`,
    );
  }

  #bold(text: string): string {
    return this.isTerminal && this.#terminal.env.NO_COLOR === undefined ? `\u001b[1m${text}\u001b[0m` : text;
  }
}

/** Columns of the first row, each as wide as its widest cell. */
function table(rows: readonly Row[], bold: (text: string) => string): string {
  const [first] = rows;
  if (first === undefined) return "nothing found\n";
  const columns = Object.keys(first);
  const cells = rows.map((row) => columns.map((column) => String(row[column] ?? "")));
  const widths = columns.map((column, i) => Math.max(column.length, ...cells.map((cell) => (cell[i] ?? "").length)));
  const line = (texts: readonly string[]) =>
    texts
      .map((text, i) => text.padEnd(widths[i] ?? 0))
      .join("  ")
      .trimEnd();
  return `${[bold(line(columns.map((column) => column.toUpperCase()))), ...cells.map(line)].join("\n")}\n`;
}
