/**
 * What controllers know of the cluster without asking it: the caches, read-only. `index.ts` of each controller says
 * which changes of them wake it.
 */
import {
  admittedEnvironments,
  assertAdmitted,
  assertAdmittedAnywhere,
  type NamespaceFacts,
} from "../core/access/admission.ts";
import { Stalled, Waiting } from "../core/errors.ts";
import type { BoundKind } from "../core/ports/home-store.ts";
import { type HeldUids, placeText } from "../core/recovery/home.ts";
import type { Certificate } from "../crds/certificate.ts";
import type { ObjectMeta } from "../crds/common.ts";
import type { Gateway } from "../crds/gateway.ts";
import { NAMESPACE_BINDING } from "../crds/installation.ts";
import type { ClusterIssuer, Issuer } from "../crds/issuer.ts";
import type { KeyVault } from "../crds/keyvault.ts";
import type { Project } from "../crds/project.ts";
import type { Secret } from "../crds/secret.ts";
import type { SyncConflict } from "../crds/syncconflict.ts";
import type { SyncRule } from "../crds/syncrule.ts";

/** Metadata of an object whose content is not cached. */
export interface Metadata {
  readonly metadata: ObjectMeta;
}

/** A namespace, with the UID under which rows stand that belong to it. */
export interface Namespace extends Metadata {
  /** Nobody has said yet whether it takes the place of one of before; until then it has its own. */
  readonly isAwaited?: boolean;
}

export interface Cluster {
  /** Under which UIDs the rows of objects stand; namespaces have theirs already here. It is asked with UIDs of the API server. */
  readonly held: Pick<HeldUids, "of" | "isAwaited">;
  project(name: string): Project | undefined;
  projects(): Iterable<Project>;
  namespace(name: string): Namespace | undefined;
  namespaces(): Iterable<Namespace>;
  secret(namespace: string, name: string): Secret | undefined;
  secretsIn(namespace: string): readonly Secret[];
  certificate(namespace: string, name: string): Certificate | undefined;
  issuer(namespace: string, name: string): Issuer | undefined;
  clusterIssuer(name: string): ClusterIssuer | undefined;
  keyVault(namespace: string, name: string): KeyVault | undefined;
  syncRulesIn(namespace: string): readonly SyncRule[];
  /** Those with core Secrets of this namespace as their target. */
  syncRulesInto(namespace: string): readonly SyncRule[];
  /** Those with core Secrets of a namespace of this name in the cluster of a gateway, whichever, as their target. */
  syncRulesBeyond(namespace: string): readonly SyncRule[];
  gateway(name: string): Gateway | undefined;
  /** Names of gateways that may act for it, as it may for them: the other one of its GatewayEnvironment. */
  gatewaysPairedWith(gateway: string): readonly string[];
  /** What delivers this core Secret beside itself, such as `Secret orders-db`; undefined when nothing does. */
  deliversTo(namespace: string, coreSecret: string): string | undefined;
  syncConflictsIn(namespace: string): readonly SyncConflict[];
  /**
   * Metadata of a core Secret, `undefined` when there is none. Throws `Waiting("NamespaceNotOnboarded")` while the
   * operator cannot see the core Secrets of this namespace.
   */
  coreSecret(namespace: string, name: string): Metadata | undefined;
}

const ONBOARDING_MS = 1_000;

/** The operator has no rights in this namespace; the Project's controller grants them. */
export const notOnboarded = (namespace: string, cause?: unknown): Waiting =>
  new Waiting(
    "NamespaceNotOnboarded",
    `the operator has no access to namespace ${namespace} yet: RoleBinding ${NAMESPACE_BINDING} is missing or new`,
    ONBOARDING_MS,
    { cause },
  );

/** Anything in a namespace that belongs to a project. */
interface Tenant {
  readonly metadata: ObjectMeta;
  readonly spec: { readonly projectRef: { readonly name: string }; readonly environment?: string };
}

