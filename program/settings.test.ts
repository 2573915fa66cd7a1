import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { configSchema } from "../operator/config.ts";
import { ConfigError, helpText, readInvocation, settings } from "./settings.ts";

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

  test("no setting carries a secret itself: what is secret is named by file", () => {
    const suspicious = settings(configSchema).filter(({ flag }) => /password|passphrase|token|secret/.test(flag));
    expect(suspicious.filter(({ flag }) => !flag.endsWith("-file"))).toEqual([]);
  });

  test("each setting explains itself", () => {
    expect(settings(configSchema).filter(({ description }) => description === "")).toEqual([]);
    expect(helpText(configSchema, "mazevault")).toContain("MAZEVAULT_KEYS_PASSPHRASE_FILE");
  });
});
