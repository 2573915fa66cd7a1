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
import { findPackage, libraryPath, obtainPackage, type PackageOptions } from "./packages.ts";

const wanted = { name: "hello", purpose: "greetings", program: "usr/bin/hello" };
const { PATH } = process.env;

let dir: string;
let options: Required<PackageOptions>;
let reported: string[];

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-packages-"));
  options = { systemRoot: path.join(dir, "system"), cache: path.join(dir, "cache") };
  reported = [];
});
afterEach(() => {
  process.env.PATH = PATH;
  rmSync(dir, { recursive: true });
});

function script(file: string, ...lines: string[]): void {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, ["#!/bin/sh", ...lines, ""].join("\n"));
  chmodSync(file, 0o755);
}

/**
 * An apt-get that knows `hello` and its library, and that `libold` is installed in another version; archives are folders.
 * What it was asked stands in `calls`.
 */
function playApt(hello: readonly string[]): void {
  const bin = path.join(dir, "bin");
  script(path.join(dir, "hello.deb", "usr/bin/hello"), ...hello);
  script(path.join(dir, "libhello.deb", "usr/lib/x86_64-linux-gnu/libhello.so"));
  script(
    path.join(bin, "apt-get"),
    'while [ "$1" = -o ] || [ "$1" = -q ]; do [ "$1" = -o ] && shift; shift; done',
    `echo "$*" >> ${dir}/calls`,
    'case "$1" in',
    '  --simulate) printf "Inst libold [1] (2 Debian)\\nInst libhello (1 Debian)\\nInst hello (1 Debian)\\nConf hello (1)\\n" ;;',
    `  download) shift; for name in "$@"; do cp -r ${dir}/$name.deb . || exit 1; done ;;`,
    "esac",
  );
  script(path.join(bin, "dpkg-deb"), 'mkdir -p "$3" && cp -r "$2"/. "$3"');
  process.env.PATH = `${bin}:${PATH}`;
}

const obtain = () => obtainPackage(wanted, (line) => reported.push(line), options);
const calls = (): string => (existsSync(path.join(dir, "calls")) ? readFileSync(path.join(dir, "calls"), "utf8") : "");

test("what the system has is used as it is", async () => {
  playApt(["exit 0"]);
  script(path.join(options.systemRoot, wanted.program), "exit 0");
  const found = { root: options.systemRoot, libraries: [] };
  expect(await obtain()).toEqual(found);
  expect(findPackage(wanted, options)).toEqual(found);
  expect([calls(), reported]).toEqual(["", []]);
});

test("otherwise it is unpacked with what this machine lacks, once, and runs with the libraries from there", async () => {
  playApt([
    `case "$LD_LIBRARY_PATH" in */usr/lib/x86_64-linux-gnu) exit 0 ;; esac`,
    'echo "libhello is missing" >&2; exit 127',
  ]);
  const found = await obtain();
  expect(found).toEqual({
    root: path.join(options.cache, "hello"),
    libraries: ["usr/lib/x86_64-linux-gnu"],
    id: expect.stringMatching(/^[0-9a-f]{12}$/),
  });
  expect(libraryPath("/copy", found.libraries)).toEqual({ LD_LIBRARY_PATH: "/copy/usr/lib/x86_64-linux-gnu" });
  expect(calls()).toBe("update\n--simulate --no-install-recommends install hello\ndownload hello libhello\n");
  expect(readdirSync(options.cache)).toEqual(["hello"]);

  expect(await obtain()).toEqual(found);
  expect(findPackage(wanted, options)).toEqual(found);
  expect(calls().split("\n")).toHaveLength(4);
  expect(reported).toEqual([expect.stringContaining("hello")]);
});

test("a program may have another name for --version", async () => {
  playApt(['[ "$1" = -v ]']);
  const { root } = await obtainPackage({ ...wanted, versionOption: "-v" }, undefined, options);
  expect(root).toBe(path.join(options.cache, "hello"));
  await expect(obtain()).rejects.toThrow("it was unpacked and does not run");
});

test("a cached program that does not run any more is unpacked again", async () => {
  playApt(["exit 0"]);
  const { root } = await obtain();
  script(path.join(root, wanted.program), "exit 127");
  await obtain();
  expect(readFileSync(path.join(root, wanted.program), "utf8")).toContain("exit 0");
});

test("a program that does not run is not kept, and its words are the reason", async () => {
  playApt(['echo "libc is too old" >&2; exit 1']);
  await expect(obtain()).rejects.toThrow("it was unpacked and does not run: hello: libc is too old");
  expect(findPackage(wanted, options)).toBeUndefined();
  expect(readdirSync(options.cache)).toEqual([]);
});

test("a package that apt does not have, and a machine without apt, are reasons too", async () => {
  script(path.join(dir, "bin", "apt-get"), 'echo "E: Unable to locate package hello" >&2; exit 100');
  process.env.PATH = `${path.join(dir, "bin")}:${PATH}`;
  await expect(obtain()).rejects.toThrow("apt-get: E: Unable to locate package hello");
  process.env.PATH = path.join(dir, "empty");
  await expect(obtain()).rejects.toThrow("there is no apt-get on this machine");
});
