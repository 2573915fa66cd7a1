import { Fenced, Unavailable } from "../../core/errors.ts";
import { until } from "../../lab/poll.ts";
import { ApiError } from "./api-error.ts";
import { Leadership, type LeadershipOptions } from "./leadership.ts";
import type { WritableObject } from "./transport.ts";

const eventually = (condition: () => boolean): Promise<boolean> =>
  until(condition.toString(), condition, { timeoutMs: 10_000, intervalMs: 2 });

interface Stored {
  metadata: { resourceVersion: string };
  spec: Record<string, unknown>;
}

/** One Lease, with the API server's rules for resourceVersion. */
class LeaseServer {
  lease: Stored | undefined;
  down = false;
  writes = 0;

  readonly api: LeadershipOptions["api"] = {
    get: async <T>() => {
      this.#reachable();
      if (this.lease === undefined) throw refusal(404, "NotFound", { name: "leader" });
      return structuredClone(this.lease) as T;
    },
    create: async <T>(_type: unknown, object: WritableObject) => {
      this.#reachable();
      if (this.lease !== undefined) throw refusal(409, "AlreadyExists");
      return this.#store(object.spec as Stored["spec"]) as T;
    },
    mergePatch: async <T>(_type: unknown, _key: unknown, patch: unknown) => {
      this.#reachable();
      const { metadata, spec } = patch as Stored;
      if (this.lease === undefined) throw refusal(404, "NotFound", { name: "leader" });
      if (metadata.resourceVersion !== this.lease?.metadata.resourceVersion) throw refusal(409, "Conflict");
      return this.#store({ ...this.lease?.spec, ...spec }) as T;
    },
  };

  get holder(): unknown {
    return this.lease?.spec.holderIdentity;
  }

  #reachable(): void {
    if (this.down) throw refusal(503, "ServiceUnavailable");
  }

  #store(spec: Stored["spec"]): Stored {
    this.writes++;
    this.lease = { metadata: { resourceVersion: String(this.writes) }, spec };
    return structuredClone(this.lease);
  }
}

const refusal = (status: number, reason: string, details = {}): ApiError =>
  new ApiError({ status, reason, message: reason, details });

/** Time that passes only when the test says so; while a process is stopped, its clock goes on all the same. */
class TestClock {
  ms = 1_000_000;
  readonly monotonic = (): number => this.ms;
  readonly wall = (): number => this.ms;
}

let epoch = 0n;
const running: Leadership[] = [];

const candidate = (server: LeaseServer, identity: string, options: Partial<LeadershipOptions> = {}) => {
  const clock = new TestClock();
  const log: string[] = [];
  const leadership = new Leadership({
    api: server.api,
    namespace: "mazevault",
    name: "leader",
    identity,
    leaseDurationMs: 15_000,
    renewDeadlineMs: 10_000,
    retryPeriodMs: 2,
    acquireEpoch: async () => ++epoch,
    onStartedLeading: (term) => {
      log.push(`started ${term}`);
    },
    onStoppedLeading: (reason) => {
      log.push(`stopped: ${reason}`);
    },
    clock,
    ...options,
  });
  running.push(leadership);
  leadership.start();
  return { leadership, clock, log };
};

beforeEach(() => {
  epoch = 0n;
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((leadership) => leadership.stop()));
});

test("the first candidate leads with an epoch, the second waits until the first releases the Lease", async () => {
  const server = new LeaseServer();
  const a = candidate(server, "a");
  await eventually(() => a.leadership.leading);
  expect(a.log).toEqual(["started 1"]);
  const b = candidate(server, "b");
  const renewals = server.writes + 3;
  await eventually(() => server.writes >= renewals);
  expect(b.leadership.leaseValid()).toBe(false);
  expect(() => b.leadership.assertLeading()).toThrow(Fenced);
  await a.leadership.stop();
  await eventually(() => b.leadership.leading);
  expect(a.log).toEqual(["started 1", "stopped: the operator is stopping"]);
  expect(b.log).toEqual(["started 2"]);
  expect(server.lease?.spec).toMatchObject({ holderIdentity: "b", leaseTransitions: 1 });
});

test("a process that was stopped past the deadline does not lead from the first instruction on", async () => {
  const server = new LeaseServer();
  const a = candidate(server, "a");
  await eventually(() => a.leadership.leading);
  a.clock.ms += 9_999;
  expect(a.leadership.leaseValid()).toBe(true);
  a.clock.ms += 10_001;
  expect(a.leadership.leaseValid()).toBe(false);
  expect(() => a.leadership.assertLeading()).toThrow(Fenced);
  await eventually(() => a.log.length >= 2);
  expect(a.log[1]).toBe("stopped: the Lease could not be renewed in time");
});

test("a stopped leader whose Lease was taken gives way without writing to it", async () => {
  const server = new LeaseServer();
  const a = candidate(server, "a");
  await eventually(() => a.leadership.leading);
  // What another replica does after the lease ran out.
  server.lease = {
    metadata: { resourceVersion: "1000000" },
    spec: { ...server.lease?.spec, holderIdentity: "b", leaseTransitions: 1 },
  };
  await eventually(() => a.log.length >= 2);
  expect(a.log[1]).toBe("stopped: another replica holds the Lease");
  expect(server.holder).toBe("b");
  expect(a.leadership.leading).toBe(false);
});

