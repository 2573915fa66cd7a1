import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { loadConfiguration } from "./config.ts";
import { Control, type StoredSecret } from "./control.ts";

const USAGE = "usage: npm run --silent vault -- [--config FILE.json] [--reveal] [VAULT] [NAME]";
const DEFAULT_CONFIGURATION = ".mazevault/lab/keyvault/config.json";

/** Prints what a running stand-in holds: every vault's secrets, or all versions of the one that is named. */
async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: {
      config: { type: "string", default: DEFAULT_CONFIGURATION },
      reveal: { type: "boolean", default: false },
    },
    allowPositionals: true,
  });
  const [vault, name] = positionals;
  if (positionals.length > 2) {
    throw new Error(USAGE);
  }
  const { control: address } = loadConfiguration(values.config);
  const control = new Control(address, readFileSync(address.tokenFile, "utf8").trim());
  for (const each of vault === undefined ? await control.vaults() : [vault]) {
    const secrets = await control.secrets(each);
    console.log(`https://${each}.vault.azure.net`);
    console.log(name === undefined ? overview(secrets, values.reveal) : history(secrets, name, values.reveal));
  }
}

/** One line for each secret: its current version. */
function overview(secrets: readonly StoredSecret[], reveal: boolean): string {
  const rows = secrets.map(({ name, state, versions }) => {
    const current = versions.at(-1);
    return [
      name,
      state === "active" && current?.enabled === false ? "disabled" : state,
      String(versions.length),
      time(current?.updated),
      shown(current?.value ?? "", reveal),
      tagsOf(current?.tags),
    ];
  });
  return table(["NAME", "STATE", "VERSIONS", "UPDATED", "VALUE", "TAGS"], rows);
}

/** One line for each version of a secret, the newest first. */
function history(secrets: readonly StoredSecret[], name: string, reveal: boolean): string {
  const secret = secrets.find((each) => each.name.toLowerCase() === name.toLowerCase());
  const rows = (secret?.versions ?? [])
    .toReversed()
    .map((version) => [
      version.version,
      version.enabled ? (secret?.state ?? "") : "disabled",
      time(version.created),
      time(version.updated),
      shown(version.value, reveal),
      tagsOf(version.tags),
    ]);
  return table(["VERSION", "STATE", "CREATED", "UPDATED", "VALUE", "TAGS"], rows);
}

function shown(value: string, reveal: boolean): string {
  return reveal ? JSON.stringify(value) : `(${Buffer.byteLength(value)} bytes)`;
}

function tagsOf(tags: Readonly<Record<string, string>> = {}): string {
  return Object.entries(tags)
    .map(([name, value]) => `${name}=${value}`)
    .join(",");
}

function time(seconds: number | undefined): string {
  return seconds === undefined ? "" : new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
}

function table(head: readonly string[], rows: readonly string[][]): string {
  const lines = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .concat(rows.length === 0 ? ["(nothing)"] : [])
    .join("\n");
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
