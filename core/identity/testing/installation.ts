import type { Authenticated } from "../../access/subject.ts";
import { testRootKey } from "../../pki/testing/installation.ts";
import { FakeAuditLog } from "../../ports/fake-audit-log.ts";
import { FakeDatabase } from "../../ports/fake-database.ts";
import { FakeIdentityStore } from "../../ports/fake-identity-store.ts";
import { FakeKeyStore } from "../../ports/fake-key-store.ts";
import { FakeLoginAttempts } from "../../ports/fake-login-attempts.ts";
import { actor } from "../../ports/samples.ts";
import type { Writer } from "../../ports/vault-store.ts";
import { KeyRing } from "../../vault/keyring.ts";
import { Identities, type IdentitiesOptions, type IdentitySettings } from "../identities.ts";
import type { Session } from "../sessions.ts";
import type { NewUser, User } from "../users.ts";

export const PASSWORD = "correct horse battery";
export const EMAIL = "alice@example.com";
export const from = { address: "192.0.2.7" };

/** As cheap as argon2id can be: most tests are not about what a guess costs. */
export const CHEAP = { memoryKiB: 8, passes: 1, parallelism: 1 };

/** Identities on stores in memory, with a clock that tests move. */
export class TestIdentities {
  readonly database: FakeDatabase;
  readonly store: FakeIdentityStore;
  readonly attempts = new FakeLoginAttempts();
  readonly keys: KeyRing;
  readonly writer: Writer;
  readonly identities: Identities;
  #offsetMs = 0;

  private constructor(database: FakeDatabase, keys: KeyRing, writer: Writer, options: Partial<IdentitiesOptions>) {
    this.database = database;
    this.store = new FakeIdentityStore(database);
    this.keys = keys;
    this.writer = writer;
    this.identities = this.replica(options.settings, options);
  }

  static async start(
    settings: Partial<IdentitySettings> = {},
    options: Partial<IdentitiesOptions> = {},
  ): Promise<TestIdentities> {
    const database = new FakeDatabase();
    const keys = await KeyRing.open(new FakeKeyStore(database), testRootKey());
    const writer = { epoch: await database.acquireEpoch("test") };
    const started = new TestIdentities(database, keys, writer, { ...options, settings });
    await started.identities.rotateKeys(writer);
    return started;
  }

  /** On the same stores, with nothing in memory. */
  replica(settings: Partial<IdentitySettings> = {}, options: Partial<IdentitiesOptions> = {}): Identities {
    return new Identities({
      store: this.store,
      attempts: this.attempts,
      keys: this.keys,
      audit: new FakeAuditLog(this.database),
      now: this.now,
      ...options,
      settings: { hashCost: CHEAP, ...settings },
    });
  }

  readonly now = (): Date => new Date(Date.now() + this.#offsetMs);

  passes(ms: number): void {
    this.#offsetMs += ms;
  }

  create(change: Partial<NewUser> = {}): Promise<User> {
    return this.identities.users.create(actor, { email: EMAIL, password: PASSWORD, ...change });
  }

  login(email = EMAIL, password = PASSWORD): Promise<Session> {
    return this.identities.login(email, password, from);
  }

  who(session: Session): Promise<Authenticated> {
    return this.identities.authenticate(session.token);
  }

  /** What was done since the installation was made, in order. */
  get actions(): readonly string[] {
    return this.entries
      .map(({ action }) => action)
      .filter((action) => !["LeadershipTaken", "KeyCreated"].includes(action));
  }

  get entries() {
    return this.database.audit.map(({ entry }) => entry);
  }
}
