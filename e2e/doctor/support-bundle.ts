/** `mazevault support-bundle`: what is in it, with the server and without. */
import { execFile, execFileSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { knownMigrations } from "../../adapters/postgres/migrate.ts";
import type { Installation } from "./installation.ts";

export const supportBundle = (on: Installation): void =>
  describe("a support bundle", () => {
    const bundle = (args: readonly string[], more: NodeJS.ProcessEnv = {}) =>
      new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
        const all = [on.world.mazevault.cli, "support-bundle", ...args];
        execFile(process.execPath, all, { env: { ...on.env, ...more } }, (error, stdout, stderr) =>
          resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
        );
      });
    const listed = (name: string): string[] =>
      execFileSync("tar", ["-tzf", on.file(name)], { encoding: "utf8" })
        .trim()
        .split("\n")
        .map((entry) => entry.replace("mazevault-support/", ""));
    const partOf = (name: string, part: string): string =>
      execFileSync("tar", ["-xzOf", on.file(name), `mazevault-support/${part}`], { encoding: "utf8" });

    test("holds what helps, says what that is, and is its owner's alone", async () => {
      const { code, stdout, stderr } = await bundle(["--file", on.file("all.tar.gz"), "--kubeconfig", "-o", "json"]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: expect.stringContaining("look through it") });
      expect(statSync(on.file("all.tar.gz")).mode & 0o777).toBe(0o600);
      const { parts, missing } = JSON.parse(stdout) as { parts: { part: string; bytes: number }[]; missing: string[] };
      expect(missing).toEqual([]);
      expect(parts.map(({ part }) => part)).toEqual(listed("all.tar.gz"));
      expect(listed("all.tar.gz")).toEqual([
        "versions.json",
        "doctor.json",
        "server/health.json",
        "server/about.json",
        "server/configuration.json",
        "server/database.json",
        "server/metrics.txt",
        "resources.ndjson",
        "cluster/version.json",
        "cluster/leases.json",
        "cluster/events.json",
      ]);
      const database = JSON.parse(partOf("all.tar.gz", "server/database.json")) as {
        migrations: string[];
        tables: object[];
      };
      expect(database.migrations).toEqual(knownMigrations());
      expect(database.tables).toContainEqual({ name: "audit", rows: expect.any(Number), bytes: expect.any(Number) });
      expect(partOf("all.tar.gz", "server/metrics.txt")).toContain("mazevault_rest_request_duration_seconds");
      expect(partOf("all.tar.gz", "resources.ndjson")).toContain('"name":"root"');
      expect(partOf("all.tar.gz", "server/configuration.json")).toContain('"leaseDurationMs": 3000');
    });

    test("overwrites nothing", async () => {
      const before = readFileSync(on.file("all.tar.gz"));
      const { code, stderr } = await bundle(["--file", on.file("all.tar.gz")]);
      expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining("is there already") });
      expect(readFileSync(on.file("all.tar.gz")).equals(before)).toBe(true);
    });

    test("is made of what can be had when REST is away, and says what it lacks", async () => {
      const away = { MAZEVAULT_SERVER: "https://127.0.0.1:1" };
      const { code, stderr } = await bundle(["--file", on.file("away.tar.gz"), "--kubeconfig"], away);
      expect({ code, stderr }).toEqual({
        code: 0,
        stderr: expect.stringMatching(/not in it: facts.*nothing listens there/),
      });
      expect(partOf("away.tar.gz", "missing.txt")).toMatch(/nothing listens there/);
      expect(listed("away.tar.gz")).toContain("cluster/events.json");
      expect(partOf("away.tar.gz", "resources.ndjson")).toContain('"name":"root"');
    });
  });
