/** What a program costs, from its own metrics and from the kernel's. */
import { readFileSync } from "node:fs";
import { type Sample, scrape, total } from "../e2e/harness.ts";
import type { Operator, Program } from "../lab/mazevault.ts";

export interface Cost {
  /** Since the process began. */
  readonly cpuSeconds: number;
  readonly rssMiB: number;
  /** undefined where the kernel does not tell. */
  readonly peakRssMiB: number | undefined;
  readonly heapUsedMiB: number;
  /** Answered calls to the API server, `verb resource`. */
  readonly kubernetesCalls: Readonly<Record<string, number>>;
  /** By statement. */
  readonly postgresCalls: Readonly<Record<string, number>>;
  readonly reconciles: number;
}

export async function costOf(program: Program): Promise<Cost> {
  const samples = await scrape(program);
  return {
    cpuSeconds: total(samples, "process_cpu_seconds_total"),
    rssMiB: residentMiB(samples),
    peakRssMiB: peakRssMiB(program.process.pid),
    heapUsedMiB: mebibytes(total(samples, "nodejs_heap_size_used_bytes")),
    kubernetesCalls: callsTo(samples, "kubernetes"),
    postgresCalls: callsTo(samples, "postgres"),
    reconciles: total(samples, "mazevault_reconcile_duration_seconds_count", { controller: "secret" }),
  };
}

export const residentMiB = (samples: readonly Sample[]): number =>
  mebibytes(total(samples, "process_resident_memory_bytes"));

/** Calls by operation. A watch counts when it ends. */
function callsTo(samples: readonly Sample[], target: string): Record<string, number> {
  const calls: Record<string, number> = {};
  for (const { name, labels, value } of samples) {
    if (name !== "mazevault_external_calls_total" || labels.target !== target) continue;
    const operation = labels.operation ?? "";
    calls[operation] = (calls[operation] ?? 0) + value;
  }
  return calls;
}

const READS = ["get", "list", "watch"];

export const writesOf = (calls: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(calls).filter(([call]) => !READS.includes(call.split(" ")[0] ?? "")));

/** Nothing is due and nothing runs for the secrets, as the last look at its metrics told. */
export async function isCaughtUp(operator: Operator, secrets: number): Promise<boolean> {
  const samples = await scrape(operator);
  return (
    total(samples, "mazevault_reconcile_duration_seconds_count", { controller: "secret" }) >= secrets &&
    total(samples, "mazevault_queue_depth", { queue: "secret" }) === 0
  );
}

const mebibytes = (bytes: number): number => Math.round(bytes / 2 ** 20);

function peakRssMiB(pid: number | undefined): number | undefined {
  try {
    const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
    return kibibytes === undefined ? undefined : Math.round(Number(kibibytes) / 1_024);
  } catch {
    return undefined;
  }
}
