/**
 * The chart on the real API server, in namespaces that admit restricted pods only: each set of values in `ci/` is taken without a warning,
 * and the controllers of Kubernetes make all its pods of it. No node runs them here.
 */
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import { read } from "../../checks/pages.ts";
import { OPERATOR_PODS, RESPONDER_PODS } from "../../core/diagnosis/logs.ts";
import { kinds } from "../../crds/index.ts";
import { runKubectl } from "../../lab/controlplane/kubectl.ts";
import { kubernetesVersion } from "../../lab/controlplane/versions.ts";
import { type Lab, resetLab, startLab } from "../../lab/lab.ts";
import { helm as helmProgram } from "../../lab/packaging/programs.ts";
import { until } from "../../lab/poll.ts";
import { findGoProgram } from "../../lab/setup/go-program.ts";
import { configSchema as ocspSettings } from "../../ocsp/config.ts";
import { configSchema as operatorSettings } from "../../operator/config.ts";
import { readInvocation } from "../../program/settings.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const chart = path.join(root, "charts/mazevault");
/** Without it this file is not among the tests. */
const helmFile = findGoProgram(helmProgram) ?? "";
const sets = readdirSync(path.join(chart, "ci")).map((file) => file.replace("-values.yaml", ""));
/** Of the Secrets Store CSI driver, as far as the chart uses it. */
const definitions = path.join(root, "e2e/chart/definitions.yaml");

const installation = path.join(root, "docs/guides/install-with-helm.md");
const azure = { CLIENT_ID: "3f333df6-90a4-4fda-8dd3-9485d27cee36", TENANT_ID: "7c9e6679-7425-40de-944b-e07fc1f90ae7" };
/** As the founding document has it, and the guide: its path, its file and its paths of values; variables instead of questions to Terraform. */
const GATEWAY = String.raw`helm upgrade --install mazevault-gateway deploy/k8s/helm \
  -n mazevault \
  -f deploy/k8s/helm/values-gateway.yaml \
  --set serviceAccount.annotations."azure\.workload\.identity/client-id"="$CLIENT_ID" \
  --set secretProviderClass.parameters.clientID="$CLIENT_ID" \
  --set secretProviderClass.parameters.keyvaultName=kv-mazevault-npr \
  --set secretProviderClass.parameters.tenantId="$TENANT_ID"
`;

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly data?: Readonly<Record<string, string>>;
  readonly spec?: { readonly template?: { readonly spec: PodSpec } };
}

interface PodSpec {
  readonly containers: readonly {
    readonly args?: readonly string[];
    readonly env?: readonly { readonly name: string; readonly value?: string }[];
    readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[];
  }[];
  readonly volumes?: readonly {
    readonly name: string;
    readonly configMap?: { readonly name: string };
    readonly secret?: { readonly secretName: string; readonly items?: readonly { readonly key: string }[] };
    readonly projected?: { readonly sources: readonly { readonly secret?: Source; readonly configMap?: Source }[] };
  }[];
}

interface Source {
  readonly name: string;
  readonly items: readonly { readonly key: string; readonly path: string }[];
}

