/** What else makes a controller look at its objects again: what they refer to, and what lets them. */
import { type Metadata, namespaceFacts } from "../controllers/cluster.ts";
import type { ObjectCache } from "../controllers/runtime/cache.ts";
import { keyOf } from "../controllers/runtime/resource-type.ts";
import type { Runner } from "../controllers/runtime/runner.ts";
import { secretNameFor } from "../controllers/syncrule/kubernetes/place.ts";
import { admittedEnvironments } from "../core/access/admission.ts";
import type { AuditSink } from "../crds/auditsink.ts";
import type { Condition, Resource } from "../crds/common.ts";
import type { Gateway } from "../crds/gateway.ts";
import type { GatewayEnvironment } from "../crds/gatewayenvironment.ts";
import type { AnyIssuer } from "../crds/issuer.ts";
import type { Project } from "../crds/project.ts";
import type { SyncRule } from "../crds/syncrule.ts";
import { BY_GATEWAY, BY_PROJECT, type Caches } from "./caches.ts";

type Follower = Pick<Runner<Resource, unknown, { readonly kind: string }>, "follow">;

/** For what belongs to a project, and is indexed by it. */
export function followProjects(
  runner: Follower,
  { projectCache }: Caches,
  cache: Pick<ObjectCache<Resource>, "byIndex">,
): void {
  runner.follow(projectCache, (project, old) =>
    sameGeneration(project, old) ? [] : cache.byIndex(BY_PROJECT, project.metadata.name).map(keyOf),
  );
}

/** For rules whose target are core Secrets: what happens in those namespaces. */
export function followTargets(runner: Follower, caches: Caches): void {
  const into = (namespace: string | undefined) => caches.syncRulesInto(namespace ?? "").map(keyOf);
  runner.follow(caches.coreSecretCache, ({ metadata: { namespace = "", name } }) =>
    caches
      .syncRulesInto(namespace)
      .filter((rule) => mayConcern(rule, name, caches))
      .map(keyOf),
  );
  runner.follow(caches.namespaceCache, (namespace, old) =>
    sameLabels(namespace, old)
      ? []
      : [...into(namespace.metadata.name), ...caches.syncRulesIn(namespace.metadata.name).map(keyOf)],
  );
  // Access has just been granted there.
  runner.follow(caches.bindingCache, ({ metadata }, _old, type) => (type === "added" ? into(metadata.namespace) : []));
  // What is delivered there itself, or by an older rule, comes first, until it is gone.
  runner.follow(caches.secretCache, (secret, old, type) =>
    type === "updated" && sameGeneration(secret, old) ? [] : into(secret.metadata.namespace),
  );
  runner.follow(caches.certificateCache, (certificate, old, type) =>
    type === "updated" && sameGeneration(certificate, old) ? [] : into(certificate.metadata.namespace),
  );
  runner.follow(caches.syncRuleCache, (rule, old, type) =>
    type === "updated" && sameGeneration(rule, old)
      ? []
      : [rule, ...(old === undefined ? [] : [old])]
          .flatMap(({ spec }) => spec.target.kubernetes?.namespaces ?? [])
          .flatMap(into)
          .filter((key) => key !== keyOf(rule)),
  );
}

/** For what goes through a gateway and failed: looked at when that one is in touch again, or another one of the pair acts. */
export function followReturns(runner: Follower, caches: Caches, through: (gateway: string) => readonly string[]): void {
  runner.follow(caches.gatewayCache, (gateway, old, type) =>
    !isReady(gateway) || (type === "updated" && sameStanding(gateway, old)) ? [] : through(gateway.metadata.name),
  );
  followActing(runner, caches, through);
}

