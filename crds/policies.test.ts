/** What the real API server makes of the admission policies: who is refused, what they are told, and what is left alone. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { type Lab, startLab } from "../lab/lab.ts";
import { until } from "../lab/poll.ts";
import { API_VERSION } from "./common.ts";
import { RESTART_PREFIX } from "./delivery.ts";
import { CHANGED_BY, changedBy, policies } from "./generate/policies.ts";
import { references } from "./generate/references.ts";
import { kinds } from "./index.ts";
import { NAMESPACE_ROLE, OPERATOR_ACCOUNT, REST_ACCOUNT, SYSTEM_NAMESPACE } from "./installation.ts";
import { type Answer, type Api, type Call, collection, connect } from "./testing/api.ts";
import { type Manifest, NAMESPACE, smallestSecret, validManifests } from "./testing/valid.ts";

const AUTHORS = "authors";
const RBAC = "rbac.authorization.k8s.io";
const operator = { namespace: SYSTEM_NAMESPACE, name: OPERATOR_ACCOUNT };
const rest = { namespace: SYSTEM_NAMESPACE, name: REST_ACCOUNT };
const author = (name: string) => ({ namespace: AUTHORS, name });
/** May write every kind, and nothing else. */
const stranger = author("stranger");
const usernameOf = ({ namespace, name }: { namespace: string; name: string }): string =>
  `system:serviceaccount:${namespace}:${name}`;

let dir: string;
let lab: Lab;
let api: Api;

beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), "mazevault-policies-"));
  lab = await startLab({ dir, durable: false });
  api = await connect(lab);
  const root = path.join(import.meta.dirname, "..");
  await kubectl("apply", "--server-side", "-f", path.join(root, "crds/generated"));
  for (const file of ["policies.yaml", "changed-by.yaml"]) {
    await kubectl("apply", "--server-side", "-f", path.join(root, "charts/mazevault/files", file));
  }
  await apply(
    ...[NAMESPACE, AUTHORS].map(namespace),
    {
      apiVersion: `${RBAC}/v1`,
      kind: "ClusterRole",
      metadata: { name: "writes-manifests" },
      rules: [
        {
          apiGroups: ["mazevault.io"],
          resources: kinds.map(({ plural }) => plural),
          verbs: ["create", "get", "patch", "update", "delete"],
        },
      ],
    },
    {
      apiVersion: `${RBAC}/v1`,
      kind: "ClusterRoleBinding",
      metadata: { name: "writes-manifests" },
      roleRef: { apiGroup: RBAC, kind: "ClusterRole", name: "writes-manifests" },
      subjects: [{ apiGroup: RBAC, kind: "Group", name: `system:serviceaccounts:${AUTHORS}` }],
    },
  );
  const binding = ["create", "rolebinding", "mazevault", `--clusterrole=${NAMESPACE_ROLE}`];
  await kubectl("-n", NAMESPACE, ...binding, `--serviceaccount=${usernameOf(operator).split(":").slice(2).join(":")}`);
  // Each policy begins to count by itself.
  for (const { kind } of references) {
    const refused = async () => {
      for (const each of validManifests.filter((manifest) => manifest.kind === kind.kind))
        if (/denied request/.test((await create(each, stranger)).message)) return true;
      return false;
    };
    await until(`the policy of ${kind.kind} counts`, refused, { timeoutMs: 30_000 });
  }
}, 600_000);

afterAll(async () => {
  api?.close();
  await lab?.stop();
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});

