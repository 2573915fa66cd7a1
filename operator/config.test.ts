import { readInvocation } from "../program/settings.ts";
import { VERSION } from "../program/version.ts";
import { configSchema } from "./config.ts";

const problems = (redis: object): readonly string[] =>
  (configSchema.safeParse({ redis }).error?.issues ?? []).map(({ path, message }) => `${path.join(".")}: ${message}`);

test.each<[string, object, readonly RegExp[]]>([
  ["none", {}, []],
  ["one that is named", { url: "rediss://redis.example.com:6379/2" }, []],
  ["one that Sentinels tell", { url: "rediss://mymaster", sentinels: ["a.example.com:26379", "[fd00::1]:26379"] }, []],
  ["a password", { url: "rediss://user:secret@redis.example.com" }, [/^redis\.url: must hold no password/]],
  ["Sentinels without the name", { sentinels: ["a:1"] }, [/^redis\.url: must name the primary .* rediss:\/\/mymaster/]],
  ["Sentinels, and a port", { url: "rediss://mymaster:6379", sentinels: ["a:1"] }, [/^redis\.url: must have no port/]],
  [
    "Sentinels without ports",
    { url: "rediss://mymaster", sentinels: ["a"] },
    [/^redis\.sentinels\.0: must be HOST:PORT/],
  ],
  ["a password of nobody", { url: "rediss://a", sentinelPasswordFile: "/p" }, [/^redis\.sentinels: must name/]],
])("Redis: %s", (_what, redis, expected) => {
  expect(problems(redis)).toEqual(expected.map((each) => expect.stringMatching(each)));
});

const GATEWAY = {
  MAZEVAULT_MODE: "gateway",
  MAZEVAULT_GATEWAY_ENVIRONMENT: "NPR",
  PRIMARY_BACKEND_URL: "https://primary.example.com:8443",
};
const TOKEN = `mvg1.${"s".repeat(42)}0.${"f".repeat(42)}0`;

describe("mode gateway", () => {
  test("needs its environment and its primary, and defaults to the role that acts", () => {
    const { config } = readInvocation(configSchema, [], { ...GATEWAY });
    expect(config).toMatchObject({
      mode: "gateway",
      version: VERSION,
      gateway: { environment: "NPR", role: "primary", primaryUrl: GATEWAY.PRIMARY_BACKEND_URL },
    });
  });

  test.each<[string, object, RegExp]>([
    ["no environment", { MAZEVAULT_GATEWAY_ENVIRONMENT: undefined }, /set MAZEVAULT_GATEWAY_ENVIRONMENT, such as NPR/],
    [
      "one in small letters",
      { MAZEVAULT_GATEWAY_ENVIRONMENT: "npr" },
      /MAZEVAULT_GATEWAY_ENVIRONMENT: must be 1 to 16/,
    ],
    ["no primary", { PRIMARY_BACKEND_URL: undefined }, /set PRIMARY_BACKEND_URL, such as https/],
    ["one without TLS", { PRIMARY_BACKEND_URL: "http://primary.example.com" }, /PRIMARY_BACKEND_URL: /],
    [
      "credentials in it",
      { PRIMARY_BACKEND_URL: "https://me:hunter2@primary.example.com" },
      /must hold no credentials/,
    ],
    [
      "a password alone in it",
      { PRIMARY_BACKEND_URL: "https://:hunter2@primary.example.com" },
      /PRIMARY_BACKEND_URL: must hold no credentials/,
    ],
    [
      "a query in it",
      { PRIMARY_BACKEND_URL: "https://primary.example.com/?token=hunter2" },
      /PRIMARY_BACKEND_URL: must have neither query nor fragment/,
    ],
    [
      "a fragment in it",
      { PRIMARY_BACKEND_URL: "https://primary.example.com#hunter2" },
      /PRIMARY_BACKEND_URL: must have neither query nor fragment/,
    ],
    ["one that is no URL", { PRIMARY_BACKEND_URL: "primary hunter2" }, /PRIMARY_BACKEND_URL: Invalid URL/],
    ["a role that there is not", { MAZEVAULT_GATEWAY_ROLE: "standby" }, /MAZEVAULT_GATEWAY_ROLE: /],
    [
      "two tokens",
      { GATEWAY_BOOTSTRAP_TOKEN: TOKEN, MAZEVAULT_GATEWAY_BOOTSTRAP_TOKEN_FILE: "/token" },
      /MAZEVAULT_GATEWAY_BOOTSTRAP_TOKEN_FILE: .*keep one of the two/,
    ],
  ])("%s is refused", (_what, change, says) => {
    const read = () => readInvocation(configSchema, [], { ...GATEWAY, ...change });
    expect(read).toThrow(says);
    expect(read).not.toThrow(/hunter2/);
  });

  test("a primary needs nothing of it", () => {
    expect(readInvocation(configSchema, [], {}).config.mode).toBe("primary");
  });
});

