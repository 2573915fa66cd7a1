/** When a certificate is renewed. */
import { createHash } from "node:crypto";
import { MalformedInput } from "./malformed-input.ts";

/** Both absent: a third of the lifetime before the end. */
export interface RenewalSpec {
  readonly renewBeforeMs?: number;
  /** How much of the lifetime is left when it is renewed, in percent: 25 renews at three quarters. */
  readonly renewBeforePercentage?: number;
}

/** Renewals are spread over at most this part of the time until the configured moment ... */
const spreadPart = 0.03;
/** ... and over no more than a day. */
const maxSpreadMs = 24 * 3600_000;

/**
 * When to renew: never after the moment that `spec` says, and earlier by a part of the spread that depends on `seed` only, so that
 * certificates issued together are not renewed together and a restart computes the same time.
 *
 * A certificate that turned out shorter than `renewBefore` (its issuer cut it) is renewed after two thirds of its time, not at once.
 *
 * @param issuedAt the start of its use; later than notBefore when that lies in the past for skewed clocks
 * @param seed what tells this certificate from others, such as the UID of its resource
 */
export function renewalTime(issuedAt: Date, notAfter: Date, spec: RenewalSpec, seed: string): Date {
  const lifetime = notAfter.getTime() - issuedAt.getTime();
  const wanted = spec.renewBeforeMs ?? (lifetime * (spec.renewBeforePercentage ?? 100 / 3)) / 100;
  const used = lifetime - (wanted < lifetime ? wanted : lifetime / 3);
  const fraction = createHash("sha256").update(seed).digest().readUInt32BE() / 2 ** 32;
  return new Date(Math.floor(issuedAt.getTime() + used - fraction * Math.min(used * spreadPart, maxSpreadMs)));
}

/**
 * Checks what a resource says about renewal.
 *
 * @throws MalformedInput naming the field
 */
export function checkRenewal(durationMs: number, { renewBeforeMs, renewBeforePercentage }: RenewalSpec): void {
  if (renewBeforeMs !== undefined && renewBeforePercentage !== undefined) {
    throw new MalformedInput("renewBeforePercentage", "stands beside renewBefore; give only one of them");
  }
  if (renewBeforeMs !== undefined && renewBeforeMs >= durationMs) {
    throw new MalformedInput("renewBefore", "must be shorter than duration, or the certificate would always be due");
  }
  if (renewBeforePercentage !== undefined && !(renewBeforePercentage > 0 && renewBeforePercentage < 100)) {
    throw new MalformedInput("renewBeforePercentage", "must lie between 1 and 99");
  }
}
