import { until } from "../../lab/poll.ts";
import { Informer, type InformerOptions, type InformerProblem } from "./informer.ts";
import { NamespacedInformers } from "./namespaced-informers.ts";
import { keyOf } from "./resource-type.ts";
import { FakeApiServer, type FakeObject, fakeThings, reply, status } from "./testing/fake-apiserver.ts";
import { TcpProxy } from "./testing/tcp-proxy.ts";
import { KubernetesApi } from "./transport.ts";

const eventually = (condition: () => boolean): Promise<boolean> =>
  until(condition.toString(), condition, { timeoutMs: 15_000, intervalMs: 5 });

let server: FakeApiServer;
const cleanups: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  server = await FakeApiServer.start();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  await server.stop();
});

const connect = (port?: number): KubernetesApi => {
  const api = KubernetesApi.connect(server.config(port === undefined ? {} : { port }), { timeoutMs: 2_000 });
  cleanups.push(() => api.close());
  return api;
};

const observe = (options: Partial<InformerOptions<FakeObject>> = {}, api = connect()) => {
  const seen: string[] = [];
  const problems: InformerProblem[] = [];
  const informer = new Informer<FakeObject>(api, {
    type: fakeThings,
    maxBackoffMs: 20,
    onProblem: (problem) => problems.push(problem),
    ...options,
  });
  informer.onChange((type, object) => seen.push(`${type} ${object.metadata.name}`));
  cleanups.push(() => informer.stop());
  informer.start();
  return { informer, seen, problems };
};

test.each([
  ["streams everything", true, 1],
  // The refused stream and three pages.
  ["lists in pages where the API server does not stream", false, 4],
])("%s, then follows additions, changes and deletions", async (_name, streaming, fullReads) => {
  server.streaming = streaming;
  server.pageSize = 2;
  for (const name of ["a", "b", "c", "d", "e"]) server.put(name);
  const { informer, seen } = observe();
  await informer.whenSynced();
  expect(server.fullReads).toBe(fullReads);
  expect(informer.size).toBe(5);
  server.put("f", { n: 1 });
  server.put("a", { n: 2 });
  server.remove("b");
  await eventually(() => seen.includes("deleted b"));
  expect(seen.slice(5)).toEqual(["added f", "updated a", "deleted b"]);
  expect(informer.get("team/a")?.spec).toEqual({ n: 2 });
  expect(informer.get("team/b")).toBeUndefined();
});

test("a watch that the server ended goes on from the last version: nothing lost, nothing twice, no list", async () => {
  const { informer, seen } = observe();
  await informer.whenSynced();
  server.put("a");
  await eventually(() => seen.length === 1);
  server.endWatches();
  server.put("b");
  await eventually(() => seen.length === 2);
  expect(seen).toEqual(["added a", "added b"]);
  expect(server.fullReads).toBe(1);
});

test("bookmarks move the version, so that a compaction while nothing happens needs no list", async () => {
  const { informer, seen } = observe();
  await informer.whenSynced();
  await eventually(() => server.watches === 1);
  const before = informer.health.resourceVersion;
  server.bookmark();
  await eventually(() => informer.health.resourceVersion !== before);
  server.compact();
  server.breakWatches();
  server.put("a");
  await eventually(() => seen.length === 1);
  expect(server.fullReads).toBe(1);
});

test("410 Gone: lists again and tells the difference, deletions included", async () => {
  for (const name of ["a", "b", "c"]) server.put(name);
  const { informer, seen } = observe();
  await informer.whenSynced();
  await eventually(() => server.watches === 1);
  server.fault = (_request, response) => {
    response.destroy();
    return true;
  };
  server.breakWatches();
  server.remove("b");
  server.put("c", { n: 2 });
  server.put("d");
  server.compact();
  server.fault = undefined;
  await eventually(() => seen.includes("deleted b"));
  expect(seen.slice(3).toSorted()).toEqual(["added d", "deleted b", "updated c"]);
  expect(informer.health).toMatchObject({ synced: true, failing: undefined });
});

test("an object that was deleted and made again under the same name is seen as changed", async () => {
  server.put("a", {}, "first");
  const { informer, seen } = observe();
  await informer.whenSynced();
  server.breakWatches();
  server.remove("a");
  server.put("a", {}, "second");
  server.compact();
  await eventually(() => informer.get("team/a")?.metadata.uid === "second");
  expect(seen.at(-1)).toMatch(/^(updated|added) a$/);
});

