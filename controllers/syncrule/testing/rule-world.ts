/** A namespace with Secrets and one rule: its controller and that of Secret as they run, everything around them in memory. */
import { createSecretKey, randomBytes } from "node:crypto";
import { Stalled, Unavailable, Waiting } from "../../../core/errors.ts";
import { FakeAuditLog } from "../../../core/ports/fake-audit-log.ts";
import { FakeDatabase } from "../../../core/ports/fake-database.ts";
import { FakeKeyStore } from "../../../core/ports/fake-key-store.ts";
import { FakeSyncStore } from "../../../core/ports/fake-sync-store.ts";
import { FakeTargetVault } from "../../../core/ports/fake-target-vault.ts";
import { FakeVaultStore } from "../../../core/ports/fake-vault-store.ts";
import { normalVaultUrl } from "../../../core/ports/target-vaults.ts";
import type { Writer } from "../../../core/ports/vault-store.ts";
import { HeldUids } from "../../../core/recovery/home.ts";
import { open, seal } from "../../../core/vault/envelope.ts";
import { KeyRing } from "../../../core/vault/keyring.ts";
import { Vault } from "../../../core/vault/vault.ts";
import { API_VERSION } from "../../../crds/common.ts";
import type { KeyVault } from "../../../crds/keyvault.ts";
import type { Project } from "../../../crds/project.ts";
import type { Secret, SecretEntry, SecretSpec } from "../../../crds/secret.ts";
import type { SyncRule, SyncRuleSpec, SyncRuleStatus } from "../../../crds/syncrule.ts";
import type { Cluster } from "../../cluster.ts";
import { ApiError } from "../../runtime/api-error.ts";
import { settledStatus } from "../../runtime/conditions.ts";
import { MAX_ROUNDS } from "../../runtime/controller.ts";
import type { ResourceType } from "../../runtime/resource-type.ts";
import type { KubernetesApi } from "../../runtime/transport.ts";
import { SecretController } from "../../secret/index.ts";
import { identityOf, lifecycleOf } from "../../secret/observe.ts";
import type { Action } from "../decide.ts";
import { SyncRuleController } from "../index.ts";

export const NAMESPACE = "shop";
export const URLS = ["https://one.vault.azure.net/", "https://two.vault.azure.net/"] as const;
const ENVIRONMENT = "pro";

/** The process is gone. */
export class Crash extends Error {}

export class RuleWorld {
  readonly database: FakeDatabase;
  readonly secretStore: FakeVaultStore;
  readonly store: FakeSyncStore;
  /** By URL. */
  readonly vaults = new Map(URLS.map((url) => [url as string, new FakeTargetVault(url)]));
  readonly secrets = new Map<string, Secret>();
  readonly otherRules: SyncRule[] = [];
  readonly vault: Vault;
  project: Project | undefined = projectOf({});
  namespace: { uid: string; deletionTimestamp?: string } = { uid: "uid-shop" };
  rule: SyncRule;
  /** What nobody expected. */
  readonly errors: unknown[] = [];
  /** Dies after so many actions of the next pass. */
  diesAfter = Number.POSITIVE_INFINITY;
  #clock = Date.parse("2026-01-01T00:00:00Z");
  #made = 0;
  #writer: Writer = { epoch: 0n };
  #rules: SyncRuleController;
  #controller: SecretController;

