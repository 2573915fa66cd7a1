/** A chart that is wrong is found, by the programs themselves. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { findKubernetesSchemas } from "../lab/packaging/kubernetes-schemas.ts";
import { helm, helmUnittest, kubeconform } from "../lab/packaging/programs.ts";
import { findGoProgram } from "../lab/setup/go-program.ts";
import { checkov, findPythonTool } from "../lab/setup/python-tool.ts";
import { againstPolicies, Chart, exceptions, unittest, unknownToSchemas } from "./chart.ts";

/** `jest.config.mjs` leaves this file out where one is missing. */
const found = (file: string | undefined): string => file ?? "";
const programs = {
  helm: found(findGoProgram(helm)),
  unittest: found(findGoProgram(helmUnittest)),
  kubeconform: found(findGoProgram(kubeconform)),
  schemas: found(findKubernetesSchemas()),
  python: found(findPythonTool(checkov)),
};

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "checks-chart-"));
  write("Chart.yaml", "apiVersion: v2\nname: small\nversion: 1.0.0\nicon: https://example.com/icon.svg\n");
  write("values.yaml", "image: example.com/small:1.0.0\ndeployment: {}\npod: {}\nproject: {}\n");
  write("templates/deployment.yaml", deployment);
  write("ci/sound-values.yaml", "{}\n");
});
afterEach(() => rmSync(dir, { recursive: true }));

function write(name: string, content: string): void {
  const file = path.join(dir, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, content);
}

/** What a set of values has under `deployment`, `pod` or `project` is added there. */
const deployment = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: small
spec:
  {{- with .Values.deployment }}{{ toYaml . | nindent 2 }}{{ end }}
  selector: {matchLabels: {app: small}}
  template:
    metadata: {labels: {app: small}}
    spec:
      {{- with .Values.pod }}{{ toYaml . | nindent 6 }}{{ end }}
      containers:
        - name: small
          image: {{ required "image is required" .Values.image }}
          resources: {limits: {cpu: 1, memory: 64Mi}}
---
apiVersion: mazevault.io/v1
kind: Project
metadata:
  name: small
spec:
  environments: [{name: dev}]
  {{- with .Values.project }}{{ toYaml . | nindent 2 }}{{ end }}
`;

const chart = () => new Chart(dir, programs.helm);

test("lint names the set of values that is wrong, and has nothing to say of a sound chart", async () => {
  expect(await chart().lint()).toEqual([]);
  write("values.schema.json", '{"required": ["image"]}');
  write("ci/without-image-values.yaml", "image: null\n");
  expect(await chart().lint()).toEqual([
    expect.stringMatching(/^with without-image-values\.yaml: [\s\S]*missing property 'image'/),
  ]);
});

test("a value that is missing is found when the chart is rendered, which lint goes on without", async () => {
  write("ci/without-image-values.yaml", "image: null\n");
  await expect(chart().rendered()).rejects.toThrow(/^with without-image-values\.yaml: [\s\S]*image is required/);
});

test("a chart without any set of values is wrong", async () => {
  rmSync(path.join(dir, "ci/sound-values.yaml"));
  await expect(chart().lint()).rejects.toThrow("has no set of values");
});

test("a field that is unknown or of a wrong type, and a kind without a schema, are found", async () => {
  const unknown = () => unknownToSchemas(chart(), programs.kubeconform, programs.schemas);
  expect(await unknown()).toEqual([]);
  write("ci/1-values.yaml", "deployment: {replicsa: 2}\n");
  write("ci/2-values.yaml", "deployment: {replicas: two}\n");
  write("ci/3-values.yaml", "pod: {securityContext: {runAsNonRoot: 1}}\n");
  write("ci/4-values.yaml", "project: {environment: dev}\n");
  write("ci/5-values.yaml", "deployment: {strategy: {rollingUpdate: {maxSurge: 25%, maxUnavailable: 0}}}\n");
  const [output = ""] = await unknown();
  const lines = output.split("\n").map((line) => line.replace(/^\S*\//, ""));
  expect(lines.toSorted()).toEqual([
    expect.stringMatching(/^1-values\.yaml - Deployment small is invalid: .*'replicsa' not allowed/),
    expect.stringMatching(
      /^2-values\.yaml - Deployment small is invalid: .*\/spec\/replicas': got string, want integer/,
    ),
    expect.stringMatching(/^3-values\.yaml - Deployment small is invalid: .*runAsNonRoot': got number, want boolean/),
    expect.stringMatching(/^4-values\.yaml - Project small is invalid: .*'environment' not allowed/),
  ]);
  write("templates/other.yaml", "apiVersion: example.com/v1\nkind: Sensor\nmetadata: {name: small}\n");
  expect((await unknown())[0]).toMatch(/Sensor small failed validation: could not find schema for Sensor/);
});

test("the templates' own tests are run, and there must be some", async () => {
  const tests = () => unittest(programs.unittest, dir);
  expect(await tests()).toEqual([expect.stringContaining("has no tests")]);
  const suite = (kind: string) =>
    write(
      "tests/deployment_test.yaml",
      `suite: small\ntemplates: [deployment.yaml]\ntests:\n  - it: is one\n    documentIndex: 0\n    asserts: [{isKind: {of: ${kind}}}]\n`,
    );
  suite("Deployment");
  expect(await tests()).toEqual([]);
  suite("StatefulSet");
  expect(await tests()).toEqual([expect.stringMatching(/Expected to be kind:\s+StatefulSet/)]);
});

test("checkov's findings are told, but those that an exception is for, and so is an exception that is not needed", async () => {
  write("ci/sound-values.yaml", "pod: {hostNetwork: true, hostPID: true}\n");
  const problems = await againstPolicies(chart(), programs.python, [
    { check: "CKV_K8S_17", resources: ["Deployment.default.small"], reason: "a test looks at processes of its host" },
    { check: "CKV_K8S_18", resources: ["Deployment.default.other"], reason: "for an object that is not there" },
  ]);
  expect(problems).toContainEqual(
    expect.stringMatching(/^sound-values\.yaml: Deployment.default.small: .*\(CKV_K8S_19\)$/),
  );
  expect(problems).not.toContainEqual(expect.stringContaining("CKV_K8S_17"));
  expect(problems).toContain("the exception for CKV_K8S_18 is not needed any more");
});

test("an exception without a reason is none", () => {
  write("exceptions.yaml", "- check: CKV_K8S_17\n  reason: later\n");
  expect(() => exceptions(path.join(dir, "exceptions.yaml"))).toThrow(/exceptions\.yaml: [\s\S]*reason/);
});
