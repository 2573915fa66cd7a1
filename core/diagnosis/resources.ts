/** Resources that are not Ready, each with what its condition says and what a person does about it. */
import { type Condition, GROUP, type ObjectMeta } from "../../crds/common.ts";
import { type Reason, reasons } from "../../crds/conditions.ts";
import { kinds } from "../../crds/index.ts";
import { syncConflictKind } from "../../crds/syncconflict.ts";
import { type Finding, failing, warning } from "./finding.ts";
import { operatorLog } from "./logs.ts";

export interface Judged {
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly spec?: unknown;
  readonly status?: { readonly conditions?: readonly Condition[] | undefined } | undefined;
}

export const RESOURCES = "resources";
/** As many are told one by one. */
const SHOWN = 100;
/** Work takes a moment. */
const PATIENCE_MS = 60_000;
/** A person has been asked, and everything else is in place. */
const WAITING: readonly string[] = ["ApprovalPending", "WaitingForCertificate"] satisfies readonly Reason[];

/** @param home the namespace of the operator */
export function judgeResources(resources: Iterable<Judged>, home: string, now: Date): readonly Finding[] {
  const found: Finding[] = [];
  let more = 0;
  for (const resource of resources) {
    const finding = judge(resource, home, now);
    if (finding === undefined) continue;
    if (found.length < SHOWN) found.push(finding);
    else more += 1;
  }
  if (more === 0) return found;
  const problem = `${more} more resources are not Ready`;
  return [...found, failing(RESOURCES, { problem, fix: "kubectl get mazevault -A shows all of them" })];
}

function judge(resource: Judged, home: string, now: Date): Finding | undefined {
  const { metadata, status } = resource;
  if (metadata.deletionTimestamp !== undefined) return undefined;
  // It waits for a person and for nobody else; its SyncRule tells that it is open.
  if (resource.kind === syncConflictKind.kind) return undefined;
  const ready = status?.conditions?.find(({ type }) => type === "Ready");
  const seen = ready !== undefined && ready.observedGeneration === metadata.generation;
  if (seen && (ready.status === "True" || ready.reason === "Suspended")) return undefined;
  const since = Date.parse((seen ? ready.lastTransitionTime : metadata.creationTimestamp) ?? "");
  const young = now.getTime() - since < PATIENCE_MS;
  if (!seen || ready.reason === "Progressing") {
    if (young) return undefined;
    return failing(RESOURCES, {
      subject: describeObject(resource),
      problem: seen
        ? `it is being worked on since ${ready.lastTransitionTime}: ${ready.message}`
        : "nobody has looked at it",
      fix: `look whether somebody leads (check leadership), then ${describeCommand(resource)}`,
    });
  }
  const told = {
    subject: describeObject(resource),
    problem: `${ready.reason}: ${ready.message}`,
    fix: remedy(ready.reason as Reason, resource, home),
  };
  return WAITING.includes(ready.reason) ? warning(RESOURCES, told) : failing(RESOURCES, told);
}

const describeObject = ({ kind, metadata: { namespace, name } }: Judged): string =>
  `${kind} ${namespace === undefined ? "" : `${namespace}/`}${name}`;

/** In full, since the core kind is also called Secret. */
function command(verb: string, { kind, metadata: { namespace, name } }: Judged): string {
  const plural = kinds.find((each) => each.kind === kind)?.plural ?? kind;
  return `kubectl ${namespace === undefined ? "" : `-n ${namespace} `}${verb} ${plural}.${GROUP} ${name}`;
}
const describeCommand = (resource: Judged): string => command("describe", resource);

/** Fields of specs that name what a command needs. */
interface Named {
  readonly projectRef?: { readonly name: string };
  readonly vaultUrl?: string;
  readonly auth?: Readonly<Record<string, { readonly clientId?: string } | undefined>>;
}

/** What the reason says that has to be done, and the command that does it or shows where. */
function remedy(reason: Reason, resource: Judged, home: string): string {
  const say = reasons[reason] ?? "look at the message";
  const run = commands[reason]?.(resource, (resource.spec ?? {}) as Named, home) ?? describeCommand(resource);
  return `${say} ${run}`;
}

/** @param home the namespace of the operator */
type Command = (resource: Judged, spec: Named, home: string) => string;

const project: Command = (_resource, { projectRef }) => `kubectl edit project ${projectRef?.name ?? "NAME"}`;
const edit: Command = (resource) => command("edit", resource);
const coreSecrets: Command = ({ metadata }, _spec, home) => `kubectl -n ${metadata.namespace ?? home} get secrets`;
const vaultHost = (url = ""): string => URL.parse(url)?.hostname ?? "VAULT";
const ownLog: Command = (_resource, _spec, home) => operatorLog(home);

const commands: Readonly<Partial<Record<Reason, Command>>> = {
  ProjectNotFound: (_resource, { projectRef }) => `kubectl get project ${projectRef?.name ?? "NAME"}`,
  NamespaceNotAdmitted: project,
  NamespaceNotServed: () => "kubectl edit project NAME",
  EnvironmentNotDeclared: project,
  VaultNotAllowed: project,
  NamespaceNotOnboarded: ({ metadata }) => `kubectl -n ${metadata.namespace} get rolebinding mazevault`,
  SourceNotFound: coreSecrets,
  SourceKeyNotFound: coreSecrets,
  CredentialNotFound: coreSecrets,
  CredentialInvalid: (resource, spec, home) =>
    `${coreSecrets(resource, spec, home)}, then put the new credential into the one that the message names`,
  ValueMissing: ({ metadata: { namespace, name } }) => `mazevault put ${namespace}/${name} KEY`,
  SealedValueInvalid: ({ metadata: { namespace, name } }) => `mazevault seal ${namespace}/${name} KEY`,
  KeyVaultNotFound: ({ metadata }) => `kubectl -n ${metadata.namespace} get keyvaults.${GROUP}`,
  KeyVaultNotReady: ({ metadata }) => `kubectl -n ${metadata.namespace} describe keyvaults.${GROUP}`,
  IssuerNotFound: () => `kubectl get issuers.${GROUP},clusterissuers.${GROUP} -A`,
  IssuerNotReady: () => `kubectl get issuers.${GROUP},clusterissuers.${GROUP} -A`,
  ApprovalPending: ({ metadata: { namespace, name } }) =>
    `kubectl -n ${namespace} get certificaterequest ${name} -o yaml, then set the condition as docs/operations/pki.md says`,
  AccessDenied: (_resource, { vaultUrl, auth }) => {
    const client = Object.values(auth ?? {}).find((method) => method?.clientId !== undefined)?.clientId ?? "CLIENT_ID";
    const [vault] = vaultHost(vaultUrl).split(".");
    return `az role assignment create --role "Key Vault Secrets Officer" --assignee ${client} --scope $(az keyvault show --name ${vault ?? "VAULT"} --query id -o tsv)`;
  },
  VaultUnreachable: (_resource, { vaultUrl }) =>
    `nslookup ${vaultHost(vaultUrl)}; curl -sv https://${vaultHost(vaultUrl)}/`,
  VaultHostNotAllowed: (resource) => `${describeCommand(resource)}; the allow-list is azure.allowedVaultHosts`,
  KeyUnavailable: ownLog,
  DatabaseUnavailable: ownLog,
  SinkUnreachable: (resource) => describeCommand(resource),
  TamperDetected: () => "mazevault audit verify",
  TemplateInvalid: edit,
  TemplateCycle: edit,
  TargetNotOwned: edit,
  TargetDiffers: edit,
  PolicyViolated: edit,
  ValueInvalid: edit,
};
