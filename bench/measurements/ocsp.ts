/** OCSP: answers that are kept, answers that are signed for one request, and how soon a revocation is answered. */
import { randomBytes } from "node:crypto";
import { encodeCertId, issuerHashes } from "../../core/pki/ocsp/cert-id.ts";
import type { Certificate } from "../../crds/certificate.ts";
import { scrape, total } from "../../e2e/harness.ts";
import type { OcspResponder } from "../../lab/mazevault.ts";
import { until } from "../../lab/poll.ts";
import { requestFor, verdictOf } from "../../ocsp/testing/asking.ts";
import { type BareServer, startBareServer } from "../bare-http.ts";
import { applyCertificates, certificates, leafName, makeIssuer } from "../certificates.ts";
import { residentMiB } from "../cost.ts";
import { type HttpLoadResult, httpLoad } from "../http-load.ts";
import { percentile, range } from "../in-flight.ts";
import { opensslSpeed } from "../openssl.ts";
import type { Figure, Result } from "../result.ts";
import { type Stage, TENANT } from "../stage.ts";

const CONNECTIONS = 32;
const LOAD_MS = 10_000;
const WARM_UP_MS = 2_000;
const LONGEST_MS = 600_000;
const PURPOSE = "ocsp";
/** About what an answer with its responder's certificate has. */
const ANSWER_OCTETS = 900;
const REQUEST_TYPE = "application/ocsp-request";

interface Issued {
  readonly subject: Buffer;
  readonly spki: Buffer;
  /** Hex. */
  readonly serial: string;
}

export async function ocsp(stage: Stage): Promise<Result> {
  const { world } = stage;
  const { some } = stage.sizes;
  const operator = await stage.startOperator({ config: { pki: { baseUrl: world.mazevault.pkiUrl } } });
  const responder = await world.mazevault.startOcsp();
  try {
    const issued = await issueMany(stage, some);
    const certIds = issued.map(({ subject, spki, serial }) =>
      encodeCertId("sha256", issuerHashes("sha256", subject, spki), serial),
    );
    const requests = certIds.map((certId) => requestFor([certId]));
    stage.report("asking for kept answers");
    const gets = requests.map((der) => get(`/ocsp/${encodeURIComponent(der.toString("base64"))}`));
    const server = serverOf(responder);
    const got = await measured(server, inTurn(gets), isSuccessful);
    const posted = await measured(server, inTurn(requests.map(post)), isSuccessful);
    const bare = await bareServer(inTurn(gets));
    stage.report("asking with nonces");
    const turn = inTurn(certIds);
    const signed = await measured(server, () => post(requestFor([turn()], randomBytes(32))), isSuccessful);
    stage.report("revoking");
    const revoked = await revocations(stage, responder, some);
    const memory = residentMiB(await scrape(responder));
    return {
      name: `ocsp-${some}`,
      figures: [
        ...loadFigures("kept answers, GET", got, { perSecond: 15_000, p99Ms: 15 }),
        ...loadFigures("kept answers, POST", posted, { perSecond: 15_000, p99Ms: 15 }),
        ...loadFigures("the same GET to Node's HTTP server alone", bare, {}),
        ...loadFigures("signed for one request (nonce)", signed, { perCpuSecond: 5_000 }),
        ...opensslSpeed(),
        { what: "revocation acknowledged until answered, p50", value: percentile(revoked, 0.5), unit: "ms" },
        {
          what: `revocation acknowledged until answered, p99 of ${some}`,
          value: percentile(revoked, 0.99),
          unit: "ms",
          aim: { atMost: 1_000 },
        },
        { what: `resident memory of the responder, ${some} certificates`, value: memory, unit: "MiB" },
      ],
      details: { revokedMs: revoked.map(Math.round) },
    };
  } finally {
    await responder.process.stop();
    await operator.process.stop();
  }
}

const inTurn = <T>(items: readonly T[]): (() => T) => {
  let turn = -1;
  return () => {
    turn = (turn + 1) % items.length;
    return items[turn] as T;
  };
};

const get = (path: string): Buffer => Buffer.from(`GET ${path} HTTP/1.1\r\nHost: ocsp\r\n\r\n`);
const post = (der: Buffer): Buffer =>
  Buffer.concat([
    Buffer.from(
      `POST /ocsp HTTP/1.1\r\nHost: ocsp\r\nContent-Type: ${REQUEST_TYPE}\r\nContent-Length: ${der.length}\r\n\r\n`,
    ),
    der,
  ]);

interface Measured extends HttpLoadResult {
  /** Answers for each second of CPU that the server had. */
  readonly perCpuSecond: number;
}

type Server = Pick<BareServer, "port" | "cpuSeconds">;

const serverOf = (responder: OcspResponder): Server => ({
  port: Number(new URL(responder.url).port),
  cpuSeconds: async () => total(await scrape(responder), "process_cpu_seconds_total"),
});

