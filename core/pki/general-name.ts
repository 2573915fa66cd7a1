/** Subject alternative names and name constraints: from what people write to canonical names, and their DER. */
import { isUtf8 } from "node:buffer";
import { isIP } from "node:net";
import { domainToASCII } from "node:url";
import { type DerReader, readDer } from "./der/reader.ts";
import * as der from "./der/writer.ts";
import { MalformedInput, quoted } from "./malformed-input.ts";
import { encodeName, nameToString, type RdnSequence, readName } from "./name.ts";
import { isOid, oids } from "./oid.ts";

/**
 * A GeneralName. `dns`, `email` and `uri` are ASCII (A-labels). An `ip` is `10.0.0.1` or `2001:db8::1`; in name constraints
 * `10.0.0.0/8`, and there `dns`, `email` and `uri` may be a domain that starts with a dot. The value of `other` is DER.
 */
export type GeneralName =
  | { readonly kind: "dns" | "ip" | "uri" | "email"; readonly value: string }
  | { readonly kind: "other"; readonly oid: string; readonly value: Buffer }
  | { readonly kind: "directory"; readonly rdns: RdnSequence };

/** Alternative names in the fields of a Certificate. */
export interface AlternativeNames {
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
  readonly uris?: readonly string[];
  readonly emailAddresses?: readonly string[];
  readonly otherNames?: readonly { readonly oid: string; readonly utf8Value: string }[];
}

/**
 * The names in canonical form, each once, in the order of the fields.
 *
 * @throws MalformedInput naming the field and its index
 */
export function subjectAltNames(names: AlternativeNames): GeneralName[] {
  const each = <T>(field: string, list: readonly T[] | undefined, to: (item: T, field: string) => GeneralName) =>
    (list ?? []).map((item, at) => to(item, `${field}[${at}]`));
  return distinct([
    ...each("dnsNames", names.dnsNames, dnsName),
    ...each("ipAddresses", names.ipAddresses, ipAddress),
    ...each("uris", names.uris, uri),
    ...each("emailAddresses", names.emailAddresses, mailbox),
    ...each("otherNames", names.otherNames, ({ oid, utf8Value }, field) => otherName(oid, utf8Value, field)),
  ]);
}

/** The names without repetitions. */
export const distinct = (names: readonly GeneralName[]): GeneralName[] => [
  ...new Map(names.map((name) => [encodeGeneralName(name).toString("hex"), name])).values(),
];

/** Brings a name that somebody else encoded into canonical form; throws MalformedInput. */
export function canonical(name: GeneralName, field: string): GeneralName {
  switch (name.kind) {
    case "dns":
      return dnsName(name.value, field);
    case "uri":
      return uri(name.value, field);
    case "email":
      return mailbox(name.value, field);
    case "other":
      return name.oid === oids.smtpUtf8Mailbox ? mailbox(mailboxOf(name) ?? "", field) : name;
    default:
      return name;
  }
}

/**
 * A DNS name in lower case and A-labels; a wildcard may stand for its first label (RFC 5280 4.2.1.6 and 7.2, RFC 6125).
 *
 * @throws MalformedInput
 */
export function dnsName(text: string, field: string): GeneralName {
  const wildcard = text.startsWith("*.");
  const host = domain(wildcard ? text.slice(2) : text);
  if (!host) {
    throw new MalformedInput(
      field,
      `${quoted(text)} is no DNS name: labels of letters, digits and hyphens (1 to 63 each), in front at most one "*."${
        isIP(text) ? "; addresses belong to ipAddresses" : ""
      }`,
    );
  }
  return { kind: "dns", value: wildcard ? `*.${host}` : host };
}

const label = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?";
const hostForm = new RegExp(`^(?:${label}\\.)*(?!\\d+$)${label}$`);

/** The domain in A-labels and lower case, or undefined when it is none. */
function domain(text: string): string | undefined {
  if (text.length > 1000) return undefined;
  const lower = text.toLowerCase();
  // ASCII is taken as it is, since URL hosts have their own ideas about numbers; but A-labels are checked.
  const host = /[^\0-\x7f]|(?:^|\.)xn--/.test(lower) ? domainToASCII(lower) : lower;
  return host.length <= 253 && hostForm.test(host) ? host : undefined;
}

