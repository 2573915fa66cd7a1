/**
 * Where the kubeconfig comes from. client-node loads it, all but one field: it drops `user.tokenFile`, by which a
 * kubeconfig names a token that something else keeps fresh. That is put back as the token file provider it does know.
 * client-node is large, and loaded when it is needed.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { KubeConfig } from "@kubernetes/client-node";

interface RawKubeconfig {
  readonly users?: readonly { readonly name?: string; readonly user?: { readonly tokenFile?: string } | null }[] | null;
}

/** As kubectl does: `file`, else the files of KUBECONFIG, else ~/.kube/config, else the pod's ServiceAccount. */
export const loadKubeConfig = async (file?: string): Promise<KubeConfig> => {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  if (file === undefined) config.loadFromDefault();
  else config.loadFromFile(file);
  await restoreTokenFiles(config, file === undefined ? kubeconfigFiles() : [file]);
  return config;
};

/** Puts `user.tokenFile` of these kubeconfig files into a configuration that was loaded from them. */
export const restoreTokenFiles = async (config: KubeConfig, files: readonly string[]): Promise<void> => {
  const { loadYaml } = await import("@kubernetes/client-node");
  for (const file of files) {
    const raw = loadYaml<RawKubeconfig | undefined>(readFileSync(file, "utf8"));
    for (const { name, user } of raw?.users ?? []) {
      const tokenFile = user?.tokenFile;
      if (tokenFile === undefined || name === undefined) continue;
      config.users = config.users.map((known) =>
        known.name === name
          ? {
              ...known,
              authProvider: { name: "tokenFile", config: { tokenFile: path.resolve(path.dirname(file), tokenFile) } },
            }
          : known,
      );
    }
  }
};

/** The files that KUBECONFIG names; none where client-node looks elsewhere. */
export const kubeconfigFiles = (): readonly string[] =>
  (process.env.KUBECONFIG ?? "").split(path.delimiter).filter((file) => file !== "");
