/** The operator comes back to very many secrets of which none changed. */
import { pause, until } from "../../lab/poll.ts";
import { costOf, isCaughtUp, writesOf } from "../cost.ts";
import { seconds } from "../in-flight.ts";
import { type Result, tally } from "../result.ts";
import { POPULATION, type Stage } from "../stage.ts";

/** PostgreSQL's counters of a connection become visible when it ends, and otherwise when it has idled for ten seconds. */
const STATISTICS_MS = 12_000;
const CATCH_UP_MS = 600_000;

export async function restart(stage: Stage): Promise<Result> {
  const { many } = stage.sizes;
  await stage.populate();
  const before = await rowsWritten(stage);
  const versionsBefore = await versions(stage);
  const started = performance.now();
  const { ready, caughtUp, cost } = await stage.withOperator({}, async (operator) => {
    const serving = seconds(started);
    await until("the operator has caught up", () => isCaughtUp(operator, many), {
      timeoutMs: CATCH_UP_MS,
      intervalMs: 100,
    });
    const done = seconds(started);
    const atCatchUp = await costOf(operator);
    // A few renewals of the Lease, and whatever might be written late.
    await pause(STATISTICS_MS);
    const { kubernetesCalls } = await costOf(operator);
    return { ready: serving, caughtUp: done, cost: { ...atCatchUp, kubernetesCalls } };
  });
  const after = await rowsWritten(stage);
  const written = Object.fromEntries(
    Object.entries(after)
      .map(([table, rows]) => [table, rows - (before[table] ?? 0)] as const)
      .filter(([, rows]) => rows > 0),
  );
  const versionsAfter = await versions(stage);
  const changed = [...versionsAfter].filter(([object, version]) => versionsBefore.get(object) !== version).length;
  return {
    name: `restart-${many}`,
    figures: [
      { what: "until the operator is ready", value: ready, unit: "s", aim: { atMost: 30 } },
      { what: "until it has looked at all of them", value: caughtUp, unit: "s" },
      { what: "CPU of the operator until then", value: cost.cpuSeconds, unit: "s" },
      { what: "peak RSS", value: cost.peakRssMiB ?? Number.NaN, unit: "MiB" },
      { what: "objects whose resourceVersion changed", value: changed, unit: "", aim: { atMost: 0 } },
      ...tally("API server, writes:", writesOf(cost.kubernetesCalls), "calls"),
      ...tally("PostgreSQL, rows:", written, "rows"),
    ],
    details: { kubernetesCalls: cost.kubernetesCalls },
  };
}

/** Rows that were ever written, by table and kind. An audit row is updated once, when it is linked into the chain. */
async function rowsWritten({ world }: Stage): Promise<Record<string, number>> {
  await pause(STATISTICS_MS);
  const tables = await world.sql<{ name: string; inserted: string; updated: string; deleted: string }>(
    `SELECT relname AS name, n_tup_ins AS inserted, n_tup_upd AS updated, n_tup_del AS deleted
     FROM pg_stat_user_tables WHERE schemaname = 'mazevault'`,
  );
  return Object.fromEntries(
    tables.flatMap(({ name, ...counts }) =>
      Object.entries(counts).map(([kind, rows]) => [`${name} ${kind}`, Number(rows)]),
    ),
  );
}

async function versions({ world }: Stage): Promise<Map<string, string>> {
  const objects = (
    await Promise.all(["secrets.mazevault.io", "secrets"].map((resource) => world.list(resource, POPULATION)))
  ).flat();
  return new Map(objects.map(({ metadata }) => [metadata.uid, metadata.resourceVersion]));
}
