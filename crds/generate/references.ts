/**
 * What objects refer to, and which right of their author the API server asks for, as the operator would use what is referred to with
 * its own. A test holds the two tables against the schemas: no reference is forgotten.
 */
import { accessPolicyKind } from "../accesspolicy.ts";
import { auditSinkKind } from "../auditsink.ts";
import { certificateKind } from "../certificate.ts";
import { certificateRequestKind } from "../certificaterequest.ts";
import { GROUP, type KindDefinition } from "../common.ts";
import { RESTARTABLE_KINDS } from "../delivery.ts";
import { SYSTEM_NAMESPACE } from "../installation.ts";
import { clusterIssuerKind, issuerKind } from "../issuer.ts";
import { keyVaultKind } from "../keyvault.ts";
import { projectKind } from "../project.ts";
import { secretKind } from "../secret.ts";
import { syncRuleKind } from "../syncrule.ts";

/** Expressions are CEL. `part` is what `parts` gives, one by one. */
export interface Reference {
  readonly kind: KindDefinition;
  readonly field: string;
  /**
   * Over the object: what refers, together with what decides where the thing that is referred to goes, such as the URL that a token
   * is sent to. What is there again as it was is not asked for again.
   */
  readonly parts: (object: string) => string;
  /** Over a part of new ones: a list that takes its place. Without commas in it. */
  readonly flattened?: string;
  /**
   * So many new parts are asked about one by one; of more the author must have the right for all that there is. One when absent, where
   * there can be no more. The API server stops an expression after two questions, and a policy after 28.
   */
  readonly most?: number;
  readonly right: AskedRight;
}

export interface AskedRight {
  /** One of them will do; the last gives least, and is what messages tell to give. */
  readonly verbs: readonly [string, ...string[]];
  /** Empty: the core group. */
  readonly group: string;
  /** Its plural. */
  readonly resource: string;
  /** All that it can be, where parts differ in it. */
  readonly resources?: readonly string[];
  /** As it is, not CEL. */
  readonly subresource?: string;
  /** In words, as in messages and documentation. */
  readonly what: string;
  /** Absent: whatever its name. */
  readonly name?: string;
  /** Said before the name in messages, where `what` alone leaves open which of its resources is meant. */
  readonly kind?: string;
  /** Absent: the whole cluster. */
  readonly namespace?: string;
}

/** CEL: every field of the path is there. */
const present = (object: string, path: string): string =>
  path
    .split(".")
    .map((_field, at, fields) => `has(${object}.${fields.slice(0, at + 1).join(".")})`)
    .slice(1)
    .join(" && ");

/** CEL: a list of what stands at `kept` where there is something at `path`. One list, `[]`, may be on the way. */
const found =
  (path: string, kept = path) =>
  (object: string): string => {
    const [list = "", rest] = path.split("[]");
    if (rest === undefined) return `(${present(object, path)} ? [${object}.${kept}] : [])`;
    const items = `${object}.${list}`;
    const inner = rest.slice(1);
    const wanted = inner === "" ? items : `${items}.filter(item, has(item.${inner})).map(item, item.${inner})`;
    return `(${present(object, list)} ? ${wanted} : [])`;
  };

/** Of the object itself. */
export const HERE = "request.namespace";

const project = { verbs: ["use"], group: GROUP, resource: "'projects'", what: "Project", namespace: HERE } as const;
const keyVault = { verbs: ["use"], group: GROUP, resource: "'keyvaults'", what: "KeyVault" } as const;
const issuer = {
  verbs: ["use"],
  group: GROUP,
  resource: "(has(part.kind) && part.kind == 'ClusterIssuer' ? 'clusterissuers' : 'issuers')",
  what: "issuer",
  name: "part.name",
  namespace: HERE,
} as const;
const coreSecret = { group: "", resource: "'secrets'", what: "core Secret", namespace: HERE } as const;
const source = { ...coreSecret, verbs: ["get"] } as const;
const adopted = { ...coreSecret, verbs: ["update"], name: "part[0]" } as const;
/**
 * The policy cannot see whether the workload opts in by its annotation, so it asks for a right in any case; `restart`, which
 * Kubernetes itself gives no meaning, lets the owner of a workload give that and no more.
 */
