/** What the real API server makes of the kinds: which manifests it refuses and how, and what the operator may do. */

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseAllDocuments } from "yaml";
import type { z } from "zod";
import { type Lab, startLab } from "../lab/lab.ts";
import { until } from "../lab/poll.ts";
import { resourceSchema } from "./generate/crd.ts";
import { emptiedManifests, type Json, unsetFields, wrongManifests } from "./generate/wrong-manifests.ts";
import { kinds } from "./index.ts";
import {
  NAMESPACE_BINDING,
  NAMESPACE_ROLE,
  OPERATOR_ACCOUNT,
  REST_ACCOUNT,
  REST_NAMESPACE_BINDING,
  REST_NAMESPACE_ROLE,
  SYSTEM_NAMESPACE,
} from "./installation.ts";
import { type Answer, type Api, collection, connect, notRefused } from "./testing/api.ts";
import { contradictions, forbiddenChanges } from "./testing/contradictions.ts";
import { type Manifest, NAMESPACE, validManifests } from "./testing/valid.ts";

let dir: string;
let lab: Lab;
let api: Api;

beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), "mazevault-admission-"));
  lab = await startLab({ dir, durable: false });
  api = await connect(lab);
  await kubectl("apply", "--server-side", "-f", path.join(import.meta.dirname, "generated"));
  await kubectl("create", "namespace", NAMESPACE);
  for (const { plural } of kinds) {
    await until(
      `${plural} are served`,
      async () => (await api.call("GET", `/apis/mazevault.io/v1/${plural}`)).status === 200,
      {
        timeoutMs: 30_000,
      },
    );
  }
}, 600_000);

afterAll(async () => {
  api?.close();
  await lab?.stop();
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});

async function kubectl(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.controlPlane.kubectl(args);
  if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
  return stdout;
}

/** Refused whatever it holds, which is a contradiction of its own: the schema shares it with another kind. */
const REFUSED: Readonly<Record<string, RegExp>> = { Issuer: /^spec\.primary(\.|$)/ };

describe("a wrong field is refused, and the answer names it:", () => {
  const generated = kinds.map((kind) => {
    const valid = validManifests.filter((manifest) => manifest.kind === kind.kind) as unknown as Json[];
    const schema = resourceSchema(kind);
    const fields = Object.keys((kind.spec as z.ZodObject).shape).length;
    const unset = unsetFields(schema, valid).filter((field) => REFUSED[kind.kind]?.test(field) !== true);
    return { kind: kind.kind, fields, cases: wrongManifests(schema, valid), unset };
  });

  test.each(generated)("$kind, $cases.length manifests", async ({ cases }) => {
    const failures: string[] = [];
    for (const { title, manifest, field, says } of cases) {
      const answer = await api.tryCreate(manifest as never);
      const problem = notRefused(answer, field, says);
      if (problem !== undefined) failures.push(`${title}: ${problem}`);
    }
    expect(failures).toEqual([]);
  });

  test.each(generated)("$kind: no field is left out", ({ cases, fields, unset }) => {
    expect(unset).toEqual([]);
    // A kind with a few fields of one value each has no more ways to be wrong.
    expect(cases.length).toBeGreaterThan(fields <= 2 ? 8 : fields <= 4 ? 24 : 50);
  });
});

describe("a contradiction is refused, and the answer says what to do:", () => {
  test.each(contradictions)("$manifest.kind: $title", async ({ manifest, field, says }) => {
    expect(notRefused(await api.tryCreate(manifest), field, says)).toBeUndefined();
  });
});

