/**
 * Manifests that cannot work. What the API server can know it refuses; the rest gets a condition. Either way the message
 * names the field and the fix, nothing crashes, and the corrected manifest works without anybody restarting anything.
 */
import { readFileSync } from "node:fs";
import { get } from "node:http";
import { azure, type Operator } from "../lab/mazevault.ts";
import { conditionOf, type KubernetesObject, secretManifest, startWorld, type World } from "./harness.ts";

/** Its ServiceAccount `kv` is one that the identity at the vault trusts. */
const TEAM = "payments";
/** Exists, and no Project admits it. */
const STRANGERS = "strangers";
const [vault] = azure.vaults;

let world: World;
let operator: Operator;
let pid: number | undefined;

type Manifest = object;

/** A wrong manifest, what is said about it, and the correction that the message leads to. */
interface Refusal {
  readonly title: string;
  /** The last one is the one that cannot work. */
  readonly wrong: readonly Manifest[];
  readonly reason: string;
  /** The field, or whatever the user has to look at, and the way out. */
  readonly says: readonly (string | RegExp)[];
  corrected(): readonly Manifest[];
  /** Becomes Ready; the wrong one when absent. */
  readonly becomesReady?: Manifest;
}

const api = "mazevault.io/v1";
const project = (name: string, spec: object): Manifest => ({
  apiVersion: api,
  kind: "Project",
  metadata: { name },
  spec,
});
const secret = (name: string, entries: readonly object[], spec: object = {}): Manifest =>
  secretManifest(TEAM, name, { entries, ...spec });
const literal = (key: string, value = "a value"): object => ({ key, literal: value });
const template = (key: string, text: string): object => ({ key, template: text });

const coreSecret = (name: string, data: Readonly<Record<string, string>>, type = "Opaque"): Manifest => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, namespace: TEAM },
  type,
  stringData: data,
});

const account = (name: string): Manifest => ({
  apiVersion: "v1",
  kind: "ServiceAccount",
  metadata: { name, namespace: TEAM },
});

const servicePrincipal = (credential: object): object => ({
  servicePrincipal: { tenantId: azure.tenantId, clientId: azure.servicePrincipal, ...credential },
});
const bySecret = (name: string, key = "secret"): object => servicePrincipal({ clientSecretRef: { name, key } });

const asAccount = {
  workloadIdentity: {
    tenantId: azure.tenantId,
    clientId: azure.workloadIdentity,
    serviceAccountRef: { name: "kv" },
  },
};

const keyVault = (name: string, auth: object, spec: object = {}): Manifest => ({
  apiVersion: api,
  kind: "KeyVault",
  metadata: { name, namespace: TEAM },
  spec: { projectRef: { name: TEAM }, vaultUrl: `https://${vault}.vault.azure.net/`, auth, ...spec },
});

const rule = (name: string, secrets: readonly string[], spec: object = {}, ref = "vault"): Manifest => ({
  apiVersion: api,
  kind: "SyncRule",
  metadata: { name, namespace: TEAM },
  spec: {
    projectRef: { name: TEAM },
    environment: "pro",
    secrets: { names: secrets },
    direction: "Push",
    target: { keyVault: { ref: { name: ref } } },
    ...spec,
  },
});

const long = (letter: string): string => letter.repeat(121);
const doubling = (times: number): string =>
  `{% assign x = word %}${"{% assign x = x | append: x %}".repeat(times)}{{ x }}`;

