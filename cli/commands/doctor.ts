import type { Command } from "commander";
import type { Finding } from "../../core/diagnosis/finding.ts";
import { acting } from "../context.ts";
import { type KubeconfigOptions, kubeconfigOption, operatorNamespaceOption } from "../diagnosis/kubectl.ts";
import { CommandError, EXIT } from "../errors.ts";
import type { Output, Terminal } from "../output.ts";

export function doctorCommand(program: Command, terminal: Terminal): void {
  program
    .command("doctor")
    .description(
      "what does not work between here and the installation, and what to do; ends with 7 when something does not",
    )
    .addOption(kubeconfigOption())
    .addOption(operatorNamespaceOption())
    .action(
      acting(terminal, async (context, options: KubeconfigOptions) => {
        // The schemas of all kinds come with it, for which no other command should wait.
        const { examined } = await import("../diagnosis/examined.ts");
        const findings = await examined(context, options);
        print(context.output, findings);
        const failing = findings.filter(({ status }) => status === "failing").length;
        if (failing > 0) throw new CommandError(EXIT.finding, `${failing} of ${findings.length} checks fail`);
      }),
    );
}

/** A table of all checks, then each problem with what to do: both are sentences, which no column is wide enough for. */
function print(output: Output, findings: readonly Finding[]): void {
  output.rows(
    findings,
    findings.map(({ check, status, subject = "" }) => ({ check, status, subject })),
  );
  if (output.format !== "table") return;
  for (const { check, status, subject, problem = "", fix = "" } of findings) {
    if (status === "ok") continue;
    output.line("");
    output.line(`${status.toUpperCase()} ${check}${subject === undefined ? "" : ` ${subject}`}`);
    output.line(`  PROBLEM  ${problem}`);
    output.line(`  FIX      ${fix}`);
  }
}
