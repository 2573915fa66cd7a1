/** The API server as the operator sees it: whether it answers, what it serves, what it lets us do, and who leads. */
import { isNotFound } from "../../controllers/runtime/api-error.ts";
import { type ResourceType, resourcePath } from "../../controllers/runtime/resource-type.ts";
import type { KubernetesApi } from "../../controllers/runtime/transport.ts";
import { judgeClock } from "../../core/diagnosis/clock.ts";
import {
  DEFINITIONS,
  DEFINITIONS_PATH,
  judgeDefinitions,
  type ServedDefinitions,
} from "../../core/diagnosis/definitions.ts";
import type { Check, Finding } from "../../core/diagnosis/finding.ts";
import { judgeLeadership, LEADERSHIP, LEASE, type LeaseSpec } from "../../core/diagnosis/leadership.ts";
import {
  type GrantedRule,
  judgeRights,
  missingRights,
  RIGHTS,
  type Right,
  rightsOf,
} from "../../core/diagnosis/rights.ts";
import type { Rights } from "../../crds/generate/rbac.ts";

const KUBERNETES = "kubernetes";
/** As many are looked at; the rest has the same ClusterRole. */
const MOST_NAMESPACES = 200;

export interface ClusterParts {
  readonly api: Pick<KubernetesApi, "request" | "create">;
  readonly systemNamespace: string;
  /** The first is who this program is; the others are programs beside it. */
  readonly actors: readonly [Actor, ...Actor[]];
  /** Where our RoleBinding stands. */
  readonly onboarded: () => readonly string[];
}

/** A ServiceAccount of the installation's namespace, and what it needs. */
export interface Actor {
  readonly account: string;
  readonly rights: Rights;
}

export function clusterChecks({ api, systemNamespace, actors, onboarded }: ClusterParts): readonly Check[] {
  return [
    {
      name: KUBERNETES,
      otherwise: "look at the address of the API server and at the token: kubectl get --raw /readyz?verbose",
      examine: (signal) => judgeApiServer(api, signal),
    },
    {
      name: DEFINITIONS,
      otherwise: `kubectl get --raw ${DEFINITIONS_PATH}`,
      examine: async (signal) => judgeDefinitions(await served(api, signal)),
    },
    {
      name: RIGHTS,
      otherwise: `kubectl auth can-i --list --as=system:serviceaccount:${systemNamespace}:${actors[0].account}`,
      examine: (signal) => judgeAllRights({ api, systemNamespace, actors, onboarded }, signal),
    },
    {
      name: LEADERSHIP,
      otherwise: `kubectl -n ${systemNamespace} get lease ${LEASE.name} -o yaml`,
      examine: async (signal) => {
        const { spec, now } = await readLease(api, systemNamespace, signal);
        return judgeLeadership(spec, systemNamespace, now);
      },
    },
  ];
}

async function judgeApiServer(api: ClusterParts["api"], signal: AbortSignal): Promise<readonly Finding[]> {
  const asked = new Date();
  const { headers } = await api.request({ method: "GET", path: "/version", signal });
  const reading = { asked, answered: new Date(), theirs: new Date(String(headers.date)) };
  return judgeClock("kubernetes.clock", "the operator's clock", "the API server's", reading);
}

/** Undefined where the group is not served at all. */
async function served(api: ClusterParts["api"], signal: AbortSignal): Promise<ServedDefinitions | undefined> {
  try {
    return (await api.request({ method: "GET", path: DEFINITIONS_PATH, signal })).body as ServedDefinitions;
  } catch (error) {
    if ((error as { status?: unknown }).status === 404) return undefined;
    throw error;
  }
}

const leases: ResourceType = { ...LEASE, kind: "Lease", namespaced: true };

/** Its times are the leader's, to whose clock the API server's is nearer than ours when ours is off. */
async function readLease(
  api: ClusterParts["api"],
  namespace: string,
  signal: AbortSignal,
): Promise<{ spec: LeaseSpec | undefined; now: Date }> {
  try {
    const path = resourcePath(leases, { namespace, name: LEASE.name });
    const { body, headers } = await api.request({ method: "GET", path, type: leases, signal });
    return { spec: (body as { spec?: LeaseSpec }).spec, now: new Date(String(headers.date)) };
  } catch (error) {
    if (isNotFound(error, LEASE.name)) return { spec: undefined, now: new Date() };
    throw error;
  }
}

/** What others may do is asked only by who may ask. */
const ASKING: Right = { verb: "create", group: "authorization.k8s.io", resource: "subjectaccessreviews" };

