/** A database with many versions: verified as a whole, by the program as it ships, and taken over for another cluster. */
import { createSecretKey, randomBytes } from "node:crypto";
import { migrate } from "../../adapters/postgres/migrate.ts";
import { openStores } from "../../adapters/postgres/stores.ts";
import { LocalRootKey } from "../../adapters/rootkey/local-root-key.ts";
import { Environments } from "../../core/fleet/environments.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import type { SecretIdentity } from "../../core/ports/vault-store.ts";
import { Adoption } from "../../core/recovery/adoption.ts";
import { FakeCluster } from "../../core/recovery/testing/cluster.ts";
import { DatabaseVerification } from "../../core/recovery/verification.ts";
import { Vault } from "../../core/vault/vault.ts";
import { inFlight, range, seconds } from "../in-flight.ts";
import type { Result } from "../result.ts";
import type { Stage } from "../stage.ts";

const LIFECYCLE = { deletionPolicy: "SoftDelete", softDeleteMs: 86_400_000, keepVersions: 3 } as const;
const ACTOR: Actor = { kind: "Controller", name: "bench" };
const NAMESPACES = 100;
const MIB = 1_048_576;

export async function backup(stage: Stage): Promise<Result> {
  const count = stage.sizes.many;
  const database = await stage.world.lab.postgres.createDatabase("backup");
  await migrate(database);
  const root = new LocalRootKey("test", createSecretKey(randomBytes(32)));
  const stores = await openStores(database, root);
  try {
    const { vault: store, keys, audit, leadership, environments, home } = stores;
    const writer = { epoch: await leadership.acquireEpoch("bench") };
    const vault = new Vault({ store, keys, audit });
    await vault.prepareProject(writer, "payments");
    stage.report(`storing ${count} secrets`);
    const request = { seen: undefined, entries: [{ key: "k", literal: "value" }], sources: new Map() };
    await inFlight(8, range(count), (n) =>
      vault.store(writer, { ...request, identity: identityOf(n), lifecycle: LIFECYCLE, actor: ACTOR }),
    );
    while ((await audit.link(writer.epoch, 1_000)) === 1_000);

    stage.report("verifying");
    const before = process.memoryUsage().rss;
    let peak = before;
    const watching = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage().rss);
    }, 20);
    const cpu = process.cpuUsage();
    let started = performance.now();
    const report = await new DatabaseVerification(stores).run();
    const verified = seconds(started);
    const { user, system } = process.cpuUsage(cpu);
    clearInterval(watching);
    if (report.wrongCount > 0 || !report.audit.ok) throw new Error("the database is not whole");

    stage.report("taking it over");
    const cluster = new FakeCluster();
    for (const n of range(NAMESPACES)) cluster.add("Namespace", { name: `payments-${n}` });
    const parts = { store: home, cluster, keys, audit, leadership };
    const adoption = new Adoption({ ...parts, environments: new Environments({ store: environments, keys }) });
    started = performance.now();
    const { bound } = await adoption.run({ actor: ACTOR });
    const adopted = seconds(started);
    return {
      name: `backup-${count}`,
      figures: [
        {
          what: `${count} versions in ${NAMESPACES} namespaces, and the audit record, verified`,
          value: verified,
          unit: "s",
        },
        { what: "CPU time of it for one version", value: (user + system) / count, unit: "µs" },
        { what: "memory beyond what was there before", value: (peak - before) / MIB, unit: "MiB" },
        {
          what: "versions that did not open",
          value: count - report.checked.versions,
          unit: "rows",
          aim: { atMost: 0 },
        },
        { what: "taken over for another cluster", value: adopted, unit: "s" },
        { what: "namespaces bound for that", value: bound, unit: "rows" },
      ],
    };
  } finally {
    await stores.close();
  }
}

const identityOf = (n: number): SecretIdentity => ({
  project: "payments",
  environment: "pro",
  namespace: `payments-${n % NAMESPACES}`,
  namespaceUid: `00000000-0000-4000-8000-0000000000${String(n % NAMESPACES).padStart(2, "0")}`,
  name: `orders-${n}`,
});
