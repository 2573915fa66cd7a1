/** One rule with direction Bidirectional, a vault and an API server in memory, and processes that die over it. */
import { createSecretKey, randomBytes } from "node:crypto";
import type { AuditEntry } from "../../../../core/ports/audit-log.ts";
import { FakeAuditLog } from "../../../../core/ports/fake-audit-log.ts";
import { FakeCopyStore } from "../../../../core/ports/fake-copy-store.ts";
import { FakeDatabase } from "../../../../core/ports/fake-database.ts";
import { FakeKeyStore } from "../../../../core/ports/fake-key-store.ts";
import { FakeSyncStore } from "../../../../core/ports/fake-sync-store.ts";
import { FakeVaultStore } from "../../../../core/ports/fake-vault-store.ts";
import { actor, lifecycle } from "../../../../core/ports/samples.ts";
import { UNLED } from "../../../../core/ports/vault-store.ts";
import { Sensitive } from "../../../../core/sensitive.ts";
import type { Resolution } from "../../../../core/sync/exchange-plan.ts";
import type { SyncResult } from "../../../../core/sync/run.ts";
import { Crash, type Death, live, type Mortal, mortality } from "../../../../core/sync/testing/world.ts";
import { open, seal } from "../../../../core/vault/envelope.ts";
import { KeyRing } from "../../../../core/vault/keyring.ts";
import { Vault } from "../../../../core/vault/vault.ts";
import type { SyncConflict } from "../../../../crds/syncconflict.ts";
import type { SyncRule, SyncRuleSpec } from "../../../../crds/syncrule.ts";
import type { CoreSecret } from "../../../delivery/core-secret.ts";
import { SOURCE_ANNOTATION } from "../../../delivery/desired.ts";
import { ApiError } from "../../../runtime/api-error.ts";
import type { ResourceType } from "../../../runtime/resource-type.ts";
import type { KubernetesApi } from "../../../runtime/transport.ts";
import { identityOf } from "../../../secret/observe.ts";
import type { Observed } from "../decide.ts";
import { CoreSecretRuleController } from "../index.ts";
import { external, literal, ruleOf, secretOf, Tenants } from "./tenants.ts";

export const KEYS = ["a", "b"] as const;
export type Key = (typeof KEYS)[number];
const [NAMESPACE, NAME] = ["jobs", "db"];
const PLACE = `${NAMESPACE}/${NAME}`;
const ALLOW = "mazevault.io/allow-pull";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
interface Core extends CoreSecret {
  readonly metadata: Mutable<CoreSecret["metadata"]>;
  readonly data: Record<string, string>;
}

const refuses = (status: number, reason: string): ApiError =>
  new ApiError({ status, reason, message: reason, details: { name: NAME } });

/** RFC 7396. */
function merge(target: unknown, patch: unknown): unknown {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> = { ...(target as object | undefined) };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = merge(result[name], value);
  }
  return result;
}

export class BothSides {
  readonly tenants = new Tenants().admit("pay", "pay", NAMESPACE);
  readonly secret = secretOf("pay", NAME, {
    entries: [literal("user"), external("a"), external("b"), { key: "header", template: "{{ user }}:{{ a }}" }],
  });
  readonly rule: SyncRule;
  /** What stands in the cluster; the caches have it when they are told. */
  core: Core | undefined;
  /** Values that we wrote over although their owner let them go. */
  readonly writtenOver = new Set<string>();
  /** By kind. */
  readonly effects = { reads: 0, writes: 0 };
  readonly audited: AuditEntry[] = [];
  /** Before the next write of ours arrives. */
  beforeWrite: (() => void) | undefined;
  readonly #database = new FakeDatabase();
  readonly #versions = new FakeVaultStore(this.#database);
  readonly #sync = new FakeSyncStore(this.#database, this.#versions);
  readonly #copies = new FakeCopyStore(this.#database, this.#versions);
  readonly #vault: Vault;
  readonly #readable = new Map<number, ReadonlyMap<string, string>>();
  #count = 0;
  #staying: CoreSecretRuleController | undefined;

  private constructor(ring: (database: FakeDatabase) => KeyRing, conflictPolicy: SyncRuleSpec["conflictPolicy"]) {
    this.rule = ruleOf("pay", "r", { namespaces: [NAMESPACE] }, { direction: "Bidirectional", conflictPolicy });
    this.tenants.rules = [this.rule];
    this.tenants.secrets = [this.secret];
    const audit = new FakeAuditLog(this.#database);
    this.#vault = new Vault({ store: this.#versions, keys: ring(this.#database), audit });
  }

  static async of(conflictPolicy: SyncRuleSpec["conflictPolicy"]): Promise<BothSides> {
    const key = createSecretKey(randomBytes(32));
    const database = new FakeDatabase();
    const ring = await KeyRing.open(new FakeKeyStore(database), {
      id: "root",
      source: "the root key",
      wrap: async (plaintext, context) => seal(key, plaintext, context),
      unwrap: async (wrapped, context) => open(key, wrapped, context) ?? Buffer.alloc(0),
    });
    await ring.project({ epoch: await database.acquireEpoch("test") }, "pay");
    const sides = new BothSides(() => ring, conflictPolicy);
    await sides.write("a", "a0");
    await sides.write("b", "b0");
    return sides;
  }

  get #identity() {
    return identityOf(this.secret, "uid-pay");
  }

