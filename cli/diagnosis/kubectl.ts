/** The cluster through kubectl, which brings contexts, logins and plugins of its own. */
import { execFile } from "node:child_process";
import { Option } from "commander";
import { SYSTEM_NAMESPACE } from "../../crds/installation.ts";
import type { Environment } from "../environment.ts";
import { UsageError } from "../errors.ts";

export interface KubeconfigOptions {
  /** True: what kubectl finds by itself. */
  readonly kubeconfig?: string | true;
  readonly operatorNamespace: string;
}

export const kubeconfigOption = (): Option =>
  new Option(
    "--kubeconfig [file]",
    "look by the Kubernetes API too (kubectl), as when REST is away; kubectl's own file when none is named",
  );

const NAMESPACE_VARIABLE = "MAZEVAULT_OPERATOR_NAMESPACE" satisfies keyof Environment;
/** What to say where the operator is not found in the namespace that was looked at. */
export const NAME_NAMESPACE = `--operator-namespace NAMESPACE or ${NAMESPACE_VARIABLE}`;
/** RFC 1123, as Kubernetes has it for namespaces. */
const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

export const operatorNamespaceOption = (): Option =>
  new Option("--operator-namespace <namespace>", "with --kubeconfig: where the operator runs")
    .env(NAMESPACE_VARIABLE)
    .default(SYSTEM_NAMESPACE)
    .argParser((text) => {
      if (NAMESPACE.test(text)) return text;
      throw new UsageError(`${text} is no name of a namespace`, `correct ${NAME_NAMESPACE}`);
    });

export const kubectlOf = ({ kubeconfig, operatorNamespace }: KubeconfigOptions): Kubectl | undefined =>
  kubeconfig === undefined ? undefined : new Kubectl(kubeconfig === true ? undefined : kubeconfig, operatorNamespace);

const TIMEOUT_MS = 15_000;
const MOST_OUTPUT = 256 * 1024 * 1024;

/** kubectl with a kubeconfig file, or what it finds by itself. */
export class Kubectl {
  readonly #global: readonly string[];
  /** Where the operator runs. */
  readonly namespace: string;

  constructor(kubeconfig: string | undefined, namespace: string) {
    this.namespace = namespace;
    this.#global = [
      `--request-timeout=${TIMEOUT_MS / 1000}s`,
      ...(kubeconfig === undefined ? [] : ["--kubeconfig", kubeconfig]),
    ];
  }

  /** @throws KubectlFailed */
  json<T>(args: readonly string[]): Promise<T> {
    return this.text(args).then((text) => JSON.parse(text) as T);
  }

  /** Its items. @throws KubectlFailed */
  async list<T>(args: readonly string[]): Promise<readonly T[]> {
    return (await this.json<{ items?: T[] }>([...args, "-o", "json"])).items ?? [];
  }

  /** @throws KubectlFailed */
  text(args: readonly string[], input = ""): Promise<string> {
    return new Promise((resolve, reject) => {
      const options = { maxBuffer: MOST_OUTPUT, timeout: 2 * TIMEOUT_MS };
      const child = execFile("kubectl", [...this.#global, ...args], options, (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else reject(new KubectlFailed((error as NodeJS.ErrnoException).code === "ENOENT" ? MISSING : lastLine(stderr)));
      });
      child.stdin?.on("error", () => {});
      child.stdin?.end(input);
    });
  }
}

export const MISSING = "there is no kubectl on the PATH";
const lastLine = (text: string): string => text.trim().split("\n").at(-1) ?? "";

export class KubectlFailed extends Error {
  override name = "KubectlFailed";
}
