/** Figures, and how they are shown. */
import type { RawRates } from "./stage.ts";

/** What a measurement tells. */
export interface Figure {
  readonly what: string;
  readonly value: number;
  readonly unit: "s" | "ms" | "µs" | "/s" | "MiB" | "calls" | "rows" | "";
  /** Of docs on what good means, in the same unit; absent where there is none. */
  readonly aim?: { readonly atMost: number } | { readonly atLeast: number };
}

export interface Result {
  /** Name of its file, with the size: `start-1000`. */
  readonly name: string;
  readonly figures: readonly Figure[];
  /** Whatever else explains the figures. */
  readonly details?: Readonly<Record<string, unknown>>;
}

const round = (value: number): string =>
  Math.abs(value) >= 100 ? String(Math.round(value)) : String(Number(value.toPrecision(3)));

export const row = (name: string, { what, value, unit, aim }: Figure): string[] => [
  name,
  what,
  `${round(value)} ${unit}`.trim(),
  aim === undefined ? "" : "atMost" in aim ? `at most ${aim.atMost}` : `at least ${aim.atLeast}`,
  aim === undefined ? "" : ("atMost" in aim ? value <= aim.atMost : value >= aim.atLeast) ? "reached" : "missed",
];

/**
 * How long the API server alone needs for the writes that delivering secrets takes, at the raw rates of the same run: the
 * whole machine for a client that does nothing else. Nothing where those rates were not measured.
 */
export const floor = (rates: RawRates | undefined, count: number, applied: boolean): Figure[] =>
  rates === undefined
    ? []
    : [
        {
          what: `the API server alone: ${applied ? "apply, " : ""}POST and status of each, at its raw rates`,
          value: count * (1 / rates.coreSecret + 1 / rates.status + (applied ? 1 / rates.resource : 0)),
          unit: "s",
        },
      ];

/** One figure for each entry of a tally. */
export const tally = (prefix: string, counts: Readonly<Record<string, number>>, unit: Figure["unit"]): Figure[] =>
  Object.entries(counts)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, value]) => ({ what: `${prefix} ${name}`, value, unit }));
