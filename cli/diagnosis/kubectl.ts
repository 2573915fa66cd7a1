/** The cluster through kubectl, which brings contexts, logins and plugins of its own. */
import { execFile } from "node:child_process";
import { Option } from "commander";

export interface KubeconfigOptions {
  /** True: what kubectl finds by itself. */
  readonly kubeconfig?: string | true;
}

export const kubeconfigOption = (): Option =>
  new Option(
    "--kubeconfig [file]",
    "look by the Kubernetes API too (kubectl), as when REST is away; kubectl's own file when none is named",
  );

export const kubectlOf = ({ kubeconfig }: KubeconfigOptions): Kubectl | undefined =>
  kubeconfig === undefined ? undefined : new Kubectl(kubeconfig === true ? undefined : kubeconfig);

const TIMEOUT_MS = 15_000;
const MOST_OUTPUT = 256 * 1024 * 1024;

/** kubectl with a kubeconfig file, or what it finds by itself. */
export class Kubectl {
  readonly #global: readonly string[];

  constructor(kubeconfig: string | undefined) {
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
