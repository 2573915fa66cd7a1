/** Certificate revocation lists (RFC 5280 5), full ones only. */
import { setImmediate } from "node:timers/promises";
import type { RevocationReason, RevokedEntry } from "../ports/pki-store.ts";
import { DerReader, readDer } from "./der/reader.ts";
import {
  contextTag,
  enumerated,
  explicit,
  generalizedTime,
  ia5,
  implicit,
  integer,
  sequence,
  tags,
  time,
} from "./der/writer.ts";
import {
  authorityKeyIdentifier,
  type Extension,
  encodeExtensions,
  parseAuthorityKeyIdentifier,
  readExtensions,
} from "./extension.ts";
import { oids } from "./oid.ts";
import { type Signer, signed } from "./signer.ts";

export interface CrlTemplate {
  /** DER Name: the subject of the CA certificate, octet by octet. */
  readonly issuer: Buffer;
  /** Key identifier: the subjectKeyIdentifier of the CA certificate. */
  readonly authorityKeyIdentifier: Buffer;
  readonly number: bigint;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
  readonly entries: Iterable<RevokedEntry> | AsyncIterable<RevokedEntry>;
  /** URI, as it stands in the certificates that this CRL covers when it does not cover all of the CA's (RFC 5280 5.2.5). */
  readonly distributionPoint?: string;
}

/** CRLReason (RFC 5280 5.3.1); a hold that ends is gone from the next full CRL, so nothing here writes removeFromCRL. */
export const REASON_CODES: Readonly<Record<RevocationReason | "removeFromCRL", number>> = {
  unspecified: 0,
  keyCompromise: 1,
  cACompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  certificateHold: 6,
  removeFromCRL: 8,
  privilegeWithdrawn: 9,
  aACompromise: 10,
};

/** Entries made between two turns of the event loop: some milliseconds. */
const CHUNK = 2_000;

/** The DER of a CRL v2. Other work goes on while a long one is made. */
export async function signCrl(template: CrlTemplate, signer: Signer): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let chunk: Buffer[] = [];
  for await (const entry of template.entries) {
    chunk.push(encodeEntry(entry));
    if (chunk.length < CHUNK) continue;
    chunks.push(Buffer.concat(chunk));
    chunk = [];
    await setImmediate();
  }
  chunks.push(...chunk);
  const tbs = sequence(
    integer(1),
    signer.signatureAlgorithm,
    template.issuer,
    time(template.thisUpdate),
    time(template.nextUpdate),
    // An empty list must be absent (RFC 5280 5.1.2.6).
    ...(chunks.length === 0 ? [] : [sequence(...chunks)]),
    explicit(0, encodeExtensions(extensionsOf(template))),
  );
  return signed(tbs, signer);
}

function extensionsOf(template: CrlTemplate): Extension[] {
  const extensions: Extension[] = [
    authorityKeyIdentifier(template.authorityKeyIdentifier),
    { oid: oids.cRLNumber, critical: false, value: integer(template.number) },
  ];
  if (template.distributionPoint !== undefined) {
    const fullName = explicit(0, implicit(6, ia5(template.distributionPoint)));
    extensions.push({ oid: oids.issuingDistributionPoint, critical: true, value: sequence(explicit(0, fullName)) });
  }
  return extensions;
}

/** Extensions of an entry by its reason; unspecified is said by leaving it out (RFC 5280 5.3.1). */
const REASON_EXTENSIONS = new Map(
  Object.entries(REASON_CODES)
    .filter(([reason]) => reason !== "unspecified")
    .map(([reason, code]) => [reason, { oid: oids.cRLReason, critical: false, value: enumerated(code) }]),
);
/** Nearly every entry has no more than its reason. */
const ENCODED_REASONS = new Map(
  [...REASON_EXTENSIONS].map(([reason, extension]) => [reason, encodeExtensions([extension])]),
);
const NOTHING = Buffer.alloc(0);

function encodeEntry({ serialNumber, revocation }: RevokedEntry): Buffer {
  const { at, reason, invalidityDate } = revocation;
  const extensions =
    invalidityDate === undefined
      ? (ENCODED_REASONS.get(reason) ?? NOTHING)
      : encodeExtensions([
          ...[REASON_EXTENSIONS.get(reason) ?? []].flat(),
          { oid: oids.invalidityDate, critical: false, value: generalizedTime(invalidityDate) },
        ]);
  return sequence(integer(Buffer.from(serialNumber, "hex")), time(at), extensions);
}

export interface Crl {
  /** DER Name. */
  readonly issuer: Buffer;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date | undefined;
  readonly number: bigint | undefined;
  /** Key identifier. */
  readonly authorityKeyIdentifier: Buffer | undefined;
  /** URIs of the issuing distribution point; undefined: it has none, and the CRL is about all certificates of the CA. */
  readonly distributionPoints: readonly string[] | undefined;
  readonly extensions: ReadonlyMap<string, Extension>;
  /** Reads on as it is asked, since there may be hundreds of thousands; throws DerError. */
  entries(): Generator<CrlEntry, void>;
  readonly tbs: Buffer;
  readonly signatureAlgorithm: Buffer;
  readonly signature: Buffer;
}

