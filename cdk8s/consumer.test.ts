/** A project of an application team that has the packed library, and nothing else of this repository. */
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { validManifests } from "../crds/testing/valid.ts";

const root = path.join(import.meta.dirname, "..");
const example = path.join(import.meta.dirname, "examples/payments");
const guide = await readFile(path.join(root, "docs/guides/write-manifests-in-typescript.md"), "utf8");
const version: string = JSON.parse(await readFile(path.join(root, "package.json"), "utf8")).version;
const tarball = `mazevault-cdk8s-${version}.tgz`;

let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(path.join(tmpdir(), "mazevault-cdk8s-"));
  await npm("pack", path.join(root, "cdk8s"));
  const packages = ["cdk8s", "constructs"].map((name) => [name, `file:${path.join(root, "node_modules", name)}`]);
  const dependencies = { "mazevault-cdk8s": `file:${tarball}`, ...Object.fromEntries(packages) };
  await writeFile(path.join(dir, "package.json"), JSON.stringify({ private: true, type: "module", dependencies }));
  // Copies, as from a registry. npm refuses peers of another version than the library asks for.
  await npm("install", "--offline", "--install-links", "--ignore-scripts", "--no-audit", "--no-fund");
  const programs = path.join(dir, "node_modules/.bin");
  await mkdir(programs, { recursive: true });
  await symlink(path.join(root, "node_modules/.bin/tsc"), path.join(programs, "tsc"));
  for (const file of ["main.ts", "tsconfig.json"]) await cp(path.join(example, file), path.join(dir, file));
}, 120_000);

afterAll(async () => {
  if (dir !== undefined) await rm(dir, { recursive: true, force: true });
});

interface Ended {
  readonly code: number;
  readonly output: string;
}

async function run(file: string, args: readonly string[]): Promise<Ended> {
  try {
    const { stdout, stderr } = await promisify(execFile)(file, args, { cwd: dir });
    return { code: 0, output: stdout + stderr };
  } catch (error) {
    const { code, stdout = "", stderr = "" } = error as { code?: unknown; stdout?: string; stderr?: string };
    if (typeof code !== "number") throw error;
    return { code, output: stdout + stderr };
  }
}

async function npm(...args: string[]): Promise<void> {
  const { code, output } = await run("npm", args);
  if (code !== 0) throw new Error(`npm ${args.join(" ")}: ${output}`);
}

/** Checks the files as the project would, each on its own. */
async function typeCheck(files: Readonly<Record<string, string>>): Promise<Ended> {
  const folder = await mkdtemp(path.join(dir, "checked-"));
  for (const [name, text] of Object.entries(files)) await writeFile(path.join(folder, name), text);
  await writeFile(path.join(folder, "tsconfig.json"), JSON.stringify({ extends: "../tsconfig.json" }));
  return run(path.join(root, "node_modules/.bin/tsc"), ["-p", folder, "--pretty", "false"]);
}

const program = (...statements: string[]): string => `
import { App, Chart } from "cdk8s";
import * as mazevault from "mazevault-cdk8s";
const chart = new Chart(new App(), "test", { namespace: "of-the-chart" });
${statements.join("\n")}
`;

test("the library has the version of the project", async () => {
  const { version: own } = JSON.parse(await readFile(path.join(import.meta.dirname, "package.json"), "utf8"));
  expect(own).toBe(version);
});

