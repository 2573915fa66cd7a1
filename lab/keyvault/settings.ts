import { z } from "zod";

const milliseconds = z.number().int().min(0);

const transitions = z.strictObject({
  deleting: milliseconds,
  recovering: milliseconds,
  settling: milliseconds.describe("after recovery: readable, but not yet writable"),
  purging: milliseconds,
});

const fields = z.strictObject({
  transitions: transitions.describe("how long the service works on a change, in milliseconds"),
  emptyLastPage: z
    .enum(["never", "sometimes", "always"])
    .describe("whether an empty page follows a last page that is full"),
  tokenLifetimeSeconds: z.number().int().min(1),
  serviceLimit: z.number().int().min(1).nullable().describe("transactions per vault in 10 s; null: none"),
});

/** How the services behave where the real ones leave it open; can be changed while they run. */
export type Settings = z.output<typeof fields>;

/** A change names only what it changes. */
export const settingsChange = fields.partial().extend({ transitions: transitions.partial().optional() });
export type SettingsChange = z.input<typeof settingsChange>;

const DEFAULTS: Settings = {
  transitions: { deleting: 300, recovering: 300, settling: 0, purging: 300 },
  emptyLastPage: "sometimes",
  tokenLifetimeSeconds: 3_599,
  serviceLimit: null,
};

/** In a configuration file, what is left out takes its default. */
export const settings = settingsChange.default({}).transform((change): Settings => {
  const initial = structuredClone(DEFAULTS);
  applyChange(initial, change);
  return initial;
});

export function applyChange(current: Settings, change: z.output<typeof settingsChange>): void {
  const { transitions: durations, ...rest } = change;
  Object.assign(current.transitions, durations);
  Object.assign(current, rest);
}
