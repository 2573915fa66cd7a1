/** Tenants in memory, for the tables and properties of this folder: what the caches would hold. */
import { HeldUids } from "../../../../core/recovery/home.ts";
import type { Gateway } from "../../../../crds/gateway.ts";
import type { Project } from "../../../../crds/project.ts";
import type { Secret, SecretEntry } from "../../../../crds/secret.ts";
import type { SyncConflict } from "../../../../crds/syncconflict.ts";
import type { KubernetesTarget, SyncRule, SyncRuleSpec } from "../../../../crds/syncrule.ts";
import { type Cluster, type Metadata, notOnboarded } from "../../../cluster.ts";
import { deliveredName } from "../../../delivery/desired.ts";

const API = "mazevault.io/v1";

/** Project `pay` with environment pro; everything is of it unless said. */
export const secretOf = (namespace: string, name: string, spec: Partial<Secret["spec"]> = {}): Secret => ({
  apiVersion: API,
  kind: "Secret",
  metadata: { name, namespace, uid: `uid-${namespace}-${name}`, resourceVersion: "1" },
  spec: { projectRef: { name: "pay" }, environment: "pro", entries: [literal("password")], ...spec },
});

export const literal = (key: string): SecretEntry => ({ key, literal: "v" });
export const external = (key: string): SecretEntry => ({ key, external: {} });

export const ruleOf = (
  namespace: string,
  name: string,
  kubernetes: KubernetesTarget,
  spec: Partial<SyncRuleSpec> = {},
): SyncRule => ({
  apiVersion: API,
  kind: "SyncRule",
  metadata: { name, namespace, uid: `uid-${namespace}-${name}`, resourceVersion: "1", creationTimestamp: T0 },
  spec: { projectRef: { name: "pay" }, environment: "pro", direction: "Push", target: { kubernetes }, ...spec },
});

export const T0 = "2026-01-01T00:00:00Z";

export class Tenants implements Cluster {
  readonly held = new HeldUids();
  /** By project: the namespaces that it admits for pro. */
  readonly admissions = new Map<string, Set<string>>();
  /** UID by name. */
  readonly existing = new Map<string, string>();
  readonly closing = new Set<string>();
  readonly withoutRights = new Set<string>();
  secrets: readonly Secret[] = [];
  rules: readonly SyncRule[] = [];
  conflicts: readonly SyncConflict[] = [];
  /** Of gateways, by environment of every project. */
  readonly gatewayEnvironments = new Map<string, string>();
  /** Gateways that act in turn. */
  readonly pairs: (readonly [string, string])[] = [];
  readonly gateways = new Map<string, Gateway>();
  /** By namespace/name. */
  readonly cores = new Map<string, Metadata>();

  admit(project: string, ...namespaces: readonly string[]): this {
    for (const name of namespaces) if (!this.existing.has(name)) this.existing.set(name, `uid-${name}`);
    this.admissions.set(project, new Set([...(this.admissions.get(project) ?? []), ...namespaces]));
    return this;
  }

  project(name: string): Project | undefined {
    const admitted = this.admissions.get(name);
    return (
      admitted && {
        apiVersion: API,
        kind: "Project",
        metadata: { name, uid: `uid-${name}`, resourceVersion: "1" },
        spec: {
          environments: ["pro", "dev"].map((environment) => ({
            name: environment,
            gatewayEnvironment: this.gatewayEnvironments.get(environment),
          })),
          namespaces: [...admitted].map((namespace) => ({ name: namespace, environments: ["pro"] })),
        },
      }
    );
  }

  *projects(): Iterable<Project> {
    for (const name of this.admissions.keys()) {
      const project = this.project(name);
      if (project !== undefined) yield project;
    }
  }

  namespace(name: string): Metadata | undefined {
    const uid = this.existing.get(name);
    if (uid === undefined) return undefined;
    const deletion = this.closing.has(name) ? { deletionTimestamp: T0 } : {};
    return { metadata: { name, uid, resourceVersion: "1", ...deletion } };
  }

  namespaces(): Iterable<Metadata> {
    return [...this.existing.keys()].flatMap((name) => this.namespace(name) ?? []);
  }

  secret(namespace: string, name: string): Secret | undefined {
    return this.secretsIn(namespace).find(({ metadata }) => metadata.name === name);
  }

  secretsIn(namespace: string): readonly Secret[] {
    return this.secrets.filter(({ metadata }) => metadata.namespace === namespace);
  }

  syncRulesIn(namespace: string): readonly SyncRule[] {
    return this.rules.filter(({ metadata }) => metadata.namespace === namespace);
  }

  syncRulesInto(namespace: string): readonly SyncRule[] {
    return this.rules.filter(({ spec }) => spec.target.kubernetes?.namespaces.includes(namespace));
  }

  syncRulesBeyond(namespace: string): readonly SyncRule[] {
    return this.rules.filter(({ spec }) => spec.target.gateway?.kubernetes.namespace === namespace);
  }

  gateway(name: string): Gateway | undefined {
    return this.gateways.get(name);
  }

  gatewaysPairedWith(gateway: string): readonly string[] {
    return this.pairs
      .filter((pair) => pair.includes(gateway))
      .flatMap((pair) => pair.filter((name) => name !== gateway));
  }

  deliversTo(namespace: string, coreSecret: string): string | undefined {
    const secret = this.secretsIn(namespace).find((each) => deliveredName(each) === coreSecret);
    return secret && `Secret ${secret.metadata.name}`;
  }

  coreSecret(namespace: string, name: string): Metadata | undefined {
    if (this.withoutRights.has(namespace)) throw notOnboarded(namespace);
    return this.cores.get(`${namespace}/${name}`);
  }

  certificate = () => undefined;
  issuer = () => undefined;
  clusterIssuer = () => undefined;
  keyVault = () => undefined;
  syncConflictsIn = () => this.conflicts;
}
