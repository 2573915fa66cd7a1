/** Whatever comes in for a signing request, a `CsrError` goes out, with a message that can stand in a status. */
import { sign } from "node:crypto";
import { CsrError, createCsr, parseCsr } from "../../csr.ts";
import { readDer } from "../../der/reader.ts";
import * as der from "../../der/writer.ts";
import {
  basicConstraints,
  extendedKeyUsage,
  keyUsage,
  nameConstraintsExtension,
  subjectAltName,
} from "../../extension.ts";
import { nameConstraints, subjectAltNames } from "../../general-name.ts";
import { generateKey, type KeySpec } from "../../key.ts";
import { parseLiteralSubject } from "../../name.ts";
import { oids } from "../../oid.ts";
import { pem } from "../../pem.ts";
import { LocalSigner } from "../../signer.ts";
import { type Attempt, mutate, pick, type Random } from "./mutation.ts";

const specs: readonly KeySpec[] = [
  { algorithm: "RSA", size: 2048 },
  { algorithm: "ECDSA", size: 256 },
  { algorithm: "Ed25519" },
];

export async function csrAttempt(): Promise<Attempt> {
  const subject = parseLiteralSubject("CN=orders,OU=Payments+O=Example,C=AT,DC=example");
  const names = {
    dnsNames: ["orders.example.com", "*.example.com"],
    ipAddresses: ["10.0.0.1", "2001:db8::1"],
    uris: ["spiffe://example.com/orders"],
    emailAddresses: ["orders@example.com", "grün@example.com"],
  };
  const limits = nameConstraints({ permitted: { dnsDomains: ["example.com"], ipRanges: ["10.0.0.0/8"] } });
  const extensions = [
    subjectAltName([...subjectAltNames(names), { kind: "directory", rdns: subject }], false),
    basicConstraints({ ca: true, pathLength: 1 }),
    keyUsage(["digitalSignature", "keyCertSign"]),
    extendedKeyUsage([oids.serverAuth]),
    ...(limits ? [nameConstraintsExtension(limits)] : []),
  ];
  const keys = await Promise.all(specs.map(generateKey));
  const samples = await Promise.all(keys.map((key) => createCsr(subject, extensions, new LocalSigner(key))));
  // Only a well signed request gets to the parsers of its extensions, so some are signed after the mutation.
  const [own = Buffer.alloc(0), ownKey = ""] = [samples.at(-1), keys.at(-1)];
  const [info, algorithm] = readDer(own, (r) => r.sequence((s) => [s.any().der, s.any().der, s.any().der] as const));
  const signedAfterwards = (random: Random): Buffer => {
    const changed = mutate(info, random);
    return der.sequence(changed, algorithm, der.bitString(sign(null, changed, ownKey)));
  };
  const ways: readonly ((sample: Buffer, random: Random) => Buffer | string)[] = [
    mutate,
    (sample, random) => pem("CERTIFICATE REQUEST", mutate(sample, random)),
    (sample, random) => mutate(Buffer.from(pem("CERTIFICATE REQUEST", sample)), random),
    (_, random) => signedAfterwards(random),
  ];
  return (random) => outcomeOf(pick(ways, random)(pick(samples, random), random));
}

function outcomeOf(input: Buffer | string): string {
  try {
    parseCsr(input);
    return "accepted";
  } catch (error) {
    if (error instanceof CsrError && /^[^\p{Cc}]{1,400}$/u.test(error.message)) return error.code;
    throw new Error(`came of ${Buffer.from(input).toString("hex")}`, { cause: error });
  }
}
