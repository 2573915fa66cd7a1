import { createHash, randomBytes, randomUUID } from "node:crypto";
import type { Subject } from "../access/subject.ts";
import type { Actor, AuditEntry } from "../ports/audit-log.ts";
import type { IdentityStore, SessionRow, Stored, UserRow } from "../ports/identity-store.ts";
import { actorOf, type Origin } from "./actor.ts";
import { sessionGeneration } from "./authenticity.ts";
import { IdentityRefused, Unauthenticated } from "./errors.ts";
import type { IdentityKeys } from "./keys.ts";
import { Recent } from "./recent.ts";
import type { Tokens } from "./tokens.ts";
import { subjectOf } from "./users.ts";

/** What a login gives. */
export interface Session {
  /** For requests, as `Authorization: Bearer`. */
  readonly token: string;
  readonly expiresAt: Date;
  /** For the next token; each can be used once. */
  readonly refreshToken: string;
  /** When the session ends, however often it is refreshed. */
  readonly refreshExpiresAt: Date;
  readonly subject: Subject;
}

export interface SessionsOptions {
  readonly store: IdentityStore;
  readonly keys: IdentityKeys;
  readonly tokens: Tokens;
  /** How long a session lasts. */
  readonly sessionMs: number;
  readonly now: () => Date;
  /** One has ended. */
  readonly onEnd: () => void;
}

export interface Known {
  readonly session: SessionRow;
  readonly user: UserRow;
}

type EndAction = "LoggedOut" | "SessionRevoked" | "RefreshReplayed";

const REFRESH_TOKEN = /^mvr_[A-Za-z0-9_-]{43}$/;
const SECRET_BYTES = 32;
/** Each time the refresh token was exchanged in between; who does that must be using the session. */
const MOST_TRIES = 5;

const newRefreshToken = (): string => `mvr_${randomBytes(SECRET_BYTES).toString("base64url")}`;
/** A plain hash is enough for 256 random bits. */
const hashOf = (refreshToken: string): Buffer => createHash("sha256").update(refreshToken).digest();

export class Sessions {
  readonly #options: SessionsOptions;
  readonly #recent: Recent<Known | undefined>;

  constructor(options: SessionsOptions) {
    this.#options = options;
    this.#recent = new Recent((id) => this.#find(id));
  }

  async begin(user: UserRow, { address }: Origin): Promise<Session> {
    const { store, keys, sessionMs, now } = this.#options;
    const refreshToken = newRefreshToken();
    const createdAt = now();
    const row: SessionRow = {
      id: randomUUID(),
      userId: user.id,
      sessionEpoch: user.sessionEpoch,
      address,
      refreshHash: hashOf(refreshToken),
      createdAt,
      expiresAt: new Date(createdAt.getTime() + sessionMs),
    };
    const actor = actorOf({ subject: subjectOf(user), via: "Password", id: row.id }, { address });
    const session = (await keys.authenticity()).session(row);
    await store.createSession(session, [entry("LoginSucceeded", actor, row, user)]);
    return this.#answer({ session: row, user }, refreshToken);
  }

  /** The session and its user, at most a second old. Throws `Unauthenticated` when it has ended. */
  async live(id: string): Promise<Known> {
    const known = await this.#recent.get(id);
    if (known === undefined || !this.#isLive(known)) throw new Unauthenticated();
    return known;
  }

  /** Throws `Unauthenticated`; a token that was used before ends its session, since one of two who have it stole it. */
  async refresh(refreshToken: string, from: Origin | undefined): Promise<Session> {
    if (!REFRESH_TOKEN.test(refreshToken)) throw new Unauthenticated();
    const used = hashOf(refreshToken);
    const found = await this.#options.store.findRefreshToken(used);
    const known = found === undefined ? undefined : await this.#find(found.sessionId);
    if (found === undefined || known === undefined || !this.#isLive(known)) throw new Unauthenticated();
    const next = newRefreshToken();
    if (found.used || !(await this.#exchange(known.session, used, next))) {
      const { session, user } = known;
      const actor = actorOf({ subject: subjectOf(user), via: "RefreshToken", id: session.id }, from);
      await this.end(session.id, "RefreshReplayed", actor);
      throw new Unauthenticated();
    }
    return this.#answer(known, next);
  }

  /** False when there is none, or it has ended already. */
  async end(id: string, action: EndAction, actor: Actor): Promise<boolean> {
    const { store, keys, now } = this.#options;
    const authenticity = await keys.authenticity();
    try {
      for (let tries = 0; tries < MOST_TRIES; tries += 1) {
        const known = await this.#find(id);
        if (known === undefined || !this.#isLive(known)) return false;
        const row = { ...known.session, endedAt: now() };
        if (await store.endSession(authenticity.session(row), [entry(action, actor, row, known.user)])) return true;
      }
      throw new IdentityRefused("Changed", "the session is being refreshed again and again: try again");
    } finally {
      this.#recent.forget(id);
      this.#options.onEnd();
    }
  }

  /** That go on, newest first. */
  async list(user: UserRow): Promise<readonly Omit<SessionRow, "refreshHash" | "sessionEpoch">[]> {
    const authenticity = await this.#options.keys.authenticity();
    const stored = await this.#options.store.listSessions(user.id);
    return stored
      .filter((each) => !this.#isOver(each))
      .map((each) => authenticity.verifiedSession(each))
      .filter((session) => this.#isLive({ session, user }))
      .map(({ refreshHash: _, sessionEpoch: __, ...session }) => session);
  }

  /** Users were changed here. */
  forget(): void {
    this.#recent.clear();
  }

  async #exchange(session: SessionRow, used: Buffer, next: string): Promise<boolean> {
    const { store, keys } = this.#options;
    const row = { ...session, refreshHash: hashOf(next) };
    return store.refreshSession((await keys.authenticity()).session(row), used);
  }

  async #find(id: string): Promise<Known | undefined> {
    const stored = await this.#options.store.findSession(id);
    if (stored === undefined || this.#isOver(stored.session)) return undefined;
    const authenticity = await this.#options.keys.authenticity();
    return { session: authenticity.verifiedSession(stored.session), user: authenticity.verifiedUser(stored.user) };
  }

  /** Nobody gets in by it any more, and what it would be compared with may have left the audit record. */
  #isOver({ row }: Stored<SessionRow>): boolean {
    return row.expiresAt <= this.#options.now();
  }

  #isLive({ session, user }: Known): boolean {
    return (
      session.endedAt === undefined &&
      session.expiresAt > this.#options.now() &&
      session.sessionEpoch === user.sessionEpoch &&
      user.state === "Active"
    );
  }

  async #answer({ session, user }: Known, refreshToken: string): Promise<Session> {
    const claims = { userId: user.id, sessionId: session.id };
    const { token, expiresAt } = await this.#options.tokens.issue(claims, session.expiresAt);
    return { token, expiresAt, refreshToken, refreshExpiresAt: session.expiresAt, subject: subjectOf(user) };
  }
}

const entry = (action: AuditEntry["action"], actor: Actor, row: SessionRow, user: UserRow): AuditEntry => ({
  action,
  actor,
  subject: { kind: "Session", id: row.id, generation: sessionGeneration(row), name: user.email },
  outcome: action === "RefreshReplayed" ? "Denied" : "Success",
  details: { user: user.id },
});
