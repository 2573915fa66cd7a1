import type { SecretRecord } from "../../../core/ports/vault-store.ts";
import type { Secret } from "../../../crds/secret.ts";
import type { PendingContext } from "./applier.ts";
import { jobManifest, jobName } from "./job.ts";

const secret = { metadata: { name: "orders-db", namespace: "payments", uid: "uid-1" } } as Secret;
const context: PendingContext = {
  secret,
  record: { id: "id-1" } as SecretRecord,
  actor: { kind: "Controller", name: "secret" },
  pending: { version: 8, base: 7, keys: ["password"], cause: "Request", since: new Date() },
};

test.each([
  ["orders-db", 8],
  ["a".repeat(253), 2_147_483_647],
  ["db.orders.example.com", 1],
  [`${"a".repeat(38)}.${"b".repeat(60)}`, 12],
])("the name of the Job for %s is one that pods can have, and of this version alone", (name, version) => {
  const made = jobName(name, "uid-1", version);
  expect(made).toMatch(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);
  expect(made.length).toBeLessThanOrEqual(52);
  expect(made).toBe(jobName(name, "uid-1", version));
  expect(new Set([made, jobName(name, "uid-2", version), jobName(name, "uid-1", version - 1)]).size).toBe(3);
});

test("the template stays as it is, but for where the values are and how long it may take", () => {
  const container = {
    name: "rotate",
    env: [
      { name: "MAZEVAULT_VERSION", value: "forged" },
      { name: "HOST", value: "db" },
    ],
    volumeMounts: [
      { name: "scripts", mountPath: "/scripts" },
      { name: "mazevault-pending", mountPath: "/elsewhere" },
    ],
  };
  const volumes = [{ name: "scripts" }, { name: "mazevault-pending", hostPath: { path: "/" } }];
  const template = {
    metadata: { labels: { app: "rotate" } },
    spec: { containers: [container], initContainers: [container], volumes },
  };
  const spec = { activeDeadlineSeconds: 30, ttlSecondsAfterFinished: 1, suspend: true, backoffLimit: 2, template };
  const made = jobManifest(context, { metadata: {}, spec: { jobTemplate: { spec } } }, 600_000);
  expect(made.metadata).toMatchObject({
    name: jobName("orders-db", "uid-1", 8),
    namespace: "payments",
    annotations: { "mazevault.io/rotates": "orders-db id-1 8" },
    ownerReferences: [{ kind: "Secret", name: "orders-db", uid: "uid-1", controller: true }],
  });
  const filled = {
    ...container,
    env: [
      { name: "HOST", value: "db" },
      { name: "MAZEVAULT_SECRET", value: "payments/orders-db" },
      { name: "MAZEVAULT_VERSION", value: "8" },
    ],
    volumeMounts: [
      { name: "scripts", mountPath: "/scripts" },
      { name: "mazevault-pending", mountPath: "/run/mazevault/pending", readOnly: true },
    ],
  };
  expect(made.spec).toEqual({
    backoffLimit: 2,
    suspend: false,
    activeDeadlineSeconds: 30,
    ttlSecondsAfterFinished: 86_400,
    template: {
      metadata: { labels: { app: "rotate" } },
      spec: {
        containers: [filled],
        initContainers: [filled],
        volumes: [
          { name: "scripts" },
          { name: "mazevault-pending", secret: { secretName: made.metadata.name, defaultMode: 0o444 } },
        ],
      },
    },
  });
});

test("a Job without a deadline gets that of the rotation", () => {
  const spec = { template: { spec: { containers: [{ name: "rotate" }] } } };
  const made = jobManifest(context, { metadata: {}, spec: { jobTemplate: { spec } } }, 90_500);
  expect(made.spec.activeDeadlineSeconds).toBe(91);
});
