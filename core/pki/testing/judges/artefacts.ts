/** The PKI that judges look at: every kind of key, profile and state, issued, revoked and published by what does it in service. */
import { randomUUID } from "node:crypto";
import type { AuthorityRecord, CertificateRecord, Revocation, RevocationReason } from "../../../ports/pki-store.ts";
import { actor } from "../../../ports/samples.ts";
import type { SigningCa } from "../../ca-keys.ts";
import { parseCertificate } from "../../certificate.ts";
import { CrlPublication } from "../../crl-publication.ts";
import { createCsr } from "../../csr.ts";
import { nameConstraints, subjectAltNames } from "../../general-name.ts";
import { generateKey, type KeySpec } from "../../key.ts";
import { type CertIdHash, encodeCertId, issuerHashes, keyHash } from "../../ocsp/cert-id.ts";
import { signOcspResponse } from "../../ocsp/response.ts";
import { oids } from "../../oid.ts";
import { type Profile, profiles, profileUsages } from "../../profile.ts";
import { ResponderCertificates } from "../../responder-certificates.ts";
import { LocalSigner, type Signer } from "../../signer.ts";
import { leafRequest, TestPki } from "../installation.ts";

export const keySpecs: readonly KeySpec[] = [
  { algorithm: "RSA", size: 2048 },
  { algorithm: "RSA", size: 3072 },
  { algorithm: "ECDSA", size: 256 },
  { algorithm: "ECDSA", size: 384 },
  { algorithm: "ECDSA", size: 521 },
  { algorithm: "Ed25519" },
];
/** `RSA-2048`, `P-256`, `Ed25519`. */
export const keyName = (key: KeySpec): string =>
  key.algorithm === "Ed25519" ? key.algorithm : `${key.algorithm === "RSA" ? "RSA" : "P"}-${key.size}`;

export const leafProfiles = ["Server", "Client", "OCSPResponder", "Agent", "Gateway"] as const;
export type LeafProfile = (typeof leafProfiles)[number];

export const states = ["good", "revoked", "held"] as const;
export type State = (typeof states)[number];
const reasons: Readonly<Record<Exclude<State, "good">, RevocationReason>> = {
  revoked: "keyCompromise",
  held: "certificateHold",
};

/** Names inside the constraints of the subordinates. */
const names: Readonly<Record<LeafProfile, readonly [commonName: string, Parameters<typeof subjectAltNames>[0]]>> = {
  Server: ["orders.example.com", { dnsNames: ["orders.example.com", "*.orders.example.com"] }],
  Client: [
    "billing",
    { uris: ["spiffe://example.com/ns/payments/sa/billing"], emailAddresses: ["billing@example.com"] },
  ],
  OCSPResponder: ["OCSP responder", {}],
  Agent: ["agent-7", { dnsNames: ["agent-7.example.com"] }],
  Gateway: ["gateway.example.com", { dnsNames: ["gateway.example.com"], ipAddresses: ["10.1.2.3", "fd00::1"] }],
};
export const serverName = "orders.example.com";

/** A CA with what it publishes. */
export interface Ca {
  readonly name: string;
  readonly authority: AuthorityRecord;
  readonly signer: Signer;
  /** DER; its own, then those above it up to the root. */
  readonly chain: readonly [Buffer, ...Buffer[]];
  /** DER: the first, before anything was revoked, and the one in force. */
  readonly crls: { readonly first: Buffer; readonly current: Buffer };
}

/** One row of the matrix. */
export interface Case {
  readonly key: KeySpec;
  /** Delivered: a CA whose key another program gets, by a Certificate with isCA. */
  readonly role: "root" | "subordinate" | "delivered" | "leaf";
  readonly profile: Profile;
  readonly state: State;
  /** DER. */
  readonly certificate: Buffer;
  /** Whose certificate it is, where it is a CA's. */
  readonly subject?: Ca;
  /** Absent: a root, of which nobody but its users can say that it is revoked. */
  readonly issuer?: Ca;
  /** DER, signed before anybody asks. */
  readonly ocsp?: Readonly<Record<CertIdHash, Buffer>>;
}

