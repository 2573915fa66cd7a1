import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Conformance } from "./testing/conformance.ts";
import { VAULT } from "./testing/identities.ts";

const run = promisify(execFile);
const PROGRAM = new URL("./look.ts", import.meta.url).pathname;
const suite = new Conformance();

beforeAll(async () => {
  await suite.start();
  const { control } = suite.lab;
  await control.setSecret(VAULT, "api-key", "hidden", { tags: { "managed-by": "someone" } });
  await control.setSecret(VAULT, "api-key", "hidden-too");
  await control.setSecret(VAULT, "switched-off", "x", { enabled: false });
});
afterAll(() => suite.dispose());

async function look(...options: string[]): Promise<string[]> {
  const { stdout } = await run(process.execPath, [PROGRAM, "--config", suite.configurationFile(), ...options]);
  return stdout.trimEnd().split("\n");
}

it("prints each vault's secrets as a table, values masked", async () => {
  const [url, head, ...rows] = await look(VAULT);
  expect(url).toBe(`https://${VAULT}.vault.azure.net`);
  expect(head?.split(/ {2,}/)).toEqual(["NAME", "STATE", "VERSIONS", "UPDATED", "VALUE", "TAGS"]);
  expect(rows.map((row) => row.split(/ {2,}/).toSpliced(3, 1))).toEqual([
    ["api-key", "active", "2", "(10 bytes)"],
    ["switched-off", "disabled", "1", "(1 bytes)"],
  ]);
});

it("prints a secret's versions, and values when asked to", async () => {
  const lines = await look("--reveal", VAULT, "api-key");
  expect(lines).toHaveLength(4);
  expect(lines[2]).toMatch(/^[0-9a-f]{32} {2}active .+ "hidden-too"$/);
  expect(lines[3]).toMatch(/"hidden" +managed-by=someone$/);
});
