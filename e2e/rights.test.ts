/** Who may refer to what, and whose is what: the rules of authority, on the rights that the product itself asks for. */
import type { Condition } from "../crds/common.ts";
import { OPERATOR_ACCOUNT, REST_ACCOUNT, SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { azure } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { conditionOf, decoded, type KubernetesObject, secretManifest, startWorld, type World } from "./harness.ts";

const project = "project.mazevault.io";
const secret = "secret.mazevault.io";
const keyVault = "keyvault.mazevault.io";
const rule = "syncrule.mazevault.io";
const [vault] = azure.vaults;
const wait = { timeoutMs: 20_000, intervalMs: 100 };

let world: World;

beforeAll(async () => {
  world = await startWorld();
  await world.mazevault.startOperator();
});

afterAll(() => world?.stop());

describe("the operator's rights", () => {
  test("reach no core Secret of the cluster or of a namespace that no Project admits", async () => {
    await world.apply(namespace("foreign"));
    for (const where of [["--all-namespaces"], ["-n", "foreign"], ["-n", SYSTEM_NAMESPACE], ["-n", "kube-system"]]) {
      for (const verb of ["get", "list", "watch", "create", "patch", "delete"]) {
        // Credentials of what belongs to the cluster stand where the operator does; the first admin's it makes itself, and
        // tokens of gateways, which it deletes once they are used.
        const own = where.includes(SYSTEM_NAMESPACE) && ["get", "create", "delete"].includes(verb);
        const expected = own ? "yes" : "no";
        expect([where, verb, await can(verb, "secrets", ...where)]).toEqual([where, verb, expected]);
      }
    }
    expect(await can("bind", "clusterroles/cluster-admin")).toBe("no");
    expect(await can("escalate", "clusterroles/mazevault-namespace")).toBe("no");
    expect(await can("impersonate", "users")).toBe("no");
    // It asks for failovers by REST and by itself, changes none, and deletes those that ended long ago.
    for (const verb of ["create", "delete"]) expect(await can(verb, "failovers.mazevault.io")).toBe("yes");
    expect(await can("patch", "failovers.mazevault.io")).toBe("no");
    expect(await can("create", "gatewayenvironments.mazevault.io")).toBe("no");
    for (const kind of ["projects", "issuers", "accesspolicies", "gatewayenvironments"]) {
      expect(await can("patch", `${kind}.mazevault.io`, "--all-namespaces")).toBe("no");
    }
  });

  test("are more than those of REST, which reads a core Secret by name only, and where a Project admits it", async () => {
    await world.tenant("kept-out");
    for (const verb of ["list", "watch", "create", "patch", "delete"]) {
      expect([verb, await restCan(verb, "secrets", "-n", "kept-out")]).toEqual([verb, "no"]);
    }
    expect(await restCan("get", "secrets", "-n", "foreign")).toBe("no");
    expect(await restCan("get", "secrets", "-n", SYSTEM_NAMESPACE)).toBe("no");
    // Nobody said that there is REST beside the operator, so nothing lets it in.
    expect(await restCan("get", "secrets", "-n", "kept-out")).toBe("no");
  });

  test("come and go with the Project that admits a namespace; what was delivered stays", async () => {
    await world.tenant("guest");
    await world.apply(secretManifest("guest", "login", { entries: [password], deliver: {} }));
    await world.waitReady(secret, "login", "guest");
    const before = await world.get("secret", "login", "guest");
    expect(await can("get", "secrets", "-n", "guest")).toBe("yes");
    expect(await can("get", "secrets", "-n", "foreign")).toBe("no");

    await world.apply(projectManifest("guest", []));
    const refused = await world.waitFor(secret, "login", "guest", isRefused("NamespaceNotAdmitted"));
    expect(message(refused)).toMatch(/spec\.projectRef.*spec\.namespaces/);
    await gone("rolebinding", "mazevault", "guest");
    expect(await can("get", "secrets", "-n", "guest")).toBe("no");
    expect(await world.get("secret", "login", "guest")).toEqual(before);

    await world.apply(projectManifest("guest", ["guest"]));
    await world.waitReady(secret, "login", "guest");
    expect(await can("get", "secrets", "-n", "guest")).toBe("yes");
    expect(await world.get("secret", "login", "guest")).toEqual(before);
    expect(await versionsOf("guest", "login")).toEqual([1]);
    // It goes on: what changes now is delivered.
    await world.kubectl("-n", "guest", "delete", "secret", "login");
    await until("it is delivered again", () => world.get("secret", "login", "guest"), wait);
    expect(decoded(await world.get("secret", "login", "guest"))).toEqual(decoded(before));
  });

  test("stay where another Project still admits the namespace, and go with the last one", async () => {
    await world.apply(namespace("shared"), projectManifest("one", ["shared"]), projectManifest("two", ["shared"]));
    await until(
      "the namespace is onboarded",
      async () => (await can("get", "secrets", "-n", "shared")) === "yes",
      wait,
    );
    const binding = await world.get("rolebinding", "mazevault", "shared");
    await world.apply(projectManifest("one", []));
    await world.waitFor(project, "one", undefined, ({ status }) => status?.namespaces === 0);
    expect(await world.get("rolebinding", "mazevault", "shared")).toEqual(binding);
    await world.kubectl("delete", project, "two");
    await gone("rolebinding", "mazevault", "shared");
    await world.kubectl("delete", project, "one");
  });

  test("are restored when somebody deletes the RoleBinding", async () => {
    await world.tenant("unbound");
    await world.kubectl("-n", "unbound", "delete", "rolebinding", "mazevault");
    await until("it is back", () => world.get("rolebinding", "mazevault", "unbound"), wait);
  });
});

describe("a namespace", () => {
  beforeAll(async () => {
    await world.tenant("alpha");
    await world.tenant("beta");
  });

  test("cannot use the project of another one", async () => {
    const stranger = (kind: string, name: string, spec: object) => ({
      apiVersion: "mazevault.io/v1",
      kind,
      metadata: { name, namespace: "beta" },
      spec: { projectRef: { name: "alpha" }, ...spec },
    });
    await world.apply(
      stranger("Secret", "trespasser", { environment: "pro", entries: [password], deliver: {} }),
      stranger("KeyVault", "trespasser", { vaultUrl, auth: { managedIdentity: {} } }),
      stranger("SyncRule", "trespasser", {
        environment: "pro",
        direction: "Push",
        target: { keyVault: { ref: { name: "trespasser" } } },
      }),
    );
    for (const kind of [secret, keyVault, rule]) {
      const refused = await world.waitFor(kind, "trespasser", "beta", isRefused("NamespaceNotAdmitted"));
      expect(message(refused)).toMatch(/^spec\.projectRef: Project alpha .* namespace beta.*spec\.namespaces$/);
    }
    expect(await world.sql("SELECT FROM secrets WHERE name = 'trespasser'")).toEqual([]);
    await gone("secret", "trespasser", "beta");
  });

  test("cannot use an environment that it is not admitted for", async () => {
    await world.apply(namespace("apprentice"), projectManifest("school", ["apprentice"], ["dev"]));
    const manifest = secretManifest("apprentice", "exam", { entries: [password], projectRef: { name: "school" } });
    await world.apply(manifest);
    const refused = await world.waitFor(secret, "exam", "apprentice", isRefused("NamespaceNotAdmitted"));
    expect(message(refused)).toMatch(/environment pro/);
  });

  test("cannot use the operator's managed identity for a vault that its Project does not list", async () => {
    const { tokens } = await world.mazevault.keyVault.control.counters();
    await world.apply(
      keyVaultManifest("alpha", "own", "alpha", { managedIdentity: { clientId: azure.managedIdentity } }),
    );
    const refused = await world.waitFor(keyVault, "own", "alpha", isRefused("VaultNotAllowed"));
    expect(message(refused)).toMatch(/^spec\.auth\.managedIdentity: Project alpha .*spec\.keyVaults/);
    expect((await world.mazevault.keyVault.control.counters()).tokens).toEqual(tokens);
    // The fix that the message names helps.
    await world.apply(projectManifest("alpha", ["alpha"], ["dev", "pro"], [vaultUrl]));
    await world.waitReady(keyVault, "own", "alpha");
  });

  test("cannot have a token sent to a host that is no vault of Azure", async () => {
    const { tokens } = await world.mazevault.keyVault.control.counters();
    await world.apply(
      servicePrincipal("alpha"),
      keyVaultManifest("alpha", "trap", "alpha", undefined, "https://vault.attacker.example/"),
    );
    const refused = await world.waitFor(keyVault, "trap", "alpha", isRefused("VaultHostNotAllowed"));
    expect(message(refused)).toMatch(/^spec\.vaultUrl: .*vault\.attacker\.example/);
    expect((await world.mazevault.keyVault.control.counters()).tokens).toEqual(tokens);
  });

  test("cannot push the secrets of one project into the KeyVault of another", async () => {
    await world.apply(
      projectManifest("other", ["alpha"]),
      servicePrincipal("alpha"),
      keyVaultManifest("alpha", "of-other", "other"),
    );
    await world.waitReady(keyVault, "of-other", "alpha");
    await world.apply(
      { ...secretManifest("alpha", "inner", { entries: [password] }) },
      {
        apiVersion: "mazevault.io/v1",
        kind: "SyncRule",
        metadata: { name: "across", namespace: "alpha" },
        spec: {
          projectRef: { name: "alpha" },
          environment: "pro",
          direction: "Push",
          target: { keyVault: { ref: { name: "of-other" } } },
        },
      },
    );
    const refused = await world.waitFor(rule, "across", "alpha", isRefused("KeyVaultOfOtherProject"));
    expect(message(refused)).toMatch(/^spec\.target\.keyVault\.ref: .*refer to a KeyVault of the same project$/);
    await world.waitReady(secret, "inner", "alpha");
    expect(await world.mazevault.keyVault.control.secrets(vault)).toEqual([]);
  });
});

describe("a core Secret that exists", () => {
  const manifest = (name: string, deliver: object) =>
    secretManifest("owner", name, {
      entries: [
        { key: "user", literal: "app" },
        { key: "plan", literal: "gold" },
      ],
      deliver: { restartConsumers: true, ...deliver },
    });

  beforeAll(() => world.tenant("owner"));

  test("is not overwritten when it is not ours", async () => {
    await world.apply(core("owner", "taken", { user: "somebody", plan: "gold" }));
    const before = await world.get("secret", "taken", "owner");
    await world.apply(manifest("taken", {}));
    const refused = await world.waitFor(secret, "taken", "owner", isRefused("TargetNotOwned"));
    expect(message(refused)).toMatch(/spec\.deliver\.adopt/);
    expect(conditionOf(refused, "Stored")?.status).toBe("True");

    await world.apply(manifest("taken", { adopt: true }));
    const differs = await world.waitFor(secret, "taken", "owner", isRefused("TargetDiffers"));
    expect(message(differs)).toMatch(/spec\.deliver\.overwrite/);
    expect(await world.get("secret", "taken", "owner")).toEqual(before);

    await world.apply(manifest("taken", { adopt: true, overwrite: true }));
    await world.waitReady(secret, "taken", "owner");
    expect(decoded(await world.get("secret", "taken", "owner"))).toEqual({ user: "app", plan: "gold" });
    expect((await world.get("secret", "taken", "owner")).metadata.uid).toBe(before.metadata.uid);
  });

  test("is adopted when its data is equal, and then restarts nothing", async () => {
    await world.apply(core("owner", "equal", { user: "app", plan: "gold" }), deployment("owner", "consumer", "equal"));
    const { metadata } = await world.get("secret", "equal", "owner");
    const { generation } = (await world.get("deployment", "consumer", "owner")).metadata;
    const adopting = manifest("equal", { adopt: true });
    await world.apply(adopting);
    const { metadata: owner } = await world.waitReady(secret, "equal", "owner");
    const adopted = await world.get("secret", "equal", "owner");
    expect(adopted.metadata).toMatchObject({
      uid: metadata.uid,
      labels: { "app.kubernetes.io/managed-by": "mazevault" },
      ownerReferences: [{ kind: "Secret", uid: owner.uid }],
    });
    expect((await world.get("deployment", "consumer", "owner")).metadata.generation).toBe(generation);
  });

  test("keeps the labels, annotations and finalizers of others when its value changes", async () => {
    await world.apply(manifest("decorated", {}));
    await world.waitReady(secret, "decorated", "owner");
    await world.kubectl("-n", "owner", "label", "secret", "decorated", "team=payments");
    await world.kubectl("-n", "owner", "annotate", "secret", "decorated", "example.com/note=keep");
    await patch("decorated", { metadata: { finalizers: ["example.com/hold"] } });
    const changed = secretManifest("owner", "decorated", {
      entries: [{ key: "user", literal: "changed" }],
      deliver: { labels: { tier: "db" } },
    });
    await world.apply(changed);
    await world.waitFor(secret, "decorated", "owner", isReadyAt(2));
    const after = await world.get("secret", "decorated", "owner");
    expect(decoded(after)).toEqual({ user: "changed" });
    expect(after.metadata.labels).toMatchObject({ team: "payments", tier: "db" });
    expect(after.metadata.annotations).toMatchObject({ "example.com/note": "keep" });
    expect(after.metadata.finalizers).toEqual(["example.com/hold"]);
    // What we set ourselves goes when it is no longer wanted.
    const unwanted = JSON.stringify({ spec: { deliver: { labels: null } } });
    await world.kubectl("-n", "owner", "patch", secret, "decorated", "--type=merge", "-p", unwanted);
    await until("our label is gone", async () => (await labels("decorated"))?.tier === undefined, wait);
    expect(await labels("decorated")).toMatchObject({ team: "payments" });
    await patch("decorated", { metadata: { finalizers: null } });
  });

  test.each([
    ["data that was changed", { data: { user: Buffer.from("intruder").toString("base64") } }],
    ["data that was removed", { data: { plan: null } }],
    ["data that was added", { data: { more: "bW9yZQ==" } }],
    ["its label", { metadata: { labels: { "app.kubernetes.io/managed-by": "helm" } } }],
    ["its annotation", { metadata: { annotations: { "mazevault.io/delivered-from": "another" } } }],
    ["its owner", { metadata: { ownerReferences: null } }],
  ])("is repaired: %s", async (what, change) => {
    const name = what.replaceAll(" ", "-");
    await world.apply(manifest(name, {}));
    await world.waitReady(secret, name, "owner");
    const essence = async () => {
      const { metadata, data, type } = await world.get("secret", name, "owner");
      return {
        labels: metadata.labels,
        annotations: metadata.annotations,
        owners: metadata.ownerReferences,
        data,
        type,
      };
    };
    const before = await essence();
    const version = (await world.get("secret", name, "owner")).metadata.resourceVersion;
    await patch(name, change);
    await until(
      "it is as it was",
      async () =>
        (await world.get("secret", name, "owner")).metadata.resourceVersion !== version &&
        JSON.stringify(await essence()) === JSON.stringify(before),
      wait,
    );
    expect(await versionsOf("owner", name)).toEqual([1]);
  });
});

describe("deleting", () => {
  const manifest = (name: string, deletionPolicy?: string) =>
    secretManifest("mortal", name, { entries: [password], deliver: {}, ...(deletionPolicy && { deletionPolicy }) });
  const applied = async (name: string, deletionPolicy?: string): Promise<KubernetesObject> => {
    await world.apply(manifest(name, deletionPolicy));
    await world.waitReady(secret, name, "mortal");
    return world.get("secret", name, "mortal");
  };
  const state = async (name: string): Promise<string | undefined> =>
    (
      await world.sql<{ state: string }>("SELECT state FROM secrets WHERE namespace = 'mortal' AND name = $1", [name])
    )[0]?.state;
  const audited = async (name: string): Promise<readonly string[]> =>
    (
      await world.sql<{ action: string }>("SELECT action FROM audit WHERE subject_name = $1 ORDER BY sequence", [
        `mortal/${name}`,
      ])
    ).map(({ action }) => action);

  beforeAll(() => world.tenant("mortal"));

  test("with SoftDelete takes the core Secret along, and applying again brings the same value back", async () => {
    const before = await applied("soft");
    await world.kubectl("-n", "mortal", "delete", secret, "soft");
    await gone("secret", "soft", "mortal");
    await until("it is soft-deleted", async () => (await state("soft")) === "SoftDeleted", wait);
    const after = await applied("soft");
    expect(after.data).toEqual(before.data);
    expect(await state("soft")).toBe("Active");
    expect(await versionsOf("mortal", "soft")).toEqual([1]);
  });

  test("with Retain leaves everything, the core Secret without an owner too", async () => {
    const before = await applied("retained", "Retain");
    expect(before.metadata.ownerReferences ?? []).toEqual([]);
    await world.kubectl("-n", "mortal", "delete", secret, "retained");
    await until("it is retained", async () => (await state("retained")) === "Retained", wait);
    expect(await world.get("secret", "retained", "mortal")).toEqual(before);
    expect((await applied("retained", "Retain")).data).toEqual(before.data);
    expect(await versionsOf("mortal", "retained")).toEqual([1]);
  });

  test("with Purge leaves nothing but the audit record", async () => {
    const before = await applied("purged", "Purge");
    await world.kubectl("-n", "mortal", "delete", secret, "purged");
    await gone("secret", "purged", "mortal");
    await until("it is purged", async () => (await state("purged")) === undefined, wait);
    expect(await versionsOf("mortal", "purged")).toEqual([]);
    expect(await audited("purged")).toEqual(
      expect.arrayContaining(["SecretVersionCreated", "SecretDelivered", "SecretPurged"]),
    );
    expect((await applied("purged", "Purge")).data).not.toEqual(before.data);
  });

  test("and applying at once in another environment takes nothing over", async () => {
    const before = await applied("moved");
    const { kubectl, controllerManager } = world.lab.controlPlane;
    // The core Secret of the former one is still there.
    controllerManager.pause();
    const manifest = secretManifest("mortal", "moved", { entries: [password], deliver: {}, environment: "dev" });
    await kubectl(["replace", "--force", "-f", "-"], { input: JSON.stringify(manifest) });
    const { metadata: owner } = await world.waitReady(secret, "moved", "mortal");
    controllerManager.resume();
    const after = await world.get("secret", "moved", "mortal");
    expect(after.metadata.ownerReferences).toMatchObject([{ uid: owner.uid }]);
    expect(after.data).not.toEqual(before.data);
    expect(await world.sql("SELECT environment, state FROM secrets WHERE name = 'moved' ORDER BY environment")).toEqual(
      [
        { environment: "dev", state: "Active" },
        { environment: "pro", state: "SoftDeleted" },
      ],
    );
  });

  test("the Project deletes nothing, and applying it again goes on", async () => {
    const before = await applied("orphan");
    await world.kubectl("delete", project, "mortal");
    await world.apply(manifest("orphan", "Retain"));
    const refused = await world.waitFor(
      secret,
      "orphan",
      "mortal",
      (object) => ready(object)?.reason === "ProjectNotFound",
    );
    expect(message(refused)).toMatch(/^spec\.projectRef: .*apply it$/);
    expect(await state("orphan")).toBe("Active");
    expect(await world.get("secret", "orphan", "mortal")).toEqual(before);
    await world.tenant("mortal");
    await world.waitReady(secret, "orphan", "mortal");
    expect((await world.get("secret", "orphan", "mortal")).data).toEqual(before.data);
    expect(await versionsOf("mortal", "orphan")).toEqual([1]);
  });
});

const vaultUrl = `https://${vault}.vault.azure.net/`;
const password = { key: "password", generate: { kind: "Password" } };

const ready = (object: KubernetesObject): Condition | undefined => conditionOf(object, "Ready");
const message = (object: KubernetesObject): string => ready(object)?.message ?? "";

/** A person must act: the reason says so, and Stalled does, for this generation. */
const isRefused =
  (reason: string) =>
  (object: KubernetesObject): boolean =>
    ready(object)?.reason === reason &&
    ready(object)?.observedGeneration === object.metadata.generation &&
    conditionOf(object, "Stalled")?.status === "True";

const isReadyAt =
  (version: number) =>
  (object: KubernetesObject): boolean =>
    object.status?.version === version && ready(object)?.status === "True";

/** `yes` or `no`. */
const can = (...what: string[]): Promise<string> => canI(OPERATOR_ACCOUNT, what);
const restCan = (...what: string[]): Promise<string> => canI(REST_ACCOUNT, what);

async function canI(name: string, what: readonly string[]): Promise<string> {
  const account = `system:serviceaccount:${SYSTEM_NAMESPACE}:${name}`;
  const { stdout } = await world.lab.controlPlane.kubectl(["auth", "can-i", "--as", account, ...what]);
  return stdout.trim();
}

const namespace = (name: string): object => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } });

