import { keyVaultSpec } from "../../crds/keyvault.ts";
import { secretSpec } from "../../crds/secret.ts";
import { syncRuleSpec } from "../../crds/syncrule.ts";
import { CoreSecrets } from "./core-secrets.ts";
import { convertEso, type EsoOptions } from "./eso.ts";
import type { Manifest } from "./manifests.ts";
import type { Conversion } from "./report.ts";
import { Tenancy } from "./tenancy.ts";

const IDS = { tenantId: "7c9e6679-7425-40de-944b-e07fc1f90ae7", clientId: "550e8400-e29b-41d4-a716-446655440000" };

const manifest = (kind: string, name: string, spec: object, more: object = {}): Manifest => ({
  apiVersion: "external-secrets.io/v1",
  kind,
  metadata: { name, ...(kind !== "ClusterSecretStore" && { namespace: "shop" }) },
  spec,
  source: "test",
  ...more,
});

const azure = (more: object = {}) => ({
  provider: {
    azurekv: {
      authType: "ServicePrincipal",
      vaultUrl: "https://Team.vault.azure.net",
      tenantId: IDS.tenantId,
      authSecretRef: { clientId: { name: "sp", key: "id" }, clientSecret: { name: "sp", key: "secret" } },
      ...more,
    },
  },
});
const store = (more: object = {}): Manifest => manifest("SecretStore", "team", azure(more));

const externalSecret = (spec: object, name = "orders"): Manifest =>
  manifest("ExternalSecret", name, { secretStoreRef: { name: "team" }, ...spec });

const datum = (secretKey: string, key: string, more: object = {}) => ({
  secretKey,
  remoteRef: { key, conversionStrategy: "Default", decodingStrategy: "None", metadataPolicy: "None", ...more },
});

const core = (name: string, data: Readonly<Record<string, string>>): Manifest => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, namespace: "shop" },
  source: "test",
  data: Object.fromEntries(Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString("base64")])),
});

const serviceAccount = (annotations: Record<string, string>): Manifest => ({
  apiVersion: "v1",
  kind: "ServiceAccount",
  metadata: { name: "kv", namespace: "shop", annotations },
  source: "test",
});

function converted(manifests: readonly Manifest[], options: Partial<EsoOptions> = {}): Conversion {
  const tenancy = new Tenancy({ project: "shop", environment: "pro" });
  const given = { tenancy, secrets: new CoreSecrets(manifests), clientId: IDS.clientId, ...options };
  const conversion = convertEso(manifests, given);
  const schemas = { KeyVault: keyVaultSpec, Secret: secretSpec, SyncRule: syncRuleSpec };
  for (const { kind, spec } of conversion.objects) schemas[kind as keyof typeof schemas].parse(spec);
  return conversion;
}

const specs = ({ objects }: Conversion, kind: string) =>
  objects.filter((each) => each.kind === kind).map(({ spec }) => spec);
const told = ({ findings }: Conversion, result = "NotConverted") =>
  findings.filter((finding) => finding.result === result).map(({ field }) => field);

test("an ExternalSecret becomes a Secret that adopts, and a rule that pulls it", () => {
  const conversion = converted([
    store(),
    externalSecret({
      refreshInterval: "1h0m0s",
      target: { name: "orders-db", creationPolicy: "Owner", deletionPolicy: "Retain" },
      data: [datum("username", "orders-user"), datum("password", "secret/orders-password")],
    }),
  ]);
  expect(specs(conversion, "Secret")).toEqual([
    {
      projectRef: { name: "shop" },
      environment: "pro",
      entries: [
        { key: "username", external: {} },
        { key: "password", external: {} },
      ],
      deliver: { secretName: "orders-db", adopt: true },
    },
  ]);
  expect(specs(conversion, "SyncRule")).toEqual([
    {
      projectRef: { name: "shop" },
      environment: "pro",
      secrets: { names: ["orders"] },
      direction: "Pull",
      mappings: [
        { secret: "orders", key: "username", name: "orders-user" },
        { secret: "orders", key: "password", name: "orders-password" },
      ],
      target: { keyVault: { ref: { name: "team" } } },
      interval: "1h",
    },
  ]);
  expect(told(conversion)).toEqual([]);
  expect(
    conversion.findings.find(({ kind, result }) => kind === "ExternalSecret" && result === "Step")?.message,
  ).toContain("kubectl -n shop delete externalsecrets.external-secrets.io orders --cascade=orphan");
});

