/**
 * What the operator may do, and nothing beyond it. Cluster-wide it sees MazeVault's own kinds and the names of
 * namespaces; core Secrets and workloads only where a Project's RoleBinding brought it in.
 */
import { GROUP } from "../common.ts";
import { kinds } from "../index.ts";
import { NAMESPACE_BINDING, NAMESPACE_ROLE, OPERATOR_ACCOUNT, SYSTEM_NAMESPACE } from "../installation.ts";

export interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

const RBAC = "rbac.authorization.k8s.io";
const plurals = kinds.map((kind) => kind.plural);

const everywhere: readonly PolicyRule[] = [
  { apiGroups: [GROUP], resources: plurals, verbs: ["get", "list", "watch"] },
  { apiGroups: [GROUP], resources: plurals.map((plural) => `${plural}/status`), verbs: ["patch", "update"] },
  { apiGroups: [""], resources: ["namespaces"], verbs: ["get", "list", "watch"] },
  // What people make, change and delete through REST, after their own grants were asked.
  { apiGroups: [GROUP], resources: ["secrets"], verbs: ["create", "patch", "delete"] },
  { apiGroups: [GROUP], resources: ["certificaterequests"], verbs: ["create"] },
  // Made where both sides changed, resolved also through REST, and deleted when they agree.
  { apiGroups: [GROUP], resources: ["syncconflicts"], verbs: ["create", "patch", "delete"] },
  { apiGroups: [GROUP], resources: ["certificates"], verbs: ["patch"] },
  { apiGroups: [GROUP], resources: ["gateways"], verbs: ["create", "delete"] },
  // By REST, and where an environment fails over by itself; those that ended long ago are deleted.
  { apiGroups: [GROUP], resources: ["failovers"], verbs: ["create", "delete"] },
  // Whom a ServiceAccount token that comes through REST stands for.
  { apiGroups: ["authentication.k8s.io"], resources: ["tokenreviews"], verbs: ["create"] },
  { apiGroups: ["events.k8s.io"], resources: ["events"], verbs: ["create", "patch"] },
  // RBAC cannot limit a POST by name; `bind` limits what such a RoleBinding can give away.
  { apiGroups: [RBAC], resources: ["rolebindings"], verbs: ["create"] },
  // A list or watch by name needs the field selector metadata.name=mazevault.
  {
    apiGroups: [RBAC],
    resources: ["rolebindings"],
    resourceNames: [NAMESPACE_BINDING],
    verbs: ["get", "list", "watch", "patch", "delete"],
  },
  { apiGroups: [RBAC], resources: ["clusterroles"], resourceNames: [NAMESPACE_ROLE], verbs: ["bind"] },
];

const inOnboardedNamespaces: readonly PolicyRule[] = [
  // delete: a delivered core Secret goes when `deliver` is removed or its secretName changes.
  { apiGroups: [""], resources: ["secrets"], verbs: ["get", "list", "watch", "create", "patch", "delete"] },
  {
    apiGroups: ["apps"],
    resources: ["deployments", "statefulsets", "daemonsets"],
    verbs: ["get", "list", "patch"],
  },
  // rotation.apply.job: Jobs made from a CronJob that opts in. RBAC cannot limit a POST by name.
  { apiGroups: ["batch"], resources: ["cronjobs"], verbs: ["get"] },
  { apiGroups: ["batch"], resources: ["jobs"], verbs: ["get", "create", "delete"] },
  { apiGroups: [""], resources: ["serviceaccounts/token"], verbs: ["create"] },
];

const inSystemNamespace: readonly PolicyRule[] = [
  // The password of the first admin, and tokens of gateways, which are deleted when they are used or over. RBAC cannot limit a
  // POST by name, and knows no patterns for the names of tokens, which follow from those of the Gateways.
  { apiGroups: [""], resources: ["secrets"], verbs: ["create", "delete"] },
  { apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["get", "create", "patch", "update"] },
];

/** Credentials of what belongs to the cluster, such as an AuditSink. */
const inInstallation: readonly PolicyRule[] = [{ apiGroups: [""], resources: ["secrets"], verbs: ["get"] }];

/** The same, by where they hold: what the operator needs to find there. */
export const rights: Readonly<
  Record<"everywhere" | "inOnboardedNamespaces" | "inSystemNamespace", readonly PolicyRule[]>
> = {
  everywhere,
  inOnboardedNamespaces,
  inSystemNamespace: [...inSystemNamespace, ...inInstallation],
};

const operator = { kind: "ServiceAccount", name: OPERATOR_ACCOUNT, namespace: SYSTEM_NAMESPACE };

/** Every object that lets the operator in, in the order of installation. */
export const accessObjects: readonly object[] = [
  {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: SYSTEM_NAMESPACE, labels: { "pod-security.kubernetes.io/enforce": "restricted" } },
  },
  {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: OPERATOR_ACCOUNT, namespace: SYSTEM_NAMESPACE },
  },
  { apiVersion: `${RBAC}/v1`, kind: "ClusterRole", metadata: { name: OPERATOR_ACCOUNT }, rules: everywhere },
  { apiVersion: `${RBAC}/v1`, kind: "ClusterRole", metadata: { name: NAMESPACE_ROLE }, rules: inOnboardedNamespaces },
  {
    apiVersion: `${RBAC}/v1`,
    kind: "ClusterRoleBinding",
    metadata: { name: OPERATOR_ACCOUNT },
    roleRef: { apiGroup: RBAC, kind: "ClusterRole", name: OPERATOR_ACCOUNT },
    subjects: [operator],
  },
  {
    apiVersion: `${RBAC}/v1`,
    kind: "Role",
    metadata: { name: "mazevault-system", namespace: SYSTEM_NAMESPACE },
    rules: inSystemNamespace,
  },
  {
    apiVersion: `${RBAC}/v1`,
    kind: "RoleBinding",
    metadata: { name: "mazevault-system", namespace: SYSTEM_NAMESPACE },
    roleRef: { apiGroup: RBAC, kind: "Role", name: "mazevault-system" },
    subjects: [operator],
  },
  {
    apiVersion: `${RBAC}/v1`,
    kind: "Role",
    metadata: { name: "mazevault-installation", namespace: SYSTEM_NAMESPACE },
    rules: inInstallation,
  },
  {
    apiVersion: `${RBAC}/v1`,
    kind: "RoleBinding",
    metadata: { name: "mazevault-installation", namespace: SYSTEM_NAMESPACE },
    roleRef: { apiGroup: RBAC, kind: "Role", name: "mazevault-installation" },
    subjects: [operator],
  },
];
