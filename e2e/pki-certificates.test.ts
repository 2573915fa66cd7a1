/**
 * The life of certificates from outside: asked for by a manifest, delivered as a core Secret, judged by openssl; renewed,
 * revoked, refused, repaired, and left alone.
 */
import { execFile } from "node:child_process";
import { createHash, createPrivateKey, X509Certificate } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import type { CertificateSpec } from "../crds/certificate.ts";
import type { Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { findKeytool, QUICK_KEYTOOL } from "../lab/setup/needs.ts";
import { ApiClient } from "./chaos/api.ts";
import { FOREIGN_CA, foreignBundle } from "./foreign-bundle.ts";
import {
  conditionOf,
  decoded,
  difference,
  type KubernetesObject,
  scrape,
  startWorld,
  total,
  type World,
} from "./harness.ts";

const NAMESPACE = "shop";
const KIND = "certificate.mazevault.io";

let world: World;
let operator: Operator;
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), "mazevault-certificates-"));
  world = await startWorld();
  operator = await world.mazevault.startOperator();
  await world.tenant(NAMESPACE);
  await world.apply(
    clusterIssuer("root", { policy: { allowSubordinates: { namespaces: { names: [NAMESPACE] } } } }),
    clusterIssuer("services", {
      ca: { subject: { commonName: "Services", organizations: ["Example"] }, parentRef: ref("root") },
      policy: {
        profiles: ["Server", "Client"],
        maxDuration: "2160h",
        dnsNames: ["*.{namespace}.svc"],
        ipRanges: ["10.0.0.0/8"],
        uris: ["spiffe://example.com/ns/{namespace}/sa/*"],
        emailDomains: ["example.com"],
        otherNames: ["1.3.6.1.4.1.311.20.2.3"],
        subject: { organizations: ["Example"] },
      },
      namespaces: { names: [NAMESPACE] },
    }),
  );
  for (const name of ["root", "services"]) await world.waitReady("clusterissuer.mazevault.io", name);
}, 120_000);

afterAll(async () => {
  await world?.stop();
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});

const ref = (name: string) => ({ kind: "ClusterIssuer" as const, name });

const clusterIssuer = (name: string, spec: object): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "ClusterIssuer",
  metadata: { name },
  spec: { ca: { subject: { commonName: name } }, ...spec },
});

const certificate = (name: string, spec: Partial<CertificateSpec> = {}): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Certificate",
  metadata: { name, namespace: NAMESPACE },
  spec: {
    secretName: `${name}-tls`,
    issuerRef: ref("services"),
    commonName: `${name}.${NAMESPACE}.svc`,
    dnsNames: [`${name}.${NAMESPACE}.svc`],
    ...spec,
  },
});

const deployment = (name: string, secretName: string): object => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name, namespace: NAMESPACE },
  spec: {
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: {
        containers: [{ name, image: "example/app:1" }],
        volumes: [{ name: "tls", secret: { secretName } }],
      },
    },
  },
});

interface Bundle {
  readonly object: KubernetesObject;
  readonly "tls.key": string;
  readonly "tls.crt": string;
  readonly "ca.crt": string;
  readonly leaf: X509Certificate;
}

async function bundle(secretName: string): Promise<Bundle> {
  const object = await world.get("secret", secretName, NAMESPACE);
  const data = decoded(object) as Record<"tls.key" | "tls.crt" | "ca.crt", string>;
  return { object, ...data, leaf: new X509Certificate(data["tls.crt"]) };
}

/** Applies the manifest, and waits until what it asks for is delivered. */
async function issue(name: string, spec: Partial<CertificateSpec> = {}): Promise<Bundle> {
  await world.apply(certificate(name, spec));
  await world.waitReady(KIND, name, NAMESPACE);
  return bundle(spec.secretName ?? `${name}-tls`);
}

const serialOf = ({ leaf }: Bundle): string => leaf.serialNumber.toLowerCase().replace(/..(?=.)/g, "$&:");

const run = promisify(execFile);

/** What openssl prints about these files; throws what it complains about. */
async function openssl(args: readonly string[], files: Readonly<Record<string, string | Buffer>>): Promise<string> {
  const folder = await mkdtemp(path.join(dir, "openssl-"));
  for (const [name, content] of Object.entries(files)) await writeFile(path.join(folder, name), content);
  const { stdout, stderr } = await run("openssl", [...args], { cwd: folder });
  return `${stdout}${stderr}`;
}

/** The same for several commands. */
async function shell(script: string, files: Readonly<Record<string, string>>): Promise<string> {
  const folder = await mkdtemp(path.join(dir, "shell-"));
  for (const [name, content] of Object.entries(files)) await writeFile(path.join(folder, name), content);
  const { stdout, stderr } = await run("sh", ["-c", script], { cwd: folder });
  return `${stdout}${stderr}`;
}

/** Everything that a server needs of it: key and certificate match, and the chain leads to the root. */
async function assertGood(files: Bundle, purpose = "sslserver"): Promise<void> {
  const pems = { "tls.key": files["tls.key"], "tls.crt": files["tls.crt"], "ca.crt": files["ca.crt"] };
  const ofKey = await openssl(["pkey", "-in", "tls.key", "-pubout"], pems);
  const ofCertificate = await openssl(["x509", "-in", "tls.crt", "-noout", "-pubkey"], pems);
  expect(ofKey).toBe(ofCertificate);
  const verify = [
    "verify",
    "-x509_strict",
    "-purpose",
    purpose,
    "-CAfile",
    "ca.crt",
    "-untrusted",
    "tls.crt",
    "tls.crt",
  ];
  expect(await openssl(verify, pems)).toContain("tls.crt: OK");
}

const statusOf = async (name: string) => (await world.get(KIND, name, NAMESPACE)).status ?? {};

interface Row extends Record<string, unknown> {
  readonly serial: string;
  readonly revision: number;
  readonly state: string;
  readonly reason: string | null;
}

/** What PostgreSQL knows of the certificates of an object, oldest first. */
const rowsOf = async (name: string): Promise<Row[]> =>
  world.sql<Row>(
    `SELECT encode(serial, 'hex') AS serial, revision, state, revocation_reason AS reason FROM certificates
     WHERE requester_kind = 'Certificate' AND namespace = $1 AND name = $2 ORDER BY revision`,
    [NAMESPACE, name],
  );

const plain = (serial: string): string => serial.replaceAll(":", "");

