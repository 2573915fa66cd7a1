import { Fenced, Unavailable } from "../../core/errors.ts";
import { until } from "../../lab/poll.ts";
import { ReplicaChores, type ReplicaChoresDependencies } from "./replica-chores.ts";

const SOON = { timeoutMs: 10_000, intervalMs: 5 };
const WRITER = { epoch: 1n };

function start(turn: (at: number, signal: AbortSignal) => Promise<number>) {
  const told = { warnings: [] as string[], fenced: 0, begun: 0, turns: 0 };
  const chores = new ReplicaChores({
    pull: {
      begin: () => {
        told.begun += 1;
      },
      turn: (_writer, signal) => {
        told.turns += 1;
        return turn(told.turns, signal);
      },
    },
    log: {
      warn: (_fields: object, line: string) => told.warnings.push(line),
    } as unknown as ReplicaChoresDependencies["log"],
    onFenced: () => {
      told.fenced += 1;
    },
  });
  chores.start(WRITER);
  return { chores, told };
}

test("round after round, until the term is over; what waits at the primary ends with it", async () => {
  const { chores, told } = start((at, signal) =>
    at < 4 ? Promise.resolve(0) : new Promise((resolve) => signal.addEventListener("abort", () => resolve(0))),
  );
  await until("it waits", () => told.turns === 4, SOON);
  await chores.stop();
  expect(told).toEqual({ warnings: [], fenced: 0, begun: 1, turns: 4 });
});

test("what fails is tried again, and told once for as long as it is the same", async () => {
  const { chores, told } = start(async (at) => {
    if (at <= 3) throw new Unavailable("PrimaryUnreachable", "no answer");
    return 60_000;
  });
  await until("it goes on", () => told.turns === 4, SOON);
  await chores.stop();
  expect(told.warnings).toEqual(["the replica could not be brought in step with the primary"]);
});

test("who does not lead any more says so", async () => {
  const { chores, told } = start((at) => (at === 1 ? Promise.reject(new Fenced(1n)) : Promise.resolve(60_000)));
  await until("it was told", () => told.fenced === 1, SOON);
  await chores.stop();
});
