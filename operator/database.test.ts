/** What a start makes of the root key before it asks PostgreSQL for anything, and of migrations that have to wait. */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { withConnection } from "../adapters/postgres/testing/client.ts";
import { startServer, type TestServer } from "../adapters/postgres/testing/server.ts";
import { createRootKeyFile } from "../adapters/rootkey/file.ts";
import { until } from "../lab/poll.ts";
import type { Logger } from "../program/logging.ts";
import type { Config } from "./config.ts";
import { DatabaseConnection, openRootKey } from "./database.ts";
import { OperationalSecrets } from "./operational-secrets/operational-secrets.ts";

const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} } as unknown as Logger;
let dir: string;
let file: string;
let passphraseFile: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "mazevault-database-"));
  file = path.join(dir, "next");
  passphraseFile = path.join(dir, "passphrase");
  writeFileSync(passphraseFile, "correct horse battery staple");
  createRootKeyFile(path.join(dir, "former"));
});
afterEach(() => rmSync(dir, { recursive: true }));

const noEntry = () => Promise.reject(new Error("no entry is named"));

/** A start that gives up when PostgreSQL does not answer: nothing listens there. */
async function start(keys: Partial<Config["keys"]>): Promise<never> {
  const database = { host: "127.0.0.1", port: 1, name: "n", user: "u", passwordFile: passphraseFile, tls: "disable" };
  const rest = { operationalSecrets: {}, redis: {}, gateway: {} };
  const config = { ...rest, database, keys: { file, passphraseFile, ...keys } } as unknown as Config;
  const connection = new DatabaseConnection(config, log, () => {}, new OperationalSecrets(config, log, () => {}));
  connection.stop();
  await connection.open();
  throw new Error("it started");
}

describe.each(["file", "passphrase"] as const)("a root key by %s", (provider) => {
  test("that replaces another is not made; the error says how to, and that works", async () => {
    const previous = { provider: "file" as const, file: path.join(dir, "former") };
    const error: unknown = await start({ provider, previous, create: true }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "KeyUnavailable", message: expect.stringContaining(file) });
    expect(existsSync(file)).toBe(false);
    const [, command = ""] = /the same on every replica: (.*)$/.exec((error as Error).message) ?? [];
    execFileSync("sh", ["-euc", command]);
    expect((await openRootKey({ provider, file, passphraseFile }, noEntry)).id).toMatch(new RegExp(`^${provider}:`));
    await expect(start({ provider, previous, create: true })).rejects.toMatchObject({ name: "AbortError" });
  });

  test("of a new installation is made only where that is asked for", async () => {
    await expect(start({ provider, create: false })).rejects.toMatchObject({ code: "KeyUnavailable" });
    expect(existsSync(file)).toBe(false);
    await expect(start({ provider, create: true })).rejects.toMatchObject({ name: "AbortError" });
    const { id } = await openRootKey({ provider, file, passphraseFile }, noEntry);
    await expect(start({ provider, create: true })).rejects.toMatchObject({ name: "AbortError" });
    expect((await openRootKey({ provider, file, passphraseFile }, noEntry)).id).toBe(id);
  });
});

describe("a migration", () => {
  let server: TestServer;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.stop());

  test("that does not get its lock is tried again after half a minute, and not each few seconds", async () => {
    const options = await server.database();
    createRootKeyFile(file);
    const told: { readonly retryInMs: number; readonly problem: string }[] = [];
    const warn = ({ retryInMs }: { retryInMs: number }, problem: string) => told.push({ retryInMs, problem });
    const { host, port, database: name, user, passwordFile: password, caFile } = options;
    const database = { host, port, name, user, passwordFile: password, caFile, tls: "verify-full", poolSize: 2 };
    const rest = { operationalSecrets: {}, redis: {}, gateway: {} };
    const config = { ...rest, database, keys: { provider: "file", file } } as unknown as Config;
    const telling = { ...log, warn } as unknown as Logger;
    const connection = new DatabaseConnection(config, telling, () => {}, new OperationalSecrets(config, log, () => {}));
    await withConnection(options, async (other) => {
      // As before this one, the first of those that are to be run.
      await other.query("DROP TABLE compatibility; DELETE FROM migrations WHERE name >= '0039_compatibility'");
      await other.query("BEGIN; LOCK TABLE migrations IN EXCLUSIVE MODE");
      const opened = expect(connection.open()).rejects.toMatchObject({ name: "AbortError" });
      await until("it was told", () => told.length > 0, { timeoutMs: 20_000 });
      connection.stop();
      await opened;
    });
    const [{ retryInMs, problem } = { retryInMs: 0, problem: "" }] = told;
    expect(problem).toMatch(/^migration 0039_compatibility did not get a lock/);
    expect(connection.problem).toBe(problem);
    expect(retryInMs).toBeGreaterThan(20_000);
    expect(retryInMs).toBeLessThan(40_000);
  });
});
