/**
 * The installation's settings: from a YAML file, then the environment, then flags; later ones win. Nothing secret is
 * ever a setting itself: passwords, passphrases and keys are named by file, so the whole configuration can be printed.
 */
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { parse as parseYaml } from "yaml";
import { z } from "zod";

const port = z.int().min(1).max(65535);
const milliseconds = z.int().min(1).max(86_400_000);

const database = z.strictObject({
  host: z.string().min(1).default("localhost").describe("Host of PostgreSQL 15 or later."),
  port: port.default(5432).describe("Port of PostgreSQL."),
  name: z.string().min(1).default("mazevault").describe("Name of the database."),
  user: z.string().min(1).default("mazevault").describe("Role that owns the schema."),
  passwordFile: z.string().min(1).optional().describe("File with the role's password."),
  tls: z
    .enum(["verify-full", "disable"])
    .default("verify-full")
    .describe("verify-full checks certificate and host name; disable is for a socket on the same host only."),
  caFile: z
    .string()
    .min(1)
    .optional()
    .describe("File with the CA certificates for PostgreSQL; the system's otherwise."),
  poolSize: z.int().min(2).max(200).default(20).describe("Highest number of connections."),
});

const keys = z.strictObject({
  provider: z.enum(["file", "passphrase"]).default("file").describe("Who holds the root key."),
  file: z
    .string()
    .min(1)
    .default("/etc/mazevault/root.key")
    .describe(
      "file: the root key, 32 bytes in base64, readable by its owner only. passphrase: where salt and parameters stand.",
    ),
  passphraseFile: z.string().min(1).optional().describe("passphrase: file with the passphrase."),
  create: z.boolean().default(false).describe("Make the root key on first start when its file does not exist."),
});

const connectTo = z.strictObject({
  host: z.string().min(1).describe("Host name, or *.domain, as it stands in the URL."),
  address: z
    .string()
    .regex(/^\S+:\d{1,5}$/)
    .describe("Where to connect instead, host:port. The name in TLS and in the request stays the true one."),
});

const azure = z.strictObject({
  authorityHost: z.url().default("https://login.microsoftonline.com").describe("Where Entra ID hands out tokens."),
  allowedVaultHosts: z
    .array(z.string().min(1))
    .default([])
    .describe(
      "Vault hosts beside those of Azure and its sovereign clouds that a KeyVault may name; *.domain is allowed.",
    ),
  connectTo: z.array(connectTo).default([]).describe("Other destinations for some hosts, as for a private endpoint."),
  caFile: z.string().min(1).optional().describe("Additional CA certificates for those destinations."),
  timeoutMs: milliseconds.default(10_000).describe("Longest wait for an answer of Azure, in milliseconds."),
});

const kubernetes = z.strictObject({
  kubeconfig: z.string().min(1).optional().describe("Kubeconfig file; the pod's ServiceAccount otherwise."),
  namespace: z
    .string()
    .min(1)
    .default("mazevault-system")
    .describe("Namespace of the installation: its Lease lives there."),
  leaseDurationMs: milliseconds.default(15_000).describe("How long leadership lasts without renewal, in milliseconds."),
  watchInactivityMs: milliseconds
    .default(90_000)
    .describe(
      "A watch that is silent for longer is taken for dead, in milliseconds. Bookmarks come about once a minute.",
    ),
});

const http = z.strictObject({
  host: z.string().min(1).default("0.0.0.0").describe("Address of /healthz, /readyz and /metrics."),
  port: port.default(8081).describe("Port of /healthz, /readyz and /metrics."),
});

const controllers = z.strictObject({
  concurrency: z.int().min(1).max(256).default(16).describe("How many resources of a kind are worked on at once."),
  resyncMs: milliseconds
    .default(3_600_000)
    .describe("How often each resource is looked at without a cause, in milliseconds."),
  onboardNamespaces: z
    .boolean()
    .default(true)
    .describe("Grant the operator access to a namespace (RoleBinding mazevault) when a Project admits it."),
});

const log = z.strictObject({
  level: z.enum(["fatal", "error", "warn", "info", "debug", "trace"]).default("info").describe("Least level to print."),
});

export const configSchema = z.strictObject({
  mode: z.enum(["primary"]).default("primary").describe("What this program is."),
  kubernetes: kubernetes.prefault({}),
  database: database.prefault({}),
  keys: keys.prefault({}),
  azure: azure.prefault({}),
  http: http.prefault({}),
  controllers: controllers.prefault({}),
  log: log.prefault({}),
});
export type Config = z.infer<typeof configSchema>;

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
export function settings(schema: z.ZodObject = configSchema, path: readonly string[] = []): Setting[] {
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

export interface Invocation {
  readonly config: Config;
  readonly printConfig: boolean;
  readonly help: boolean;
}

/** Reads the settings. Throws `ConfigError` that names each wrong setting under the name the user gave it. */
export function readInvocation(args: readonly string[], env: NodeJS.ProcessEnv): Invocation {
  const known = settings();
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

  const result = configSchema.safeParse(tree);
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
export function helpText(): string {
  const lines = settings().map(({ flag, env, description }) => `  --${flag}  (${env})\n      ${description}`);
  return `Usage: mazevault [--config FILE] [--print-config] [flags]\n\n${lines.join("\n")}\n`;
}
