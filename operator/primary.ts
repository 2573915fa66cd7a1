/** The operator in mode `primary`: caches, controllers, and what the leader does besides. */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { HintListener } from "../adapters/postgres/hint-listener.ts";
import type { OutboxListener } from "../adapters/postgres/outbox-listener.ts";
import type { Stores } from "../adapters/postgres/stores.ts";
import { AccessPolicyController } from "../controllers/accesspolicy/index.ts";
import { AuditSinkController, type SinkState } from "../controllers/auditsink/index.ts";
import { CertificateController } from "../controllers/certificate/index.ts";
import { CertificateRequestController } from "../controllers/certificaterequest/index.ts";
import { type Metadata, namespaceFacts } from "../controllers/cluster.ts";
import { ClusterIssuerController, IssuerController } from "../controllers/issuer/index.ts";
import { KeyVaultController } from "../controllers/keyvault/index.ts";
import { ProjectController } from "../controllers/project/index.ts";
import type { ObjectCache } from "../controllers/runtime/cache.ts";
import { EventRecorder } from "../controllers/runtime/events.ts";
import type { RuntimeMetrics } from "../controllers/runtime/metrics.ts";
import { MazeVaultOperator } from "../controllers/runtime/operator.ts";
import { keyOf } from "../controllers/runtime/resource-type.ts";
import type { Runner } from "../controllers/runtime/runner.ts";
import type { KubernetesApi } from "../controllers/runtime/transport.ts";
import { SecretController } from "../controllers/secret/index.ts";
import { SyncRuleController } from "../controllers/syncrule/index.ts";
import { admittedEnvironments } from "../core/access/admission.ts";
import { Fenced } from "../core/errors.ts";
import type { IdempotentRequests } from "../core/idempotency/requests.ts";
import type { Identities } from "../core/identity/identities.ts";
import { Authorities } from "../core/pki/authority.ts";
import { CrlPublication } from "../core/pki/crl-publication.ts";
import { ExpiredCertificates } from "../core/pki/expired-certificates.ts";
import { ResponderCertificates } from "../core/pki/responder-certificates.ts";
import { publicationUrls } from "../core/pki/urls.ts";
import type { AuditSinks } from "../core/ports/audit-sink.ts";
import type { TargetVaults } from "../core/ports/target-vaults.ts";
import type { OutboxRow, Writer } from "../core/ports/vault-store.ts";
import { KeyRotation, type RotationProgress } from "../core/vault/rotation.ts";
import { Vault } from "../core/vault/vault.ts";
import type { AuditSink } from "../crds/auditsink.ts";
import type { CertificateRequest } from "../crds/certificaterequest.ts";
import type { Resource } from "../crds/common.ts";
import type { AnyIssuer } from "../crds/issuer.ts";
import type { Project } from "../crds/project.ts";
import type { SyncRule } from "../crds/syncrule.ts";
import type { Logger } from "../program/logging.ts";
import { BY_CORE_SECRET, BY_ISSUER, BY_KEY_VAULT, BY_NAMESPACE, BY_PROJECT, Caches, vaultsOf } from "./caches.ts";
import { type Config, rotationAges } from "./config.ts";
import { Housekeeping } from "./housekeeping.ts";
import { IdentityChores } from "./identity-chores.ts";
import { KeyChores } from "./key-chores.ts";
import { PkiChores } from "./pki-chores.ts";

export interface PrimaryParts {
  readonly config: Config;
  readonly log: Logger;
  readonly metrics: RuntimeMetrics;
  readonly stores: Stores;
  readonly vaults: TargetVaults;
  readonly sinks: AuditSinks;
  /** Where REST is served. */
  readonly identities?: Identities;
  readonly idempotency?: IdempotentRequests;
}

export class Primary extends MazeVaultOperator {
  readonly #parts: PrimaryParts;
  readonly #vault: Vault;
  readonly #events: EventRecorder;
  #caches: Caches | undefined;
  #housekeeping: Housekeeping | undefined;
  #auditSinks: AuditSinkController | undefined;
  #pkiChores: PkiChores | undefined;
  #identityChores: IdentityChores | undefined;
  #keyChores: KeyChores | undefined;
  #rotation: KeyRotation | undefined;
  #crls: CrlPublication | undefined;
  #pkiHints: HintListener | undefined;
  #outbox: OutboxListener | undefined;
  #follow: (rows: readonly OutboxRow[]) => void = () => {};

