/** What certificates are for, and what an issuer allows: the one place where a request meets the policy of its issuer. */
import {
  authorityInfoAccess,
  authorityKeyIdentifier,
  basicConstraints,
  cRLDistributionPoints,
  type Extension,
  extendedKeyUsage,
  type KeyUsage,
  keyUsage,
  nameConstraintsExtension,
  ocspNoCheck,
  subjectAltName,
  subjectKeyIdentifier,
} from "./extension.ts";
import {
  dnsName,
  type GeneralName,
  generalNameToString,
  inIpRange,
  ipRange,
  mailboxOf,
  type NameConstraints,
  uri,
} from "./general-name.ts";
import { type KeySpec, keyIdentifier } from "./key.ts";
import { MalformedInput, quoted } from "./malformed-input.ts";
import { attributeLabel, type RdnSequence, sameName } from "./name.ts";
import { constrainedName } from "./name-constraints.ts";
import { isOid, oids } from "./oid.ts";

/** What the key of a certificate may do. */
export interface Usages {
  readonly keyUsage: readonly KeyUsage[];
  /** Dotted OIDs; none: not restricted, as in most certificates of a CA. */
  readonly extendedKeyUsage: readonly string[];
}

const day = 24 * 3600_000;
const leaf = { maxDurationMs: 398 * day };
const serverUses = ["digitalSignature", "keyEncipherment"] as const;

/** What the profiles stand for, with the longest validity unless the issuer says otherwise. */
export const profiles = {
  Server: { keyUsage: serverUses, extendedKeyUsage: [oids.serverAuth], ...leaf },
  Client: { keyUsage: ["digitalSignature"], extendedKeyUsage: [oids.clientAuth], ...leaf },
  Agent: { keyUsage: ["digitalSignature"], extendedKeyUsage: [oids.clientAuth], ...leaf },
  Gateway: { keyUsage: serverUses, extendedKeyUsage: [oids.clientAuth, oids.serverAuth], ...leaf },
  OCSPResponder: { keyUsage: ["digitalSignature"], extendedKeyUsage: [oids.ocspSigning], maxDurationMs: 7 * day },
  // As long as its issuer lives.
  CA: { keyUsage: ["keyCertSign", "cRLSign"], extendedKeyUsage: [], maxDurationMs: Number.POSITIVE_INFINITY },
} as const satisfies Record<string, Usages & { readonly maxDurationMs: number }>;
export type Profile = keyof typeof profiles;

/** The names of `spec.usages`, as Kubernetes and cert-manager have them. */
const keyUsageByName: Readonly<Record<string, KeyUsage>> = {
  signing: "digitalSignature",
  "digital signature": "digitalSignature",
  "content commitment": "contentCommitment",
  "key encipherment": "keyEncipherment",
  "data encipherment": "dataEncipherment",
  "key agreement": "keyAgreement",
  "cert sign": "keyCertSign",
  "crl sign": "cRLSign",
  "encipher only": "encipherOnly",
  "decipher only": "decipherOnly",
};
const purposeByName: Readonly<Record<string, string>> = {
  any: oids.anyExtendedKeyUsage,
  "server auth": oids.serverAuth,
  "client auth": oids.clientAuth,
  "code signing": oids.codeSigning,
  "email protection": oids.emailProtection,
  "s/mime": oids.emailProtection,
  "ipsec end system": oids.ipsecEndSystem,
  "ipsec tunnel": oids.ipsecTunnel,
  "ipsec user": oids.ipsecUser,
  timestamping: oids.timeStamping,
  "ocsp signing": oids.ocspSigning,
  "microsoft sgc": oids.microsoftSgc,
  "netscape sgc": oids.netscapeSgc,
};

/** All that `spec.usages` may hold. */
export const usageNames: readonly string[] = [...Object.keys(keyUsageByName), ...Object.keys(purposeByName)];

