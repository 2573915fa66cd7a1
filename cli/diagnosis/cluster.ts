/**
 * The installation as the Kubernetes API shows it, by kubectl and whatever credentials that has: for when REST is away, or
 * was never switched on.
 */
import {
  DEFINITIONS,
  DEFINITIONS_PATH,
  judgeDefinitions,
  type ServedDefinitions,
} from "../../core/diagnosis/definitions.ts";
import { type Finding, failing, fine, warning } from "../../core/diagnosis/finding.ts";
import { judgeLeadership, LEADERSHIP, LEASE, type LeaseSpec } from "../../core/diagnosis/leadership.ts";
import { type Judged, judgeResources, RESOURCES } from "../../core/diagnosis/resources.ts";
import { APPLY_RIGHTS, judgeRights, RIGHTS, type Right, rightsOf } from "../../core/diagnosis/rights.ts";
import { GROUP } from "../../crds/common.ts";
import { rightsFor } from "../../crds/generate/rbac.ts";
import { kinds } from "../../crds/index.ts";
import { OPERATOR_ACCOUNT, REST_ACCOUNT } from "../../crds/installation.ts";
import { type Kubectl, KubectlFailed, MISSING, NAME_NAMESPACE } from "./kubectl.ts";
import { judgePods, PODS, type Pod } from "./pods.ts";

interface Look {
  readonly check: string;
  readonly look: () => Promise<readonly Finding[]>;
}

export async function examineCluster(kubectl: Kubectl): Promise<readonly Finding[]> {
  try {
    await kubectl.text(["get", "--raw", "/version"]);
  } catch (error) {
    const fix =
      error instanceof KubectlFailed && error.message === MISSING
        ? "install kubectl"
        : "kubectl config get-contexts; kubectl cluster-info";
    return [failing("kubernetes", { problem: said(error), fix })];
  }
  const looks: readonly Look[] = [
    { check: DEFINITIONS, look: async () => judgeDefinitions(await servedDefinitions(kubectl)) },
    { check: RIGHTS, look: () => judgeAllRights(kubectl) },
    { check: LEADERSHIP, look: () => judgeLease(kubectl) },
    {
      check: PODS,
      look: async () => judgePods(await kubectl.list<Pod>(["-n", kubectl.namespace, "get", "pods"]), kubectl.namespace),
    },
    { check: RESOURCES, look: async () => judgeResources(await resources(kubectl), kubectl.namespace, new Date()) },
  ];
  return [fine("kubernetes"), ...(await Promise.all(looks.map(looked))).flat()];
}

async function looked({ check, look }: Look): Promise<readonly Finding[]> {
  try {
    const findings = await look();
    return findings.length === 0 ? [fine(check)] : findings;
  } catch (error) {
    const problem = `it cannot be told: ${said(error)}`;
    return [warning(check, { problem, fix: "run it with a kubeconfig that may read the cluster" })];
  }
}

function said(error: unknown): string {
  if (error instanceof KubectlFailed) return error.message;
  throw error;
}

const isAbsent = (error: unknown): boolean => error instanceof KubectlFailed && /not ?found/i.test(error.message);

async function servedDefinitions(kubectl: Kubectl): Promise<ServedDefinitions | undefined> {
  return unlessAbsent(kubectl.json<ServedDefinitions>(["get", "--raw", DEFINITIONS_PATH]));
}

async function judgeLease(kubectl: Kubectl): Promise<readonly Finding[]> {
  const args = ["-n", kubectl.namespace, "get", "lease", LEASE.name, "-o", "json"];
  const lease = await unlessAbsent(kubectl.json<{ spec?: LeaseSpec }>(args));
  if (lease !== undefined) return judgeLeadership(lease.spec, kubectl.namespace, new Date());
  const problem = `nobody leads: there is no Lease ${LEASE.name} in namespace ${kubectl.namespace}`;
  return [failing(LEADERSHIP, { problem, fix: `start the operator, or ${await elsewhere(kubectl)}` })];
}

/** What to do where the operator runs in another namespace than was looked at. */
async function elsewhere(kubectl: Kubectl): Promise<string> {
  const find = ["get", "leases", "-A", `--field-selector=metadata.name=${LEASE.name}`];
  const found = await kubectl.list<{ metadata: { namespace: string } }>(find).catch(() => []);
  if (found.length === 0) return `name the namespace that it runs in: ${NAME_NAMESPACE}`;
  const namespaces = found.map(({ metadata }) => metadata.namespace).join(", ");
  return `name the namespace that it runs in, which seems to be ${namespaces}: ${NAME_NAMESPACE}`;
}

/** undefined where there is nothing of that name. */
async function unlessAbsent<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw error;
  }
}

/** What a gateway needs a primary needs as well, and from here the two look the same. */
const MODE = "gateway";

async function judgeAllRights(kubectl: Kubectl): Promise<readonly Finding[]> {
  const { namespace: home } = kubectl;
  const findings: Finding[] = [];
  for (const { program, account } of [
    { program: "operator", account: OPERATOR_ACCOUNT },
    { program: "rest", account: REST_ACCOUNT },
  ] as const) {
    const found = await unlessAbsent(kubectl.text(["-n", home, "get", "serviceaccount", account, "-o", "name"]));
    if (found === undefined && program === "operator") {
      const problem = `there is no ServiceAccount ${account} in namespace ${home}`;
      return [failing(RIGHTS, { problem, fix: `${APPLY_RIGHTS}; or ${await elsewhere(kubectl)}` })];
    }
    // REST may as well be served by the operator.
    if (found === undefined) continue;
    // Whether the operator lets itself into namespaces stands in its settings.
    const { everywhere, inSystemNamespace } = rightsFor(program, MODE, false);
    const places = [
      { wanted: rightsOf(everywhere), namespace: undefined, where: "in the whole cluster" },
      { wanted: rightsOf(inSystemNamespace), namespace: home, where: `in namespace ${home}` },
    ];
    for (const { wanted, namespace, where } of places) {
      findings.push(...judgeRights(account, await refused(kubectl, account, wanted, namespace), where));
    }
  }
  return findings;
}

async function refused(
  kubectl: Kubectl,
  account: string,
  wanted: readonly Right[],
  namespace: string | undefined,
): Promise<readonly Right[]> {
  const { namespace: home } = kubectl;
  const items = wanted.map(({ verb, group, resource: whole, name }) => {
    const [resource, subresource] = whole.split("/");
    return {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SubjectAccessReview",
      spec: {
        user: `system:serviceaccount:${home}:${account}`,
        groups: ["system:serviceaccounts", `system:serviceaccounts:${home}`, "system:authenticated"],
        resourceAttributes: { verb, group, resource, subresource, name, namespace },
      },
    };
  });
  const asked = { apiVersion: "v1", kind: "List", items };
  const allowed = ["create", "-f", "-", "-o", 'jsonpath={.status.allowed}{"\\n"}'];
  const answers = (await kubectl.text(allowed, JSON.stringify(asked))).split("\n");
  return wanted.filter((_right, at) => answers[at] !== "true");
}

/** Kinds whose definitions are missing are told by those. */
export async function resources(kubectl: Kubectl): Promise<readonly Judged[]> {
  const served = await kubectl.text(["api-resources", `--api-group=${GROUP}`, "-o", "name"]);
  const names = kinds.map(({ plural }) => `${plural}.${GROUP}`).filter((name) => served.includes(name));
  return names.length === 0 ? [] : kubectl.list<Judged>(["get", names.join(","), "-A"]);
}
