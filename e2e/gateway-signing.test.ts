/**
 * A primary whose CA signs in the cluster of a gateway: OpenSSL verifies what comes back, the primary's OCSP responder tells of it, and
 * each request has one certificate however often either side dies over it.
 */
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Judge } from "../core/pki/testing/judge.ts";
import type { CertificateSpec } from "../crds/certificate.ts";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import type { Operator, Program, Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { asOne } from "../lab/supervised.ts";
import { conditionOf, decoded, type KubernetesObject, startWorld, type World } from "./harness.ts";
import { found, tables } from "./leaks.ts";
import { firstAdmin, RestClient } from "./rest-client.ts";

const NAME = "gw-npr-1";
const NAMESPACE = "shop";
const CERTIFICATES = "certificates.mazevault.io";
const REQUESTS = "certificaterequests.mazevault.io";
const ISSUERS = "clusterissuers.mazevault.io";
const SOON = { timeoutMs: 60_000, intervalMs: 100 };
const config = { kubernetes: { leaseDurationMs: 3_000 } };

let primary: World;
let cluster: World;
let operator: Operator;
let main: Rest;
let gateway: Rest;
let rest: RestClient;
let judge: Judge;
let folder: string;
let failpointFile: string;
let primaryFailpointFile: string;

beforeAll(async () => {
  judge = new Judge();
  [primary, cluster] = await Promise.all([startWorld(), startWorld()]);
  folder = path.join(primary.lab.dir, "signing");
  mkdirSync(folder, { recursive: true });
  failpointFile = path.join(folder, "failpoint");
  primaryFailpointFile = path.join(folder, "failpoint-of-primary");
  const { mazevault } = primary;
  operator = await mazevault.startOperator({
    env: { MAZEVAULT_FAILPOINT_FILE: primaryFailpointFile },
    config: { ...config, pki: { baseUrl: mazevault.pkiUrl } },
  });
  main = await mazevault.startRest();
  await mazevault.startOcsp();
  rest = RestClient.of(primary, main);
  const { email, password } = await firstAdmin(primary);
  const session = await rest.login(email, password);
  const body = { name: NAME, environment: "NPR", role: "primary" };
  const { token } = (await rest.send("POST", "/api/v1/gateways/bootstrap", { token: session, body })).body;
  gateway = await cluster.mazevault.startGateway({
    env: {
      MAZEVAULT_GATEWAY_ENVIRONMENT: "NPR",
      PRIMARY_BACKEND_URL: main.restUrl,
      GATEWAY_BOOTSTRAP_TOKEN: String(token),
      MAZEVAULT_FAILPOINT_FILE: failpointFile,
    },
    config: { ...config, gateway: { primaryCaFile: primary.lab.pki.caFile } },
  });
  await cluster.tenant(NAMESPACE);
}, 180_000);

afterAll(async () => {
  judge?.dispose();
  await rest?.close();
  await Promise.all([primary?.stop(), cluster?.stop()]);
});

async function shell(script: string, env: NodeJS.ProcessEnv): Promise<string> {
  const args = ["--norc", "-euo", "pipefail", "-c", script];
  return (await promisify(execFile)("bash", args, { cwd: folder, env })).stdout;
}

const manifest = (name: string, spec: Partial<CertificateSpec> = {}): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Certificate",
  metadata: { name, namespace: NAMESPACE },
  spec: {
    secretName: `${name}-tls`,
    issuerRef: { kind: "ClusterIssuer", name: "services" },
    dnsNames: [`${name}.npr.example.com`],
    ...spec,
  },
});

const issuerOfPrimary = (name: string, of: string): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "ClusterIssuer",
  metadata: { name },
  spec: { primary: { issuerRef: { kind: "ClusterIssuer", name: of } }, namespaces: { names: [NAMESPACE] } },
});

const readyBecause =
  (...reasons: readonly string[]) =>
  (object: KubernetesObject) =>
    reasons.includes(conditionOf(object, "Ready")?.reason ?? "");
/** A pause of what waits for the primary is a minute long at most, and the channel to it may take half of one. */
const RETRIED_WITHIN_MS = 120_000;
/** What waits is tried as soon as there is a channel, which may take half a minute from when the primary listens. */
const BACK_WITHIN_MS = 60_000;
const waitReady = (name: string) => cluster.waitReady(CERTIFICATES, name, NAMESPACE, RETRIED_WITHIN_MS);

