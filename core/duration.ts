const UNITS = { h: 3_600_000, m: 60_000, s: 1_000 } as const;

/** Milliseconds of a duration as resources write it (`2160h`, `1h30m`, `60s`); the API server has checked its form. */
export function durationMs(text: string): number {
  return [...text.matchAll(/(\d+)([hms])/g)].reduce(
    (sum, [, count, unit]) => sum + Number(count) * UNITS[unit as keyof typeof UNITS],
    0,
  );
}
