/**
 * Signing requests from outside: made by openssl, judged, approved or denied by a person, signed once into the status, and
 * verified by openssl; also when the operator dies in between.
 */
import { execFile } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import type { CertificateRequestSpec } from "../crds/certificaterequest.ts";
import type { Condition } from "../crds/common.ts";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import type { Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { conditionOf, difference, type KubernetesObject, scrape, startWorld, total, type World } from "./harness.ts";

const NAMESPACE = "shop";
const KIND = "certificaterequest.mazevault.io";
const DEATH_MS = 30_000;
const config = { kubernetes: { leaseDurationMs: 3_000 } };

let world: World;
let operator: Operator;
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), "mazevault-requests-"));
  world = await startWorld();
  const { mazevault } = world;
  operator = await mazevault.startOperator({ config: { ...config, pki: { baseUrl: mazevault.pkiUrl } } });
  await world.tenant(NAMESPACE);
  const policy = { profiles: ["Server", "Client"], maxDuration: "2160h", dnsNames: ["*.{namespace}.svc"] };
  const root = { kind: "ClusterIssuer", name: "root" };
  const namespaces = { names: [NAMESPACE] };
  await world.apply(
    clusterIssuer("root", { policy: { allowSubordinates: {} } }),
    clusterIssuer("services", { ca: { subject: { commonName: "Services" }, parentRef: root }, policy, namespaces }),
    clusterIssuer("careful", { policy: { ...policy, approval: "Manual" }, namespaces }),
  );
  for (const name of ["root", "services", "careful"]) await world.waitReady("clusterissuer.mazevault.io", name);
}, 120_000);

afterAll(async () => {
  await world?.stop();
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});

const clusterIssuer = (name: string, spec: object): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "ClusterIssuer",
  metadata: { name },
  spec: { ca: { subject: { commonName: name } }, ...spec },
});

const manifest = (name: string, request: string, spec: Partial<CertificateRequestSpec> = {}): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "CertificateRequest",
  metadata: { name, namespace: NAMESPACE },
  spec: { request, issuerRef: { kind: "ClusterIssuer", name: "services" }, ...spec },
});
const careful = { issuerRef: { kind: "ClusterIssuer", name: "careful" } } as const;

const run = promisify(execFile);

async function openssl(...args: string[]): Promise<string> {
  const { stdout, stderr } = await run("openssl", args, { cwd: dir });
  return `${stdout}${stderr}`;
}

const EC = ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/** A request whose key stays in `<name>.key`. */
async function csr(
  name: string,
  {
    names = `DNS:${name}.${NAMESPACE}.svc`,
    key = EC,
    extensions = [],
  }: { readonly names?: string; readonly key?: readonly string[]; readonly extensions?: readonly string[] } = {},
): Promise<string> {
  const out = ["-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", `/CN=${name}.${NAMESPACE}.svc`];
  const wanted = [`subjectAltName=${names}`, ...extensions].flatMap((extension) => ["-addext", extension]);
  await openssl("req", "-new", "-nodes", "-newkey", ...key, ...out, ...wanted);
  return readFile(path.join(dir, `${name}.csr`), "utf8");
}

/** openssl accepts the chain, and the certificate is for the requester's own key. */
async function assertGood(name: string, { status }: KubernetesObject, purpose = "sslserver"): Promise<X509Certificate> {
  const { certificate, ca, serialNumber, notAfter } = status as Record<string, string>;
  const [leaf, roots] = [`${name}.crt`, `${name}-ca.crt`];
  await writeFile(path.join(dir, leaf), certificate ?? "");
  await writeFile(path.join(dir, roots), ca ?? "");
  const how = ["-x509_strict", "-purpose", purpose, "-CAfile", roots, "-untrusted", leaf];
  expect(await openssl("verify", ...how, leaf)).toContain(`${leaf}: OK`);
  expect(await openssl("x509", "-in", leaf, "-noout", "-pubkey")).toBe(
    await openssl("pkey", "-in", `${name}.key`, "-pubout"),
  );
  const parsed = new X509Certificate(certificate ?? "");
  expect(serialNumber?.replaceAll(":", "")).toBe(parsed.serialNumber.toLowerCase());
  expect(new Date(notAfter ?? "")).toEqual(new Date(parsed.validTo));
  return parsed;
}

interface Row extends Record<string, unknown> {
  readonly serial: string;
  readonly state: string;
  readonly revision: number;
}

