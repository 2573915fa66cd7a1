/**
 * The error type is the control decision. Every message is safe to show in status, Events and logs: it names fields,
 * objects and counts, never a value.
 */
import type { Reason } from "../crds/conditions.ts";

/** Its message is safe to show; the message of any other error may quote what it was given. */
export abstract class SafeError extends Error {}

/** Waiting cannot help; the resource is looked at again when its spec, or what it refers to, changes. */
export class Stalled extends SafeError {
  readonly code: Reason;
  constructor(code: Reason, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "Stalled";
    this.code = code;
  }
}

/** Something that can still come is missing; look again after `afterMs`, or earlier when a watch says so. */
export class Waiting extends SafeError {
  readonly code: Reason;
  readonly afterMs: number;
  constructor(code: Reason, message: string, afterMs: number, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "Waiting";
    this.code = code;
    this.afterMs = afterMs;
  }
}

/** Something outside failed; retried with exponential backoff. `code` becomes the reason in status and metrics. */
export class Unavailable extends SafeError {
  readonly code: Reason;
  constructor(code: Reason, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "Unavailable";
    this.code = code;
  }
}

/** This process no longer leads: whatever it wanted to write was refused, and it must stop writing. */
export class Fenced extends SafeError {
  readonly epoch: bigint;
  constructor(epoch: bigint) {
    super(`epoch ${epoch} is over: another replica leads`);
    this.name = "Fenced";
    this.epoch = epoch;
  }
}
