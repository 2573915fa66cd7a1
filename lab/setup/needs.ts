/** What tests need that npm does not bring, and how a machine gets it. */
import { existsSync } from "node:fs";
import path from "node:path";
import { errorMessage } from "../errors.ts";
import { gitopsJudge } from "../gitops/judge.ts";
import { oasdiff } from "../oasdiff/program.ts";
import { obtainKubernetesSchemas } from "../packaging/kubernetes-schemas.ts";
import { helm, helmUnittest, kubeconform } from "../packaging/programs.ts";
import { toxiproxy } from "../toxiproxy/program.ts";
import { canDumpCore, canMount } from "../unwell.ts";
import { obtainGoProgram, type PinnedGoProgram } from "./go-program.ts";
import { obtainMermaid } from "./mermaid.ts";
import { obtainPackage, testPackages } from "./packages.ts";
import { checkov, hadolint, obtainPythonTool, type PythonTool, pkilint, schemathesis, squawk } from "./python-tool.ts";

interface Need {
  /** What is tested with it. */
  readonly purpose: string;
  /** What a person does where it cannot be obtained. */
  readonly fix: string;
  /** @throws with the reason, for a person */
  obtain(report: (line: string) => void): Promise<unknown>;
}

const goProgram = (program: PinnedGoProgram, purpose: string): Need => ({
  purpose,
  fix: "install Go 1.26 or later with access to a Go module proxy",
  obtain: (report) => obtainGoProgram(program, report),
});

const pythonTool = (tool: PythonTool, purpose: string): Need => ({
  purpose,
  fix: "install Python 3.11 or later with venv and pip",
  obtain: (report) => obtainPythonTool(tool, report),
});

/** What `npm run verify` needs of them. */
export const verifyNeeds: readonly Need[] = [
  goProgram(helm, "the chart as Helm renders it"),
  goProgram(helmUnittest, "the chart's own tests, by helm-unittest"),
  goProgram(kubeconform, "the chart's objects against their schemas, by kubeconform"),
  {
    purpose: "the chart's objects against the schemas of Kubernetes",
    fix: "see above what Kubernetes' control plane needs",
    obtain: obtainKubernetesSchemas,
  },
  pythonTool(checkov, "the chart's objects against checkov's policies"),
  pythonTool(hadolint, "the Dockerfile as hadolint sees it"),
  goProgram(oasdiff, "REST against the last release, by oasdiff"),
  pythonTool(squawk, "migrations beside programs that serve, as squawk sees them"),
];

const needs: readonly Need[] = [
  ...Object.values(testPackages).map((each) => ({
    purpose: each.purpose,
    fix: `install the Debian package ${each.name}`,
    obtain: (report: (line: string) => void) => obtainPackage(each, report),
  })),
  pythonTool(pkilint, "certificates, CRLs and OCSP answers as pkilint sees them"),
  pythonTool(schemathesis, "the REST surface as schemathesis sees it"),
  goProgram(toxiproxy, "gateways whose way to the primary is disturbed, by toxiproxy"),
  ...verifyNeeds,
  goProgram(gitopsJudge, "what Flux and Argo CD make of our resources, by kstatus and gopher-lua"),
  {
    purpose: "pictures of the documentation, as Mermaid reads them",
    fix: "install npm with access to a registry",
    obtain: obtainMermaid,
  },
  {
    purpose: "keystores as Java reads them",
    fix: "install the Debian package default-jre-headless",
    obtain: async () => {
      if (findKeytool() === undefined) throw new Error("there is no keytool on this machine");
    },
  },
  {
    purpose: "a disk that is nearly full, as doctor sees it",
    fix: "run as root, or allow user namespaces: sysctl kernel.unprivileged_userns_clone=1",
    obtain: async () => {
      if (!canMount()) throw new Error("nothing can be mounted here");
    },
  },
  {
    purpose: "core dumps that are on, as doctor sees them",
    fix: "raise the hard limit of core files: ulimit -H -c",
    obtain: async () => {
      if (!canDumpCore()) throw new Error("the hard limit is 0");
    },
  },
];

/** Java's keytool, where it is on the PATH. */
export function findKeytool(folders = process.env.PATH ?? ""): string | undefined {
  return folders
    .split(path.delimiter)
    .filter((folder) => folder !== "")
    .map((folder) => path.join(folder, "keytool"))
    .find((file) => existsSync(file));
}

/** For a keytool that looks at one file and ends, in less than half of the processor time. */
export const QUICK_KEYTOOL = ["-J-XX:TieredStopAtLevel=1", "-J-XX:+UseSerialGC", "-J-Duser.language=en"] as const;

/** Obtains what is missing; what this machine cannot be tested with comes back, one line each: never an error, and never silent. */
export async function obtainNeeds(report: (line: string) => void, wanted = needs): Promise<readonly string[]> {
  const missing: string[] = [];
  for (const { purpose, fix, obtain } of wanted) {
    try {
      await obtain(report);
    } catch (error) {
      missing.push(`NOT TESTED: ${purpose}; ${fix} (${errorMessage(error)})`);
    }
  }
  return missing;
}