test("a half-open connection is noticed by its silence and replaced", async () => {
  const proxy = await TcpProxy.start({ host: "127.0.0.1", port: server.port });
  cleanups.push(() => proxy.stop());
  const { informer, seen, problems } = observe({ inactivityMs: 300 }, connect(proxy.port));
  await informer.whenSynced();
  await eventually(() => server.watches === 1);
  proxy.freeze();
  server.put("a");
  await eventually(() => seen.includes("added a"));
  expect(problems.length).toBeGreaterThan(0);
  expect(server.fullReads).toBe(1);
});

test("a line that is no JSON: reports it without quoting, and lists again", async () => {
  const { informer, seen, problems } = observe();
  await informer.whenSynced();
  await eventually(() => server.watches === 1);
  server.raw('{"type":"ADDED","object":{"password":"c4n4ry\n');
  await eventually(() => server.fullReads === 2);
  server.put("a");
  await eventually(() => seen.includes("added a"));
  expect(problems).toHaveLength(1);
  expect(String(problems[0]?.error)).not.toContain("c4n4ry");
});

test("an event that arrives in pieces, cut inside a character, is one event", async () => {
  const { informer } = observe();
  await informer.whenSynced();
  await eventually(() => server.watches === 1);
  const object = { metadata: { name: "ü", namespace: "team", uid: "u", resourceVersion: "99" }, spec: "日本語" };
  const bytes = Buffer.from(`${JSON.stringify({ type: "ADDED", object })}\n`);
  for (const byte of bytes) server.raw(Buffer.of(byte));
  await eventually(() => informer.get("team/ü") !== undefined);
  expect(informer.get("team/ü")?.spec).toBe("日本語");
});

test.each([
  [401, "Unauthorized"],
  [403, "Forbidden"],
  [404, "NotFound"],
  [500, "InternalError"],
])("%d while listing: says so, keeps trying, and is synced once it works", async (code, reason) => {
  server.fault = (_request, response) => {
    reply(response, code, status(code, reason));
    return true;
  };
  const { informer, problems } = observe();
  await eventually(() => problems.length >= 3);
  expect(informer.synced).toBe(false);
  expect(informer.health).toMatchObject({ failing: String(code) });
  server.fault = undefined;
  await informer.whenSynced();
  expect(informer.health.failing).toBeUndefined();
});

test("rights that are withdrawn while watching: the cache stays, and health says why it is old", async () => {
  server.put("a");
  const { informer } = observe();
  await informer.whenSynced();
  await eventually(() => server.watches === 1);
  server.fault = (_request, response) => {
    reply(response, 403, status(403, "Forbidden"));
    return true;
  };
  server.breakWatches();
  await eventually(() => informer.health.failing === "403");
  expect(informer.size).toBe(1);
  server.fault = undefined;
  server.put("b");
  await eventually(() => informer.size === 2);
});

test("a continue token that expired between two pages: lists in one piece", async () => {
  for (let i = 0; i < 6; i++) server.put(`k${i}`);
  server.streaming = false;
  server.pageSize = 2;
  server.fault = (request, response) => {
    if (!request.url?.includes("continue=")) return false;
    server.pageSize = 500;
    reply(response, 410, status(410, "Expired"));
    return true;
  };
  const { informer } = observe();
  await informer.whenSynced();
  expect(informer.size).toBe(6);
  const lists = server.requests.filter(({ url }) => !url.searchParams.has("watch"));
  expect(lists.map(({ url }) => url.searchParams.get("limit"))).toEqual(["500", "500", null]);
});

test("managedFields and kubectl's copy of the manifest are not kept; transform trims further", async () => {
  const raw = {
    type: "ADDED",
    object: {
      metadata: {
        name: "a",
        namespace: "team",
        uid: "u",
        resourceVersion: "50",
        managedFields: [{ manager: "kubectl" }],
        annotations: { "kubectl.kubernetes.io/last-applied-configuration": "{}", kept: "yes" },
      },
      spec: { big: "x".repeat(1000) },
    },
  };
  const { informer } = observe({ transform: (object) => ({ ...object, spec: "trimmed" }) });
  await informer.whenSynced();
  await eventually(() => server.watches === 1);
  server.raw(`${JSON.stringify(raw)}\n`);
  await eventually(() => informer.size === 1);
  const cached = informer.get("team/a");
  expect(cached?.metadata).toEqual({
    name: "a",
    namespace: "team",
    uid: "u",
    resourceVersion: "50",
    annotations: { kept: "yes" },
  });
  expect(cached?.spec).toBe("trimmed");
});

test("indexes follow changes and deletions", async () => {
  server.put("a", { team: "red" });
  server.put("b", { team: "red" });
  const { informer } = observe({ indexers: { team: (object) => [(object.spec as { team: string }).team] } });
  await informer.whenSynced();
  const red = (): string[] => informer.byIndex("team", "red").map(keyOf);
  expect(red()).toEqual(["team/a", "team/b"]);
  server.put("a", { team: "blue" });
  await eventually(() => red().length === 1);
  server.remove("b");
  await eventually(() => red().length === 0);
  expect(informer.byIndex("team", "blue").map(keyOf)).toEqual(["team/a"]);
});

