/** Headers, files and the end, as the settings have them, against a receiver. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { TraceReceiver } from "../../adapters/tracing/testing/receiver.ts";
import { VERSION } from "../../program/version.ts";
import { closeTraces, openTraces } from "./open.ts";
import { tracing } from "./settings.ts";

const dir = mkdtempSync(path.join(tmpdir(), "mazevault-tracing-"));
const file = path.join(dir, "headers");
let receiver: TraceReceiver;
let lines: string[];
const log = {
  info: (_fields: object, line: string) => lines.push(line),
  warn: (_fields: object, line: string) => lines.push(line),
};

beforeAll(async () => {
  receiver = await TraceReceiver.start();
});
beforeEach(() => {
  lines = [];
  receiver.status = 200;
});
afterAll(async () => {
  await receiver.close();
  rmSync(dir, { recursive: true });
});

const open = (settings: object = {}) =>
  openTraces({ tracing: tracing.parse({ endpoint: receiver.url, ...settings }), version: VERSION }, log as never);

test("without a receiver there is nothing", async () => {
  expect(await openTraces({ tracing: tracing.parse({}), version: VERSION }, log as never)).toBeUndefined();
  await closeTraces(undefined);
});

test("the receiver gets the headers of the file as they are then, and what waits at the end", async () => {
  writeFileSync(file, "Authorization: Bearer first\r\n\nX-Scope-OrgID:  team one \n");
  const traces = await open({ headersFile: file });
  writeFileSync(file, "Authorization: Bearer second\n");
  await traces?.tracer.trace("last", { kind: "internal", attributes: {} }, async () => {});
  await closeTraces(traces);
  expect(receiver.headers.at(-1)).toMatchObject({ authorization: "Bearer second" });
  expect(receiver.spans.at(-1)).toMatchObject({ name: "last", service: "mazevault" });
});

test("a receiver that does not answer is not waited for at the end", async () => {
  receiver.status = undefined;
  const traces = await open();
  await traces?.tracer.trace("lost", { kind: "internal", attributes: {} }, async () => {});
  const began = performance.now();
  await closeTraces(traces);
  expect(performance.now() - began).toBeLessThan(4_000);
});

test.each([
  ["no header", "Authorization: Bearer first\nhunter2\n", /^ {2}tracing\.headersFile: line 2 must be a header/m],
  ["no value", "Authorization:\n", /line 1/],
  ["more than one line in one", "Authorization: a\u0000hunter2\n", /line 1/],
])("a file with %s is refused, and not shown", async (_what, text, problem) => {
  writeFileSync(file, text);
  const opening = open({ headersFile: file });
  await expect(opening).rejects.toThrow(problem);
  await expect(opening).rejects.not.toThrow(/hunter2/);
});

test.each(["headersFile", "caFile"])("%s must be there", async (setting) => {
  const missing = path.join(dir, "missing");
  await expect(open({ [setting]: missing })).rejects.toThrow(`tracing.${setting}: ${missing} cannot be read (ENOENT)`);
});

test("headers do not come from the environment", async () => {
  process.env.OTEL_EXPORTER_OTLP_HEADERS = "authorization=hunter2";
  try {
    await expect(open()).rejects.toThrow(/OTEL_EXPORTER_OTLP_HEADERS: .* tracing\.headersFile/);
  } finally {
    delete process.env.OTEL_EXPORTER_OTLP_HEADERS;
  }
});
