import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Command } from "commander";
import { stringify } from "yaml";
import { Stalled } from "../../core/errors.ts";
import { readSealingKeyFile, type SignedSealingKey } from "../../core/vault/sealing.ts";
import { acting, type Context } from "../context.ts";
import { CommandError, EXIT, UsageError } from "../errors.ts";
import { readValueFile } from "../input.ts";
import type { Manifest } from "../migrate/manifests.ts";
import type { Conversion, Converted } from "../migrate/report.ts";
import type { TenancyOptions } from "../migrate/tenancy.ts";
import { Output, type Terminal } from "../output.ts";

interface MigrateOptions extends TenancyOptions {
  readonly secrets?: string;
  readonly to?: string;
}

interface EsoOptions extends MigrateOptions {
  readonly clientId?: string;
  readonly tenantId?: string;
}

interface SealedSecretsOptions extends MigrateOptions {
  readonly sealingKey?: readonly string[];
  readonly signedBy?: string;
}

const several = (value: string, before: readonly string[] = []): readonly string[] => [...before, value];

export function migrateCommands(program: Command, terminal: Terminal): void {
  const migrate = program
    .command("migrate")
    .description("objects of other tools as objects of MazeVault, offline; what has no equal is told (exit code 7)");

  const command = (name: string, what: string): Command =>
    migrate
      .command(name)
      .description(what)
      .argument("<sources...>", "files, folders, or - (standard input) with Kubernetes manifests")
      .option("--project <name>", "project of namespaces that --map does not name")
      .option("--environment <name>", "environment of namespaces that --map does not name")
      .option("--map <namespace=project/environment>", "where a namespace belongs; may be repeated", several)
      .option("-n, --namespace <name>", "namespace of manifests that say none")
      .option(
        "--secrets <source>",
        "file, folder or - with the core Secrets, as kubectl get secrets -o yaml shows them",
      )
      .option(
        "--to <folder>",
        "write a file for each object there, and print the report; else it goes to standard error",
      );

  command("eso", "External Secrets Operator: stores of Azure Key Vault, ExternalSecrets, PushSecrets")
    .option("--client-id <id>", "of the identity that gets into the vaults, where no manifest says it")
    .option("--tenant-id <id>", "of its Entra ID tenant, where no manifest says it")
    .action(
      acting(terminal, async (context, sources: string[], options: EsoOptions) => {
        const { convertEso, isOfEso } = await import("../migrate/eso.ts");
        const { manifests, secrets, tenancy } = await given(context, sources, options);
        assertSome(manifests.some(isOfEso), "nothing of the External Secrets Operator");
        const { clientId, tenantId } = options;
        tell(context, options, convertEso(manifests, { tenancy, secrets, clientId, tenantId }));
      }),
    );

  command("sealed-secrets", "Sealed Secrets: values are taken from the core Secrets, and sealed to the project's key")
    .option(
      "--sealing-key <file>",
      "what mazevault sealing-key printed; may be repeated, one for each project",
      several,
    )
    .option("--signed-by <key>", "refuse a sealing key that another installation has signed")
    .action(
      acting(terminal, async (context, sources: string[], options: SealedSecretsOptions) => {
        const { convertSealedSecrets, isSealedSecret } = await import("../migrate/sealed-secrets.ts");
        const sealingKeys = keysByProject(options);
        const [only] = sealingKeys.size === 1 ? sealingKeys.keys() : [];
        const project = options.project ?? only;
        const known = { ...options, ...(project !== undefined && { project }) };
        const { manifests, secrets, tenancy } = await given(context, sources, known);
        assertSome(manifests.some(isSealedSecret), "no SealedSecret");
        tell(context, options, await convertSealedSecrets(manifests, { tenancy, secrets, sealingKeys }));
      }),
    );
}

async function given({ terminal }: Context, sources: readonly string[], options: MigrateOptions) {
  const { readManifests } = await import("../migrate/manifests.ts");
  const { CoreSecrets } = await import("../migrate/core-secrets.ts");
  const { Tenancy } = await import("../migrate/tenancy.ts");
  const tenancy = new Tenancy(options);
  if (options.secrets === "-" && sources.includes("-")) {
    throw new UsageError("--secrets: standard input is read already", "write one of them to a file");
  }
  const manifests: readonly Manifest[] = await readManifests(terminal, sources);
  const cores = options.secrets === undefined ? [] : await readManifests(terminal, [options.secrets]);
  return { manifests, secrets: new CoreSecrets([...manifests, ...cores]), tenancy };
}

function assertSome(any: boolean, what: string): void {
  if (!any)
    throw new UsageError(`${what} is in what was given`, "kubectl get KIND -A -o yaml prints what the cluster has");
}

function keysByProject({ sealingKey = [], signedBy }: SealedSecretsOptions): ReadonlyMap<string, SignedSealingKey> {
  try {
    const keys = sealingKey.map((file) => readSealingKeyFile(readValueFile(file).toString("utf8"), signedBy));
    return new Map(keys.map((key) => [key.project, key]));
  } catch (error) {
    throw error instanceof Stalled ? new UsageError(`--sealing-key: ${error.message}`) : error;
  }
}

/** The objects, the report, and by the exit code whether all was converted. */
function tell({ terminal, output }: Context, { to }: MigrateOptions, { objects, findings }: Conversion): void {
  if (to === undefined) output.raw(objects.map((each) => `---\n${written(each)}`).join(""));
  else writeFiles(to, objects);
  // In a stream of manifests there is no place for it.
  const report = to === undefined ? new Output({ ...terminal, stdout: terminal.stderr }, output.format) : output;
  const rows = findings.map(({ kind, namespace, name, field, result, message }) => ({
    object: `${kind} ${namespace === undefined ? "" : `${namespace}/`}${name}`,
    field,
    result,
    "what to do": message,
  }));
  if (output.format !== "table" || rows.length > 0) report.rows({ findings }, rows);
  const lost = findings.filter(({ result }) => result === "NotConverted").length;
  const counted = `${objects.length} ${objects.length === 1 ? "object" : "objects"} written`;
  if (lost === 0) output.note(`${counted}; everything was converted`);
  else throw new CommandError(EXIT.finding, `${counted}; ${lost} not converted, see NotConverted in the report`);
}

/** kubectl reads YAML 1.1, in which `on` and `yes` are no texts. */
const written = (object: Converted): string =>
  stringify(object, { version: "1.1", lineWidth: 0, aliasDuplicateObjects: false });

function writeFiles(folder: string, objects: readonly Converted[]): void {
  const files = objects.map((each) => {
    const { namespace, name } = each.metadata;
    return { file: path.join(folder, namespace, `${each.kind.toLowerCase()}-${name}.yaml`), text: written(each) };
  });
  for (const { file, text } of files) {
    try {
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, text, { flag: "wx" });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      throw new UsageError(
        `${file} cannot be written (${code})`,
        code === "EEXIST" ? "name another folder" : undefined,
      );
    }
  }
}
