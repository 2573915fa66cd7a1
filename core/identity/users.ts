import { randomUUID } from "node:crypto";
import type { Role, Subject } from "../access/subject.ts";
import type { Actor, AuditEntry } from "../ports/audit-log.ts";
import type { IdentityStore, UserRow } from "../ports/identity-store.ts";
import { normalisedEmail, requireEmail } from "./email.ts";
import { IdentityRefused } from "./errors.ts";
import type { IdentityKeys } from "./keys.ts";
import { type PasswordHasher, requirePassword } from "./password.ts";

/** A local user as others see it. */
export interface User {
  readonly id: string;
  readonly email: string;
  readonly role?: Role;
  readonly disabled: boolean;
  readonly createdAt: Date;
}

export interface NewUser {
  readonly email: string;
  readonly password: string;
  readonly role?: Role;
}

/** What is absent stays as it is. */
export interface UserChange {
  /** null: none. */
  readonly role?: Role | null;
  readonly password?: string;
  readonly disabled?: boolean;
}

export interface UsersOptions {
  readonly store: IdentityStore;
  readonly keys: IdentityKeys;
  readonly hasher: PasswordHasher;
  readonly now: () => Date;
  /** Told after each change, for what this process remembers of users. */
  readonly onChange: () => void;
}

type Change = Pick<AuditEntry, "action" | "details"> & { readonly next: Omit<UserRow, "generation"> };

const FIRST_ADMIN: Actor = { kind: "Controller", name: "identity" };
/** Somebody else may change the same user meanwhile, but not again and again. */
const MOST_TRIES = 5;

export class Users {
  readonly #options: UsersOptions;

  constructor(options: UsersOptions) {
    this.#options = options;
  }

  async create(actor: Actor, { email, password, role }: NewUser): Promise<User> {
    const address = requireEmail(email);
    requirePassword(password, address);
    const { store } = this.#options;
    if ((await store.findUserByEmail(address)) !== undefined) throw taken();
    const row = await this.#newRow(randomUUID(), address, password, role);
    const { user } = await this.#insert(actor, row);
    return user ?? refuse(taken());
  }

  async find(id: string): Promise<User | undefined> {
    const row = await this.row(id);
    return row === undefined || row.state === "Removed" ? undefined : userOf(row);
  }