describe("an author", () => {
  const referring = validManifests.filter(({ kind }) => references.some((each) => each.kind.kind === kind));

  test("is told each right that is missing with the line that gives it, one after the other, until the manifest is accepted", async () => {
    const told = new Set<string>();
    for (const [at, original] of referring.entries()) {
      const fields = references.filter((each) => each.kind.kind === original.kind).map(({ field }) => field);
      if (fields.every((field) => told.has(`${original.kind} ${field}`))) continue;
      const manifest = elsewhere(original, `place-${at}`);
      if (manifest.metadata.namespace !== undefined) await apply(namespace(manifest.metadata.namespace));
      const as = author(manifest.metadata.namespace === undefined ? "of-the-cluster" : `author-${at}`);
      for (const field of await grantedUntilAccepted(manifest, as)) told.add(`${manifest.kind} ${field}`);
    }
    expect([...told].sort()).toEqual(references.map(({ kind, field }) => `${kind.kind} ${field}`).sort());
  }, 300_000);

  test("who may do everything is refused nothing", async () => {
    for (const manifest of validManifests) expect(await create(manifest)).toMatchObject({ status: 201 });
  });

  test("is not asked for what stays as it is", async () => {
    const entries = [{ key: "token", secretRef: { name: "source", key: "token" } }];
    const stored = secretWith("kept", entries);
    await apply(stored);
    // The default of its status, which nobody has written here, is stored with the first write after the creation.
    await apply(stored);
    // As a tool does that applies what stands in Git, again and again.
    const before = (await read(stored)).metadata.resourceVersion;
    expect(await applyAs(stranger, stored)).toMatchObject({ status: 200 });
    expect((await read(stored)).metadata.resourceVersion).toBe(before);
    // Another field, a label, the status.
    expect(await patch(stored, { spec: { deletionPolicy: "Retain" } }, stranger)).toMatchObject({ status: 200 });
    expect(await patch(stored, { metadata: { labels: { tier: "db" } } }, stranger)).toMatchObject({ status: 200 });
    // Another key of the same core Secret is another value.
    const other = [{ key: "token", secretRef: { name: "source", key: "other" } }];
    const refused = await patch(stored, { spec: { entries: other } }, stranger);
    expect(refused).toMatchObject({ status: 403 });
    expect(refused.message).toMatch(
      /spec\.entries\[\]\.secretRef: you need the right to get core Secret source in namespace payments\./,
    );
    // What is taken away needs no right, and is asked for when it comes back.
    const literal = [{ key: "token", literal: "plain" }];
    expect(await patch(stored, { spec: { entries: literal } }, stranger)).toMatchObject({ status: 200 });
    expect(await patch(stored, { spec: { entries } }, stranger)).toMatchObject({ status: 403 });
  });

  describe("of one that refers to what the author may not use", () => {
    const KEPT = "kept";
    /** Of the spec, and referring to nothing; where there is such a thing. */
    const unrelated: Readonly<Record<string, object>> = {
      Secret: { retention: { versions: 7 } },
      KeyVault: { budget: { callsPer10Seconds: 100 } },
      SyncRule: { suspend: true },
      Certificate: { revisionHistoryLimit: 7 },
      CertificateRequest: { revocation: { reason: "superseded" } },
      Issuer: { revocation: { crl: { every: "48h" } } },
      ClusterIssuer: { policy: { maxDuration: "720h" } },
      Project: { keyVaults: ["https://yetanother.vault.azure.net/"] },
      AccessPolicy: { subjects: [{ serviceAccount: { namespace: "ci", name: "another" } }] },
    };
    const kept = referring.map((manifest) => elsewhere(manifest, KEPT));
    const finalized = (finalizers: readonly string[] | null) => ({ metadata: { finalizers } });

    beforeAll(async () => {
      await apply(namespace(KEPT), ...kept);
      // The default of their status is stored with the first write after the creation.
      await apply(...kept);
    });

    test.each([...new Set(kept.map(({ kind }) => kind))])(
      "%s: all else may be changed, also by whoever applies it again",
      async (kind) => {
        for (const stored of kept.filter((each) => each.kind === kind)) {
          const before = (await read(stored)).metadata.resourceVersion;
          const allowed: [string, Answer][] = [["the same again", await applyAs(stranger, stored)]];
          expect((await read(stored)).metadata.resourceVersion).toBe(before);
          const changes: Readonly<Record<string, object>> = {
            label: { metadata: { labels: { tier: "db" } } },
            finalizer: finalized(["example.com/held"]),
            ...(unrelated[kind] && { "another field": { spec: unrelated[kind] } }),
            "no finalizer": finalized(null),
          };
          for (const [what, change] of Object.entries(changes))
            allowed.push([what, await patch(stored, change, stranger)]);
          const { name } = stored.metadata;
          expect(allowed.map(([what, { status, message }]) => [name, what, status, message])).toEqual(
            allowed.map(([what]) => [name, what, 200, ""]),
          );
        }
      },
    );

    test("the namespace goes with all of them, over a finalizer that is taken off while it goes", async () => {
      const held = kept.find(({ metadata }) => metadata.namespace === KEPT) as Manifest;
      expect(await patch(held, finalized(["example.com/held"]), stranger)).toMatchObject({ status: 200 });
      await api.call("DELETE", `/api/v1/namespaces/${KEPT}`);
      const going = async () => (await read(held)).metadata.deletionTimestamp !== undefined;
      await until("it is being deleted", going, PATIENT);
      expect(await patch(held, finalized(null), stranger)).toMatchObject({ status: 200 });
      const gone = async () => (await api.call("GET", `/api/v1/namespaces/${KEPT}`)).status === 404;
      await until("the namespace is gone", gone, { timeoutMs: 60_000 });
    });
  });

  test("who adds many references at once needs the right to all, and who has it is refused nothing", async () => {
    const as = author("many");
    const entries = Array.from({ length: 256 }, (_, at) => ({
      key: `key-${at}`,
      secretRef: { name: `source-${at}`, key: "key" },
    }));
    const many = secretWith("many", entries);
    await give(NAMESPACE, as, { apiGroups: ["mazevault.io"], resources: ["projects"], verbs: ["use"] });
    await give(NAMESPACE, as, {
      apiGroups: [""],
      resources: ["secrets"],
      resourceNames: entries.slice(0, 8).map(({ secretRef: { name } }) => name),
      verbs: ["get"],
    });
    const told =
      /spec\.entries\[\]\.secretRef: more than 8 new ones at once are only for who has the right to get core Secret/;
    await until("eight are allowed", async () => told.test((await create(many, as)).message), PATIENT);
    await give(NAMESPACE, as, { apiGroups: [""], resources: ["secrets"], verbs: ["get"] });
    await until("all are", async () => (await create(many, as)).status === 201, PATIENT);
    // Also of one that is stored with as many already.
    const stored = secretWith("many-stored", entries);
    await apply(stored);
    const others = entries.map(({ key }) => ({ key, secretRef: { name: `other-${key}`, key: "key" } }));
    expect(await patch(stored, { spec: { entries: others } }, as)).toMatchObject({ status: 200 });
    // Of each kind of workload that is among them.
    const restart = Array.from({ length: 6 }, (_, at) => ({ kind: "Deployment", name: `app-${at}` }));
    const restarting = (...more: object[]) => ({
      ...many,
      spec: { ...(many.spec as object), deliver: { restart: [...restart, ...more] } },
    });
    await give(NAMESPACE, as, { apiGroups: ["apps"], resources: ["deployments"], verbs: ["patch"] });
    await until("deployments are", async () => (await create(restarting(), as)).status === 201, PATIENT);
    const refused = await create(restarting({ kind: "StatefulSet", name: "db" }), as);
    expect(refused).toMatchObject({
      status: 403,
      message: expect.stringMatching(/spec\.deliver\.restart\[\]: more than 5/),
    });
  });

  test("cannot send what somebody else referred to somewhere else", async () => {
    const otlp = {
      url: "https://collector.example.com/v1/logs",
      authorizationSecretRef: { name: "token", key: "token" },
    };
    const sink = { apiVersion: API_VERSION, kind: "AuditSink", metadata: { name: "moved" }, spec: { otlp } };
    await apply(sink);
    const refused = await patch(sink, { spec: { otlp: { url: "https://attacker.example/" } } }, stranger);
    expect(refused).toMatchObject({ status: 403 });
    expect(refused.message).toContain(
      `spec.otlp.authorizationSecretRef: you need the right to get core Secret token in namespace ${SYSTEM_NAMESPACE}`,
    );
  });

  test("who may patch a workload may have it restarted", async () => {
    const as = author("patches");
    await give(NAMESPACE, as, { apiGroups: ["mazevault.io"], resources: ["projects"], verbs: ["use"] });
    const restarting = {
      ...smallestSecret,
      spec: { ...(smallestSecret.spec as object), deliver: { restart: [{ kind: "StatefulSet", name: "db" }] } },
    };
    const refused = /spec\.deliver\.restart\[\]: you need the right to patch or restart workload StatefulSet db/;
    await until("the Project is allowed", async () => refused.test((await create(restarting, as)).message), PATIENT);
    await give(NAMESPACE, as, {
      apiGroups: ["apps"],
      resources: ["statefulsets"],
      resourceNames: ["db"],
      verbs: ["patch"],
    });
    await until("the workload is too", async () => (await create(restarting, as)).status === 201, PATIENT);
  });
});