const rowsOf = (name: string): Promise<Row[]> =>
  world.sql<Row>(
    `SELECT encode(serial, 'hex') AS serial, state, revision FROM certificates
     WHERE requester_kind = 'CertificateRequest' AND namespace = $1 AND name = $2`,
    [NAMESPACE, name],
  );

const readyBecause = (reason: string) => (object: KubernetesObject) => conditionOf(object, "Ready")?.reason === reason;
const waitFor = (name: string, reason: string) => world.waitFor(KIND, name, NAMESPACE, readyBecause(reason));

const opinion = (type: "Approved" | "Denied"): Condition => ({
  type,
  status: "True",
  reason: "Reviewed",
  message: "by Ada",
  lastTransitionTime: "2026-01-01T00:00:00Z",
});

const patchStatus = (name: string, type: string, patch: unknown): Promise<string> =>
  world.kubectl(
    ...["-n", NAMESPACE, "patch", KIND, name, "--subresource=status", `--type=${type}`, "-p", JSON.stringify(patch)],
  );

/** As the reference says a person does it. */
const say = (name: string, type: "Approved" | "Denied"): Promise<string> =>
  patchStatus(name, "json", [{ op: "add", path: "/status/conditions/-", value: opinion(type) }]);

test("a request is signed into the status, with the chain, and openssl accepts it", async () => {
  const request = await csr("orders", { names: "DNS:orders.shop.svc,DNS:also.shop.svc" });
  await world.apply(manifest("orders", request, { duration: "720h" }));
  const object = await world.waitReady(KIND, "orders", NAMESPACE);
  const leaf = await assertGood("orders", object);
  expect(leaf.subject).toBe("CN=orders.shop.svc");
  expect(leaf.subjectAltName).toBe("DNS:orders.shop.svc, DNS:also.shop.svc");
  // The leaf and its CA; the root by itself.
  expect(String(object.status?.certificate).match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
  expect(new X509Certificate(String(object.status?.ca)).subject).toBe("CN=root");
  const hours = (new Date(leaf.validTo).getTime() - new Date(leaf.validFrom).getTime()) / 3_600_000;
  expect(hours).toBeCloseTo(720, 2);
  expect(await rowsOf("orders")).toMatchObject([{ state: "Issued", revision: 1 }]);
  // No one asked a person.
  expect(["Approved", "Denied"].map((type) => conditionOf(object, type))).toEqual([undefined, undefined]);
});

test.each([
  { name: "rsa", key: ["rsa:2048"] },
  { name: "ed25519", key: ["ed25519"] },
])("the key may be $name, and the request base64", async ({ name, key }) => {
  const request = await csr(name, { key, extensions: ["extendedKeyUsage=clientAuth"] });
  await world.apply(manifest(name, Buffer.from(request).toString("base64")));
  await assertGood(name, await world.waitReady(KIND, name, NAMESPACE), "sslclient");
});

test.each<{
  name: string;
  request: (name: string) => Promise<string>;
  reason: string;
  says: string;
  spec?: Partial<CertificateRequestSpec>;
}>([
  {
    name: "weak-key",
    request: (name) => csr(name, { key: ["rsa:1024"] }),
    reason: "RequestInvalid",
    says: "spec.request: the RSA key has 1024 bits",
  },
  {
    name: "bad-signature",
    request: async (name) => {
      await csr(name);
      await openssl("req", "-in", `${name}.csr`, "-outform", "DER", "-out", `${name}.der`);
      const der = await readFile(path.join(dir, `${name}.der`));
      der[der.length - 1] = (der.at(-1) ?? 0) ^ 1;
      return der.toString("base64");
    },
    reason: "RequestInvalid",
    says: "spec.request: the request is not signed with its own key",
  },
  {
    name: "foreign-name",
    request: (name) => csr(name, { names: "DNS:foreign-name.shop.svc,DNS:orders.other.svc" }),
    reason: "PolicyViolated",
    says: 'spec.request: dnsNames: "orders.other.svc" is not allowed',
  },
  {
    name: "would-be-ca",
    request: (name) => csr(name, { extensions: ["basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign"] }),
    reason: "RequestInvalid",
    says: "spec.request: asks for the certificate of a CA; leave basicConstraints CA:TRUE out",
  },
  {
    name: "would-be-signer",
    request: (name) => csr(name, { extensions: ["keyUsage=keyCertSign,digitalSignature"] }),
    reason: "PolicyViolated",
    says: 'spec.request: usages: "cert sign" is not allowed',
  },
  {
    name: "too-long",
    request: (name) => csr(name),
    reason: "PolicyViolated",
    says: "spec.duration: is longer than the issuer allows; use at most 2160h",
    spec: { duration: "2161h" },
  },
])("refused by its field, without a serial number: $name", async ({ name, request, reason, says, spec }) => {
  await world.apply(manifest(name, await request(name), spec));
  const refused = await waitFor(name, reason);
  expect(conditionOf(refused, "Stalled")?.message).toContain(says);
  expect(conditionOf(refused, "Issued")).toMatchObject({ status: "False", reason });
  expect(refused.status).not.toHaveProperty("certificate");
  expect(await rowsOf(name)).toEqual([]);
});

test("what is refused cannot be changed, but applied under another name", async () => {
  const request = await csr("changing");
  await world.apply(manifest("changing", request, { duration: "2161h" }));
  await waitFor("changing", "PolicyViolated");
  await expect(world.apply(manifest("changing", request))).rejects.toThrow("create a new CertificateRequest");
  await world.apply(manifest("changed", request));
  await assertGood("changing", await world.waitReady(KIND, "changed", NAMESPACE));
});

describe("where the issuer wants a person", () => {
  test("it waits, says what is asked for, and is signed once approved", async () => {
    await world.apply(manifest("approved", await csr("approved"), careful));
    const waiting = await waitFor("approved", "ApprovalPending");
    expect(conditionOf(waiting, "Ready")?.message).toContain('"DNS:approved.shop.svc", profile Server');
    expect(conditionOf(waiting, "Reconciling")?.status).toBe("True");
    expect(await rowsOf("approved")).toEqual([]);

    await say("approved", "Approved");
    const object = await world.waitReady(KIND, "approved", NAMESPACE);
    await assertGood("approved", object);
    expect(conditionOf(object, "Approved")).toEqual(opinion("Approved"));
    expect(await managersOf("approved", "Approved")).toEqual(["kubectl-patch"]);
  });

  test("an approval that replaces all conditions does no harm", async () => {
    await world.apply(manifest("merged", await csr("merged"), careful));
    await waitFor("merged", "ApprovalPending");
    await patchStatus("merged", "merge", { status: { conditions: [opinion("Approved")] } });
    const object = await world.waitReady(KIND, "merged", NAMESPACE);
    await assertGood("merged", object);
    expect(conditionOf(object, "Approved")).toEqual(opinion("Approved"));
  });

  test("denied is refused for good, and the person's condition stays the person's", async () => {
    await world.apply(manifest("denied", await csr("denied"), careful));
    await waitFor("denied", "ApprovalPending");
    await say("denied", "Denied");
    const denied = await waitFor("denied", "RequestDenied");
    expect(conditionOf(denied, "Stalled")?.message).toBe('it was denied: "by Ada"');
    expect(conditionOf(denied, "Denied")).toEqual(opinion("Denied"));
    expect(await managersOf("denied", "Denied")).toEqual(["kubectl-patch"]);
    // Who approves as well does not outvote.
    const before = await looks();
    await say("denied", "Approved");
    await until("that was looked at", async () => (await looks()) > before, { timeoutMs: 20_000 });
    const still = await world.get(KIND, "denied", NAMESPACE);
    expect(["Approved", "Denied"].map((type) => conditionOf(still, type)?.status)).toEqual(["True", "True"]);
    expect(conditionOf(still, "Issued")?.reason).toBe("RequestDenied");
    expect(await rowsOf("denied")).toEqual([]);
  });

  test("a status that comes with the manifest approves nothing", async () => {
    const request = manifest("cunning", await csr("cunning"), careful);
    await world.apply({ ...request, status: { conditions: [opinion("Approved")] } });
    const object = await waitFor("cunning", "ApprovalPending");
    expect(conditionOf(object, "Approved")).toBeUndefined();
    expect(await rowsOf("cunning")).toEqual([]);
  });

  /** Who owns a condition, as server-side apply keeps it. */
  async function managersOf(name: string, type: string): Promise<string[]> {
    const text = await world.kubectl("-n", NAMESPACE, "get", KIND, name, "--show-managed-fields", "-o", "json");
    const { metadata } = JSON.parse(text) as { metadata: { managedFields: { manager: string; fieldsV1: unknown }[] } };
    return metadata.managedFields
      .filter(({ fieldsV1 }) => JSON.stringify(fieldsV1).includes(JSON.stringify(`k:${JSON.stringify({ type })}`)))
      .map(({ manager }) => manager);
  }
});

test("deleted and applied again it is another request; the former certificate stays valid", async () => {
  const request = manifest("again", await csr("again"));
  await world.apply(request);
  const before = await assertGood("again", await world.waitReady(KIND, "again", NAMESPACE));
  await world.kubectl("-n", NAMESPACE, "delete", KIND, "again");
  await world.apply(request);
  const after = await assertGood("again", await world.waitReady(KIND, "again", NAMESPACE));
  expect(after.serialNumber).not.toBe(before.serialNumber);
  const rows = await world.sql<{ revocation_reason: string | null }>(
    "SELECT revocation_reason FROM certificates WHERE name = 'again' AND state = 'Issued'",
  );
  expect(rows).toEqual([{ revocation_reason: null }, { revocation_reason: null }]);
});

describe("what was signed", () => {
  const soon = { timeoutMs: 30_000, intervalMs: 50 };
  let url: string;
  beforeAll(async () => {
    ({ url } = await world.mazevault.startOcsp());
  });

  /** Signed, with its own certificate and its CA's in files. */
  async function sign(name: string, spec: Partial<CertificateRequestSpec> = {}): Promise<string> {
    const request = await csr(name);
    await world.apply(manifest(name, request, spec));
    const { status } = await world.waitReady(KIND, name, NAMESPACE);
    const [leaf = "", ca = ""] =
      String(status?.certificate).match(/-----BEGIN[\s\S]*?-----END CERTIFICATE-----/g) ?? [];
    await writeFile(path.join(dir, `${name}.crt`), `${leaf}\n`);
    await writeFile(path.join(dir, "services.crt"), `${ca}\n`);
    return request;
  }
  /** What openssl says, also where it is not content with the answer. */
  const ask = (name: string): Promise<string> =>
    openssl(
      ...["ocsp", "-issuer", "services.crt", "-CAfile", "services.crt", "-partial_chain"],
      ...["-cert", `${name}.crt`, "-url", url],
    ).catch(({ stdout, stderr }: { stdout: string; stderr: string }) => `${stdout}${stderr}`);
  const answered = (name: string, what: RegExp) =>
    until(`the answer about ${name} is ${what}`, async () => what.test(await ask(name)), soon);
  const reasonOf = async (name: string): Promise<string | null | undefined> => {
    const [row] = await world.sql<{ revocation_reason: string | null }>(
      "SELECT revocation_reason FROM certificates WHERE name = $1 AND state = 'Issued'",
      [name],
    );
    return row?.revocation_reason;
  };
  const gone = (name: string) =>
    until(`${name} is revoked`, async () => (await reasonOf(name)) === "cessationOfOperation", soon);

  test("is put on hold, released and revoked by its manifest; OCSP and the CRL say so", async () => {
    const request = await sign("revocable");
    const apply = (reason?: "certificateHold" | "keyCompromise") =>
      world.apply(manifest("revocable", request, reason && { revocation: { reason } }));
    const revoked = (status: string) =>
      world.waitFor(KIND, "revocable", NAMESPACE, (object) => conditionOf(object, "Revoked")?.status === status);
    await answered("revocable", /revocable\.crt: good[\s\S]*Response verify OK/);
    await apply("certificateHold");
    await answered("revocable", /revoked[\s\S]*Reason: certificateHold/);
    expect(conditionOf(await revoked("True"), "Issued")?.message).toContain("on hold");
    await apply();
    await answered("revocable", /revocable\.crt: good/);
    await revoked("False");
    await apply("keyCompromise");
    await answered("revocable", /revoked[\s\S]*Reason: keyCompromise/);
    const object = await revoked("True");
    expect(conditionOf(object, "Ready")?.status).toBe("True");

    const [, crlUrl = ""] =
      /URI:(\S+\.crl)/.exec(await openssl("x509", "-in", "revocable.crt", "-noout", "-text")) ?? [];
    const serial = String(object.status?.serialNumber).replaceAll(":", "").toUpperCase();
    const listed = async (): Promise<boolean> => {
      const response = await fetch(crlUrl);
      await writeFile(path.join(dir, "services.crl"), Buffer.from(await response.arrayBuffer()));
      const text = await openssl(
        "crl",
        "-inform",
        "DER",
        "-in",
        "services.crl",
        "-noout",
        "-text",
        "-CAfile",
        "services.crt",
      );
      return new RegExp(`Serial Number: ${serial}[\\s\\S]*Key Compromise`).test(text);
    };
    await until("the CRL lists it", listed, soon);
    await expect(world.apply(manifest("revocable", request))).rejects.toThrow("is final");
    const rows = await world.sql<{ action: string }>(
      "SELECT action FROM audit WHERE subject_id = $1 AND subject_generation IS NOT NULL ORDER BY sequence",
      [object.status?.serialNumber],
    );
    expect(rows.map(({ action }) => action)).toEqual([
      "CertificateRevoked",
      "CertificateReleased",
      "CertificateRevoked",
    ]);
  });

  test("is revoked with its object where that says so, also when nobody watched it go", async () => {
    await sign("short", { deletionPolicy: "Revoke" });
    await sign("unwatched", { deletionPolicy: "Revoke" });
    await sign("lasting");
    await world.kubectl("-n", NAMESPACE, "delete", KIND, "short", "lasting");
    await gone("short");
    await answered("short", /revoked[\s\S]*Reason: cessationOfOperation/);
    await operator.process.stop();
    await world.kubectl("-n", NAMESPACE, "delete", KIND, "unwatched");
    await operator.process.start();
    await gone("unwatched");
    expect(await reasonOf("lasting")).toBeNull();
    const kept = () => world.sql("SELECT uid FROM certificate_holders WHERE kind = 'CertificateRequest'");
    await until("nothing is kept of them", async () => (await kept()).length === 0, soon);
  });

  test("cannot be what was withdrawn before", async () => {
    const request = await csr("withdrawn");
    await world.apply(manifest("withdrawn", request, { revocation: { reason: "certificateHold" } }));
    await waitFor("withdrawn", "RequestWithdrawn");
    expect(await rowsOf("withdrawn")).toEqual([]);
    await world.apply(manifest("withdrawn", request));
    await assertGood("withdrawn", await world.waitReady(KIND, "withdrawn", NAMESPACE));
  });
});

test("applied again, and by an operator that starts again, nothing is written", async () => {
  const request = manifest("orders", await readFile(path.join(dir, "orders.csr"), "utf8"), { duration: "720h" });
  const before = await everything();
  await world.apply(request);
  await operator.process.restart();
  const count = (await world.list(KIND)).length;
  await until("every request was looked at", async () => (await looks()) >= count, { timeoutMs: 30_000 });
  expect(difference(before, await everything())).toEqual([]);
});

/** How often the operator, since it started, has looked at requests. */
const looks = async (): Promise<number> =>
  total(await scrape(operator), "mazevault_reconcile_duration_seconds_count", { controller: "certificaterequest" });

async function everything(): Promise<string[]> {
  const rows = await world.sql<{ line: string }>("SELECT to_jsonb(c)::text AS line FROM certificates c");
  const objects = (await world.list(KIND)).map(
    ({ metadata: { name, uid, resourceVersion } }) => `${name} ${uid} ${resourceVersion}`,
  );
  return [...objects, ...rows.map(({ line }) => line)].toSorted();
}

test.each(["pki.afterReserve", "pki.beforeComplete", "certificaterequest.beforeStatus"])(
  "an operator that dies at %s leaves one certificate",
  async (failpoint) => {
    const name = failpoint.toLowerCase().replaceAll(".", "-");
    const request = manifest(name, await csr(name));
    const armed = await world.mazevault.startOperator({
      name,
      env: { MAZEVAULT_FAILPOINT: failpoint },
      config: { ...config, pki: { baseUrl: world.mazevault.pkiUrl } },
    });
    armed.process.autoRestart = false;
    let reserved: Row[];
    try {
      await operator.process.stop();
      await world.apply(request);
      await until(`death at ${failpoint}`, () => armed.process.pid === undefined, { timeoutMs: DEATH_MS });
      expect(armed.process.lastEnd).toBe("died of SIGKILL");
      reserved = await rowsOf(name);
    } finally {
      await armed.process.stop();
      // Its holder is dead for certain, so the successor need not wait until it runs out.
      await world.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator");
      await operator.process.start();
    }
    await assertGood(name, await world.waitReady(KIND, name, NAMESPACE));
    expect(reserved).toHaveLength(1);
    expect(await rowsOf(name)).toEqual([{ ...reserved[0], state: "Issued" }]);
  },
);

test("an approval that was given while no operator ran counts", async () => {
  await world.apply(manifest("unseen", await csr("unseen"), careful));
  await waitFor("unseen", "ApprovalPending");
  await operator.process.stop();
  await say("unseen", "Approved");
  await operator.process.start();
  await assertGood("unseen", await world.waitReady(KIND, "unseen", NAMESPACE));
});
