/** A gateway with its stores in memory, a primary, and whatever may happen at each step between them. */

import { setImmediate as soon } from "node:timers/promises";
import { Unavailable } from "../../errors.ts";
import { testRootKey } from "../../pki/testing/installation.ts";
import { FakeDatabase } from "../../ports/fake-database.ts";
import { FakeKeyStore } from "../../ports/fake-key-store.ts";
import { FakeMembershipStore } from "../../ports/fake-membership-store.ts";
import type { MembershipStore } from "../../ports/membership-store.ts";
import type { PrimaryChannel, PrimaryChannels } from "../../ports/primary-channel.ts";
import { Sensitive } from "../../sensitive.ts";
import { KeyRing } from "../../vault/keyring.ts";
import { ActingLease } from "../acting-lease.ts";
import { Membership, type MembershipSettings, type MembershipStatus } from "../membership.ts";
import { presentedToken } from "../presented-token.ts";
import { MemoryPrimary } from "./memory-primary.ts";

/**
 * What becomes of an effect: the process dies before or after it, or it happens and nobody hears of it, or it does not happen.
 */
export type Fate = "diesBefore" | "diesAfter" | "answerLost" | "fails";

export const SETTINGS: MembershipSettings = {
  primaryUrl: "https://primary.example.com:8443",
  environment: "NPR",
  role: "primary",
  version: "1.5.0",
};

type Effect = <T>(failure: Unavailable, act: () => Promise<T>) => Promise<T>;

/** More than any story needs: one that does not get on has to end. */
const MOST_PAUSES = 3_000;

export class GatewayWorld {
  /** Whatever answers at its address. */
  primary: MemoryPrimary;
  readonly store: FakeMembershipStore;
  readonly database: FakeDatabase;
  readonly keys: KeyRing;
  /** Whole log lines, in their order. */
  readonly lines: string[] = [];
  /** Warnings, in their order. */
  readonly warnings: string[] = [];
  settings = SETTINGS;
  /** What is configured at the gateway. */
  token: string | undefined;
  /** Of the present life: the token that nothing is kept of any more. */
  forgotten: string | undefined;
  /** How the gateway stood when its last life had ended by itself. */
  afterwards: MembershipStatus | undefined;
  /** How far the gateway's clock is ahead of the primary's, in milliseconds. */
  aheadMs = 0;
  /** By the number of the effect, from 1, counted over all lives of the gateway. */
  readonly fates = new Map<number, Fate>();
  effects = 0;
  /** In milliseconds, oldest first. */
  readonly pauses: number[] = [];
  readonly #clock: { ms: number };
  #elapsedMs = 0;

  private constructor(primary: MemoryPrimary, database: FakeDatabase, keys: KeyRing, clock: { ms: number }) {
    this.primary = primary;
    this.database = database;
    this.store = new FakeMembershipStore(database);
    this.keys = keys;
    this.#clock = clock;
  }

  static async start(): Promise<GatewayWorld> {
    const clock = { ms: Date.parse("2026-03-19T10:00:00Z") };
    const database = new FakeDatabase();
    const keys = await KeyRing.open(new FakeKeyStore(database), testRootKey());
    return new GatewayWorld(await MemoryPrimary.start(() => clock.ms), database, keys, clock);
  }

  get record() {
    return this.store.read().then((stored) => stored?.record);
  }

  pass(ms: number): void {
    this.#elapsedMs += ms;
    this.#clock.ms += ms;
  }

  /**
   * One life of the gateway, as leader: until it is as wanted, or it dies.
   *
   * @throws when it does not get there
   */
  async live(until: (status: MembershipStatus) => boolean | Promise<boolean>): Promise<"dead" | "there"> {
    const writer = { epoch: await this.database.acquireEpoch("gateway") };
    const abort = new AbortController();
    let die = (): void => {};
    const death = new Promise<"dead">((resolve) => {
      die = () => resolve("dead");
    });
    let pauses = 0;
    let there = false;
    const effect = this.#effect(die);
    const { keys } = this;
    this.forgotten = undefined;
    const membership: Membership = new Membership({
      store: this.#store(effect),
      channels: this.#channels(effect),
      keys: { installationId: keys.installationId, pki: (by) => keys.pki(by) },
      settings: this.settings,
      token: {
        current: () =>
          this.token === undefined || this.token === this.forgotten
            ? undefined
            : presentedToken(new Sensitive(this.token)),
        forget: () => {
          this.forgotten = this.token;
        },
      },
      condition: () => ({ problems: [], queueLength: 0 }),
      lease: new ActingLease(() => this.#elapsedMs),
      clock: {
        now: () => new Date(this.#clock.ms + this.aheadMs),
        elapsed: () => this.#elapsedMs,
        sleep: async (ms, signal) => {
          // What is known is told to whoever waits for it before time goes on.
          await soon();
          if (signal.aborted) return;
          this.pauses.push(ms);
          this.pass(ms);
          pauses += 1;
          there ||= await until(membership.status);
          if (there || pauses > MOST_PAUSES) abort.abort();
        },
      },
      log: {
        info: (line) => this.lines.push(line),
        warn: (_fields, line) => this.warnings.push(line),
      },
    });
    const ended = await Promise.race([death, membership.run(writer, abort.signal)]);
    if (ended === "dead") return "dead";
    this.afterwards = membership.status;
    if (!there)
      throw new Error(`it did not get there: ${JSON.stringify(membership.status)} ${this.warnings.join("\n")}`);
    return "there";
  }

  /** As many lives as it takes. */
  async liveUntil(until: (status: MembershipStatus) => boolean | Promise<boolean>): Promise<void> {
    while ((await this.live(until)) === "dead");
  }

  #effect(die: () => void): Effect {
    const dead = new Promise<never>(() => {});
    let alive = true;
    return async <T>(failure: Unavailable, act: () => Promise<T>): Promise<T> => {
      if (!alive) return dead;
      this.effects += 1;
      const fate = this.fates.get(this.effects);
      if (fate === "fails") throw failure;
      const result = fate === "diesBefore" ? undefined : await act();
      if (fate === "answerLost") throw failure;
      if (fate === "diesBefore" || fate === "diesAfter") {
        alive = false;
        die();
        return dead;
      }
      return result as T;
    };
  }

  #store(effect: Effect): MembershipStore {
    const failure = new Unavailable("DatabaseUnavailable", "PostgreSQL does not answer");
    return {
      read: () => effect(failure, () => this.store.read()),
      write: (...args) => effect(failure, () => this.store.write(...args)),
    };
  }

  #channels(effect: Effect): PrimaryChannels {
    const failure = new Unavailable("PrimaryUnreachable", "the connection broke");
    const wrapped = (channel: PrimaryChannel): PrimaryChannel => ({
      closed: channel.closed,
      close: () => channel.close(),
      request: (...args) => effect(failure, () => channel.request(...args)),
    });
    return {
      open: (trust, client) => effect(failure, async () => wrapped(await this.primary.open(trust, client))),
    };
  }
}

export const inTouch = ({ state, heartbeats }: MembershipStatus): boolean =>
  state === "Confirmed" && heartbeats.lastAnsweredAt !== undefined && heartbeats.consecutiveFailures === 0;
