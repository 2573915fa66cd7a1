import { pino } from "pino";
import { Unavailable } from "../core/errors.ts";
import { until } from "../lab/poll.ts";
import { KeptChores } from "./kept-chores.ts";

let chores: KeptChores;
afterEach(() => chores.stop());

test("a vault that fails is told, and the others are looked at as often as ever", async () => {
  let looks = 0;
  const told: string[] = [];
  chores = new KeptChores({
    settlement: {
      settle: async () => {
        looks += 1;
        return { settled: 1, failures: [new Unavailable("VaultUnreachable", "no answer")] };
      },
    },
    log: pino({ level: "warn" }, { write: (line: string) => told.push(line) }),
    onFenced: () => {},
    everyMs: 5,
  });
  chores.start({ epoch: 1n });
  // With a pause that doubles they would take 20 seconds.
  await until("twelve looks", () => looks >= 12, { timeoutMs: 10_000, intervalMs: 5 });
  expect(told[0]).toContain("settle entries of Key Vaults");
});
