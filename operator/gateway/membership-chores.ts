/** Mode gateway: the leader registers at the primary and stays in touch with it. */
import { setTimeout as delay } from "node:timers/promises";
import type { Membership, MembershipStatus } from "../../core/fleet/membership.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { Chores, type ChoresDependencies } from "../chores.ts";

export interface MembershipChoresDependencies extends ChoresDependencies {
  readonly membership: Pick<Membership, "run">;
}

const AGAIN_MS = 5_000;

export class MembershipChores extends Chores<MembershipChoresDependencies> {
  protected async work(writer: Writer, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.attempt("stay in touch with the primary", () => this.deps.membership.run(writer, signal));
      await delay(AGAIN_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
}

const LOOK_EVERY_MS = 5_000;

/** Every replica tells how the gateway stands, so it looks at what the leader has stored; until stopped. */
export function followMembership(membership: Pick<Membership, "look">, everyMs = LOOK_EVERY_MS): () => void {
  let looking = false;
  const look = (): void => {
    if (looking) return;
    looking = true;
    // What is wrong with the database is told by its own health check.
    void membership
      .look()
      .catch(() => undefined)
      .finally(() => {
        looking = false;
      });
  };
  look();
  const timer = setInterval(look, everyMs);
  timer.unref();
  return () => clearInterval(timer);
}

/** For /readyz, in words for a person. */
export function registrationNote({ state, identity, fault }: MembershipStatus): string {
  const who = identity === undefined ? "" : ` as ${identity.name} (${identity.gatewayId})`;
  const names = {
    Unregistered: "not registered",
    Registering: "being registered",
    Registered: `certified${who}, not confirmed yet`,
    Confirmed: `registered${who}`,
    Revoked: `revoked${who}`,
  };
  return state === "Confirmed" || fault === undefined
    ? names[state]
    : `${names[state]}: ${fault.problem}; ${fault.fix}`;
}

/** For /readyz, in words for a person. */
export function channelNote({ state, channel, fault }: MembershipStatus): string {
  if (channel === "Standby") return "held by the leader";
  if (channel === "Open") return "open";
  return state === "Confirmed" && fault !== undefined ? `closed: ${fault.problem}; ${fault.fix}` : "closed";
}
