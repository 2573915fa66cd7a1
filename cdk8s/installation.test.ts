/** MazeVault's installation by the packed library: what it makes is compared with what Helm makes of the chart, object by object. */
import { copyFile, mkdir, readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { parse, parseAllDocuments } from "yaml";
import { Chart } from "../checks/chart.ts";
import { run } from "../checks/run.ts";
import { helm } from "../lab/packaging/programs.ts";
import { findGoProgram } from "../lab/setup/go-program.ts";
import { Project } from "./testing/project.ts";

const root = path.join(import.meta.dirname, "..");
const chart = path.join(root, "charts/mazevault");
const example = path.join(import.meta.dirname, "examples");
/** Without it this file is not among the tests. */
const helmFile = findGoProgram(helm) ?? "";

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels: object };
}

let project: Project;
/** Manifests that Helm renders, by the names of the sets of values in `ci/`. */
let rendered: ReadonlyMap<string, string>;

beforeAll(async () => {
  [project, rendered] = await Promise.all([Project.begin({ helm: helmFile }), new Chart(chart, helmFile).rendered()]);
  await copyFile(path.join(example, "payments/tsconfig.json"), path.join(project.dir, "tsconfig.json"));
}, 120_000);

afterAll(() => project?.end());

/** YAML as Kubernetes reads it, in the order in which it stands there. */
const objectsIn = (manifests: string): readonly Manifest[] =>
  parseAllDocuments(manifests, { version: "1.1" })
    .map((each) => each.toJS() as Manifest | null)
    .filter((each) => each !== null);

const described = ({ kind, metadata: { namespace = "", name } }: Manifest) => `${kind} ${namespace}/${name}`;

const program = (...statements: string[]): string => `
import { App, JsonPatch } from "cdk8s";
import * as mazevault from "mazevault-cdk8s";
const app = new App();
const where = { namespace: "mazevault-system", release: "mazevault" };
${statements.join("\n")}
`;

/** Runs the program, and resolves with what it prints. @throws with what it says when it fails */
async function printed(text: string): Promise<string> {
  await project.write("main.ts", text);
  const { code, output } = await project.run(process.execPath, ["main.ts"]);
  if (code !== 0) throw new Error(output);
  return output;
}

/** In a program: what an attempt fails with. */
const said =
  'const said = (attempt: () => object): string => { try { attempt(); return "nothing"; } catch (error) { return (error as Error).message; } };';

const minimal = async (): Promise<string> =>
  JSON.stringify(parse(await readFile(path.join(chart, "ci/minimal-values.yaml"), "utf8")));

test("what it makes is what Helm makes of the chart, with its defaults and with every set of values in ci/", async () => {
  const sets = await Promise.all(
    Array.from(rendered.keys(), async (name) => {
      const values = parse(await readFile(path.join(chart, "ci", name), "utf8"));
      return `"${name}": new mazevault.Installation(app, "${name}", { ...where, values: ${JSON.stringify(values)} }).toJson()`;
    }),
  );
  const text = program(`console.log(JSON.stringify({ ${sets.join(", ")} }));`);
  expect(await project.typeCheck({ "sets.ts": text })).toEqual({ code: 0, output: "" });
  const made = JSON.parse(await printed(text));
  expect(rendered.size).toBeGreaterThan(0);
  for (const [name, manifests] of rendered) {
    const byHelm = objectsIn(manifests);
    expect([name, made[name].map(described)]).toEqual([name, byHelm.map(described)]);
    for (const [index, object] of byHelm.entries()) expect(made[name][index]).toEqual(object);
  }
});

