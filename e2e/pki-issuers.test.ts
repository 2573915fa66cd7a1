/**
 * Issuers and ClusterIssuers from outside: CAs that OpenSSL accepts, limits that hold, CRLs and responder certificates in
 * time, and an operator that dies between each two of its effects and makes nothing twice.
 */
import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { createCsr } from "../core/pki/csr.ts";
import { generateKey } from "../core/pki/key.ts";
import { LocalSigner } from "../core/pki/signer.ts";
import { Judge } from "../core/pki/testing/judge.ts";
import type { Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { boundedDeaths, type Death } from "./chaos/deaths.ts";
import { Succession } from "./chaos/succession.ts";
import { conditionOf, type KubernetesObject, scrape, startWorld, total, type World } from "./harness.ts";

const soon = { timeoutMs: 20_000, intervalMs: 50 };
const clusterIssuer = "clusterissuer.mazevault.io";
const issuer = "issuer.mazevault.io";
const config = {
  kubernetes: { leaseDurationMs: 3_000 },
  pki: { baseUrl: "http://pki.example.com" },
};

let world: World;
let operator: Operator;
let judge: Judge;

const rootManifest = (name: string, spec: object = {}): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "ClusterIssuer",
  metadata: { name },
  spec: { ca: { subject: { commonName: `${name} CA`, organizations: ["Example"] } }, ...spec },
});
const belowManifest = (name: string, parent: string, spec: object = {}): object =>
  rootManifest(name, {
    ca: { subject: { commonName: `${name} CA` }, parentRef: { kind: "ClusterIssuer", name: parent } },
    ...spec,
  });
const issuerManifest = (namespace: string, name: string, ca: object): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Issuer",
  metadata: { namespace, name },
  spec: { ca: { subject: { commonName: `${name} CA` }, ...ca } },
});

beforeAll(async () => {
  judge = new Judge();
  world = await startWorld();
  operator = await world.mazevault.startOperator({ config });
  await world.tenant("shop");
  await world.apply(
    rootManifest("root", { policy: { allowSubordinates: { pathLength: 1 } } }),
    belowManifest("payments", "root", {
      policy: {
        profiles: ["Server"],
        allowSubordinates: {
          namespaces: { names: ["shop"] },
          nameConstraints: { permitted: { dnsDomains: ["{namespace}.svc"] } },
        },
      },
    }),
    issuerManifest("shop", "shop", { parentRef: { kind: "ClusterIssuer", name: "payments" } }),
    issuerManifest("shop", "own", { key: { algorithm: "RSA", size: 2048 }, duration: "8760h" }),
  );
  for (const name of ["root", "payments"]) await world.waitReady(clusterIssuer, name);
  for (const name of ["shop", "own"]) await world.waitReady(issuer, name, "shop");
});

afterAll(async () => {
  judge?.dispose();
  await world?.stop();
});

const bundleOf = ({ status }: KubernetesObject): string[] =>
  String(status?.caBundle ?? "").match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/g) ?? [];

/** Files of a CA's own certificate, of those between it and its root, and of the root. */
function files(object: KubernetesObject): { own: string; between: string; root: string } {
  const bundle = bundleOf(object);
  const { name } = object.metadata;
  return {
    own: judge.write(`${name}.pem`, bundle[0] ?? ""),
    between: judge.write(`${name}-between.pem`, bundle.slice(1, -1).join("") || (bundle[0] ?? "")),
    root: judge.write(`${name}-root.pem`, bundle.at(-1) ?? ""),
  };
}

test("CAs verify with OpenSSL, down to one in a namespace", async () => {
  for (const [resource, name, namespace, length] of [
    [clusterIssuer, "root", undefined, 1],
    [clusterIssuer, "payments", undefined, 2],
    [issuer, "shop", "shop", 3],
    [issuer, "own", "shop", 1],
  ] as const) {
    const object = await world.get(resource, name, namespace);
    expect(bundleOf(object)).toHaveLength(length);
    const { own, between, root } = files(object);
    expect(judge.run("openssl", "verify", "-x509_strict", "-CAfile", root, "-untrusted", between, own)).toContain("OK");
    const text = judge.run("openssl", "x509", "-in", own, "-noout", "-serial", "-enddate");
    const serial = String(object.status?.serialNumber).replaceAll(":", "").toUpperCase();
    expect(text).toContain(`serial=${serial}`);
    expect(conditionOf(object, "Issued")?.status).toBe("True");
    expect(conditionOf(object, "Published")?.status).toBe("True");
  }
  const text = judge.run(
    "openssl",
    "x509",
    "-in",
    files(await world.get(issuer, "shop", "shop")).own,
    "-noout",
    "-text",
  );
  expect(text).toContain("DNS:shop.svc");
  expect(text).toContain("pathlen:0");
  const [{ id } = { id: "" }] = await world.sql<{ id: string }>("SELECT id FROM authorities WHERE name = 'payments'");
  expect(text).toContain(`URI:http://pki.example.com/crl/${id}/1.crl`);
  expect(text).toContain("OCSP - URI:http://pki.example.com/ocsp");
});