  constructor(parts: PrimaryParts) {
    const { config, log, metrics, stores } = parts;
    const { kubernetes } = config;
    // In a pod every process has the same name and number as the one before it.
    const identity = `${hostname()}-${randomBytes(4).toString("hex")}-${process.pid}`;
    super({
      ...(kubernetes.kubeconfig !== undefined && { kubeconfig: kubernetes.kubeconfig }),
      log,
      metrics,
      leadership: {
        namespace: kubernetes.namespace,
        name: "mazevault-operator",
        identity,
        acquireEpoch: (holder) => stores.leadership.acquireEpoch(holder),
        leaseDurationMs: kubernetes.leaseDurationMs,
        renewDeadlineMs: (kubernetes.leaseDurationMs * 2) / 3,
        retryPeriodMs: kubernetes.leaseDurationMs / 7.5,
      },
    });
    this.#parts = parts;
    this.#vault = new Vault({ store: stores.vault, keys: stores.keys, audit: stores.audit });
    this.#events = new EventRecorder(this.api, { component: "mazevault.io/operator", instance: identity });
  }

  /** Caches of the cluster that are not complete yet. A namespace that refuses us does not count: others can be served. */
  get incomplete(): readonly string[] {
    return this.#caches?.incomplete ?? ["caches"];
  }

  /** How the audit sinks stand, while this replica leads. */
  get sinkStates(): readonly SinkState[] {
    return this.#auditSinks?.states ?? [];
  }

  /** CAs whose CRLs are not made, because rows that they are made from were tampered with. */
  get tamperedAuthorities(): number {
    return this.#crls?.tampered ?? 0;
  }

  /** What is left to be wrapped by newer keys, as far as this replica leads. */
  get rotationProgress(): RotationProgress {
    return this.#rotation?.progress ?? { left: 0, stuck: 0 };
  }

