/** The channel of gateways, composed: every replica that serves REST serves it, whoever leads. */
import { type ChannelLimits, ChannelServer, type Judgement } from "../../adapters/channel/server.ts";
import { Unavailable } from "../../core/errors.ts";
import { FleetRefused } from "../../core/fleet/errors.ts";
import type { RateCounters } from "../../core/ports/rate-counter.ts";
import type { Logger } from "../../program/logging.ts";
import type { RestServerParts } from "../rest/server.ts";
import { ReplicaCredentials } from "./replica-credentials.ts";
import { fleetHandler } from "./routes.ts";
import type { FleetParts } from "./services.ts";

export interface FleetChannelParts extends FleetParts, Pick<RestServerParts, "onAnswer" | "tracer"> {
  readonly rateCounters: RateCounters;
  readonly log: Logger;
  readonly limits?: Partial<ChannelLimits>;
}

export class FleetChannel {
  readonly #credentials: ReplicaCredentials;
  readonly #stopListening: () => void;
  /** Takes the upgrades. */
  readonly server: ChannelServer;

  constructor({ services, registrations, admission, rateCounters, log, limits, onAnswer, tracer }: FleetChannelParts) {
    this.#credentials = new ReplicaCredentials({
      certify: (csr, signal) => registrations.replicaCertificate(csr, signal),
      log,
    });
    this.server = new ChannelServer({
      // Asked for when the first gateway knocks, which comes back in a moment: where there are none a start writes nothing.
      credentials: () => {
        this.#credentials.start();
        return this.#credentials.current;
      },
      handler: fleetHandler({
        services,
        admit: (certificate) => admission.admit(certificate),
        rateCounters,
        log,
        ...(onAnswer !== undefined && { onAnswer }),
        ...(tracer !== undefined && { tracer }),
      }),
      judge: (certificate) => judge(admission, certificate),
      log,
      ...(limits !== undefined && { limits }),
    });
    this.#stopListening = admission.onLeft((left, why) =>
      this.server.closeSessions((serialNumber) => serialNumber === left, why),
    );
  }

  /** After the REST server, which closes `server`. */
  async stop(): Promise<void> {
    this.#stopListening();
    await this.#credentials.stop();
  }
}

/** While it cannot be told who is admitted there are sessions, and each request in them is answered so. */
function judge(admission: FleetParts["admission"], certificate: Buffer): Judgement {
  try {
    admission.admit(certificate);
    return { kind: "Admitted" };
  } catch (error) {
    if (error instanceof FleetRefused) return { kind: "Refused", reason: error.code };
    if (error instanceof Unavailable) return { kind: "Undecided" };
    throw error;
  }
}