/** @throws MalformedInput */
export function ipAddress(text: string, field: string): GeneralName {
  const octets = ipOctets(text);
  if (!octets) throw new MalformedInput(field, `${quoted(text)} is no IPv4 or IPv6 address`);
  return { kind: "ip", value: ipText(octets) };
}

/** The 4 or 16 octets of an address. */
function ipOctets(text: string): Buffer | undefined {
  if (isIP(text) === 4) return Buffer.from(text.split(".").map(Number));
  if (isIP(text) !== 6 || text.includes("%")) return undefined;
  const host = new URL(`http://[${text}]`).hostname.slice(1, -1);
  const [head = "", tail] = host.split("::");
  const groups = (part: string) => (part === "" ? [] : part.split(":"));
  const [before, after] = [groups(head), groups(tail ?? "")];
  const all = [...before, ...new Array<string>(8 - before.length - after.length).fill("0"), ...after];
  return Buffer.from(all.map((group) => group.padStart(4, "0")).join(""), "hex");
}

/** In the form of RFC 5952. */
function ipText(octets: Buffer): string {
  if (octets.length === 4) return octets.join(".");
  const groups = octets.toString("hex").replace(/....(?=.)/g, "$&:");
  return new URL(`http://[${groups}]`).hostname.slice(1, -1);
}

/**
 * An absolute URI. An internationalised one is mapped as RFC 5280 7.4 and RFC 3987 3.1 say.
 *
 * @throws MalformedInput
 */
