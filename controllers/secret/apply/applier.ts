/** One way to apply a pending version, see `spec.rotation.apply`. Everything in it may be repeated after a crash. */
import type { ApplyAnswer } from "../../../core/ports/apply-targets.ts";
import type { Actor } from "../../../core/ports/audit-log.ts";
import type { FormerVersion, PendingVersion, SecretRecord } from "../../../core/ports/vault-store.ts";
import type { Sensitive } from "../../../core/sensitive.ts";
import { applyTimeoutMs } from "../../../core/vault/apply.ts";
import type { Secret } from "../../../crds/secret.ts";

export interface ApplyContext {
  readonly secret: Secret;
  readonly record: SecretRecord;
  readonly actor: Actor;
}

export type PendingContext = ApplyContext & { readonly pending: PendingVersion };
export type FormerContext = ApplyContext & { readonly former: FormerVersion };

export interface Underway {
  readonly kind: "Underway";
  /** What it waits for; safe to show. */
  readonly message: string;
  readonly recheckMs: number;
}

export type ApplyOutcome =
  | { readonly kind: "Applied"; readonly formerRole?: string | undefined }
  | { readonly kind: "Failed"; readonly message: string }
  | Underway;

export interface Applier {
  /** Of entries that are not generated and change along with those that are; disposed of by the caller. */
  values?(context: ApplyContext, signal: AbortSignal): Promise<ReadonlyMap<string, Sensitive>>;
  apply(context: PendingContext, signal: AbortSignal): Promise<ApplyOutcome>;
  /** What the former version was good for ends; absent where it cannot know how. */
  end?(context: FormerContext, signal: AbortSignal): Promise<EndOutcome>;
}

/** Refused: it is tried again all the same, since nothing else may begin before it has ended. */
export type EndOutcome = ApplyAnswer;

const SHORTEST_RECHECK_MS = 2_000;
const LONGEST_RECHECK_MS = 60_000;

/** The pauses grow with the time that has passed, so each is about as long as all before it. */
export function recheckMs(since: Date, now = Date.now()): number {
  return Math.min(LONGEST_RECHECK_MS, Math.max(SHORTEST_RECHECK_MS, now - since.getTime()));
}

/** What is under way then is given up. */
export const isOverdue = ({ secret, pending }: PendingContext): boolean =>
  Date.now() - pending.since.getTime() >= applyTimeoutMs(secret.spec);

export function outcomeOf(answer: ApplyAnswer, since: Date): ApplyOutcome {
  switch (answer.kind) {
    case "Done":
      return { kind: "Applied" };
    case "Refused":
      return { kind: "Failed", message: answer.message };
    case "Unreachable":
      return { kind: "Underway", message: answer.message, recheckMs: recheckMs(since) };
  }
}