test("a CA that is not allowed is refused with what helps, and made once it is", async () => {
  await world.tenant("denied");
  await world.apply(issuerManifest("denied", "own", { parentRef: { kind: "ClusterIssuer", name: "payments" } }));
  const refused = await world.waitFor(issuer, "own", "denied", (each) => conditionOf(each, "Stalled") !== undefined);
  expect(conditionOf(refused, "Stalled")).toMatchObject({ reason: "SubordinateNotAllowed" });
  expect(conditionOf(refused, "Stalled")?.message).toContain("policy.allowSubordinates.namespaces");
  expect(await world.sql("SELECT FROM authorities WHERE namespace = 'denied'")).toEqual([]);
  await world.kubectl(
    "patch",
    clusterIssuer,
    "payments",
    "--type=json",
    "-p",
    '[{"op":"add","path":"/spec/policy/allowSubordinates/namespaces/names/-","value":"denied"}]',
  );
  await world.waitReady(issuer, "own", "denied");
});

test("a CA that comes before the one above it waits, and is made when that is there", async () => {
  await world.apply(belowManifest("early", "late"));
  const waiting = await world.waitFor(
    clusterIssuer,
    "early",
    undefined,
    (each) => conditionOf(each, "Ready") !== undefined,
  );
  expect(conditionOf(waiting, "Ready")).toMatchObject({ status: "False", reason: "IssuerNotFound" });
  await world.apply(rootManifest("late", { policy: { allowSubordinates: {} } }));
  await world.waitReady(clusterIssuer, "early");
});

test("an issuer that is deleted and applied again finds its CA, which went on publishing", async () => {
  const manifest = rootManifest("again");
  await world.apply(manifest);
  const before = await world.waitReady(clusterIssuer, "again");
  await world.kubectl("delete", clusterIssuer, "again");
  const stateOf = async () =>
    (await world.sql<{ state: string }>("SELECT state FROM authorities WHERE name = 'again'"))[0]?.state;
  await until("the CA is retired", async () => (await stateOf()) === "Retired", soon);
  await world.apply(manifest);
  const after = await world.waitReady(clusterIssuer, "again");
  expect(after.status?.serialNumber).toBe(before.status?.serialNumber);
  expect(await stateOf()).toBe("Active");
  await world.kubectl("delete", clusterIssuer, "again");
  await world.apply(rootManifest("again", { ca: { subject: { commonName: "someone else" } } }));
  const refused = await world.waitFor(
    clusterIssuer,
    "again",
    undefined,
    (each) => conditionOf(each, "Stalled") !== undefined,
  );
  expect(conditionOf(refused, "Stalled")).toMatchObject({ reason: "AuthorityDiffers" });
});

test("each CA has a CRL that OpenSSL accepts, and a responder gets its certificate", async () => {
  const object = await world.get(clusterIssuer, "payments");
  const { own } = files(object);
  const crl = async () => {
    const [row] = await world.sql<{ der: Buffer; authority_id: string }>(
      `SELECT c.der, c.authority_id FROM ocsp_crls c JOIN authorities a ON a.id = c.authority_id WHERE a.name = 'payments'`,
    );
    return row;
  };
  await until("the CRL is there", async () => (await crl()) !== undefined, soon);
  const { der, authority_id: authorityId } = (await crl()) ?? { der: Buffer.alloc(0), authority_id: "" };
  const file = judge.write("payments.crl", der);
  expect(judge.run("openssl", "crl", "-inform", "DER", "-in", file, "-CAfile", own, "-noout")).toContain("verify OK");
  expect(judge.run("openssl", "crl", "-inform", "DER", "-in", file, "-noout", "-text")).toContain("CRL Number");

  const signer = new LocalSigner(await generateKey({ algorithm: "ECDSA", size: 256 }));
  const csr = await createCsr([], [], signer);
  await world.sql(
    "INSERT INTO ocsp_responders (id, authority_id, generation, csr) VALUES (gen_random_uuid(), $1, 1, $2)",
    [authorityId, csr],
  );
  const started = performance.now();
  await world.sql("NOTIFY mazevault_pki");
  const responder = async () =>
    (await world.sql<{ certificate: Buffer | null }>("SELECT certificate FROM ocsp_responders"))[0]?.certificate;
  await until("the responder has its certificate", async () => Boolean(await responder()), soon);
  // Woken by the notification: the timer comes every ten seconds.
  expect(performance.now() - started).toBeLessThan(5_000);
  const certificate = judge.write("responder.der", (await responder()) ?? Buffer.alloc(0));
  const text = judge.run("openssl", "x509", "-inform", "DER", "-in", certificate, "-noout", "-text");
  expect(text).toContain("OCSP No Check");
  expect(text).toContain("OCSP Signing");
});

