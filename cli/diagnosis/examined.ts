/** All that can be looked at from here: by the Kubernetes API where that is asked for, and by REST where it is known. */
import type { Finding } from "../../core/diagnosis/finding.ts";
import type { Context } from "../context.ts";
import { examineCluster } from "./cluster.ts";
import { type KubeconfigOptions, kubectlOf } from "./kubectl.ts";
import { examineServer } from "./server.ts";

export async function examined({ client, settings }: Context, options: KubeconfigOptions): Promise<readonly Finding[]> {
  const kubectl = kubectlOf(options);
  if (kubectl === undefined) return examineServer(client, settings);
  const cluster = await examineCluster(kubectl);
  // Where nothing says where REST is, the cluster is all that is asked about.
  if (!settings.hasServer) return cluster;
  const server = await examineServer(client, settings);
  const known = new Set(cluster.map(told));
  return [...cluster, ...server.filter((finding) => !known.has(told(finding)))];
}

const told = ({ check, subject, problem }: Finding): string => [check, subject, problem].join("\n");
