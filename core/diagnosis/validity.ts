/** Certificates near their end, and beyond it. */
import { type Finding, failing, warning } from "./finding.ts";

export interface Validity {
  readonly notBefore: Date;
  readonly notAfter: Date;
}

const DAY_MS = 86_400_000;
const SOON_MS = 30 * DAY_MS;

/** @param what the certificate, as the beginning of a sentence */
export function judgeValidity(
  check: string,
  what: string,
  { notBefore, notAfter }: Validity,
  now: Date,
  fix: string,
): readonly Finding[] {
  if (now < notBefore) {
    const problem = `${what} is not valid before ${notBefore.toISOString()}`;
    return [failing(check, { problem, fix: `look at the clock of this machine; if it is right, ${fix}` })];
  }
  if (now >= notAfter) return [failing(check, { problem: `${what} has expired at ${notAfter.toISOString()}`, fix })];
  // What lives for a week is renewed in its last days, and that is no news.
  const soonMs = Math.min(SOON_MS, (notAfter.getTime() - notBefore.getTime()) / 10);
  if (notAfter.getTime() - now.getTime() > soonMs) return [];
  return [warning(check, { problem: `${what} expires at ${notAfter.toISOString()}`, fix })];
}
