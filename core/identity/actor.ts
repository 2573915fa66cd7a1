import { type Authenticated, describeSubject } from "../access/subject.ts";
import type { Actor } from "../ports/audit-log.ts";

/** Where a request came from. */
export interface Origin {
  /** IP address of the client. */
  readonly address: string;
  /** Of the request at which this is an attempt, see `RequestStore`. */
  readonly attempt?: string;
}

/** How the audit record names who did it. */
export const actorOf = ({ subject, via, id }: Omit<Authenticated, "via"> & { via: string }, from?: Origin): Actor => ({
  kind: "Subject",
  subject: describeSubject(subject),
  via,
  session: id,
  ...(from === undefined ? {} : { address: from.address }),
  ...(from?.attempt === undefined ? {} : { attempt: from.attempt }),
});

/** Somebody who failed to say who it is. */
export const anonymous = (address: string): Actor => ({
  kind: "Subject",
  subject: "Anonymous",
  via: "Password",
  session: "",
  address,
});