/** What keys of an algorithm cannot do, and a certificate must not say (RFC 4055 1.2, RFC 8813 3, RFC 8410 5). */
const impossible: Readonly<Record<KeySpec["algorithm"], readonly KeyUsage[]>> = {
  RSA: ["keyAgreement", "encipherOnly", "decipherOnly"],
  ECDSA: ["keyEncipherment", "dataEncipherment"],
  Ed25519: ["keyEncipherment", "dataEncipherment", "keyAgreement", "encipherOnly", "decipherOnly"],
};

/** The usages of a profile for a key. */
export function profileUsages(profile: Profile, key: KeySpec): Usages {
  const { keyUsage, extendedKeyUsage } = profiles[profile];
  return { keyUsage: keyUsage.filter((usage) => !impossible[key.algorithm].includes(usage)), extendedKeyUsage };
}

/**
 * The usages that `spec.usages` asks for. What it leaves open (no list, no purpose in it, no use of the key) comes from the
 * profile, since a certificate without a purpose would be good for all of them. What a key of this algorithm cannot do is left
 * out: cert-manager's default asks every key for encipherment.
 *
 * @throws MalformedInput naming the field
 */
export function requestedUsages(usages: readonly string[] | undefined, profile: Profile, key: KeySpec): Usages {
  const uses: KeyUsage[] = [];
  const purposes: string[] = [];
  for (const [at, name] of (usages ?? []).entries()) {
    const [use, purpose] = [keyUsageByName[name], purposeByName[name]];
    if (use) uses.push(use);
    else if (purpose) purposes.push(purpose);
    else throw new MalformedInput(`usages[${at}]`, `${quoted(name)} is no usage; usages are ${usageNames.join(", ")}`);
  }
  return completedUsages({ keyUsage: uses, extendedKeyUsage: purposes }, profile, key, "usages");
}

/**
 * The same for usages that are not written by their names.
 *
 * @param field what a problem is reported of
 * @throws MalformedInput
 */
export function completedUsages(
  { keyUsage: uses, extendedKeyUsage: purposes }: Usages,
  profile: Profile,
  key: KeySpec,
  field: string,
): Usages {
  const base = profileUsages(profile, key);
  const possible = uses.filter((use) => !impossible[key.algorithm].includes(use));
  if (uses.length > 0 && possible.length === 0) {
    throw new MalformedInput(field, `leave a key of ${key.algorithm} nothing to do; add "digital signature"`);
  }
  return {
    keyUsage: [
      ...new Set(profile === "CA" ? [...base.keyUsage, ...possible] : uses.length > 0 ? possible : base.keyUsage),
    ],
    extendedKeyUsage: [...new Set(purposes.length > 0 ? purposes : base.extendedKeyUsage)],
  };
}

/** Attributes of a subject that a policy can allow, and what the fields are called. */
const subjectFields = {
  [oids.organizationName]: "organizations",
  [oids.countryName]: "countries",
  [oids.organizationalUnitName]: "organizationalUnits",
  [oids.localityName]: "localities",
  [oids.stateOrProvinceName]: "provinces",
} as const;
export type SubjectField = (typeof subjectFields)[keyof typeof subjectFields];

/**
 * What an issuer allows. A kind of name that is not listed is denied; `{namespace}` stands for the requester's namespace.
 */
export interface IssuePolicy {
  /** Absent: none, so that only CAs are signed. */
  readonly profiles?: readonly Profile[];
  /** Of certificates that are not a CA's; absent: what the profile allows. */
  readonly maxDurationMs?: number;
  /** `orders.example.com`, or `*.example.com` for exactly one label in front (the wildcard name included, as it covers no more). */
  readonly dnsNames?: readonly string[];
  /** CIDR. */
  readonly ipRanges?: readonly string[];
  /** URIs in which `*` stands for one or more characters of one path segment or host label. */
  readonly uris?: readonly string[];
  /** Domains of mail addresses, as in `dnsNames`. */
  readonly emailDomains?: readonly string[];
  /** OIDs; their values are not judged. */
  readonly otherNames?: readonly string[];
  /** `*` stands for any characters. A common name that is also an allowed alternative name needs no listing. */
  readonly commonNames?: readonly string[];
  /** Values by field. */
  readonly subject?: Readonly<Partial<Record<SubjectField, readonly string[]>>>;
  /** Absent: no certificates for CAs. Whose CAs may stand below is the caller's to check. */
  readonly allowSubordinates?: SubordinatePolicy;
  /** In the certificates of the CA and of those above it: whatever the rest says, nobody accepts a name outside. */
  readonly caConstraints?: readonly NameConstraints[];
  /** Of the CA itself. */
  readonly ownSubject?: RdnSequence;
}