test("a preset goes before the values, as a file of values does with Helm", async () => {
  const values = {
    gateway: { environment: "PRO" },
    env: [],
    serviceAccount: { annotations: { "azure.workload.identity/client-id": "3f333df6-90a4-4fda-8dd3-9485d27cee36" } },
    secretProviderClass: { parameters: { clientID: "c", keyvaultName: "kv-mazevault-pro", tenantId: "t" } },
  };
  await project.write("gateway.json", JSON.stringify(values));
  const files = [path.join(chart, "values-gateway.yaml"), path.join(project.dir, "gateway.json")];
  const { ok, output, stdout } = await run(helmFile, [
    ...["template", "mazevault", chart, "--namespace", "mazevault-system", "--kube-version", "1.30.0"],
    ...files.flatMap((file) => ["--values", file]),
  ]);
  expect([ok, ok ? "" : output]).toEqual([true, ""]);
  const text = program(
    `const values = ${JSON.stringify(values)};`,
    'const gateway = new mazevault.Installation(app, "gateway", { ...where, preset: "gateway", values });',
    "console.log(JSON.stringify(gateway.toJson()));",
  );
  expect(JSON.parse(await printed(text))).toEqual(objectsIn(stdout));
});

test("README.md lists how it differs from `helm template` all the same, and each of these is so", async () => {
  const byHelm = rendered.get("minimal-values.yaml") ?? "";
  await printed(
    program(`new mazevault.Installation(app, "listed", { ...where, values: ${await minimal()} });`, "app.synth();"),
  );
  const made = await project.read("dist/listed.k8s.yaml");
  expect(objectsIn(made)).toEqual(objectsIn(byHelm));
  const differences: Readonly<Record<string, boolean>> = {
    "order of fields": JSON.stringify(objectsIn(made)) !== JSON.stringify(objectsIn(byHelm)),
    comments: /^ *# /m.test(byHelm) && !/^ *# /m.test(made),
  };
  const readme = await readFile(path.join(import.meta.dirname, "README.md"), "utf8");
  const [, table = ""] = /^\| +\| `helm template` .*\n\|---.*\n((?:\|.*\n)+)/m.exec(readme) ?? [];
  const listed = Array.from(table.matchAll(/^\| (.+?) \|/gm), ([, name]) => [name, true]);
  expect(Object.fromEntries(listed)).toEqual(differences);
});

test("any version of Kubernetes that the chart is for is the same to it", async () => {
  const { kubeVersion } = parse(await readFile(path.join(chart, "Chart.yaml"), "utf8"));
  const source = await readFile(path.join(import.meta.dirname, "src/installation.ts"), "utf8");
  expect(`>=${/const KUBERNETES = "([^"]+)"/.exec(source)?.[1]}-0`).toBe(kubeVersion);
  const templates = path.join(chart, "templates");
  for (const file of await readdir(templates))
    expect(await readFile(path.join(templates, file), "utf8")).not.toContain(".Capabilities");
});

test("objects can be referred to and changed, and a wrong name says which there are", async () => {
  const text = program(
    said,
    `const installation = new mazevault.Installation(app, "mine", { ...where, labels: { team: "platform" }, values: ${await minimal()} });`,
    'installation.deployment("rest").addJsonPatch(JsonPatch.add("/spec/template/spec/dnsPolicy", "Default"));',
    `console.log(JSON.stringify({
      manifests: installation.toJson(),
      service: installation.object("Service", "mazevault-rest").metadata.namespace,
      gateway: said(() => installation.deployment("gateway")),
      config: said(() => installation.object("ConfigMap", "rest")),
      ingress: said(() => installation.object("Ingress", "rest")),
    }));`,
  );
  const { manifests, ...others } = JSON.parse(await printed(text)) as { manifests: Manifest[] };
  expect(others).toEqual({
    service: "mazevault-system",
    gateway: "mine has no Deployment of gateway; it has those of ocsp, operator, rest",
    config: "mine has no ConfigMap rest; it has mazevault-operator, mazevault-rest, mazevault-ocsp",
    ingress: "mine has no Ingress rest; it has none of this kind",
  });
  const patched = manifests.filter(({ kind }) => kind === "Deployment").map((each) => JSON.stringify(each));
  expect(patched.filter((each) => each.includes('"dnsPolicy":"Default"'))).toEqual([
    expect.stringContaining('"name":"mazevault-rest"'),
  ]);
  for (const { metadata } of manifests) expect(metadata.labels).toMatchObject({ team: "platform" });
});

