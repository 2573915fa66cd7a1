/** `npm run verify`: what can be told without running the product. Each check counts as one test of `npm test`. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { obtainNeeds, verifyNeeds } from "../lab/setup/needs.ts";
import { findPythonTool, hadolint } from "../lab/setup/python-tool.ts";
import { chartChecks } from "./chart.ts";
import type { Check } from "./check.ts";
import { compatibilityChecks } from "./compatibility/checks.ts";

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
  "charts",
  "checks",
  "deploy",
];

/** A program that ends with 0 when all is well, and says itself what is not. */
interface Command {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
}

const bin = (name: string): string => `${root}node_modules/.bin/${name}`;

const commands: readonly Command[] = [
  { name: "types", command: bin("tsc"), args: ["-p", "."] },
  { name: "format and lint", command: bin("biome"), args: ["ci", "--error-on-warnings", "--colors=off", "."] },
  { name: "import rules", command: bin("depcruise"), args: ["--config", ".dependency-cruiser.mjs", ...rooms] },
  { name: "generated files are current", command: process.execPath, args: ["crds/generate/main.ts", "--check"] },
  {
    name: "OpenAPI document is current",
    command: process.execPath,
    args: ["operator/rest/write-document.ts", "--check"],
  },
  {
    name: "pages of the reference are current",
    command: process.execPath,
    args: ["checks/write-reference.ts", "--check"],
  },
  { name: "page of metrics is current", command: process.execPath, args: ["checks/write-metrics.ts", "--check"] },
  {
    name: "schema of the chart's values is current",
    command: process.execPath,
    args: ["charts/schema/main.ts", "--check"],
  },
  { name: "deploy/ is current", command: process.execPath, args: ["checks/write-deploy.ts", "--check"] },
];

export interface Verdict {
  readonly passed: number;
  readonly failed: number;
}

/** Runs every check that this machine has the programs for, side by side: each alone leaves a processor idle. */
export async function verify(): Promise<Verdict> {
  const linter = findPythonTool(hadolint);
  const dockerfile = linter === undefined ? [] : [{ name: "hadolint", command: linter, args: ["Dockerfile"] }];
  const checks = [...[...commands, ...dockerfile].map(byCommand), ...chartChecks(), ...compatibilityChecks()];
  const passed = (await Promise.all(checks.map(passes))).filter(Boolean).length;
  return { passed, failed: checks.length - passed };
}

const byCommand = ({ name, command, args }: Command): Check => ({
  name,
  holds: () =>
    new Promise((resolve, reject) => {
      const child = spawn(command, args, { cwd: root, stdio: "inherit" });
      child.once("error", reject);
      child.once("exit", (status) => resolve(status === 0));
    }),
});

async function passes({ name, holds }: Check): Promise<boolean> {
  const started = performance.now();
  const ok = await holds();
  console.log(`${ok ? "ok" : "FAILED"}: ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  return ok;
}

if (import.meta.main) {
  const missing = await obtainNeeds(console.log, verifyNeeds);
  const { failed } = await verify();
  for (const line of missing) console.log(line);
  process.exitCode = failed === 0 ? 0 : 1;
}
