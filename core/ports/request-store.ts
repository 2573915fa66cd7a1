/**
 * Requests that name an idempotency key, for all replicas together. An attempt at one is begun before anything is changed.
 * What is put on record with the attempt (`attempt` of an `Actor`) is bound to it in the transaction of the change: an
 * attempt that is over can change nothing, and what one has changed stays known. Its answer is kept afterwards. So a crash
 * at any point leaves a request that changed nothing and may be tried again, one with an answer, or one of which it is
 * known that it changed something and that nobody knows the answer.
 *
 * `fake-request-store.ts` is the in-memory fake; it and the adapter pass `request-store.contract.ts`.
 */

/** A request, without saying what it is about: both are 32 bytes that tell nothing to who has no key. */
export interface NamedRequest {
  /** Of who asks and the key that was given. */
  readonly id: Buffer;
  /** Of what is asked. */
  readonly fingerprint: Buffer;
}

export interface Attempt {
  /** A UUID, new for each. */
  readonly attempt: string;
  readonly at: Date;
  /** Another attempt waits until then, unless this one ends before. */
  readonly leaseUntil: Date;
  /** From then on the key is as if it had never been used. */
  readonly expiresAt: Date;
}

export type Standing =
  | { readonly outcome: "Begun" }
  /** By an attempt before, whose id is given, and which said this. */
  | { readonly outcome: "Answered"; readonly attempt: string; readonly answer: Buffer }
  | { readonly outcome: "InProgress"; readonly until: Date }
  /** Something else was asked under this key. */
  | { readonly outcome: "Reused" }
  /** An attempt changed something and left no answer. */
  | { readonly outcome: "Unknown" };

export interface RequestStore {
  /** Begins an attempt, or says why there is none. Of many at once one begins. */
  begin(request: NamedRequest, attempt: Attempt): Promise<Standing>;
  /** Keeps what was answered; false when the attempt is over. */
  answer(attempt: string, answer: Buffer): Promise<boolean>;
  /** Ends an attempt without an answer: nobody has to wait for it. When it changed nothing, the request is forgotten. */
  release(attempt: string, at: Date): Promise<void>;
  /** Deletes what expired before that time; returns how much. */
  forget(before: Date, limit: number): Promise<number>;
}
