/** A primary and a gateway that writes to it, their stores in memory, and whatever may happen between them. */
import { randomUUID } from "node:crypto";
import { ZodError } from "zod";
import type { Authenticated } from "../../access/subject.ts";
import { Unavailable } from "../../errors.ts";
import { testRootKey } from "../../pki/testing/installation.ts";
import { FakeAuditLog } from "../../ports/fake-audit-log.ts";
import { FakeDatabase } from "../../ports/fake-database.ts";
import { FakeHandledWrites } from "../../ports/fake-handled-writes.ts";
import { FakeKeyStore } from "../../ports/fake-key-store.ts";
import { FakeVaultStore } from "../../ports/fake-vault-store.ts";
import { FakeWriteQueue } from "../../ports/fake-write-queue.ts";
import type { PrimaryLink } from "../../ports/primary-link.ts";
import { actor, identity, lifecycle } from "../../ports/samples.ts";
import { type NewVersion, type SecretRecord, UNLED, type Unled, type Writer } from "../../ports/vault-store.ts";
import type { QueuedWrite, WriteRecipient } from "../../ports/write-queue.ts";
import { Sensitive } from "../../sensitive.ts";
import { KeyRing } from "../../vault/keyring.ts";
import { Vault } from "../../vault/vault.ts";
import { GatewayWrites, type WritableSecret } from "../gateway-writes.ts";
import type { Member } from "../member.ts";
import { QueuedWrites } from "../queued-writes.ts";
import { WriteDrain } from "../write-drain.ts";
import { KNOWN_WRITES_PATH, knownWritesRequest, WRITES_PATH, type WritesRequest, writesRequest } from "../writes.ts";

export const MEMBER: Member = {
  gatewayId: "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
  name: "gw-npr",
  environment: "NPR",
  role: "primary",
  serialNumber: "01",
};
export const ALICE: Authenticated = {
  subject: { kind: "ServiceAccount", namespace: "payments", name: "alice", uid: "uid-of-alice" },
  via: "ServiceAccountToken",
  id: "uid-of-alice",
};
const BY_ALICE = {
  kind: "Subject",
  subject: "ServiceAccount payments/alice",
  via: "ServiceAccountToken",
  session: "s",
} as const;
const KEYS = ["a", "b"];
const NAMESPACE = identity("one").namespace;

/**
 * What becomes of an effect: it does not happen, or it happens and nobody hears of it; `dies`: and the gateway's process ends along
 * with that.
 */
export type Fate = "fails" | "answerLost" | "dies";

export class Died extends Error {}

/** A store whose commits may fail, or be lost sight of. */
class MortalVaultStore extends FakeVaultStore {
  fateOf: () => Fate | undefined = () => undefined;

  override async commitVersions(writer: Writer | Unled, next: readonly NewVersion[]): Promise<void> {
    const fate = this.fateOf();
    if (fate === "fails" || fate === "dies") throw new Unavailable("DatabaseUnavailable", "it does not answer");
    await super.commitVersions(writer, next);
    if (fate === "answerLost") throw new Unavailable("DatabaseUnavailable", "it does not answer");
  }
}

export class WritesWorld {
  readonly queue: FakeWriteQueue;
  readonly versions: MortalVaultStore;
  readonly writable = new Map<string, Partial<WritableSecret> | undefined>([
    ["one", {}],
    ["two", {}],
  ]);
  /** Of the primary, in milliseconds. */
  now = Date.parse("2026-03-19T10:00:00Z");
  /** How far the gateway's clock is ahead. */
  aheadMs = 0;
  away = false;
  /** The primary's database was restored, and what it knows of may not be in its cluster yet. */
  recovering = false;
  /** Whom the gateway is registered at. */
  recipient: WriteRecipient | undefined = { gatewayEnvironment: MEMBER.environment, rootDigest: Buffer.alloc(32, 1) };
  /** Another way to the primary than the one in memory. */
  ask: PrimaryLink["ask"] | undefined;
  most = 10_000;
  /** Of the rows that were written to at the primary, by name. */
  readonly ids = new Map<string, string>();
  /** Of requests and of commits at the primary, one for each in its turn. */
  readonly fates: (Fate | undefined)[] = [];
  readonly commitFates: (Fate | undefined)[] = [];
  /** Every request that reached the primary. */
  revoked = false;
  readonly requests: WritesRequest[] = [];
  readonly paused: string[] = [];
  readonly problems: unknown[] = [];
  readonly atPrimary: FakeDatabase;
  readonly atGateway: FakeDatabase;
  readonly #keys: { readonly primary: KeyRing; readonly gateway: KeyRing };
  vault: Vault;
  primary: GatewayWrites;
  writes: QueuedWrites;
  drain: WriteDrain;
  #writer: Writer = { epoch: 0n };
  #elapsedMs = 0;

