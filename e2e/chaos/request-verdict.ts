/** What has to become of signing requests: one certificate for each that is allowed, of its own key, and none for any other. */
import { X509Certificate } from "node:crypto";
import { spkiOf } from "../../core/pki/key.ts";
import { Judge } from "../../core/pki/testing/judge.ts";
import { conditionOf, type KubernetesObject } from "../harness.ts";
import { isReady } from "./observer.ts";
import { ISSUERS, REQUESTS, ROOT, type SigningRequest } from "./requests.ts";
import type { Run } from "./verdict.ts";

interface Row extends Record<string, unknown> {
  readonly uid: string;
  readonly serial: string;
  readonly state: string;
  readonly der: Buffer | null;
  readonly records: number;
}

async function objectsOf({ api, requests }: Run): Promise<[SigningRequest, KubernetesObject | undefined][]> {
  const objects = new Map((await api.list(REQUESTS)).map((object) => [object.metadata.name, object]));
  return requests.all.map((request) => [request, objects.get(request.name)]);
}

export async function unfinishedRequests(run: Run): Promise<string[]> {
  const unfinished = (await objectsOf(run)).filter(([{ shape }, object]) => {
    if (object === undefined) return true;
    return shape.refusal === undefined ? !isReady(object) : conditionOf(object, "Stalled")?.reason !== shape.refusal;
  });
  return unfinished.map(([{ name, shape }, object]) => {
    return `request ${name} is not ${shape.refusal ?? "Ready"}: ${JSON.stringify(object?.status)}`;
  });
}

/** Every row that was ever made for a request; each comes with how often its signing stands in the audit record. */
const rowsOf = ({ world }: Run): Promise<Row[]> =>
  world.sql<Row>(
    `SELECT requester_uid AS uid, encode(serial, 'hex') AS serial, state, der, coalesce(records, 0) AS records
     FROM certificates LEFT JOIN (
       SELECT replace(subject_id, ':', '') AS signed, count(*)::int AS records FROM audit
       WHERE action = 'CertificateIssued' GROUP BY 1
     ) AS signings ON signed = encode(serial, 'hex')
     WHERE requester_kind = 'CertificateRequest'`,
  );

export async function requestFaults(run: Run): Promise<string[]> {
  const faults: string[] = [];
  const rows = await rowsOf(run);
  const { length } = run.requests.accepted;
  if (rows.length !== length) faults.push(`${rows.length} certificates for ${length} requests`);
  const distinct = new Set(rows.map(({ serial }) => serial)).size;
  if (distinct !== rows.length) faults.push(`${rows.length} certificates have ${distinct} serial numbers`);
  const rowsByUid = Map.groupBy(rows, ({ uid }) => uid);
  const objects = await objectsOf(run);
  for (const [request, object] of objects) {
    const own = rowsByUid.get(object?.metadata.uid ?? "") ?? [];
    const wrong =
      request.shape.refusal === undefined ? wrongWithSigned(request, own, object) : wrongWithRefused(own, object);
    faults.push(...wrong.map((what) => `request ${request.name}: ${what}`));
  }
  return [...faults, ...(await refusedByOpenssl(run, objects))];
}

function wrongWithSigned(
  request: SigningRequest,
  rows: readonly Row[],
  object: KubernetesObject | undefined,
): string[] {
  const [row, ...others] = rows;
  if (row?.der == null || others.length > 0)
    return [`its certificates are ${rows.map(({ state }) => state).join(", ")}`];
  const { certificate, serialNumber } = object?.status ?? {};
  const given = new X509Certificate(String(certificate));
  const holds: readonly (readonly [boolean, string])[] = [
    [row.records === 1, `${row.records} records of its signing`],
    [given.raw.equals(row.der), "its status has another certificate than the database"],
    [given.serialNumber.toLowerCase() === row.serial, `serial number ${given.serialNumber}, stored is ${row.serial}`],
    [
      String(serialNumber).replaceAll(":", "") === row.serial,
      `its status says ${serialNumber}, stored is ${row.serial}`,
    ],
    [given.subjectAltName === `DNS:${request.dnsName}`, `it is for ${given.subjectAltName}`],
    [request.key !== undefined && spkiOf(given.publicKey).equals(spkiOf(request.key)), "it is for another key"],
  ];
  return holds.filter(([fine]) => !fine).map(([, otherwise]) => otherwise);
}

function wrongWithRefused(rows: readonly Row[], object: KubernetesObject | undefined): string[] {
  const handedOut = object?.status?.certificate !== undefined;
  return [
    ...rows.map(({ state, serial }) => `it was to be refused, and has serial number ${serial}, ${state}`),
    ...(handedOut ? ["it was to be refused, and its status has a certificate"] : []),
  ];
}

/** All in one go, below the root alone, with the issuers' certificates as the resources show them. */
async function refusedByOpenssl({ world }: Run, objects: Awaited<ReturnType<typeof objectsOf>>): Promise<string[]> {
  const judge = new Judge();
  try {
    const bundle = async (name: string) =>
      String((await world.get("clusterissuer.mazevault.io", name)).status?.caBundle);
    const root = judge.write("root.pem", await bundle(ROOT));
    const issuers = judge.write("issuers.pem", (await Promise.all(ISSUERS.map(bundle))).join(""));
    const signed = objects.filter(([{ shape }]) => shape.refusal === undefined);
    const files = signed.map(([{ name }, object]) => judge.write(name, String(object?.status?.certificate)));
    const options = ["-x509_strict", "-purpose", "sslserver", "-CAfile", root, "-untrusted", issuers];
    const { output } = judge.ask("openssl", "verify", ...options, ...files);
    const lines = output.split("\n").filter((line) => line !== "");
    const accepted = new Set(lines);
    return [
      ...files.filter((file) => !accepted.has(`${file}: OK`)).map((file) => `openssl does not accept ${file}`),
      ...lines.filter((line) => !line.endsWith(": OK")),
    ];
  } finally {
    judge.dispose();
  }
}
