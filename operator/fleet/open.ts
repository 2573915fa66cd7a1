/** What every replica that serves gateways needs, whoever leads. */
import type { Stores } from "../../adapters/postgres/stores.ts";
import type { Cluster } from "../../controllers/cluster.ts";
import { ClusterIssuerPolicy } from "../../controllers/signing/policy.ts";
import { Unavailable } from "../../core/errors.ts";
import { FleetAdmission } from "../../core/fleet/admission.ts";
import { Environments, type EnvironmentsParts } from "../../core/fleet/environments.ts";
import { FleetCa } from "../../core/fleet/fleet-ca.ts";
import { GatewayReach } from "../../core/fleet/gateway-reach.ts";
import { GatewaySigning } from "../../core/fleet/gateway-signing.ts";
import { Registrations } from "../../core/fleet/registrations.ts";
import { TaskExchange } from "../../core/fleet/task-exchange.ts";
import { Authorities } from "../../core/pki/authority.ts";
import type { Logger } from "../../program/logging.ts";
import { endWithin } from "../shutdown.ts";
import type { TaskEnded } from "./metrics.ts";
import type { FleetServices } from "./services.ts";

/** A PostgreSQL that does not answer is not to hold up the end of the program. */
const STOP_WITHIN_MS = 2_000;

export interface Fleet {
  /** For the routes of the channel; those of replicas and of writes need the caches, see `replica.ts` and `writable-secrets.ts`. */
  readonly services: Omit<FleetServices, "replica" | "replicaValues" | "writes">;
  readonly registrations: Registrations;
  readonly admission: FleetAdmission;
  readonly environments: Environments;
  /** What this replica has gateways do. */
  readonly tasks: GatewayReach;
  /** Before the stores are closed; waits for 2 seconds at most. */
  stop(): Promise<void>;
}

/** What was left behind by a replica that died is deleted. */
const SWEEP_EVERY_MS = 30_000;

export interface FleetOptions {
  /** What the objects of the cluster say of an environment. */
  readonly rememberedEpoch: NonNullable<EnvironmentsParts["remembered"]>;
  readonly onTaskEnded?: TaskEnded;
}

/**
 * Begins to read which gateways are admitted; whether there is a CA yet is not waited for.
 *
 * @param cluster asked when a gateway asks
 */
export function openFleet(
  stores: Stores,
  cluster: Pick<Cluster, "clusterIssuer">,
  log: Pick<Logger, "debug" | "warn" | "error">,
  { rememberedEpoch, onTaskEnded }: FleetOptions,
): Fleet {
  const { fleet: store, pki, keys, audit } = stores;
  const authorities = new Authorities({ store: pki, keys, audit });
  const ca = new FleetCa(authorities);
  const environments = new Environments({
    store: stores.environments,
    keys,
    remembered: rememberedEpoch,
    onProblem: (error, environment) => log.error({ error, environment }, "nobody acts: who may cannot be told"),
  });
  const { standing } = environments;
  const registrations = new Registrations({
    store,
    pki,
    ca,
    keys,
    audit,
    standing,
    onRefused: (reason, { address }) => log.warn({ reason, address }, "a bootstrap token was refused"),
  });
  const admission = new FleetAdmission({
    store,
    ca,
    authorities,
    keys,
    onProblem: (error) => log.warn({ error }, "which gateways are admitted cannot be told"),
  });
  const tasks = new TaskExchange({
    store: stores.tasks,
    fleet: store,
    keys,
    standing,
    ...(onTaskEnded && { onEnded: onTaskEnded }),
    onProblem: (error) => {
      // That PostgreSQL is away is told elsewhere.
      const tampered = error instanceof Unavailable && error.code === "TamperDetected";
      log[tampered ? "warn" : "debug"]({ error }, "a task of gateways cannot be followed");
    },
  });
  const reach = new GatewayReach(tasks);
  const taskHints = stores.listenTasks({
    onHint: (says) => tasks.hint(says),
    onError: (error) => log.debug({ error }, "hints of tasks interrupted"),
  });
  const sweeping = setInterval(() => {
    void tasks.sweep().catch((error: unknown) => log.debug({ error }, "tasks that were left behind stay for now"));
  }, SWEEP_EVERY_MS);
  sweeping.unref();
  const policy = new ClusterIssuerPolicy({ cluster, store: pki });
  const signing = new GatewaySigning({ store: stores.signing, policy, keys, audit });
  const hints = stores.listenFleet({
    onHint: () => {
      registrations.hint();
      signing.hint();
      admission.hint();
      tasks.hint("standing");
      // One that was away may be admitted, or in charge, again.
      reach.heard();
    },
    onError: (error) => log.debug({ error }, "hints of the fleet interrupted"),
  });
  admission.start();
  return {
    services: { registrations, tasks, signing },
    registrations,
    admission,
    environments,
    tasks: reach,
    async stop() {
      clearInterval(sweeping);
      await endWithin(STOP_WITHIN_MS, [hints.stop(), taskHints.stop(), admission.stop()]);
    },
  };
}
