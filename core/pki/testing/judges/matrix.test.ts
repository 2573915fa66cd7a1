/**
 * Every kind of key, profile and state, as programs see it that we did not write. A judge that this machine lacks is not
 * asked; `npm test` ends with a line about each of those.
 */
import { parseCertificate } from "../../certificate.ts";
import { authorityKeyIdentifier, type Extension, subjectKeyIdentifier } from "../../extension.ts";
import { parseOcspResponse } from "../../ocsp/response.ts";
import { oids } from "../../oid.ts";
import { pem } from "../../pem.ts";
import type { Profile } from "../../profile.ts";
import { Judge } from "../judge.ts";
import { party } from "../party.ts";
import { type Ca, type Case, caseName, JudgedPki, keyName, keySpecs, type State, serverName } from "./artefacts.ts";
import * as gnutls from "./gnutls.ts";
import * as byOpenssl from "./openssl.ts";
import { type LintCall, type LintFinding, lint } from "./pkilint.ts";
import { certtool, ocsptool, python } from "./programs.ts";

/** A finding of pkilint that stands: where it may be, and why. One that is not found any more fails its test. */
interface Allowance {
  readonly program: LintCall["program"];
  readonly code: string;
  readonly where: (judged: Case) => boolean;
  readonly because: string;
}

const server = ({ profile }: Case): boolean => profile === "Server";
const allowances: readonly Allowance[] = [
  {
    program: "lint_pkix_cert",
    code: "pkix.invalid_uri_syntax",
    where: ({ profile }) => profile === "Client",
    because:
      "pkilint only knows the schemes of web addresses; a SPIFFE ID (spiffe://example.com/...) is a URI by RFC 3986.",
  },
  {
    program: "lint_pkix_cert",
    code: "pkix.invalid_domain_name_syntax",
    where: server,
    because:
      "A wildcard is no domain name; RFC 5280 4.2.1.6 leaves its meaning to others, and RFC 9525 6.3 gives it one.",
  },
  {
    program: "lint_cabf_serverauth_cert",
    code: "cabf.serverauth.subscriber.certificate_policies_extension_absent",
    where: server,
    because:
      "The policies of the Baseline Requirements (7.1.2.7.9) state that a public CA validated the domain; a private CA cannot.",
  },
  {
    program: "lint_cabf_serverauth_cert",
    code: "cabf.serverauth.dv.common_name_attribute_present",
    where: server,
    because:
      "NOT RECOMMENDED for public CAs (7.1.2.7.2), not forbidden; users ask for it by spec.commonName, for clients that show it.",
  },
  {
    program: "lint_cabf_serverauth_cert",
    code: "cabf.serverauth.subscriber.subject_key_identifier_extension_present",
    where: server,
    because: "NOT RECOMMENDED for public CAs (7.1.2.7.6); RFC 5280 4.2.1.2 says that end entities SHOULD have it.",
  },
  {
    program: "lint_cabf_serverauth_cert",
    code: "cabf.serverauth.subscriber_rsa_digitalsignature_and_keyencipherment_present",
    where: (judged) => server(judged) && judged.key.algorithm === "RSA",
    because:
      "NOT RECOMMENDED for public CAs (7.1.2.7.11); TLS 1.2 has cipher suites for either use, and one key must serve both.",
  },
  ...["country", "organization_name"].map((attribute) => ({
    program: "lint_cabf_serverauth_cert" as const,
    code: `cabf.serverauth.ca.${attribute}_attribute_absent`,
    where: () => true,
    because:
      "A public CA's responder bears the name of its organization (7.1.2.8); a private CA's is known by who certified it.",
  })),
  ...["signature_algorithm", "subject_public_key_algorithm"].map((what) => ({
    program: "lint_cabf_serverauth_cert" as const,
    code: `cabf.serverauth.prohibited_${what}_encoding`,
    where: (judged: Case) => judged.key.algorithm === "Ed25519",
    because: "Public CAs may not use Ed25519 (7.1.3); a private CA may, by RFC 8410.",
  })),
];

