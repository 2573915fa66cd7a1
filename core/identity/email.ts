import { IdentityRefused } from "./errors.ts";

const LONGEST = 254;
/** What HTML's input of type email takes, in lower case: ASCII only, so that no two addresses look alike. */
const ADDRESS = /^[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/;

/** The one form in which an address is stored and compared; undefined when it is none. */
export function normalisedEmail(email: string): string | undefined {
  const normalised = email.trim().toLowerCase();
  return normalised.length <= LONGEST && ADDRESS.test(normalised) ? normalised : undefined;
}

/** As `normalisedEmail`, for a user that is to be made. */
export function requireEmail(email: string): string {
  const normalised = normalisedEmail(email);
  if (normalised === undefined) throw new IdentityRefused("EmailInvalid", "email: not an address in ASCII");
  return normalised;
}
