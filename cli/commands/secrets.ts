import type { Command } from "commander";
import { parsed } from "../client.ts";
import { acting, type Context, type Place, placeOf } from "../context.ts";
import { openedByReader, sealedForReaders } from "../end-to-end.ts";
import { CommandError, EXIT, UsageError } from "../errors.ts";
import { assertNew, givenValues, literalOption, writeOwnFile } from "../input.ts";
import type { Terminal } from "../output.ts";

interface Summary {
  readonly namespace: string;
  readonly name: string;
  readonly project: string;
  readonly environment: string;
  readonly version?: number;
  readonly ready: boolean;
  readonly reason: string;
}

interface Values {
  readonly version: number;
  readonly values: Readonly<Record<string, string>>;
}

interface ExportOptions {
  readonly project?: string;
  readonly environment?: string;
  readonly namespace?: string;
  readonly file?: string;
  readonly show?: boolean;
}

interface Version {
  readonly version: number;
  readonly createdAt: string;
  readonly current: boolean;
  /** Absent from servers that know no others. */
  readonly state?: string;
  readonly keys: readonly string[];
}

const pathOf = ({ namespace, name }: Place): string =>
  `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets/${encodeURIComponent(name)}`;

const HIDDEN = "(hidden; --show shows it)";

async function valuesOf(
  context: Context,
  place: Place,
  query: { version?: string | undefined; key?: string | undefined },
  readerKey?: string,
): Promise<Values> {
  const path = `${pathOf(place)}/values`;
  const { version, values } = await context.client.get<Values>(path, { ...query, encoding: "base64" });
  return { version, values: await openedByReader(context, place, values, readerKey) };
}

const readerKeyOption = [
  "--reader-key <file>",
  "open with this key alone, where values are sealed for readers",
] as const;

/** As text where it is text, else as base64 with a word that says so. */
function shownValue(base64: string): string {
  const bytes = Buffer.from(base64, "base64");
  const text = bytes.toString("utf8");
  return Buffer.from(text, "utf8").equals(bytes) ? text : `base64:${base64}`;
}

