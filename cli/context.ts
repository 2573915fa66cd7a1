/** What every command gets. */
import type { Command } from "commander";
import { Client } from "./client.ts";
import { UsageError } from "./errors.ts";
import { type Format, Output, type Terminal } from "./output.ts";
import { Settings } from "./settings.ts";

export interface Context {
  readonly terminal: Terminal;
  readonly settings: Settings;
  readonly client: Client;
  readonly output: Output;
}

interface GlobalOptions {
  readonly server?: string;
  readonly caFile?: string;
  readonly output: Format;
}

/** Runs a command's action with its context, and closes what it opened. */
export const acting =
  <A extends unknown[]>(terminal: Terminal, act: (context: Context, ...args: A) => Promise<void>) =>
  async (...given: unknown[]): Promise<void> => {
    const command = given.at(-1) as Command;
    const { server, caFile, output } = command.optsWithGlobals<GlobalOptions>();
    const settings = new Settings(terminal.env, { server, caFile });
    const client = new Client(settings);
    try {
      await act({ terminal, settings, client, output: new Output(terminal, output) }, ...(given.slice(0, -1) as A));
    } finally {
      await client.close();
    }
  };

export interface Place {
  readonly namespace: string;
  readonly name: string;
}

/** NAMESPACE/NAME. */
export function placeOf(text: string): Place {
  const [namespace, name, ...rest] = text.split("/");
  if (namespace && name && rest.length === 0) return { namespace, name };
  throw new UsageError(`${text}: must be NAMESPACE/NAME`);
}
