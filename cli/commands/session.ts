import type { Command } from "commander";
import { tokensOf } from "../client.ts";
import { acting } from "../context.ts";
import { CommandError, EXIT } from "../errors.ts";
import { ask, givenPassword, readStdin } from "../input.ts";
import type { Terminal } from "../output.ts";

export function sessionCommands(program: Command, terminal: Terminal): void {
  program
    .command("login")
    .description("log in as a local user; the password is asked for, or read from standard input")
    .requiredOption("--email <email>", "email of the user")
    .option("--password-stdin", "read the password from standard input")
    .action(
      acting(terminal, async ({ client, settings, output }, options: { email: string; passwordStdin?: boolean }) => {
        const password = await givenPassword(terminal, options.passwordStdin);
        const body = { email: options.email, password };
        const answer = await client
          .send("POST", "/api/v1/auth/login", { body, anonymous: true })
          .catch((error: unknown) => {
            const refused = error instanceof CommandError && error.exitCode === EXIT.unauthenticated;
            throw refused ? new CommandError(EXIT.unauthenticated, "email or password is wrong") : error;
          });
        settings.remember(tokensOf(answer));
        output.note(`logged in to ${settings.server} as ${options.email}`);
      }),
    );

  program
    .command("logout")
    .description("end the session and forget it")
    .action(
      acting(terminal, async ({ client, settings, output }) => {
        try {
          await client.post("/api/v1/auth/logout");
        } finally {
          settings.forget();
        }
        output.note("logged out");
      }),
    );

  program
    .command("whoami")
    .description("whom the credentials stand for")
    .action(
      acting(terminal, async ({ client, output }) => {
        const me = await client.get<{ subject: string; via: string; role?: string; scopes?: string[] }>(
          "/api/v1/auth/me",
        );
        const { subject, via, role = "", scopes } = me;
        output.rows(me, [{ subject, via, role, scopes: scopes?.join(",") ?? "" }]);
      }),
    );

  program
    .command("password")
    .description("change your own password, which ends all your sessions; asked for, or two lines of standard input")
    .option("--password-stdin", "read the current password and the next one from standard input, a line each")
    .action(
      acting(terminal, async ({ client, settings, output }, options: { passwordStdin?: boolean }) => {
        const [current = "", next = ""] =
          options.passwordStdin === true
            ? (await readStdin(terminal)).toString("utf8").split(/\r?\n/)
            : [await ask(terminal, "Current password"), await ask(terminal, "Next password")];
        await client.post("/api/v1/auth/password", { current, next });
        settings.forget();
        output.note("the password is changed; log in again");
      }),
    );
}
