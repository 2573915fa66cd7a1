import { StandIn, VAULT_NAME, VAULT_URL } from "../../adapters/keyvault/testing/stand-in.ts";
import { Unavailable } from "../../core/errors.ts";
import { Sensitive } from "../../core/sensitive.ts";
import { MACHINE, SECOND_VAULT, WORKLOAD } from "../../lab/keyvault/testing/identities.ts";
import { until } from "../../lab/poll.ts";
import type { Logger } from "../../program/logging.ts";
import { ConfigError } from "../../program/settings.ts";
import { type Config, configSchema } from "../config.ts";
import { KeptSecret } from "./kept-secret.ts";
import { OperationalSecrets } from "./operational-secrets.ts";

/** Of the machine; there is no token of it yet, while all credentials of the process share what there is. */
const UNKNOWN = { clientId: undefined };
const SOON = { timeoutMs: 20_000, intervalMs: 20 };
const standIn = new StandIn();
const warnings: string[] = [];
const log = {
  debug: () => {},
  warn: (...said: readonly unknown[]) => warnings.push(String(said.at(-1))),
} as unknown as Pick<Logger, "debug" | "warn">;

beforeAll(() => standIn.start());
afterAll(() => standIn.stop());
beforeEach(async () => {
  warnings.length = 0;
  await standIn.lab.control.setFaults([]);
});

function secrets(operationalSecrets: object = {}): OperationalSecrets {
  const { listen, imds } = standIn.lab.addresses;
  const azure = `${listen.host}:${listen.port}`;
  const config: Config = configSchema.parse({
    operationalSecrets: { vaultUrl: VAULT_URL, clientId: MACHINE.clientId, ...operationalSecrets },
    database: { passwordSecret: "database-password" },
    azure: {
      connectTo: [
        { host: "*.vault.azure.net", address: azure },
        { host: "login.microsoftonline.com", address: azure },
        ...(imds ? [{ host: "169.254.169.254", address: `${imds.host}:${imds.port}` }] : []),
      ],
      caFile: standIn.lab.path("ca.pem"),
    },
  });
  return new OperationalSecrets(config, log, () => {});
}

const put = (value: string) => standIn.lab.control.setSecret(VAULT_NAME, "database-password", value);
const told = async (reading: Promise<unknown>): Promise<unknown> => reading.catch((error: unknown) => error);
const problems = (of: OperationalSecrets) => of.checks.map(({ check }) => check());

test("an entry that is missing, disabled or empty is told with what to do", async () => {
  const of = secrets();
  expect(await told(of.awaited("database.passwordSecret"))).toMatchObject({
    name: "ConfigError",
    message: expect.stringMatching(
      /database\.passwordSecret: https:\/\/conformance-vault\.vault\.azure\.net\/ has no entry database-password; make it: az keyvault secret set --vault-name conformance-vault --name database-password --file FILE/,
    ),
  });
  expect(await of.find("database.passwordSecret")).toBeUndefined();
  await put("hunter2");
  await standIn.lab.control.updateSecret(VAULT_NAME, "database-password", { enabled: false });
  expect(await told(of.awaited("database.passwordSecret"))).toMatchObject({
    message: expect.stringMatching(/database\.passwordSecret: entry database-password of .* is disabled; enable it/),
  });
  await put("\n");
  expect(await told(of.awaited("database.passwordSecret"))).toMatchObject({
    message: expect.stringMatching(/ is empty; give it a value/),
  });
});

test("a vault that refuses is told with the role that is enough, and an identity that is not there with its setting", async () => {
  const refused = await told(
    secrets({ vaultUrl: `https://${SECOND_VAULT}.vault.azure.net` }).awaited("database.passwordSecret"),
  );
  expect(refused).toBeInstanceOf(ConfigError);
  expect(refused).toMatchObject({
    message: expect.stringMatching(
      /database\.passwordSecret: entry database-password: .*conformance-two.* 403 Forbidden.*grant the identity the role Key Vault Secrets User$/,
    ),
  });
  expect(await told(secrets({ clientId: WORKLOAD.clientId }).awaited("database.passwordSecret"))).toMatchObject({
    name: "ConfigError",
    message: expect.stringMatching(/no token of the managed identity 5{8}-.*; check operationalSecrets\.clientId/),
  });
});

test.each([
  ["the vault", { target: "vault", unauthenticated: true, effect: { kind: "drop" } }, {}],
  ["a vault that throttles", { target: "vault", effect: { kind: "status", status: 429, retryAfterSeconds: 1 } }, {}],
  ["the identity's endpoint", { target: "instance-metadata", effect: { kind: "drop" } }, UNKNOWN],
] as const)("%s is waited for, which /readyz says", async (_, fault, identity) => {
  await put("hunter2\n");
  await standIn.lab.control.setFaults([fault]);
  const of = secrets(identity);
  const reading = of.awaited("database.passwordSecret");
  const problem = await until("it says so", () => problems(of)[0] ?? false, SOON);
  expect(problem).toMatch(/^waiting for entry database-password of https:.* \(database\.passwordSecret\): /);
  await standIn.lab.control.setFaults([]);
  expect((await reading).revealText()).toBe("hunter2");
  expect(problems(of)).toEqual([undefined]);
  expect(warnings.join()).not.toContain("hunter2");
});

test("a stop ends the waiting", async () => {
  await standIn.lab.control.setFaults([{ target: "vault", unauthenticated: true, effect: { kind: "hang" } }]);
  const of = secrets();
  const reading = told(of.awaited("database.passwordSecret"));
  of.stop();
  expect(await reading).toMatchObject({ name: "AbortError" });
});

test("without a vault nothing is checked", () => {
  const of = new OperationalSecrets(configSchema.parse({ database: { passwordFile: "/p" } }), log, () => {});
  expect([of.checks, of.names("database.passwordSecret")]).toEqual([[], false]);
});

describe("a password that is kept", () => {
  test("is read anew when it was refused, once at a time and not all the time; what cannot be read leaves it", async () => {
    let now = 0;
    let reads = 0;
    let next: () => Sensitive = () => new Sensitive("second");
    const first = new Sensitive("first");
    const read = async () => {
      reads += 1;
      return next();
    };
    const kept = new KeptSecret("entry e of v (s)", first, { read, log, elapsed: () => now });
    kept.refused();
    expect([await kept.current(), reads]).toEqual(["first", 0]);
    now += 6_000;
    kept.refused();
    kept.refused();
    expect([await kept.current(), kept.latest, reads]).toEqual(["second", "second", 1]);
    expect(first.reveal().every((byte) => byte === 0)).toBe(true);
    now += 6_000;
    next = () => {
      throw new Unavailable("VaultUnreachable", "get: ECONNREFUSED");
    };
    kept.refused();
    expect([await kept.current(), reads]).toEqual(["second", 2]);
    expect(warnings).toEqual(["entry e of v (s) was refused, and is not read anew: get: ECONNREFUSED"]);
  });
});
