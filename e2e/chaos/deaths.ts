/** Where the operator dies, `name:n` for the nth passing of a failpoint, and over what. */
export type Death<Effect> = readonly [failpoint: string, effect: Effect];

/**
 * `npm run test:chaos` dies at every failpoint during every effect that passes it; `npm test` once at each, and not where
 * only a status would be written again.
 */
export function boundedDeaths<Effect>(every: readonly Death<Effect>[]): readonly Death<Effect>[] {
  if (process.env.CHAOS_FAILPOINTS === "all") return every;
  const once = new Map(every.map((death) => [death[0].replace(/:.*/, ""), death]));
  return [...once.values()].filter(([failpoint]) => !failpoint.endsWith("Status"));
}
