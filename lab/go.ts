/** Programs in Go, built from modules in this repository that pin every dependency by checksum. */
import { spawn } from "node:child_process";

export interface GoProgram {
  /** For reports. */
  readonly name: string;
  /** Folder with go.mod and go.sum. */
  readonly module: string;
  /** Import path of its `main`. */
  readonly package: string;
  readonly linkerFlags: string;
}

const progressEveryMs = 15_000;

/** Builds the program into `file` with the Go of this machine. @throws with the end of what Go said */
export async function buildGo(
  program: GoProgram,
  file: string,
  report: (line: string) => void,
  command = "go",
): Promise<void> {
  const { name, module, linkerFlags } = program;
  const startedAt = Date.now();
  const elapsed = () => {
    const seconds = Math.round((Date.now() - startedAt) / 1_000);
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  };
  const timer = setInterval(() => report(`building ${name}: ${elapsed()} min so far`), progressEveryMs);
  const options = ["-mod=readonly", "-buildvcs=false", "-o", file, "-ldflags", linkerFlags];
  try {
    await run(command, ["build", ...options, program.package], module);
  } finally {
    clearInterval(timer);
  }
  report(`built ${name} in ${elapsed()} min`);
}

function run(command: string, args: readonly string[], cwd: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
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
