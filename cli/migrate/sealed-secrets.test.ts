import { generateKeyPairSync, randomBytes } from "node:crypto";
import { privateSealingKey, type SignedSealingKey, signSealingKey, unseal } from "../../core/vault/sealing.ts";
import { type SecretEntry, secretSpec } from "../../crds/secret.ts";
import { CoreSecrets } from "./core-secrets.ts";
import type { Manifest } from "./manifests.ts";
import type { Conversion } from "./report.ts";
import { convertSealedSecrets } from "./sealed-secrets.ts";
import { Tenancy } from "./tenancy.ts";

const own = await privateSealingKey("0f8fad5b-d9cb-469f-a165-70867728950e", randomBytes(32));
const { privateKey: signer } = generateKeyPairSync("ed25519");
const to: SignedSealingKey = signSealingKey(signer, { ...own, project: "shop", installation: "here" });

const sealedSecret = (spec: object, metadata: object = {}): Manifest => ({
  apiVersion: "bitnami.com/v1alpha1",
  kind: "SealedSecret",
  metadata: { name: "orders", namespace: "shop", ...metadata },
  spec,
  source: "test",
});

const core = (data: Readonly<Record<string, string | Buffer>>): Manifest => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name: "orders", namespace: "shop" },
  source: "test",
  data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString("base64")])),
});

async function converted(manifest: Manifest, cores: readonly Manifest[], keys = [to]): Promise<Conversion> {
  const conversion = await convertSealedSecrets([manifest], {
    tenancy: new Tenancy({ map: ["shop=shop/pro"] }),
    secrets: new CoreSecrets(cores),
    sealingKeys: new Map(keys.map((key) => [key.project, key])),
  });
  for (const { spec } of conversion.objects) secretSpec.parse(spec);
  return conversion;
}

const entriesOf = ({ objects: [secret] }: Conversion): readonly SecretEntry[] =>
  (secret?.spec as { entries?: SecretEntry[] } | undefined)?.entries ?? [];

const lost = ({ findings }: Conversion) =>
  findings.filter(({ result }) => result === "NotConverted").map(({ field }) => field);

async function opened({ key, sealed = "" }: SecretEntry): Promise<Buffer> {
  const place = { project: "shop", environment: "pro", namespace: "shop", name: "orders", key };
  return (await unseal(() => own, place, sealed)).reveal();
}

const CIPHERTEXT = "AgBxUnreadable";

test("values of the core Secret are sealed to the project's key, byte by byte, and stand nowhere else", async () => {
  const binary = Buffer.from([0, 255, 1]);
  const conversion = await converted(
    sealedSecret({
      encryptedData: { password: CIPHERTEXT, blob: CIPHERTEXT },
      template: { type: "Opaque", metadata: { name: "orders", namespace: "shop", labels: { team: "shop" } } },
    }),
    [core({ password: "s3cret-value", blob: binary })],
  );
  const [password, blob] = entriesOf(conversion);
  expect([password, blob].map((entry) => entry && Object.keys(entry))).toEqual([
    ["key", "sealed"],
    ["key", "sealed"],
  ]);
  expect((await opened(password as SecretEntry)).toString()).toBe("s3cret-value");
  expect(await opened(blob as SecretEntry)).toEqual(binary);
  expect(conversion.objects[0]?.spec).toMatchObject({ deliver: { adopt: true, labels: { team: "shop" } } });
  expect(lost(conversion)).toEqual([]);
  const all = JSON.stringify(conversion);
  for (const text of ["s3cret-value", Buffer.from("s3cret-value").toString("base64"), CIPHERTEXT])
    expect(all).not.toContain(text);
  expect(all).toContain("kubectl -n shop delete sealedsecrets.bitnami.com orders --cascade=orphan");
});

test("without the value or the key the entry waits for somebody to write it, and that is told", async () => {
  const manifest = sealedSecret({ encryptedData: { password: CIPHERTEXT } });
  for (const conversion of [
    await converted(manifest, []),
    await converted(manifest, [core({ password: "s3cret" })], []),
    await converted(manifest, [core({ password: Buffer.alloc(65_537) })]),
  ]) {
    expect(entriesOf(conversion)).toEqual([{ key: "password", external: {} }]);
    expect(lost(conversion)).toEqual(["spec.encryptedData.password"]);
    expect(JSON.stringify(conversion.findings)).toContain("mazevault put shop/orders password");
  }
});

test("templates stay templates where Liquid has them; what they give is sealed otherwise", async () => {
  const conversion = await converted(
    sealedSecret({
      encryptedData: { user: CIPHERTEXT, gone: CIPHERTEXT },
      template: { data: { url: "db://{{ .user }}", mode: "fast", shout: "{{ .user | upper }}", gone: null } },
    }),
    [core({ user: "u", url: "db://u", mode: "fast", shout: "U" })],
  );
  expect(entriesOf(conversion)).toMatchObject([
    { key: "user", sealed: expect.any(String) },
    { key: "url", template: "db://{{ user }}" },
    { key: "mode", literal: "fast" },
    { key: "shout", sealed: expect.any(String) },
  ]);
  expect((await opened(entriesOf(conversion)[3] as SecretEntry)).toString()).toBe("U");
  expect(lost(conversion)).toEqual([]);
  expect(conversion.findings.map(({ result, field }) => `${result} ${field}`)).toEqual([
    "Remark spec.template.data.shout",
    "Step metadata.name",
  ]);
});

test("a core Secret that has more than its SealedSecret is not taken over", async () => {
  const conversion = await converted(sealedSecret({ encryptedData: { a: CIPHERTEXT } }), [core({ a: "a", b: "b" })]);
  expect(conversion.objects).toEqual([]);
  expect(lost(conversion)).toEqual(["spec.encryptedData"]);
});

test("scopes, types and fields that have no equal are told", async () => {
  const wide = await converted(
    sealedSecret(
      { encryptedData: { a: CIPHERTEXT }, template: { immutable: true } },
      { annotations: { "sealedsecrets.bitnami.com/cluster-wide": "true" } },
    ),
    [core({ a: "a" })],
  );
  expect(wide.findings.map(({ result, field }) => `${result} ${field}`)).toEqual([
    "NotConverted spec.template.immutable",
    "Remark metadata.annotations",
    "Step metadata.name",
  ]);
  const typed = await converted(
    sealedSecret({ encryptedData: { a: CIPHERTEXT }, template: { type: "helm.sh/release.v1" }, wonder: 1 }),
    [core({ a: "a" })],
  );
  expect(lost(typed)).toEqual(["spec.wonder", "spec.template.type"]);
  expect(typed.objects).toEqual([]);
});