test("parts of a value and templates become templates; only what was in the core Secret is delivered", () => {
  const conversion = converted([
    store(),
    externalSecret({
      target: {
        template: {
          type: "kubernetes.io/basic-auth",
          metadata: { labels: { team: "shop", owner: "helm" } },
          data: {
            username: "{{ .username }}",
            password: "{{ .password | b64enc }}",
            mode: "fast",
            copy: "{{ .alias }}",
          },
        },
      },
      data: [
        datum("username", "orders", { property: "db.user" }),
        datum("password", "orders-password"),
        datum("alias", "Orders-Password", { decodingStrategy: "Base64" }),
      ],
    }),
  ]);
  expect(specs(conversion, "Secret")[0]).toMatchObject({
    entries: [
      { key: "orders", external: {} },
      { key: "username", template: "{{ orders | json_pointer: '/db/user' }}" },
      { key: "password-source", external: {} },
      { key: "alias", template: "{{ password-source | base64_decode }}" },
      { key: "password", template: "{{ password-source | base64_encode }}" },
      { key: "mode", literal: "fast" },
      { key: "copy", template: "{{ alias }}" },
    ],
    deliver: {
      type: "kubernetes.io/basic-auth",
      labels: { team: "shop" },
      keys: ["username", "password", "mode", "copy"].map((key) => ({ from: key, to: key })),
    },
  });
  expect(told(conversion)).toEqual([]);
  expect(told(conversion, "Remark")).toEqual([
    "spec.target.template.metadata.labels",
    "spec.data[0].remoteRef.property",
    "spec.data[2].remoteRef.decodingStrategy",
  ]);
});

test.each<[field: string, spec: object]>([
  ["spec.data[0].remoteRef.version", { data: [datum("a", "a", { version: "7" })] }],
  ["spec.data[0].remoteRef.key", { data: [datum("a", "cert/a")] }],
  ["spec.data[0].remoteRef.key", { data: [datum("a", "not_a_name")] }],
  ["spec.data[0].remoteRef.metadataPolicy", { data: [datum("a", "a", { metadataPolicy: "Fetch" })] }],
  ["spec.data[0].remoteRef.decodingStrategy", { data: [datum("a", "a", { decodingStrategy: "Auto" })] }],
  ["spec.data[0].remoteRef.property", { data: [datum("a", "a", { property: "a.#.b" })] }],
  [
    "spec.data[0].sourceRef.generatorRef",
    { data: [{ ...datum("a", "a"), sourceRef: { generatorRef: { kind: "UUID" } } }] },
  ],
  ["spec.dataFrom[0]", { dataFrom: [{ extract: { key: "a" } }] }],
  ["spec.target.creationPolicy", { data: [datum("a", "a")], target: { creationPolicy: "Merge" } }],
  ["spec.target.template.type", { data: [datum("a", "a")], target: { template: { type: "helm.sh/release.v1" } } }],
  ["spec.target.template.templateFrom", { data: [datum("a", "a")], target: { template: { templateFrom: [{}] } } }],
  [
    "spec.target.template.data.a",
    { data: [datum("a", "a")], target: { template: { data: { a: "{{ .a | upper }}" } } } },
  ],
  ["spec.secretStoreRef", { data: [datum("a", "a")], secretStoreRef: { name: "unknown" } }],
  ["spec.data", { target: { template: { data: { a: "a" } } } }],
  ["spec.target.manifest", { data: [datum("a", "a")], target: { manifest: { kind: "ConfigMap" } } }],
  ["spec.refreshInterval", { data: [datum("a", "a")], refreshInterval: "often" }],
])("%s without an equal leaves the Secret out", (field, spec) => {
  const conversion = converted([store(), externalSecret(spec)]);
  expect(told(conversion)).toEqual([field]);
  expect(specs(conversion, "Secret")).toEqual([]);
  expect(specs(conversion, "SyncRule")).toEqual([]);
});

