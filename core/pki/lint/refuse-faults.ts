import { Stalled } from "../../errors.ts";
import type { Finding } from "./finding.ts";

/** What has a fault must not leave. Warnings pass. @throws Stalled LintFailed */
export function refuseFaults(what: string, findings: readonly Finding[]): void {
  const faults = findings.filter(({ severity }) => severity === "Error");
  if (faults.length === 0) return;
  throw new Stalled("LintFailed", `${what}: ${faults.map(({ code, message }) => `${message} (${code})`).join("; ")}`);
}
