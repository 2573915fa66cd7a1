/** What objects remember of an environment, for judging whether the store has forgotten something. */
import { Unavailable } from "../../core/errors.ts";
import type { GatewayEnvironment } from "../../crds/gatewayenvironment.ts";
import type { Caches } from "../caches.ts";

/**
 * The newest epoch of an environment that a GatewayEnvironment tells.
 *
 * @throws Unavailable ApiServerUnavailable while none of them is in sight
 */
export function rememberedEpoch(
  cache: Pick<Caches["gatewayEnvironmentCache"], "synced" | "values"> | undefined,
  environment: string,
): bigint | undefined {
  if (cache?.synced !== true)
    throw new Unavailable("ApiServerUnavailable", "which environments there are is not known yet");
  const epochs = [...cache.values()].filter(({ spec }) => spec.environment === environment).map(epochOf);
  return epochs.length === 0 ? undefined : BigInt(Math.max(...epochs));
}

const epochOf = ({ status }: GatewayEnvironment): number => status?.epoch ?? 0;
