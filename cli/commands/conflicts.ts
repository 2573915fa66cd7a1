import { type Command, Option } from "commander";
import { acting, placeOf } from "../context.ts";
import type { Terminal } from "../output.ts";

interface Conflict {
  readonly namespace: string;
  readonly name: string;
  readonly secret?: string;
  readonly key?: string;
  readonly rule?: string;
  readonly platformVersion?: number;
  readonly resolution?: string;
  readonly since?: string;
}

const KEEP = { platform: "KeepPlatform", target: "KeepTarget" } as const;

/** Values that were changed here and in a vault. */
export function conflictCommands(program: Command, terminal: Terminal): void {
  const conflicts = program.command("conflicts").description("values that were changed here and in a vault");

  conflicts
    .command("list")
    .description("conflicts that you may see")
    .action(
      acting(terminal, async ({ client, output }) => {
        const found: Conflict[] = [];
        for await (const each of client.items<Conflict>("/api/v1/sync-conflicts", { limit: 500 })) found.push(each);
        output.rows(
          found,
          found.map(({ namespace, name, secret, key, rule, platformVersion, resolution, since }) => ({
            namespace,
            name,
            secret,
            key,
            rule,
            "version here": platformVersion,
            resolution,
            since,
          })),
        );
      }),
    );

  conflicts
    .command("resolve")
    .description("say which value both sides shall have; the other one stays as a version")
    .argument("<conflict>", "NAMESPACE/NAME, as `conflicts list` shows it")
    .addOption(
      new Option("--keep <side>", "the value that is stored here, or the one in the vault")
        .choices(Object.keys(KEEP))
        .makeOptionMandatory(),
    )
    .action(
      acting(terminal, async ({ client, output }, conflict: string, { keep }: { keep: keyof typeof KEEP }) => {
        const { namespace, name } = placeOf(conflict);
        const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/sync-conflicts/${encodeURIComponent(name)}/resolve`;
        await client.post(path, { resolution: KEEP[keep] });
        output.note(`${conflict}: both sides get the ${keep}'s value in a moment; the other one stays as a version`);
      }),
    );
}
