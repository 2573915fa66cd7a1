import fc from "fast-check";
import type { NamingSpec } from "../../crds/naming.ts";
import { isNameOf, type NamedProject, nameOf, namesOf, namingFault, TYPES, whyInvalid } from "./convention.ts";
import { vaultNameFault, vaultOfOtherEnvironment } from "./key-vaults.ts";

const crd: NamingSpec = { company: "crd", project: "mzv", zone: "int", region: "gwc" };

test.each([
  ["KeyVault", "pro", "crdprointmzvgwckv01"],
  ["PostgreSQL", "pro", "crd-pro-int-mzv-gwc-psql01"],
  ["Redis", "pro", "crd-pro-int-mzv-gwc-redis01"],
  ["AKS", "pro", "crd-pro-int-mzv-gwc-aks01"],
  ["AppRegistration", "pro", "APP_MZV_INT_PRO_01"],
  ["ResourceGroup", "pro", "rg-crd-pro-int-mzv-gwc"],
  ["KeyVault", "dev", "crdnprdevintmzvgwckv01"],
  ["PostgreSQL", "dev", "crd-npr-dev-int-mzv-gwc-psql01"],
  ["AppRegistration", "dev", "APP_MZV_INT_DEV_01"],
  ["ResourceGroup", "dev", "rg-crd-npr-dev-int-mzv-gwc"],
] as const)("%s of %s is named %s by default", (type, environment, name) => {
  expect(nameOf(crd, type, environment)).toBe(name);
  expect(whyInvalid(type, name)).toBeUndefined();
});

test.each(
  [
    ["pro", "pre", "drn", "mig", "eoy", "hot"].map((each) => [each, `crd${each}intmzvgwckv02`]),
    ["dev", "itg", "tst"].map((each) => [each, `crdnpr${each}intmzvgwckv02`]),
  ].flat(),
)("environment %s is classified without being told", (environment = "", name = "") => {
  expect(nameOf(crd, "KeyVault", environment, 2)).toBe(name);
});

test("an own pattern has the words of the documents, short or long, and capitals where it wants them", () => {
  const naming: NamingSpec = {
    ...crd,
    environments: [{ name: "staging", production: false, code: "stg" }],
    patterns: [{ type: "KeyVault", production: "{co}{env}{nn}", nonProduction: "{PROJ}-{ENVIRONMENT}-{type}{number}" }],
  };
  expect(nameOf(naming, "KeyVault", "staging", 7)).toBe("MZV-STG-kv07");
  expect(nameOf(naming, "KeyVault", "pro", 7)).toBe("crdpro07");
});

const shop = (change: Partial<NamingSpec> = {}, environments = ["dev", "pro"]): NamedProject => ({
  project: "shop",
  naming: { ...crd, ...change },
  environments,
});
const payments: NamedProject = { project: "payments", naming: crd, environments: ["pro"] };

test.each<{ because: string; own: NamedProject; others?: NamedProject[]; reason?: string; says?: RegExp }>([
  { because: "the documents' convention has no fault", own: shop() },
  { because: "another project code is another name", own: shop({ project: "shp" }), others: [payments] },
  {
    because: "an environment that nothing classifies has no names",
    own: shop({}, ["pro", "staging"]),
    reason: "EnvironmentNotNamed",
    says: /^spec\.naming\.environments: .* environment staging is production; add name: staging/,
  },
  {
    because: "a Key Vault name has at most 24 characters",
    own: shop({ project: "payments" }),
    reason: "NameInvalid",
    says: /environment dev KeyVault would be named "crdnprdevintpaymentsgwckv01", which has 27 characters.* 3 to 24; choose shorter/,
  },
  {
    because: "a Key Vault name begins with a letter",
    own: shop({ company: "3co" }),
    reason: "NameInvalid",
    says: /"3conprdevintmzvgwckv01", which is not a name for a Key Vault/,
  },
  {
    because: "two environments may not have the same name",
    own: shop({ patterns: [{ type: "Redis", production: "{co}-redis", nonProduction: "{CO}-redis" }] }),
    reason: "NameCollision",
    says: /Redis of environment pro would be named crd-redis, which environment dev gives too/,
  },
  {
    because: "nor may two projects",
    own: shop(),
    others: [payments],
    reason: "NameCollision",
    says: /KeyVault of environment pro would be named crdprointmzvgwckv01, which Project payments gives too/,
  },
])("$because", ({ own, others = [], reason, says = /^/ }) => {
  const fault = namingFault(own, others);
  expect(fault?.reason).toBe(reason);
  expect(fault?.message ?? "").toMatch(says);
});

const code = fc.stringMatching(/^[a-z0-9]{1,12}$/);
const conventions = fc.record({ company: code, project: code, zone: code, region: code });
const environment = fc.constantFrom("pro", "pre", "drn", "mig", "eoy", "hot", "dev", "itg", "tst");

test("a name is recognised as that of its type and environment, whatever its number", () => {
  fc.assert(
    fc.property(conventions, fc.constantFrom(...TYPES), environment, fc.integer({ min: 1, max: 99 }), (...given) => {
      const [naming, type, of, number] = given;
      const name = nameOf(naming, type, of, number) ?? "";
      expect(isNameOf(naming, type, of, name)).toBe(true);
      expect(isNameOf(naming, type, of, name.toUpperCase())).toBe(true);
      expect(isNameOf(naming, type, of, `${name}x`)).toBe(false);
    }),
  );
});

test("what has no fault gives only names that Azure accepts, each once", () => {
  fc.assert(
    fc.property(conventions, fc.uniqueArray(environment, { minLength: 1 }), (naming, environments) => {
      if (namingFault({ project: "a", naming, environments }, []) !== undefined) return;
      const names = namesOf(naming, environments);
      expect(names.length).toBe(environments.length * TYPES.length);
      for (const { type, name } of names) expect(whyInvalid(type, name)).toBeUndefined();
      expect(new Set(names.map(({ type, name }) => `${type} ${name.toLowerCase()}`)).size).toBe(names.length);
    }),
  );
});

describe("of a vault", () => {
  const project = (naming?: NamingSpec) => ({
    name: "payments",
    spec: { environments: [{ name: "dev" }, { name: "pro" }], ...(naming && { naming }) },
  });
  const pro = "https://crdprointmzvgwckv12.vault.azure.net/";
  const other = "https://crdprointmvzgwckv01.vault.azure.net/";

  test("a name by the convention is right in any of the environments", () => {
    expect(vaultNameFault(project(crd), pro)).toBeUndefined();
  });

  test("another name is told, with what was expected", () => {
    expect(vaultNameFault(project(crd), other)).toMatch(
      /^spec\.vaultUrl: .* named crdprointmvzgwckv01, .* crdnprdevintmzvgwckv01 or crdprointmzvgwckv01; create/,
    );
  });

  test("without a convention every name is right", () => {
    expect(vaultNameFault(project(), other)).toBeUndefined();
    expect(vaultOfOtherEnvironment(project(), "dev", pro)).toBeUndefined();
  });

  test("where names are required, the vault of one environment is not for another", () => {
    const required = project({ ...crd, required: true });
    expect(vaultOfOtherEnvironment(required, "pro", pro)).toBeUndefined();
    expect(vaultOfOtherEnvironment(required, "dev", pro)).toMatch(
      /not one of environment dev \(crdnprdevintmzvgwckv01\)/,
    );
    expect(vaultOfOtherEnvironment(project(crd), "dev", pro)).toBeUndefined();
  });
});
