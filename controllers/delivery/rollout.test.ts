import type { Workload, WorkloadKind, WorkloadStatus } from "./restart.ts";
import { rolloutLacks } from "./rollout.ts";

interface Case {
  readonly because: string;
  readonly kind: WorkloadKind;
  readonly replicas?: number;
  readonly status?: WorkloadStatus;
  readonly lacks?: string;
}
const workload = ({ replicas, status }: Pick<Case, "replicas" | "status">): Workload => ({
  metadata: { name: "orders", uid: "uid", resourceVersion: "1", generation: 4 },
  spec: { template: {}, ...(replicas !== undefined && { replicas }) },
  ...(status !== undefined && { status }),
});
const deployed = { observedGeneration: 4, replicas: 2, updatedReplicas: 2, availableReplicas: 2 };
const stateful = { observedGeneration: 4, replicas: 2, updatedReplicas: 2, readyReplicas: 2 };
const daemons = {
  observedGeneration: 4,
  desiredNumberScheduled: 3,
  currentNumberScheduled: 3,
  updatedNumberScheduled: 3,
  numberAvailable: 3,
};

test.each<Case>([
  { because: "all pods are new and available", kind: "Deployment", replicas: 2, status: deployed },
  { because: "there are none", kind: "Deployment", replicas: 0, status: { observedGeneration: 4 } },
  { because: "nobody looked at it yet", kind: "Deployment", replicas: 2, lacks: "its restart has not begun" },
  {
    because: "what is there is of the generation before",
    kind: "Deployment",
    replicas: 2,
    status: { ...deployed, observedGeneration: 3 },
    lacks: "its restart has not begun",
  },
  {
    because: "some are new",
    kind: "Deployment",
    replicas: 2,
    status: { ...deployed, updatedReplicas: 1 },
    lacks: "1 of 2 pods are new",
  },
  {
    because: "one is absent where nothing is said of replicas",
    kind: "Deployment",
    status: { observedGeneration: 4 },
    lacks: "0 of 1 pods are new",
  },
  {
    because: "old ones still run beside the new ones",
    kind: "Deployment",
    replicas: 2,
    status: { ...deployed, replicas: 3 },
    lacks: "1 old pods still run",
  },
  {
    because: "not all are available",
    kind: "Deployment",
    replicas: 2,
    status: { ...deployed, availableReplicas: 1 },
    lacks: "1 of 2 pods are ready",
  },
  { because: "all are new and ready", kind: "StatefulSet", replicas: 2, status: stateful },
  {
    because: "a StatefulSet that replaces only what is deleted has old ones",
    kind: "StatefulSet",
    replicas: 2,
    status: { ...stateful, updatedReplicas: 0 },
    lacks: "0 of 2 pods are new",
  },
  { because: "each node has a new one", kind: "DaemonSet", status: daemons },
  {
    because: "a node has none that is new",
    kind: "DaemonSet",
    status: { ...daemons, updatedNumberScheduled: 2 },
    lacks: "2 of 3 pods are new",
  },
  {
    because: "a node's is not available",
    kind: "DaemonSet",
    status: { ...daemons, numberAvailable: 2 },
    lacks: "2 of 3 pods are ready",
  },
])("$kind: $because", ({ kind, lacks, ...given }) => {
  expect(rolloutLacks(kind, workload(given))).toBe(lacks);
});
