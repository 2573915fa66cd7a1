/**
 * What must hold for the chart with every set of values in its `ci/`: `helm lint`, the templates' own tests, each object as
 * Kubernetes' schemas and ours have it, without a field that they do not know, and checkov's policies, where a finding that
 * stands has its reason in `checkov-exceptions.yaml`. `node checks/chart.ts` runs these checks alone.
 */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { kubernetesVersion } from "../lab/controlplane/versions.ts";
import { writeCrdSchemas } from "../lab/packaging/crd-schemas.ts";
import { findKubernetesSchemas, schemaName } from "../lab/packaging/kubernetes-schemas.ts";
import { helm, helmUnittest, kubeconform } from "../lab/packaging/programs.ts";
import { findGoProgram } from "../lab/setup/go-program.ts";
import { checkov, findPythonTool } from "../lab/setup/python-tool.ts";
import { byProblems, type Check } from "./check.ts";
import { type Answer, inFolder, run, writeAll } from "./run.ts";

const root = path.join(import.meta.dirname, "..");
/** Written by hand: what the chart uses of kinds that are neither Kubernetes' nor ours. */
const otherSchemas = path.join(root, "lab/packaging/schemas");

/** The checks that this machine has the programs for. */
export function chartChecks(dir = path.join(root, "charts/mazevault")): readonly Check[] {
  const helmFile = findGoProgram(helm);
  const unittestFile = findGoProgram(helmUnittest);
  const kubeconformFile = findGoProgram(kubeconform);
  const schemas = findKubernetesSchemas();
  const python = findPythonTool(checkov);
  const checks: Check[] = [];
  if (unittestFile !== undefined) checks.push(byProblems("helm-unittest", () => unittest(unittestFile, dir)));
  if (helmFile === undefined) return checks;
  const chart = new Chart(dir, helmFile);
  checks.push(byProblems("helm lint", () => chart.lint()));
  if (kubeconformFile !== undefined && schemas !== undefined)
    checks.push(byProblems("kubeconform", () => unknownToSchemas(chart, kubeconformFile, schemas)));
  if (python !== undefined) checks.push(byProblems("checkov", () => againstPolicies(chart, python, exceptions())));
  return checks;
}

/** The chart as Helm sees it, with each set of values. */
export class Chart {
  readonly #dir: string;
  readonly #helm: string;
  readonly #sets: string;
  #rendered: Promise<ReadonlyMap<string, string>> | undefined;

  /** @param sets folder of the sets of values */
  constructor(dir: string, helmFile: string, sets = path.join(dir, "ci")) {
    this.#dir = dir;
    this.#helm = helmFile;
    this.#sets = sets;
  }