const messageOf = (reason: string) => (object: KubernetesObject) => conditionOf(object, "Ready")?.reason === reason;

test("a certificate is issued, delivered with its key and chain, and openssl accepts it", async () => {
  const files = await issue("orders", {
    subject: { organizations: ["Example"] },
    ipAddresses: ["10.1.2.3"],
    uris: ["spiffe://example.com/ns/shop/sa/orders"],
    emailAddresses: ["orders@example.com"],
    secretTemplate: { labels: { team: "shop" }, annotations: { contact: "shop@example.com" } },
  });
  await assertGood(files);
  expect(files.object).toMatchObject({
    type: "kubernetes.io/tls",
    metadata: {
      labels: { team: "shop", "app.kubernetes.io/managed-by": "mazevault" },
      annotations: { contact: "shop@example.com" },
    },
  });
  expect(Object.keys(files.object.data ?? {}).toSorted()).toEqual(["ca.crt", "tls.crt", "tls.key"]);
  // The leaf and its CA, without the root.
  expect(files["tls.crt"].match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  expect(new X509Certificate(files["ca.crt"]).subject).toBe("CN=root");
  expect(files.leaf.subject.split("\n")).toEqual(["O=Example", "CN=orders.shop.svc"]);
  expect(files.leaf.subjectAltName).toBe(
    "DNS:orders.shop.svc, IP Address:10.1.2.3, URI:spiffe://example.com/ns/shop/sa/orders, email:orders@example.com",
  );
  const status = await statusOf("orders");
  const { notBefore, notAfter, renewalTime } = status as Record<string, string>;
  expect(status).toMatchObject({ revision: 1, serialNumber: serialOf(files) });
  expect(new Date(String(notBefore))).toEqual(new Date(files.leaf.validFrom));
  expect(new Date(String(notAfter))).toEqual(new Date(files.leaf.validTo));
  const days = (new Date(String(renewalTime)).getTime() - Date.now()) / 86_400_000;
  expect(days).toBeGreaterThan(57);
  expect(days).toBeLessThan(61);
});

test.each<{ name: string; privateKey: NonNullable<CertificateSpec["privateKey"]>; head: string; text: RegExp }>([
  { name: "rsa", privateKey: { algorithm: "RSA", size: 2048 }, head: "PRIVATE KEY", text: /2048 bit/ },
  { name: "rsa-pkcs1", privateKey: { algorithm: "RSA", encoding: "PKCS1" }, head: "RSA PRIVATE KEY", text: /3072 bit/ },
  { name: "p384", privateKey: { size: 384 }, head: "PRIVATE KEY", text: /secp384r1/ },
  { name: "p521-sec1", privateKey: { size: 521, encoding: "PKCS1" }, head: "EC PRIVATE KEY", text: /secp521r1/ },
  { name: "ed25519", privateKey: { algorithm: "Ed25519" }, head: "PRIVATE KEY", text: /ED25519/ },
])("a key as the manifest wants it: $name", async ({ name, privateKey, head, text }) => {
  const files = await issue(name, { privateKey });
  await assertGood(files);
  expect(files["tls.key"]).toMatch(new RegExp(`^-----BEGIN ${head}-----\n`));
  expect(await openssl(["pkey", "-in", "tls.key", "-noout", "-text"], { "tls.key": files["tls.key"] })).toMatch(text);
});

test("a certificate of a client is one, and not a server's", async () => {
  const files = await issue("client", { profile: "Client" });
  await assertGood(files, "sslclient");
  await expect(assertGood(files)).rejects.toThrow(/unsuitable certificate purpose|unsupported certificate purpose/);
});

test("a name of another kind stands in the certificate", async () => {
  const files = await issue("principal", {
    otherNames: [{ oid: "1.3.6.1.4.1.311.20.2.3", utf8Value: "müller@example.com" }],
  });
  await assertGood(files);
  const args = ["x509", "-in", "tls.crt", "-noout", "-ext", "subjectAltName", "-nameopt", "utf8,-esc_msb"];
  expect(await openssl(args, { "tls.crt": files["tls.crt"] })).toMatch(/UPN:+müller@example\.com/);
});

test("a changed manifest renews key and certificate together, and restarts who uses them once", async () => {
  await world.apply(deployment("changing", "changing-tls"));
  const template = async () => (await world.get("deployment", "changing", NAMESPACE)).metadata.generation;
  const before = await issue("changing", { restartConsumers: true });
  expect(await template()).toBe(1);

  const dnsNames = ["changing.shop.svc", "also.shop.svc"];
  const after = await issue("changing", { restartConsumers: true, dnsNames });
  await assertGood(after);
  expect(after.leaf.subjectAltName).toBe("DNS:changing.shop.svc, DNS:also.shop.svc");
  expect(after["tls.key"]).not.toBe(before["tls.key"]);
  expect(await template()).toBe(2);
  expect((await statusOf("changing")).revision).toBe(2);
  // The former one is not revoked: who has not restarted yet still serves with it.
  expect((await rowsOf("changing")).map(({ revision, reason }) => [revision, reason])).toEqual([
    [1, null],
    [2, null],
  ]);
});

test("key and certificate match at every moment of many renewals, each of which restarts once", async () => {
  // `npm run test:chaos` watches 200.
  const RENEWALS = Number(process.env.RENEWALS ?? 20);
  const serials = new Set<string>();
  const mismatches: string[] = [];
  const stop = new AbortController();
  const api = await ApiClient.connect(world);
  await world.apply(deployment("steady", "steady-tls"));
  await issue("steady", { restartConsumers: true });
  const watching = api.watch(`/api/v1/namespaces/${NAMESPACE}/secrets`, stop.signal, ({ object }) => {
    if (object.metadata.name !== "steady-tls") return;
    const data = decoded(object);
    try {
      const leaf = new X509Certificate(data["tls.crt"] ?? "");
      serials.add(leaf.serialNumber);
      if (!leaf.checkPrivateKey(createPrivateKey(data["tls.key"] ?? ""))) mismatches.push(leaf.serialNumber);
    } catch {
      mismatches.push("not even readable");
    }
  });
  try {
    // One that opens after the first renewal would miss what was before.
    await until("the watch sees the first", () => serials.size === 1, { timeoutMs: 10_000 });
    for (let renewal = 1; renewal <= RENEWALS; renewal++) {
      await issue("steady", { restartConsumers: true, dnsNames: ["steady.shop.svc", `n${renewal}.shop.svc`] });
    }
    await until("the watch saw them all", () => serials.size === RENEWALS + 1, { timeoutMs: 10_000 });
  } finally {
    stop.abort();
    await watching;
    api.close();
  }
  expect(mismatches).toEqual([]);
  expect((await world.get("deployment", "steady", NAMESPACE)).metadata.generation).toBe(1 + RENEWALS);
  expect(await rowsOf("steady")).toHaveLength(1 + RENEWALS);
});

test("a key is kept over renewals where the manifest says so", async () => {
  const privateKey = { rotationPolicy: "Never" } as const;
  const before = await issue("keeping", { privateKey });
  const after = await issue("keeping", { privateKey, dnsNames: ["keeping.shop.svc", "more.shop.svc"] });
  await assertGood(after);
  expect(after["tls.key"]).toBe(before["tls.key"]);
  expect(serialOf(after)).not.toBe(serialOf(before));
});

test("a revoked certificate is replaced and delivered in the same pass", async () => {
  const before = await issue("leaked");
  await world.apply(
    certificate("leaked", { revocations: [{ serialNumber: serialOf(before), reason: "keyCompromise" }] }),
  );
  const { status } = await world.waitReady(KIND, "leaked", NAMESPACE);
  const after = await bundle("leaked-tls");
  await assertGood(after);
  expect(serialOf(after)).not.toBe(serialOf(before));
  expect(after["tls.key"]).not.toBe(before["tls.key"]);
  expect(status).toMatchObject({ revision: 2, serialNumber: serialOf(after) });
  expect((await rowsOf("leaked")).map(({ serial, reason }) => [serial, reason])).toEqual([
    [plain(serialOf(before)), "keyCompromise"],
    [plain(serialOf(after)), null],
  ]);
});

test("a hold replaces nothing, and ends when it is taken out of the manifest", async () => {
  const files = await issue("held");
  const reason = async () => (await rowsOf("held")).map((row) => row.reason);
  // Written as openssl prints it.
  const serialNumber = files.leaf.serialNumber;
  await issue("held", { revocations: [{ serialNumber, reason: "certificateHold" }] });
  expect(await reason()).toEqual(["certificateHold"]);
  await issue("held");
  await until("the hold ended", async () => (await reason())[0] === null, { timeoutMs: 20_000 });
  await issue("held", { revocations: [{ serialNumber, reason: "certificateHold" }] });
  await issue("held", { revocations: [{ serialNumber, reason: "superseded" }] });
  expect(await reason()).toEqual(["superseded", null]);
});

test("a serial number of another object is not revoked, and the status names the field", async () => {
  const victim = await issue("victim");
  await world.apply(
    certificate("meddler", { revocations: [{ serialNumber: serialOf(victim), reason: "superseded" }] }),
  );
  const meddler = await world.waitFor(KIND, "meddler", NAMESPACE, messageOf("SerialNumberUnknown"));
  expect(conditionOf(meddler, "Ready")?.message).toContain("spec.revocations[0].serialNumber");
  expect(conditionOf(meddler, "Issued")?.status).toBe("True");
  expect(conditionOf(meddler, "Delivered")?.status).toBe("True");
  expect((await rowsOf("victim")).map(({ reason }) => reason)).toEqual([null]);
});

test.each<{ field: string; spec: Partial<CertificateSpec>; because: string }>([
  { field: "dnsNames", spec: { dnsNames: ["orders.elsewhere.svc"], commonName: undefined }, because: "other" },
  { field: "ipAddresses", spec: { ipAddresses: ["192.168.0.1"] }, because: "range" },
  { field: "uris", spec: { uris: ["spiffe://example.com/ns/other/sa/orders"] }, because: "uri" },
  { field: "emailAddresses", spec: { emailAddresses: ["orders@example.org"] }, because: "mail" },
  { field: "otherNames", spec: { otherNames: [{ oid: "1.2.3.4", utf8Value: "orders" }] }, because: "other-name" },
  { field: "commonName", spec: { commonName: "orders" }, because: "common-name" },
  { field: "subject.organizations", spec: { subject: { organizations: ["Else"] } }, because: "organization" },
  { field: "duration", spec: { duration: "2161h" }, because: "duration" },
  { field: "profile", spec: { profile: "Gateway" }, because: "profile" },
])("what the issuer does not allow is refused by its field: $field", async ({ field, spec, because }) => {
  const name = `refused-${because}`;
  await world.apply(certificate(name, spec));
  const refused = await world.waitFor(KIND, name, NAMESPACE, messageOf("PolicyViolated"));
  expect(conditionOf(refused, "Issued")).toMatchObject({ status: "False", reason: "PolicyViolated" });
  expect(conditionOf(refused, "Ready")?.message).toMatch(new RegExp(`(^|; )spec\\.${field}: `));
  expect(conditionOf(refused, "Stalled")?.status).toBe("True");
  expect(await rowsOf(name)).toEqual([]);
  // It may be asked for in another way at once.
  await issue(name, Object.fromEntries(Object.keys(spec).map((key) => [key, certificateDefaults(name)[key]])));
});

const certificateDefaults = (name: string): Record<string, unknown> =>
  (certificate(name) as { spec: Record<string, unknown> }).spec;

test("an issuer that is not there yet is waited for, and one that does not admit the namespace is named", async () => {
  await world.apply(certificate("early", { issuerRef: ref("late") }));
  const waiting = await world.waitFor(KIND, "early", NAMESPACE, messageOf("IssuerNotFound"));
  expect(conditionOf(waiting, "Ready")?.message).toBe("spec.issuerRef: there is no ClusterIssuer late yet; apply it");
  expect(conditionOf(waiting, "Stalled")).toBeUndefined();

  const policy = { profiles: ["Server"], dnsNames: ["*.shop.svc"] };
  await world.apply(clusterIssuer("late", { policy }));
  const denied = await world.waitFor(KIND, "early", NAMESPACE, messageOf("IssuerNotAllowed"));
  expect(conditionOf(denied, "Stalled")?.message).toContain("ClusterIssuer late does not admit namespace shop");

  await world.apply(clusterIssuer("late", { policy, namespaces: { names: [NAMESPACE] } }));
  await world.waitReady(KIND, "early", NAMESPACE);
  const files = await bundle("early-tls");
  await assertGood(files);
  // Directly below a root: there is nothing between.
  expect(files["tls.crt"].match(/BEGIN CERTIFICATE/g)).toHaveLength(1);
});

test("an Issuer of the namespace below a ClusterIssuer issues too", async () => {
  await world.apply({
    apiVersion: "mazevault.io/v1",
    kind: "Issuer",
    metadata: { name: "own", namespace: NAMESPACE },
    spec: {
      ca: { subject: { commonName: "Own" }, parentRef: ref("root") },
      policy: { profiles: ["Server"], dnsNames: ["*.shop.svc"] },
    },
  });
  const files = await issue("own", { issuerRef: { name: "own" } });
  await assertGood(files);
  expect(files.leaf.issuer).toBe("CN=Own");
});

test("a namespace that no Project admits is not served, and the status says so", async () => {
  const elsewhere = { ...certificate("lost"), metadata: { name: "lost", namespace: "elsewhere" } };
  await world.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: "elsewhere" } }, elsewhere);
  const lost = await world.waitFor(KIND, "lost", "elsewhere", messageOf("NamespaceNotServed"));
  expect(conditionOf(lost, "Ready")?.message).toContain("no Project admits namespace elsewhere");
});

