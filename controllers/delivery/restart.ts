/** Restarts workloads that use a delivered core Secret, once for each change of its data. */
import { createHash } from "node:crypto";
import { failpoint } from "../../core/failpoints.ts";
import { RESTART_PREFIX, RESTARTABLE_KINDS } from "../../crds/delivery.ts";
import { isNotFound } from "../runtime/api-error.ts";
import type { ResourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { CONSUMERS } from "./desired.ts";

/** On a workload of another owner: it may be restarted although it does not use the core Secret. */
const OPT_IN_ANNOTATION = "mazevault.io/restart";

export type WorkloadKind = (typeof RESTARTABLE_KINDS)[number];

const workloadType = (kind: WorkloadKind): ResourceType => ({
  group: "apps",
  version: "v1",
  plural: `${kind.toLowerCase()}s`,
  kind,
  namespaced: true,
});

interface SecretReference {
  readonly name?: string;
  readonly secretName?: string;
}

interface Container {
  readonly envFrom?: readonly { readonly secretRef?: SecretReference }[];
  readonly env?: readonly { readonly valueFrom?: { readonly secretKeyRef?: SecretReference } }[];
}

interface PodSpec {
  readonly containers?: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly imagePullSecrets?: readonly SecretReference[];
  readonly volumes?: readonly {
    readonly secret?: SecretReference;
    readonly projected?: { readonly sources?: readonly { readonly secret?: SecretReference }[] };
  }[];
}

export interface Workload {
  readonly metadata: {
    readonly name: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly generation?: number;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec: {
    readonly template: {
      readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> };
      readonly spec?: PodSpec;
    };
    readonly replicas?: number;
  };
  readonly status?: WorkloadStatus;
}

/** Of each kind what it has. */
export interface WorkloadStatus {
  readonly observedGeneration?: number;
  readonly replicas?: number;
  readonly updatedReplicas?: number;
  readonly availableReplicas?: number;
  readonly readyReplicas?: number;
  readonly currentNumberScheduled?: number;
  readonly desiredNumberScheduled?: number;
  readonly updatedNumberScheduled?: number;
  readonly numberAvailable?: number;
}

/** Whether a pod of this workload reads the core Secret: as environment, volume or image pull secret. */
export function usesSecret(workload: Workload, secretName: string): boolean {
  const pod = workload.spec.template.spec ?? {};
  const containers = [...(pod.containers ?? []), ...(pod.initContainers ?? [])];
  const references = [
    ...containers.flatMap(({ envFrom = [] }) => envFrom.map(({ secretRef }) => secretRef)),
    ...containers.flatMap(({ env = [] }) => env.map(({ valueFrom }) => valueFrom?.secretKeyRef)),
    ...(pod.volumes ?? []).flatMap(({ secret, projected }) => [
      secret,
      ...(projected?.sources ?? []).map((source) => source.secret),
    ]),
    ...(pod.imagePullSecrets ?? []),
  ];
  return references.some((reference) => (reference?.secretName ?? reference?.name) === secretName);
}

export interface Restarts {
  /** `Deployment/orders` */
  readonly restarted: readonly string[];
  /** What was not restarted and why, for the status. */
  readonly problems: readonly string[];
}

/**
 * Its value is the digest of the data, so that repeating restarts nothing. Annotation names have at most 63 characters after the
 * slash, core Secrets up to 253.
 */
function triggerOf(secretName: string): string {
  if (secretName.length <= 63) return RESTART_PREFIX + secretName;
  const distinct = createHash("sha256").update(secretName).digest("hex").slice(0, 16);
  return `${RESTART_PREFIX}${secretName.slice(0, 46)}-${distinct}`;
}

/**
 * `targets`: `Deployment/orders`, or `consumers` for every workload of the namespace that uses the core Secret.
 * `digest`: keyed digest of the delivered data.
 */
export async function restartWorkloads(
  api: KubernetesApi,
  at: { readonly namespace: string; readonly secretName: string; readonly digest: string },
  targets: readonly string[],
  signal: AbortSignal,
): Promise<Restarts> {
  const restarted: string[] = [];
  const problems: string[] = [];
  /** One that is refused, as by a policy, keeps no other one from being restarted. */
  const failures: unknown[] = [];
  const trigger = triggerOf(at.secretName);
  const restart = async (kind: WorkloadKind, workload: Workload): Promise<void> => {
    if (workload.spec.template.metadata?.annotations?.[trigger] === at.digest) return;
    const patch = { spec: { template: { metadata: { annotations: { [trigger]: at.digest } } } } };
    const key = { namespace: at.namespace, name: workload.metadata.name };
    await api.mergePatch(workloadType(kind), key, patch, { fieldManager: "mazevault-restart", signal });
    failpoint("delivery.afterWorkloadRestart");
    restarted.push(`${kind}/${workload.metadata.name}`);
  };

  for await (const { target, kind, workload } of workloadsToRestart(api, at, targets, signal)) {
    if (workload === undefined) problems.push(`${target} (does not exist)`);
    else if (!mayBeRestarted(workload, at.secretName)) {
      problems.push(`${target} (neither uses the core Secret nor has the annotation ${OPT_IN_ANNOTATION}: allowed)`);
    } else await restart(kind, workload).catch((error: unknown) => failures.push(error));
  }
  if (failures.length > 0) throw failures[0];
  return { restarted, problems };
}

/** Whether it uses the core Secret, or its owner lets it be restarted all the same. */
export const mayBeRestarted = (workload: Workload, secretName: string): boolean =>
  usesSecret(workload, secretName) || workload.metadata.annotations?.[OPT_IN_ANNOTATION] === "allowed";

interface RestartTarget {
  readonly target: string;
  readonly kind: WorkloadKind;
  /** Absent: there is none of that name. */
  readonly workload: Workload | undefined;
}

/** What is named, and with `consumers` what uses the core Secret. */
export async function* workloadsToRestart(
  api: KubernetesApi,
  at: { readonly namespace: string; readonly secretName: string },
  targets: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<RestartTarget> {
  for (const target of targets.filter((name) => name !== CONSUMERS)) {
    const [kind, name] = target.split("/") as [WorkloadKind, string];
    yield { target, kind, workload: await readWorkload(api, kind, at.namespace, name, signal) };
  }
  if (!targets.includes(CONSUMERS)) return;
  for (const kind of RESTARTABLE_KINDS) {
    for await (const { items } of api.list<Workload>(workloadType(kind), { namespace: at.namespace, signal })) {
      for (const workload of items) {
        if (usesSecret(workload, at.secretName)) yield { target: `${kind}/${workload.metadata.name}`, kind, workload };
      }
    }
  }
}

async function readWorkload(
  api: KubernetesApi,
  kind: WorkloadKind,
  namespace: string,
  name: string,
  signal: AbortSignal,
): Promise<Workload | undefined> {
  try {
    return await api.get<Workload>(workloadType(kind), { namespace, name }, { signal });
  } catch (error) {
    if (isNotFound(error, name)) return undefined;
    throw error;
  }
}