const belonging: readonly Refusal[] = [
  {
    title: "the Project does not exist",
    wrong: [secret("of-no-project", [literal("a")], { projectRef: { name: "later" } })],
    reason: "ProjectNotFound",
    says: ["spec.projectRef", "no Project later", "apply it"],
    corrected: () => [
      project("later", {
        environments: [{ name: "pro" }],
        namespaces: [{ name: TEAM, environments: ["pro"] }],
      }),
    ],
  },
  {
    title: "the Project does not admit the namespace",
    wrong: [
      project("closed", { environments: [{ name: "pro" }] }),
      secretManifest(STRANGERS, "uninvited", { projectRef: { name: "closed" }, entries: [literal("a")] }),
    ],
    reason: "NamespaceNotAdmitted",
    says: ["spec.projectRef", `namespace ${STRANGERS}`, "spec.namespaces"],
    corrected: () => [
      project("closed", {
        environments: [{ name: "pro" }],
        namespaces: [{ name: STRANGERS, environments: ["pro"] }],
      }),
    ],
  },
  {
    title: "the Project has no such environment",
    wrong: [
      project("narrow", { environments: [{ name: "dev" }], namespaces: [{ name: TEAM, environments: ["dev"] }] }),
      secret("of-no-environment", [literal("a")], { projectRef: { name: "narrow" } }),
    ],
    reason: "EnvironmentNotDeclared",
    says: ["spec.environment:", "no environment pro", "has dev", "spec.environments"],
    corrected: () => [
      project("narrow", {
        environments: [{ name: "dev" }, { name: "pro" }],
        namespaces: [{ name: TEAM, environments: ["dev", "pro"] }],
      }),
    ],
  },
];

const sources: readonly Refusal[] = [
  {
    title: "the core Secret to take a value from does not exist",
    wrong: [secret("no-source", [literal("a"), { key: "token", secretRef: { name: "handover", key: "token" } }])],
    reason: "SourceNotFound",
    says: ["spec.entries[1].secretRef", `${TEAM}/handover`, "create it"],
    corrected: () => [coreSecret("handover", { token: "t" })],
  },
  {
    title: "the core Secret to take a value from has no such key",
    wrong: [
      coreSecret("half-handover", { user: "u" }),
      secret("no-source-key", [{ key: "token", secretRef: { name: "half-handover", key: "token" } }]),
    ],
    reason: "SourceKeyNotFound",
    says: ["spec.entries[0].secretRef", "half-handover", "no key token", "add it there"],
    corrected: () => [coreSecret("half-handover", { user: "u", token: "t" })],
  },
];

