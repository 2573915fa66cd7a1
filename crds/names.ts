/** Subjects, keys and names of X.509, as the kinds of the PKI write them. */
import { z } from "zod";
import { type CelRule, listAtomic, listSet, rules } from "./common.ts";

export const KEY_ALGORITHMS = ["RSA", "ECDSA", "Ed25519"] as const;
export const CERTIFICATE_PROFILES = ["Server", "Client", "Agent", "Gateway"] as const;
export const ISSUER_KINDS = ["Issuer", "ClusterIssuer"] as const;
export type IssuerKind = (typeof ISSUER_KINDS)[number];

/** Upper bounds of RFC 5280 appendix A.1. */
const attribute = (most: number) =>
  z
    .string()
    .min(1)
    .max(most)
    .regex(/^[^\s]+( [^\s]+)*$/, "must be words with one space between them");

const attributes = (description: string, most: number) =>
  z
    .array(attribute(most))
    .min(1)
    .max(8)
    .optional()
    .meta({ description, ...listAtomic });

const country = z
  .string()
  .min(2)
  .max(2)
  .regex(/^[A-Z]{2}$/, "must be two capital letters as ISO 3166 has them, such as AT");

export const commonName = attribute(64);

/** The attributes of a subject beside its common name. */
export const subjectAttributes = (note = "") => ({
  countries: z
    .array(country)
    .min(1)
    .max(8)
    .optional()
    .meta({ description: `Countries (C)${note}, two capital letters each.`, ...listAtomic }),
  provinces: attributes(`States or provinces (ST)${note}.`, 128),
  localities: attributes(`Localities (L)${note}.`, 128),
  organizations: attributes(`Organizations (O)${note}.`, 64),
  organizationalUnits: attributes(`Organizational units (OU)${note}.`, 64),
});

const ALGORITHM = "(has(self.algorithm) ? self.algorithm : 'ECDSA')";

const oneOfSizes = (algorithm: "RSA" | "ECDSA", ...sizes: number[]): CelRule => ({
  rule: `${ALGORITHM} != '${algorithm}' || !has(self.size) || self.size in [${sizes.join(", ")}]`,
  message: `size of ${algorithm} must be ${sizes.slice(0, -1).join(", ")} or ${sizes.at(-1)}`,
});

export const keySizeRules: readonly CelRule[] = [
  oneOfSizes("RSA", 2048, 3072, 4096),
  oneOfSizes("ECDSA", 256, 384, 521),
  { rule: `${ALGORITHM} != 'Ed25519' || !has(self.size)`, message: "size is only for RSA and ECDSA" },
];

export const keyFields = {
  algorithm: z.enum(KEY_ALGORITHMS).optional().meta({ description: "Algorithm of the key; ECDSA when absent." }),
  size: z
    .int()
    .min(256)
    .max(4096)
    .optional()
    .meta({ description: "Size in bits: RSA 2048, 3072 (when absent) or 4096; ECDSA 256 (when absent), 384 or 521." }),
};

export const signingKey = z.object(keyFields).meta(rules(...keySizeRules));

/** A DNS name as people write it: international names as well, `*` for the whole of the first label. */
export const dnsName = z
  .string()
  .min(1)
  .max(253)
  .regex(
    /^(\*\.)?[^\s.*/@:,;"\\{}]+(\.[^\s.*/@:,;"\\{}]+)*$/,
    "must be a DNS name, such as orders.payments.svc or *.example.com",
  );

export const ipAddress = z
  .string()
  .min(2)
  .max(45)
  .meta(rules({ rule: "isIP(self)", message: "must be an IP address, such as 10.0.0.1 or fd00::1" }));

