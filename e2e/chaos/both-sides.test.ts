/**
 * Interleavings of both sides on real parts: `INTERLEAVINGS=200 npm run test:e2e -- e2e/chaos/both-sides`, with
 * `INTERLEAVINGS_SEED` to take one again. The model of it is `core/sync/exchange.property.test.ts`.
 */
import { randomInt } from "node:crypto";
import { until } from "../../lab/poll.ts";
import { type PlatformUnderTest, POLICIES, type Policy, startBoth, type VaultUnderTest } from "./both-sides.ts";
import { Random } from "./random.ts";

const { INTERLEAVINGS, INTERLEAVINGS_SEED } = process.env;
const count = Number(INTERLEAVINGS ?? 12);
const seed = Number(INTERLEAVINGS_SEED ?? randomInt(2 ** 31));
const random = new Random(seed);

/** At once, as one process that dies interrupts many. */
const AT_ONCE = 20;
const STEPS = 6;
const FAILPOINTS = [
  "sync.afterIntent",
  "sync.beforeSet",
  "sync.afterSet",
  "sync.afterOutcome",
  "sync.beforeTake",
  "sync.afterTake",
  "sync.afterAgreement",
  "sync.beforeKeep",
  "sync.afterKeep",
] as const;

type Step = "writeOne" | "writeTwo" | "edit" | "editKeepingTags" | "delete" | "lookOne" | "lookTwo" | "wait";
const STEPS_BY_WEIGHT: readonly Step[] = [
  ...(["writeOne", "writeOne", "writeTwo", "writeTwo", "edit", "edit", "edit"] as const),
  ...(["editKeepingTags", "delete", "lookOne", "lookTwo", "lookOne", "lookTwo", "wait"] as const),
];

interface Interleaving {
  readonly secret: string;
  readonly policies: readonly [Policy, Policy];
  readonly steps: readonly Step[];
  /** Values that were acknowledged, by platform. */
  readonly written: readonly [string[], string[]];
}

let platforms: readonly [PlatformUnderTest, PlatformUnderTest];
let vault: VaultUnderTest;
let made = 0;

beforeAll(async () => {
  platforms = await startBoth();
  ({ vault } = platforms[0]);
});

afterAll(async () => {
  await Promise.all((platforms ?? []).map((each) => each.stop()));
});

const fresh = (): string => {
  made += 1;
  return `value-${made}`;
};

async function act({ secret, written }: Interleaving, step: Step): Promise<void> {
  const value = fresh();
  switch (step) {
    case "writeOne":
    case "writeTwo": {
      const at = step === "writeOne" ? 0 : 1;
      await platforms[at].write(secret, value);
      written[at].push(value);
      return;
    }
    case "edit":
      await vault.edit(secret, value);
      return;
    case "editKeepingTags":
      await vault.editKeepingTags(secret, value);
      return;
    case "delete":
      await vault.delete(secret);
      return;
    case "lookOne":
      await platforms[0].askToLook();
      return;
    case "lookTwo":
      await platforms[1].askToLook();
      return;
    case "wait":
      return;
  }
}

/** All have the same, and nothing is in conflict; people resolve what is. */
async function calm(batch: readonly Interleaving[]): Promise<void> {
  const agreed = async () => {
    for (const platform of platforms) {
      for (const each of await platform.conflicts()) {
        // What somebody has deleted whom it belongs to, nobody else brings back.
        if (await vault.recover(String(each.status?.secret))) continue;
        await platform.resolve(each, random.pick(["KeepPlatform", "KeepTarget"] as const));
      }
      // Made and deleted there before either had seen it: each has a value of its own, and neither touches what is not its.
      for (const secret of await platform.deletedByOthers()) await vault.recover(secret);
    }
    await Promise.all(platforms.map((each) => each.look()));
    const [one, two] = await Promise.all(platforms.map((each) => each.values()));
    // What was deleted there before either had taken it over nobody here knows of; whose it is brings it back.
    for (const { secret } of batch) {
      if (one?.get(secret) === undefined && two?.get(secret) === undefined) await vault.recover(secret);
    }
    const there = await vault.versions();
    const apart = batch.filter(({ secret }) => {
      const value = there.get(secret)?.at(-1)?.value;
      return one?.get(secret) !== value || two?.get(secret) !== value;
    });
    const open = (await Promise.all(platforms.map((each) => each.conflicts()))).flat();
    if (apart.length === 0 && open.length === 0) return true;
    const values = apart.map(({ secret }) => [
      secret,
      one?.get(secret),
      two?.get(secret),
      there.get(secret)?.at(-1)?.value,
    ]);
    const rules = await Promise.all(platforms.map((each) => each.failures()));
    throw new Error(JSON.stringify({ values, open: open.map(({ spec, status }) => ({ ...spec, ...status })), rules }));
  };
  await until("all have the same", agreed, { timeoutMs: 120_000, intervalMs: 300 });
}

async function judge(batch: readonly Interleaving[]): Promise<void> {
  const there = await vault.versions();
  for (const { secret, written } of batch) {
    const histories = await Promise.all(platforms.map((each) => each.history(secret)));
    for (const [at, values] of written.entries()) expect(histories[at]).toEqual(expect.arrayContaining(values));
    // What somebody set there and one of ours was written over.
    const versions = there.get(secret) ?? [];
    const over = versions.filter(({ intent }, at) => {
      const next = versions[at + 1]?.intent;
      return next !== undefined && next !== intent;
    });
    expect(histories.flat()).toEqual(expect.arrayContaining(over.map(({ value }) => value)));
  }
}

/** Looks until nothing moves any more: what was written last is read once again. */
async function restsThen(batch: readonly Interleaving[]): Promise<void> {
  const state = async () => ({
    writes: await vault.writes(),
    versions: await Promise.all(platforms.map((each) => each.versions())),
    there: [...(await vault.versions())].filter(([name]) => batch.some(({ secret }) => secret === name)),
  });
  const before = await state();
  for (let look = 0; look < 2; look += 1) for (const each of platforms) await each.look();
  expect(await state()).toEqual(before);
}

const interleavings = Array.from({ length: count }, (_, at): Interleaving => {
  const policies = [random.pick(POLICIES), random.pick(POLICIES)] as const;
  const steps = Array.from({ length: STEPS }, () => random.pick(STEPS_BY_WEIGHT));
  return { secret: `s${at + 1}`, policies, steps, written: [[], []] };
});
const batches = Array.from({ length: Math.ceil(count / AT_ONCE) }, (_, at) =>
  interleavings.slice(at * AT_ONCE, (at + 1) * AT_ONCE),
);

test.each(batches.map((batch, at) => [at + 1, batch] as const))(
  `what both sides change while operators die converges, loses nothing, and rests (INTERLEAVINGS_SEED=${seed}, part %i of ${batches.length})`,
  async (_, batch) => {
    for (const [at, platform] of platforms.entries()) {
      await platform.add(batch.map(({ secret, policies }) => ({ secret, policy: policies[at] ?? "Manual" })));
    }
    for (let at = 0; at < STEPS; at += 1) {
      const work = () => Promise.all(batch.map((each) => act(each, each.steps[at] ?? "wait")));
      // Every other time somebody dies over it.
      if (at % 2 === 0) await random.pick(platforms).dies(random.pick(FAILPOINTS), work);
      else await work();
    }
    await calm(batch);
    await judge(batch);
    await restsThen(batch);
  },
  600_000,
);
