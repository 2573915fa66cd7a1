/** `jest.config.mjs` leaves this file out where there is no oasdiff. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { z } from "zod";
import { oasdiff } from "../../lab/oasdiff/program.ts";
import { findGoProgram } from "../../lab/setup/go-program.ts";
import { openApiDocument } from "../../operator/rest/openapi.ts";
import { type Route, route } from "../../operator/rest/route.ts";
import { routes } from "../../operator/rest/routes/index.ts";
import { sentence } from "./break.ts";
import { brokenByDocument } from "./rest.ts";

const program = findGoProgram(oasdiff) ?? "";
let dir: string;
beforeAll(() => {
  dir = mkdtempSync(path.join(tmpdir(), "mazevault-rest-"));
});
afterAll(() => rmSync(dir, { recursive: true }));

const fields = { name: z.string().max(8), size: z.enum(["S", "M"]).optional() };
const query = { limit: z.coerce.number().int().max(9).default(5), after: z.string().optional() };
const answer = { id: z.string(), note: z.string().optional() };

/** One route, with something else in it than it had. */
const things = (change: Partial<Parameters<typeof route>[0]> = {}): Route =>
  route({
    id: "makeThing",
    method: "post",
    path: "/api/v1/things",
    tag: "Things",
    summary: "Makes one.",
    access: { kind: "Anyone" },
    query: z.object(query),
    body: z.strictObject(fields),
    answers: { 201: { description: "It is there.", schema: z.strictObject(answer) } },
    handle: async () => ({ status: 201 }),
    ...change,
  });
const made = (schema: z.ZodType) => ({ 201: { description: "It is there.", schema } });

async function broken(before: readonly Route[], now: readonly Route[]): Promise<readonly string[]> {
  const [released, today] = [before, now].map((list, index) => {
    const file = path.join(dir, `${index}.json`);
    writeFileSync(file, JSON.stringify(openApiDocument(list, "1.0.0")));
    return file;
  });
  return (await brokenByDocument(program, released ?? "", today ?? "")).map(sentence);
}

test.each<[string, readonly Route[], RegExp]>([
  ["a route goes", [], /^POST \/api\/v1\/things: .*removed/],
  ["a route has another name for generated clients", [things({ id: "createThing" })], /makeThing/],
  [
    "a field of the body goes",
    [things({ body: z.strictObject({ name: fields.name }) })],
    /removed the request property size/,
  ],
  [
    "a field of the body is required",
    [things({ body: z.strictObject({ ...fields, size: z.enum(["S", "M"]) }) })],
    /size became required/,
  ],
  [
    "a new field of the body is required",
    [things({ body: z.strictObject({ ...fields, more: z.string() }) })],
    /new required request property more/,
  ],
  [
    "a bound of the body is narrower",
    [things({ body: z.strictObject({ ...fields, name: z.string().max(7) }) })],
    /maxLength was decreased to 7/,
  ],
  [
    "a pattern in the body",
    [things({ body: z.strictObject({ ...fields, name: z.string().max(8).regex(/^a$/) }) })],
    /pattern \^a\$/,
  ],
  [
    "a value of the body goes",
    [things({ body: z.strictObject({ ...fields, size: z.enum(["S"]).optional() }) })],
    /enum value M/,
  ],
  [
    "a field of the body has another type",
    [things({ body: z.strictObject({ ...fields, name: z.int() }) })],
    /name.*type/,
  ],
  [
    "a parameter goes",
    [things({ query: z.object({ limit: query.limit }) })],
    /deleted the query request parameter after/,
  ],
  ["a parameter is required", [things({ query: z.object({ ...query, after: z.string() }) })], /after.*became required/],
  [
    "a parameter has another default",
    [things({ query: z.object({ ...query, limit: z.coerce.number().int().max(9).default(6) }) })],
    /default/,
  ],
  [
    "a parameter has a narrower bound",
    [things({ query: z.object({ ...query, limit: z.coerce.number().int().max(8).default(5) }) })],
    /max was decreased/,
  ],
  [
    "a field of the answer goes",
    [things({ answers: made(z.strictObject({ note: answer.note })) })],
    /removed the required property id/,
  ],
  [
    "an optional field of the answer goes",
    [things({ answers: made(z.strictObject({ id: answer.id })) })],
    /removed the optional property note/,
  ],
  [
    "a field of the answer becomes optional",
    [things({ answers: made(z.strictObject({ ...answer, id: z.string().optional() })) })],
    /id became optional/,
  ],
  [
    "a field of the answer has another type",
    [things({ answers: made(z.strictObject({ ...answer, id: z.int() })) })],
    /id.*type changed/,
  ],
  [
    "a good answer has another status",
    [things({ answers: { 200: made(z.strictObject(answer))[201] } })],
    /removed the success response.*201/,
  ],
  ["who may call it", [things({ access: { kind: "Authenticated" } })], /anonymous/],
])("a breaking change is found: %s", async (_, now, problem) => {
  expect(await broken([things()], now)).toContainEqual(expect.stringMatching(problem));
});

test.each<[string, Route]>([
  ["nothing", things()],
  ["an optional field of the body", things({ body: z.strictObject({ ...fields, more: z.string().optional() }) })],
  ["an optional parameter", things({ query: z.object({ ...query, more: z.string().optional() }) })],
  ["a field of the answer", things({ answers: made(z.strictObject({ ...answer, more: z.string() })) })],
  ["a value of the body", things({ body: z.strictObject({ ...fields, size: z.enum(["S", "M", "L"]).optional() }) })],
  ["a longer value", things({ body: z.strictObject({ ...fields, name: z.string().max(9) }) })],
])("what comes beside what was there is none: %s", async (_, now) => {
  expect(await broken([things()], [now, things({ id: "other", path: "/api/v1/other" })])).toEqual([]);
});

test("of all that REST has, nothing is broken by itself", async () => expect(await broken(routes, routes)).toEqual([]));

test("a document that is none is told", async () => {
  const file = path.join(dir, "none.json");
  writeFileSync(file, "[]");
  await expect(brokenByDocument(program, file, file)).rejects.toThrow(/^oasdiff: .*none\.json/s);
});
