import type { Command } from "commander";
import { VERSION } from "../../program/version.ts";
import { type Client, parsed } from "../client.ts";
import { acting } from "../context.ts";
import { CommandError, EXIT } from "../errors.ts";
import type { Terminal } from "../output.ts";

interface Health {
  readonly version?: string;
  readonly checks?: readonly { readonly name: string; readonly problem?: string }[];
}

interface Check {
  readonly check: string;
  readonly status: "ok" | "failing";
  readonly problem: string;
}

/** Tokens are judged by the clock; a minute is more than any network needs. */
const CLOCK_TOLERANCE_MS = 60_000;

export function doctorCommand(program: Command, terminal: Terminal): void {
  program
    .command("doctor")
    .description("whether everything between here and the installation works; ends with 7 when something does not")
    .action(
      acting(terminal, async ({ client, output }) => {
        const checks = await examined(client);
        output.rows(
          checks,
          checks.map((check) => ({ ...check })),
        );
        const failing = checks.filter(({ status }) => status === "failing").length;
        if (failing > 0) throw new CommandError(EXIT.finding, `${failing} of ${checks.length} checks fail`);
      }),
    );
}

/** Stops at the first thing without which the next ones cannot be told. */
async function examined(client: Client): Promise<readonly Check[]> {
  let answer: Awaited<ReturnType<Client["send"]>>;
  try {
    answer = await client.send("GET", "/api/v1/health", { anonymous: true, accepts: [503] });
  } catch (error) {
    return [check("connection", told(error))];
  }
  const { version, checks = [] } = parsed<Health>(answer);
  return [
    check("connection"),
    check("clock", clock(String(answer.headers.date))),
    check("version", version === VERSION ? undefined : `the server is ${version}, this program ${VERSION}`),
    ...checks.map(({ name, problem }) => check(name, problem)),
    check("credentials", await client.get("/api/v1/auth/me").then(() => undefined, told)),
  ];
}

const check = (name: string, problem?: string): Check => ({
  check: name,
  status: problem === undefined ? "ok" : "failing",
  problem: problem ?? "",
});

/** What a command would have said. */
function told(error: unknown): string {
  if (error instanceof CommandError) return error.message;
  throw error;
}

/** As far as the Date header (RFC 9110, section 6.6.1), which has whole seconds, can tell. */
function clock(date: string): string | undefined {
  const offMs = Date.now() - Date.parse(date);
  if (Math.abs(offMs) <= CLOCK_TOLERANCE_MS) return undefined;
  const seconds = Math.round(Math.abs(offMs) / 1000);
  return `this clock is ${seconds} s ${offMs > 0 ? "ahead of" : "behind"} the server's; set both by NTP`;
}