/** Everything that an issuer has left anywhere. */
const everything = async () => ({
  authorities: await world.sql(
    "SELECT a.*, g.certificate FROM authorities a JOIN authority_generations g ON g.authority_id = a.id ORDER BY a.id",
  ),
  certificates: await world.sql("SELECT authority_id, serial, state FROM certificates ORDER BY serial"),
  crls: await world.sql("SELECT authority_id, number FROM crls ORDER BY authority_id"),
  objects: (await Promise.all([clusterIssuer, issuer].map((resource) => world.list(resource))))
    .flat()
    .map(({ metadata }) => `${metadata.namespace ?? ""}/${metadata.name} ${metadata.resourceVersion}`),
});

test.each(["SIGTERM", "kill -9"])("a restart by %s changes nothing", async (name) => {
  const missing = () =>
    world.sql(
      `SELECT FROM crls c JOIN authority_generations g ON g.authority_id = c.authority_id
       WHERE c.number IS NULL AND g.certificate IS NOT NULL`,
    );
  await until("every CA has its CRL", async () => (await missing()).length === 0, soon);
  const before = await everything();
  if (name === "SIGTERM") await operator.process.restart();
  else {
    await operator.process.kill();
    await operator.process.ready();
  }
  const counted = "mazevault_reconcile_duration_seconds_count";
  const expected = {
    clusterissuer: (await world.list(clusterIssuer)).length,
    issuer: (await world.list(issuer)).length,
  };
  const lookedAt = async () => {
    const samples = await scrape(operator);
    return Object.entries(expected).every(([controller, least]) => total(samples, counted, { controller }) >= least);
  };
  await until("every issuer was looked at", lookedAt, soon);
  expect(await everything()).toEqual(before);
});

type Effect = "cluster" | "namespace" | "external" | "responder" | "purge";
const deaths: readonly Death<Effect>[] = [
  ["pki.afterAuthority", "cluster"],
  ["pki.afterRequest", "external"],
  ["pki.afterReserve", "cluster"],
  ["pki.beforeComplete", "namespace"],
  ["pki.afterComplete", "cluster"],
  ["pki.beforeInstall", "namespace"],
  ["pki.afterInstall", "cluster"],
  ["clusterissuer.beforeStatus", "cluster"],
  ["clusterissuer.afterStatus", "cluster"],
  ["issuer.beforeStatus", "namespace"],
  ["issuer.afterStatus", "namespace"],
  ["pki.beforeCrl", "cluster"],
  ["pki.afterCrl", "cluster"],
  ["pki.beforeResponder", "responder"],
  ["pki.beforePurge", "purge"],
  ["pki.afterPurge", "purge"],
];

/** Reserved a year ago, and given up. */
const ENDED_LONG_AGO = `
  INSERT INTO certificates (authority_id, generation, serial, state, requester_kind, namespace, namespace_uid, name,
                            requester_uid, revision, profile, template, not_before, not_after, crl_partition)
  SELECT id, 1, decode(replace(gen_random_uuid()::text, '-', ''), 'hex'), 'Abandoned', 'Responder', '', '', 'root', $1, 1,
         'OCSPResponder', '', now() - interval '366 days', now() - interval '365 days', 0
  FROM authorities WHERE name = 'root'`;

