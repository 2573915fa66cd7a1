/**
 * Mutated input, of which nothing stays in memory. `FUZZ_CSRS`, `FUZZ_OCSP_REQUESTS` and `FUZZ_SEED` choose how much and
 * which; `npm run test:chaos` takes 100,000 and a million.
 */
import { execFile } from "node:child_process";
import { randomInt } from "node:crypto";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { NODE_ARGUMENTS } from "../../../../build/bundle.ts";
import type { Figures } from "./main.ts";

const { FUZZ_CSRS = 5_000, FUZZ_OCSP_REQUESTS = 50_000, FUZZ_SEED } = process.env;
const seed = Number(FUZZ_SEED ?? randomInt(2 ** 31));

test.each([
  {
    kind: "csr",
    count: Number(FUZZ_CSRS),
    codes: ["accepted", "Malformed", "MalformedName", "WeakKey", "WrongSignature"],
  },
  { kind: "ocsp", count: Number(FUZZ_OCSP_REQUESTS), codes: ["malformedRequest", "read", "unauthorized"] },
])(
  `$count mutated requests of kind $kind, seed ${seed}`,
  async ({ kind, count, codes }) => {
    const program = fileURLToPath(new URL("main.ts", import.meta.url));
    // As the programs run. The young generation has its whole size from the start: V8 enlarges it at a moment of its own
    // choosing, which has nothing to do with what stays.
    const args = [
      ...NODE_ARGUMENTS,
      "--min-semi-space-size=8",
      "--expose-gc",
      program,
      kind,
      String(count),
      String(seed),
    ];
    const { stdout } = await promisify(execFile)(process.execPath, args);
    const { outcomes, residentBefore, residentAfter, seconds } = JSON.parse(stdout) as Figures;
    const growth = residentAfter / residentBefore;
    console.info(`${count} mutated ${kind} in ${seconds} s: ${JSON.stringify(outcomes)}, memory ${growth.toFixed(3)}`);
    expect(Object.keys(outcomes).toSorted()).toEqual(codes.toSorted());
    expect(growth).toBeLessThanOrEqual(1.1);
  },
  600_000,
);
