import type { Command } from "commander";
import { acting } from "../context.ts";
import type { Terminal } from "../output.ts";

interface Listed {
  readonly namespace?: string;
  readonly name: string;
  readonly ready: boolean;
  readonly reason: string;
}

interface Project extends Listed {
  readonly environments: readonly { readonly name: string }[];
}

interface Issuer extends Listed {
  readonly kind: string;
  readonly notAfter?: string;
}

interface SyncRule extends Listed {
  readonly project: string;
  readonly environment: string;
  readonly direction: string;
  readonly items?: number;
  readonly inSync?: number;
  readonly pending?: number;
}

type Shown<T> = (item: T) => Readonly<Record<string, string | number | undefined>>;

/** Lists of what is made with kubectl, and read here too. */
export function listingCommands(program: Command, terminal: Terminal): void {
  const list = <T extends Listed>(group: string, what: string, shown: Shown<T>): void => {
    program
      .command(group)
      .description(what)
      .command("list")
      .description(`${what} that you may see`)
      .action(
        acting(terminal, async ({ client, output }) => {
          const found: T[] = [];
          for await (const item of client.items<T>(`/api/v1/${group}`, { limit: 500 })) found.push(item);
          output.rows(
            found,
            found.map((item) => ({ ...shown(item), ready: item.ready, reason: item.reason })),
          );
        }),
      );
  };
  list<Project>("projects", "projects", ({ name, environments }) => ({
    name,
    environments: environments.map((each) => each.name).join(","),
  }));
  list<Issuer>("issuers", "issuers of certificates", ({ kind, namespace = "", name, notAfter }) => ({
    kind,
    namespace,
    name,
    "not after": notAfter,
  }));
  list<SyncRule>(
    "sync-rules",
    "sync rules",
    ({ namespace, name, project, environment, direction, items, inSync, pending }) => ({
      namespace,
      name,
      project,
      environment,
      direction,
      items,
      "in sync": inSync,
      pending,
    }),
  );
}