export interface SubordinatePolicy {
  /** How many CAs may stand below the new one; absent: 0. */
  readonly pathLength?: number;
  /** Permitted names limit what a subordinate can ask for; kinds that are not listed there are denied. */
  readonly nameConstraints?: NameConstraints;
}

/** What somebody asks an issuer for. Names are canonical. */
export interface IssueRequest {
  readonly subject: RdnSequence;
  readonly subjectAltNames: readonly GeneralName[];
  readonly durationMs: number;
  readonly profile: Profile;
  readonly usages: Usages;
  /** Given exactly with the profile CA. */
  readonly ca?: { readonly pathLength?: number; readonly nameConstraints?: NameConstraints };
}

/** Something that a policy does not allow: the field of the request, and a sentence that says what helps. */
export interface Violation {
  readonly field: string;
  readonly message: string;
}

/** A status has no room for more. */
const maxViolations = 20;

/** Everything in a request that the policy does not allow; empty: it may be signed. At most 20. */
export function checkAgainstPolicy(
  request: IssueRequest,
  policy: IssuePolicy,
  { namespace }: { readonly namespace: string },
): Violation[] {
  const here = placed(policy, namespace);
  return [
    ...checkDuration(request, here),
    ...checkUsages(request, here),
    ...checkCa(request, here),
    ...checkSubject(request, here),
    ...checkNames(request, here),
    ...checkConstraints(request, here),
  ].slice(0, maxViolations);
}

/** The policy with the namespace in its places, its domains in canonical form. */
function placed(policy: IssuePolicy, namespace: string): IssuePolicy {
  const each = (patterns: readonly string[] | undefined) =>
    patterns?.map((pattern) => pattern.replaceAll("{namespace}", namespace));
  const domains = (patterns: readonly string[] | undefined) => each(patterns)?.map(canonicalDomain);
  const subject = Object.entries(policy.subject ?? {}).map(([field, values]) => [field, each(values)]);
  const dnsNames = domains(policy.dnsNames);
  const uris = each(policy.uris);
  const emailDomains = domains(policy.emailDomains);
  const commonNames = each(policy.commonNames);
  return {
    ...policy,
    subject: Object.fromEntries(subject),
    ...(dnsNames && { dnsNames }),
    ...(uris && { uris }),
    ...(emailDomains && { emailDomains }),
    ...(commonNames && { commonNames }),
  };
}

function checkDuration({ durationMs, profile, ca }: IssueRequest, { maxDurationMs }: IssuePolicy): Violation[] {
  const most = ca ? profiles.CA.maxDurationMs : (maxDurationMs ?? profiles[profile].maxDurationMs);
  if (durationMs <= most) return [];
  return [{ field: "duration", message: `is longer than the issuer allows; use at most ${hours(most)}` }];
}

/** A duration as manifests write it. */
export const hours = (ms: number): string => (ms % 3600_000 === 0 ? `${ms / 3600_000}h` : `${Math.floor(ms / 1000)}s`);

