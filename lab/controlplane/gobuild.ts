import path from "node:path";
import { buildGo } from "../go.ts";
import type { Source } from "./binaries.ts";
import { type Component, kubernetesVersion } from "./versions.ts";

const packages: Record<Component, string> = {
  etcd: "go.etcd.io/etcd/server/v3",
  "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
  "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
  kubectl: "k8s.io/kubernetes/cmd/kubectl",
};

/**
 * Builds from source with the Go of this machine. The module in `gomod/` pins every dependency by checksum.
 * 4 to 12 minutes for all four on two cores, seconds when Go's build cache is warm.
 */
export function goBuild(command = "go"): Source {
  return {
    name: "Go build",
    async fetch(component, dir, report) {
      const file = path.join(dir, component);
      const module = path.join(import.meta.dirname, "gomod");
      report(`building ${component} from source (minutes at first, the result is kept)`);
      const program = { name: component, module, package: packages[component], linkerFlags: linkerFlags() };
      await buildGo(program, file, report, command);
      return file;
    },
  };
}

/** A plain Go build leaves the version out, and clients decide by it. */
function linkerFlags(): string {
  const [major, minor] = kubernetesVersion.split(".");
  const version = "k8s.io/component-base/version";
  return `-s -w -X ${version}.gitVersion=v${kubernetesVersion} -X ${version}.gitMajor=${major} -X ${version}.gitMinor=${minor}`;
}
