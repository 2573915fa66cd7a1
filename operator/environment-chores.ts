/**
 * What the leader does for environments besides reconciling: whose object disappeared is released, what was begun for one is brought to its end, Failovers that ended long ago are
 * deleted, and metrics are told who acts.
 */
import { setTimeout as delay } from "node:timers/promises";
import { outlived } from "../controllers/failover/history.ts";
import { isNotFound } from "../controllers/runtime/api-error.ts";
import { resourceType } from "../controllers/runtime/resource-type.ts";
import type { KubernetesApi } from "../controllers/runtime/transport.ts";
import { isOpen } from "../core/fleet/environment.ts";
import type { Environments, KnownEnvironment } from "../core/fleet/environments.ts";
import type { Actor } from "../core/ports/audit-log.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import { type Failover, failoverKind } from "../crds/failover.ts";
import { type GatewayEnvironment, gatewayEnvironmentKind } from "../crds/gatewayenvironment.ts";
import { Chores, type ChoresDependencies } from "./chores.ts";

export interface EnvironmentChoresDependencies extends ChoresDependencies {
  readonly environments: Pick<Environments, "list" | "fence" | "settle">;
  readonly cluster: {
    gatewayEnvironment(name: string): GatewayEnvironment | undefined;
    failovers(): Iterable<Failover>;
  };
  readonly api: Pick<KubernetesApi, "get" | "delete">;
  /** Has its controller release the environment of that GatewayEnvironment, whose object is gone. */
  readonly endEnvironment: (name: string) => void;
  /** 10 seconds when absent. */
  readonly lookEveryMs?: number;
}

/** How an environment with a pair stands, for metrics. */
export interface EnvironmentFigures {
  readonly environment: string;
  readonly failoverActive: boolean;
}

const LOOK_EVERY_MS = 10_000;
const CHORES: Actor = { kind: "Controller", name: "environments" };
const type = resourceType(gatewayEnvironmentKind);
const failoverType = resourceType(failoverKind);

export class EnvironmentChores extends Chores<EnvironmentChoresDependencies> {
  #states: readonly KnownEnvironment[] = [];

  get figures(): readonly EnvironmentFigures[] {
    return this.#states
      .filter(({ record }) => record.pair !== undefined)
      .map(({ environment, record }) => ({ environment, failoverActive: record.active === "Standby" }));
  }

  protected async work(writer: Writer, signal: AbortSignal): Promise<void> {
    const { environments, lookEveryMs = LOOK_EVERY_MS } = this.deps;
    while (!signal.aborted) {
      await this.attempt("follow environments", async () => {
        this.#states = await environments.list();
      });
      for (const state of this.#states) {
        const { environment, record } = state;
        // What is wrong with one is no reason to leave the others.
        await this.attempt(`follow environment ${environment}`, () =>
          record.pair === undefined
            ? this.#bringToEnd(writer, state)
            : this.#endVanished(writer, state, record.pair.object, signal),
        );
      }
      await this.attempt("delete Failovers that ended long ago", () => this.#deleteOutlived(signal));
      await delay(lookEveryMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
    this.#states = [];
  }

  /** What has no object has no controller that would do it. */
  async #bringToEnd(writer: Writer, state: KnownEnvironment): Promise<void> {
    const { environments } = this.deps;
    const { record, environment, at } = state;
    if (record.fencedUntil === undefined) await environments.fence(writer, environment, CHORES);
    else if (!record.settled && isOpen(record, at)) await environments.settle(writer, state, CHORES);
  }

  async #endVanished(writer: Writer, state: KnownEnvironment, name: string, signal: AbortSignal): Promise<void> {
    const { cluster, api, endEnvironment } = this.deps;
    if (cluster.gatewayEnvironment(name) !== undefined) return;
    try {
      await api.get(type, { name }, { metadataOnly: true, signal });
    } catch (error) {
      if (!isNotFound(error, name)) throw error;
      // A pair whose object may still come, after a restore, goes on as it was, in its new epoch.
      await this.#bringToEnd(writer, state);
      endEnvironment(name);
    }
  }

  async #deleteOutlived(signal: AbortSignal): Promise<void> {
    const { cluster, api } = this.deps;
    for (const { metadata } of outlived(cluster.failovers())) {
      const { name, uid } = metadata;
      // The cache may not have heard yet that it is gone, or what it is by now.
      await api.delete(failoverType, { name }, { preconditions: { uid }, signal }).catch((error: unknown) => {
        if (!isNotFound(error, name)) throw error;
      });
    }
  }
}