describe("valid manifests", () => {
  test.each(validManifests)("$kind $metadata.name is accepted", async (manifest) => {
    expect(await api.tryCreate(manifest)).toMatchObject({ status: 201 });
  });

  test("that the example of cdk8s/ makes are accepted", async () => {
    const file = path.join(import.meta.dirname, "../cdk8s/examples/payments/manifests/payments.k8s.yaml");
    const manifests = parseAllDocuments(await readFile(file, "utf8")).map((document): Manifest => document.toJS());
    expect(manifests).toHaveLength(8);
    for (const manifest of manifests) expect(await api.tryCreate(manifest)).toMatchObject({ status: 201 });
  });

  test.each([
    ["server-side apply", ["apply", "--server-side"]],
    ["client-side apply", ["apply"]],
  ])("are the same after a second %s", async (_, command) => {
    const file = { apiVersion: "v1", kind: "List", items: validManifests };
    const input = JSON.stringify(file);
    const versions = async (): Promise<string> => {
      const applied = await lab.controlPlane.kubectl([...command, "-f", "-"], { input });
      expect(applied).toMatchObject({ code: 0 });
      const listed = await kubectl("get", "mazevault", "-A", "-o", "jsonpath={.items[*].metadata.resourceVersion}");
      expect(listed.split(" ")).toHaveLength(validManifests.length);
      return listed;
    };
    await versions();
    // The first write after the creation stores the default of status too, where the operator was not faster.
    const second = await versions();
    expect(await versions()).toBe(second);
    await kubectl("delete", "mazevault", "--all", "-n", NAMESPACE);
    await kubectl("delete", "mvp,mvci,mvgw", "--all");
  });

  const schemaOf = ({ kind }: Manifest) => {
    const definition = kinds.find((each) => each.kind === kind);
    if (definition === undefined) throw new Error(`${kind} is no kind`);
    return resourceSchema(definition);
  };
  /** Server-side apply, as `kubectl apply --server-side` asks for it. */
  const apply = (manifest: Manifest, query = ""): Promise<Answer> =>
    api.call("PATCH", `${collection(manifest)}/${manifest.metadata.name}?fieldManager=test&force=true${query}`, {
      body: manifest,
      contentType: "application/apply-patch+yaml",
    });

  test("can be emptied by server-side apply, part by part, or are refused with what is wrong with that", async () => {
    const failures: string[] = [];
    let count = 0;
    for (const manifest of validManifests) {
      expect((await apply(manifest)).status).toBe(201);
      for (const { field, manifest: emptied, at } of emptiedManifests(schemaOf(manifest), manifest as never)) {
        count += 1;
        const answer = await apply(emptied as never, "&dryRun=All");
        const left = answer.status < 300 ? JSON.stringify(at(answer.body as Json)) : answer.message;
        // When all that it had is taken away, what is left must not be null. A list that is empty may as well be absent.
        const wanted = Array.isArray(at(emptied)) ? [undefined, "[]"] : ["{}"];
        const right = answer.status < 300 ? wanted.includes(left) : !/null/.test(left);
        if (!right) failures.push(`${manifest.kind} ${field}: ${left}`);
      }
      await api.call("DELETE", `${collection(manifest)}/${manifest.metadata.name}`);
    }
    expect(failures).toEqual([]);
    expect(count).toBeGreaterThan(10);
  });

  test("are stored as they were written, without defaults", async () => {
    for (const manifest of validManifests) {
      const { body } = await api.tryCreate(manifest);
      expect((body as typeof manifest).spec).toEqual(manifest.spec);
    }
  });
});

describe("a change that comes too late is refused, and the answer says what to do instead:", () => {
  test.each(forbiddenChanges)("$title", async ({ before, manifest, field, says }) => {
    const stored = await api.call("POST", collection(before), { body: before });
    expect(stored.status).toBe(201);
    const object = `${collection(before)}/${before.metadata.name}`;
    try {
      const { metadata } = stored.body as typeof before;
      const answer = await api.call("PUT", `${object}?dryRun=All`, { body: { ...manifest, metadata } });
      expect(notRefused(answer, field, says)).toBeUndefined();
    } finally {
      await api.call("DELETE", object);
    }
  });
});