test("somebody else's core Secret is only taken over where adopt and overwrite are set", async () => {
  const data = { "tls.crt": "", "tls.key": "" };
  const taken = { apiVersion: "v1", kind: "Secret", metadata: { name: "taken-tls", namespace: NAMESPACE } };
  await world.apply({ ...taken, type: "kubernetes.io/tls", data });
  const before = await world.get("secret", "taken-tls", NAMESPACE);

  await world.apply(certificate("taken"));
  const notOurs = await world.waitFor(KIND, "taken", NAMESPACE, messageOf("TargetNotOwned"));
  expect(conditionOf(notOurs, "Ready")?.message).toContain("set spec.adopt to take it over");
  await world.apply(certificate("taken", { adopt: true }));
  const differs = await world.waitFor(KIND, "taken", NAMESPACE, messageOf("TargetDiffers"));
  expect(conditionOf(differs, "Ready")?.message).toContain("set spec.overwrite to lose that data");
  expect(await world.get("secret", "taken-tls", NAMESPACE)).toEqual(before);

  await assertGood(await issue("taken", { adopt: true, overwrite: true }));
  // Refused deliveries have not used up certificates.
  expect(await rowsOf("taken")).toHaveLength(1);
});

describe("a certificate of another CA", () => {
  const generation = async (name: string) => (await world.get("deployment", name, NAMESPACE)).metadata.generation;
  const foreign = async (name: string, data: Readonly<Record<string, string>>): Promise<KubernetesObject> => {
    const metadata = { name: `${name}-tls`, namespace: NAMESPACE, annotations: { maker: "elsewhere" } };
    await world.apply(
      { apiVersion: "v1", kind: "Secret", metadata, type: "kubernetes.io/tls", stringData: data },
      deployment(name, `${name}-tls`),
    );
    return world.get("secret", `${name}-tls`, NAMESPACE);
  };
  const adopting = (name: string, spec: Partial<CertificateSpec> = {}) =>
    certificate(name, { commonName: undefined, adopt: true, restartConsumers: true, ...spec });
  const adopted = async (name: string) =>
    world.sql("SELECT FROM audit WHERE action = 'CertificateAdopted' AND subject_name = $1", [`${NAMESPACE}/${name}`]);

  test("is taken over byte for byte, restarts nothing, and is replaced when the manifest asks for another", async () => {
    const before = await foreign("migrated", { ...(await foreignBundle(["migrated.shop.svc"])), more: "x" });
    await world.apply(adopting("migrated"));
    const { status } = await world.waitReady(KIND, "migrated", NAMESPACE);
    const after = await world.get("secret", "migrated-tls", NAMESPACE);
    expect(after.data).toEqual(before.data);
    expect(after.metadata.uid).toBe(before.metadata.uid);
    expect(after.metadata.annotations).toMatchObject({
      maker: "elsewhere",
      "mazevault.io/delivered-from": "Certificate/migrated",
    });
    expect(await generation("migrated")).toBe(1);
    expect(await rowsOf("migrated")).toEqual([]);
    expect(await adopted("migrated")).toHaveLength(1);
    const { serialNumber, renewalTime, notAfter } = status as Record<string, string>;
    const leaf = new X509Certificate(decoded(after)["tls.crt"] ?? "");
    expect(plain(String(serialNumber))).toBe(leaf.serialNumber.toLowerCase());
    expect(new Date(String(notAfter))).toEqual(new Date(leaf.validTo));
    const object = await world.get(KIND, "migrated", NAMESPACE);
    expect(conditionOf(object, "Issued")).toMatchObject({
      reason: "Adopted",
      message: `certificate ${serialNumber} of CN=${FOREIGN_CA} is used as it was found, until ${renewalTime}; then the issuer replaces it`,
    });

    const revocations = [{ serialNumber: String(serialNumber), reason: "keyCompromise" as const }];
    await world.apply(adopting("migrated", { revocations }));
    const refused = await world.waitFor(KIND, "migrated", NAMESPACE, messageOf("SerialNumberUnknown"));
    expect(conditionOf(refused, "Ready")?.message).toContain(`only that CA can revoke it; revoke it there`);

    const dnsNames = ["migrated.shop.svc", "also.shop.svc"];
    await world.apply(adopting("migrated", { dnsNames }));
    await world.waitReady(KIND, "migrated", NAMESPACE);
    const ours = await bundle("migrated-tls");
    await assertGood(ours);
    expect(ours.leaf.issuer).toBe("O=Example\nCN=Services");
    expect(await generation("migrated")).toBe(2);
    expect((await statusOf("migrated")).revision).toBe(1);
  });

  test("that is due already is taken over, and then replaced, which restarts who uses it once", async () => {
    await foreign("late", await foreignBundle(["late.shop.svc"], [80, 10]));
    await world.apply(adopting("late"));
    await world.waitFor(KIND, "late", NAMESPACE, ({ status }) => status?.revision === 1);
    await world.waitReady(KIND, "late", NAMESPACE);
    await assertGood(await bundle("late-tls"));
    expect(await adopted("late")).toHaveLength(1);
    await until("who uses it restarted", async () => (await generation("late")) === 2, { timeoutMs: 20_000 });
  });

  test("that does not fit is left alone, the difference is told, and the corrected manifest takes it over", async () => {
    const before = await foreign("other", await foreignBundle(["another.shop.svc"]));
    await world.apply(adopting("other"));
    const differs = await world.waitFor(KIND, "other", NAMESPACE, messageOf("TargetDiffers"));
    expect(conditionOf(differs, "Ready")?.message).toContain(
      'its alternative names are "DNS:another.shop.svc", not "DNS:other.shop.svc"',
    );
    expect(await world.get("secret", "other-tls", NAMESPACE)).toEqual(before);
    expect(await rowsOf("other")).toEqual([]);
    await world.apply(adopting("other", { dnsNames: ["another.shop.svc"] }));
    await world.waitReady(KIND, "other", NAMESPACE);
    expect((await world.get("secret", "other-tls", NAMESPACE)).data).toEqual(before.data);
    expect(await rowsOf("other")).toEqual([]);
  });

  test("that is taken away is replaced by one of the issuer", async () => {
    await world.kubectl("-n", NAMESPACE, "delete", "secret", "other-tls");
    await world.waitFor(KIND, "other", NAMESPACE, ({ status }) => status?.revision === 1);
    await world.waitReady(KIND, "other", NAMESPACE);
    await assertGood(await bundle("other-tls"));
  });
});

