import { readFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { z } from "zod";
import { settings } from "./settings.ts";

const port = z.number().int().min(0).max(65_535).describe("0 lets the operating system choose");
const listener = z.strictObject({ host: z.string().min(1).default("127.0.0.1"), port });

const federatedCredential = z
  .strictObject({
    issuer: z.url(),
    subject: z.string().min(1),
    audience: z.string().min(1).default("api://AzureADTokenExchange"),
    publicKeyFile: z.string().optional().describe("PEM public keys or certificates, any number in one file"),
    jwksFile: z.string().optional().describe("JSON Web Key Set; read again when it changes"),
  })
  .refine((credential) => (credential.publicKeyFile === undefined) !== (credential.jwksFile === undefined), {
    message: "exactly one of publicKeyFile and jwksFile is required",
  });

const application = z.strictObject({
  clientId: z.string().min(1),
  secret: z.string().min(1).optional(),
  certificateFile: z.string().optional().describe("PEM certificate that verifies client assertions"),
  federatedCredentials: z.array(federatedCredential).default([]),
  managedIdentity: z.boolean().default(false).describe("served by the instance metadata endpoint"),
});

const tenant = z.strictObject({ id: z.guid(), applications: z.array(application) });

const role = z.enum(["Key Vault Secrets Officer", "Key Vault Secrets User"]);

const vault = z.strictObject({
  name: z
    .string()
    .regex(/^[a-zA-Z](?:-?[a-zA-Z0-9])+$/, "3-24 letters, digits and single hyphens")
    .min(3)
    .max(24),
  tenant: z.guid(),
  grants: z.array(z.strictObject({ clientId: z.string().min(1), role })).default([]),
  softDeleteRetentionDays: z.number().int().min(7).max(90).default(90),
  purgeProtection: z.boolean().default(false),
});

const configuration = z
  .strictObject({
    listen: listener,
    certFile: z.string(),
    keyFile: z.string(),
    caFile: z.string().optional().describe("where the CA goes when certFile does not exist yet; default: beside it"),
    imds: listener.optional(),
    control: listener.extend({ tokenFile: z.string() }),
    stateFile: z.string(),
    tenants: z.array(tenant).min(1),
    vaults: z.array(vault),
    settings,
  })
  .superRefine((value, context) => {
    const tenants = new Set(value.tenants.map((entry) => entry.id));
    for (const [index, entry] of value.vaults.entries()) {
      if (!tenants.has(entry.tenant)) {
        context.addIssue({ code: "custom", path: ["vaults", index, "tenant"], message: `no tenant ${entry.tenant}` });
      }
    }
  });

type ParsedConfiguration = z.output<typeof configuration>;
export type Configuration = ParsedConfiguration & { readonly caFile: string };
/** What a configuration file may hold: defaults may be left out. */
export type ConfigurationInput = z.input<typeof configuration>;
export type TenantConfiguration = Configuration["tenants"][number];
export type ApplicationConfiguration = TenantConfiguration["applications"][number];
export type FederatedCredential = ApplicationConfiguration["federatedCredentials"][number];
export type VaultConfiguration = Configuration["vaults"][number];
export type Role = z.output<typeof role>;

/** A configuration that cannot be used; the message names each field. */
export class ConfigurationError extends Error {
  override name = "ConfigurationError";
}

/**
 * Reads and validates a configuration file. Relative paths in it are resolved against the file's folder.
 * @throws ConfigurationError naming the file, each wrong field and what is expected
 */
export function loadConfiguration(file: string): Configuration {
  let document: unknown;
  try {
    document = JSON.parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new ConfigurationError(`${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const parsed = configuration.safeParse(document);
  if (!parsed.success) {
    throw new ConfigurationError(`${file}:\n${z.prettifyError(parsed.error)}`);
  }
  return withAbsolutePaths(parsed.data, dirname(resolve(file)));
}

function withAbsolutePaths(value: ParsedConfiguration, folder: string): Configuration {
  const absolute = (path: string) => resolve(folder, path);
  const caFile =
    value.caFile === undefined ? resolve(folder, dirname(value.certFile), "ca.pem") : absolute(value.caFile);
  return {
    ...value,
    certFile: absolute(value.certFile),
    keyFile: absolute(value.keyFile),
    caFile,
    stateFile: absolute(value.stateFile),
    control: { ...value.control, tokenFile: absolute(value.control.tokenFile) },
    tenants: value.tenants.map((tenant) => ({
      ...tenant,
      applications: tenant.applications.map((application) => ({
        ...application,
        ...(application.certificateFile === undefined
          ? {}
          : { certificateFile: absolute(application.certificateFile) }),
        federatedCredentials: application.federatedCredentials.map((credential) => ({
          ...credential,
          ...(credential.publicKeyFile === undefined ? {} : { publicKeyFile: absolute(credential.publicKeyFile) }),
          ...(credential.jwksFile === undefined ? {} : { jwksFile: absolute(credential.jwksFile) }),
        })),
      })),
    })),
  };
}