describe("the programs", () => {
  test("write status without being asked", async () => {
    const stored = secretWith("reported", [{ key: "token", secretRef: { name: "source", key: "token" } }]);
    await apply(stored);
    const body = { ...stored, spec: undefined, status: { observedGeneration: 1 } };
    const at = `${pathOf(stored)}/status?fieldManager=test&force=true`;
    const call: Call = { body, contentType: "application/apply-patch+yaml", as: operator };
    expect(await api.call("PATCH", at, call)).toMatchObject({ status: 200 });
  });

  test("REST refers to what it has asked grants for, and to no core Secret", async () => {
    const written = secretWith("written", [{ key: "token", external: {} }]);
    expect(await create(written, rest)).toMatchObject({ status: 201 });
    const request = validManifests.find(({ kind }) => kind === "CertificateRequest") as Manifest;
    expect(await create(request, rest)).toMatchObject({ status: 201 });
    const refused = await create(secretWith("written", [{ key: "t", secretRef: { name: "source", key: "t" } }]), rest);
    expect(refused).toMatchObject({ status: 403 });
    expect(refused.message).toMatch(/^.*spec\.entries\[\]\.secretRef/);
  });

  test.each(["Deployment", "StatefulSet", "DaemonSet"])(
    "the operator restarts a %s, and does nothing else to it",
    async (kind) => {
      const workload = workloadOf(kind);
      await apply(workload);
      const tried = (change: object, as?: Call["as"]) => patch(workload, change, as);
      const pod = (change: object) => ({ spec: { template: change } });
      const annotated = (annotations: object) => pod({ metadata: { annotations } });
      const restart = annotated({ [`${RESTART_PREFIX}orders`]: "digest" });
      expect(await tried(restart, operator)).toMatchObject({ status: 200 });
      expect(await tried(annotated({ [`${RESTART_PREFIX}orders`]: "other" }), operator)).toMatchObject({ status: 200 });
      const containers = [{ name: "app", image: "example/other:1" }];
      for (const [what, change] of Object.entries({
        image: pod({ spec: { containers } }),
        account: pod({ spec: { serviceAccountName: "admin" } }),
        "label of its pods": pod({ metadata: { labels: { app: "app", tier: "db" } } }),
        "another annotation": annotated({ "sidecar.istio.io/inject": "true" }),
        "annotation that is removed": annotated({ "example.com/note": null }),
        "its own annotation": { metadata: { annotations: { "mazevault.io/restart": "allowed" } } },
        "its own label": { metadata: { labels: { team: "payments" } } },
        finalizer: { metadata: { finalizers: ["example.com/hold"] } },
        "field of its spec": { spec: { minReadySeconds: 7 } },
      })) {
        const { status, message } = await tried(change, operator);
        expect([what, status, /may only set annotations restart\.mazevault\.io/.test(message)]).toEqual([
          what,
          403,
          true,
        ]);
      }
      // Who else may patch it is not concerned.
      expect(await tried(pod({ spec: { containers } }))).toMatchObject({ status: 200 });
    },
  );
});