const restarted = {
  verbs: ["patch", "restart"],
  group: "apps",
  resource: "(part.kind.lowerAscii() + 's')",
  resources: RESTARTABLE_KINDS.map((kind) => `'${kind.toLowerCase()}s'`),
  what: "workload",
  kind: "part.kind",
  name: "part.name",
  namespace: HERE,
} as const;

const projectOf = (kind: KindDefinition): Reference => ({
  kind,
  field: "spec.projectRef",
  parts: found("spec.projectRef"),
  right: { ...project, name: "part.name" },
});

const issuerOf = (kind: KindDefinition, field: string): Reference => ({
  kind,
  field,
  parts: found(field),
  right: issuer,
});

/** @param within what also decides where the value goes */
const secretOf = (kind: KindDefinition, field: string, within = field): Reference => ({
  kind,
  field,
  parts: found(field, within),
  ...(field.includes("[]") && { most: 8 }),
  right: { ...source, name: `part${field.slice(within.length)}.name` },
});

const restartsOf = (kind: KindDefinition, field: string): Reference => ({
  kind,
  field: `${field}[]`,
  parts: found(`${field}[]`),
  most: 5,
  right: restarted,
});

/** With the name of the core Secret, and whether it is taken over even when its data differs. */
const adopts =
  (at: string, name: (object: string) => string) =>
  (object: string): string => {
    const isSet = (field: string) => `has(${object}.${at}.${field}) && ${object}.${at}.${field}`;
    const within = at === "spec" ? "" : `${present(object, at)} && `;
    return `(${within}${isSet("adopt")} ? [[string(${name(object)}), string(${isSet("overwrite")})]] : [])`;
  };

export const references: readonly Reference[] = [
  projectOf(secretKind),
  secretOf(secretKind, "spec.entries[].secretRef"),
  {
    kind: secretKind,
    field: "spec.deliver.adopt",
    parts: adopts(
      "spec.deliver",
      (object) =>
        `has(${object}.spec.deliver.secretName) ? ${object}.spec.deliver.secretName : ${object}.metadata.name`,
    ),
    right: adopted,
  },
  restartsOf(secretKind, "spec.deliver.restart"),
  {
    kind: secretKind,
    field: "spec.rotation.apply.job.cronJobRef",
    parts: found("spec.rotation.apply.job.cronJobRef"),
    right: { verbs: ["create"], group: "batch", resource: "'jobs'", what: "Job", namespace: HERE },
  },
  secretOf(secretKind, "spec.rotation.apply.webhook.hmacSecretRef", "spec.rotation.apply.webhook"),
  secretOf(secretKind, "spec.rotation.apply.postgres.admin.passwordSecretRef", "spec.rotation.apply.postgres"),

  projectOf(keyVaultKind),
  secretOf(keyVaultKind, "spec.auth.servicePrincipal.clientSecretRef", "spec.auth.servicePrincipal"),
  secretOf(keyVaultKind, "spec.auth.servicePrincipal.certificateSecretRef", "spec.auth.servicePrincipal"),
  {
    kind: keyVaultKind,
    field: "spec.auth.workloadIdentity.serviceAccountRef",
    parts: found("spec.auth.workloadIdentity.serviceAccountRef"),
    right: {
      verbs: ["create"],
      group: "",
      resource: "'serviceaccounts'",
      subresource: "token",
      what: "token of ServiceAccount",
      name: "part.name",
      namespace: HERE,
    },
  },

  projectOf(syncRuleKind),
  {
    kind: syncRuleKind,
    field: "spec.target.keyVault.ref",
    parts: found("spec.target.keyVault.ref"),
    right: { ...keyVault, name: "part.name", namespace: HERE },
  },
  {
    kind: syncRuleKind,
    field: "spec.target.kubernetes.namespaces[]",
    parts: (object) =>
      `(has(${object}.spec.target.kubernetes) && ${object}.spec.direction != 'Pull' ? ${object}.spec.target.kubernetes.namespaces : [])`,
    most: 8,
    right: { ...coreSecret, verbs: ["create"], namespace: "part" },
  },
  {
    kind: syncRuleKind,
    field: "spec.target.kubernetes.adopt",
    parts: (object) =>
      `(has(${object}.spec.target.kubernetes) && has(${object}.spec.target.kubernetes.adopt) && ${object}.spec.target.kubernetes.adopt ? ${object}.spec.target.kubernetes.namespaces : [])`,
    most: 8,
    right: { ...coreSecret, verbs: ["update"], namespace: "part" },
  },

  issuerOf(certificateKind, "spec.issuerRef"),
  secretOf(certificateKind, "spec.keystores.pkcs12.passwordSecretRef"),
  secretOf(certificateKind, "spec.keystores.jks.passwordSecretRef"),
  {
    kind: certificateKind,
    field: "spec.adopt",
    parts: adopts("spec", (object) => `${object}.spec.secretName`),
    right: adopted,
  },
  restartsOf(certificateKind, "spec.restart"),

  issuerOf(certificateRequestKind, "spec.issuerRef"),
  issuerOf(issuerKind, "spec.ca.parentRef"),
  {
    kind: clusterIssuerKind,
    field: "spec.ca.parentRef",
    parts: found("spec.ca.parentRef"),
    right: { verbs: ["use"], group: GROUP, resource: "'clusterissuers'", what: "ClusterIssuer", name: "part.name" },
  },

  {
    kind: projectKind,
    field: "spec.environments[].keyVault",
    parts: found("spec.environments[].keyVault"),
    most: 8,
    right: { ...keyVault, name: "part.name", namespace: "part.namespace" },
  },
  {
    kind: accessPolicyKind,
    field: "spec.rules[].projects[]",
    parts: (object) => `${object}.spec.rules`,
    flattened: "part.projects",
    most: 16,
    right: { ...project, name: "part" },
  },

  ...[
    "otlp.authorizationSecretRef",
    "otlp.clientCertificateRef",
    "webhook.hmacSecretRef",
    "webhook.clientCertificateRef",
  ]
    .map((field) => `spec.${field}`)
    .map((field): Reference => {
      const reference = secretOf(auditSinkKind, field, field.split(".").slice(0, 2).join("."));
      return { ...reference, right: { ...reference.right, namespace: `'${SYSTEM_NAMESPACE}'` } };
    }),
];

