/** What is at a place may change between the decision to let a caller in and the look at it: the values are those of the decision. */
import type { Target } from "../../../../core/access/policy.ts";
import { Unavailable } from "../../../../core/errors.ts";
import { Problem } from "../../problem.ts";
import { readingRoutes } from "./reading.ts";
import { writingRoutes } from "./writing.ts";

const PARAMS = { namespace: "shop", name: "db" };
const OTHERS = {
  secret: {
    ...PARAMS,
    project: "other",
    environment: "pro",
    version: 1,
    generation: "1",
    entries: [],
    protection: "Managed",
  },
  item: {},
  valued: true,
};
const OWN = { metadata: PARAMS, spec: { projectRef: { name: "other" }, environment: "pro", entries: [] }, status: {} };

/** Whoever may do everything in one project. */
async function ask(id: string, of: "here" | "at the primary") {
  const touched: string[] = [];
  const touch = (what: string) => async () => touched.push(what);
  const services = {
    view: { secret: () => (of === "here" ? OWN : undefined) },
    replica: { find: async () => OTHERS, assertCurrent: () => new Date(), open: touch("open") },
    vault: { describeToOpen: touch("describe") },
    writes: { accept: touch("accept") },
  };
  const assertMay = async (verb: string, target: Target) => {
    if (target.kind === "Secret" && target.project !== "mine") throw new Problem(403, "AccessDenied", `no ${verb}`);
  };
  const route = [...readingRoutes, ...writingRoutes].find((each) => each.id === id);
  const input = { params: PARAMS, query: { encoding: "utf8" }, body: { values: { a: "x" }, encoding: "utf8" } };
  const asking = route?.handle({ input, services, assertMay, grant: "of before" } as never);
  return { asking: asking ?? Promise.reject(new Error(`there is no route ${id}`)), touched };
}

test.each([
  ["getSecret", "at the primary"],
  ["getSecret", "here"],
  ["getSecretValues", "at the primary"],
  ["getSecretValues", "here"],
  ["putSecretValues", "at the primary"],
] as const)("%s of what has become another project's %s is refused", async (id, of) => {
  const { asking, touched } = await ask(id, of);
  await expect(asking).rejects.toMatchObject({ status: 403 });
  expect(touched).toEqual([]);
});

test.each([
  [
    "too old",
    {
      list: async () => [OTHERS],
      assertCurrent: () => {
        throw new Unavailable("OfflineLimitReached", "the primary is away");
      },
    },
    "OfflineLimitReached",
  ],
  [
    "not readable",
    {
      list: async () => {
        throw new Unavailable("TamperDetected", "it was changed");
      },
    },
    "TamperDetected",
  ],
])(
  "a gateway lists its own secrets while its copy of the primary's is %s, and says so",
  async (_what, replica, code) => {
    const own = { ...OWN, metadata: { namespace: "shop", name: "own" } };
    const services = { view: { secrets: () => [own], secret: () => undefined }, replica };
    const route = readingRoutes.find(({ id }) => id === "listSecrets");
    const call = { input: { query: { limit: 10 } }, services, may: () => ({ allowed: true }), hasNoGrant: false };
    const answer = await route?.handle(call as never);
    expect(answer).toMatchObject({
      body: { items: [{ name: "own" }] },
      headers: { "mazevault-replica-left-out": code },
    });
  },
);
