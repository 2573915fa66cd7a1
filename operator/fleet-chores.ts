/** What the leader does for the fleet: its CA, the certificates that gateways and replicas ask for, and their revocation. */
import type { FleetCertificates } from "../core/fleet/fleet-certificates.ts";
import { forgetHandledWrites } from "../core/fleet/gateway-writes.ts";
import type { HandledWrites } from "../core/ports/handled-writes.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import type { ChoresDependencies } from "./chores.ts";
import { HintedChores } from "./hinted-chores.ts";

export interface FleetChoresDependencies extends ChoresDependencies {
  readonly certificates: Pick<FleetCertificates, "ensure" | "sign" | "revokeSuperseded" | "forget">;
  readonly handledWrites?: Pick<HandledWrites, "forget">;
  /** 2 seconds when absent. */
  readonly lookEveryMs?: number;
}

/** Somebody waits, for 20 seconds at most. */
const LOOK_EVERY_MS = 2_000;
const APART_MS = 50;
const SWEEP_EVERY_MS = 600_000;

export class FleetChores extends HintedChores<FleetChoresDependencies> {
  protected plan(writer: Writer): ReturnType<HintedChores<FleetChoresDependencies>["plan"]> {
    const { certificates, handledWrites, lookEveryMs = LOOK_EVERY_MS } = this.deps;
    let made = false;
    let sweepAt = performance.now();
    const turn = async (): Promise<void> => {
      if (!made) made = await this.attempt("make the fleet's CA", () => certificates.ensure(writer));
      await this.attempt("sign certificates of the fleet", () => certificates.sign(writer));
      await this.attempt("revoke certificates of gateways", () => certificates.revokeSuperseded(writer));
      if (performance.now() < sweepAt) return;
      const forgotten = await this.attempt("forget tokens of gateways", () => certificates.forget(writer));
      if (handledWrites !== undefined)
        await this.attempt("forget writes of gateways", () => forgetHandledWrites(handledWrites));
      if (forgotten) sweepAt = performance.now() + SWEEP_EVERY_MS;
    };
    return { apartMs: APART_MS, everyMs: lookEveryMs, turn };
  }
}