const templates: readonly Refusal[] = [
  {
    title: "a template refers to a key that there is not",
    wrong: [secret("unknown-key", [literal("password"), template("url", "db://{{ passwrod }}@db")])],
    reason: "TemplateInvalid",
    says: ["entry url", "template", "passwrod", "password"],
    corrected: () => [secret("unknown-key", [literal("password"), template("url", "db://{{ password }}@db")])],
  },
  {
    title: "a template uses a filter that there is not",
    wrong: [secret("unknown-filter", [literal("word"), template("loud", "{{ word | shout }}")])],
    reason: "TemplateInvalid",
    says: ["entry loud", "template", "shout", "upcase"],
    corrected: () => [secret("unknown-filter", [literal("word"), template("loud", "{{ word | upcase }}")])],
  },
  {
    title: "a template has a syntax error",
    wrong: [secret("bad-syntax", [literal("word"), template("text", "first line\n{{ word")])],
    reason: "TemplateInvalid",
    says: ["entry text", "template", "line:2"],
    corrected: () => [secret("bad-syntax", [literal("word"), template("text", "first line\n{{ word }}")])],
  },
  {
    title: "templates refer to each other in a circle",
    wrong: [secret("circle", [template("a", "{{ b }}"), template("b", "{{ c }}"), template("c", "{{ a }}")])],
    reason: "TemplateCycle",
    says: ["a -> b -> c -> a"],
    corrected: () => [secret("circle", [template("a", "{{ b }}"), template("b", "{{ c }}"), literal("c")])],
  },
  {
    title: "a template loops",
    wrong: [
      secret("loops", [
        literal("word"),
        template("text", "{% for a in (1..9999) %}{% for b in (1..9999) %}{{ word }}{% endfor %}{% endfor %}"),
      ]),
    ],
    reason: "TemplateInvalid",
    says: ["entry text", "template", "for", "if"],
    corrected: () => [secret("loops", [literal("word"), template("text", "{{ word }}{{ word }}")])],
  },
  {
    title: "a filter is given a value that it does not take",
    wrong: [secret("no-key", [literal("key", "not a key"), template("public", "{{ key | public_key }}")])],
    reason: "ValueInvalid",
    says: ["entry public", "template", "public_key takes a private key in PEM", "not encrypted"],
    corrected: () => [
      secret("no-key", [{ key: "key", generate: { kind: "EC" } }, template("public", "{{ key | public_key }}")]),
    ],
  },
  {
    title: "a filter is given an argument that it does not take",
    wrong: [secret("no-user", [literal("word"), template("line", "{{ word | htpasswd }}")])],
    reason: "TemplateInvalid",
    says: ["entry line", "template", "htpasswd takes a user name", "htpasswd: 'admin'"],
    corrected: () => [secret("no-user", [literal("word"), template("line", "{{ word | htpasswd: 'admin' }}")])],
  },
  {
    title: "a password excludes what it must contain",
    wrong: [
      secret("no-digits", [
        { key: "word", generate: { kind: "Password", exclude: "0123456789", minimum: { digits: 2 } } },
      ]),
    ],
    reason: "ValueInvalid",
    says: ["entry word", "generate.minimum.digits asks for 2", "generate.exclude leaves none", "set it to 0"],
    corrected: () => [
      secret("no-digits", [
        { key: "word", generate: { kind: "Password", exclude: "0123456789", minimum: { digits: 0 } } },
      ]),
    ],
  },
  {
    title: "a template grows without bound",
    wrong: [secret("grows", [literal("word", "0123456789"), template("text", doubling(100))])],
    reason: "TemplateInvalid",
    says: ["entry text", "template", "longer than 262144 characters"],
    corrected: () => [secret("grows", [literal("word", "0123456789"), template("text", doubling(3))])],
  },
];

const deliveries: readonly Refusal[] = [
  {
    title: "a core Secret of that name is somebody else's",
    wrong: [coreSecret("taken", { a: "a value" }), secret("taken", [literal("a")], { deliver: {} })],
    reason: "TargetNotOwned",
    says: ["core Secret taken", "spec.deliver.adopt", "secretName"],
    corrected: () => [secret("taken", [literal("a")], { deliver: { adopt: true } })],
  },
  {
    title: "a core Secret to adopt has other data",
    wrong: [coreSecret("differs", { b: "b" }), secret("differs", [literal("a")], { deliver: { adopt: true } })],
    reason: "TargetDiffers",
    says: ["core Secret differs", "spec.deliver.overwrite", "secretName"],
    corrected: () => [secret("differs", [literal("a")], { deliver: { adopt: true, overwrite: true } })],
  },
  {
    title: "a core Secret to adopt has another type",
    wrong: [
      coreSecret("login", { username: "u" }, "kubernetes.io/basic-auth"),
      secret("login", [literal("username", "u")], { deliver: { adopt: true } }),
    ],
    reason: "TargetTypeDiffers",
    says: ["core Secret login", "kubernetes.io/basic-auth", "secretName"],
    corrected: () => [secret("login", [literal("username", "u")], { deliver: { secretName: "login-values" } })],
  },
  {
    title: "another Secret delivers to that core Secret",
    wrong: [secret("second", [literal("a")], { deliver: { secretName: "shared", adopt: true, overwrite: true } })],
    reason: "TargetNotOwned",
    says: ["core Secret shared", "Secret first", "secretName"],
    corrected: () => [secret("second", [literal("a")], { deliver: { secretName: "not-shared" } })],
  },
  {
    title: "a certificate to deliver is none",
    wrong: [
      secret("tls", [literal("tls.crt", "no certificate"), literal("tls.key", "no key")], {
        deliver: { type: "kubernetes.io/tls" },
      }),
    ],
    reason: "ValueInvalid",
    says: ["kubernetes.io/tls", "tls.crt", "PEM"],
    corrected: () => {
      const [certificate, key] = pem("tls");
      return [
        secret("tls", [literal("tls.crt", certificate), literal("tls.key", key)], {
          deliver: { type: "kubernetes.io/tls" },
        }),
      ];
    },
  },
  {
    title: "registry credentials to deliver are no JSON",
    wrong: [
      secret("registry", [literal(".dockerconfigjson", "no json")], {
        deliver: { type: "kubernetes.io/dockerconfigjson" },
      }),
    ],
    reason: "ValueInvalid",
    says: ["core Secret registry", ".dockerconfigjson", "correct the entries"],
    corrected: () => [
      secret("registry", [literal(".dockerconfigjson", '{"auths":{}}')], {
        deliver: { type: "kubernetes.io/dockerconfigjson" },
      }),
    ],
  },
  {
    title: "a login to deliver has neither username nor password",
    wrong: [secret("no-login", [literal("token")], { deliver: { type: "kubernetes.io/basic-auth" } })],
    reason: "ValueInvalid",
    says: ["core Secret no-login", "username", "correct the entries"],
    corrected: () => [
      secret("no-login", [literal("token"), literal("username")], { deliver: { type: "kubernetes.io/basic-auth" } }),
    ],
  },
];

