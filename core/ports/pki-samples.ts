/** What contract suites and tests of the PKI's stores write; bytes that only look like DER or like sealed keys. */
import { randomBytes, randomUUID } from "node:crypto";
import type { AuditEntry } from "./audit-log.ts";
import type {
  AuthorityIdentity,
  CertificateHolder,
  Completion,
  NewAuthority,
  Requester,
  Reservation,
  Revocation,
  SealedKey,
  StatusSeal,
  StoredCrl,
} from "./pki-store.ts";
import { actor, digest } from "./samples.ts";

export const issuer = (name: string): AuthorityIdentity => ({
  kind: "ClusterIssuer",
  namespace: "",
  namespaceUid: "",
  name,
});

export const pkiEntry = (action: AuditEntry["action"], id: string): AuditEntry => ({
  action,
  actor,
  subject: { kind: action.startsWith("Authority") ? "Authority" : "Certificate", id, name: "payments/sample" },
  outcome: "Success",
  details: { number: 1 },
});

export const sealedKey = (): SealedKey => ({
  wrappedKey: randomBytes(60),
  keyId: randomUUID(),
  ciphertext: randomBytes(120),
});

export function newAuthority(identity: AuthorityIdentity): NewAuthority {
  const id = randomUUID();
  return {
    id,
    identity,
    revocation: { crlEveryMs: 3_600_000, ocspValidityMs: 86_400_000 },
    generation: { subject: randomBytes(40), spki: randomBytes(91), sealedKey: sealedKey() },
    audit: [pkiEntry("AuthorityCreated", id)],
  };
}

export const requester = (uid: string): Requester => ({
  kind: "Certificate",
  namespace: "payments",
  namespaceUid: "uid-of-namespace",
  name: "orders",
  uid,
});

export const reservation = (
  authorityId: string,
  uid: string,
  revision: number,
  change: Partial<Reservation> = {},
): Reservation => ({
  authorityId,
  generation: 1,
  serialNumber: randomBytes(16).toString("hex"),
  requester: requester(uid),
  revision,
  profile: "Server",
  templateDigest: digest(),
  notBefore: new Date("2026-03-01T00:00:00Z"),
  notAfter: new Date("2026-06-01T00:00:00Z"),
  crlPartition: 0,
  sealedKey: sealedKey(),
  ...change,
});

export const completion = (
  { authorityId, serialNumber }: Pick<Reservation, "authorityId" | "serialNumber">,
  keepKeys = 1,
): Completion => ({
  authorityId,
  serialNumber,
  certificate: randomBytes(300),
  keepKeys,
  audit: [pkiEntry("CertificateIssued", serialNumber)],
});

/** What a store keeps of a status that changed for the how-many-eth time. */
export const statusSeal = (generation: bigint): StatusSeal => ({ generation, mac: randomBytes(32) });

export const revocation = (change: Partial<Revocation> = {}): Revocation => ({
  at: new Date("2026-04-01T00:00:00.123Z"),
  reason: "superseded",
  ...change,
});

export const holder = (uid: string): Omit<CertificateHolder, "delivery"> => ({
  kind: "Certificate",
  uid,
  namespace: "payments",
  namespaceUid: "uid-of-namespace",
  name: "orders",
  deletionPolicy: "Retain",
});

export const crl = (authorityId: string, number: bigint, change: Partial<StoredCrl> = {}): StoredCrl => ({
  authorityId,
  generation: 1,
  partition: 0,
  number,
  thisUpdate: new Date("2026-04-02T00:00:00Z"),
  nextUpdate: new Date("2026-04-02T01:30:00Z"),
  der: randomBytes(200),
  covers: 0n,
  ...change,
});
