/**
 * What each program may do at the API server, and nothing beyond it: the operator and REST, at a primary and at a gateway; the
 * OCSP responder has no business there. Cluster-wide they see MazeVault's own kinds and the names of namespaces; core Secrets
 * and workloads only where a RoleBinding that a Project asked for brought them in.
 */
import { GROUP } from "../common.ts";
import { failoverKind } from "../failover.ts";
import { gatewayKind } from "../gateway.ts";
import { gatewayEnvironmentKind } from "../gatewayenvironment.ts";
import { kinds } from "../index.ts";
import {
  NAMESPACE_BINDING,
  NAMESPACE_ROLE,
  OPERATOR_ACCOUNT,
  REST_ACCOUNT,
  REST_NAMESPACE_BINDING,
  REST_NAMESPACE_ROLE,
  SYSTEM_NAMESPACE,
} from "../installation.ts";

export interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

/** By where they hold. */
export interface Rights {
  readonly everywhere: readonly PolicyRule[];
  readonly inOnboardedNamespaces: readonly PolicyRule[];
  readonly inSystemNamespace: readonly PolicyRule[];
}

export const PROGRAMS = ["operator", "rest"] as const;
export type Program = (typeof PROGRAMS)[number];
export const MODES = ["primary", "gateway"] as const;
export type Mode = (typeof MODES)[number];

const RBAC = "rbac.authorization.k8s.io";
/** Kinds that are a primary's alone: a gateway sees that there are none. */
const fleet = [gatewayKind, gatewayEnvironmentKind, failoverKind];

const rule = (group: string, resources: readonly string[], ...verbs: string[]): PolicyRule => ({
  apiGroups: [group],
  resources,
  verbs,
});
const own = (resources: readonly string[], ...verbs: string[]): PolicyRule => rule(GROUP, resources, ...verbs);
const named = (resourceNames: readonly string[], { apiGroups, resources, verbs }: PolicyRule): PolicyRule => ({
  apiGroups,
  resources,
  resourceNames,
  verbs,
});

/** What the caches of every program hold. */
const sight: readonly PolicyRule[] = [
  own(
    kinds.map(({ plural }) => plural),
    "get",
    "list",
    "watch",
  ),
  rule("", ["namespaces"], "list", "watch"),
  // A list or watch by name needs the field selector metadata.name=mazevault.
  named([NAMESPACE_BINDING], rule(RBAC, ["rolebindings"], "list", "watch")),
];

/** What the operator onboards namespaces with. */
const onboarding: readonly PolicyRule[] = [
  // RBAC cannot limit a POST by name; `bind` limits what such a RoleBinding can give away.
  rule(RBAC, ["rolebindings"], "create"),
  named([NAMESPACE_BINDING, REST_NAMESPACE_BINDING], rule(RBAC, ["rolebindings"], "list", "watch", "delete")),
  named([NAMESPACE_ROLE, REST_NAMESPACE_ROLE], rule(RBAC, ["clusterroles"], "bind")),
];

const operator = (mode: Mode, onboards: boolean): Rights => {
  const controlled = mode === "primary" ? kinds : kinds.filter((kind) => !fleet.includes(kind));
  return {
    everywhere: [
      ...sight,
      own(
        controlled.map(({ plural }) => `${plural}/status`),
        "patch",
      ),
      // Deletion is not decided by a cache: whether a namespace still stands is asked of the API server.
      rule("", ["namespaces"], "get"),
      // Made where both sides changed, and deleted when they agree.
      own(["syncconflicts"], "create", "delete"),
      // Where an environment fails over by itself; those that ended long ago are deleted.
      ...(mode === "primary" ? [own(["failovers"], "create", "delete")] : []),
      rule("events.k8s.io", ["events"], "create", "patch"),
      ...(onboards ? onboarding : []),
    ],
    inOnboardedNamespaces: [
      // delete: a delivered core Secret goes when `deliver` is removed or its secretName changes.
      rule("", ["secrets"], "get", "list", "watch", "create", "patch", "delete"),
      rule("apps", ["deployments", "statefulsets", "daemonsets"], "get", "list", "patch"),
      // rotation.apply.job: Jobs made from a CronJob that opts in. RBAC cannot limit a POST by name.
      rule("batch", ["cronjobs"], "get"),
      rule("batch", ["jobs"], "get", "create", "delete"),
      rule("", ["serviceaccounts/token"], "create"),
    ],
    inSystemNamespace: [
      // Credentials of what belongs to the cluster, such as an AuditSink. The password of the first admin, and at a primary tokens of
      // gateways, which are deleted when they are used or over. RBAC cannot limit a POST by name, and knows no patterns for the
      // names of tokens, which follow from those of the Gateways.
      rule("", ["secrets"], "get", "create", ...(mode === "primary" ? ["delete"] : [])),
      rule("coordination.k8s.io", ["leases"], "get", "create", "patch"),
    ],
  };
};

