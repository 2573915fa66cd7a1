/**
 * The settings of a program: from a YAML file, then the environment, then flags; later ones win. Nothing secret is
 * ever a setting itself: passwords, passphrases and keys are named by file, so the whole configuration can be printed.
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
  readonly flag: string;
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
    return [{ path: here, env, flag, parse, description: (child as z.ZodType).description ?? inner.description ?? "" }];
  });
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
        ...Object.fromEntries(known.map(({ flag }) => [flag, { type: "string" as const }])),
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
  for (const { path, env: variable, flag, parse } of known) {
    const fromFlag = flags[flag] as string | undefined;
    const text = fromFlag ?? env[variable];
    if (text === undefined) continue;
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
  const lines = settings(schema).map(({ flag, env, description }) => `  --${flag}  (${env})\n      ${description}`);
  return `Usage: ${program} [--config FILE] [--print-config] [flags]\n\n${lines.join("\n")}\n`;
}