test("a leader whose Lease was deleted stops at once, without making a new one for that term", async () => {
  const server = new LeaseServer();
  const holders: unknown[] = [];
  const a = candidate(server, "a", {
    onStoppedLeading: (reason) => void holders.push(reason, server.holder, a.leadership.leaseValid()),
  });
  await eventually(() => a.leadership.leading);
  server.lease = undefined;
  await eventually(() => a.leadership.epoch === 2n);
  expect(holders).toEqual(["the Lease was deleted", undefined, false]);
});

test("a leader that lost its Lease while it still begins writes nothing from then on", async () => {
  const server = new LeaseServer();
  const begun = Promise.withResolvers<void>();
  const a = candidate(server, "a", { onStartedLeading: () => begun.promise });
  await eventually(() => a.leadership.leading);
  server.lease = {
    metadata: { resourceVersion: "1000000" },
    spec: { ...server.lease?.spec, holderIdentity: "b", leaseTransitions: 1 },
  };
  await eventually(() => !a.leadership.leading);
  expect(() => a.leadership.assertLeading()).toThrow(Fenced);
  begun.resolve();
  await eventually(() => a.log.length > 0);
  expect(a.log).toEqual(["stopped: another replica holds the Lease"]);
});

test.each(["create", "mergePatch"] as const)(
  "a Lease won by a %s whose answer was lost is not waited for",
  async (verb) => {
    const server = new LeaseServer();
    if (verb === "mergePatch") server.lease = { metadata: { resourceVersion: "0" }, spec: { holderIdentity: "" } };
    let lost = 0;
    const api = {
      ...server.api,
      [verb]: async (...args: never[]) => {
        const answer = await (server.api[verb] as (...args: never[]) => Promise<unknown>)(...args);
        if (lost++ === 0) throw new Unavailable("ApiServerUnavailable", "no answer");
        return answer;
      },
    };
    // Its clock stands still, so the Lease does not run out.
    const a = candidate(server, "a", { api });
    await eventually(() => a.leadership.leading);
    expect(lost).toBeGreaterThan(0);
  },
);

test("the Lease of a holder that is gone is taken only after it did not change for its whole duration", async () => {
  const server = new LeaseServer();
  server.lease = {
    metadata: { resourceVersion: "0" },
    // The holder's clock may be wrong by years; it is not asked.
    spec: { holderIdentity: "gone", leaseDurationSeconds: 15, renewTime: "2001-01-01T00:00:00.000000Z" },
  };
  let looks = 0;
  const api: LeadershipOptions["api"] = {
    ...server.api,
    get: (...args) => {
      looks++;
      return server.api.get(...args);
    },
  };
  const b = candidate(server, "b", { api });
  await eventually(() => looks > 2);
  b.clock.ms += 14_999;
  const seen = looks;
  await eventually(() => looks > seen + 2);
  expect(server.holder).toBe("gone");
  b.clock.ms += 1;
  await eventually(() => b.leadership.leading);
  expect(server.holder).toBe("b");
});

test("a leader that cannot reach the API server goes on until its deadline, and not longer", async () => {
  const server = new LeaseServer();
  const problems: unknown[] = [];
  const a = candidate(server, "a", { onProblem: (error) => problems.push(error) });
  await eventually(() => a.leadership.leading);
  server.down = true;
  await eventually(() => problems.length > 2);
  expect(a.leadership.leading).toBe(true);
  a.clock.ms += 10_000;
  await eventually(() => a.log.length >= 2);
  server.down = false;
  await eventually(() => a.leadership.leading || server.holder === "a");
});

test("no leadership without an epoch: the Lease goes back to the others", async () => {
  const server = new LeaseServer();
  let refused = 0;
  const a = candidate(server, "a", {
    acquireEpoch: async () => {
      refused++;
      throw new Error("connection refused");
    },
  });
  await eventually(() => refused > 1);
  expect(a.log).toEqual([]);
  const b = candidate(server, "b");
  await eventually(() => b.leadership.leading);
  expect(server.holder).toBe("b");
});

test("surrender stops the controllers first, releases the Lease then, and competes again with a new epoch", async () => {
  const server = new LeaseServer();
  const holders: unknown[] = [];
  const a = candidate(server, "a", {
    onStoppedLeading: (reason) => {
      holders.push(server.holder, reason, a.leadership.leaseValid());
    },
  });
  await eventually(() => a.leadership.leading);
  a.leadership.surrender("PostgreSQL knows a newer epoch");
  expect(a.leadership.leaseValid()).toBe(false);
  await eventually(() => a.leadership.epoch === 2n);
  expect(holders).toEqual(["a", "PostgreSQL knows a newer epoch", false]);
});

test("a suspended machine, whose monotonic clock stood still, has lost its Lease", async () => {
  const server = new LeaseServer();
  let wall = 0;
  const a = candidate(server, "a", { clock: { monotonic: () => 0, wall: () => wall } });
  await eventually(() => a.leadership.leading);
  wall = 3_600_000;
  expect(a.leadership.leaseValid()).toBe(false);
});
