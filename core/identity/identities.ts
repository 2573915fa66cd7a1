import type { Authenticated } from "../access/subject.ts";
import type { Actor, AuditLog } from "../ports/audit-log.ts";
import type { ChangeHints } from "../ports/change-hints.ts";
import type { IdentityStore, UserRow } from "../ports/identity-store.ts";
import type { LoginAttempts } from "../ports/login-attempts.ts";
import type { Writer } from "../ports/vault-store.ts";
import type { KeyRing } from "../vault/keyring.ts";
import { actorOf, type Origin } from "./actor.ts";
import { ApiKeys } from "./api-keys.ts";
import { normalisedEmail } from "./email.ts";
import { IdentityRefused, TooManyAttempts, Unauthenticated } from "./errors.ts";
import { IdentityKeys } from "./keys.ts";
import { LoginFailures } from "./login-failures.ts";
import { type Argon2, HASH_COST, type HashCost, PasswordHasher } from "./password.ts";
import { type Session, Sessions } from "./sessions.ts";
import { THROTTLE_LIMITS, Throttle, type ThrottleLimits } from "./throttle.ts";
import { Tokens } from "./tokens.ts";
import { subjectOf, Users } from "./users.ts";

export interface IdentitySettings {
  readonly firstAdmin: string;
  /** `aud` of tokens. */
  readonly audience: string;
  readonly tokenMs: number;
  /** From login to the last refresh. */
  readonly sessionMs: number;
  readonly signingKeyMs: number;
  readonly hashCost: HashCost;
  readonly hashesAtOnce: number;
  readonly hashesWaiting: number;
  readonly limits: ThrottleLimits;
  /** How often failed logins and uses of API keys are summed up and written. */
  readonly summaryMs: number;
}

export const IDENTITY_SETTINGS: IdentitySettings = {
  firstAdmin: "admin@mazevault.local",
  audience: "mazevault",
  tokenMs: 600_000,
  sessionMs: 43_200_000,
  signingKeyMs: 2_592_000_000,
  hashCost: HASH_COST,
  hashesAtOnce: 2,
  hashesWaiting: 32,
  limits: THROTTLE_LIMITS,
  summaryMs: 60_000,
};

export interface IdentitiesOptions {
  readonly store: IdentityStore;
  readonly attempts: LoginAttempts;
  readonly keys: KeyRing;
  readonly audit: Pick<AuditLog, "append">;
  /** With them, other replicas know at once what ended; without, in a second. */
  readonly hints?: ChangeHints;
  readonly settings?: Partial<IdentitySettings>;
  readonly now?: () => Date;
  /** For tests that count what is computed. */
  readonly argon2?: Argon2;
}

/** Ended sessions and forgotten attempts are deleted after this time. */
const KEPT_MS = 86_400_000;
/** For so long after a login its rows of the audit record may be asked for: the whole session, and a day for clocks that differ. */
export const SHORTEST_LOGIN_RECORD_MS = IDENTITY_SETTINGS.sessionMs + KEPT_MS;
const FORGET_BATCH = 1_000;

/** Who somebody is: local users with passwords, their sessions and tokens, and API keys. */
export class Identities {
  readonly users: Users;
  readonly apiKeys: ApiKeys;
  readonly #options: IdentitiesOptions;
  readonly #settings: IdentitySettings;
  readonly #now: () => Date;
  readonly #keys: IdentityKeys;
  readonly #hasher: PasswordHasher;
  readonly #throttle: Throttle;
  readonly #failures: LoginFailures;
  readonly #tokens: Tokens;
  readonly #sessions: Sessions;
  readonly #stopListening: (() => void) | undefined;

