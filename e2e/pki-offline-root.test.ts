/**
 * An issuer whose certificate comes from a root that is kept offline: the guide as a user types it, wrong certificates,
 * an operator that dies in between, and a renewal. The root is OpenSSL's.
 */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Judge } from "../core/pki/testing/judge.ts";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import type { Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { conditionOf, type KubernetesObject, startWorld, type World } from "./harness.ts";

const KIND = "clusterissuer.mazevault.io";
const DEATH_MS = 30_000;
const config = { kubernetes: { leaseDurationMs: 3_000 } };
const run = promisify(execFile);

let world: World;
let operator: Operator;
let judge: Judge;

beforeAll(async () => {
  judge = new Judge();
  world = await startWorld();
  operator = await world.mazevault.startOperator({ config });
});

afterAll(async () => {
  judge?.dispose();
  await world?.stop();
});

/** What the commands printed, run one after the other in the folder of the root; throws at the first that fails. */
async function shell(commands: string): Promise<string> {
  const { kubectlPath, kubeconfigPath } = world.lab.controlPlane;
  const env = {
    ...process.env,
    KUBECONFIG: kubeconfigPath,
    PATH: `${path.dirname(kubectlPath)}:${process.env.PATH}`,
  };
  const { stdout, stderr } = await run("bash", ["--norc", "-euo", "pipefail", "-c", commands], {
    cwd: judge.folder,
    env,
  });
  return `${stdout}${stderr}`;
}

const manifest = (name: string, certificate?: string, spec: object = {}): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "ClusterIssuer",
  metadata: { name },
  spec: {
    ca: { subject: { commonName: `${name} CA` }, external: certificate === undefined ? {} : { certificate } },
    ...spec,
  },
});

const waiting = (name: string): Promise<KubernetesObject> =>
  world.waitFor(KIND, name, undefined, (each) => conditionOf(each, "Issued")?.reason === "WaitingForCertificate");

/** PEM of what the guide's root makes of the request of an issuer, without the root. */
async function sign(name: string, args = "-days 365 -extfile root.cnf -extensions issuing"): Promise<string> {
  const { status } = await world.get(KIND, name);
  judge.write(`${name}.csr`, String(status?.certificateSigningRequest));
  await shell(`openssl x509 -req -in ${name}.csr -CA root.pem -CAkey root.key ${args} -out ${name}.pem`);
  return file(`${name}.pem`);
}
const file = (name: string): string => readFileSync(judge.path(name), "utf8");

const everything = async (name: string) => ({
  authority: await world.sql(
    `SELECT a.*, g.certificate, g.chain FROM authorities a JOIN authority_generations g ON g.authority_id = a.id
     WHERE a.name = $1`,
    [name],
  ),
  version: (await world.get(KIND, name)).metadata.resourceVersion,
});

test("the guide works as it is printed", async () => {
  const guide = readFileSync(fileURLToPath(new URL("../docs/guides/offline-root.md", import.meta.url)), "utf8");
  const blocks = [...guide.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, block = ""]) => block);
  expect(blocks).toHaveLength(6);
  const printed: string[] = [];
  for (const block of blocks) printed.push(await shell(block));
  expect(printed[1]).toMatch(/subject=O ?= ?Example, ?CN ?= ?Example Issuing CA/);
  expect(printed[5]).toContain("web.pem: OK");

  const issuer = await world.get(KIND, "issuing");
  expect(issuer.status?.caBundle).toBe(file("issuing.pem") + file("root.pem"));
  expect(conditionOf(issuer, "Issued")?.status).toBe("True");
});

test("applying it again, and a restart, write nothing", async () => {
  const before = await everything("issuing");
  await shell("kubectl patch clusterissuers.mazevault.io issuing --type=merge --patch-file=signed.yaml");
  await operator.process.restart();
  await world.apply(manifest("after-restart"));
  await waiting("after-restart");
  expect(await everything("issuing")).toEqual(before);
});

test("a CRL of such a CA verifies with its certificate", async () => {
  const crl = () =>
    world.sql<{ der: Buffer }>(
      "SELECT c.der FROM ocsp_crls c JOIN authorities a ON a.id = c.authority_id WHERE a.name = 'issuing'",
    );
  await until("the CRL is there", async () => (await crl()).length === 1, { timeoutMs: 20_000 });
  judge.write("issuing.crl", (await crl())[0]?.der ?? "");
  const verified = judge.run(
    "openssl",
    "crl",
    "-inform",
    "DER",
    "-in",
    "issuing.crl",
    "-CAfile",
    "issuing.pem",
    "-noout",
  );
  expect(verified).toContain("verify OK");
});

