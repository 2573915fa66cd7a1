/** What is broken, and what doctor must say of it. */
import type { Finding, FindingStatus } from "../../core/diagnosis/finding.ts";

/** A finding that must be among those of doctor. */
export interface Named {
  readonly check: string;
  /** `failing` when absent. */
  readonly status?: FindingStatus;
  readonly subject?: string;
  readonly problem: RegExp;
  readonly fix: RegExp;
}

/** How doctor is called. */
export interface Given {
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** Another command line than the one of this version. */
  readonly cli?: string;
}

export interface Fault extends Named {
  readonly fault: string;
  readonly plant?: () => unknown;
  readonly heal?: () => unknown;
  /** Asked once the fault is planted. */
  readonly given?: () => Given | Promise<Given>;
}

export const names = ({ check, status = "failing", subject, problem, fix }: Named, finding: Finding): boolean =>
  finding.check === check &&
  finding.status === status &&
  (subject === undefined || finding.subject === subject) &&
  problem.test(finding.problem ?? "") &&
  fix.test(finding.fix ?? "");