/** Certificates that the primary has signed for objects of that name. */
const signedFor = (name: string, kind = "Certificate") =>
  primary.sql<{ serial: string; reason: string | null }>(
    `SELECT encode(serial, 'hex') AS serial, revocation_reason AS reason FROM certificates
     WHERE requester_kind = 'GatewayObject' AND name = $1 AND state <> 'Abandoned' ORDER BY not_before, serial`,
    [`${NAME}/${kind}/${NAMESPACE}/${name}`],
  );

/** The file of what stands in its core Secret, which OpenSSL verifies. */
async function verified(name: string): Promise<string> {
  const values = decoded(await cluster.get("secret", `${name}-tls`, NAMESPACE));
  const file = judge.write(`${name}.pem`, values["tls.crt"] ?? "");
  judge.write(`${name}.key`, values["tls.key"] ?? "");
  const checked = judge.ask("openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "root.pem", file);
  expect(checked.output).toContain("OK");
  const ofKey = judge.run("openssl", "pkey", "-in", `${name}.key`, "-pubout");
  expect(judge.run("openssl", "x509", "-in", file, "-noout", "-pubkey")).toBe(ofKey);
  return file;
}

const ocsp = (file: string): string =>
  judge.ask(
    "openssl",
    "ocsp",
    ...["-issuer", "root.pem", "-CAfile", "root.pem", "-cert", file],
    ...["-url", `${primary.mazevault.pkiUrl}/ocsp`],
  ).output;

test("docs/guides/certificates-through-a-gateway.md works as printed", async () => {
  const guide = new URL("../docs/guides/certificates-through-a-gateway.md", import.meta.url);
  const text = readFileSync(fileURLToPath(guide), "utf8");
  const [allow = "", refer = "", ask = "", revoke = "", revokeThere = "", ...more] = [
    ...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm),
  ].map(([, block = ""]) => block);
  expect(more).toEqual([]);
  const { kubectlPath } = primary.lab.controlPlane;
  const env = {
    ...process.env,
    PATH: [path.dirname(kubectlPath), process.env.PATH].join(path.delimiter),
    PRIMARY: primary.lab.controlPlane.kubeconfigPath,
    GATEWAY: cluster.lab.controlPlane.kubeconfigPath,
  };
  await shell(allow, env);
  await shell(refer, env);
  const printed = await shell(ask, env);
  expect(printed).toContain("web.pem: OK");
  judge.write("root.pem", readFileSync(path.join(folder, "root.pem"), "utf8"));

  const [issuer, ofPrimary] = [await cluster.get(ISSUERS, "services"), await primary.get(ISSUERS, "npr-services")];
  expect(issuer.status?.caBundle).toBe(ofPrimary.status?.caBundle);
  const file = await verified("web");
  await until("the primary's responder says good", async () => ocsp(file).includes(`${file}: good`), SOON);

  await shell(revoke, env);
  await until("it says revoked", async () => /: revoked[\s\S]*Reason: keyCompromise/.test(ocsp(file)), SOON);
  const next = await cluster.waitFor(
    CERTIFICATES,
    "web",
    NAMESPACE,
    (object) => object.status?.revision === 2 && conditionOf(object, "Ready")?.status === "True",
    60_000,
  );
  const [first, second, ...others] = await signedFor("web");
  expect(others).toEqual([]);
  expect(first?.reason).toBe("keyCompromise");
  expect(second).toEqual({ serial: String(next.status?.serialNumber).replaceAll(":", ""), reason: null });
  const current = await verified("web");
  copyFileSync(current, path.join(folder, "web.pem"));
  await shell(revokeThere, env);
  await until("it says revoked", async () => /: revoked[\s\S]*Reason: keyCompromise/.test(ocsp(current)), SOON);
  expect((await signedFor("web")).map(({ reason }) => reason)).toEqual(["keyCompromise", "keyCompromise"]);
}, 240_000);

test("the private key was never at the primary", async () => {
  const { "tls.key": privateKey = "" } = decoded(await cluster.get("secret", "web-tls", NAMESPACE));
  const der = Buffer.from(privateKey.replaceAll(/-----[^-]+-----|\s/g, ""), "base64");
  expect(der.length).toBeGreaterThan(60);
  // The secret number itself, which every form of the key has.
  const canaries = new Map([["key", der.subarray(36, 68)]]);
  const logs = [operator, main].map(
    ({ process }) => [`log of ${process.name}`, readFileSync(process.logFile)] as const,
  );
  expect(found([...(await tables(primary)), ...logs], canaries)).toEqual([]);
  expect(found([["itself", der]], canaries)).not.toEqual([]);
});