  /** What is known of the cluster, for whoever serves it; there from `start` on. */
  get view(): Caches {
    if (this.#caches === undefined) throw new TypeError("the operator has not started");
    return this.#caches;
  }

  /** For writes that are not the leader's: objects that people make or change through REST. */
  get kubernetes(): KubernetesApi {
    return this.api;
  }

  protected override async init(): Promise<void> {
    const { config, stores, vaults, identities, idempotency, log } = this.#parts;
    const installation = stores.keys.installationId;
    const writer = (): Writer => this.#writer();
    const caches = new Caches(
      {
        informer: (options) => this.informer(options),
        namespacedInformers: (options) => this.namespacedInformers(options),
      },
      config.kubernetes.watchInactivityMs,
    );
    this.#caches = caches;
    caches.follow();

    const shared = { api: this.fencedApi, cluster: caches, vault: this.#vault, writer };
    const { concurrency, resyncMs: resyncPeriodMs, onboardNamespaces } = config.controllers;
    const running = { concurrency, resyncPeriodMs, events: this.#events };

    const projects = new ProjectController({
      ...shared,
      bindings: caches.bindingCache,
      onboards: onboardNamespaces,
      systemNamespace: config.kubernetes.namespace,
    });
    const projectRunner = this.control(projects, { ...running, cache: caches.projectCache }, (runner) => {
      const every = () => [...caches.projects()].map(keyOf);
      runner.follow(caches.namespaceCache, (namespace, old) => (sameLabels(namespace, old) ? [] : every()));
      runner.follow(caches.bindingCache, (_binding, _old, type) => (type === "deleted" ? every() : []));
    });

    const secrets = new SecretController({
      ...shared,
      installation,
      store: stores.vault,
      events: this.#events,
      absorb: (written) => caches.coreSecretCache.absorb(written),
    });
    const storedSecrets = this.control(secrets, { ...running, cache: caches.secretCache }, (runner) => {
      followProjects(runner, caches, caches.secretCache);
      runner.follow(caches.namespaceCache, (namespace, old) =>
        sameLabels(namespace, old) ? [] : caches.secretCache.byIndex(BY_NAMESPACE, namespace.metadata.name).map(keyOf),
      );
      runner.follow(caches.coreSecretCache, (secret) =>
        caches.secretCache.byIndex(BY_CORE_SECRET, keyOf(secret)).map(keyOf),
      );
    });

    const { baseUrl } = config.pki;
    const published = { ...(baseUrl !== undefined && { urls: publicationUrls(baseUrl) }) };
    const authorities = new Authorities({ store: stores.pki, keys: stores.keys, audit: stores.audit, ...published });
    const crls = new CrlPublication({
      store: stores.pki,
      authorities,
      ...published,
      onProblem: ({ identity: { kind, namespace, name } }) =>
        kind === "Issuer"
          ? issuerRunner.enqueue(`${namespace}/${name}`, { priority: "high" })
          : clusterIssuerRunner.enqueue(name, { priority: "high" }),
    });
    this.#crls = crls;
    const issuing = {
      ...shared,
      authorities,
      store: stores.pki,
      crlProblem: (authorityId: string) => crls.problemOf(authorityId),
      publishedAt: baseUrl,
    };
    const issuers = new IssuerController(issuing);
    const clusterIssuers = new ClusterIssuerController(issuing);
    const issuerRunner = this.control(issuers, { ...running, cache: caches.issuerCache }, (runner) => {
      const below = (issuer: AnyIssuer) => caches.issuerCache.byIndex(BY_ISSUER, keyOf(issuer)).map(keyOf);
      const inNamespace = (name: string) => caches.issuerCache.byIndex(BY_NAMESPACE, name).map(keyOf);
      runner.follow(caches.issuerCache, (issuer, old) => (sameCa(issuer, old) ? [] : below(issuer)));
      runner.follow(caches.clusterIssuerCache, (issuer, old) => (sameCa(issuer, old) ? [] : below(issuer)));
      followAdmissions(runner, caches, inNamespace);
    });
    const clusterIssuerRunner = this.control(
      clusterIssuers,
      { ...running, cache: caches.clusterIssuerCache },
      (runner) => {
        runner.follow(caches.clusterIssuerCache, (issuer, old) =>
          sameCa(issuer, old) ? [] : caches.clusterIssuerCache.byIndex(BY_ISSUER, keyOf(issuer)).map(keyOf),
        );
      },
    );

    const certificates = new CertificateController({
      ...shared,
      installation,
      authorities,
      store: stores.pki,
      events: this.#events,
      absorb: (written) => caches.coreSecretCache.absorb(written),
    });
    const heldCertificates = this.control(certificates, { ...running, cache: caches.certificateCache }, (runner) => {
      const issuedBy = (issuer: AnyIssuer) => caches.certificateCache.byIndex(BY_ISSUER, keyOf(issuer)).map(keyOf);
      const inNamespace = (name: string) => caches.certificateCache.byIndex(BY_NAMESPACE, name).map(keyOf);
      runner.follow(caches.issuerCache, issuedBy);
      runner.follow(caches.clusterIssuerCache, issuedBy);
      followAdmissions(runner, caches, inNamespace);
      runner.follow(caches.coreSecretCache, (secret) =>
        caches.certificateCache.byIndex(BY_CORE_SECRET, keyOf(secret)).map(keyOf),
      );
    });

    const requests = new CertificateRequestController({ ...shared, authorities, store: stores.pki });
    const heldRequests = this.control(requests, { ...running, cache: caches.certificateRequestCache }, (runner) => {
      const cache = caches.certificateRequestCache;
      // What is signed stays so, whatever becomes of the issuer.
      const open = (found: readonly CertificateRequest[]) =>
        found.filter(({ status }) => status?.serialNumber === undefined).map(keyOf);
      const askedOf = (issuer: AnyIssuer) => open(cache.byIndex(BY_ISSUER, keyOf(issuer)));
      const inNamespace = (name: string) => open(cache.byIndex(BY_NAMESPACE, name));
      runner.follow(caches.issuerCache, askedOf);
      runner.follow(caches.clusterIssuerCache, askedOf);
      followAdmissions(runner, caches, inNamespace);
    });

    this.control(
      new KeyVaultController({ ...shared, vaults }),
      { ...running, cache: caches.keyVaultCache },
      (runner) => {
        followProjects(runner, caches, caches.keyVaultCache);
        runner.follow(caches.coreSecretCache, (secret) =>
          caches.keyVaultCache.byIndex(BY_CORE_SECRET, keyOf(secret)).map(keyOf),
        );
        // A rule that uses the vault is the first to notice that it fails, or works again.
        runner.follow(caches.syncRuleCache, (rule, old) =>
          old === undefined || targetReachable(rule) === targetReachable(old) ? [] : vaultsOf(rule),
        );
        // Its credentials stand in the namespace, where access has just been granted.
        runner.follow(caches.bindingCache, (binding, _old, type) =>
          type === "added"
            ? caches.keyVaultCache.byIndex(BY_NAMESPACE, binding.metadata.namespace ?? "").map(keyOf)
            : [],
        );
      },
    );

    const rules = this.control(
      new SyncRuleController({
        ...shared,
        installation,
        vaults,
        store: stores.sync,
        audit: stores.audit,
        assertLeading: () => this.leadership?.assertLeading(),
        log,
        onPulled: (key) => storedSecrets.enqueue(key, { priority: "high" }),
      }),
      { ...running, cache: caches.syncRuleCache },
      (runner) => {
        followProjects(runner, caches, caches.syncRuleCache);
        runner.follow(caches.keyVaultCache, (vault) =>
          caches.syncRuleCache.byIndex(BY_KEY_VAULT, keyOf(vault)).map(keyOf),
        );
        // A person resolved it, or deleted it, which asks once more.
        runner.follow(caches.syncConflictCache, ({ metadata: { namespace }, spec, status }, old, type) =>
          type === "deleted" || spec.resolution !== old?.spec.resolution ? [`${namespace}/${status?.rule}`] : [],
        );
        // What a secret holds comes through the outbox; labels and presence decide whether a rule covers it, its entries
        // what is to be taken over.
        runner.follow(caches.secretCache, (secret, old, type) =>
          type === "updated" && sameLabels(secret, old) && sameGeneration(secret, old)
            ? []
            : caches.syncRuleCache.byIndex(BY_NAMESPACE, secret.metadata.namespace ?? "").map(keyOf),
        );
      },
    );
    this.control(new AccessPolicyController(shared), { ...running, cache: caches.accessPolicyCache }, (runner) => {
      followProjects(runner, caches, caches.accessPolicyCache);
      runner.follow(caches.namespaceCache, (namespace, old) =>
        sameLabels(namespace, old)
          ? []
          : caches.accessPolicyCache.byIndex(BY_NAMESPACE, namespace.metadata.name).map(keyOf),
      );
    });
    this.#follow = (rows) => {
      for (const { namespace, name, unled } of rows) {
        // Somebody else made a version, which is still to be delivered; of its own the controller knows.
        if (unled) storedSecrets.enqueue(`${namespace}/${name}`, { priority: "high" });
      }
      const namespaces = new Set(rows.map(({ namespace }) => namespace));
      for (const namespace of namespaces) {
        for (const rule of caches.syncRulesIn(namespace)) rules.enqueue(keyOf(rule), { priority: "high" });
      }
    };
    const auditSinks = new AuditSinkController({
      ...shared,
      audit: stores.audit,
      cursors: stores.sinkCursors,
      sinks: this.#parts.sinks,
      installation,
      systemNamespace: config.kubernetes.namespace,
    });
    this.#auditSinks = auditSinks;
    const sinkRunner = this.control(auditSinks, { ...running, cache: caches.auditSinkCache });
    this.#housekeeping = new Housekeeping({
      vault: this.#vault,
      store: stores.vault,
      pki: stores.pki,
      audit: stores.audit,
      cursors: stores.sinkCursors,
      checkpointDue: { rows: config.audit.checkpointRows, ms: config.audit.checkpointMs },
      auditRetentionMs: config.audit.retentionMs,
      onRecorded: () => {
        // One that fails is tried again when its pause is over.
        for (const sink of caches.auditSinks()) if (!isFailing(sink)) sinkRunner.enqueue(keyOf(sink));
      },
      cluster: caches,
      log,
      endSecret: (key) => storedSecrets.endFormer(key),
      endCertificate: (key) => heldCertificates.endFormer(key),
      endCertificateRequest: (key) => heldRequests.endFormer(key),
      endAuditSink: (name) => auditSinks.absent(name),
      onFenced: (error) => this.leadership?.surrender(error.message),
    });
    if (identities !== undefined && idempotency !== undefined) {
      this.#identityChores = new IdentityChores({
        identities,
        idempotency,
        api: this.fencedApi,
        namespace: config.kubernetes.namespace,
        log,
        onFenced: (error) => this.leadership?.surrender(error.message),
      });
    }
    this.#rotation = new KeyRotation({
      keys: stores.keys,
      store: stores.keyStore,
      vault: stores.vault,
      ages: rotationAges(config),
      onReplaced: (project) => projectRunner.enqueue(project),
    });
    this.#keyChores = new KeyChores({
      rotation: this.#rotation,
      log,
      onFenced: (error) => this.leadership?.surrender(error.message),
    });
    this.#pkiChores = new PkiChores({
      crls,
      authorities,
      responders: new ResponderCertificates({ store: stores.pki, authorities }),
      expired: new ExpiredCertificates({ store: stores.pki, authorities, keepMs: config.pki.keepExpiredMs }),
      store: stores.pki,
      log,
      retireVanished: (authority) => {
        const { kind, namespace, name } = authority.identity;
        if ((kind === "Issuer" ? issuers : clusterIssuers).stands(authority)) return;
        if (kind === "Issuer") issuerRunner.endFormer(`${namespace}/${name}`);
        else clusterIssuerRunner.endFormer(name);
      },
      onFenced: (error) => this.leadership?.surrender(error.message),
    });
  }

  protected override async startedLeading(): Promise<void> {
    await this.#caches?.whenSynced();
  }

  protected override controllersBegan(): void {
    const { stores, log } = this.#parts;
    const writer = this.#writer();
    this.#outbox = stores.listen({
      ...writer,
      consumer: "syncrules",
      onRows: async (rows) => this.#follow(rows),
      onError: (error) => log.debug({ error }, "outbox interrupted"),
    });
    this.#housekeeping?.start(writer);
    this.#pkiChores?.start(writer);
    this.#identityChores?.start(writer);
    this.#keyChores?.start(writer);
    this.#pkiHints = stores.listenPki({
      onHint: () => this.#pkiChores?.hint(),
      onError: (error) => log.debug({ error }, "PKI hints interrupted"),
    });
  }

  protected override async stoppedLeading(): Promise<void> {
    await this.#pkiHints?.stop();
    await Promise.all([
      this.#outbox?.stop(),
      this.#housekeeping?.stop(),
      this.#pkiChores?.stop(),
      this.#identityChores?.stop(),
      this.#keyChores?.stop(),
    ]);
    await this.#auditSinks?.forgetAll();
    this.#parts.vaults.forgetAll();
  }

  override async stop(): Promise<void> {
    await super.stop();
    await this.#events.close();
    await this.#parts.vaults.close();
    await this.#parts.stores.close();
  }

  #writer(): Writer {
    const epoch = this.leadership?.epoch;
    if (epoch === undefined) throw new Fenced(0n);
    return { epoch };
  }
}