function checkUsages({ profile, usages, ca }: IssueRequest, policy: IssuePolicy): Violation[] {
  const allowed = policy.profiles ?? [];
  const has = allowed.length > 0 ? `the issuer's profiles are ${allowed.join(", ")}` : "the issuer has no profiles";
  if (!ca && !allowed.includes(profile)) {
    const field = "profile";
    return [
      {
        field,
        message: `${profile} is not allowed: ${has}; use another, or ask its owner to add it to policy.profiles`,
      },
    ];
  }
  const purposes = new Set<string>(allowed.flatMap((one) => profiles[one].extendedKeyUsage));
  const deniedUses = usages.keyUsage.filter((use) => !(ca ? caUses : leafUses).includes(use));
  const deniedPurposes = usages.extendedKeyUsage.filter((oid) => !purposes.has(oid));
  const denied = namesOfUsages({ keyUsage: deniedUses, extendedKeyUsage: deniedPurposes }).map((name) => ({
    field: "usages",
    message: `${name} is not allowed: ${has}; leave it out`,
  }));
  if (!ca && usages.extendedKeyUsage.length === 0) {
    denied.push({ field: "usages", message: 'name no purpose; add one, such as "server auth" or "client auth"' });
  }
  return denied;
}

const leafUses: readonly KeyUsage[] = ["digitalSignature", "keyEncipherment", "keyAgreement"];
/** digitalSignature: a CA may sign OCSP answers itself. */
const caUses: readonly KeyUsage[] = ["keyCertSign", "cRLSign", "digitalSignature"];

/** What `spec.usages` calls them; an unknown purpose is its OID. */
export const namesOfUsages = ({ keyUsage, extendedKeyUsage }: Usages): string[] => [
  ...keyUsage.map((use) => nameOf(keyUsageByName, use)),
  ...extendedKeyUsage.map((oid) => nameOf(purposeByName, oid)),
];

const nameOf = (names: Readonly<Record<string, string>>, value: string): string =>
  quoted(Object.keys(names).findLast((name) => names[name] === value) ?? value);

function checkCa({ ca, subject }: IssueRequest, { allowSubordinates, ownSubject }: IssuePolicy): Violation[] {
  if (!ca) return [];
  if (!allowSubordinates) {
    return [
      {
        field: "isCA",
        message: "is not allowed; the issuer's owner can allow CAs below it by policy.allowSubordinates",
      },
    ];
  }
  const violations: Violation[] = [];
  // Relying parties take a CA that bears its issuer's name for the same CA, which neither path length nor name constraints
  // count (RFC 5280 6.1).
  if (ownSubject !== undefined && sameName(subject, ownSubject)) {
    violations.push({ field: "subject", message: "is that of the issuer itself; use another" });
  }
  const { pathLength: most = 0, nameConstraints: limits } = allowSubordinates;
  if ((ca.pathLength ?? most) > most) {
    violations.push({ field: "pathLength", message: `is larger than the issuer allows; use at most ${most}` });
  }
  for (const base of limits && limits.permitted.length > 0 ? (ca.nameConstraints?.permitted ?? []) : []) {
    if (limits?.permitted.some((limit) => narrower(base, limit))) continue;
    const value = "value" in base ? quoted(base.value.toString()) : "a directory name";
    violations.push({
      field: "nameConstraints.permitted",
      message: `${value} is wider than the issuer allows; stay inside its policy.allowSubordinates.nameConstraints`,
    });
  }
  return violations;
}

/** Whether every name that satisfies one constraint satisfies the other. */
function narrower(base: GeneralName, limit: GeneralName): boolean {
  if (base.kind === "ip" && limit.kind === "ip") return inIpRange(base.value, limit.value);
  if (base.kind === "dns" && limit.kind === "dns") {
    return (
      base.value === limit.value || base.value.endsWith(limit.value.startsWith(".") ? limit.value : `.${limit.value}`)
    );
  }
  if ((base.kind === "uri" && limit.kind === "uri") || (base.kind === "email" && limit.kind === "email")) {
    if (base.value === limit.value) return true;
    const host = base.value.slice(base.value.indexOf("@") + 1);
    return limit.value.startsWith(".") ? host.endsWith(limit.value) : host === limit.value && base.value.includes("@");
  }
  return false;
}

/**
 * The name constraints of a subordinate CA: what it asked for inside what its issuer permits. A kind of which the issuer permits
 * nothing is closed.
 */
