import type { DatabaseRoles, RotationWebhook } from "../../../core/ports/apply-targets.ts";
import type { ApplyRecord, PendingVersion, SecretRecord } from "../../../core/ports/vault-store.ts";
import { UNLED } from "../../../core/ports/vault-store.ts";
import { Sensitive } from "../../../core/sensitive.ts";
import type { RotationApplySpec } from "../../../crds/rotation-apply.ts";
import type { Secret } from "../../../crds/secret.ts";
import { ApiError } from "../../runtime/api-error.ts";
import type { ResourceType } from "../../runtime/resource-type.ts";
import { jobName } from "./job.ts";
import { type ApplyAction, type ApplyDependencies, ApplyPerformer } from "./perform.ts";

const { signal } = new AbortController();
const job: RotationApplySpec = { job: { cronJobRef: { name: "rotate" } } };
const postgres: RotationApplySpec = {
  postgres: {
    host: "db",
    admin: { username: "rotator", passwordSecretRef: { name: "rotator", key: "password" } },
    roles: ["a", "b"],
    username: "username",
    password: "password",
  },
};
const secretOf = (apply: RotationApplySpec): Secret =>
  ({
    metadata: { name: "orders-db", namespace: "payments", uid: "uid-1" },
    spec: { entries: [], rotation: { every: "720h", apply } },
  }) as unknown as Secret;

/** What is there and what was called, in order. */
function world(given: {
  values?: Record<string, string>;
  objects?: Record<string, object>;
  roles?: Partial<DatabaseRoles>;
  webhook?: RotationWebhook;
}) {
  const objects = new Map(Object.entries(given.objects ?? {}));
  const proposals: string[] = [];
  const calls: (readonly [string, ...unknown[]])[] = [];
  const at = ({ plural }: ResourceType, { name }: { name: string }) => `${plural}/${name}`;
  const missing = (name: string) => new ApiError({ status: 404, reason: "NotFound", message: "", details: { name } });
  const api = {
    async get(type: ResourceType, key: { name: string }) {
      const found = objects.get(at(type, key));
      if (found === undefined) throw missing(key.name);
      return found;
    },
    async create(type: ResourceType, manifest: { metadata: { name: string } }) {
      calls.push(["create", at(type, manifest.metadata)]);
      objects.set(at(type, manifest.metadata), manifest);
    },
    async delete(type: ResourceType, key: { name: string }) {
      calls.push(["delete", at(type, key)]);
      objects.delete(at(type, key));
    },
  };
  const told =
    (name: string) =>
    async (_writer: unknown, record: SecretRecord, ...rest: unknown[]) => {
      calls.push([name, ...rest]);
      return record;
    };
  const vault = {
    open: async (_record: unknown, { keys }: { keys?: readonly string[] }) => ({
      values: new Map(
        Object.entries(given.values ?? {})
          .filter(([key]) => keys === undefined || keys.includes(key))
          .map(([key, value]) => [key, new Sensitive(value)]),
      ),
    }),
    applied: {
      async propose(_writer: unknown, record: SecretRecord, { values }: { values: ReadonlyMap<string, Sensitive> }) {
        for (const [key, value] of values) proposals.push(`${key}=${value.revealText()}`);
        return { record };
      },
      ...Object.fromEntries(["promote", "discard", "endFormer", "abandonFormer"].map((name) => [name, told(name)])),
    },
  };
  const performer = new ApplyPerformer({
    api,
    vault,
    targets: { roles: given.roles ?? {}, webhook: given.webhook ?? {} },
    installation: "i",
    events: { record: () => {} },
    writer: () => UNLED,
  } as unknown as ApplyDependencies);
  return { calls, objects, proposals, perform: (action: ApplyAction) => performer.perform(action, signal) };
}

const recordOf = (apply: Partial<ApplyRecord>, keys: readonly string[] = ["password"]): SecretRecord =>
  ({
    id: "id-1",
    currentVersion: 7,
    entries: keys.map((key) => ({ key, recipe: "", fingerprint: "" })),
    rotation: { since: new Date(), held: [], apply: { last: 8, failed: [], ...apply } },
  }) as unknown as SecretRecord;

const rotator = { "secrets/rotator": { data: { password: Buffer.from("x").toString("base64") } } };

