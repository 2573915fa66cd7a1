/** Go's durations, such as 1h0m0s or 1.5h, in the form of `interval`. */

const SECONDS: Readonly<Record<string, number>> = {
  h: 3600,
  m: 60,
  s: 1,
  ms: 1e-3,
  us: 1e-6,
  µs: 1e-6,
  μs: 1e-6,
  ns: 1e-9,
};

/** Undefined: it is none. */
export function secondsOf(duration: string): number | undefined {
  if (duration === "0") return 0;
  if (!/^(\d+(\.\d+)?(h|ms|us|µs|μs|ns|m|s))+$/.test(duration)) return undefined;
  const parts = [...duration.matchAll(/(\d+(?:\.\d+)?)(h|ms|us|µs|μs|ns|m|s)/g)];
  return parts.reduce((sum, [, amount, unit = ""]) => sum + Number(amount) * (SECONDS[unit] ?? 0), 0);
}

export function durationOf(seconds: number): string {
  const whole = Math.round(seconds);
  const parts = [
    [Math.floor(whole / 3600), "h"],
    [Math.floor((whole % 3600) / 60), "m"],
    [whole % 60, "s"],
  ] as const;
  return parts.flatMap(([amount, unit]) => (amount === 0 ? [] : [`${amount}${unit}`])).join("");
}