export function subordinateConstraints(
  requested: NameConstraints | undefined,
  limits: NameConstraints | undefined,
): NameConstraints | undefined {
  if (!limits) return requested;
  const permitted: GeneralName[] = [];
  // Directory names are not limited by a policy: a subordinate may narrow them by itself.
  permitted.push(...(requested?.permitted.filter(({ kind }) => kind === "directory") ?? []));
  const excluded = [...limits.excluded, ...(requested?.excluded ?? [])];
  for (const kind of ["dns", "ip", "email", "uri"] as const) {
    const of = (names: NameConstraints | undefined) => names?.permitted.filter((name) => name.kind === kind) ?? [];
    const asked = of(requested);
    const allowed = of(limits);
    if (allowed.length > 0 || limits.permitted.length === 0) permitted.push(...(asked.length > 0 ? asked : allowed));
    else if (kind === "ip") excluded.push({ kind, value: "0.0.0.0/0" }, { kind, value: "::/0" });
    // An empty base excludes everything by RFC 5280, but not by OpenSSL; nobody has names under .invalid (RFC 6761 6.4).
    else permitted.push({ kind, value: "invalid" });
  }
  return permitted.length + excluded.length > 0 ? { permitted, excluded } : undefined;
}

function checkSubject({ subject, subjectAltNames, ca }: IssueRequest, policy: IssuePolicy): Violation[] {
  // A CA could give its key any subject below it, where it is matched with names; its own is matched by nobody.
  if (ca) return [];
  const names = new Set(
    subjectAltNames.map((name) => (name.kind === "directory" ? "" : (mailboxOf(name) ?? name.value.toString()))),
  );
  return subject.flat().flatMap(({ type, value }): Violation[] => {
    if (type === oids.commonName) {
      // Some clients still take the common name for a host name; as an alternative name it is judged below.
      const listed = policy.commonNames;
      const name = canonicalDomain(value);
      const allowed = names.has(value) || names.has(name) || listed?.some((pattern) => globMatches(value, pattern));
      return allowed
        ? []
        : [denial("commonName", value, "commonNames", listed, "make it one of the alternative names")];
    }
    if (type === oids.emailAddress) {
      const domain = canonicalDomain(domainOf(value));
      const allowed = policy.emailDomains?.some((pattern) => dnsMatches(domain, pattern));
      return allowed ? [] : [denial("literalSubject", value, "emailDomains", policy.emailDomains)];
    }
    const field = (subjectFields as Readonly<Record<string, SubjectField>>)[type];
    if (!field) {
      return [
        { field: "literalSubject", message: `${attributeLabel(type)} is not allowed by any policy; leave it out` },
      ];
    }
    const listed = policy.subject?.[field];
    const allowed = listed?.includes(value);
    return allowed ? [] : [denial(`subject.${field}`, value, `subject.${field}`, listed)];
  });
}

function checkNames({ subject, subjectAltNames, ca }: IssueRequest, policy: IssuePolicy): Violation[] {
  if (subject.length === 0 && (ca || subjectAltNames.length === 0)) {
    // RFC 5280 4.1.2.6: a CA has a subject, everybody else that or an alternative name.
    return [{ field: "subject", message: `is empty; add a common name${ca ? "" : " or an alternative name"}` }];
  }
  return subjectAltNames.flatMap((name): Violation[] => {
    const mail = mailboxOf(name);
    if (mail !== undefined) {
      const domain = domainOf(mail);
      const allowed = policy.emailDomains?.some((pattern) => dnsMatches(domain, pattern));
      return allowed ? [] : [denial("emailAddresses", mail, "emailDomains", policy.emailDomains)];
    }
    switch (name.kind) {
      case "dns": {
        const allowed = policy.dnsNames?.some((pattern) => dnsMatches(name.value, pattern));
        return allowed ? [] : [denial("dnsNames", name.value, "dnsNames", policy.dnsNames)];
      }
      case "ip": {
        const allowed = policy.ipRanges?.some((range) => inIpRange(name.value, range));
        return allowed ? [] : [denial("ipAddresses", name.value, "ipRanges", policy.ipRanges)];
      }
      case "uri": {
        const allowed = policy.uris?.some((pattern) => uriMatches(name.value, pattern));
        return allowed ? [] : [denial("uris", name.value, "uris", policy.uris)];
      }
      case "other": {
        const allowed = policy.otherNames?.includes(name.oid);
        return allowed ? [] : [denial("otherNames", name.oid, "otherNames", policy.otherNames)];
      }
      default:
        return [{ field: "subjectAltName", message: "directory names are not allowed by any policy; leave it out" }];
    }
  });
}

