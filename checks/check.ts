import { errorMessage } from "../lab/errors.ts";

/** One of what `npm run verify` looks at. */
export interface Check {
  readonly name: string;
  /** Whether it holds; says why not. */
  readonly holds: () => Promise<boolean>;
}

/** A check that comes back with what is wrong, or throws it; with nothing when it holds. */
export const byProblems = (name: string, problems: () => Promise<readonly string[]>): Check => ({
  name,
  async holds() {
    const found = await problems().catch((error: unknown) => [errorMessage(error)]);
    for (const problem of found) console.log(`${name}: ${problem}`);
    return found.length === 0;
  },
});