interface Metadata {
  readonly name: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A Deployment or StatefulSet. */
interface Workload {
  readonly metadata: Metadata & { readonly generation: number };
  readonly spec: { readonly replicas: number };
  readonly status: {
    readonly observedGeneration?: number;
    readonly replicas?: number;
    readonly conditions?: readonly { readonly type: string; readonly message: string }[];
  };
}

let dir: string;
let lab: Lab;

beforeAll(async () => {
  dir = mkdtempSync(path.join(tmpdir(), "mazevault-chart-"));
  lab = await startLab({ dir, durable: false });
  await kubectl("apply", "-f", definitions);
  // Which the release lets the operator into, where that may not.
  await kubectl("create", "namespace", "payments");
});

afterAll(async () => {
  await lab?.stop();
  await resetLab(dir);
});

test("a gateway is installed, upgraded to the same, and uninstalled, which leaves the resource definitions", async () => {
  await restrictedNamespace("mazevault");
  expect(await asWritten(GATEWAY)).toEqual({ code: 0, stderr: "" });
  expect(readFileSync(installation, "utf8")).toContain(GATEWAY);
  await podsOf("mazevault", "deployment", "mazevault-gateway");
  expect(await logged("mazevault", OPERATOR_PODS)).toEqual(["mazevault-gateway"]);
  const identity = await get<{ metadata: Metadata }>("mazevault", "serviceaccount", "mazevault-operator");
  expect(identity.metadata.annotations).toMatchObject({ "azure.workload.identity/client-id": azure.CLIENT_ID });
  const entries = await get<{ spec: { parameters: object } }>("mazevault", "secretproviderclass", "mazevault-gateway");
  expect(entries.spec.parameters).toMatchObject({
    clientID: azure.CLIENT_ID,
    keyvaultName: "kv-mazevault-npr",
    tenantId: azure.TENANT_ID,
  });
  const { spec } = await get<{ spec: { ports: object[] } }>("mazevault", "service", "mazevault-gateway");
  expect(spec.ports).toEqual([expect.objectContaining({ port: 8443, targetPort: "https" })]);

  const gateway = () => get<Workload>("mazevault", "deployment", "mazevault-gateway");
  const { metadata: before } = await gateway();
  expect(await asWritten(GATEWAY)).toEqual({ code: 0, stderr: "" });
  expect((await gateway()).metadata.generation).toBe(before.generation);

  expect(await helm("uninstall", "mazevault-gateway", "-n", "mazevault")).toEqual("");
  expect(await kubectl("-n", "mazevault", "get", "deployments", "-o", "name")).toBe("");
  const left = await kubectl("get", "customresourcedefinitions", "-o", "name");
  for (const { plural } of kinds) expect(left).toContain(`/${plural}.mazevault.io\n`);
});

describe.each(sets)("the values of %s", (set) => {
  let manifests: string;
  let objects: readonly Manifest[];

  beforeAll(async () => {
    const release = set.startsWith("gateway") ? "mazevault-gateway" : "mazevault";
    const where = ["-n", set, "--kube-version", kubernetesVersion];
    const values = path.join(chart, "ci", `${set}-values.yaml`);
    const { stdout, stderr, code } = await run("template", release, chart, ...where, "-f", values);
    expect([code, stderr]).toEqual([0, ""]);
    manifests = stdout;
    objects = objectsIn(stdout);
  });

  test("are taken without a warning, and all pods are admitted", async () => {
    await restrictedNamespace(set);
    const apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    const { code, stderr } = await lab.controlPlane.kubectl(apply, { input: manifests });
    expect([code, stderr]).toEqual([0, ""]);
    const workloads = objects.filter(({ kind }) => kind === "Deployment" || kind === "StatefulSet");
    expect(workloads.length).toBeGreaterThan(0);
    await Promise.all(workloads.map(({ kind, metadata: { name } }) => podsOf(set, kind.toLowerCase(), name)));
  });

  test("have pods whose logs are found by what doctor says", async () => {
    const operator = set.startsWith("gateway") ? "mazevault-gateway" : "operator";
    expect(await logged(set, OPERATOR_PODS)).toEqual([operator]);
    const responder = objects.some(({ kind, metadata: { name } }) => kind === "Service" && name === "mazevault-ocsp");
    expect((await logged(set, RESPONDER_PODS)).includes("ocsp")).toBe(responder);
  });

  test("become settings that each program takes, and files that it is given", () => {
    for (const { spec } of objects.filter(({ kind }) => kind === "Deployment")) {
      const { containers = [], volumes = [] } = spec?.template?.spec ?? {};
      for (const container of containers) {
        const mounted = (at: string) => container.volumeMounts.find(({ mountPath }) => mountPath === at)?.name;
        const volume = (at: string) => volumes.find(({ name }) => name === mounted(at));
        const { configMap } = volume("/etc/mazevault/settings") ?? {};
        const settings = objects.find(
          ({ kind, metadata }) => kind === "ConfigMap" && metadata.name === configMap?.name,
        );
        const file = path.join(dir, "settings.yaml");
        writeFileSync(file, settings?.data?.["settings.yaml"] ?? "there are none");
        // What comes from a Key Vault is not known here.
        const env = Object.fromEntries(
          (container.env ?? []).map(({ name, value = "https://elsewhere" }) => [name, value]),
        );
        const schema = container.args?.[0] === "ocsp.mjs" ? ocspSettings : operatorSettings;
        const { config } = readInvocation(schema, ["--config", file], env);
        const named = JSON.stringify(config).matchAll(/"\/etc\/mazevault\/secrets\/([^"]+)"/g);
        const given = volume("/etc/mazevault/secrets")?.projected?.sources.flatMap(
          ({ secret, configMap }) => (secret ?? configMap)?.items.map((item) => item.path) ?? [],
        );
        expect(new Set(given)).toEqual(new Set(Array.from(named, ([, name]) => name)));
      }
    }
  });
});

