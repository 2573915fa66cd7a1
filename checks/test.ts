/**
 * `npm test`: the checks, then the tests, beside the code and against the running product. The last line is the sum; a
 * test file that cannot run, and a test that is skipped, count as failed. What needs a program that this machine cannot
 * have is not among the tests, and a line before the sum says so.
 */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { obtainBinaries } from "../lab/controlplane/binaries.ts";
import { errorMessage } from "../lab/errors.ts";
import { obtainNeeds } from "../lab/setup/needs.ts";
import { type Verdict, verify } from "./verify.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

/** The part of Jest's JSON report that is counted. */
interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly numRuntimeErrorTestSuites: number;
}

async function jest(dir: string): Promise<Verdict> {
  const outputFile = path.join(dir, "report.json");
  const args = [
    "--experimental-vm-modules",
    "--disable-warning=ExperimentalWarning",
    path.join(root, "node_modules/jest/bin/jest.js"),
    "--config",
    path.join(root, "checks/jest.config.mjs"),
    "--json",
    `--outputFile=${outputFile}`,
  ];
  const code = await new Promise<number>((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
    child.once("error", reject);
    child.once("exit", (status) => resolve(status ?? 1));
  });
  try {
    const report = JSON.parse(readFileSync(outputFile, "utf8")) as Report;
    const failed =
      report.numFailedTests + report.numPendingTests + report.numTodoTests + report.numRuntimeErrorTestSuites;
    // Jest can fail without a failed test, for example when a worker dies.
    return { passed: report.numPassedTests, failed: failed === 0 && code !== 0 ? 1 : failed };
  } catch {
    return { passed: 0, failed: 1 };
  }
}

const dir = mkdtempSync(path.join(tmpdir(), "mazevault-test-"));
const started = performance.now();
const report = (line: string): void => console.log(line);
const missing = await obtainNeeds(report);
const verdicts = [await verify()];
try {
  // Building it takes minutes, for which no test waits.
  await obtainBinaries(report);
  verdicts.push(await jest(dir));
} catch (error) {
  report(errorMessage(error));
  verdicts.push({ passed: 0, failed: 1 });
}
rmSync(dir, { recursive: true, force: true });

const sum = (of: keyof Verdict): number => verdicts.reduce((total, verdict) => total + verdict[of], 0);
for (const line of missing) console.log(line);
console.log(`in ${((performance.now() - started) / 60_000).toFixed(1)} minutes`);
console.log(`tests: ${sum("passed")} passed, ${sum("failed")} failed`);
process.exitCode = sum("failed") === 0 ? 0 : 1;
