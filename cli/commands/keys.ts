import { setTimeout as delay } from "node:timers/promises";
import { type Command, Option } from "commander";
import { acting, type Context } from "../context.ts";
import { UsageError } from "../errors.ts";
import type { Terminal } from "../output.ts";

interface Key {
  readonly project?: string;
  readonly state: "Settled" | "Rotating";
  readonly versions: readonly {
    readonly version: number;
    readonly createdAt: string;
    readonly uses: number;
    readonly left?: number;
  }[];
}

interface Keys {
  readonly rootKey: { readonly id: string; readonly complete: boolean };
  readonly installation: Key;
  readonly items: readonly Key[];
}

interface Rotation {
  readonly started: boolean;
  readonly key: Key;
}

const DAY_MS = 86_400_000;
const LOOK_EVERY_MS = 500;

const nameOf = ({ project }: Key): string => (project === undefined ? "installation" : `project ${project}`);

const rowsOf = (key: Key) =>
  key.versions.map(({ version, createdAt, uses, left }) => ({
    key: nameOf(key),
    version,
    "age in days": Math.floor((Date.now() - Date.parse(createdAt)) / DAY_MS),
    uses,
    left: left ?? "",
  }));

const leftOf = ({ versions }: Key): number => versions.reduce((sum, { left = 0 }) => sum + left, 0);

export function keyCommands(program: Command, terminal: Terminal): void {
  const keys = program.command("keys").description("the keys that wrap others, and their rotation");

  keys
    .command("status")
    .description("versions and ages, and how many keys a replaced version still wraps")
    .option("--project <name>", "only the key of this project")
    .action(
      acting(terminal, async ({ client, output }, { project }: { project?: string }) => {
        if (project !== undefined) {
          const key = await client.get<Key>(pathOf(project));
          output.rows(key, rowsOf(key));
          return;
        }
        const { rootKey, installation } = await client.get<Keys>("/api/v1/keys", { limit: 1 });
        const items: Key[] = [];
        for await (const key of client.items<Key>("/api/v1/keys")) items.push(key);
        if (output.format === "table") {
          const previous = rootKey.complete ? "" : "; the one before, keys.previous, is still needed";
          output.line(`root key: ${rootKey.id}${previous}`);
        }
        output.rows({ rootKey, installation, items }, [installation, ...items].flatMap(rowsOf));
      }),
    );

  keys
    .command("rotate")
    .description("replace a key by a new version; no value is decrypted for it")
    .option("--project <name>", "the key of this project")
    .addOption(new Option("--installation", "the installation's key").conflicts("project"))
    .option("--wait", "until nothing is wrapped by the version before")
    .action(
      acting(
        terminal,
        async (context, options: { project?: string; installation?: boolean; wait?: boolean }): Promise<void> => {
          const { project, installation, wait } = options;
          if (project === undefined && installation !== true) {
            throw new UsageError("say which key: --project NAME or --installation");
          }
          const { client, output } = context;
          const where = project === undefined ? "/api/v1/keys/installation" : pathOf(project);
          const { started, key } = await client.post<Rotation>(`${where}/rotate`);
          output.note(
            started ? `${nameOf(key)}: a new version wraps from now on` : `${nameOf(key)}: under way already`,
          );
          const last = wait === true ? await finished(context, key) : key;
          output.rows(last, rowsOf(last));
        },
      ),
    );
}

const pathOf = (project: string): string => `/api/v1/projects/${encodeURIComponent(project)}/key`;

async function finished({ client, output }: Context, begun: Key): Promise<Key> {
  const all = leftOf(begun);
  for (let key = begun; ; ) {
    if (key.state === "Settled") return key;
    output.progress(all - leftOf(key), all);
    await delay(LOOK_EVERY_MS);
    key =
      begun.project === undefined
        ? (await client.get<Keys>("/api/v1/keys", { limit: 1 })).installation
        : await client.get<Key>(pathOf(begun.project));
  }
}
