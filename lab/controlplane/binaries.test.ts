import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { obtainBinaries, type Source } from "./binaries.ts";
import { type Component, components, etcdVersion, kubernetesVersion } from "./versions.ts";

let dir: string;
let assetsDir: string;
let cacheDir: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-binaries-"));
  assetsDir = path.join(dir, "assets");
  cacheDir = path.join(dir, "cache");
  mkdirSync(assetsDir);
});
afterEach(() => rmSync(dir, { recursive: true }));

/** A program that says what the real one says when it is asked for its version. */
function writeProgram(folder: string, component: Component, version = versionOf(component)): string {
  mkdirSync(folder, { recursive: true });
  const output = component === "etcd" ? `etcd Version: ${version}` : `Kubernetes v${version}`;
  const file = path.join(folder, component);
  writeFileSync(file, `#!/bin/sh\necho '${output}'\n`);
  chmodSync(file, 0o755);
  return file;
}

function versionOf(component: Component): string {
  return component === "etcd" ? etcdVersion : kubernetesVersion;
}

/** Has some of the programs and remembers what it was asked for. */
function source(name: string, has: readonly Component[], version?: string): Source & { asked: Component[] } {
  const asked: Component[] = [];
  return {
    name,
    asked,
    async fetch(component, folder) {
      asked.push(component);
      if (!has.includes(component)) throw new Error(`${name} has no ${component}`);
      return writeProgram(folder, component, version);
    },
  };
}

test("each program comes from the first way that has it", async () => {
  const provided = writeProgram(assetsDir, "kubectl");
  const cached = writeProgram(cacheDir, "etcd");
  const download = source("download", ["kube-apiserver"]);
  const build = source("build", components);
  const binaries = await obtainBinaries(undefined, { assetsDir, cacheDir, sources: [download, build] });
  expect(binaries).toEqual({
    kubectl: provided,
    etcd: cached,
    "kube-apiserver": path.join(cacheDir, "kube-apiserver"),
    "kube-controller-manager": path.join(cacheDir, "kube-controller-manager"),
  });
  expect(download.asked).toEqual(["kube-apiserver", "kube-controller-manager"]);
  expect(build.asked).toEqual(["kube-controller-manager"]);
});

test("what was obtained is cached, and nothing else is left in the cache", async () => {
  mkdirSync(path.join(cacheDir, ".new-of-one-that-was-killed"), { recursive: true });
  await obtainBinaries(undefined, { cacheDir, sources: [source("build", components)] });
  const again = source("again", components);
  await obtainBinaries(undefined, { cacheDir, sources: [again] });
  expect(again.asked).toEqual([]);
  expect(readdirSync(cacheDir).toSorted()).toEqual([...components].toSorted());
});

test("a provided program of another release is not used, and that is reported", async () => {
  writeProgram(assetsDir, "kube-apiserver", "1.30.0");
  const lines: string[] = [];
  const options = { assetsDir, cacheDir, sources: [source("build", components)] };
  const binaries = await obtainBinaries((line) => lines.push(line), options);
  expect(binaries["kube-apiserver"]).toBe(path.join(cacheDir, "kube-apiserver"));
  expect(lines).toContain("kube-apiserver of KUBEBUILDER_ASSETS is not used: it is v1.30.0, but 1.36 is needed");
});

test("a damaged program in the cache is replaced", async () => {
  for (const component of components) writeProgram(cacheDir, component);
  writeFileSync(path.join(cacheDir, "etcd"), "not a program");
  const build = source("build", components);
  await obtainBinaries(undefined, { cacheDir, sources: [build] });
  expect(build.asked).toEqual(["etcd"]);
});

test("two that need the same at once obtain it once", async () => {
  const first = source("first", components);
  const second = source("second", components);
  await Promise.all([
    obtainBinaries(undefined, { cacheDir, sources: [first] }),
    obtainBinaries(undefined, { cacheDir, sources: [second] }),
  ]);
  expect([...first.asked, ...second.asked].toSorted()).toEqual([...components].toSorted());
});

test("when every way fails, the error names each with its reason", async () => {
  writeProgram(assetsDir, "etcd", "3.4.0");
  const sources = [source("download", components, "1.2.3"), source("build", ["kubectl"])];
  const failing = obtainBinaries(undefined, { assetsDir, cacheDir, sources });
  const error = await failing.then(
    () => new Error("nothing failed"),
    (reason: Error) => reason,
  );
  const [, etcdPart = ""] = /^etcd:\n((?: {2}- .*\n)+)/m.exec(error.message) ?? [];
  expect(etcdPart.trimEnd().split("\n")).toEqual([
    `  - KUBEBUILDER_ASSETS ${assetsDir}: is 3.4.0, but 3.6 is needed`,
    `  - cache ${cacheDir}: is not there`,
    "  - download: is 1.2.3, but 3.6 is needed",
    "  - build: build has no etcd",
  ]);
  expect(error.message).not.toMatch(/^kubectl:/m);
  expect(error.message).toContain("To fix it, one of:");
});