test("what changes how it works later is told, and converted all the same", () => {
  const conversion = converted([
    store(),
    externalSecret({
      refreshInterval: "0",
      target: { immutable: true, deletionPolicy: "Delete" },
      data: [datum("a", "a")],
      novelty: { x: 1 },
    }),
  ]);
  expect(told(conversion)).toEqual(["spec.novelty", "spec.target.immutable", "spec.refreshInterval"]);
  expect(told(conversion, "Step")).toContain("spec.target.deletionPolicy");
  expect(specs(conversion, "Secret")).toHaveLength(1);
});

test("keys that only the vault knows come from the core Secret", () => {
  const conversion = converted([
    store(),
    core("orders", { user: "u", "tls.crt": "c", own: "o" }),
    externalSecret({ data: [datum("own", "own")], dataFrom: [{ extract: { key: "orders-json" } }] }),
  ]);
  expect(specs(conversion, "Secret")[0]).toMatchObject({
    entries: [
      { key: "own", external: {} },
      { key: "orders-json", external: {} },
      { key: "user", template: "{{ orders-json | json_pointer: '/user' }}" },
      { key: "tls.crt", template: "{{ orders-json | json_pointer: '/tls.crt' }}" },
    ],
    deliver: { keys: ["own", "user", "tls.crt"].map((key) => ({ from: key, to: key })) },
  });
  expect(told(conversion)).toEqual(["spec.dataFrom[0]"]);
  const found = converted([
    store(),
    core("orders", { "db-user": "u" }),
    externalSecret({ dataFrom: [{ find: { name: { regexp: "db-.*" } } }] }),
  ]);
  expect(specs(found, "SyncRule")[0]).toMatchObject({ mappings: [{ key: "db-user", name: "db-user" }] });
});

test("a core Secret with other keys would not be adopted, so it is told before", () => {
  const conversion = converted([
    store(),
    core("orders", { a: "a", b: "b" }),
    externalSecret({ data: [datum("a", "a")] }),
  ]);
  expect(told(conversion)).toEqual(["spec.target"]);
  expect(JSON.stringify(conversion)).not.toContain(Buffer.from("b").toString("base64"));
});