test("a CertificateRequest is signed by the primary, over a key that nobody here has", async () => {
  const subject = ["-subj", "/", "-addext", "subjectAltName=critical,DNS:own.npr.example.com"];
  const out = ["-keyout", judge.path("own.key"), "-out", judge.path("own.csr")];
  judge.run("openssl", "req", "-new", "-nodes", "-newkey", "rsa:2048", ...out, ...subject);
  await cluster.apply({
    apiVersion: "mazevault.io/v1",
    kind: "CertificateRequest",
    metadata: { name: "own", namespace: NAMESPACE },
    spec: {
      request: readFileSync(judge.path("own.csr"), "utf8"),
      issuerRef: { kind: "ClusterIssuer", name: "services" },
      profile: "Server",
    },
  });
  const { status } = await cluster.waitReady(REQUESTS, "own", NAMESPACE, 60_000);
  const file = judge.write("own.pem", String(status?.certificate));
  expect(judge.ask("openssl", "verify", "-x509_strict", "-CAfile", "root.pem", file).output).toContain("OK");
  const ofKey = judge.run("openssl", "pkey", "-in", "own.key", "-pubout");
  expect(judge.run("openssl", "x509", "-in", file, "-noout", "-pubkey")).toBe(ofKey);
  expect(await signedFor("own", "CertificateRequest")).toHaveLength(1);
});

test("what the primary does not allow is told with its reason, and goes on when it does", async () => {
  await primary.apply({
    apiVersion: "mazevault.io/v1",
    kind: "ClusterIssuer",
    metadata: { name: "pro-services" },
    spec: {
      ca: { subject: { commonName: "PRO Services CA" } },
      policy: { profiles: ["Server"], dnsNames: ["*.pro.example.com"] },
      gatewayEnvironments: ["PRO"],
    },
  });
  await primary.waitReady(ISSUERS, "pro-services");
  await cluster.apply(
    issuerOfPrimary("pro", "pro-services"),
    manifest("pro", { issuerRef: { kind: "ClusterIssuer", name: "pro" }, dnsNames: ["x.pro.example.com"] }),
    manifest("beyond", { dnsNames: ["beyond.pro.example.com"] }),
  );
  const issuer = await cluster.waitFor(ISSUERS, "pro", undefined, readyBecause("IssuerNotAllowed"));
  expect(conditionOf(issuer, "Ready")?.message).toMatch(/does not list NPR/);
  const waiting = await cluster.waitFor(CERTIFICATES, "pro", NAMESPACE, readyBecause("IssuerNotReady"));
  expect(conditionOf(waiting, "Reconciling")?.status).toBe("True");
  const refused = await cluster.waitFor(CERTIFICATES, "beyond", NAMESPACE, readyBecause("PolicyViolated"), 60_000);
  expect(conditionOf(refused, "Ready")?.message).toMatch(/spec.policy of ClusterIssuer npr-services .*dnsNames/);
  expect(await signedFor("pro")).toEqual([]);
  expect(await signedFor("beyond")).toEqual([]);
  const told = await primary.sql(
    "SELECT FROM audit WHERE action = 'GatewaySigningRefused' AND outcome = 'Denied' AND details->>'issuer' = 'pro-services'",
  );
  expect(told).toHaveLength(1);
  // Nobody tells the gateway that the policy has changed.
  const policy = { dnsNames: ["*.npr.example.com", "beyond.pro.example.com"] };
  await primary.kubectl("patch", ISSUERS, "npr-services", "--type=merge", "-p", JSON.stringify({ spec: { policy } }));
  await waitReady("beyond");
  expect(await signedFor("beyond")).toHaveLength(1);
  await cluster.kubectl("-n", NAMESPACE, "delete", CERTIFICATES, "pro", "beyond");
  await cluster.kubectl("delete", ISSUERS, "pro");
});

test("only a gateway has a primary", async () => {
  await primary.apply(issuerOfPrimary("nobody", "npr-services"));
  const issuer = await primary.waitFor(ISSUERS, "nobody", undefined, readyBecause("NotAGateway"));
  expect(conditionOf(issuer, "Stalled")?.status).toBe("True");
  await primary.kubectl("delete", ISSUERS, "nobody");
});

/** As by kill -9, over `work`; the next process goes on. */
async function diesAt(
  failpoint: string,
  { of: { process }, in: world, file }: { readonly of: Program; readonly in: World; readonly file: string },
  work: () => Promise<unknown>,
): Promise<void> {
  const { restarts } = process;
  writeFileSync(file, failpoint);
  await process.kill("SIGUSR2");
  await work();
  await until(`death at ${failpoint}`, () => process.restarts > restarts, SOON);
  expect(process.lastEnd).toBe("died of SIGKILL");
  rmSync(file, { force: true });
  // Its holder is dead, so the next one need not wait until it runs out.
  await world.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
  await process.ready();
}

