import type { Command } from "commander";
import { acting } from "../context.ts";
import type { Terminal } from "../output.ts";

interface Named {
  readonly environment: string;
  readonly type: string;
  readonly name: string;
  readonly invalid?: string;
}

/** Below `projects`, which the listings make. */
export function nameCommands(program: Command, terminal: Terminal): void {
  program.commands
    .find((command) => command.name() === "projects")
    ?.command("names")
    .description("names in Azure by the project's naming convention, for Terraform and the like")
    .argument("<project>", "the Project")
    .option("--environment <name>", "only of this environment")
    .option("--number <number>", "the number in the names", "1")
    .action(
      acting(terminal, async ({ client, output }, project: string, query: { environment?: string; number: string }) => {
        const path = `/api/v1/projects/${encodeURIComponent(project)}/names`;
        const { items } = await client.get<{ items: readonly Named[] }>(path, { ...query });
        output.rows(
          items,
          items.map(({ environment, type, name, invalid }) => ({ environment, type, name, invalid })),
        );
      }),
    );
}
