/** A replica with PostgreSQL on both sides: what is pulled, what a process that died left, and what stands in the tables. */

import { namespaceOf, projectOf } from "../../core/access/testing/world.ts";
import { Unavailable } from "../../core/errors.ts";
import type { Member } from "../../core/fleet/member.ts";
import { Replica } from "../../core/fleet/replica.ts";
import { ReplicaDirectory } from "../../core/fleet/replica-directory.ts";
import { ReplicaFeed } from "../../core/fleet/replica-feed.ts";
import { ITEMS_PER_ANSWER, REPLICA, replicaRequest, replicaValuesRequest } from "../../core/fleet/replica-protocol.ts";
import { ReplicaPull } from "../../core/fleet/replica-pull.ts";
import type { SelectionView } from "../../core/fleet/replica-selection.ts";
import { ReplicaValues } from "../../core/fleet/replica-values.ts";
import type { PrimaryLink } from "../../core/ports/primary-link.ts";
import { actor, lifecycle } from "../../core/ports/samples.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { HeldUids } from "../../core/recovery/home.ts";
import { Sensitive } from "../../core/sensitive.ts";
import { API_VERSION } from "../../crds/common.ts";
import type { Secret } from "../../crds/secret.ts";
import { until } from "../../lab/poll.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

/** More where somebody wants to know how long they take. */
const SECRETS = Number(process.env.MAZEVAULT_REPLICA_SECRETS ?? 350);
const CANARY = "canary-of-a-replica-5b1e";
const SOON = { timeoutMs: 600_000, intervalMs: 20 };
const signal = new AbortController().signal;
const MEMBER: Member = {
  gatewayId: "3f9a4c1e-6a55-4b8f-9d0e-0c9f3f7d2a11",
  name: "gw-npr",
  environment: "NPR",
  role: "primary",
  serialNumber: "01",
};

let server: TestServer;
let primary: TestInstallation;
let gateway: TestInstallation;
let feed: ReplicaFeed;
let values: ReplicaValues;
let writer: Writer;
let ofPrimary: Writer;
const secrets = new Map<string, Secret>();

beforeAll(async () => {
  server = await startServer();
  primary = await openInstallation(await server.database());
  gateway = await openInstallation(await server.database());
  ofPrimary = { epoch: await primary.stores.leadership.acquireEpoch("primary") };
  writer = { epoch: await gateway.stores.leadership.acquireEpoch("gateway") };
  const shop = projectOf("shop", {
    environments: [{ name: "dev", gatewayEnvironment: "NPR" }],
    namespaces: [{ name: "shop", environments: ["dev"] }],
  });
  const namespace = namespaceOf("shop");
  const view: SelectionView = {
    held: new HeldUids(),
    project: (name) => (name === "shop" ? shop : undefined),
    projects: () => [shop],
    namespace: (name) => (name === "shop" ? namespace : undefined),
    namespaces: () => [namespace],
    secret: (_namespace, name) => secrets.get(name),
    secrets: () => secrets.values(),
    certificate: () => undefined,
    certificates: () => [],
    accessPolicies: () => [],
  };
  const onProblem = () => {};
  feed = new ReplicaFeed({
    view,
    heads: primary.stores.secretHeads,
    unready: () => undefined,
    isRecovering: () => false,
    onProblem,
  });
  const certificates = { handOut: async () => ({ kind: "Gone" as const }) };
  values = new ReplicaValues({ view, feed, vault: primary.vault, certificates, onProblem });
  await primary.vault.prepareProject(ofPrimary, "shop");
  const names = Array.from({ length: SECRETS }, (_, at) => `secret-${at}`);
  for (let from = 0; from < names.length; from += 50)
    await Promise.all(names.slice(from, from + 50).map((name) => put(name, `${CANARY} ${name}`)));
  feed.start();
}, 600_000);
afterAll(async () => {
  await feed.stop();
  await primary.stores.close();
  await gateway.stores.close();
  await server.stop();
});

async function put(name: string, value: string): Promise<void> {
  const secret: Secret = {
    apiVersion: API_VERSION,
    kind: "Secret",
    metadata: { name, namespace: "shop", uid: name, resourceVersion: "1", generation: 1 },
    spec: { projectRef: { name: "shop" }, environment: "dev", entries: [{ key: "password", external: {} }] },
  };
  secrets.set(name, secret);
  const identity = {
    project: "shop",
    environment: "dev",
    namespace: "shop",
    namespaceUid: namespaceOf("shop").metadata.uid,
    name,
  };
  await primary.vault.put(ofPrimary, {
    identity,
    entries: secret.spec.entries,
    values: new Map([["password", new Sensitive(value)]]),
    seen: await primary.vault.describe(identity),
    readers: undefined,
    lifecycle,
    actor,
  });
}

