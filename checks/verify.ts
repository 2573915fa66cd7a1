/** `npm run verify`: what can be told without running the product. Each check counts as one test of `npm test`. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const rooms = [
  "crds",
  "core",
  "program",
  "adapters",
  "controllers",
  "operator",
  "ocsp",
  "cli",
  "cdk8s",
  "lab",
  "e2e",
  "bench",
  "checks",
];

interface Check {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
}

const bin = (name: string): string => `${root}node_modules/.bin/${name}`;

export const checks: readonly Check[] = [
  { name: "types", command: bin("tsc"), args: ["-p", "."] },
  { name: "format and lint", command: bin("biome"), args: ["ci", "--error-on-warnings", "--colors=off", "."] },
  { name: "import rules", command: bin("depcruise"), args: ["--config", ".dependency-cruiser.mjs", ...rooms] },
  { name: "generated files are current", command: process.execPath, args: ["crds/generate/main.ts", "--check"] },
  {
    name: "OpenAPI document is current",
    command: process.execPath,
    args: ["operator/rest/write-document.ts", "--check"],
  },
  { name: "page of metrics is current", command: process.execPath, args: ["checks/write-metrics.ts", "--check"] },
];

export interface Verdict {
  readonly passed: number;
  readonly failed: number;
}

/** Runs every check, side by side: each alone leaves a processor idle. */
export async function verify(): Promise<Verdict> {
  const passed = (await Promise.all(checks.map(passes))).filter(Boolean).length;
  return { passed, failed: checks.length - passed };
}

async function passes({ name, command, args }: Check): Promise<boolean> {
  const started = performance.now();
  const code = await new Promise<number>((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: "inherit" });
    child.once("error", reject);
    child.once("exit", (status) => resolve(status ?? 1));
  });
  console.log(`${code === 0 ? "ok" : "FAILED"}: ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  return code === 0;
}

if (import.meta.main) {
  const { failed } = await verify();
  process.exitCode = failed === 0 ? 0 : 1;
}