/** For rules whose target are core Secrets in clusters of gateways. */
export function followGateways(
  runner: Follower,
  caches: Caches,
  changed: (gateway: string, rules: readonly string[]) => void,
): void {
  const through = (gateway: string): readonly string[] => {
    const concerned = caches.syncRuleCache.byIndex(BY_GATEWAY, gateway).map(keyOf);
    changed(gateway, concerned);
    return concerned;
  };
  // It may be back, or another one, or of another environment.
  runner.follow(caches.gatewayCache, (gateway, old, type) =>
    type === "updated" && sameStanding(gateway, old) ? [] : through(gateway.metadata.name),
  );
  followActing(runner, caches, through);
  // Of two that write one core Secret the older one goes first, until it is gone.
  runner.follow(caches.syncRuleCache, (rule, old, type) =>
    type === "updated" && sameGeneration(rule, old)
      ? []
      : [rule, ...(old === undefined ? [] : [old])]
          .flatMap(({ spec }) => spec.target.gateway?.kubernetes.namespace ?? [])
          .flatMap((namespace) => caches.syncRulesBeyond(namespace).map(keyOf))
          .filter((key) => key !== keyOf(rule)),
  );
}

/** Another gateway of a pair is in charge, in whose cluster other things may stand. */
function followActing(runner: Follower, caches: Caches, through: (gateway: string) => readonly string[]): void {
  runner.follow(caches.gatewayEnvironmentCache, (environment, old, type) => {
    if (type === "updated" && !beginsToAct(environment, old)) return [];
    const { primaryRef, standbyRef } = environment.spec;
    return [primaryRef.name, standbyRef.name].flatMap(through);
  });
}

/** Not before: while what was granted to the one of before lasts, it may answer still. */
const beginsToAct = (environment: GatewayEnvironment, old: GatewayEnvironment | undefined): boolean => {
  if (old === undefined || !sameGeneration(environment, old)) return true;
  const sameEpoch = old.status?.epoch === environment.status?.epoch;
  return isActing(environment) && !(isActing(old) && sameEpoch);
};

const isActing = ({ status }: GatewayEnvironment): boolean =>
  status?.conditions?.some(({ type, status }) => type === "Acting" && status === "True") ?? false;

/** Its place and whether it is in touch; heartbeats alone change neither. */
const sameStanding = (gateway: Gateway, old: Gateway | undefined): boolean =>
  old !== undefined &&
  old.metadata.uid === gateway.metadata.uid &&
  sameGeneration(gateway, old) &&
  old.status?.environment === gateway.status?.environment &&
  old.status?.registeredAt === gateway.status?.registeredAt &&
  isReady(old) === isReady(gateway);

/** A namespace has many core Secrets, and few that bear the name of a Secret of the rule's. */
function mayConcern(rule: SyncRule, coreName: string, caches: Caches): boolean {
  const name = secretNameFor(rule, coreName);
  return name !== undefined && caches.secret(rule.metadata.namespace ?? "", name) !== undefined;
}

/** For what belongs to no project: it is served in the namespaces that any Project admits. */
export function followAdmissions(
  runner: Follower,
  caches: Caches,
  inNamespace: (name: string) => readonly string[],
): void {
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

export const isReady = ({
  status,
}: {
  readonly status?: { readonly conditions?: readonly Condition[] | undefined };
}): boolean => status?.conditions?.some(({ type, status: holds }) => type === "Ready" && holds === "True") === true;

export const isFailing = ({ status }: AuditSink): boolean =>
  status?.conditions?.some(({ type, status: holds }) => type === "Delivering" && holds !== "True") === true;

export const targetReachable = ({ status }: SyncRule): string | undefined =>
  status?.conditions?.find(({ type }) => type === "TargetReachable")?.reason;

/** Nothing that one below it would ask about has changed: what it allows, and the certificate that it has. */
export const sameCa = (issuer: AnyIssuer, old: AnyIssuer | undefined): boolean =>
  sameGeneration(issuer, old) && old?.status?.serialNumber === issuer.status?.serialNumber;

interface WithMetadata {
  readonly metadata: {
    readonly generation?: number;
    readonly labels?: Readonly<Record<string, string>>;
    readonly deletionTimestamp?: string;
  };
}

export const sameGeneration = (object: WithMetadata, old: WithMetadata | undefined): boolean =>
  old !== undefined && old.metadata.generation === object.metadata.generation;

export const sameLabels = (object: WithMetadata, old: WithMetadata | undefined): boolean =>
  old !== undefined &&
  old.metadata.deletionTimestamp === object.metadata.deletionTimestamp &&
  JSON.stringify(old.metadata.labels ?? {}) === JSON.stringify(object.metadata.labels ?? {});
