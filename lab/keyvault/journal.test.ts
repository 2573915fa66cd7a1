import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Journal } from "./journal.ts";

const folder = mkdtempSync(join(tmpdir(), "keyvault-journal-"));
afterAll(() => rmSync(folder, { recursive: true }));

it("has nothing to read before its first record", () => {
  expect(Journal.read(join(folder, "absent"))).toEqual([]);
});

it("keeps records in the order of their appending, however they share the disk", async () => {
  const file = join(folder, "ordered");
  const journal = Journal.replace<number | string>(file, [-1]);
  const numbers = Array.from({ length: 200 }, (_, index) => index);
  await Promise.all(numbers.map((index) => journal.append(index)));
  await journal.append("last");
  expect(Journal.read(file)).toEqual([-1, ...numbers, "last"]);
  await journal.close();
});

it("shows a record to others before it is acknowledged", async () => {
  const file = join(folder, "at-once");
  const journal = Journal.replace<string>(file, []);
  const acknowledged = journal.append("written");
  expect(readFileSync(file, "utf8")).toBe('"written"\n');
  await acknowledged;
  await journal.close();
});

it("forgets a torn last line, and names a damaged one in the middle", async () => {
  const file = join(folder, "torn");
  await Journal.replace(file, ["whole"]).close();
  appendFileSync(file, '{"torn":');
  expect(Journal.read(file)).toEqual(["whole"]);
  appendFileSync(file, "\n");
  expect(() => Journal.read(file)).toThrow(/torn:2: damaged record/);
});
