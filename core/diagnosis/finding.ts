/** What an examination found. Every text is safe to show: it names fields, objects and counts, never a value. */

export type FindingStatus =
  | "ok"
  /** It works, and will not for ever. */
  | "warning"
  /** Something does not work. */
  | "failing";

export interface Finding {
  /** Name of the check, the same for each run. */
  readonly check: string;
  readonly status: FindingStatus;
  /** The object that it is about, where there is one: `Secret shop/db`. */
  readonly subject?: string;
  /** What is wrong, in one sentence. */
  readonly problem?: string;
  /** What to do, with the command where there is one. */
  readonly fix?: string;
}

/** Something to look at. */
export interface Check {
  readonly name: string;
  /** What it finds; nothing means that all is well. What it throws does not work either. */
  readonly examine: (signal: AbortSignal) => Promise<readonly Finding[]>;
  /** What to do when it does not answer in time, or fails in a way that it has no word for. */
  readonly otherwise: string;
}

interface Told {
  readonly problem: string;
  readonly fix: string;
  readonly subject?: string;
}

export const fine = (check: string): Finding => ({ check, status: "ok" });
export const failing = (check: string, told: Told): Finding => ({ check, status: "failing", ...told });
export const warning = (check: string, told: Told): Finding => ({ check, status: "warning", ...told });
