/** Manifests whose fields are each well formed, and that make no sense together; and changes that come too late. */
import {
  accessPolicy,
  alternatingSecret,
  caCertificate,
  certificateRequest,
  clusterIssuer,
  endToEndSecret,
  externalIssuer,
  failover,
  gateway,
  gatewayEnvironment,
  issuer,
  keyVault,
  type Manifest,
  orchestratedProject,
  passingRule,
  primaryIssuer,
  project,
  secret,
  syncRule,
  takingRule,
  tlsCertificate,
} from "./valid.ts";

export interface Contradiction {
  readonly title: string;
  readonly manifest: Manifest;
  readonly field: string;
  readonly says: RegExp;
}

export interface ForbiddenChange extends Contradiction {
  /** What the manifest stands for now. */
  readonly before: Manifest;
}

const withSpec = (manifest: Manifest, change: object): Manifest => ({
  ...manifest,
  spec: { ...(manifest.spec as object), ...change },
});

const entries = (...list: object[]): Manifest =>
  withSpec(secret, { entries: list, deliver: undefined, rotation: undefined });
const literal = (key: string) => ({ key, literal: "value" });
const rotating = (rotation: object): Manifest =>
  withSpec(secret, {
    entries: [{ key: "a", generate: { kind: "Hex" } }, literal("b")],
    deliver: undefined,
    rotation,
  });
const applying = (apply: object): Manifest => rotating({ every: "24h", apply });
/** Two roles of PostgreSQL, some of it otherwise. */
function alternating(change: object, entries?: object[], more: object = {}): Manifest {
  const { entries: given, rotation } = alternatingSecret.spec as {
    entries: object[];
    rotation: { apply: { postgres: object } };
  };
  const apply = { postgres: { ...rotation.apply.postgres, ...change } };
  return withSpec(alternatingSecret, { entries: entries ?? given, rotation: { ...rotation, ...more, apply } });
}
const deliver = (change: object): Manifest =>
  withSpec(secret, { entries: [literal("a")], deliver: change, rotation: undefined });
const admitting = (...namespaces: object[]): Manifest => withSpec(project, { namespaces });
const selecting = (selector: object): Manifest => admitting({ selector, environments: ["dev"] });
const authBy = (auth: object): Manifest => withSpec(keyVault, { auth });
const target = (name: string): Manifest => withSpec(syncRule, { target: { keyVault: { ref: { name: "kv" }, name } } });
const copying = (kubernetes: object, spec: object = {}): Manifest =>
  withSpec(syncRule, {
    mappings: undefined,
    interval: undefined,
    deletionPolicy: undefined,
    limits: undefined,
    dryRun: undefined,
    target: { kubernetes: { namespaces: ["jobs"], ...kubernetes } },
    ...spec,
  });
const minimalPassage = { ref: { name: "gw-pro-primary" }, kubernetes: { namespace: "payments" } };
const passing = (kubernetes: object, spec: object = {}): Manifest =>
  withSpec(passingRule, {
    interval: undefined,
    target: { gateway: { ...minimalPassage, kubernetes: { ...minimalPassage.kubernetes, ...kubernetes } } },
    ...spec,
  });
const mappings = (...list: object[]): Manifest => withSpec(syncRule, { mappings: list });

const orders = { serviceAccount: { namespace: "payments", name: "orders" } };
const granting = (rule: object): Manifest =>
  withSpec(accessPolicy, { rules: [{ projects: ["payments"], environments: ["pro"], ...rule }] });
const projectGranting = (item: object): Manifest =>
  withSpec(project, { access: [{ subjects: [orders], environments: ["pro"], role: "reader", ...item }] });
const toSubject = (subject: object): Manifest => withSpec(accessPolicy, { subjects: [subject] });

const oneSource = /set exactly one of literal, generate, secretRef, sealed, external, template/;
const oneMethod = /set exactly one of workloadIdentity, servicePrincipal, managedIdentity/;
const host = /must be https:\/\/ and the host name/;
const values = /values is required for In and NotIn, and not allowed for Exists and DoesNotExist/;
const forms = /must be a duration in hours, minutes and seconds, such as 2160h/;
const bothWords = /must contain \{secret\} and \{key\} once each/;
const allowedKeys = /each key may be app.kubernetes.io\/name, .* without a prefix/;

