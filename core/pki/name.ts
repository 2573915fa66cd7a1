/** Distinguished names: their DER, their text form (RFC 4514), and when two are the same (RFC 5280 7.1). */
import { type DerReader, readDer } from "./der/reader.ts";
import * as der from "./der/writer.ts";
import { MalformedInput, quoted } from "./malformed-input.ts";
import { isOid, oids } from "./oid.ts";

/** One attribute of a name. */
export interface Attribute {
  /** Dotted OID. */
  readonly type: string;
  readonly value: string;
}

/** A name from its most significant part on, as it is encoded: country first, common name last. */
export type RdnSequence = readonly (readonly Attribute[])[];

/** `spec.commonName` and `spec.subject` of a Certificate. */
export interface Subject {
  readonly commonName?: string;
  readonly organizations?: readonly string[];
  readonly countries?: readonly string[];
  readonly organizationalUnits?: readonly string[];
  readonly localities?: readonly string[];
  readonly provinces?: readonly string[];
}

type Form = "utf8" | "printable" | "country" | "ia5";
interface AttributeType {
  readonly type: string;
  /** As RFC 4514 and its users write it. */
  readonly label: string;
  /** Upper bound in characters (RFC 5280 A.1, X.520). */
  readonly max: number;
  readonly form: Form;
}

const attributeTypes: readonly AttributeType[] = [
  { type: oids.commonName, label: "CN", max: 64, form: "utf8" },
  { type: oids.surname, label: "SN", max: 64, form: "utf8" },
  { type: oids.serialNumber, label: "SERIALNUMBER", max: 64, form: "printable" },
  { type: oids.countryName, label: "C", max: 2, form: "country" },
  { type: oids.localityName, label: "L", max: 128, form: "utf8" },
  { type: oids.stateOrProvinceName, label: "ST", max: 128, form: "utf8" },
  { type: oids.streetAddress, label: "STREET", max: 128, form: "utf8" },
  { type: oids.organizationName, label: "O", max: 64, form: "utf8" },
  { type: oids.organizationalUnitName, label: "OU", max: 64, form: "utf8" },
  { type: oids.title, label: "TITLE", max: 64, form: "utf8" },
  { type: oids.postalCode, label: "POSTALCODE", max: 40, form: "utf8" },
  { type: oids.givenName, label: "GIVENNAME", max: 64, form: "utf8" },
  { type: oids.userId, label: "UID", max: 256, form: "utf8" },
  { type: oids.domainComponent, label: "DC", max: 63, form: "ia5" },
  { type: oids.emailAddress, label: "EMAILADDRESS", max: 255, form: "ia5" },
];
const byType = new Map(attributeTypes.map((one) => [one.type, one]));
const byLabel = new Map(attributeTypes.map((one) => [one.label, one]));

/** The short name of an attribute type, or its OID. */
export const attributeLabel = (type: string): string => byType.get(type)?.label ?? type;

