/** Who may do what, as AccessPolicy and Project write it. */
import { z } from "zod";
import { exactlyOneOf, labelName, listAtomic, listSet, namePattern, objectName, rules } from "./common.ts";

/**
 * What may be done. `list` shows that something exists and how it stands, never a value; `read` hands out values: of a
 * Secret, or the private key of a Certificate.
 */
export const VERBS = ["list", "read", "write", "rotate", "delete", "issue", "revoke", "audit", "administer"] as const;
export type Verb = (typeof VERBS)[number];

export const ROLE_NAMES = ["admin", "operator", "auditor", "reader"] as const;
export type Role = (typeof ROLE_NAMES)[number];

/** Ready sets of verbs. */
export const ROLES: Readonly<Record<Role, readonly Verb[]>> = {
  admin: VERBS,
  operator: ["list", "read", "write", "rotate", "delete", "issue", "revoke"],
  auditor: ["list", "audit"],
  reader: ["list", "read"],
};

/** SHA-256 over the certificate's DER, as openssl and Node print it, or without colons. */
const fingerprint = z
  .string()
  .min(64)
  .max(95)
  .regex(
    /^[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2}){31}$/,
    "must be the SHA-256 fingerprint of the certificate, 32 bytes in hexadecimal, with or without colons",
  );

export const accessSubject = z
  .object({
    localUser: z
      .object({
        id: z
          .string()
          .min(1)
          .max(64)
          .regex(
            /^[0-9A-Za-z][-_0-9A-Za-z]*$/,
            "must be the user's id, which mazevault users list tells; it never changes, an email address may",
          )
          .meta({ description: "Id of the user, which is never given to another one." }),
      })
      .optional()
      .meta({ description: "A local user of this installation." }),
    serviceAccount: z
      .object({
        namespace: labelName.meta({ description: "Namespace of the ServiceAccount." }),
        name: objectName.meta({ description: "Name of the ServiceAccount." }),
      })
      .optional()
      .meta({ description: "Whoever holds a token of this ServiceAccount." }),
    clientCertificate: z
      .object({
        name: z
          .string()
          .min(1)
          .max(1024)
          .regex(/^\S+( \S+)*$/, "must be the subject's common name or a URI of the certificate, exactly as it stands")
          .optional()
          .meta({
            description:
              "Common name of the certificate's subject, or its URI. Whoever gets a certificate of that name from the CA for clients is meant.",
          }),
        fingerprint: fingerprint
          .optional()
          .meta({ description: "SHA-256 fingerprint of one certificate; another one after each renewal." }),
      })
      .optional()
      .meta({
        description: "Whoever holds the key of such a client certificate.",
        ...rules(exactlyOneOf("name", "fingerprint")),
      }),
  })
  .meta(rules(exactlyOneOf("localUser", "serviceAccount", "clientCertificate")));
export type AccessSubject = z.infer<typeof accessSubject>;

const names = (what: string) =>
  z
    .array(namePattern)
    .min(1)
    .max(32)
    .optional()
    .meta({ description: `Names of ${what}; * stands for any characters.`, ...listSet });

const roleDescription = Object.entries(ROLES)
  .map(([role, verbs]) => `${role} (${verbs.length === VERBS.length ? "all verbs" : verbs.join(", ")})`)
  .join(", ");

export const subjects = z
  .array(accessSubject)
  .min(1)
  .max(32)
  .meta({ description: "Who gets the access.", ...listAtomic });

/** What is given and for what: common to an AccessPolicy's rules and a Project's access. */
export const grantFields = {
  environments: z
    .array(labelName)
    .min(1)
    .max(16)
    .meta({ description: "Environments that it is given for.", ...listSet }),
  secrets: names("Secrets"),
  certificates: names("Certificates"),
  issuers: names("issuers"),
  role: z
    .enum(ROLE_NAMES)
    .optional()
    .meta({ description: `A ready set of verbs: ${roleDescription}.` }),
  verbs: z
    .array(z.enum(VERBS))
    .min(1)
    .max(VERBS.length)
    .optional()
    .meta({
      description:
        "What may be done, verb by verb. list: see that something exists, never a value; read: get values and private keys; write: store values; rotate, delete, issue, revoke: as they say; audit: read the audit trail; administer: change the project itself.",
      ...listSet,
    }),
};
export const roleOrVerbs = exactlyOneOf("role", "verbs");