/** OCSPResponseStatus is successful; errors have five octets. */
const isSuccessful = (body: Buffer): boolean => body.length > 100 && body[6] === 0;

async function measured(
  { port, cpuSeconds }: Server,
  next: () => Buffer,
  isRight: (body: Buffer) => boolean,
): Promise<Measured> {
  const load = (milliseconds: number) => httpLoad({ port, connections: CONNECTIONS, milliseconds, next, isRight });
  await load(WARM_UP_MS);
  const before = await cpuSeconds();
  const result = await load(LOAD_MS);
  const seconds = (await cpuSeconds()) - before;
  if (result.wrong > 0) throw new Error(`${result.wrong} requests were not answered`);
  return { ...result, perCpuSecond: (result.perSecond * (LOAD_MS / 1_000)) / seconds };
}

async function bareServer(next: () => Buffer): Promise<Measured> {
  const server = await startBareServer(ANSWER_OCTETS);
  try {
    return await measured(server, next, (body) => body.length === ANSWER_OCTETS);
  } finally {
    await server.stop();
  }
}

function loadFigures(
  what: string,
  { perSecond, p50Ms, p99Ms, perCpuSecond }: Measured,
  aims: { readonly perSecond?: number; readonly p99Ms?: number; readonly perCpuSecond?: number },
): Figure[] {
  const atLeast = (aim: number | undefined) => (aim === undefined ? {} : { aim: { atLeast: aim } });
  return [
    { what: `${what}, ${CONNECTIONS} connections`, value: perSecond, unit: "/s", ...atLeast(aims.perSecond) },
    { what: `${what}: for each second of its CPU`, value: perCpuSecond, unit: "/s", ...atLeast(aims.perCpuSecond) },
    { what: `${what}: p50`, value: p50Ms, unit: "ms" },
    { what: `${what}: p99`, value: p99Ms, unit: "ms", ...(aims.p99Ms && { aim: { atMost: aims.p99Ms } }) },
  ];
}

/** Certificates of one CA, asked for by manifests; resolves when all are issued and the responder answers. */
async function issueMany(stage: Stage, count: number): Promise<readonly Issued[]> {
  const { world } = stage;
  stage.report(`issuing ${count} certificates`);
  await makeIssuer(stage);
  await applyCertificates(stage, PURPOSE, count);
  let issued: Issued[] = [];
  await until(
    "all certificates are issued",
    async () => {
      issued = await world.sql<Issued & Record<string, unknown>>(
        `SELECT a.subject, a.spki, encode(c.serial, 'hex') AS serial FROM certificates c
         JOIN authority_generations a ON a.authority_id = c.authority_id AND a.number = c.generation
         WHERE c.state = 'Issued' AND c.requester_kind = 'Certificate'`,
      );
      return issued.length >= count;
    },
    { timeoutMs: LONGEST_MS, intervalMs: 250 },
  );
  return issued;
}

/** Milliseconds from the acknowledgement of each change of a manifest until the responder says so, one after the other. */
async function revocations(stage: Stage, { url }: OcspResponder, count: number): Promise<number[]> {
  const times: number[] = [];
  for (const index of range(count)) {
    const key = { namespace: TENANT, name: leafName(PURPOSE, index) };
    const serialNumber = await serialOf(stage, key);
    const [issuer] = await stage.world.sql<Issued & Record<string, unknown>>(
      `SELECT a.subject, a.spki FROM certificates c
       JOIN authority_generations a ON a.authority_id = c.authority_id AND a.number = c.generation
       WHERE c.serial = decode($1, 'hex')`,
      [serialNumber],
    );
    if (issuer === undefined) throw new Error(`${key.name} has no certificate`);
    const certId = encodeCertId("sha256", issuerHashes("sha256", issuer.subject, issuer.spki), serialNumber);
    const body = requestFor([certId]);
    const ask = async () => {
      const response = await fetch(url, { method: "POST", body, headers: { "content-type": REQUEST_TYPE } });
      return verdictOf(Buffer.from(await response.arrayBuffer()));
    };
    if ((await ask()) !== "good") throw new Error(`${key.name} is not good before it is revoked`);
    await stage.api.mergePatch(certificates, key, {
      spec: { revocations: [{ serialNumber, reason: "superseded" }] },
    });
    const acknowledged = performance.now();
    await until(`${key.name} is revoked`, async () => (await ask()) === "superseded", {
      timeoutMs: LONGEST_MS,
      intervalMs: 1,
    });
    times.push(performance.now() - acknowledged);
  }
  return times;
}

async function serialOf(stage: Stage, key: { readonly namespace: string; readonly name: string }): Promise<string> {
  let serialNumber: string | undefined;
  await until(
    `${key.name} is issued`,
    async () => {
      ({ serialNumber } = (await stage.api.get<Certificate>(certificates, key)).status ?? {});
      return serialNumber !== undefined;
    },
    { timeoutMs: LONGEST_MS, intervalMs: 100 },
  );
  return String(serialNumber).replaceAll(":", "").toLowerCase();
}
