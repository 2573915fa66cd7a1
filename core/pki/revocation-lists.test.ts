/** Certificates and CRLs that OpenSSL makes, judged as OpenSSL judges them. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type Certificate, parseCertificate } from "./certificate.ts";
import { parsePem, pem } from "./pem.ts";
import { RevocationLists, UnusableCrl } from "./revocation-lists.ts";

const dir = mkdtempSync(path.join(tmpdir(), "mazevault-crl-"));
afterAll(() => rmSync(dir, { recursive: true }));

const openssl = (...args: string[]) => execFileSync("openssl", args, { cwd: dir, stdio: ["ignore", "pipe", "pipe"] });
const text = (name: string) => readFileSync(path.join(dir, name), "utf8");
const bytes = (name: string) => readFileSync(path.join(dir, name));
const certificate = (name: string): Certificate =>
  parseCertificate(parsePem(text(`${name}.crt`), name)[0]?.der ?? Buffer.alloc(0));
const day = (n: number) => new Date(Date.now() + n * 86_400_000);

function makeCa(name: string, parent?: string): void {
  const place = path.join(dir, name);
  mkdirSync(place);
  writeFileSync(path.join(place, "index"), "");
  writeFileSync(path.join(place, "number"), "01");
  writeFileSync(
    path.join(dir, `${name}.cnf`),
    `[ca]
default_ca = it
[it]
database = ${name}/index
crlnumber = ${name}/number
rand_serial = yes
new_certs_dir = ${name}
certificate = ${name}.crt
private_key = ${name}.key
default_md = sha256
policy = any
[any]
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
[named]
basicConstraints = CA:FALSE
crlDistributionPoints = URI:http://pki.example.com/part.crl
[part]
issuingDistributionPoint = critical,@where
[where]
fullname = URI:http://pki.example.com/part.crl
[indirect]
issuingDistributionPoint = critical,@others
[others]
indirectCRL = TRUE
[intermediate]
basicConstraints = critical,CA:TRUE
`,
  );
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", `${name}.key`];
  if (parent === undefined) {
    openssl("req", "-x509", ...newKey, "-subj", `/CN=${name}`, "-days", "365", "-out", `${name}.crt`);
    return;
  }
  openssl("req", ...newKey, "-subj", `/CN=${name}`, "-out", `${name}.csr`);
  issue(parent, name, "intermediate");
}

const issue = (ca: string, name: string, extensions: string): Buffer =>
  openssl(
    ...["ca", "-batch", "-notext", "-config", `${ca}.cnf`, "-extensions", extensions, "-days", "90"],
    ...["-in", `${name}.csr`, "-out", `${name}.crt`],
  );

function makeLeaf(ca: string, name: string, extensions = "leaf"): Certificate {
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", `${name}.key`];
  openssl("req", ...newKey, "-subj", `/CN=${name}`, "-out", `${name}.csr`);
  issue(ca, name, extensions);
  return certificate(name);
}

const revoke = (ca: string, name: string) => openssl("ca", "-config", `${ca}.cnf`, "-revoke", `${name}.crt`);
function makeCrl(ca: string, extensions?: string): string {
  const named = extensions === undefined ? [] : ["-crlexts", extensions];
  openssl("ca", "-config", `${ca}.cnf`, "-gencrl", ...named, "-crldays", "7", "-out", `${ca}.crl`);
  return text(`${ca}.crl`);
}

let good: Certificate;
let bad: Certificate;
let below: Certificate;

beforeAll(() => {
  makeCa("root");
  makeCa("issuing", "root");
  makeCa("stranger");
  good = makeLeaf("root", "good");
  bad = makeLeaf("root", "bad");
  below = makeLeaf("issuing", "below");
  revoke("root", "bad");
});

const lists = (...crls: string[]) =>
  RevocationLists.read(Buffer.from(crls.join("")), text("root.crt") + text("issuing.crt"));

test("what is revoked is named, in PEM and in DER, and stays so when the CRL has expired", () => {
  const crl = makeCrl("root");
  const der = parsePem(crl, "CRL")[0]?.der ?? Buffer.alloc(0);
  for (const read of [lists(crl), RevocationLists.read(der, text("root.crt"))]) {
    expect([read.fault(good, day(1)), read.fault(bad, day(1))]).toEqual([undefined, "Revoked"]);
    expect([read.fault(good, day(8)), read.fault(bad, day(8))]).toEqual(["CrlExpired", "Revoked"]);
    expect([read.expiring(day(6)).length, read.expiring(day(8)).map(({ issuer }) => issuer)]).toEqual([0, ["CN=root"]]);
  }
});

test("each CA on the way needs one, and a revoked CA takes with it what it issued", () => {
  const root = makeCrl("root");
  expect(lists(root).fault(below, day(1))).toBe("CrlMissing");
  const issuing = makeCrl("issuing");
  expect(lists(root, issuing).fault(below, day(1))).toBeUndefined();
  expect(lists(issuing).fault(below, day(1))).toBe("CrlMissing");
  revoke("root", "issuing");
  expect(lists(makeCrl("root"), issuing).fault(below, day(1))).toBe("Revoked");
});

test("what another CA of that name issued, or signed, does not count", () => {
  makeCa("other");
  const foreign = makeLeaf("other", "foreign");
  expect(lists(makeCrl("root")).fault(foreign, day(1))).toBe("CrlMissing");
  expect(() => lists(makeCrl("stranger"))).toThrow(/was not signed by a CA/);
});

test("a part of the CRL is about those that name it", () => {
  const named = makeLeaf("root", "named", "named");
  const part = makeCrl("root", "part");
  expect([lists(part).fault(named, day(1)), lists(part).fault(good, day(1))]).toEqual([undefined, "CrlMissing"]);
});

test.each([
  ["an indirect one", () => makeCrl("root", "indirect")],
  ["a certificate", () => text("good.crt")],
  ["nothing", () => ""],
  ["a broken one", () => pem("X509 CRL", bytes("root.crt"))],
])("%s is not used", (_, crl) => {
  expect(() => lists(crl())).toThrow(UnusableCrl);
});