/** `RSA-2048-leaf-Server-good`: different for each row. */
export const caseName = ({ key, role, profile, state }: Case): string =>
  [keyName(key), role, ...(role === "leaf" ? [profile] : []), state].join("-");

const DAY_MS = 24 * 3_600_000;

/** All that is made with one kind of key. */
export class JudgedPki {
  readonly key: KeySpec;
  readonly cases: readonly Case[];
  readonly cas: readonly Ca[];
  /** PKCS #8 in DER: the key of all leaves. */
  readonly leafKey: Buffer;
  /** Below the CAs that are revoked and held. */
  readonly belowRevoked: readonly Case[];

  private constructor(key: KeySpec, parts: Pick<JudgedPki, "cases" | "cas" | "leafKey" | "belowRevoked">) {
    this.key = key;
    this.cases = parts.cases;
    this.cas = parts.cas;
    this.leafKey = parts.leafKey;
    this.belowRevoked = parts.belowRevoked;
  }

  static async make(key: KeySpec): Promise<JudgedPki> {
    return new JudgedPki(key, await new Maker(await TestPki.start(), key).make());
  }
}

/** Who signs answers: a delegated responder, or a CA for itself. */
export interface Responder {
  readonly signer: Signer;
  /** Absent: the CA's own key. */
  readonly certificate?: Buffer;
}

/** An answer of today, for a day; DER. */
export function answer(
  { signer, certificate }: Responder,
  hash: CertIdHash,
  ca: Ca,
  serialNumber: string,
  status: "good" | Revocation,
): Promise<Buffer> {
  const { subjectDer, spki } = parseCertificate(ca.chain[0]);
  const certId = encodeCertId(hash, issuerHashes(hash, subjectDer, spki), serialNumber);
  const thisUpdate = new Date(Math.floor(Date.now() / 1000) * 1000);
  const nextUpdate = new Date(thisUpdate.getTime() + DAY_MS);
  return signOcspResponse(
    {
      responderKeyHash: keyHash("sha1", signer.spki),
      producedAt: thisUpdate,
      responses: [{ certId, status, thisUpdate, nextUpdate }],
      certificates: certificate === undefined ? [] : [certificate],
    },
    signer,
  );
}

/** Judges look at the clock, and what is made a second later must not be of the future. */
const justNow = (): Date => new Date(Date.now() - 2_000);

/** A CA with more certificates than one CRL is for: those of the second CRL say so, and so do both CRLs. */
export async function partitionedPki() {
  const pki = await TestPki.start();
  pki.now = justNow();
  const root = await pki.root();
  const first = await pki.issue(root, "first");
  pki.store.countCertificates = async () => 50_000;
  const authorities = pki.restarted();
  const [good, revoked] = [
    await authorities.issue(pki.writer, leafRequest(root, "good")),
    await authorities.issue(pki.writer, leafRequest(root, "revoked")),
  ];
  await authorities.revoke(pki.writer, revoked, { reason: "superseded" }, actor);
  const { store, urls } = pki;
  await new CrlPublication({ store, authorities, urls, now: () => pki.now }).publishDue(pki.writer, 2);
  const crls = [0, 1].map((partition) => store.crl({ authorityId: root.id, generation: 1, partition }));
  const [one, two] = (await Promise.all(crls)).map((crl) => crl?.der ?? Buffer.alloc(0)) as [Buffer, Buffer];
  const [certificate = Buffer.alloc(0)] = pki.authorities.chainOf(root);
  return {
    root: certificate,
    first: issued(first),
    good: issued(good),
    revoked: issued(revoked),
    crls: [one, two],
  } as const;
}

class Maker {
  readonly #pki: TestPki;
  readonly #key: KeySpec;
  readonly #publication: CrlPublication;
  readonly #responders: ResponderCertificates;

  constructor(pki: TestPki, key: KeySpec) {
    pki.now = justNow();
    this.#pki = pki;
    this.#key = key;
    const { store, authorities, urls } = pki;
    const now = () => pki.now;
    this.#publication = new CrlPublication({ store, authorities, urls, now });
    this.#responders = new ResponderCertificates({ store, authorities, now });
  }

