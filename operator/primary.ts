/** The operator: caches, controllers, and what the leader does besides. Mode `gateway` adds the way to its primary. */
import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type { HintListener } from "../adapters/postgres/hint-listener.ts";
import type { OutboxListener } from "../adapters/postgres/outbox-listener.ts";
import type { Stores } from "../adapters/postgres/stores.ts";
import { AccessPolicyController } from "../controllers/accesspolicy/index.ts";
import { AuditSinkController, type SinkState } from "../controllers/auditsink/index.ts";
import { CertificateController } from "../controllers/certificate/index.ts";
import { CertificateRequestController } from "../controllers/certificaterequest/index.ts";
import { FailoverController } from "../controllers/failover/index.ts";
import { GatewayController, type GatewayControllerDependencies } from "../controllers/gateway/index.ts";
import { GatewayEnvironmentController } from "../controllers/gatewayenvironment/index.ts";
import { ClusterIssuerController, IssuerController } from "../controllers/issuer/index.ts";
import { KeyVaultController } from "../controllers/keyvault/index.ts";
import { VaultSizes } from "../controllers/keyvault/sizes.ts";
import { isStorageOf, ProjectStorage } from "../controllers/keyvault/storage.ts";
import { ProjectController } from "../controllers/project/index.ts";
import { EventRecorder } from "../controllers/runtime/events.ts";
import type { RuntimeMetrics } from "../controllers/runtime/metrics.ts";
import { type ControlOptions, MazeVaultOperator } from "../controllers/runtime/operator.ts";
import { keyOf } from "../controllers/runtime/resource-type.ts";
import type { KubernetesApi } from "../controllers/runtime/transport.ts";
import type { ApplyTargets } from "../controllers/secret/apply/perform.ts";
import { SecretController } from "../controllers/secret/index.ts";
import { SigningOrders } from "../controllers/signing/orders.ts";
import { ClusterIssuerPolicy } from "../controllers/signing/policy.ts";
import { RulesByTarget } from "../controllers/syncrule/by-target.ts";
import { rulesConcernedBy, rulesOver } from "../controllers/syncrule/coverage.ts";
import { deliveryTasks } from "../controllers/syncrule/gateway/handlers.ts";
import { GatewayRuleController } from "../controllers/syncrule/gateway/index.ts";
import { SyncRuleController } from "../controllers/syncrule/index.ts";
import { CoreSecretRuleController } from "../controllers/syncrule/kubernetes/index.ts";
import { Fenced } from "../core/errors.ts";
import type { Environments } from "../core/fleet/environments.ts";
import { FleetCa } from "../core/fleet/fleet-ca.ts";
import { FleetCertificates } from "../core/fleet/fleet-certificates.ts";
import type { GatewayReach } from "../core/fleet/gateway-reach.ts";
import type { Registrations } from "../core/fleet/registrations.ts";
import type { TaskHandler } from "../core/fleet/tasks.ts";
import type { IdempotentRequests } from "../core/idempotency/requests.ts";
import type { Identities } from "../core/identity/identities.ts";
import { Authorities } from "../core/pki/authority.ts";
import { CrlPublication } from "../core/pki/crl-publication.ts";
import { ExpiredCertificates } from "../core/pki/expired-certificates.ts";
import { ResponderCertificates } from "../core/pki/responder-certificates.ts";
import { publicationUrls } from "../core/pki/urls.ts";
import type { AuditSinks } from "../core/ports/audit-sink.ts";
import type { PrimaryCa } from "../core/ports/primary-ca.ts";
import type { TargetVaults } from "../core/ports/target-vaults.ts";
import type { Tracer } from "../core/ports/tracer.ts";
import type { OutboxRow, Writer } from "../core/ports/vault-store.ts";
import { KeptSettlement } from "../core/vault/kept-settlement.ts";
import { KeyRotation, type RotationProgress } from "../core/vault/rotation.ts";
import { Vault } from "../core/vault/vault.ts";
import type { CertificateRequest } from "../crds/certificaterequest.ts";
import type { Gateway } from "../crds/gateway.ts";
import {
  NAMESPACE_BINDING,
  NAMESPACE_ROLE,
  REST_NAMESPACE_BINDING,
  REST_NAMESPACE_ROLE,
} from "../crds/installation.ts";
import type { AnyIssuer } from "../crds/issuer.ts";
import type { Logger } from "../program/logging.ts";
import {
  BY_CORE_SECRET,
  BY_GATEWAY,
  BY_ISSUER,
  BY_KEY_VAULT,
  BY_NAMESPACE,
  BY_PROJECT,
  BY_VAULT_NAME,
  BY_VAULT_URL,
  Caches,
  vaultsOf,
} from "./caches.ts";
import type { ChoresDependencies, LeaderChores } from "./chores.ts";
import { type Config, rotationAges } from "./config.ts";
import { EnvironmentChores, type EnvironmentFigures } from "./environment-chores.ts";
import { FleetChores } from "./fleet-chores.ts";
import {
  followAdmissions,
  followGateways,
  followProjects,
  followReturns,
  followTargets,
  isFailing,
  isReady,
  sameCa,
  sameGeneration,
  sameLabels,
  targetReachable,
} from "./following.ts";
import type { GuardedLink } from "./gateway/guarded-link.ts";
import { GatewayChores, type GatewayFigures } from "./gateway-chores.ts";
import type { Home } from "./home.ts";
import { Housekeeping } from "./housekeeping.ts";
import { IdentityChores } from "./identity-chores.ts";
import { KeptChores } from "./kept-chores.ts";
import { KeyChores } from "./key-chores.ts";
import { PkiChores } from "./pki-chores.ts";
import type { CountedResources } from "./resource-metrics.ts";
import { endWithin } from "./shutdown.ts";
import { SigningChores } from "./signing-chores.ts";

