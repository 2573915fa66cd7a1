/** What a CA does by itself, without Kubernetes: certificates, with and without a database to record them in, and a large CRL. */
import { createSecretKey, randomBytes } from "node:crypto";
import { setImmediate as turn } from "node:timers/promises";
import { migrate } from "../../adapters/postgres/migrate.ts";
import { openStores } from "../../adapters/postgres/stores.ts";
import { LocalRootKey } from "../../adapters/rootkey/local-root-key.ts";
import { Authorities, type AuthoritySpec } from "../../core/pki/authority.ts";
import { signCertificate } from "../../core/pki/certificate.ts";
import { signCrl } from "../../core/pki/crl.ts";
import type { IssueRequest } from "../../core/pki/issuance.ts";
import { generateKey, keyIdentifier, spkiOf } from "../../core/pki/key.ts";
import { encodeName, fromSubject } from "../../core/pki/name.ts";
import { certificateExtensions, profileUsages } from "../../core/pki/profile.ts";
import { newSerialNumber } from "../../core/pki/serial.ts";
import { LocalSigner } from "../../core/pki/signer.ts";
import { publicationUrls } from "../../core/pki/urls.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import type { AuthorityRecord, RevokedEntry } from "../../core/ports/pki-store.ts";
import { inFlight, range, seconds } from "../in-flight.ts";
import { labCpu } from "../lab-cpu.ts";
import { opensslSpeed } from "../openssl.ts";
import type { Figure, Result } from "../result.ts";
import { IN_FLIGHT, type Stage } from "../stage.ts";

const BUILT = 20_000;
const ISSUED = 4_000;
const WARM_UP = 500;
const REVOKED = 100_000;
const P256 = { algorithm: "ECDSA", size: 256 } as const;
const DAY_MS = 86_400_000;
const PUBLISHED_AT = "http://pki.example.com";
const ACTOR: Actor = { kind: "Controller", name: "bench" };

export async function authority(stage: Stage): Promise<Result> {
  return {
    name: "authority",
    figures: [...opensslSpeed(), ...(await builder()), ...(await durableIssuance(stage)), ...(await largeCrl())],
  };
}

/** The same certificates in both measurements, as far as the builder makes them. */
const wanted = (index: number) => ({
  subject: fromSubject({ commonName: `orders-${index}` }),
  subjectAltNames: [{ kind: "dns", value: `orders-${index}.payments.svc` }] as const,
  usages: profileUsages("Server", P256),
});

/** Leaf certificates of a P-256 key, signed with one, as they leave `Authorities`; keys are made before. */
async function builder(): Promise<Figure[]> {
  const ca = new LocalSigner(await generateKey(P256));
  const spki = spkiOf(await generateKey(P256));
  const issuer = encodeName(fromSubject({ commonName: "Bench CA" }));
  const urls = publicationUrls(PUBLISHED_AT);
  const references = {
    keyIdentifier: keyIdentifier(ca.spki),
    crlUrls: [urls.crl({ authorityId: "00000000-0000-0000-0000-000000000000", generation: 1, partition: 0 })],
    ocspUrls: [urls.ocsp],
    caIssuersUrls: [urls.caCertificate("00000000-0000-0000-0000-000000000000", 1)],
  };
  const notBefore = new Date();
  const notAfter = new Date(notBefore.getTime() + DAY_MS);
  const before = process.cpuUsage();
  for (const index of range(BUILT)) {
    const { subject, ...contents } = wanted(index);
    const extensions = certificateExtensions({ subject, spki, ...contents }, references);
    const serialNumber = newSerialNumber(notBefore);
    await signCertificate(
      { serialNumber, issuer, subject: encodeName(subject), notBefore, notAfter, spki, extensions },
      ca,
    );
  }
  const perCpuSecond = BUILT / cpuSeconds(before);
  return [
    { what: "builder: P-256 leaves for each second of CPU", value: perCpuSecond, unit: "/s", aim: { atLeast: 2_000 } },
  ];
}

/** What `Authorities` promises: the serial number is durable before it is signed, what leaves was linted and is durable. */
async function durableIssuance(stage: Stage): Promise<Figure[]> {
  const { postgres } = stage.world.lab;
  const database = await postgres.createDatabase("issuance");
  await migrate(database);
  const root = new LocalRootKey("bench", createSecretKey(randomBytes(32)));
  const { pki: store, keys, audit, leadership, close } = await openStores(database, root);
  try {
    const writer = { epoch: await leadership.acquireEpoch("bench") };
    const authorities = new Authorities({ store, keys, audit, urls: publicationUrls(PUBLISHED_AT) });
    const by = await authorities.ensure(writer, ROOT);
    const spki = spkiOf(await generateKey(P256));
    const issue = (index: number) => authorities.issue(writer, request(by, index, spki));
    await inFlight(IN_FLIGHT, range(WARM_UP), issue);
    const [before, databaseBefore, started] = [process.cpuUsage(), labCpu(stage).PostgreSQL, performance.now()];
    await inFlight(IN_FLIGHT, range(ISSUED), (index) => issue(WARM_UP + index));
    const took = seconds(started);
    const [own, ofDatabase] = [cpuSeconds(before), (labCpu(stage).PostgreSQL ?? 0) - (databaseBefore ?? 0)];
    const each = (all: number) => (all * 1_000) / ISSUED;
    return [
      { what: `durable issuance for keys of requesters, ${IN_FLIGHT} at a time`, value: ISSUED / took, unit: "/s" },
      { what: "durable issuance: its own CPU for each", value: each(own), unit: "ms" },
      { what: "durable issuance: CPU of PostgreSQL for each", value: each(ofDatabase), unit: "ms" },
    ];
  } finally {
    await close();
  }
}

const ROOT: AuthoritySpec = {
  identity: { kind: "ClusterIssuer", namespace: "", namespaceUid: "", name: "bench" },
  subject: fromSubject({ commonName: "Bench CA" }),
  key: P256,
  durationMs: 3_650 * DAY_MS,
  revocation: { crlEveryMs: DAY_MS, ocspValidityMs: DAY_MS },
  parent: { kind: "Self" },
  actor: ACTOR,
};

const request = (by: AuthorityRecord, index: number, spki: Buffer): IssueRequest => ({
  ...wanted(index),
  authority: by,
  requester: {
    kind: "CertificateRequest",
    namespace: "payments",
    namespaceUid: "payments",
    name: `orders-${index}`,
    uid: `uid-${index}`,
  },
  revision: 1,
  profile: "Server",
  durationMs: 90 * DAY_MS,
  key: { spki },
  actor: ACTOR,
});

async function largeCrl(): Promise<Figure[]> {
  const ca = new LocalSigner(await generateKey(P256));
  const at = new Date();
  const entries: RevokedEntry[] = range(REVOKED).map(() => ({
    serialNumber: newSerialNumber(at).toString("hex"),
    revocation: { at, reason: "superseded" },
  }));
  await turn();
  const started = performance.now();
  const crl = await signCrl(
    {
      issuer: encodeName(fromSubject({ commonName: "Bench CA" })),
      authorityKeyIdentifier: keyIdentifier(ca.spki),
      number: 1n,
      thisUpdate: at,
      nextUpdate: new Date(at.getTime() + DAY_MS),
      entries,
    },
    ca,
  );
  return [
    { what: `CRL of ${REVOKED}, built and signed`, value: seconds(started), unit: "s", aim: { atMost: 2 } },
    { what: "its size", value: crl.length / 2 ** 20, unit: "MiB" },
  ];
}

function cpuSeconds(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1e6;
}
