/**
 * A gateway's side of being one: it registers at its primary once, holds a channel to it, and says that it is there.
 *
 *                    token that was not used here
 *    Unregistered ---------------------------------> Registering   key stored; nothing was sent yet, or no answer came
 *                                                     ^   |
 *                                                     |   | POST registration, by the same key as often as it takes
 *                       token that was not used here  |   v
 *    Revoked -----------------------------------------+  Registered    certificate stored
 *       ^                                                 |
 *       | GatewayRevoked                                  | POST confirmation, by that certificate: the token has ended
 *       |                                                 v
 *       +--------------------------------------------- Confirmed ----> heartbeats
 *                                                         |   ^
 *             at two thirds of the certificate's life:    |   |
 *             next key stored -> next certificate stored -+   +- confirmed by it: it is the current one, the former has ended
 *
 * The row is written before whatever follows from it is sent, and read at each turn, so who takes over from another replica, or
 * from itself after a crash, goes on with the same key. While a next certificate is stored the current one cannot tell that the
 * gateway was revoked: the confirmation of the next one, whose answer may be lost, ends it. When the next one is refused it is
 * dropped, and what the current one is answered decides.
 */
import type { z } from "zod";
import { Fenced, Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { AuditEntry } from "../ports/audit-log.ts";
import type {
  MemberIdentity,
  MemberKey,
  MembershipRecord,
  MembershipState,
  MembershipStore,
  StoredMembership,
} from "../ports/membership-store.ts";
import {
  type ChannelAnswer,
  PrimaryBusy,
  type PrimaryChannel,
  type PrimaryChannels,
} from "../ports/primary-channel.ts";
import type { AskOptions, PrimaryLink } from "../ports/primary-link.ts";
import { Conflict, type Writer } from "../ports/vault-store.ts";
import type { WriteRecipient } from "../ports/write-queue.ts";
import type { ActingLease } from "./acting-lease.ts";
import {
  type InstallationPkiKeys,
  isDue,
  judgeCertificates,
  lifeOf,
  makeMemberKey,
  memberCsr,
  openMemberKey,
} from "./member-keys.ts";
import { MembershipFault, type MembershipFaultCode } from "./membership-fault.ts";
import { pauseAfter } from "./pause.ts";
import type { PresentedToken } from "./presented-token.ts";
import {
  certificateAnswer,
  type GatewayRole,
  HEARTBEAT_SECONDS,
  type Heartbeat,
  heartbeatAnswer,
  type RegistrationRequest,
  registration,
} from "./protocol.ts";
import { UNKNOWN_EPOCH } from "./standing.ts";

export interface MembershipSettings {
  readonly primaryUrl: string;
  readonly environment: string;
  readonly role: GatewayRole;
  readonly version: string;
}

/** Urgent: nothing goes on without one, so it is worth a call. Idle: what was configured since is looked for where that costs nothing. */
export type TokenNeed = "Urgent" | "Idle";

/** The bootstrap token that is configured at this moment. */
export interface TokenSource {
  current(need: TokenNeed): PresentedToken | undefined | Promise<PresentedToken | undefined>;
  /** It was used: nothing of it is to stay in memory. */
  forget(): void;
}

export interface MembershipClock {
  now(): Date;
  /** In milliseconds; never goes back. */
  elapsed(): number;
  /** Resolves early, without throwing, when the signal is aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

/** Messages are whole log lines; fields hold no secret. */
export interface MembershipLog {
  info(message: string): void;
  warn(fields: object, message: string): void;
}

export interface MembershipDependencies {
  readonly store: MembershipStore;
  readonly keys: InstallationPkiKeys;
  readonly channels: PrimaryChannels;
  readonly settings: MembershipSettings;
  readonly token: TokenSource;
  /** How this gateway is, for its heartbeat. */
  readonly condition: () => Pick<Heartbeat, "problems" | "queueLength">;
  /** Told of what each heartbeat's answer grants. */
  readonly lease: ActingLease;
  /** Called for each channel to the primary that is opened. */
  readonly onOpened?: () => void;
  readonly clock: MembershipClock;
  readonly log: MembershipLog;
}

export interface MembershipStatus {
  readonly state: MembershipState | "Unregistered";
  readonly identity: MemberIdentity | undefined;
  /** Of the certificate in use. */
  readonly certificateNotAfter: Date | undefined;
  /** Whoever does not lead has no channel. */
  readonly channel: "Open" | "Closed" | "Standby";
  /** The primary takes this gateway for the one of its environment that acts. */
  readonly active: boolean;
  /** Why it is not registered, not in touch, or keeps what it has in spite of a new token; undefined where another replica leads. */
  readonly fault: { readonly code: string; readonly problem: string; readonly fix: string } | undefined;
  readonly heartbeats: {
    /** Those that had no answer, since the start. */
    readonly failures: number;
    readonly consecutiveFailures: number;
    readonly lastAnsweredAt: Date | undefined;
  };
}

type Problem = NonNullable<MembershipStatus["fault"]>;

const ROUTES = {
  registration: "/fleet/v1/registration",
  confirmation: "/fleet/v1/confirmation",
  heartbeat: "/fleet/v1/heartbeat",
  certificate: "/fleet/v1/certificate",
} as const;

const OPEN_WITHIN_MS = 20_000;
/** The leader of the primary signs, which may just be changing. */
const ANSWER_WITHIN_MS = 40_000;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
/** So often it is looked whether somebody configured what was missing. */
const LOOK_EVERY_MS = 5_000;
/** What was refused is not sent more often; a person may correct the place at the primary, but not the token. */
const REFUSED_FOR_MS = { BootstrapTokenRefused: 300_000, GatewayPlaceDiffers: 30_000 };
/** A replica of the primary may hear of a certificate seconds after another one has signed it. */
const NOT_YET_ADMITTED_MS = 15_000;
/** A channel that ended earlier is not taken for one that worked. */
const SHORT_LIVED_MS = 30_000;
const HEARTBEAT_SECONDS_BOUNDS = { least: 1, most: 3_600 };

/** Until somebody does something about these, asking again cannot help. */
const WAITS_FOR_A_PERSON: ReadonlySet<MembershipFaultCode> = new Set([
  "BootstrapTokenMissing",
  "BootstrapTokenRefused",
  "GatewayPlaceDiffers",
  "GatewayRevoked",
]);

/** Codes of the primary's problems, see `core/fleet/registrations.ts`. */
const TOKEN_REFUSALS: ReadonlySet<string> = new Set(["TokenRefused", "TokenMalformed"]);

interface OpenChannel {
  readonly channel: PrimaryChannel;
  /** Of the key whose certificate was shown. */
  readonly digest: Buffer;
  readonly openedAt: number;
}

/** The turn's facts. */
interface Turn {
  readonly writer: Writer;
  readonly signal: AbortSignal;
}

export class Membership implements PrimaryLink {
  readonly #deps: MembershipDependencies;
  #known: StoredMembership | undefined;
  #open: OpenChannel | undefined;
  #leads = false;
  #problem: Problem | undefined;
  /** Why another token was not taken up; the gateway may be in touch all the same. */
  #tokenProblem: Problem | undefined;
  /** What was said of the present registration, so that it is said once. */
  readonly #said = new Set<string>();
  #completesHere = false;
  #refused: { readonly token: Buffer; readonly until: number; readonly fault: MembershipFault } | undefined;
  #unadmitted: { readonly digest: Buffer; readonly since: number } | undefined;
  /** The current key or its certificate will not let the gateway in again, so another token may take its place. */
  #currentFails = false;
  #shortLived = 0;
  #heartbeatSeconds = HEARTBEAT_SECONDS;
  #failures = 0;
  #consecutiveFailures = 0;
  #failureCountedAt: number | undefined;
  #lastAnsweredAt: Date | undefined;

  constructor(deps: MembershipDependencies) {
    this.#deps = deps;
  }

  get status(): MembershipStatus {
    const record = this.#known?.record;
    const channel = this.#open === undefined ? "Closed" : "Open";
    return {
      state: record?.state ?? "Unregistered",
      identity: record?.identity,
      certificateNotAfter: record && lifeOf(record.current.certificates)?.notAfter,
      channel: this.#leads ? channel : "Standby",
      active: this.#leads && this.#deps.lease.active && record?.state === "Confirmed",
      fault: this.#tokenProblem ?? this.#problem,
      heartbeats: {
        failures: this.#failures,
        consecutiveFailures: this.#consecutiveFailures,
        lastAnsweredAt: this.#lastAnsweredAt,
      },
    };
  }

  /** Who gets what is accepted here for the primary; undefined until it has answered a registration. */
  get recipient(): WriteRecipient | undefined {
    const record = this.#known?.record;
    if (record?.identity === undefined) return undefined;
    return { gatewayEnvironment: record.identity.environment, rootDigest: record.rootDigest };
  }

  async ask(path: string, body: unknown, { signal, withinMs = ANSWER_WITHIN_MS }: AskOptions): Promise<ChannelAnswer> {
    const open = this.#open;
    if (open === undefined || this.#known?.record.state !== "Confirmed")
      throw new Unavailable("PrimaryUnreachable", "there is no channel to the primary");
    return open.channel.request("POST", path, body, within(withinMs, signal));
  }

  /** For replicas that do not lead: what the one that does has stored. */
  async look(): Promise<void> {
    if (!this.#leads) this.#known = await this.#deps.store.read();
  }

  /** Until the signal is aborted. Throws `Fenced` when another replica leads. */
  async run(writer: Writer, signal: AbortSignal): Promise<void> {
    this.#leads = true;
    let failed = 0;
    try {
      while (!signal.aborted) {
        let pauseMs: number;
        try {
          pauseMs = await this.#turn({ writer, signal });
          failed = 0;
        } catch (error) {
          if (error instanceof Fenced) throw error;
          if (signal.aborted) return;
          failed += 1;
          pauseMs = this.#tell(error)
            ? LOOK_EVERY_MS
            : pauseAfter(failed, FIRST_PAUSE_MS, LONGEST_PAUSE_MS) + askedToWaitMs(error);
        }
        await this.#rest(pauseMs, signal);
      }
    } finally {
      this.#hangUp();
      this.#leads = false;
      this.#problem = undefined;
      this.#tokenProblem = undefined;
      // Whoever leads now counts for itself.
      this.#consecutiveFailures = 0;
      this.#failureCountedAt = undefined;
    }
  }

  /** Does the next thing; resolves with how long to wait for the one after it. */
  async #turn(turn: Turn): Promise<number> {
    const { store, token } = this.#deps;
    this.#known = await store.read();
    const given = await token.current(this.#tokenNeed(this.#known?.record));
    if (this.#known === undefined || (await this.#takesUp(turn, this.#known.record, given))) {
      await this.#begin(turn, this.#known, given);
      return 0;
    }
    const { record } = this.#known;
    switch (record.state) {
      case "Registering":
        await this.#register(turn, this.#known, given);
        return 0;
      case "Registered":
        this.#assertPlace(record);
        await this.#confirm(turn, this.#known);
        return 0;
      case "Confirmed":
        this.#completed(record, given);
        this.#assertPlace(record);
        await this.#renew(turn, this.#known);
        return this.#beat(turn);
      case "Revoked":
        this.#hangUp();
        throw new MembershipFault("GatewayRevoked", "the primary has revoked this gateway");
    }
  }

  /** A primary that does not answer is not helped by another token. */
  #tokenNeed(record: MembershipRecord | undefined): TokenNeed {
    if (record === undefined || record.state === "Registering" || record.state === "Revoked") return "Urgent";
    if (this.#currentFails || this.#placeDiffers(record)) return "Urgent";
    return this.#problem === undefined || this.#problem.code === "PrimaryUnreachable" ? "Idle" : "Urgent";
  }

  #beginsAnew(record: MembershipRecord, given: PresentedToken | undefined): boolean {
    if (given === undefined || given.hash.equals(record.tokenHash)) return false;
    return (
      record.state === "Registering" ||
      record.state === "Revoked" ||
      this.#currentFails ||
      !given.rootDigest.equals(record.rootDigest) ||
      this.#placeDiffers(record)
    );
  }

  /** What lets the gateway in is not given up for a token whose primary is not there. */
  async #takesUp(turn: Turn, record: MembershipRecord, given: PresentedToken | undefined): Promise<boolean> {
    if (given === undefined || !this.#beginsAnew(record, given)) {
      this.#tokenProblem = undefined;
      return false;
    }
    try {
      if (record.state === "Registered" || record.state === "Confirmed")
        (await this.#openWithToken(turn, given.rootDigest)).close();
      this.#tokenProblem = undefined;
      return true;
    } catch (error) {
      if (error instanceof Fenced || turn.signal.aborted) throw error;
      this.#tokenProblem = this.#warned(this.#tokenProblem, "the new bootstrap token was not taken up", error);
      return false;
    }
  }

  async #begin(turn: Turn, stored: StoredMembership | undefined, given: PresentedToken | undefined): Promise<void> {
    const { keys, settings } = this.#deps;
    if (given === undefined)
      throw new MembershipFault("BootstrapTokenMissing", "this gateway is not registered, and has no bootstrap token");
    this.#hangUp();
    this.#said.clear();
    this.#currentFails = false;
    const of = { tokenHash: given.hash, rootDigest: given.rootDigest };
    const current = await makeMemberKey(turn.writer, keys, of);
    const { primaryUrl } = settings;
    const record = { state: "Registering", primaryUrl, ...of, identity: undefined, current, next: undefined } as const;
    await this.#write(turn, stored, record);
  }

  async #register(turn: Turn, stored: StoredMembership, given: PresentedToken | undefined): Promise<void> {
    const { record } = stored;
    if (given === undefined)
      throw new MembershipFault(
        "BootstrapTokenMissing",
        "a registration was begun with a bootstrap token that is not configured any more, and has not ended",
      );
    this.#assertNotRefused(given);
    this.#completesHere = true;
    this.#say("Registering gateway with primary...");
    const { environment, role, version } = this.#deps.settings;
    const key = await openMemberKey(turn.writer, this.#deps.keys, record, record.current);
    const request: RegistrationRequest = {
      token: given.text.revealText(),
      csr: await memberCsr(key),
      environment,
      role,
      version,
    };
    const answer = await this.#askWithToken(turn, record, request);
    if (answer.status !== 201) throw this.#registrationRefused(answer, given);
    failpoint("membership.afterRegistration");
    const { certificates, heartbeatSeconds, ...identity } = read(registration, answer, "the registration");
    const { digest } = record.current;
    const chain = judgeCertificates(certificates, digest, record.rootDigest);
    this.#heartbeatSeconds = withinBounds(heartbeatSeconds);
    const current = { ...record.current, certificates: chain, receivedAt: this.#deps.clock.now() };
    await this.#write(turn, stored, { ...record, state: "Registered", identity, current });
  }

  /** On a channel of its own: without a certificate it serves for nothing else. */
  async #askWithToken(turn: Turn, record: MembershipRecord, body: RegistrationRequest): Promise<ChannelAnswer> {
    const channel = await this.#openWithToken(turn, record.rootDigest);
    try {
      failpoint("membership.beforeRegistration");
      return await this.#request(channel, turn, ROUTES.registration, body);
    } finally {
      channel.close();
    }
  }

  #openWithToken({ signal }: Turn, rootDigest: Buffer): Promise<PrimaryChannel> {
    const trust = { kind: "Fingerprint", rootDigest } as const;
    return this.#reached(this.#deps.channels.open(trust, undefined, within(OPEN_WITHIN_MS, signal)));
  }

  #registrationRefused({ status, body }: ChannelAnswer, given: PresentedToken): MembershipFault {
    const code = problemCode(body);
    if (code === "PlaceDiffers") {
      const { environment, role } = this.#deps.settings;
      const problem = `the primary has this gateway for another environment or role than ${environment}, ${role}`;
      return this.#remember("GatewayPlaceDiffers", problem, given);
    }
    if (status < 400 || status === 429 || status >= 500) return unserved("the registration", status, code);
    if (code !== undefined && TOKEN_REFUSALS.has(code)) {
      const problem =
        "the primary does not take the bootstrap token: it is not known there, has ended, or was used by another key";
      return this.#remember("BootstrapTokenRefused", problem, given);
    }
    const why = code === undefined ? status : `${status}, ${code}`;
    return new MembershipFault("PrimaryAnswerInvalid", `the primary does not understand the registration (${why})`);
  }

  #remember(code: keyof typeof REFUSED_FOR_MS, problem: string, given: PresentedToken): MembershipFault {
    const fault = new MembershipFault(code, problem);
    this.#refused = { token: given.hash, until: this.#deps.clock.elapsed() + REFUSED_FOR_MS[code], fault };
    return fault;
  }

  #assertNotRefused(given: PresentedToken): void {
    const refused = this.#refused;
    if (refused?.token.equals(given.hash) && this.#deps.clock.elapsed() < refused.until) throw refused.fault;
  }

  async #confirm(turn: Turn, stored: StoredMembership): Promise<void> {
    const { record } = stored;
    this.#completesHere = true;
    const channel = await this.#channel(turn, stored, record.current);
    await this.#askToConfirm(turn, stored, channel, record.current);
    await this.#write(turn, stored, { ...record, state: "Confirmed" });
  }

  async #askToConfirm(turn: Turn, stored: StoredMembership, channel: PrimaryChannel, by: MemberKey): Promise<void> {
    failpoint("membership.beforeConfirmation");
    const answer = await this.#request(channel, turn, ROUTES.confirmation, {});
    if (answer.status !== 204) await this.#refusedBy(turn, stored, by, "the confirmation", answer);
    failpoint("membership.afterConfirmation");
  }

  /** Also where the answer to what confirmed it was lost. */
  #completed({ identity, tokenHash }: MembershipRecord, given: PresentedToken | undefined): void {
    if (given?.hash.equals(tokenHash)) this.#deps.token.forget();
    if (!this.#completesHere) return;
    this.#completesHere = false;
    this.#say(`Gateway registered successfully: ${identity?.gatewayId}`);
  }

  /** The certificate in use goes on when this fails. */
  async #renew(turn: Turn, stored: StoredMembership): Promise<void> {
    const { record } = stored;
    if (record.next === undefined && !isDue(record.current, this.#deps.clock.now())) return;
    try {
      const certified = await this.#certifyNext(turn, stored);
      const { next } = certified.record;
      if (next !== undefined) await this.#takeUp(turn, certified, next);
    } catch (error) {
      if (error instanceof Fenced || isRevocation(error) || turn.signal.aborted) throw error;
      this.#deps.log.warn({ error }, "the gateway's certificate was not renewed yet");
    }
  }

  async #certifyNext(turn: Turn, stored: StoredMembership): Promise<StoredMembership> {
    const { keys, clock } = this.#deps;
    const { record } = stored;
    const next = record.next ?? (await makeMemberKey(turn.writer, keys, record));
    const begun = record.next === undefined ? await this.#write(turn, stored, { ...record, next }) : stored;
    if (next.certificates.length > 0) return begun;
    const csr = await memberCsr(await openMemberKey(turn.writer, keys, record, next));
    const channel = await this.#channel(turn, begun, record.current);
    const answer = await this.#request(channel, turn, ROUTES.certificate, { csr });
    if (answer.status !== 201) await this.#refusedBy(turn, begun, record.current, "the renewal", answer);
    const { certificates } = read(certificateAnswer, answer, "the renewal");
    const chain = judgeCertificates(certificates, next.digest, record.rootDigest);
    const certified = { ...next, certificates: chain, receivedAt: clock.now() };
    return this.#write(turn, begun, { ...begun.record, next: certified });
  }

  async #takeUp(turn: Turn, stored: StoredMembership, next: MemberKey): Promise<void> {
    const { record } = stored;
    const opened = await this.#dial(turn, stored, next);
    try {
      await this.#askToConfirm(turn, stored, opened.channel, next);
      await this.#write(turn, stored, { ...record, current: next, next: undefined });
      this.#currentFails = false;
    } catch (error) {
      opened.channel.close();
      throw error;
    }
    this.#hangUp();
    this.#use(opened);
    this.#deps.log.info("The gateway's certificate was renewed");
  }

  async #beat(turn: Turn): Promise<number> {
    const stored = this.#known;
    if (stored?.record.state !== "Confirmed") return 0;
    const { record } = stored;
    const { clock, settings, condition, lease } = this.#deps;
    this.#say(MTLS);
    this.#say(`Heartbeat loop started (${this.#heartbeatSeconds}s interval)`);
    try {
      const notAfter = lifeOf(record.current.certificates)?.notAfter ?? clock.now();
      const beat: Heartbeat = {
        version: settings.version,
        ...condition(),
        certificateNotAfter: notAfter.toISOString(),
        environmentEpoch: (lease.epoch ?? UNKNOWN_EPOCH).toString(),
      };
      const channel = await this.#channel(turn, stored, record.current);
      const askedAt = lease.now();
      const answer = await this.#request(channel, turn, ROUTES.heartbeat, beat);
      if (answer.status !== 200) await this.#refusedBy(turn, stored, record.current, "the heartbeat", answer);
      const { heartbeatSeconds, ...grant } = read(heartbeatAnswer, answer, "the heartbeat");
      lease.take(grant, askedAt);
      this.#heartbeatSeconds = withinBounds(heartbeatSeconds);
    } catch (error) {
      if (!turn.signal.aborted && !(error instanceof Fenced)) this.#countFailure();
      throw error;
    }
    this.#consecutiveFailures = 0;
    this.#failureCountedAt = undefined;
    this.#lastAnsweredAt = clock.now();
    this.#mended();
    return this.#heartbeatSeconds * 1_000;
  }

  /** One for each heartbeat that was due, however often the channel was tried meanwhile. */
  #countFailure(): void {
    const now = this.#deps.clock.elapsed();
    if (this.#failureCountedAt !== undefined && now - this.#failureCountedAt < this.#heartbeatSeconds * 1_000) return;
    this.#failureCountedAt = now;
    this.#failures += 1;
    this.#consecutiveFailures += 1;
  }

  /** The channel with the certificate of this key, opened where there is none. */
  async #channel(turn: Turn, stored: StoredMembership, key: MemberKey): Promise<PrimaryChannel> {
    if (this.#open?.digest.equals(key.digest)) return this.#open.channel;
    this.#hangUp();
    this.#say(MTLS);
    const opened = await this.#dial(turn, stored, key);
    this.#use(opened);
    return opened.channel;
  }

  async #dial(turn: Turn, stored: StoredMembership, key: MemberKey): Promise<OpenChannel> {
    const { record } = stored;
    const isCurrent = key.digest.equals(record.current.digest);
    try {
      const opened = await this.#dialled(turn, record, key);
      if (isCurrent) this.#currentFails = false;
      return opened;
    } catch (error) {
      if (turn.signal.aborted) throw error;
      if (error instanceof MembershipFault && isRevocation(error.cause))
        await this.#refusedBy(turn, stored, key, "the session", { status: 403, body: REVOKED });
      const { notAfter } = lifeOf(key.certificates) ?? {};
      const ended = notAfter !== undefined && notAfter < this.#deps.clock.now();
      if (isCurrent && (ended || isOfKey(error))) this.#currentFails = true;
      if (!ended) throw error;
      throw new MembershipFault(
        "GatewayCertificateEnded",
        `the primary does not let this gateway in, and its certificate ended on ${notAfter.toISOString()}`,
        { cause: error },
      );
    }
  }

  async #dialled(turn: Turn, record: MembershipRecord, key: MemberKey): Promise<OpenChannel> {
    const { channels, keys, clock } = this.#deps;
    const root = key.certificates.at(-1);
    if (root === undefined)
      throw new Unavailable("TamperDetected", "the gateway's certificates are gone; see the runbook");
    const privateKey = await openMemberKey(turn.writer, keys, record, key);
    const client = { certificates: key.certificates.slice(0, -1), key: privateKey };
    const opening = channels.open({ kind: "Root", root }, client, within(OPEN_WITHIN_MS, turn.signal));
    return { channel: await this.#reached(opening), digest: key.digest, openedAt: clock.elapsed() };
  }

  #use(opened: OpenChannel): void {
    this.#open = opened;
    this.#deps.onOpened?.();
    void opened.channel.closed.then(() => {
      if (this.#open?.channel === opened.channel) this.#open = undefined;
    });
  }

  #hangUp(): void {
    const open = this.#open;
    this.#open = undefined;
    open?.channel.close();
  }

  async #request(channel: PrimaryChannel, { signal }: Turn, path: string, body: unknown): Promise<ChannelAnswer> {
    try {
      return await this.#reached(channel.request("POST", path, body, within(ANSWER_WITHIN_MS, signal)));
    } catch (error) {
      // A primary that ends the channel before it hears the request means the same as one that answers it so.
      const code = error instanceof MembershipFault ? memberRefusal(error.cause) : undefined;
      if (code !== undefined) return { status: 403, body: { code } };
      // What gave no answer is not asked again.
      if (this.#open?.channel === channel) this.#hangUp();
      throw error;
    }
  }

  async #reached<T>(attempt: Promise<T>): Promise<T> {
    try {
      return await attempt;
    } catch (error) {
      // Anybody may read it at /api/v1/health.
      const at = new URL(this.#deps.settings.primaryUrl).host;
      if (error instanceof Unavailable && error.code === "PrimaryUntrusted")
        throw new MembershipFault(
          "PrimaryUntrusted",
          `what answers at ${at} is not the primary of the bootstrap token`,
          {
            cause: error,
          },
        );
      if (error instanceof Unavailable && error.code === "GatewayCertificateRefused")
        throw new MembershipFault(
          "GatewayCertificateRefused",
          `the primary at ${at} ended the session when it saw this gateway's certificate`,
          { cause: error },
        );
      const why = error instanceof Unavailable ? error.message : "no answer in time";
      throw new MembershipFault("PrimaryUnreachable", `no answer from the primary at ${at}: ${why}`, { cause: error });
    }
  }

  async #refusedBy(
    turn: Turn,
    stored: StoredMembership,
    by: MemberKey,
    what: string,
    { status, body }: ChannelAnswer,
  ): Promise<never> {
    const code = problemCode(body);
    const doubted = code === undefined ? undefined : DOUBTED[code];
    if (doubted !== undefined) {
      this.#hangUp();
      // A new token is taken then.
      this.#currentFails ||= by.digest.equals(stored.record.current.digest);
      throw doubted();
    }
    if (code !== REVOKED.code) throw unserved(what, status, code);
    this.#hangUp();
    const { record } = stored;
    if (!this.#believes(record, by)) throw unserved(what, status, "its certificate is not known there yet");
    if (!by.digest.equals(record.current.digest)) {
      await this.#write(turn, stored, { ...record, next: undefined });
      throw unserved(what, status, "its next certificate does not count there");
    }
    await this.#write(turn, stored, { ...record, state: "Revoked" });
    throw new MembershipFault("GatewayRevoked", "the primary has revoked this gateway");
  }

  /** See the drawing above; and one that just came may not be known by each replica of the primary. */
  #believes({ state, current, next }: MembershipRecord, by: MemberKey): boolean {
    const certified = next !== undefined && next.certificates.length > 0;
    const isCurrent = by.digest.equals(current.digest);
    if (isCurrent && certified) return false;
    if (isCurrent && state === "Confirmed") return true;
    const now = this.#deps.clock.elapsed();
    if (!this.#unadmitted?.digest.equals(by.digest)) this.#unadmitted = { digest: by.digest, since: now };
    return now - this.#unadmitted.since >= NOT_YET_ADMITTED_MS;
  }

  async #write(turn: Turn, before: StoredMembership | undefined, record: MembershipRecord): Promise<StoredMembership> {
    const audit = before?.record.state === record.state ? [] : [auditOf(record)];
    const generation = await this.#deps.store.write(turn.writer, before?.generation ?? 0n, record, audit);
    const written = { generation, record };
    this.#known = written;
    return written;
  }

  #placeDiffers({ identity }: MembershipRecord): boolean {
    const { environment, role } = this.#deps.settings;
    return identity !== undefined && (identity.environment !== environment || identity.role !== role);
  }

  #assertPlace(record: MembershipRecord): void {
    if (!this.#placeDiffers(record)) return;
    this.#hangUp();
    const { environment, role } = this.#deps.settings;
    throw new MembershipFault(
      "GatewayPlaceDiffers",
      `this gateway is registered for ${record.identity?.environment}, ${record.identity?.role}, and its settings say ${environment}, ${role}`,
    );
  }

  #say(line: string): void {
    if (this.#said.has(line)) return;
    this.#said.add(line);
    this.#deps.log.info(line);
  }

  /** Once for each cause; whether it waits for a person. */
  #tell(error: unknown): boolean {
    // The row is read again at the next turn.
    if (error instanceof Conflict) return false;
    const during = this.#known?.record.state === "Confirmed" ? "heartbeat failed" : "registration failed";
    this.#problem = this.#warned(this.#problem, during, error);
    return error instanceof MembershipFault && WAITS_FOR_A_PERSON.has(error.code);
  }

  #warned(before: Problem | undefined, during: string, error: unknown): Problem {
    const problem = describe(error);
    if (before?.code !== problem.code || before.problem !== problem.problem) {
      const { code } = problem;
      this.#deps.log.warn({ code, error }, `${during}: ${problem.problem}; ${problem.fix}`);
    }
    return problem;
  }

  #mended(): void {
    if (this.#problem !== undefined) this.#deps.log.info("The gateway is in touch with its primary again");
    this.#problem = undefined;
  }

  /** Wakes when the channel ends: that may be because the gateway was revoked. */
  async #rest(ms: number, signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    const open = this.#open;
    const woken = new AbortController();
    const either = AbortSignal.any([signal, woken.signal]);
    const ended = open?.channel.closed.then((reason) => ({ reason }));
    const why = await Promise.race([clock.sleep(ms, either), ...(ended === undefined ? [] : [ended])]);
    woken.abort();
    if (why === undefined || open === undefined) return;
    // Who asks again is told so.
    if (why.reason === REVOKED.code) return;
    this.#shortLived = clock.elapsed() - open.openedAt < SHORT_LIVED_MS ? this.#shortLived + 1 : 1;
    await clock.sleep(pauseAfter(this.#shortLived, FIRST_PAUSE_MS, LONGEST_PAUSE_MS), signal);
  }
}

