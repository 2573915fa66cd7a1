import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Fenced, Unavailable } from "../../core/errors.ts";
import { until } from "../../lab/poll.ts";
import { ApiError, isAlreadyExists, isConflict, isGone, isNotFound } from "./api-error.ts";
import { CredentialSource } from "./credentials.ts";
import { fencedWrites } from "./leadership.ts";
import { coreSecrets, resourcePath, splitKey } from "./resource-type.ts";
import { FakeApiServer, fakeThings, reply, status } from "./testing/fake-apiserver.ts";
import { TcpProxy } from "./testing/tcp-proxy.ts";
import { type ApiCall, KubernetesApi, type KubernetesApiOptions } from "./transport.ts";

let server: FakeApiServer;
const cleanups: (() => unknown)[] = [];

beforeEach(async () => {
  server = await FakeApiServer.start();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  await server.stop();
});

const connect = (options: KubernetesApiOptions = {}, config = server.config()): KubernetesApi => {
  const api = KubernetesApi.connect(config, options);
  cleanups.push(() => api.close());
  return api;
};

const at = { namespace: "team", name: "a" };
const thing = { apiVersion: "example.test/v1", kind: "Thing", metadata: at };

/** Answers the next requests in this order, then as usual. */
const answer = (...answers: { code: number; body?: unknown; headers?: Record<string, string> }[]): void => {
  server.fault = (_request, response) => {
    const next = answers.shift();
    if (next === undefined) return false;
    reply(response, next.code, next.body ?? {}, next.headers);
    return true;
  };
};

const failure = async (work: Promise<unknown>): Promise<unknown> => {
  try {
    await work;
  } catch (error) {
    return error;
  }
  throw new Error("it did not fail");
};

test.each([
  [coreSecrets, { namespace: "n", name: "s" }, "/api/v1/namespaces/n/secrets/s"],
  [coreSecrets, {}, "/api/v1/secrets"],
  [fakeThings, { namespace: "n" }, "/apis/example.test/v1/namespaces/n/things"],
  [
    fakeThings,
    { namespace: "n", name: "a", subresource: "status" },
    "/apis/example.test/v1/namespaces/n/things/a/status",
  ],
  [{ ...fakeThings, namespaced: false }, { namespace: "n", name: "a" }, "/apis/example.test/v1/things/a"],
])("paths: %#", (type, where, expected) => {
  expect(resourcePath(type, where)).toBe(expected);
});

test("a name without its namespace is a programming error, not another path", () => {
  expect(() => resourcePath(coreSecrets, { name: "s" })).toThrow(TypeError);
  expect(splitKey("team/a")).toEqual(at);
});

test("only an answer that names the object says that it is not there", async () => {
  const api = connect();
  answer({ code: 404, body: "404 page not found\n" });
  const route = await failure(api.get(fakeThings, at));
  expect(route).toMatchObject({ status: 404 });
  expect(isNotFound(route, "a")).toBe(false);
  answer({ code: 404, body: status(404, "NotFound", { details: { name: "a", kind: "things" } }) });
  const object = await failure(api.get(fakeThings, at));
  expect(isNotFound(object, "a")).toBe(true);
  expect(isNotFound(object, "b")).toBe(false);
});

test("conflicts, existing objects and expired versions are told apart", async () => {
  const api = connect();
  answer(
    { code: 409, body: status(409, "Conflict") },
    { code: 409, body: status(409, "AlreadyExists") },
    { code: 410, body: status(410, "Expired") },
  );
  expect(isConflict(await failure(api.create(fakeThings, thing)))).toBe(true);
  expect(isAlreadyExists(await failure(api.create(fakeThings, thing)))).toBe(true);
  expect(isGone(await failure(api.create(fakeThings, thing)))).toBe(true);
});

test("a refused core Secret is described without what the API server quotes of it", async () => {
  const api = connect();
  const body = status(422, "Invalid", {
    message: 'Secret "s" is invalid: data[a b]: Invalid value: "c4n4ry": bad key',
    details: {
      name: "s",
      kind: "Secret",
      causes: [{ reason: "FieldValueInvalid", field: "data[a b]", message: "c4n4ry" }],
    },
  });
  answer({ code: 422, body }, { code: 422, body });
  const secret = { apiVersion: "v1", kind: "Secret", metadata: { namespace: "team", name: "s" } };
  const refused = await failure(api.create(coreSecrets, secret));
  expect(refused).toBeInstanceOf(ApiError);
  expect((refused as ApiError).message).toBe("create secrets: 422 Invalid: data[a b]");
  expect(JSON.stringify(refused) + (refused as Error).stack).not.toContain("c4n4ry");
  // Of other kinds the whole message helps, and their manifests are not secret.
  expect((await failure(api.create(fakeThings, thing))) as Error).toMatchObject({
    message: expect.stringContaining("bad key"),
  });
});

test("reads are repeated on 429 and 5xx, writes are not", async () => {
  const calls: ApiCall[] = [];
  const api = connect({ onCall: (call) => calls.push(call) });
  const stored = server.put("a");
  answer({ code: 429, headers: { "retry-after": "0" } }, { code: 503 }, { code: 200, body: stored });
  expect(await api.get(fakeThings, at)).toEqual(stored);
  expect(calls.map(({ verb, resource, code }) => `${verb} ${resource} ${code}`)).toEqual([
    "get things.example.test 429",
    "get things.example.test 503",
    "get things.example.test 200",
  ]);
  answer({ code: 503, headers: { "retry-after": "7" } });
  const before = server.requests.length;
  expect(await failure(api.create(fakeThings, thing))).toMatchObject({ status: 503, retryAfterSeconds: 7 });
  expect(server.requests.length).toBe(before + 1);
});