  constructor(options: IdentitiesOptions) {
    const { store, attempts, keys, audit, argon2, hints, now = () => new Date() } = options;
    const settings = { ...IDENTITY_SETTINGS, ...options.settings };
    const { hashCost, tokenMs } = settings;
    this.#options = options;
    this.#settings = settings;
    this.#now = now;
    this.#keys = new IdentityKeys({ keys, rotateAfterMs: settings.signingKeyMs, tokenMs, now });
    this.#hasher = new PasswordHasher({
      cost: hashCost,
      atOnce: settings.hashesAtOnce,
      waiting: settings.hashesWaiting,
      ...(argon2 === undefined ? {} : { compute: argon2 }),
    });
    this.#throttle = new Throttle(attempts, settings.limits, now);
    this.#failures = new LoginFailures(audit, settings.summaryMs);
    this.#tokens = new Tokens({
      keys: this.#keys,
      installationId: keys.installationId,
      audience: settings.audience,
      tokenMs,
      now,
    });
    const shared = { store, keys: this.#keys, now, onEnd: () => hints?.tell() };
    this.#sessions = new Sessions({ ...shared, tokens: this.#tokens, sessionMs: settings.sessionMs });
    const onChange = () => {
      this.#forgetUsers();
      hints?.tell();
    };
    this.users = new Users({ ...shared, hasher: this.#hasher, onChange });
    this.apiKeys = new ApiKeys({ ...shared, users: this.users, usesEveryMs: settings.summaryMs });
    this.#stopListening = hints?.listen(() => this.#forgetUsers());
  }

  /**
   * @throws Unauthenticated, for whatever reason
   * @throws TooManyAttempts without a look at the password
   */
  async login(email: string, password: string, from: Origin): Promise<Session> {
    const { user, rehash } = await this.#checked(email, password, from);
    const session = await this.#sessions.begin(user, from);
    await rehash?.();
    return session;
  }

  /** Each refresh token can be used once; using it again ends the session. Throws `Unauthenticated`. */
  async refresh(refreshToken: string, from?: Origin): Promise<Session> {
    return this.#sessions.refresh(refreshToken, from);
  }

  /** Ends the session of a token, or with `everywhere` all those of its user. */
  async logout(who: Authenticated, options: { everywhere?: boolean; from?: Origin } = {}): Promise<void> {
    const actor = actorOf(who, options.from);
    if (who.via !== "Token" || who.subject.kind !== "LocalUser") throw new Unauthenticated();
    await this.#sessions.end(who.id, "LoggedOut", actor);
    if (options.everywhere === true) await this.users.endSessions(actor, who.subject.id);
  }

  /**
   * Who sends this token of ours, or API key. What was ended, revoked or disabled a second ago, anywhere, is known here.
   *
   * @throws Unauthenticated
   */
  async authenticate(bearer: string): Promise<Authenticated> {
    if (ApiKeys.looksLikeOne(bearer)) return this.apiKeys.authenticate(bearer);
    const { userId, sessionId } = await this.#tokens.verify(bearer);
    const { session, user } = await this.#sessions.live(sessionId);
    if (user.id !== userId) throw new Unauthenticated();
    return { subject: subjectOf(user), via: "Token", id: session.id };
  }

  /** One's own password, which ends all of one's sessions. Throws as `login` does, and `IdentityRefused`. */
  async changePassword(
    who: Authenticated,
    { current, next }: { readonly current: string; readonly next: string },
    from: Origin,
  ): Promise<void> {
    if (who.via !== "Token" || who.subject.kind !== "LocalUser") throw new Unauthenticated();
    const { user } = await this.#checked(who.subject.email, current, from);
    if (user.id !== who.subject.id) throw new Unauthenticated();
    await this.users.change(actorOf(who, from), user.id, { password: next });
  }

  /** Sessions of a user that go on. */
  async sessions(userId: string) {
    const user = await this.users.row(userId);
    return user === undefined ? [] : this.#sessions.list(user);
  }

  /** Ends somebody's session. */
  async revokeSession(actor: Actor, id: string): Promise<void> {
    if (!(await this.#sessions.end(id, "SessionRevoked", actor))) {
      throw new IdentityRefused("NotFound", "there is no such session, or it has ended");
    }
  }

  /** See `Users.ensureFirstAdmin`. */
  ensureFirstAdmin(): Promise<{ readonly email: string; readonly password: string } | undefined> {
    return this.users.ensureFirstAdmin(this.#settings.firstAdmin);
  }

  /** For the leader, at its start and then from time to time: makes the keys without which nobody can log in. */
  rotateKeys(writer: Writer): Promise<void> {
    return this.#keys.rotate(writer);
  }

  /** For the leader, from time to time: deletes what is over. */
  async forgetExpired(): Promise<void> {
    const { store, attempts } = this.#options;
    const before = new Date(this.#now().getTime() - KEPT_MS);
    while ((await store.forgetSessions(before, FORGET_BATCH)) === FORGET_BATCH);
    while ((await attempts.forget(before, FORGET_BATCH)) === FORGET_BATCH);
  }

  /** Writes what was only counted so far. */
  async close(): Promise<void> {
    this.#stopListening?.();
    await Promise.all([this.#failures.flush(), this.apiKeys.flush()]);
  }

  /** The user whose password it is. What happens does not depend on whether there is such a user, nor does its time. */
  async #checked(email: string, password: string, from: Origin) {
    const address = normalisedEmail(email);
    const name = (await this.#keys.authenticity()).digest("email", address ?? email);
    const attempt = await this.#throttle
      .begin(name, from.address)
      .catch((error: unknown) => this.#refused(error, name, from));
    const { user, right } = await this.#judge(address, password).catch(async (error: unknown) => {
      // Nobody has said yet that the password is wrong.
      await attempt.withdraw();
      return this.#refused(error, name, from);
    });
    if (user === undefined || !right || user.state !== "Active") {
      await this.#failures.add({ ...reasonOf(user, right), name, address: from.address });
      throw new Unauthenticated();
    }
    await attempt.succeed();
    return { user, rehash: this.#rehash(user, password, from) };
  }

  async #judge(address: string | undefined, password: string) {
    const authenticity = await this.#keys.authenticity();
    const stored = await this.#options.store.findUserByEmail(address ?? "");
    const user = stored === undefined ? undefined : authenticity.verifiedUser(stored);
    return { user, right: await this.#hasher.verify(password, user?.password, authenticity.passwordSecret) };
  }

  async #refused(error: unknown, name: string, { address }: Origin): Promise<never> {
    if (error instanceof TooManyAttempts) await this.#failures.add({ reason: "TooManyAttempts", name, address });
    throw error;
  }

  #rehash(user: UserRow, password: string, from: Origin): (() => Promise<void>) | undefined {
    if (user.password === undefined || !this.#hasher.outdated(user.password)) return undefined;
    const actor = actorOf({ subject: subjectOf(user), via: "Password", id: "" }, from);
    return async () => {
      try {
        await this.users.rehash(actor, user, password);
      } catch (error) {
        // There is no room now; at the next login there may be.
        if (!(error instanceof TooManyAttempts)) throw error;
      }
    };
  }

  #forgetUsers(): void {
    this.#sessions.forget();
    this.apiKeys.forget();
  }
}

function reasonOf(user: UserRow | undefined, right: boolean) {
  if (user === undefined || user.state === "Removed") return { reason: "UnknownUser" } as const;
  const known = { id: user.id, email: user.email };
  return { reason: right ? "UserDisabled" : "WrongPassword", user: known } as const;
}
