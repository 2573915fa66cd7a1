import { Stalled, Waiting } from "../../core/errors.ts";
import type { KeyVault } from "../../crds/keyvault.ts";
import type { Project } from "../../crds/project.ts";
import { isStorageOf, storageKeyVault } from "./storage.ts";

const metadata = (name: string, namespace?: string) => ({
  name,
  uid: `uid-of-${name}`,
  resourceVersion: "1",
  ...(namespace !== undefined && { namespace }),
});
const project = (spec: Partial<Project["spec"]>): Project =>
  ({ metadata: metadata("shop"), spec: { environments: [{ name: "pro" }], ...spec } }) as Project;
const keyVault = (of: string): KeyVault =>
  ({
    metadata: metadata("values", "shop"),
    spec: { projectRef: { name: of }, vaultUrl: "https://v.vault.azure.net" },
  }) as KeyVault;

const orchestrated = project({
  storage: "Orchestrator",
  environments: [
    { name: "dev", keyVault: { namespace: "shop", name: "other" } },
    { name: "pro", keyVault: { namespace: "shop", name: "values" } },
  ],
});
const found = (given: { readonly project?: Project; readonly keyVault?: KeyVault; readonly environment?: string }) => {
  const cluster = {
    project: () => given.project,
    keyVault: (namespace: string, name: string) =>
      namespace === "shop" && name === "values" ? given.keyVault : undefined,
  };
  try {
    return (
      storageKeyVault(cluster, { project: "shop", environment: given.environment ?? "pro" })?.metadata.name ??
      "PostgreSQL"
    );
  } catch (error) {
    if (error instanceof Stalled || error instanceof Waiting) return `${error.name} ${error.code}: ${error.message}`;
    throw error;
  }
};

test.each<[string, Parameters<typeof found>[0], string | RegExp]>([
  ["a project that says nothing", { project: project({}) }, "PostgreSQL"],
  ["a project with storage Platform", { project: project({ storage: "Platform" }) }, "PostgreSQL"],
  ["a project that names a KeyVault of its own", { project: orchestrated, keyVault: keyVault("shop") }, "values"],
  ["no project", {}, /^Waiting ProjectNotFound: there is no Project shop yet/],
  [
    "a KeyVault that is not there",
    { project: orchestrated },
    /^Waiting KeyVaultNotFound: spec\.environments\[1\]\.keyVault of Project shop: there is no KeyVault shop\/values yet/,
  ],
  [
    "a KeyVault of another project",
    { project: orchestrated, keyVault: keyVault("other") },
    /^Stalled KeyVaultOfOtherProject: .*KeyVault shop\/values belongs to Project other/,
  ],
  [
    "an environment that the project has no more",
    { project: orchestrated, environment: "test" },
    /^Stalled EnvironmentNotDeclared: Project shop names no Key Vault for environment test/,
  ],
])("the values of %s", (_, given, where) => {
  expect(found(given)).toEqual(typeof where === "string" ? where : expect.stringMatching(where));
});

test("a KeyVault has the values of the environments that name it, of projects that say so", () => {
  const values = keyVault("shop");
  expect(isStorageOf(orchestrated, values)).toBe(true);
  expect(isStorageOf(orchestrated, values, "pro")).toBe(true);
  expect(isStorageOf(orchestrated, values, "dev")).toBe(false);
  expect(isStorageOf(project({ keyVaults: ["https://v.vault.azure.net"] }), values)).toBe(false);
});