describe("a CA for another program", () => {
  const allowing = (dnsDomains: readonly string[]): object =>
    clusterIssuer("mesh-root", {
      policy: {
        allowSubordinates: { namespaces: { names: [NAMESPACE] }, nameConstraints: { permitted: { dnsDomains } } },
      },
      namespaces: { names: [NAMESPACE] },
    });
  const spec: Partial<CertificateSpec> = {
    issuerRef: ref("mesh-root"),
    commonName: "Mesh CA",
    dnsNames: undefined,
    isCA: true,
    nameConstraints: { critical: true, excluded: { dnsDomains: ["admin.shop.mesh"] } },
    duration: "8760h",
  };
  /** Signs with the CA as the program would that has it, and asks openssl whether that is accepted. */
  async function signs(ca: Bundle, leaf: string, by: "tls" | "sub" = "tls"): Promise<string> {
    const files = { "tls.key": ca["tls.key"], "tls.crt": ca["tls.crt"], "ca.crt": ca["ca.crt"], leaf, sub: anotherCa };
    const sign = (name: string, issuer: string): string => `
      openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ${name}.key -subj /CN=${name} -out csr
      openssl x509 -req -in csr -CA ${issuer}.crt -CAkey ${issuer}.key -CAcreateserial -days 30 -extfile ${name} -out ${name}.crt`;
    const script = `set -e
      ${by === "sub" ? sign("sub", "tls") : ":"}
      ${sign("leaf", by)}
      cat *.crt > all.pem
      openssl verify -x509_strict -CAfile ca.crt -untrusted all.pem leaf.crt`;
    return shell(script, files).catch((error: unknown) => String((error as { stderr?: string }).stderr));
  }
  /** Extensions of a CA below the one that may have none. */
  const anotherCa =
    "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash";
  const usual = "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid";
  const serving = (names: string): string => `basicConstraints=critical,CA:FALSE\n${usual}\nsubjectAltName=${names}`;

  test("signs what its limits allow, and openssl refuses the rest", async () => {
    await world.apply(allowing(["{namespace}.mesh"]));
    await world.waitReady("clusterissuer.mazevault.io", "mesh-root");
    const ca = await issue("mesh", spec);
    const text = await openssl(["x509", "-in", "tls.crt", "-noout", "-text"], { "tls.crt": ca["tls.crt"] });
    expect(text).toMatch(/Basic Constraints: critical\n +CA:TRUE, pathlen:0/);
    expect(text).toMatch(/Name Constraints: critical\n +Permitted:\n +DNS:shop\.mesh/);
    expect(await signs(ca, serving("DNS:orders.shop.mesh"))).toContain("leaf.crt: OK");
    for (const names of [
      "DNS:orders.other.mesh",
      "IP:10.0.0.1",
      "email:a@shop.mesh",
      "URI:spiffe://shop.mesh/orders",
      "DNS:orders.shop.mesh,DNS:orders.example.com",
    ]) {
      expect([names, await signs(ca, serving(names))]).toEqual([names, expect.stringContaining("subtree violation")]);
    }
    expect(await signs(ca, serving("DNS:x.admin.shop.mesh"))).toContain("excluded subtree violation");
    expect(await signs(ca, serving("DNS:orders.shop.mesh"), "sub")).toContain("path length constraint exceeded");
    expect((await rowsOf("mesh")).map(({ state }) => state)).toEqual(["Issued"]);
  });

  test("is issued anew when its issuer allows it less, and refused once that allows nothing", async () => {
    const before = await bundle("mesh-tls");
    await world.apply(allowing(["a.{namespace}.mesh"]));
    await world.waitFor(KIND, "mesh", NAMESPACE, ({ status }) => status?.revision === 2);
    await world.waitReady(KIND, "mesh", NAMESPACE);
    const after = await bundle("mesh-tls");
    expect(serialOf(after)).not.toBe(serialOf(before));
    expect(await signs(after, serving("DNS:orders.shop.mesh"))).toContain("permitted subtree violation");
    expect(await signs(after, serving("DNS:a.shop.mesh"))).toContain("leaf.crt: OK");
    const namespaces = { names: [NAMESPACE] };
    await world.apply(clusterIssuer("mesh-root", { policy: { profiles: ["Server"] }, namespaces }));
    const refused = await world.waitFor(KIND, "mesh", NAMESPACE, messageOf("SubordinateNotAllowed"));
    expect(conditionOf(refused, "Issued")?.message).toBe(
      "spec.isCA: ClusterIssuer mesh-root allows no CA below it; its owner can set policy.allowSubordinates; " +
        `certificate ${serialOf(after)} stays in use, until ${(await statusOf("mesh")).notAfter}`,
    );
    expect(conditionOf(refused, "Delivered")?.status).toBe("True");
    await world.apply(allowing(["a.{namespace}.mesh"]));
    await world.waitReady(KIND, "mesh", NAMESPACE);
    expect(await rowsOf("mesh")).toHaveLength(2);
  });

  test("is revoked as a compromised CA, and replaced", async () => {
    const before = await bundle("mesh-tls");
    await issue("mesh", { ...spec, revocations: [{ serialNumber: serialOf(before), reason: "cACompromise" }] });
    expect((await rowsOf("mesh")).map(({ reason }) => reason)).toEqual([null, "cACompromise", null]);
  });

  test.each<{ because: string; field: string; reason: string; wrong: Partial<CertificateSpec> }>([
    {
      because: "namespace",
      field: "isCA: ClusterIssuer elsewhere-root allows no CA in namespace shop",
      reason: "SubordinateNotAllowed",
      wrong: { issuerRef: ref("elsewhere-root") },
    },
    {
      because: "path",
      field: "isCA: the certificate of ClusterIssuer last has path length 0: it may sign no CA",
      reason: "SubordinateNotAllowed",
      wrong: { issuerRef: ref("last") },
    },
    {
      because: "wider",
      field: 'nameConstraints.permitted: "shop.mesh" is wider than the issuer allows',
      reason: "PolicyViolated",
      wrong: { nameConstraints: { permitted: { dnsDomains: ["shop.mesh"] } } },
    },
    {
      because: "name",
      field: "subject: is that of the issuer itself; use another",
      reason: "PolicyViolated",
      wrong: { commonName: "mesh-root" },
    },
  ])("beyond what its issuer allows is refused by its field: $because", async ({ because, field, reason, wrong }) => {
    const namespaces = { names: [NAMESPACE] };
    const elsewhere = { policy: { allowSubordinates: { namespaces: { names: ["elsewhere"] } } }, namespaces };
    const last = { policy: { allowSubordinates: { namespaces } }, namespaces };
    await world.apply(
      clusterIssuer("elsewhere-root", elsewhere),
      clusterIssuer("last", { ca: { subject: { commonName: "last" }, parentRef: ref("root") }, ...last }),
    );
    for (const issuer of ["elsewhere-root", "last"]) await world.waitReady("clusterissuer.mazevault.io", issuer);
    const name = `mesh-${because}`;
    await world.apply(certificate(name, { ...spec, ...wrong }));
    const refused = await world.waitFor(KIND, name, NAMESPACE, messageOf(reason));
    expect(conditionOf(refused, "Stalled")?.message).toContain(`spec.${field}`);
    expect(await rowsOf(name)).toEqual([]);
    await issue(name, spec);
  });
});