  private constructor(database: FakeDatabase, ring: KeyRing, spec: Partial<SyncRuleSpec>) {
    this.database = database;
    this.secretStore = new FakeVaultStore(database);
    this.store = new FakeSyncStore(database, this.secretStore);
    this.vault = new Vault({ store: this.secretStore, keys: ring, audit: new FakeAuditLog(this.database) });
    this.rule = {
      apiVersion: API_VERSION,
      kind: "SyncRule",
      metadata: { name: "rule", namespace: NAMESPACE, uid: "uid-rule", resourceVersion: "1", generation: 1 },
      spec: {
        projectRef: { name: "shop" },
        environment: ENVIRONMENT,
        direction: "Push",
        deletionPolicy: "Delete",
        target: { keyVault: { ref: { name: "one" } } },
        ...spec,
      },
    };
    this.secretStore.now = () => this.#clock;
    this.store.now = () => this.#clock;
    for (const vault of this.vaults.values()) vault.now = () => this.#clock;
    [this.#rules, this.#controller] = this.#controllers();
  }

  static async of(spec: Partial<SyncRuleSpec> = {}): Promise<RuleWorld> {
    const key = createSecretKey(randomBytes(32));
    const database = new FakeDatabase();
    const ring = await KeyRing.open(new FakeKeyStore(database), {
      id: "root",
      source: "the root key",
      wrap: async (plaintext, context) => seal(key, plaintext, context),
      unwrap: async (wrapped, context) => open(key, wrapped, context) ?? Buffer.alloc(0),
    });
    for (const project of ["shop", "other"]) {
      await ring.project({ epoch: await database.acquireEpoch("test") }, project);
    }
    const world = new RuleWorld(database, ring, spec);
    await world.restart();
    return world;
  }

  get status(): SyncRuleStatus {
    return this.rule.status ?? ({} as SyncRuleStatus);
  }

  condition(type: string) {
    return this.status.conditions?.find((each) => each.type === type);
  }

  /** Another process leads, which remembers nothing. */
  async restart(): Promise<void> {
    this.#writer = { epoch: await this.database.acquireEpoch("test") };
    [this.#rules, this.#controller] = this.#controllers();
  }

  /** Something that a person may wait for changed while a pass is under way. */
  hurry(): void {
    this.#rules.hurry(`${NAMESPACE}/rule`);
  }

  wait(ms: number): void {
    this.#clock += ms;
  }

  apply(name: string, keys: readonly string[], change: Partial<SecretSpec> & { labels?: Record<string, string> } = {}) {
    const { labels = {}, ...spec } = change;
    this.#made += 1;
    const before = this.secrets.get(name);
    const literals = new Map(before?.spec.entries.map(({ key, literal }) => [key, literal]));
    const entry = (key: string): SecretEntry => ({ key, literal: literals.get(key) ?? `${name} ${key} ${this.#made}` });
    this.secrets.set(name, {
      apiVersion: API_VERSION,
      kind: "Secret",
      metadata: {
        name,
        namespace: NAMESPACE,
        uid: before?.metadata.uid ?? `uid-${name}-${this.#made}`,
        resourceVersion: `${this.#made}`,
        labels,
      },
      spec: { projectRef: { name: "shop" }, environment: ENVIRONMENT, entries: keys.map(entry), ...spec },
    });
  }

  change(spec: Partial<SyncRuleSpec>): void {
    const { metadata } = this.rule;
    const changed = Object.fromEntries(
      Object.entries({ ...this.rule.spec, ...spec }).filter(([, value]) => value !== undefined),
    ) as SyncRuleSpec;
    const generation = (metadata.generation ?? 0) + 1;
    this.rule = { ...this.rule, metadata: { ...metadata, generation }, spec: changed };
  }

  annotate(annotations: Record<string, string>): void {
    const { metadata } = this.rule;
    this.rule = { ...this.rule, metadata: { ...metadata, annotations: { ...metadata.annotations, ...annotations } } };
  }

  /** What the controller of Secret does when it sees the object, or that it is gone. */
  async storeSecret(name: string): Promise<void> {
    const secret = this.secrets.get(name);
    if (secret === undefined) {
      await this.#controller.absent(`${NAMESPACE}/${name}`, live);
      return;
    }
    const identity = identityOf(secret, this.namespace.uid);
    const seen = await this.vault.describe(identity);
    if (seen?.state !== "Active") await this.#endFormer(name);
    await this.vault.store(this.#writer, {
      identity,
      seen,
      entries: secret.spec.entries,
      sources: new Map(),
      lifecycle: lifecycleOf(secret),
      actor: { kind: "Controller", name: "test" },
    });
  }

  /** What its controller does before the first version. */
  async #endFormer(name: string): Promise<void> {
    const locations = await this.secretStore.locate(NAMESPACE, name);
    if (locations.some(({ state }) => state === "Active")) {
      await this.#controller.absent(`${NAMESPACE}/${name}`, live);
    }
  }