describe("death between two effects", () => {
  let succession: Succession;
  beforeAll(async () => {
    await operator.process.stop();
    succession = await Succession.begin(world, config);
  });

  const nameOf = (failpoint: string) => failpoint.toLowerCase().replaceAll(/[^a-z]/g, "-");

  async function provoke(effect: Effect, name: string): Promise<void> {
    if (effect === "cluster") await world.apply(rootManifest(name));
    else if (effect === "external") {
      await world.apply(rootManifest(name, { ca: { subject: { commonName: `${name} CA` }, external: {} } }));
    } else if (effect === "purge") await world.sql(ENDED_LONG_AGO, [name]);
    else if (effect === "namespace") await world.apply(issuerManifest("shop", name, { duration: "8760h" }));
    else {
      const signer = new LocalSigner(await generateKey({ algorithm: "ECDSA", size: 256 }));
      await world.sql(
        `INSERT INTO ocsp_responders (id, authority_id, generation, csr)
         SELECT gen_random_uuid(), id, 1, $1 FROM authorities WHERE name = 'root'`,
        [await createCsr([], [], signer)],
      );
    }
  }

  test.each(boundedDeaths(deaths))(
    "at %s while something of %s is made leaves one of it",
    async (failpoint, effect) => {
      const name = nameOf(failpoint);
      const before = (await world.sql("SELECT FROM certificates WHERE requester_kind = 'Responder'")).length;
      const provoked = () => provoke(effect, name);
      // Who leads now has looked for these already; who comes looks at once.
      const found = effect === "purge" || effect === "responder";
      await (found ? succession.diesAsSuccessor(failpoint, provoked) : succession.dies(failpoint, provoked));
      if (effect === "purge") {
        const ended = () => world.sql("SELECT FROM certificates WHERE requester_uid = $1", [name]);
        await until("what ended long ago is gone", async () => (await ended()).length === 0, soon);
        return;
      }
      if (effect === "responder") {
        const pending = () => world.sql("SELECT FROM ocsp_responders WHERE certificate IS NULL");
        await until("the responder has its certificate", async () => (await pending()).length === 0, soon);
        expect(await world.sql("SELECT FROM certificates WHERE requester_kind = 'Responder'")).toHaveLength(before + 1);
        return;
      }
      if (effect === "external") {
        const waits = (each: KubernetesObject) => conditionOf(each, "Issued")?.reason === "WaitingForCertificate";
        const { status } = await world.waitFor(clusterIssuer, name, undefined, waits);
        const request = judge.write(`${name}.csr`, String(status?.certificateSigningRequest));
        expect(judge.run("openssl", "req", "-in", request, "-noout", "-verify", "-subject")).toContain(`${name} CA`);
        expect(await world.sql("SELECT FROM authorities WHERE name = $1", [name])).toHaveLength(1);
        return;
      }
      const object =
        effect === "cluster" ? await world.waitReady(clusterIssuer, name) : await world.waitReady(issuer, name, "shop");
      const { own, root } = files(object);
      expect(judge.run("openssl", "verify", "-x509_strict", "-CAfile", root, own)).toContain("OK");
      const [authority] = await world.sql<{ id: string }>("SELECT id FROM authorities WHERE name = $1", [name]);
      const issued = await world.sql<{ state: string }>("SELECT state FROM certificates WHERE authority_id = $1", [
        authority?.id,
      ]);
      expect(issued.map(({ state }) => state)).toEqual(["Issued"]);
      const crls = () =>
        world.sql<{ number: string }>("SELECT number FROM ocsp_crls WHERE authority_id = $1", [authority?.id]);
      await until("the CRL is there", async () => (await crls()).length === 1, soon);
      expect(await crls()).toEqual([{ number: "1" }]);
    },
  );

  test("tells of each purge once", async () => {
    const rows = () => world.sql("SELECT FROM audit WHERE action = 'CertificatesPurged'");
    expect(await rows()).toHaveLength(deaths.filter(([, effect]) => effect === "purge").length);
  });

  test("is tried at every failpoint of issuers", () => {
    const root = fileURLToPath(new URL("..", import.meta.url));
    const sources = globSync("{core,controllers}/**/*.ts", { cwd: root }).filter((file) => !file.endsWith(".test.ts"));
    const named = sources.flatMap((file) =>
      [...readFileSync(`${root}/${file}`, "utf8").matchAll(/failpoint\("(pki\..+?)"\)/g)].map(([, name = ""]) => name),
    );
    const tried = deaths.map(([failpoint]) => failpoint).filter((failpoint) => failpoint.startsWith("pki."));
    expect([...tried].sort()).toEqual([...new Set(named)].sort());
  });
});