describe("who changed an object", () => {
  const stamp = async (manifest: Manifest): Promise<string | undefined> =>
    (await read(manifest)).metadata.annotations?.[CHANGED_BY];
  const alice = author("alice");
  const bob = author("bob");

  beforeAll(async () => {
    for (const as of [alice, bob]) {
      await give(NAMESPACE, as, { apiGroups: ["mazevault.io"], resources: ["projects"], verbs: ["use"] });
      await until("rights count", async () => (await create(smallestSecret, as)).status === 201, PATIENT);
    }
  });

  test("is stamped by the API server, and by nobody else", async () => {
    const written = secretWith("stamped", [{ key: "token", external: {} }]);
    const claiming = { ...written, metadata: { ...written.metadata, annotations: { [CHANGED_BY]: "somebody" } } };
    const { body } = await create(claiming, alice);
    expect((body as Stored).metadata.annotations).toEqual({ [CHANGED_BY]: usernameOf(alice) });
    expect(await applyAs(alice, written)).toMatchObject({ status: 201 });
    expect(await stamp(written)).toBe(usernameOf(alice));
    expect(await applyAs(alice, written)).toMatchObject({ status: 200 });
    // Who applies it again, adds a label or claims to have changed it changes nothing.
    const before = (await read(written)).metadata.resourceVersion;
    expect(await applyAs(bob, written)).toMatchObject({ status: 200 });
    expect((await read(written)).metadata.resourceVersion).toBe(before);
    await patch(written, { metadata: { labels: { tier: "db" } } }, bob);
    expect(await stamp(written)).toBe(usernameOf(alice));
    for (const annotation of ["somebody", null]) {
      const annotations = { [CHANGED_BY]: annotation };
      expect(await patch(written, { metadata: { annotations } }, bob)).toMatchObject({ status: 200 });
      expect(await stamp(written)).toBe(usernameOf(alice));
    }
    await patch(written, { spec: { deletionPolicy: "Retain" }, metadata: { annotations: null } }, bob);
    expect(await stamp(written)).toBe(usernameOf(bob));
  });

  test("is kept by a rule where the stamp is missing", async () => {
    const policy = `/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings/changed-by.mazevault.io`;
    await api.call("DELETE", policy);
    const claims = { annotations: { [CHANGED_BY]: "somebody" } };
    const written = secretWith("claimed", [{ key: "token", external: {} }]);
    const refused = await until(
      "the stamp is off",
      async () => {
        const answer = await create({ ...written, metadata: { ...written.metadata, ...claims } }, alice);
        return answer.status === 403 && answer;
      },
      PATIENT,
    );
    expect(refused).toMatchObject({ message: expect.stringMatching(/annotation mazevault\.io\/changed-by says who/) });
  });
});

