/** Reads what decides about one Secret. Values are turned into keyed fingerprints where they are read. */

import { durationMs } from "../../core/duration.ts";
import { Stalled, Waiting } from "../../core/errors.ts";
import type { Lifecycle, SecretIdentity, Writer } from "../../core/ports/vault-store.ts";
import { Sensitive } from "../../core/sensitive.ts";
import type { Digester } from "../../core/vault/fingerprint.ts";
import type { Vault } from "../../core/vault/vault.ts";
import type { Secret, SecretEntry } from "../../crds/secret.ts";
import { type Cluster, tenancyOf } from "../cluster.ts";
import { readCoreSecret } from "../delivery/core-secret.ts";
import type { DesiredDelivery } from "../delivery/desired.ts";
import type { DeliveryObserver } from "../delivery/observe.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { type Observed, secretDelivery } from "./decide.ts";

/** A watch tells at once when it appears; this is only the safety net. */
const SOURCE_RECHECK_MS = 60_000;
const DEFAULT_VERSIONS = 10;
const DEFAULT_SOFT_DELETE = "2160h";

export interface SecretDependencies {
  readonly api: KubernetesApi;
  readonly cluster: Cluster;
  readonly vault: Vault;
  readonly installation: string;
  /** The leader's epoch. */
  readonly writer: () => Writer;
}

export const identityOf = (secret: Secret, namespaceUid: string): SecretIdentity => ({
  project: secret.spec.projectRef.name,
  environment: secret.spec.environment,
  namespace: secret.metadata.namespace ?? "",
  namespaceUid,
  name: secret.metadata.name,
});

export const lifecycleOf = ({ spec }: Secret): Lifecycle => ({
  deletionPolicy: spec.deletionPolicy ?? "SoftDelete",
  softDeleteMs: durationMs(spec.retention?.softDelete ?? DEFAULT_SOFT_DELETE),
  keepVersions: spec.retention?.versions ?? DEFAULT_VERSIONS,
});

/** How long the version before a rotation stays readable, in milliseconds; 0: as retention says. */
export const overlapMs = ({ spec }: Secret): number =>
  spec.rotation?.overlap === undefined ? 0 : durationMs(spec.rotation.overlap);

export class SecretObserver {
  readonly #deps: SecretDependencies;
  readonly #delivery: DeliveryObserver;
  /** Fingerprints of source values by `uid/resourceVersion/key` of the core Secret and identity of the reader. */
  readonly #sources = new Map<string, string>();

  constructor(deps: SecretDependencies, delivery: DeliveryObserver) {
    this.#deps = deps;
    this.#delivery = delivery;
  }

  async observe(secret: Secret, signal: AbortSignal): Promise<Observed> {
    const { cluster, vault, installation, writer } = this.#deps;
    const { namespace } = tenancyOf(cluster, secret);
    const identity = identityOf(secret, namespace.uid);
    const [digests, record] = await Promise.all([vault.digester(writer(), identity), vault.describe(identity)]);
    const { deliver } = secret.spec;
    const desired = deliver && secretDelivery(secret, deliver, installation);
    const sources = await this.#fingerprintSources(secret, digests, desired, signal);
    return {
      installation,
      digests,
      lifecycle: lifecycleOf(secret),
      record,
      sources,
      core:
        desired === undefined
          ? { kind: "NotRequested" }
          : await this.#delivery.observe(desired, digests, record?.delivery, signal),
      restartProblems: [],
    };
  }

  /** Values of the secretRef entries, by entry key. */
  async readSources(secret: Secret, signal: AbortSignal): Promise<Map<string, Sensitive>> {
    const values = new Map<string, Sensitive>();
    for (const entry of secret.spec.entries) {
      if (entry.secretRef !== undefined) values.set(entry.key, await this.#readSource(secret, entry, signal));
    }
    return values;
  }

  async #fingerprintSources(
    secret: Secret,
    digests: Digester,
    desired: DesiredDelivery | undefined,
    signal: AbortSignal,
  ): Promise<Map<string, string>> {
    const namespace = secret.metadata.namespace ?? "";
    const fingerprints = new Map<string, string>();
    for (const [index, entry] of secret.spec.entries.entries()) {
      const { secretRef } = entry;
      if (secretRef === undefined) continue;
      if (secretRef.name === desired?.secretName) {
        throw new Stalled(
          "SourceIsOwnTarget",
          `spec.entries[${index}].secretRef: core Secret ${secretRef.name} is what this Secret delivers; ` +
            "take the value from another one, or deliver to another secretName",
        );
      }
      const source = this.#deps.cluster.coreSecret(namespace, secretRef.name);
      if (source === undefined) throw sourceNotFound(index, namespace, secretRef.name);
      const { uid, resourceVersion } = source.metadata;
      const cached = `${secret.metadata.uid}/${entry.key}/${uid}/${resourceVersion}/${secretRef.key}`;
      let fingerprint = this.#sources.get(cached);
      if (fingerprint === undefined) {
        const value = await this.#readSource(secret, entry, signal);
        fingerprint = digests.fingerprint(entry.key, value);
        value.dispose();
        this.#remember(cached, fingerprint);
      }
      fingerprints.set(entry.key, fingerprint);
    }
    return fingerprints;
  }

  async #readSource(secret: Secret, { key, secretRef }: SecretEntry, signal: AbortSignal): Promise<Sensitive> {
    const index = secret.spec.entries.findIndex((entry) => entry.key === key);
    const namespace = secret.metadata.namespace ?? "";
    if (secretRef === undefined) throw new TypeError(`entry ${key} has no secretRef`);
    const source = await readCoreSecret(this.#deps.api, namespace, secretRef.name, signal);
    if (source === undefined) throw sourceNotFound(index, namespace, secretRef.name);
    const value = source.data?.[secretRef.key];
    if (value === undefined) {
      throw new Waiting(
        "SourceKeyNotFound",
        `spec.entries[${index}].secretRef: core Secret ${namespace}/${secretRef.name} has no key ${secretRef.key}; ` +
          "add it there or correct the entry",
        SOURCE_RECHECK_MS,
      );
    }
    return new Sensitive(Buffer.from(value, "base64"));
  }

  #remember(cached: string, fingerprint: string): void {
    // Bounded: the oldest are read again, which costs one request each.
    if (this.#sources.size >= 50_000) this.#sources.delete(this.#sources.keys().next().value ?? "");
    this.#sources.set(cached, fingerprint);
  }
}

const sourceNotFound = (index: number, namespace: string, name: string): Waiting =>
  new Waiting(
    "SourceNotFound",
    `spec.entries[${index}].secretRef: there is no core Secret ${namespace}/${name} yet; create it or correct the entry`,
    SOURCE_RECHECK_MS,
  );