const MTLS = "Setting up mTLS...";

/** So long the primary wants to be left alone, within reason. */
const askedToWaitMs = (error: unknown): number =>
  error instanceof MembershipFault && error.cause instanceof PrimaryBusy
    ? Math.min(LONGEST_PAUSE_MS, error.cause.retryAfterMs)
    : 0;

const within = (ms: number, signal: AbortSignal): AbortSignal => AbortSignal.any([signal, AbortSignal.timeout(ms)]);

const withinBounds = (seconds: number): number =>
  Math.min(HEARTBEAT_SECONDS_BOUNDS.most, Math.max(HEARTBEAT_SECONDS_BOUNDS.least, seconds));

const REVOKED = { code: "GatewayRevoked" };

/** Refusals of the certificate that may end by themselves, or that a new token ends. */
const unknown = () =>
  new MembershipFault("CertificateUnknown", "the primary knows nothing of this gateway's certificate");
const ended = () =>
  new MembershipFault("GatewayCertificateEnded", "the certificate has ended by the clock of the primary");
const DOUBTED: Readonly<Record<string, () => MembershipFault>> = {
  CertificateUnknown: unknown,
  CertificateExpired: ended,
  GatewayCertificateEnded: ended,
};

const memberRefusal = (error: unknown): string | undefined =>
  error instanceof Unavailable && (error.code === REVOKED.code || error.code in DOUBTED) ? error.code : undefined;
