/** What the leader does for gateways besides reconciling: it follows how they are, and finds whose object disappeared. */
import { setTimeout as delay } from "node:timers/promises";
import { isNotFound } from "../controllers/runtime/api-error.ts";
import { resourceType } from "../controllers/runtime/resource-type.ts";
import type { KubernetesApi } from "../controllers/runtime/transport.ts";
import { healthOf, isRegistered, lastHeartbeat } from "../core/fleet/health.ts";
import type { FleetStore, GatewayRecord } from "../core/ports/fleet-store.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import { type Gateway, gatewayKind } from "../crds/gateway.ts";
import { Chores, type ChoresDependencies } from "./chores.ts";

export interface GatewayChoresDependencies extends ChoresDependencies {
  readonly store: Pick<FleetStore, "gateways">;
  readonly cluster: { gateway(name: string): Gateway | undefined };
  readonly api: Pick<KubernetesApi, "get">;
  /** Has its controller revoke the gateway of that name, whose object is gone. */
  readonly endGateway: (name: string) => void;
  readonly now?: () => Date;
  /** 10 seconds when absent. */
  readonly lookEveryMs?: number;
}

/** How a gateway stands, for metrics. */
export interface GatewayFigures {
  readonly name: string;
  readonly environment: string;
  readonly role: string;
  readonly score: number;
  readonly ageSeconds: number;
  /** Until its certificate ends, negative after that; undefined while it has told nothing. */
  readonly certificateSeconds: number | undefined;
  readonly queueLength: number | undefined;
}

const LOOK_EVERY_MS = 10_000;
const type = resourceType(gatewayKind);

export class GatewayChores extends Chores<GatewayChoresDependencies> {
  #records: readonly GatewayRecord[] = [];

  /** Of those that have registered. Ages go on when PostgreSQL does not answer. */
  get figures(): readonly GatewayFigures[] {
    const { now = () => new Date() } = this.deps;
    return this.#records.filter(isRegistered).map((record) => figuresOf(record, now()));
  }

  protected async work(_writer: Writer, signal: AbortSignal): Promise<void> {
    const { lookEveryMs = LOOK_EVERY_MS } = this.deps;
    while (!signal.aborted) {
      await this.attempt("follow gateways", async () => {
        this.#records = await this.deps.store.gateways();
        await this.#endVanished(signal);
      });
      await delay(lookEveryMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
    this.#records = [];
  }

  async #endVanished(signal: AbortSignal): Promise<void> {
    const { cluster, api, endGateway } = this.deps;
    for (const { name, revokedAt } of this.#records) {
      if (revokedAt !== undefined || cluster.gateway(name) !== undefined) continue;
      // REST makes an object and its token in one moment, which a cache may see in another order.
      const gone = await api.get(type, { name }, { metadataOnly: true, signal }).then(
        () => false,
        (error: unknown) => {
          if (isNotFound(error, name)) return true;
          throw error;
        },
      );
      if (gone) endGateway(name);
    }
  }
}

function figuresOf(record: GatewayRecord, now: Date): GatewayFigures {
  const { name, environment = "", role = "" } = record;
  const heartbeat = lastHeartbeat(record);
  const { score, ageSeconds = 0 } = healthOf(record, now);
  const until = heartbeat && (new Date(heartbeat.certificateNotAfter).getTime() - now.getTime()) / 1_000;
  return {
    name,
    environment,
    role,
    score,
    ageSeconds,
    certificateSeconds: until,
    queueLength: heartbeat?.queueLength,
  };
}