  async findByEmail(email: string): Promise<User | undefined> {
    const address = normalisedEmail(email);
    const stored = address === undefined ? undefined : await this.#options.store.findUserByEmail(address);
    if (stored === undefined) return undefined;
    const row = (await this.#options.keys.authenticity()).verifiedUser(stored);
    return row.state === "Removed" ? undefined : userOf(row);
  }

  /** By email, after that one, at most `limit`. */
  async list(after: string | undefined, limit: number): Promise<readonly User[]> {
    const authenticity = await this.#options.keys.authenticity();
    const stored = await this.#options.store.listUsers(after, limit);
    return stored.map((each) => userOf(authenticity.verifiedUser(each)));
  }

  /** Another password, and being disabled, end every session of the user. */
  async change(actor: Actor, id: string, { role, password, disabled }: UserChange): Promise<User> {
    const before = (await this.find(id)) ?? refuse(notFound());
    if (password !== undefined) requirePassword(password, before.email);
    const hash = password === undefined ? undefined : await this.#hash(password);
    const changed = await this.#update(actor, id, ({ generation: _, role: oldRole, ...row }) => {
      const newRole = role === undefined ? oldRole : (role ?? undefined);
      const state = disabled === undefined ? row.state : disabled ? "Disabled" : "Active";
      const ends = hash !== undefined || (state === "Disabled" && row.state === "Active");
      if (newRole === oldRole && state === row.state && hash === undefined) return undefined;
      return {
        action: "UserChanged",
        next: {
          ...row,
          state,
          ...(newRole === undefined ? {} : { role: newRole }),
          ...(hash === undefined ? {} : { password: hash }),
          sessionEpoch: row.sessionEpoch + (ends ? 1 : 0),
        },
        details: {
          ...(newRole === oldRole ? {} : { role: newRole ?? "none" }),
          ...(state === row.state ? {} : { disabled: state === "Disabled" }),
          ...(hash === undefined ? {} : { passwordChanged: true }),
          ...(ends ? { sessionsEnded: true } : {}),
        },
      };
    });
    return userOf(changed);
  }

  /** Leaves a tombstone: the address is never given to another user. */
  async remove(actor: Actor, id: string): Promise<void> {
    await this.#update(actor, id, ({ generation: _, role: __, password: ___, ...row }) => ({
      action: "UserRemoved",
      next: { ...row, state: "Removed", sessionEpoch: row.sessionEpoch + 1 },
      details: {},
    }));
  }

  /** All of them, at once. */
  async endSessions(actor: Actor, id: string): Promise<void> {
    await this.#update(actor, id, ({ generation: _, ...row }) => ({
      action: "SessionRevoked",
      next: { ...row, sessionEpoch: row.sessionEpoch + 1 },
      details: { sessions: "all" },
    }));
  }

  /** After a login with a hash that was made at another cost. Gives way to any other change. */
  async rehash(actor: Actor, { generation, ...row }: UserRow, password: string): Promise<void> {
    const next = { ...row, password: await this.#hash(password), generation: generation + 1n };
    const authenticity = await this.#options.keys.authenticity();
    const details = { passwordRehashed: true };
    await this.#options.store.changeUser(authenticity.user(next), [entry("UserChanged", actor, next, details)]);
    this.#options.onChange();
  }

  /**
   * Makes the first admin, once for all replicas, where there never was a user. Returns its credentials until its
   * password is changed, so that they can be handed over however often that is interrupted.
   */
  async ensureFirstAdmin(email: string): Promise<{ readonly email: string; readonly password: string } | undefined> {
    const address = requireEmail(email);
    const { store, keys, hasher } = this.#options;
    const authenticity = await keys.authenticity();
    const find = async () => {
      const stored = await store.findUserByEmail(address);
      return stored === undefined ? undefined : authenticity.verifiedUser(stored);
    };
    let row = await find();
    if (row === undefined) {
      const id = randomUUID();
      const first = await this.#newRow(id, address, authenticity.firstPassword(id), "admin");
      const { outcome } = await this.#insert(FIRST_ADMIN, first, true);
      row = outcome === "Created" ? first : await find();
    }
    if (row?.state !== "Active" || row.role !== "admin") return undefined;
    const password = authenticity.firstPassword(row.id);
    const unchanged = await hasher.verify(password, row.password, authenticity.passwordSecret);
    return unchanged ? { email: address, password } : undefined;
  }

  /** Also of a removed user. */
  async row(id: string): Promise<UserRow | undefined> {
    const stored = await this.#options.store.findUser(id);
    return stored === undefined ? undefined : (await this.#options.keys.authenticity()).verifiedUser(stored);
  }

  async #insert(actor: Actor, row: UserRow, first = false) {
    const authenticity = await this.#options.keys.authenticity();
    const audit = [entry("UserCreated", actor, row, { role: row.role ?? "none" })];
    const outcome = await this.#options.store.createUser(authenticity.user(row), audit, { first });
    return outcome === "Created" ? { outcome, user: userOf(row) } : { outcome };
  }

  async #newRow(id: string, email: string, password: string, role: Role | undefined): Promise<UserRow> {
    const row = { id, email, state: "Active", sessionEpoch: 1, generation: 1n } as const;
    const hash = await this.#hash(password);
    return { ...row, password: hash, createdAt: this.#options.now(), ...(role === undefined ? {} : { role }) };
  }

  async #hash(password: string): Promise<string> {
    return this.#options.hasher.hash(password, (await this.#options.keys.authenticity()).passwordSecret);
  }

  /** Decides anew when somebody else was faster. `decide` gives undefined when there is nothing to do. */
  async #update(actor: Actor, id: string, decide: (row: UserRow) => Change | undefined): Promise<UserRow> {
    const authenticity = await this.#options.keys.authenticity();
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const row = await this.row(id);
      if (row === undefined || row.state === "Removed") throw notFound();
      const change = decide(row);
      if (change === undefined) return row;
      const next = { ...change.next, generation: row.generation + 1n };
      const audit = [entry(change.action, actor, next, change.details)];
      const outcome = await this.#options.store.changeUser(authenticity.user(next), audit);
      if (outcome === "LastAdmin") {
        throw new IdentityRefused("LastAdmin", "this is the last admin that is active: make another one first");
      }
      this.#options.onChange();
      if (outcome === "Changed") return next;
    }
    throw new IdentityRefused("Changed", "the user is being changed by others: try again");
  }
}

export const subjectOf = ({ id, email, role }: UserRow): Extract<Subject, { kind: "LocalUser" }> => ({
  kind: "LocalUser",
  id,
  email,
  ...(role === undefined ? {} : { role }),
});

const userOf = ({ id, email, role, state, createdAt }: UserRow): User => ({
  id,
  email,
  ...(role === undefined ? {} : { role }),
  disabled: state === "Disabled",
  createdAt,
});

const entry = (
  action: AuditEntry["action"],
  actor: Actor,
  { id, generation, email }: UserRow,
  details: AuditEntry["details"],
): AuditEntry => ({
  action,
  actor,
  subject: { kind: "User", id, generation, name: email },
  outcome: "Success",
  details,
});

const notFound = () => new IdentityRefused("NotFound", "there is no such user");
const taken = () => new IdentityRefused("EmailTaken", "email: belongs, or belonged, to another user");

function refuse(refusal: IdentityRefused): never {
  throw refusal;
}
