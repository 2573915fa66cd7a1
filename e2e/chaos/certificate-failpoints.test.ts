/**
 * The operator dies between each two of its effects on a Certificate, and its successor finishes: each revision is one
 * certificate, what was to be revoked is revoked, key and certificate match, and each change restarts a workload once.
 */
import { createPrivateKey, X509Certificate } from "node:crypto";
import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { CertificateSpec } from "../../crds/certificate.ts";
import { until } from "../../lab/poll.ts";
import { foreignBundle } from "../foreign-bundle.ts";
import { decoded, startWorld, type World } from "../harness.ts";
import { boundedDeaths, type Death } from "./deaths.ts";
import { consumerManifest } from "./manifests.ts";
import { Succession } from "./succession.ts";

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

const everyRow: readonly Death<Effect>[] = [
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
const rows = boundedDeaths(everyRow);

const KIND = "certificate.mazevault.io";
const soon = { timeoutMs: 60_000, intervalMs: 100 };

let world: World;
let succession: Succession;
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
  succession = await Succession.begin(world);
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
  const tenants = rows.map(([failpoint, effect]) => [tenantOf(failpoint, effect), effect] as const);
  await world.tenant(...tenants.map(([tenant]) => tenant));
  const manifests: object[] = [];
  for (const [tenant, effect] of tenants) {
    manifests.push(consumerManifest(tenant, "one", tenant), consumerManifest(tenant, "two", tenant));
    if (effect === "adoption") {
      const data = await foreignBundle([`old.${tenant}.svc`]);
      const metadata = { name: tenant, namespace: tenant };
      manifests.push({ apiVersion: "v1", kind: "Secret", metadata, type: "kubernetes.io/tls", stringData: data });
      foreign.set(tenant, data);
    } else if (effect !== "creation") manifests.push(certificateOf(tenant));
  }
  await world.apply(...manifests);
  for (const [tenant, effect] of tenants) {
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
  await succession.dies(failpoint, () => provoke(tenant, effect));

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
  const died = new Set(everyRow.map(([failpoint]) => failpoint));
  expect(named.filter((name) => !died.has(name) && !name.startsWith("leadership."))).toEqual([]);
});
