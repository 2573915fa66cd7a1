/**
 * Takes values over from core Secrets. All that changed of one Secret becomes one version. Order of effects: read, store,
 * remember, as in `core/sync/pull.ts`; values are in memory for the length of one call only.
 */
import { Waiting } from "../../../core/errors.ts";
import { failpoint } from "../../../core/failpoints.ts";
import type { SyncStore } from "../../../core/ports/sync-store.ts";
import type { Writer } from "../../../core/ports/vault-store.ts";
import { Sensitive } from "../../../core/sensitive.ts";
import type { Held } from "../../../core/sync/exchange.ts";
import { type Done, type SyncResult, workThrough } from "../../../core/sync/run.ts";
import type { SyncRule } from "../../../crds/syncrule.ts";
import { type Cluster, tenancyOf } from "../../cluster.ts";
import { type CoreSecret, readCoreSecret } from "../../delivery/core-secret.ts";
import type { KubernetesApi } from "../../runtime/transport.ts";
import { asKnown } from "./copy.ts";
import { targetNamespace } from "./place.ts";
import { missingKey, refusalOf, sourceUrl, stateOf, type Take, type WantedValue } from "./takes.ts";

export interface TakePerformerDependencies {
  readonly api: KubernetesApi;
  readonly cluster: Cluster;
  readonly store: Pick<SyncStore, "recordPulled">;
  readonly installation: string;
  readonly writer: () => Writer;
}

/** Stores values of external entries as one version, unless the secret has them. They are not disposed of. */
export type Put = (secretName: string, values: ReadonlyMap<string, Sensitive>) => Promise<Pick<Held, "id" | "entries">>;

const SOON_MS = 1_000;

export class TakePerformer {
  readonly #deps: TakePerformerDependencies;

  constructor(deps: TakePerformerDependencies) {
    this.#deps = deps;
  }

  takeAll(rule: SyncRule, takes: readonly Take[], put: Put, signal: AbortSignal): Promise<SyncResult> {
    const tasks = takes.map((take) => ({
      entries: take.entries,
      run: () => this.#take(rule, take, put, signal).catch((error) => Promise.reject(asKnown(error))),
    }));
    return workThrough(tasks, { signal });
  }

  async #take(rule: SyncRule, take: Take, put: Put, signal: AbortSignal): Promise<readonly Done[]> {
    const { api, cluster, installation } = this.#deps;
    const { namespace = "" } = rule.metadata;
    // Asked again before the value is read: the Project may have changed its mind since the plan was made.
    const { uid } = targetNamespace(cluster, rule, tenancyOf(cluster, rule), take.namespace.name);
    if (uid !== take.namespace.uid) {
      throw new Waiting("Progressing", `namespace ${take.namespace.name} was made anew`, SOON_MS);
    }
    const at = performance.now();
    const live = await readCoreSecret(api, take.namespace.name, take.coreName, signal);
    const about = { ownNamespace: namespace, installation, namespace: take.namespace, known: false };
    const done: Done[] = [];
    const found: { readonly entry: WantedValue; readonly value: Sensitive }[] = [];
    try {
      for (const entry of take.entries) {
        const refused = refusalOf(entry, live, about);
        const base64 = live?.data?.[entry.to];
        if (refused !== undefined) done.push({ kind: "Failed", failure: refused });
        else if (base64 === undefined) done.push({ kind: "Failed", failure: missingKey(entry) });
        else found.push({ entry, value: new Sensitive(Buffer.from(base64, "base64")) });
      }
      if (live === undefined || found.length === 0) return done;
      return [...done, ...(await this.#keep(rule, take, live, { found, at, put }))];
    } finally {
      for (const { value } of found) value.dispose();
    }
  }

  async #keep(
    rule: SyncRule,
    take: Take,
    live: CoreSecret,
    {
      found,
      at,
      put,
    }: {
      readonly found: readonly { readonly entry: WantedValue; readonly value: Sensitive }[];
      readonly at: number;
      readonly put: Put;
    },
  ): Promise<readonly Done[]> {
    const { store, writer } = this.#deps;
    failpoint("sync.beforePull");
    const kept = await put(take.secretName, new Map(found.map(({ entry, value }) => [entry.key, value])));
    failpoint("sync.afterPull");
    const fingerprints = new Map(kept.entries.map(({ key, fingerprint }) => [key, fingerprint]));
    const items = found.map(({ entry }) => {
      const fingerprint = fingerprints.get(entry.key);
      if (fingerprint === undefined) throw new Error(`entry ${entry.key} has no value although it was stored`);
      return {
        secretId: kept.id,
        key: entry.key,
        ruleUid: rule.metadata.uid,
        vaultUrl: sourceUrl(take.namespace),
        entryName: `${take.coreName}/${entry.to}`,
        fingerprint,
        targetVersion: stateOf(live, entry),
        targetUpdatedOn: new Date(live.metadata.creationTimestamp ?? 0),
      };
    });
    await store.recordPulled(writer(), items, performance.now() - at);
    failpoint("sync.afterPulled");
    return found.map(({ entry }) => ({
      kind: fingerprints.get(entry.key) === entry.fingerprint ? "Confirmed" : "Written",
    }));
  }
}
