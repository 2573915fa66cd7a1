import type { FleetAdmission } from "../../core/fleet/admission.ts";
import type { GatewaySigning } from "../../core/fleet/gateway-signing.ts";
import type { GatewayWrites } from "../../core/fleet/gateway-writes.ts";
import type { Registrations } from "../../core/fleet/registrations.ts";
import type { ReplicaFeed } from "../../core/fleet/replica-feed.ts";
import type { ReplicaValues } from "../../core/fleet/replica-values.ts";
import type { TaskExchange } from "../../core/fleet/task-exchange.ts";

/** What the routes of the channel work with. */
export interface FleetServices {
  readonly tasks: Pick<TaskExchange, "poll" | "finish" | "awaitStanding">;
  readonly registrations: Pick<Registrations, "register" | "confirm" | "heartbeat" | "renew">;
  /** What gateways may have of secrets and certificates. */
  readonly replica: Pick<ReplicaFeed, "changes">;
  readonly replicaValues: Pick<ReplicaValues, "handOut">;
  readonly writes: Pick<GatewayWrites, "apply" | "forgotten">;
  readonly signing: Pick<GatewaySigning, "issuer" | "sign" | "revoke">;
}

/** Of one replica, which has started them and stops them. */
export interface FleetParts {
  readonly services: FleetServices;
  readonly registrations: Pick<Registrations, "replicaCertificate">;
  readonly admission: Pick<FleetAdmission, "admit" | "onLeft">;
}
