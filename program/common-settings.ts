/** Settings that more than one program has. */
import { z } from "zod";
import { ConfigError } from "./settings.ts";

export const port = z.int().min(1).max(65535);
export const milliseconds = z.int().min(1).max(86_400_000);

export const database = z.strictObject({
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

export const log = z.strictObject({
  level: z.enum(["fatal", "error", "warn", "info", "debug", "trace"]).default("info").describe("Least level to print."),
});

interface PasswordSource {
  readonly source: string;
  current(): Promise<string>;
  refused(): void;
}

/**
 * How to reach PostgreSQL. Throws `ConfigError` when a setting is missing.
 * @param password instead of that of the settings
 */
export function databaseOptions(settings: z.infer<typeof database>, password?: PasswordSource) {
  const { passwordFile } = settings;
  if (password === undefined && passwordFile === undefined) throw new ConfigError(["database.passwordFile: required"]);
  if (settings.tls === "verify-full" && settings.caFile === undefined) {
    throw new ConfigError(["database.caFile: required with database.tls verify-full"]);
  }
  return {
    host: settings.host,
    port: settings.port,
    database: settings.name,
    user: settings.user,
    ...(password !== undefined ? { password } : passwordFile !== undefined && { passwordFile }),
    maxConnections: settings.poolSize,
    ...(settings.tls === "verify-full" && settings.caFile !== undefined && { caFile: settings.caFile }),
  };
}
