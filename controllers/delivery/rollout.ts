/** Whether workloads that were restarted run with nothing but what they were restarted for, as kubectl rollout status tells it. */
import type { KubernetesApi } from "../runtime/transport.ts";
import { mayBeRestarted, type Workload, type WorkloadKind, workloadsToRestart } from "./restart.ts";

/** What is not there yet; undefined: all of its pods are of the last generation, and ready. */
export function rolloutLacks(kind: WorkloadKind, { metadata, spec, status = {} }: Workload): string | undefined {
  if ((status.observedGeneration ?? 0) < (metadata.generation ?? 0)) return "its restart has not begun";
  const isDaemon = kind === "DaemonSet";
  const wanted = (isDaemon ? status.desiredNumberScheduled : spec.replicas) ?? (isDaemon ? 0 : 1);
  const updated = (isDaemon ? status.updatedNumberScheduled : status.updatedReplicas) ?? 0;
  if (updated < wanted) return `${updated} of ${wanted} pods are new`;
  const all = (isDaemon ? status.currentNumberScheduled : status.replicas) ?? 0;
  if (all > updated) return `${all - updated} old pods still run`;
  const ready = readyPods(kind, status);
  return ready < wanted ? `${ready} of ${wanted} pods are ready` : undefined;
}

function readyPods(kind: WorkloadKind, status: NonNullable<Workload["status"]>): number {
  switch (kind) {
    case "Deployment":
      return status.availableReplicas ?? 0;
    case "StatefulSet":
      return status.readyReplicas ?? 0;
    case "DaemonSet":
      return status.numberAvailable ?? 0;
  }
}

/** Workloads that may still run with what the core Secret held before, each with what it lacks. */
export async function unfinishedRollouts(
  api: KubernetesApi,
  at: { readonly namespace: string; readonly secretName: string },
  targets: readonly string[],
  signal: AbortSignal,
): Promise<readonly string[]> {
  const unfinished: string[] = [];
  for await (const { target, kind, workload } of workloadsToRestart(api, at, targets, signal)) {
    // What does not exist, or was not restarted since it has nothing to do with the core Secret, uses nothing of it.
    if (workload === undefined || !mayBeRestarted(workload, at.secretName)) continue;
    const lacks = rolloutLacks(kind, workload);
    if (lacks !== undefined) unfinished.push(`${target} (${lacks})`);
  }
  return unfinished;
}
