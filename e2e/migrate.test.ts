/**
 * Core Secrets as the External Secrets Operator and the Sealed Secrets controller leave them, taken over by the guides as
 * they are printed: no byte changes, nothing restarts, nothing is lost.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { azure } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { consumerManifest } from "./chaos/manifests.ts";
import { cliEnvironment } from "./cli-environment.ts";
import { conditionOf, decoded, type KubernetesObject, startWorld, type World } from "./harness.ts";
import { firstAdmin } from "./rest-client.ts";

const SHOP = "shop";
const SECRET = "secret.mazevault.io";
const [vault] = azure.vaults;
const PASSWORD = "p4ss-äß ";
const MAIL = Buffer.from([0, 255, 10, 13]);

const folder = mkdtempSync(path.join(tmpdir(), "mazevault-migrate-"));
let world: World;
let env: NodeJS.ProcessEnv;

const resourceDefinition = (group: string, version: string, kind: string): object => {
  const singular = kind.toLowerCase();
  const schema = { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${singular}s.${group}` },
    spec: {
      group,
      scope: "Namespaced",
      names: { kind, plural: `${singular}s`, singular, listKind: `${kind}List` },
      versions: [{ name: version, served: true, storage: true, schema }],
    },
  };
};

const ESO = ["external-secrets.io", "v1"] as const;
const SEALED = ["bitnami.com", "v1alpha1"] as const;

/** An object with the core Secret that its controller has made of it. */
async function made(owner: KubernetesObject, name: string, data: Record<string, Buffer>, metadata: object) {
  await world.apply(owner);
  const { apiVersion, kind } = owner;
  const [group] = apiVersion.split("/");
  const { uid } = (await world.get(`${kind.toLowerCase()}.${group}`, owner.metadata.name, SHOP)).metadata;
  const reference = { apiVersion, kind, name: owner.metadata.name, uid, controller: true, blockOwnerDeletion: true };
  const encoded = Object.entries(data).map(([key, value]) => [key, value.toString("base64")]);
  await world.apply(
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name, namespace: SHOP, ownerReferences: [reference], ...metadata },
      type: "Opaque",
      data: Object.fromEntries(encoded),
    },
    consumerManifest(SHOP, `uses-${name}`, name),
  );
}

const externalSecret = (name: string, spec: object): KubernetesObject =>
  ({
    apiVersion: ESO.join("/"),
    kind: "ExternalSecret",
    metadata: { name, namespace: SHOP },
    spec: { refreshInterval: "1h0m0s", secretStoreRef: { name: "team-vault", kind: "SecretStore" }, ...spec },
  }) as unknown as KubernetesObject;

const datum = (secretKey: string, remoteRef: object) => ({
  secretKey,
  remoteRef: { conversionStrategy: "Default", decodingStrategy: "None", metadataPolicy: "None", ...remoteRef },
});

const leftByEso = {
  labels: { "reconcile.external-secrets.io/managed": "true", "reconcile.external-secrets.io/created-by": "5ac1" },
  annotations: { "reconcile.external-secrets.io/data-hash": "91d8" },
};

