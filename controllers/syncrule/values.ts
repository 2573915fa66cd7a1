/** Values of the Secrets that a rule covers: read for the vault, and stored from it, each on record in the rule's name. */
import { Unavailable, Waiting } from "../../core/errors.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import { normalVaultUrl } from "../../core/ports/target-vaults.ts";
import { Conflict, type SecretIdentity, type SecretRecord, type Writer } from "../../core/ports/vault-store.ts";
import type { Sensitive } from "../../core/sensitive.ts";
import type { EntryPlace } from "../../core/sync/entries.ts";
import type { Expected, Held } from "../../core/sync/exchange.ts";
import { namer } from "../../core/sync/names.ts";
import type { PushContext } from "../../core/sync/push.ts";
import type { Vault } from "../../core/vault/vault.ts";
import type { Secret } from "../../crds/secret.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import type { Cluster, Tenancy } from "../cluster.ts";
import { keyOf } from "../runtime/resource-type.ts";
import { identityOf, lifecycleOf } from "../secret/observe.ts";
import { keyVaultOf, namingOf } from "./coverage.ts";
import { coreSecretName } from "./kubernetes/place.ts";

export interface RuleValuesDependencies {
  readonly cluster: Cluster;
  readonly vault: Vault;
  readonly writer: () => Writer;
  /** A Secret, by `namespace/name`, has another version, to be delivered. */
  readonly onPulled: (key: string) => void;
}

const SOON_MS = 1_000;

export class RuleValues {
  readonly #deps: RuleValuesDependencies;
  readonly #rule: SyncRule;
  readonly #tenancy: Tenancy;
  readonly #actor: Actor;

  constructor(deps: RuleValuesDependencies, rule: SyncRule, tenancy: Tenancy, actor: Actor) {
    this.#deps = deps;
    this.#rule = rule;
    this.#tenancy = tenancy;
    this.#actor = actor;
  }

