/** The caches behind `Cluster`: mazevault kinds and namespaces of the whole cluster, core Secrets by namespace. */
import { setTimeout as delay } from "node:timers/promises";
import { wantedKeystores } from "../controllers/certificate/keystores.ts";
import type { Cluster, Metadata, Namespace } from "../controllers/cluster.ts";
import { namespaceFacts, notOnboarded } from "../controllers/cluster.ts";
import { deliveredName } from "../controllers/delivery/desired.ts";
import { roleBindings } from "../controllers/project/index.ts";
import type { Informer, InformerOptions } from "../controllers/runtime/informer.ts";
import type { NamespacedInformers } from "../controllers/runtime/namespaced-informers.ts";
import {
  coreSecrets,
  type KubernetesObject,
  type ResourceType,
  resourceType,
} from "../controllers/runtime/resource-type.ts";
import { admittedEnvironments } from "../core/access/admission.ts";
import { type AccessSource, policyKeys, projectKeys } from "../core/access/policy.ts";
import { normalVaultUrl } from "../core/ports/target-vaults.ts";
import { HeldUids } from "../core/recovery/home.ts";
import { type AccessPolicy, accessPolicyKind } from "../crds/accesspolicy.ts";
import { type AuditSink, auditSinkKind } from "../crds/auditsink.ts";
import { type Certificate, certificateKind } from "../crds/certificate.ts";
import { type CertificateRequest, certificateRequestKind } from "../crds/certificaterequest.ts";
import type { Condition, ObjectMeta, Resource } from "../crds/common.ts";
import { type Failover, failoverKind } from "../crds/failover.ts";
import { type Gateway, gatewayKind } from "../crds/gateway.ts";
import { type GatewayEnvironment, gatewayEnvironmentKind } from "../crds/gatewayenvironment.ts";
import { NAMESPACE_BINDING, REST_NAMESPACE_BINDING } from "../crds/installation.ts";
import { type AnyIssuer, type ClusterIssuer, clusterIssuerKind, type Issuer, issuerKind } from "../crds/issuer.ts";
import { type KeyVault, keyVaultKind } from "../crds/keyvault.ts";
import type { IssuerKind } from "../crds/names.ts";
import { type Project, projectKind } from "../crds/project.ts";
import { type Secret, secretKind } from "../crds/secret.ts";
import { type SyncConflict, syncConflictKind } from "../crds/syncconflict.ts";
import { type SyncRule, syncRuleKind } from "../crds/syncrule.ts";

const namespaces: ResourceType = {
  group: "",
  version: "v1",
  plural: "namespaces",
  kind: "Namespace",
  namespaced: false,
};

/** A namespace that has not answered by then is worked on later. */
const FIRST_SIGHT_MS = 5_000;
const FOLLOWING_MS = 15_000;

/** Indexes that controllers look things up by. */
export const BY_NAMESPACE = "namespace";
export const BY_PROJECT = "project";
/** Secrets and Certificates by the core Secrets that they take values from or deliver to. */
export const BY_CORE_SECRET = "coreSecret";
export const BY_KEY_VAULT = "keyVault";
/** SyncRules by the namespaces whose core Secrets are their target. */
export const BY_TARGET_NAMESPACE = "targetNamespace";
/** SyncRules by the namespaces in clusters of gateways, and by the gateways, whose core Secrets are their target; KeyVaults by theirs. */
export const BY_NAMESPACE_BEYOND = "namespaceBeyond";
export const BY_GATEWAY = "gateway";
/** KeyVaults by the name of their vault, which is the first label of its host. */
export const BY_VAULT_NAME = "vaultName";
/** KeyVaults by the normal URL of their vault: several may name one. */
export const BY_VAULT_URL = "vaultUrl";
/** Certificates, CertificateRequests and issuers by the issuer above them: `namespace/name`, or `name` for one of the cluster. */
export const BY_ISSUER = "issuer";

/** Failovers by the GatewayEnvironment that they refer to. */
const BY_GATEWAY_ENVIRONMENT = "gatewayEnvironment";
/** AccessPolicies and Projects by what they are looked up by when access is decided. */
const BY_ACCESS = "access";

/** Makes caches that live as long as the operator. */
export interface CacheFactory {
  informer<T extends KubernetesObject>(options: InformerOptions<T>): Informer<T>;
  namespacedInformers<T extends KubernetesObject>(
    options: Omit<InformerOptions<T>, "namespace">,
  ): NamespacedInformers<T>;
}

