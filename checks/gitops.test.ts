/** The repository that `deploy/gitops` is to begin with: what it installs is the chart of this version, with values that the chart takes. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { parse, parseAllDocuments } from "yaml";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { kubernetesVersion } from "../lab/controlplane/versions.ts";
import { helm } from "../lab/packaging/programs.ts";
import { findGoProgram } from "../lab/setup/go-program.ts";
import { VERSION } from "../program/version.ts";
import { read, root } from "./pages.ts";
import { inFolder, run, writeAll } from "./run.ts";

/** `jest.config.mjs` leaves this file out without it. */
const helmFile = findGoProgram(helm) ?? "";

interface Metadata {
  readonly name: string;
  readonly namespace: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Of Argo CD. */
interface Application {
  readonly metadata: Metadata;
  readonly spec: {
    readonly source: {
      readonly targetRevision: string;
      readonly path: string;
      readonly helm?: { readonly releaseName: string; readonly valuesObject: object };
    };
    readonly destination: { readonly namespace: string };
  };
}

/** Of Flux, as far as it is read: a GitRepository, a HelmRelease, a Kustomization. */
interface FluxObject {
  readonly metadata: Metadata;
  readonly spec: {
    readonly ref?: { readonly tag: string };
    readonly chart?: { readonly spec: { readonly chart: string } };
    readonly releaseName?: string;
    readonly targetNamespace?: string;
    readonly valuesFrom?: readonly object[];
    readonly retryInterval?: string;
  };
}

interface ConfigMap {
  readonly metadata: Metadata;
  readonly data: { readonly "values.yaml": string };
}

const text = (file: string): string => readFileSync(path.join(root, file), "utf8");
const objectsIn = <Kind>(file: string): readonly Kind[] =>
  parseAllDocuments(text(`deploy/gitops/${file}`)).map((each) => each.toJS() as Kind);

const applications = objectsIn<Application>("argocd/applications.yaml");
const [repository, release] = objectsIn<FluxObject>("flux/mazevault.yaml");
const folders = objectsIn<FluxObject>("flux/folders.yaml");
const installing = applications.find(({ spec }) => spec.source.helm !== undefined);

test("both tools install the same chart under the same name", () => {
  const byArgo = {
    tag: installing?.spec.source.targetRevision,
    chart: installing?.spec.source.path,
    release: installing?.spec.source.helm?.releaseName,
    namespace: installing?.spec.destination.namespace,
  };
  const byFlux = {
    tag: repository?.spec.ref?.tag,
    chart: release?.spec.chart?.spec.chart,
    release: release?.spec.releaseName,
    namespace: release?.spec.targetNamespace,
  };
  const expected = { tag: `v${VERSION}`, chart: "charts/mazevault", release: "mazevault", namespace: SYSTEM_NAMESPACE };
  expect([byArgo, byFlux]).toEqual([expected, expected]);
});

test("both are given the same values, and the chart takes them", async () => {
  const { sections } = read("gitops.md", text("docs/guides/gitops.md"));
  const [block] = sections.find(({ heading }) => heading === "Install it")?.blocks ?? [];
  const { metadata, data } = parse(block?.text ?? "") as ConfigMap;
  expect(release?.spec.valuesFrom).toEqual([{ kind: "ConfigMap", name: metadata.name }]);
  expect(release?.metadata.namespace).toBe(metadata.namespace);
  expect(installing?.spec.source.helm?.valuesObject).toEqual(parse(data["values.yaml"]));
  const { ok, output } = await inFolder((own) => {
    const env = { HELM_CONFIG_HOME: own, HELM_CACHE_HOME: own, HELM_DATA_HOME: own };
    const [values = ""] = writeAll(own, Object.entries(data));
    const chart = path.join(root, "charts/mazevault");
    return run(
      helmFile,
      ["template", "mazevault", chart, "--kube-version", kubernetesVersion, "--values", values],
      env,
    );
  });
  expect([ok, ok ? "" : output]).toEqual([true, ""]);
});

test("what needs the definitions comes after the chart, or is tried again soon", () => {
  const waves = applications.map(({ metadata }) => [
    metadata.name,
    Number(metadata.annotations?.["argocd.argoproj.io/sync-wave"]),
  ]);
  expect(Object.fromEntries(waves)).toEqual({ mazevault: -1, platform: 0, shop: 1 });
  const retried = folders.map(({ metadata, spec }) => [metadata.name, spec.retryInterval]);
  expect(Object.fromEntries(retried)).toEqual({ platform: "1m", shop: "1m" });
});
