/**
 * Whether the database belongs to this cluster. One that was restored from another cluster, or into this one, is left alone by every
 * program until somebody has taken it over: it would take each namespace for another one, make new values, and end what it misses.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Stores } from "../adapters/postgres/stores.ts";
import { loadKubeConfig } from "../controllers/runtime/kubeconfig.ts";
import type { ResourceType } from "../controllers/runtime/resource-type.ts";
import { KubernetesApi } from "../controllers/runtime/transport.ts";
import { SafeError, Unavailable } from "../core/errors.ts";
import type { HomeRecord, HomeStore } from "../core/ports/home-store.ts";
import { Conflict, type Writer } from "../core/ports/vault-store.ts";
import { HeldUids, type HomeKeys, homeEntry, homeMac, judgedBinding, judgedHome } from "../core/recovery/home.ts";
import type { ObjectMeta } from "../crds/common.ts";
import type { Logger } from "../program/logging.ts";
import type { Config } from "./config.ts";

export const namespaces: ResourceType = {
  group: "",
  version: "v1",
  plural: "namespaces",
  kind: "Namespace",
  namespaced: false,
};

/** There in every cluster, and never made anew in one. */
const CLUSTER_NAMESPACE = "kube-system";

interface Named {
  readonly metadata: ObjectMeta;
}

/** By what clusters are told from each other. Listed, since not every program may get a namespace. @throws Unavailable; ApiError */
export async function clusterUidOf(api: Pick<KubernetesApi, "list">): Promise<string> {
  const fieldSelector = `metadata.name=${CLUSTER_NAMESPACE}`;
  for await (const { items } of api.list<Named>(namespaces, { fieldSelector, metadataOnly: true })) {
    const [found] = items;
    if (found !== undefined) return found.metadata.uid;
  }
  throw new Unavailable("Failed", `the cluster has no namespace ${CLUSTER_NAMESPACE}, by which it is known`);
}

export interface HomeParts {
  readonly store: Pick<HomeStore, "home" | "mark" | "writeHome" | "bindings" | "heldObjects">;
  readonly keys: HomeKeys;
  readonly api: Pick<KubernetesApi, "list">;
  readonly log: Pick<Logger, "info" | "warn" | "error">;
  /** As one that runs told by whoever has taken the database over, what changed is to count for everything from now on. */
  readonly onChanged?: (reason: string) => void;
  /** In milliseconds. */
  readonly lookEveryMs?: number;
}

const LOOK_EVERY_MS = 5_000;
const TELL_EVERY_MS = 60_000;
const REMIND_EVERY_MS = 3_600_000;
/** Of a database that nobody has led since there are such rows, so many of its namespaces are looked for. */
const SAMPLE = 200;

const FIX =
  "nothing is written, delivered or deleted until it is taken over: mazevault-backup adopt (docs/guides/back-up-and-restore.md)";

export class Home {
  readonly held = new HeldUids();
  readonly #parts: HomeParts;
  readonly #stopped = new AbortController();
  #seen: { readonly record: HomeRecord | undefined; readonly mark: string } | undefined;
  #clusterUid: string | undefined;
  #problem: string | undefined = "not looked at yet";
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(parts: HomeParts) {
    this.#parts = parts;
  }

  /** Why nothing is done on this database, for readiness; undefined when it belongs here. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Taken over, and what is missing may still come: nothing is ended because its object is not there. */
  get recovering(): boolean {
    return this.#seen?.record?.state === "Adopted";
  }

  /** Resolves when the database belongs to this cluster, which is looked at from then on. Throws when `stop` is called before. */
  async belongs(): Promise<void> {
    let toldAt = Number.NEGATIVE_INFINITY;
    for (;;) {
      const problem = await this.#look().catch(unknown);
      if (problem === undefined) break;
      if (performance.now() - toldAt >= TELL_EVERY_MS || problem !== this.#problem) {
        this.#parts.log.error({ problem }, "the database is not used");
        toldAt = performance.now();
      }
      this.#problem = problem;
      await delay(this.#everyMs, undefined, { signal: this.#stopped.signal });
    }
    this.#problem = undefined;
    this.#tellRecovery();
    void this.#follow();
  }

  /** Of the recovery, for whoever looks at readiness. */
  get recovery(): string {
    return this.recovering ? "not settled: what is missing is kept until mazevault-backup settle" : "none";
  }

  /** Whoever forgets to settle it wonders why nothing is deleted. */
  #tellRecovery(): void {
    if (!this.recovering || performance.now() - this.#toldAt < REMIND_EVERY_MS) return;
    this.#toldAt = performance.now();
    this.#parts.log.warn(
      { awaited: this.held.awaited },
      "the database was restored: nothing is ended because its object is missing, until mazevault-backup settle",
    );
  }