describe("which role gets the next password", () => {
  const propose = {
    kind: "Propose",
    secret: secretOf(postgres),
    keys: ["password"],
    cause: { kind: "First" },
  } as const;

  test.each([
    ["the entry names one", ["username"], "a", false],
    ["the entry is new", ["user"], "a", true],
    ["the entry has something else", ["username"], "else", true],
  ] as const)("%s", async (_, keys, inUse, asked) => {
    const questions: unknown[] = [];
    const unused: DatabaseRoles["unused"] = async (_server, _admin, among) => {
      questions.push(among);
      return { kind: "Unused", role: "b" };
    };
    const { perform, proposals } = world({ objects: rotator, values: { username: inUse }, roles: { unused } });
    await perform({ ...propose, record: recordOf({ failed: [3] }, keys) });
    expect(proposals).toEqual(["username=b"]);
    const holder = { installation: "i", namespace: "payments", name: "orders-db", id: "id-1" };
    expect(questions).toEqual(asked ? [{ roles: ["a", "b"], holder, failed: [3] }] : []);
  });

  test("none, as long as which one is in use is not known", async () => {
    const unused = async () => ({ kind: "Refused", message: "both log in" }) as const;
    const { perform, proposals } = world({ objects: rotator, roles: { unused } });
    await expect(perform({ ...propose, record: recordOf({}) })).rejects.toMatchObject({
      code: "ApplyFailed",
      message: "spec.rotation.apply.postgres.roles: both log in",
    });
    expect(proposals).toEqual([]);
  });
});

const NAME = jobName("orders-db", "uid-1", 8);
const pendingSince = (minutes: number): PendingVersion => ({
  version: 8,
  base: 7,
  keys: ["password"],
  cause: "Request",
  since: new Date(Date.now() - minutes * 60_000),
});
const apply = (spec: RotationApplySpec, pending: PendingVersion): ApplyAction => ({
  kind: "Apply",
  secret: secretOf(spec),
  record: recordOf({ pending }),
  pending,
});

describe("a Job", () => {
  const metadata = { annotations: { "mazevault.io/rotation": "allowed" } };
  const template = { spec: { containers: [{ name: "rotate" }] } };
  const cronJob = { "cronjobs/rotate": { metadata, spec: { jobTemplate: { spec: { template } } } } };

  test("is made while there is time", async () => {
    const { perform, calls } = world({ objects: cronJob });
    expect(await perform(apply(job, pendingSince(9)))).toMatchObject({ kind: "Underway" });
    expect(calls).toEqual([
      ["create", `secrets/${NAME}`],
      ["create", `jobs/${NAME}`],
    ]);
  });

  test("is not made when its time is over before it began", async () => {
    const { perform, calls } = world({ objects: cronJob });
    expect(await perform(apply(job, pendingSince(10)))).toMatchObject({ kind: "Record" });
    expect(calls).toEqual([["discard", `not applied within 10m: Job ${NAME} was not made in time`, expect.anything()]]);
  });
});

describe("the manifest asks for something else while a version is under way", () => {
  const webhook: RotationApplySpec = {
    webhook: { url: "https://receiver", hmacSecretRef: { name: "rotator", key: "password" } },
  };
  const metadata = { uid: "uid-2", annotations: { "mazevault.io/rotates": "orders-db id-1 8" } };
  const given = { ...rotator, [`jobs/${NAME}`]: { metadata }, [`secrets/${NAME}`]: { metadata } };
  const cleanedUp = [
    ["delete", `jobs/${NAME}`],
    ["delete", `secrets/${NAME}`],
  ];

  test.each([
    ["promote", { kind: "Done" }],
    ["discard", { kind: "Refused", message: "no" }],
  ] as const)("nothing is left of a Job before %s", async (what, answer) => {
    const { perform, calls } = world({ objects: given, webhook: { send: async () => answer } });
    await perform(apply(webhook, pendingSince(1)));
    expect(calls.slice(0, 2)).toEqual(cleanedUp);
    expect(calls.map(([name]) => name)).toEqual(["delete", "delete", what]);
  });

  test.each([
    ["a role that nothing can end is left, not ended", "a", "abandonFormer"],
    ["where there is no role, nothing is left", undefined, "endFormer"],
  ])("%s", async (_, role, call) => {
    const former = { version: 6, confirmed: new Date(), ...(role !== undefined && { role }) };
    const { perform, calls } = world({});
    await perform({ kind: "End", secret: secretOf(webhook), record: recordOf({ former }), former });
    expect(calls.map(([name]) => name)).toEqual([call]);
  });
});