export function uri(text: string, field: string): GeneralName {
  const fail = (problem: string): never => {
    throw new MalformedInput(field, `${quoted(text)} ${problem}`);
  };
  if (text.length > 2048) fail("is longer than 2048 characters");
  if (!text.isWellFormed()) fail("is not valid Unicode");
  const ascii = (part: string) => part.replace(/[^\0-\x7f]+/g, (run) => encodeURIComponent(run));
  const [, scheme = "", authority, rest = ""] = /^([A-Za-z][A-Za-z0-9+.-]*):(?:\/\/([^/?#]*))?(.+)?$/s.exec(text) ?? [];
  if (scheme === "" || (authority === undefined && rest === ""))
    fail("is no absolute URI, such as spiffe://example.com/name");
  let mapped = `${scheme.toLowerCase()}:`;
  if (authority !== undefined) {
    const [, user = "", host = "", port = ""] = /^(?:(.*)@)?(\[[^\]]*\]|[^:]*)(:\d*)?$/s.exec(authority) ?? [];
    const literal = ipOctets(host.replace(/^\[(.*)\]$/, "$1"));
    const name = literal ? host.toLowerCase() : domain(host);
    // RFC 5280 4.2.1.6: with an authority there must be a host.
    if (!name) return fail("has no host name or address after //");
    mapped += `//${user && `${ascii(user)}@`}${name}${port}`;
  }
  mapped += ascii(rest);
  if (!/^(?:[A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+$/.test(mapped))
    fail("holds a character that must be percent-encoded");
  return { kind: "uri", value: mapped };
}

const dotAtom = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/;
const utf8DotAtom =
  /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\u{10ffff}-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\u{10ffff}-]+)*$/u;

/**
 * A mail address: rfc822Name, or SmtpUTF8Mailbox when its local part is not ASCII (RFC 9598). The domain is in A-labels.
 *
 * @throws MalformedInput
 */
export function mailbox(text: string, field: string): GeneralName {
  const cut = text.lastIndexOf("@");
  const local = text.slice(0, Math.max(cut, 0));
  const host = domain(text.slice(cut + 1));
  if (cut > 0 && cut <= 64 && host) {
    if (dotAtom.test(local)) return { kind: "email", value: `${local}@${host}` };
    if (utf8DotAtom.test(local) && !/[\p{Cc}\p{Cs}\p{Z}]/u.test(local)) {
      return { kind: "other", oid: oids.smtpUtf8Mailbox, value: der.utf8(`${local.normalize("NFC")}@${host}`) };
    }
  }
  throw new MalformedInput(field, `${quoted(text)} is no mail address, such as orders@example.com`);
}

/** @throws MalformedInput */
export function otherName(oid: string, utf8Value: string, field: string): GeneralName {
  if (!isOid(oid))
    throw new MalformedInput(`${field}.oid`, `${quoted(oid)} is no object identifier, such as 1.3.6.1.4.1.311.20.2.3`);
  if (utf8Value === "" || utf8Value.length > 1024 || !utf8Value.isWellFormed()) {
    throw new MalformedInput(`${field}.utf8Value`, "must have 1 to 1024 characters");
  }
  return { kind: "other", oid, value: der.utf8(utf8Value) };
}

/** Name constraints: names outside `permitted` (of the kinds that stand there) and inside `excluded` are not trusted. */
export interface NameConstraints {
  readonly permitted: readonly GeneralName[];
  readonly excluded: readonly GeneralName[];
}

/** One side of `spec.nameConstraints`, with the field names of cert-manager. */
export interface ConstrainedNames {
  /** `example.com`: it and everything below; `.example.com`: what is below. */
  readonly dnsDomains?: readonly string[];
  /** CIDR. */
  readonly ipRanges?: readonly string[];
  /** A mailbox, a host, or `.example.com` for everything below. */
  readonly emailAddresses?: readonly string[];
  /** A host, or `.example.com` for everything below. */
  readonly uriDomains?: readonly string[];
}

/**
 * The name constraints that a resource asks for; undefined when it asks for none.
 *
 * @throws MalformedInput naming the field and its index
 */
export function nameConstraints(
  spec: { readonly permitted?: ConstrainedNames; readonly excluded?: ConstrainedNames } | undefined,
  field = "nameConstraints",
): NameConstraints | undefined {
  const side = (names: ConstrainedNames | undefined, path: string): GeneralName[] => {
    const each = (key: keyof ConstrainedNames, to: (text: string, at: string) => GeneralName | undefined) =>
      (names?.[key] ?? []).map((text, index) => {
        const at = `${path}.${key}[${index}]`;
        const name = to(text, at);
        if (name) return name;
        throw new MalformedInput(at, `${quoted(text)} ${expected[key]}`);
      });
    return distinct([
      ...each("dnsDomains", (text) => domainConstraint("dns", text)),
      ...each("ipRanges", ipRange),
      ...each("emailAddresses", (text, at) =>
        text.includes("@") ? mailboxConstraint(text, at) : domainConstraint("email", text),
      ),
      ...each("uriDomains", (text) => domainConstraint("uri", text)),
    ]);
  };
  const permitted = side(spec?.permitted, `${field}.permitted`);
  const excluded = side(spec?.excluded, `${field}.excluded`);
  return permitted.length + excluded.length > 0 ? { permitted, excluded } : undefined;
}

const expected: Record<keyof ConstrainedNames, string> = {
  dnsDomains: "is no domain, such as example.com",
  ipRanges: "is no range, such as 10.0.0.0/8",
  emailAddresses: "is no mailbox, host or domain, such as example.com",
  uriDomains: "is no host or domain, such as .example.com",
};

function domainConstraint(kind: "dns" | "email" | "uri", text: string): GeneralName | undefined {
  const dot = text.startsWith(".") ? "." : "";
  const host = domain(text.slice(dot.length));
  return host ? { kind, value: `${dot}${host}` } : undefined;
}

function mailboxConstraint(text: string, field: string): GeneralName | undefined {
  const name = mailbox(text, field);
  return name.kind === "email" ? name : undefined;
}

/** A range of addresses in CIDR form, undefined when the text is none; bits behind the prefix are cleared. */
export function ipRange(text: string): GeneralName | undefined {
  const [, address = "", digits = ""] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const octets = ipOctets(address);
  const prefix = Number(digits);
  if (!octets || prefix > octets.length * 8) return undefined;
  const network = octets.map((octet, at) => octet & (maskOctet(prefix, at) ?? 0));
  return { kind: "ip", value: `${ipText(Buffer.from(network))}/${prefix}` };
}

const maskOctet = (prefix: number, at: number): number => (0xff00 >> Math.max(0, Math.min(8, prefix - at * 8))) & 0xff;

/** Whether an address, or the whole of a range, lies in a range. */
export function inIpRange(ip: string, range: string): boolean {
  const [address = "", length] = ip.split("/");
  const [network = "", prefix = ""] = range.split("/");
  const octets = ipOctets(address);
  const start = ipOctets(network);
  if (!octets || octets.length !== start?.length || Number(length ?? 128) < Number(prefix)) return false;
  return octets.every((octet, at) => ((octet ^ (start[at] ?? 0)) & maskOctet(Number(prefix), at)) === 0);
}

const tagOf = { other: 0, email: 1, dns: 2, directory: 4, uri: 6, ip: 7 } as const;

export function encodeGeneralName(name: GeneralName): Buffer {
  const tag = der.contextTag(tagOf[name.kind], name.kind === "other" || name.kind === "directory");
  switch (name.kind) {
    case "other":
      return der.element(tag, [der.oid(name.oid), der.explicit(0, name.value)]);
    // Name is a CHOICE, so that its tag is explicit.
    case "directory":
      return der.element(tag, [encodeName(name.rdns)]);
    case "ip": {
      const [address = "", prefix] = name.value.split("/");
      const octets = ipOctets(address) ?? Buffer.alloc(0);
      const mask = prefix === undefined ? Buffer.alloc(0) : octets.map((_, at) => maskOctet(Number(prefix), at));
      return der.element(tag, [octets, mask]);
    }
    default:
      return der.element(tag, [Buffer.from(name.value, "latin1")]);
  }
}

/**
 * The next GeneralName, as it stands: texts are ASCII, but not yet {@link canonical}. x400Address, ediPartyName and registeredID
 * are refused.
 *
 * @param constraint whether it is the base of a name constraint, where an address has a mask
 * @throws DerError
 */
export function readGeneralName(reader: DerReader, constraint = false): GeneralName {
  const kind = (Object.keys(tagOf) as (keyof typeof tagOf)[]).find(
    (one) => der.contextTag(tagOf[one], one === "other" || one === "directory") === reader.next,
  );
  switch (kind) {
    case undefined:
      return reader.fail("a name of a kind that is not supported");
    case "other":
      return reader.inside(reader.next, (r) => ({
        kind,
        oid: r.oid(),
        value: r.explicit(0, (value) => value.any().der),
      }));
    case "directory":
      return { kind, rdns: reader.inside(reader.next, readName) };
    case "ip":
      return { kind, value: constraint ? readIpRange(reader) : readIp(reader) };
    default: {
      const content = reader.content(reader.next);
      if (content.some((octet) => octet >= 0x80)) reader.fail("a name is not ASCII");
      return { kind, value: content.toString("latin1") };
    }
  }
}

function readIp(reader: DerReader): string {
  const octets = reader.content(reader.next);
  return octets.length === 4 || octets.length === 16 ? ipText(octets) : reader.fail("an IP address of a wrong length");
}

function readIpRange(reader: DerReader): string {
  const octets = reader.content(reader.next);
  const half = octets.length / 2;
  if (half !== 4 && half !== 16) return reader.fail("an IP range of a wrong length");
  const mask = octets.subarray(half);
  const bits = mask.toString("hex").replace(/./g, (digit) => Number.parseInt(digit, 16).toString(2).padStart(4, "0"));
  if (bits.includes("01")) reader.fail("the mask of an IP range is not contiguous");
  return `${ipText(octets.subarray(0, half))}/${bits.lastIndexOf("1") + 1}`;
}

/** A name as a person reads it, with its kind: `DNS:example.com`. */
export function generalNameToString(name: GeneralName): string {
  switch (name.kind) {
    case "other":
      return `otherName:${name.oid}`;
    case "directory":
      return `dirName:${nameToString(name.rdns)}`;
    default:
      return `${{ dns: "DNS", ip: "IP", uri: "URI", email: "email" }[name.kind]}:${name.value}`;
  }
}

/** The mail address in a name: that of rfc822Name or SmtpUTF8Mailbox; undefined for any other name. */
export function mailboxOf(name: GeneralName): string | undefined {
  if (name.kind === "email") return name.value;
  if (name.kind !== "other" || name.oid !== oids.smtpUtf8Mailbox) return undefined;
  return readDer(name.value, (r) => {
    const content = r.next === der.tags.utf8String ? r.any().content : undefined;
    while (!r.done) r.any();
    return content && isUtf8(content) ? content.toString("utf8") : undefined;
  });
}