/** What OpenSSL and GnuTLS take each for, and what neither may take it for. */
const purposes: Readonly<
  Record<Profile, readonly { readonly openssl: string; readonly oid: string; readonly good: boolean }[]>
> = (() => {
  const serverAuth = { openssl: "sslserver", oid: oids.serverAuth };
  const clientAuth = { openssl: "sslclient", oid: oids.clientAuth };
  const email = { openssl: "smimesign", oid: oids.emailProtection };
  const [yes, no] = [{ good: true }, { good: false }];
  const client = [
    { ...clientAuth, ...yes },
    { ...serverAuth, ...no },
  ];
  return {
    Server: [
      { ...serverAuth, ...yes },
      { ...clientAuth, ...no },
    ],
    Client: client,
    Agent: client,
    Gateway: [
      { ...serverAuth, ...yes },
      { ...clientAuth, ...yes },
      { ...email, ...no },
    ],
    OCSPResponder: [
      { ...serverAuth, ...no },
      { ...clientAuth, ...no },
    ],
    CA: [],
  };
})();
/** GnuTLS tells OCSP signing like any other purpose; OpenSSL asks for it only when it verifies answers. */
const responderPurpose = { oid: oids.ocspSigning, good: true };

const judge = new Judge();
afterAll(() => judge.dispose());
const pkis = await Promise.all(keySpecs.map((key) => JudgedPki.make(key)));

/** Files of a CA; the impostor has its name and key identifier, and another key. */
interface CaFiles {
  readonly der: string;
  readonly pem: string;
  /** With those above it. */
  readonly chain: string;
  readonly root: string;
  readonly crls: Readonly<Record<keyof Ca["crls"], { readonly der: string; readonly pem: string }>>;
  readonly impostor: string;
}
const caFiles = new Map<Ca, CaFiles>();
for (const { key, cas } of pkis) {
  for (const ca of cas) {
    const name = `${keyName(key)}-${ca.name}`;
    const { subject, subjectKeyIdentifier: identifier = Buffer.alloc(0) } = parseCertificate(ca.chain[0]);
    const impostor = await party({
      name: subject,
      ca: true,
      key,
      extensions: (usual) => [
        ...usual.filter(({ oid }) => oid !== oids.subjectKeyIdentifier && oid !== oids.authorityKeyIdentifier),
        subjectKeyIdentifier(identifier),
        authorityKeyIdentifier(identifier),
      ],
    });
    const pems = ca.chain.map((der) => pem("CERTIFICATE", der));
    const crl = (which: keyof Ca["crls"]) => ({
      der: judge.write(`${name}.${which}.crl`, ca.crls[which]),
      pem: judge.write(`${name}.${which}.crl.pem`, pem("X509 CRL", ca.crls[which])),
    });
    caFiles.set(ca, {
      der: judge.write(`${name}.ca.der`, ca.chain[0]),
      pem: judge.write(`${name}.ca.pem`, pems[0] ?? ""),
      chain: judge.write(`${name}.chain.pem`, pems.join("")),
      root: judge.write(`${name}.root.pem`, pems.at(-1) ?? ""),
      crls: { first: crl("first"), current: crl("current") },
      impostor: judge.write(`${name}.impostor.pem`, pem("CERTIFICATE", impostor.certificate)),
    });
  }
}
function filesOf(ca: Ca): CaFiles {
  const files = caFiles.get(ca);
  if (files === undefined) throw new Error(`no files of ${ca.name}`);
  return files;
}

/** The CAs above a case, nearest first; a root is its own. */
function casAbove(judged: Case): readonly Ca[] {
  const pki = pkis.find(({ cases, belowRevoked }) => cases.includes(judged) || belowRevoked.includes(judged));
  const [root] = pki?.cas ?? [];
  const { issuer } = judged;
  return [...new Set([issuer, root].filter((ca) => ca !== undefined))];
}