describe("stores", () => {
  const using = [externalSecret({ data: [datum("a", "a")] })];
  const authOf = (conversion: Conversion) => (specs(conversion, "KeyVault")[0] as { auth?: unknown } | undefined)?.auth;

  test("the client id of a service principal is found in its core Secret, and nothing else is", () => {
    const { clientId } = IDS;
    const found = converted([store(), ...using, core("sp", { id: clientId, secret: "s3cret" })], {
      clientId: undefined,
    });
    expect(specs(found, "KeyVault")).toEqual([
      {
        projectRef: { name: "shop" },
        vaultUrl: "https://team.vault.azure.net",
        auth: { servicePrincipal: { ...IDS, clientSecretRef: { name: "sp", key: "secret" } } },
      },
    ]);
    expect(JSON.stringify(found)).not.toContain("s3cret");
    const swapped = converted([store(), ...using, core("sp", { id: "s3cret" })], { clientId: undefined });
    expect(told(swapped)).toEqual(["spec.provider.azurekv.authSecretRef.clientId"]);
    expect(JSON.stringify(swapped)).not.toContain("s3cret");
    expect(specs(swapped, "KeyVault")).toEqual([]);
    expect(specs(swapped, "Secret")).toHaveLength(1);
  });

  test("a workload identity is told by its ServiceAccount", () => {
    const account = serviceAccount({
      "azure.workload.identity/client-id": IDS.clientId.toUpperCase(),
      "azure.workload.identity/tenant-id": IDS.tenantId,
    });
    const workload = store({ authType: "WorkloadIdentity", tenantId: undefined, serviceAccountRef: { name: "kv" } });
    const own = { clientId: undefined };
    expect(authOf(converted([workload, ...using, account], own))).toEqual({
      workloadIdentity: { ...IDS, serviceAccountRef: { name: "kv" } },
    });
    expect(authOf(converted([workload, ...using], own))).toBeUndefined();
  });

  test("a managed identity needs the Project's word", () => {
    const managed = converted([store({ authType: "ManagedIdentity", identityId: IDS.clientId }), ...using]);
    expect(authOf(managed)).toEqual({ managedIdentity: { clientId: IDS.clientId } });
    expect(managed.findings.map(({ message }) => message).join()).toContain("spec.keyVaults of the Project");
  });

  test("a cluster store is a KeyVault in each namespace that uses it, beside a store of its name", () => {
    const cluster = manifest("ClusterSecretStore", "team", azure());
    const elsewhere = {
      ...externalSecret({ secretStoreRef: { name: "team", kind: "ClusterSecretStore" }, data: [datum("a", "a")] }),
      metadata: { name: "far", namespace: "far" },
    };
    const near = externalSecret(
      { secretStoreRef: { name: "team", kind: "ClusterSecretStore" }, data: [datum("a", "a")] },
      "near",
    );
    const { objects } = converted([store(), cluster, ...using, near, elsewhere]);
    expect(objects.filter(({ kind }) => kind === "KeyVault").map(({ metadata }) => metadata)).toEqual([
      { name: "team", namespace: "shop" },
      { name: "team-cluster", namespace: "shop" },
      { name: "team", namespace: "far" },
    ]);
  });

  test("others are told, with everything that takes from them", () => {
    const aws = manifest("SecretStore", "team", { provider: { aws: { service: "SecretsManager" } } });
    const conversion = converted([aws, ...using]);
    expect(conversion.objects).toEqual([]);
    expect(told(conversion)).toEqual(["spec.secretStoreRef"]);
  });
});

test("one name in the vault for two Secrets takes two rules, since a rule has each once", () => {
  const conversion = converted([
    store(),
    externalSecret({ data: [datum("a", "shared")] }, "one"),
    externalSecret({ data: [datum("b", "Shared")] }, "two"),
    externalSecret({ data: [datum("c", "alone")], refreshInterval: "30s" }, "three"),
  ]);
  expect(specs(conversion, "SyncRule")).toMatchObject([
    { secrets: { names: ["one", "three"] }, interval: "30s" },
    { secrets: { names: ["two"] }, interval: "1h" },
  ]);
});

test("a PushSecret becomes a Secret that follows its core Secret, and a rule that pushes it", () => {
  const push = (spec: object) =>
    manifest(
      "PushSecret",
      "out",
      { secretStoreRefs: [{ name: "team" }], selector: { secret: { name: "made" } }, ...spec },
      { apiVersion: "external-secrets.io/v1alpha1" },
    );
  const data = [{ match: { secretKey: "token", remoteRef: { remoteKey: "shop-token" } } }];
  const conversion = converted([store(), push({ data })]);
  expect(specs(conversion, "Secret")).toMatchObject([
    { entries: [{ key: "token", secretRef: { name: "made", key: "token" } }] },
  ]);
  expect(specs(conversion, "SyncRule")).toMatchObject([
    { direction: "Push", mappings: [{ secret: "out", key: "token", name: "shop-token" }] },
  ]);
  expect(told(converted([store(), push({ data, updatePolicy: "IfNotExists", template: {} })]))).toEqual([
    "spec.template",
    "spec.updatePolicy",
  ]);
});

test("kinds without an equal, and old versions, are told", () => {
  const generator = manifest("Password", "p", {}, { apiVersion: "generators.external-secrets.io/v1alpha1" });
  const old = manifest("ExternalSecret", "old", {}, { apiVersion: "external-secrets.io/v1alpha1" });
  expect(told(converted([generator, old, manifest("ClusterExternalSecret", "c", {})]))).toEqual([
    "kind",
    "apiVersion",
    "kind",
  ]);
});