type CachedMetadata = Metadata & KubernetesObject;

export class Caches implements Cluster, AccessSource {
  readonly projectCache: Informer<Project>;
  readonly namespaceCache: Informer<CachedMetadata>;
  readonly secretCache: Informer<Secret>;
  readonly issuerCache: Informer<Issuer>;
  readonly clusterIssuerCache: Informer<ClusterIssuer>;
  readonly certificateCache: Informer<Certificate>;
  readonly certificateRequestCache: Informer<CertificateRequest>;
  readonly keyVaultCache: Informer<KeyVault>;
  readonly syncRuleCache: Informer<SyncRule>;
  readonly syncConflictCache: Informer<SyncConflict>;
  readonly accessPolicyCache: Informer<AccessPolicy>;
  readonly auditSinkCache: Informer<AuditSink>;
  readonly gatewayCache: Informer<Gateway>;
  readonly gatewayEnvironmentCache: Informer<GatewayEnvironment>;
  readonly failoverCache: Informer<Failover>;
  readonly bindingCache: Informer<CachedMetadata>;
  /** RoleBindings of REST as a program of its own, where this program makes them. */
  readonly restBindingCache: Informer<CachedMetadata> | undefined;
  readonly coreSecretCache: NamespacedInformers<CachedMetadata>;

  /** Under which UIDs rows of the store stand. */
  readonly held: HeldUids;

  constructor(
    make: CacheFactory,
    inactivityMs: number,
    { bindsRest = false, held = new HeldUids() }: { readonly bindsRest?: boolean; readonly held?: HeldUids } = {},
  ) {
    this.held = held;
    const watched = { inactivityMs };
    const bindingsNamed = (name: string) =>
      make.informer<CachedMetadata>({
        ...watched,
        type: roleBindings,
        fieldSelector: `metadata.name=${name}`,
        metadataOnly: true,
      });
    const inNamespace = { [BY_NAMESPACE]: ({ metadata }: KubernetesObject) => [metadata.namespace ?? ""] };
    const ofProject = {
      ...inNamespace,
      [BY_PROJECT]: ({ spec }: { spec: { projectRef: { name: string } } }) => [spec.projectRef.name],
    };
    this.projectCache = make.informer<Project>({
      ...watched,
      type: resourceType(projectKind),
      indexers: { [BY_ACCESS]: projectKeys },
    });
    this.namespaceCache = make.informer({ ...watched, type: namespaces, metadataOnly: true });
    this.secretCache = make.informer<Secret>({
      ...watched,
      type: resourceType(secretKind),
      indexers: { ...ofProject, [BY_CORE_SECRET]: coreSecretsOf },
    });
    this.issuerCache = make.informer<Issuer>({
      ...watched,
      type: resourceType(issuerKind),
      indexers: { ...inNamespace, [BY_ISSUER]: parentOf },
    });
    this.clusterIssuerCache = make.informer<ClusterIssuer>({
      ...watched,
      type: resourceType(clusterIssuerKind),
      indexers: { [BY_ISSUER]: parentOf },
    });
    this.certificateCache = make.informer<Certificate>({
      ...watched,
      type: resourceType(certificateKind),
      indexers: {
        ...inNamespace,
        [BY_CORE_SECRET]: coreSecretsOfCertificate,
        [BY_ISSUER]: ({ metadata, spec: { issuerRef } }) => [issuerKey(metadata, issuerRef)],
      },
    });
    this.certificateRequestCache = make.informer<CertificateRequest>({
      ...watched,
      type: resourceType(certificateRequestKind),
      indexers: {
        ...inNamespace,
        [BY_ISSUER]: ({ metadata, spec: { issuerRef } }) => [issuerKey(metadata, issuerRef)],
      },
    });
    this.keyVaultCache = make.informer<KeyVault>({
      ...watched,
      type: resourceType(keyVaultKind),
      indexers: {
        ...ofProject,
        [BY_CORE_SECRET]: credentialsOf,
        [BY_VAULT_NAME]: ({ spec }) => [new URL(spec.vaultUrl).host.split(".")[0] ?? ""],
        [BY_VAULT_URL]: ({ spec }) => [normalVaultUrl(spec.vaultUrl)],
        [BY_GATEWAY]: ({ spec: { auth } }) => (auth.gateway ? [auth.gateway.ref.name] : []),
      },
    });
    this.syncRuleCache = make.informer<SyncRule>({
      ...watched,
      type: resourceType(syncRuleKind),
      indexers: {
        ...ofProject,
        [BY_KEY_VAULT]: vaultsOf,
        [BY_TARGET_NAMESPACE]: ({ spec }) => spec.target.kubernetes?.namespaces ?? [],
        [BY_NAMESPACE_BEYOND]: ({ spec: { target } }) => (target.gateway ? [target.gateway.kubernetes.namespace] : []),
        [BY_GATEWAY]: ({ spec: { target } }) => (target.gateway ? [target.gateway.ref.name] : []),
      },
    });
    this.syncConflictCache = make.informer<SyncConflict>({
      ...watched,
      type: resourceType(syncConflictKind),
      indexers: inNamespace,
    });
    this.accessPolicyCache = make.informer<AccessPolicy>({
      ...watched,
      type: resourceType(accessPolicyKind),
      indexers: {
        ...inNamespace,
        [BY_PROJECT]: ({ spec }) => spec.rules.flatMap(({ projects }) => projects),
        [BY_ACCESS]: policyKeys,
      },
    });
    this.auditSinkCache = make.informer({ ...watched, type: resourceType(auditSinkKind) });
    this.gatewayCache = make.informer({ ...watched, type: resourceType(gatewayKind) });
    this.gatewayEnvironmentCache = make.informer({ ...watched, type: resourceType(gatewayEnvironmentKind) });
    this.failoverCache = make.informer<Failover>({
      ...watched,
      type: resourceType(failoverKind),
      indexers: { [BY_GATEWAY_ENVIRONMENT]: ({ spec }) => [spec.environmentRef.name] },
    });
    this.bindingCache = bindingsNamed(NAMESPACE_BINDING);
    this.restBindingCache = bindsRest ? bindingsNamed(REST_NAMESPACE_BINDING) : undefined;
    this.coreSecretCache = make.namespacedInformers({ ...watched, type: coreSecrets, metadataOnly: true });
  }