test("two Certificates do not fight over one core Secret", async () => {
  const files = await issue("first", { secretName: "shared-tls" });
  await world.apply(certificate("second", { secretName: "shared-tls", adopt: true, overwrite: true }));
  const second = await world.waitFor(KIND, "second", NAMESPACE, messageOf("TargetNotOwned"));
  expect(conditionOf(second, "Ready")?.message).toContain("is delivered by Certificate first");
  expect((await bundle("shared-tls")).object.metadata.resourceVersion).toBe(files.object.metadata.resourceVersion);
});

test("drift is repaired with the certificate that there is", async () => {
  const before = await issue("drifting");
  const same = async (): Promise<boolean> => {
    const found = await bundle("drifting-tls").catch(() => undefined);
    return found?.["tls.key"] === before["tls.key"] && found["tls.crt"] === before["tls.crt"];
  };
  const foreign = (await issue("foreign"))["tls.key"];
  const patch = JSON.stringify({ stringData: { "tls.key": foreign } });
  await world.kubectl("-n", NAMESPACE, "patch", "secret", "drifting-tls", "--type=merge", "-p", patch);
  await until("the key is repaired", same, { timeoutMs: 20_000 });
  await world.kubectl("-n", NAMESPACE, "delete", "secret", "drifting-tls");
  await until("the core Secret is back", same, { timeoutMs: 20_000 });
  expect(await rowsOf("drifting")).toHaveLength(1);
});