describe("the operator's rights", () => {
  const operator = { namespace: SYSTEM_NAMESPACE, name: OPERATOR_ACCOUNT };
  const RBAC = "rbac.authorization.k8s.io";
  const onboarded = "onboarded";

  type Question = readonly [verb: string, group: string, resource: string, namespace?: string, name?: string];

  const may = (...question: Question): Promise<boolean> => allowed(operator, ...question);
  const allowed = async (
    as: { namespace: string; name: string },
    ...[verb, group, resource, namespace = "", name = ""]: Question
  ): Promise<boolean> => {
    const [plural = "", subresource = ""] = resource.split("/");
    const resourceAttributes = { verb, group, resource: plural, subresource, namespace, name };
    const review = {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SelfSubjectAccessReview",
      spec: { resourceAttributes },
    };
    const path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    const { body } = await api.call("POST", path, { body: review, as });
    return (body as { status: { allowed: boolean } }).status.allowed;
  };

  const bind = (
    namespace: string,
    role: string,
    name = NAMESPACE_BINDING,
    subject: { namespace: string; name: string } = operator,
  ): Promise<Answer> =>
    api.call("POST", `/apis/${RBAC}/v1/namespaces/${namespace}/rolebindings`, {
      as: operator,
      body: {
        apiVersion: `${RBAC}/v1`,
        kind: "RoleBinding",
        metadata: { name },
        roleRef: { apiGroup: RBAC, kind: "ClusterRole", name: role },
        subjects: [{ kind: "ServiceAccount", ...subject }],
      },
    });

  beforeAll(async () => {
    await kubectl("create", "namespace", onboarded);
  });

  test("let it bring itself into a namespace, with that one role only", async () => {
    expect(await bind(onboarded, "cluster-admin")).toMatchObject({ status: 403 });
    expect(await bind(onboarded, "admin")).toMatchObject({ status: 403 });
    expect(await bind(onboarded, NAMESPACE_ROLE)).toMatchObject({ status: 201 });
    await until("the binding counts", () => may("list", "", "secrets", onboarded), { timeoutMs: 10_000 });
    const path = `/apis/${RBAC}/v1/namespaces/${onboarded}/rolebindings/${NAMESPACE_BINDING}`;
    const raise = { subjects: [{ kind: "Group", name: "system:authenticated", apiGroup: RBAC }] };
    const contentType = "application/merge-patch+json";
    expect(await api.call("PATCH", path, { as: operator, contentType, body: raise })).toMatchObject({ status: 403 });
    // REST comes with it, where it is a program of its own.
    const account = { namespace: SYSTEM_NAMESPACE, name: REST_ACCOUNT };
    expect(await bind(onboarded, REST_NAMESPACE_ROLE, REST_NAMESPACE_BINDING, account)).toMatchObject({ status: 201 });
  });

  const titled = (questions: readonly Question[]) =>
    questions.map(([verb, group, resource, namespace, name]) => ({
      question: [verb, group, resource, namespace, name] as Question,
      title: `${verb} ${resource}${group && `.${group}`}${name ? ` ${name}` : ""}${namespace ? ` in ${namespace}` : ""}`,
    }));

  const needed: readonly Question[] = [
    ...kinds.flatMap(({ plural }): Question[] => [
      ["list", "mazevault.io", plural],
      ["watch", "mazevault.io", plural],
      ["patch", "mazevault.io", `${plural}/status`],
    ]),
    ...["get", "list", "watch"].map((verb): Question => [verb, "", "namespaces"]),
    ["create", "events.k8s.io", "events", "default"],
    ...[NAMESPACE_BINDING, REST_NAMESPACE_BINDING].flatMap((name): Question[] => [
      ["watch", RBAC, "rolebindings", "", name],
      ["delete", RBAC, "rolebindings", "any", name],
    ]),
    ...["get", "list", "watch", "create", "patch", "delete"].map((verb): Question => [verb, "", "secrets", onboarded]),
    ...["deployments", "statefulsets", "daemonsets"].map(
      (workload): Question => ["patch", "apps", workload, onboarded],
    ),
    ["create", "", "serviceaccounts/token", onboarded],
    ["patch", "coordination.k8s.io", "leases", SYSTEM_NAMESPACE],
    // Credentials of what belongs to the cluster, the first admin's password, and tokens of gateways.
    ...["get", "create", "delete"].map((verb): Question => [verb, "", "secrets", SYSTEM_NAMESPACE]),
  ];

  const beyond: readonly Question[] = [
    ...["get", "list", "create", "patch", "delete"].map((verb): Question => [verb, "", "secrets", NAMESPACE]),
    ["list", "", "secrets"],
    ...["list", "watch", "patch"].map((verb): Question => [verb, "", "secrets", SYSTEM_NAMESPACE]),
    ["create", "", "serviceaccounts/token", SYSTEM_NAMESPACE],
    ["create", "", "serviceaccounts/token", NAMESPACE],
    ["patch", "apps", "deployments", NAMESPACE],
    ["delete", "apps", "deployments", onboarded],
    ["create", "", "pods", onboarded],
    // What people do through REST, which is a program of its own.
    ...["create", "patch", "delete"].map((verb): Question => [verb, "mazevault.io", "secrets", onboarded]),
    ["create", "mazevault.io", "certificaterequests", onboarded],
    ["patch", "mazevault.io", "certificates", onboarded],
    ...["create", "delete"].map((verb): Question => [verb, "mazevault.io", "gateways"]),
    ["create", "authentication.k8s.io", "tokenreviews"],
    ["patch", "mazevault.io", "projects"],
    ["patch", "mazevault.io", "gateways"],
    ["delete", "mazevault.io", "certificates", onboarded],
    ["patch", "mazevault.io", "certificaterequests", onboarded],
    ["patch", "mazevault.io", "issuers", onboarded],
    ["create", "mazevault.io", "accesspolicies", onboarded],
    ["bind", RBAC, "clusterroles", "", "cluster-admin"],
    ["escalate", RBAC, "clusterroles", "", NAMESPACE_ROLE],
    ["patch", RBAC, "clusterroles", "", NAMESPACE_ROLE],
    ["delete", RBAC, "rolebindings", "any", "somebody-elses"],
    ["patch", RBAC, "rolebindings", "any", NAMESPACE_BINDING],
    ["update", "mazevault.io", "secrets/status", onboarded],
    ["create", RBAC, "clusterrolebindings"],
    ["impersonate", "", "users"],
    ["get", "coordination.k8s.io", "leases", "kube-system"],
  ];

  test.each(titled(needed))("include $title", async ({ question }) => {
    expect(await may(...question)).toBe(true);
  });

  test.each(titled(beyond))("do not include $title", async ({ question }) => {
    expect(await may(...question)).toBe(false);
  });

  describe("of REST as a program of its own", () => {
    const rest = { namespace: SYSTEM_NAMESPACE, name: REST_ACCOUNT };
    const own: readonly Question[] = [
      ...kinds.map(({ plural }): Question => ["watch", "mazevault.io", plural]),
      ["watch", "", "namespaces"],
      ["watch", RBAC, "rolebindings", "", NAMESPACE_BINDING],
      ...["create", "patch", "delete"].map((verb): Question => [verb, "mazevault.io", "secrets", onboarded]),
      ["create", "mazevault.io", "certificaterequests", onboarded],
      ["patch", "mazevault.io", "certificates", onboarded],
      ["patch", "mazevault.io", "syncconflicts", onboarded],
      ...["create", "delete"].map((verb): Question => [verb, "mazevault.io", "gateways"]),
      ["create", "mazevault.io", "failovers"],
      ["create", "authentication.k8s.io", "tokenreviews"],
      ...["projects", "issuers", "clusterissuers"].map((kind): Question => ["use", "mazevault.io", kind, "any", "any"]),
      ["get", "", "secrets", onboarded],
      ["create", "", "serviceaccounts/token", onboarded],
      ["get", "coordination.k8s.io", "leases", SYSTEM_NAMESPACE],
    ];
    const foreign: readonly Question[] = [
      ...["list", "watch", "create", "patch", "delete"].map((verb): Question => [verb, "", "secrets", onboarded]),
      ...["get", "create"].map((verb): Question => [verb, "", "secrets", SYSTEM_NAMESPACE]),
      ["get", "", "secrets", NAMESPACE],
      ["get", "", "namespaces"],
      ...["get", "patch"].map((verb): Question => [verb, "apps", "deployments", onboarded]),
      ["create", "batch", "jobs", onboarded],
      ["patch", "coordination.k8s.io", "leases", SYSTEM_NAMESPACE],
      ["use", "mazevault.io", "keyvaults", "any", "any"],
      ["create", "mazevault.io", "syncconflicts", onboarded],
      ["create", RBAC, "rolebindings", "any"],
      ["bind", RBAC, "clusterroles", "", REST_NAMESPACE_ROLE],
      ...kinds.map(({ plural }): Question => ["patch", "mazevault.io", `${plural}/status`]),
    ];

    test("are these", async () => {
      for (const question of own) expect([question, await allowed(rest, ...question)]).toEqual([question, true]);
    });

    test("are not these", async () => {
      for (const question of foreign) expect([question, await allowed(rest, ...question)]).toEqual([question, false]);
    });
  });

  test("let it list its bindings of all namespaces by name, and nobody else's", async () => {
    const list = `/apis/${RBAC}/v1/rolebindings`;
    const byName = `${list}?fieldSelector=metadata.name%3D${NAMESPACE_BINDING}`;
    expect(await api.call("GET", byName, { as: operator })).toMatchObject({ status: 200 });
    expect(await api.call("GET", list, { as: operator })).toMatchObject({ status: 403 });
  });

  test("are fewer at a gateway", async () => {
    const primarys: readonly Question[] = [
      ...["gateways", "gatewayenvironments", "failovers"].map(
        (kind): Question => ["patch", "mazevault.io", `${kind}/status`],
      ),
      ["create", "mazevault.io", "failovers"],
      ["delete", "", "secrets", SYSTEM_NAMESPACE],
    ];
    for (const question of primarys) expect([question, await may(...question)]).toEqual([question, true]);
    // Its rights have other names, and one account is the operator's and REST's.
    await kubectl("delete", "clusterrolebinding", OPERATOR_ACCOUNT);
    await kubectl("delete", "rolebinding", "-n", SYSTEM_NAMESPACE, `${OPERATOR_ACCOUNT}-system`);
    const rights = path.join(import.meta.dirname, "../deploy/gateway/rbac.yaml");
    await kubectl("apply", "--server-side", "-f", rights);
    for (const question of primarys)
      await until(`it may no longer ${question.join(" ")}`, async () => !(await may(...question)), {
        timeoutMs: 10_000,
      });
    const gateways: readonly Question[] = [
      ["patch", "mazevault.io", "secrets/status", onboarded],
      ["create", "mazevault.io", "secrets", onboarded],
      ["create", "", "secrets", SYSTEM_NAMESPACE],
    ];
    for (const question of gateways) expect([question, await may(...question)]).toEqual([question, true]);
    expect(await may("create", "mazevault.io", "gateways")).toBe(false);
  });
});
