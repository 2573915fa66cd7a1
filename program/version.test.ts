import { readFileSync } from "node:fs";
import path from "node:path";
import { VERSION } from "./version.ts";

test("the program says the version that it is released as", () => {
  const file = path.join(import.meta.dirname, "../package.json");
  expect(VERSION).toBe((JSON.parse(readFileSync(file, "utf8")) as { version: string }).version);
});
