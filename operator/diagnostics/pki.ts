/** CAs, their CRLs, and whether the responder that certificates name answers, fresh and properly signed. */

import { type Check, type Finding, failing } from "../../core/diagnosis/finding.ts";
import { operatorLog, responderLog } from "../../core/diagnosis/logs.ts";
import { judgeValidity } from "../../core/diagnosis/validity.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { sequence } from "../../core/pki/der/writer.ts";
import { OcspResponseLint } from "../../core/pki/lint/ocsp-response.ts";
import { encodeCertId, issuerHashes } from "../../core/pki/ocsp/cert-id.ts";
import { publicationUrls } from "../../core/pki/urls.ts";
import type { AuthorityRecord, PkiStore } from "../../core/ports/pki-store.ts";

export interface PkiParts {
  readonly store: Pick<PkiStore, "listAuthorities" | "crl">;
  /** Where relying parties reach the responder; undefined when certificates do not say. */
  readonly baseUrl: string | undefined;
  /** Namespace of the installation. */
  readonly home: string;
}

/** As many are looked at. */
const MOST = 200;
/** Signed as an answer about any other number is, and never issued. */
const UNUSED_SERIAL = "01";

export function pkiChecks({ store, baseUrl, home }: PkiParts): readonly Check[] {
  const active = store.listAuthorities(undefined, MOST).then((all) => all.filter(({ state }) => state === "Active"));
  active.catch(() => {});
  const otherwise = "kubectl get issuers,clusterissuers -A";
  const authorities: Check = {
    name: "pki.authorities",
    otherwise,
    examine: async () => (await active).flatMap((authority) => judgeAuthority(authority, home)),
  };
  const crls: Check = {
    name: "pki.crls",
    otherwise,
    examine: async () =>
      (await Promise.all((await active).map((authority) => judgeCrl(store, authority, home)))).flat(),
  };
  if (baseUrl === undefined) return [authorities, crls];
  const { ocsp: url } = publicationUrls(baseUrl);
  const reach = `look whether the responder runs and whether pki.baseUrl leads to it: curl -sv ${url}; ${responderLog(home)}`;
  const ocsp: Check = {
    name: "ocsp.answers",
    otherwise: reach,
    examine: async (signal) => {
      const signing = (await active).find(
        (authority) => certificateOf(authority) !== undefined && authority.primaryIssuer === undefined,
      );
      return signing === undefined ? [] : judgeResponder(url, signing, reach, signal);
    },
  };
  return [authorities, crls, ocsp];
}

const newest = ({ generations }: AuthorityRecord) => generations.at(-1);
const certificateOf = (authority: AuthorityRecord): Buffer | undefined => newest(authority)?.certificate;

const describe = ({ identity: { kind, namespace, name } }: AuthorityRecord): string =>
  `${kind} ${namespace === "" ? "" : `${namespace}/`}${name}`;

/** What belongs to the installation has no object that would tell more. */
const look = ({ identity: { kind, namespace, name } }: AuthorityRecord, home: string): string =>
  kind === "Installation"
    ? operatorLog(home)
    : `kubectl ${namespace === "" ? "" : `-n ${namespace} `}describe ${kind.toLowerCase()}s.mazevault.io ${name}`;

function judgeAuthority(authority: AuthorityRecord, home: string): readonly Finding[] {
  const der = certificateOf(authority);
  // That it waits for one is told by its own condition.
  if (der === undefined) return [];
  const what = `the certificate of ${describe(authority)}`;
  const fix = `it is renewed by itself where its issuer is here; where it was signed elsewhere, have it signed again: ${look(authority, home)}`;
  return judgeValidity("pki.authorities", what, parseCertificate(der), new Date(), fix);
}

async function judgeCrl(
  store: PkiParts["store"],
  authority: AuthorityRecord,
  home: string,
): Promise<readonly Finding[]> {
  const generation = newest(authority);
  if (generation?.certificate === undefined) return [];
  const crl = await store.crl({ authorityId: authority.id, generation: generation.number, partition: 0 });
  if (crl === undefined || crl.nextUpdate > new Date()) return [];
  return [
    failing("pki.crls", {
      subject: describe(authority),
      problem: `its CRL has ended at ${crl.nextUpdate.toISOString()}, and no other was signed: clients refuse its certificates`,
      fix: `the leader signs CRLs: look for chore \`publish CRLs\` in its log, then ${look(authority, home)}`,
    }),
  ];
}

async function judgeResponder(
  url: string,
  authority: AuthorityRecord,
  reach: string,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const der = certificateOf(authority) as Buffer;
  const { subjectDer, spki } = parseCertificate(der);
  // RFC 6960, section 4.1.1, without optional parts.
  const certId = encodeCertId("sha1", issuerHashes("sha1", subjectDer, spki), UNUSED_SERIAL);
  const body = sequence(sequence(sequence(sequence(certId))));
  const check = "ocsp.answers";
  let answer: Buffer;
  try {
    const headers = { "content-type": "application/ocsp-request" };
    const response = await fetch(url, { method: "POST", headers, body: new Uint8Array(body), signal });
    if (!response.ok) {
      return [failing(check, { problem: `the responder at ${url} answers with HTTP ${response.status}`, fix: reach })];
    }
    answer = Buffer.from(await response.arrayBuffer());
  } catch (error) {
    if (signal.aborted) throw error;
    const { code = "no answer" } = ((error as Error).cause ?? {}) as { code?: string };
    return [failing(check, { problem: `the responder at ${url} cannot be reached (${code})`, fix: reach })];
  }
  const faults = new OcspResponseLint(der)
    .lint(answer, { at: new Date() })
    .filter(({ severity }) => severity === "Error");
  return faults.map(({ message }) =>
    failing(check, {
      subject: describe(authority),
      problem: `the responder's answer is refused by clients: ${message}`,
      fix: "look at its /readyz and log: without the leader it gets no certificates, without PostgreSQL it has no news; and at its clock",
    }),
  );
}
