/** What a kubelet would say of the pods of a namespace: there is none in the lab. */
import { until } from "../../lab/poll.ts";
import type { KubernetesObject, World } from "../harness.ts";

export interface Pods {
  stop(): Promise<void>;
}

const isOfJob = ({ metadata }: KubernetesObject): boolean =>
  metadata.ownerReferences?.some(({ kind }) => kind === "Job") === true;

const isReady = ({ status }: KubernetesObject): boolean =>
  status?.conditions?.some(({ type, status: holds }) => type === "Ready" && holds === "True") === true;

const setStatus = (world: World, { metadata }: KubernetesObject, status: object): Promise<string> =>
  world.kubectl(
    ...["-n", metadata.namespace ?? "", "patch", "pod", metadata.name, "--subresource=status", "--type=merge"],
    "-p",
    JSON.stringify({ status }),
  );

/** Pods of workloads become ready as soon as they are there. */
export function readyPods(world: World, namespace: string): Pods {
  const stopped = new AbortController();
  const { signal } = stopped;
  const conditions = [{ type: "Ready", status: "True" }];
  const done = (async () => {
    while (!signal.aborted) {
      for (const pod of (await world.list("pod", namespace)).filter((each) => !isOfJob(each) && !isReady(each))) {
        // It may be gone by now.
        await setStatus(world, pod, { phase: "Running", conditions }).catch(() => {});
      }
      const unready = async () => (await world.list("pod", namespace)).some((pod) => !isOfJob(pod) && !isReady(pod));
      await until("a pod that is not ready", unready, { timeoutMs: 3_600_000, intervalMs: 200, signal }).catch(
        (error: unknown) => {
          if (!signal.aborted) throw error;
        },
      );
    }
  })();
  return {
    async stop() {
      stopped.abort();
      await done;
    },
  };
}

/** The pod of a Job ends, well or not. */
export async function endJob(world: World, namespace: string, name: string, phase: "Succeeded" | "Failed") {
  const isOwn = ({ metadata, status }: KubernetesObject): boolean =>
    metadata.ownerReferences?.some((owner) => owner.kind === "Job" && owner.name === name) === true &&
    status?.phase === "Pending";
  const ended = async () => {
    const pod = (await world.list("pod", namespace)).find(isOwn);
    if (pod === undefined) throw new Error("it has no pod that waits");
    return setStatus(world, pod, { phase });
  };
  await until(`a pod of Job ${name}`, ended, { timeoutMs: 30_000, intervalMs: 100 });
}