const AT_GATEWAY = ["signing.afterReserve", "signing.beforeAsking", "signing.afterAnswer", "signing.afterComplete"];

test.each([...AT_GATEWAY, "signing.beforeAnswer"])("death at %s leaves one certificate", async (failpoint) => {
  const name = failpoint.replace("signing.", "").toLowerCase();
  const dying =
    failpoint === "signing.beforeAnswer"
      ? { of: operator, in: primary, file: primaryFailpointFile }
      : { of: gateway, in: cluster, file: failpointFile };
  await diesAt(failpoint, dying, () => cluster.apply(manifest(name)));
  const { status } = await waitReady(name);
  expect(await signedFor(name)).toEqual([{ serial: String(status?.serialNumber).replaceAll(":", ""), reason: null }]);
  await verified(name);
});

test("death at signing.afterAuthority and at signing.afterRevocation is gone on from", async () => {
  const dying = { of: gateway, in: cluster, file: failpointFile };
  await diesAt("signing.afterAuthority", dying, () => cluster.apply(issuerOfPrimary("again", "npr-services")));
  await cluster.waitReady(ISSUERS, "again", undefined, RETRIED_WITHIN_MS);
  const issuerRef = { kind: "ClusterIssuer", name: "again" } as const;
  await cluster.apply(manifest("revoked", { issuerRef }));
  const { status } = await waitReady("revoked");
  const revocations = [{ serialNumber: String(status?.serialNumber), reason: "superseded" as const }];
  await diesAt("signing.afterRevocation", dying, () => cluster.apply(manifest("revoked", { issuerRef, revocations })));
  await cluster.waitFor(
    CERTIFICATES,
    "revoked",
    NAMESPACE,
    ({ status: now }) => now?.revision === 2,
    RETRIED_WITHIN_MS,
  );
  await waitReady("revoked");
  expect((await signedFor("revoked")).map(({ reason }) => reason)).toEqual(["superseded", null]);
});

test("without the primary what is valid stays, what is new waits, and both are as they should be when it is back", async () => {
  const standing = await waitReady("web");
  const whole = asOne(operator.process, main.process);
  await whole.stop();
  await cluster.apply(manifest("late"));
  // The second where others have asked in vain often enough by then.
  const reasons = readyBecause("PrimaryUnreachable", "CircuitOpen");
  const waiting = await cluster.waitFor(CERTIFICATES, "late", NAMESPACE, reasons, 60_000);
  expect(conditionOf(waiting, "Reconciling")?.status).toBe("True");
  // Looked at while it is away, and nothing of it changes.
  await cluster.kubectl("-n", NAMESPACE, "annotate", CERTIFICATES, "web", "example.com/touched=yes");
  const { metadata, status } = await waitReady("web");
  expect({ uid: metadata.uid, status }).toEqual({ uid: standing.metadata.uid, status: standing.status });
  const secrets = await cluster.list("secret", NAMESPACE);
  expect(secrets.map(({ metadata: { name } }) => name)).not.toContain("late-tls");

  await primary.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
  await whole.start();
  await cluster.waitReady(CERTIFICATES, "late", NAMESPACE, BACK_WITHIN_MS);
  expect(await signedFor("late")).toHaveLength(1);
  await verified("late");
}, 240_000);

test("a restart of both writes nothing about certificates", async () => {
  for (const name of ["web", "late"]) await waitReady(name);
  const rows = async (world: World) =>
    (await world.sql("SELECT FROM audit WHERE action LIKE '%ertificate%' OR action LIKE 'Authority%'")).length;
  const before = [await rows(primary), await rows(cluster)];
  const epochs = await cluster.sql<{ epoch: string }>("SELECT epoch FROM leadership");
  await gateway.process.kill();
  await cluster.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator", "--ignore-not-found");
  await gateway.process.ready();
  await until(
    "it leads again",
    async () => (await cluster.sql<{ epoch: string }>("SELECT epoch FROM leadership"))[0]?.epoch !== epochs[0]?.epoch,
    SOON,
  );
  for (const name of ["web", "late"]) await waitReady(name);
  await cluster.waitReady(ISSUERS, "services", undefined, RETRIED_WITHIN_MS);
  expect([await rows(primary), await rows(cluster)]).toEqual(before);
});
