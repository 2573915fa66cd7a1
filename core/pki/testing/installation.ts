import { createSecretKey, randomBytes } from "node:crypto";
import { FakeAuditLog } from "../../ports/fake-audit-log.ts";
import { FakeDatabase } from "../../ports/fake-database.ts";
import { FakeKeyStore } from "../../ports/fake-key-store.ts";
import { FakePkiStore } from "../../ports/fake-pki-store.ts";
import type { RootKey } from "../../ports/key-store.ts";
import type { AuthorityRecord, CertificateRecord } from "../../ports/pki-store.ts";
import { actor } from "../../ports/samples.ts";
import type { Writer } from "../../ports/vault-store.ts";
import { open, seal } from "../../vault/envelope.ts";
import { KeyRing } from "../../vault/keyring.ts";
import { Authorities, type AuthoritySpec } from "../authority.ts";
import type { IssueRequest } from "../issuance.ts";
import { oids } from "../oid.ts";
import { profileUsages } from "../profile.ts";
import { publicationUrls } from "../urls.ts";

const HOUR_MS = 3_600_000;

export const testRootKey = (): RootKey => {
  const key = createSecretKey(randomBytes(32));
  return {
    id: "root",
    source: "the root key",
    wrap: async (plaintext, context) => seal(key, plaintext, context),
    unwrap: async (wrapped, context) => open(key, wrapped, context) ?? Buffer.alloc(0),
  };
};

/** A self-signed P-256 CA for ten years. */
export const rootSpec = (name: string, change: Partial<AuthoritySpec> = {}): AuthoritySpec => ({
  identity: { kind: "ClusterIssuer", namespace: "", namespaceUid: "", name },
  subject: [[{ type: oids.commonName, value: `${name} CA` }]],
  key: { algorithm: "ECDSA", size: 256 },
  durationMs: 87_600 * HOUR_MS,
  revocation: { crlEveryMs: 24 * HOUR_MS, ocspValidityMs: 24 * HOUR_MS },
  parent: { kind: "Self" },
  actor,
  ...change,
});

/** A server certificate for 90 days, its key made here. */
export const leafRequest = (
  authority: AuthorityRecord,
  uid: string,
  revision = 1,
  change: Partial<IssueRequest> = {},
): IssueRequest => ({
  authority,
  requester: { kind: "Certificate", namespace: "payments", namespaceUid: "uid-of-namespace", name: "orders", uid },
  revision,
  profile: "Server",
  subject: [[{ type: oids.commonName, value: "orders.payments.svc" }]],
  subjectAltNames: [{ kind: "dns", value: "orders.payments.svc" }],
  usages: profileUsages("Server", { algorithm: "ECDSA", size: 256 }),
  durationMs: 2_160 * HOUR_MS,
  key: { generate: { algorithm: "ECDSA", size: 256 } },
  actor,
  ...change,
});

/** Authorities on stores in memory, with a clock that stands. */
export class TestPki {
  readonly database: FakeDatabase;
  readonly store: FakePkiStore;
  readonly keys: KeyRing;
  readonly authorities: Authorities;
  readonly urls = publicationUrls("http://pki.example.com");
  readonly writer: Writer;
  /** Moved by tests. */
  now = new Date("2026-03-01T12:00:00.250Z");

  private constructor(database: FakeDatabase, keys: KeyRing, writer: Writer) {
    this.database = database;
    this.keys = keys;
    this.writer = writer;
    this.store = new FakePkiStore(database);
    this.authorities = this.restarted();
  }

  static async start(): Promise<TestPki> {
    const database = new FakeDatabase();
    const keys = await KeyRing.open(new FakeKeyStore(database), testRootKey());
    return new TestPki(database, keys, { epoch: await database.acquireEpoch("test") });
  }

  /** On the same stores, with nothing in memory. */
  restarted(): Authorities {
    const { store, keys, urls } = this;
    return new Authorities({ store, keys, urls, audit: new FakeAuditLog(this.database), now: () => this.now });
  }

  passes(ms: number): void {
    this.now = new Date(this.now.getTime() + ms);
  }

  root(name = "root", change: Partial<AuthoritySpec> = {}): Promise<AuthorityRecord> {
    return this.authorities.ensure(this.writer, rootSpec(name, change));
  }

  issue(
    authority: AuthorityRecord,
    uid: string,
    revision = 1,
    change: Partial<IssueRequest> = {},
  ): Promise<CertificateRecord> {
    return this.authorities.issue(this.writer, leafRequest(authority, uid, revision, change));
  }

  /** What was done, in order. */
  get actions(): readonly string[] {
    return this.database.audit.map(({ entry }) => entry.action);
  }
}
