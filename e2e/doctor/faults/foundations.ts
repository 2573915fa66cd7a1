/** What everything stands on is away or frozen; then, that all of it is well again. */
import type { Fault } from "../fault.ts";
import { type Installation, TEAM } from "../installation.ts";

export const inWhatEverythingStandsOn = (on: Installation): void =>
  describe("of what everything stands on", () => {
    test.each<Fault>([
      {
        fault: "PostgreSQL is frozen",
        plant: () => on.world.lab.postgres.process.pause(),
        heal: () => on.world.lab.postgres.process.resume(),
        check: "database",
        problem: /PostgreSQL at .* does not answer/,
        fix: /pg_isready/,
      },
      {
        fault: "PostgreSQL is away",
        plant: () => on.world.lab.postgres.process.stop(),
        heal: () => on.world.lab.postgres.process.start(),
        check: "database",
        problem: /PostgreSQL at .* does not answer/,
        fix: /pg_isready/,
      },
      {
        fault: "the operator is frozen, and nobody leads",
        plant: () => on.operator.process.pause(),
        heal: () => on.operator.process.resume(),
        given: () => on.onlyCluster(),
        check: "leadership",
        problem: /nobody leads: .* renewed the Lease \d+ s ago/,
        fix: /logs -l '.*component in \(operator,gateway\)'/,
      },
    ])("$fault", (fault) => on.plants(fault));

    test("when all of it is mended, doctor is content", async () => {
      await on.world.kubectl("-n", TEAM, "delete", "syncrules.mazevault.io,keyvaults.mazevault.io", "--all");
      await on.content();
    });
  });
