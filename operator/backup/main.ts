/**
 * Backup and recovery, on the settings of the operator. Ends with 0 when all is well, with 1 when something is wrong, which is told,
 * and with 2 when it was not understood.
 */
import { Command, CommanderError } from "commander";
import { SafeError, Unavailable } from "../../core/errors.ts";
import { createLogger } from "../../program/logging.ts";
import { ConfigError, readInvocation } from "../../program/settings.ts";
import { VERSION } from "../../program/version.ts";
import { configSchema } from "../config.ts";
import { adopt, checkCopy, create, FoundWrong, restore, settle, status, verify } from "./commands.ts";
import { Installation } from "./installation.ts";

const OK = 0;
const WRONG = 1;
const MISUSED = 2;

const say = (line: string): void => void process.stdout.write(`${line}\n`);
/** Where standard output has something else. */
const tell = (line: string): void => void process.stderr.write(`${line}\n`);

function program(): Command {
  const root = new Command("mazevault-backup")
    .description("Makes and verifies backups of an installation, and has a restored one taken over.")
    .version(VERSION)
    .option(
      "--config <file>",
      "settings of the operator; MAZEVAULT_CONFIG and the other variables count as they do there",
    )
    .showHelpAfterError("--help lists what there is")
    .configureHelp({ showGlobalOptions: true })
    .exitOverride();
  const opened = async (work: (installation: Installation) => Promise<void>): Promise<void> => {
    const { config: file } = root.opts<{ config?: string }>();
    const given = file === undefined ? [] : ["--config", file];
    const installation = new Installation(readInvocation(configSchema, given, process.env).config);
    try {
      await work(installation);
    } finally {
      await installation.close();
    }
  };
  const pgBin = ["--pg-bin <folder>", "where pg_dump and pg_restore are; PATH otherwise"] as const;
  root
    .command("create")
    .description(
      "A copy of the database by pg_dump, and its manifest; without --dir the manifest alone, on standard output.",
    )
    .option("--dir <folder>", "where both go; it must have no backup yet")
    .option("--manifest-only", "no copy: PostgreSQL's platform makes one")
    .option(...pgBin)
    .action((options) =>
      opened((installation) =>
        create(
          installation,
          options,
          options.dir === undefined ? tell : say,
          (text) => void process.stdout.write(text),
        ),
      ),
    );
  root
    .command("check <folder>")
    .description("Whether a copy is what its manifest says; needs no database and no key.")
    .action(async (dir: string) => void (await checkCopy(dir, say)));
  root
    .command("restore <folder>")
    .description("Into the database of the settings, which must be empty. All of it or nothing.")
    .option(...pgBin)
    .action((dir: string, options) => opened((installation) => restore(installation, { dir, ...options }, say)));
  root
    .command("verify")
    .description(
      "Opens every key, value and private key, and judges every row that is authenticated, and the audit chain. Writes nothing.",
    )
    .option(
      "--manifest <file>",
      "the audit chain must have what stood there when the backup was made; - for standard input",
    )
    .option("--json", "the report as JSON")
    .action((options) => opened((installation) => verify(installation, options, say)));
  root
    .command("adopt")
    .description(
      "Takes a restored database over for the cluster of the settings: what has the name of something of before takes its place.",
    )
    .option("--manifest <file>", "of the backup that was restored; - for standard input")
    .option(
      "--namespace <name=uid>",
      "whose rows a namespace takes, where several of its name are in use, or another one was taken before",
      (pair: string, known: ReadonlyMap<string, string>) => new Map([...known, splitPair(pair)]),
      new Map<string, string>(),
    )
    .option("--same-cluster", "the database of this cluster was set back to an earlier moment")
    .action(({ namespace: namespaces, ...options }) =>
      opened((installation) => adopt(installation, { namespaces, ...options }, say)),
    );
  root
    .command("status")
    .description("Which cluster the database belongs to, and what is missing in it.")
    .action(() => opened((installation) => status(installation, say)));
  root
    .command("settle")
    .description("Ends a recovery: from then on what is missing was deleted.")
    .option("--drop-missing", "also while something is missing", false)
    .action((options) => opened((installation) => settle(installation, options, say)));
  return root;
}

function splitPair(pair: string): readonly [string, string] {
  const [name = "", uid = "", ...more] = pair.split("=");
  if (name === "" || uid === "" || more.length > 0)
    throw new CommanderError(MISUSED, "namespace", `--namespace: ${pair} is not NAME=UID`);
  return [name, uid];
}

async function run(): Promise<number> {
  try {
    await program().parseAsync();
    return OK;
  } catch (error) {
    if (error instanceof FoundWrong) return WRONG;
    if (error instanceof CommanderError) {
      if (error.code === "namespace") tell(error.message);
      return error.exitCode === 0 ? OK : MISUSED;
    }
    if (error instanceof ConfigError) {
      tell(error.message);
      return MISUSED;
    }
    if (error instanceof SafeError) tell(`mazevault-backup: ${error.message}`);
    else createLogger({ destination: process.stderr }).error({ error }, "it failed unexpectedly");
    if (error instanceof Unavailable && error.code === "DatabaseUnavailable")
      tell("nothing else was done; repeat it when PostgreSQL answers");
    return WRONG;
  }
}

process.exitCode = await run();
