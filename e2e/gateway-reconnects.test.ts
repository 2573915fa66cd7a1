/**
 * Fifty gateways, each the code that runs in a real one with its stores in memory, at one primary that dies: each comes back, and they
 * do not come all at once. What is measured is printed; what is asserted is how often they tried.
 */
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { openChannel } from "../adapters/channel/client.ts";
import { ActingLease } from "../core/fleet/acting-lease.ts";
import { Membership } from "../core/fleet/membership.ts";
import { presentedToken } from "../core/fleet/presented-token.ts";
import { testRootKey } from "../core/pki/testing/installation.ts";
import { FakeDatabase } from "../core/ports/fake-database.ts";
import { FakeKeyStore } from "../core/ports/fake-key-store.ts";
import { FakeMembershipStore } from "../core/ports/fake-membership-store.ts";
import type { PrimaryChannels } from "../core/ports/primary-channel.ts";
import { Sensitive } from "../core/sensitive.ts";
import { KeyRing } from "../core/vault/keyring.ts";
import type { Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { asOne, type Part } from "../lab/supervised.ts";
import { primaryChannels } from "../operator/gateway/primary-channels.ts";
import { startWorld, type World } from "./harness.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

/** Of one address ten may register in a minute; all of 127.0.0.0/8 is at hand on Linux only. */
const COUNT = process.platform === "linux" ? 50 : 10;
const SOON = { timeoutMs: 120_000, intervalMs: 20 };
/** Its pauses double from half a second: so many attempts fit into a minute and a half. */
const MOST_ATTEMPTS = 12;

let primary: World;
let main: Rest;
/** What the primary is: its operator and REST. */
let both: Part;
let rest: RestClient;
let relay: Server;
const gateways: Gateway[] = [];

class Gateway {
  /** When it tried to open a session, in milliseconds. */
  readonly attempts: number[] = [];
  readonly #membership: Membership;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;

  private constructor(membership: Membership, epoch: bigint) {
    this.#membership = membership;
    this.#running = membership.run({ epoch }, this.#abort.signal);
  }

  static async start(url: string, token: string): Promise<Gateway> {
    const database = new FakeDatabase();
    const keys = await KeyRing.open(new FakeKeyStore(database), testRootKey());
    const channels = primaryChannels(openChannel, { url });
    const attempted: PrimaryChannels = {
      open(...args) {
        gateway.attempts.push(performance.now());
        return channels.open(...args);
      },
    };
    const membership = new Membership({
      store: new FakeMembershipStore(database),
      channels: attempted,
      keys: { installationId: keys.installationId, pki: (by) => keys.pki(by) },
      settings: { primaryUrl: url, environment: "NPR", role: "primary", version: "1.5.0" },
      token: { current: () => presentedToken(new Sensitive(token)), forget: () => {} },
      condition: () => ({ problems: [], queueLength: 0 }),
      lease: new ActingLease(() => performance.now()),
      clock: {
        now: () => new Date(),
        elapsed: () => performance.now(),
        sleep: (ms, signal) => delay(ms, undefined, { signal }).catch(() => undefined),
      },
      log: { info: () => {}, warn: () => {} },
    });
    const gateway: Gateway = new Gateway(membership, await database.acquireEpoch("gateway"));
    return gateway;
  }

  /** Confirmed, with a channel over which a heartbeat was answered after that time. */
  isInTouch(since: number): boolean {
    const { state, channel, heartbeats } = this.#membership.status;
    return state === "Confirmed" && channel === "Open" && (heartbeats.lastAnsweredAt?.getTime() ?? 0) > since;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }
}

beforeAll(async () => {
  primary = await startWorld();
  const operator = await primary.mazevault.startOperator();
  main = await primary.mazevault.startRest();
  both = asOne(operator.process, main.process);
  rest = RestClient.of(primary, main);
  const { email, password } = await firstAdmin(primary);
  const session = await rest.login(email, password);
  relay = manyAddresses(Number(new URL(main.restUrl).port));
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  const url = `https://127.0.0.1:${(relay.address() as AddressInfo).port}`;
  for (let n = 1; n <= COUNT; n += 1) {
    const body = { name: `gw-${n}`, environment: "NPR", role: "primary" };
    const made = await rest.send("POST", "/api/v1/gateways/bootstrap", { token: session, body });
    gateways.push(await Gateway.start(url, made.body.token as string));
  }
  await until("all are in touch", () => gateways.every((each) => each.isInTouch(0)), SOON);
}, 300_000);

afterAll(async () => {
  await Promise.all(gateways.map((each) => each.stop()));
  relay?.close();
  await rest?.close();
  await primary?.stop();
});

/** A relay whose connections come from as many addresses, as those of gateways in as many places do. */
function manyAddresses(port: number): Server {
  let connections = 0;
  return createServer((near) => {
    connections += 1;
    const from = COUNT === 50 ? { localAddress: `127.1.${connections >> 8}.${connections & 0xff}` } : {};
    const far = connect({ host: "127.0.0.1", port, ...from });
    near.on("error", () => {}).once("close", () => far.destroy());
    far.on("error", () => {}).once("close", () => near.destroy());
    near.pipe(far).pipe(near);
  });
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;

async function comeBack(what: string, interrupt: () => Promise<void>): Promise<void> {
  const [beganAt, began] = [Date.now(), performance.now()];
  for (const { attempts } of gateways) attempts.length = 0;
  await interrupt();
  const ready = performance.now();
  const back = new Map<Gateway, number>();
  const all = () => {
    for (const each of gateways) if (!back.has(each) && each.isInTouch(beganAt)) back.set(each, performance.now());
    return back.size === COUNT;
  };
  await until("all are in touch again", all, SOON);
  const times = [...back.values()].map((at) => at - ready).toSorted((one, other) => one - other);
  const attempts = gateways.map((each) => each.attempts.length);
  const perSecond = Map.groupBy(
    gateways.flatMap((each) => each.attempts),
    (at) => Math.floor((at - began) / 1_000),
  );
  const busiest = Math.max(...[...perSecond.values()].map(({ length }) => length));
  const [first = 0, median = 0, last = 0] = [times[0], times[COUNT / 2], times.at(-1)];
  console.info(
    `${COUNT} gateways after ${what}: the primary is ready after ${seconds(ready - began)}; in touch ${seconds(first)} (first), ${seconds(median)} (median), ${seconds(last)} (last) after that; ${Math.max(...attempts)} attempts at most, ${busiest} of all in the busiest second`,
  );
  expect(Math.min(...attempts)).toBeGreaterThanOrEqual(1);
  expect(Math.max(...attempts)).toBeLessThanOrEqual(MOST_ATTEMPTS);
}

/** `npm run test:chaos` kills it besides. */
const whole = process.env.RECONNECTS === "all" ? test : () => {};

whole("a primary that is killed has all of them back", () =>
  comeBack("kill -9", async () => {
    const { restarts } = main.process;
    await both.kill();
    await until("another process", () => main.process.restarts > restarts, SOON);
    await both.ready();
  }),
);

test("a primary that is away for a while has all of them back", () =>
  comeBack("a stop for 5 s", async () => {
    await both.stop();
    await delay(5_000);
    await both.start();
  }));