/** References for which nobody is asked, and why. */
export const unasked: readonly { readonly kind: string; readonly field: string; readonly why: string }[] = [
  {
    kind: "Secret",
    field: "spec.deliver.restartConsumers",
    why: "What uses the core Secret opts in by that.",
  },
  {
    kind: "Secret",
    field: "spec.deliver.overwrite",
    why: "It needs `adopt`; setting it is asked for as that is, again.",
  },
  {
    kind: "Certificate",
    field: "spec.restartConsumers",
    why: "What uses the core Secret opts in by that.",
  },
  { kind: "Certificate", field: "spec.overwrite", why: "It needs `adopt`; setting it is asked for as that is, again." },
  {
    kind: "KeyVault",
    field: "spec.auth.gateway.ref",
    why: "`Project.spec.keyVaults` must list the vault.",
  },
  {
    kind: "KeyVault",
    field: "spec.auth.managedIdentity",
    why: "`Project.spec.keyVaults` must list the vault.",
  },
  {
    kind: "SyncRule",
    field: "spec.target.kubernetes.restartConsumers",
    why: "What uses the core Secrets opts in by that.",
  },
  {
    kind: "SyncRule",
    field: "spec.target.gateway.ref",
    why: "The core Secrets are in another cluster, where a Project must admit the namespace.",
  },
  {
    kind: "SyncRule",
    field: "spec.target.gateway.kubernetes.adopt",
    why: "As the one before: this API server knows nothing of rights in that cluster.",
  },
  {
    kind: "SyncRule",
    field: "spec.target.gateway.kubernetes.restartConsumers",
    why: "What uses the core Secrets opts in by that.",
  },
  {
    kind: "Issuer",
    field: "spec.primary.issuerRef",
    why: "Refused whatever it names.",
  },
  {
    kind: "ClusterIssuer",
    field: "spec.primary.issuerRef",
    why: "It stands in the primary's cluster, and must list the gateway's environment in `gatewayEnvironments`.",
  },
  {
    kind: "GatewayEnvironment",
    field: "spec.primaryRef",
    why: "Who may write a kind of the fleet has the fleet: nothing of a namespace is reached through it.",
  },
  { kind: "GatewayEnvironment", field: "spec.standbyRef", why: "As the one before." },
  { kind: "Failover", field: "spec.environmentRef", why: "As the one before." },
];