interface CaseFiles {
  readonly der: string;
  readonly pem: string;
  /** With the chain up to the root; and with the CRLs of all above it. */
  readonly chain: string;
  readonly chainAndCrls: string;
  readonly ocsp?: Readonly<Record<"sha1" | "sha256", string>>;
}
function write(judged: Case, name = caseName(judged)): CaseFiles {
  const { certificate, issuer, ocsp } = judged;
  const chain = [certificate, ...(issuer?.chain ?? [])].map((der) => pem("CERTIFICATE", der)).join("");
  const crls = casAbove(judged).map(({ crls }) => pem("X509 CRL", crls.current));
  return {
    der: judge.write(`${name}.der`, certificate),
    pem: judge.write(`${name}.pem`, pem("CERTIFICATE", certificate)),
    chain: judge.write(`${name}.chain.pem`, chain),
    chainAndCrls: judge.write(`${name}.crls.pem`, chain + crls.join("")),
    ...(ocsp && {
      ocsp: {
        sha1: judge.write(`${name}.sha1.ocsp`, ocsp.sha1),
        sha256: judge.write(`${name}.sha256.ocsp`, ocsp.sha256),
      },
    }),
  };
}
const caseFiles = new Map(pkis.flatMap(({ cases }) => cases.map((judged) => [judged, write(judged)] as const)));
function written(judged: Case): CaseFiles {
  const files = caseFiles.get(judged);
  if (files === undefined) throw new Error(`no files of ${caseName(judged)}`);
  return files;
}

/** What pkilint is asked about a case. */
function lintCalls(judged: Case): readonly LintCall[] {
  const { der, ocsp } = written(judged);
  const { issuer, profile, role, state } = judged;
  const calls = certificateCalls(profile, der, issuer);
  for (const response of Object.values(ocsp ?? {})) {
    calls.push({ program: "lint_ocsp_response", options: [], files: [response] });
  }
  // Once for each CA: the responder that it certified in service.
  if (judged.ocsp && state === "good" && (role === "subordinate" || profile === "Server")) {
    const file = judge.write(`${caseName(judged)}.responder.der`, responderOf(judged.ocsp.sha256));
    calls.push(...certificateCalls("OCSPResponder", file, issuer));
  }
  return calls;
}
const cabfTypes: Readonly<Partial<Record<Profile, string>>> = {
  Server: "DV-FINAL-CERTIFICATE",
  OCSPResponder: "OCSP-RESPONDER",
};
function certificateCalls(profile: Profile, file: string, issuer: Ca | undefined): LintCall[] {
  const type = cabfTypes[profile];
  return [
    { program: "lint_pkix_cert", options: [], files: [file] },
    ...(type ? [{ program: "lint_cabf_serverauth_cert", options: ["--type", type], files: [file] } as const] : []),
    ...(issuer
      ? [{ program: "lint_pkix_signer_signee_cert_chain", options: [], files: [filesOf(issuer).der, file] } as const]
      : []),
  ];
}
/** The certificate in an answer. */
function responderOf(response: Buffer): Buffer {
  const [responder] = parseOcspResponse(response).basic?.certificates ?? [];
  if (responder === undefined) throw new Error("no responder's certificate");
  return responder;
}
/** ARL: of a CA that only certifies CAs. */
const crlCall = (ca: Ca, file: string): LintCall => {
  const type = ca.chain.length === 1 ? "ARL" : "CRL";
  return { program: "lint_crl", options: ["--type", type, "--profile", "PKIX"], files: [file] };
};

