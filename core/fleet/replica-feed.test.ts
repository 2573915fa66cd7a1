/** How much of everything is judged at once; what gateways get of it stands in `replica.test.ts`. */
import { until } from "../../lab/poll.ts";
import { ReplicaFeed, type ReplicaFeedParts } from "./replica-feed.ts";
import type { SelectionView } from "./replica-selection.ts";

const MANY = 3_000;
const SOON = { timeoutMs: 10_000, intervalMs: 5 };
const { signal } = new AbortController();
const request = { digest: "", waitMs: 0 };

let looked: string[];
let onLook: () => void;
let unready: string | undefined;
let feed: ReplicaFeed;

const view = {
  secrets: () => Array.from({ length: MANY }, (_, at) => ({ metadata: { namespace: "shop", name: `s${at}` } })),
  secret: (_namespace: string, name: string) => {
    looked.push(name);
    onLook();
    return undefined;
  },
  certificates: () => [],
  projects: () => [],
  accessPolicies: () => [],
} as unknown as SelectionView;
const heads: ReplicaFeedParts["heads"] = {
  position: async () => 1n,
  list: async () => [],
  changedSince: async () => ({ heads: [], position: 1n }),
};

beforeEach(() => {
  looked = [];
  onLook = () => {};
  unready = undefined;
  feed = new ReplicaFeed({
    view,
    heads,
    unready: () => unready,
    isRecovering: () => false,
    onProblem: (error) => {
      throw error;
    },
  });
});
afterEach(() => feed.stop());

const isTold = () =>
  feed.changes("NPR", request, signal).then(
    () => true,
    () => false,
  );

test("others have their turn while everything is judged", async () => {
  let isOver = false;
  const meanwhile: number[] = [];
  const turn = (): void => {
    if (looked.length > 0 && looked.length < MANY) meanwhile.push(looked.length);
    if (!isOver) setImmediate(turn);
  };
  setImmediate(turn);
  feed.start();
  await until("it is known what there is", isTold, SOON);
  isOver = true;
  expect(new Set(meanwhile)).toEqual(new Set([500, 1_000, 1_500, 2_000, 2_500]));
});

test("what cannot be seen meanwhile is judged when it can be, and nothing is told before", async () => {
  onLook = () => {
    if (looked.length === 700) unready = "the watch is made anew";
  };
  feed.start();
  await until("it has begun", () => looked.length >= 700, SOON);
  await new Promise(setImmediate);
  expect(looked).toHaveLength(1_000);
  unready = undefined;
  expect(await isTold()).toBe(false);
  await until("it is known what there is", isTold, SOON);
  expect(new Set(looked).size).toBe(MANY);
  expect(looked).toHaveLength(MANY);
});
