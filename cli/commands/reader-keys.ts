import type { Command } from "commander";
import { acting, placeOf } from "../context.ts";
import { CommandError, EXIT, UsageError } from "../errors.ts";
import type { Terminal } from "../output.ts";
import { AcceptedKeys, FINGERPRINT, OwnKeys } from "../reader-keys.ts";

const READER = "NAMESPACE/NAME of the reader, as secrets there name it";

export function readerKeyCommands(program: Command, terminal: Terminal): void {
  const keys = program
    .command("reader-keys")
    .description(
      "keys that values are sealed for, with protection EndToEnd: your own, and those of others that you accept",
    );

  keys
    .command("new")
    .description("make a key pair; its private half stays here, its public half goes into spec.readers of the secret")
    .argument("<name>", "what the reader is called")
    .action(
      acting(terminal, async ({ settings, output }, name: string) => {
        if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name))
          throw new UsageError(`${name}: must be lower-case letters, digits and hyphens`);
        const { file, publicKey, fingerprint } = new OwnKeys(settings.folder).create(name);
        output.rows({ name, publicKey, fingerprint }, [{ name, "public key": publicKey, fingerprint }]);
        output.note(
          `the private half stands in ${file}: keep a copy, since without it nobody opens what is sealed for it`,
        );
      }),
    );

  keys
    .command("list")
    .description("your own keys, and those of others that were accepted for this server")
    .action(
      acting(terminal, async ({ settings, output }) => {
        const own = new OwnKeys(settings.folder)
          .all()
          .map(({ name, fingerprint }) => ({ name, kind: "own", fingerprint }));
        const { readers } = new AcceptedKeys(settings.folder, settings.server);
        const accepted = Object.entries(readers).map(([name, fingerprint]) => ({
          name,
          kind: "accepted",
          fingerprint,
        }));
        output.rows([...own, ...accepted], [...own, ...accepted]);
      }),
    );

  keys
    .command("fingerprint")
    .description("what you read out to those who write for you")
    .argument("<name>", "of your own key")
    .action(
      acting(terminal, async ({ settings, output }, name: string) => {
        const own = new OwnKeys(settings.folder);
        const key = own.all().find((each) => each.name === name);
        if (key === undefined) throw new CommandError(EXIT.notFound, `there is no reader key ${name} in ${own.folder}`);
        if (output.format === "table") output.line(key.fingerprint);
        else output.data({ name, fingerprint: key.fingerprint });
      }),
    );

  keys
    .command("add")
    .description("accept a reader's key, by the fingerprint that the reader read out to you")
    .argument("<reader>", READER)
    .argument("<fingerprint>", "SHA256:...")
    .option("--replace", "instead of the one that was accepted before")
    .action(
      acting(
        terminal,
        async ({ settings, output }, reader: string, fingerprint: string, options: { replace?: boolean }) => {
          placeOf(reader);
          if (!FINGERPRINT.test(fingerprint))
            throw new UsageError(
              `${fingerprint}: must be SHA256: and 43 characters, as mazevault reader-keys fingerprint shows`,
            );
          new AcceptedKeys(settings.folder, settings.server).accept(reader, fingerprint, options.replace === true);
          output.note(`values in this namespace may be sealed for ${reader} with ${fingerprint}`);
        },
      ),
    );

  keys
    .command("remove")
    .description("accept a reader's key no longer")
    .argument("<reader>", READER)
    .action(
      acting(terminal, async ({ settings, output }, reader: string) => {
        placeOf(reader);
        new AcceptedKeys(settings.folder, settings.server).forget(reader);
        output.note(`the key of ${reader} is not accepted any more`);
      }),
    );
}