const vaults: readonly Refusal[] = [
  {
    title: "the core Secret with the client secret does not exist",
    wrong: [keyVault("no-credential", bySecret("credential-later"))],
    reason: "CredentialNotFound",
    says: ["spec.auth.servicePrincipal.clientSecretRef", `${TEAM}/credential-later`, "create it"],
    corrected: () => [coreSecret("credential-later", { secret: world.mazevault.servicePrincipal.secret })],
  },
  {
    title: "the core Secret with the client secret has no such key",
    wrong: [keyVault("no-credential-key", bySecret("credential", "wrong-key"))],
    reason: "CredentialNotFound",
    says: ["spec.auth.servicePrincipal.clientSecretRef", "no key wrong-key"],
    corrected: () => [keyVault("no-credential-key", bySecret("credential"))],
  },
  {
    title: "the client certificate is none",
    wrong: [
      coreSecret("no-certificate", { pem: "no certificate" }),
      keyVault("bad-certificate", servicePrincipal({ certificateSecretRef: { name: "no-certificate", key: "pem" } })),
    ],
    reason: "CredentialInvalid",
    says: ["client certificate", "PEM"],
    corrected: () => {
      const { certFile, keyFile } = world.mazevault.servicePrincipal;
      return [coreSecret("no-certificate", { pem: readText(certFile) + readText(keyFile) })];
    },
  },
  {
    title: "the ServiceAccount does not exist",
    wrong: [keyVault("no-account", asAccount)],
    reason: "CredentialNotFound",
    says: ["spec.auth.workloadIdentity.serviceAccountRef", `ServiceAccount ${TEAM}/kv`, "create it"],
    // Nobody watches ServiceAccounts; the change of the KeyVault spares the test the half minute until the next look.
    corrected: () => [account("kv"), keyVault("no-account", asAccount, { budget: { callsPer10Seconds: 300 } })],
  },
  {
    title: "the Project does not list the vault for the operator's own identity",
    wrong: [keyVault("own-identity", { managedIdentity: { clientId: azure.managedIdentity } })],
    reason: "VaultNotAllowed",
    says: ["spec.auth.managedIdentity", `Project ${TEAM}`, "spec.keyVaults"],
    corrected: () => [
      project(TEAM, {
        environments: [{ name: "dev" }, { name: "pro" }],
        namespaces: [{ name: TEAM, environments: ["dev", "pro"] }],
        keyVaults: [`https://${vault}.vault.azure.net/`],
      }),
    ],
  },
  {
    title: "the vault's host is not allowed",
    wrong: [keyVault("elsewhere", bySecret("credential"), { vaultUrl: "https://vault.example.com/" })],
    reason: "VaultHostNotAllowed",
    says: ["spec.vaultUrl", "https://vault.example.com/", "*.vault.azure.net", "new KeyVault"],
    corrected: () => [keyVault("not-elsewhere", bySecret("credential"))],
    becomesReady: keyVault("not-elsewhere", bySecret("credential")),
  },
];

