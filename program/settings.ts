/**
 * The settings of a program: from a YAML file, then the environment, then flags; later ones win. Passwords, passphrases and keys
 * are named by file. What is secret and a setting all the same has `secret` in its `meta` and is a `Sensitive`, so the whole
 * configuration can be printed; it has no flag, since everybody on the machine sees those. `aliases` in the `meta` are further
 * names in the environment, which count where its own is not set.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { parse as parseYaml } from "yaml";
import { z } from "zod";

/** What is wrong with the settings, one line each, with the name under which the user gave it. */
export class ConfigError extends Error {
  constructor(lines: readonly string[]) {
    super(`the configuration is not valid:\n${lines.map((line) => `  ${line}`).join("\n")}`);
    this.name = "ConfigError";
  }
}

interface Setting {
  readonly path: readonly string[];
  readonly env: string;
  readonly aliases: readonly string[];
  readonly flag: string;
  readonly secret: boolean;
  readonly description: string;
  readonly parse: (text: string) => unknown;
}

const words = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** The schema behind defaults and optionals. */
function bare(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional
    ? bare(schema.unwrap() as z.ZodType)
    : schema;
}

function parser(schema: z.ZodType): ((text: string) => unknown) | undefined {
  const leaf = bare(schema);
  if (leaf instanceof z.ZodArray) {
    return bare(leaf.element as z.ZodType) instanceof z.ZodObject
      ? undefined
      : (text) => text.split(",").filter(Boolean);
  }
  if (leaf instanceof z.ZodBoolean) return (text) => ({ true: true, false: false })[text] ?? text;
  if (leaf instanceof z.ZodNumber) return (text) => (text.trim() === "" ? text : Number(text));
  return (text) => text;
}

/** Every setting that environment and flags can carry; lists of objects stand in the file only. */
export function settings(schema: z.ZodObject, path: readonly string[] = []): Setting[] {
  return Object.entries(schema.shape).flatMap(([name, child]): Setting[] => {
    const here = [...path, name];
    const inner = bare(child as z.ZodType);
    if (inner instanceof z.ZodObject) return settings(inner, here);
    const parse = parser(inner);
    if (parse === undefined) return [];
    const flag = here.map(words).join("-");
    const env = `MAZEVAULT_${flag.replaceAll("-", "_").toUpperCase()}`;
    const { description = "", aliases, secret } = metaOf(child as z.ZodType, inner);
    return [{ path: here, env, aliases, flag, secret, parse, description }];
  });
}

interface Meta {
  readonly description?: string | undefined;
  readonly aliases: readonly string[];
  readonly secret: boolean;
}

/** What a schema says of itself; where it is wrapped for a default, the one inside may say it. */
function metaOf(...schemas: readonly z.ZodType[]): Meta {
  const said = schemas.map((schema) => schema.meta() ?? {});
  return {
    description: said.find(({ description }) => description !== undefined)?.description,
    aliases: said.flatMap(({ aliases }) => (Array.isArray(aliases) ? aliases.map(String) : [])),
    secret: said.some(({ secret }) => secret === true),
  };
}

type Tree = { [name: string]: unknown };

function assign(tree: Tree, path: readonly string[], value: unknown): void {
  const [head, ...rest] = path;
  if (head === undefined) return;
  if (rest.length === 0) {
    tree[head] = value;
    return;
  }
  const child = tree[head];
  const next: Tree = typeof child === "object" && child !== null ? (child as Tree) : {};
  tree[head] = next;
  assign(next, rest, value);
}

export interface Invocation<Schema extends z.ZodObject> {
  readonly config: z.infer<Schema>;
  readonly printConfig: boolean;
  readonly help: boolean;
}

/** Reads the settings. Throws `ConfigError` that names each wrong setting under the name the user gave it. */
export function readInvocation<Schema extends z.ZodObject>(
  schema: Schema,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Invocation<Schema> {
  const known = settings(schema);
  let flags: Record<string, string | boolean | undefined>;
  try {
    ({ values: flags } = parseArgs({
      args: [...args],
      strict: true,
      options: {
        ...Object.fromEntries(
          known.flatMap(({ flag, secret }) => (secret ? [] : [[flag, { type: "string" as const }]])),
        ),
        config: { type: "string" },
        "print-config": { type: "boolean" },
        help: { type: "boolean" },
      },
    }));
  } catch (error) {
    throw new ConfigError([`${(error as Error).message} (--help lists the flags)`]);
  }

  const file = (flags.config as string | undefined) ?? env.MAZEVAULT_CONFIG;
  const tree = file === undefined ? {} : readFile(file);
  const givenAs = new Map<string, string>();
  for (const { path, env: own, aliases, flag, secret, parse } of known) {
    const fromFlag = flags[flag] as string | undefined;
    // A core Secret whose key was emptied still sets the variable.
    const isGiven = (given: string | undefined) => given !== undefined && !(secret && given.trim() === "");
    const variable = [own, ...aliases].find((name) => isGiven(env[name])) ?? own;
    const text = fromFlag ?? env[variable];
    // Programs that are started from here have no use for it.
    if (secret) for (const name of [own, ...aliases]) delete env[name];
    if (text === undefined || !isGiven(text)) continue;
    assign(tree, path, parse(text));
    givenAs.set(path.join("."), fromFlag === undefined ? variable : `--${flag}`);
  }

  const result = schema.safeParse(tree);
  if (!result.success) {
    throw new ConfigError(
      result.error.issues.map((issue) => {
        const path = issue.path.join(".");
        return `${givenAs.get(path) ?? (path === "" ? (file ?? "configuration") : path)}: ${issue.message}`;
      }),
    );
  }
  return { config: result.data, printConfig: flags["print-config"] === true, help: flags.help === true };
}

function readFile(file: string): Tree {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError([`${file}: cannot be read (${(error as NodeJS.ErrnoException).code})`]);
  }
  try {
    const tree: unknown = parseYaml(text) ?? {};
    if (typeof tree !== "object" || Array.isArray(tree)) throw new Error("a mapping is expected");
    return tree as Tree;
  } catch (error) {
    throw new ConfigError([`${file}: ${(error as Error).message}`]);
  }
}

/** One line for each setting: flag, environment variable, what it means. */
export function helpText(schema: z.ZodObject, program: string): string {
  const lines = settings(schema).map(({ flag, env, aliases, secret, description }) => {
    const names = [env, ...aliases].join(", ");
    return `  ${secret ? names : `--${flag}  (${names})`}\n      ${description}`;
  });
  return `Usage: ${program} [--config FILE] [--print-config] [flags]\n\n${lines.join("\n")}\n`;
}
