/** Hosts that new values may be applied to. Who writes Secrets names them, so this is checked before anything connects. */
import type { RefusedAnswer } from "../../core/ports/apply-targets.ts";
import { matchesHost } from "../keyvault/hosts.ts";

/** Undefined: it is allowed. */
export function refusedHost(host: string, allowed: readonly string[]): RefusedAnswer | undefined {
  const name = host.toLowerCase();
  if (allowed.some((pattern) => matchesHost(name, pattern.toLowerCase()))) return undefined;
  const which = allowed.length === 0 ? "allows none" : `allows ${allowed.join(", ")}`;
  return {
    kind: "Refused",
    message: `host ${host} is not allowed: the operator's setting rotation.allowedHosts ${which}`,
  };
}
