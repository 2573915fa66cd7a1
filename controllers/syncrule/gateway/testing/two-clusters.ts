/**
 * A primary with one rule, and gateways whose handlers write into a real API server. Between them tasks go as JSON, judged by the
 * schemas of their kinds on both ends, and can be lost on either way.
 */
import { createSecretKey, randomBytes } from "node:crypto";
import { Stalled, Unavailable, Waiting } from "../../../../core/errors.ts";
import { GatewayReach } from "../../../../core/fleet/gateway-reach.ts";
import { GatewayAway, type GatewayTasks, type TaskHandler, type TaskKind } from "../../../../core/fleet/tasks.ts";
import type { AuditEntry } from "../../../../core/ports/audit-log.ts";
import { FakeAuditLog } from "../../../../core/ports/fake-audit-log.ts";
import { FakeDatabase } from "../../../../core/ports/fake-database.ts";
import { FakeGatewayCopyStore } from "../../../../core/ports/fake-gateway-copy-store.ts";
import { FakeKeyStore } from "../../../../core/ports/fake-key-store.ts";
import { FakeSyncStore } from "../../../../core/ports/fake-sync-store.ts";
import { FakeVaultStore } from "../../../../core/ports/fake-vault-store.ts";
import type { GatewayRecord } from "../../../../core/ports/fleet-store.ts";
import { lifecycle } from "../../../../core/ports/samples.ts";
import { open, seal } from "../../../../core/vault/envelope.ts";
import { KeyRing } from "../../../../core/vault/keyring.ts";
import { Vault } from "../../../../core/vault/vault.ts";
import type { Gateway } from "../../../../crds/gateway.ts";
import type { Secret } from "../../../../crds/secret.ts";
import type { GatewayTarget, SyncRule, SyncRuleSpec, SyncRuleStatus } from "../../../../crds/syncrule.ts";
import type { Metadata } from "../../../cluster.ts";
import { settledStatus } from "../../../runtime/conditions.ts";
import { MAX_ROUNDS } from "../../../runtime/controller.ts";
import { coreSecrets } from "../../../runtime/resource-type.ts";
import type { KubernetesApi } from "../../../runtime/transport.ts";
import { identityOf } from "../../../secret/observe.ts";
import { ruleOf, secretOf, Tenants } from "../../kubernetes/testing/tenants.ts";
import { type DeliveryTaskDependencies, deliveryTasks } from "../handlers.ts";
import { GatewayRuleController } from "../index.ts";

const live = new AbortController().signal;

/** One gateway, with what its cluster's caches would hold. */
export interface There {
  readonly environment: string;
  readonly tenants: Tenants;
  readonly audited: AuditEntry[];
  /** May it act? */
  acts: boolean;
}

export interface Sent {
  readonly gateway: string;
  readonly kind: string;
  readonly body: { readonly secrets: readonly { readonly secretName: string; readonly data?: object }[] };
}

export class TwoClusters {
  readonly database = new FakeDatabase();
  readonly tenants = new Tenants().admit("pay", "pay");
  /** By name; of those that act for another one both have the same. */
  readonly gateways = new Map<string, There>();
  readonly records = new Map<string, GatewayRecord>();
  readonly sent: Sent[] = [];
  readonly errors: unknown[] = [];
  /** What becomes of the next tasks instead of being done, or after they were. */
  readonly lost: { readonly kind: string; readonly error: Error; readonly when: "Before" | "After" }[] = [];
  /** How often it was asked what is known of a gateway. */
  asked = 0;
  /** Called while a task is under way. */
  onTask: () => void = () => {};
  rule: SyncRule;
  readonly copies: FakeGatewayCopyStore;
  readonly #versions: FakeVaultStore;
  readonly #sync: FakeSyncStore;
  readonly #vault: Vault;
  readonly #api: KubernetesApi;
  readonly #namespace: string;
  readonly #reach = new GatewayReach(this.#tasks());
  #controller: GatewayRuleController;
  #epoch = 0n;

