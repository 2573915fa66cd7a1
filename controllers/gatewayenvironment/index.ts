/** The controller of `GatewayEnvironment`: pairs its gateways, and brings to its end what a switch of them began. */
import { createHash } from "node:crypto";
import { Unavailable } from "../../core/errors.ts";
import { type EnvironmentState, type Environments, environmentEntry } from "../../core/fleet/environments.ts";
import { type Heard, heardSince } from "../../core/fleet/silence.ts";
import type { Actor, AuditLog } from "../../core/ports/audit-log.ts";
import type { FleetStore } from "../../core/ports/fleet-store.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import type { Failover } from "../../crds/failover.ts";
import type { Gateway } from "../../crds/gateway.ts";
import { type GatewayEnvironment, gatewayEnvironmentKind } from "../../crds/gatewayenvironment.ts";
import { objectActor } from "../actor.ts";
import { requestFailover } from "../failover/request.ts";
import { isAlreadyExists, isNotFound } from "../runtime/api-error.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { type Action, decide, type Observed, type Referred } from "./decide.ts";

export interface GatewayEnvironmentCluster {
  gateway(name: string): Gateway | undefined;
  gatewayEnvironments(): Iterable<GatewayEnvironment>;
  /** Of the GatewayEnvironment of this name. */
  failoversOf(environment: string): readonly Failover[];
}

export interface GatewayEnvironmentControllerDependencies {
  readonly api: Pick<KubernetesApi, "get" | "create">;
  readonly cluster: GatewayEnvironmentCluster;
  readonly environments: Pick<Environments, "find" | "list" | "pair" | "restore" | "release" | "fence" | "settle">;
  readonly store: Pick<FleetStore, "gateway">;
  readonly audit: Pick<AuditLog, "append">;
  readonly writer: () => Writer;
}

/** Since then heartbeats could be stored, and this replica has been leading. */
interface Watching {
  readonly epoch: bigint;
  readonly since: Date;
  /** By GatewayEnvironment. */
  readonly heard: Map<string, Heard>;
}

type Outcome = Partial<Pick<Observed, "state" | "lastRequestedAt">>;

const SUFFIX_LENGTH = 8;
/** For what no object asks for any more, and what the time of a fence does. */
const CONTROLLER: Actor = { kind: "Controller", name: "gatewayenvironment" };

/** The older one counts; of two of the same second the one whose UID comes first. */
export function olderThan(object: GatewayEnvironment, others: Iterable<GatewayEnvironment>): string | undefined {
  const age = ({ metadata: { creationTimestamp = "", uid } }: GatewayEnvironment) => `${creationTimestamp} ${uid}`;
  return [...others].find(
    (other) =>
      other.spec.environment === object.spec.environment &&
      other.metadata.uid !== object.metadata.uid &&
      other.metadata.deletionTimestamp === undefined &&
      age(other) < age(object),
  )?.metadata.name;
}

/** The same however often it is tried, and another one each time that something was asked for, or changed, meanwhile. */
const suffixOf = ({ object, epoch, lastRequestedAt }: Extract<Action, { kind: "FailOver" }>): string =>
  createHash("sha256")
    .update(`${object.metadata.uid} ${epoch} ${lastRequestedAt?.toISOString() ?? ""}`)
    .digest("hex")
    .slice(0, SUFFIX_LENGTH);

export class GatewayEnvironmentController implements Controller<GatewayEnvironment, Observed, Action, Outcome> {
  readonly name = "gatewayenvironment";
  readonly fieldManager = "mazevault-gatewayenvironment";
  readonly resource = resourceType(gatewayEnvironmentKind);
  readonly #deps: GatewayEnvironmentControllerDependencies;
  #watching: Watching | undefined;
  /** The request that is on record, and may not have been made yet. */
  readonly #announced = new Map<string, string>();
  /** When one was made, by the store's clock, which that of the API server need not agree with. */
  readonly #madeAt = new Map<string, Date>();

  constructor(deps: GatewayEnvironmentControllerDependencies) {
    this.#deps = deps;
  }

