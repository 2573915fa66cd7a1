/** What teams make of the packed library: constructs of every kind. */
import { cp, readFile } from "node:fs/promises";
import path from "node:path";
import { validManifests } from "../crds/testing/valid.ts";
import { Project, tarball, version } from "./testing/project.ts";

const root = path.join(import.meta.dirname, "..");
const example = path.join(import.meta.dirname, "examples/payments");
const guide = await readFile(path.join(root, "docs/guides/write-manifests-in-typescript.md"), "utf8");

let project: Project;

beforeAll(async () => {
  project = await Project.begin();
  for (const file of ["main.ts", "tsconfig.json"]) await cp(path.join(example, file), path.join(project.dir, file));
}, 120_000);

afterAll(() => project?.end());

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
    expect(blocks("ts")[0]).toBe(await readFile(path.join(example, "main.ts"), "utf8"));
    expect(blocks("json")).toEqual([await readFile(path.join(example, "tsconfig.json"), "utf8")]);
    expect(blocks("sh")[0]).toContain(`npm install cdk8s constructs ./${tarball}\n`);
    expect([...guide.matchAll(/mazevault-cdk8s-[^`\s]*/g)].flat()).toEqual([tarball, tarball]);
  });

  test("checks and writes its manifests as printed; crds/admission.test.ts has the API server accept them", async () => {
    expect(await project.run("bash", ["-euc", blocks("sh")[1] ?? "false"])).toEqual({ code: 0, output: "" });
    const written = await project.read("manifests/payments.k8s.yaml");
    expect(written).toBe(await readFile(path.join(example, "manifests/payments.k8s.yaml"), "utf8"));
  });
});

test("what README.md shows compiles", async () => {
  const readme = await readFile(path.join(import.meta.dirname, "README.md"), "utf8");
  const examples = Array.from(readme.matchAll(/^```ts\n([\s\S]*?)^```$/gm), ([, text = ""], index) => [
    `${index}.ts`,
    text,
  ]);
  expect(examples).toHaveLength(2);
  expect(await project.typeCheck(Object.fromEntries(examples))).toEqual({ code: 0, output: "" });
});

test("every field of every kind has a type, and comes out as it was written", async () => {
  const constructs = validManifests.map(
    ({ kind, metadata, spec }, index) =>
      `new mazevault.${kind}(chart, "${index}", ${JSON.stringify({ metadata, spec })});`,
  );
  const text = program(...constructs, "export const manifests = chart.toJson();");
  expect(await project.typeCheck({ "valid.ts": text })).toEqual({ code: 0, output: "" });
  await project.write("valid.ts", text);
  const print = 'import { manifests } from "./valid.ts"; console.log(JSON.stringify(manifests));';
  const { output } = await project.run(process.execPath, ["--input-type=module", "-e", print]);
  expect(JSON.parse(output)).toEqual(validManifests);
});

test("what stands in a namespace is in that of the chart, and what does not is in none", async () => {
  const text = program(
    'new mazevault.Issuer(chart, "in", { metadata: { name: "in" }, spec: {ca: {subject: {commonName: "in"}}} });',
    'new mazevault.ClusterIssuer(chart, "out", { metadata: { name: "out" }, spec: {ca: {subject: {commonName: "out"}}} });',
    "console.log(JSON.stringify(chart.toJson().map((manifest) => manifest.metadata)));",
  );
  await project.write("namespaces.ts", text);
  const { output } = await project.run(process.execPath, ["namespaces.ts"]);
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
    ({ output } = await project.typeCheck(Object.fromEntries(files)));
  });

  test.each(cases.map(([title, , says], index) => ({ title, says, index })))("$title", ({ says, index }) => {
    // The lines that explain an error are indented.
    const errors = output.split(/\n(?! )/).filter((error) => error.includes(`/${index}.ts(`));
    expect(errors.join("\n")).toMatch(says);
  });
});
