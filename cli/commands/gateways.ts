import { type Command, Option } from "commander";
import { GATEWAY_ROLES } from "../../crds/gateway.ts";
import { acting } from "../context.ts";
import type { Terminal } from "../output.ts";

interface Gateway {
  readonly name: string;
  readonly gatewayId?: string;
  readonly environment?: string;
  readonly role?: string;
  readonly version?: string;
  readonly certificateNotAfter?: string;
  readonly ready: boolean;
  readonly reason: string;
  readonly message: string;
}

interface Bootstrap {
  readonly token: string;
  readonly name: string;
  readonly gatewayId: string;
  readonly expiresAt: string;
}

const pathOf = (name: string): string => `/api/v1/gateways/${encodeURIComponent(name)}`;

const rowOf = ({ name, environment, role, version, certificateNotAfter, ready, reason }: Gateway) => ({
  name,
  environment,
  role,
  version,
  "certificate ends": certificateNotAfter,
  ready,
  reason,
});

/** Installations in other clusters that keep in touch with this one. */
export function gatewayCommands(program: Command, terminal: Terminal): void {
  const gateways = program.command("gateways").description("installations in other clusters that keep in touch");

  gateways
    .command("bootstrap")
    .description("make a token for a gateway to register with, once; the token alone goes to standard output")
    .argument("<name>", "name of the gateway; its object is made where it is missing")
    .option("--environment <environment>", "that it works for, such as NPR; as it says itself when absent")
    .addOption(new Option("--role <role>", "in its environment; as it says itself when absent").choices(GATEWAY_ROLES))
    .action(
      acting(terminal, async ({ client, output }, name: string, place: { environment?: string; role?: string }) => {
        const made = await client.post<Bootstrap>("/api/v1/gateways/bootstrap", { name, ...place });
        output.note(
          `gateway ${made.name} (${made.gatewayId}): start it with GATEWAY_BOOTSTRAP_TOKEN set to this token, until ${made.expiresAt}`,
        );
        if (output.format === "table") output.line(made.token);
        else output.data(made);
      }),
    );

  gateways
    .command("list")
    .description("gateways, and whether they are in touch")
    .action(
      acting(terminal, async ({ client, output }) => {
        const found: Gateway[] = [];
        for await (const each of client.items<Gateway>("/api/v1/gateways", { limit: 500 })) found.push(each);
        output.rows(found, found.map(rowOf));
      }),
    );

  gateways
    .command("get")
    .description("one gateway, and what is wrong with it")
    .argument("<name>", "name of the gateway")
    .action(
      acting(terminal, async ({ client, output }, name: string) => {
        const found = await client.get<Gateway>(pathOf(name));
        output.rows(found, [rowOf(found)]);
        if (output.format === "table") output.note(found.message);
      }),
    );

  gateways
    .command("delete")
    .description("delete its object, which revokes it: nothing of it is served any more")
    .argument("<name>", "name of the gateway")
    .action(
      acting(terminal, async ({ client, output }, name: string) => {
        await client.send("DELETE", pathOf(name));
        output.note(`${name} is deleted, and revoked in a moment`);
      }),
    );
}