export interface CrlEntry {
  /** Lower-case hex of the content octets. */
  readonly serialNumber: string;
  readonly revokedAt: Date;
  readonly reason: RevocationReason | "removeFromCRL";
  readonly invalidityDate: Date | undefined;
  readonly extensions: ReadonlyMap<string, Extension>;
}

/** Longest CRL that is read, in octets: more than a million entries. */
const MAX_CRL_OCTETS = 64 << 20;
const NO_EXTENSIONS: ReadonlyMap<string, Extension> = new Map();

/**
 * Reads a CRL of version 2; neither its signature nor its entries are looked at yet.
 *
 * @throws DerError
 */
export function parseCrl(der: Buffer): Crl {
  const read = <T>(bytes: Buffer, of: (reader: DerReader) => T) =>
    readDer(bytes, (r) => r.sequence(of), MAX_CRL_OCTETS);
  return read(der, (outer) => {
    const tbs = outer.any().der;
    const { innerAlgorithm, ...fields } = read(tbs, readFields);
    const signatureAlgorithm = outer.any().der;
    // RFC 5280 5.1.1.2
    if (!signatureAlgorithm.equals(innerAlgorithm)) outer.fail("the two signature algorithms differ");
    return { ...fields, tbs, signatureAlgorithm, signature: outer.bitString() };
  });
}

function readFields(r: DerReader) {
  if (r.number() !== 1) r.fail("not a CRL of version 2");
  const innerAlgorithm = r.any().der;
  const issuer = r.any().der;
  const thisUpdate = readTime(r);
  const nextUpdate = r.next === tags.utcTime || r.next === tags.generalizedTime ? readTime(r) : undefined;
  const list = r.next === tags.sequence ? r.content(tags.sequence) : undefined;
  if (list?.length === 0) r.fail("an empty list of revoked certificates");
  const extensions = r.next === contextTag(0, true) ? r.explicit(0, readExtensions) : NO_EXTENSIONS;
  const parsed = <T>(oid: string, read: (value: Buffer) => T): T | undefined => {
    const extension = extensions.get(oid);
    return extension && read(extension.value);
  };
  return {
    innerAlgorithm,
    issuer,
    thisUpdate,
    nextUpdate,
    extensions,
    number: parsed(oids.cRLNumber, (value) =>
      readDer(value, (inner) => BigInt(`0x${inner.integer().toString("hex")}`)),
    ),
    authorityKeyIdentifier: parsed(oids.authorityKeyIdentifier, parseAuthorityKeyIdentifier)?.keyIdentifier,
    distributionPoints: parsed(oids.issuingDistributionPoint, readDistributionPoint),
    entries: () => readEntries(list ?? Buffer.alloc(0)),
  };
}

/** A time in the one form that RFC 5280 (4.1.2.5, 5.1.2.4) has for it: UTCTime until 2049, GeneralizedTime after. */
export function readTime(r: DerReader): Date {
  const general = r.next === tags.generalizedTime;
  const at = r.time();
  return general === at.getUTCFullYear() >= 2050 ? at : r.fail("a GeneralizedTime before 2050");
}

/** URIs of its full name; other names and restrictions are none that MazeVault knows. */
function readDistributionPoint(value: Buffer): string[] {
  return readDer(value, (r) =>
    r.sequence((point) =>
      point.explicit(0, (name) =>
        name.list((one) => one.content(contextTag(6, false)).toString("latin1"), contextTag(0, true)),
      ),
    ),
  );
}

function* readEntries(list: Buffer): Generator<CrlEntry, void> {
  const reader = new DerReader(list, 0, list.length, 0);
  while (!reader.done) yield reader.sequence(readEntry);
}

const REASONS = new Map(Object.entries(REASON_CODES).map(([reason, code]) => [code, reason as CrlEntry["reason"]]));

function readEntry(r: DerReader): CrlEntry {
  const serialNumber = r.integer().toString("hex");
  const revokedAt = readTime(r);
  const extensions = r.done ? NO_EXTENSIONS : readExtensions(r);
  const reason = extensions.get(oids.cRLReason);
  const invalidity = extensions.get(oids.invalidityDate);
  return {
    serialNumber,
    revokedAt,
    reason:
      reason === undefined
        ? "unspecified"
        : readDer(reason.value, (inner) => reasonOf(inner.enumerated()) ?? inner.fail("no CRLReason")),
    invalidityDate: invalidity && readDer(invalidity.value, (inner) => inner.generalizedTime()),
    extensions,
  };
}

/** The CRLReason of a code. */
export const reasonOf = (code: number): CrlEntry["reason"] | undefined => REASONS.get(code);
