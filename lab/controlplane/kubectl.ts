import { spawn } from "node:child_process";

export interface KubectlResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly code: number;
}

/** Runs kubectl to its end. A failing command is a result, not an exception. */
export function runKubectl(
  command: string,
  args: readonly string[],
  options: { readonly kubeconfig: string; readonly input?: string },
): Promise<KubectlResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env: { ...process.env, KUBECONFIG: options.kubeconfig } });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      stdout += chunk;
    });
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      stderr += chunk;
    });
    child.on("error", reject);
    child.on("close", (code) => resolve({ stdout, stderr, code: code ?? -1 }));
    // kubectl may end without reading its input; its exit code tells.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input ?? "");
  });
}
