import { setTimeout as delay } from "node:timers/promises";
import type { Command } from "commander";
import { acting, type Context } from "../context.ts";
import { CommandError, EXIT } from "../errors.ts";
import type { Terminal } from "../output.ts";

interface Row {
  readonly sequence: string;
  readonly at: string;
  readonly action: string;
  readonly actor: {
    readonly kind: string;
    readonly subject?: string;
    readonly name?: string;
    readonly resource?: string;
  };
  readonly subject: { readonly kind: string; readonly name: string };
  readonly outcome: string;
}

const FOLLOW_EVERY_MS = 1_000;
const shown = ({ at, action, actor, subject, outcome }: Row) => ({
  time: at,
  action,
  actor: actor.subject ?? actor.name ?? actor.resource ?? actor.kind,
  subject: `${subject.kind} ${subject.name}`,
  outcome,
});

interface Filter {
  readonly action?: string;
  readonly actor?: string;
  readonly subject?: string;
  readonly outcome?: string;
}

export function auditCommands(program: Command, terminal: Terminal): void {
  const audit = program.command("audit").description("the record of who did what");

  audit
    .command("tail")
    .description("the newest rows")
    .option("--lines <number>", "how many", "20")
    .option("-f, --follow", "go on with new ones")
    .option("--action <action>", "only this one, such as SecretRead")
    .option("--actor <subject>", "only by this subject")
    .option("--subject <name>", "only about this object, NAMESPACE/NAME")
    .option("--outcome <outcome>", "Success, Denied or Failure")
    .action(
      acting(terminal, async ({ client, output }, options: Filter & { lines: string; follow?: boolean }) => {
        const { lines, follow, ...filter } = options;
        const { items } = await client.get<{ items: Row[] }>("/api/v1/audit", { ...filter, limit: lines });
        const rows = items.toReversed();
        output.rows(rows, rows.map(shown));
        if (follow === true) await following(client, output, filter, rows.at(-1)?.sequence ?? "0");
      }),
    );

  audit
    .command("verify")
    .description("prove the record; ends with 7 when something was changed")
    .action(
      acting(terminal, async ({ client, output }) => {
        const { text } = await client.send("POST", "/api/v1/audit/verification", { timeoutMs: 600_000 });
        const verdict = JSON.parse(text) as {
          ok: boolean;
          linked?: number;
          unlinked?: number;
          head?: string;
          row?: string;
          fault?: string;
        };
        if (output.format !== "table") output.data(verdict);
        else if (verdict.ok)
          output.line(
            `the record is whole: ${verdict.linked} rows in the chain, ${verdict.unlinked} to be linked; head ${verdict.head}`,
          );
        if (!verdict.ok)
          throw new CommandError(EXIT.finding, `the record was changed: ${verdict.fault} at row ${verdict.row}`);
      }),
    );
}

async function following(
  client: Context["client"],
  output: Context["output"],
  filter: Filter,
  from: string,
): Promise<never> {
  let after = from;
  for (;;) {
    await delay(FOLLOW_EVERY_MS);
    const cursor = Buffer.from(after, "utf8").toString("base64url");
    const { items } = await client.get<{ items: Row[] }>("/api/v1/audit", {
      ...filter,
      order: "oldest",
      after: cursor,
    });
    for (const row of items) output.line(Object.values(shown(row)).join("  "));
    after = items.at(-1)?.sequence ?? after;
  }
}