const rules: readonly Refusal[] = [
  {
    title: "the KeyVault does not exist",
    wrong: [rule("no-vault", ["good"], {}, "vault-later")],
    reason: "KeyVaultNotFound",
    says: ["spec.target.keyVault.ref", `${TEAM}/vault-later`, "apply it"],
    corrected: () => [keyVault("vault-later", bySecret("credential"))],
  },
  {
    title: "the KeyVault belongs to another Project",
    wrong: [
      project("other", { environments: [{ name: "pro" }], namespaces: [{ name: TEAM, environments: ["pro"] }] }),
      keyVault("others-vault", bySecret("credential"), { projectRef: { name: "other" } }),
      rule("others", ["good"], {}, "others-vault"),
    ],
    reason: "KeyVaultOfOtherProject",
    says: ["spec.target.keyVault.ref", "Project other", "same project"],
    corrected: () => [rule("others", ["good"])],
  },
  {
    title: "a name is too long for the vault",
    wrong: [secret(long("n"), [literal("a-key")]), rule("too-long", [long("n")])],
    reason: "TargetNameInvalid",
    says: [`${long("n")}/a-key`, "Key Vault accepts 127", "spec.mappings"],
    corrected: () => [
      rule("too-long", [long("n")], { mappings: [{ secret: long("n"), key: "a-key", name: "short-enough" }] }),
    ],
  },
  {
    title: "two entries get one name in the vault",
    wrong: [secret("same.name", [literal("a")]), secret("same-name", [literal("a")]), rule("colliding", ["same*name"])],
    reason: "TargetNameCollision",
    says: ["same.name/a", "same-name/a", "spec.mappings"],
    corrected: () => [
      rule("colliding", ["same*name"], {
        mappings: [
          { secret: "same.name", key: "a", name: "with-a-dot" },
          { secret: "same-name", key: "a", name: "with-a-dash" },
        ],
      }),
    ],
  },
  {
    title: "a value is too large for the vault",
    wrong: [secret("large", [literal("a", "x".repeat(25_601))]), rule("too-large", ["large"])],
    reason: "ValueTooLarge",
    says: ["large/a", "25601 bytes", "accepts 25600", "spec.secrets"],
    corrected: () => [secret("large", [literal("a", "x".repeat(25_600))])],
    becomesReady: rule("too-large", ["large"]),
  },
];

const reading = (name: string, projectName: string, environments: readonly string[], namespace = TEAM): Manifest => ({
  apiVersion: api,
  kind: "AccessPolicy",
  metadata: { name, namespace },
  spec: {
    subjects: [{ serviceAccount: { namespace, name: "default" } }],
    rules: [{ projects: [projectName], environments, secrets: ["*"], role: "reader" }],
  },
});

