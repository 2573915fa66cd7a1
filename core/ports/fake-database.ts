import { createSecretKey, generateKeyPairSync } from "node:crypto";
import { type ChainHead, GENESIS, headMac, linkOf, type RecordedRow } from "../audit/chain.ts";
import type { Checkpoint, SigningKey } from "../audit/checkpoint.ts";
import type { Cut } from "../audit/cut.ts";
import { AuditSigner } from "../audit/signer.ts";
import { Fenced } from "../errors.ts";
import type { AuditEntry } from "./audit-log.ts";
import type { SinkCursor } from "./audit-sink.ts";
import { KeyReplaced } from "./key-store.ts";
import type { Leadership } from "./leadership.ts";
import type { OutboxRow, Unled, Writer } from "./vault-store.ts";

/** What the fakes share, as the real stores share one database: the epoch, the audit rows and the outbox. */
export class FakeDatabase implements Leadership {
  readonly signer = new AuditSigner();
  readonly audit: RecordedRow[] = [];
  readonly checkpoints: Checkpoint[] = [];
  readonly signingKeys: SigningKey[] = [{ version: 1, createdAt: new Date(0), ...generateKeyPairSync("ed25519") }];
  readonly outbox: OutboxRow[] = [];
  /** Attempts at requests that something is on record for. */
  readonly attempts = new Set<string>();
  /** Throws when the attempt is over. */
  onAttempt: (attempt: string) => void = () => {};
  readonly sinks = new Map<string, { readonly name: string; cursor: SinkCursor }>();
  cut: Cut | undefined;
  /** Versions of keys that have a successor. */
  readonly replacedKeys = new Set<string>();
  /** Each tells how many keys of its own a key wraps. */
  readonly wrapCounts: ((keyId: string) => number)[] = [];
  head: ChainHead;
  #epoch = 0n;

  constructor() {
    this.signer.useKeys(createSecretKey(Buffer.alloc(32, 7)), {
      installationId: "fake",
      auditSigning: async () => this.signingKeys,
    });
    this.head = { position: 0n, link: GENESIS, mac: headMac(this.signer.key, 0n, GENESIS) };
  }

  async acquireEpoch(holder: string): Promise<bigint> {
    this.#epoch += 1n;
    this.record([
      {
        action: "LeadershipTaken",
        actor: { kind: "Controller", name: holder },
        subject: { kind: "Installation", id: "leadership", name: "leadership" },
        outcome: "Success",
        details: { epoch: this.#epoch.toString() },
      },
    ]);
    return this.#epoch;
  }

  get epoch(): bigint {
    return this.#epoch;
  }

  fence({ epoch }: Writer): void {
    if (epoch !== this.#epoch) throw new Fenced(epoch);
  }

  /** For what may be written without leading too. */
  fenceLed(writer: Writer | Unled): void {
    if (writer.epoch !== undefined) this.fence(writer);
  }

  assertNewest(keyId: string): void {
    if (this.replacedKeys.has(keyId)) throw new KeyReplaced();
  }

  wraps(keyId: string): number {
    return this.wrapCounts.reduce((sum, count) => sum + count(keyId), 0);
  }

  record(entries: readonly AuditEntry[]): void {
    for (const given of entries) {
      const entry = this.#bound(given);
      const sequence = (this.audit.at(-1)?.sequence ?? 0n) + 1n;
      this.audit.push({ ...this.signer.sign(entry), sequence, position: undefined, link: undefined });
    }
  }

  #bound(entry: AuditEntry): AuditEntry {
    if (entry.actor.kind !== "Subject" || entry.actor.attempt === undefined) return entry;
    const { attempt, ...actor } = entry.actor;
    this.onAttempt(attempt);
    this.attempts.add(attempt);
    return { ...entry, actor };
  }

  link(limit: number): number {
    const rows = this.audit.filter(({ position }) => position === undefined).slice(0, limit);
    for (const row of rows) {
      const position = this.head.position + 1n;
      const link = linkOf(this.head.link, position, row);
      Object.assign(row, { position, link });
      this.head = { position, link, mac: headMac(this.signer.key, position, link) };
    }
    return rows.length;
  }

  auditedGeneration(secretId: string): bigint {
    return this.audit.reduce((most, { entry: { subject } }) => {
      const generation = subject.id === secretId ? (subject.generation ?? 0n) : 0n;
      return generation > most ? generation : most;
    }, 0n);
  }

  changed({ epoch }: Writer | Unled, secretId: string, namespace: string, name: string): void {
    const id = (this.outbox.at(-1)?.position.id ?? 0n) + 1n;
    const unled = epoch === undefined;
    this.outbox.push({ position: { transaction: id, id }, secretId, namespace, name, unled });
  }
}
