/**
 * The operator dies between each two of its effects, and its successor finishes: exactly one version of each value in
 * PostgreSQL and in the Key Vault, each workload restarted once for a changed value, and no value generated again.
 */
import { globSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { azure } from "../../lab/mazevault.ts";
import { until } from "../../lab/poll.ts";
import { decoded, type KubernetesObject, secretManifest, startWorld, type World } from "../harness.ts";
import { ApiClient } from "./api.ts";
import { boundedDeaths, type Death } from "./deaths.ts";
import { consumerManifest, pushManifests } from "./manifests.ts";
import { isReady } from "./observer.ts";
import { Succession } from "./succession.ts";

/** What is done while the failpoint is armed. Before all but the first two there is a Secret, delivered and pushed. */
type Effect =
  /** A namespace with project, vault, rule and Secret. */
  | "onboarding"
  /** A Secret. */
  | "creation"
  /** A literal changes, and with it what is rendered from it. */
  | "change"
  /** Delivery to a core Secret of another name. */
  | "renaming"
  /** A person asks for new values. */
  | "rotation"
  /** Somebody deleted the entries in the vault; then a change. */
  | "recovery"
  /** The Secret is deleted. */
  | "removal";

const everyRow: readonly Death<Effect>[] = [
  ["leadership.afterLease", "change"],
  ["leadership.afterEpoch", "change"],
  ["keyring.afterKey", "onboarding"],
  ["keyring.afterKey:2", "onboarding"],
  ["keyring.afterKey:4", "onboarding"],
  ["project.afterOnboard", "onboarding"],
  ["project.beforeStatus", "onboarding"],
  ["project.afterStatus", "onboarding"],
  ["keyvault.beforeStatus", "onboarding"],
  ["keyvault.afterStatus", "onboarding"],
  ["secret.beforeStore", "creation"],
  ["secret.afterStore", "creation"],
  ["secret.afterStore", "change"],
  ["secret.beforeRotate", "rotation"],
  ["secret.afterRotate", "rotation"],
  ["delivery.beforeDeliver", "rotation"],
  ["delivery.afterRecord", "rotation"],
  ["secret.beforeStatus", "rotation"],
  ["delivery.beforeDeliver", "creation"],
  ["delivery.beforeDeliver", "change"],
  ["delivery.afterDeliver", "creation"],
  ["delivery.afterDeliver", "change"],
  ["delivery.afterRecord", "creation"],
  ["delivery.afterRecord", "change"],
  ["delivery.afterWorkloadRestart", "change"],
  ["delivery.afterRestart", "change"],
  ["delivery.afterRecord:2", "change"],
  ["secret.beforeStatus", "creation"],
  ["secret.afterStatus", "change"],
  ["delivery.afterRelease", "renaming"],
  ["delivery.afterRecord", "renaming"],
  ["secret.beforeRemoval", "removal"],
  ["outbox.afterMove", "change"],
  ["sync.afterIntent", "change"],
  ["sync.afterLook", "creation"],
  ["sync.beforeSet", "change"],
  ["sync.afterSet", "creation"],
  ["sync.afterSet", "change"],
  ["sync.afterOutcome", "change"],
  ["sync.afterRecover", "recovery"],
  ["syncrule.beforeStatus", "creation"],
  ["syncrule.afterStatus", "creation"],
];

const rows = boundedDeaths(everyRow);

const [vault] = azure.vaults;

let world: World;
let succession: Succession;
let api: ApiClient;

/** A namespace, and everything in it has that name. All changes are of one: each new leader looks at every tenant. */
const tenantOf = (failpoint: string, effect: Effect): string =>
  effect === "change" ? effect : `${failpoint}-${effect}`.toLowerCase().replaceAll(/[^a-z0-9]/g, "-");

/** What the literal of each tenant that has changed has been, oldest first. */
const changed = new Map<string, readonly string[]>();
const literalsOf = (tenant: string): readonly string[] => changed.get(tenant) ?? ["old"];

const secretOf = (tenant: string, literal: string, secretName = tenant): object =>
  secretManifest(tenant, tenant, {
    entries: [
      { key: "literal", literal },
      { key: "generated", generate: { kind: "Hex" } },
      { key: "rendered", template: "{{ literal }}:{{ generated }}" },
    ],
    deliver: { secretName, restartConsumers: true },
    retention: { versions: rows.length + 1 },
  });

function change(tenant: string): Promise<void> {
  const literals = literalsOf(tenant);
  const literal = `new-${literals.length}`;
  changed.set(tenant, [...literals, literal]);
  return world.apply(secretOf(tenant, literal));
}

const frameOf = (tenant: string): object[] => [
  { apiVersion: "v1", kind: "Namespace", metadata: { name: tenant } },
  {
    apiVersion: "mazevault.io/v1",
    kind: "Project",
    metadata: { name: tenant },
    spec: { environments: [{ name: "pro" }], namespaces: [{ name: tenant, environments: ["pro"] }] },
  },
  ...pushManifests(world.mazevault, tenant, "10s"),
  consumerManifest(tenant, "one", tenant),
  consumerManifest(tenant, "two", tenant),
];

const isBefore = (effect: Effect): boolean => effect !== "onboarding" && effect !== "creation";

beforeAll(async () => {
  world = await startWorld();
  api = await ApiClient.connect(world);
  succession = await Succession.begin(world);
  const existing = rows.filter(([, effect]) => effect !== "onboarding");
  const tenants = new Map(existing.map(([failpoint, effect]) => [tenantOf(failpoint, effect), effect]));
  await world.apply(
    ...[...tenants].flatMap(([tenant, effect]) => [
      ...frameOf(tenant),
      ...(isBefore(effect) ? [secretOf(tenant, "old")] : []),
    ]),
  );
  for (const [tenant, effect] of tenants) {
    await world.waitReady("keyvault.mazevault.io", tenant, tenant);
    if (isBefore(effect)) await inStep(tenant);
    else await world.waitReady("syncrule.mazevault.io", tenant, tenant);
  }
});

afterAll(async () => {
  api?.close();
  await world?.stop();
});

async function provoke(tenant: string, effect: Effect): Promise<void> {
  switch (effect) {
    case "onboarding":
      await world.apply(...frameOf(tenant), secretOf(tenant, "old"));
      break;
    case "creation":
      await world.apply(secretOf(tenant, "old"));
      break;
    case "change":
      await change(tenant);
      break;
    case "renaming":
      await world.apply(secretOf(tenant, "old", "renamed"));
      break;
    case "recovery":
      for (const key of ["literal", "generated", "rendered"]) {
        await world.mazevault.keyVault.control.deleteSecret(vault, `${tenant}--${key}`);
      }
      await change(tenant);
      break;
    case "rotation":
      await world.kubectl("-n", tenant, "annotate", "secret.mazevault.io", tenant, "mazevault.io/rotate=now");
      break;
    case "removal":
      await world.kubectl("-n", tenant, "delete", "secret.mazevault.io", tenant);
      break;
  }
}

/** What stands where, as far as it belongs to the tenant. */
interface State {
  readonly versions: readonly number[];
  /** Values by key, oldest version first. */
  readonly pushed: Readonly<Record<string, readonly string[]>>;
  /** How often each workload was restarted. */
  readonly restarts: readonly number[];
}

interface Stored extends Record<string, unknown> {
  readonly state: string;
  readonly versions: readonly number[];
  readonly intents: number;
  readonly restarts: number;
}

async function storedOf(tenant: string): Promise<Stored | undefined> {
  const [stored] = await world.sql<Stored>(
    `SELECT state, coalesce(json_array_length(delivery->'pendingRestarts'), 0) AS restarts,
            ARRAY(SELECT version FROM versions WHERE secret_id = s.id ORDER BY version) AS versions,
            (SELECT count(*)::int FROM sync_items WHERE secret_id = s.id AND intent_id IS NOT NULL) AS intents
     FROM secrets s WHERE name = $1`,
    [tenant],
  );
  return stored;
}

const inNamespace = (group: string, tenant: string, plural: string): Promise<readonly KubernetesObject[]> =>
  api.list(`/${group}/namespaces/${tenant}/${plural}`);

async function coreSecret(tenant: string, name = tenant): Promise<KubernetesObject | undefined> {
  return (await inNamespace("api/v1", tenant, "secrets")).find(({ metadata }) => metadata.name === name);
}

async function pushedOf(tenant: string): Promise<State["pushed"]> {
  const entries = await world.mazevault.keyVault.control.secrets(vault);
  const ours = entries.filter(({ name, state }) => state === "active" && name.startsWith(`${tenant}--`));
  return Object.fromEntries(
    ours.map(({ name, versions }) => [name.slice(tenant.length + 2), versions.map(({ value }) => value)]),
  );
}

async function stateOf(tenant: string): Promise<State> {
  return {
    versions: (await storedOf(tenant))?.versions ?? [],
    pushed: await pushedOf(tenant),
    restarts: (await inNamespace("apis/apps/v1", tenant, "deployments")).map(
      ({ metadata }) => (metadata.generation ?? 0) - 1,
    ),
  };
}

/** `generated`: what that entry has been, oldest first. */
function expectedState(tenant: string, generated: readonly string[]): State {
  const literals = literalsOf(tenant);
  const rendered = literals.flatMap((literal) => generated.map((each) => `${literal}:${each}`));
  const changes = rendered.length - 1;
  return {
    versions: rendered.map((_, index) => index + 1),
    pushed: { literal: literals, generated, rendered },
    restarts: [changes, changes],
  };
}

/** Waits until everything that the tenant's manifests ask for is done. */
async function inStep(tenant: string, secretName = tenant): Promise<void> {
  const done = async () => {
    for (const plural of ["secrets", "syncrules"]) {
      const [object] = await inNamespace("apis/mazevault.io/v1", tenant, plural);
      if (object === undefined || !isReady(object)) throw new Error(`not Ready: ${JSON.stringify(object?.status)}`);
      // No new generation tells of a request, so it is Ready all along.
      const asked = object.metadata.annotations?.["mazevault.io/rotate"];
      if (asked !== object.status?.lastHandledRotate) throw new Error(`not rotated: ${JSON.stringify(object.status)}`);
    }
    const stored = await storedOf(tenant);
    if (stored?.intents !== 0 || stored.restarts !== 0) throw new Error(JSON.stringify(stored));
    const object = await coreSecret(tenant, secretName);
    const core = object === undefined ? {} : decoded(object);
    const pushed = await pushedOf(tenant);
    return Object.entries(core).every(([key, value]) => pushed[key]?.at(-1) === value);
  };
  await until(`${tenant} in step`, done, { timeoutMs: 60_000, intervalMs: 100 });
}

/** Waits until a deleted Secret has gone the way of its deletion policy. */
async function removed(tenant: string): Promise<void> {
  const done = async () => {
    const [state, core] = [(await storedOf(tenant))?.state, await coreSecret(tenant)];
    if (state === "SoftDeleted" && core === undefined) return true;
    throw new Error(`it is ${state}, and its core Secret ${core === undefined ? "gone" : "there"}`);
  };
  await until(`${tenant} removed`, done, { timeoutMs: 60_000, intervalMs: 100 });
}

/** What every row that is done has left, by tenant. */
const done = new Map<string, State>();

test.each(rows)("death at %s during %s", async (failpoint, effect) => {
  const tenant = tenantOf(failpoint, effect);
  const before = await coreSecret(tenant);
  const provoked = () => provoke(tenant, effect);
  if (failpoint.startsWith("leadership.")) await succession.diesAsSuccessor(failpoint, provoked);
  else await succession.dies(failpoint, provoked);

  if (effect === "removal") await removed(tenant);
  else await inStep(tenant, effect === "renaming" ? "renamed" : tenant);
  const delivered = effect === "removal" ? before : await coreSecret(tenant);
  const { generated = "" } = decoded(delivered as KubernetesObject);
  const former = before === undefined ? [] : [decoded(before).generated ?? ""];
  if (effect === "rotation") {
    expect(former).not.toContain(generated);
    former.push(generated);
  } else if (before !== undefined) expect(former).toEqual([generated]);
  if (effect === "renaming") {
    // What was delivered before stays, and is not ours any more.
    expect(delivered?.metadata.labels ?? {}).toEqual({});
    expect((await coreSecret(tenant, "renamed"))?.data).toEqual(delivered?.data);
  }
  const state = expectedState(tenant, effect === "rotation" ? former : [generated]);
  expect(await stateOf(tenant)).toEqual(state);
  done.set(tenant, state);
});

test("nothing was repeated later", async () => {
  expect(done.size).toBe(new Set(rows.map(([failpoint, effect]) => tenantOf(failpoint, effect))).size);
  for (const [tenant, state] of done) expect([tenant, await stateOf(tenant)]).toEqual([tenant, state]);
});

test("every failpoint of the source is died at", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const files = globSync("{core,adapters,controllers,operator}/**/*.ts", { cwd: root }).filter(
    (file) => !file.endsWith(".test.ts"),
  );
  const named = files
    .flatMap((file) =>
      [...readFileSync(`${root}/${file}`, "utf8").matchAll(/failpoint\((["`])(.+?)\1\)/g)].map(
        ([, , name = ""]) => name,
      ),
    )
    // These have tests of their own: `e2e/pki-issuers.test.ts`, `certificate-failpoints.test.ts` (also what only a
    // Certificate adopts), `e2e/audit.test.ts`, `adapters/postgres/rotation.test.ts`, `e2e/sync-*.test.ts`,
    // `e2e/orchestrator.test.ts`, `e2e/secret-apply.test.ts`, `e2e/gateway.test.ts`, `e2e/failover.test.ts`,
    // `e2e/gateway-*.test.ts`, `e2e/backup.test.ts`.
    .filter(
      (name) =>
        !/^(pki|certificate|auditsink|rotation|storage|apply|membership|fleet|failover|replica|writequeue|gatewaywrites|gatewayDelivery|signing|adoption|restore)\.|^delivery\..*Adopt$|^sync\.(before|after)(Pull|Pulled|Take|Keep|Meant|Agreement|Delete|Deleted)$/.test(
          name,
        ),
    );
  const controllers = ["project", "secret", "keyvault", "syncrule"];
  // The runner's are named after the controller.
  const all = named.flatMap((name) =>
    name.includes("$") ? controllers.map((controller) => name.replace(/\$\{.+\}/, controller)) : [name],
  );
  const covered = new Set(everyRow.map(([failpoint]) => failpoint.replace(/:.*/, "")));
  expect([...covered].toSorted()).toEqual([...new Set(all)].toSorted());
});
