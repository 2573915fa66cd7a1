import { Argument, type Command, Option } from "commander";
import { VERBS } from "../../crds/access.ts";
import { acting, placeOf } from "../context.ts";
import { CommandError, EXIT } from "../errors.ts";
import type { Terminal } from "../output.ts";

const KINDS = ["Secret", "Certificate", "Issuer", "SyncRule", "Project", "Gateway", "Audit", "Identity"];

interface Question {
  readonly kind?: string;
  readonly project?: string;
  readonly environment?: string;
}

interface Explanation {
  readonly subject: string;
  readonly allowed: boolean;
  readonly reason: string;
  readonly considered: readonly { readonly grant: string; readonly counts: boolean; readonly reason: string }[];
}

export function accessCommands(program: Command, terminal: Terminal): void {
  const access = program.command("access").description("who may do what");
  const about = (command: Command): Command =>
    command
      .addArgument(new Argument("<verb>", "what is to be done").choices(VERBS))
      .argument("[object]", "NAMESPACE/NAME")
      .addOption(new Option("--kind <kind>", "of the object").choices(KINDS).default("Secret"))
      .option("--project <name>", "of what is not there yet")
      .option("--environment <name>", "of what is not there yet");

  about(access.command("explain"))
    .description("why something is allowed or denied; ends with 4 when it is denied")
    .option("--service-account <namespace/name>", "ask about this ServiceAccount instead of yourself")
    .option("--user <user>", "ask about this local user, by email or id, instead of yourself")
    .action(
      acting(
        terminal,
        async (
          { client, output },
          verb: string,
          object: string | undefined,
          options: Question & { readonly serviceAccount?: string; readonly user?: string },
        ) => {
          const place = object === undefined ? {} : placeOf(object);
          const found = await client.get<Explanation>("/api/v1/access/explain", { verb, ...place, ...options });
          if (output.format === "table") {
            output.line(`${found.allowed ? "allowed" : "denied"}: ${found.reason}`);
            if (found.considered.length > 0) output.rows(found, found.considered);
          } else output.data(found);
          if (!found.allowed) throw new CommandError(EXIT.denied, "");
        },
      ),
    );

  about(access.command("who-can"))
    .description("the grants that let somebody do something")
    .action(
      acting(terminal, async ({ client, output }, verb: string, object: string | undefined, options: Question) => {
        const place = object === undefined ? {} : placeOf(object);
        const { grants } = await client.get<{ grants: { grant: string; subjects: string[] }[] }>(
          "/api/v1/access/who-can",
          {
            verb,
            ...place,
            ...options,
          },
        );
        output.rows(
          grants,
          grants.map(({ grant, subjects }) => ({ grant, subjects: subjects.join(" ") })),
        );
      }),
    );
}
