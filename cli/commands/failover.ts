import type { Command } from "commander";
import { acting } from "../context.ts";
import type { Output, Terminal } from "../output.ts";

interface Member {
  readonly name: string;
  readonly state: string;
  readonly score?: number;
}

interface State {
  readonly environment: string;
  readonly active: string;
  readonly activeGateway: string;
  readonly epoch: number;
  readonly since: string;
  readonly phase: string;
  readonly message?: string;
  readonly primary: Member;
  readonly standby: Member;
  readonly automaticFailover: boolean;
  readonly failover?: string;
}

const pathOf = (environment: string): string => `/api/v1/admin/failover/${encodeURIComponent(environment)}`;

const told = ({ name, state, score }: Member): string => `${name} ${state}${score === undefined ? "" : ` ${score}`}`;

function print(output: Output, state: State): void {
  const { environment, activeGateway, active, epoch, since, phase, primary, standby } = state;
  const row = { environment, active, gateway: activeGateway, epoch, since, phase };
  output.rows(state, [{ ...row, primary: told(primary), standby: told(standby) }]);
  if (output.format === "table" && state.message !== undefined) output.note(state.message);
}

/** Which gateway of an environment acts, and handing that over. */
export function failoverCommands(program: Command, terminal: Terminal): void {
  const failover = program.command("failover").description("which gateway of an environment acts");
  const asked = (environment: string, state: State): string =>
    state.failover === undefined
      ? `${state.activeGateway} is in charge of ${environment} already`
      : `Failover ${state.failover} is under way; see: mazevault failover status ${environment}`;
  const force = [
    "--force",
    "also when the gateway that is to act is not heard of, or writes wait at the other one",
  ] as const;

  failover
    .command("status")
    .description("who is in charge, since when, and how the two are")
    .argument("<environment>", "such as NPR")
    .action(
      acting(terminal, async ({ client, output }, environment: string) => {
        print(output, await client.get<State>(pathOf(environment)));
      }),
    );

  for (const [name, description] of [
    ["activate-dr", "let the standby act, whatever the primary does"],
    ["failback", "let the primary act again, once it is heard of and no writes wait at the standby"],
  ] as const) {
    failover
      .command(name)
      .description(description)
      .argument("<environment>", "such as NPR")
      .option(...force)
      .action(
        acting(terminal, async ({ client, output }, environment: string, options: { force?: boolean }) => {
          const query = options.force === true ? "?force=true" : "";
          const state = await client.post<State>(`${pathOf(environment)}/${name}${query}`);
          output.note(asked(environment, state));
          if (output.format !== "table") output.data(state);
        }),
      );
  }
}
