import { createHash, randomBytes, randomUUID, timingSafeEqual } from "node:crypto";
import type { Verb } from "../access/policy.ts";
import type { Authenticated } from "../access/subject.ts";
import type { Actor, AuditEntry } from "../ports/audit-log.ts";
import type { ApiKeyRow, IdentityStore, UserRow } from "../ports/identity-store.ts";
import { apiKeyGeneration } from "./authenticity.ts";
import { IdentityRefused, Unauthenticated } from "./errors.ts";
import type { IdentityKeys } from "./keys.ts";
import { Recent } from "./recent.ts";
import { subjectOf, type Users } from "./users.ts";

/** An API key as others see it. */
export interface ApiKey {
  readonly id: string;
  readonly ownerId: string;
  readonly name: string;
  readonly scopes: readonly Verb[];
  readonly createdAt: Date;
  readonly expiresAt: Date;
  readonly revokedAt?: Date;
  /** Up to a minute ago; also what was used since may be missing. */
  readonly lastUsedAt?: Date;
}

export interface NewApiKey {
  readonly ownerId: string;
  readonly name: string;
  /** What it may do at most; its owner's rights bound it too. */
  readonly scopes: readonly Verb[];
  /** 90 days from now when absent, a year at most. */
  readonly expiresAt?: Date;
}

export interface ApiKeysOptions {
  readonly store: IdentityStore;
  readonly keys: IdentityKeys;
  readonly users: Users;
  /** How often uses are written. */
  readonly usesEveryMs: number;
  readonly now: () => Date;
  /** One was revoked. */
  readonly onEnd: () => void;
}

interface Known {
  readonly key: ApiKeyRow;
  readonly owner: UserRow;
}

const DAY_MS = 86_400_000;
const DEFAULT_MS = 90 * DAY_MS;
const LONGEST_MS = 366 * DAY_MS;
const SECRET_BYTES = 32;

/** Begins with what secret scanners can look for, then the id without its hyphens, then 256 random bits. */
const FORMAT = /^mvk_([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})_([A-Za-z0-9_-]{43})$/;

/** A plain hash is enough for 256 random bits. */
const hashOf = (secret: string): Buffer => createHash("sha256").update(secret).digest();

export class ApiKeys {
  readonly #options: ApiKeysOptions;
  readonly #recent: Recent<Known | undefined>;
  #uses = new Map<string, Date>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: ApiKeysOptions) {
    this.#options = options;
    this.#recent = new Recent((id) => this.#find(id));
  }

  static looksLikeOne(bearer: string): boolean {
    return bearer.startsWith("mvk_");
  }

  /** `secret` is told this once. */
  async create(actor: Actor, { ownerId, name, scopes, expiresAt }: NewApiKey): Promise<ApiKey & { secret: string }> {
    const { store, keys, users, now } = this.#options;
    const createdAt = now();
    const ends = expiresAt ?? new Date(createdAt.getTime() + DEFAULT_MS);
    const lastsMs = ends.getTime() - createdAt.getTime();
    if (!(lastsMs > 0 && lastsMs <= LONGEST_MS)) {
      throw new IdentityRefused("ExpiryInvalid", "expiresAt: in the future, and within 366 days");
    }
    if (scopes.length === 0) throw new IdentityRefused("ScopesMissing", "scopes: at least one verb");
    const owner = await users.find(ownerId);
    if (owner === undefined) throw new IdentityRefused("NotFound", "there is no such user");
    const id = randomUUID();
    const secret = randomBytes(SECRET_BYTES).toString("base64url");
    const row: ApiKeyRow = {
      id,
      ownerId,
      name,
      hash: hashOf(secret),
      scopes: [...new Set(scopes)],
      createdAt,
      expiresAt: ends,
    };
    await store.createApiKey((await keys.authenticity()).apiKey(row), [
      entry("ApiKeyCreated", actor, row, {
        owner: ownerId,
        scopes: row.scopes.join(" "),
        expiresAt: ends.toISOString(),
      }),
    ]);
    return { ...apiKeyOf(row), secret: `mvk_${id.replaceAll("-", "")}_${secret}` };
  }

  /** By id, of that owner or of all, after that id, at most `limit`. */
  async list(ownerId: string | undefined, after: string | undefined, limit: number): Promise<readonly ApiKey[]> {
    const authenticity = await this.#options.keys.authenticity();
    const stored = await this.#options.store.listApiKeys(ownerId, after, limit);
    return stored.map(({ key, lastUsedAt }) => apiKeyOf(authenticity.verifiedApiKey(key), lastUsedAt));
  }

  /** Known in every replica within a second. Revoking again changes nothing. With `ownerId`: only if it is that user's. */
  async revoke(actor: Actor, id: string, ownerId?: string): Promise<void> {
    const { store, keys, now } = this.#options;
    const known = await this.#find(id);
    if (known === undefined || (ownerId !== undefined && known.key.ownerId !== ownerId)) {
      throw new IdentityRefused("NotFound", "there is no such API key");
    }
    if (known.key.revokedAt !== undefined) return;
    const row = { ...known.key, revokedAt: now() };
    await store.revokeApiKey((await keys.authenticity()).apiKey(row), [entry("ApiKeyRevoked", actor, row, {})]);
    this.#recent.forget(id);
    this.#options.onEnd();
  }

  /** Throws `Unauthenticated`. */
  async authenticate(bearer: string): Promise<Authenticated> {
    const [, ...parts] = FORMAT.exec(bearer) ?? [];
    const secret = parts.pop();
    if (secret === undefined) throw new Unauthenticated();
    const id = parts.join("-");
    const known = await this.#recent.get(id);
    if (known === undefined || !timingSafeEqual(hashOf(secret), known.key.hash) || !this.#isValid(known)) {
      throw new Unauthenticated();
    }
    this.#used(id);
    return { subject: subjectOf(known.owner), via: "ApiKey", scopes: known.key.scopes, id };
  }

  /** Users were changed here. */
  forget(): void {
    this.#recent.clear();
  }

  /** Writes when keys were used; what cannot be written is tried again with the next. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const uses = this.#uses;
    this.#uses = new Map();
    if (uses.size === 0) return;
    try {
      await this.#options.store.recordUses(uses);
    } catch (error) {
      this.#uses = new Map([...uses, ...this.#uses]);
      throw error;
    }
  }

  #used(id: string): void {
    this.#uses.set(id, this.#options.now());
    this.#timer ??= setTimeout(() => void this.flush().catch(() => {}), this.#options.usesEveryMs).unref();
  }

  #isValid({ key, owner }: Known): boolean {
    return key.revokedAt === undefined && key.expiresAt > this.#options.now() && owner.state === "Active";
  }

  async #find(id: string): Promise<Known | undefined> {
    const stored = await this.#options.store.findApiKey(id);
    if (stored === undefined) return undefined;
    const authenticity = await this.#options.keys.authenticity();
    return { key: authenticity.verifiedApiKey(stored.key), owner: authenticity.verifiedUser(stored.owner) };
  }
}

const apiKeyOf = ({ hash: _, ...key }: ApiKeyRow, lastUsedAt?: Date): ApiKey => ({
  ...key,
  ...(lastUsedAt === undefined ? {} : { lastUsedAt }),
});

const entry = (
  action: AuditEntry["action"],
  actor: Actor,
  row: ApiKeyRow,
  details: AuditEntry["details"],
): AuditEntry => ({
  action,
  actor,
  subject: { kind: "ApiKey", id: row.id, generation: apiKeyGeneration(row), name: row.name },
  outcome: "Success",
  details,
});
