/** The Kubernetes release of the lab; go.mod in `gomod/` pins the same. */
export const kubernetesVersion = "1.36.3";
/** What that release requires in its go.mod. */
export const etcdVersion = "3.6.8";

export const components = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"] as const;
export type Component = (typeof components)[number];

/** How to ask a program for its version, and the series (major.minor) that fits the others. */
export const versionCheck: Record<Component, { readonly args: readonly string[]; readonly series: string }> = {
  etcd: { args: ["--version"], series: series(etcdVersion) },
  "kube-apiserver": { args: ["--version"], series: series(kubernetesVersion) },
  "kube-controller-manager": { args: ["--version"], series: series(kubernetesVersion) },
  kubectl: { args: ["version", "--client"], series: series(kubernetesVersion) },
};

function series(version: string): string {
  return version.split(".").slice(0, 2).join(".");
}
