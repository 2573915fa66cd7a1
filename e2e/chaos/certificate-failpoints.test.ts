/**
 * The operator dies between each two of its effects on a Certificate, and its successor finishes: each revision is one
 * certificate, what was to be revoked is revoked, key and certificate match, and each change restarts a workload once.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { CertificateSpec } from "../../crds/certificate.ts";
import { SYSTEM_NAMESPACE } from "../../crds/installation.ts";
import type { Operator } from "../../lab/mazevault.ts";
import { until } from "../../lab/poll.ts";
import { foreignBundle } from "../foreign-bundle.ts";
import { decoded, startWorld, type World } from "../harness.ts";
import { consumerManifest } from "./manifests.ts";

/** What is done while the failpoint is armed. Before all but the first there is a Certificate, delivered. */
type Effect =
  | "creation"
  /** Over the certificate of another CA in the core Secret. */
  | "adoption"
  /** Another name. */
  | "renewal"
  | "revocation"
  /** Delivery to a core Secret of another name. */
  | "renaming"
  /** The object is deleted, and asked that its certificates be revoked. */
  | "removal";

/** `name:n` is its nth passing. */
const rows: readonly (readonly [failpoint: string, effect: Effect])[] = [
  ["pki.afterReserve", "creation"],
  ["pki.afterReserve", "renewal"],
  ["pki.beforeComplete", "renewal"],
  ["pki.afterComplete", "renewal"],
  ["certificate.afterRevoke", "revocation"],
  ["pki.afterComplete", "revocation"],
  ["delivery.beforeAdopt", "adoption"],
  ["delivery.afterAdopt", "adoption"],
  ["delivery.afterRecord", "adoption"],
  ["delivery.beforeDeliver", "renewal"],
  ["delivery.afterDeliver", "creation"],
  ["delivery.afterDeliver", "renewal"],
  ["delivery.afterRecord", "renewal"],
  ["delivery.afterWorkloadRestart", "renewal"],
  ["delivery.afterRestart", "revocation"],
  ["delivery.afterRelease", "renaming"],
  ["certificate.beforeStatus", "creation"],
  ["certificate.afterStatus", "renewal"],
  ["certificate.beforeRemoval", "removal"],
];

const KIND = "certificate.mazevault.io";
const LEASE_MS = 3_000;
const DEATH_MS = 30_000;
const config = { kubernetes: { leaseDurationMs: LEASE_MS } };
const soon = { timeoutMs: 60_000, intervalMs: 100 };

let world: World;
let operator: Operator;
/** What other CAs issued, by tenant. */
const foreign = new Map<string, Readonly<Record<string, string>>>();

const tenantOf = (failpoint: string, effect: Effect): string =>
  `${failpoint}-${effect}`.toLowerCase().replaceAll(/[^a-z0-9]/g, "-");

const certificateOf = (tenant: string, spec: Partial<CertificateSpec> = {}): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Certificate",
  metadata: { name: tenant, namespace: tenant },
  spec: {
    secretName: tenant,
    issuerRef: { kind: "ClusterIssuer", name: "root" },
    dnsNames: [`old.${tenant}.svc`],
    deletionPolicy: "Revoke",
    restartConsumers: true,
    ...spec,
  },
});

beforeAll(async () => {
  world = await startWorld();
  operator = await world.mazevault.startOperator({ config });
  await world.apply({
    apiVersion: "mazevault.io/v1",
    kind: "ClusterIssuer",
    metadata: { name: "root" },
    spec: {
      ca: { subject: { commonName: "Root" } },
      policy: { profiles: ["Server"], dnsNames: ["*.{namespace}.svc"] },
      namespaces: { names: rows.map(([failpoint, effect]) => tenantOf(failpoint, effect)) },
    },
  });
  await world.waitReady("clusterissuer.mazevault.io", "root");
  for (const [failpoint, effect] of rows) {
    const tenant = tenantOf(failpoint, effect);
    await world.tenant(tenant);
    await world.apply(consumerManifest(tenant, "one", tenant), consumerManifest(tenant, "two", tenant));
    if (effect === "adoption") {
      const data = await foreignBundle([`old.${tenant}.svc`]);
      const metadata = { name: tenant, namespace: tenant };
      await world.apply({ apiVersion: "v1", kind: "Secret", metadata, type: "kubernetes.io/tls", stringData: data });
      foreign.set(tenant, data);
    } else if (effect !== "creation") await world.apply(certificateOf(tenant));
  }
  for (const [failpoint, effect] of rows) {
    const tenant = tenantOf(failpoint, effect);
    if (effect !== "creation" && effect !== "adoption") await world.waitReady(KIND, tenant, tenant);
  }
});

afterAll(() => world?.stop());

interface Row extends Record<string, unknown> {
  readonly serial: string;
  readonly state: string;
  readonly reason: string | null;
}

