/** `npm run test:chaos`: the whole of it. `--seed N --kills N --secrets N --requests N`, or CHAOS_SEED and so on. */
import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { runChaos } from "./chaos.ts";

const option = { type: "string" } as const;
const { values } = parseArgs({ options: { seed: option, kills: option, secrets: option, requests: option } });
const { CHAOS_SEED, CHAOS_KILLS, CHAOS_SECRETS, CHAOS_REQUESTS } = process.env;

const seed = Number(values.seed ?? CHAOS_SEED ?? randomInt(2 ** 31));
const kills = Number(values.kills ?? CHAOS_KILLS ?? 54);
const secrets = Number(values.secrets ?? CHAOS_SECRETS ?? 500);
const requests = Number(values.requests ?? CHAOS_REQUESTS ?? 1000);
const numbers = [seed, kills, secrets, requests];
if (!numbers.every((each) => Number.isInteger(each) && each >= 0) || kills === 0 || secrets === 0) {
  throw new RangeError("--seed, --kills, --secrets and --requests are whole numbers");
}

// The lab kills what it started when the program exits, but not when a signal ends the program.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => process.exit(1));

console.log(`chaos: ${secrets} Secrets, ${requests} requests to be signed, ${kills} kills, --seed ${seed}`);
try {
  const { faults, ...figures } = await runChaos({
    seed,
    kills,
    secrets,
    requests,
    keyVault: true,
    report: console.log,
  });
  for (const fault of faults) console.error(fault);
  const verdict = faults.length === 0 ? "passed" : `failed with ${faults.length} faults`;
  console.log(`chaos ${verdict}: ${JSON.stringify(figures)}, --seed ${seed}`);
  process.exitCode = faults.length === 0 ? 0 : 1;
} catch (error) {
  console.error(error);
  console.log(`chaos failed, --seed ${seed}`);
  process.exitCode = 1;
}