async function externalSecrets(): Promise<void> {
  const { control } = world.mazevault.keyVault;
  await control.setSecret(vault, "orders", JSON.stringify({ db: { user: "orders", port: 5432 } }));
  await control.setSecret(vault, "orders-password", PASSWORD);
  const id = azure.servicePrincipal;
  await world.apply(
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "azure", namespace: SHOP },
      stringData: { "client-id": id, "client-secret": world.mazevault.servicePrincipal.secret },
    },
    {
      apiVersion: ESO.join("/"),
      kind: "SecretStore",
      metadata: { name: "team-vault", namespace: SHOP },
      spec: {
        provider: {
          azurekv: {
            authType: "ServicePrincipal",
            environmentType: "PublicCloud",
            vaultUrl: `https://${vault}.vault.azure.net`,
            tenantId: azure.tenantId,
            authSecretRef: {
              clientId: { name: "azure", key: "client-id" },
              clientSecret: { name: "azure", key: "client-secret" },
            },
          },
        },
      },
    },
  );
  const orders = externalSecret("orders", {
    target: {
      name: "orders-db",
      creationPolicy: "Owner",
      deletionPolicy: "Retain",
      template: {
        engineVersion: "v2",
        mergePolicy: "Replace",
        data: {
          password: "{{ .password }}",
          url: "postgres://{{ .user }}:{{ .password }}@db:{{ .port }}/orders",
          auth: "{{ .password | b64enc }}",
          ssl: "on",
        },
      },
    },
    data: [
      datum("user", { key: "orders", property: "db.user" }),
      datum("port", { key: "orders", property: "db.port" }),
      datum("password", { key: "secret/orders-password" }),
    ],
  });
  const data = {
    password: Buffer.from(PASSWORD),
    url: Buffer.from(`postgres://orders:${PASSWORD}@db:5432/orders`),
    auth: Buffer.from(Buffer.from(PASSWORD).toString("base64")),
    ssl: Buffer.from("on"),
  };
  await made(orders, "orders-db", data, leftByEso);
}

/** As the guide's reader has it, and nothing of MazeVault besides a Project. */
beforeAll(async () => {
  world = await startWorld();
  await world.apply(
    ...[
      resourceDefinition(...ESO, "SecretStore"),
      resourceDefinition(...ESO, "ExternalSecret"),
      resourceDefinition(...SEALED, "SealedSecret"),
    ],
  );
  await world.mazevault.startOperator();
  await world.tenant(SHOP);
  await world.kubectl("wait", "--for=condition=Established", "crd", "--all");
  env = cliEnvironment(world, await world.mazevault.startRest(), folder);
  const { email, password } = await firstAdmin(world);
  await run(`printf %s '${password}' | mazevault login --email ${email} --password-stdin`);
  await externalSecrets();
  const mail = {
    apiVersion: SEALED.join("/"),
    kind: "SealedSecret",
    metadata: { name: "mail", namespace: SHOP },
    spec: {
      encryptedData: { token: "AgBy3i4OJSWK", blob: "AgBrjtqmzv7N" },
      template: {
        metadata: { name: "mail", namespace: SHOP },
        data: { "mail.conf": "token={{ .token }}\n", host: "mail.example.com" },
      },
    },
  } as unknown as KubernetesObject;
  const data = {
    token: Buffer.from("t0ken"),
    blob: MAIL,
    "mail.conf": Buffer.from("token=t0ken\n"),
    host: Buffer.from("mail.example.com"),
  };
  await made(mail, "mail", data, {});
});