  private constructor(atPrimary: FakeDatabase, atGateway: FakeDatabase, keys: { primary: KeyRing; gateway: KeyRing }) {
    this.atPrimary = atPrimary;
    this.atGateway = atGateway;
    this.#keys = keys;
    this.versions = new MortalVaultStore(atPrimary);
    this.versions.now = () => this.now;
    this.versions.fateOf = () => this.commitFates.shift();
    this.queue = new FakeWriteQueue(atGateway);
    this.queue.now = () => this.now + this.aheadMs;
    this.queue.onChange = () => this.writes.hint();
    this.vault = this.#platform();
    this.primary = this.#primary();
    this.writes = this.#accepting();
    this.drain = this.#draining();
  }

  static async start(): Promise<WritesWorld> {
    const [atPrimary, atGateway] = [new FakeDatabase(), new FakeDatabase()];
    const primary = await KeyRing.open(new FakeKeyStore(atPrimary), testRootKey());
    const gateway = await KeyRing.open(new FakeKeyStore(atGateway), testRootKey());
    const world = new WritesWorld(atPrimary, atGateway, { primary, gateway });
    await primary.project({ epoch: await atPrimary.acquireEpoch("primary") }, identity("one").project);
    await world.restartGateway();
    await gateway.pki(world.#writer);
    for (const name of world.writable.keys()) await world.write(name, { a: `${name} a`, b: `${name} b` });
    return world;
  }

  get member(): Member {
    return MEMBER;
  }

  pass(ms: number): void {
    this.now += ms;
    this.#elapsedMs += ms;
  }

  /** Whoever leads the gateway from now on knows what is stored, and nothing else. */
  async restartGateway(): Promise<void> {
    this.#writer = { epoch: await this.atGateway.acquireEpoch("gateway") };
    this.writes = this.#accepting();
    this.drain = this.#draining();
  }

  /** At the primary. */
  async write(name: string, values: Readonly<Record<string, string>>): Promise<number> {
    const seen = await this.record(name);
    const { entries, lifecycle: of, readers, identity: whose } = this.secret(name);
    const request = { identity: whose, seen, entries, readers, values: sensitive(values), lifecycle: of, actor };
    const { record } = await this.vault.put(UNLED, request);
    this.ids.set(name, record.id);
    return record.currentVersion;
  }

  /** At the gateway, which has that version. */
  async accept(
    name: string,
    values: Readonly<Record<string, string>>,
    version: number,
    idempotencyKey?: string,
  ): Promise<QueuedWrite> {
    const id = this.ids.get(name) ?? randomUUID();
    const secret = { ...identity(name), id, version };
    return this.writes.accept({ who: ALICE, actor: BY_ALICE, secret, values: sensitive(values), idempotencyKey });
  }

  /** One turn of the leader; false when it found nothing to do, undefined when it failed. */
  async turn(): Promise<boolean | undefined> {
    try {
      return await this.drain.turn(this.#writer, new AbortController().signal);
    } catch (error) {
      if (error instanceof Died) await this.restartGateway();
      else if (!(error instanceof Unavailable)) throw error;
      return undefined;
    }
  }

  /** Until nothing waits. */
  async settle(): Promise<void> {
    for (let turns = 0; turns < 1_000; turns++) {
      if ((await this.turn()) === true) continue;
      this.pass(61_000);
      // What was lost with a restored primary is found by asking for it.
      if ((await this.turn()) !== true && (await this.queue.length(this.recipient)).waiting === 0) return;
    }
    throw new Error(`it does not end: ${this.paused.at(-1)}, ${String(this.problems.at(-1))}`);
  }

  /** Brings the primary back to what it is now. */
  backup(): () => void {
    const restore = this.versions.backup();
    return () => {
      restore();
      this.vault = this.#platform();
      this.primary = this.#primary();
    };
  }

  record(name: string): Promise<SecretRecord | undefined> {
    return this.vault.describe(identity(name));
  }

  async version(name: string): Promise<number> {
    return (await this.record(name))?.currentVersion ?? 0;
  }

  async values(name: string, version?: number): Promise<Record<string, string>> {
    const record = await this.record(name);
    if (record === undefined) throw new Error(`${name} is not stored`);
    const opened = await this.vault.open(record, { actor, purpose: "Test", ...(version !== undefined && { version }) });
    return Object.fromEntries([...opened.values].map(([key, value]) => [key, value.revealText()]));
  }

  /** All versions that are kept, oldest first. */
  async history(
    name: string,
  ): Promise<readonly { readonly version: number; readonly values: Record<string, string> }[]> {
    const record = await this.record(name);
    const versions = record === undefined ? [] : await this.vault.versions(record);
    return Promise.all(
      versions.toReversed().map(async ({ version }) => ({ version, values: await this.values(name, version) })),
    );
  }

  secret(name: string): WritableSecret {
    return {
      identity: identity(name),
      entries: KEYS.map((key) => ({ key, external: {} })),
      readers: undefined,
      lifecycle: { ...lifecycle, keepVersions: 1_000 },
      appliedUsername: undefined,
      ...this.writable.get(name),
    };
  }

  #platform(): Vault {
    return new Vault({ store: this.versions, keys: this.#keys.primary, audit: new FakeAuditLog(this.atPrimary) });
  }

  #primary(): GatewayWrites {
    return new GatewayWrites({
      handled: new FakeHandledWrites(this.atPrimary, this.versions),
      vault: this.vault,
      secrets: {
        find: ({ namespace, name }, environment) =>
          namespace === NAMESPACE && environment === MEMBER.environment && this.writable.get(name) !== undefined
            ? this.secret(name)
            : undefined,
      },
      keys: this.#keys.primary,
      isRecovering: () => this.recovering,
      elapsed: () => this.#elapsedMs,
      onProblem: (error) => this.problems.push(error),
    });
  }

  #accepting(): QueuedWrites {
    return new QueuedWrites({
      store: this.queue,
      keys: this.#keys.gateway,
      recipient: () => this.recipient,
      most: this.most,
    });
  }

  #draining(): WriteDrain {
    return new WriteDrain({
      store: this.queue,
      keys: this.#keys.gateway,
      link: this.#link(),
      recipient: () => this.recipient,
      revoked: () => this.revoked,
      elapsed: () => this.#elapsedMs,
      onPaused: ({ name }, code, detail) => this.paused.push(`${name}: ${code}: ${detail}`),
    });
  }