const secrets: readonly Contradiction[] = [
  {
    title: "an entry has two sources",
    manifest: entries({ key: "a", literal: "x", template: "y" }),
    field: "spec.entries[0]",
    says: oneSource,
  },
  {
    title: "an external entry has a value",
    manifest: entries({ key: "a", external: {}, literal: "x" }),
    field: "spec.entries[0]",
    says: oneSource,
  },
  {
    title: "what MazeVault cannot open is rendered",
    manifest: withSpec(endToEndSecret, { entries: [{ key: "a", template: "x" }] }),
    field: "spec.entries",
    says: /with protection EndToEnd every entry is external/,
  },
  {
    title: "what MazeVault cannot open is delivered",
    manifest: withSpec(endToEndSecret, { deliver: {} }),
    field: "spec.deliver",
    says: /with protection EndToEnd nothing can be delivered/,
  },
  {
    title: "protection EndToEnd has no readers",
    manifest: withSpec(endToEndSecret, { readers: undefined }),
    field: "spec.readers",
    says: /readers is required with protection EndToEnd/,
  },
  {
    title: "what MazeVault opens has readers",
    manifest: withSpec(secret, {
      protection: "Managed",
      readers: (endToEndSecret.spec as { readers: object }).readers,
    }),
    field: "spec.readers",
    says: /not allowed without/,
  },
  {
    title: "a rotation has two timetables",
    manifest: rotating({ every: "24h", schedule: "0 3 * * *" }),
    field: "spec.rotation",
    says: /set exactly one of every, schedule/,
  },
  {
    title: "a rotation has no timetable",
    manifest: rotating({ overlap: "24h" }),
    field: "spec.rotation",
    says: /set exactly one of every, schedule/,
  },
  {
    title: "a rotation goes on all the time",
    manifest: rotating({ every: "59m" }),
    field: "spec.rotation.every",
    says: /must be at least 1h/,
  },
  {
    title: "a rotation is due each minute",
    manifest: rotating({ schedule: "* 3 * * *" }),
    field: "spec.rotation.schedule",
    says: /one number as the minute/,
  },
  {
    title: "a rotation has seconds",
    manifest: rotating({ schedule: "0 0 3 * * *" }),
    field: "spec.rotation.schedule",
    says: /must be minute, hour, day of month, month and day of week/,
  },
  {
    title: "a period has a time zone",
    manifest: rotating({ every: "24h", timeZone: "Europe/Berlin" }),
    field: "spec.rotation.timeZone",
    says: /timeZone is only for schedule and windows/,
  },
  {
    title: "a window opens on a day that is none",
    manifest: rotating({ every: "24h", windows: [{ days: ["Sat"], from: "22:00", to: "04:00" }] }),
    field: "spec.rotation.windows[0].days[0]",
    says: /supported values: .*"Saturday"/,
  },
  {
    title: "a window closes after the day's end",
    manifest: rotating({ every: "24h", windows: [{ from: "22:00", to: "24:00" }] }),
    field: "spec.rotation.windows[0].to",
    says: /must be a time of day from 00:00 to 23:59/,
  },
  {
    title: "what is not generated is rotated",
    manifest: rotating({ every: "24h", keys: ["a", "b"] }),
    field: "spec.rotation.keys",
    says: /every one of rotation.keys must be the key of an entry with generate/,
  },
  {
    title: "nothing that is rotated is generated",
    manifest: withSpec(secret, { entries: [literal("a")], deliver: undefined, rotation: { every: "24h" } }),
    field: "spec.rotation",
    says: /rotation needs an entry with generate/,
  },
  {
    title: "new values are applied in two ways",
    manifest: applying({
      job: { cronJobRef: { name: "rotate" } },
      webhook: { url: "https://example.com/", hmacSecretRef: { name: "rotation", key: "key" } },
    }),
    field: "spec.rotation.apply",
    says: /set exactly one of job, webhook, postgres/,
  },
  {
    title: "new values are told without TLS",
    manifest: applying({ webhook: { url: "http://example.com/", hmacSecretRef: { name: "rotation", key: "key" } } }),
    field: "spec.rotation.apply.webhook.url",
    says: /must be an https URL/,
  },
  {
    title: "one role alternates with itself",
    manifest: alternating({ roles: ["orders_a"] }),
    field: "spec.rotation.apply.postgres.roles",
    says: /should have at least 2 items/,
  },
  {
    title: "a role sets its own password",
    manifest: alternating({ admin: { username: "orders_a", passwordSecretRef: { name: "rotator", key: "password" } } }),
    field: "spec.rotation.apply.postgres.admin.username",
    says: /must not be one of roles/,
  },
  {
    title: "the name of the role stands in the manifest",
    manifest: alternating({}, [
      { key: "username", literal: "orders_a" },
      { key: "password", generate: { kind: "Password" } },
    ]),
    field: "spec.rotation.apply.postgres.username",
    says: /must be the key of an entry with external/,
  },
  {
    title: "a key becomes a password",
    manifest: alternating({}, [
      { key: "username", external: {} },
      { key: "password", generate: { kind: "RSA" } },
    ]),
    field: "spec.rotation.apply.postgres.password",
    says: /must be the key of an entry with generate of kind Password/,
  },
  {
    title: "the password of the roles is not rotated",
    manifest: alternating(
      {},
      [
        { key: "username", external: {} },
        { key: "password", generate: { kind: "Password" } },
        { key: "salt", generate: { kind: "Hex" } },
      ],
      { keys: ["salt"] },
    ),
    field: "spec.rotation.keys",
    says: /rotation.keys must name rotation.apply.postgres.password too/,
  },
  { title: "an entry has no source", manifest: entries({ key: "a" }), field: "spec.entries[0]", says: oneSource },
  {
    title: "a UUID has a length",
    manifest: entries({ key: "a", generate: { kind: "UUID", length: 32 } }),
    field: "spec.entries[0].generate",
    says: /length is only for kind Password/,
  },
  {
    title: "a Password has bytes",
    manifest: entries({ key: "a", generate: { kind: "Password", bytes: 32 } }),
    field: "spec.entries[0].generate",
    says: /bytes is only for kind Hex or Base64/,
  },
  {
    title: "a Hex value excludes characters",
    manifest: entries({ key: "a", generate: { kind: "Hex", exclude: "a" } }),
    field: "spec.entries[0].generate",
    says: /exclude is only for kind Password/,
  },
  {
    title: "a Passphrase has a rule for passwords",
    manifest: entries({ key: "a", generate: { kind: "Passphrase", minimum: { digits: 1 } } }),
    field: "spec.entries[0].generate",
    says: /minimum is only for kind Password/,
  },
  {
    title: "a Hex value has symbols",
    manifest: entries({ key: "a", generate: { kind: "Hex", symbols: "-" } }),
    field: "spec.entries[0].generate",
    says: /symbols is only for kind Password/,
  },
  {
    title: "a Password has words",
    manifest: entries({ key: "a", generate: { kind: "Password", words: 6 } }),
    field: "spec.entries[0].generate",
    says: /words is only for kind Passphrase/,
  },
  {
    title: "a UUID has a separator",
    manifest: entries({ key: "a", generate: { kind: "UUID", separator: "" } }),
    field: "spec.entries[0].generate",
    says: /separator is only for kind Passphrase/,
  },
  {
    title: "a Password is shorter than its parts",
    manifest: entries({ key: "a", generate: { kind: "Password", length: 8, minimum: { digits: 6 } } }),
    field: "spec.entries[0].generate.minimum",
    says: /minimum asks for more characters than length has/,
  },
  {
    title: "a Password of no given length is shorter than its parts",
    manifest: entries({
      key: "a",
      generate: { kind: "Password", minimum: { uppercase: 10, lowercase: 10, digits: 10, symbols: 3 } },
    }),
    field: "spec.entries[0].generate.minimum",
    says: /minimum asks for more characters than length has, 32 when absent/,
  },
  {
    title: "a Password needs symbols and may have none",
    manifest: entries({ key: "a", generate: { kind: "Password", symbols: "", minimum: { symbols: 1 } } }),
    field: "spec.entries[0].generate.minimum",
    says: /minimum.symbols must be 0 or absent when symbols is empty/,
  },
  {
    title: "an RSA key has an algorithm",
    manifest: entries({ key: "a", generate: { kind: "RSA", algorithm: "RSA" } }),
    field: "spec.entries[0].generate",
    says: /algorithm is only for kind SSH/,
  },
  {
    title: "an RSA key is too small",
    manifest: entries({ key: "a", generate: { kind: "RSA", size: 1024 } }),
    field: "spec.entries[0].generate.size",
    says: /size of RSA must be 2048, 3072 or 4096/,
  },
  {
    title: "an EC key has no known curve",
    manifest: entries({ key: "a", generate: { kind: "EC", size: 512 } }),
    field: "spec.entries[0].generate.size",
    says: /size of EC and ECDSA must be 256, 384 or 521/,
  },
  {
    title: "an SSH key with RSA has the size of a curve",
    manifest: entries({ key: "a", generate: { kind: "SSH", algorithm: "RSA", size: 256 } }),
    field: "spec.entries[0].generate.size",
    says: /size of RSA must be/,
  },
  {
    title: "an SSH key with ECDSA has the size of RSA",
    manifest: entries({ key: "a", generate: { kind: "SSH", algorithm: "ECDSA", size: 2048 } }),
    field: "spec.entries[0].generate.size",
    says: /size of EC and ECDSA must be/,
  },
  {
    title: "an SSH key of no given algorithm has a size",
    manifest: entries({ key: "a", generate: { kind: "SSH", size: 2048 } }),
    field: "spec.entries[0].generate",
    says: /size is only for kind RSA or EC, and for SSH with algorithm RSA or ECDSA/,
  },
  {
    title: "an Ed25519 key has a size",
    manifest: entries({ key: "a", generate: { kind: "Ed25519", size: 256 } }),
    field: "spec.entries[0].generate",
    says: /size is only for kind RSA or EC/,
  },
  {
    title: "a WireGuard key has bytes",
    manifest: entries({ key: "a", generate: { kind: "WireGuard", bytes: 32 } }),
    field: "spec.entries[0].generate",
    says: /bytes is only for kind Hex or Base64/,
  },
  {
    title: "deliver.keys names an entry that there is not",
    manifest: deliver({ keys: [{ from: "b", to: "B" }] }),
    field: "spec.deliver.keys",
    says: /every deliver.keys\[\].from must be the key of an entry/,
  },
  {
    title: "overwrite without adopt",
    manifest: deliver({ overwrite: true }),
    field: "spec.deliver",
    says: /overwrite needs adopt: true/,
  },
  {
    title: "overwrite with adopt: false",
    manifest: deliver({ overwrite: true, adopt: false }),
    field: "spec.deliver",
    says: /overwrite needs adopt: true/,
  },
  {
    title: "a TLS Secret without its keys",
    manifest: deliver({ type: "kubernetes.io/tls" }),
    field: "spec.deliver.type",
    says: /needs the delivered keys tls.crt and tls.key; add the entries or map them/,
  },
  {
    title: "a TLS Secret whose mapping leaves out a key",
    manifest: withSpec(secret, {
      entries: [literal("tls.crt"), literal("tls.key")],
      rotation: undefined,
      deliver: { type: "kubernetes.io/tls", keys: [{ from: "tls.crt", to: "tls.crt" }] },
    }),
    field: "spec.deliver.type",
    says: /needs the delivered keys tls.crt and tls.key/,
  },
  {
    title: "a registry login without its key",
    manifest: deliver({ type: "kubernetes.io/dockerconfigjson" }),
    field: "spec.deliver.type",
    says: /needs the delivered keys .dockerconfigjson/,
  },
  {
    title: "a type that hands out identities of the cluster",
    manifest: deliver({ type: "kubernetes.io/service-account-token" }),
    field: "spec.deliver.type",
    says: /supported values: "Opaque"/,
  },
  {
    title: "an entry reads the core Secret that the object delivers under its own name",
    manifest: withSpec(secret, {
      entries: [{ key: "a", secretRef: { name: "orders-db", key: "a" } }],
      deliver: {},
      rotation: undefined,
    }),
    field: "spec.entries",
    says: /refer to another one/,
  },
  {
    title: "an entry reads the core Secret that the object delivers under another name",
    manifest: withSpec(secret, {
      entries: [{ key: "a", secretRef: { name: "mine", key: "a" } }],
      rotation: undefined,
      deliver: { secretName: "mine" },
    }),
    field: "spec.entries",
    says: /refer to another one/,
  },
  ...[
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "argocd.argoproj.io/tracking-id",
    "kustomize.toolkit.fluxcd.io/name",
    "reflector.v1.k8s.emberstack.com/reflection-allowed",
    "meta.helm.sh/release-name",
    "mazevault.io/restart",
    "kubectl.kubernetes.io/last-applied-configuration",
    "example.com/anything",
    "grafana_datasource",
  ].flatMap((key): Contradiction[] => [
    {
      title: `label ${key}`,
      manifest: deliver({ labels: { [key]: "true" } }),
      field: "spec.deliver.labels",
      says: allowedKeys,
    },
    {
      title: `annotation ${key}`,
      manifest: deliver({ annotations: { [key]: "true" } }),
      field: "spec.deliver.annotations",
      says: allowedKeys,
    },
  ]),
  {
    title: "the label by which Helm finds its releases",
    manifest: deliver({ labels: { owner: "helm" } }),
    field: "spec.deliver.labels",
    says: /choose another key/,
  },
  ...["0s", "0h0m", "h1"].map((softDelete) => ({
    title: `retention.softDelete is ${softDelete}`,
    manifest: withSpec(secret, { retention: { softDelete } }),
    field: "spec.retention.softDelete",
    says: softDelete === "h1" ? forms : /must be at least 1s/,
  })),
];