test("absorb: the answer to a write of ours is visible at once, and never brings back what is gone or older", async () => {
  const first = server.put("a", { n: 1 });
  const { informer, seen } = observe();
  await informer.whenSynced();
  const newer = { ...first, metadata: { ...first.metadata, resourceVersion: "9000" }, spec: { n: 2 } };
  informer.absorb(newer);
  expect(informer.get("team/a")?.spec).toEqual({ n: 2 });
  informer.absorb(first);
  expect(informer.get("team/a")?.spec).toEqual({ n: 2 });
  informer.absorb({ ...newer, metadata: { ...newer.metadata, name: "never-seen" } });
  expect(informer.size).toBe(1);
  expect(seen).toEqual(["added a", "updated a"]);
});

test("an initial stream that breaks off deletes nothing, and begins anew", async () => {
  for (const name of ["a", "b", "c"]) server.put(name);
  const { informer, seen } = observe();
  await informer.whenSynced();
  let broken = false;
  server.fault = (request, response) => {
    if (broken || !request.url?.includes("sendInitialEvents")) return false;
    broken = true;
    response.writeHead(200);
    response.end();
    return true;
  };
  server.compact();
  server.remove("c");
  server.compact();
  server.breakWatches();
  await eventually(() => broken && informer.state === "watching");
  expect(seen).toEqual(["added a", "added b", "added c", "deleted c"]);
});

test("health is good as soon as a watch stands again, although nothing happens in it", async () => {
  const { informer, problems } = observe();
  await informer.whenSynced();
  server.fault = (_request, response) => {
    reply(response, 503, status(503, "ServiceUnavailable"));
    return true;
  };
  server.breakWatches();
  await eventually(() => problems.length > 1);
  expect(informer.health.failing).toBeDefined();
  server.fault = undefined;
  await eventually(() => informer.health.failing === undefined && informer.state === "watching");
});

test("who begins to act on the cache has seen what happened while the connection was broken, whatever pause is left", async () => {
  const { informer, problems } = observe({ maxBackoffMs: 3_600_000 });
  await informer.whenSynced();
  await informer.whenFollowing();
  expect(server.fullReads).toBe(1);
  server.fault = (_request, response) => {
    reply(response, 503, { ...status(503, "ServiceUnavailable"), details: { retryAfterSeconds: 3_600 } });
    return true;
  };
  server.breakWatches();
  // The second attempt was answered, so the third has an hour to wait.
  await eventually(() => problems.some(({ retryInMs }) => retryInMs >= 30_000));
  server.fault = undefined;
  server.put("meanwhile");
  await informer.whenFollowing();
  expect(informer.get("team/meanwhile")).toBeDefined();
  expect(server.fullReads).toBe(2);
});

test("an API server that ignores the wish for a stream is listed in pages", async () => {
  server.put("a");
  server.fault = (request, response) => {
    if (!request.url?.includes("sendInitialEvents")) return false;
    response.writeHead(200);
    response.write(`${JSON.stringify({ type: "BOOKMARK", object: { metadata: { resourceVersion: "11" } } })}\n`);
    return true;
  };
  const { informer } = observe();
  await informer.whenSynced();
  expect(informer.size).toBe(1);
});

test("a handler that throws harms neither the informer nor the others", async () => {
  const errors: unknown[] = [];
  const { informer, seen } = observe({ onHandlerError: (error) => errors.push(error) });
  informer.onChange(() => {
    throw new Error("bug");
  });
  await informer.whenSynced();
  server.put("a");
  server.put("b");
  await eventually(() => seen.length === 2 && errors.length === 2);
});

test("namespaces come and go: leaving is no deletion", async () => {
  server.put("a");
  const informers = new NamespacedInformers<FakeObject>(connect(), { type: fakeThings });
  cleanups.push(() => informers.stop());
  const seen: string[] = [];
  informers.onChange((type, object) => seen.push(`${type} ${object.metadata.name}`));
  expect(informers.covers("team/a")).toBe(false);
  await informers.watch("team").whenSynced();
  expect(informers.covers("team/a")).toBe(true);
  expect(informers.covers("other/a")).toBe(false);
  expect(informers.get("team/a")).toBeDefined();
  expect(server.requests[0]?.url.pathname).toBe("/apis/example.test/v1/namespaces/team/things");
  await informers.unwatch("team");
  expect(informers.get("team/a")).toBeUndefined();
  expect(informers.covers("team/a")).toBe(false);
  expect(seen).toEqual(["added a"]);
});