  async observe(object: GatewayEnvironment): Promise<Observed> {
    const { cluster, environments } = this.#deps;
    const { spec, metadata } = object;
    try {
      const [state, primary, standby] = await Promise.all([
        environments.find(spec.environment),
        this.#referred(spec.primaryRef.name),
        this.#referred(spec.standbyRef.name),
      ]);
      const { since: watchingSince, heard } = this.#watched(state.at);
      const both = heardSince(heard.get(metadata.name), primary.record, standby.record);
      heard.set(metadata.name, both);
      const requests = cluster.failoversOf(metadata.name).map((each) => new Date(each.metadata.creationTimestamp ?? 0));
      const made = [...requests, this.#madeAt.get(metadata.name)].flatMap((each) => each?.getTime() ?? []);
      return {
        older: olderThan(object, cluster.gatewayEnvironments()),
        state,
        gateways: { Primary: primary, Standby: standby },
        watchingSince,
        standbyAlone: both.standbyAlone,
        lastRequestedAt: made.length === 0 ? undefined : new Date(Math.max(...made)),
      };
    } catch (error) {
      // Neither could heartbeats be stored; a row that was tampered with is no reason to think so.
      if (!(error instanceof Unavailable && error.code === "TamperDetected")) this.#watching = undefined;
      throw error;
    }
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    const { environments, writer } = this.#deps;
    const actor = objectActor(this.resource, action.object);
    switch (action.kind) {
      case "Pair":
        return { state: await environments.pair(writer(), action.state, action.pair, actor) };
      case "Restore":
        return { state: await environments.restore(writer(), action.state, action.pair, action.remembered, actor) };
      case "Fence":
        return { state: await environments.fence(writer(), action.object.spec.environment, CONTROLLER) };
      case "Settle":
        return { state: await environments.settle(writer(), action.state, CONTROLLER) };
      case "FailOver":
        return this.#failOver(action, signal);
    }
  }

  learn(seen: Observed, _action: Action, outcome: Outcome): Observed {
    return { ...seen, ...outcome };
  }

  conditionFor(): OwnedConditionType {
    return "Paired";
  }

  /** From now on each gateway of the environment acts by its role. */
  async absent(name: string, signal: AbortSignal): Promise<void> {
    const { environments, writer } = this.#deps;
    if (await this.#stands(name, signal)) return;
    this.#announced.delete(name);
    this.#madeAt.delete(name);
    this.#watching?.heard.delete(name);
    for (const state of await environments.list()) {
      if (state.record.pair?.object !== name) continue;
      const released: EnvironmentState = await environments.release(writer(), state, CONTROLLER);
      await environments.fence(writer(), released.environment, CONTROLLER);
    }
  }

  /** Asked of the API server itself: a late attempt must not end what was made anew under this name. */
  async #stands(name: string, signal: AbortSignal): Promise<boolean> {
    try {
      const found = await this.#deps.api.get<GatewayEnvironment>(
        this.resource,
        { name },
        { metadataOnly: true, signal },
      );
      return found.metadata.deletionTimestamp === undefined;
    } catch (error) {
      if (isNotFound(error, name)) return false;
      throw error;
    }
  }

  #watched(at: Date): Watching {
    const { epoch } = this.#deps.writer();
    if (this.#watching?.epoch !== epoch) this.#watching = { epoch, since: at, heard: new Map() };
    return this.#watching;
  }

  async #referred(name: string): Promise<Referred> {
    const { cluster, store } = this.#deps;
    return { object: cluster.gateway(name), record: await store.gateway(name) };
  }

  /** By the same way as a person. */
  async #failOver(action: Extract<Action, { kind: "FailOver" }>, signal: AbortSignal): Promise<Outcome> {
    const { api, audit } = this.#deps;
    const { spec, metadata } = action.object;
    const suffix = suffixOf(action);
    if (this.#announced.get(metadata.name) !== suffix) {
      const details = { activate: "Standby", missedHeartbeats: action.missed };
      await audit.append([environmentEntry("FailoverRequested", spec.environment, CONTROLLER, details)]);
      this.#announced.set(metadata.name, suffix);
    }
    const request = { environment: metadata.name, activate: "Standby", madeBy: "automatic-failover", suffix } as const;
    try {
      await requestFailover(api, { ...request, fieldManager: this.fieldManager }, signal);
    } catch (error) {
      // By an attempt before this one, whose answer was lost.
      if (!isAlreadyExists(error)) throw error;
    }
    this.#madeAt.set(metadata.name, action.at);
    return { lastRequestedAt: action.at };
  }
}
