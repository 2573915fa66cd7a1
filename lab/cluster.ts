/** A cluster that the lab did not make: whatever a kubeconfig file leads to. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { parse, stringify } from "yaml";
import type { ControlPlane } from "./controlplane/controlplane.ts";
import { runKubectl } from "./controlplane/kubectl.ts";
import { keepTokenFresh } from "./controlplane/tokens.ts";

/** What MazeVault needs of a cluster, whoever runs it. */
export type Cluster = Pick<
  ControlPlane,
  "kubeconfigPath" | "kubectlPath" | "kubectl" | "serviceAccountKubeconfig" | "stop"
>;

interface Kubeconfig {
  readonly "current-context"?: string;
  readonly contexts?: readonly { readonly name: string; readonly context: { readonly cluster: string } }[];
  readonly clusters?: readonly { readonly name: string; readonly cluster: Readonly<Record<string, unknown>> }[];
}

const TOKEN_SECONDS = 3_600;

/** @throws when the kubeconfig has no usable current context or the cluster does not answer */
export async function existingCluster(
  kubeconfigFile: string,
  kubectlPath: string,
  report: (line: string) => void,
): Promise<Cluster> {
  const kubeconfigPath = path.resolve(kubeconfigFile);
  const kubectl: Cluster["kubectl"] = (args, call = {}) =>
    runKubectl(kubectlPath, args, { kubeconfig: kubeconfigPath, ...call });
  const version = await kubectl(["version", "--output=json", "--request-timeout=10s"]);
  if (version.code !== 0) throw new Error(`the cluster of ${kubeconfigFile} does not answer: ${version.stderr.trim()}`);
  const cluster = currentCluster(kubeconfigPath);
  const tokens: { stop(): void }[] = [];
  return {
    kubeconfigPath,
    kubectlPath,
    kubectl,
    async serviceAccountKubeconfig({ namespace, name, dir }) {
      mkdirSync(dir, { recursive: true, mode: 0o700 });
      const stem = path.join(dir, `${namespace}-${name}`);
      const request = async () => {
        const args = ["create", "token", name, "-n", namespace, `--duration=${TOKEN_SECONDS}s`];
        const { code, stdout, stderr } = await kubectl(args);
        if (code !== 0) throw new Error(`kubectl create token: ${stderr.trim()}`);
        return { token: stdout.trim(), expiresAt: new Date(Date.now() + TOKEN_SECONDS * 1_000) };
      };
      tokens.push(await keepTokenFresh(`${stem}.token`, request, report));
      const config = {
        apiVersion: "v1",
        kind: "Config",
        clusters: [{ name: "cluster", cluster }],
        users: [{ name, user: { tokenFile: `${stem}.token` } }],
        contexts: [{ name, context: { cluster: "cluster", user: name, namespace } }],
        "current-context": name,
      };
      writeFileSync(`${stem}.kubeconfig`, stringify(config), { mode: 0o600 });
      return `${stem}.kubeconfig`;
    },
    stop() {
      for (const token of tokens) token.stop();
    },
  };
}

/** Address and authority of the current context's cluster, with file names that hold from anywhere. */
function currentCluster(kubeconfigPath: string): Record<string, unknown> {
  const config = parse(readFileSync(kubeconfigPath, "utf8")) as Kubeconfig;
  const context = config.contexts?.find(({ name }) => name === config["current-context"]);
  const found = config.clusters?.find(({ name }) => name === context?.context.cluster);
  if (found === undefined)
    throw new Error(`${kubeconfigPath} has no current context; set one with kubectl config use-context`);
  const { "certificate-authority": caFile, ...cluster } = found.cluster;
  return typeof caFile === "string"
    ? { ...cluster, "certificate-authority": path.resolve(path.dirname(kubeconfigPath), caFile) }
    : cluster;
}
