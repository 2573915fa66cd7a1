import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { until } from "../../lab/poll.ts";
import { ConfigError } from "../../program/settings.ts";
import { EventTokens } from "./event-tokens.ts";

const folder = mkdtempSync(path.join(tmpdir(), "event-tokens-"));
const file = path.join(folder, "tokens");
const warned: unknown[] = [];
const log = { info: () => {}, warn: (what: unknown) => warned.push(what) };
const [one, two] = ["1".repeat(64), "2".repeat(64)];
const open: EventTokens[] = [];
const tokens = (everyMs?: number): EventTokens => {
  const made = new EventTokens(file, log, everyMs);
  open.push(made);
  return made;
};

afterEach(() => {
  for (const each of open.splice(0)) each.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

test("each line is a token; nothing else is, and nothing at all without a file", () => {
  writeFileSync(file, `${one}\n\n${two}\n`);
  const made = tokens();
  expect([one, two, "", undefined, one.slice(1), `${one}\n`].map((each) => made.accepts(each))).toEqual([
    true,
    true,
    false,
    false,
    false,
    false,
  ]);
  expect(new EventTokens(undefined, log).accepts("")).toBe(false);
});

test.each([
  ["no token", "\n", /1 to 64 lines/],
  ["a token that can be guessed", `${one}\nsecret\n`, /token 2 must be 32 to 256 visible characters/],
])("refuses a file with %s, without showing it", (_, content, says) => {
  writeFileSync(file, content);
  expect(tokens).toThrow(ConfigError);
  expect(tokens).toThrow(says);
  expect(tokens).not.toThrow(/secret/);
});

test("another file counts soon, a broken one does not", async () => {
  writeFileSync(file, one);
  const made = tokens(10);
  writeFileSync(file, two);
  await until("the other token counts", async () => made.accepts(two) && !made.accepts(one), { timeoutMs: 5_000 });
  writeFileSync(file, "short");
  await until("it is told", async () => warned.length > 0, { timeoutMs: 5_000 });
  expect(made.accepts(two)).toBe(true);
  expect(JSON.stringify(warned)).not.toContain("short");
});
