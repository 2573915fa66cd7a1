/** Values and passwords, on ways that leave no trace: not in the shell's history, not on the screen. */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { UsageError } from "./errors.ts";
import type { Terminal } from "./output.ts";

/** All of standard input, without the line end that `echo` and editors add. */
export async function readStdin({ stdin }: Terminal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stdin) chunks.push(Buffer.from(chunk as Buffer));
  const all = Buffer.concat(chunks);
  return all.at(-1) === 0x0a ? all.subarray(0, all.at(-2) === 0x0d ? -2 : -1) : all;
}

export function readValueFile(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw new UsageError(`${file} cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

/** Asks a person, without showing what is typed. */
export async function ask(terminal: Terminal, question: string): Promise<string> {
  if (terminal.stdin.isTTY !== true) {
    throw new UsageError(`${question}: there is no terminal to ask at; give it through standard input`);
  }
  terminal.stderr.write(`${question}: `);
  // With raw input the terminal echoes nothing, and readline has nowhere to write to.
  const lines = createInterface({ input: terminal.stdin, terminal: true });
  try {
    return await new Promise<string>((resolve, reject) => {
      lines.once("line", resolve);
      lines.once("SIGINT", () => reject(new UsageError("interrupted")));
    });
  } finally {
    lines.close();
    terminal.stderr.write("\n");
  }
}