  /** As through REST, by whoever does not lead. */
  async write(key: Key, value: string): Promise<void> {
    await this.#vault.put(UNLED, {
      identity: this.#identity,
      seen: await this.#vault.describe(this.#identity),
      entries: this.secret.spec.entries,
      readers: undefined,
      values: new Map([[key, new Sensitive(Buffer.from(value))]]),
      // As few as a rule accepts: what loses must be readable all the same.
      lifecycle: { ...lifecycle, keepVersions: 2 },
      actor,
    });
    await this.#read();
  }

  /** All values that a key ever had here and that somebody could read between two passes, oldest first. */
  async history(key: string): Promise<readonly string[]> {
    const values: string[] = [];
    for (const [, version] of [...this.#readable].sort(([a], [b]) => a - b)) {
      const value = version.get(key);
      if (value !== undefined && value !== values.at(-1)) values.push(value);
    }
    return values;
  }

  async #read(): Promise<void> {
    const record = await this.#vault.describe(this.#identity);
    if (record === undefined) return;
    for (const { version } of await this.#vault.versions(record)) {
      if (this.#readable.has(version)) continue;
      const { values } = await this.#vault.open(record, { version, actor, purpose: "Test" });
      this.#readable.set(version, new Map([...values].map(([key, value]) => [key, value.reveal().toString("utf8")])));
    }
  }

  async version(): Promise<number> {
    return (await this.#vault.describe(this.#identity))?.currentVersion ?? 0;
  }

  there(key: string): string | undefined {
    const value = this.core?.data[key];
    return value === undefined ? undefined : Buffer.from(value, "base64").toString("utf8");
  }

  get isOurs(): boolean {
    return this.core?.metadata.annotations?.[SOURCE_ANNOTATION] !== undefined;
  }

  get isLetGo(): boolean {
    return this.core?.metadata.annotations?.[ALLOW] !== undefined;
  }

  /** By people of the other namespace; undefined takes the key away. */
  edit(key: string, value: string | undefined): void {
    this.#change({ data: { [key]: value === undefined ? null : Buffer.from(value).toString("base64") } });
  }

  letGo(is: boolean): void {
    this.#change({ metadata: { annotations: { [ALLOW]: is ? "pay" : null } } });
  }

  relabel(): void {
    this.#change({ metadata: { labels: { touched: `${this.#count}` } } });
  }

  remove(): void {
    this.core = undefined;
  }

  /** Somebody else's, of the same name. */
  replace(): void {
    this.core = { metadata: this.#stand(`foreign-${this.#count}`), type: "Opaque", data: { own: "" } };
  }

  watch(): void {
    if (this.core === undefined) this.tenants.cores.delete(PLACE);
    else this.tenants.cores.set(PLACE, { metadata: { ...this.core.metadata } });
  }

  resolve(resolution: Resolution): void {
    this.tenants.conflicts = this.tenants.conflicts.map((each) => ({ ...each, spec: { resolution } }));
  }

  /** One process makes all passes from now on. */
  async stay(): Promise<void> {
    this.#staying = this.#controller(await this.#database.acquireEpoch("test"), mortality(undefined));
  }

  /** One pass, by a process of its own unless one stays; the failures that it found. */
  async reconcile(death?: Death): Promise<readonly string[]> {
    const controller = this.#staying ?? this.#controller(await this.#database.acquireEpoch("test"), mortality(death));
    try {
      let seen: Observed = await controller.observe(this.rule);
      for (let step = 0; step < 20; step++) {
        const plan = controller.decide(this.rule, seen, new Date());
        const [action] = plan.actions;
        if (action === undefined) {
          const fields = plan.status.fields as { readonly failures?: readonly { readonly reason: string }[] };
          return fields.failures?.map(({ reason }) => reason) ?? [];
        }
        const outcome: SyncResult | undefined = await controller.perform(action, live);
        if (outcome?.unexpected !== undefined) throw outcome.unexpected;
        seen = controller.learn(seen, action, outcome);
      }
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      return [];
    } finally {
      await this.#read();
    }
    throw new Error("a pass does not end");
  }

  #controller(epoch: bigint, mortal: Mortal): CoreSecretRuleController {
    const { tenants } = this;
    const vault = this.#vault;
    const effect = <T>(run: () => Promise<T>): Promise<T> => {
      this.effects.writes += 1;
      return mortal(run);
    };
    const mortalVault = {
      describe: vault.describe.bind(vault),
      digester: vault.digester.bind(vault),
      keeps: vault.keeps.bind(vault),
      fingerprintIn: vault.fingerprintIn.bind(vault),
      open: vault.open.bind(vault),
      put: (...call: Parameters<Vault["put"]>) => effect(() => vault.put(...call)),
      keepBeside: (...call: Parameters<Vault["keepBeside"]>) => effect(() => vault.keepBeside(...call)),
    } as unknown as Vault;
    return new CoreSecretRuleController({
      api: this.#api(effect) as unknown as KubernetesApi,
      cluster: tenants,
      vault: mortalVault,
      store: this.#sync,
      copies: {
        copies: (ids) => this.#copies.copies(ids),
        recordCopy: (...call) => effect(() => this.#copies.recordCopy(...call)),
      },
      audit: { append: (entries) => effect(async () => void this.audited.push(...entries)) },
      installation: "here",
      writer: () => ({ epoch }),
      events: { record: () => undefined },
      absorb: ({ metadata }) => tenants.cores.set(PLACE, { metadata: { ...metadata } }),
      onPulled: () => undefined,
      log: { error: () => undefined },
    });
  }

  #api(effect: Mortal) {
    const isCore = ({ plural }: ResourceType): boolean => plural === "secrets";
    return {
      get: async (type: ResourceType) => {
        this.effects.reads += 1;
        const found = isCore(type) ? this.core : this.tenants.conflicts[0];
        if (found === undefined) throw refuses(404, "NotFound");
        return structuredClone(found);
      },
      create: (type: ResourceType, manifest: Core & SyncConflict) =>
        effect(async () => {
          if (!isCore(type)) return this.#openConflict(manifest);
          this.#overtake();
          if (this.core !== undefined) throw refuses(409, "AlreadyExists");
          const { annotations, labels } = manifest.metadata;
          const metadata = { ...this.#stand(`core-${this.#count}`), annotations, labels };
          this.core = { ...manifest, metadata } as Core;
          return { metadata: { ...metadata } };
        }),
      mergePatch: (_type: ResourceType, _key: object, patch: { metadata: Core["metadata"]; data?: object }) =>
        effect(async () => {
          this.#overtake();
          if (this.core === undefined) throw refuses(404, "NotFound");
          const { uid, resourceVersion, ...metadata } = patch.metadata;
          const stands = this.core.metadata;
          if (uid !== stands.uid || resourceVersion !== stands.resourceVersion) throw refuses(409, "Conflict");
          if (!this.isOurs) throw new Error("what is not ours was written over");
          const before = new Map(KEYS.map((key) => [key, this.there(key)]));
          const isLetGo = this.isLetGo;
          this.#change({ ...patch, metadata });
          for (const [key, value] of before) {
            if (isLetGo && value !== undefined && value !== this.there(key)) this.writtenOver.add(`${key} ${value}`);
          }
          return { metadata: { ...this.core.metadata } };
        }),
      delete: (_type: ResourceType, { name }: { readonly name: string }) =>
        effect(async () => {
          this.tenants.conflicts = this.tenants.conflicts.filter(({ metadata }) => metadata.name !== name);
        }),
      applyStatus: (_type: ResourceType, { metadata, status }: SyncConflict) =>
        effect(async () => {
          this.tenants.conflicts = this.tenants.conflicts.map((each) =>
            each.metadata.name === metadata.name ? ({ ...each, status } as SyncConflict) : each,
          );
        }),
    };
  }

  #openConflict(conflict: SyncConflict): void {
    const { metadata } = conflict;
    if (this.tenants.conflicts.some((each) => each.metadata.name === metadata.name)) {
      throw refuses(409, "AlreadyExists");
    }
    this.#count += 1;
    const made = { ...conflict, metadata: { ...metadata, uid: `conflict-${this.#count}` } };
    this.tenants.conflicts = [...this.tenants.conflicts, made];
  }

  #overtake(): void {
    const { beforeWrite } = this;
    this.beforeWrite = undefined;
    beforeWrite?.();
  }

  #change(patch: object): void {
    if (this.core === undefined) return;
    this.#count += 1;
    const changed = merge(this.core, patch) as Core;
    const metadata = { ...changed.metadata, resourceVersion: `${this.#count}` };
    this.core = { ...changed, metadata };
  }

  #stand(uid: string): Core["metadata"] {
    this.#count += 1;
    return { name: NAME, namespace: NAMESPACE, uid, resourceVersion: `${this.#count}` };
  }
}
