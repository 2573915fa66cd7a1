/** What may be done to something. */
export type Verb = "list" | "read" | "write" | "rotate" | "delete" | "issue" | "revoke" | "audit" | "administer";
