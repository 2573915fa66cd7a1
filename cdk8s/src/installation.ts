/** MazeVault itself, as constructs: what its Helm chart makes of values. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ApiObject, Chart, Yaml } from "cdk8s";
import type { Construct } from "constructs";
import type { Values } from "./values.ts";

/** Put there when the library is packed. */
const CHART = fileURLToPath(new URL("./chart", import.meta.url));
/** The oldest that the chart is for. Nothing in it depends on the version, and a Helm of that time would take an older one. */
const KUBERNETES = "1.30.0";
const MAX_OCTETS = 64 * 1024 * 1024;
const COMPONENT = "app.kubernetes.io/component";

/** What runs in a Deployment of its own: operator, REST and OCSP responder at a primary, everything in one as a gateway. */
export type Program = "operator" | "rest" | "ocsp" | "gateway";

export interface InstallationProps {
  /** Namespace of the programs, which must exist. */
  readonly namespace: string;
  /** Name of the release, as Helm calls it: names of objects begin with it. */
  readonly release: string;
  /** What the values go before: `gateway` is `values-gateway.yaml` of the chart, a gateway in Azure. None: the chart's defaults. */
  readonly preset?: "gateway";
  /** Values of the chart. As with Helm, objects are merged into what is there, and lists replace it. */
  readonly values?: Values;
  /** Labels of all objects, beside those that the chart gives them. */
  readonly labels?: Readonly<Record<string, string>>;
  /**
   * The program that renders the chart, Helm 3.12 or later.
   * @default "helm"
   */
  readonly helm?: string;
}

/**
 * An installation of MazeVault: a primary, or a gateway of one in another cluster. It is a Chart, and so becomes a file of its own; other
 * charts that need it say so with `addDependency`.
 */
export class Installation extends Chart {
  /** @throws with what the chart says of the values, or where there is no Helm */
  constructor(scope: Construct, id: string, props: InstallationProps) {
    // Without a namespace, which it would give to objects of the whole cluster too: all others have one from Helm.
    super(scope, id, { labels: { ...props.labels } });
    for (const manifest of manifests(props)) {
      const { kind, metadata } = manifest;
      // A namespace has no dot, so no two objects have one id.
      const parts = [kind, metadata.namespace, metadata.name].filter((part) => part !== undefined);
      new ApiObject(this, parts.join("."), manifest);
    }
  }

  /**
   * The Deployment of a program, to refer to it, or to change it with `addJsonPatch`.
   * @throws where it has none here
   */
  deployment(program: Program): ApiObject {
    const deployments = this.apiObjects.filter(({ kind }) => kind === "Deployment");
    const found = deployments.find(({ metadata }) => metadata.getLabel(COMPONENT) === program);
    if (found !== undefined) return found;
    const others = deployments.map(({ metadata }) => metadata.getLabel(COMPONENT)).join(", ");
    throw new Error(`${this.node.path} has no Deployment of ${program}; it has those of ${others}`);
  }

  /**
   * The object of this kind and name, such as `object("Service", "mazevault-rest")`.
   * @throws where there is none
   */
  object(kind: string, name: string): ApiObject {
    const ofKind = this.apiObjects.filter((each) => each.kind === kind);
    const found = ofKind.find((each) => each.name === name);
    if (found !== undefined) return found;
    const others =
      ofKind.length === 0 ? "it has none of this kind" : `it has ${ofKind.map((each) => each.name).join(", ")}`;
    throw new Error(`${this.node.path} has no ${kind} ${name}; ${others}`);
  }
}

interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

function manifests({ namespace, release, preset, values = {}, helm = "helm" }: InstallationProps): readonly Manifest[] {
  const base = preset === undefined ? [] : ["--values", path.join(CHART, `values-${preset}.yaml`)];
  const args = [
    "template",
    release,
    CHART,
    "--namespace",
    namespace,
    "--kube-version",
    KUBERNETES,
    ...base,
    "--values",
    "-",
  ];
  const { error, status, stdout, stderr } = spawnSync(helm, args, {
    input: JSON.stringify(values),
    encoding: "utf8",
    maxBuffer: MAX_OCTETS,
  });
  if (error !== undefined && "code" in error && error.code === "ENOENT") {
    throw new Error(
      `MazeVault is installed by its Helm chart, and there is no program ${helm}: install Helm 3.12 or later, or say where it is with helm`,
    );
  }
  if (error !== undefined) throw new Error(`${helm} cannot be run: ${error.message}`);
  if (status !== 0) throw new Error(`the chart of MazeVault does not take these values: ${stderr.trim()}`);
  const folder = mkdtempSync(path.join(tmpdir(), "mazevault-cdk8s-"));
  try {
    const file = path.join(folder, "chart.yaml");
    writeFileSync(file, stdout);
    return Yaml.load(file);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