const others: readonly Contradiction[] = [
  {
    title: "the naming speaks of an environment that the project does not declare",
    manifest: withSpec(project, {
      naming: {
        company: "crd",
        project: "mzv",
        zone: "int",
        region: "gwc",
        environments: [{ name: "stg", production: false }],
      },
    }),
    field: "spec.naming.environments",
    says: /every name in naming.environments must be one of environments\[\].name/,
  },
  {
    title: "a namespace is admitted for an environment that there is not",
    manifest: admitting({ name: "a", environments: ["test"] }),
    field: "spec.namespaces",
    says: /must be one of environments\[\].name/,
  },
  {
    title: "name and selector",
    manifest: admitting({ name: "a", selector: { matchLabels: { a: "b" } }, environments: ["dev"] }),
    field: "spec.namespaces[0]",
    says: /set exactly one of name, selector/,
  },
  {
    title: "neither name nor selector",
    manifest: admitting({ environments: ["dev"] }),
    field: "spec.namespaces[0]",
    says: /set exactly one of name, selector/,
  },
  ...[{}, { matchLabels: {} }, { matchExpressions: [] }].map((selector) => ({
    title: `selector ${JSON.stringify(selector)}`,
    manifest: selecting(selector),
    field: "spec.namespaces[0].selector",
    says: /set matchLabels or matchExpressions/,
  })),
  ...[
    { key: "a", operator: "In" },
    { key: "a", operator: "NotIn", values: [] },
    { key: "a", operator: "Exists", values: ["b"] },
    { key: "a", operator: "DoesNotExist", values: [] },
  ].map((expression) => ({
    title: `requirement ${JSON.stringify(expression)}`,
    manifest: selecting({ matchExpressions: [expression] }),
    field: "spec.namespaces[0].selector.matchExpressions[0]",
    says: values,
  })),
  ...[
    "http://a.vault.azure.net/",
    "https://a.vault.azure.net:8443/",
    "https://a.vault.azure.net/secrets",
    "https://user@a.vault.azure.net",
    "https://a.vault.azure.net?x=1",
    "https://A.vault.azure.net",
    "https://localhost",
    "https://a.vault.azure.net.",
  ].flatMap((vaultUrl): Contradiction[] => [
    { title: vaultUrl, manifest: withSpec(keyVault, { vaultUrl }), field: "spec.vaultUrl", says: host },
    {
      title: `listed ${vaultUrl}`,
      manifest: withSpec(project, { keyVaults: [vaultUrl] }),
      field: "spec.keyVaults[0]",
      says: host,
    },
  ]),
  { title: "no way in", manifest: authBy({}), field: "spec.auth", says: oneMethod },
  {
    title: "two ways in",
    manifest: authBy({ ...(keyVault.spec as { auth: object }).auth, managedIdentity: {} }),
    field: "spec.auth",
    says: oneMethod,
  },
  {
    title: "its own identity and a gateway's",
    manifest: authBy({ managedIdentity: {}, gateway: { ref: { name: "gw-pro-primary" } } }),
    field: "spec.auth",
    says: oneMethod,
  },
  ...["npr", "NPR-1"].map(
    (gatewayEnvironment): Contradiction => ({
      title: `an environment of gateways that none can have: ${gatewayEnvironment}`,
      manifest: withSpec(project, { environments: [{ name: "dev", gatewayEnvironment }, { name: "pro" }] }),
      field: "spec.environments[0].gatewayEnvironment",
      says: /must be 1 to 16 capital letters and digits, such as NPR/,
    }),
  ),
  {
    title: "a service principal without credentials",
    manifest: authBy({
      servicePrincipal: {
        tenantId: "11111111-2222-3333-4444-555555555555",
        clientId: "11111111-2222-3333-4444-555555555555",
      },
    }),
    field: "spec.auth.servicePrincipal",
    says: /set exactly one of clientSecretRef, certificateSecretRef/,
  },
  {
    title: "a rule without a target",
    manifest: withSpec(syncRule, { target: {} }),
    field: "spec.target",
    says: /set exactly one of keyVault, kubernetes, gateway/,
  },
  {
    title: "a rule with two targets",
    manifest: withSpec(syncRule, {
      target: { keyVault: { ref: { name: "kv" } }, kubernetes: { namespaces: ["jobs"] } },
    }),
    field: "spec.target",
    says: /set exactly one of keyVault, kubernetes, gateway/,
  },
  {
    title: "core Secrets of two namespaces that both sides may change",
    manifest: copying({ namespaces: ["a", "b"] }, { direction: "Bidirectional", conflictPolicy: "Manual" }),
    field: "spec",
    says: /direction Bidirectional has one namespace; leave one .*, and make a SyncRule for each other one/,
  },
  {
    title: "the newest of two core Secrets, which do not tell their age",
    manifest: copying({}, { direction: "Bidirectional", conflictPolicy: "NewestWins" }),
    field: "spec",
    says: /core Secrets do not tell when a value was set.* set Manual, PlatformWins or TargetWins/,
  },
  {
    title: "core Secrets that both sides may change, without a word on conflicts",
    manifest: copying({}, { direction: "Bidirectional" }),
    field: "spec",
    says: /direction Bidirectional needs conflictPolicy/,
  },
  {
    title: "mappings of a vault for core Secrets",
    manifest: copying({}, { mappings: [{ secret: "a", key: "a", name: "Pwd" }] }),
    field: "spec",
    says: /use target.kubernetes.keys/,
  },
  ...[{ deletionPolicy: "Delete" }, { limits: { deletions: 1 } }, { dryRun: true }].map((safety) => ({
    title: `${Object.keys(safety)[0]} where nothing is deleted`,
    manifest: copying({}, safety),
    field: "spec",
    says: /are for target.keyVault; core Secrets stay as they are/,
  })),
  {
    title: "an interval for what is watched",
    manifest: copying({}, { interval: "60s" }),
    field: "spec",
    says: /core Secrets are watched, so leave it out/,
  },
  {
    title: "no namespace",
    manifest: copying({ namespaces: [] }),
    field: "spec.target.kubernetes.namespaces",
    says: /at least 1 item/,
  },
  {
    title: "one namespace twice",
    manifest: copying({ namespaces: ["jobs", "jobs"] }),
    field: "spec.target.kubernetes.namespaces[1]",
    says: /Duplicate value/,
  },
  ...["orders-db", "{secret}{secret}", "{secret}-{namespace}", "-{secret}", "{secret}-", "A{secret}"].map(
    (secretName) => ({
      title: `core Secrets named ${secretName}`,
      manifest: copying({ secretName }),
      field: "spec.target.kubernetes.secretName",
      says: /must contain \{secret\} once/,
    }),
  ),
  {
    title: "two entries under one key",
    manifest: copying({
      keys: [
        { from: "a", to: "X" },
        { from: "b", to: "X" },
      ],
    }),
    field: "spec.target.kubernetes.keys[1]",
    says: /Duplicate value/,
  },
  {
    title: "one entry under two keys",
    manifest: copying({
      keys: [
        { from: "a", to: "X" },
        { from: "a", to: "Y" },
      ],
    }),
    field: "spec.target.kubernetes",
    says: /two keys may not have the same from/,
  },
  {
    title: "labels on which controllers act",
    manifest: copying({ labels: { "argocd.argoproj.io/instance": "x" } }),
    field: "spec.target.kubernetes.labels",
    says: /on other keys controllers may act/,
  },
  {
    title: "identities of the cluster",
    manifest: copying({ type: "kubernetes.io/service-account-token" }),
    field: "spec.target.kubernetes.type",
    says: /supported values/,
  },
  {
    title: "a vault and a gateway's cluster",
    manifest: passing({}, { target: { keyVault: { ref: { name: "kv" } }, gateway: minimalPassage } }),
    field: "spec.target",
    says: /set exactly one of keyVault, kubernetes, gateway/,
  },
  ...[{ direction: "Pull" }, { direction: "Bidirectional", conflictPolicy: "Manual" }].map((wishes) => ({
    title: `direction ${wishes.direction} through a gateway`,
    manifest: passing({}, wishes),
    field: "spec",
    says: /target.gateway has direction Push only; set Push/,
  })),
  {
    title: "mappings of a vault for a gateway's cluster",
    manifest: passing({}, { mappings: [{ secret: "a", key: "a", name: "Pwd" }] }),
    field: "spec",
    says: /use target.gateway.kubernetes.keys/,
  },
  ...[{ deletionPolicy: "Delete" }, { limits: { deletions: 1 } }, { dryRun: true }].map((safety) => ({
    title: `${Object.keys(safety)[0]} through a gateway`,
    manifest: passing({}, safety),
    field: "spec",
    says: /are for target.keyVault; core Secrets of a gateway stay as they are/,
  })),
  {
    title: "one entry under two keys of a gateway's cluster",
    manifest: passing({
      keys: [
        { from: "a", to: "X" },
        { from: "a", to: "Y" },
      ],
    }),
    field: "spec.target.gateway.kubernetes",
    says: /two keys may not have the same from/,
  },
  {
    title: "labels on which controllers of a gateway's cluster act",
    manifest: passing({ labels: { "argocd.argoproj.io/instance": "x" } }),
    field: "spec.target.gateway.kubernetes.labels",
    says: /on other keys controllers may act/,
  },
  {
    title: "identities of a gateway's cluster",
    manifest: passing({ type: "kubernetes.io/service-account-token" }),
    field: "spec.target.gateway.kubernetes.type",
    says: /supported values/,
  },
  {
    title: "an environment of gateways in small letters",
    manifest: withSpec(project, { environments: [{ name: "dev", gatewayEnvironment: "npr" }], namespaces: [] }),
    field: "spec.environments[0].gatewayEnvironment",
    says: /1 to 16 capital letters and digits/,
  },
  {
    title: "taking from two namespaces",
    manifest: withSpec(takingRule, { target: { kubernetes: { namespaces: ["a", "b"] } } }),
    field: "spec",
    says: /direction Pull takes from one namespace/,
  },
  {
    title: "taking over what is only read",
    manifest: withSpec(takingRule, { target: { kubernetes: { namespaces: ["a"], adopt: true } } }),
    field: "spec",
    says: /direction Pull writes nothing there/,
  },
  {
    title: "secrets without a choice",
    manifest: withSpec(syncRule, { secrets: {} }),
    field: "spec.secrets",
    says: /leave out secrets for all/,
  },
  {
    title: "both sides may change, and nothing says which value they have after both did",
    manifest: withSpec(syncRule, { direction: "Bidirectional" }),
    field: "spec",
    says: /direction Bidirectional needs conflictPolicy: Manual, NewestWins, PlatformWins or TargetWins/,
  },
  {
    title: "a conflict policy where there is no conflict",
    manifest: withSpec(syncRule, { conflictPolicy: "TargetWins" }),
    field: "spec",
    says: /conflictPolicy is only for direction Bidirectional/,
  },
  {
    title: "a rule that only takes over and shall delete",
    manifest: withSpec(syncRule, { direction: "Pull", deletionPolicy: "Delete" }),
    field: "spec",
    says: /direction Pull never deletes in the vault; leave out deletionPolicy/,
  },
  {
    title: "limits that limit nothing",
    manifest: withSpec(syncRule, { limits: { minimum: 3 } }),
    field: "spec.limits",
    says: /set deletions, changes or both/,
  },
  {
    title: "a limit of more than everything",
    manifest: withSpec(syncRule, { limits: { changes: "150%" } }),
    field: "spec.limits.changes",
    says: /must be a number of entries or a percentage/,
  },
  {
    title: "two mappings to one name in other case",
    manifest: mappings({ secret: "a", key: "a", name: "Pwd" }, { secret: "a", key: "b", name: "pwd" }),
    field: "spec.mappings",
    says: /two mappings may not have the same name/,
  },
  {
    title: "two mappings of one entry",
    manifest: mappings({ secret: "a", key: "a", name: "one" }, { secret: "a", key: "a", name: "two" }),
    field: "spec.mappings[1]",
    says: /Duplicate value/,
  },
  ...["{secret}-{secret}", "{secret}{key}---", "{namespace}-{secret}-{key}", "{secret}_and_{key}"].map((pattern) => ({
    title: `name pattern ${pattern}`,
    manifest: target(pattern),
    field: "spec.target.keyVault.name",
    says: bothWords,
  })),
  ...["9s", "0m", "", "h", "1h30", "1.5h", "-60s", "60", "1s1h"].map((interval) => ({
    title: `interval ${JSON.stringify(interval)}`,
    manifest: withSpec(syncRule, { interval }),
    field: "spec.interval",
    says: ["9s", "0m"].includes(interval) ? /must be at least 10s/ : forms,
  })),
];

