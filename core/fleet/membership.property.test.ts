/** Whatever dies, fails or gets lost in between: one gateway, one key that lets it in, and nobody is asked in vain for ever. */
import fc from "fast-check";
import { type Fate, GatewayWorld, inTouch } from "./testing/gateway-world.ts";
import { DAY_MS, LIFE_MS } from "./testing/memory-primary.ts";

const NAME = "gw-npr-primary";
const FATES: readonly Fate[] = ["diesBefore", "diesAfter", "answerLost", "fails"];

async function worldWith(fates: ReadonlyMap<number, Fate>): Promise<GatewayWorld> {
  const world = await GatewayWorld.start();
  world.token = world.primary.makeToken(NAME);
  for (const [effect, fate] of fates) world.fates.set(effect, fate);
  return world;
}

async function judge(world: GatewayWorld): Promise<void> {
  const gateways = [...world.primary.gateways.values()];
  expect(gateways).toHaveLength(1);
  const [gateway] = gateways;
  const record = await world.record;
  expect(record).toMatchObject({ state: "Confirmed", identity: { gatewayId: gateway?.id }, next: undefined });
  expect(world.primary.live(gateway?.id ?? "").map(({ digest }) => digest)).toEqual([record?.current.digest]);
  const told = world.lines.filter((line) => line.startsWith("Gateway registered successfully")).length;
  // Who dies between the last write and the line does not say it.
  const mayBeSilent = [...world.fates.values()].some((fate) => fate.startsWith("dies"));
  expect(told === 1 || (told === 0 && mayBeSilent)).toBe(true);
}

const renewed = async (world: GatewayWorld, digest: Buffer | undefined): Promise<boolean> => {
  const record = await world.record;
  return record !== undefined && record.next === undefined && !record.current.digest.equals(digest ?? Buffer.alloc(0));
};

async function effectsOf(live: (world: GatewayWorld) => Promise<void>): Promise<number> {
  const world = await worldWith(new Map());
  await live(world);
  return world.effects;
}

const register = (world: GatewayWorld): Promise<void> => world.liveUntil(inTouch);
async function registerAndRenew(world: GatewayWorld): Promise<void> {
  await register(world);
  const digest = (await world.record)?.current.digest;
  world.pass((LIFE_MS * 2) / 3 + DAY_MS);
  await world.liveUntil(async (status) => inTouch(status) && renewed(world, digest));
}

test.each(FATES)("a registration and a renewal, of whose effects any one %s, end well", async (fate) => {
  const effects = await effectsOf(registerAndRenew);
  expect(effects).toBeGreaterThan(20);
  for (let effect = 1; effect <= effects; effect += 1) {
    const world = await worldWith(new Map([[effect, fate]]));
    await registerAndRenew(world);
    await judge(world);
  }
});

test("so do those of whose effects several meet with something, by any clock, and however late replicas hear", async () => {
  const fates = fc.array(fc.tuple(fc.integer({ min: 1, max: 60 }), fc.constantFrom(...FATES)), { maxLength: 10 });
  const aheadMs = fc.integer({ min: -400, max: 400 }).map((days) => days * DAY_MS);
  const way = fc.record({ endsChannels: fc.boolean(), refusesSessions: fc.boolean() });
  const admittedAfterMs = fc.integer({ min: 0, max: 10_000 });
  await fc.assert(
    fc.asyncProperty(fates, aheadMs, admittedAfterMs, way, async (chosen, ahead, after, refusing) => {
      const world = await worldWith(new Map(chosen));
      Object.assign(world.primary, refusing);
      world.aheadMs = ahead;
      world.primary.admittedAfterMs = after;
      await registerAndRenew(world);
      await judge(world);
    }),
    { numRuns: 60 },
  );
});

test("whenever it is revoked, it ends so, and comes back as the same with a new token", async () => {
  const effects = await effectsOf(registerAndRenew);
  for (let effect = 1; effect <= effects; effect += 1) {
    const world = await worldWith(new Map([[effect, "diesAfter"]]));
    const id = world.primary.gateways.get(NAME)?.id ?? "";
    if ((await world.live(inTouch)) === "there") {
      const digest = (await world.record)?.current.digest;
      world.pass((LIFE_MS * 2) / 3 + DAY_MS);
      await world.live(async (status) => inTouch(status) && renewed(world, digest));
    }
    world.primary.revoke(NAME);
    await world.liveUntil(({ fault }) => fault?.code === "GatewayRevoked" || fault?.code === "BootstrapTokenRefused");
    expect(world.primary.live(id)).toEqual([]);
    world.token = world.primary.makeToken(NAME);
    await world.liveUntil(inTouch);
    expect((await world.record)?.identity?.gatewayId).toBe(id);
    expect(world.primary.live(id)).toHaveLength(1);
  }
});
