/** Tokens, certificates and leases are judged by clocks, each by that of its own machine. */
import { type Finding, failing } from "./finding.ts";

/** A minute is more than any network needs. */
const CLOCK_TOLERANCE_MS = 60_000;

export interface ClockReading {
  /** Our own time, before it was asked and after it answered. */
  readonly asked: Date;
  readonly answered: Date;
  /** What it said. */
  readonly theirs: Date;
}

/** @param ours whose clock it is compared with: `this clock`, `the operator's clock` */
export function judgeClock(
  check: string,
  ours: string,
  theirs: string,
  { asked, answered, theirs: said }: ClockReading,
): readonly Finding[] {
  const ahead = asked.getTime() - said.getTime();
  const behind = said.getTime() - answered.getTime();
  const offMs = Math.max(ahead, behind);
  if (Number.isNaN(offMs) || offMs <= CLOCK_TOLERANCE_MS) return [];
  const problem = `${ours} is ${Math.round(offMs / 1000)} s ${ahead > 0 ? "ahead of" : "behind"} ${theirs}`;
  return [failing(check, { problem, fix: "set both by NTP: timedatectl set-ntp true, then chronyc tracking" })];
}
