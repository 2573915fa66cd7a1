/** What became of a conflict that no person was asked about, or that one resolved. */
import { conflictKey } from "../../core/sync/exchange-plan.ts";
import type { DecidedConflict } from "../../core/sync/run.ts";

const OF_WINNER = { Platform: "the value of this side", Target: "the vault's value" } as const;

/** For people: who won, and why. */
export function describeDecided(decided: DecidedConflict): string {
  const { entry, policy, winner, platformVersion, targetVersion, platformSetOn, targetSetOn } = decided;
  const times =
    policy === "NewestWins" && platformSetOn !== undefined
      ? `, as the newer one (set here ${platformSetOn.toISOString()}, there ${targetSetOn.toISOString()}, by the vault's clock)`
      : "";
  return (
    `${conflictKey(entry)} was changed here (version ${platformVersion}) and in the vault (${targetVersion}); ` +
    `by ${policy} both have ${OF_WINNER[winner]}${times}; the other one is kept as a version of the Secret`
  );
}
