/** What must hold after a run. Every fault is one line that names the object and what is wrong with it. */
import path from "node:path";
import { openStores } from "../../adapters/postgres/stores.ts";
import { openRootKeyFile } from "../../adapters/rootkey/file.ts";
import { azure } from "../../lab/mazevault.ts";
import { decoded, type KubernetesObject, type World } from "../harness.ts";
import type { ApiClient } from "./api.ts";
import { type Fleet, type FleetSecret, type Key, NAMESPACE } from "./fleet.ts";
import { CORE_SECRETS, isReady, type Observer, SECRETS } from "./observer.ts";
import { requestFaults, unfinishedRequests } from "./request-verdict.ts";
import type { SigningRequests } from "./requests.ts";

const DEPLOYMENTS = `/apis/apps/v1/namespaces/${NAMESPACE}/deployments`;

interface StoredEntry extends Record<string, unknown> {
  readonly name: string;
  readonly current: number;
  readonly version: number;
  readonly key: string;
  readonly recipe: string;
  readonly fingerprint: string;
}

interface VaultVersion {
  readonly version: string;
  readonly value: string;
  readonly tags?: Readonly<Record<string, string>>;
}

export interface Run {
  readonly world: World;
  readonly api: ApiClient;
  readonly fleet: Fleet;
  readonly requests: SigningRequests;
  readonly observer: Observer;
}

const byName = (objects: readonly KubernetesObject[]): Map<string, KubernetesObject> =>
  new Map(objects.map((object) => [object.metadata.name, object]));

const entryName = (secret: FleetSecret, key: Key): string => `${secret.name}--${key}`;

async function vaultEntries({ world }: Run): Promise<Map<string, readonly VaultVersion[]>> {
  const entries = await world.mazevault.keyVault.control.secrets(azure.vaults[0]);
  return new Map(entries.map(({ name, versions }) => [name, versions]));
}

async function count({ world }: Run, text: string): Promise<number> {
  return (await world.sql<{ count: number }>(`SELECT count(*)::int AS count FROM ${text}`))[0]?.count ?? 0;
}

/** What has not come to an end yet: empty when the product has nothing left to do. */
export async function unfinished(run: Run): Promise<string[]> {
  const { api, fleet, world } = run;
  const left: string[] = [];
  const expect = (holds: boolean, otherwise: string): void => {
    if (!holds) left.push(otherwise);
  };
  const [objects, core, vault] = [
    byName(await api.list(SECRETS)),
    byName(await api.list(CORE_SECRETS)),
    await vaultEntries(run),
  ];
  for (const secret of fleet.secrets) {
    const object = objects.get(secret.name);
    expect(object !== undefined && isReady(object), `${secret.name} is not Ready: ${JSON.stringify(object?.status)}`);
    const delivered = core.get(secret.name);
    const data = delivered === undefined ? {} : decoded(delivered);
    for (const key of secret.keys) {
      const value = data[key];
      const wanted = secret.expected(key);
      expect(value !== undefined, `core Secret ${secret.name} has no ${key}`);
      expect(
        wanted === undefined || value === wanted,
        `${key} of core Secret ${secret.name} is ${value}, not ${wanted}`,
      );
      const pushed = vault.get(entryName(secret, key))?.at(-1)?.value;
      expect(pushed === value, `${key} of ${secret.name} in the vault is not what the core Secret has`);
    }
  }
  const rule = await world.get("syncrule.mazevault.io", NAMESPACE, NAMESPACE);
  expect(isReady(rule) && rule.status?.pending === 0, `the rule is not Ready: ${JSON.stringify(rule.status)}`);
  const intents = await count(run, "sync_items WHERE intent_id IS NOT NULL");
  expect(intents === 0, `${intents} intents are open`);
  const unlinked = await count(run, "audit WHERE position IS NULL");
  expect(unlinked === 0, `${unlinked} audit rows are not linked`);
  const restarts = await count(run, "secrets WHERE json_array_length(delivery->'pendingRestarts') > 0");
  expect(restarts === 0, `${restarts} secrets have workloads to restart`);
  return [...left, ...(await unfinishedRequests(run))];
}