  get incomplete(): readonly string[] {
    return this.#whole.filter(({ synced }) => !synced).map(({ name }) => name);
  }

  get #own() {
    return [
      this.projectCache,
      this.secretCache,
      this.issuerCache,
      this.clusterIssuerCache,
      this.certificateCache,
      this.certificateRequestCache,
      this.keyVaultCache,
      this.syncRuleCache,
      this.syncConflictCache,
      this.accessPolicyCache,
      this.auditSinkCache,
      this.gatewayCache,
      this.gatewayEnvironmentCache,
      this.failoverCache,
    ];
  }

  get #whole() {
    const { namespaceCache, bindingCache, restBindingCache } = this;
    return [...this.#own, namespaceCache, bindingCache, ...(restBindingCache ? [restBindingCache] : [])];
  }

  /** Resolves when everything that can be seen is in sight. Namespaces that refuse us do not hold up the others. */
  async whenSynced(): Promise<void> {
    await Promise.all(this.#whole.map((cache) => cache.whenSynced()));
    // Who stood by may have lost its connections just before its turn came: on manifests of before it would go back to
    // values of before. Without an API server nothing can be done anyhow, so it is not waited for without an end.
    const following = Promise.all(this.#whole.map((cache) => cache.whenFollowing()));
    await Promise.race([following, delay(FOLLOWING_MS, undefined, { ref: false })]);
    await this.#followAdmissions();
    // Where our RoleBinding is missing, the leader has yet to make it, and would wait for itself.
    const onboarded = new Set([...this.bindingCache.values()].map(({ metadata }) => metadata.namespace));
    await Promise.all(
      [...this.coreSecretCache.namespaces]
        .filter((name) => onboarded.has(name))
        .map((name) =>
          Promise.race([
            this.coreSecretCache.watch(name).whenSynced(),
            delay(FIRST_SIGHT_MS, undefined, { ref: false }),
          ]),
        ),
    );
  }

  /** Namespaces come into sight when a Project admits them, and go out of it when none does any more. */
  follow(): void {
    let planned = false;
    // A list brings its objects one by one; looking at every namespace for each of them would be quadratic.
    const changed = () => {
      if (planned) return;
      planned = true;
      setImmediate(() => {
        planned = false;
        void this.#followAdmissions();
      });
    };
    this.projectCache.onChange(changed);
    this.namespaceCache.onChange(changed);
    // Access was just granted: a watch that was refused before need not wait for its next attempt.
    this.bindingCache.onChange((type, { metadata: { namespace = "" } }) => {
      if (type === "added" && !this.coreSecretCache.covers(`${namespace}/`)) void this.#watchAnew(namespace);
    });
  }

  project(name: string): Project | undefined {
    return this.projectCache.get(name);
  }

  projects(): Iterable<Project> {
    return this.projectCache.values();
  }

  namespace(name: string): Namespace | undefined {
    const found = this.namespaceCache.get(name);
    return found && this.#asHeld(found);
  }

  *namespaces(): Generator<Namespace> {
    for (const each of this.namespaceCache.values()) yield this.#asHeld(each);
  }

  #asHeld(namespace: Metadata): Namespace {
    const { metadata } = namespace;
    if (this.held.isAwaited("Namespace", metadata)) return { metadata, isAwaited: true };
    const uid = this.held.of("Namespace", metadata);
    return uid === metadata.uid ? namespace : { metadata: { ...metadata, uid } };
  }

  secret(namespace: string, name: string): Secret | undefined {
    return this.secretCache.get(`${namespace}/${name}`);
  }

  secrets(): Iterable<Secret> {
    return this.secretCache.values();
  }

  certificates(): Iterable<Certificate> {
    return this.certificateCache.values();
  }

  issuers(): Iterable<Issuer> {
    return this.issuerCache.values();
  }

  clusterIssuers(): Iterable<ClusterIssuer> {
    return this.clusterIssuerCache.values();
  }

  syncRules(): Iterable<SyncRule> {
    return this.syncRuleCache.values();
  }

  /** `key`: namespace/name. */
  syncRule(key: string): SyncRule | undefined {
    return this.syncRuleCache.get(key);
  }

  auditSinks(): Iterable<AuditSink> {
    return this.auditSinkCache.values();
  }

  accessPolicies(): Iterable<AccessPolicy> {
    return this.accessPolicyCache.values();
  }

  gateway(name: string): Gateway | undefined {
    return this.gatewayCache.get(name);
  }

  gateways(): Iterable<Gateway> {
    return this.gatewayCache.values();
  }

  gatewayEnvironment(name: string): GatewayEnvironment | undefined {
    return this.gatewayEnvironmentCache.get(name);
  }

  gatewayEnvironments(): Iterable<GatewayEnvironment> {
    return this.gatewayEnvironmentCache.values();
  }

  gatewaysPairedWith(gateway: string): readonly string[] {
    return [...this.gatewayEnvironmentCache.values()]
      .map(({ spec }) => [spec.primaryRef.name, spec.standbyRef.name])
      .filter((pair) => pair.includes(gateway))
      .flatMap((pair) => pair.filter((name) => name !== gateway));
  }

  failovers(): Iterable<Failover> {
    return this.failoverCache.values();
  }

  failoversOf(environment: string): readonly Failover[] {
    return this.failoverCache.byIndex(BY_GATEWAY_ENVIRONMENT, environment);
  }

  /** Every object of our own kinds. */
  *everything(): Generator<Resource<unknown, { readonly conditions?: readonly Condition[] | undefined }>> {
    for (const cache of this.#own) yield* cache.values();
  }

  secretsIn(namespace: string): readonly Secret[] {
    return this.secretCache.byIndex(BY_NAMESPACE, namespace);
  }

  certificate(namespace: string, name: string): Certificate | undefined {
    return this.certificateCache.get(`${namespace}/${name}`);
  }

  certificateRequest(namespace: string, name: string): CertificateRequest | undefined {
    return this.certificateRequestCache.get(`${namespace}/${name}`);
  }

  issuer(namespace: string, name: string): Issuer | undefined {
    return this.issuerCache.get(`${namespace}/${name}`);
  }

  clusterIssuer(name: string): ClusterIssuer | undefined {
    return this.clusterIssuerCache.get(name);
  }

  knowsVault(name: string): boolean {
    return this.keyVaultCache.byIndex(BY_VAULT_NAME, name).length > 0;
  }

  keyVault(namespace: string, name: string): KeyVault | undefined {
    return this.keyVaultCache.get(`${namespace}/${name}`);
  }

  syncRulesIn(namespace: string): readonly SyncRule[] {
    return this.syncRuleCache.byIndex(BY_NAMESPACE, namespace);
  }

  syncRulesInto(namespace: string): readonly SyncRule[] {
    return this.syncRuleCache.byIndex(BY_TARGET_NAMESPACE, namespace);
  }

  syncRulesBeyond(namespace: string): readonly SyncRule[] {
    return this.syncRuleCache.byIndex(BY_NAMESPACE_BEYOND, namespace);
  }

  deliversTo(namespace: string, coreSecret: string): string | undefined {
    const key = `${namespace}/${coreSecret}`;
    const certificate = this.certificateCache
      .byIndex(BY_CORE_SECRET, key)
      .find(({ spec }) => spec.secretName === coreSecret);
    if (certificate !== undefined) return `Certificate ${certificate.metadata.name}`;
    const secret = this.secretCache.byIndex(BY_CORE_SECRET, key).find((each) => deliveredName(each) === coreSecret);
    return secret && `Secret ${secret.metadata.name}`;
  }

  syncConflicts(): Iterable<SyncConflict> {
    return this.syncConflictCache.values();
  }

  syncConflictsIn(namespace: string): readonly SyncConflict[] {
    return this.syncConflictCache.byIndex(BY_NAMESPACE, namespace);
  }

  policiesBy(key: string): readonly AccessPolicy[] {
    return this.accessPolicyCache.byIndex(BY_ACCESS, key);
  }

  projectsBy(key: string): readonly Project[] {
    return this.projectCache.byIndex(BY_ACCESS, key);
  }

  coreSecret(namespace: string, name: string): Metadata | undefined {
    const key = `${namespace}/${name}`;
    if (!this.coreSecretCache.covers(key)) {
      throw notOnboarded(namespace);
    }
    return this.coreSecretCache.get(key);
  }

  async #watchAnew(namespace: string): Promise<void> {
    if (![...this.coreSecretCache.namespaces].includes(namespace)) return;
    await this.coreSecretCache.unwatch(namespace);
    this.coreSecretCache.watch(namespace);
  }

  async #followAdmissions(): Promise<void> {
    const admitted = new Set<string>();
    for (const namespace of this.namespaces()) {
      if (namespace.metadata.deletionTimestamp !== undefined) continue;
      for (const project of this.projects()) {
        if (admittedEnvironments(project.spec, namespaceFacts(namespace)).size > 0)
          admitted.add(namespace.metadata.name);
      }
    }
    for (const name of admitted) this.coreSecretCache.watch(name);
    await Promise.all(
      [...this.coreSecretCache.namespaces]
        .filter((name) => !admitted.has(name))
        .map((name) => this.coreSecretCache.unwatch(name)),
    );
  }
}