  #link(): PrimaryLink {
    const unreachable = () => new Unavailable("PrimaryUnreachable", "there is no channel");
    return {
      ask: async (path, body, options) => {
        if (this.ask !== undefined) return this.ask(path, body, options);
        const fate = this.fates.shift();
        if (this.away || fate === "fails") throw unreachable();
        const answer = await this.#answer(path, JSON.parse(JSON.stringify(body)));
        if (fate === "answerLost") throw unreachable();
        if (fate === "dies") throw new Died();
        return JSON.parse(JSON.stringify(answer)) as typeof answer;
      },
    };
  }

  async #answer(path: string, body: unknown) {
    try {
      if (path === KNOWN_WRITES_PATH) {
        const { ids } = knownWritesRequest.parse(body);
        return { status: 200, body: { forgotten: await this.primary.forgotten(MEMBER, ids) } };
      }
      if (path !== WRITES_PATH) throw new TypeError(`nobody answers ${path}`);
      const request = writesRequest.parse(body);
      this.requests.push(request);
      return { status: 200, body: await this.primary.apply(MEMBER, request) };
    } catch (error) {
      if (error instanceof Unavailable) return { status: 503, body: { code: error.code } };
      if (error instanceof ZodError) return { status: 400, body: { code: "InvalidRequest" } };
      throw error;
    }
  }
}

export const sensitive = (values: Readonly<Record<string, string>>): Map<string, Sensitive> =>
  new Map(Object.entries(values).map(([key, value]) => [key, new Sensitive(Buffer.from(value))]));