afterAll(async () => {
  await world?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const run = (script: string) =>
  promisify(execFile)("bash", ["--norc", "-euo", "pipefail", "-c", script], { cwd: folder, env });

/** What its commands print, block after block. */
async function followed(guide: string): Promise<readonly string[]> {
  const text = readFileSync(fileURLToPath(new URL(`../docs/guides/${guide}`, import.meta.url)), "utf8");
  const printed: string[] = [];
  for (const [, block = ""] of text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)) {
    const { stdout, stderr } = await run(block);
    printed.push(`${stdout}${stderr}`);
  }
  return printed;
}

/** What must not change: the core Secret that pods read, and their Deployment. */
async function running(name: string) {
  const secret = await world.get("secret", name, SHOP);
  const deployment = await world.get("deployment", `uses-${name}`, SHOP);
  return {
    uid: secret.metadata.uid,
    type: (secret as { type?: string }).type,
    data: secret.data,
    generation: deployment.metadata.generation,
    template: (deployment.spec as { template?: unknown }).template,
  };
}

const ownersOf = async (name: string) =>
  (await world.get("secret", name, SHOP)).metadata.ownerReferences?.map(({ kind, name: of }) => `${kind} ${of}`);

async function expectAllReady(): Promise<void> {
  for (const object of await world.list("secrets.mazevault.io,syncrules.mazevault.io,keyvaults.mazevault.io", SHOP)) {
    expect(conditionOf(object, "Ready")).toMatchObject({ status: "True" });
  }
}

test("from the External Secrets Operator, as the guide is printed", async () => {
  const before = await running("orders-db");
  const printed = await followed("migrate-from-external-secrets.md");
  expect(printed).toHaveLength(4);
  expect(printed[0]).toMatch(/Step +when what is written here is applied: kubectl -n shop delete externalsecrets/);
  expect(printed[0]).toContain("3 objects written; everything was converted");
  expect(printed[0]).not.toContain("p4ss");
  expect(printed[1]).toMatch(/orders +False +TargetNotOwned/);
  expect(await running("orders-db")).toEqual(before);
  expect(await ownersOf("orders-db")).toEqual(["Secret orders"]);
  expect((await world.get("secret", "orders-db", SHOP)).metadata.labels).toEqual({
    "app.kubernetes.io/managed-by": "mazevault",
  });
  await expectAllReady();
});

test("what is changed in the vault then comes through MazeVault", async () => {
  await world.mazevault.keyVault.control.setSecret(vault, "orders-password", "n3w");
  await world.kubectl("-n", SHOP, "annotate", "syncrules.mazevault.io", "team-vault-pull", "mazevault.io/sync-now=1");
  const { data } = await world.waitFor("secret", "orders-db", SHOP, (it) => decoded(it).password === "n3w");
  expect(Buffer.from(data?.url ?? "", "base64").toString()).toBe("postgres://orders:n3w@db:5432/orders");
});

test("from Sealed Secrets, as the guide is printed", async () => {
  const before = await running("mail");
  const printed = await followed("migrate-from-sealed-secrets.md");
  expect(printed).toHaveLength(3);
  expect(printed[0]).toContain("1 object written; everything was converted");
  expect(printed[1]).toMatch(/mail +False +TargetNotOwned/);
  const manifest = readFileSync(path.join(folder, "mazevault.yaml"), "utf8");
  for (const text of ["t0ken", Buffer.from("t0ken").toString("base64"), MAIL.toString("base64")]) {
    expect(`${manifest}${printed}`).not.toContain(text);
  }
  expect(await running("mail")).toEqual(before);
  expect(await ownersOf("mail")).toEqual(["Secret mail"]);
  await expectAllReady();
});

test("what does not have the data of its core Secret takes nothing over, and says so while the owner is still there", async () => {
  const wrong = externalSecret("wrong", { data: [datum("password", { key: "secret/orders-password" })] });
  await made(wrong, "wrong", { password: Buffer.from("another") }, leftByEso);
  const before = await running("wrong");
  const list = "kubectl -n shop get externalsecrets,secretstores -o yaml";
  await run(`${list} | mazevault migrate eso - --map shop=shop/pro --client-id ${azure.servicePrincipal} --to wrong`);
  await run("kubectl apply -R -f wrong");
  const reason = (it: KubernetesObject) => conditionOf(it, "Delivered")?.reason;
  await world.waitFor(SECRET, "wrong", SHOP, (it) => reason(it) === "TargetDiffers");
  expect(await running("wrong")).toEqual(before);
});

test("without --cascade=orphan Kubernetes deletes the core Secret, which is why the guides warn", async () => {
  const { uid } = await running("wrong");
  await world.kubectl("-n", SHOP, "delete", "externalsecrets.external-secrets.io", "wrong");
  const isAnother = async () => {
    const [now] = (await world.list("secret", SHOP)).filter(({ metadata }) => metadata.name === "wrong");
    return now?.metadata.uid !== uid;
  };
  await until("the core Secret is gone", isAnother, { timeoutMs: 60_000 });
});
