/**
 * At the primary: which writes of gateways were handled, and what came of them. One that makes a version is recorded in the
 * transaction of that version (`NewVersion.handled`), all others here. `fake-handled-writes.ts` is the in-memory fake; it and the
 * adapter pass `handled-writes.contract.ts`.
 */
import type { WriteOutcome } from "../fleet/writes.ts";
import type { AuditEntry } from "./audit-log.ts";

export interface HandledWrite {
  /** Of the gateway. An id says one thing within it, whichever of its gateways sends it. */
  readonly environment: string;
  /** UUID. */
  readonly id: string;
  readonly outcome: WriteOutcome;
  /** Over all of this, 32 bytes. */
  readonly mac: Buffer;
}

export interface HandledWrites {
  /** Those of these that were handled, not yet judged: the caller verifies the MAC. */
  find(environment: string, ids: readonly string[]): Promise<readonly HandledWrite[]>;
  /** All of them, by environment and id, at most `limit` behind `after`; not judged either. */
  list(after: Pick<HandledWrite, "environment" | "id"> | undefined, limit: number): Promise<readonly HandledWrite[]>;
  /** With its audit rows; false, and nothing is changed, when it was handled before. */
  record(write: HandledWrite, audit: readonly AuditEntry[]): Promise<boolean>;
  /** Deletes what was handled longer ago, by the store's own clock; returns how much. */
  forget(olderThanMs: number, limit: number): Promise<number>;
}