const usedAllowances = new Set<Allowance>();
/** One process for all, beside the other judges. */
const linted: Promise<ReadonlyMap<Case | string, readonly { call: LintCall; findings: readonly LintFinding[] }[]>> =
  (async () => {
    if (python === undefined) return new Map();
    const calls = [
      ...pkis.flatMap(({ cases }) => cases.flatMap((about) => lintCalls(about).map((call) => ({ about, call })))),
      ...[...caFiles].flatMap(([ca, { crls }]) =>
        Object.values(crls).map(({ der }) => ({ about: der, call: crlCall(ca, der) })),
      ),
    ];
    const results = await lint(
      python,
      calls.map(({ call }) => call),
    );
    const found = calls.map(({ about, call }, at) => ({ about, call, findings: results[at] ?? [] }));
    return Map.groupBy(found, ({ about }) => about);
  })();
// Told by the tests that wait for it.
linted.catch(() => {});

/** What pkilint found that is not allowed; `clean` when it looked and there was nothing. */
async function unexplained(about: Case | string): Promise<string | readonly string[]> {
  const looked = (await linted).get(about);
  if (looked === undefined) return "not looked at";
  const left = looked.flatMap(({ call, findings }) =>
    findings
      .filter(({ code }) => {
        const allowance = allowances.find(
          (each) =>
            each.program === call.program && each.code === code && typeof about !== "string" && each.where(about),
        );
        if (allowance !== undefined) usedAllowances.add(allowance);
        return allowance === undefined;
      })
      .map(({ severity, code, message, path }) => `${call.program} ${severity} ${code} at ${path}: ${message}`),
  );
  return left.length === 0 ? "clean" : left;
}

/** What each judge should say of a case in a state; the keys are those of the verdicts below. */
function expected({ role, profile, state }: Case): Readonly<Record<string, unknown>> {
  const gone = state !== "good";
  const ocsp = { good: "good", revoked: "revoked (keyCompromise)", held: "revoked (certificateHold)" }[state];
  const wanted = purposes[profile];
  const refused = (good: boolean) => (good ? "OK" : "unsuitable certificate purpose at 0");
  return {
    "openssl verify -x509_strict -crl_check_all": gone ? "certificate revoked at 0" : "OK",
    "openssl verify, other CA of that name":
      role === "root" ? "self-signed certificate at 0" : "certificate signature failure at 0",
    ...Object.fromEntries(wanted.map(({ openssl, good }) => [`openssl verify -purpose ${openssl}`, refused(good)])),
    ...(role !== "root" && {
      "openssl ocsp, SHA-1": ocsp,
      "openssl ocsp, SHA-256": ocsp,
      "openssl ocsp, other CA of that name": "Response Verify Failure",
    }),
    ...(python && { pkilint: "clean" }),
    ...(certtool && {
      "certtool --certificate-info": true,
      "certtool --verify-chain": gone ? "revoked" : "trusted",
      "certtool --verify, other CA of that name": "signature invalid",
      ...Object.fromEntries(
        (profile === "OCSPResponder" ? [...wanted, responderPurpose] : wanted).map(({ oid, good }) => [
          `certtool --verify-purpose ${oid}`,
          good ? "trusted" : "wrong purpose",
        ]),
      ),
    }),
    ...(ocsptool &&
      role !== "root" && {
        "ocsptool, SHA-1": gone ? "revoked" : "good",
        "ocsptool, SHA-256": gone ? "revoked" : "good",
      }),
  };
}

