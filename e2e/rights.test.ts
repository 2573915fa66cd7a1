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
const vaultUrl = `https://${vault}.vault.azure.net/`;
const password = { key: "password", generate: { kind: "Password" } };

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
    await until("it is let in", async () => (await restCan("get", "secrets", "-n", "kept-out")) === "yes", wait);
    await world.apply(projectManifest("kept-out", []));
    await until("it is kept out", async () => (await restCan("get", "secrets", "-n", "kept-out")) === "no", wait);
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

describe("the author of a manifest, with a token of her own", () => {
  const TEAM = "crew";
  const alice = { namespace: "people", name: "alice" };
  const user = `system:serviceaccount:${alice.namespace}:${alice.name}`;
  let kubeconfig: string;
  const asAlice = (...manifests: readonly object[]) =>
    world.lab.controlPlane.kubectl(["apply", "-f", "-"], { input: manifestsIn(manifests), kubeconfig });
  /** Who may do it may do it when the API server knows of her right, which takes a moment. */
  const accepted = (...manifests: readonly object[]): Promise<string> =>
    until(
      "it is accepted",
      async () => {
        const { code, stdout, stderr } = await asAlice(...manifests);
        if (code !== 0) throw new Error(stderr);
        return stdout;
      },
      wait,
    );
  const refused = async (manifest: object): Promise<string> => {
    const { code, stderr } = await asAlice(manifest);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^Error from server \(Forbidden\): /)]);
    return stderr;
  };
  const bind = (clusterRole: string) =>
    world.kubectl("-n", TEAM, "create", "rolebinding", clusterRole, `--clusterrole=${clusterRole}`, `--user=${user}`);
  const unbind = (...names: string[]) => world.kubectl("-n", TEAM, "delete", "rolebinding", ...names);

  const plain = secretManifest(TEAM, "plain", { entries: [{ key: "user", literal: "app" }] });
  const sourced = secretManifest(TEAM, "sourced", {
    entries: [{ key: "token", secretRef: { name: "source", key: "token" } }],
    deliver: {},
  });
  const restarting = secretManifest(TEAM, "restarting", {
    entries: [{ key: "user", literal: "app" }],
    deliver: { restart: [{ kind: "Deployment", name: "shop" }] },
  });
  const adopting = secretManifest(TEAM, "adopting", {
    entries: [{ key: "token", literal: "from elsewhere" }],
    deliver: { secretName: "source-2", adopt: true },
  });
  const byIdentity = {
    apiVersion: "mazevault.io/v1",
    kind: "KeyVault",
    metadata: { name: "by-identity", namespace: TEAM },
    spec: {
      projectRef: { name: TEAM },
      vaultUrl,
      auth: {
        workloadIdentity: {
          tenantId: azure.tenantId,
          clientId: azure.workloadIdentity,
          serviceAccountRef: { name: "kv" },
        },
      },
    },
  };
  const copying = {
    apiVersion: "mazevault.io/v1",
    kind: "SyncRule",
    metadata: { name: "copying", namespace: TEAM },
    spec: {
      projectRef: { name: TEAM },
      environment: "pro",
      secrets: { names: ["plain"] },
      direction: "Push",
      target: { kubernetes: { namespaces: ["kube-public"] } },
    },
  };

  beforeAll(async () => {
    await world.tenant(TEAM);
    await world.apply(
      namespace(alice.namespace),
      { apiVersion: "v1", kind: "ServiceAccount", metadata: alice },
      core(TEAM, "source", { token: "from elsewhere" }),
      core(TEAM, "source-2", { token: "from elsewhere" }),
      deployment(TEAM, "shop", "another"),
      { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "kv", namespace: TEAM } },
      {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "ClusterRole",
        metadata: { name: "uses-crew" },
        rules: [{ apiGroups: ["mazevault.io"], resources: ["projects"], resourceNames: [TEAM], verbs: ["use"] }],
      },
    );
    kubeconfig = await world.lab.controlPlane.serviceAccountKubeconfig({ ...alice, dir: world.lab.dir });
    // As docs/operations/rights.md has it: she may write what teams write.
    await bind("mazevault-authors");
    await until("she may write", async () => !(await asAlice(plain)).stderr.includes("cannot get resource"), wait);
  });

  test("is refused a Project that she may not use, and told so; nothing comes of it", async () => {
    const told = await refused(plain);
    expect(told).toContain(
      `spec.projectRef: you need the right to use Project ${TEAM} in namespace ${TEAM}. Somebody who has it gives it with: kubectl -n ${TEAM} create role `,
    );
    expect(told).toContain(`--resource=projects.mazevault.io --resource-name=${TEAM} `);
    expect(told).toContain(`--user="${user}"`);
    await expect(world.get(secret, "plain", TEAM)).rejects.toThrow("404");
    // Neither on the way over a Project that she may use, nor for a KeyVault or a rule.
    for (const manifest of [byIdentity, copying])
      expect(await refused(manifest)).toContain("spec.projectRef: you need");
    await bind("uses-crew");
    await accepted(plain);
    await world.waitReady(secret, "plain", TEAM);
  });

  test.each([
    [
      "a source",
      sourced,
      "spec.entries[].secretRef: you need the right to get core Secret source in",
      "get",
      "secrets",
    ],
    [
      "a workload",
      restarting,
      "spec.deliver.restart[]: you need the right to patch or restart workload Deployment shop in",
      "restart",
      "deployments.apps",
    ],
    [
      "a core Secret to be adopted",
      adopting,
      "spec.deliver.adopt: you need the right to update core Secret source-2 in",
      "update",
      "secrets",
    ],
    [
      "a ServiceAccount",
      byIdentity,
      "spec.auth.workloadIdentity.serviceAccountRef: you need the right to create token of ServiceAccount kv in",
      "create",
      "serviceaccounts/token",
    ],
    [
      "another namespace",
      copying,
      "spec.target.kubernetes.namespaces[]: you need the right to create core Secret objects of any name in",
      "create",
      "secrets",
    ],
  ])("is refused %s that she has no right to, and told which", async (_what, manifest, told, verb, resource) => {
    const { kind, metadata } = manifest as KubernetesObject;
    const where = kind === "SyncRule" ? "kube-public" : TEAM;
    const said = await refused(manifest);
    expect(said).toContain(
      `${told} namespace ${where}. Somebody who has it gives it with: kubectl -n ${where} create `,
    );
    expect(said).toMatch(new RegExp(` --verb=${verb} --resource=${resource}[ ;]`));
    await expect(world.get(`${kind.toLowerCase()}.mazevault.io`, metadata.name, TEAM)).rejects.toThrow("404");
  });

  test("has all of it with the ClusterRole edit of Kubernetes, in her namespace", async () => {
    await bind("edit");
    const before = (await world.get("deployment", "shop", TEAM)).metadata.generation;
    await accepted(sourced, restarting, adopting, byIdentity);
    for (const name of ["sourced", "restarting", "adopting"]) await world.waitReady(secret, name, TEAM);
    expect(decoded(await world.get("secret", "sourced", TEAM))).toEqual({ token: "from elsewhere" });
    await world.apply(
      secretManifest(TEAM, "restarting", {
        entries: [{ key: "user", literal: "another" }],
        deliver: { restart: [{ kind: "Deployment", name: "shop" }] },
      }),
    );
    // The workload has a say of its own.
    await world.kubectl("-n", TEAM, "annotate", "deployment", "shop", "mazevault.io/restart=allowed");
    await world.waitFor("deployment", "shop", TEAM, ({ metadata }) => Number(metadata.generation) > Number(before));
    // Of another namespace she has none.
    expect(await refused(copying)).toContain("in namespace kube-public");
  });

  test("is not asked again, and the operator never, for what was there when she had the rights", async () => {
    await unbind("edit", "uses-crew");
    const another = (change: object) => ({
      ...sourced,
      spec: { ...(sourced as KubernetesObject).spec, ...change },
    });
    await until("the rights are gone", async () => (await asAlice(copying)).stderr.includes("spec.projectRef"), wait);
    // What stands in Git, applied again; another field; a label; a finalizer, and its end.
    expect(await accepted(sourced)).toMatch(/sourced unchanged\n$/);
    await accepted(another({ retention: { versions: 5 } }));
    for (const change of [
      { metadata: { labels: { tier: "db" } } },
      { metadata: { finalizers: ["example.com/hold"] } },
      { metadata: { finalizers: null } },
    ]) {
      const args = ["-n", TEAM, "patch", secret, "sourced", "--type=merge", "-p", JSON.stringify(change)];
      expect(await world.lab.controlPlane.kubectl(args, { kubeconfig })).toMatchObject({ code: 0, stderr: "" });
    }
    const more = [
      { key: "token", secretRef: { name: "source", key: "token" } },
      { key: "other", secretRef: { name: "source-2", key: "token" } },
    ];
    expect(await refused(another({ entries: more }))).toContain("you need the right to get core Secret source-2 in");
    // What the source has now is taken, stored, delivered and reported.
    await world.apply(core(TEAM, "source", { token: "a newer one" }));
    await world.waitFor("secret", "sourced", TEAM, (it) => decoded(it).token === "a newer one");
    await world.waitFor(secret, "sourced", TEAM, isReadyAt(2));
  });

  test("may leave, and so may her namespace with all that refers to something", async () => {
    await unbind("mazevault-authors");
    await world.kubectl("delete", "namespace", TEAM, "--timeout=90s");
    await world.kubectl("delete", project, TEAM);
  });
});

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

/** For `kubectl apply -f -`. */
const manifestsIn = (items: readonly object[]): string => JSON.stringify({ apiVersion: "v1", kind: "List", items });

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