async function judgeAllRights(
  { api, systemNamespace, actors: [own, ...others], onboarded }: ClusterParts,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const found = await judgeOwnRights({ api, systemNamespace, ...own, onboarded }, signal);
  const { rules } = others.length === 0 ? { rules: [] } : await grantedIn(api, systemNamespace, signal);
  if (missingRights([ASKING], rules).length > 0) return found;
  const ofOthers = others.map(async ({ account, rights }) => {
    // One onboarded namespace stands for all, which have the same ClusterRole: each right is a question by itself.
    const [namespace] = onboarded();
    const places = [
      { namespace: undefined, of: rights.everywhere, where: "in the whole cluster" },
      { namespace: systemNamespace, of: rights.inSystemNamespace, where: `in namespace ${systemNamespace}` },
      ...(namespace === undefined
        ? []
        : [{ namespace, of: rights.inOnboardedNamespaces, where: `in namespace ${namespace}` }]),
    ];
    const user = serviceAccount(systemNamespace, account);
    const judged = places.map(async ({ namespace: at, of, where }) =>
      judgeRights(account, await refused(api, rightsOf(of), { user, namespace: at }, signal), where),
    );
    return (await Promise.all(judged)).flat();
  });
  return [...found, ...(await Promise.all(ofOthers)).flat()];
}

async function judgeOwnRights(
  {
    api,
    systemNamespace,
    account,
    rights,
    onboarded,
  }: Pick<ClusterParts, "api" | "systemNamespace" | "onboarded"> & Actor,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const places = [
    { namespace: "default", of: rights.everywhere, where: "in the whole cluster", clusterWide: true },
    { namespace: systemNamespace, of: rights.inSystemNamespace, where: `in namespace ${systemNamespace}` },
    ...onboarded()
      .slice(0, MOST_NAMESPACES)
      .map((namespace) => ({ namespace, of: rights.inOnboardedNamespaces, where: `in namespace ${namespace}` })),
  ];
  const found = await Promise.all(
    places.map(async ({ namespace, of, where, ...rest }) => {
      const wanted = rightsOf(of);
      const { rules, incomplete } = await grantedIn(api, namespace, signal);
      const missing = missingRights(wanted, rules);
      // Authorizers that cannot list what they grant say so, and can be asked.
      const scope = "clusterWide" in rest ? undefined : namespace;
      const sure = incomplete ? await refused(api, missing, { namespace: scope }, signal) : missing;
      return judgeRights(account, sure, where);
    }),
  );
  return found.flat();
}

const reviews = (plural: string, kind: string): ResourceType => ({
  group: "authorization.k8s.io",
  version: "v1",
  plural,
  kind,
  namespaced: false,
});
const rulesReviews = reviews("selfsubjectrulesreviews", "SelfSubjectRulesReview");
const ownAccessReviews = reviews("selfsubjectaccessreviews", "SelfSubjectAccessReview");
const accessReviews = reviews("subjectaccessreviews", "SubjectAccessReview");
const review = (kind: string, spec: unknown) => ({
  apiVersion: "authorization.k8s.io/v1",
  kind,
  metadata: { name: "" },
  spec,
});

/** As a review asks about it. */
const serviceAccount = (namespace: string, account: string) => ({
  user: `system:serviceaccount:${namespace}:${account}`,
  groups: ["system:serviceaccounts", `system:serviceaccounts:${namespace}`, "system:authenticated"],
});

interface RulesReview {
  readonly metadata: { readonly name: string };
  readonly status?: { readonly resourceRules?: readonly GrantedRule[]; readonly incomplete?: boolean };
}

async function grantedIn(api: ClusterParts["api"], namespace: string, signal: AbortSignal) {
  const asked = review(rulesReviews.kind, { namespace });
  const { status } = await api.create<RulesReview>(rulesReviews, asked, { signal });
  return { rules: status?.resourceRules ?? [], incomplete: status?.incomplete === true };
}

interface Scope {
  /** This program when absent. */
  readonly user?: ReturnType<typeof serviceAccount>;
  /** The whole cluster when undefined. */
  readonly namespace: string | undefined;
}

async function refused(
  api: ClusterParts["api"],
  rights: readonly Right[],
  { user, namespace }: Scope,
  signal: AbortSignal,
): Promise<readonly Right[]> {
  const type = user === undefined ? ownAccessReviews : accessReviews;
  const allowed = await Promise.all(
    rights.map(async ({ verb, group, resource: whole, name }) => {
      const [resource, subresource] = whole.split("/");
      const resourceAttributes = { verb, group, resource, subresource, name, namespace };
      const asked = review(type.kind, { ...user, resourceAttributes });
      const { status } = await api.create<{ metadata: { name: string }; status?: { allowed?: boolean } }>(type, asked, {
        signal,
      });
      return status?.allowed === true;
    }),
  );
  return rights.filter((_right, at) => allowed[at] !== true);
}
