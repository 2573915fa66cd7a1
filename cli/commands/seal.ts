import type { Command } from "commander";
import { stringify } from "yaml";
import { Stalled } from "../../core/errors.ts";
import { Sensitive } from "../../core/sensitive.ts";
import { readSealingKeyFile, type SealedPlace, type SignedSealingKey, seal } from "../../core/vault/sealing.ts";
import { acting, type Context, type Place, placeOf } from "../context.ts";
import { UsageError } from "../errors.ts";
import { givenValues, literalOption, readValueFile } from "../input.ts";
import type { Terminal } from "../output.ts";

interface SealOptions {
  readonly literal?: string[];
  readonly sealingKey?: string;
  readonly signedBy?: string;
  readonly project?: string;
  readonly environment?: string;
}

const pathOfKey = (project: string): string => `/api/v1/projects/${encodeURIComponent(project)}/sealing-key`;

export function sealCommands(program: Command, terminal: Terminal): void {
  program
    .command("sealing-key")
    .description("the public key that a project's values for Git are sealed to, as a file to commit")
    .argument("<project>", "name of the Project")
    .action(
      acting(terminal, async ({ client, output }, project: string) => {
        const { text } = await client.send("GET", pathOfKey(project));
        const key = verified(text);
        output.data({ kind: "SealingKey", ...key });
        output.note(`signed by ${key.signedBy}; compare it with what you know, and pin it with --signed-by`);
      }),
    );

  program
    .command("seal")
    .description("encrypt values for the entries of one secret; prints them as they stand in the manifest in Git")
    .argument("<secret>", "NAMESPACE/NAME")
    .argument("[keys...]", "KEY (asks for it), KEY=@FILE, or KEY=- (standard input)")
    .addOption(literalOption())
    .option("--sealing-key <file>", "what mazevault sealing-key printed; nothing is asked of the server then")
    .option("--signed-by <key>", "refuse a sealing key that another installation has signed")
    .option("--project <name>", "project of a secret that is not there yet")
    .option("--environment <name>", "environment of a secret that is not there yet")
    .action(
      acting(terminal, async (context, secret: string, keys: string[], options: SealOptions) => {
        const place = placeOf(secret);
        const { to, environment } = await recipient(context, place, options);
        const values = await givenValues(terminal, keys, options.literal);
        const entries: { key: string; sealed: string }[] = [];
        for (const [key, value] of values) {
          entries.push({ key, sealed: await sealed(to, { project: to.project, environment, ...place, key }, value) });
        }
        if (context.output.format === "table") context.output.raw(stringify(entries, { lineWidth: 0 }));
        else context.output.data(entries);
      }),
    );
}

/** Whom it is sealed to, and for which environment: what neither file nor flags say, the server is asked for. */
async function recipient(
  { client }: Context,
  { namespace, name }: Place,
  { sealingKey, signedBy, project, environment }: SealOptions,
): Promise<{ to: SignedSealingKey; environment: string }> {
  if (sealingKey !== undefined) {
    if (environment === undefined) throw new UsageError("--environment: must be given with --sealing-key");
    const to = verified(readValueFile(sealingKey).toString("utf8"), signedBy);
    if (project !== undefined && project !== to.project)
      throw new UsageError(`--sealing-key: it is of project ${to.project}, not of ${project}`);
    return { to, environment };
  }
  const known = project !== undefined && environment !== undefined;
  const found = known
    ? { project, environment }
    : await client.get<{ project: string; environment: string }>(
        `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets/${encodeURIComponent(name)}`,
      );
  const { text } = await client.send("GET", pathOfKey(project ?? found.project));
  return { to: verified(text, signedBy), environment: environment ?? found.environment };
}

const verified = (text: string, signedBy?: string): SignedSealingKey =>
  mended(() => readSealingKeyFile(text, signedBy));

async function sealed(to: SignedSealingKey, place: SealedPlace, bytes: Buffer): Promise<string> {
  const value = new Sensitive(bytes);
  try {
    return await seal(to, place, value);
  } catch (error) {
    throw mendable(error);
  } finally {
    value.dispose();
  }
}

function mended<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw mendable(error);
  }
}

/** What the core refuses is the caller's to mend. */
const mendable = (error: unknown): unknown => (error instanceof Stalled ? new UsageError(error.message) : error);
