/**
 * A gateway as its primary sees it: the membership and the channel of a real one, registered with a token, its key sealed, with
 * its pauses when the primary is away. Only its own PostgreSQL is memory, and there is nothing behind it.
 */
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { openChannel } from "../adapters/channel/client.ts";
import { ActingLease } from "../core/fleet/acting-lease.ts";
import { Membership, type MembershipStatus } from "../core/fleet/membership.ts";
import { presentedToken } from "../core/fleet/presented-token.ts";
import type { Heartbeat } from "../core/fleet/protocol.ts";
import { testRootKey } from "../core/pki/testing/installation.ts";
import { FakeDatabase } from "../core/ports/fake-database.ts";
import { FakeKeyStore } from "../core/ports/fake-key-store.ts";
import { FakeMembershipStore } from "../core/ports/fake-membership-store.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import { Sensitive } from "../core/sensitive.ts";
import { KeyRing } from "../core/vault/keyring.ts";
import { primaryChannels } from "../operator/gateway/primary-channels.ts";

export interface GatewayPlace {
  readonly name: string;
  readonly environment: string;
  readonly role: "primary" | "dr-standby";
}

export interface PrimaryAddress {
  readonly url: string;
  /** The same by a way on which each connection has an address of its own; strangers come so, since they are counted by address. */
  readonly strangersUrl: string;
  readonly caFile: string;
}

export interface GatewayParts {
  readonly membership: Membership;
  readonly lease: ActingLease;
  readonly keys: KeyRing;
  readonly database: FakeDatabase;
  readonly writer: Writer;
}

/** What a gateway does beside its membership, by the same channel, until the signal is aborted. */
export type Pursuit = (gateway: GatewayParts, signal: AbortSignal) => Promise<void>;

const VERSION = "1.5.0";

export class SimulatedGateway {
  readonly place: GatewayPlace;
  readonly #membership: Membership;
  readonly #stopped = new AbortController();
  readonly #running: Promise<unknown>;

  private constructor(place: GatewayPlace, parts: GatewayParts, pursuits: readonly Pursuit[]) {
    this.place = place;
    this.#membership = parts.membership;
    const { signal } = this.#stopped;
    const pursued = pursuits.map((pursue) => pursue(parts, signal));
    this.#running = Promise.all([parts.membership.run(parts.writer, signal), ...pursued]);
  }

  /** Begins to register; it goes on by itself. */
  static async start(
    place: GatewayPlace,
    token: string,
    at: PrimaryAddress,
    pursuits: readonly Pursuit[],
  ): Promise<SimulatedGateway> {
    const { url, strangersUrl, caFile } = at;
    const database = new FakeDatabase();
    const keys = await KeyRing.open(new FakeKeyStore(database), testRootKey());
    const lease = new ActingLease(() => performance.now());
    const outerCa = readFileSync(caFile);
    const ways = {
      stranger: primaryChannels(openChannel, { url: strangersUrl, outerCa }),
      member: primaryChannels(openChannel, { url, outerCa }),
    };
    let given: Sensitive | undefined = new Sensitive(token);
    const membership = new Membership({
      store: new FakeMembershipStore(database),
      keys,
      channels: { open: (trust, client, signal) => ways[client ? "member" : "stranger"].open(trust, client, signal) },
      settings: { primaryUrl: url, environment: place.environment, role: place.role, version: VERSION },
      token: {
        current: () => given && presentedToken(given),
        forget: () => {
          given?.dispose();
          given = undefined;
        },
      },
      condition: () => ({ problems: [], queueLength: 0 }),
      lease,
      clock: {
        now: () => new Date(),
        elapsed: () => performance.now(),
        sleep: (ms, signal) => delay(ms, undefined, { signal, ref: false }).catch(() => undefined),
      },
      log: { info: () => {}, warn: () => {} },
    });
    const writer = { epoch: await database.acquireEpoch("bench") };
    return new SimulatedGateway(place, { membership, lease, keys, database, writer }, pursuits);
  }

  get status(): MembershipStatus {
    return this.#membership.status;
  }

  /** Registered, and in a session with the primary that has answered a heartbeat since `at`, as Date.now() tells it. */
  isBackSince(at: number): boolean {
    const { state, channel, heartbeats } = this.status;
    return state === "Confirmed" && channel === "Open" && (heartbeats.lastAnsweredAt?.getTime() ?? 0) >= at;
  }

  /** One more than those that it sends by itself. @throws when it is not answered with 200 */
  heartbeat(): Promise<void> {
    const body: Heartbeat = {
      version: VERSION,
      problems: [],
      queueLength: 0,
      certificateNotAfter: (this.status.certificateNotAfter ?? new Date()).toISOString(),
    };
    return this.ask("/fleet/v1/heartbeat", body);
  }

  /** As whatever of a gateway needs its primary does. @throws when it is not answered with 200 */
  async ask(path: string, body: unknown): Promise<void> {
    const answer = await this.#membership.ask(path, body, { signal: this.#stopped.signal });
    if (answer.status !== 200) throw new Error(`${this.place.name}: ${path} was answered with ${answer.status}`);
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
  }
}
