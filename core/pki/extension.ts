/** Certificate extensions (RFC 5280 4.2): writing those that MazeVault issues, reading those that it judges. */
import { type DerReader, readDer } from "./der/reader.ts";
import * as der from "./der/writer.ts";
import { encodeGeneralName, type GeneralName, type NameConstraints, readGeneralName } from "./general-name.ts";
import { oids } from "./oid.ts";

export interface Extension {
  /** Dotted OID. */
  readonly oid: string;
  readonly critical: boolean;
  /** Content of extnValue: the DER of the extension's own type. */
  readonly value: Buffer;
}

/** SEQUENCE OF Extension, in the order given. */
export const encodeExtensions = (extensions: readonly Extension[]): Buffer =>
  der.sequence(
    ...extensions.map(({ oid, critical, value }) =>
      der.sequence(der.oid(oid), ...(critical ? [isCritical] : []), der.octetString(value)),
    ),
  );

const isCritical = der.boolean(true);

/** SEQUENCE OF Extension; each once (RFC 5280 4.2). Keyed by OID. */
export function readExtensions(reader: DerReader): ReadonlyMap<string, Extension> {
  const found = new Map<string, Extension>();
  reader.list((list) =>
    list.sequence((r) => {
      const oid = r.oid();
      if (found.has(oid)) r.fail(`the extension ${oid} stands there twice`);
      found.set(oid, { oid, critical: r.flag(), value: r.octetString() });
    }),
  );
  return found;
}

const extension = (oid: string, critical: boolean, value: Buffer): Extension => ({ oid, critical, value });

export interface BasicConstraints {
  readonly ca: boolean;
  /** How many CA certificates may stand between this one and a leaf; undefined: any number. */
  readonly pathLength?: number;
}

/** Critical, as it must be in certificates of a CA and may be in others (RFC 5280 4.2.1.9). */
export const basicConstraints = ({ ca, pathLength }: BasicConstraints): Extension =>
  extension(
    oids.basicConstraints,
    true,
    der.sequence(...(ca ? [der.boolean(true), ...(pathLength === undefined ? [] : [der.integer(pathLength)])] : [])),
  );

export const parseBasicConstraints = (value: Buffer): BasicConstraints =>
  readDer(value, (r) =>
    r.sequence((s) => {
      const ca = s.flag();
      const pathLength = s.optional(der.tags.integer, (i) => i.number());
      if (!ca && pathLength !== undefined) s.fail("a path length without being a CA");
      return pathLength === undefined ? { ca } : { ca, pathLength };
    }),
  );

/** In the order of their bits (RFC 5280 4.2.1.3). */
export const keyUsages = [
  "digitalSignature",
  "contentCommitment",
  "keyEncipherment",
  "dataEncipherment",
  "keyAgreement",
  "keyCertSign",
  "cRLSign",
  "encipherOnly",
  "decipherOnly",
] as const;
export type KeyUsage = (typeof keyUsages)[number];

export const keyUsage = (usages: readonly KeyUsage[]): Extension =>
  extension(oids.keyUsage, true, der.namedBits(usages.map((usage) => keyUsages.indexOf(usage))));

export const parseKeyUsage = (value: Buffer): KeyUsage[] =>
  readDer(value, (r) => {
    const bits = r.namedBits();
    return bits.map((bit) => keyUsages[bit] ?? r.fail("an unknown key usage"));
  });

/** @param purposes dotted OIDs */
export const extendedKeyUsage = (purposes: readonly string[]): Extension =>
  extension(oids.extendedKeyUsage, false, der.sequence(...purposes.map(der.oid)));

export const parseExtendedKeyUsage = (value: Buffer): string[] =>
  readDer(value, (r) =>
    atLeastOne(
      r,
      r.list((list) => list.oid()),
    ),
  );

export const subjectKeyIdentifier = (keyIdentifier: Buffer): Extension =>
  extension(oids.subjectKeyIdentifier, false, der.octetString(keyIdentifier));

export const parseSubjectKeyIdentifier = (value: Buffer): Buffer => readDer(value, (r) => r.octetString());

export interface AuthorityKeyIdentifier {
  readonly keyIdentifier?: Buffer;
  readonly issuer?: readonly GeneralName[];
  /** Content octets of the INTEGER. */
  readonly serialNumber?: Buffer;
}

export const authorityKeyIdentifier = (keyIdentifier: Buffer): Extension =>
  extension(oids.authorityKeyIdentifier, false, der.sequence(der.implicit(0, der.octetString(keyIdentifier))));

