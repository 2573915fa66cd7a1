/**
 * What the chart makes by default of who may do what is, object by object, what the lab installs, and each program runs as the same
 * account there: so that all that is tested on the lab is tested on the identities, rights and policies of the chart.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { parse, parseAllDocuments } from "yaml";
import { MODES, type Mode } from "../crds/generate/rbac.ts";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { kubernetesVersion } from "../lab/controlplane/versions.ts";
import { identities, manifests } from "../lab/mazevault.ts";
import { helm } from "../lab/packaging/programs.ts";
import { findGoProgram } from "../lab/setup/go-program.ts";
import { inFolder, run } from "./run.ts";

const root = path.join(import.meta.dirname, "..");
const chart = path.join(root, "charts/mazevault");
/** `jest.config.mjs` leaves this file out without it. */
const helmFile = findGoProgram(helm) ?? "";

/** Sets of values that say nothing but what must be said. */
const RELEASES: Readonly<Record<Mode, readonly [release: string, values: string]>> = {
  primary: ["mazevault", "minimal"],
  gateway: ["mazevault-gateway", "gateway-standby"],
};

interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly annotations?: Readonly<Record<string, string>>;
    readonly labels?: Readonly<Record<string, string>>;
  };
  readonly data?: Readonly<Record<string, string>>;
  readonly spec?: { readonly template?: { readonly spec: PodSpec } };
}

interface PodSpec {
  readonly serviceAccountName?: string;
  readonly automountServiceAccountToken: boolean;
  readonly containers: readonly { readonly args: readonly string[] }[];
  readonly volumes: readonly { readonly configMap?: { readonly name: string } }[];
}

const objectsIn = (text: string): readonly Manifest[] =>
  parseAllDocuments(text)
    .map((each) => each.toJS() as Manifest | null)
    .filter((each) => each !== null);

async function rendered(mode: Mode): Promise<readonly Manifest[]> {
  const [release, values] = RELEASES[mode];
  return inFolder(async (own) => {
    const env = { HELM_CONFIG_HOME: own, HELM_CACHE_HOME: own, HELM_DATA_HOME: own };
    const where = ["--namespace", SYSTEM_NAMESPACE, "--kube-version", kubernetesVersion];
    const args = ["template", release, chart, ...where, "--values", `${chart}/ci/${values}-values.yaml`];
    const { ok, output, stdout } = await run(helmFile, args, env);
    if (!ok) throw new Error(output);
    return objectsIn(stdout);
  });
}

/** As kubectl takes them. */
const installed = (mode: Mode): readonly Manifest[] =>
  manifests[mode].flatMap((each) => {
    const file = path.join(root, each);
    const files = statSync(file).isDirectory() ? readdirSync(file).map((name) => path.join(file, name)) : [file];
    return files.flatMap((name) => objectsIn(readFileSync(name, "utf8")));
  });

const isRight = ({ apiVersion, kind }: Manifest): boolean =>
  apiVersion.startsWith("rbac.authorization.k8s.io/") || kind === "ServiceAccount";
const isDecisive = (object: Manifest): boolean =>
  isRight(object) || /^(admissionregistration|apiextensions)\.k8s\.io\//.test(object.apiVersion);

/** Without what Helm goes by. */
function own({ metadata: { labels: _, annotations = {}, ...metadata }, ...object }: Manifest): Manifest {
  const { "helm.sh/resource-policy": __, ...kept } = annotations;
  return { ...object, metadata: { ...metadata, ...(Object.keys(kept).length > 0 && { annotations: kept }) } };
}

const named = (objects: readonly Manifest[]): Readonly<Record<string, Manifest>> =>
  Object.fromEntries(
    objects.map((each) => [`${each.kind} ${each.metadata.namespace ?? ""}/${each.metadata.name}`, each]),
  );

describe.each(MODES)("the chart of a %s", (mode) => {
  let objects: readonly Manifest[];

  beforeAll(async () => {
    objects = await rendered(mode);
  });

  test("makes the definitions, accounts, rights and policies that the lab installs, and no others", () => {
    // A gateway of the lab has been a primary, whose rights are taken away there.
    const [primary, gateway] = [installed("primary"), installed("gateway")];
    const there = mode === "primary" ? primary : [...primary.filter((each) => !isRight(each)), ...gateway];
    // Whoever installs by Helm makes the namespace.
    const expected = named(there.filter(({ kind }) => kind !== "Namespace"));
    const made = objects.filter(isDecisive);
    expect(made.length).toBeGreaterThan(40);
    expect(named(made.map(own))).toEqual(expected);
  });

  test("runs each program as the lab does, and says the same to it", () => {
    const programs = objects
      .flatMap(({ kind, spec }) => (kind === "Deployment" && spec?.template ? [spec.template.spec] : []))
      .map(({ serviceAccountName, automountServiceAccountToken, containers, volumes }) => {
        const settings = objects.find(
          ({ kind, metadata }) =>
            kind === "ConfigMap" && volumes.some((each) => each.configMap?.name === metadata.name),
        );
        const { kubernetes, controllers } = parse(settings?.data?.["settings.yaml"] ?? "");
        const identity = automountServiceAccountToken
          ? { account: serviceAccountName, settings: { kubernetes, controllers } }
          : undefined;
        return [containers.map(({ args: [program] }) => program).join(), identity] as const;
      });
    // The responder of the lab gets no way to an API server at all.
    expect(Object.fromEntries(programs)).toEqual(
      mode === "primary"
        ? { "operator.mjs": identities.operator, "rest.mjs": identities.rest, "ocsp.mjs": undefined }
        : { "operator.mjs": identities.gateway },
    );
  });
});