/** What each judge says of a case. */
async function verdicts(judged: Case): Promise<Readonly<Record<string, unknown>>> {
  const { certificate, issuer, profile, subject } = judged;
  const files = written(judged);
  const above = casAbove(judged).map(filesOf);
  const [own] = above;
  if (own === undefined) throw new Error("nobody is above");
  const impostor = own.impostor;
  const trusting = ["-CAfile", own.root, ...(issuer ? ["-untrusted", own.chain] : [])];
  const hostname = profile === "Server" ? ["-verify_hostname", serverName] : [];
  const asked: Record<string, Promise<unknown>> = {
    "openssl verify -x509_strict -crl_check_all": byOpenssl.verify(
      [
        ...["-x509_strict", "-crl_check_all", ...trusting, ...hostname],
        ...above.flatMap(({ crls }) => ["-CRLfile", crls.current.pem]),
      ],
      files.pem,
    ),
    "openssl verify, other CA of that name": byOpenssl.verify(["-partial_chain", "-CAfile", impostor], files.pem),
  };
  for (const { openssl } of purposes[profile]) {
    asked[`openssl verify -purpose ${openssl}`] = byOpenssl.verify(["-purpose", openssl, ...trusting], files.pem);
  }
  if (files.ocsp && judged.ocsp) {
    const responder = responderOf(judged.ocsp.sha256);
    const responderFile = judge.write(`${caseName(judged)}.responder.pem`, pem("CERTIFICATE", responder));
    const { sha1, sha256 } = files.ocsp;
    const byChain = ["-issuer", own.pem, "-CAfile", own.root, "-verify_other", own.chain];
    const byResponder = ["-sha256", "-issuer", own.pem, "-VAfile", responderFile];
    const byImpostor = ["-issuer", own.pem, "-CAfile", impostor];
    asked["openssl ocsp, SHA-1"] = byOpenssl.ocspStatus(byChain, files.pem, sha1);
    asked["openssl ocsp, SHA-256"] = byOpenssl.ocspStatus(byResponder, files.pem, sha256);
    asked["openssl ocsp, other CA of that name"] = byOpenssl.ocspStatus(byImpostor, files.pem, sha1);
    if (ocsptool) {
      asked["ocsptool, SHA-1"] = gnutls.ocspStatus(ocsptool, ["--load-trust", own.pem], sha1);
      asked["ocsptool, SHA-256"] = gnutls.ocspStatus(ocsptool, ["--load-trust", own.pem], sha256);
    }
  }
  if (certtool) {
    const tool = certtool;
    const serial = parseCertificate(certificate).serialNumber.toString("hex");
    const shown = gnutls.serialNumbers(tool, "certificate", files.der);
    asked["certtool --certificate-info"] = shown.then((serials) => serials.length === 1 && serials[0] === serial);
    asked["certtool --verify-chain"] = gnutls.verifyChain(tool, files.chainAndCrls);
    asked["certtool --verify, other CA of that name"] = gnutls.verifyFor(tool, impostor, [], files.pem);
    const wanted = profile === "OCSPResponder" ? [...purposes[profile], responderPurpose] : purposes[profile];
    for (const { oid, good } of wanted) {
      const options = [
        "--verify-purpose",
        oid,
        ...(good && profile === "Server" ? ["--verify-hostname", serverName] : []),
      ];
      asked[`certtool --verify-purpose ${oid}`] = gnutls.verifyFor(tool, own.root, options, files.chain);
    }
  }
  if (python) asked.pkilint = unexplained(judged);
  if (subject === undefined && issuer === undefined) throw new Error("neither a leaf nor a CA");
  const said = await Promise.all(Object.entries(asked).map(async ([name, what]) => [name, await what] as const));
  return Object.fromEntries(said);
}

const table = (judged: Case): string => {
  const { key, role, profile, state } = judged;
  const status = { good: "good", revoked: "revoked", held: "revoked (on hold)" }[state];
  const columns = [
    keyName(key).padEnd(8),
    role.padEnd(11),
    profile.padEnd(13),
    state.padEnd(7),
    `${certtool ? "OpenSSL, GnuTLS" : "OpenSSL"}: ${state === "good" ? "trusted" : "revoked"}`,
    ...(role === "root" ? [] : [`OCSP: ${status}`]),
    ...(python ? ["pkilint: clean"] : []),
  ];
  return columns.join(" | ");
};

describe("the matrix", () => {
  const rows = pkis.flatMap(({ cases }) => cases.map((judged) => [table(judged), judged] as const));
  test.each(rows)("%s", async (_, judged) => {
    expect(await verdicts(judged)).toEqual(expected(judged));
  });
});