describe("what is wrong is said by the compiler:", () => {
  const cases: readonly (readonly [title: string, values: string, says: RegExp])[] = [
    ["a value that does not exist", "{ rest: { replica: 3 } }", /'replica' does not exist in type 'ValuesRest'/],
    ["a setting that does not exist", "{ config: { pki: { baseURL: '' } } }", /'baseURL' does not exist/],
    ["a wrong type", "{ rest: { replicas: '3' } }", /'string' is not assignable to type 'number'/],
    ["none of those allowed", "{ ocsp: { mode: 'Beside' } }", /'"Beside"' is not assignable to type/],
    ["a preset that does not exist", "{}, preset: 'primary'", /'"primary"' is not assignable to type/],
  ];
  let output: string;
  beforeAll(async () => {
    const wrong = (values: string) =>
      program(`new mazevault.Installation(app, "wrong", { ...where, values: ${values} });`);
    const files = cases.map(([, values], index) => [`${index}.ts`, wrong(values)]);
    ({ output } = await project.typeCheck(Object.fromEntries(files)));
  });

  test.each(cases.map(([title, , says], index) => ({ title, says, index })))("$title", ({ says, index }) => {
    expect(
      output
        .split("\n")
        .filter((line) => line.includes(`/${index}.ts(`))
        .join("\n"),
    ).toMatch(says);
  });
});

test("what is wrong is said when the program runs: values that are missing or out of bounds, and a Helm that is not there", async () => {
  const missing = path.join(project.dir, "helm");
  const wrong = {
    missing: "values: {}",
    bounds: `values: { ...${await minimal()}, operator: { replicas: 99 } }`,
    absent: `helm: "${missing}"`,
    folder: `helm: "${project.dir}"`,
  };
  const attempts = Object.entries(wrong).map(
    ([name, props]) => `${name}: said(() => new mazevault.Installation(app, "${name}", { ...where, ${props} }))`,
  );
  const answers = JSON.parse(await printed(program(said, `console.log(JSON.stringify({ ${attempts.join(", ")} }));`)));
  expect(answers).toEqual({
    missing: expect.stringMatching(
      /^the chart of MazeVault does not take these values: [\s\S]*rootKey\.secretName: required; make a Secret with the key root\.key/,
    ),
    bounds: expect.stringMatching(
      /^the chart of MazeVault does not take these values: [\s\S]*\/operator\/replicas.* maximum/,
    ),
    absent: `MazeVault is installed by its Helm chart, and there is no program ${missing}: install Helm 3.12 or later, or say where it is with helm`,
    folder: expect.stringMatching(/ cannot be run: .*EACCES/),
  });
});

test("the example of the guide is checked and run as printed: a primary that is changed, and two gateways", async () => {
  const guide = await readFile(path.join(root, "docs/guides/write-manifests-in-typescript.md"), "utf8");
  const section = guide.slice(guide.indexOf("## Install MazeVault itself"));
  const block = (language: string) =>
    new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\`$`, "m").exec(section)?.[1] ?? "";
  const main = await readFile(path.join(example, "installation/main.ts"), "utf8");
  expect(block("ts")).toBe(main);
  const folder = path.join(project.dir, "example");
  await mkdir(folder);
  await copyFile(path.join(example, "installation/main.ts"), path.join(folder, "install.ts"));
  await copyFile(path.join(project.dir, "tsconfig.json"), path.join(folder, "tsconfig.json"));
  expect(await project.run("bash", ["-euc", block("sh")], folder)).toEqual({ code: 0, output: "" });

  const written = async (name: string) => objectsIn(await project.read(`example/manifests/${name}.k8s.yaml`));
  const aliased = (await written("primary/mazevault")).filter((each) => JSON.stringify(each).includes('"hostAliases"'));
  expect(aliased.map(({ metadata }) => metadata.name)).toEqual([
    "mazevault-ocsp",
    "mazevault-operator",
    "mazevault-rest",
  ]);
  expect(await written("primary/pki")).toMatchObject([
    { kind: "Ingress", metadata: { namespace: "mazevault-system" } },
  ]);
  for (const environment of ["npr", "pro"]) {
    const objects = await written(`gateway-${environment}/mazevault`);
    const settings = objects.find(({ kind }) => kind === "ConfigMap") as unknown as { data: Record<string, string> };
    expect(parse(settings.data["settings.yaml"] ?? "").gateway).toMatchObject({
      environment: environment.toUpperCase(),
    });
  }
});
