import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { findGoProgram, obtainGoProgram, type PinnedGoProgram } from "./go-program.ts";

const { PATH } = process.env;
let dir: string;
let cache: string;
let reported: string[];
let hello: PinnedGoProgram;
beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-go-program-"));
  cache = path.join(dir, "cache");
  reported = [];
  hello = {
    name: "hello",
    version: "1.2.0",
    module: dir,
    package: "example.com/hello",
    linkerFlags: "-s -w",
    question: { args: ["--version"], answer: "v1.2.0" },
  };
});
afterEach(() => {
  process.env.PATH = PATH;
  rmSync(dir, { recursive: true });
});

/** A Go that builds a program that says this. What it was asked stands in `calls`. */
function playGo(says: string): void {
  const bin = path.join(dir, "bin");
  mkdirSync(bin, { recursive: true });
  // Its fifth argument is the file to write.
  const program = `#!/bin/sh\\n${says}\\n`;
  writeFileSync(
    path.join(bin, "go"),
    `#!/bin/sh\necho "$*" >> ${dir}/calls\nprintf '${program}' > "$5" && chmod +x "$5"\n`,
  );
  chmodSync(path.join(bin, "go"), 0o755);
  process.env.PATH = `${bin}:${PATH}`;
}

const obtain = () => obtainGoProgram(hello, (line) => reported.push(line), { cache });
const calls = (): string[] => readFileSync(path.join(dir, "calls"), "utf8").trim().split("\n");

test("it is built once, of what its module pins, and another version is another program", async () => {
  playGo("echo hello v1.2.0");
  expect(findGoProgram(hello, { cache })).toBeUndefined();
  const [file] = await Promise.all([obtain(), obtain()]);
  expect(existsSync(file)).toBe(true);
  expect(calls()).toEqual([expect.stringMatching(/^build -mod=readonly .* -ldflags -s -w example\.com\/hello$/)]);
  expect(reported).toContainEqual("building hello 1.2.0 from source (the result is kept)");
  expect(findGoProgram(hello, { cache })).toBe(file);
  expect(findGoProgram({ ...hello, version: "1.3.0" }, { cache })).toBeUndefined();
});

test.each([
  ["one that does not run", "exit 3", "it was built and does not run"],
  ["one of another version", "echo hello v1.1.9", "it was built and says hello v1.1.9"],
])("%s is the reason, and nothing is kept", async (_, says, reason) => {
  playGo(says);
  await expect(obtain()).rejects.toThrow(reason);
  expect(findGoProgram(hello, { cache })).toBeUndefined();
  expect(readdirSync(path.join(cache, "1.2.0"))).toEqual([]);
});

test("a machine without Go is a reason too", async () => {
  process.env.PATH = path.join(dir, "empty");
  await expect(obtain()).rejects.toThrow("Go is not installed");
});
