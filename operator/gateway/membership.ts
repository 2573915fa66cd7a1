/** Mode gateway: what this installation is to its primary, from the settings. */
import { setTimeout as delay } from "node:timers/promises";
import type { Stores } from "../../adapters/postgres/stores.ts";
import { Membership, type MembershipClock, type MembershipDependencies } from "../../core/fleet/membership.ts";
import type { PrimaryChannels } from "../../core/ports/primary-channel.ts";
import type { Logger } from "../../program/logging.ts";
import { ConfigError } from "../../program/settings.ts";
import type { Config } from "../config.ts";
import type { OperationalSecrets } from "../operational-secrets/operational-secrets.ts";
import { ConfiguredToken } from "./configured-token.ts";

const CLOCK: MembershipClock = {
  now: () => new Date(),
  elapsed: () => performance.now(),
  sleep: (ms, signal) => delay(ms, undefined, { signal, ref: false }).catch(() => undefined),
};

export interface MembershipParts {
  readonly config: Config;
  readonly stores: Pick<Stores, "membership" | "keys">;
  readonly channels: PrimaryChannels;
  readonly secrets: OperationalSecrets;
  readonly log: Logger;
  readonly condition: MembershipDependencies["condition"];
  readonly lease: MembershipDependencies["lease"];
  readonly onOpened: () => void;
}

/** @throws ConfigError */
export function openMembership({
  config,
  stores,
  channels,
  secrets,
  log,
  condition,
  lease,
  onOpened,
}: MembershipParts): Membership {
  const { environment, role, primaryUrl } = config.gateway;
  if (environment === undefined || primaryUrl === undefined)
    throw new ConfigError(["gateway.environment, gateway.primaryUrl: required in mode gateway"]);
  return new Membership({
    store: stores.membership,
    keys: stores.keys,
    channels,
    settings: { environment, role, primaryUrl, version: config.version },
    token: new ConfiguredToken(config.gateway, secrets, log),
    condition,
    lease,
    onOpened,
    clock: CLOCK,
    log: {
      info: (message) => log.info(message),
      warn: (fields, message) => log.warn(fields, message),
    },
  });
}