describe("secrets from a Key Vault", () => {
  const operationalSecrets = { vaultUrl: "https://KV-mazevault-npr.vault.azure.net" };
  const told = (config: object) =>
    (configSchema.safeParse({ operationalSecrets, ...config }).error?.issues ?? []).map(
      ({ path, message }) => `${path.join(".")}: ${message}`,
    );

  test("the vault has a name in the environment as gateways have", () => {
    const { config } = readInvocation(configSchema, [], {
      GATEWAY_KEYVAULT_URL: operationalSecrets.vaultUrl,
      MAZEVAULT_KEYS_ROOT_KEY_SECRET: "root-key",
    });
    expect(config).toMatchObject({
      operationalSecrets: { vaultUrl: "https://kv-mazevault-npr.vault.azure.net/" },
      keys: { rootKeySecret: "root-key" },
    });
  });

  test.each<[string, object, readonly RegExp[]]>([
    ["a password", { database: { passwordSecret: "db" } }, []],
    ["a key that takes the place of another", { keys: { rootKeySecret: "a", previous: { rootKeySecret: "b" } } }, []],
    ["a passphrase", { keys: { provider: "passphrase", file: "/salt", passphraseSecret: "p" } }, []],
    [
      "nothing",
      {},
      [/^operationalSecrets\.vaultUrl: nothing is read of it: name an entry in database\.passwordSecret, /],
    ],
    [
      "no vault",
      { operationalSecrets: {}, redis: { passwordSecret: "r" } },
      [/^redis\.passwordSecret: needs operationalSecrets\.vaultUrl \(GATEWAY_KEYVAULT_URL\)/],
    ],
    [
      "a foreign host",
      { operationalSecrets: { vaultUrl: "https://evil.example" }, database: { passwordSecret: "db" } },
      [/^operationalSecrets\.vaultUrl: must be .* or its host must stand in azure\.allowedVaultHosts/],
    ],
    [
      "a host of the installation",
      {
        operationalSecrets: { vaultUrl: "https://kv.example" },
        azure: { allowedVaultHosts: ["kv.example"] },
        database: { passwordSecret: "db" },
      },
      [],
    ],
    [
      "a name that no entry has",
      { database: { passwordSecret: "db_password" } },
      [/^database\.passwordSecret: must be/],
    ],
    [
      "two passwords",
      { database: { passwordSecret: "db", passwordFile: "/p" }, redis: { passwordSecret: "r", passwordFile: "/r" } },
      [
        /^database\.passwordSecret: .* database\.passwordFile .*keep one/,
        /^redis\.passwordSecret: .* redis\.passwordFile /,
      ],
    ],
    [
      "two root keys",
      { keys: { rootKeySecret: "a", file: "/root.key", create: true } },
      [/^keys\.rootKeySecret: .* keys\.file .*keep one/, /^keys\.create: .* keys\.rootKeySecret .*keep one/],
    ],
    [
      "two keys before",
      { keys: { rootKeySecret: "a", previous: { rootKeySecret: "b", file: "/b" } } },
      [/^keys\.previous\.rootKeySecret: .* keys\.previous\.file .*keep one/],
    ],
    ["no key before", { keys: { rootKeySecret: "a", previous: {} } }, [/^keys\.previous\.file: required/]],
    [
      "two passphrases",
      { keys: { provider: "passphrase", passphraseFile: "/p", passphraseSecret: "p" } },
      [/^keys\.passphraseSecret: .* keys\.passphraseFile .*keep one/],
    ],
    [
      "what is for another provider",
      { keys: { provider: "passphrase", rootKeySecret: "a", previous: { file: "/f", passphraseSecret: "p" } } },
      [
        /^keys\.rootKeySecret: .* keys\.passphraseSecret/,
        /^keys\.previous\.passphraseSecret: .* keys\.previous\.rootKeySecret/,
      ],
    ],
    [
      "three tokens",
      { gateway: { bootstrapTokenSecret: "t", bootstrapTokenFile: "/t", bootstrapToken: TOKEN } },
      [
        /^gateway\.bootstrapTokenSecret: .* GATEWAY_BOOTSTRAP_TOKEN /,
        /^gateway\.bootstrapTokenSecret: .*bootstrapTokenFile /,
      ],
    ],
  ])("%s", (_what, config, expected) => {
    expect(told(config)).toEqual(expected.map((each) => expect.stringMatching(each)));
  });
});

