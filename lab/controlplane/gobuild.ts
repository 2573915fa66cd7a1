import { spawn } from "node:child_process";
import path from "node:path";
import type { Source } from "./binaries.ts";
import { type Component, kubernetesVersion } from "./versions.ts";

const packages: Record<Component, string> = {
  etcd: "go.etcd.io/etcd/server/v3",
  "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
  "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
  kubectl: "k8s.io/kubernetes/cmd/kubectl",
};

const progressEveryMs = 15_000;

/**
 * Builds from source with the Go of this machine. The module in `gomod/` pins every dependency by checksum.
 * 4 to 12 minutes for all four on two cores, seconds when Go's build cache is warm.
 */
export function goBuild(command = "go"): Source {
  return {
    name: "Go build",
    async fetch(component, dir, report) {
      const file = path.join(dir, component);
      const startedAt = Date.now();
      const elapsed = () => {
        const seconds = Math.round((Date.now() - startedAt) / 1_000);
        return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
      };
      report(`building ${component} from source (minutes at first, the result is kept)`);
      const timer = setInterval(() => report(`building ${component}: ${elapsed()} min so far`), progressEveryMs);
      try {
        await run(command, [
          "build",
          "-mod=readonly",
          "-buildvcs=false",
          "-o",
          file,
          "-ldflags",
          linkerFlags(),
          packages[component],
        ]);
      } finally {
        clearInterval(timer);
      }
      report(`built ${component} in ${elapsed()} min`);
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

function run(command: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: path.join(import.meta.dirname, "gomod"),
      stdio: ["ignore", "ignore", "pipe"],
      // A workspace or vendoring of the user's must not change what is built.
      env: { ...process.env, GOWORK: "off", GOFLAGS: "" },
    });
    let log = "";
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      log = (log + chunk).slice(-4_000);
    });
    child.once("error", (error) =>
      reject(
        "code" in error && error.code === "ENOENT" ? new Error("Go is not installed (1.26 or later is needed)") : error,
      ),
    );
    child.once("close", (code) => (code === 0 ? resolve() : reject(new Error(`exit code ${code}: ${log.trim()}`))));
  });
}