const access: readonly Refusal[] = [
  {
    title: "a policy for a Project that does not exist",
    wrong: [reading("of-no-project", "coming", ["pro"])],
    reason: "ProjectNotFound",
    says: ["spec.rules[0].projects", "no Project coming", "apply it"],
    corrected: () => [
      project("coming", { environments: [{ name: "pro" }], namespaces: [{ name: TEAM, environments: ["pro"] }] }),
    ],
  },
  {
    title: "a policy where the Project does not admit the namespace",
    wrong: [
      project("private", { environments: [{ name: "pro" }] }),
      reading("uninvited", "private", ["pro"], STRANGERS),
    ],
    reason: "NamespaceNotAdmitted",
    says: ["spec.rules[0].projects", `namespace ${STRANGERS}`, "spec.namespaces"],
    corrected: () => [
      project("private", {
        environments: [{ name: "pro" }],
        namespaces: [{ name: STRANGERS, environments: ["pro"] }],
      }),
    ],
  },
  {
    title: "a policy for an environment that the Project does not have",
    wrong: [reading("of-no-environment", TEAM, ["pro", "test"])],
    reason: "EnvironmentNotDeclared",
    says: ["spec.rules[0].environments", "no environment test"],
    corrected: () => [reading("of-no-environment", TEAM, ["pro"])],
  },
];

const refusals = [...belonging, ...sources, ...templates, ...deliveries, ...vaults, ...rules, ...access];