/** What must never have happened, looked for when nothing is left to do. */
export async function faultsOf(run: Run): Promise<string[]> {
  return [
    ...run.observer.faults,
    ...(await lostOrDoubledVersions(run)),
    ...(await wrongValues(run)),
    ...(await doubledVaultVersions(run)),
    ...(await needlessRestarts(run)),
    ...(await requestFaults(run)),
    ...(await brokenAudit(run)),
  ];
}

async function storedEntries({ world }: Run): Promise<Map<string, readonly StoredEntry[]>> {
  const rows = await world.sql<StoredEntry>(
    `SELECT s.name, s.current_version AS current, e.version, e.key, encode(e.recipe, 'hex') AS recipe,
            encode(e.fingerprint, 'hex') AS fingerprint
     FROM secrets s JOIN versions v ON v.secret_id = s.id
       LEFT JOIN entries e ON e.secret_id = s.id AND e.version = v.version
     WHERE s.namespace = $1 ORDER BY s.name, e.version, e.key`,
    [NAMESPACE],
  );
  return Map.groupBy(rows, ({ name }) => name);
}

async function lostOrDoubledVersions(run: Run): Promise<string[]> {
  const { api, fleet, observer, world } = run;
  const faults: string[] = [];
  const stored = await storedEntries(run);
  const objects = byName(await api.list(SECRETS));
  const created = new Map(
    (
      await world.sql<{ id: string; count: number }>(
        `SELECT s.name AS id, count(*)::int AS count FROM audit a JOIN secrets s ON s.id::text = a.subject_id
         WHERE a.action = 'SecretVersionCreated' AND s.namespace = $1 GROUP BY s.name`,
        [NAMESPACE],
      )
    ).map(({ id, count: versions }) => [id, versions]),
  );
  for (const secret of fleet.secrets) {
    const rows = stored.get(secret.name) ?? [];
    const current = rows[0]?.current ?? 0;
    const versions = [...Map.groupBy(rows, ({ version }) => version)];
    const expect = (holds: boolean, otherwise: string): void => {
      if (!holds) faults.push(`${secret.name}: ${otherwise}`);
    };
    const object = objects.get(secret.name);
    expect(
      object?.metadata.generation === secret.acknowledgedGeneration,
      `generation ${object?.metadata.generation}, acknowledged ${secret.acknowledgedGeneration}`,
    );
    expect(object?.status?.version === current, `version ${current}, status says ${object?.status?.version}`);
    const seen = observer.versions.get(secret.name) ?? 0;
    expect(seen <= current, `a status acknowledged version ${seen}, stored is ${current}`);
    const numbers = versions.map(([version]) => version);
    expect(
      numbers.length === current && numbers.every((version, index) => version === index + 1),
      `version ${current} is current, stored are ${numbers.join(", ")}`,
    );
    expect(current <= secret.mostVersions, `${current} versions after ${secret.mostVersions} acknowledged changes`);
    expect(created.get(secret.name) === current, `${created.get(secret.name)} records of ${current} new versions`);
    for (const [index, [version, entries]] of versions.entries()) {
      const keys = entries.map(({ key }) => key).toSorted();
      expect(`${keys}` === `${secret.keys.toSorted()}`, `version ${version} has ${keys}`);
      const before = new Map(versions[index - 1]?.[1].map((entry) => [entry.key, entry]));
      if (before.size === 0) continue;
      const same = entries.every(({ key, fingerprint }) => before.get(key)?.fingerprint === fingerprint);
      expect(!same, `version ${version} has the values of the one before`);
      const generated = entries.find(({ key }) => key === "generated");
      const earlier = before.get("generated");
      expect(
        (generated?.recipe === earlier?.recipe) === (generated?.fingerprint === earlier?.fingerprint),
        `version ${version} has a new generated value although its generator did not change, or the other way round`,
      );
    }
  }
  return faults;
}

