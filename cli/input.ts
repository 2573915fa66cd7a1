/** Values and passwords, on ways that leave no trace: not in the shell's history, not on the screen. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { Option } from "commander";
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

/** A file that only its owner reads. What is there already is not written over: it may be the only copy of something. */
export function writeOwnFile(file: string, content: string | Buffer): void {
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(file, content, { mode: 0o600, flag: "wx" });
  } catch (error) {
    throw new UsageError(`${file} cannot be written (${(error as NodeJS.ErrnoException).code})`);
  }
}

/** Asked before the work whose outcome it is to hold. */
export function assertNew(file: string): void {
  if (existsSync(file)) throw new UsageError(`${file} is there already`);
}

/** A password that is asked for, or stands alone on standard input. */
export async function givenPassword(terminal: Terminal, fromStdin: boolean | undefined): Promise<string> {
  return fromStdin === true ? (await readStdin(terminal)).toString("utf8") : ask(terminal, "Password");
}

/** Asks a person, without showing what is typed. */
export async function ask(terminal: Terminal, question: string): Promise<string> {
  if (terminal.stdin.isTTY !== true) {
    throw new UsageError(`${question}: there is no terminal to ask at; give it through standard input`);
  }
  // With raw input the terminal echoes nothing, and readline has nowhere to write to.
  const lines = createInterface({ input: terminal.stdin, terminal: true });
  terminal.stderr.write(`${question}: `);
  try {
    return await new Promise<string>((resolve, reject) => {
      lines.once("line", resolve);
      lines.once("SIGINT", () => reject(new UsageError("interrupted")));
      lines.once("close", () => reject(new UsageError(`${question}: nothing was typed`)));
    });
  } finally {
    lines.close();
    terminal.stderr.write("\n");
  }
}

/** Once for each value: it must not take the keys that follow it for further ones. */
export const literalOption = (): Option =>
  new Option(
    "--literal <key=value>",
    "a value on the command line, which stays in the shell's history; may be repeated",
  ).argParser((literal, before: readonly string[] = []) => [...before, literal]);

/** Values by key, as `put` and `seal` take them. @throws UsageError */
export async function givenValues(
  terminal: Terminal,
  keys: readonly string[],
  literals: readonly string[] = [],
): Promise<ReadonlyMap<string, Buffer>> {
  const values = new Map(literals.map(literal));
  for (const argument of keys) values.set(...(await givenValue(terminal, argument)));
  if (values.size === 0) throw new UsageError("name at least one key");
  return values;
}

/** What stands on the command line as KEY: asked for; KEY=@FILE: from a file; KEY=-: from standard input. */
async function givenValue(terminal: Terminal, argument: string): Promise<[key: string, value: Buffer]> {
  const at = argument.indexOf("=");
  if (at < 0) return [argument, Buffer.from(await ask(terminal, `Value of ${argument}`), "utf8")];
  const [key, from] = [argument.slice(0, at), argument.slice(at + 1)];
  if (from === "-") return [key, await readStdin(terminal)];
  if (from.startsWith("@")) return [key, readValueFile(from.slice(1))];
  throw new UsageError(
    `${key}: a value on the command line stays in the shell's history; use ${key} (asks for it), ${key}=@FILE, ${key}=- (standard input), or --literal ${key}=VALUE`,
  );
}

function literal(argument: string): [key: string, value: Buffer] {
  const at = argument.indexOf("=");
  if (at < 1) throw new UsageError(`--literal: ${argument} must be KEY=VALUE`);
  return [argument.slice(0, at), Buffer.from(argument.slice(at + 1), "utf8")];
}