test("docs/security/controls.md prints how pods and networks are restricted", async () => {
  const page = read("controls.md", readFileSync(path.join(root, "docs/security/controls.md"), "utf8"));
  const block = page.sections.find(({ heading }) => heading === "Pods and networks")?.blocks[0]?.text ?? "false";
  const env = {
    PATH: `${path.dirname(lab.controlPlane.kubectlPath)}:${process.env.PATH}`,
    KUBECONFIG: lab.controlPlane.kubeconfigPath,
    INSTALLATION: "everything",
  };
  const options = { cwd: mkdtempSync(path.join(dir, "evidence-")), env, encoding: "utf8" } as const;
  const printed = execFileSync("bash", ["--norc", "-euo", "pipefail", "-c", block], options);
  expect(printed).toMatch(/everything +Active .* restricted\n/);
  expect(printed).toMatch(/^mazevault-operator +true +true$/m);
  expect(printed).toMatch(/^mazevault-default-deny +app/m);
});

test("the Secrets for a look at it, as the guide makes them, have every key that its pods are given", async () => {
  await pastedTwice("A look at it", mkdtempSync(path.join(dir, "guide-")), {
    "root.key": ["mazevault-root-key", "root.key"],
    "database.password": ["mazevault-database", "password"],
    "ocsp.password": ["mazevault-ocsp-database", "password"],
    "ca.crt": ["mazevault-database", "ca.crt"],
    "mazevault-rest.mazevault-system.svc.crt": ["mazevault-rest-tls", "tls.crt"],
  });
  const values = path.join(chart, "ci/evaluation-values.yaml");
  const where = ["-n", "mazevault-system", "--kube-version", kubernetesVersion];
  const { stdout } = await run("template", "mazevault", chart, ...where, "-f", values);
  const volumes = objectsIn(stdout).flatMap(({ spec }) => spec?.template?.spec.volumes ?? []);
  const sources = volumes.flatMap(({ projected, secret }) => [
    ...(projected?.sources ?? []).flatMap((each) => each.secret ?? []),
    ...(secret ? [{ name: secret.secretName, items: secret.items ?? [{ key: "tls.crt" }, { key: "tls.key" }] }] : []),
  ]);
  expect(sources.length).toBeGreaterThan(8);
  for (const { name, items } of sources) {
    const { data } = await get<{ data: Record<string, string> }>("mazevault-system", "secret", name);
    expect(Object.keys(data)).toEqual(expect.arrayContaining(items.map(({ key }) => key)));
  }
});

test("the Secrets of a primary, as the guide makes them, are of the files that are kept", async () => {
  const folder = mkdtempSync(path.join(dir, "guide-"));
  for (const name of ["database.password", "database-ca.crt", "ocsp.password"])
    writeFileSync(path.join(folder, name), name);
  const certificate = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  const files = ["-subj", "/CN=rest", "-keyout", "rest.key", "-out", "rest.crt"];
  execFileSync("openssl", [...certificate, ...files], { cwd: folder, stdio: "ignore" });
  await pastedTwice("A primary", folder, { "root.key": ["mazevault-root-key", "root.key"] }, "a-primary");
});

/**
 * Pastes what a section of the guide makes before it installs, and pastes it again: the files are still what the cluster has.
 * @param kept Secret and key of each file
 */
