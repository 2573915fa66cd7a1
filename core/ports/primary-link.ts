/** The gateway's channel to its primary, for whatever it needs from there beside its membership. Only the replica that leads has it. */
import type { ChannelAnswer } from "./primary-channel.ts";

export interface AskOptions {
  readonly signal: AbortSignal;
  /** 40 seconds when absent. */
  readonly withinMs?: number;
}

/** HalfOpen: one request is let through, and what becomes of it decides. */
export type BreakerState = "Closed" | "Open" | "HalfOpen";

export interface PrimaryLink {
  /**
   * One request in the channel that is open; POST. Answers of any status are returned; of a refusal the body is a problem (RFC 9457).
   *
   * @throws Unavailable PrimaryUnreachable when there is no channel, or no answer came, so that it is not known whether the primary
   * acted on it
   */
  ask(path: string, body: unknown, options: AskOptions): Promise<ChannelAnswer>;
}