const rest = (mode: Mode): Rights => ({
  everywhere: [
    ...sight,
    // What people make, change and delete through it, after their own grants were asked; hence it may refer to what they may.
    own(["projects", "issuers", "clusterissuers"], "use"),
    own(["secrets"], "create", "patch", "delete"),
    own(["certificaterequests"], "create"),
    own(["certificates", "syncconflicts"], "patch"),
    ...(mode === "primary" ? [own(["gateways"], "create", "delete"), own(["failovers"], "create")] : []),
    // Whom a ServiceAccount token stands for.
    rule("authentication.k8s.io", ["tokenreviews"], "create"),
    // Whether the operator has its rights, for the doctor.
    ...(mode === "primary" ? [rule("authorization.k8s.io", ["subjectaccessreviews"], "create")] : []),
  ],
  // To get into the Key Vault of a Project whose values are there.
  inOnboardedNamespaces: [rule("", ["secrets"], "get"), rule("", ["serviceaccounts/token"], "create")],
  // Who leads, for the doctor.
  inSystemNamespace: [rule("coordination.k8s.io", ["leases"], "get")],
});

/** @param onboards whether the operator lets itself into namespaces; an administrator does it otherwise */
export const rightsFor = (program: Program, mode: Mode, onboards = true): Rights =>
  program === "operator" ? operator(mode, onboards) : rest(mode);

/** Of several programs that have one account. */
export const together = (...all: readonly Rights[]): Rights => ({
  everywhere: all.flatMap(({ everywhere }) => everywhere),
  inOnboardedNamespaces: all.flatMap(({ inOnboardedNamespaces }) => inOnboardedNamespaces),
  inSystemNamespace: all.flatMap(({ inSystemNamespace }) => inSystemNamespace),
});

const V1 = `${RBAC}/v1`;
const subject = (name: string) => ({ kind: "ServiceAccount", name, namespace: SYSTEM_NAMESPACE });

const clusterRole = (name: string, rules: readonly PolicyRule[]): object => ({
  apiVersion: V1,
  kind: "ClusterRole",
  metadata: { name },
  rules,
});

const clusterRoleBinding = (name: string, account: string): object => ({
  apiVersion: V1,
  kind: "ClusterRoleBinding",
  metadata: { name },
  roleRef: { apiGroup: RBAC, kind: "ClusterRole", name },
  subjects: [subject(account)],
});

const boundRole = (name: string, rules: readonly PolicyRule[], account: string): readonly object[] => {
  const metadata = { name, namespace: SYSTEM_NAMESPACE };
  const roleRef = { apiGroup: RBAC, kind: "Role", name };
  return [
    { apiVersion: V1, kind: "Role", metadata, rules },
    { apiVersion: V1, kind: "RoleBinding", metadata, roleRef, subjects: [subject(account)] },
  ];
};

/** Who is somebody at the API server: a program, or at a gateway one that is both. */
interface Identity {
  /** Of its roles, and of the bindings of these. */
  readonly name: string;
  readonly account: string;
  readonly programs: readonly [Program, ...Program[]];
  /** What it is bound to in a namespace that it is let into, and by what. */
  readonly namespaceRole: string;
}

const ofOperator = { account: OPERATOR_ACCOUNT, namespaceRole: NAMESPACE_ROLE } as const;
const ofRest = { account: REST_ACCOUNT, namespaceRole: REST_NAMESPACE_ROLE } as const;

/** As the chart has them, with releases `mazevault` and `mazevault-gateway`. */
const identities: Readonly<Record<Mode, readonly Identity[]>> = {
  primary: [
    { ...ofOperator, name: "mazevault-operator", programs: ["operator"] },
    { ...ofRest, name: "mazevault-rest", programs: ["rest"] },
  ],
  gateway: [{ ...ofOperator, name: "mazevault-gateway", programs: ["operator", "rest"] }],
};

/** Every object that lets the programs in, in the order of installation: what the chart makes by default, without its labels. */
export function accessObjects(mode: Mode): readonly object[] {
  const objects = identities[mode].flatMap(({ name, account, programs, namespaceRole }) => {
    const rights = programs.map((program) => rightsFor(program, mode, false));
    const { everywhere, inSystemNamespace } = together(...rights);
    return [
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: account, namespace: SYSTEM_NAMESPACE } },
      clusterRole(name, [...everywhere, ...(programs.includes("operator") ? onboarding : [])]),
      clusterRoleBinding(name, account),
      // Of other names than those by which the operator is let into namespaces, and REST: it would take them away.
      ...boundRole(`${name}-system`, inSystemNamespace, account),
      // What the operator may do there REST may too.
      clusterRole(namespaceRole, rightsFor(programs[0], mode).inOnboardedNamespaces),
    ];
  });
  return [
    {
      apiVersion: "v1",
      kind: "Namespace",
      metadata: { name: SYSTEM_NAMESPACE, labels: { "pod-security.kubernetes.io/enforce": "restricted" } },
    },
    ...objects,
  ];
}

/** For the chart, which gives them names of its own and leaves out what its values do not ask for. */
export const chartRights: object = {
  onboarding,
  ...Object.fromEntries(
    PROGRAMS.map((program) => [
      program,
      Object.fromEntries(MODES.map((mode) => [mode, rightsFor(program, mode, false)])),
    ]),
  ),
};