const certificatesOf = (tenant: string): Promise<Row[]> =>
  world.sql<Row>(
    `SELECT encode(serial, 'hex') AS serial, state, revocation_reason AS reason FROM certificates
     WHERE namespace = $1 ORDER BY revision`,
    [tenant],
  );

async function provoke(tenant: string, effect: Effect): Promise<void> {
  switch (effect) {
    case "creation":
      await world.apply(certificateOf(tenant));
      break;
    case "adoption":
      await world.apply(certificateOf(tenant, { adopt: true }));
      break;
    case "renewal":
      await world.apply(certificateOf(tenant, { dnsNames: [`new.${tenant}.svc`] }));
      break;
    case "revocation": {
      const [{ serial = "" } = {}] = await certificatesOf(tenant);
      await world.apply(certificateOf(tenant, { revocations: [{ serialNumber: serial, reason: "keyCompromise" }] }));
      break;
    }
    case "renaming":
      await world.apply(certificateOf(tenant, { secretName: "renamed" }));
      break;
    case "removal":
      await world.kubectl("-n", tenant, "delete", KIND, tenant);
      break;
  }
}

/** Starts an operator that dies at the failpoint, lets it lead, and waits for its end; then its successor. */
async function dieAt(failpoint: string, tenant: string, effect: Effect): Promise<void> {
  const armed = await world.mazevault.startOperator({ name: tenant, env: { MAZEVAULT_FAILPOINT: failpoint }, config });
  armed.process.autoRestart = false;
  try {
    await operator.process.stop();
    await provoke(tenant, effect);
    await until(`death at ${failpoint}`, () => armed.process.pid === undefined, { timeoutMs: DEATH_MS });
    expect(armed.process.lastEnd).toBe("died of SIGKILL");
  } finally {
    await armed.process.stop();
    // Its holder is dead for certain, so the successor need not wait until it runs out.
    await world.kubectl("-n", SYSTEM_NAMESPACE, "delete", "lease", "mazevault-operator");
    await operator.process.start();
  }
}

/** How each certificate of the tenant has to end up, oldest first. */
const reasonsAfter: Record<Effect, readonly (string | null)[]> = {
  creation: [null],
  adoption: [],
  renewal: [null, null],
  revocation: ["keyCompromise", null],
  renaming: [null],
  removal: ["cessationOfOperation"],
};

const stateOf = async (tenant: string) => ({
  certificates: (await certificatesOf(tenant)).map(({ state, reason }) => [state, reason]),
  restarts: (await world.list("deployment", tenant)).map(({ metadata }) => (metadata.generation ?? 0) - 1),
});

const expectedState = (effect: Effect) => {
  const restarts = effect === "renewal" || effect === "revocation" ? [1, 1] : [0, 0];
  return { certificates: reasonsAfter[effect].map((reason) => ["Issued", reason]), restarts };
};

const finished: (readonly [tenant: string, effect: Effect])[] = [];

test.each(rows)("death at %s during %s", async (failpoint, effect) => {
  const tenant = tenantOf(failpoint, effect);
  await dieAt(failpoint, tenant, effect);

  if (effect === "removal") {
    const holders = () => world.sql("SELECT FROM certificate_holders WHERE namespace = $1", [tenant]);
    await until("its end is on record", async () => (await holders()).length === 0, soon);
  } else {
    await world.waitReady(KIND, tenant, tenant, soon.timeoutMs);
    const data = decoded(await world.get("secret", effect === "renaming" ? "renamed" : tenant, tenant));
    const leaf = new X509Certificate(data["tls.crt"] ?? "");
    expect(leaf.checkPrivateKey(createPrivateKey(data["tls.key"] ?? ""))).toBe(true);
    if (effect === "adoption") expect(data).toEqual(foreign.get(tenant));
    else expect(leaf.serialNumber.toLowerCase()).toBe((await certificatesOf(tenant)).at(-1)?.serial);
    expect(leaf.subjectAltName).toBe(`DNS:${effect === "renewal" ? "new" : "old"}.${tenant}.svc`);
  }
  expect(await stateOf(tenant)).toEqual(expectedState(effect));
  finished.push([tenant, effect]);
});

test("nothing was repeated later", async () => {
  expect(finished).toHaveLength(rows.length);
  for (const [tenant, effect] of finished)
    expect([tenant, await stateOf(tenant)]).toEqual([tenant, expectedState(effect)]);
});

test("every failpoint of certificates is died at", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const named = globSync("controllers/{certificate,delivery,runtime}/*.ts", { cwd: root })
    .filter((file) => !file.endsWith(".test.ts"))
    .flatMap((file) => [...readFileSync(`${root}/${file}`, "utf8").matchAll(/failpoint\((["`])(.+?)\1\)/g)])
    .map(([, , name = ""]) => name.replace(/\$\{.+\}/, "certificate"));
  const died = new Set(rows.map(([failpoint]) => failpoint));
  expect(named.filter((name) => !died.has(name) && !name.startsWith("leadership."))).toEqual([]);
});
