import { type Command, Option } from "commander";
import { durationMs } from "../../core/duration.ts";
import { ROLE_NAMES, VERBS } from "../../crds/access.ts";
import type { Client } from "../client.ts";
import { acting } from "../context.ts";
import { CommandError, EXIT, UsageError } from "../errors.ts";
import { assertNew, givenPassword, writeOwnFile } from "../input.ts";
import type { Terminal } from "../output.ts";

interface User {
  readonly id: string;
  readonly email: string;
  readonly role?: string;
  readonly disabled: boolean;
  readonly createdAt: string;
}

interface ApiKey {
  readonly id: string;
  readonly name: string;
  readonly scopes: readonly string[];
  readonly expiresAt: string;
  readonly revokedAt?: string;
  readonly lastUsedAt?: string;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const WHO = "email or id of the user";

const shownUser = ({ id, email, role, disabled, createdAt }: User) => ({
  id,
  email,
  role: role ?? "",
  disabled,
  created: createdAt,
});

const shownKey = ({ id, name, scopes, expiresAt, revokedAt, lastUsedAt }: ApiKey) => ({
  id,
  name,
  scopes: scopes.join(","),
  state: revokedAt !== undefined ? "revoked" : Date.parse(expiresAt) <= Date.now() ? "expired" : "valid",
  expires: expiresAt,
  "last used": lastUsedAt ?? "",
});

async function all<T>(client: Client, path: string): Promise<T[]> {
  const found: T[] = [];
  for await (const item of client.items<T>(path, { limit: 500 })) found.push(item);
  return found;
}

/** Policies and paths name the id, people know the email. */
async function idOf(client: Client, who: string): Promise<string> {
  if (UUID.test(who)) return who;
  for await (const user of client.items<User>("/api/v1/users", { limit: 500 }))
    if (user.email.toLowerCase() === who.toLowerCase()) return user.id;
  throw new CommandError(EXIT.notFound, `there is no local user ${who}`);
}

export function userCommands(program: Command, terminal: Terminal): void {
  const users = program.command("users").description("local users");

  users
    .command("list")
    .description("all of them, with the ids that policies name")
    .action(
      acting(terminal, async ({ client, output }) => {
        const found = await all<User>(client, "/api/v1/users");
        output.rows(found, found.map(shownUser));
      }),
    );

  users
    .command("create")
    .description("make a local user; the password is asked for, or read from standard input")
    .argument("<email>", "never given to another user, also after this one is removed")
    .addOption(new Option("--role <role>", "in the whole installation; none when absent").choices(ROLE_NAMES))
    .option("--password-stdin", "read the password from standard input")
    .action(
      acting(
        terminal,
        async ({ client, output }, email: string, options: { role?: string; passwordStdin?: boolean }) => {
          const password = await givenPassword(terminal, options.passwordStdin);
          const { role } = options;
          const made = await client.post<User>("/api/v1/users", {
            email,
            password,
            ...(role !== undefined && { role }),
          });
          output.rows(made, [shownUser(made)]);
        },
      ),
    );

  const changing = (name: string, description: string): Command =>
    users.command(name).description(description).argument("<user>", WHO);
  const change = async (client: Client, who: string, body: object): Promise<User> => {
    const path = `/api/v1/users/${encodeURIComponent(await idOf(client, who))}`;
    return JSON.parse((await client.send("PATCH", path, { body })).text) as User;
  };

  changing("set-role", "give a user another role in the whole installation")
    .argument("<role>", `${ROLE_NAMES.join(", ")}, or none`)
    .action(
      acting(terminal, async ({ client, output }, who: string, role: string) => {
        const changed = await change(client, who, { role: role === "none" ? null : role });
        output.rows(changed, [shownUser(changed)]);
      }),
    );

  for (const [name, disabled, description] of [
    ["disable", true, "end every session of a user, and let none begin"],
    ["enable", false, "let a user log in again"],
  ] as const) {
    changing(name, description).action(
      acting(terminal, async ({ client, output }, who: string) => {
        const changed = await change(client, who, { disabled });
        output.rows(changed, [shownUser(changed)]);
      }),
    );
  }

  changing("reset-password", "give a user another password, which ends every session of the user")
    .option("--password-stdin", "read the password from standard input")
    .action(
      acting(terminal, async ({ client, output }, who: string, options: { passwordStdin?: boolean }) => {
        const password = await givenPassword(terminal, options.passwordStdin);
        await change(client, who, { password });
        output.note(`${who} has another password`);
      }),
    );

  changing("remove", "remove a user, with all sessions and API keys").action(
    acting(terminal, async ({ client, output }, who: string) => {
      await client.send("DELETE", `/api/v1/users/${encodeURIComponent(await idOf(client, who))}`);
      output.note(`${who} is removed`);
    }),
  );
}

interface NewKey {
  readonly scope: readonly string[];
  readonly expires?: string;
  readonly file?: string;
  readonly show?: boolean;
}

export function apiKeyCommands(program: Command, terminal: Terminal): void {
  const keys = program.command("api-keys").description("your API keys, for scripts and applications");

  keys
    .command("list")
    .description("all of them, without what gives access")
    .action(
      acting(terminal, async ({ client, output }) => {
        const found = await all<ApiKey>(client, "/api/v1/api-keys");
        output.rows(found, found.map(shownKey));
      }),
    );

  keys
    .command("create")
    .description("make an API key, and tell it this once")
    .argument("<name>", "what it is for")
    .addOption(
      new Option("--scope <verb>", "what it may do at most; may be repeated")
        .choices(VERBS)
        .makeOptionMandatory()
        .argParser(scope),
    )
    .option("--expires <when>", "after a duration such as 720h, or at a time; after 90 days when absent")
    .option("--file <file>", "write the key to a new file that only you can read")
    .option("--show", "show the key on a terminal")
    .action(
      acting(terminal, async ({ client, output }, name: string, { scope, expires, file, show }: NewKey) => {
        if (file !== undefined) assertNew(file);
        else if (output.isTerminal && show !== true)
          throw new UsageError("the key is told this once: name a --file for it, or have it shown with --show");
        const { secret, ...made } = await client.post<ApiKey & { secret: string }>("/api/v1/api-keys", {
          name,
          scopes: [...new Set(scope)],
          ...(expires !== undefined && { expiresAt: endOf(expires).toISOString() }),
        });
        if (file === undefined) {
          if (output.format === "table") output.line(secret);
          else output.data({ ...made, secret });
          return;
        }
        writeOwnFile(file, `${secret}\n`);
        output.rows(made, [shownKey(made)]);
      }),
    );

  keys
    .command("revoke")
    .description("refuse an API key from now on; also one of somebody else, for who administers identities")
    .argument("<id>", "id of the key")
    .action(
      acting(terminal, async ({ client, output }, id: string) => {
        await client.send("DELETE", `/api/v1/api-keys/${encodeURIComponent(id)}`);
        output.note(`${id} is revoked, everywhere within two seconds`);
      }),
    );
}

/** Once for each: it must not take what follows for further ones. */
function scope(verb: string, before: readonly string[] = []): readonly string[] {
  if (!(VERBS as readonly string[]).includes(verb)) throw new UsageError(`--scope: must be one of ${VERBS.join(", ")}`);
  return [...before, verb];
}

function endOf(when: string): Date {
  const end = /^(\d+[hms])+$/.test(when) ? new Date(Date.now() + durationMs(when)) : new Date(when);
  if (Number.isNaN(end.getTime()))
    throw new UsageError(`--expires: ${when} is neither a duration such as 720h nor a time`);
  return end;
}
