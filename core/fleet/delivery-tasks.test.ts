import { Sensitive } from "../sensitive.ts";
import { CopyDigests, copyKey } from "./copy-digests.ts";
import { deliverSecrets, lookAtSecrets } from "./delivery-tasks.ts";

const frame = {
  installation: "11111111-2222-4333-8444-555555555555",
  environment: "NPR",
  project: "payments",
  projectEnvironment: "dev",
  rule: { namespace: "payments", name: "r", uid: "uid-rule" },
  namespace: "payments",
  type: "Opaque",
  labels: { tier: "db" },
  restartConsumers: false,
  adopt: false,
};
const wanted = {
  secretName: "orders-db",
  source: { name: "orders-db", uid: "uid-secret" },
  keys: [{ from: "password", to: "PASSWORD" }],
  copyKey: "0".repeat(64),
  version: 1,
  rivals: [],
};
const looking = { ...frame, secrets: [wanted] };

test("what a primary asks for is read as it was meant", () => {
  expect(lookAtSecrets.body.parse(looking)).toEqual(looking);
  const secrets = [{ ...wanted, data: { password: "dg==" } }];
  expect(deliverSecrets.body.parse({ ...frame, secrets })).toEqual({ ...frame, secrets });
});

/** A primary may be taken over; what it asks a gateway for stays within what a manifest could say. */
test.each<[string, object]>([
  ["a type that is an identity of the cluster", { type: "kubernetes.io/service-account-token" }],
  ["labels on which controllers act", { labels: { "argocd.argoproj.io/instance": "x" } }],
  ["a label of Helm's", { labels: { owner: "helm" } }],
  ["annotations on which controllers act", { annotations: { "kubernetes.io/service-account.name": "x" } }],
  ["another environment's spelling", { environment: "npr" }],
  ["a namespace that is a path", { namespace: "a/../b" }],
  ["no core Secret", { secrets: [] }],
  ["a core Secret that is a path", { secrets: [{ ...wanted, secretName: "../x" }] }],
  ["no key for digests", { secrets: [{ ...wanted, copyKey: "" }] }],
  ["more than it may look at", { secrets: Array.from({ length: 501 }, () => wanted) }],
  ["what it does not know", { overwrite: true }],
])("%s is refused", (_title, change) => {
  expect(lookAtSecrets.body.safeParse({ ...looking, ...change }).success).toBe(false);
});

test("a reason of another version is told as Failed", () => {
  const { secrets } = lookAtSecrets.result.parse({ secrets: [{ kind: "Refused", reason: "Novel", message: "m" }] });
  expect(secrets).toEqual([{ kind: "Refused", reason: "Failed", message: "m" }]);
});

test("digests tell values, entries and core Secrets apart, and nothing without the key", () => {
  const project = { digest: (purpose: string, fields: readonly string[]) => [purpose, ...fields].join(" ") };
  expect(copyKey(project, { namespace: "a", secretName: "b" })).toBe("gateway-copy a b");
  const [one, other] = ["11", "22"].map((key) => new CopyDigests(key.repeat(32)));
  const value = new Sensitive("v");
  const told = [
    one?.fingerprint("a", value),
    one?.fingerprint("b", value),
    one?.fingerprint("a", new Sensitive("w")),
    other?.fingerprint("a", value),
    one?.digest("fingerprint", ["a", "v"]),
  ];
  expect(new Set(told).size).toBe(told.length);
  expect(one?.fingerprint("a", new Sensitive("v"))).toBe(told[0]);
});