  async make(): Promise<Pick<JudgedPki, "cases" | "cas" | "leafKey" | "belowRevoked">> {
    const root = await this.#authority("Root");
    const subordinates = await Promise.all(states.map((state) => this.#authority(`Subordinate ${state}`, root)));
    const [good, ...others] = subordinates as [AuthorityRecord, ...AuthorityRecord[]];
    const first = await this.#leaf(good, "Server", "good");
    const leaves = [first];
    for (const profile of leafProfiles) {
      for (const state of states) {
        if (profile === "Server" && state === "good") continue;
        leaves.push(await this.#leaf(good, profile, state, first));
      }
    }
    const delivered = keyName(this.#key) === "P-256" ? await this.#delivered(root, first.record) : [];
    const below = await Promise.all(others.map((authority) => this.#leaf(authority, "Server", "good", first)));

    const authorities = [root, ...subordinates];
    const firstCrls = await this.#publish(authorities);
    const records = await Promise.all(subordinates.map((authority) => this.#certificateOf(authority)));
    await Promise.all(states.flatMap((state, at) => [this.#become(state, records[at])]));
    for (const { record, state } of [...leaves, ...delivered]) await this.#become(state, record);
    this.#pki.passes(1_000);
    const currentCrls = await this.#publish(authorities);

    const { authorities: service, writer } = this.#pki;
    const signing = await Promise.all(authorities.map((authority) => service.signingCa(writer, authority)));
    const cas = authorities.map((authority, at): Ca => {
      const chain = service.chainOf(authority) as [Buffer, ...Buffer[]];
      const crls = { first: firstCrls[at] as Buffer, current: currentCrls[at] as Buffer };
      const { signer } = signing[at] as SigningCa;
      return { name: authority.identity.name, authority, signer, chain, crls };
    }) as [Ca, Ca, Ca, Ca];
    const [rootCa, ...subordinateCas] = cas;
    const [goodCa, ...otherCas] = subordinateCas as [Ca, ...Ca[]];
    const key = this.#key;
    const byRoot = await this.#answering(root);
    const byGood = await this.#answering(good);
    const cases: Case[] = [
      { key, role: "root", profile: "CA", state: "good", certificate: rootCa.chain[0], subject: rootCa },
    ];
    for (const [at, state] of states.entries()) {
      const subject = subordinateCas[at] as Ca;
      const ocsp = await this.#answers(byRoot, rootCa, records[at] as CertificateRecord);
      const certificate = subject.chain[0];
      cases.push({ key, role: "subordinate", profile: "CA", state, certificate, subject, issuer: rootCa, ocsp });
    }
    for (const { record, state } of delivered) {
      const ocsp = await this.#answers(byRoot, rootCa, record);
      const certificate = issued(record);
      cases.push({ key, role: "delivered", profile: "CA", state, certificate, issuer: rootCa, ocsp });
    }
    for (const { record, profile, state } of leaves) {
      const ocsp = await this.#answers(byGood, goodCa, record);
      cases.push({ key, role: "leaf", profile, state, certificate: issued(record), issuer: goodCa, ocsp });
    }
    const belowRevoked = below.map(({ record, profile }, at): Case => {
      const state = states[at + 1] as State;
      return { key, role: "leaf", profile, state, certificate: issued(record), issuer: otherCas[at] as Ca };
    });
    const opened = await this.#pki.authorities.openKey(this.#pki.writer, first.record, { actor, purpose: "judges" });
    return { cases, cas, leafKey: opened.export({ format: "der", type: "pkcs8" }), belowRevoked };
  }

  #authority(name: string, parent?: AuthorityRecord): Promise<AuthorityRecord> {
    const limits = nameConstraints({
      permitted: { dnsDomains: ["example.com"], ipRanges: ["10.0.0.0/8", "fd00::/8"] },
    });
    return this.#pki.root(name, {
      subject: [
        [{ type: oids.countryName, value: "DE" }],
        [{ type: oids.organizationName, value: "Example GmbH" }],
        [{ type: oids.commonName, value: `${name} ${keyName(this.#key)}` }],
      ],
      key: this.#key,
      durationMs: (parent ? 1_825 : 3_650) * DAY_MS,
      ...(parent && {
        parent: { kind: "Authority", authority: parent },
        pathLength: 0,
        ...(limits && { nameConstraints: limits }),
      }),
    });
  }

  /** With a key of its own, or that of another leaf: RSA keys take long to make. */
  async #leaf(authority: AuthorityRecord, profile: LeafProfile, state: State, like?: { record: CertificateRecord }) {
    const [commonName, alternatives] = names[profile];
    const record = await this.#pki.issue(authority, randomUUID(), 1, {
      profile,
      subject: [[{ type: oids.commonName, value: commonName }]],
      subjectAltNames: subjectAltNames(alternatives),
      usages: profileUsages(profile, this.#key),
      durationMs: (profile === "OCSPResponder" ? 7 : 45) * DAY_MS,
      key: like === undefined ? { generate: this.#key } : { spki: parseCertificate(issued(like.record)).spki },
    });
    return { record, profile, state };
  }

  #delivered(root: AuthorityRecord, like: CertificateRecord) {
    const limits = nameConstraints({
      permitted: { dnsDomains: ["mesh.example.com"] },
      excluded: { ipRanges: ["0.0.0.0/0", "::/0"], dnsDomains: ["admin.mesh.example.com"] },
    });
    return Promise.all(
      states.map(async (state) => {
        const record = await this.#pki.issue(root, randomUUID(), 1, {
          profile: "CA",
          subject: [[{ type: oids.commonName, value: `Mesh CA ${state}` }]],
          subjectAltNames: [],
          usages: profiles.CA,
          ca: { pathLength: 0, ...(limits && { nameConstraints: limits }) },
          durationMs: 365 * DAY_MS,
          key: { spki: parseCertificate(issued(like)).spki },
        });
        return { record, state };
      }),
    );
  }

  async #certificateOf({ id }: AuthorityRecord): Promise<CertificateRecord> {
    const record = await this.#pki.store.certificateFor(id, 1);
    if (record === undefined) throw new Error("a CA has no certificate");
    return record;
  }

  async #become(state: State, record: CertificateRecord | undefined): Promise<void> {
    if (state === "good" || record === undefined) return;
    await this.#pki.authorities.revoke(this.#pki.writer, record, { reason: reasons[state] }, actor);
  }

  /** The CRLs in force, in the order of the authorities. */
  async #publish(authorities: readonly AuthorityRecord[]): Promise<readonly Buffer[]> {
    await this.#publication.publishDue(this.#pki.writer, authorities.length);
    const keys = authorities.map(({ id }) => ({ authorityId: id, generation: 1, partition: 0 }));
    const stored = await Promise.all(keys.map((key) => this.#pki.store.crl(key)));
    return stored.map((crl) => crl?.der ?? Buffer.alloc(0));
  }

  /** A responder as the OCSP process becomes one. */
  async #answering({ id: authorityId }: AuthorityRecord): Promise<Responder> {
    const signer = new LocalSigner(await generateKey({ algorithm: "ECDSA", size: 256 }));
    const id = randomUUID();
    const csr = await createCsr([], [], signer);
    await this.#pki.store.requestResponder({ id, authorityId, generation: 1, csr });
    await this.#responders.sign(this.#pki.writer);
    const certificate = await this.#pki.store.responder(id);
    if (!Buffer.isBuffer(certificate)) throw new Error(`the responder's certificate is ${certificate}`);
    return { signer, certificate };
  }

  async #answers(responder: Responder, ca: Ca, record: CertificateRecord): Promise<NonNullable<Case["ocsp"]>> {
    const { authorityId, serialNumber } = record;
    const { revocation = "good" } = (await this.#pki.store.certificate(authorityId, serialNumber)) ?? {};
    const by = (hash: CertIdHash) => answer(responder, hash, ca, serialNumber, revocation);
    return { sha1: await by("sha1"), sha256: await by("sha256") };
  }
}

function issued({ certificate }: CertificateRecord): Buffer {
  if (certificate === undefined) throw new Error("a certificate was not issued");
  return certificate;
}