const ca = (change: object): Manifest => withSpec(issuer, { ca: { subject: { commonName: "CA" }, ...change } });
const allowing = (change: object): Manifest => withSpec(issuer, { policy: change });
const certificate = (change: object): Manifest =>
  withSpec(tlsCertificate, { literalSubject: undefined, privateKey: undefined, ...change });
const unnamed = {
  commonName: undefined,
  dnsNames: undefined,
  ipAddresses: undefined,
  uris: undefined,
  otherNames: undefined,
  emailAddresses: undefined,
};

const signingRequest = certificateRequest.spec as { request: string };

const ofPrimary = { issuerRef: { kind: "ClusterIssuer", name: "payments-ca" } };
const pki: readonly Contradiction[] = [
  { title: "no CA", manifest: withSpec(issuer, { ca: undefined }), field: "spec", says: /set exactly one of ca/ },
  {
    title: "a CA here and at the primary",
    manifest: withSpec(primaryIssuer, { ca: { subject: { commonName: "CA" } } }),
    field: "spec",
    says: /set exactly one of ca, primary/,
  },
  {
    title: "a tenant has the primary sign past what the cluster's issuers allow",
    manifest: withSpec(issuer, { ca: undefined, policy: undefined, revocation: undefined, primary: ofPrimary }),
    field: "spec.primary",
    says: /who may have the primary sign is for the cluster to say; use a ClusterIssuer that lists this namespace/,
  },
  {
    title: "revocations of what the primary signs, published here",
    manifest: withSpec(primaryIssuer, { revocation: { crl: { every: "1h" } } }),
    field: "spec.revocation",
    says: /the primary publishes revocations of what it signs; remove revocation/,
  },
  {
    title: "a CA below one of the primary",
    manifest: withSpec(primaryIssuer, { policy: { allowSubordinates: {} } }),
    field: "spec.policy.allowSubordinates",
    says: /the primary signs no CA for a gateway; remove allowSubordinates/,
  },
  {
    title: "gateways of a gateway",
    manifest: withSpec(primaryIssuer, { gatewayEnvironments: ["NPR"] }),
    field: "spec.gatewayEnvironments",
    says: /a gateway has no gateways; remove gatewayEnvironments/,
  },
  {
    title: "an environment of gateways in small letters",
    manifest: withSpec(clusterIssuer, { gatewayEnvironments: ["npr"] }),
    field: "spec.gatewayEnvironments[0]",
    says: /must be 1 to 16 capital letters and digits/,
  },
  {
    title: "a ClusterIssuer below an Issuer",
    manifest: withSpec(clusterIssuer, {
      ca: { subject: { commonName: "CA" }, parentRef: { kind: "Issuer", name: "root" } },
    }),
    field: "spec.ca.parentRef.kind",
    says: /must be a ClusterIssuer/,
  },
  {
    title: "a CA that two others would sign",
    manifest: ca({ parentRef: { kind: "Issuer", name: "root" }, external: {} }),
    field: "spec.ca",
    says: /set parentRef or external, not both/,
  },
  ...[{ duration: "8760h" }, { nameConstraints: { permitted: { dnsDomains: ["svc"] } } }].map((decided) => ({
    title: `an external CA that decides on ${Object.keys(decided)}`,
    manifest: ca({ external: {}, ...decided }),
    field: "spec.ca",
    says: /whoever signs an external CA decides on duration and nameConstraints; remove them/,
  })),
  {
    title: "an external CA with an empty certificate",
    manifest: ca({ external: { certificate: "" } }),
    field: "spec.ca.external.certificate",
    says: /at least 1/,
  },
  {
    title: "an Issuer that lists namespaces",
    manifest: withSpec(issuer, { namespaces: { names: ["payments"] } }),
    field: "spec.namespaces",
    says: /unknown field/,
  },
  ...[{}, { names: ["a"], selector: { matchLabels: { a: "b" } } }].map((namespaces) => ({
    title: `namespaces ${JSON.stringify(namespaces)}`,
    manifest: withSpec(clusterIssuer, { namespaces }),
    field: "spec.namespaces",
    says: /set exactly one of names, selector/,
  })),
  ...[
    { key: { algorithm: "RSA", size: 1024 }, says: /size of RSA must be 2048, 3072 or 4096/ },
    { key: { algorithm: "ECDSA", size: 2048 }, says: /size of ECDSA must be 256, 384 or 521/ },
    { key: { size: 3072 }, says: /size of ECDSA must be 256, 384 or 521/ },
    { key: { algorithm: "Ed25519", size: 256 }, says: /size is only for RSA and ECDSA/ },
  ].flatMap(({ key, says }): Contradiction[] => [
    { title: `a CA with the key ${JSON.stringify(key)}`, manifest: ca({ key }), field: "spec.ca.key", says },
    {
      title: `a certificate with the key ${JSON.stringify(key)}`,
      manifest: certificate({ privateKey: key }),
      field: "spec.privateKey",
      says,
    },
  ]),
  {
    title: "name constraints without names",
    manifest: ca({ nameConstraints: {} }),
    field: "spec.ca.nameConstraints",
    says: /set permitted, excluded or both/,
  },
  {
    title: "permitted names of no kind",
    manifest: ca({ nameConstraints: { permitted: {} } }),
    field: "spec.ca.nameConstraints.permitted",
    says: /set at least one of dnsDomains/,
  },
  {
    title: "a namespace in the constraints of a CA itself",
    manifest: ca({ nameConstraints: { permitted: { dnsDomains: ["{namespace}.svc"] } } }),
    field: "spec.ca.nameConstraints.permitted.dnsDomains[0]",
    says: /must be a domain/,
  },
  ...["*", "a.*.svc", "*.{name}.svc", "a..b", ".svc", "a b.svc", "a/b"].map((name) => ({
    title: `allowed DNS name ${name}`,
    manifest: allowing({ dnsNames: [name] }),
    field: "spec.policy.dnsNames[0]",
    says: /must be a DNS name, such as \*\.example\.com or \*\.\{namespace\}\.svc/,
  })),
  ...["10.0.0.1", "10.0.0.0/33", "example.com"].map((range) => ({
    title: `range ${range}`,
    manifest: allowing({ ipRanges: [range] }),
    field: "spec.policy.ipRanges[0]",
    says: /must be a range of IP addresses/,
  })),
  {
    title: "a certificate without a name",
    manifest: certificate(unnamed),
    field: "spec",
    says: /the certificate needs a name/,
  },
  {
    title: "two subjects",
    manifest: certificate({ literalSubject: "CN=orders" }),
    field: "spec.literalSubject",
    says: /leave out commonName and subject/,
  },
  {
    title: "two times of renewal",
    manifest: certificate({ renewBeforePercentage: 30 }),
    field: "spec.renewBefore",
    says: /set renewBefore or renewBeforePercentage, not both/,
  },
  {
    title: "renewed before it began",
    manifest: certificate({ duration: "1h", renewBefore: "1h" }),
    field: "spec.renewBefore",
    says: /must be shorter than duration/,
  },
  {
    title: "renewed before it began, by the default duration",
    manifest: certificate({ duration: undefined, renewBefore: "2160h" }),
    field: "spec.renewBefore",
    says: /must be shorter than duration \(2160h when absent\)/,
  },
  {
    title: "too short",
    manifest: certificate({ duration: "299s" }),
    field: "spec.duration",
    says: /must be at least 5m/,
  },
  {
    title: "usages and a profile",
    manifest: certificate({ profile: "Client" }),
    field: "spec.usages",
    says: /set usages or profile, not both/,
  },
  ...["cert sign", "crl sign"].map((usage) => ({
    title: `the usage ${usage} without a CA`,
    manifest: certificate({ usages: ["digital signature", usage] }),
    field: "spec.usages",
    says: /cert sign and crl sign are for a CA; set isCA, or leave them out/,
  })),
  ...[undefined, false].map((isCA) => ({
    title: `name constraints with isCA: ${isCA}`,
    manifest: certificate({ isCA, nameConstraints: { permitted: { dnsDomains: ["example.com"] } } }),
    field: "spec.nameConstraints",
    says: /name constraints are for a CA; set isCA, or leave them out/,
  })),
  {
    title: "name constraints that are not critical",
    manifest: withSpec(caCertificate, {
      nameConstraints: { critical: false, permitted: { dnsDomains: ["example.com"] } },
    }),
    field: "spec.nameConstraints.critical",
    says: /always critical \(RFC 5280, section 4\.2\.1\.10\); set true, or leave it out/,
  },
  {
    title: "critical name constraints without names",
    manifest: withSpec(caCertificate, { nameConstraints: { critical: true } }),
    field: "spec.nameConstraints",
    says: /set permitted, excluded or both/,
  },
  {
    title: "a CA with a profile",
    manifest: withSpec(caCertificate, { profile: "Server", usages: undefined }),
    field: "spec.profile",
    says: /profiles are for certificates that are not a CA's/,
  },
  {
    title: "a CA whose key would go to gateways",
    manifest: withSpec(caCertificate, { gateways: { environment: "NPR" } }),
    field: "spec.gateways",
    says: /the key of a CA does not go to gateways; leave gateways or isCA out/,
  },
  {
    title: "a CA without a subject",
    manifest: withSpec(caCertificate, { commonName: undefined, dnsNames: ["mesh.example.com"] }),
    field: "spec.isCA",
    says: /a CA needs a subject; set commonName, subject or literalSubject/,
  },
  {
    title: "a compromised CA that is none",
    manifest: certificate({ revocations: [{ serialNumber: "3f", reason: "cACompromise" }] }),
    field: "spec.revocations",
    says: /cACompromise is for a CA; set isCA, or give keyCompromise/,
  },
  {
    title: "no revision at all",
    manifest: certificate({ revisionHistoryLimit: 0 }),
    field: "spec.revisionHistoryLimit",
    says: /greater than or equal to 1/,
  },
  {
    title: "a usage that no profile has",
    manifest: certificate({ usages: ["code signing"] }),
    field: "spec.usages[0]",
    says: /supported values: "digital signature"/,
  },
  {
    title: "Ed25519 in PKCS1",
    manifest: certificate({ privateKey: { algorithm: "Ed25519", encoding: "PKCS1" } }),
    field: "spec.privateKey",
    says: /PKCS8 only/,
  },
  {
    title: "a revoked serial number twice",
    manifest: certificate({
      revocations: [
        { serialNumber: "3f", reason: "superseded" },
        { serialNumber: "3f", reason: "keyCompromise" },
      ],
    }),
    field: "spec.revocations[1]",
    says: /Duplicate value/,
  },
  ...["3", "3f:", "3f:0", "0x3f", "3f-0a"].map((serialNumber) => ({
    title: `serial number ${serialNumber}`,
    manifest: certificate({ revocations: [{ serialNumber, reason: "superseded" }] }),
    field: "spec.revocations[0].serialNumber",
    says: /must be the bytes in hexadecimal|at least 2 chars/,
  })),
  ...["*", "a.*", "a..b", "a b", "https://a", "a:443", "{namespace}.svc"].map((name) => ({
    title: `DNS name ${name}`,
    manifest: certificate({ dnsNames: [name] }),
    field: "spec.dnsNames[0]",
    says: /must be a DNS name/,
  })),
  ...["1", "1.02", "3.1", "upn", "1.2."].map((oid) => ({
    title: `object identifier ${oid}`,
    manifest: certificate({ otherNames: [{ oid, utf8Value: "orders" }] }),
    field: "spec.otherNames[0].oid",
    says: /must be an object identifier|at least 3 chars/,
  })),
  ...["10.0.0", "10.0.0.0/8", "fd00::g", "a.b"].map((address) => ({
    title: `IP address ${address}`,
    manifest: certificate({ ipAddresses: [address] }),
    field: "spec.ipAddresses[0]",
    says: /must be an IP address/,
  })),
  ...(["pkcs12", "jks"] as const).map((format) => ({
    title: `a password in the core Secret that is delivered: ${format}`,
    manifest: certificate({
      keystores: { [format]: { create: true, passwordSecretRef: { name: "orders-tls", key: "password" } } },
    }),
    field: `spec.keystores.${format}.passwordSecretRef.name`,
    says: /must stand in another core Secret than spec\.secretName/,
  })),
  {
    title: "keystores in no format",
    manifest: certificate({ keystores: {} }),
    field: "spec.keystores",
    says: /set pkcs12, jks or both/,
  },
  {
    title: "an alias that ends with a space",
    manifest: certificate({
      keystores: { jks: { create: true, passwordSecretRef: { name: "a", key: "b" }, alias: "orders " } },
    }),
    field: "spec.keystores.jks.alias",
    says: /must be printable ASCII/,
  },
  {
    title: "an output format twice",
    manifest: certificate({ additionalOutputFormats: [{ type: "DER" }, { type: "DER" }] }),
    field: "spec.additionalOutputFormats[1]",
    says: /Duplicate value/,
  },
  {
    title: "an output format that there is not",
    manifest: certificate({ additionalOutputFormats: [{ type: "PEM" }] }),
    field: "spec.additionalOutputFormats[0].type",
    says: /supported values: "DER", "CombinedPEM"/,
  },
  {
    title: "an adopted core Secret that is overwritten without being adopted",
    manifest: certificate({ adopt: false }),
    field: "spec",
    says: /overwrite needs adopt: true/,
  },
  {
    title: "a label on which controllers act",
    manifest: certificate({ secretTemplate: { labels: { "argocd.argoproj.io/instance": "a" } } }),
    field: "spec.secretTemplate.labels",
    says: allowedKeys,
  },
  {
    title: "a request with usages and a profile",
    manifest: withSpec(certificateRequest, { profile: "Server" }),
    field: "spec.usages",
    says: /set usages or profile, not both/,
  },
  {
    title: "a request that is too short",
    manifest: withSpec(certificateRequest, { duration: "299s" }),
    field: "spec.duration",
    says: /must be at least 5m/,
  },
  ...[
    `${signingRequest.request}${signingRequest.request}`,
    signingRequest.request.replaceAll("CERTIFICATE REQUEST", "CERTIFICATE"),
    `Certificate Request:\n${signingRequest.request}`,
    `${"A".repeat(64)}-_`,
  ].map((request, index) => ({
    title: `a request that is none (${index + 1})`,
    manifest: withSpec(certificateRequest, { request }),
    field: "spec.request",
    says: /must be one PKCS #10 request/,
  })),
];

