import { createWriteStream, existsSync, rmSync } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import type { Command } from "commander";
import { acting } from "../context.ts";
import type { Part } from "../diagnosis/bundle.ts";
import { type KubeconfigOptions, kubeconfigOption, operatorNamespaceOption } from "../diagnosis/kubectl.ts";
import { CommandError, EXIT, UsageError } from "../errors.ts";
import type { Terminal } from "../output.ts";

interface Options extends KubeconfigOptions {
  readonly file?: string;
}

export function supportBundleCommand(program: Command, terminal: Terminal): void {
  program
    .command("support-bundle")
    .description("what those need who help from outside, as one .tar.gz without secrets; prints what is in it")
    .option("--file <file>", "where to write it; in this folder, under the time of day, when absent")
    .addOption(kubeconfigOption())
    .addOption(operatorNamespaceOption())
    .action(
      acting(terminal, async (context, options: Options) => {
        const { output } = context;
        const { sources, why } = await import("../diagnosis/bundle.ts");
        const { file = `mazevault-support-${new Date().toISOString().replaceAll(/[:.]/g, "-")}.tar.gz` } = options;
        if (existsSync(file)) throw isThere(file);
        const parts: Part[] = [];
        const missing: string[] = [];
        const all = sources(context, options);
        for (const [index, { title, collect }] of all.entries()) {
          output.progress(index, all.length);
          try {
            parts.push(...(await collect()));
          } catch (error) {
            missing.push(`${title}: ${why(error)}`);
          }
        }
        output.progress(all.length, all.length);
        if (missing.length > 0) parts.push({ name: "missing.txt", content: `${missing.join("\n")}\n` });
        await write(file, parts);
        const contents = parts.map(({ name, content }) => ({ part: name, bytes: Buffer.byteLength(content) }));
        output.rows({ file, parts: contents, missing }, contents);
        for (const each of missing) output.note(`not in it: ${each}`);
        output.note(`written to ${file}, which only you can read; look through it before you hand it on`);
      }),
    );
}

/** Nobody else may read it, and nothing that is there is overwritten. */
async function write(file: string, parts: readonly Part[]): Promise<void> {
  const tar = (await import("tar-stream")).default.pack();
  for (const { name, content } of parts) tar.entry({ name: `mazevault-support/${name}`, mode: 0o600 }, content);
  tar.finalize();
  const target = createWriteStream(file, { flags: "wx", mode: 0o600 });
  try {
    await pipeline(tar, createGzip(), target);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") throw isThere(file);
    rmSync(file, { force: true });
    throw new CommandError(EXIT.unavailable, `${file} cannot be written (${code})`);
  }
}

const isThere = (file: string): UsageError =>
  new UsageError(`${file} is there already`, "name another one with --file");
