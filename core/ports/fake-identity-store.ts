import type { AuditEntry } from "./audit-log.ts";
import type { FakeDatabase } from "./fake-database.ts";
import type {
  ApiKeyRow,
  Authentic,
  IdentityStore,
  SessionRow,
  Stored,
  StoredApiKey,
  StoredSession,
  UserRow,
} from "./identity-store.ts";

/** Users, sessions and API keys in memory, with the contract of the real store. */
export class FakeIdentityStore implements IdentityStore {
  readonly #database: FakeDatabase;
  readonly #users = new Map<string, Authentic<UserRow>>();
  readonly #sessions = new Map<string, Authentic<SessionRow>>();
  /** Id of the session by the hash in hex. */
  readonly #usedRefreshTokens = new Map<string, string>();
  readonly #apiKeys = new Map<string, Authentic<ApiKeyRow>>();
  readonly #uses = new Map<string, Date>();

  constructor(database: FakeDatabase) {
    this.#database = database;
  }

  async findUser(id: string): Promise<Stored<UserRow> | undefined> {
    return this.#stored(this.#users.get(id));
  }

  async findUserByEmail(email: string): Promise<Stored<UserRow> | undefined> {
    return this.#stored([...this.#users.values()].find(({ row }) => row.email === email));
  }

  async listUsers(after: string | undefined, limit: number): Promise<readonly Stored<UserRow>[]> {
    return [...this.#users.values()]
      .filter(({ row }) => row.state !== "Removed" && row.email > (after ?? ""))
      .sort((a, b) => (a.row.email < b.row.email ? -1 : 1))
      .slice(0, limit)
      .map((user) => this.#stored(user));
  }

  async createUser(
    user: Authentic<UserRow>,
    audit: readonly AuditEntry[],
    { first } = { first: false },
  ): ReturnType<IdentityStore["createUser"]> {
    if (first && this.#users.size > 0) return "NotFirst";
    if ([...this.#users.values()].some(({ row }) => row.email === user.row.email)) return "EmailTaken";
    this.#users.set(user.row.id, user);
    this.#database.record(audit);
    return "Created";
  }

  async changeUser(user: Authentic<UserRow>, audit: readonly AuditEntry[]): ReturnType<IdentityStore["changeUser"]> {
    const before = this.#users.get(user.row.id)?.row;
    if (before === undefined || before.generation !== user.row.generation - 1n) return "Conflict";
    const others = [...this.#users.values()].filter(({ row }) => row.id !== before.id);
    if (isAdmin(before) && !isAdmin(user.row) && !others.some(({ row }) => isAdmin(row))) return "LastAdmin";
    this.#users.set(before.id, user);
    this.#database.record(audit);
    return "Changed";
  }

  async createSession(session: Authentic<SessionRow>, audit: readonly AuditEntry[]): Promise<void> {
    this.#sessions.set(session.row.id, session);
    this.#database.record(audit);
  }

  async findSession(id: string): Promise<StoredSession | undefined> {
    const session = this.#sessions.get(id);
    const user = session && this.#users.get(session.row.userId);
    return session && user && { session: this.#stored(session), user: this.#stored(user) };
  }

  async findRefreshToken(hash: Buffer): ReturnType<IdentityStore["findRefreshToken"]> {
    const used = this.#usedRefreshTokens.get(hash.toString("hex"));
    if (used !== undefined) return { sessionId: used, used: true };
    const session = [...this.#sessions.values()].find(({ row }) => row.refreshHash.equals(hash));
    return session && { sessionId: session.row.id, used: false };
  }

  async listSessions(userId: string): Promise<readonly Stored<SessionRow>[]> {
    return [...this.#sessions.values()]
      .filter(({ row }) => row.userId === userId && row.endedAt === undefined)
      .sort((a, b) => b.row.createdAt.getTime() - a.row.createdAt.getTime())
      .map((session) => this.#stored(session));
  }

  async refreshSession(session: Authentic<SessionRow>, used: Buffer): Promise<boolean> {
    if (!this.#canChange(session.row.id, used)) return false;
    this.#sessions.set(session.row.id, session);
    this.#usedRefreshTokens.set(used.toString("hex"), session.row.id);
    return true;
  }

  async endSession(session: Authentic<SessionRow>, audit: readonly AuditEntry[]): Promise<boolean> {
    if (!this.#canChange(session.row.id, session.row.refreshHash)) return false;
    this.#sessions.set(session.row.id, session);
    this.#database.record(audit);
    return true;
  }

  async forgetSessions(before: Date, limit: number): Promise<number> {
    const expired = [...this.#sessions.values()].filter(({ row }) => row.expiresAt < before).slice(0, limit);
    for (const { row } of expired) {
      this.#sessions.delete(row.id);
      for (const [hash, id] of this.#usedRefreshTokens) if (id === row.id) this.#usedRefreshTokens.delete(hash);
    }
    return expired.length;
  }

  async createApiKey(key: Authentic<ApiKeyRow>, audit: readonly AuditEntry[]): Promise<void> {
    this.#apiKeys.set(key.row.id, key);
    this.#database.record(audit);
  }

  async findApiKey(id: string): Promise<StoredApiKey | undefined> {
    const key = this.#apiKeys.get(id);
    const owner = key && this.#users.get(key.row.ownerId);
    const lastUsedAt = this.#uses.get(id);
    return (
      key &&
      owner && {
        key: this.#stored(key),
        owner: this.#stored(owner),
        ...(lastUsedAt === undefined ? {} : { lastUsedAt }),
      }
    );
  }

  async listApiKeys(
    ownerId: string | undefined,
    after: string | undefined,
    limit: number,
  ): Promise<readonly StoredApiKey[]> {
    const ids = [...this.#apiKeys.values()]
      .filter(({ row }) => (ownerId === undefined || row.ownerId === ownerId) && row.id > (after ?? ""))
      .map(({ row }) => row.id)
      .sort()
      .slice(0, limit);
    const found = await Promise.all(ids.map((id) => this.findApiKey(id)));
    return found.flatMap((key) => key ?? []);
  }

  async revokeApiKey(key: Authentic<ApiKeyRow>, audit: readonly AuditEntry[]): Promise<boolean> {
    if (this.#apiKeys.get(key.row.id)?.row.revokedAt !== undefined) return false;
    this.#apiKeys.set(key.row.id, key);
    this.#database.record(audit);
    return true;
  }

  async recordUses(uses: ReadonlyMap<string, Date>): Promise<void> {
    for (const [id, at] of uses) {
      const known = this.#uses.get(id);
      if (this.#apiKeys.has(id) && (known === undefined || known < at)) this.#uses.set(id, at);
    }
  }

  #canChange(id: string, refreshHash: Buffer): boolean {
    const row = this.#sessions.get(id)?.row;
    return row !== undefined && row.endedAt === undefined && row.refreshHash.equals(refreshHash);
  }

  #stored<Row extends { readonly id: string }>(found: Authentic<Row>): Stored<Row>;
  #stored<Row extends { readonly id: string }>(found: Authentic<Row> | undefined): Stored<Row> | undefined;
  #stored<Row extends { readonly id: string }>(found: Authentic<Row> | undefined): Stored<Row> | undefined {
    return found && { ...found, auditedGeneration: this.#database.auditedGeneration(found.row.id) };
  }
}

const isAdmin = ({ state, role }: UserRow): boolean => state === "Active" && role === "admin";