const oneSubject = /set exactly one of localUser, serviceAccount, clientCertificate/;
const roleOrVerbs = /set exactly one of role, verbs/;

const access: readonly Contradiction[] = [
  {
    title: "a subject is two at once",
    manifest: toSubject({ ...orders, localUser: { id: "0197f0a4" } }),
    field: "spec.subjects[0]",
    says: oneSubject,
  },
  { title: "a subject is nobody", manifest: toSubject({}), field: "spec.subjects[0]", says: oneSubject },
  {
    title: "a user is named by email address",
    manifest: toSubject({ localUser: { id: "ada@example.com" } }),
    field: "spec.subjects[0].localUser.id",
    says: /must be the user's id, which mazevault users list tells; it never changes, an email address may/,
  },
  {
    title: "a client certificate has a name and a fingerprint",
    manifest: toSubject({ clientCertificate: { name: "orders", fingerprint: "0f".repeat(32) } }),
    field: "spec.subjects[0].clientCertificate",
    says: /set exactly one of name, fingerprint/,
  },
  {
    title: "a fingerprint is that of SHA-1",
    manifest: toSubject({ clientCertificate: { fingerprint: "0F:".repeat(22).slice(0, -1) } }),
    field: "spec.subjects[0].clientCertificate.fingerprint",
    says: /must be the SHA-256 fingerprint of the certificate, 32 bytes/,
  },
  {
    title: "a rule has a role and verbs",
    manifest: granting({ role: "reader", verbs: ["write"] }),
    field: "spec.rules[0]",
    says: roleOrVerbs,
  },
  { title: "a rule grants nothing", manifest: granting({}), field: "spec.rules[0]", says: roleOrVerbs },
  {
    title: "a policy of a namespace administers the project",
    manifest: granting({ verbs: ["list", "administer"] }),
    field: "spec.rules[0].verbs",
    says: /grant it in the Project's spec.access/,
  },
  {
    title: "a project grants a role and verbs",
    manifest: projectGranting({ verbs: ["list"] }),
    field: "spec.access[0]",
    says: roleOrVerbs,
  },
  {
    title: "a project keeps its values in a Key Vault that it does not name",
    manifest: withSpec(project, { storage: "Orchestrator" }),
    field: "spec.environments",
    says: /storage Orchestrator needs environments\[\].keyVault of every environment/,
  },
  {
    title: "a project names a Key Vault for values that are in PostgreSQL",
    manifest: withSpec(orchestratedProject, { storage: "Platform" }),
    field: "spec.environments",
    says: /environments\[\].keyVault is only for storage Orchestrator/,
  },
  {
    title: "a project grants an environment that it does not have",
    manifest: projectGranting({ environments: ["pro", "test"] }),
    field: "spec.access",
    says: /every name in access\[\].environments must be one of environments\[\].name/,
  },
];

