import { pino } from "pino";
import { Unavailable } from "../core/errors.ts";
import { until } from "../lab/poll.ts";
import { KeyChores } from "./key-chores.ts";

let chores: KeyChores;
afterEach(() => chores.stop());

test("a rotation that is due and fails has its next turn with the next look", async () => {
  let looks = 0;
  let rotated = 0;
  chores = new KeyChores({
    rotation: {
      replaceRoot: async () => 0,
      rotateDue: async () => {
        if (looks < 2) throw new Unavailable("DatabaseUnavailable", "no connection in time");
        return rotated++;
      },
      advance: async () => {
        looks += 1;
        return { left: 0, stuck: 0, retired: 0 };
      },
    },
    log: pino({ level: "silent" }),
    onFenced: () => {},
    everyMs: 5,
  });
  chores.start({ epoch: 1n });
  await until("four looks after it succeeded", () => looks >= 7, { timeoutMs: 5_000, intervalMs: 5 });
  // What succeeded is not due again for minutes.
  expect(rotated).toBe(1);
});