export function secretCommands(program: Command, terminal: Terminal): void {
  program
    .command("list")
    .description("secrets that you may see")
    .option("--project <name>", "only of this project")
    .option("--environment <name>", "only of this environment")
    .option("-n, --namespace <name>", "only in this namespace")
    .action(
      acting(
        terminal,
        async ({ client, output }, scope: { project?: string; environment?: string; namespace?: string }) => {
          const found: Summary[] = [];
          for await (const secret of client.items<Summary>("/api/v1/secrets", { ...scope, limit: 500 }))
            found.push(secret);
          output.rows(
            found,
            found.map(({ namespace, name, project, environment, version, ready, reason }) => ({
              namespace,
              name,
              project,
              environment,
              version,
              ready,
              reason,
            })),
          );
        },
      ),
    );

  program
    .command("get")
    .description("values of a secret; one key alone is printed as it is")
    .argument("<secret>", "NAMESPACE/NAME")
    .argument("[key]", "only this one")
    .option("--at <version>", "of this version; the current one when absent")
    .option("--show", "show values on a terminal")
    .option(...readerKeyOption)
    .action(
      acting(
        terminal,
        async (
          context,
          secret: string,
          key: string | undefined,
          options: { at?: string; show?: boolean; readerKey?: string },
        ) => {
          const { client, output } = context;
          const hides = output.isTerminal && options.show !== true;
          const place = placeOf(secret);
          if (hides) {
            // What is not going to be shown is not read either: each read is on record.
            const { items } = await client.get<{ items: Version[] }>(`${pathOf(place)}/versions`);
            const wanted = items.find(({ version, current }) =>
              options.at === undefined ? current : String(version) === options.at,
            );
            if (wanted === undefined) throw new CommandError(EXIT.notFound, `version ${options.at} is not kept`);
            const keys = wanted.keys.filter((each) => key === undefined || each === key);
            if (keys.length === 0)
              throw new CommandError(EXIT.notFound, `version ${wanted.version} has no value of ${key}`);
            output.rows(
              wanted,
              keys.map((each) => ({ key: each, value: HIDDEN })),
            );
            return;
          }
          const { version, values } = await valuesOf(context, place, { version: options.at, key }, options.readerKey);
          if (key !== undefined && output.format === "table") {
            output.raw(Buffer.from(values[key] ?? "", "base64"));
            if (output.isTerminal) output.raw("\n");
            return;
          }
          const shown = Object.fromEntries(Object.entries(values).map(([each, value]) => [each, shownValue(value)]));
          output.rows(
            { version, values: shown },
            Object.entries(shown).map(([each, value]) => ({ key: each, value })),
          );
        },
      ),
    );

  program
    .command("put")
    .description(
      "write values of external entries, as one new version; a secret that is not there is made with --project and --environment; with protection EndToEnd they are sealed here for its readers",
    )
    .argument("<secret>", "NAMESPACE/NAME")
    .argument("[keys...]", "KEY (asks for it), KEY=@FILE, or KEY=- (standard input)")
    .addOption(literalOption())
    .option("--project <name>", "project of a secret that is to be made")
    .option("--environment <name>", "environment of a secret that is to be made")
    .option("--managed", "MazeVault may read the values, also where they were sealed for readers before")
    .action(
      acting(
        terminal,
        async (
          context,
          secret: string,
          keys: string[],
          options: { literal?: string[]; project?: string; environment?: string; managed?: boolean },
        ) => {
          const { client, output } = context;
          const place = placeOf(secret);
          const given = await givenValues(terminal, keys, options.literal);
          const { project, environment, managed = false } = options;
          const makes = project !== undefined && environment !== undefined;
          const values = await sealedForReaders(context, place, given, { managed, makes });
          const body = {
            encoding: "base64",
            values: Object.fromEntries([...values].map(([key, value]) => [key, value.toString("base64")])),
            ...(project !== undefined && { project }),
            ...(environment !== undefined && { environment }),
          };
          const answer = await client.send("PUT", `${pathOf(place)}/values`, { body });
          const written = parsed<{ version: number; changed: string[] }>(answer);
          output.rows(written, [{ secret, version: written.version, changed: written.changed.join(",") }]);
        },
      ),
    );

  program
    .command("versions")
    .description("versions of a secret that are kept")
    .argument("<secret>", "NAMESPACE/NAME")
    .action(
      acting(terminal, async ({ client, output }, secret: string) => {
        const { items } = await client.get<{ items: Version[] }>(`${pathOf(placeOf(secret))}/versions`);
        output.rows(
          items,
          items.map(({ version, createdAt, current, state, keys }) => ({
            version,
            created: createdAt,
            current,
            state,
            keys: keys.join(","),
          })),
        );
      }),
    );

  program
    .command("diff")
    .description("keys in which two versions differ")
    .argument("<secret>", "NAMESPACE/NAME")
    .argument("<from>", "number of a version")
    .argument("[to]", "number of a version; the current one when absent")
    .option("--show", "show the values")
    .option(...readerKeyOption)
    .action(
      acting(
        terminal,
        async (
          context,
          secret: string,
          from: string,
          to: string | undefined,
          options: { show?: boolean; readerKey?: string },
        ) => {
          const { output } = context;
          const place = placeOf(secret);
          const before = await valuesOf(context, place, { version: from }, options.readerKey);
          const after = await valuesOf(context, place, { version: to }, options.readerKey);
          const keys = [...new Set([...Object.keys(before.values), ...Object.keys(after.values)])].sort();
          const differing = keys
            .filter((key) => before.values[key] !== after.values[key])
            .map((key) => {
              const [old, now] = [before.values[key], after.values[key]];
              const change = old === undefined ? "added" : now === undefined ? "removed" : "changed";
              const shown = (value: string | undefined) => (value === undefined ? "" : shownValue(value));
              return { key, change, ...(options.show === true && { before: shown(old), after: shown(now) }) };
            });
          output.rows(differing, differing);
        },
      ),
    );

  program
    .command("rollback")
    .description("make a new version with the values of an older one")
    .argument("<secret>", "NAMESPACE/NAME")
    .argument("<version>", "number of a version that is kept")
    .action(
      acting(terminal, async ({ client, output }, secret: string, version: string) => {
        if (!/^[1-9]\d{0,8}$/.test(version)) throw new UsageError(`${version}: must be the number of a version`);
        const done = await client.post<{ version: number; changed: string[]; kept: string[] }>(
          `${pathOf(placeOf(secret))}/rollback`,
          { version: Number(version) },
        );
        output.rows(done, [
          { secret, version: done.version, changed: done.changed.join(","), kept: done.kept.join(",") },
        ]);
        if (done.kept.length > 0)
          output.note(`not rolled back, since they follow their source: ${done.kept.join(", ")}`);
      }),
    );

  program
    .command("rotate")
    .description("make a new version in which generated entries have new values")
    .argument("<secret>", "NAMESPACE/NAME")
    .argument("[keys...]", "only these; those of spec.rotation.keys, else all that are generated, when absent")
    .action(
      acting(terminal, async ({ client, output }, secret: string, keys: string[]) => {
        const body = keys.length === 0 ? {} : { keys };
        const done = await client.post<{ version: number; changed: string[]; requested?: boolean }>(
          `${pathOf(placeOf(secret))}/rotate`,
          body,
        );
        if (done.requested === true) {
          output.note(`new values of ${secret} are to be applied; version ${done.version} is current until then`);
        }
        output.rows(done, [{ secret, version: done.version, changed: done.changed.join(",") }]);
      }),
    );

  program
    .command("delete")
    .description("delete a secret, as kubectl delete does")
    .argument("<secret>", "NAMESPACE/NAME")
    .action(
      acting(terminal, async ({ client, output }, secret: string) => {
        await client.send("DELETE", pathOf(placeOf(secret)));
        output.note(`${secret} is deleted; mazevault recover ${secret} brings it back`);
      }),
    );

  program
    .command("recover")
    .description("bring a deleted secret back")
    .argument("<secret>", "NAMESPACE/NAME")
    .action(
      acting(terminal, async ({ client, output }, secret: string) => {
        const { version } = await client.post<{ version: number }>(`${pathOf(placeOf(secret))}/recover`);
        output.note(`${secret} is back, with version ${version}`);
      }),
    );

  program
    .command("export")
    .description("current values of many secrets, as JSON Lines; sealed ones stay sealed")
    .option("--project <name>", "only of this project")
    .option("--environment <name>", "only of this environment")
    .option("-n, --namespace <name>", "only in this namespace")
    .option("--file <file>", "write them to a new file that only you can read")
    .option("--show", "show values on a terminal")
    .action(
      acting(terminal, async ({ client, output }, { file, show, ...scope }: ExportOptions) => {
        if (file !== undefined) assertNew(file);
        else if (output.isTerminal && show !== true)
          throw new UsageError("values are not shown on a terminal: name a --file for them, or --show");
        const { pieces } = await client.stream("GET", "/api/v1/export", { ...scope, encoding: "base64" });
        const all: Buffer[] = [];
        for await (const piece of pieces) all.push(piece);
        const text = Buffer.concat(all).toString("utf8");
        if (file === undefined) output.raw(text);
        else writeOwnFile(file, text);
      }),
    );
}