const forms: Record<Form, { accepts: RegExp; expected: string; encode: (text: string) => Buffer }> = {
  utf8: { accepts: /^[^\p{Cc}\p{Cs}]+$/u, expected: "text without control characters", encode: der.utf8 },
  printable: {
    accepts: /^[A-Za-z0-9 '()+,./:=?-]+$/,
    expected: "letters, digits, space and '()+,-./:=?",
    encode: der.printable,
  },
  country: { accepts: /^[A-Z]{2}$/, expected: "two capital letters (ISO 3166)", encode: der.printable },
  ia5: { accepts: /^[\x20-\x7e]+$/, expected: "ASCII text", encode: der.ia5 },
};
const ofUnknownType = { max: 1024, form: "utf8" } as const;

/**
 * DER of a name.
 *
 * @param field what a problem is reported of
 * @throws MalformedInput for a value that its attribute type does not take, or a type twice in one RDN (X.501 9.3)
 */
export function encodeName(name: RdnSequence, field = "subject"): Buffer {
  return der.sequence(
    ...name.map((rdn) => {
      if (rdn.length === 0 || new Set(rdn.map(({ type }) => type)).size < rdn.length) {
        throw new MalformedInput(field, "a part of the name is empty or has an attribute type twice");
      }
      return der.setOf(...rdn.map((attribute) => encodeAttribute(attribute, field)));
    }),
  );
}

function encodeAttribute({ type, value }: Attribute, field: string): Buffer {
  const { max, form } = byType.get(type) ?? ofUnknownType;
  const { accepts, expected, encode } = forms[form];
  const label = attributeLabel(type);
  if (!accepts.test(value)) throw new MalformedInput(field, `${label} ${quoted(value)} must be ${expected}`);
  const length = [...value].length;
  if (length > max) throw new MalformedInput(field, `${label} has ${length} characters; at most ${max} are allowed`);
  return der.sequence(der.oid(type), encode(value));
}

/** @throws DerError, also for values that are no strings */
export function readName(reader: DerReader): RdnSequence {
  return reader.list((rdns) => {
    const rdn = rdns.setOf((set) => set.sequence((pair) => ({ type: pair.oid(), value: readString(pair) })));
    return rdn.length > 0 ? rdn : rdns.fail("a part of a name is empty");
  });
}

/** A name from its DER; throws DerError. */
export const parseName = (encoded: Buffer): RdnSequence => readDer(encoded, readName);

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const utf16 = new TextDecoder("utf-16be", { fatal: true, ignoreBOM: true });

function readString(reader: DerReader): string {
  const { tag, content } = reader.any();
  const text = decodeString(tag, content);
  return text || reader.fail("a value in a name is empty, or no text of its type");
}

function decodeString(tag: number, content: Buffer): string | undefined {
  const ascii = content.toString("latin1");
  try {
    switch (tag) {
      case der.tags.utf8String:
        return utf8.decode(content);
      case der.tags.printableString:
        return /^[A-Za-z0-9 '()+,./:=?-]*$/.test(ascii) ? ascii : undefined;
      case der.tags.numericString:
        return /^[0-9 ]*$/.test(ascii) ? ascii : undefined;
      case der.tags.ia5String:
        return content.every((octet) => octet < 0x80) ? ascii : undefined;
      case der.tags.bmpString:
        return utf16.decode(content);
      // What old CAs put there is ISO 8859-1, whatever T.61 says.
      case der.tags.teletexString:
        return ascii;
      default:
        return undefined;
    }
  } catch {
    return undefined;
  }
}

/** The name of `spec.commonName` and `spec.subject`: one RDN for each value, the common name last. */
export function fromSubject(subject: Subject): RdnSequence {
  const all = (type: string, values: readonly string[] | undefined) => (values ?? []).map((value) => [{ type, value }]);
  return [
    ...all(oids.countryName, subject.countries),
    ...all(oids.stateOrProvinceName, subject.provinces),
    ...all(oids.localityName, subject.localities),
    ...all(oids.organizationName, subject.organizations),
    ...all(oids.organizationalUnitName, subject.organizationalUnits),
    ...all(oids.commonName, subject.commonName === undefined ? [] : [subject.commonName]),
  ];
}

/**
 * A name written as RFC 4514 says, least significant part first: `CN=orders,OU=Payments,O=Example`. Spaces around separators do
 * not count.
 *
 * @throws MalformedInput naming the position
 */
export function parseLiteralSubject(text: string, field = "literalSubject"): RdnSequence {
  if (text.length > 4096) throw new MalformedInput(field, "has more than 4096 characters");
  const rdns: Attribute[][] = [[]];
  const typeForm = / *([A-Za-z][A-Za-z0-9-]*|\d+(?:\.\d+)+) *= */y;
  const valueForm = /#(?:[0-9A-Fa-f]{2})+ *|(?!#)(?:\\(?:[0-9A-Fa-f]{2}|[ "#+,;<=>\\])|[^\\"+,;<>\0])+/y;
  let at = 0;
  const take = (form: RegExp, what: string): string => {
    form.lastIndex = at;
    const match = form.exec(text);
    if (!match) throw new MalformedInput(field, `${what} is expected at character ${at + 1}`);
    at = form.lastIndex;
    return match[1] ?? match[0];
  };
  for (let separator = ","; separator; separator = text.charAt(at++)) {
    if (separator === "," && at > 0) rdns.unshift([]);
    else if (separator !== "," && separator !== "+") {
      throw new MalformedInput(
        field,
        `${quoted(separator)} before character ${at + 1} must be escaped with a backslash`,
      );
    }
    const label = take(typeForm, "an attribute type and = (such as CN= or O=)");
    const type = byLabel.get(label.toUpperCase())?.type ?? byLabelAlso[label.toUpperCase()] ?? label;
    if (!isOid(type)) throw new MalformedInput(field, `${quoted(label)} is no attribute type; use its OID`);
    const value = unescaped(take(valueForm, "a value, with special characters escaped by a backslash,"), field);
    rdns[0]?.push({ type, value });
  }
  return rdns;
}

const byLabelAlso: Readonly<Record<string, string>> = { E: oids.emailAddress, S: oids.stateOrProvinceName };

function unescaped(value: string, field: string): string {
  if (value.startsWith("#")) {
    try {
      return readDer(Buffer.from(value.slice(1).trim(), "hex"), readString);
    } catch {
      throw new MalformedInput(field, "a value after # must be the DER of a string in hexadecimal");
    }
  }
  const parts = [...value.matchAll(/\\([0-9A-Fa-f]{2})|\\(.)|([^\\]+)/gs)].map(([, hex, escaped, plain], at, all) => {
    if (hex) return Buffer.from(hex, "hex");
    return Buffer.from(escaped ?? (at === all.length - 1 ? plain?.replace(/ +$/, "") : plain) ?? "", "utf8");
  });
  try {
    return utf8.decode(Buffer.concat(parts));
  } catch {
    throw new MalformedInput(field, "the escaped octets of a value are not UTF-8");
  }
}

/** The name as RFC 4514 writes it; {@link parseLiteralSubject} reads it. */
export function nameToString(name: RdnSequence): string {
  return name
    .map((rdn) => rdn.map(({ type, value }) => `${attributeLabel(type)}=${escaped(value)}`).join("+"))
    .reverse()
    .join(",");
}

const escaped = (value: string): string =>
  value
    .replace(/["+,;<>\\]/g, "\\$&")
    .replace(/\0/g, "\\00")
    .replace(/ $/, "\\ ")
    .replace(/^[ #]/, "\\$&");

/** Whether two names are the same: letter case, width and runs of spaces do not count (RFC 5280 7.1, RFC 4518). */
export function sameName(a: RdnSequence, b: RdnSequence): boolean {
  return a.length === b.length && a.every((rdn, at) => comparable(rdn) === comparable(b[at] ?? []));
}

const comparable = (rdn: readonly Attribute[]): string =>
  JSON.stringify(
    rdn
      .map(({ type, value }) => [type, value.normalize("NFKC").toLowerCase().trim().replace(/\s+/g, " ")].join("="))
      .sort(),
  );
