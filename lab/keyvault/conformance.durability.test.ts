import { execFile } from "node:child_process";
import { once } from "node:events";
import type { SecretClient } from "@azure/keyvault-secrets";
import { Conformance } from "./testing/conformance.ts";
import { VAULT } from "./testing/identities.ts";

const MAIN = new URL("./main.ts", import.meta.url).pathname;
const suite = new Conformance();

beforeAll(() => suite.start());
afterAll(() => suite.dispose());

/** Writes until the service is gone; what it acknowledged, by name. */
async function writeUntilGone(client: SecretClient, prefix: string, acknowledged: Map<string, string>): Promise<void> {
  for (let index = 0; ; index++) {
    try {
      const { properties, name, value } = await client.setSecret(`${prefix}-${index % 7}`, `value-${index}`);
      acknowledged.set(`${name}/${properties.version}`, value ?? "");
    } catch {
      return;
    }
  }
}

it("keeps every acknowledged version over kill -9, several times", async () => {
  const acknowledged = new Map<string, string>();
  for (let round = 0; round < 3; round++) {
    const client = suite.client();
    const goal = acknowledged.size + 100;
    const writers = Array.from({ length: 8 }, (_, writer) => writeUntilGone(client, `w${writer}`, acknowledged));
    while (acknowledged.size < goal) {
      await suite.lab.control.vaults();
    }
    await suite.lab.stop("SIGKILL");
    await Promise.all(writers);
    await suite.start();
    const stored = new Map<string, string>(
      (await suite.lab.control.secrets(VAULT)).flatMap(({ name, versions }) =>
        versions.map((version) => [`${name}/${version.version}`, version.value] as const),
      ),
    );
    const lost = [...acknowledged].filter(([id, value]) => stored.get(id) !== value);
    expect(lost).toEqual([]);
    // At most one write of each writer was under way without an answer.
    expect(stored.size).toBeLessThanOrEqual(acknowledged.size + 8 * (round + 1));
  }
});

it("keeps updates, deletions, recoveries, purges and the soft-delete clock", async () => {
  const client = suite.client();
  const { control } = suite.lab;
  for (const name of ["updated", "deleted", "recovered", "purged", "reborn"]) {
    await client.setSecret(name, "v");
  }
  await control.updateSecret(VAULT, "updated", { enabled: false, tags: { a: "b" } });
  for (const name of ["recovered", "purged", "reborn"]) {
    await client.beginDeleteSecret(name);
  }
  await control.recoverSecret(VAULT, "recovered");
  await control.purgeSecret(VAULT, "purged");
  await control.advanceSoftDeleteClock(8);
  await client.setSecret("reborn", "w");
  await client.beginDeleteSecret("deleted");
  const before = await control.secrets(VAULT);
  await suite.lab.stop("SIGKILL");
  await suite.start();
  expect(await suite.lab.control.secrets(VAULT)).toEqual(before);
  const names = ["updated", "deleted", "recovered", "purged", "reborn"];
  const after = new Map(before.map((secret) => [secret.name, secret]));
  expect(names.map((name) => [name, after.get(name)?.state, after.get(name)?.versions.length])).toEqual([
    ["updated", "active", 1],
    ["deleted", "deleted", 1],
    ["recovered", "active", 1],
    ["purged", undefined, undefined],
    ["reborn", "active", 1],
  ]);
});

it("keeps tokens and the certificate valid over a restart", async () => {
  const token = await suite.token();
  await suite.lab.stop();
  await suite.start();
  expect((await suite.call("/secrets", { token })).status).toBe(200);
});

it("does not let a second program touch the state of a running one", async () => {
  const configuration = suite.configurationFile();
  const second = execFile(process.execPath, [MAIN, "--config", configuration]);
  const [code] = await once(second, "exit");
  expect(code).toBe(1);
  await suite.client().setSecret("after-the-intruder", "v");
  await suite.lab.stop("SIGKILL");
  await suite.start();
  expect((await suite.client().getSecret("after-the-intruder")).value).toBe("v");
});
