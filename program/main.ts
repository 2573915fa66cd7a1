/** What every program does around its work: reads settings, explains them, ends on signals, says why it cannot start. */
import type { z } from "zod";
import { createLogger, type Logger } from "./logging.ts";
import { ConfigError, helpText, readInvocation } from "./settings.ts";

export interface Program<Schema extends z.ZodObject> {
  /** As it is called on the command line. */
  readonly name: string;
  readonly schema: Schema;
  /** Resolves when it has started. */
  run(config: z.infer<Schema>): Promise<void>;
}

/** Runs a program with this process's arguments and environment. */
export async function runProgram<Schema extends z.ZodObject>({ name, schema, run }: Program<Schema>): Promise<void> {
  try {
    const { config, printConfig, help } = readInvocation(schema, process.argv.slice(2), process.env);
    if (help) process.stdout.write(helpText(schema, name));
    else if (printConfig) process.stdout.write(`${JSON.stringify(config, null, 2)}\n`);
    else await run(config);
  } catch (error) {
    // Stopping while something is still waited for ends in an abort, which is no failure.
    if ((error as { name?: unknown }).name === "AbortError") return;
    if (error instanceof ConfigError) process.stderr.write(`${error.message}\n`);
    else createLogger({}).fatal({ error }, "the program cannot start");
    process.exit(1);
  }
}

/** Ends the process on SIGTERM and SIGINT, after `stop`; a second signal ends it at once. */
export function endOnSignals(log: Logger, stop: () => Promise<void>): void {
  let asked = false;
  const end = async (name: NodeJS.Signals): Promise<void> => {
    if (asked) process.exit(1);
    asked = true;
    log.info({ signal: name }, "stopping");
    try {
      await stop();
      process.exit(0);
    } catch (error) {
      log.error({ error }, "stopping failed");
      process.exit(1);
    }
  };
  process.on("SIGTERM", (name) => void end(name));
  process.on("SIGINT", (name) => void end(name));
}
