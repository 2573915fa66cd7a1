import { jest } from "@jest/globals";
import { recordedSpans } from "../../adapters/tracing/testing/recorded.ts";
import { Fenced, Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import type { Condition, Resource } from "../../crds/common.ts";
import { ApiError } from "./api-error.ts";
import type { ChangeHandler, ObjectCache } from "./cache.ts";
import { type Controller, MAX_ROUNDS, type OwnedStatus, type Plan } from "./controller.ts";
import type { EventDescription } from "./events.ts";
import { silentMetrics } from "./metrics.ts";
import { keyOf } from "./resource-type.ts";
import { Runner, type RunnerOptions } from "./runner.ts";
import type { WritableObject } from "./transport.ts";

type Thing = Resource<{ readonly wanted: number }, { readonly conditions?: readonly Condition[] }>;
interface Seen {
  readonly version: number;
}
interface Store {
  readonly kind: "store";
}

const thing = (name: string, extra: Partial<Thing["metadata"]> = {}): Thing => ({
  apiVersion: "mazevault.io/v1",
  kind: "Thing",
  metadata: { name, namespace: "team", uid: `uid-${name}`, resourceVersion: "1", generation: 1, ...extra },
  spec: { wanted: 1 },
});

/** A cache that the test fills. */
class FakeCache implements ObjectCache<Thing> {
  synced = true;
  readonly objects = new Map<string, Thing>();
  readonly #handlers = new Set<ChangeHandler<Thing>>();
  readonly #syncHandlers = new Set<() => void>();

  get size(): number {
    return this.objects.size;
  }
  get(key: string): Thing | undefined {
    return this.objects.get(key);
  }
  values(): Iterable<Thing> {
    return this.objects.values();
  }
  byIndex(): readonly Thing[] {
    return [];
  }
  covers(): boolean {
    return this.synced;
  }
  onChange(handler: ChangeHandler<Thing>): () => void {
    this.#handlers.add(handler);
    for (const object of this.objects.values()) handler("added", object, undefined);
    return () => this.#handlers.delete(handler);
  }
  onSynced(handler: () => void): () => void {
    this.#syncHandlers.add(handler);
    return () => this.#syncHandlers.delete(handler);
  }
  absorb(object: Thing): void {
    this.put(object);
  }
  put(object: Thing): void {
    const old = this.objects.get(keyOf(object));
    this.objects.set(keyOf(object), object);
    for (const handler of this.#handlers) handler(old === undefined ? "added" : "updated", object, old);
  }
  remove(key: string): void {
    const old = this.objects.get(key);
    if (old === undefined) return;
    this.objects.delete(key);
    for (const handler of this.#handlers) handler("deleted", old, old);
  }
  becomeSynced(): void {
    this.synced = true;
    for (const handler of this.#syncHandlers) handler();
  }
}

const status = (version: number): OwnedStatus => ({
  conditions: [
    version > 0
      ? { type: "Stored", status: "True", reason: "Succeeded", message: `version ${version}` }
      : { type: "Stored", status: "False", reason: "Progressing", message: "no version yet" },
  ],
  fields: { version },
});

type ThingController = Controller<Thing, Seen, Store, number>;

const setUp = (overrides: Partial<ThingController> = {}, options: Partial<RunnerOptions<Thing>> = {}) => {
  const cache = new FakeCache();
  const applied: WritableObject[] = [];
  const patched: unknown[] = [];
  const events: EventDescription[] = [];
  const outcomes: string[] = [];
  const observe = jest.fn<ThingController["observe"]>(overrides.observe ?? (async () => ({ version: 0 })));
  const perform = jest.fn<ThingController["perform"]>(overrides.perform ?? (async () => 7));
  const controller: ThingController = {
    name: "things",
    fieldManager: "mazevault-things",
    resource: { group: "mazevault.io", version: "v1", plural: "things", kind: "Thing", namespaced: true },
    decide: (_resource, seen): Plan<Store> => ({
      actions: seen.version === 0 ? [{ kind: "store" }] : [],
      status: status(seen.version),
      next: { kind: "settled" },
    }),
    learn: (_seen, _action, version) => ({ version }),
    conditionFor: (action) => (action === undefined ? undefined : "Stored"),
    ...overrides,
    observe,
    perform,
  };
  const runner = new Runner(controller, {
    cache,
    api: {
      applyStatus: async <T>(_type: unknown, object: WritableObject) => {
        applied.push(object);
        const cached = cache.get(keyOf(object));
        const written = {
          ...cached,
          status: object.status,
          metadata: { ...cached?.metadata, resourceVersion: String(Number(cached?.metadata.resourceVersion) + 1) },
        };
        return written as T;
      },
      jsonPatch: async <T>(_type: unknown, _key: unknown, patch: unknown) => {
        patched.push(patch);
        return {} as T;
      },
    },
    events: { record: (_resource, event) => events.push(event) },
    metrics: { ...silentMetrics, reconciled: (_controller, outcome) => outcomes.push(outcome) },
    backoff: { random: () => 0 },
    now: () => new Date(),
    ...options,
  });
  const conditions = (): Record<string, string> =>
    Object.fromEntries(
      ((applied.at(-1)?.status as { conditions: Condition[] } | undefined)?.conditions ?? []).map((condition) => [
        condition.type,
        `${condition.status} ${condition.reason}`,
      ]),
    );
  return { cache, runner, applied, patched, events, outcomes, observe, perform, conditions };
};

const settle = (ms = 0): Promise<void> => jest.advanceTimersByTimeAsync(ms);

beforeEach(() => {
  jest.useFakeTimers({ now: new Date("2026-01-01T00:00:00Z") });
});
afterEach(() => {
  jest.useRealTimers();
});

test("performs what is missing, learns its outcome, and writes status once, from what was done", async () => {
  const t = setUp();
  t.runner.start();
  t.cache.put(thing("a"));
  await settle();
  expect(t.observe).toHaveBeenCalledTimes(1);
  expect(t.perform).toHaveBeenCalledTimes(1);
  expect(t.applied).toHaveLength(1);
  expect(t.applied[0]).toMatchObject({
    metadata: { name: "a", namespace: "team", uid: "uid-a", resourceVersion: "1" },
    status: { version: 7, observedGeneration: 1 },
  });
  expect(t.conditions()).toEqual({ Ready: "True Succeeded", Stored: "True Succeeded" });
  expect(t.outcomes).toEqual(["success"]);
});

test("its own status write does not wake it, and an unchanged status is not written again", async () => {
  const t = setUp({ observe: async () => ({ version: 7 }) });
  t.runner.start();
  t.cache.put(thing("a"));
  await settle();
  expect(t.observe).toHaveBeenCalledTimes(1);
  t.runner.enqueue("team/a");
  await settle();
  expect(t.observe).toHaveBeenCalledTimes(2);
  expect(t.applied).toHaveLength(1);
});

test("a changed generation, label or annotation wakes it", async () => {
  const t = setUp({ observe: async () => ({ version: 7 }) });
  t.runner.start();
  t.cache.put(thing("a"));
  await settle();
  t.cache.put(thing("a", { resourceVersion: "5", generation: 2 }));
  await settle();
  t.cache.put(thing("a", { resourceVersion: "6", generation: 2, labels: { x: "y" } }));
  await settle();
  expect(t.observe).toHaveBeenCalledTimes(3);
});

test("what failed because something was away is tried at once when that is back, and nothing else is", async () => {
  const away = new Set(["a", "b"]);
  const t = setUp({
    observe: async ({ metadata: { name } }) => {
      if (away.has(name)) throw new Unavailable(name === "a" ? "PrimaryUnreachable" : "VaultUnreachable", "no answer");
      return { version: 7 };
    },
  });
  t.runner.start();
  for (const name of ["a", "b", "c"]) t.cache.put(thing(name));
  // Long enough for pauses of a minute.
  await settle(300_000);
  away.clear();
  const looks = () => t.observe.mock.calls.map(([{ metadata }]) => metadata.name).slice(before);
  const before = t.observe.mock.calls.length;
  t.runner.hasten(["PrimaryUnreachable", "CircuitOpen"]);
  await settle();
  expect(looks()).toEqual(["a"]);
  t.runner.hasten(["PrimaryUnreachable"]);
  await settle();
  expect(looks()).toEqual(["a"]);
  await settle(60_000);
  expect(looks()).toEqual(["a", "b"]);
});

describe("a condition that people set", () => {
  const approval = (status: Condition["status"]): Condition => ({
    type: "Approved",
    status,
    reason: "Reviewed",
    message: "by a person",
    lastTransitionTime: "2026-01-01T00:00:00Z",
  });
  /** As a merge by field manager leaves it. */
  const withApproval = (object: Thing | undefined, condition: Condition): Thing => {
    if (object === undefined) throw new Error("not there");
    const others = (object.status?.conditions ?? []).filter(({ type }) => type !== "Approved");
    const resourceVersion = String(Number(object.metadata.resourceVersion) + 1);
    const metadata = { ...object.metadata, resourceVersion };
    return { ...object, metadata, status: { ...object.status, conditions: [...others, condition] } };
  };
  const typesOf = ({ status: written }: WritableObject) =>
    (written as { conditions: Condition[] }).conditions.map(({ type }) => type);

  test("wakes it each time, and makes it write nothing", async () => {
    const t = setUp({ observe: async () => ({ version: 7 }), foreignConditions: ["Approved"] });
    t.runner.start();
    t.cache.put(thing("a"));
    await settle();
    for (const [index, status] of (["False", "True"] as const).entries()) {
      t.cache.put(withApproval(t.cache.get("team/a"), approval(status)));
      await settle();
      expect(t.observe).toHaveBeenCalledTimes(2 + index);
    }
    expect(t.applied).toHaveLength(1);
  });

  test("is never applied as its own, not even where a failure keeps what stood in status", async () => {
    const failures = [new Waiting("IssuerNotReady", "not yet", 1000), new Unavailable("DatabaseUnavailable", "down")];
    const t = setUp({
      observe: async () => {
        const failure = failures.shift();
        if (failure !== undefined) throw failure;
        return { version: 7 };
      },
      foreignConditions: ["Approved"],
    });
    t.runner.start();
    t.cache.put(withApproval(thing("a"), approval("True")));
    await settle(60_000);
    expect(t.applied.length).toBeGreaterThan(2);
    expect(t.applied.flatMap(typesOf)).not.toContain("Approved");
  });
});

test("Stalled: a person must act, so nothing is tried before a change or the resync", async () => {
  const t = setUp({
    perform: async () => {
      throw new Stalled("TemplateInvalid", "entry url: unknown filter");
    },
  });
  t.runner.start();
  t.cache.put(thing("a"));
  await settle(1_800_000);
  expect(t.perform).toHaveBeenCalledTimes(1);
  expect(t.conditions()).toEqual({
    Ready: "False TemplateInvalid",
    Stalled: "True TemplateInvalid",
    Stored: "False TemplateInvalid",
  });
  expect(t.events).toMatchObject([{ type: "Warning", reason: "TemplateInvalid" }]);
  await settle(3_600_000);
  expect(t.perform.mock.calls.length).toBeGreaterThan(1);
});

test("Waiting: looked at again after the time that the error gives", async () => {
  const t = setUp({
    observe: async () => {
      throw new Waiting("SourceNotFound", "core Secret x", 30_000);
    },
  });
  t.runner.start();
  t.cache.put(thing("a"));
  await settle(29_999);
  expect(t.observe).toHaveBeenCalledTimes(1);
  expect(t.conditions()).toEqual({ Ready: "False SourceNotFound", Reconciling: "True SourceNotFound" });
  await settle(1);
  expect(t.observe).toHaveBeenCalledTimes(2);
  expect(t.outcomes).toEqual(["waiting", "waiting"]);
});

test("Unavailable: growing pauses, and recovery is told as an Event", async () => {
  let down = true;
  const t = setUp({
    observe: async () => {
      if (down) throw new Unavailable("DatabaseUnavailable", "refused");
      return { version: 7 };
    },
  });
  t.runner.start();
  t.cache.put(thing("a"));
  await settle();
  const times: number[] = [];
  for (let calls = 1; calls < 6; calls++) {
    const begun = performance.now();
    while (t.observe.mock.calls.length === calls) await settle(5);
    times.push(performance.now() - begun);
  }
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  expect((times.at(-1) ?? 0) / (times[0] ?? 1)).toBeGreaterThan(8);
  // Failing on is no news: one write, one Event.
  expect(t.applied).toHaveLength(1);
  down = false;
  await settle(10_000);
  expect(t.conditions()).toEqual({ Ready: "True Succeeded", Stored: "True Succeeded" });
  expect(t.events.map(({ type, reason }) => `${type} ${reason}`)).toEqual([
    "Warning DatabaseUnavailable",
    "Normal Succeeded",
  ]);
});

test("what an unknown error says is shown to nobody", async () => {
  const log = { info: jest.fn(), warn: jest.fn(), error: jest.fn(), debug: jest.fn() };
  const t = setUp(
    {
      perform: async () => {
        throw new TypeError('cannot parse "s3cr3t"');
      },
    },
    { log },
  );
  t.runner.start();
  t.cache.put(thing("a"));
  await settle();
  expect(t.conditions().Ready).toBe("False Failed");
  expect(JSON.stringify([t.applied, t.events])).not.toContain("s3cr3t");
  expect(log.warn).toHaveBeenCalledTimes(1);
});

test("Fenced: says so once and does nothing more, not even status", async () => {
  const fenced: unknown[] = [];
  const t = setUp(
    {
      perform: async () => {
        throw new Fenced(3n);
      },
    },
    { onFenced: (error) => fenced.push(error) },
  );
  t.runner.start();
  t.cache.put(thing("a"));
  await settle(3_600_000);
  expect(fenced).toHaveLength(1);
  expect(t.applied).toEqual([]);
  expect(t.perform).toHaveBeenCalledTimes(1);
});

test("a lost race is no failure: tried again soon, nothing in status", async () => {
  let lost = false;
  const t = setUp({
    perform: async () => {
      if (lost) return 7;
      lost = true;
      throw new ApiError({ status: 409, reason: "Conflict", message: "conflict" });
    },
  });
  t.runner.start();
  t.cache.put(thing("a"));
  await settle(100);
  expect(t.outcomes).toEqual(["conflict", "success"]);
  expect(t.applied).toHaveLength(1);
});

test("absent is called for what is gone from a complete cache, and never for what a cache does not cover", async () => {
  const absent = jest.fn<NonNullable<ThingController["absent"]>>(async () => {});
  const t = setUp({ absent });
  t.cache.synced = false;
  t.runner.start();
  t.runner.enqueue("team/gone");
  await settle();
  expect(absent).not.toHaveBeenCalled();
  t.cache.becomeSynced();
  await settle();
  expect(absent.mock.calls.map(([key]) => key)).toEqual(["team/gone"]);
  t.cache.put(thing("a"));
  await settle();
  t.cache.remove("team/a");
  await settle();
  expect(absent.mock.calls.map(([key]) => key)).toEqual(["team/gone", "team/a"]);
});

test("while what is missing may still come, nothing of it is ended, and the object that is there is worked on", async () => {
  const absent = jest.fn<NonNullable<ThingController["absent"]>>(async () => {});
  let keeps = true;
  const t = setUp({ absent }, { keepsFormer: () => keeps });
  t.cache.put(thing("a"));
  t.runner.start();
  t.runner.enqueue("team/gone");
  t.runner.endFormer("team/a");
  await settle();
  expect(absent).not.toHaveBeenCalled();
  expect(t.applied).toHaveLength(1);
  keeps = false;
  t.runner.enqueue("team/gone");
  await settle();
  expect(absent.mock.calls.map(([key]) => key)).toEqual(["team/gone"]);
});

describe("what is stored of an object that is gone", () => {
  const unavailable = new Unavailable("DatabaseUnavailable", "refused");

  test("is ended until that succeeds, and a new object of that name does not wait for it", async () => {
    const failures: Error[] = [unavailable, unavailable, unavailable];
    const at: number[] = [];
    const t = setUp({
      absent: async () => {
        at.push(performance.now());
        const failure = failures.shift();
        if (failure !== undefined) throw failure;
      },
      observe: async () => ({ version: 7 }),
    });
    t.cache.put(thing("a"));
    t.runner.start();
    t.runner.endFormer("team/a");
    await settle();
    expect(at).toHaveLength(1);
    expect(t.conditions().Ready).toBe("True Succeeded");
    await settle(10_000);
    expect(at).toHaveLength(4);
    const pauses = at.slice(1).map((time, index) => time - (at[index] ?? 0));
    expect(pauses).toEqual(pauses.toSorted((a, b) => a - b));
    expect((pauses.at(-1) ?? 0) / (pauses[0] ?? 1)).toBeGreaterThan(3);
    t.runner.enqueue("team/a");
    await settle();
    expect(at).toHaveLength(4);
  });

  test("is not ended while a new object of that name is worked on", async () => {
    const order: string[] = [];
    const stored = Promise.withResolvers<number>();
    const t = setUp({
      absent: async () => void order.push("ended"),
      perform: async () => {
        const version = await stored.promise;
        order.push("stored");
        return version;
      },
    });
    t.cache.put(thing("a"));
    t.runner.start();
    await settle();
    t.runner.endFormer("team/a");
    await settle();
    expect(order).toEqual([]);
    stored.resolve(7);
    await settle();
    expect(order.slice(0, 2)).toEqual(["stored", "ended"]);
  });

  test("is ended once more when it is found again meanwhile", async () => {
    const first = Promise.withResolvers<void>();
    const absent = jest.fn<NonNullable<ThingController["absent"]>>(() => first.promise);
    const t = setUp({ absent });
    t.cache.put(thing("a"));
    t.runner.start();
    t.runner.endFormer("team/a");
    await settle();
    t.runner.endFormer("team/a");
    first.resolve();
    await settle();
    expect(absent).toHaveBeenCalledTimes(2);
  });

  test("is not taken for ended because something else of its name was not found", async () => {
    let failures = 1;
    const absent = jest.fn<NonNullable<ThingController["absent"]>>(async () => {
      if (failures-- > 0)
        throw new ApiError({ status: 404, reason: "NotFound", message: "no such thing", details: { name: "gone" } });
    });
    const t = setUp({ absent });
    t.runner.start();
    t.runner.enqueue("team/gone");
    await settle(1_000);
    expect(absent).toHaveBeenCalledTimes(2);
    expect(t.outcomes).toEqual(["error", "success"]);
  });

  test("is left to the successor by one who does not lead any more", async () => {
    const fenced: unknown[] = [];
    const t = setUp(
      {
        absent: async () => {
          throw new Fenced(3n);
        },
      },
      { onFenced: (error) => fenced.push(error) },
    );
    t.cache.put(thing("a"));
    t.runner.endFormer("team/a");
    t.runner.start();
    await settle();
    expect(fenced).toHaveLength(1);
    expect(t.observe).not.toHaveBeenCalled();
  });
});

test("a key waits until the caches that the controller reads cover it", async () => {
  const needed = new FakeCache();
  needed.synced = false;
  const t = setUp({}, { needs: [needed] });
  t.runner.start();
  t.cache.put(thing("a"));
  await settle(60_000);
  expect(t.observe).not.toHaveBeenCalled();
  needed.becomeSynced();
  await settle();
  expect(t.observe).toHaveBeenCalledTimes(1);
});

test("a controller that never converges is stopped and fails", async () => {
  const t = setUp({ learn: (seen) => seen });
  t.runner.start();
  t.cache.put(thing("a"));
  await settle();
  expect(t.perform).toHaveBeenCalledTimes(MAX_ROUNDS);
  expect(t.conditions().Ready).toBe("False Failed");
});

test("recheckAt: looked at again at that time", async () => {
  const at = new Date("2026-01-01T00:10:00Z");
  const t = setUp({
    decide: () => ({ actions: [], status: status(7), next: { kind: "recheckAt", at } }),
  });
  t.runner.start();
  t.cache.put(thing("a"));
  await settle(599_999);
  expect(t.observe).toHaveBeenCalledTimes(1);
  await settle(1);
  expect(t.observe).toHaveBeenCalledTimes(2);
});

test("the finalizer stands before anything is done, and goes after it was finalized", async () => {
  const finalize = jest.fn(async () => {});
  const t = setUp({ finalizer: { name: "mazevault.io/x", finalize } });
  t.runner.start();
  t.cache.put(thing("a"));
  await settle();
  expect(t.observe).not.toHaveBeenCalled();
  expect(t.patched).toEqual([
    [
      { op: "test", path: "/metadata/resourceVersion", value: "1" },
      { op: "add", path: "/metadata/finalizers", value: ["mazevault.io/x"] },
    ],
  ]);
  t.cache.put(
    thing("a", {
      resourceVersion: "2",
      finalizers: ["other", "mazevault.io/x"],
      deletionTimestamp: "2026-01-01T00:00:00Z",
    }),
  );
  await settle();
  expect(finalize).toHaveBeenCalledTimes(1);
  expect(t.patched.at(-1)).toEqual([
    { op: "test", path: "/metadata/resourceVersion", value: "2" },
    { op: "remove", path: "/metadata/finalizers/1" },
  ]);
});

test("what was never looked at and what changed goes before what a restart brings up again", async () => {
  const order: string[] = [];
  const t = setUp(
    {
      observe: async (resource) => {
        order.push(resource.metadata.name);
        return { version: 7 };
      },
    },
    { concurrency: 1 },
  );
  for (const name of ["old1", "old2"]) {
    t.cache.objects.set(`team/${name}`, {
      ...thing(name),
      status: { observedGeneration: 1 } as NonNullable<Thing["status"]>,
    });
  }
  t.cache.objects.set("team/new", thing("new"));
  t.runner.start();
  await settle();
  expect(order).toEqual(["new", "old1", "old2"]);
});

test("stop waits for a running reconcile", async () => {
  const { promise, resolve } = Promise.withResolvers<number>();
  const t = setUp({ perform: () => promise });
  t.runner.start();
  t.cache.put(thing("a"));
  await settle();
  const stopped = t.runner.stop(5_000);
  resolve(7);
  await settle();
  await stopped;
  expect(t.applied).toHaveLength(1);
});

test("each look is a trace of its own, says what came of it, and links to the one that asked for it", async () => {
  const { tracer, spans } = recordedSpans();
  let failures = 1;
  const observe = async () => {
    await Promise.resolve();
    tracer.called({ target: "postgres", operation: "read", code: "ok", seconds: 0 });
    if (failures-- > 0) throw new Unavailable("DatabaseUnavailable", "does not answer");
    return { version: 7 };
  };
  const t = setUp({ observe }, { tracer });
  t.runner.start();
  t.cache.put(thing("a"));
  t.cache.put(thing("b"));
  await settle(60_000);
  const [first, other, second] = spans.filter(({ name }) => name === "reconcile Thing");
  if (first === undefined || other === undefined || second === undefined) throw new Error("expected three");
  expect(first.attributes).toEqual({
    "mazevault.controller": "things",
    "mazevault.kind": "Thing",
    "mazevault.namespace": "team",
    "mazevault.name": "a",
    "mazevault.generation": 1,
    "mazevault.outcome": "error",
    "mazevault.next": "backoff",
    "mazevault.reason": "DatabaseUnavailable",
    "error.type": "DatabaseUnavailable",
  });
  expect(other.attributes).toMatchObject({ "mazevault.name": "b", "mazevault.outcome": "success" });
  expect(second.attributes).toMatchObject({ "mazevault.outcome": "success", "mazevault.next": "settled" });
  expect(first.links).toEqual([]);
  expect(second.links.map(({ context }) => context.spanId)).toEqual([first.spanContext().spanId]);
  for (const each of [first, other, second]) {
    expect(each.parentSpanContext).toBeUndefined();
    const calls = spans.filter(({ parentSpanContext: parent }) => parent?.spanId === each.spanContext().spanId);
    expect(calls.map(({ name }) => name)).toEqual(["postgres read"]);
  }
  expect(new Set(spans.map((span) => span.spanContext().traceId)).size).toBe(3);
  await t.runner.stop(0);
});
