/** Mutated requests: whatever comes in, a CsrError goes out. `PKI_FUZZ_COUNT` and `PKI_FUZZ_SEED` choose how many and which. */
import { sign } from "node:crypto";
import fc from "fast-check";
import { CsrError, createCsr, parseCsr } from "./csr.ts";
import { readDer } from "./der/reader.ts";
import * as der from "./der/writer.ts";
import { basicConstraints, extendedKeyUsage, keyUsage, nameConstraintsExtension, subjectAltName } from "./extension.ts";
import { nameConstraints, subjectAltNames } from "./general-name.ts";
import { generateKey, type KeySpec } from "./key.ts";
import { parseLiteralSubject } from "./name.ts";
import { oids } from "./oid.ts";
import { pem } from "./pem.ts";
import { LocalSigner } from "./signer.ts";

const count = Number(process.env.PKI_FUZZ_COUNT ?? 5000);
const seed = Number(process.env.PKI_FUZZ_SEED ?? Date.now() % 2 ** 31);

const specs: readonly KeySpec[] = [
  { algorithm: "RSA", size: 2048 },
  { algorithm: "ECDSA", size: 256 },
  { algorithm: "Ed25519" },
];

/** Octets that mean something in DER, beside any other. */
const telling = fc.constantFrom(
  0x00,
  0x01,
  0x7f,
  0x80,
  0x81,
  0x82,
  0x84,
  0xff,
  0x02,
  0x03,
  0x06,
  0x0c,
  0x30,
  0x31,
  0xa0,
  0xa3,
);
const octet = fc.oneof(telling, fc.integer({ min: 0, max: 255 }));
const where = fc.integer({ min: 0, max: 9999 }).map((part) => part / 10_000);
const mutation = fc.oneof(
  fc.record({ kind: fc.constant("set" as const), at: where, octet }),
  fc.record({ kind: fc.constant("flip" as const), at: where, bit: fc.integer({ min: 0, max: 7 }) }),
  fc.record({
    kind: fc.constant("insert" as const),
    at: where,
    octets: fc.array(octet, { minLength: 1, maxLength: 8 }),
  }),
  fc.record({ kind: fc.constant("remove" as const), at: where, length: fc.integer({ min: 1, max: 16 }) }),
  fc.record({ kind: fc.constant("repeat" as const), at: where, length: fc.integer({ min: 1, max: 200 }) }),
  fc.record({ kind: fc.constant("cut" as const), at: where }),
);

type Mutation = typeof mutation extends fc.Arbitrary<infer M> ? M : never;

function mutate(bytes: Buffer, change: Mutation): Buffer {
  const at = Math.floor(change.at * bytes.length);
  const [before, after] = [bytes.subarray(0, at), bytes.subarray(at)];
  switch (change.kind) {
    case "set":
      return Buffer.concat([before, Buffer.of(change.octet), after.subarray(1)]);
    case "flip":
      return Buffer.concat([before, Buffer.of((after[0] ?? 0) ^ (1 << change.bit)), after.subarray(1)]);
    case "insert":
      return Buffer.concat([before, Buffer.from(change.octets), after]);
    case "remove":
      return Buffer.concat([before, after.subarray(change.length)]);
    case "repeat":
      return Buffer.concat([before, after.subarray(0, change.length), after]);
    case "cut":
      return before;
  }
}

test(`${count} mutated requests, seed ${seed}`, async () => {
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
  const good = await Promise.all(keys.map((key) => createCsr(subject, extensions, new LocalSigner(key))));
  const codes = new Map<string, number>();
  const parse = (input: Buffer | string) => {
    try {
      parseCsr(input);
      codes.set("accepted", (codes.get("accepted") ?? 0) + 1);
    } catch (error) {
      if (!(error instanceof CsrError)) throw error;
      codes.set(error.code, (codes.get(error.code) ?? 0) + 1);
      expect(error.message).toMatch(/^[^\p{Cc}]{1,400}$/u);
    }
  };
  // Only a well signed request gets to the parsers of its extensions, so some are signed after the mutation.
  const [, , edKey] = keys;
  const [, , edRequest = Buffer.alloc(0)] = good;
  const [info, algorithm] = readDer(edRequest, (r) => r.sequence((s) => [s.any().der, s.any().der, s.any().der]));
  const resigned = (changes: Mutation[]) => {
    const changed = changes.reduce(mutate, info ?? edRequest);
    return der.sequence(changed, algorithm ?? edRequest, der.bitString(sign(null, changed, edKey ?? "")));
  };
  const way = fc.constantFrom("der", "pem", "text", "signed");
  fc.assert(
    fc.property(
      fc.constantFrom(...good),
      fc.array(mutation, { minLength: 1, maxLength: 3 }),
      way,
      (bytes, changes, as) => {
        if (as === "der") parse(changes.reduce(mutate, bytes));
        else if (as === "pem") parse(pem("CERTIFICATE REQUEST", changes.reduce(mutate, bytes)));
        else if (as === "text") parse(changes.reduce(mutate, Buffer.from(pem("CERTIFICATE REQUEST", bytes))));
        else parse(resigned(changes));
      },
    ),
    { seed, numRuns: count, endOnFailure: true },
  );
  expect(codes.get("Malformed")).toBeGreaterThan(count / 4);
  expect([...codes.keys()]).toEqual(expect.arrayContaining(["accepted", "MalformedName", "WrongSignature"]));
}, 600_000);
