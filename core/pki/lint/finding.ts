/** What is wrong with something that was signed, found by reading it. */
export interface Finding {
  /** In camel case, the same for the same rule. */
  readonly code: string;
  /** Error: it must not leave. Warning: it may, but somebody should look. */
  readonly severity: "Error" | "Warning";
  readonly message: string;
}

/** Collects findings: each rule says what is wrong, and when. */
export class Findings {
  readonly all: Finding[] = [];

  add(found: readonly Finding[]): void {
    this.all.push(...found);
  }

  error(wrong: boolean, code: string, message: string): void {
    if (wrong) this.all.push({ code, severity: "Error", message });
  }

  warning(wrong: boolean, code: string, message: string): void {
    if (wrong) this.all.push({ code, severity: "Warning", message });
  }
}
