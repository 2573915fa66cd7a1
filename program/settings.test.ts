import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { configSchema } from "../operator/config.ts";
import { ConfigError, helpText, readInvocation, settings } from "./settings.ts";

const TOKEN = `mvg1.${"s".repeat(42)}0.${"f".repeat(42)}0`;
const dir = mkdtempSync(join(tmpdir(), "mazevault-config-"));
afterAll(() => rmSync(dir, { recursive: true }));

const file = (text: string): string => {
  const path = join(dir, "config.yaml");
  writeFileSync(path, text);
  return path;
};

describe("settings", () => {
  test("have defaults that need no file", () => {
    const { config } = readInvocation(configSchema, [], {});
    expect(config.controllers.concurrency).toBe(16);
    expect(config.database.tls).toBe("verify-full");
  });

  test("flags win over the environment, which wins over the file", () => {
    const path = file("database: {host: from-file, port: 1}\nlog: {level: warn}\n");
    const { config } = readInvocation(configSchema, ["--config", path, "--database-port", "3"], {
      MAZEVAULT_DATABASE_PORT: "2",
      MAZEVAULT_LOG_LEVEL: "debug",
    });
    expect(config.database).toMatchObject({ host: "from-file", port: 3 });
    expect(config.log.level).toBe("debug");
  });

  test("lists of objects come from the file", () => {
    const path = file('azure: {connectTo: [{host: "*.vault.azure.net", address: "127.0.0.1:8443"}]}');
    expect(readInvocation(configSchema, ["--config", path], {}).config.azure.connectTo).toHaveLength(1);
  });

  test.each([
    {
      why: "a wrong environment variable is named as such",
      args: [],
      env: { MAZEVAULT_DATABASE_PORT: "many" },
      says: "MAZEVAULT_DATABASE_PORT",
    },
    { why: "a wrong flag is named as such", args: ["--log-level", "loud"], env: {}, says: "--log-level" },
    { why: "an unknown flag is refused", args: ["--colour"], env: {}, says: "--colour" },
    { why: "an unreadable file is named", args: ["--config", "/nowhere.yaml"], env: {}, says: "/nowhere.yaml" },
    { why: "an empty number is not zero", args: [], env: { MAZEVAULT_HTTP_PORT: " " }, says: "MAZEVAULT_HTTP_PORT" },
  ])("$why", ({ args, env, says }) => {
    expect(() => readInvocation(configSchema, args, env)).toThrow(ConfigError);
    expect(() => readInvocation(configSchema, args, env)).toThrow(says);
  });

  test.each([
    ["--audit-retention-ms", 2 * 86_400_000, 90 * 86_400_000, 2 * 86_400_000 - 1],
    ["--audit-retention-ms", 2 * 86_400_000, 20 * 366 * 86_400_000, 20 * 366 * 86_400_000 + 1],
    ["--audit-checkpoint-rows", 1, 20_000, 20_001],
  ])("%s may be from %s to %s, and not %s", (flag, least, most, refused) => {
    for (const value of [least, most]) readInvocation(configSchema, [flag, String(value)], {});
    expect(() => readInvocation(configSchema, [flag, String(refused)], {})).toThrow(flag);
  });

  test("an unknown field of the file is refused by name", () => {
    const path = file("database: {hots: here}");
    expect(() => readInvocation(configSchema, ["--config", path], {})).toThrow("hots");
  });

  test("no setting carries a secret but the one that is declared so, which has no flag; others name files and entries", () => {
    const suspicious = settings(configSchema).filter(({ flag }) => /password|passphrase|token|secret/.test(flag));
    const named = suspicious.filter(({ flag }) => !/-(file|secret)$|^operational-secrets-/.test(flag));
    expect(named.map(({ env, secret }) => [env, secret])).toEqual([["MAZEVAULT_GATEWAY_BOOTSTRAP_TOKEN", true]]);
    const flag = ["--gateway-bootstrap-token", TOKEN];
    expect(() => readInvocation(configSchema, flag, {})).toThrow("--gateway-bootstrap-token");
    expect(() => readInvocation(configSchema, flag, {})).not.toThrow(TOKEN);
  });

  test("a secret is not printed, and is gone from the environment; an empty one is none", () => {
    const env: NodeJS.ProcessEnv = { GATEWAY_BOOTSTRAP_TOKEN: TOKEN };
    const { config } = readInvocation(configSchema, ["--print-config"], env);
    expect(config.gateway.bootstrapToken?.revealText()).toBe(TOKEN);
    expect(JSON.stringify(config)).not.toContain(TOKEN.slice(5, 48));
    expect(inspect(config, { depth: 10 })).not.toContain(TOKEN.slice(5, 48));
    expect(env).toEqual({});
    const empty = readInvocation(configSchema, [], { GATEWAY_BOOTSTRAP_TOKEN: "" });
    expect(empty.config.gateway.bootstrapToken).toBeUndefined();
  });

  test("a secret may end with a line feed, and of its names the first counts that is not empty", () => {
    const given = (env: NodeJS.ProcessEnv) =>
      readInvocation(configSchema, [], env).config.gateway.bootstrapToken?.revealText();
    expect(given({ GATEWAY_BOOTSTRAP_TOKEN: `${TOKEN}\n` })).toBe(TOKEN);
    expect(given({ GATEWAY_BOOTSTRAP_TOKEN: "\n" })).toBeUndefined();
    expect(given({ MAZEVAULT_GATEWAY_BOOTSTRAP_TOKEN: "", GATEWAY_BOOTSTRAP_TOKEN: TOKEN })).toBe(TOKEN);
    const both: NodeJS.ProcessEnv = {
      MAZEVAULT_GATEWAY_BOOTSTRAP_TOKEN: TOKEN,
      GATEWAY_BOOTSTRAP_TOKEN: "mvg1.hunter2",
    };
    expect(given(both)).toBe(TOKEN);
    expect(both).toEqual({});
  });

  test("one that is malformed is named, and not told", () => {
    const read = () => readInvocation(configSchema, [], { GATEWAY_BOOTSTRAP_TOKEN: "mvg1.hunter2" });
    expect(read).toThrow(/GATEWAY_BOOTSTRAP_TOKEN: must be a token as `mazevault gateways bootstrap NAME` prints it/);
    expect(read).not.toThrow(/hunter2/);
  });

  test("other names in the environment count where the setting's own is not set, and help lists them", () => {
    const aliased = (env: NodeJS.ProcessEnv) => readInvocation(configSchema, [], env).config.gateway.primaryUrl;
    const [one, two] = ["https://one.example.com:8443", "https://two.example.com:8443"];
    expect(aliased({ PRIMARY_BACKEND_URL: one })).toBe(one);
    expect(aliased({ PRIMARY_BACKEND_URL: one, MAZEVAULT_GATEWAY_PRIMARY_URL: two })).toBe(two);
    expect(() => aliased({ PRIMARY_BACKEND_URL: "http://one" })).toThrow("PRIMARY_BACKEND_URL");
    const help = helpText(configSchema, "mazevault");
    expect(help).toContain("--gateway-primary-url  (MAZEVAULT_GATEWAY_PRIMARY_URL, PRIMARY_BACKEND_URL)");
    expect(help).toContain("  MAZEVAULT_GATEWAY_BOOTSTRAP_TOKEN, GATEWAY_BOOTSTRAP_TOKEN\n");
    expect(help).toContain("AZURE_MANAGED_IDENTITY_CLIENT_ID");
    const managed = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    const { config } = readInvocation(configSchema, [], { AZURE_MANAGED_IDENTITY_CLIENT_ID: managed });
    expect(config.azure.managedIdentityClientId).toBe(managed);
  });

  test("each setting explains itself", () => {
    expect(settings(configSchema).filter(({ description }) => description === "")).toEqual([]);
    expect(helpText(configSchema, "mazevault")).toContain("MAZEVAULT_KEYS_PASSPHRASE_FILE");
  });
});