  private constructor(api: KubernetesApi, namespace: string, ring: KeyRing) {
    this.#api = api;
    this.#namespace = namespace;
    this.#versions = new FakeVaultStore(this.database);
    this.#sync = new FakeSyncStore(this.database, this.#versions);
    this.copies = new FakeGatewayCopyStore(this.database, this.#versions);
    this.#vault = new Vault({ store: this.#versions, keys: ring, audit: new FakeAuditLog(this.database) });
    this.tenants.gatewayEnvironments.set("pro", "PRO").set("dev", "NPR");
    this.rule = passing("r", namespace);
    this.tenants.rules = [this.rule];
    this.#controller = this.#controllerOf();
  }

  /** `namespace` exists in the API server; Project pay admits it there. */
  static async of(api: KubernetesApi, namespace: string): Promise<TwoClusters> {
    const key = createSecretKey(randomBytes(32));
    const database = new FakeDatabase();
    const ring = await KeyRing.open(new FakeKeyStore(database), {
      id: "root",
      source: "the root key",
      wrap: async (plaintext, context) => seal(key, plaintext, context),
      unwrap: async (wrapped, context) => open(key, wrapped, context) ?? Buffer.alloc(0),
    });
    await ring.project({ epoch: await database.acquireEpoch("test") }, "pay");
    const world = new TwoClusters(api, namespace, ring);
    world.join("gw-pro", "PRO");
    await world.restart();
    return world;
  }

  /** A gateway has registered, and serves a cluster. */
  join(name: string, environment: string, there?: There): There {
    const tenants = new Tenants().admit("pay", this.#namespace);
    const joined = there ?? { environment, tenants, audited: [], acts: true };
    this.gateways.set(name, joined);
    this.tenants.gateways.set(name, gatewayOf(name));
    this.records.set(name, recordOf(name, environment));
    return joined;
  }

  get there(): There {
    const there = this.gateways.get("gw-pro");
    if (there === undefined) throw new Error("there is no gateway");
    return there;
  }

  /** Another process leads, which remembers nothing. */
  async restart(): Promise<void> {
    this.#epoch = await this.database.acquireEpoch("test");
    this.#controller = this.#controllerOf();
  }

  change(kubernetes: Partial<GatewayTarget["kubernetes"]>, spec: Partial<SyncRuleSpec> = {}): void {
    const gateway = this.rule.spec.target.gateway;
    if (gateway === undefined) throw new Error("expected a rule through a gateway");
    const target = { gateway: { ...gateway, kubernetes: { ...gateway.kubernetes, ...kubernetes } } };
    const generation = (this.rule.metadata.generation ?? 1) + 1;
    this.replaceRule({
      ...this.rule,
      metadata: { ...this.rule.metadata, generation },
      spec: { ...this.rule.spec, target, ...spec },
    });
  }

  replaceRule(rule: SyncRule): void {
    this.tenants.rules = this.tenants.rules.map((each) => (each === this.rule ? rule : each));
    this.rule = rule;
  }

  annotate(annotations: Record<string, string>): void {
    const { metadata } = this.rule;
    this.replaceRule({ ...this.rule, metadata: { ...metadata, annotations } });
  }

  /** Applies a Secret, and stores what it says. */
  async write(
    name: string,
    values: Readonly<Record<string, string>>,
    spec: Partial<Secret["spec"]> = {},
  ): Promise<void> {
    const entries = Object.entries(values).map(([key, literal]) => ({ key, literal }));
    const secret = secretOf("pay", name, { entries, ...spec });
    this.tenants.secrets = [...this.tenants.secrets.filter(({ metadata }) => metadata.name !== name), secret];
    const identity = identityOf(secret, "uid-pay");
    await this.#vault.store(
      { epoch: this.#epoch },
      {
        identity,
        seen: await this.#vault.describe(identity),
        entries,
        sources: new Map(),
        lifecycle,
        actor: { kind: "Controller", name: "test" },
      },
    );
  }

  /** One pass; what it throws is told by its reason. */
  async pass({ look = true }: { readonly look?: boolean } = {}): Promise<string | undefined> {
    if (look) {
      this.#reach.heard("gw-pro");
      this.gatewayChanged();
    }
    try {
      let seen = await this.#controller.observe(this.rule, live);
      for (let round = 0; round < MAX_ROUNDS; round++) {
        const plan = this.#controller.decide(this.rule, seen, new Date());
        const [action] = plan.actions;
        if (action === undefined) {
          const status = settledStatus(this.rule, plan.status, plan.next, new Date()) as unknown as SyncRuleStatus;
          this.replaceRule({ ...this.rule, status });
          return undefined;
        }
        seen = this.#controller.learn(seen, action, await this.#controller.perform(action, live));
      }
    } catch (error) {
      if (error instanceof Waiting || error instanceof Stalled || error instanceof Unavailable) return error.code;
      throw error;
    }
    throw new Error("the plan never ends");
  }

  get status(): SyncRuleStatus {
    return this.rule.status ?? ({} as SyncRuleStatus);
  }

  condition(type: string) {
    return this.status.conditions?.find((each) => each.type === type);
  }

  get reasons(): readonly string[] {
    return (this.status.failures ?? []).map(({ reason }) => reason);
  }

  /** The rule was deleted. */
  ruleGone(): Promise<void> {
    return this.#controller.absent("pay/r");
  }

  /** Another gateway is in charge, or the one of before is back. */
  gatewayChanged(): void {
    this.#controller.gatewayChanged(["pay/r"]);
  }

  /** What the primary has put on record. */
  get audited(): readonly AuditEntry[] {
    return this.database.audit.map(({ entry }) => entry);
  }

  /** How many rows of the record there are that no change of leaders made. */
  get changes(): number {
    return this.audited.filter(({ action }) => action !== "LeadershipTaken").length;
  }

  /** Names of core Secrets whose values went to a gateway. */
  get delivered(): readonly string[] {
    return this.sent
      .filter(({ kind }) => kind === "DeliverSecrets")
      .flatMap(({ gateway, body }) => body.secrets.map(({ secretName }) => `${gateway} ${secretName}`));
  }

  #controllerOf(): GatewayRuleController {
    return new GatewayRuleController({
      cluster: this.tenants,
      vault: this.#vault,
      fleet: {
        gateway: async (name) => {
          this.asked += 1;
          return this.records.get(name);
        },
      },
      store: this.#sync,
      copies: this.copies,
      tasks: this.#reach,
      installation: "primary",
      writer: () => ({ epoch: this.#epoch }),
      log: { error: (fields: { error?: unknown }) => void this.errors.push(fields.error) } as never,
    });
  }

  #tasks(): GatewayTasks {
    return {
      perform: async <Body, Result>(name: string, kind: TaskKind<Body, Result>, body: Body): Promise<Result> => {
        this.sent.push({ gateway: name, kind: kind.kind, body: structuredClone(body) as Sent["body"] });
        const lost = this.lost[0]?.kind === kind.kind ? this.lost.shift() : undefined;
        if (lost?.when === "Before") throw lost.error;
        this.onTask();
        const there = this.gateways.get(name);
        if (there === undefined) throw new GatewayAway(name, "it did not take it");
        const result = await this.performAt(there, kind, body);
        if (lost !== undefined) throw lost.error;
        return result;
      },
    };
  }

  /** As if it had come by whatever way. */
  async performAt<Body, Result>(there: There, kind: TaskKind<Body, Result>, body: Body): Promise<Result> {
    await this.#watch(there.tenants);
    const handlers = deliveryTasks(this.#dependencies(there)) as readonly unknown[] as readonly TaskHandler<
      Body,
      Result
    >[];
    const handler = handlers.find((each) => each.kind.kind === kind.kind);
    if (handler === undefined) throw new Unavailable("GatewayTaskUnknown", "the gateway is too old");
    const assertActing = () => {
      if (!there.acts) throw new Unavailable("GatewayFenced", "another gateway is in charge");
    };
    const arrived = kind.body.parse(JSON.parse(JSON.stringify(body)));
    const result = await handler.perform(arrived, { id: "task", signal: live, assertActing });
    return kind.result.parse(JSON.parse(JSON.stringify(result)));
  }

  #dependencies({ tenants, environment, audited }: There): DeliveryTaskDependencies {
    return {
      api: this.#api,
      assertLeading: () => undefined,
      cluster: tenants,
      audit: { append: async (entries) => void audited.push(...entries) },
      installation: `gateway of ${environment}`,
      environment,
      events: { record: () => undefined },
      absorb: () => undefined,
      log: { error: (fields: { error?: unknown }) => void this.errors.push(fields.error) } as never,
    };
  }

  /** What the caches of that cluster see. */
  async #watch(tenants: Tenants): Promise<void> {
    tenants.cores.clear();
    for await (const { items } of this.#api.list<Metadata>(coreSecrets, { namespace: this.#namespace, signal: live })) {
      for (const each of items)
        tenants.cores.set(`${this.#namespace}/${each.metadata.name}`, { metadata: each.metadata });
    }
  }
}

/** A rule of namespace pay through gw-pro. */
export function passing(name: string, namespace: string, spec: Partial<SyncRuleSpec> = {}): SyncRule {
  const rule = ruleOf("pay", name, { namespaces: ["unused"] }, spec);
  const gateway = { ref: { name: "gw-pro" }, kubernetes: { namespace } };
  return { ...rule, spec: { ...rule.spec, target: { gateway }, ...spec } };
}

const gatewayOf = (name: string): Gateway => ({
  apiVersion: "mazevault.io/v1",
  kind: "Gateway",
  metadata: { name, uid: `uid-${name}`, resourceVersion: "1" },
  spec: {},
});

export const recordOf = (name: string, environment: string | undefined): GatewayRecord => ({
  id: `id-${name}`,
  name,
  environment,
  role: "primary",
  registeredAt: new Date(0),
  confirmedAt: new Date(0),
  revokedAt: undefined,
  tokenExpiresAt: undefined,
  heartbeat: undefined,
});
