/**
 * `node --expose-gc main.ts csr|ocsp COUNT SEED`: a process of its own, whose resident memory is that of the parser. Before
 * it is measured, a tenth of the inputs fill what only grows once: compiled code, the allocator's arenas.
 */
import { party } from "../party.ts";
import { csrAttempt } from "./csr.ts";
import { type Attempt, randomOf } from "./mutation.ts";
import { ocspAttempt } from "./ocsp.ts";

/** What it prints, as JSON. */
export interface Figures {
  /** How often each came out. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** Octets. */
  readonly residentBefore: number;
  readonly residentAfter: number;
  readonly seconds: number;
}

const WARM_UP = { share: 10, least: 2_000 };

const attempts: Readonly<Record<string, () => Promise<Attempt>>> = {
  csr: csrAttempt,
  ocsp: async () => ocspAttempt((await party({ name: "CA", ca: true })).certificate),
};

const [kind = "", count, seed] = process.argv.slice(2);
const prepare = attempts[kind];
if (prepare === undefined) throw new RangeError(`there is no kind "${kind}"`);
const attempt = await prepare();
const random = randomOf(Number(seed));

/** Gives the other tasks their turn, as a server does. */
async function run(times: number): Promise<Record<string, number>> {
  const outcomes: Record<string, number> = {};
  for (let n = 0; n < times; n += 1) {
    const outcome = attempt(random);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    if (n % 100 === 0) await new Promise(setImmediate);
  }
  return outcomes;
}

function resident(): number {
  if (globalThis.gc === undefined) throw new Error("needs --expose-gc");
  globalThis.gc();
  return process.memoryUsage.rss();
}

await run(Math.max(WARM_UP.least, Number(count) / WARM_UP.share));
const residentBefore = resident();
const started = performance.now();
const outcomes = await run(Number(count));
const seconds = Math.round((performance.now() - started) / 100) / 10;
const figures: Figures = { outcomes, residentBefore, residentAfter: resident(), seconds };
console.log(JSON.stringify(figures));