export interface Tenancy {
  readonly project: Project;
  readonly namespace: NamespaceFacts;
}

const NAMESPACE_RECHECK_MS = 1_000;
/** A watch wakes the object when the project appears; this is only the safety net. */
const PROJECT_RECHECK_MS = 60_000;

export const namespaceFacts = ({ metadata }: Metadata): NamespaceFacts => ({
  name: metadata.name,
  uid: metadata.uid,
  labels: metadata.labels ?? {},
});

/** What has to be known of a cluster to say whom something in a namespace belongs to. */
export type TenancyCluster = Pick<Cluster, "project" | "namespace">;

/**
 * The project that an object belongs to, after the check that its namespace may use it. Throws `Waiting` while the project
 * does not exist, `Stalled` when it does not admit the namespace.
 */
export function tenancyOf(cluster: TenancyCluster, { metadata, spec }: Tenant): Tenancy {
  const facts = livingNamespace(cluster, metadata);
  const project = cluster.project(spec.projectRef.name);
  if (project === undefined) {
    throw new Waiting(
      "ProjectNotFound",
      `spec.projectRef: there is no Project ${spec.projectRef.name} yet; apply it`,
      PROJECT_RECHECK_MS,
    );
  }
  const named = { name: project.metadata.name, spec: project.spec };
  if (spec.environment === undefined) assertAdmittedAnywhere(named, facts);
  else assertAdmitted(named, facts, spec.environment);
  return { project, namespace: facts };
}

/**
 * The namespace of an object that belongs to no project, after the check that the operator has access there. Throws
 * `Stalled` when no project admits the namespace.
 */
export function servedNamespace(cluster: Cluster, { metadata }: Metadata): NamespaceFacts {
  const facts = livingNamespace(cluster, metadata);
  for (const project of cluster.projects()) if (admittedEnvironments(project.spec, facts).size > 0) return facts;
  throw new Stalled(
    "NamespaceNotServed",
    `no Project admits namespace ${facts.name}, so the operator has no access to it; add it to spec.namespaces of one`,
  );
}

const ADOPTION_RECHECK_MS = 10_000;

/**
 * The UID under which an object's rows stand. Throws `Waiting` while a restored database has rows of one of its name, and nobody
 * has said that it takes their place.
 */
export function heldUidOf(cluster: Pick<Cluster, "held">, kind: BoundKind, metadata: ObjectMeta): string {
  if (cluster.held.isAwaited(kind, metadata)) throw notAdopted(kind, metadata);
  return cluster.held.of(kind, metadata);
}

/** @throws Waiting where a namespace is yet to take the place of one of before */
export function assertAdopted({ metadata, isAwaited }: Namespace): void {
  if (isAwaited) throw notAdopted("Namespace", metadata);
}

function notAdopted(kind: BoundKind, { namespace = "", name }: ObjectMeta): Waiting {
  return new Waiting(
    "NotAdopted",
    `the restored database knows ${placeText({ kind, namespace, name })} by another UID; run mazevault-backup adopt once more, which has this one take its place`,
    ADOPTION_RECHECK_MS,
  );
}

/**
 * The namespace of an object. Throws `Waiting` while it is not known, when it is being deleted, and where it is yet to take the place
 * of one of before.
 */
export function livingNamespace(cluster: Pick<Cluster, "namespace">, metadata: ObjectMeta): NamespaceFacts {
  const namespace = cluster.namespace(metadata.namespace ?? "");
  if (namespace === undefined) {
    throw new Waiting("Progressing", `namespace ${metadata.namespace} is not known yet`, NAMESPACE_RECHECK_MS);
  }
  // What is found in it now goes with it, or stands in the next namespace of that name, which must not inherit.
  if (namespace.metadata.deletionTimestamp !== undefined) {
    throw new Waiting("Progressing", `namespace ${metadata.namespace} is being deleted`, NAMESPACE_RECHECK_MS);
  }
  assertAdopted(namespace);
  return namespaceFacts(namespace);
}