test("no policy has an expression that the API server warns of", async () => {
  interface Checked {
    readonly metadata: { readonly name: string; readonly generation: number };
    readonly status?: {
      readonly observedGeneration?: number;
      readonly typeChecking?: { expressionWarnings?: unknown };
    };
  }
  const path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
  const items = async () =>
    ((await api.call("GET", path)).body as { items: Checked[] }).items.filter(({ metadata }) =>
      metadata.name.endsWith("mazevault.io"),
    );
  const all = [...policies, ...changedBy].filter((each) => (each as Manifest).kind === "ValidatingAdmissionPolicy");
  const judged = ({ metadata, status }: Checked) => status?.observedGeneration === metadata.generation;
  await until("all are checked", async () => (await items()).filter(judged).length === all.length, PATIENT);
  expect((await items()).flatMap(({ status }) => status?.typeChecking?.expressionWarnings ?? [])).toEqual([]);
});

const PATIENT = { timeoutMs: 20_000 };

interface Stored {
  readonly metadata: {
    readonly resourceVersion: string;
    readonly deletionTimestamp?: string;
    readonly annotations?: Readonly<Record<string, string>>;
  };
}

async function kubectl(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.controlPlane.kubectl(args);
  if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
  return stdout;
}

const namespace = (name: string) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name }, spec: {} });

/** As an administrator; throws what the API server answered when it fails. */
async function apply(...manifests: readonly object[]): Promise<void> {
  for (const manifest of manifests as readonly Manifest[]) {
    const { status, message } = await applyAs(undefined, manifest);
    if (status >= 300) throw new Error(`${manifest.kind} ${manifest.metadata.name}: ${message}`);
  }
}

function pathOf(manifest: Manifest): string {
  const { apiVersion, kind, metadata } = manifest;
  if (apiVersion === API_VERSION) return `${collection(manifest)}/${metadata.name}`;
  const root = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const namespace = metadata.namespace === undefined ? "" : `/namespaces/${metadata.namespace}`;
  return `${root}${namespace}/${kind.toLowerCase()}s/${metadata.name}`;
}

/** Asks whether it would be created; nothing is stored. */
const create = (manifest: Manifest, as?: Call["as"]): Promise<Answer> =>
  api.call("POST", `${collection(manifest)}?dryRun=All`, { body: manifest, ...(as && { as }) });