/** A process of the gateway; it hears nothing more after so many answers. */
function start(answers = Number.POSITIVE_INFINITY) {
  const { replica: store, keys, audit } = gateway.stores;
  let left = answers;
  const link: PrimaryLink = {
    async ask(path, body) {
      if (left <= 0) throw new Unavailable("PrimaryUnreachable", "it is gone");
      left -= 1;
      const answer =
        path === REPLICA
          ? await feed.changes("NPR", { ...replicaRequest.parse(body), waitMs: 0 }, signal)
          : { items: await values.handOut(MEMBER, "192.0.2.7", replicaValuesRequest.parse(body)) };
      return { status: 200, body: JSON.parse(JSON.stringify(answer)) };
    },
  };
  const { gatewayId, name, environment, role } = MEMBER;
  const membership = () => ({ state: "Confirmed" as const, identity: { gatewayId, name, environment, role } });
  const directory = new ReplicaDirectory(store, keys);
  const shared = { directory, store, keys, membership, offlineLimitMs: 86_400_000 };
  const log = { info: () => {}, warn: () => {} };
  const pull = new ReplicaPull({ ...shared, link, now: () => new Date(), log });
  return { pull, directory, replica: new Replica({ ...shared, audit, environment }) };
}

const settled = (pull: ReplicaPull) =>
  until(
    "it is in step",
    async () => {
      await pull.turn(writer, signal);
      return pull.syncedAt !== undefined;
    },
    SOON,
  );

test(
  "what a process that dies has stored is kept, and the next one goes on from there",
  async () => {
    await until("the primary has read its vault", () => feed.item("NPR", "project/shop") !== undefined, SOON);
    const began = performance.now();
    // Behind the pages of the index.
    const first = start(Math.ceil((SECRETS + 1) / ITEMS_PER_ANSWER) + 2);
    await first.pull.turn(writer, signal).catch(() => {});
    const held = (await gateway.stores.replica.read(0n))?.items.length ?? 0;
    expect(held).toBeGreaterThan(0);
    expect(held).toBeLessThanOrEqual(SECRETS);
    const next = start();
    await settled(next.pull);
    const seconds = (performance.now() - began) / 1_000;
    if (process.env.MAZEVAULT_REPLICA_SECRETS !== undefined)
      process.stderr.write(`${SECRETS} secrets in ${seconds.toFixed(1)} s\n`);
    expect(next.replica.figures.secrets).toBe(SECRETS);
    // Each was handed out once, but for the batch whose answer was lost.
    const reads = await withConnection(primary.database, async (client) => {
      const { rows } = await client.query<{ reads: number }>(
        "SELECT count(*)::int AS reads FROM audit WHERE action = 'SecretRead'",
      );
      return rows[0]?.reads ?? 0;
    });
    expect(reads).toBeLessThanOrEqual(SECRETS + 100);
  },
  SOON.timeoutMs,
);

test("another process reads them, and a change comes alone", async () => {
  const { replica } = start();
  const read = async (name: string) => {
    const held = await replica.find({ namespace: "shop", name });
    if (held === undefined) return undefined;
    return (await replica.open(held, { actor, purpose: "test" })).values.get("password")?.revealText();
  };
  expect(await read("secret-7")).toBe(`${CANARY} secret-7`);
  await put("secret-7", "another value");
  feed.hint();
  const { pull } = start();
  await until(
    "it came",
    async () => {
      await pull.turn(writer, signal);
      return (await read("secret-7")) === "another value";
    },
    SOON,
  );
  const rows = await withConnection(gateway.database, async (client) => {
    const { rows } = await client.query<{ count: number }>(
      "SELECT count(*)::int AS count FROM replica_items WHERE revision = (SELECT max(revision) FROM replica_items)",
    );
    return rows[0]?.count;
  });
  expect(rows).toBe(1);
});

test("no value stands in the gateway's tables", async () => {
  const text = await withConnection(gateway.database, async (client) => {
    const { rows } = await client.query<{ text: string }>(
      "SELECT i::text || encode(i.sealed_values, 'escape') AS text FROM replica_items i WHERE sealed_values IS NOT NULL",
    );
    return rows.map((row) => row.text).join("\n");
  });
  expect(text.length).toBeGreaterThan(SECRETS * 100);
  for (const form of [CANARY, Buffer.from(CANARY).toString("base64").slice(0, -4), Buffer.from(CANARY).toString("hex")])
    expect(text).not.toContain(form);
});