describe("docs/guides/write-manifests-in-typescript.md", () => {
  const blocks = (language: string): string[] =>
    [...guide.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\`$`, "gm"))].map(([, text = ""]) => text);

  test("shows the example, and the file that is packed", async () => {
    expect(blocks("ts")).toEqual([await readFile(path.join(example, "main.ts"), "utf8")]);
    expect(blocks("json")).toEqual([await readFile(path.join(example, "tsconfig.json"), "utf8")]);
    expect(blocks("sh")[0]).toContain(`npm install cdk8s constructs ./${tarball}\n`);
    expect([...guide.matchAll(/mazevault-cdk8s-[^`\s]*/g)].flat()).toEqual([tarball, tarball]);
  });

  test("checks and writes its manifests as printed; crds/admission.test.ts has the API server accept them", async () => {
    expect(await run("bash", ["-euc", blocks("sh")[1] ?? "false"])).toEqual({ code: 0, output: "" });
    const written = await readFile(path.join(dir, "manifests/payments.k8s.yaml"), "utf8");
    expect(written).toBe(await readFile(path.join(example, "manifests/payments.k8s.yaml"), "utf8"));
  });
});

test("what README.md shows compiles", async () => {
  const readme = await readFile(path.join(import.meta.dirname, "README.md"), "utf8");
  const [, text = "no code"] = /^```ts\n([\s\S]*?)^```$/m.exec(readme) ?? [];
  expect(await typeCheck({ "readme.ts": text })).toEqual({ code: 0, output: "" });
});

test("every field of every kind has a type, and comes out as it was written", async () => {
  const constructs = validManifests.map(
    ({ kind, metadata, spec }, index) =>
      `new mazevault.${kind}(chart, "${index}", ${JSON.stringify({ metadata, spec })});`,
  );
  const text = program(...constructs, "export const manifests = chart.toJson();");
  expect(await typeCheck({ "valid.ts": text })).toEqual({ code: 0, output: "" });
  await writeFile(path.join(dir, "valid.ts"), text);
  const print = 'import { manifests } from "./valid.ts"; console.log(JSON.stringify(manifests));';
  const { output } = await run(process.execPath, ["--input-type=module", "-e", print]);
  expect(JSON.parse(output)).toEqual(validManifests);
});

test("what stands in a namespace is in that of the chart, and what does not is in none", async () => {
  const text = program(
    'new mazevault.Issuer(chart, "in", { metadata: { name: "in" }, spec: {ca: {subject: {commonName: "in"}}} });',
    'new mazevault.ClusterIssuer(chart, "out", { metadata: { name: "out" }, spec: {ca: {subject: {commonName: "out"}}} });',
    "console.log(JSON.stringify(chart.toJson().map((manifest) => manifest.metadata)));",
  );
  await writeFile(path.join(dir, "namespaces.ts"), text);
  const { output } = await run(process.execPath, ["namespaces.ts"]);
  expect(JSON.parse(output)).toEqual([{ name: "in", namespace: "of-the-chart" }, { name: "out" }]);
});

describe("what does not compile, and what the compiler says:", () => {
  const secret = (entry: string, more = "") =>
    `new mazevault.Secret(chart, "wrong", { metadata: { name: "wrong" }, spec: { projectRef: { name: "payments" }, environment: "pro", entries: [${entry}], ${more} } });`;
  const entry = '{ key: "password", literal: "a" }';
  const cases: readonly (readonly [title: string, statement: string, says: RegExp])[] = [
    ["a field that does not exist", secret(entry, "delivers: {}"), /'delivers' does not exist in type 'SecretSpec'/],
    [
      "one deep inside",
      secret(entry, "deliver: { secretname: 'a' }"),
      /'secretname' does not exist in type 'SecretDeliver'/,
    ],
    ["a wrong type", secret(entry, "retention: { versions: '3' }"), /'string' is not assignable to type 'number'/],
    [
      "a value that is none of those allowed",
      secret(entry, "protection: 'None'"),
      /'"None"' is not assignable to type/,
    ],
    [
      "two of which only one may be",
      secret('{ key: "password", literal: "a", template: "b" }'),
      /Types of property '(literal|template)' are incompatible/,
    ],
    ["none of which one must be", secret('{ key: "password" }'), /is not assignable to type 'SecretEntry'/],
    [
      "an empty choice that is not empty",
      secret('{ key: "password", external: { from: "a" } }'),
      /'string' is not assignable to type 'never'/,
    ],
    [
      "a field that is missing",
      'new mazevault.Certificate(chart, "wrong", { metadata: { name: "wrong" }, spec: { secretName: "wrong" } });',
      /'issuerRef' is missing/,
    ],
    [
      "no name",
      'new mazevault.Failover(chart, "wrong", { metadata: {}, spec: { environmentRef: { name: "npr" }, activate: "Standby" } });',
      /'name' is missing/,
    ],
    [
      "a namespace of what has none",
      'new mazevault.Gateway(chart, "wrong", { metadata: { name: "wrong", namespace: "a" }, spec: {} });',
      /'namespace' does not exist in type 'ClusterMetadata'/,
    ],
  ];
  let output: string;
  beforeAll(async () => {
    const files = cases.map(([, statement], index) => [`${index}.ts`, program(statement)]);
    ({ output } = await typeCheck(Object.fromEntries(files)));
  });

  test.each(cases.map(([title, , says], index) => ({ title, says, index })))("$title", ({ says, index }) => {
    // The lines that explain an error are indented.
    const errors = output.split(/\n(?! )/).filter((error) => error.includes(`/${index}.ts(`));
    expect(errors.join("\n")).toMatch(says);
  });
});