export interface PrimaryParts {
  readonly config: Config;
  readonly log: Logger;
  readonly metrics: RuntimeMetrics;
  readonly tracer?: Tracer;
  readonly stores: Stores;
  readonly home: Pick<Home, "held" | "recovering" | "choose">;
  readonly vaults: TargetVaults;
  readonly sinks: AuditSinks;
  /** What new values are applied to. */
  readonly targets: ApplyTargets;
  /** In mode primary. */
  readonly registrations?: Registrations;
  readonly environments?: Environments;
  readonly gatewayTasks?: GatewayReach;
  /** Where REST is served. */
  readonly identities?: Identities;
  readonly idempotency?: IdempotentRequests;
  /** Of mode gateway. */
  readonly primaryCa?: PrimaryCa;
  readonly primaryLink?: Pick<GuardedLink, "onBack">;
  readonly chores?: (given: GivenChores) => readonly LeaderChores[];
}

export interface GivenChores extends Pick<ChoresDependencies, "onFenced"> {
  /** What is done for the primary in this cluster. */
  readonly handlers: readonly TaskHandler[];
}

/** Why a gateway has not got what its primary was asked for. */
const PRIMARY_AWAY = ["PrimaryUnreachable", "CircuitOpen"] as const;

/** The lease is given up after it; a connection that only listens is not to hold that up. */
const HINTS_END_WITHIN_MS = 1_000;

export class Primary extends MazeVaultOperator {
  readonly #parts: PrimaryParts;
  readonly #vault: Vault;
  readonly #storage: ProjectStorage;
  readonly #events: EventRecorder;
  #caches: Caches | undefined;
  #housekeeping: Housekeeping | undefined;
  #auditSinks: AuditSinkController | undefined;
  #pkiChores: PkiChores | undefined;
  #fleetChores: FleetChores | undefined;
  #identityChores: IdentityChores | undefined;
  #keyChores: KeyChores | undefined;
  #keptChores: KeptChores | undefined;
  #gatewayChores: GatewayChores | undefined;
  #environmentChores: EnvironmentChores | undefined;
  #signingChores: SigningChores | undefined;
  readonly #chores: readonly LeaderChores[];
  #rotation: KeyRotation | undefined;
  #crls: CrlPublication | undefined;
  #pkiHints: HintListener | undefined;
  #fleetHints: HintListener | undefined;
  #vaultHints: HintListener | undefined;
  #vaultChanged: (vault: string) => void = () => {};
  #gatewayMoved: () => void = () => {};
  #endGateway: (name: string) => void = () => {};
  #outbox: OutboxListener | undefined;
  #follow: (rows: readonly OutboxRow[]) => void = () => {};

