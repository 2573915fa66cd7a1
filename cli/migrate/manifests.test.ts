import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { PassThrough } from "node:stream";
import { run } from "../program.ts";

const folder = mkdtempSync(path.join(tmpdir(), "mazevault-manifests-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function written(name: string, text: string): string {
  const file = path.join(folder, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

/** The command as a person runs it. */
async function migrate(...args: readonly string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  const terminal = { stdout, stderr, stdin: process.stdin, env: {} };
  const code = await run(["migrate", ...args], terminal);
  const text = async (stream: PassThrough): Promise<string> => Buffer.concat(await stream.end().toArray()).toString();
  return { code, stdout: await text(stdout), stderr: await text(stderr) };
}

const EXTERNAL_SECRET = `apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: orders}
spec:
  secretStoreRef: {name: team}
  data: [{secretKey: a, remoteRef: {key: a}}]
`;
const STORE = `apiVersion: external-secrets.io/v1beta1
kind: SecretStore
metadata: {name: team}
spec: {provider: {azurekv: {authType: ManagedIdentity, vaultUrl: "https://team.vault.azure.net"}}}
`;
const TENANT = ["--project", "shop", "--environment", "pro", "--namespace", "shop"];

test("manifests of a folder are read beside what other tools have there, and written as files, never over others", async () => {
  written("git/base/orders.yaml", `${EXTERNAL_SECRET}---\n`);
  written("git/base/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n");
  written("git/values.yml", "replicas: 1\n");
  written("git/stores.json", JSON.stringify({ apiVersion: "v1", kind: "List", items: [] }));
  written("git/store.yaml", STORE);
  const to = path.join(folder, "out");
  const { code, stdout, stderr } = await migrate("eso", path.join(folder, "git"), ...TENANT, "--to", to, "-o", "json");
  expect({ code, stderr }).toEqual({ code: 0, stderr: "3 objects written; everything was converted\n" });
  expect(JSON.parse(stdout)).toMatchObject({ findings: [{ result: "Step" }, { result: "Step" }, { result: "Step" }] });
  const again = await migrate("eso", path.join(folder, "git"), ...TENANT, "--to", to);
  expect(again).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("keyvault-team.yaml cannot be written (EEXIST)"),
  });
});

test("a report stands beside the stream, and its exit code says that something is missing", async () => {
  const file = written("lost.yaml", `${STORE}---\n${EXTERNAL_SECRET}  wonder: 1\n`);
  const { code, stdout, stderr } = await migrate("eso", file, ...TENANT, "-o", "yaml");
  expect(code).toBe(7);
  expect(stdout).toMatch(/^---\napiVersion: mazevault.io\/v1\nkind: KeyVault\n/);
  expect(stderr).toContain("field: spec.wonder\n");
  expect(stderr).toContain("mazevault: 3 objects written; 1 not converted");
});

test("a text that another reader of YAML would take for something else is quoted", async () => {
  const text = EXTERNAL_SECRET.replace(
    "  data:",
    "  target: {template: {mergePolicy: Merge, data: {ssl: 'on'}}}\n  data:",
  );
  const { stdout } = await migrate("eso", written("on.yaml", `${STORE}---\n${text}`), ...TENANT);
  expect(stdout).toContain('literal: "on"\n');
});

test.each<[what: string, args: () => readonly string[], says: string]>([
  ["no project", () => ["eso", written("a.yaml", EXTERNAL_SECRET), "-n", "shop"], "--project is missing"],
  [
    "no environment",
    () => ["eso", written("a.yaml", EXTERNAL_SECRET), "-n", "shop", "--project", "shop"],
    "--environment is missing",
  ],
  [
    "a bad mapping",
    () => ["eso", written("a.yaml", EXTERNAL_SECRET), "--map", "shop"],
    "--map: shop must be NAMESPACE=PROJECT/ENVIRONMENT",
  ],
  ["no namespace", () => ["eso", written("a.yaml", EXTERNAL_SECRET)], "give it with --namespace"],
  [
    "nothing to convert",
    () => ["sealed-secrets", written("a.yaml", EXTERNAL_SECRET)],
    "no SealedSecret is in what was given",
  ],
  ["no such file", () => ["eso", path.join(folder, "absent.yaml")], "absent.yaml cannot be read (ENOENT)"],
  ["standard input twice", () => ["eso", "-", "--secrets", "-"], "--secrets: standard input is read already"],
  [
    "no metadata",
    () => ["eso", written("b.yaml", "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\n")],
    "b.yaml: a ExternalSecret in it has no metadata",
  ],
])("%s is told with what to do", async (_, args, says) => {
  const { code, stdout, stderr } = await migrate(...args());
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toContain(says);
});

test("what is no YAML is told by its line, and not quoted", async () => {
  const file = written("broken.yaml", "a: b\npassword: 's3cret\n");
  const { code, stderr } = await migrate("eso", file);
  expect(code).toBe(2);
  expect(stderr).toMatch(/broken.yaml, line \d+: this is no YAML/);
  expect(stderr).not.toContain("s3cret");
});
