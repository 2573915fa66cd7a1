/** OCSP responses (RFC 6960 4.2, RFC 9919 3.2): signed by key, one or many answers, and the unsigned errors. */
import type { Revocation } from "../../ports/pki-store.ts";
import { REASON_CODES, reasonOf } from "../crl.ts";
import { type DerReader, readDer } from "../der/reader.ts";
import { bitString, contextTag, enumerated, explicit, generalizedTime, octetString, sequence } from "../der/writer.ts";
import { type Extension, encodeExtensions, readExtensions } from "../extension.ts";
import { encodedOid, oids } from "../oid.ts";
import type { Signer } from "../signer.ts";
import { type CertId, readCertId } from "./cert-id.ts";

/** What is known of one certificate, from thisUpdate to nextUpdate. */
export interface SingleResponse {
  /** DER CertID: the one of the request, or of `encodeCertId`. */
  readonly certId: Buffer;
  readonly status: "good" | "unknown" | Revocation;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date;
}

export interface OcspResponseTemplate {
  /** SHA-1 of the responder's public key: `keyHash("sha1", spki)` (RFC 6960 4.2.1). */
  readonly responderKeyHash: Buffer;
  readonly producedAt: Date;
  readonly responses: readonly SingleResponse[];
  /** Of the request. */
  readonly nonce?: Buffer;
  /** DER: the delegated responder's certificate, or none when the CA itself signs. */
  readonly certificates: readonly Buffer[];
}

const STATUS_CODES = {
  successful: 0,
  malformedRequest: 1,
  internalError: 2,
  tryLater: 3,
  sigRequired: 5,
  unauthorized: 6,
};
export type OcspResponseStatus = keyof typeof STATUS_CODES;

const GOOD = Buffer.of(contextTag(0, false), 0);
const UNKNOWN = Buffer.of(contextTag(2, false), 0);
const SUCCESSFUL = enumerated(STATUS_CODES.successful);
const BASIC = encodedOid(oids.ocspBasic);

/** The DER of a successful OCSPResponse. */
export async function signOcspResponse(template: OcspResponseTemplate, signer: Signer): Promise<Buffer> {
  const { nonce, certificates } = template;
  const data = sequence(
    explicit(2, octetString(template.responderKeyHash)),
    generalizedTime(template.producedAt),
    sequence(...template.responses.map(encodeSingle)),
    ...(nonce === undefined
      ? []
      : [explicit(1, encodeExtensions([{ oid: oids.ocspNonce, critical: false, value: octetString(nonce) }]))]),
  );
  const basic = sequence(
    data,
    signer.signatureAlgorithm,
    bitString(await signer.sign(data)),
    ...(certificates.length === 0 ? [] : [explicit(0, sequence(...certificates))]),
  );
  return sequence(SUCCESSFUL, explicit(0, sequence(BASIC, octetString(basic))));
}

function encodeSingle({ certId, status, thisUpdate, nextUpdate }: SingleResponse): Buffer {
  return sequence(certId, encodeStatus(status), generalizedTime(thisUpdate), explicit(0, generalizedTime(nextUpdate)));
}

function encodeStatus(status: SingleResponse["status"]): Buffer {
  if (status === "good") return GOOD;
  if (status === "unknown") return UNKNOWN;
  const { at, reason } = status;
  const code = reason === "unspecified" ? [] : [explicit(0, enumerated(REASON_CODES[reason]))];
  return explicit(1, generalizedTime(at), ...code);
}

/** The DER of an OCSPResponse that says why there is no answer; it is not signed (RFC 6960 2.3). */
export function errorResponse(status: Exclude<OcspResponseStatus, "successful">): Buffer {
  return sequence(enumerated(STATUS_CODES[status]));
}

/** A response as it was read: `basic` is there when it was successful. */
export interface OcspResponse {
  readonly status: OcspResponseStatus;
  readonly basic?: BasicOcspResponse;
}

export interface BasicOcspResponse {
  /** Undefined: the responder is named, which MazeVault's are not. */
  readonly responderKeyHash: Buffer | undefined;
  readonly producedAt: Date;
  readonly responses: readonly (Omit<SingleResponse, "certId" | "nextUpdate"> & {
    readonly certId: CertId;
    readonly nextUpdate: Date | undefined;
  })[];
  readonly nonce: Buffer | undefined;
  readonly extensions: ReadonlyMap<string, Extension>;
  /** DER. */
  readonly certificates: readonly Buffer[];
  /** What is signed. */
  readonly tbs: Buffer;
  readonly signatureAlgorithm: Buffer;
  readonly signature: Buffer;
}

const STATUSES = new Map(Object.entries(STATUS_CODES).map(([status, code]) => [code, status as OcspResponseStatus]));

/**
 * Reads a response; its signature is not looked at.
 *
 * @throws DerError; UnknownHash
 */
export function parseOcspResponse(der: Buffer): OcspResponse {
  return readDer(der, (reader) =>
    reader.sequence((outer) => {
      const status = STATUSES.get(outer.enumerated()) ?? outer.fail("no OCSPResponseStatus");
      if (status !== "successful") return { status };
      const basic = outer.explicit(0, (explicitly) =>
        explicitly.sequence((bytes) => {
          if (bytes.oid() !== oids.ocspBasic) bytes.fail("not a basic response");
          return bytes.octetString();
        }),
      );
      return { status, basic: readDer(basic, (inner) => inner.sequence(readBasic)) };
    }),
  );
}

function readBasic(reader: DerReader): BasicOcspResponse {
  const tbs = reader.any().der;
  return {
    ...readDer(tbs, (data) => data.sequence(readData)),
    tbs,
    signatureAlgorithm: reader.any().der,
    signature: reader.bitString(),
    certificates: reader.done ? [] : reader.explicit(0, (inner) => inner.list((one) => one.any().der)),
  };
}

function readData(reader: DerReader) {
  const byKey = reader.next === contextTag(2, true);
  const responderKeyHash = byKey ? reader.explicit(2, (inner) => inner.octetString()) : undefined;
  if (!byKey) reader.explicit(1, (inner) => inner.any());
  const producedAt = reader.generalizedTime();
  const responses = reader.list((each) => each.sequence(readSingle));
  const extensions: ReadonlyMap<string, Extension> = reader.done ? new Map() : reader.explicit(1, readExtensions);
  const nonce = extensions.get(oids.ocspNonce);
  return {
    responderKeyHash,
    producedAt,
    responses,
    extensions,
    nonce: nonce && readDer(nonce.value, (inner) => inner.octetString()),
  };
}

function readSingle(reader: DerReader): BasicOcspResponse["responses"][number] {
  const certId = readCertId(reader);
  const status = readStatus(reader);
  const thisUpdate = reader.generalizedTime();
  const nextUpdate = reader.optional(contextTag(0, true), (r) => r.explicit(0, (inner) => inner.generalizedTime()));
  reader.optional(contextTag(1, true), (r) => r.explicit(1, readExtensions));
  return { certId, status, thisUpdate, nextUpdate };
}

function readStatus(reader: DerReader): SingleResponse["status"] {
  if (reader.next === contextTag(1, true)) {
    return reader.explicit(1, (revoked) => {
      const at = revoked.generalizedTime();
      const reason = revoked.done ? "unspecified" : revoked.explicit(0, (inner) => reasonOf(inner.enumerated()));
      return reason === undefined || reason === "removeFromCRL"
        ? revoked.fail("no reason for a revocation")
        : { at, reason };
    });
  }
  const { der } = reader.any();
  if (der.equals(GOOD)) return "good";
  return der.equals(UNKNOWN) ? "unknown" : reader.fail("no CertStatus");
}