const FIELD_OF: Readonly<Record<GeneralName["kind"], string>> = {
  dns: "dnsNames",
  ip: "ipAddresses",
  uri: "uris",
  email: "emailAddresses",
  other: "otherNames",
  directory: "subject",
};

/** RFC 5280 4.2.1.10: the subject counts too, where there is one. */
function checkConstraints(
  { subject, subjectAltNames }: IssueRequest,
  { caConstraints = [] }: IssuePolicy,
): Violation[] {
  const names: GeneralName[] = subject.length === 0 ? [] : [{ kind: "directory", rdns: subject }];
  names.push(...subjectAltNames);
  return names.flatMap((name): Violation[] => {
    if (caConstraints.every((constraints) => constrainedName(constraints, [name]) === undefined)) return [];
    const message = `${quoted(generalNameToString(name))} lies outside the name constraints in the CA's own certificate; use another, or another issuer`;
    return [{ field: mailboxOf(name) === undefined ? FIELD_OF[name.kind] : "emailAddresses", message }];
  });
}

function denial(field: string, value: string, policyField: string, listed?: readonly string[], or = ""): Violation {
  const allows = listed?.length
    ? `allows only ${listed.slice(0, 5).join(", ")}${listed.length > 5 ? ", ..." : ""}`
    : "lists none";
  return {
    field,
    message: `${quoted(value)} is not allowed: the issuer's policy.${policyField} ${allows}; use another${or && `, ${or}`} or ask its owner to add it`,
  };
}

/** Both canonical; `*.` in front of the pattern stands for exactly one label, which may be the wildcard itself. */
const dnsMatches = (name: string, pattern: string): boolean =>
  pattern.startsWith("*.") ? name.slice(name.indexOf(".")) === pattern.slice(1) : name === pattern;

const domainOf = (mail: string): string => mail.slice(mail.lastIndexOf("@") + 1);

/** A text that is a domain in its canonical form, any other as it is. */
function canonicalDomain(text: string): string {
  try {
    const name = dnsName(text, "");
    return name.kind === "dns" ? name.value : text;
  } catch {
    return text;
  }
}

/** `*` stands for any characters. Takes linear time. */
function globMatches(text: string, pattern: string): boolean {
  const [head = "", ...rest] = pattern.split("*");
  const tail = rest.pop();
  if (tail === undefined) return text === head;
  if (!text.startsWith(head) || !text.endsWith(tail) || text.length < head.length + tail.length) return false;
  let at = head.length;
  const end = text.length - tail.length;
  return rest.every((part) => {
    const found = text.indexOf(part, at);
    at = found + part.length;
    return found >= 0 && at <= end;
  });
}