  /** One pass, with a look when `look`. */
  async pass({ look = true }: { look?: boolean } = {}): Promise<void> {
    this.#made += 1;
    if (look) this.annotate({ "mazevault.io/sync-now": `${this.#made}` });
    let left = this.diesAfter;
    this.diesAfter = Number.POSITIVE_INFINITY;
    try {
      let seen = await this.#rules.observe(this.rule, live);
      for (let round = 0; round < MAX_ROUNDS; round += 1) {
        const plan = this.#rules.decide(this.rule, seen, new Date());
        if (plan.actions.length === 0) {
          this.rule = {
            ...this.rule,
            status: settledStatus(this.rule, plan.status, plan.next, new Date()) as unknown as SyncRuleStatus,
          };
          return;
        }
        for (const action of plan.actions as readonly Action[]) {
          if (left === 0) throw new Crash();
          left -= 1;
          seen = this.#rules.learn(seen, action, await this.#rules.perform(action, live));
        }
      }
      throw new Error("the plan never ends");
    } catch (error) {
      if (error instanceof Crash) await this.restart();
      else if (!(error instanceof Waiting || error instanceof Stalled || error instanceof Unavailable)) throw error;
    }
  }

  /** Both controllers, until nothing more comes of it. */
  async settle(): Promise<void> {
    const names = new Set(this.secretStore.records().map(({ identity }) => identity.name));
    for (const name of [...this.secrets.keys(), ...names]) await this.storeSecret(name);
    for (let pass = 0; pass < 3; pass += 1) {
      await this.pass();
      this.wait(6_000);
    }
  }

  #controllers(): [SyncRuleController, SecretController] {
    const cluster = this.#cluster();
    const shared = {
      api: {
        get: (type: ResourceType, { name }: { name: string }) => this.#get(type, name),
      } as unknown as KubernetesApi,
      cluster,
      vault: this.vault,
      writer: () => this.#writer,
      installation: "installation",
    };
    const rules = new SyncRuleController({
      ...shared,
      vaults: {
        open: ({ url }: { url: string }) => this.vaults.get(normalVaultUrl(url)) as FakeTargetVault,
      } as never,
      store: this.store,
      audit: new FakeAuditLog(this.database),
      assertLeading: () => undefined,
      onPulled: () => undefined,
      sizes: { learn: () => undefined },
      events: { record: () => undefined },
      log: { error: (fields: { error?: unknown }) => this.errors.push(fields.error) } as never,
    });
    const secrets = new SecretController({
      ...shared,
      store: this.secretStore,
      // Nothing here is applied before it is current.
      targets: {} as never,
      events: { record: () => undefined },
      absorb: () => undefined,
    });
    return [rules, secrets];
  }

  async #get(type: ResourceType, name: string): Promise<unknown> {
    if (type.kind === "Namespace") return { metadata: { name, ...this.namespace } };
    const found = this.secrets.get(name);
    if (found !== undefined) return found;
    throw new ApiError({ status: 404, reason: "NotFound", message: "not found", details: { name } });
  }

  #cluster(): Cluster {
    const keyVault = (name: string): KeyVault | undefined =>
      ["one", "two"].includes(name)
        ? ({
            metadata: { name, namespace: NAMESPACE, uid: `uid-kv-${name}`, resourceVersion: "1" },
            spec: {
              projectRef: { name: "shop" },
              vaultUrl: name === "one" ? URLS[0] : URLS[1],
              purpose: "Project",
              auth: { managedIdentity: {} },
            },
          } as unknown as KeyVault)
        : undefined;
    return {
      project: (name: string) => (name === "shop" ? this.project : undefined),
      projects: () => (this.project === undefined ? [] : [this.project]),
      namespace: () => ({ metadata: { name: NAMESPACE, resourceVersion: "1", ...this.namespace } }),
      secret: (_: string, name: string) => this.secrets.get(name),
      secretsIn: () => [...this.secrets.values()],
      keyVault: (_: string, name: string) => keyVault(name),
      syncRulesIn: () => [this.rule, ...this.otherRules],
      syncConflictsIn: () => [],
      held: new HeldUids(),
    } as unknown as Cluster;
  }
}

export const projectOf = ({ admits = true, isProtected = false }): Project =>
  ({
    metadata: { name: "shop", uid: "uid-project", resourceVersion: "1" },
    spec: {
      environments: [{ name: ENVIRONMENT, ...(isProtected && { protected: true }) }],
      namespaces: admits ? [{ name: NAMESPACE, environments: [ENVIRONMENT] }] : [],
      keyVaults: [...URLS],
    },
  }) as unknown as Project;

const live = new AbortController().signal;
