/** A small part of the chaos run; all of it is `npm run test:chaos`. */
import { randomInt } from "node:crypto";
import { runChaos } from "./chaos.ts";

const { CHAOS_SEED } = process.env;

test("what was acknowledged survives kill -9 of every part, and nothing happens twice", async () => {
  const seed = CHAOS_SEED === undefined ? randomInt(2 ** 31) : Number(CHAOS_SEED);
  console.info(`chaos with CHAOS_SEED=${seed}`);
  const { faults } = await runChaos({ seed, kills: 8, secrets: 60, requests: 60, keyVault: false });
  expect(faults).toEqual([]);
});
