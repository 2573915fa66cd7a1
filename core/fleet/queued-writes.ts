/** A gateway's side of writes, on every replica: they are accepted into the queue, and whoever wrote may wait for what comes of them. */
import { createHmac, randomUUID } from "node:crypto";
import { type Authenticated, describeSubject, immutableSubject } from "../access/subject.ts";
import { encodeFields } from "../canonical.ts";
import { SafeError, Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import { RequestRefused } from "../idempotency/requests.ts";
import type { Actor, AuditEntry } from "../ports/audit-log.ts";
import type {
  QueuedWrite,
  QueuedWriteState,
  WritePlace,
  WriteQueue,
  WriteQueueLength,
  WriteRecipient,
  WrittenIdentity,
} from "../ports/write-queue.ts";
import type { Sensitive } from "../sensitive.ts";
import { type QueueKeys, sealValues, writeFingerprint } from "./sealed-values.ts";

/** So many writes wait already: nothing was accepted. */
export class WriteQueueFull extends SafeError {
  readonly retryAfterMs = 5_000;
  constructor(most: number) {
    super(
      `${most} writes wait for the primary, which is as many as gateway.writeQueueLimit allows, so this one was not accepted; send it again when the primary is in touch, or raise the limit`,
    );
    this.name = "WriteQueueFull";
  }
}

/** A secret of the primary, as the gateway has it. */
export interface WrittenSecret extends WritePlace, WrittenIdentity {
  readonly version: number;
}

export interface AcceptRequest {
  readonly who: Authenticated;
  readonly actor: Actor;
  readonly secret: WrittenSecret;
  readonly values: ReadonlyMap<string, Sensitive>;
  /** That the caller gave; without one each request is a write of its own. */
  readonly idempotencyKey: string | undefined;
}

export interface QueuedWritesParts {
  readonly store: WriteQueue;
  readonly keys: QueueKeys;
  /** Whom this gateway is registered at; undefined while it is not. */
  readonly recipient: () => WriteRecipient | undefined;
  /** Writes that may wait at once. */
  readonly most: number;
  /** Told at once; others hear of it through the store. */
  readonly onAccepted?: () => void;
}

const EMPTY: WriteQueueLength = { waiting: 0, stranded: 0, oldestAgeMs: undefined, refused: 0 };
/** Bounds what a lost hint costs whoever waits. */
const LOOK_EVERY_MS = 500;

export class QueuedWrites {
  readonly #parts: QueuedWritesParts;
  readonly #waiters = new Set<() => void>();
  #length = EMPTY;

  constructor(parts: QueuedWritesParts) {
    this.#parts = parts;
  }

  /** As it was when it was looked at last. */
  get length(): WriteQueueLength {
    return this.#length;
  }

  get most(): number {
    return this.#parts.most;
  }

  /**
   * Durable when this resolves. The same request with the same key is accepted once.
   *
   * @throws WriteQueueFull; RequestRefused IdempotencyKeyReused; Unavailable
   */
  async accept({ who, actor, secret, values, idempotencyKey }: AcceptRequest): Promise<QueuedWrite> {
    const { store, keys, most } = this.#parts;
    const recipient = this.#parts.recipient();
    if (recipient === undefined)
      throw new Unavailable(
        "PrimaryUnreachable",
        "this gateway is not registered, so there is nobody to send writes to",
      );
    const { namespace, name, version: baseVersion } = secret;
    const writer = writerOf(who);
    const id = idempotencyKey === undefined ? randomUUID() : this.#idOf(recipient, writer, idempotencyKey);
    const place = { namespace, name };
    const meant = {
      id: secret.id,
      project: secret.project,
      environment: secret.environment,
      namespaceUid: secret.namespaceUid,
    };
    const fingerprint = writeFingerprint(keys, place, values);
    const author = { subject: describeSubject(who.subject), via: who.via };
    const write = { id, recipient, place, secret: meant, baseVersion, author, writer, fingerprint };
    const sealed = await sealValues(keys, write, values);
    const accepted = await store.accept({ ...write, sealed }, most, [
      queued(write, unbound(actor), [...values.keys()]),
    ]);
    if (accepted === "Full") throw new WriteQueueFull(most);
    failpoint("writequeue.afterAccept");
    this.#parts.onAccepted?.();
    const found = await store.find(id);
    if (found === undefined) throw new TypeError("what was accepted is not there");
    if (!found.fingerprint.equals(fingerprint)) throw new RequestRefused("IdempotencyKeyReused");
    return found;
  }

  /** The write as soon as it was settled, or as it is when the time is over; undefined when there is none. */
  async settled(id: string, withinMs: number, signal: AbortSignal): Promise<QueuedWrite | undefined> {
    const until = performance.now() + withinMs;
    for (;;) {
      const hinted = Promise.withResolvers<void>();
      this.#waiters.add(hinted.resolve);
      try {
        const found = await this.#parts.store.find(id);
        const leftMs = until - performance.now();
        if (found === undefined || found.state !== "Waiting" || leftMs <= 0 || signal.aborted) return found;
        const timer = setTimeout(hinted.resolve, Math.min(leftMs, LOOK_EVERY_MS));
        await hinted.promise;
        clearTimeout(timer);
      } finally {
        this.#waiters.delete(hinted.resolve);
      }
    }
  }

  find(id: string): Promise<QueuedWrite | undefined> {
    return this.#parts.store.find(id);
  }

  list(
    of: { readonly writer?: string; readonly state?: QueuedWriteState },
    before: bigint | undefined,
    limit: number,
  ): Promise<readonly QueuedWrite[]> {
    return this.#parts.store.list(of, before, limit);
  }

  /** Something was accepted or settled, perhaps by another replica. */
  hint(): void {
    for (const wake of this.#waiters) wake();
  }

  async look(): Promise<void> {
    this.#length = await this.#parts.store.length(this.#parts.recipient());
  }

  /** Nobody who does not have the key can make one up; two authors never have the same. */
  #idOf({ gatewayEnvironment, rootDigest }: WriteRecipient, writer: string, key: string): string {
    const { installationId, fleet } = this.#parts.keys;
    const mac = createHmac("sha256", fleet)
      .update(encodeFields("mazevault queued write id", [installationId, gatewayEnvironment, rootDigest, writer, key]))
      .digest();
    // RFC 9562, section 5.8: version 8, with the variant of the RFC.
    mac[6] = ((mac[6] ?? 0) & 0x0f) | 0x80;
    mac[8] = ((mac[8] ?? 0) & 0x3f) | 0x80;
    const hex = mac.toString("hex");
    return [
      [0, 8],
      [8, 12],
      [12, 16],
      [16, 20],
      [20, 32],
    ]
      .map(([from, to]) => hex.slice(from, to))
      .join("-");
  }
}

/** Tells an author from every other one. */
export const writerOf = ({ subject }: Pick<Authenticated, "subject">): string =>
  JSON.stringify(immutableSubject(subject));

/** The id is bound to the key already: an attempt that dies may be made again, and finds what it has accepted. */
function unbound(actor: Actor): Actor {
  if (actor.kind !== "Subject") return actor;
  const { attempt: _, ...unattempted } = actor;
  return unattempted;
}

function queued(
  {
    id,
    place,
    secret: { project, environment },
    baseVersion,
  }: Pick<QueuedWrite, "id" | "place" | "secret" | "baseVersion">,
  actor: Actor,
  keys: readonly string[],
): AuditEntry {
  return {
    action: "WriteQueued",
    actor,
    subject: { kind: "Secret", id: "", name: `${place.namespace}/${place.name}` },
    outcome: "Success",
    details: { project, environment, write: id, baseVersion, keys: [...keys].sort().join(",") },
  };
}
