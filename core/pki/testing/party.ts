import { createHash } from "node:crypto";
import { type CertificateTemplate, signCertificate } from "../certificate.ts";
import {
  authorityKeyIdentifier,
  basicConstraints,
  type Extension,
  extendedKeyUsage,
  keyUsage,
  subjectAltName,
  subjectKeyIdentifier,
} from "../extension.ts";
import { generateKey, type KeySpec, keyIdentifier } from "../key.ts";
import { encodeName, type RdnSequence } from "../name.ts";
import { oids } from "../oid.ts";
import { LocalSigner, type Signer } from "../signer.ts";

/** Somebody with a key and a certificate. */
export interface Party {
  readonly signer: Signer;
  readonly subject: Buffer;
  readonly keyIdentifier: Buffer;
  /** DER. */
  readonly certificate: Buffer;
}

export interface PartyRequest {
  /** Common name, or the whole subject. */
  readonly name: string | RdnSequence;
  /** Absent: self-signed. */
  readonly issuer?: Party;
  /** The key of another party, or which kind of key; P-256 unless given. */
  readonly key?: KeySpec | Signer;
  /** A CA; with its path length if a number. */
  readonly ca?: boolean | number;
  /** What becomes of the usual extensions, before it is signed. */
  readonly extensions?: (usual: readonly Extension[]) => readonly Extension[];
  readonly template?: Partial<CertificateTemplate>;
}

/** A party with whatever certificate was asked for, right or wrong. */
export async function party(request: PartyRequest): Promise<Party> {
  const { name, issuer, key = { algorithm: "ECDSA", size: 256 }, ca = false } = request;
  const signer = "sign" in key ? key : new LocalSigner(await generateKey(key));
  const subject = encodeName(typeof name === "string" ? [[{ type: oids.commonName, value: name }]] : name);
  const own = keyIdentifier(signer.spki);
  const usual: Extension[] =
    ca !== false
      ? [
          basicConstraints(ca === true ? { ca: true } : { ca: true, pathLength: ca }),
          keyUsage(["keyCertSign", "cRLSign"]),
        ]
      : [
          keyUsage(["digitalSignature"]),
          extendedKeyUsage([oids.serverAuth, oids.clientAuth]),
          subjectAltName([{ kind: "dns", value: "leaf.example.com" }], false),
        ];
  usual.push(subjectKeyIdentifier(own), authorityKeyIdentifier(issuer?.keyIdentifier ?? own));
  const template: CertificateTemplate = {
    serialNumber: createHash("sha256").update(signer.spki).digest().subarray(0, 16),
    issuer: issuer?.subject ?? subject,
    subject,
    notBefore: new Date(Date.now() - 3_600_000),
    // Of who is issued by another a little less, so that nobody outlives the issuer.
    notAfter: new Date(Date.now() + (issuer === undefined ? 86_400_000 : 80_000_000)),
    spki: signer.spki,
    extensions: request.extensions?.(usual) ?? usual,
    ...request.template,
  };
  const certificate = await signCertificate(template, issuer?.signer ?? signer);
  return { signer, subject, keyIdentifier: own, certificate };
}
