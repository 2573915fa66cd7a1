/** Settings by which secrets of the program itself come from a Key Vault, and what must not be said together. */
import { z } from "zod";
import { allowedHost } from "../../adapters/keyvault/hosts.ts";
import { Stalled } from "../../core/errors.ts";
import { normalVaultUrl } from "../../core/ports/target-vaults.ts";

export const DEFAULT_ROOT_KEY_FILE = "/etc/mazevault/root.key";

/** https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates#object-identifiers */
export const vaultEntry = z.string().regex(/^[0-9a-zA-Z-]{1,127}$/, "must be 1 to 127 of letters, digits and -");

export const operationalSecrets = z.strictObject({
  vaultUrl: z
    .url({ protocol: /^https$/ })
    .transform(normalVaultUrl)
    .optional()
    .meta({
      aliases: ["GATEWAY_KEYVAULT_URL"],
      description:
        "Key Vault with secrets of this program, such as https://kv-mazevault-npr.vault.azure.net/; the settings that end in Secret name its entries.",
    }),
  clientId: z
    .guid()
    .optional()
    .describe("Client ID of the managed identity that reads them; azure.managedIdentityClientId unless said."),
});

/** Settings that name an entry of that vault. */
export const SECRET_SETTINGS = [
  "database.passwordSecret",
  "redis.passwordSecret",
  "keys.rootKeySecret",
  "keys.passphraseSecret",
  "keys.previous.rootKeySecret",
  "keys.previous.passphraseSecret",
  "gateway.bootstrapTokenSecret",
] as const;
export type SecretSetting = (typeof SECRET_SETTINGS)[number];

interface RootKeySource {
  readonly provider: "file" | "passphrase";
  readonly file?: string | undefined;
  readonly passphraseFile?: string | undefined;
  readonly rootKeySecret?: string | undefined;
  readonly passphraseSecret?: string | undefined;
}

/** As far as it says where secrets come from. */
export interface SecretSources {
  readonly operationalSecrets: z.infer<typeof operationalSecrets>;
  readonly azure: { readonly allowedVaultHosts: readonly string[] };
  readonly database: { readonly passwordFile?: string | undefined; readonly passwordSecret?: string | undefined };
  readonly redis: { readonly passwordFile?: string | undefined; readonly passwordSecret?: string | undefined };
  readonly keys: RootKeySource & { readonly create: boolean; readonly previous?: RootKeySource | undefined };
  readonly gateway: {
    readonly bootstrapToken?: unknown;
    readonly bootstrapTokenFile?: string | undefined;
    readonly bootstrapTokenSecret?: string | undefined;
  };
}

/** The entry that a setting names; undefined where the secret comes from elsewhere. */
export function entryOf({ database, redis, keys, gateway }: SecretSources, setting: SecretSetting): string | undefined {
  switch (setting) {
    case "database.passwordSecret":
      return database.passwordSecret;
    case "redis.passwordSecret":
      return redis.passwordSecret;
    case "keys.rootKeySecret":
      return keys.rootKeySecret;
    case "keys.passphraseSecret":
      return keys.passphraseSecret;
    case "keys.previous.rootKeySecret":
      return keys.previous?.rootKeySecret;
    case "keys.previous.passphraseSecret":
      return keys.previous?.passphraseSecret;
    case "gateway.bootstrapTokenSecret":
      return gateway.bootstrapTokenSecret;
  }
}

type Problem = readonly [setting: string, message: string];

/** Each secret has one source, and entries have a vault that may be called. */
export const sourceProblems = (config: SecretSources): readonly Problem[] => [
  ...vaultProblems(config),
  ...twoSources("database", config.database),
  ...twoSources("redis", config.redis),
  ...rootKeyProblems("keys", config.keys),
  ...(config.keys.rootKeySecret !== undefined && config.keys.create
    ? ([["keys.create", "makes a file, where keys.rootKeySecret names an entry; keep one of the two"]] as const)
    : []),
  ...(config.keys.previous === undefined ? [] : rootKeyProblems("keys.previous", config.keys.previous)),
  ...tokenProblems(config),
];

function vaultProblems(config: SecretSources): readonly Problem[] {
  const { vaultUrl } = config.operationalSecrets;
  const named = SECRET_SETTINGS.filter((setting) => entryOf(config, setting) !== undefined);
  if (vaultUrl === undefined)
    return named.map((setting) => [setting, "needs operationalSecrets.vaultUrl (GATEWAY_KEYVAULT_URL)"]);
  if (named.length === 0)
    return [["operationalSecrets.vaultUrl", `nothing is read of it: name an entry in ${SECRET_SETTINGS.join(", ")}`]];
  try {
    allowedHost(vaultUrl, config.azure.allowedVaultHosts);
    return [];
  } catch (error) {
    if (!(error instanceof Stalled)) throw error;
    const message = "must be https://NAME.vault.azure.net/, or its host must stand in azure.allowedVaultHosts";
    return [["operationalSecrets.vaultUrl", message]];
  }
}

const twoSources = (part: "database" | "redis", { passwordFile, passwordSecret }: SecretSources["database"]) =>
  passwordFile === undefined || passwordSecret === undefined
    ? []
    : ([
        [`${part}.passwordSecret`, `names an entry where ${part}.passwordFile names a file; keep one of the two`],
      ] as const);

function rootKeyProblems(part: "keys" | "keys.previous", source: RootKeySource): readonly Problem[] {
  const { provider, file, passphraseFile, rootKeySecret, passphraseSecret } = source;
  const problems: Problem[] = [];
  if (rootKeySecret !== undefined && provider === "passphrase")
    problems.push([`${part}.rootKeySecret`, `is for ${part}.provider file; of a passphrase ${part}.passphraseSecret`]);
  if (passphraseSecret !== undefined && provider === "file")
    problems.push([`${part}.passphraseSecret`, `is for ${part}.provider passphrase; of a key ${part}.rootKeySecret`]);
  const named = file !== undefined && (part === "keys.previous" || file !== DEFAULT_ROOT_KEY_FILE);
  if (rootKeySecret !== undefined && provider === "file" && named)
    problems.push([`${part}.rootKeySecret`, `names an entry where ${part}.file names a file; keep one of the two`]);
  if (file === undefined && (provider === "passphrase" || rootKeySecret === undefined))
    problems.push([`${part}.file`, "required"]);
  if (passphraseFile !== undefined && passphraseSecret !== undefined)
    problems.push([
      `${part}.passphraseSecret`,
      `names an entry where ${part}.passphraseFile names a file; keep one of the two`,
    ]);
  return problems;
}

function tokenProblems({ gateway }: SecretSources): readonly Problem[] {
  const { bootstrapToken, bootstrapTokenFile, bootstrapTokenSecret } = gateway;
  if (bootstrapTokenSecret === undefined) return [];
  const others = [
    ...(bootstrapToken === undefined ? [] : ["GATEWAY_BOOTSTRAP_TOKEN"]),
    ...(bootstrapTokenFile === undefined ? [] : ["gateway.bootstrapTokenFile"]),
  ];
  return others.map((other) => [
    "gateway.bootstrapTokenSecret",
    `names an entry where ${other} is set as well; keep one of the two`,
  ]);
}
