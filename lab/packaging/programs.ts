/** What judges the chart. `gomod/go.mod` pins the same versions, of all three in one module: two of them are made of Helm. */
import path from "node:path";
import type { PinnedGoProgram } from "../setup/go-program.ts";

const module = path.join(import.meta.dirname, "gomod");
const small = "-s -w";
const helmVersion = "3.22.0";
const kubeconformVersion = "0.8.0";

export const helm: PinnedGoProgram = {
  name: "helm",
  version: helmVersion,
  module,
  package: "helm.sh/helm/v3/cmd/helm",
  linkerFlags: `${small} -X helm.sh/helm/v3/internal/version.version=v${helmVersion}`,
  question: { args: ["version", "--short"], answer: `v${helmVersion}` },
};

/** It is called without Helm, which would want it installed among the user's plugins. */
export const helmUnittest: PinnedGoProgram = {
  name: "helm-unittest",
  version: "1.1.2",
  module,
  package: "github.com/helm-unittest/helm-unittest/cmd/helm-unittest",
  linkerFlags: small,
  // It does not tell its version.
  question: { args: ["--help"], answer: "unittest [flags] CHART" },
};

export const kubeconform: PinnedGoProgram = {
  name: "kubeconform",
  version: kubeconformVersion,
  module,
  package: "github.com/yannh/kubeconform/cmd/kubeconform",
  linkerFlags: `${small} -X main.version=v${kubeconformVersion}`,
  question: { args: ["-v"], answer: `v${kubeconformVersion}` },
};

export const chartPrograms: readonly PinnedGoProgram[] = [helm, helmUnittest, kubeconform];