async function pastedTwice(
  heading: string,
  folder: string,
  kept: Readonly<Record<string, readonly [secret: string, key: string]>>,
  namespace = "mazevault-system",
): Promise<void> {
  const [, section = ""] = readFileSync(installation, "utf8").split(`\n## ${heading}\n`);
  const [, printed = "false"] = /^```shell\n([\s\S]*?)^helm /m.exec(section) ?? [];
  const block = printed.replaceAll("mazevault-system", namespace);
  const env = {
    PATH: `${path.dirname(lab.controlPlane.kubectlPath)}:${process.env.PATH}`,
    KUBECONFIG: lab.controlPlane.kubeconfigPath,
  };
  execFileSync("bash", ["-ec", block], { cwd: folder, env, stdio: "ignore" });
  // kubectl leaves Secrets that are there as they are.
  expect(() => execFileSync("bash", ["-c", block], { cwd: folder, env, stdio: "ignore" })).toThrow();
  for (const [file, [secret, key]] of Object.entries(kept)) {
    const { data } = await get<{ data: Record<string, string> }>(namespace, "secret", secret);
    const held = Buffer.from(data[key] ?? "", "base64").toString();
    expect({ file, held }).toEqual({ file, held: readFileSync(path.join(folder, file), "utf8") });
  }
  expect(statSync(path.join(folder, "root.key")).mode & 0o777).toBe(0o600);
}

/** Waits until all pods are there, as the controllers make them. @throws with what the API server says of one that is refused */
async function podsOf(namespace: string, kind: string, name: string): Promise<void> {
  let refused: string | undefined;
  const complete = async (): Promise<boolean> => {
    const { metadata, spec, status } = await get<Workload>(namespace, kind, name);
    refused = status.conditions?.find(({ type }) => type === "ReplicaFailure")?.message;
    return status.observedGeneration === metadata.generation && status.replicas === spec.replicas;
  };
  await until("pods", complete, { timeoutMs: 20_000, intervalMs: 200 }).catch((cause: unknown) => {
    throw new Error(`${kind} ${name} in ${namespace} has not all of its pods: ${refused ?? "nobody says why"}`, {
      cause,
    });
  });
}

/** Names of the containers of the pods, each once. */
async function logged(namespace: string, pods: string): Promise<readonly string[]> {
  const names = "jsonpath={.items[*].spec.containers[*].name}";
  const listed = await kubectl("-n", namespace, "get", "pods", "-l", pods, "-o", names);
  return [...new Set(listed.split(" ").filter((name) => name !== ""))];
}

const objectsIn = (manifests: string): readonly Manifest[] =>
  parseAllDocuments(manifests)
    .map((each) => each.toJS() as Manifest | null)
    .filter((each) => each !== null);

async function restrictedNamespace(name: string): Promise<void> {
  await kubectl("create", "namespace", name);
  const levels = ["enforce", "warn", "audit"].map((mode) => `pod-security.kubernetes.io/${mode}=restricted`);
  await kubectl("label", "namespace", name, ...levels);
}

async function get<Kind>(namespace: string, kind: string, name: string): Promise<Kind> {
  return JSON.parse(await kubectl("-n", namespace, "get", kind, name, "-o", "json"));
}

async function kubectl(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.controlPlane.kubectl(args);
  if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
  return stdout;
}

const run = (...args: string[]) => runKubectl(helmFile, args, { kubeconfig: lab.controlPlane.kubeconfigPath });

/** A command of a person in this folder, who has Helm and these variables. */
async function asWritten(command: string): Promise<{ readonly code: number; readonly stderr: string }> {
  const env = {
    ...process.env,
    ...azure,
    PATH: `${path.dirname(helmFile)}:${process.env.PATH}`,
    KUBECONFIG: lab.controlPlane.kubeconfigPath,
  };
  return new Promise((resolve) => {
    execFile("bash", ["-euc", command], { cwd: root, env }, (error, _stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stderr }),
    );
  });
}

/** Resolves with its warnings. */
async function helm(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(...args);
  if (code !== 0) throw new Error(`helm ${args.join(" ")}: ${stderr}${stdout}`);
  return stderr;
}
