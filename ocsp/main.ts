/** The program: answers OCSP requests and publishes CRLs from what it may read of the database. */
import { createLogger } from "../program/logging.ts";
import { endOnSignals, runProgram } from "../program/main.ts";
import { configSchema } from "./config.ts";
import { startResponder } from "./responder.ts";

await runProgram({
  name: "mazevault-ocsp",
  schema: configSchema,
  async run(config) {
    const log = createLogger({ level: config.log.level });
    const stop = await startResponder(config, log);
    endOnSignals(log, stop);
  },
});