test("no answer at all: Unavailable, with the code of the socket and nothing else", async () => {
  const api = connect({}, { ...server.config({ port: 1 }) });
  const error = await failure(api.create(fakeThings, thing));
  expect(error).toBeInstanceOf(Unavailable);
  expect((error as Error).message).toBe("the API server does not answer (ECONNREFUSED)");
});

test("a request that is not answered ends in bounded time, and by its signal at once", async () => {
  server.fault = () => true;
  const api = connect();
  expect(await failure(api.create(fakeThings, thing, { timeoutMs: 50 }))).toBeInstanceOf(Unavailable);
  const abort = new AbortController();
  const pending = failure(api.get(fakeThings, at, { signal: abort.signal }));
  await until("the request arrived", () => server.requests.length === 2, { timeoutMs: 5_000, intervalMs: 2 });
  const reason = new Error("the operator is stopping");
  abort.abort(reason);
  expect(await pending).toBe(reason);
});

test("a half-open connection does not hold up requests for longer than their time-out", async () => {
  const proxy = await TcpProxy.start({ host: "127.0.0.1", port: server.port });
  cleanups.push(() => proxy.stop());
  const stored = server.put("a");
  answer({ code: 200, body: stored }, { code: 200, body: stored });
  const api = connect({ timeoutMs: 100, connections: 1 }, server.config({ port: proxy.port }));
  await api.get(fakeThings, at);
  proxy.freeze();
  expect(await api.get(fakeThings, at)).toEqual(stored);
  expect(proxy.accepted).toBe(2);
});

test("connections are kept alive and bounded", async () => {
  const proxy = await TcpProxy.start({ host: "127.0.0.1", port: server.port });
  cleanups.push(() => proxy.stop());
  const api = connect({ connections: 4 }, server.config({ port: proxy.port }));
  server.fault = (_request, response) => {
    reply(response, 200, {});
    return true;
  };
  let most = 0;
  await Promise.all(
    Array.from({ length: 200 }, async () => {
      await api.get(fakeThings, at);
      most = Math.max(most, proxy.connections);
    }),
  );
  expect(most).toBe(4);
  expect(proxy.accepted).toBe(4);
});

test("a token file that is replaced is used from then on; 401 reads it again at once", async () => {
  const dir = mkdtempSync(path.join(tmpdir(), "token-"));
  cleanups.push(() => rmSync(dir, { recursive: true }));
  const tokenFile = path.join(dir, "token");
  const rotate = (token: string): void => {
    writeFileSync(`${tokenFile}.new`, `${token}\n`);
    renameSync(`${tokenFile}.new`, tokenFile);
  };
  rotate("first");
  let valid = "first";
  server.fault = (request, response) => {
    if (request.headers.authorization === `Bearer ${valid}`) reply(response, 200, {});
    else reply(response, 401, status(401, "Unauthorized"));
    return true;
  };
  const api = connect({}, server.config({ tokenFile }));
  await api.get(fakeThings, at);
  rotate("second");
  valid = "second";
  await api.get(fakeThings, at);
  const tokens = server.requests.map(({ headers }) => headers.authorization);
  expect(tokens).toEqual(["Bearer first", "Bearer first", "Bearer second"]);
});

test("credentials are kept while their files stay as they are, and connections while the certificates do", async () => {
  let reads = 0;
  const source = new CredentialSource({
    ...server.config(),
    applyToHTTPSOptions: async () => {
      reads++;
    },
  });
  const first = await source.current();
  expect(source.current()).toBe(first);
  expect(reads).toBe(1);
  const renewed = await source.renew();
  expect(reads).toBe(2);
  expect(renewed.connectionVersion).toBe(first.connectionVersion);
});

test("fenced writes do not reach the API server, reads do; also when they had to queue for a connection", async () => {
  let leading = true;
  const api = connect({ connections: 1 });
  const fenced = fencedWrites(api, {
    assertLeading: () => {
      if (!leading) throw new Fenced(3n);
    },
  });
  const held = Promise.withResolvers<() => void>();
  server.fault = (request, response) => {
    if (request.method === "GET") held.resolve(() => reply(response, 200, {}));
    else reply(response, 201, {});
    return true;
  };
  const reading = fenced.get(fakeThings, at);
  const queued = failure(fenced.create(fakeThings, thing));
  const release = await held.promise;
  leading = false;
  release();
  await reading;
  expect(await queued).toBeInstanceOf(Fenced);
  expect(await failure(fenced.delete(fakeThings, at))).toBeInstanceOf(Fenced);
  expect(server.requests.map(({ method }) => method)).toEqual(["GET"]);
  leading = true;
  await fenced.create(fakeThings, thing);
  expect(server.requests.map(({ method }) => method)).toEqual(["GET", "POST"]);
});

test("patches carry their content type and field manager", async () => {
  const api = connect();
  server.fault = (_request, response) => {
    reply(response, 200, {});
    return true;
  };
  await api.applyStatus(fakeThings, thing, { fieldManager: "mazevault-things", force: true });
  await api.mergePatch(fakeThings, at, {});
  await api.jsonPatch(fakeThings, at, []);
  await api.create(fakeThings, thing, { metadataOnly: true });
  expect(server.requests.map(({ url, headers }) => `${headers["content-type"]} ${url.pathname}${url.search}`)).toEqual([
    "application/apply-patch+yaml /apis/example.test/v1/namespaces/team/things/a/status?fieldManager=mazevault-things&force=true",
    "application/merge-patch+json /apis/example.test/v1/namespaces/team/things/a",
    "application/json-patch+json /apis/example.test/v1/namespaces/team/things/a",
    "application/json /apis/example.test/v1/namespaces/team/things",
  ]);
  expect(server.requests.at(-1)?.headers.accept).toBe("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
});
