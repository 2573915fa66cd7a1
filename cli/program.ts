import { Command, CommanderError, Option } from "commander";
import { VERSION } from "../program/version.ts";
import { accessCommands } from "./commands/access.ts";
import { auditCommands } from "./commands/audit.ts";
import { certificateCommands } from "./commands/certificates.ts";
import { completionCommands } from "./commands/completion.ts";
import { conflictCommands } from "./commands/conflicts.ts";
import { doctorCommand } from "./commands/doctor.ts";
import { failoverCommands } from "./commands/failover.ts";
import { gatewayCommands } from "./commands/gateways.ts";
import { apiKeyCommands, userCommands } from "./commands/identities.ts";
import { keyCommands } from "./commands/keys.ts";
import { listingCommands } from "./commands/listings.ts";
import { migrateCommands } from "./commands/migrate.ts";
import { nameCommands } from "./commands/names.ts";
import { readerKeyCommands } from "./commands/reader-keys.ts";
import { sealCommands } from "./commands/seal.ts";
import { secretCommands } from "./commands/secrets.ts";
import { sessionCommands } from "./commands/session.ts";
import { supportBundleCommand } from "./commands/support-bundle.ts";
import { VARIABLES } from "./environment.ts";
import { CommandError, EXIT, EXIT_MEANINGS } from "./errors.ts";
import { FORMATS, type Terminal } from "./output.ts";

const exitCodes = Object.entries(EXIT).map(([name, code]) => [code, EXIT_MEANINGS[name as keyof typeof EXIT]] as const);

/** As commander lists options. */
function listed(title: string, entries: readonly (readonly [string | number, string])[]): string {
  const width = Math.max(...entries.map(([name]) => String(name).length));
  return [title, ...entries.map(([name, meaning]) => `  ${String(name).padEnd(width)}  ${meaning}`), ""].join("\n");
}

export function program(terminal: Terminal): Command {
  const root = new Command("mazevault")
    .description("Secrets, certificates, access and audit of a MazeVault installation.")
    .version(VERSION)
    .option("--server <url>", "where it is, such as https://mazevault.example.com:8443 (MAZEVAULT_SERVER)")
    .option("--ca-file <file>", "CA certificates for it, in PEM (MAZEVAULT_CA_FILE)")
    .addOption(new Option("-o, --output <format>", "how to print").choices(FORMATS).default("table"))
    .showHelpAfterError("--help lists what there is")
    .configureHelp({ showGlobalOptions: true })
    .addHelpText("after", `\n${listed("Environment:", Object.entries(VARIABLES))}\n${listed("Exit codes:", exitCodes)}`)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
    });
  for (const add of [
    sessionCommands,
    secretCommands,
    readerKeyCommands,
    certificateCommands,
    listingCommands,
    nameCommands,
    conflictCommands,
    gatewayCommands,
    failoverCommands,
    accessCommands,
    userCommands,
    apiKeyCommands,
    auditCommands,
    sealCommands,
    migrateCommands,
    keyCommands,
    doctorCommand,
    supportBundleCommand,
    completionCommands,
  ])
    add(root, terminal);
  return root;
}

/** The exit code. */
export async function run(args: readonly string[], terminal: Terminal): Promise<number> {
  try {
    await program(terminal).parseAsync([...args], { from: "user" });
    return EXIT.ok;
  } catch (error) {
    // commander has printed what it has to say.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    if (!(error instanceof CommandError)) throw error;
    if (error.message !== "") terminal.stderr.write(`mazevault: ${error.message}\n`);
    return error.exitCode;
  }
}
