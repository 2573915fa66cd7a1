/** What API server and PostgreSQL can take at most, without MazeVault: every other figure stands beside this. */

import { readFileSync } from "node:fs";
import pg from "pg";
import { coreSecrets, resourcePath } from "../../controllers/runtime/resource-type.ts";
import { API_VERSION } from "../../crds/common.ts";
import { inFlight, range, seconds } from "../in-flight.ts";
import { coreSecret, deliveredStatus, secretName } from "../manifests.ts";
import type { Result } from "../result.ts";
import { IN_FLIGHT, mazevaultSecrets, type Stage, TENANT } from "../stage.ts";

const WRITES = 2_000;
const PROBE_WRITES = 500;
const COMMITS = 5_000;

export async function raw(stage: Stage): Promise<Result> {
  const posts16 = await postRate(stage, WRITES, 16);
  const posts32 = await postRate(stage, WRITES, 32);
  const { posts: resources, patches } = await statusRates(stage, WRITES / 2);
  const commits = await commitRate(stage);
  stage.rawRates = { coreSecret: posts16, resource: resources, status: patches };
  return {
    name: "raw",
    figures: [
      { what: "POST of a core Secret, 16 in flight", value: posts16, unit: "/s" },
      { what: "POST of a core Secret, 32 in flight", value: posts32, unit: "/s" },
      { what: "POST of a MazeVault Secret, 16 in flight", value: resources, unit: "/s" },
      { what: "server-side apply of its status, 16 in flight", value: patches, unit: "/s" },
      { what: "PostgreSQL commits of one row, 16 in flight", value: commits, unit: "/s" },
    ],
  };
}

/** A short look, just before another measurement: what else the machine has to do changes from minute to minute. */
export const probe = (stage: Stage): Promise<number> => postRate(stage, PROBE_WRITES, IN_FLIGHT);

async function postRate({ raw: api }: Stage, count: number, limit: number): Promise<number> {
  // A namespace that no Project admits: the operator does not see what is in it.
  const namespace = "default";
  const path = resourcePath(coreSecrets, { namespace });
  const bodies = range(count).map((index) => JSON.stringify(coreSecret(namespace, secretName(index))));
  const started = performance.now();
  await inFlight(limit, bodies, (body) => api.send("POST", path, body));
  const taken = seconds(started);
  await api.deleteAll(coreSecrets, namespace);
  return count / taken;
}

async function statusRates(stage: Stage, count: number): Promise<{ posts: number; patches: number }> {
  const { raw: api } = stage;
  let started = performance.now();
  await stage.applySecrets(TENANT, 0, count);
  const posts = count / seconds(started);
  const status = deliveredStatus(new Date());
  const patches = range(count).map((index) => {
    const name = secretName(index);
    const body = { apiVersion: API_VERSION, kind: "Secret", metadata: { name, namespace: TENANT }, status };
    const path = resourcePath(mazevaultSecrets, { namespace: TENANT, name, subresource: "status" });
    return { path: `${path}?fieldManager=bench&force=true`, body: JSON.stringify(body) };
  });
  started = performance.now();
  await inFlight(IN_FLIGHT, patches, ({ path, body }) => api.send("PATCH", path, body, "application/apply-patch+yaml"));
  const rate = count / seconds(started);
  await api.deleteAll(mazevaultSecrets, TENANT);
  return { posts, patches: rate };
}

async function commitRate({ world }: Stage): Promise<number> {
  const { host, port, database, user, passwordFile, caFile } = await world.lab.postgres.createDatabase("bench");
  const pool = new pg.Pool({
    host,
    port,
    database,
    user,
    password: readFileSync(passwordFile, "utf8"),
    ssl: { ca: readFileSync(caFile, "utf8") },
    max: IN_FLIGHT,
  });
  try {
    await pool.query("CREATE TABLE rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, value bytea NOT NULL)");
    const insert = { name: "insert", text: "INSERT INTO rows (value) VALUES ($1)", values: [Buffer.alloc(400)] };
    // Connections and prepared statements first.
    await inFlight(IN_FLIGHT, range(IN_FLIGHT * 4), () => pool.query(insert));
    const started = performance.now();
    await inFlight(IN_FLIGHT, range(COMMITS), () => pool.query(insert));
    return COMMITS / seconds(started);
  } finally {
    await pool.end();
  }
}