  /** Of the value, if the entry had it. */
  async fingerprint(name: string, key: string, value: Sensitive): Promise<string> {
    const { vault, writer } = this.#deps;
    return (await vault.digester(writer(), this.#identityOf(this.#secretOf(name)))).fingerprint(key, value);
  }

  /** The fingerprint that an entry had in a version; undefined when that is not kept. */
  async fingerprintIn(name: string, version: number, key: string): Promise<string | undefined> {
    const { vault } = this.#deps;
    const record = await vault.describe(this.#identityOf(this.#secretOf(name)));
    return record && vault.fingerprintIn(record, version, key);
  }

  /** Values for the push, each read audited; the record of a secret is looked up once. */
  reader(plan: readonly { readonly entry: ReadEntry }[]): PushContext["open"] {
    const { vault, cluster } = this.#deps;
    const { namespace = "", name: ruleName } = this.#rule.metadata;
    const names = new Map(plan.map(({ entry }) => [entry.secretId ?? "", entry.secretName]));
    const records = new Map<string, Promise<SecretRecord | undefined>>();
    const recordOf = (name: string): Promise<SecretRecord | undefined> => {
      const secret = cluster.secret(namespace, name);
      return secret === undefined ? Promise.resolve(undefined) : vault.describe(this.#identityOf(secret));
    };
    return async (secretId: string, version: number, key: string): Promise<Sensitive> => {
      const name = names.get(secretId) ?? "";
      const pending = records.get(secretId) ?? recordOf(name);
      records.set(secretId, pending);
      const record = await pending;
      const purpose = `push by SyncRule ${namespace}/${ruleName}`;
      const opened = record && (await vault.open(record, { version, keys: [key], actor: this.#actor, purpose }));
      const value = opened?.values.get(key);
      if (value === undefined) {
        throw new Unavailable(
          "SecretNotStored",
          `version ${version} of Secret ${namespace}/${name} is not stored any more`,
        );
      }
      return value;
    };
  }

  /** Stores what the vault has, as the Secret is now. */
  async take(name: string, values: ReadonlyMap<string, Sensitive>, expected: Expected = new Map()): Promise<Held> {
    const { vault, writer, onPulled } = this.#deps;
    const secret = this.#secretOf(name);
    const identity = this.#identityOf(secret);
    const seen = await vault.describe(identity);
    assertExpected(secret, seen, expected);
    const { record, created } = await vault
      .put(writer(), {
        identity,
        seen,
        entries: secret.spec.entries,
        readers: undefined,
        values,
        alsoGenerated: this.#rule.spec.direction === "Bidirectional",
        lifecycle: lifecycleOf(secret),
        actor: this.#actor,
        details: this.#origin(name, values),
      })
      .catch((error: unknown) => Promise.reject(meanwhile(secret, error)));
    if (created) onPulled(keyOf(secret));
    return { id: record.id, version: record.currentVersion, entries: record.entries };
  }

  /** Keeps what lost, see `Vault.keepBeside`. */
  async keepBeside(name: string, values: ReadonlyMap<string, Sensitive>, expected: Expected): Promise<Held> {
    const { vault, writer, onPulled } = this.#deps;
    const secret = this.#secretOf(name);
    const seen = await vault.describe(this.#identityOf(secret));
    assertExpected(secret, seen, expected);
    if (seen === undefined) throw deletedMeanwhile(secret);
    const request = {
      entries: secret.spec.entries,
      values,
      actor: this.#actor,
      details: this.#origin(name, values),
    };
    const record = await vault
      .keepBeside(writer(), seen, request)
      .catch((error: unknown) => Promise.reject(meanwhile(secret, error)));
    if (record !== seen) onPulled(keyOf(secret));
    return { id: record.id, version: record.currentVersion, entries: record.entries };
  }

  /** For the record: from which entries of which vault, or keys of which core Secret. */
  #origin(secretName: string, values: ReadonlyMap<string, Sensitive>) {
    const { kubernetes } = this.#rule.spec.target;
    if (kubernetes !== undefined) {
      const to = new Map(kubernetes.keys?.map((key) => [key.from, key.to]));
      const keys = [...values.keys()].map((key) => to.get(key) ?? key).sort();
      const from = `core Secret ${kubernetes.namespaces[0]}/${coreSecretName(this.#rule, secretName)}`;
      return { from, entries: keys.join(",") };
    }
    const nameOf = namer(namingOf(this.#rule));
    const names = [...values.keys()].map((key) => nameOf({ secretName, key })).sort();
    return { from: normalVaultUrl(keyVaultOf(this.#deps.cluster, this.#rule).spec.vaultUrl), entries: names.join(",") };
  }

  #secretOf(name: string): Secret {
    const { namespace = "" } = this.#rule.metadata;
    const secret = this.#deps.cluster.secret(namespace, name);
    if (secret === undefined) throw deletedMeanwhile({ metadata: { namespace, name } });
    return secret;
  }

  #identityOf(secret: Secret): SecretIdentity {
    return identityOf(secret, this.#tenancy.namespace.uid);
  }
}

/** Somebody was faster: it is looked into again. */
const meanwhile = ({ metadata }: Secret, error: unknown): unknown =>
  error instanceof Conflict
    ? new Waiting("Progressing", `Secret ${metadata.name} was written meanwhile`, SOON_MS)
    : error;

/** Whose values a plan may have to read. */
export type ReadEntry = Pick<EntryPlace, "secretName"> & { readonly secretId?: string };

const deletedMeanwhile = ({
  metadata: { namespace, name },
}: {
  readonly metadata: { readonly namespace?: string | undefined; readonly name: string };
}): Waiting => new Waiting("SecretNotStored", `Secret ${namespace}/${name} was deleted meanwhile`, SOON_MS);

/** Throws when somebody wrote an entry since the plan was made. */
function assertExpected({ metadata }: Secret, seen: SecretRecord | undefined, expected: Expected): void {
  const fingerprints = new Map(seen?.entries.map(({ key, fingerprint }) => [key, fingerprint]));
  for (const [key, fingerprint] of expected) {
    if (fingerprints.get(key) === fingerprint) continue;
    throw new Waiting("Progressing", `entry ${key} of Secret ${metadata.name} was written meanwhile`, SOON_MS);
  }
}