interface Named {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

const locate = (manifest: Manifest): [resource: string, name: string, namespace: string | undefined] => {
  const { kind, metadata } = manifest as Named;
  return [`${kind.toLowerCase()}.mazevault.io`, metadata.name, metadata.namespace];
};

const message = (object: KubernetesObject): string => conditionOf(object, "Ready")?.message ?? "";

const certificates = new Map<string, [certificate: string, key: string]>();

/** PEM of a certificate of the lab's authority and its private key. */
const pem = (name: string): [certificate: string, key: string] => certificates.get(name) ?? ["", ""];

const readText = (file: string): string => readFileSync(file, "utf8");

beforeAll(async () => {
  world = await startWorld();
  operator = await world.mazevault.startOperator();
  pid = operator.process.pid;
  for (const name of ["tls", "other"]) {
    const { certFile, keyFile } = await world.lab.pki.issue(name, { commonName: name, usage: "server" });
    certificates.set(name, [readText(certFile), readText(keyFile)]);
  }
  await world.tenant(TEAM);
  await world.apply(
    { apiVersion: "v1", kind: "Namespace", metadata: { name: STRANGERS } },
    secret("first", [literal("a")], { deliver: { secretName: "shared" } }),
    coreSecret("credential", { secret: world.mazevault.servicePrincipal.secret }),
    keyVault("vault", bySecret("credential")),
  );
  await world.waitReady(...locate(secret("first", [])));
  await world.apply(...refusals.flatMap(({ wrong }) => wrong));
});

afterAll(() => world?.stop());

/** The one that has been running since the beginning, and well. */
afterEach(async () => {
  expect([operator.process.pid, operator.process.restarts]).toEqual([pid, 0]);
  expect(await statusOf("/healthz")).toBe(200);
});

test("beside all of them, what is right works", async () => {
  await world.apply(
    secret("good", [literal("a"), template("b", "{{ a }}!")], { deliver: {} }),
    rule("right", ["good"]),
  );
  await world.waitReady("secret.mazevault.io", "good", TEAM);
  await world.waitReady("syncrule.mazevault.io", "right", TEAM);
});

test.each(refusals)("$reason: $title", async ({ wrong, reason, says, corrected, becomesReady }) => {
  const subject = wrong.at(-1) ?? {};
  const refused = await world.waitFor(...locate(subject), (object) => conditionOf(object, "Ready")?.reason === reason);
  expect(conditionOf(refused, "Ready")?.status).toBe("False");
  for (const words of says) expect(message(refused)).toMatch(words);
  await world.apply(...corrected());
  await world.waitReady(...locate(becomesReady ?? subject));
});

const refusedAtOnce: readonly { title: string; manifest: Manifest; says: readonly string[] }[] = [
  {
    title: "a field that there is not",
    manifest: secret("misspelt", [literal("a")], { retension: { versions: 3 } }),
    says: ["spec.retension", "unknown field"],
  },
  {
    title: "an entry with two sources",
    manifest: secret("two-sources", [{ key: "a", literal: "text", template: "text" }]),
    says: ["spec.entries[0]", "set exactly one of literal, generate, secretRef, sealed, external, template"],
  },
  {
    title: "a password with nearly nothing to choose from",
    manifest: secret("excluding", [{ key: "a", generate: { kind: "Password", exclude: "abcdefghij".repeat(9) } }]),
    says: ["spec.entries[0].generate.exclude", "64"],
  },
  {
    title: "a delivery of an entry that there is not",
    manifest: secret("no-entry", [literal("a")], { deliver: { keys: [{ from: "b", to: "B" }] } }),
    says: ["spec.deliver.keys", "must be the key of an entry"],
  },
  {
    title: "a value from the core Secret that is delivered",
    manifest: secret("itself", [{ key: "a", secretRef: { name: "itself", key: "a" } }], { deliver: {} }),
    says: ["spec.entries", "refer to another one"],
  },
  {
    title: "another project for a Secret that exists",
    manifest: secret("good", [literal("a")], { projectRef: { name: "closed" } }),
    says: ["spec.projectRef", "create a new Secret in the other project"],
  },
  {
    title: "another vault for a KeyVault that exists",
    manifest: keyVault("vault", bySecret("credential"), { vaultUrl: "https://another.vault.azure.net/" }),
    says: ["spec.vaultUrl", "create a new KeyVault"],
  },
  {
    title: "a vault URL with a path",
    manifest: keyVault("with-path", bySecret("credential"), { vaultUrl: `https://${vault}.vault.azure.net/secrets` }),
    says: ["spec.vaultUrl", "without port, path or query"],
  },
  {
    title: "two ways into a vault",
    manifest: keyVault("two-ways", { ...bySecret("credential"), ...asAccount }),
    says: ["spec.auth", "set exactly one of workloadIdentity, servicePrincipal, managedIdentity"],
  },
  {
    title: "a policy that administers a Project",
    manifest: {
      ...reading("too-much", TEAM, ["pro"]),
      spec: {
        subjects: [{ serviceAccount: { namespace: TEAM, name: "default" } }],
        rules: [{ projects: [TEAM], environments: ["pro"], verbs: ["administer"] }],
      },
    },
    says: ["spec.rules[0].verbs", "grant it in the Project's spec.access"],
  },
  {
    title: "a policy for a user by email address",
    manifest: {
      ...reading("by-address", TEAM, ["pro"]),
      spec: {
        subjects: [{ localUser: { id: "ada@example.com" } }],
        rules: [{ projects: [TEAM], environments: ["pro"], role: "reader" }],
      },
    },
    says: ["spec.subjects[0].localUser.id", "must be the user's id"],
  },
  {
    title: "a rule that looks too often",
    manifest: rule("restless", ["good"], { interval: "1s" }),
    says: ["spec.interval", "must be at least 10s"],
  },
];

test("ValueInvalid: a private key to deliver belongs to another certificate", async () => {
  const tls = (key: string): Manifest =>
    secret("tls-pair", [literal("cert", pem("tls")[0]), literal("key", key)], {
      deliver: {
        type: "kubernetes.io/tls",
        keys: [
          { from: "cert", to: "tls.crt" },
          { from: "key", to: "tls.key" },
        ],
      },
    });
  await world.apply(tls(pem("other")[1]));
  const refused = await world.waitFor(
    ...locate(tls("")),
    (object) => conditionOf(object, "Ready")?.reason === "ValueInvalid",
  );
  expect(message(refused)).toMatch("correct the entry key");
  await world.apply(tls(pem("tls")[1]));
  await world.waitReady(...locate(tls("")));
});

test.each(refusedAtOnce)("kubectl apply refuses it: $title", async ({ manifest, says }) => {
  const answer = await world.applyRefused(manifest);
  for (const words of says) expect(answer).toMatch(words);
});

function statusOf(path: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    get(`http://127.0.0.1:${operator.httpPort}${path}`, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on("error", reject);
  });
}
