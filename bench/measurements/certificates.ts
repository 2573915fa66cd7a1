/** What the CA can do by itself, and very many Certificates on default settings. */
import { setImmediate as turn } from "node:timers/promises";
import { signCertificate } from "../../core/pki/certificate.ts";
import { signCrl } from "../../core/pki/crl.ts";
import { generateKey, keyIdentifier } from "../../core/pki/key.ts";
import { encodeName, fromSubject } from "../../core/pki/name.ts";
import { certificateExtensions, profileUsages } from "../../core/pki/profile.ts";
import { newSerialNumber } from "../../core/pki/serial.ts";
import { LocalSigner } from "../../core/pki/signer.ts";
import type { RevokedEntry } from "../../core/ports/pki-store.ts";
import type { Certificate } from "../../crds/certificate.ts";
import { pause } from "../../lab/poll.ts";
import { applyCertificates, leafName, makeIssuer, certificates as type } from "../certificates.ts";
import { costOf } from "../cost.ts";
import { range, seconds } from "../in-flight.ts";
import { labCpu, labCpuFigures } from "../lab-cpu.ts";
import type { Figure, Result } from "../result.ts";
import { isReady, type Stage, TENANT } from "../stage.ts";
import { ChangeWatch } from "../watch.ts";

const PURPOSE = "many";
const BUILT = 20_000;
const REVOKED = 100_000;
const SETTLE_MS = 20_000;
const P256 = { algorithm: "ECDSA", size: 256 } as const;
const DAY_MS = 86_400_000;

export async function certificates(stage: Stage): Promise<Result> {
  const { many } = stage.sizes;
  const alone = [...(await builder()), ...(await largeCrl())];
  const delivered = await stage.withOperator({}, async (operator): Promise<Figure[]> => {
    await makeIssuer(stage);
    const before = await costOf(operator);
    const watch = await ChangeWatch.open<Certificate>(stage.api, type, TENANT);
    const delivered = Promise.all(range(many).map((index) => watch.when(leafName(PURPOSE, index), isReady)));
    const cpuBefore = labCpu(stage);
    const started = performance.now();
    await applyCertificates(stage, PURPOSE, many);
    const applied = performance.now();
    const ready = await delivered;
    watch.close();
    const lastReady = Math.max(...ready);
    const cpuSeconds = (await costOf(operator)).cpuSeconds - before.cpuSeconds;
    const servers = labCpuFigures(cpuBefore, labCpu(stage), cpuSeconds);
    await pause(SETTLE_MS);
    const { rssMiB } = await costOf(operator);
    return [
      { what: "applying all of them", value: seconds(started, applied), unit: "s" },
      { what: "last apply acknowledged until last Ready", value: seconds(applied, lastReady), unit: "s" },
      {
        what: "issued and delivered, serial numbers and keys durable first",
        value: many / seconds(started, lastReady),
        unit: "/s",
      },
      { what: "CPU of the operator", value: cpuSeconds, unit: "s" },
      ...servers,
      { what: "RSS when idle afterwards", value: rssMiB, unit: "MiB", aim: { atMost: 400 } },
    ];
  });
  return { name: `certificates-${many}`, figures: [...alone, ...delivered] };
}

/** Leaf certificates of a P-256 key, signed with one, as they leave `Authorities`; keys are made before. */
async function builder(): Promise<Figure[]> {
  const ca = new LocalSigner(await generateKey(P256));
  const { spki } = new LocalSigner(await generateKey(P256));
  const issuer = encodeName(fromSubject({ commonName: "Bench CA" }));
  const references = { keyIdentifier: keyIdentifier(ca.spki), crlUrls: [], ocspUrls: [], caIssuersUrls: [] };
  const notBefore = new Date();
  const notAfter = new Date(notBefore.getTime() + DAY_MS);
  const before = process.cpuUsage();
  for (const index of range(BUILT)) {
    const subject = fromSubject({ commonName: `orders-${index}` });
    const extensions = certificateExtensions(
      {
        subject,
        spki,
        subjectAltNames: [{ kind: "dns", value: `orders-${index}.payments.svc` }],
        usages: profileUsages("Server", P256),
      },
      references,
    );
    const serialNumber = newSerialNumber(new Date());
    await signCertificate(
      { serialNumber, issuer, subject: encodeName(subject), notBefore, notAfter, spki, extensions },
      ca,
    );
  }
  const { user, system } = process.cpuUsage(before);
  const perCpuSecond = BUILT / ((user + system) / 1e6);
  return [
    { what: "builder: P-256 leaves for each second of CPU", value: perCpuSecond, unit: "/s", aim: { atLeast: 2_000 } },
  ];
}

async function largeCrl(): Promise<Figure[]> {
  const ca = new LocalSigner(await generateKey(P256));
  const at = new Date();
  const entries: RevokedEntry[] = range(REVOKED).map(() => ({
    serialNumber: newSerialNumber(new Date()).toString("hex"),
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
