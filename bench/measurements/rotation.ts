/** Rotation of a project key with many data keys: killed half-way, and resumed by the next leader. */
import { spawn } from "node:child_process";
import { createSecretKey, randomBytes } from "node:crypto";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { migrate } from "../../adapters/postgres/migrate.ts";
import { openStores } from "../../adapters/postgres/stores.ts";
import { LocalRootKey } from "../../adapters/rootkey/local-root-key.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import type { SecretIdentity } from "../../core/ports/vault-store.ts";
import { KeyRotation } from "../../core/vault/rotation.ts";
import { Vault } from "../../core/vault/vault.ts";
import { inFlight, range, seconds } from "../in-flight.ts";
import type { Result } from "../result.ts";
import type { Stage } from "../stage.ts";

const ROTATOR = fileURLToPath(new URL("../../adapters/postgres/testing/rotate.ts", import.meta.url));
const BATCH = 500;
const LIFECYCLE = { deletionPolicy: "SoftDelete", softDeleteMs: 86_400_000, keepVersions: 3 } as const;
const ACTOR: Actor = { kind: "Controller", name: "bench" };

export async function rotation(stage: Stage): Promise<Result> {
  const count = stage.sizes.many;
  const database = await stage.world.lab.postgres.createDatabase("rotation");
  await migrate(database);
  const rootKey = randomBytes(32);
  const root = new LocalRootKey("test", createSecretKey(rootKey));
  const { vault: store, keyStore, keys, audit, leadership, close } = await openStores(database, root);
  try {
    const writer = { epoch: await leadership.acquireEpoch("bench") };
    const vault = new Vault({ store, keys, audit });
    await vault.prepareProject(writer, "payments");
    stage.report(`storing ${count} secrets`);
    const request = { seen: undefined, entries: [{ key: "k", literal: "value" }], sources: new Map() };
    let started = performance.now();
    await inFlight(8, range(count), (n) =>
      vault.store(writer, { ...request, identity: identityOf(n), lifecycle: LIFECYCLE, actor: ACTOR }),
    );
    const stored = count / seconds(started);

    stage.report("rotating, until it is killed half-way");
    // The first batch has the sealing key only.
    const half = Math.max(1, Math.round(count / BATCH / 2));
    const child = spawn(process.execPath, [ROTATOR, JSON.stringify(database), `${writer.epoch}`, "payments"], {
      env: { ...process.env, MAZEVAULT_FAILPOINT: `rotation.afterBatch:${half + 1}` },
      stdio: ["pipe", "pipe", "inherit"],
    });
    child.stdin.end(rootKey);
    await once(child.stdout, "data");
    started = performance.now();
    const [, signal] = await once(child, "exit");
    const killedAfter = seconds(started);
    if (signal !== "SIGKILL") throw new Error("the rotation was not killed");

    const ages = { installationMs: Number.MAX_SAFE_INTEGER / 2, projectMs: Number.MAX_SAFE_INTEGER / 2 };
    const resumed = new KeyRotation({ keys, store: keyStore, vault: store, ages });
    const left = (await resumed.find("payments"))?.versions[0]?.left ?? 0;
    stage.report(`resuming: ${left} of ${count} are left`);
    const next = { epoch: await leadership.acquireEpoch("bench, resumed") };
    const cpu = process.cpuUsage();
    started = performance.now();
    const end = await resumed.advance(next);
    const took = seconds(started);
    const { user, system } = process.cpuUsage(cpu);
    if (end.left !== 0 || end.retired !== 1) throw new Error(`the rotation did not end: ${JSON.stringify(end)}`);

    stage.report("reading every secret");
    const fresh = await openStores(database, root);
    try {
      const reader = new Vault({ store: fresh.vault, keys: fresh.keys, audit: fresh.audit });
      await inFlight(8, range(count), async (n) => {
        const record = await reader.describe(identityOf(n));
        if (record === undefined) throw new Error("a secret is gone");
        await reader.open(record, { actor: ACTOR, purpose: "Bench" });
      });
    } finally {
      await fresh.close();
    }
    return {
      name: `rotation-${count}`,
      figures: [
        { what: `${count} secrets stored, the first version of each`, value: stored, unit: "/s" },
        { what: "data keys wrapped anew until it was killed", value: count - left, unit: "rows" },
        { what: "the same, in a second", value: (count - left) / killedAfter, unit: "/s" },
        { what: "data keys that the next leader wrapped anew", value: left, unit: "rows" },
        { what: "the same, in a second, the former version retired", value: left / took, unit: "/s" },
        { what: "CPU time of the next leader for one of them", value: (user + system) / left, unit: "µs" },
        { what: "secrets that did not open afterwards", value: 0, unit: "rows", aim: { atMost: 0 } },
      ],
    };
  } finally {
    await close();
  }
}

const identityOf = (n: number): SecretIdentity => ({
  project: "payments",
  environment: "pro",
  namespace: "payments",
  namespaceUid: "00000000-0000-4000-8000-000000000000",
  name: `orders-${n}`,
});
