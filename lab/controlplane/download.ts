import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import path from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { promisify } from "node:util";
import { parse } from "yaml";
import { z } from "zod";
import type { Source } from "./binaries.ts";
import { kubernetesVersion } from "./versions.ts";

// Closed networks mostly refuse at once, but some swallow packets.
const answerTimeoutMs = 8_000;
const stallTimeoutMs = 15_000;
const progressEveryMs = 5_000;

const platform = { os: process.platform, arch: process.arch === "x64" ? "amd64" : process.arch };

const releaseIndex = z.object({
  releases: z.record(z.string(), z.record(z.string(), z.object({ hash: z.string(), selfLink: z.url() }))),
});

/**
 * The archive that the Kubernetes project publishes for tests of controllers: etcd, kube-apiserver and kubectl, for
 * Linux and macOS. Not every patch release is there, so the newest of the same series is taken where it is not.
 */
export function envtestArchive(
  index = "https://raw.githubusercontent.com/kubernetes-sigs/controller-tools/HEAD/envtest-releases.yaml",
): Source {
  let archive: Promise<string> | undefined;
  return {
    name: `envtest archive listed at ${index}`,
    async fetch(component, dir, report) {
      if (component === "kube-controller-manager") throw new Error("the archive does not contain it");
      archive ??= downloadArchive(index, path.join(dir, "archive.tar.gz"), report);
      const member = `controller-tools/envtest/${component}`;
      await promisify(execFile)("tar", ["-xzf", await archive, "-C", dir, "--strip-components=2", member]);
      return path.join(dir, component);
    },
  };
}

/** The programs of a Kubernetes release; the servers for Linux only, etcd not at all. */
export function kubernetesReleases(address = "https://dl.k8s.io"): Source {
  return {
    name: `Kubernetes release at ${address}`,
    async fetch(component, dir, report) {
      if (component === "etcd") throw new Error("is not published there");
      const url = `${address}/release/v${kubernetesVersion}/bin/${platform.os}/${platform.arch}/${component}`;
      const [hex = ""] = (await fetchText(`${url}.sha256`)).trim().split(/\s+/);
      const file = path.join(dir, component);
      await download(url, file, { algorithm: "sha256", hex }, report);
      return file;
    },
  };
}

async function downloadArchive(index: string, file: string, report: (line: string) => void): Promise<string> {
  const { hash, selfLink } = await findArchive(index);
  await download(selfLink, file, { algorithm: "sha512", hex: hash }, report);
  return file;
}

async function findArchive(index: string): Promise<{ hash: string; selfLink: string }> {
  const { releases } = releaseIndex.parse(parse(await fetchText(index)));
  const [major, minor, patch] = kubernetesVersion.split(".").map(Number);
  const patches = Object.keys(releases).flatMap((name) => {
    const match = /^v(\d+)\.(\d+)\.(\d+)$/.exec(name)?.slice(1).map(Number);
    return match !== undefined && match[0] === major && match[1] === minor ? [match[2] ?? 0] : [];
  });
  const chosen = patches.find((candidate) => candidate === patch) ?? Math.max(...patches);
  const version = `v${major}.${minor}.${chosen}`;
  const archive = releases[version]?.[`envtest-${version}-${platform.os}-${platform.arch}.tar.gz`];
  if (archive === undefined)
    throw new Error(`lists no archive of ${major}.${minor} for ${platform.os}/${platform.arch}`);
  return archive;
}

/** A small document. @throws when it is not there in time */
async function fetchText(url: string): Promise<string> {
  return (await request(url, AbortSignal.timeout(answerTimeoutMs))).text();
}

async function request(url: string, signal: AbortSignal): Promise<Response> {
  const response = await fetch(url, { signal });
  if (!response.ok) throw new Error(`${url} answered ${response.status} ${response.statusText}`.trim());
  return response;
}

async function download(
  url: string,
  file: string,
  expected: { algorithm: "sha256" | "sha512"; hex: string },
  report: (line: string) => void,
): Promise<void> {
  const hash = createHash(expected.algorithm);
  let received = 0;
  let toldAt = Date.now();
  const stalled = new AbortController();
  const stallTimer = setTimeout(() => {
    stalled.abort(new Error(`${url} stalled for ${stallTimeoutMs / 1_000} s after ${received} bytes`));
  }, stallTimeoutMs);
  const count = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      received += chunk.length;
      stallTimer.refresh();
      if (Date.now() - toldAt >= progressEveryMs) {
        toldAt = Date.now();
        report(`downloading ${url}: ${Math.floor(received / 1e6)} MB so far`);
      }
      done(undefined, chunk);
    },
  });
  try {
    const { body } = await request(url, stalled.signal);
    if (body === null) throw new Error(`${url} answered without a body`);
    await pipeline(Readable.fromWeb(body), count, createWriteStream(file), { signal: stalled.signal });
  } finally {
    clearTimeout(stallTimer);
  }
  const actual = hash.digest("hex");
  if (actual !== expected.hex.toLowerCase()) {
    throw new Error(`${url} has the ${expected.algorithm} checksum ${actual}, expected ${expected.hex}`);
  }
}
