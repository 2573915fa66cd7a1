/** The program of `npm start`, and a shell beside it as its guide means one. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "../lab/poll.ts";

export const root = fileURLToPath(new URL("..", import.meta.url));

export class Started {
  readonly #child: ChildProcess;
  #output = "";

  constructor(dir: string, ...args: string[]) {
    this.#child = spawn(process.execPath, ["lab/start.ts", "--dir", dir, ...args], {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.#output += text;
      });
    }
  }

  async guide(): Promise<string> {
    try {
      await until("the guide", () => this.#output.includes("begins anew") || this.#child.exitCode !== null, {
        timeoutMs: 150_000,
      });
    } finally {
      if (!this.#output.includes("begins anew")) console.error(this.#output);
    }
    return this.#output.slice(this.#output.indexOf("MazeVault is running"));
  }

  async interrupt(): Promise<number | null> {
    if (this.#child.exitCode !== null) return this.#child.exitCode;
    const ended = new Promise<number | null>((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGINT");
    return ended;
  }
}

/** In a shell, in the project's folder unless another one is said, after the line that sets the environment. `dir`: as of `Started`. */
export function shellIn(dir: string, environment: string, command: string, cwd = root): Promise<string> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, MAZEVAULT_CLI_CONFIG: path.join(dir, "login.json") };
    execFile("bash", ["--norc", "-c", `${environment}\n${command}`], { cwd, env }, (error, stdout, stderr) =>
      error === null ? resolve(stdout) : reject(new Error(`${command}: ${stderr}`)),
    );
  });
}

export const environmentOf = (guide: string): string => /^ {2}(export .*)$/m.exec(guide)?.[1] ?? "";

/** Processes of that lab that are alive, whoever started them. */
export const survivorsOf = (dir: string): Promise<string> =>
  new Promise((resolve) => execFile("pgrep", ["-af", dir], (_error, stdout) => resolve(stdout.trim())));
