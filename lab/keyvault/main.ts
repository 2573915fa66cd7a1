import { parseArgs } from "node:util";
import { ConfigurationError, loadConfiguration } from "./config.ts";
import { startService } from "./service.ts";

const USAGE = "usage: node lab/keyvault/main.ts --config FILE.json";

/** Prints one JSON line with the addresses when every listener is open, and runs until SIGTERM or SIGINT. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: { config: { type: "string" } } });
  if (values.config === undefined) {
    throw new ConfigurationError(USAGE);
  }
  const service = await startService(loadConfiguration(values.config));
  console.log(JSON.stringify(service.addresses));
  let stopping = false;
  const stop = () => {
    if (!stopping) {
      stopping = true;
      service.stop().catch(fail);
    }
  };
  process.on("SIGTERM", stop).on("SIGINT", stop);
}

/** Ends at once: a listener that did open would keep the process alive. */
function fail(error: unknown): void {
  console.error(error instanceof ConfigurationError ? error.message : error);
  process.exit(1);
}

main().catch(fail);