export const uri = z
  .string()
  .min(3)
  .max(1024)
  .regex(
    /^[A-Za-z][-A-Za-z0-9+.]*:[^\s"<>\\^`{|}]+$/,
    "must be a URI with its scheme, such as spiffe://example.com/ns/payments/sa/orders",
  );

export const emailAddress = z
  .string()
  .min(3)
  .max(254)
  .regex(/^[^\s@,;<>"]+@[^\s@,;<>"]+$/, "must be an email address, such as orders@example.com");

/** An object identifier in dotted decimals. */
export const objectIdentifier = z
  .string()
  .min(3)
  .max(128)
  .regex(/^[0-2](\.(0|[1-9][0-9]*))+$/, "must be an object identifier, such as 1.3.6.1.4.1.311.20.2.3");

export const ipRange = z
  .string()
  .min(4)
  .max(49)
  .meta(rules({ rule: "isCIDR(self)", message: "must be a range of IP addresses, such as 10.0.0.0/8 or fd00::/8" }));

const PLACEHOLDER = "{namespace} stands for the namespace that asks.";

const patterns = (description: string, pattern: z.ZodString) =>
  z
    .array(pattern)
    .min(1)
    .max(64)
    .optional()
    .meta({ description: `${description} ${PLACEHOLDER} Absent: none.`, ...listSet });

const commonNamePattern = z
  .string()
  .min(1)
  .max(128)
  .regex(
    /^([^\s{}]|\{namespace\})+( ([^\s{}]|\{namespace\})+)*$/,
    "must be words with one space between them, in which only {namespace} stands in braces",
  );

/** Which names a CA puts into certificates; a kind of name that is not listed is refused. */
export const allowedNames = {
  dnsNames: patterns(
    "DNS names that may be asked for. *. at the beginning stands for exactly one label, such as *.{namespace}.svc, and allows the wildcard name itself.",
    z
      .string()
      .min(1)
      .max(253)
      .regex(
        /^(\*\.)?([^\s.*/@:,;"\\{}]|\{namespace\})+(\.([^\s.*/@:,;"\\{}]|\{namespace\})+)*$/,
        "must be a DNS name, such as *.example.com or *.{namespace}.svc",
      ),
  ),
  ipRanges: z
    .array(ipRange)
    .min(1)
    .max(64)
    .optional()
    .meta({ description: "Ranges of the IP addresses that may be asked for. Absent: none.", ...listSet }),
  uris: patterns(
    "URIs that may be asked for. * stands for characters of one segment of the path or one label of the host, such as spiffe://example.com/ns/{namespace}/sa/*.",
    z
      .string()
      .min(3)
      .max(1024)
      .regex(
        /^[A-Za-z][-A-Za-z0-9+.]*:([^\s"<>\\^`{|}]|\{namespace\})+$/,
        "must be a URI with its scheme, such as spiffe://example.com/ns/{namespace}/sa/*",
      ),
  ),
  emailDomains: patterns(
    "Domains of the email addresses that may be asked for, such as example.com, or *.example.com for exactly one label more.",
    z
      .string()
      .min(1)
      .max(253)
      .regex(
        /^([^\s.*/@:,;"\\{}]|\{namespace\})+(\.([^\s.*/@:,;"\\{}]|\{namespace\})+)*$/,
        "must be the domain of an email address, such as example.com",
      ),
  ),
  otherNames: z
    .array(objectIdentifier)
    .min(1)
    .max(64)
    .optional()
    .meta({
      description:
        "Object identifiers of the other names that may be asked for, each with any value, such as 1.3.6.1.4.1.311.20.2.3 for user principal names. Absent: none.",
      ...listSet,
    }),
  commonNames: patterns(
    "Common names that may be asked for beside those that are also among the alternative names. * stands for any characters.",
    commonNamePattern,
  ),
};

const NAMESPACE_DOMAIN = z
  .string()
  .min(1)
  .max(253)
  .regex(
    /^([^\s.*/@:,;"\\{}]|\{namespace\})+(\.([^\s.*/@:,;"\\{}]|\{namespace\})+)*$/,
    "must be a domain without *, such as example.com or {namespace}.svc, which covers the names below it too",
  );

const DOMAIN = z
  .string()
  .min(1)
  .max(253)
  .regex(
    /^[^\s.*/@:,;"\\{}]+(\.[^\s.*/@:,;"\\{}]+)*$/,
    "must be a domain without *, such as example.com, which covers the names below it too",
  );

const subtrees = (domain: z.ZodString, note: string) =>
  z
    .object({
      dnsDomains: z
        .array(domain)
        .min(1)
        .max(32)
        .optional()
        .meta({ description: `DNS domains, each with every name below it.${note}`, ...listSet }),
      ipRanges: z
        .array(ipRange)
        .min(1)
        .max(32)
        .optional()
        .meta({ description: "Ranges of IP addresses.", ...listSet }),
      emailAddresses: z
        .array(
          z
            .string()
            .min(1)
            .max(254)
            .regex(
              /^([^\s@,;<>"{}]+@)?\.?[^\s@,;<>"{}]+$/,
              "must be an email address, a host such as example.com, or a domain such as .example.com",
            ),
        )
        .min(1)
        .max(32)
        .optional()
        .meta({
          description:
            "Email addresses, all of a host (example.com), or all of the hosts below a domain (.example.com).",
          ...listSet,
        }),
      uriDomains: z
        .array(
          z
            .string()
            .min(1)
            .max(253)
            .regex(
              /^\.?[^\s.*/@:,;"\\{}]+(\.[^\s.*/@:,;"\\{}]+)*$/,
              "must be a host, or a domain such as .example.com",
            ),
        )
        .min(1)
        .max(32)
        .optional()
        .meta({ description: "Hosts of URIs, or domains with a dot before (.example.com).", ...listSet }),
    })
    .meta(
      rules({
        rule: "has(self.dnsDomains) || has(self.ipRanges) || has(self.emailAddresses) || has(self.uriDomains)",
        message: "set at least one of dnsDomains, ipRanges, emailAddresses, uriDomains",
      }),
    );

const constraints = <More extends z.ZodRawShape>(domain: z.ZodString, note: string, more: More) =>
  z
    .object({
      ...more,
      permitted: subtrees(domain, note)
        .optional()
        .meta({ description: "Names of these kinds must lie in one of these; other kinds are not limited by this." }),
      excluded: subtrees(domain, note).optional().meta({ description: "Names must lie in none of these." }),
    })
    .meta(
      rules({
        rule: "has(self.permitted) || has(self.excluded)",
        message: "set permitted, excluded or both",
      }),
    );

/** RFC 5280 4.2.1.10. */
export const nameConstraints = constraints(DOMAIN, "", {});
/** The same for CAs of several namespaces. */
export const nameConstraintsByNamespace = constraints(NAMESPACE_DOMAIN, ` ${PLACEHOLDER}`, {});
/** The same with a field that cert-manager has, for what cannot be otherwise. */
export const criticalNameConstraints = constraints(DOMAIN, "", {
  critical: z
    .boolean()
    .meta(
      rules({
        rule: "self",
        message: "name constraints are always critical (RFC 5280, section 4.2.1.10); set true, or leave it out",
      }),
    )
    .optional()
    .meta({ description: "Whether relying parties must understand them; true, also when absent." }),
});
export type NameConstraintsSpec = z.infer<typeof nameConstraints>;