const fleet: readonly Contradiction[] = [
  ...["gw.npr.primary", "g".repeat(64)].map((name) => ({
    title: `it is named ${name}`,
    manifest: { ...gateway, metadata: { name } },
    field: "<nil>",
    says: /metadata.name must have at most 63 characters and no dot/,
  })),
  {
    title: "an environment has a long name",
    manifest: { ...gatewayEnvironment, metadata: { name: "n".repeat(64) } },
    field: "<nil>",
    says: /metadata.name must have at most 63 characters/,
  },
  {
    title: "an environment has one gateway on both sides",
    manifest: withSpec(gatewayEnvironment, { standbyRef: { name: "gw-npr-primary" } }),
    field: "spec.standbyRef",
    says: /must be another Gateway than primaryRef names/,
  },
];

export const contradictions: readonly Contradiction[] = [...secrets, ...others, ...pki, ...access, ...fleet];

/** A change to a stored manifest, by a merge of its spec. */
const change = (title: string, before: Manifest, to: object, field: string, says: RegExp): ForbiddenChange => ({
  title,
  before,
  manifest: withSpec(before, to),
  field,
  says,
});

const otherProject = { projectRef: { name: "other" } };

export const forbiddenChanges: readonly ForbiddenChange[] = [
  change("a Secret moves to another project", secret, otherProject, "spec.projectRef", /create a new Secret/),
  change(
    "a Secret gives up its protection",
    endToEndSecret,
    { protection: undefined, readers: undefined },
    "spec.protection",
    /protection is immutable; create a new Secret/,
  ),
  change("a Secret moves to dev", secret, { environment: "dev" }, "spec.environment", /create a new Secret/),
  change(
    "the type of the same core Secret changes",
    secret,
    { deliver: { secretName: "orders-db-credentials", type: "kubernetes.io/basic-auth" } },
    "spec.deliver.type",
    /deliver to another secretName/,
  ),
  change(
    "the values of a project leave PostgreSQL",
    project,
    {
      storage: "Orchestrator",
      environments: ["dev", "pro"].map((name) => ({ name, keyVault: { namespace: "payments", name: "shop-pro" } })),
    },
    "spec.storage",
    /storage is immutable/,
  ),
  change(
    "the values of a project move into PostgreSQL",
    orchestratedProject,
    { storage: undefined, environments: [{ name: "pro" }] },
    "spec.storage",
    /storage is immutable/,
  ),
  change(
    "the values of an environment move to another vault",
    orchestratedProject,
    { environments: [{ name: "pro", keyVault: { namespace: "payments", name: "other" } }] },
    "spec.environments[0].keyVault",
    /keyVault is immutable, since the values are in that vault/,
  ),
  change("a KeyVault moves to another project", keyVault, otherProject, "spec.projectRef", /create a new KeyVault/),
  change(
    "a KeyVault points to another vault",
    keyVault,
    { vaultUrl: "https://elsewhere.vault.azure.net/" },
    "spec.vaultUrl",
    /create a new KeyVault/,
  ),
  change("a SyncRule moves to another project", syncRule, otherProject, "spec.projectRef", /create a new SyncRule/),
  change(
    "a CA gets another subject",
    issuer,
    { ca: { subject: { commonName: "Another" } } },
    "spec.ca",
    /ca is immutable but for external.certificate; create a new issuer/,
  ),
  change(
    "a CA gets another key",
    clusterIssuer,
    { ca: { ...(clusterIssuer.spec as { ca: object }).ca, key: { algorithm: "RSA" } } },
    "spec.ca",
    /ca is immutable but for external.certificate; create a new issuer/,
  ),
  change(
    "what the primary signs is to be signed by another CA there",
    primaryIssuer,
    { primary: { issuerRef: { name: "other-ca" } } },
    "spec.primary",
    /primary is immutable; create a new issuer under another name/,
  ),
  change(
    "what the primary signs is to be signed here",
    primaryIssuer,
    { primary: undefined, ca: { subject: { commonName: "CA" } } },
    "spec",
    /ca and primary cannot take each other's place; create a new issuer/,
  ),
  change(
    "an external CA gets another key",
    externalIssuer,
    { ca: { ...(externalIssuer.spec as { ca: object }).ca, key: { algorithm: "RSA", size: 4096 } } },
    "spec.ca",
    /ca is immutable but for external.certificate; create a new issuer/,
  ),
  change(
    "an external CA becomes a root",
    externalIssuer,
    { ca: { ...(externalIssuer.spec as { ca: object }).ca, external: undefined } },
    "spec.ca",
    /ca is immutable but for external.certificate; create a new issuer/,
  ),
  ...[{ duration: "721h" }, { issuerRef: { name: "orders-ca" } }, { usages: ["server auth"] }].map((to) =>
    change(
      `a request changes its ${Object.keys(to).join()}`,
      certificateRequest,
      to,
      "spec",
      /create a new CertificateRequest/,
    ),
  ),
  change(
    "a revocation is taken back",
    withSpec(certificateRequest, { revocation: { reason: "keyCompromise" } }),
    { revocation: undefined },
    "spec.revocation",
    /is final; only certificateHold can be taken out, or made another reason/,
  ),
  change(
    "a revocation becomes a hold",
    withSpec(certificateRequest, { revocation: { reason: "keyCompromise" } }),
    { revocation: { reason: "certificateHold" } },
    "spec.revocation",
    /is final; only certificateHold can be taken out, or made another reason/,
  ),
  ...(["environment", "role"] as const).flatMap((field) => {
    const says = new RegExp(`${field} is immutable once it is set; delete the Gateway, which revokes it`);
    const other = { environment: "PRO", role: "primary" }[field];
    return [
      change(`a Gateway gets another ${field}`, gateway, { [field]: other }, `spec.${field}`, says),
      change(`a Gateway gives up its ${field}`, gateway, { [field]: undefined }, `spec.${field}`, says),
    ];
  }),
  ...(["environment", "primaryRef", "standbyRef"] as const).map((field) => {
    const other = { environment: "PRO", primaryRef: { name: "gw-npr-2" }, standbyRef: { name: "gw-npr-2" } }[field];
    const says = new RegExp(`${field} is immutable; delete the GatewayEnvironment`);
    return change(
      `a GatewayEnvironment gets another ${field}`,
      gatewayEnvironment,
      { [field]: other },
      `spec.${field}`,
      says,
    );
  }),
  change("a Failover goes the other way", failover, { activate: "Primary" }, "spec", /create another one/),
  change("a Failover is not forced any more", failover, { force: undefined }, "spec", /create another one/),
  change("a SyncRule moves to dev", syncRule, { environment: "dev" }, "spec.environment", /create a new SyncRule/),
];
