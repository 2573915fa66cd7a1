/** Pods of the installation that do not run, with what their last container said before it ended. */
import { type Finding, failing } from "../../core/diagnosis/finding.ts";

export const PODS = "pods";

interface Ended {
  readonly exitCode?: number;
  readonly reason?: string;
  readonly message?: string;
}

interface ContainerStatus {
  readonly name: string;
  readonly ready?: boolean;
  readonly restartCount?: number;
  readonly state?: {
    readonly waiting?: { readonly reason?: string; readonly message?: string };
    readonly terminated?: Ended;
  };
  readonly lastState?: { readonly terminated?: Ended };
}

export interface Pod {
  readonly metadata: { readonly name: string };
  readonly status?: {
    readonly phase?: string;
    readonly containerStatuses?: readonly ContainerStatus[];
    readonly conditions?: readonly { readonly type: string; readonly status: string; readonly message?: string }[];
  };
}

/** Why a pod is not there, as far as its reason tells. */
const remedies: Readonly<Record<string, string>> = {
  ImagePullBackOff: "correct the image's name, or the pull secret",
  ErrImagePull: "correct the image's name, or the pull secret",
  CreateContainerConfigError: "a Secret or ConfigMap that it mounts is missing; make it",
  OOMKilled: "raise its memory limit",
};

export const judgePods = (pods: readonly Pod[], namespace: string): readonly Finding[] =>
  pods.flatMap((pod) => judgePod(pod, namespace));

function judgePod({ metadata: { name }, status = {} }: Pod, namespace: string): readonly Finding[] {
  const subject = `Pod ${namespace}/${name}`;
  if (status.phase === "Succeeded") return [];
  if (status.phase === "Pending" && status.containerStatuses === undefined) {
    const scheduled = status.conditions?.find(({ type }) => type === "PodScheduled");
    if (scheduled?.status !== "False") return [];
    const problem = `it cannot be scheduled: ${scheduled.message ?? ""}`;
    return [failing(PODS, { subject, problem, fix: `kubectl -n ${namespace} describe pod ${name}` })];
  }
  return (status.containerStatuses ?? [])
    .filter(({ ready }) => ready !== true)
    .map((container) => {
      const { waiting, terminated = container.lastState?.terminated } = container.state ?? {};
      const last = terminated ?? container.lastState?.terminated;
      const why = waiting?.reason ?? last?.reason ?? "not ready";
      const message = (last?.message ?? waiting?.message ?? "").trim().split("\n").at(-1) ?? "";
      const ended = last?.exitCode === undefined ? "" : `, ended with ${last.exitCode}`;
      const log = `kubectl -n ${namespace} logs ${name} -c ${container.name} --previous`;
      const remedy = remedies[last?.reason ?? ""] ?? remedies[why];
      return failing(PODS, {
        subject,
        problem: `${container.name}: ${why}${ended}${message === "" ? "" : `: ${message}`}`,
        fix: remedy === undefined ? `its log says why: ${log}` : `${remedy}; ${log}`,
      });
    });
}