test("wrong certificates are refused with what to do, and the right one is taken after all", async () => {
  await world.apply(manifest("careful"));
  const { status: before } = await waiting("careful");
  const own = await sign("careful");
  const root = file("root.pem");
  await shell(`
    openssl req -x509 -config root.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout other.key -days 10 -out other.pem
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout foreign.key -subj "/CN=careful CA" -config root.cnf -out foreign.csr
    openssl x509 -req -in foreign.csr -CA root.pem -CAkey root.key -days 10 -extfile root.cnf -extensions issuing -out foreign.pem
    printf '[leaf]\\nbasicConstraints = critical, CA:FALSE\\nkeyUsage = critical, digitalSignature\\n' > leaf.cnf
    printf '[ca]\\ndatabase = index\\nserial = serial\\nnew_certs_dir = .\\ndefault_md = sha256\\npolicy = any\\n[any]\\ncommonName = supplied\\n' > ca.cnf
    touch index; echo 4f3a8c1d9e7b2650 > serial
    openssl ca -batch -config ca.cnf -name ca -in careful.csr -cert root.pem -keyfile root.key -notext -preserveDN \\
      -startdate 20240101000000Z -enddate 20240201000000Z -extfile root.cnf -extensions issuing -out expired.pem
  `);
  const leaf = await sign("careful", "-days 10 -extfile leaf.cnf -extensions leaf");
  for (const [text, says] of [
    ["not PEM", /holds no PEM block/],
    [file("foreign.pem") + root, /is for another key; have status.certificateSigningRequest signed/],
    [leaf + root, /not a CA's; have it signed with basicConstraints = critical, CA:TRUE/],
    [own, /add the certificates from .*Example Root.* up to the root/],
    [own + file("other.pem"), /is not signed with the key of the certificate/],
    [file("expired.pem") + root, /has expired; have it signed again/],
  ] as const) {
    await world.apply(manifest("careful", text));
    const stalled = (each: KubernetesObject): boolean => says.test(conditionOf(each, "Stalled")?.message ?? "");
    const refused = await world.waitFor(KIND, "careful", undefined, stalled);
    expect(conditionOf(refused, "Stalled")).toMatchObject({
      reason: "CertificateRefused",
      message: expect.stringMatching(/^spec\.ca\.external\.certificate: /),
    });
    expect(refused.status?.certificateSigningRequest).toBe(before?.certificateSigningRequest);
  }
  expect(
    await world.sql(
      "SELECT FROM authorities a JOIN authority_generations g ON g.authority_id = a.id WHERE a.name = 'careful' AND g.certificate IS NOT NULL",
    ),
  ).toEqual([]);
  await world.apply(manifest("careful", own + root));
  const { status } = await world.waitReady(KIND, "careful");
  expect([status?.caBundle, status?.certificateSigningRequest]).toEqual([
    own + root,
    before?.certificateSigningRequest,
  ]);
});

test.each(["pki.beforeInstall", "pki.afterInstall"])("death at %s installs it once", async (failpoint) => {
  const name = failpoint.toLowerCase().replaceAll(".", "-");
  await world.apply(manifest(name));
  await waiting(name);
  const text = (await sign(name)) + file("root.pem");
  const armed = await world.mazevault.startOperator({ name, env: { MAZEVAULT_FAILPOINT: failpoint }, config });
  armed.process.autoRestart = false;
  try {
    await operator.process.stop();
    await world.apply(manifest(name, text));
    await until(`death at ${failpoint}`, () => armed.process.pid === undefined, { timeoutMs: DEATH_MS });
    expect(armed.process.lastEnd).toBe("died of SIGKILL");
  } finally {
    await armed.process.stop();
    await world.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator");
    await operator.process.start();
  }
  expect((await world.waitReady(KIND, name)).status?.caBundle).toBe(text);
  const [authority] = await world.sql<{ id: string }>("SELECT id FROM authorities WHERE name = $1", [name]);
  const certified = await world.sql("SELECT FROM audit WHERE action = 'AuthorityCertified' AND subject_id = $1", [
    authority?.id,
  ]);
  expect(certified).toHaveLength(1);
});

test("is renewed over the same key, and everything that was issued before still verifies", async () => {
  const before = await world.get(KIND, "issuing");
  const renewed = await sign("issuing", "-days 3650 -extfile root.cnf -extensions issuing");
  await world.kubectl(
    "patch",
    KIND,
    "issuing",
    "--type=merge",
    "-p",
    JSON.stringify({ spec: { ca: { external: { certificate: renewed + file("root.pem") } } } }),
  );
  const changed = ({ status }: KubernetesObject) => status?.serialNumber !== before.status?.serialNumber;
  const after = await world.waitFor(KIND, "issuing", undefined, changed);
  expect(after.status?.caBundle).toBe(renewed + file("root.pem"));
  expect(conditionOf(after, "Ready")?.status).toBe("True");
  await shell("openssl x509 -in web.pem -out leaf.pem");
  const verified = judge.run(
    "openssl",
    "verify",
    "-x509_strict",
    "-CAfile",
    "root.pem",
    "-untrusted",
    "issuing.pem",
    "leaf.pem",
  );
  expect(verified).toContain("OK");
  const refused = await world
    .kubectl("patch", KIND, "issuing", "--type=merge", "-p", '{"spec":{"ca":{"key":{"algorithm":"RSA"}}}}')
    .catch(String);
  expect(refused).toMatch(/ca is immutable but for external.certificate/);
});