export const parseAuthorityKeyIdentifier = (value: Buffer): AuthorityKeyIdentifier =>
  readDer(value, (r) =>
    r.sequence((s) => {
      const keyIdentifier = s.optional(der.contextTag(0, false), (i) => i.octetString(der.contextTag(0, false)));
      const issuer = s.optional(der.contextTag(1, true), (i) =>
        i.list((one) => readGeneralName(one), der.contextTag(1, true)),
      );
      const serialNumber = s.optional(der.contextTag(2, false), (i) => i.integer(der.contextTag(2, false)));
      return {
        ...(keyIdentifier && { keyIdentifier }),
        ...(issuer && { issuer }),
        ...(serialNumber && { serialNumber }),
      };
    }),
  );

/** @param critical exactly when the subject is empty (RFC 5280 4.2.1.6) */
export const subjectAltName = (names: readonly GeneralName[], critical: boolean): Extension =>
  extension(oids.subjectAltName, critical, der.element(der.tags.sequence, names.map(encodeGeneralName)));

export const parseSubjectAltName = (value: Buffer): GeneralName[] =>
  readDer(value, (r) =>
    atLeastOne(
      r,
      r.list((list) => readGeneralName(list)),
    ),
  );

export const nameConstraintsExtension = ({ permitted, excluded }: NameConstraints): Extension => {
  const subtrees = (n: number, names: readonly GeneralName[]) =>
    names.length > 0 ? [der.explicit(n, ...names.map((base) => der.sequence(encodeGeneralName(base))))] : [];
  return extension(oids.nameConstraints, true, der.sequence(...subtrees(0, permitted), ...subtrees(1, excluded)));
};

export const parseNameConstraints = (value: Buffer): NameConstraints =>
  readDer(value, (r) =>
    r.sequence((s) => {
      // minimum is always 0 and so left out, maximum is absent (RFC 5280 4.2.1.10): a subtree is its base.
      const subtrees = (n: number) =>
        s.optional(der.contextTag(n, true), (o) =>
          atLeastOne(
            o,
            o.list((list) => list.sequence((base) => readGeneralName(base, true)), der.contextTag(n, true)),
          ),
        );
      const permitted = subtrees(0);
      const excluded = subtrees(1);
      if (!permitted && !excluded) s.fail("name constraints without a name");
      return { permitted: permitted ?? [], excluded: excluded ?? [] };
    }),
  );

/** @param urls of one and the same CRL (RFC 5280 4.2.1.13) */
export const cRLDistributionPoints = (urls: readonly string[]): Extension =>
  extension(
    oids.cRLDistributionPoints,
    false,
    der.sequence(der.sequence(der.explicit(0, der.explicit(0, ...urls.map(encodeUrl))))),
  );

const encodeUrl = (url: string): Buffer => encodeGeneralName({ kind: "uri", value: url });

/** URLs of all distribution points; other ways of naming them are passed over. */
export const parseCRLDistributionPoints = (value: Buffer): string[] =>
  readDer(value, (r) =>
    r.list((list) =>
      list.sequence((point) => {
        const urls = point.optional(der.contextTag(0, true), (name) =>
          name.explicit(0, (choice) => {
            if (choice.next === der.contextTag(0, true))
              return urlsOf(choice.list((one) => readGeneralName(one), choice.next));
            choice.any();
            return [];
          }),
        );
        while (!point.done) point.any();
        return urls ?? [];
      }),
    ),
  ).flat();

const urlsOf = (names: readonly GeneralName[]): string[] =>
  names.flatMap((name) => (name.kind === "uri" ? [name.value] : []));

export interface AuthorityInfoAccess {
  readonly ocsp: readonly string[];
  /** Where the issuer's certificate is. */
  readonly caIssuers: readonly string[];
}

export const authorityInfoAccess = ({ ocsp, caIssuers }: AuthorityInfoAccess): Extension =>
  extension(
    oids.authorityInfoAccess,
    false,
    der.sequence(
      ...ocsp.map((url) => der.sequence(der.oid(oids.accessOcsp), encodeUrl(url))),
      ...caIssuers.map((url) => der.sequence(der.oid(oids.accessCaIssuers), encodeUrl(url))),
    ),
  );

export const parseAuthorityInfoAccess = (value: Buffer): AuthorityInfoAccess =>
  readDer(value, (r) => {
    const all = r.list((list) => list.sequence((one) => ({ method: one.oid(), name: readGeneralName(one) })));
    const by = (method: string) => urlsOf(all.filter((one) => one.method === method).map(({ name }) => name));
    return { ocsp: by(oids.accessOcsp), caIssuers: by(oids.accessCaIssuers) };
  });

/** id-pkix-ocsp-nocheck: nobody asks whether the OCSP responder itself is revoked (RFC 6960 4.2.2.2.1). */
export const ocspNoCheck = (): Extension => extension(oids.ocspNoCheck, false, der.nothing());

function atLeastOne<T>(reader: DerReader, list: T[]): T[] {
  return list.length > 0 ? list : reader.fail("an empty list");
}
