import type { FleetServices } from "../services.ts";

const unasked = () => Promise.reject(new TypeError("this test does not ask for it"));

/** Services of the channel for tests that are about others. */
export const UNASKED: FleetServices = {
  registrations: { register: unasked, confirm: unasked, heartbeat: unasked, renew: unasked },
  tasks: { poll: unasked, finish: unasked, awaitStanding: unasked },
  replica: { changes: unasked },
  replicaValues: { handOut: unasked },
  writes: { apply: unasked, forgotten: unasked },
  signing: { issuer: unasked, sign: unasked, revoke: unasked },
};