const projectManifest = (
  name: string,
  namespaces: readonly string[],
  environments: readonly string[] = ["dev", "pro"],
  keyVaults: readonly string[] = [],
): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "Project",
  metadata: { name },
  spec: {
    environments: [{ name: "dev" }, { name: "pro" }],
    namespaces: namespaces.map((each) => ({ name: each, environments })),
    keyVaults,
  },
});

const core = (at: string, name: string, stringData: Readonly<Record<string, string>>): object => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, namespace: at },
  stringData,
});

const servicePrincipal = (at: string): object =>
  core(at, "principal", { secret: world.mazevault.servicePrincipal.secret });

const keyVaultManifest = (at: string, name: string, owner: string, auth?: object, url = vaultUrl): object => ({
  apiVersion: "mazevault.io/v1",
  kind: "KeyVault",
  metadata: { name, namespace: at },
  spec: {
    projectRef: { name: owner },
    vaultUrl: url,
    auth: auth ?? {
      servicePrincipal: {
        tenantId: azure.tenantId,
        clientId: azure.servicePrincipal,
        clientSecretRef: { name: "principal", key: "secret" },
      },
    },
  },
});

const deployment = (at: string, name: string, secretName: string): object => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  metadata: { name, namespace: at },
  spec: {
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name, image: "example/app:1", envFrom: [{ secretRef: { name: secretName } }] }] },
    },
  },
});

const patch = (name: string, change: object): Promise<string> =>
  world.kubectl("-n", "owner", "patch", "secret", name, "--type=merge", "-p", JSON.stringify(change));

const labels = async (name: string) => (await world.get("secret", name, "owner")).metadata.labels;

const gone = (resource: string, name: string, at: string): Promise<boolean> =>
  until(
    `${resource} ${name} is gone`,
    async () => (await world.lab.controlPlane.kubectl(["-n", at, "get", resource, name])).stderr.includes("NotFound"),
    // The garbage collector looks for new kinds, as ours are to it, once in 30 seconds.
    { ...wait, timeoutMs: 60_000 },
  );

async function versionsOf(at: string, name: string): Promise<readonly number[]> {
  const rows = await world.sql<{ version: number }>(
    "SELECT version FROM versions JOIN secrets ON id = secret_id WHERE namespace = $1 AND name = $2 ORDER BY 1",
    [at, name],
  );
  return rows.map(({ version }) => version);
}