describe("below a CA that is revoked or on hold, all are refused", () => {
  const rows = pkis.flatMap(({ belowRevoked }) => belowRevoked.map((judged) => [table(judged), judged] as const));
  test.each(rows)("%s", async (_, judged) => {
    const files = write(judged, `below-${caseName(judged)}`);
    const above = casAbove(judged).map(filesOf);
    const [own] = above;
    const crls = above.flatMap(({ crls }) => ["-CRLfile", crls.current.pem]);
    const options = ["-x509_strict", "-crl_check_all", "-CAfile", own?.root ?? "", "-untrusted", own?.chain ?? ""];
    expect(await byOpenssl.verify([...options, ...crls], files.pem)).toBe("certificate revoked at 1");
    if (certtool) expect(await gnutls.verifyChain(certtool, files.chainAndCrls)).toBe("revoked");
  });
});

describe("CRLs", () => {
  const reasons: Readonly<Record<State, string>> = { good: "", revoked: "Key Compromise", held: "Certificate Hold" };
  const rows = pkis.flatMap(({ key, cas, cases }) =>
    cas.flatMap((ca) =>
      (["first", "current"] as const).map((which) => {
        const listed = cases.filter(({ issuer, state }) => which === "current" && issuer === ca && state !== "good");
        const entries = listed.map(({ certificate, state }) => {
          return `${parseCertificate(certificate).serialNumber.toString("hex")} ${reasons[state]}`;
        });
        const name = `${keyName(key).padEnd(8)} | ${ca.name.padEnd(19)} | ${which.padEnd(7)} | ${entries.length} entries`;
        return [name, ca, which, entries.sort()] as const;
      }),
    ),
  );
  test.each(rows)("%s", async (_, ca, which, entries) => {
    const files = filesOf(ca);
    const { der, pem: pemFile } = files.crls[which];
    const seen = await byOpenssl.crl(files.chain, der);
    // The number goes on only where something was revoked.
    const number = entries.length === 0 ? "1" : "2";
    expect({ ...seen, entries: seen.entries.sort() }).toEqual({ signature: "verify OK", number, entries });
    if (certtool) {
      expect(await gnutls.verifyCrl(certtool, files.pem, pemFile)).toBe("trusted");
      const serials = (await gnutls.serialNumbers(certtool, "crl", der)).sort();
      expect(serials).toEqual(entries.map((entry) => entry.split(" ")[0]));
    }
    if (python) expect(await unexplained(der)).toBe("clean");
  });
});

if (python !== undefined) {
  const able = python;
  describe("pkilint", () => {
    test("notices what is wrong", async () => {
      const ca = await party({ name: "CA", ca: true });
      const other = await party({ name: "CA", ca: true });
      const without = (oid: string) => (usual: readonly Extension[]) => usual.filter((each) => each.oid !== oid);
      const leaf = await party({ name: "leaf", issuer: ca, extensions: without(oids.authorityKeyIdentifier) });
      const caFile = judge.write("other-ca.der", other.certificate);
      const leafFile = judge.write("leaf.der", leaf.certificate);
      const findings = await lint(able, [
        { program: "lint_pkix_cert", options: [], files: [leafFile] },
        { program: "lint_pkix_signer_signee_cert_chain", options: [], files: [caFile, leafFile] },
      ]);
      expect(findings.map((found) => found.map(({ code }) => code))).toEqual([
        ["pkix.authority_key_identifier_extension_absent"],
        ["pkix.authority_key_id_extension_missing", "pkix.signature_verification_failed"],
      ]);
    });

    test("each allowance is needed, and says why", async () => {
      for (const { cases } of pkis) for (const judged of cases) await unexplained(judged);
      expect(allowances.filter((each) => !usedAllowances.has(each))).toEqual([]);
      for (const { because } of allowances) expect(because).toMatch(/^[A-Z].{30,}\.$|^pkilint .{30,}\.$/);
    });
  });
}
