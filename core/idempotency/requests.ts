/** Requests that are made once, however often they are sent: the first answer is kept, and given again. */
import { createHmac, createSecretKey, hkdfSync, type KeyObject, randomUUID } from "node:crypto";
import { type Authenticated, immutableSubject } from "../access/subject.ts";
import { encodeFields, type Field } from "../canonical.ts";
import { SafeError, Unavailable } from "../errors.ts";
import type { RequestStore, Standing } from "../ports/request-store.ts";
import { KEY_BYTES, openOrTampered, seal } from "../vault/envelope.ts";
import type { KeyRing } from "../vault/keyring.ts";

/** Longer than any request takes. One that takes longer all the same can change nothing any more. */
const LEASE_MS = 60_000;
const KEPT_MS = 86_400_000;
const AGAIN_MS = 1_000;
const FORGET_BATCH = 1_000;

const MESSAGES = {
  IdempotencyKeyReused: "this Idempotency-Key was used for another request; take a new one for each request",
  RequestInProgress: "the first request with this Idempotency-Key is under way; send it again in a moment",
  OutcomeUnknown:
    "a request with this Idempotency-Key was interrupted and has changed something; look at what is there now before you send another one",
} as const;

/** What was asked for is not done, and nobody learns what was done before. */
export class RequestRefused extends SafeError {
  readonly code: keyof typeof MESSAGES;
  /** When asking again can help. */
  readonly retryAfterMs: number | undefined;

  constructor(code: keyof typeof MESSAGES, retryAfterMs?: number) {
    super(MESSAGES[code]);
    this.name = "RequestRefused";
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

export interface IdempotentRequest {
  readonly who: Authenticated;
  /** That the caller gave. */
  readonly key: string;
  /** Everything that is asked, also what is secret. */
  readonly content: readonly Field[];
}

export interface IdempotentRequestsOptions {
  readonly store: RequestStore;
  readonly keys: Pick<KeyRing, "identityKeys" | "installationId">;
  /** Told when an answer could not be kept, which has been given all the same. */
  readonly onLost: (error: unknown) => void;
  readonly now?: () => Date;
}

export class IdempotentRequests {
  readonly #options: IdempotentRequestsOptions;
  readonly #now: () => Date;
  #key: Promise<KeyObject> | undefined;

  constructor(options: IdempotentRequestsOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => new Date());
  }

  /**
   * The answer of `perform`, or the one that it gave before; answers are JSON. What `perform` puts on record must name
   * the attempt. When it throws, the same request may be sent again, unless something is on record for it.
   *
   * @throws RequestRefused
   */
  async once<T>(request: IdempotentRequest, perform: (attempt: string) => Promise<T>): Promise<T> {
    const key = await this.#secret();
    const { installationId } = this.#options.keys;
    const mac = (purpose: string, fields: readonly Field[]): Buffer =>
      createHmac("sha256", key)
        .update(encodeFields(`mazevault ${purpose}`, [installationId, ...fields]))
        .digest();
    const id = mac("idempotency key", [...callerOf(request.who), request.key]);
    const fingerprint = mac("idempotent request", request.content);
    const attempt = randomUUID();
    const at = this.#now();
    const later = (ms: number) => new Date(at.getTime() + ms);
    const standing = await this.#options.store.begin(
      { id, fingerprint },
      { attempt, at, leaseUntil: later(LEASE_MS), expiresAt: later(KEPT_MS) },
    );
    if (standing.outcome === "Begun") return this.#performed(key, attempt, perform);
    if (standing.outcome !== "Answered") throw refusal(standing);
    const sealing = sealingKey(key, standing.attempt);
    const context = answerContext(installationId, standing.attempt);
    const answer = openOrTampered(sealing, standing.answer, context, "the answer that was kept for an Idempotency-Key");
    return JSON.parse(answer.toString("utf8")) as T;
  }

  /** For the leader, from time to time. */
  async forgetExpired(): Promise<void> {
    while ((await this.#options.store.forget(this.#now(), FORGET_BATCH)) === FORGET_BATCH);
  }

  async #performed<T>(key: KeyObject, attempt: string, perform: (attempt: string) => Promise<T>): Promise<T> {
    const { store, keys, onLost } = this.#options;
    let answer: T;
    try {
      answer = await perform(attempt);
    } catch (error) {
      // Without this, who asks again only waits for longer.
      await store.release(attempt, this.#now()).catch(() => {});
      throw error;
    }
    const text = Buffer.from(JSON.stringify(answer));
    const sealed = seal(sealingKey(key, attempt), text, answerContext(keys.installationId, attempt));
    text.fill(0);
    // It was done, and the caller is here to be told so.
    await store.answer(attempt, sealed).catch(onLost);
    return answer;
  }

  #secret(): Promise<KeyObject> {
    this.#key ??= this.#load().catch((error: unknown) => {
      this.#key = undefined;
      throw error;
    });
    return this.#key;
  }

  async #load(): Promise<KeyObject> {
    const [key] = await this.#options.keys.identityKeys("Identity");
    if (key !== undefined) return key.key;
    throw new Unavailable("KeyUnavailable", "there is no Identity key yet; the leading operator makes it");
  }
}

function refusal(standing: Exclude<Standing, { outcome: "Begun" | "Answered" }>): RequestRefused {
  switch (standing.outcome) {
    case "Reused":
      return new RequestRefused("IdempotencyKeyReused");
    case "InProgress":
      return new RequestRefused("RequestInProgress", AGAIN_MS);
    case "Unknown":
      return new RequestRefused("OutcomeUnknown");
  }
}

/** A key may do less than its owner, and must not be told what the owner was. */
const callerOf = ({ subject, via, id }: Authenticated): readonly Field[] => [
  ...immutableSubject(subject),
  via === "ApiKey" ? id : undefined,
];

/** One for each answer, so that none seals twice (NIST SP 800-38D, section 8.3). */
const sealingKey = (key: KeyObject, attempt: string): KeyObject =>
  createSecretKey(Buffer.from(hkdfSync("sha256", key, Buffer.from(attempt), "mazevault idempotent answer", KEY_BYTES)));

const answerContext = (installationId: string, attempt: string): Buffer =>
  encodeFields("mazevault idempotent answer", [installationId, attempt]);
