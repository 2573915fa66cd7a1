import { execFile } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { cacheDir as sharedCache } from "../cache.ts";
import { errorMessage } from "../errors.ts";
import { waitForLock } from "../lock.ts";
import { envtestArchive, kubernetesReleases } from "./download.ts";
import { goBuild } from "./gobuild.ts";
import { type Component, components, kubernetesVersion, versionCheck } from "./versions.ts";

export type Binaries = Readonly<Record<Component, string>>;

/** One way to get a program that is not on this machine yet. */
export interface Source {
  readonly name: string;
  /**
   * Puts the program into a directory, which is the same for all programs of one attempt.
   * @returns its path there
   * @throws with a message that tells a user why this way failed
   */
  fetch(component: Component, dir: string, report: (line: string) => void): Promise<string>;
}

export interface BinaryOptions {
  /** Programs that the user provides; used in place, never written to. Default: KUBEBUILDER_ASSETS. */
  readonly assetsDir?: string | undefined;
  /** Default: mazevault/controlplane/<version> in the user's cache, so that all checkouts share it. */
  readonly cacheDir?: string;
  /** Tried in order for what is neither provided nor cached. */
  readonly sources?: readonly Source[];
}

const draftPrefix = ".new-";

interface Failure {
  readonly component: Component;
  readonly way: string;
  readonly reason: string;
}

/**
 * Finds or obtains etcd, kube-apiserver, kube-controller-manager and kubectl, each by itself: as provided, from the
 * cache, by download, by Go build. Every program is asked for its version before it is used.
 * @throws listing every way that was tried and why it failed
 */
export async function obtainBinaries(
  report: (line: string) => void = () => {},
  options: BinaryOptions = {},
): Promise<Binaries> {
  const { assetsDir = process.env.KUBEBUILDER_ASSETS, cacheDir = sharedCache("controlplane", kubernetesVersion) } =
    options;
  const failures: Failure[] = [];
  const found = new Map<Component, string>();

  const lookIn = async (way: string, dir: string) => {
    const missing = components.filter((component) => !found.has(component));
    const checks = missing.map(async (component) => {
      const file = path.join(dir, component);
      try {
        if (!existsSync(file)) throw new Error("is not there");
        await checkVersion(component, file);
        found.set(component, file);
      } catch (error) {
        failures.push({ component, way: `${way} ${dir}`, reason: errorMessage(error) });
      }
    });
    await Promise.all(checks);
  };

  if (assetsDir) {
    await lookIn("KUBEBUILDER_ASSETS", assetsDir);
    for (const { component, reason } of failures)
      report(`${component} of KUBEBUILDER_ASSETS is not used: it ${reason}`);
  }
  await lookIn("cache", cacheDir);
  if (found.size < components.length) {
    const lock = await waitForLock(path.join(cacheDir, "lock"), ({ pid }) =>
      report(`waiting for process ${pid}, which is obtaining the control plane already`),
    );
    try {
      for (const draft of readdirSync(cacheDir).filter((name) => name.startsWith(draftPrefix))) {
        // Of a holder that was killed.
        rmSync(path.join(cacheDir, draft), { recursive: true });
      }
      // Whoever held the lock may have obtained them.
      await lookIn("cache", cacheDir);
      for (const source of options.sources ?? [envtestArchive(), kubernetesReleases(), goBuild()]) {
        const missing = components.filter((component) => !found.has(component));
        const draftDir = mkdtempSync(path.join(cacheDir, draftPrefix));
        try {
          for (const component of missing) {
            try {
              found.set(component, await obtain(component, source, draftDir, cacheDir, report));
            } catch (error) {
              failures.push({ component, way: source.name, reason: errorMessage(error) });
            }
          }
        } finally {
          rmSync(draftDir, { recursive: true, force: true });
        }
      }
    } finally {
      lock.release();
    }
  }
  return complete(found, failures);
}

/** Runs the program. @throws when it does not run or is of another release series than the lab needs */
export async function checkVersion(component: Component, file: string): Promise<void> {
  const { args, series } = versionCheck[component];
  let output: string;
  try {
    ({ stdout: output } = await promisify(execFile)(file, [...args], { timeout: 30_000 }));
  } catch (error) {
    throw new Error(`does not run: ${errorMessage(error)}`, { cause: error });
  }
  const [version, found] = /v?(\d+\.\d+)\.\d+\S*/.exec(output) ?? [];
  if (version === undefined) throw new Error(`does not tell its version: ${output.trim().slice(0, 200)}`);
  if (found !== series) throw new Error(`is ${version}, but ${series} is needed`);
}

async function obtain(
  component: Component,
  source: Source,
  draftDir: string,
  cacheDir: string,
  report: (line: string) => void,
): Promise<string> {
  const draft = await source.fetch(component, draftDir, report);
  chmodSync(draft, 0o755);
  await checkVersion(component, draft);
  const file = path.join(cacheDir, component);
  renameSync(draft, file);
  report(`${component}: obtained by ${source.name}`);
  return file;
}

function complete(found: ReadonlyMap<Component, string>, failures: readonly Failure[]): Binaries {
  const paths = components.map((component) => [component, found.get(component)] as const);
  const missing = paths.filter(([, file]) => file === undefined).map(([component]) => component);
  if (missing.length === 0) return Object.fromEntries(paths) as Record<Component, string>;
  const tried = missing.flatMap((component) => {
    const ways = failures.filter((failure) => failure.component === component);
    const unique = new Map(ways.map(({ way, reason }) => [`${way}: ${reason}`, true]));
    return [`${component}:`, ...[...unique.keys()].map((line) => `  - ${line}`)];
  });
  throw new Error(
    [
      `The Kubernetes ${kubernetesVersion} control plane could not be obtained. Every way was tried:`,
      ...tried,
      "To fix it, one of: set KUBEBUILDER_ASSETS to a directory that holds these programs; give this machine access " +
        "to the addresses above; install Go 1.26 or later with access to a Go module proxy.",
    ].join("\n"),
  );
}