/** Keys of the KeyVaults that a rule uses. */
export const vaultsOf = ({ metadata, spec }: SyncRule): string[] =>
  spec.target.keyVault === undefined ? [] : [`${metadata.namespace}/${spec.target.keyVault.ref.name}`];

const issuerKey = (
  { namespace }: ObjectMeta,
  { kind, name }: { kind?: IssuerKind | undefined; name: string },
): string => (kind === "ClusterIssuer" ? name : `${namespace}/${name}`);

const parentOf = ({ metadata, spec }: AnyIssuer): string[] =>
  spec.ca?.parentRef === undefined ? [] : [issuerKey(metadata, spec.ca.parentRef)];

function coreSecretsOf({ metadata, spec }: Secret): string[] {
  const sources = spec.entries.flatMap(({ secretRef }) => (secretRef === undefined ? [] : [secretRef.name]));
  const target = spec.deliver === undefined ? [] : [spec.deliver.secretName ?? metadata.name];
  return [...sources, ...target].map((name) => `${metadata.namespace}/${name}`);
}

const coreSecretsOfCertificate = (certificate: Certificate): string[] =>
  [
    ...wantedKeystores(certificate).map(({ passwordSecretRef }) => passwordSecretRef.name),
    certificate.spec.secretName,
  ].map((name) => `${certificate.metadata.namespace}/${name}`);

function credentialsOf({ metadata, spec }: KeyVault): string[] {
  const { clientSecretRef, certificateSecretRef } = spec.auth.servicePrincipal ?? {};
  return [clientSecretRef, certificateSecretRef].flatMap((ref) =>
    ref === undefined ? [] : [`${metadata.namespace}/${ref.name}`],
  );
}
