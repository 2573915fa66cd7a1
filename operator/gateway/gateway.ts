/** What mode gateway has beside all that a primary has: its standing with the primary. */
import { readFileSync } from "node:fs";
import { openChannel } from "../../adapters/channel/client.ts";
import type { Stores } from "../../adapters/postgres/stores.ts";
import { ActingLease } from "../../core/fleet/acting-lease.ts";
import { KeyVaultCalls } from "../../core/fleet/key-vault-calls.ts";
import { LinkedPrimaryCa } from "../../core/fleet/linked-primary-ca.ts";
import type { Membership, MembershipStatus } from "../../core/fleet/membership.ts";
import { QueuedWrites } from "../../core/fleet/queued-writes.ts";
import type { Replica } from "../../core/fleet/replica.ts";
import { ofAnyKind, type TaskHandler } from "../../core/fleet/tasks.ts";
import { WriteDrain } from "../../core/fleet/write-drain.ts";
import type { PrimaryCa } from "../../core/ports/primary-ca.ts";
import type { TargetVaults } from "../../core/ports/target-vaults.ts";
import type { Tracer } from "../../core/ports/tracer.ts";
import type { HealthNote } from "../../program/health.ts";
import type { Logger } from "../../program/logging.ts";
import { ConfigError } from "../../program/settings.ts";
import type { LeaderChores } from "../chores.ts";
import type { Config } from "../config.ts";
import type { OperationalSecrets } from "../operational-secrets/operational-secrets.ts";
import type { GivenChores } from "../primary.ts";
import type { RestParts } from "../rest/start.ts";
import { elapsedAlsoWhileSuspended } from "./elapsed.ts";
import { GuardedLink } from "./guarded-link.ts";
import { openMembership } from "./membership.ts";
import { channelNote, followMembership, MembershipChores, registrationNote } from "./membership-chores.ts";
import { primaryChannels } from "./primary-channels.ts";
import { openReplica } from "./replica.ts";
import { ReplicaChores } from "./replica-chores.ts";
import { TaskChores } from "./task-chores.ts";
import { followWrites, WriteChores } from "./write-chores.ts";

export interface Gateway {
  readonly membership: Membership;
  /** The way to the primary for whoever needs it beside the heartbeats, which are what tells whether it is there. */
  readonly link: GuardedLink;
  /** The primary's secrets that it serves. */
  readonly replica: Replica;
  /** On their way to the primary. */
  readonly writes: QueuedWrites;
  /** The CAs of the primary, for issuers that have it sign. */
  readonly primaryCa: PrimaryCa;
  /** What its leader does beside reconciling. */
  readonly chores: (given: GivenChores) => readonly LeaderChores[];
  /** What it has stored is looked at no more. */
  stop(): void;
}

export interface GatewayParts {
  readonly config: Config;
  readonly stores: Pick<Stores, "membership" | "keys" | "replica" | "audit" | "writeQueue" | "listenWrites">;
  /** Called for the primary. */
  readonly vaults: TargetVaults;
  readonly secrets: OperationalSecrets;
  readonly log: Logger;
  readonly tracer?: Tracer;
  /** Names of health checks that fail. */
  readonly problems: () => readonly string[];
}

/** @throws ConfigError */
export async function openGateway({
  config,
  stores,
  vaults,
  secrets,
  log,
  problems,
  tracer,
}: GatewayParts): Promise<Gateway> {
  const { primaryUrl = "", primaryCaFile } = config.gateway;
  const channels = primaryChannels(openChannel, { url: primaryUrl, ...caOf(primaryCaFile) }, tracer);
  let sending: WriteChores | undefined;
  const writes = new QueuedWrites({
    store: stores.writeQueue,
    keys: stores.keys,
    recipient: () => membership.recipient,
    most: config.gateway.writeQueueLimit,
    onAccepted: () => sending?.hint(),
  });
  const condition = () => ({ problems: [...problems()], queueLength: writes.length.waiting });
  const lease = new ActingLease(elapsedAlsoWhileSuspended(), (told, known) =>
    log.warn(
      { told: `${told}`, known: `${known}` },
      "the primary tells of an older epoch than this gateway knows, and is not believed: its database was put back. It is told so by each heartbeat, and goes on in a newer epoch where a GatewayEnvironment pairs this gateway; where none does, restart the gateway to go on with what it tells now",
    ),
  );
  const onOpened = () => link.channelOpened();
  const membership = openMembership({ config, stores, channels, secrets, log, condition, lease, onOpened });
  const link = new GuardedLink({ link: membership, log });
  const { replica, pull } = openReplica({ config, stores, membership, link, log });
  const { timeoutMs: requestTimeoutMs } = config.azure;
  const handlers: readonly TaskHandler[] = [
    ofAnyKind(new KeyVaultCalls({ vaults, audit: stores.audit, requestTimeoutMs })),
  ];
  const drain = new WriteDrain({
    store: stores.writeQueue,
    keys: stores.keys,
    link: membership,
    recipient: () => membership.recipient,
    revoked: () => membership.status.state === "Revoked",
    elapsed: () => performance.now(),
    onSettled: () => writes.hint(),
    onPaused: ({ namespace, name }, code, detail) =>
      log.warn({ secret: `${namespace}/${name}`, code }, `writes of a secret wait: ${detail}`),
  });
  const stopMembership = followMembership(membership);
  const stopWrites = followWrites(writes, stores, log, () => sending?.hint());
  return {
    membership,
    link,
    replica,
    writes,
    primaryCa: new LinkedPrimaryCa(link),
    chores: ({ handlers: ofThisCluster, ...given }) => {
      sending = new WriteChores({ drain, log, ...given });
      return [
        new MembershipChores({ membership, log, ...given }),
        new TaskChores({ link: membership, lease, handlers: [...handlers, ...ofThisCluster], log, ...given }),
        new ReplicaChores({ pull, log, ...given }),
        sending,
      ];
    },
    stop: () => {
      stopMembership();
      stopWrites();
    },
  };
}

function caOf(file: string | undefined): { readonly outerCa?: Buffer } {
  if (file === undefined) return {};
  try {
    return { outerCa: readFileSync(file) };
  } catch (error) {
    throw new ConfigError([`gateway.primaryCaFile: ${file} cannot be read (${(error as NodeJS.ErrnoException).code})`]);
  }
}

/** For /readyz. A gateway that is not registered is ready all the same: it serves its own cluster. */
export function gatewayNotes({ mode }: Config, status: () => MembershipStatus | undefined): readonly HealthNote[] {
  if (mode !== "gateway") return [];
  const told = (tell: (status: MembershipStatus) => string) => () => {
    const known = status();
    return known === undefined ? "not known yet" : tell(known);
  };
  return [
    { name: "registration", says: told(registrationNote) },
    { name: "channel", says: told(channelNote) },
  ];
}

/** For REST. */
export const membershipOf = (
  gateway: Gateway | undefined,
): Pick<RestParts, "membership" | "circuitBreaker" | "replica" | "writes"> =>
  gateway === undefined
    ? {}
    : {
        membership: () => gateway.membership.status,
        circuitBreaker: () => gateway.link.state,
        replica: gateway.replica,
        writes: gateway.writes,
      };
