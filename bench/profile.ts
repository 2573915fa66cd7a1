/** Where the time of a CPU profile went: raw profiles are megabytes, and machine-bound; this is what is worth keeping. */
import { readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

export interface ProfileSummary {
  readonly sampledSeconds: number;
  /** Without idle time. */
  readonly busySeconds: number;
  /** Self time by where the code comes from. */
  readonly byOrigin: readonly { readonly origin: string; readonly seconds: number; readonly share: string }[];
  readonly topFunctions: readonly {
    readonly function: string;
    readonly at: string;
    readonly ms: number;
    readonly share: string;
  }[];
}

const root = fileURLToPath(new URL("..", import.meta.url));
const TOP = 25;

/** An empty place for the profile of one measurement, and what makes Node write it there. */
export function profiling(name: string): { readonly dir: string; readonly nodeArgs: readonly string[] } {
  const dir = path.join(root, ".mazevault/bench", name);
  rmSync(dir, { recursive: true, force: true });
  return { dir, nodeArgs: ["--cpu-prof", `--cpu-prof-dir=${dir}`] };
}

/** Summarises the one profile in a folder. */
export function summarizeProfile(dir: string): ProfileSummary {
  const [file] = readdirSync(dir).filter((name) => name.endsWith(".cpuprofile"));
  if (file === undefined) throw new Error(`no CPU profile was written to ${dir}`);
  const { nodes, samples, timeDeltas } = JSON.parse(readFileSync(path.join(dir, file), "utf8")) as CpuProfile;
  const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
  const functions = new Map<string, { function: string; at: string; micros: number }>();
  const origins = new Map<string, number>();
  let sampled = 0;
  let idle = 0;
  for (const [index, id] of samples.entries()) {
    const micros = timeDeltas[index] ?? 0;
    const frame = frames.get(id);
    if (frame === undefined) continue;
    sampled += micros;
    if (frame.functionName === "(idle)") {
      idle += micros;
      continue;
    }
    const at = place(frame.url, frame.lineNumber + 1);
    const key = `${frame.functionName} ${at}`;
    const known = functions.get(key);
    if (known === undefined) functions.set(key, { function: frame.functionName || "(anonymous)", at, micros });
    else known.micros += micros;
    const origin = originOf(frame.functionName, at);
    origins.set(origin, (origins.get(origin) ?? 0) + micros);
  }
  const busy = sampled - idle;
  const share = (micros: number): string => `${((micros / busy) * 100).toFixed(1)}%`;
  return {
    sampledSeconds: fixed(sampled / 1e6),
    busySeconds: fixed(busy / 1e6),
    byOrigin: [...origins]
      .toSorted(([, a], [, b]) => b - a)
      .map(([origin, micros]) => ({ origin, seconds: fixed(micros / 1e6), share: share(micros) })),
    topFunctions: [...functions.values()]
      .toSorted((a, b) => b.micros - a.micros)
      .slice(0, TOP)
      .map(({ function: name, at, micros }) => ({ function: name, at, ms: fixed(micros / 1e3), share: share(micros) })),
  };
}

const fixed = (value: number): number => Number(value.toFixed(2));

/** `file:line`, the file relative to the repository; packages may be installed elsewhere and linked to. */
function place(url: string, line: number): string {
  if (url === "") return "";
  const file = url.startsWith("file:")
    ? path.relative(root, fileURLToPath(url)).replace(/^.*(?=node_modules)/, "")
    : url;
  return `${file}:${line}`;
}

/** A room of the repository, a package, Node's own code, or V8. */
function originOf(functionName: string, at: string): string {
  if (at === "") return functionName.startsWith("(") ? functionName : "(native)";
  if (at.startsWith("node:")) return "node";
  const [, name] = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(at) ?? [];
  if (name !== undefined) return `npm ${name}`;
  return at.split("/").slice(0, 2).join("/").replace(/:\d+$/, "");
}