const patch = (manifest: Manifest, change: object, as?: Call["as"]): Promise<Answer> =>
  api.call("PATCH", pathOf(manifest), {
    body: change,
    contentType: "application/merge-patch+json",
    ...(as && { as }),
  });

/** With the field manager that kubectl has, as the same tool in everybody's hands; an administrator's when `as` is undefined. */
const applyAs = (as: Call["as"], manifest: Manifest): Promise<Answer> =>
  api.call("PATCH", `${pathOf(manifest)}?fieldManager=kubectl`, {
    body: manifest,
    contentType: "application/apply-patch+yaml",
    ...(as && { as }),
  });

const read = async (manifest: Manifest): Promise<Stored> => (await api.call("GET", pathOf(manifest))).body as Stored;

const secretWith = (name: string, entries: readonly object[]): Manifest => ({
  ...smallestSecret,
  metadata: { name, namespace: NAMESPACE },
  spec: { ...(smallestSecret.spec as object), deliver: undefined, entries },
});

const workloadOf = (kind: string): Manifest => ({
  apiVersion: "apps/v1",
  kind,
  metadata: { name: "app", namespace: NAMESPACE },
  spec: {
    selector: { matchLabels: { app: "app" } },
    ...(kind === "StatefulSet" && { serviceName: "app" }),
    template: {
      metadata: { labels: { app: "app" }, annotations: { "example.com/note": "kept" } },
      spec: { containers: [{ name: "app", image: "example/app:1" }] },
    },
  },
});

/** In a namespace of its own, where it has one; of two references to one core Secret each by itself. */
function elsewhere(manifest: Manifest, place: string): Manifest {
  const { metadata } = manifest;
  const moved = {
    ...manifest,
    metadata: metadata.namespace === undefined ? metadata : { ...metadata, namespace: place },
  };
  const others = /"kubernetes":\{"namespaces":\[[^\]]*\]/;
  return JSON.parse(
    JSON.stringify(moved)
      .replace('"jks":{"create":true,"passwordSecretRef":{"name":"', "$&jks-")
      .replace(others, (list) => list.replaceAll(/"(?=[-a-z0-9]+"[,\]])/g, `"${place}-`)),
  );
}

async function give(at: string, as: { namespace: string; name: string }, rule: object): Promise<void> {
  const name = `${as.name}-${createHash("sha256").update(JSON.stringify(rule)).digest("hex").slice(0, 8)}`;
  const metadata = { name, namespace: at };
  await apply(
    { apiVersion: `${RBAC}/v1`, kind: "Role", metadata, rules: [rule] },
    {
      apiVersion: `${RBAC}/v1`,
      kind: "RoleBinding",
      metadata,
      roleRef: { apiGroup: RBAC, kind: "Role", name },
      subjects: [{ kind: "ServiceAccount", ...as }],
    },
  );
}

const REFUSED = /denied request: (\S+): you need the right to .*? gives it with: (.*)$/;

/** Does what each refusal says. @returns the fields that were refused, in turn */
async function grantedUntilAccepted(manifest: Manifest, as: { namespace: string; name: string }): Promise<string[]> {
  const told: string[] = [];
  const lines = new Set<string>();
  for (;;) {
    const answer = await create(manifest, as);
    if (answer.status === 201) return told;
    const [, field, line] = REFUSED.exec(answer.message) ?? [];
    if (field === undefined || line === undefined || lines.has(line))
      throw new Error(`${manifest.kind} ${manifest.metadata.name}: ${answer.status} ${answer.message}`);
    told.push(field);
    lines.add(line);
    const place = / in namespace (\S+)\. /.exec(answer.message)?.[1];
    if (place !== undefined) await apply(namespace(place));
    await run(line);
    // Authorization has a cache.
    const counts = async () => !(await create(manifest, as)).message.includes(line);
    await until(`the right for ${field} of ${manifest.kind} counts`, counts, PATIENT);
  }
}

/** As an administrator at a shell. */
async function run(line: string): Promise<void> {
  const { kubeconfigPath: KUBECONFIG, kubectlPath } = lab.controlPlane;
  const env = { ...process.env, KUBECONFIG, PATH: `${path.dirname(kubectlPath)}:${process.env.PATH}` };
  await promisify(execFile)("sh", ["-ec", line], { env });
}
