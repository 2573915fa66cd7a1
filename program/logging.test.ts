import { Unavailable } from "../core/errors.ts";
import { Sensitive } from "../core/sensitive.ts";
import { createLogger, describeError } from "./logging.ts";

const CANARY = "c4n4ry-9f31";

const logged = (write: (log: ReturnType<typeof createLogger>) => void): string => {
  const lines: string[] = [];
  write(createLogger({ level: "trace", destination: { write: (line) => lines.push(line) } }));
  return lines.join("");
};

const foreign = (): Error =>
  Object.assign(new TypeError(`cannot parse ${CANARY}`), { code: "ERR_INVALID", detail: CANARY });

test.each<[string, (log: ReturnType<typeof createLogger>) => void]>([
  ["a Sensitive value", (log) => log.trace({ value: 1, password: new Sensitive(CANARY) }, "m")],
  ["a Sensitive value under a harmless name", (log) => log.info({ note: { deep: [new Sensitive(CANARY)] } }, "m")],
  ["bytes", (log) => log.info({ note: Buffer.from(CANARY) }, "m")],
  [
    "data and stringData of an object",
    (log) => log.debug({ object: { data: { a: CANARY }, stringData: CANARY } }, "m"),
  ],
  ["a literal of a manifest", (log) => log.debug({ entries: [{ key: "a", literal: CANARY }] }, "m")],
  ["headers", (log) => log.trace({ request: { headers: { Authorization: CANARY } } }, "m")],
  [
    "a token, whatever its spelling",
    (log) => log.info({ access_token: CANARY, "id-token": CANARY, clientSecret: CANARY }, "m"),
  ],
  ["the query of a URL", (log) => log.info({ url: new URL(`https://a.example/b?sig=${CANARY}`) }, "m")],
  ["a foreign error's message, code with text and fields", (log) => log.error({ error: foreign() }, "m")],
  ["a foreign error passed alone", (log) => log.error(foreign())],
  ["a foreign error passed with a message", (log) => log.error(foreign(), "m")],
  ["a foreign cause", (log) => log.error({ error: new Unavailable("Failed", "safe", { cause: foreign() }) }, "m")],
  ["bindings of a child", (log) => log.child({ token: CANARY, at: new Sensitive(CANARY) }).info("m")],
  ["a map", (log) => log.info({ sources: new Map([["password", CANARY]]) }, "m")],
])("never prints %s", (_name, write) => {
  const output = logged(write);
  expect(output).not.toBe("");
  expect(output).not.toContain(CANARY);
  expect(output).not.toContain(Buffer.from(CANARY).toString("base64"));
});

test("our own errors keep their message, and causes their code and frames", () => {
  const cause = Object.assign(new Error("secret"), { code: "ECONNREFUSED" });
  const described = describeError(new Unavailable("DatabaseUnavailable", "PostgreSQL does not answer", { cause }));
  expect(described).toMatchObject({
    type: "Unavailable",
    code: "DatabaseUnavailable",
    message: "PostgreSQL does not answer",
    cause: { type: "Error", code: "ECONNREFUSED" },
  });
  expect(described.cause).not.toHaveProperty("message");
  expect(described.cause?.stack).toMatch(/^\s+at /);
});

class Unnamed extends Error {}

test.each<[string, unknown, object]>([
  [
    "our own, with a message",
    new Unavailable("Failed", "safe", { cause: new TypeError(CANARY) }),
    { type: "Unavailable", code: "Failed", message: "safe", cause: { type: "TypeError" } },
  ],
  ["a foreign one", new RangeError(CANARY), { type: "RangeError" }],
  ["one that has only a class", new Unnamed(CANARY), { type: "Unnamed" }],
])("a line names the type of an error: %s", (_name, error, expected) => {
  const places = [
    JSON.parse(logged((log) => log.warn({ error }, "m"))).error,
    JSON.parse(logged((log) => log.child({ error }).warn("m"))).error,
  ];
  for (const printed of places) expect(printed).toMatchObject(expected);
});

test("lines are JSON with time, level and message", () => {
  const line = JSON.parse(logged((log) => log.warn({ object: "team/db", epoch: 3n }, "it happened")));
  expect(line).toMatchObject({ level: "warn", message: "it happened", object: "team/db", epoch: "3" });
  expect(Date.parse(line.time)).not.toBeNaN();
});

test("a line says which trace it belongs to, where there is one", () => {
  const lines: string[] = [];
  let traceId: string | undefined = "a".repeat(32);
  const log = createLogger({ destination: { write: (line) => lines.push(line) }, traceId: () => traceId });
  log.child({ part: "one" }).info({ object: "team/db" }, "within");
  traceId = undefined;
  log.info("without");
  const [within, without] = lines.map((line) => JSON.parse(line));
  expect(within).toMatchObject({ trace_id: "a".repeat(32), object: "team/db", part: "one", message: "within" });
  expect(without).not.toHaveProperty("trace_id");
});