/** Two stars in one segment could share its characters in many ways, which takes long to find out. */
const sharedSegment = /\*[^/?#@:]*\*/;

function uriMatches(name: string, pattern: string): boolean {
  // Dot segments would walk out of the segment that the star stands for; so would percent-encoded slashes and dots.
  if (sharedSegment.test(pattern) || /\/\.{1,2}(?:[/?#]|$)/.test(name)) return false;
  const [, host = "", rest = pattern] = /^([a-z][a-z0-9+.-]*:\/\/[^/?#]*)(.*)$/s.exec(pattern) ?? [];
  const form = (part: string, star: string) =>
    part
      .split("*")
      .map((literal) => literal.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"))
      .join(star);
  return new RegExp(`^${form(host, "[^/?#@:%.]+")}${form(rest, "[^/?#@:%]+")}$`).test(name);
}

/** What is wrong with a policy itself, by its fields: patterns that nothing can match. */
export function checkPolicy(policy: IssuePolicy): Violation[] {
  const bad = (
    field: string,
    patterns: readonly string[] | undefined,
    good: (pattern: string) => boolean,
    fix: string,
  ) =>
    (patterns ?? []).flatMap((pattern, at) =>
      good(pattern.replaceAll("{namespace}", "n"))
        ? []
        : [{ field: `policy.${field}[${at}]`, message: `${quoted(pattern)} ${fix}` }],
    );
  const isDomain = (pattern: string) => {
    try {
      return dnsName(pattern, "").kind === "dns";
    } catch {
      return false;
    }
  };
  const isUri = (pattern: string) => {
    try {
      return !sharedSegment.test(pattern) && uri(pattern.replaceAll("*", "x"), "").kind === "uri";
    } catch {
      return false;
    }
  };
  const domainFix = "is no DNS name; a pattern is a name such as orders.example.com or *.example.com";
  return [
    ...bad("dnsNames", policy.dnsNames, isDomain, domainFix),
    ...bad("emailDomains", policy.emailDomains, isDomain, domainFix),
    ...bad(
      "ipRanges",
      policy.ipRanges,
      (range) => ipRange(range) !== undefined,
      "is no range; use one such as 10.0.0.0/8",
    ),
    ...bad("uris", policy.uris, isUri, "is no URI; use one such as spiffe://example.com/ns/{namespace}/sa/*"),
    ...bad("otherNames", policy.otherNames, isOid, "is no object identifier; use one such as 1.3.6.1.4.1.311.20.2.3"),
  ];
}

/** What a certificate says besides its names and times. */
export interface CertificateContents {
  readonly subject: RdnSequence;
  readonly spki: Buffer;
  readonly subjectAltNames: readonly GeneralName[];
  readonly usages: Usages;
  readonly ca?: { readonly pathLength?: number; readonly nameConstraints?: NameConstraints };
}

/** What certificates say about their issuer. */
export interface IssuerReferences {
  readonly keyIdentifier: Buffer;
  /** Of one and the same CRL. */
  readonly crlUrls: readonly string[];
  readonly ocspUrls: readonly string[];
  readonly caIssuersUrls: readonly string[];
}

/** The extensions of a certificate, by the rules of RFC 5280 4.2. Without an issuer it is that of a root, which nobody can revoke. */
export function certificateExtensions(contents: CertificateContents, issuer?: IssuerReferences): Extension[] {
  const { subject, spki, subjectAltNames, usages, ca } = contents;
  // Nobody asks whether a responder is revoked (RFC 6960 4.2.2.2.1), so it need not say where.
  const responder = usages.extendedKeyUsage.includes(oids.ocspSigning);
  const extensions = [
    basicConstraints(
      ca ? { ca: true, ...(ca.pathLength !== undefined && { pathLength: ca.pathLength }) } : { ca: false },
    ),
    keyUsage(usages.keyUsage),
  ];
  if (usages.extendedKeyUsage.length > 0) extensions.push(extendedKeyUsage(usages.extendedKeyUsage));
  extensions.push(subjectKeyIdentifier(keyIdentifier(spki)));
  if (issuer) extensions.push(authorityKeyIdentifier(issuer.keyIdentifier));
  if (subjectAltNames.length > 0) extensions.push(subjectAltName(subjectAltNames, subject.length === 0));
  if (ca?.nameConstraints) extensions.push(nameConstraintsExtension(ca.nameConstraints));
  if (responder) return [...extensions, ocspNoCheck()];
  if (issuer && issuer.crlUrls.length > 0) extensions.push(cRLDistributionPoints(issuer.crlUrls));
  if (issuer && issuer.ocspUrls.length + issuer.caIssuersUrls.length > 0) {
    extensions.push(authorityInfoAccess({ ocsp: issuer.ocspUrls, caIssuers: issuer.caIssuersUrls }));
  }
  return extensions;
}