/** Neither the way nor the primary is at fault. */
const isOfKey = (error: unknown): boolean =>
  error instanceof Unavailable && (error.code === "TamperDetected" || error.code === "GatewayCertificateRefused");
const isRevocation = (error: unknown): boolean => error instanceof Unavailable && error.code === REVOKED.code;

const unserved = (what: string, status: number, why: string | undefined): MembershipFault =>
  new MembershipFault(
    "PrimaryUnreachable",
    `the primary answered ${what} with ${status}${why === undefined ? "" : ` (${why})`}`,
  );

/** Constants, so that nothing else of an answer is shown. */
function problemCode(body: unknown): string | undefined {
  const { code } = (typeof body === "object" && body !== null ? body : {}) as { readonly code?: unknown };
  return typeof code === "string" && /^[A-Za-z]{1,64}$/.test(code) ? code : undefined;
}

function read<Schema extends z.ZodType>(schema: Schema, { body }: ChannelAnswer, what: string): z.infer<Schema> {
  const judged = schema.safeParse(body);
  if (!judged.success)
    throw new MembershipFault("PrimaryAnswerInvalid", `the primary answered ${what} with what is not understood here`);
  return judged.data;
}

function describe(error: unknown): Problem {
  if (error instanceof MembershipFault) return { code: error.code, problem: error.problem, fix: error.fix };
  if (error instanceof Unavailable) return { code: error.code, problem: error.message, fix: "see the operator's log" };
  return { code: "Failed", problem: "it failed for a reason that is not known", fix: "see the operator's log" };
}

const auditOf = ({ state, identity, primaryUrl }: MembershipRecord): AuditEntry => ({
  action: "MembershipChanged",
  actor: { kind: "Controller", name: "membership" },
  subject: {
    kind: "Installation",
    id: identity?.gatewayId ?? "membership",
    name: identity?.name ?? "membership",
  },
  outcome: "Success",
  details: { state, primary: new URL(primaryUrl).host },
});
