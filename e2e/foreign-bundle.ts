/** What a core Secret of type kubernetes.io/tls holds when another CA made it. */
import { generateKeyPairSync } from "node:crypto";
import { subjectAltName } from "../core/pki/extension.ts";
import { oids } from "../core/pki/oid.ts";
import { pem } from "../core/pki/pem.ts";
import { LocalSigner } from "../core/pki/signer.ts";
import { party } from "../core/pki/testing/party.ts";

export const FOREIGN_CA = "Another CA";
const DAY_MS = 86_400_000;

/** A key of P-256 and a certificate without a subject, with these names, from so many days ago until in so many days. */
export async function foreignBundle(
  dnsNames: readonly string[],
  [ago, left]: readonly [number, number] = [1, 89],
): Promise<Record<"tls.key" | "tls.crt" | "ca.crt", string>> {
  const ca = await party({ name: FOREIGN_CA, ca: true });
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const names = dnsNames.map((value) => ({ kind: "dns" as const, value }));
  const { certificate } = await party({
    name: [],
    issuer: ca,
    key: new LocalSigner(privateKey),
    extensions: (usual) => [...usual.filter(({ oid }) => oid !== oids.subjectAltName), subjectAltName(names, true)],
    template: { notBefore: new Date(Date.now() - ago * DAY_MS), notAfter: new Date(Date.now() + left * DAY_MS) },
  });
  return {
    "tls.key": privateKey.export({ type: "sec1", format: "pem" }).toString(),
    "tls.crt": pem("CERTIFICATE", certificate),
    "ca.crt": pem("CERTIFICATE", ca.certificate),
  };
}