describe("keystores", () => {
  const passwordSecretRef = { name: "keystore-password", key: "password" };
  const keystores = {
    pkcs12: { create: true, passwordSecretRef },
    jks: { create: true, passwordSecretRef, alias: "shop" },
  };
  const password = (text: string, key = "password"): object => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "keystore-password", namespace: NAMESPACE },
    stringData: { [key]: text },
  });

  /** What stands in the core Secret, in bytes. */
  const filesOf = async (name: string): Promise<Record<string, Buffer>> => {
    const { data = {} } = await world.get("secret", `${name}-tls`, NAMESPACE);
    return Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value, "base64")]));
  };

  const pkcs12 = async (file: Buffer | undefined, withPassword: string): Promise<string> =>
    openssl(["pkcs12", "-in", "store", "-passin", `pass:${withPassword}`, "-nodes"], { store: file ?? "" });

  const certificatesIn = (text: string): string[] =>
    (text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(
      (each) => new X509Certificate(each).fingerprint256,
    );

  test("wait for their password, say what is wrong with it, and hold what tls.key, tls.crt and ca.crt hold", async () => {
    const additionalOutputFormats = [{ type: "DER" as const }, { type: "CombinedPEM" as const }];
    await world.apply(deployment("kept", "kept-tls"));
    await world.apply(certificate("kept", { keystores, additionalOutputFormats, restartConsumers: true }));
    const early = await world.waitFor(KIND, "kept", NAMESPACE, messageOf("SourceNotFound"));
    expect(conditionOf(early, "Delivered")?.message).toBe(
      "spec.keystores.pkcs12.passwordSecretRef: there is no core Secret shop/keystore-password yet; create it or correct the reference",
    );
    expect(conditionOf(early, "Stalled")).toBeUndefined();
    expect(conditionOf(early, "Issued")?.status).toBe("True");
    await world.apply(password("x", "other"));
    await world.waitFor(KIND, "kept", NAMESPACE, messageOf("SourceKeyNotFound"));
    await world.apply(password("contraseña"));
    const stalled = await world.waitFor(KIND, "kept", NAMESPACE, messageOf("ValueInvalid"));
    expect(conditionOf(stalled, "Stalled")?.message).toMatch(/^spec\.keystores\.pkcs12\.passwordSecretRef: .*ASCII/);
    expect(conditionOf(stalled, "Stalled")?.message).not.toContain("contraseña");

    await world.apply(password("correct horse"));
    await world.waitReady(KIND, "kept", NAMESPACE);
    const pems = await bundle("kept-tls");
    await assertGood(pems);
    const files = await filesOf("kept");
    expect(files["tls-combined.pem"]?.toString()).toBe(pems["tls.key"] + pems["tls.crt"]);
    const key = createPrivateKey(pems["tls.key"]);
    expect(files["key.der"]).toEqual(key.export({ format: "der", type: "pkcs8" }));

    const store = await pkcs12(files["keystore.p12"], "correct horse");
    expect(createPrivateKey(store).equals(key)).toBe(true);
    expect(certificatesIn(store)).toEqual(certificatesIn(pems["tls.crt"]));
    const trust = await pkcs12(files["truststore.p12"], "correct horse");
    expect(certificatesIn(trust)).toEqual(certificatesIn(pems["ca.crt"]));
    expect(trust).not.toContain("PRIVATE KEY");
    expect(await rowsOf("kept")).toHaveLength(1);
  });

  // Without Java `npm test` says that this is not tested.
  const stores =
    findKeytool() === undefined
      ? []
      : [
          { files: "keystore", entry: "PrivateKeyEntry", alias: "certificate", others: "shop" },
          { files: "truststore", entry: "trustedCertEntry", alias: "ca", others: "ca" },
        ];
  for (const { files, entry, alias, others } of stores) {
    test(`are opened by Java: ${files}`, async () => {
      const data = await filesOf("kept");
      const pem = files === "keystore" ? data["tls.crt"] : data["ca.crt"];
      for (const [type, name] of [
        ["p12", alias],
        ["jks", others],
      ] as const) {
        const store = path.join(dir, `${files}.${type}`);
        await writeFile(store, data[`${files}.${type}`] ?? "");
        const args = [...QUICK_KEYTOOL, "-list", "-rfc", "-keystore", store, "-storepass", "correct horse"];
        const { stdout } = await run("keytool", args);
        expect(stdout).toContain(`Keystore type: ${type === "p12" ? "PKCS12" : "JKS"}`);
        expect(stdout).toContain(`Alias name: ${name}\n`);
        expect(stdout).toContain(`Entry type: ${entry}`);
        expect(certificatesIn(stdout)).toEqual(certificatesIn(`${pem}`));
      }
    });
  }

  test("are written again for another password, with the same certificate, and restart who reads them once", async () => {
    const before = await bundle("kept-tls");
    const generation = async () => Number((await world.get("deployment", "kept", NAMESPACE)).metadata.generation);
    const restarts = await generation();
    await world.apply(password("battery staple"));
    const opened = async (): Promise<boolean> => {
      const store = await pkcs12((await filesOf("kept"))["keystore.p12"], "battery staple").catch(() => "");
      return store.includes("PRIVATE KEY");
    };
    await until("the new password opens it", opened, { timeoutMs: 20_000 });
    await until("who reads it restarted", async () => (await generation()) > restarts, { timeoutMs: 20_000 });
    const after = await bundle("kept-tls");
    expect(after["tls.crt"]).toBe(before["tls.crt"]);
    expect(after["tls.key"]).toBe(before["tls.key"]);
    expect(await rowsOf("kept")).toHaveLength(1);
    expect(await generation()).toBe(restarts + 1);
  });

  test("are repaired when somebody changes them, and left alone when only something beside them changed", async () => {
    const generation = async () => (await world.get("deployment", "kept", NAMESPACE)).metadata.generation;
    const restarts = await generation();
    const before = await filesOf("kept");
    const foreign = before["truststore.p12"]?.toString("base64");
    const patch = JSON.stringify({ data: { "keystore.p12": foreign } });
    await world.kubectl("-n", NAMESPACE, "patch", "secret", "kept-tls", "--type=merge", "-p", patch);
    const repaired = async (): Promise<boolean> => {
      const store = await pkcs12((await filesOf("kept"))["keystore.p12"], "battery staple");
      return store.includes("PRIVATE KEY");
    };
    await until("the keystore is repaired", repaired, { timeoutMs: 20_000 });

    const delivered = async () =>
      JSON.stringify(await world.sql("SELECT delivery FROM certificate_holders WHERE name = 'kept'"));
    await until("that is on record", async () => (await delivered()).includes(await versionOf("kept-tls")), {
      timeoutMs: 20_000,
    });
    const files = await filesOf("kept");
    await world.kubectl("-n", NAMESPACE, "annotate", "secret", "kept-tls", "seen=yes");
    const annotated = await versionOf("kept-tls");
    await until("it was looked at", async () => (await delivered()).includes(`"${annotated}"`), { timeoutMs: 20_000 });
    const looked = await looks();
    await world.kubectl("-n", NAMESPACE, "annotate", "secret", "keystore-password", "seen=yes");
    await until("the password was looked at", async () => (await looks()) > looked, { timeoutMs: 20_000 });
    expect(await versionOf("kept-tls")).toBe(annotated);
    expect(await filesOf("kept")).toEqual(files);
    expect(await generation()).toBe(restarts);
  });

  const versionOf = async (name: string): Promise<string> =>
    (await world.get("secret", name, NAMESPACE)).metadata.resourceVersion;
});