  async lint(): Promise<readonly string[]> {
    const answers = this.#valueSets().map(async (values) => {
      const { ok, output } = await this.#ask("lint", "--strict", "--quiet", "--values", values);
      return ok ? [] : [`with ${path.basename(values)}: ${output}`];
    });
    return (await Promise.all(answers)).flat();
  }

  /** Manifests by the names of the sets of values. @throws where one cannot be rendered */
  rendered(): Promise<ReadonlyMap<string, string>> {
    this.#rendered ??= this.#render();
    return this.#rendered;
  }

  async #render(): Promise<ReadonlyMap<string, string>> {
    const manifests = Array.from(await this.renderings(), ([name, { ok, output, stdout }]) => {
      if (!ok) throw new Error(`with ${name}: ${output}`);
      return [name, stdout] as const;
    });
    return new Map(manifests);
  }

  /** What Helm says to each set of values, by its name. */
  async renderings(): Promise<ReadonlyMap<string, Answer>> {
    const release = ["template", "mazevault", "--namespace", "mazevault-system", "--include-crds"];
    const answers = this.#valueSets().map(async (values) => {
      return [path.basename(values), await this.#ask(...release, "--values", values)] as const;
    });
    return new Map(await Promise.all(answers));
  }

  #ask(...args: readonly string[]) {
    // Without plug-ins and repositories of the user's; for the Kubernetes of the lab.
    return inFolder((own) => {
      const env = { HELM_CONFIG_HOME: own, HELM_CACHE_HOME: own, HELM_DATA_HOME: own };
      return run(this.#helm, [...args, "--kube-version", kubernetesVersion, this.#dir], env);
    });
  }

  #valueSets(): readonly string[] {
    const files = readdirSync(this.#sets).filter((name) => name.endsWith(".yaml"));
    if (files.length === 0) throw new Error(`${this.#sets} has no set of values (*.yaml)`);
    return files.map((name) => path.join(this.#sets, name));
  }
}

/** The suites in `tests/`. */
export async function unittest(program: string, dir: string): Promise<readonly string[]> {
  const { ok, output } = await run(program, ["--strict", dir]);
  if (!ok) return [output];
  // It is content with none.
  return /^Tests: +[1-9]/m.test(output) ? [] : [`${dir} has no tests (tests/*_test.yaml)`];
}

/** Objects that differ from their schemas, or have none. */
export async function unknownToSchemas(chart: Chart, program: string, kubernetes: string): Promise<readonly string[]> {
  const manifests = await chart.rendered();
  return inFolder(async (dir) => {
    const own = path.join(dir, "schemas");
    writeCrdSchemas({ from: path.join(root, "crds/generated"), to: own, kubernetes });
    const locations = [kubernetes, own, otherSchemas].flatMap((each) => [
      "-schema-location",
      path.join(each, schemaName),
    ]);
    const files = writeAll(path.join(dir, "manifests"), manifests);
    const { ok, output } = await run(program, ["-strict", ...locations, ...files]);
    return ok ? [] : [output];
  });
}

/** Why a finding of checkov's stands. */
const exceptionsSchema = z.array(
  z.strictObject({
    check: z.string().regex(/^CKV2?_K8S_\d+$/),
    /** `KIND.NAMESPACE.NAME`, as checkov calls them. Absent: all. */
    resources: z.array(z.string()).min(1).optional(),
    reason: z.string().min(20),
  }),
);
export type Exceptions = z.infer<typeof exceptionsSchema>;

export function exceptions(file = path.join(import.meta.dirname, "checkov-exceptions.yaml")): Exceptions {
  const { data, error } = exceptionsSchema.safeParse(parse(readFileSync(file, "utf8")));
  if (error) throw new Error(`${path.basename(file)}: ${z.prettifyError(error)}`);
  return data;
}

/** The part of checkov's report that is read. */
interface Report {
  readonly results?: {
    readonly failed_checks: readonly Finding[];
    readonly parsing_errors: readonly string[];
  };
}
interface Finding {
  readonly check_id: string;
  readonly check_name: string;
  readonly resource: string;
  readonly file_path: string;
}

/** Findings that no exception is for, and exceptions that are for no finding. One start of checkov, which takes seconds. */
export async function againstPolicies(chart: Chart, python: string, excepted: Exceptions): Promise<readonly string[]> {
  const manifests = await chart.rendered();
  return inFolder(async (dir) => {
    writeAll(
      dir,
      Array.from(manifests, ([name, text]) => [name, withoutDefinitions(text)]),
    );
    const options = ["--framework", "kubernetes", "--output", "json", "--compact", "--skip-download"];
    const { stdout, output } = await run(python, ["-m", "checkov.main", "--directory", dir, ...options], {
      // It asks nobody whether there is a newer one.
      CKV_SKIP_PACKAGE_UPDATE_CHECK: "true",
    });
    const { results } = JSON.parse(stdout) as Report;
    if (results === undefined) return [`checkov found nothing that it knows: ${output}`];
    const used = new Set<Exceptions[number]>();
    const findings = results.failed_checks.filter(({ check_id, resource }) => {
      const exception = excepted.find(
        ({ check, resources }) => check === check_id && (resources === undefined || resources.includes(resource)),
      );
      if (exception) used.add(exception);
      return exception === undefined;
    });
    return [
      ...results.parsing_errors.map((file) => `checkov cannot read ${file}`),
      ...findings.map((each) => `${each.file_path.slice(1)}: ${each.resource}: ${each.check_name} (${each.check_id})`),
      ...excepted
        .filter((each) => !used.has(each))
        .map(({ check }) => `the exception for ${check} is not needed any more`),
    ];
  });
}

/** checkov has no policy for resource definitions, and takes long to read ours. */
const withoutDefinitions = (manifests: string): string =>
  manifests
    .split(/^---$/m)
    .filter((each) => !/^kind: CustomResourceDefinition$/m.test(each))
    .join("---\n");

if (import.meta.main) {
  for (const { name, holds } of chartChecks()) {
    const ok = await holds();
    console.log(`${ok ? "ok" : "FAILED"}: ${name}`);
    if (!ok) process.exitCode = 1;
  }
}