describe("traces", () => {
  const read = (env: object) => readInvocation(configSchema, [], { ...env }).config.tracing;

  test("are off, and on by the names that everybody knows, or by our own", () => {
    expect(read({})).toMatchObject({ sampleRatio: 1, serviceName: "mazevault" });
    expect(read({}).endpoint).toBeUndefined();
    const standard = {
      OTEL_EXPORTER_OTLP_ENDPOINT: "http://otel-collector.observability.svc:4318",
      OTEL_SERVICE_NAME: "vault-npr",
      OTEL_TRACES_SAMPLER_ARG: "0.25",
    };
    const endpoint = standard.OTEL_EXPORTER_OTLP_ENDPOINT;
    expect(read(standard)).toMatchObject({ endpoint, serviceName: "vault-npr", sampleRatio: 0.25 });
    const own = { MAZEVAULT_TRACING_ENDPOINT: "https://otel.example.com", MAZEVAULT_TRACING_SAMPLE_RATIO: "0" };
    expect(read({ ...standard, ...own })).toMatchObject({ endpoint: "https://otel.example.com", sampleRatio: 0 });
  });

  test.each([
    "https://otel.example.com/otlp/",
    "http://localhost:4318",
    "http://collector:4318",
    "http://127.0.0.1:4318",
    "http://[::1]:4318",
    "http://10.1.2.3:4318",
    "http://[fd00::1]:4318",
    "http://otel.monitoring.svc.cluster.local:4318",
  ])("are sent to %s", (endpoint) => {
    expect(read({ MAZEVAULT_TRACING_ENDPOINT: endpoint }).endpoint).toBe(endpoint);
  });

  test.each([
    ["no URL", "collector:4318", /must be a URL with https:\/\/ or http:\/\//],
    ["credentials", "https://me:hunter2@otel.example.com", /must hold no credentials: tracing\.headersFile/],
    ["a query", "https://otel.example.com/?token=hunter2", /must have neither query nor fragment/],
    ["no TLS over the internet", "http://otel.example.com:4318", /must be https:\/\/: without TLS only/],
    ["a name that only looks like a Service's", "http://otel.svc.example.com", /must be https:\/\/: without TLS only/],
    ["no TLS to a public address", "http://203.0.113.7:4318", /must be https:\/\/: without TLS only/],
  ])("are not sent to one with %s", (_what, endpoint, problem) => {
    const reading = () => read({ OTEL_EXPORTER_OTLP_ENDPOINT: endpoint });
    expect(reading).toThrow(problem);
    expect(reading).toThrow(/^the configuration is not valid:\n {2}OTEL_EXPORTER_OTLP_ENDPOINT: [^\n]+$/);
    expect(reading).not.toThrow(/hunter2/);
  });

  test.each(["-1", "1.5", "half"])("are not kept in part %s", (ratio) => {
    expect(() => read({ OTEL_TRACES_SAMPLER_ARG: ratio })).toThrow(
      /OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1/,
    );
  });
});