test("another secretName leaves the old core Secret behind, with the same certificate in the new one", async () => {
  const before = await issue("moving");
  const after = await issue("moving", { secretName: "moved-tls" });
  expect(after["tls.crt"]).toBe(before["tls.crt"]);
  const left = await world.get("secret", "moving-tls", NAMESPACE);
  expect(left.metadata.labels ?? {}).not.toHaveProperty("app.kubernetes.io/managed-by");
  expect(await rowsOf("moving")).toHaveLength(1);
});

test("a certificate is renewed when it is due, before it ends", async () => {
  const before = await issue("short", { duration: "5m", renewBefore: "4m25s" });
  await world.waitFor(KIND, "short", NAMESPACE, ({ status }) => Number(status?.revision) >= 2, 30_000);
  await until("the renewed one is delivered", async () => serialOf(await bundle("short-tls")) !== serialOf(before), {
    timeoutMs: 10_000,
  });
  await assertGood(await bundle("short-tls"));
  await world.kubectl("-n", NAMESPACE, "delete", KIND, "short");
});

describe("what is deleted", () => {
  const reasonsOf = async (name: string) => (await rowsOf(name)).map(({ reason }) => reason);

  test("stays valid, with its core Secret, unless the manifest says otherwise", async () => {
    const files = await issue("retained");
    await world.kubectl("-n", NAMESPACE, "delete", KIND, "retained");
    const holders = () => world.sql("SELECT uid FROM certificate_holders WHERE name = 'retained'");
    await until("the end is noticed", async () => (await holders()).length === 0, { timeoutMs: 20_000 });
    expect(await reasonsOf("retained")).toEqual([null]);
    expect((await bundle("retained-tls")).object.metadata.uid).toBe(files.object.metadata.uid);
    expect(await world.sql("SELECT 1 FROM certificates WHERE name = 'retained' AND sealed_key IS NOT NULL")).toEqual(
      [],
    );
  });

  test("is revoked where the manifest asks for it, every revision of it", async () => {
    await issue("ended", { deletionPolicy: "Revoke" });
    await issue("ended", { deletionPolicy: "Revoke", dnsNames: ["ended.shop.svc", "more.shop.svc"] });
    await world.kubectl("-n", NAMESPACE, "delete", KIND, "ended");
    const both = ["cessationOfOperation", "cessationOfOperation"];
    await until("they are revoked", async () => difference(await strings("ended"), both).length === 0, {
      timeoutMs: 20_000,
    });
    await gone("ended-tls");
  });

  test("is revoked also when nobody was there to see it", async () => {
    await issue("unseen", { deletionPolicy: "Revoke" });
    await operator.process.stop();
    await world.kubectl("-n", NAMESPACE, "delete", KIND, "unseen");
    await operator.process.start();
    await until("it is revoked", async () => (await strings("unseen"))[0] === "cessationOfOperation", {
      timeoutMs: 40_000,
    });
  });

  test("and applied again is another object, with another certificate", async () => {
    const before = await issue("again", { deletionPolicy: "Revoke" });
    await world.kubectl("-n", NAMESPACE, "delete", KIND, "again");
    const after = await issue("again", { deletionPolicy: "Revoke" });
    await assertGood(after);
    expect(serialOf(after)).not.toBe(serialOf(before));
    // Both are revision 1 of their object, so only the serial number tells them apart.
    const former = async () => (await rowsOf("again")).find(({ serial }) => serial === plain(serialOf(before)));
    await until("the former is revoked", async () => (await former())?.reason === "cessationOfOperation", {
      timeoutMs: 20_000,
    });
  });

  const strings = async (name: string): Promise<string[]> => (await reasonsOf(name)).map(String);
  const gone = (name: string) =>
    until(
      `${name} is gone`,
      async () =>
        (await world.kubectl("-n", NAMESPACE, "get", "secret", name, "--ignore-not-found", "-o", "name")) === "",
      { timeoutMs: 30_000 },
    );
});

