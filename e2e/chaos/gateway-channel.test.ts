/** A part of a run that has ten minutes in `npm run test:chaos`: CHANNEL_SECONDS and CHAOS_SEED repeat one. */
import { randomInt } from "node:crypto";
import { runChannelChaos } from "./gateway-channel.ts";

const { CHAOS_SEED, CHANNEL_SECONDS } = process.env;
const seconds = Number(CHANNEL_SECONDS ?? 30);
const seed = CHAOS_SEED === undefined ? randomInt(2 ** 31) : Number(CHAOS_SEED);

test(
  `nothing is lost or doubled between a gateway and its primary, whatever the way does (CHAOS_SEED=${seed})`,
  async () => {
    const lines: string[] = [];
    const { faults, ...figures } = await runChannelChaos({ seed, seconds, report: (line) => lines.push(line) });
    console.info(`${seconds} seconds with CHAOS_SEED=${seed}: ${JSON.stringify(figures)}`);
    if (faults.length > 0) console.info(lines.join("\n"));
    expect(faults).toEqual([]);
    // Else it would have proved nothing.
    expect(Math.min(figures.writes.primary, figures.writes.gateway, figures.passing.registered)).toBeGreaterThan(0);
    expect(figures.deaths.primary.length + figures.deaths.gateway.length).toBeGreaterThan(0);
  },
  seconds * 1_000 + 400_000,
);