type Follower = Pick<Runner<Resource, unknown, { readonly kind: string }>, "follow">;

/** For what belongs to a project, and is indexed by it. */
function followProjects(
  runner: Follower,
  { projectCache }: Caches,
  cache: Pick<ObjectCache<Resource>, "byIndex">,
): void {
  runner.follow(projectCache, (project, old) =>
    sameGeneration(project, old) ? [] : cache.byIndex(BY_PROJECT, project.metadata.name).map(keyOf),
  );
}

/** For what belongs to no project: it is served in the namespaces that any Project admits. */
function followAdmissions(runner: Follower, caches: Caches, inNamespace: (name: string) => readonly string[]): void {
  runner.follow(caches.projectCache, (project, old) =>
    sameGeneration(project, old)
      ? []
      : [...caches.namespaces()]
          .filter((namespace) => admits(project, namespace) || (old !== undefined && admits(old, namespace)))
          .flatMap(({ metadata }) => inNamespace(metadata.name)),
  );
  runner.follow(caches.namespaceCache, (namespace, old) =>
    sameLabels(namespace, old) ? [] : inNamespace(namespace.metadata.name),
  );
}

const admits = ({ spec }: Project, namespace: Metadata): boolean =>
  admittedEnvironments(spec, namespaceFacts(namespace)).size > 0;

const isFailing = ({ status }: AuditSink): boolean =>
  status?.conditions?.some(({ type, status: holds }) => type === "Delivering" && holds !== "True") === true;

const targetReachable = ({ status }: SyncRule): string | undefined =>
  status?.conditions?.find(({ type }) => type === "TargetReachable")?.reason;

/** Nothing that one below it would ask about has changed: what it allows, and the certificate that it has. */
const sameCa = (issuer: AnyIssuer, old: AnyIssuer | undefined): boolean =>
  sameGeneration(issuer, old) && old?.status?.serialNumber === issuer.status?.serialNumber;

interface WithMetadata {
  readonly metadata: {
    readonly generation?: number;
    readonly labels?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
  };
}

const sameGeneration = (object: WithMetadata, old: WithMetadata | undefined): boolean =>
  old !== undefined && old.metadata.generation === object.metadata.generation;

const sameLabels = (object: WithMetadata, old: WithMetadata | undefined): boolean =>
  old !== undefined &&
  old.metadata.deletionTimestamp === object.metadata.deletionTimestamp &&
  JSON.stringify(old.metadata.labels ?? {}) === JSON.stringify(object.metadata.labels ?? {});
