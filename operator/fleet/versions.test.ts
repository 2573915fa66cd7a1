/** What a primary makes of requests of a gateway that is newer than itself, and a gateway of answers of a newer primary. */
import type { z } from "zod";
import { certificateAnswer, heartbeatAnswer, registration } from "../../core/fleet/protocol.ts";
import { REPLICA, REPLICA_VALUES, replicaAnswer, replicaValuesAnswer } from "../../core/fleet/replica-protocol.ts";
import { issuerAnswer, SIGNING_ROUTES } from "../../core/fleet/signing-protocol.ts";
import { TASK_ROUTES, taskAnswer, taskResultsAnswer } from "../../core/fleet/task-protocol.ts";
import { KNOWN_WRITES_PATH, knownWritesAnswer, WRITES_PATH, writesAnswer } from "../../core/fleet/writes.ts";
import { fleetRoutes } from "./routes.ts";

const bodyOf = (path: string) => fleetRoutes.find((route) => route.path === path)?.body;

const id = "0d6f2a3c-6ae4-4e2b-8a43-0b5c7d8e9f01";
const digest = "0".repeat(64);
const issuer = { kind: "ClusterIssuer", name: "services" };
const csr = `-----BEGIN CERTIFICATE REQUEST-----\n${"A".repeat(64)}`;

/** By path: what reports, or asks. */
const heard: Readonly<Record<string, object>> = {
  "/fleet/v1/registration": { token: "t", csr, environment: "NPR", role: "primary", version: "2" },
  "/fleet/v1/confirmation": {},
  "/fleet/v1/heartbeat": {
    version: "2",
    problems: ["database"],
    queueLength: 0,
    certificateNotAfter: "2027-01-01T00:00:00Z",
    environmentEpoch: "3",
  },
  "/fleet/v1/certificate": { csr },
  [TASK_ROUTES.standing]: { waitMs: 1 },
  [TASK_ROUTES.tasks]: { waitMs: 1, most: 2 },
  [TASK_ROUTES.results]: {
    results: [
      { id, environmentEpoch: "1", outcome: { kind: "Done", result: "r" } },
      { id, environmentEpoch: "1", outcome: { kind: "Failed", error: { kind: "Throttled", retryAfterMs: 5 } } },
    ],
  },
  [REPLICA]: { digest, waitMs: 1 },
  [REPLICA_VALUES]: { items: [{ key: "k", digest }] },
  [KNOWN_WRITES_PATH]: { ids: [id] },
};

/** By path: what has something done. */
const refused: Readonly<Record<string, object>> = {
  [WRITES_PATH]: {
    settled: [],
    writes: [
      {
        id,
        place: { namespace: "shop", name: "orders" },
        secret: { id, project: "shop", environment: "pro", namespaceUid: id },
        values: { password: "aHVudGVyMg==" },
        baseVersion: 1,
        ageMs: 2,
        author: { subject: "LocalUser alice@example.com", via: "Token" },
      },
    ],
  },
  [SIGNING_ROUTES.issuer]: { issuer },
  [SIGNING_ROUTES.sign]: {
    id,
    issuer,
    csr,
    profile: "Server",
    usages: { keyUsage: [], extendedKeyUsage: [] },
    durationSeconds: 3_600,
    requester: { kind: "Certificate", namespace: "shop", name: "web", uid: id },
  },
  [SIGNING_ROUTES.revoke]: { id, serialNumber: "0a", reason: "superseded" },
};

const grant = { active: true, environmentEpoch: "1", leaseMs: 20_000 };
const place = { instance: id, sequence: 1 };
const answers: readonly (readonly [what: string, schema: z.ZodType, answer: object])[] = [
  [
    "registration",
    registration,
    { gatewayId: id, name: "gw", environment: "NPR", role: "primary", certificates: "pem", heartbeatSeconds: 60 },
  ],
  ["certificate", certificateAnswer, { certificates: "pem" }],
  ["heartbeat", heartbeatAnswer, { ...grant, epoch: "1", heartbeatSeconds: 60 }],
  [
    "tasks",
    taskAnswer,
    { ...grant, tasks: [{ id, environmentEpoch: "1", deadlineMs: 5, kind: "deliver", body: "whatever it is" }] },
  ],
  ["task results", taskResultsAnswer, { accepted: [id] }],
  ["no changes", replicaAnswer, { kind: "Same", ...place }],
  ["changes", replicaAnswer, { kind: "Changes", ...place, changed: [{ key: "k", body: "{}" }], removed: ["l"] }],
  ["an index", replicaAnswer, { kind: "Index", ...place, items: [{ key: "k", body: "{}" }], next: "k" }],
  ["values", replicaValuesAnswer, { items: [{ kind: "Gone" }] }],
  [
    "writes",
    writesAnswer,
    { forgotten: [], outcomes: [{ id, outcome: { kind: "Applied", version: 2, changed: ["password"] } }] },
  ],
  ["writes that are known", knownWritesAnswer, { forgotten: [id] }],
  ["signatures", issuerAnswer, { certificates: "pem" }],
];

/** The body with a field more in one of its objects, for each of them; not in maps, whose names are the writer's. */
function newer(body: unknown): readonly unknown[] {
  if (Array.isArray(body)) {
    return body.flatMap((item, at) => newer(item).map((other) => body.with(at, other)));
  }
  if (typeof body !== "object" || body === null) return [];
  const below = Object.entries(body)
    .filter(([name]) => name !== "values")
    .flatMap(([name, value]) => newer(value).map((other) => ({ ...body, [name]: other })));
  return [{ ...body, later: { is: "not known here" } }, ...below];
}

test.each(answers)("an answer about %s is read for what is known", (_, schema, answer) => {
  for (const each of newer(answer)) expect(schema.parse(each)).toEqual(answer);
});

test("each route is one or the other", () => {
  const paths = [...Object.keys(heard), ...Object.keys(refused)].toSorted();
  expect(fleetRoutes.map(({ path }) => path).toSorted()).toEqual(paths);
});

test.each(Object.entries(heard))("%s is read for what is known", (path, body) => {
  for (const each of newer(body)) expect(bodyOf(path)?.parse(each)).toEqual(body);
});

test.each(Object.entries(refused))("%s is refused with what is not known", (path, body) => {
  expect(bodyOf(path)?.parse(body)).toEqual(body);
  for (const each of newer(body)) expect(() => bodyOf(path)?.parse(each)).toThrow(/unrecognized_keys.*later/s);
});