async function wrongValues({ api, fleet }: Run): Promise<string[]> {
  const faults: string[] = [];
  const core = byName(await api.list(CORE_SECRETS));
  for (const secret of fleet.secrets) {
    const object = core.get(secret.name);
    const { literal = "", generated = "", rendered } = object === undefined ? {} : decoded(object);
    if (secret.keys.includes("generated") && generated.length !== secret.passwordLength) {
      faults.push(`${secret.name}: a generated value of ${generated.length} characters, not ${secret.passwordLength}`);
    }
    if (rendered !== undefined && rendered !== secret.rendered(literal, generated)) {
      faults.push(`${secret.name}: the template was not rendered from the values beside it`);
    }
  }
  return faults;
}

async function doubledVaultVersions(run: Run): Promise<string[]> {
  const { fleet, world } = run;
  const faults: string[] = [];
  const stored = await storedEntries(run);
  const vault = await vaultEntries(run);
  const recorded = new Set(
    (
      await world.sql<{ version: string }>(
        "SELECT details->>'targetVersion' AS version FROM audit WHERE action = 'VaultEntryWritten'",
      )
    ).map(({ version }) => version),
  );
  for (const secret of fleet.secrets) {
    for (const key of secret.keys) {
      const name = entryName(secret, key);
      const versions = vault.get(name) ?? [];
      vault.delete(name);
      const expect = (holds: boolean, otherwise: string): void => {
        if (!holds) faults.push(`vault entry ${name}: ${otherwise}`);
      };
      const values = versions.map(({ value }) => value);
      // Values never come back in this run, so a repeated one is a version written twice.
      expect(new Set(values).size === values.length, `${values.length} versions with ${new Set(values).size} values`);
      const intents = new Set(versions.map(({ tags }) => tags?.["mazevault-intent"]));
      expect(intents.size === versions.length && !intents.has(undefined), "two versions of one intent");
      const fingerprints = (stored.get(secret.name) ?? []).filter((entry) => entry.key === key);
      const distinct = new Set(fingerprints.map(({ fingerprint }) => fingerprint)).size;
      expect(versions.length <= distinct, `${versions.length} versions of ${distinct} values`);
      if (secret.expected(key) !== undefined) {
        const revisions = values.map((value) => Number(value.split("-").at(-1)));
        expect(`${revisions}` === `${revisions.toSorted((a, b) => a - b)}`, `out of order: ${values.join(", ")}`);
      }
      const unrecorded = versions.filter(({ version }) => !recorded.has(version)).length;
      expect(unrecorded === 0, `${unrecorded} versions are not on record`);
    }
  }
  return [...faults, ...[...vault.keys()].map((name) => `vault entry ${name} belongs to nothing`)];
}

async function needlessRestarts({ api, fleet }: Run): Promise<string[]> {
  const workloads = byName(await api.list(DEPLOYMENTS));
  return fleet.secrets
    .filter(({ hasWorkload }) => hasWorkload)
    .flatMap((secret) => {
      const restarts = (workloads.get(secret.name)?.metadata.generation ?? 0) - 1;
      const fits = restarts >= 0 && restarts < secret.mostVersions;
      return fits ? [] : [`Deployment ${secret.name} restarted ${restarts} times for ${secret.mostVersions} values`];
    });
}

async function brokenAudit({ world }: Run): Promise<string[]> {
  const { mazevault, lab } = world;
  const root = openRootKeyFile(path.join(lab.dir, "operator", "root.key"));
  const stores = await openStores(mazevault.database, root);
  try {
    const verdict = await stores.audit.verify();
    if (!verdict.ok) return [`audit row ${verdict.row}: ${verdict.fault}`];
    return verdict.unlinked === 0 ? [] : [`${verdict.unlinked} audit rows are not linked`];
  } finally {
    await stores.close();
  }
}