test("revisions that ended long ago are removed, the one in use and what was revoked are not", async () => {
  await issue("aged", { revisionHistoryLimit: 2 });
  const second = await issue("aged", { revisionHistoryLimit: 2, dnsNames: ["aged.shop.svc", "b.shop.svc"] });
  // Three days ago: longer than its own limit asks for, less than the installation's 90 days.
  const end = "UPDATE certificates SET not_after = now() - interval '3 days' WHERE name = 'aged'";
  // When a revoked one ends is authenticated, so that it must have ended before.
  await world.sql(end);
  const revocations = [{ serialNumber: serialOf(second), reason: "superseded" as const }];
  const wanted = { revisionHistoryLimit: 2, dnsNames: ["aged.shop.svc", "b.shop.svc"], revocations };
  await issue("aged", wanted);
  await issue("aged", { ...wanted, dnsNames: ["aged.shop.svc", "c.shop.svc"] });
  await issue("aged", { ...wanted, dnsNames: ["aged.shop.svc", "d.shop.svc"] });
  await world.sql(`${end} AND revision IN (3, 4)`);
  await operator.process.restart();
  const revisions = async () => (await rowsOf("aged")).map(({ revision }) => revision);
  await until("the surplus one is gone", async () => (await revisions()).length === 3, { timeoutMs: 40_000 });
  expect(await revisions()).toEqual([2, 4, 5]);
  await world.waitReady(KIND, "aged", NAMESPACE);
  const told = await world.sql<{ details: object }>("SELECT details FROM audit WHERE action = 'CertificatesPurged'");
  expect(told).toMatchObject([{ details: { certificates: 2 } }]);
  const { revisionHistoryLimit: _, ...unlimited } = wanted;
  await issue("aged", { ...unlimited, dnsNames: ["aged.shop.svc", "d.shop.svc"] });
  const limits = () => world.sql("SELECT revision_history_limit AS own FROM certificate_holders WHERE name = 'aged'");
  expect(await limits()).toEqual([{ own: null }]);
});

test("an operator that starts again writes nothing", async () => {
  const restless = async () =>
    (await world.list(KIND)).filter((object) => conditionOf(object, "Reconciling") !== undefined);
  await until("what the tests before made is at rest", async () => (await restless()).length === 0, {
    timeoutMs: 30_000,
  });
  const before = await everything();
  await operator.process.restart();
  const count = (await world.list(KIND)).length;
  expect(count).toBeGreaterThan(20);
  await until("every certificate was looked at", async () => (await looks()) >= count, { timeoutMs: 30_000 });
  expect(difference(before, await everything())).toEqual([]);
});

/** How often the operator has looked at a certificate since it started. */
const looks = async (): Promise<number> =>
  total(await scrape(operator), "mazevault_reconcile_duration_seconds_count", { controller: "certificate" });

/** Each object of Kubernetes with its version, a digest of what PostgreSQL knows about certificates, and what was done. */
async function everything(): Promise<string[]> {
  const objects = await Promise.all(
    [KIND, "clusterissuer.mazevault.io", "issuer.mazevault.io", "secret"].map((kind) => world.list(kind, undefined)),
  );
  const rows = await world.sql<{ line: string; name: string }>(
    `SELECT name, to_jsonb(c)::text AS line FROM certificates c UNION ALL
     SELECT name, to_jsonb(h)::text FROM certificate_holders h UNION ALL
     SELECT name, to_jsonb(a)::text FROM authorities a`,
  );
  return [
    ...objects
      .flat()
      .map(({ kind, metadata: { name, namespace, uid, resourceVersion } }) =>
        [kind, namespace, name, uid, resourceVersion].join(" "),
      ),
    ...rows.map(({ name, line }) => `${name} ${createHash("sha256").update(line).digest("hex")}`),
  ].toSorted();
}

test("no private key stands in a log, a status or an Event", async () => {
  const files = await bundle("orders-tls");
  const { d } = createPrivateKey(files["tls.key"]).export({ format: "jwk" }) as { d: string };
  const text = await world.kubectl("get", `${KIND},events`, "--all-namespaces", "-o", "json");
  expect(text).not.toContain("PRIVATE KEY");
  expect(text).not.toContain(d);
  expect(text).not.toMatch(/correct horse|battery staple/);
});