  /** By whoever leads: the database is of this cluster from now on, unless it is of one already. */
  async choose(writer: Writer, actor: string): Promise<void> {
    const problem = await this.#look();
    if (problem !== undefined) throw new Unavailable("Failed", problem);
    if (this.#seen?.record !== undefined || this.#clusterUid === undefined) return;
    const record: HomeRecord = { clusterUid: this.#clusterUid, state: "Settled" };
    const { store, keys } = this.#parts;
    const entry = homeEntry("ClusterChosen", 1n, { kind: "Controller", name: actor }, { cluster: record.clusterUid });
    try {
      await store.writeHome(writer, 0n, record, homeMac(keys, record, 1n), [entry]);
    } catch (error) {
      if (!(error instanceof Conflict)) throw error;
    }
    await this.#look();
  }

  stop(): void {
    this.#stopped.abort();
  }

  get #everyMs(): number {
    return this.#parts.lookEveryMs ?? LOOK_EVERY_MS;
  }

  async #follow(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await delay(this.#everyMs, undefined, { signal, ref: false }).catch(() => undefined);
      if (signal.aborted) return;
      const before = this.#seen;
      // PostgreSQL or the API server may be away: what was known counts on.
      const problem = await this.#look().catch(() => undefined);
      const isNew = problem !== undefined && problem !== this.#problem;
      this.#problem = problem;
      this.#tellRecovery();
      if (isNew) {
        this.#parts.log.error({ problem }, "the database is not used any more");
        this.#parts.onChanged?.(problem);
      }
      // The first leader has only said what everybody saw.
      if (problem === undefined && before?.record !== undefined && before !== this.#seen)
        this.#parts.onChanged?.("what the database stands for in this cluster has changed");
    }
  }

  /** What is wrong with using the database here. */
  async #look(): Promise<string | undefined> {
    const { store, keys, api } = this.#parts;
    this.#clusterUid ??= await clusterUidOf(api);
    // Before what it stands for: what is written meanwhile is then looked at once more.
    const mark = await store.mark();
    if (this.#seen?.mark === mark) return undefined;
    const stored = await store.home();
    const record = stored && judgedHome(keys, stored);
    if (record === undefined) {
      if (!(await this.#isOfThisCluster()))
        return `the database knows namespaces of another cluster, and none of this one (${this.#clusterUid}); ${FIX}`;
    } else if (record.state === "Restored") {
      return `the database was restored from a backup; ${FIX}`;
    } else if (record.clusterUid !== this.#clusterUid) {
      return `the database belongs to cluster ${record.clusterUid}, and this is ${this.#clusterUid}; ${FIX}`;
    }
    const bindings = (await store.bindings()).map((each) => judgedBinding(keys, each));
    this.held.load(bindings, record?.state === "Adopted");
    this.#seen = { record, mark };
    return undefined;
  }

  /** A UID is never given twice, so that one that is found here proves it. A database that knows of no namespace is new. */
  async #isOfThisCluster(): Promise<boolean> {
    const { store, api } = this.#parts;
    const held = (await store.heldObjects({ kind: "Namespace", heldUid: "" }, SAMPLE)).filter(
      ({ kind, inUse }) => kind === "Namespace" && inUse,
    );
    if (held.length === 0) return true;
    const known = new Set(held.map(({ heldUid }) => heldUid));
    for await (const { items } of api.list<Named>(namespaces, { metadataOnly: true }))
      if (items.some(({ metadata }) => known.has(metadata.uid))) return true;
    return false;
  }
}

/**
 * @param onChanged what it stands for has changed, and is to count for everything from now on; a program whose database turns out to
 * be another cluster's ends, and waits when it is started again
 */
export async function openHome(
  { kubernetes }: Pick<Config, "kubernetes">,
  { home: store, keys }: Pick<Stores, "home" | "keys">,
  log: Pick<Logger, "info" | "warn" | "error">,
  onChanged: (reason: string) => void = () => {},
): Promise<Home> {
  const api = KubernetesApi.connect(await loadKubeConfig(kubernetes.kubeconfig));
  const home: Home = new Home({
    store,
    keys,
    api,
    log,
    onChanged: (reason) => {
      if (home.problem === undefined) onChanged(reason);
      else process.kill(process.pid, "SIGTERM");
    },
  });
  return home;
}

/** Neither PostgreSQL's nor the API server's silence ends the start. */
const unknown = (error: unknown): string => {
  if (error instanceof Unavailable && error.code === "TamperDetected") throw error;
  const why = error instanceof SafeError ? error.message : "PostgreSQL or the API server does not answer";
  return `it is not known yet whether the database belongs to this cluster: ${why}`;
};