  constructor(parts: PrimaryParts) {
    const { config, log, metrics, tracer, stores } = parts;
    const { kubernetes } = config;
    // In a pod every process has the same name and number as the one before it.
    const identity = `${hostname()}-${randomBytes(4).toString("hex")}-${process.pid}`;
    super({
      ...(kubernetes.kubeconfig !== undefined && { kubeconfig: kubernetes.kubeconfig }),
      log,
      metrics,
      ...(tracer !== undefined && { tracer }),
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
    this.#events = new EventRecorder(this.api, { component: "mazevault.io/operator", instance: identity });
    this.#chores =
      parts.chores?.({
        onFenced: (error) => this.leadership?.surrender(error.message),
        handlers: this.#deliveryTasks(),
      }) ?? [];
    this.#storage = new ProjectStorage({
      api: this.api,
      cluster: {
        project: (name) => this.view.project(name),
        namespace: (name) => this.view.namespace(name),
        keyVault: (namespace, name) => this.view.keyVault(namespace, name),
      },
      vaults: parts.vaults,
      entries: stores.kept,
      audit: stores.audit,
      installation: stores.keys.installationId,
      assertLeading: () => this.leadership?.assertLeading(),
    });
    const { vault: store, keys, audit } = stores;
    this.#vault = new Vault({ store, keys, audit, storage: this.#storage.of });
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

  /** How the gateways are, while this replica leads. */
  get gatewayFigures(): readonly GatewayFigures[] {
    return this.#gatewayChores?.figures ?? [];
  }

  /** Undefined before `start`. */
  get gatewayEnvironments(): Pick<Caches["gatewayEnvironmentCache"], "synced" | "values"> | undefined {
    return this.#caches?.gatewayEnvironmentCache;
  }

  /** Undefined until all of them are known: a part would look like a loss. */
  get countedResources(): CountedResources | undefined {
    return this.#caches?.incomplete.length === 0 ? this.#caches : undefined;
  }

  /** Which environments have failed over, while this replica leads. */
  get environmentFigures(): readonly EnvironmentFigures[] {
    return this.#environmentChores?.figures ?? [];
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
    const { config, stores, vaults, identities, idempotency, registrations, environments, primaryCa, log } =
      this.#parts;
    const installation = stores.keys.installationId;
    const writer = (): Writer => this.#writer();
    const { serviceAccount, restServiceAccount } = config.kubernetes;
    const { concurrency, resyncMs: resyncPeriodMs, onboardNamespaces } = config.controllers;
    const caches = new Caches(
      {
        informer: (options) => this.informer(options),
        namespacedInformers: (options) => this.namespacedInformers(options),
      },
      config.kubernetes.watchInactivityMs,
      { bindsRest: onboardNamespaces && restServiceAccount !== undefined, held: this.#parts.home.held },
    );
    this.#caches = caches;
    caches.follow();

    const isRecovering = () => this.#parts.home.recovering;
    const shared = { api: this.fencedApi, cluster: caches, vault: this.#vault, writer, isRecovering };
    const running = { concurrency, resyncPeriodMs, events: this.#events, keepsFormer: isRecovering };

    const access = [
      { name: NAMESPACE_BINDING, clusterRole: NAMESPACE_ROLE, serviceAccount, standing: caches.bindingCache },
      ...(caches.restBindingCache === undefined || restServiceAccount === undefined
        ? []
        : [
            {
              name: REST_NAMESPACE_BINDING,
              clusterRole: REST_NAMESPACE_ROLE,
              serviceAccount: restServiceAccount,
              standing: caches.restBindingCache,
            },
          ]),
    ];
    const projects = new ProjectController({
      ...shared,
      access,
      onboards: onboardNamespaces,
      systemNamespace: config.kubernetes.namespace,
    });
    const projectRunner = this.control(projects, { ...running, cache: caches.projectCache }, (runner) => {
      const every = () => [...caches.projects()].map(keyOf);
      runner.follow(caches.namespaceCache, (namespace, old) => (sameLabels(namespace, old) ? [] : every()));
      for (const { standing } of access)
        runner.follow(standing, (_binding, _old, type) => (type === "deleted" ? every() : []));
      // Two projects may not give the same names.
      runner.follow(caches.projectCache, (project, old) =>
        sameGeneration(project, old) || (project.spec.naming ?? old?.spec.naming) === undefined ? [] : every(),
      );
    });

    const secrets = new SecretController({
      ...shared,
      installation,
      store: stores.vault,
      targets: this.#parts.targets,
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
      // What waits for the vault that has its values goes on as soon as that is there, or answers again.
      runner.follow(caches.keyVaultCache, (keyVault, old) => {
        const project = caches.project(keyVault.spec.projectRef.name);
        const same = sameGeneration(keyVault, old) && isReady(keyVault) === (old !== undefined && isReady(old));
        if (same || project === undefined || !isStorageOf(project, keyVault)) return [];
        return caches.secretCache
          .byIndex(BY_PROJECT, project.metadata.name)
          .filter((each) => !isReady(each))
          .map(keyOf);
      });
    });

    const { baseUrl } = config.pki;
    const published = { ...(baseUrl !== undefined && { urls: publicationUrls(baseUrl) }) };
    const ofPrimary = primaryCa !== undefined && { primary: primaryCa };
    const { pki, keys, audit } = stores;
    const authorities = new Authorities({ store: pki, keys, audit, ...published, ...ofPrimary });
    const crls = new CrlPublication({
      store: stores.pki,
      authorities,
      ...published,
      onProblem: ({ identity: { kind, namespace, name } }) => {
        if (kind === "Issuer") issuerRunner.enqueue(`${namespace}/${name}`, { priority: "high" });
        if (kind === "ClusterIssuer") clusterIssuerRunner.enqueue(name, { priority: "high" });
      },
    });
    this.#crls = crls;
    const issuing = {
      ...shared,
      authorities,
      store: stores.pki,
      crlProblem: (authorityId: string) => crls.problemOf(authorityId),
      publishedAt: baseUrl,
      ...(primaryCa !== undefined && { primaryCa }),
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

    this.#parts.primaryLink?.onBack(() => {
      for (const runner of [clusterIssuerRunner, heldCertificates, heldRequests]) runner.hasten(PRIMARY_AWAY);
      for (const issuer of caches.clusterIssuerCache.values())
        if (issuer.spec.primary !== undefined && !isReady(issuer)) clusterIssuerRunner.enqueue(keyOf(issuer));
    });

    const sizes = new VaultSizes((url) => recount(caches.keyVaultCache.byIndex(BY_VAULT_URL, url).map(keyOf)));
    const keyVaults = new KeyVaultController({ ...shared, vaults, sizes });
    const recount = (keys: readonly string[]): void => {
      for (const key of keys) {
        keyVaults.recount(key);
        keyVaultRunner.enqueue(key);
      }
    };
    const keyVaultRunner = this.control(keyVaults, { ...running, cache: caches.keyVaultCache }, (runner) => {
      followProjects(runner, caches, caches.keyVaultCache);
      runner.follow(caches.coreSecretCache, (secret) =>
        caches.keyVaultCache.byIndex(BY_CORE_SECRET, keyOf(secret)).map(keyOf),
      );
      // A rule that uses the vault is the first to notice that it fails, or works again.
      runner.follow(caches.syncRuleCache, (rule, old, type) => {
        if (type !== "updated" || !sameGeneration(rule, old))
          recount([...vaultsOf(rule), ...(old ? vaultsOf(old) : [])]);
        return old === undefined || targetReachable(rule) === targetReachable(old) ? [] : vaultsOf(rule);
      });
      if (this.#parts.gatewayTasks !== undefined) {
        followReturns(runner, caches, (gateway) =>
          caches.keyVaultCache.byIndex(BY_GATEWAY, gateway).flatMap((vault) => (isReady(vault) ? [] : [keyOf(vault)])),
        );
      }
      // Its credentials stand in the namespace, where access has just been granted.
      runner.follow(caches.bindingCache, (binding, _old, type) =>
        type === "added" ? caches.keyVaultCache.byIndex(BY_NAMESPACE, binding.metadata.namespace ?? "").map(keyOf) : [],
      );
    });

    const ruling = {
      ...shared,
      installation,
      store: stores.sync,
      log,
      onPulled: (key: string) => storedSecrets.enqueue(key, { priority: "high" }),
    };
    const syncRules = new SyncRuleController({
      ...ruling,
      vaults,
      sizes,
      audit: stores.audit,
      assertLeading: () => this.leadership?.assertLeading(),
      events: this.#events,
    });
    const { gatewayTasks: tasks } = this.#parts;
    const rulesBeyond =
      tasks && new GatewayRuleController({ ...ruling, tasks, copies: stores.gatewayCopies, fleet: stores.fleet });
    const rules = this.control(
      new RulesByTarget(
        syncRules,
        new CoreSecretRuleController({
          ...ruling,
          copies: stores.copies,
          audit: stores.audit,
          events: this.#events,
          absorb: (written) => caches.coreSecretCache.absorb(written),
        }),
        rulesBeyond,
      ),
      { ...running, cache: caches.syncRuleCache },
      (runner) => {
        followProjects(runner, caches, caches.syncRuleCache);
        runner.follow(caches.keyVaultCache, (vault) =>
          caches.syncRuleCache.byIndex(BY_KEY_VAULT, keyOf(vault)).map(keyOf),
        );
        followTargets(runner, caches);
        if (tasks !== undefined && rulesBeyond !== undefined) {
          followGateways(runner, caches, (gateway, concerned) => {
            tasks.heard(gateway);
            rulesBeyond.gatewayChanged(concerned);
          });
        }
        // A person resolved it, or deleted it, which asks once more.
        runner.follow(caches.syncConflictCache, ({ metadata: { namespace }, spec, status }, old, type) =>
          type === "deleted" || spec.resolution !== old?.spec.resolution ? [`${namespace}/${status?.rule}`] : [],
        );
        // What a secret holds comes through the outbox; its labels, presence and keys decide who writes which names.
        runner.follow(caches.secretCache, (secret, old, type) =>
          rulesConcernedBy(caches, secret, type === "updated" ? old : undefined).map(keyOf),
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
      const secretsChanged = new Map(rows.map((row) => [`${row.namespace}/${row.name}`, row]));
      const concerned = [...secretsChanged.values()].flatMap((row) => rulesOver(caches, row.namespace, row.name));
      for (const rule of new Set(concerned.map(keyOf))) {
        syncRules.hurry(rule);
        rules.enqueue(rule, { priority: "high" });
      }
    };
    this.#vaultChanged = (vault) => {
      const keyVaultKeys = caches.keyVaultCache.byIndex(BY_VAULT_NAME, vault).map(keyOf);
      for (const rule of keyVaultKeys.flatMap((key) => caches.syncRuleCache.byIndex(BY_KEY_VAULT, key)).map(keyOf)) {
        syncRules.vaultChanged(rule);
        rules.enqueue(rule);
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
      copies: stores.gatewayCopies,
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
      endSyncRule: (key) => rules.endFormer(key),
      endGateway: (name) => this.#endGateway(name),
      endAuditSink: (name) => auditSinks.absent(name),
      isRecovering,
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
    this.#keptChores = new KeptChores({
      settlement: new KeptSettlement({
        entries: stores.kept,
        vault: this.#vault,
        audit: stores.audit,
        installation,
        assertLeading: () => this.leadership?.assertLeading(),
        open: this.#storage.vaultOf,
      }),
      isRecovering,
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
    if (registrations !== undefined) this.#controlFleet(registrations, shared, running, authorities);
    if (environments !== undefined) this.#controlEnvironments(environments, shared, running);
  }

  /** Gateways are the primary's alone. */
  #controlFleet(
    registrations: Registrations,
    shared: Pick<GatewayControllerDependencies, "api" | "writer">,
    running: Pick<ControlOptions<Gateway>, "concurrency" | "resyncPeriodMs" | "events" | "keepsFormer">,
    authorities: Authorities,
  ): void {
    const { config, stores, log } = this.#parts;
    const caches = this.view;
    const onFenced = (error: Fenced) => this.leadership?.surrender(error.message);
    const gateways = new GatewayController({
      ...shared,
      store: stores.fleet,
      copies: stores.gatewayCopies,
      registrations,
      systemNamespace: config.kubernetes.namespace,
      isRecovering: () => this.#parts.home.recovering,
    });
    const gatewayRunner = this.control(gateways, { ...running, cache: caches.gatewayCache }, (runner) => {
      runner.follow(caches.gatewayCache, (gateway, old, type) => {
        // Also when there is another one of its name already: what the former had must not pass to that.
        if (type === "deleted" || (old !== undefined && old.metadata.uid !== gateway.metadata.uid))
          runner.endFormer(keyOf(gateway));
        return [];
      });
    });
    this.#endGateway = (name) => gatewayRunner.endFormer(name);
    // One that waits may have registered, or come with its certificate.
    this.#gatewayMoved = () => {
      for (const gateway of caches.gateways()) if (!isReady(gateway)) gatewayRunner.enqueue(keyOf(gateway));
    };
    this.#gatewayChores = new GatewayChores({
      store: stores.fleet,
      cluster: caches,
      api: this.api,
      log,
      endGateway: this.#endGateway,
      onFenced,
    });
    this.#signingChores = new SigningChores({
      orders: new SigningOrders({
        store: stores.signing,
        fleet: stores.fleet,
        pki: stores.pki,
        authorities,
        policy: new ClusterIssuerPolicy({ cluster: caches, store: stores.pki }),
        keys: stores.keys,
      }),
      log,
      onFenced,
    });
    this.#fleetChores = new FleetChores({
      certificates: new FleetCertificates({
        store: stores.fleet,
        pki: stores.pki,
        authorities,
        ca: new FleetCa(authorities),
        keys: stores.keys,
      }),
      handledWrites: stores.handledWrites,
      log,
      onFenced,
    });
  }

  /** Who of the gateways acts. */
  #controlEnvironments(
    environments: Environments,
    shared: Pick<GatewayControllerDependencies, "writer"> & { readonly api: KubernetesApi },
    running: Pick<ControlOptions<Gateway>, "concurrency" | "resyncPeriodMs" | "events" | "keepsFormer">,
  ): void {
    const { stores, log } = this.#parts;
    const caches = this.view;
    const parts = { ...shared, cluster: caches, environments, store: stores.fleet, audit: stores.audit };
    const controller = new GatewayEnvironmentController(parts);
    const runner = this.control(controller, { ...running, cache: caches.gatewayEnvironmentCache }, (each) => {
      // Of two for one environment the older one counts, for as long as it is there.
      each.follow(caches.gatewayEnvironmentCache, ({ metadata, spec }, old, type) => {
        if (type === "deleted" || (old !== undefined && old.metadata.uid !== metadata.uid))
          each.endFormer(metadata.name);
        return type === "updated"
          ? []
          : [...caches.gatewayEnvironments()].filter((other) => other.spec.environment === spec.environment).map(keyOf);
      });
      each.follow(caches.gatewayCache, ({ metadata: { name } }) =>
        [...caches.gatewayEnvironments()]
          .filter(({ spec }) => spec.primaryRef.name === name || spec.standbyRef.name === name)
          .map(keyOf),
      );
    });
    const failovers = new FailoverController({
      ...parts,
      onSwitched: (name) => runner.enqueue(name, { priority: "high" }),
    });
    this.control(failovers, { ...running, cache: caches.failoverCache }, (each) => {
      const open = (name: string) => caches.failoversOf(name).filter(({ status }) => status?.outcome === undefined);
      each.follow(caches.gatewayEnvironmentCache, ({ metadata }) => open(metadata.name).map(keyOf));
      // A newer one takes the place of those that wait.
      each.follow(caches.failoverCache, ({ metadata, spec }, _old, type) =>
        type === "updated"
          ? []
          : open(spec.environmentRef.name)
              .map(keyOf)
              .filter((key) => key !== metadata.name),
      );
    });
    this.#environmentChores = new EnvironmentChores({
      environments,
      cluster: caches,
      api: this.api,
      log,
      endEnvironment: (name) => runner.endFormer(name),
      onFenced: (error) => this.leadership?.surrender(error.message),
    });
  }

  protected override async startedLeading(epoch: bigint | undefined): Promise<void> {
    if (epoch !== undefined) await this.#parts.home.choose({ epoch }, "operator");
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
    this.#fleetChores?.start(writer);
    this.#signingChores?.start(writer);
    this.#identityChores?.start(writer);
    this.#keyChores?.start(writer);
    this.#vaultHints = stores.listenVaults({
      onHint: (vault) => this.#vaultChanged(vault),
      onError: (error) => log.debug({ error }, "hints of vaults interrupted"),
    });
    this.#keptChores?.start(writer);
    this.#gatewayChores?.start(writer);
    this.#environmentChores?.start(writer);
    for (const each of this.#chores) each.start(writer);
    this.#pkiHints = stores.listenPki({
      onHint: () => this.#pkiChores?.hint(),
      onError: (error) => log.debug({ error }, "PKI hints interrupted"),
    });
    this.#fleetHints = stores.listenFleet({
      onHint: () => {
        this.#fleetChores?.hint();
        this.#signingChores?.hint();
        this.#gatewayMoved();
      },
      onError: (error) => log.debug({ error }, "hints of the fleet interrupted"),
    });
  }

  protected override async stoppedLeading(): Promise<void> {
    const hints = [this.#pkiHints, this.#fleetHints, this.#vaultHints];
    await endWithin(
      HINTS_END_WITHIN_MS,
      hints.map((each) => each?.stop()),
    );
    await Promise.all([
      this.#outbox?.stop(),
      this.#housekeeping?.stop(),
      this.#pkiChores?.stop(),
      this.#fleetChores?.stop(),
      this.#signingChores?.stop(),
      this.#identityChores?.stop(),
      this.#keyChores?.stop(),
      this.#keptChores?.stop(),
      this.#gatewayChores?.stop(),
      this.#environmentChores?.stop(),
      ...this.#chores.map((each) => each.stop()),
    ]);
    await this.#auditSinks?.forgetAll();
    this.#parts.vaults.forgetAll();
  }

  /** Everything is looked at anew, by whoever leads next. */
  surrender(reason: string): void {
    this.leadership?.surrender(reason);
  }

  /** Gives up the lease, and ends all but what is closed by `stop`. */
  resign(): Promise<void> {
    return super.stop();
  }

  override async stop(): Promise<void> {
    await this.resign();
    await this.#events.close();
    await this.#parts.vaults.close();
    await this.#parts.stores.close();
  }

  #deliveryTasks(): readonly TaskHandler[] {
    const { config, stores, log } = this.#parts;
    const view = () => this.view;
    return deliveryTasks({
      api: this.api,
      assertLeading: () => this.leadership?.assertLeading(),
      get cluster() {
        return view();
      },
      audit: stores.audit,
      installation: stores.keys.installationId,
      environment: config.gateway.environment ?? "",
      events: this.#events,
      absorb: (written) => this.view.coreSecretCache.absorb(written),
      log,
    });
  }

  #writer(): Writer {
    const epoch = this.leadership?.epoch;
    if (epoch === undefined) throw new Fenced(0n);
    return { epoch };
  }
}
