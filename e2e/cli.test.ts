/** The command line as people and scripts use it, against the running product; and the guides, exactly as printed. */
import { type ExecFileException, execFile, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { parse, stringify } from "yaml";
import type { Operator, Rest } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { withClient } from "../lab/postgres/database.ts";
import { cliEnvironment } from "./cli-environment.ts";
import { decoded, secretManifest, startWorld, type World } from "./harness.ts";
import { firstAdmin } from "./rest-client.ts";

const folder = mkdtempSync(path.join(tmpdir(), "mazevault-cli-"));
const file = (name: string): string => path.join(folder, name);
const loginFile = file("login.json");

const soon = { timeoutMs: 20_000, intervalMs: 200 };

let world: World;
let operator: Operator;
let surface: Rest;
let env: NodeJS.ProcessEnv;
let password: string;

beforeAll(async () => {
  world = await startWorld();
  operator = await world.mazevault.startOperator({ config: { audit: { fileDirectory: folder, checkpointMs: 1_000 } } });
  surface = await world.mazevault.startRest();
  env = { ...cliEnvironment(world, surface, folder), AUDIT_DIRECTORY: folder };
  password = (await firstAdmin(world)).password;
  await world.tenant("crew");
});

afterAll(async () => {
  await world?.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

interface Given {
  readonly input?: string | Buffer;
  readonly env?: NodeJS.ProcessEnv;
}

function ended(program: string, args: readonly string[], { input = "", env: more = {} }: Given = {}): Promise<Ended> {
  return new Promise((resolve) => {
    const options = { cwd: folder, env: { ...env, ...more } };
    const child = execFile(program, args, options, (error: ExecFileException | null, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
    // It may end without reading its input; its exit code tells.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}

/** Split at spaces. */
const mazevault = (line: string, given: Given = {}): Promise<Ended> => ended("mazevault", line.split(" "), given);

/** What it prints; throws when it does not end well. */
async function good(line: string, given: Given = {}): Promise<string> {
  const { code, stdout, stderr } = await mazevault(line, given);
  if (code !== 0) throw new Error(`mazevault ${line}: ${code} ${stderr}`);
  return stdout;
}

/** What it prints on a terminal, where it is typed once it asks. */
function onTerminal(line: string, typed = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn("script", ["-qec", `mazevault ${line}`, "/dev/null"], { cwd: folder, env });
    let shown = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      shown += text;
      if (typed !== "" && shown.endsWith(": ")) child.stdin.end(typed);
    });
    child.on("close", (code) =>
      code === 0 ? resolve(shown.replaceAll("\r", "")) : reject(new Error(`mazevault ${line}: ${code} ${shown}`)),
    );
  });
}

const login = (given: string): Promise<Ended> =>
  mazevault("login --email admin@mazevault.com --password-stdin", { input: `${given}\n` });

describe("logging in", () => {
  test("nothing is done without, and the message says how", async () => {
    const { code, stderr } = await mazevault("list");
    expect({ code, stderr }).toEqual({ code: 3, stderr: expect.stringContaining("run mazevault login") });
  });

  test("a wrong password is refused and leaves nothing", async () => {
    const { code, stdout, stderr } = await login("not the password");
    expect({ code, stdout, stderr }).toEqual({
      code: 3,
      stdout: "",
      stderr: "mazevault: email or password is wrong\n",
    });
    expect(statSync(loginFile, { throwIfNoEntry: false })).toBeUndefined();
  });

  test("the password comes by standard input; what is remembered is the owner's alone", async () => {
    expect(await login(password)).toMatchObject({ code: 0, stdout: "" });
    expect(statSync(loginFile).mode & 0o777).toBe(0o600);
    expect(readFileSync(loginFile, "utf8")).not.toContain(password);
    const me = { subject: "LocalUser admin@mazevault.com", via: "Token", role: "admin" };
    expect(JSON.parse(await good("whoami -o json"))).toMatchObject(me);
    expect(JSON.parse((await ended("kubectl", ["mazevault", "whoami", "-o", "json"])).stdout)).toMatchObject(me);
  });

  test("a token that has expired is renewed, once, whoever asks at the same time", async () => {
    const before = JSON.parse(readFileSync(loginFile, "utf8")) as { token: string; refreshToken: string };
    writeFileSync(loginFile, JSON.stringify({ ...before, token: `${before.token.slice(0, -8)}AAAAAAAA` }));
    const all = await Promise.all(Array.from({ length: 4 }, () => good("whoami -o json")));
    for (const each of all) expect(JSON.parse(each)).toMatchObject({ subject: "LocalUser admin@mazevault.com" });
    const after = JSON.parse(readFileSync(loginFile, "utf8")) as typeof before;
    expect(after.refreshToken).not.toBe(before.refreshToken);
    expect(statSync(loginFile).mode & 0o777).toBe(0o600);
    const replayed = await world.sql("SELECT FROM audit WHERE action = 'RefreshReplayed'");
    expect(replayed).toEqual([]);
  });

  test("what is remembered of one server is not sent to another one", async () => {
    const { code, stderr } = await mazevault(`whoami --server ${surface.restUrl.replace("127.0.0.1", "localhost")}`);
    expect({ code, stderr }).toEqual({ code: 3, stderr: expect.stringContaining("not logged in") });
  });
});

describe("secrets", () => {
  test("are written from a file and standard input, but not from the command line by accident", async () => {
    const bytes = Buffer.from([0, 255, 10]);
    writeFileSync(file("blob"), bytes);
    const made = await good("put crew/partner token=- blob=@blob --project crew --environment pro -o json", {
      input: "first\n",
    });
    expect(JSON.parse(made)).toEqual({ version: 1, changed: ["blob", "token"] });
    const refused = await mazevault("put crew/partner token=first");
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining("stays in the shell's history") });
    expect(refused.stderr).not.toContain("first");
    expect(await good("put crew/partner --literal token=second blob=@blob")).toMatch(/crew\/partner +2 +token\n$/);
  });

  test("are read: one key as it is, all as text, and on a terminal only when asked for", async () => {
    expect(await good("get crew/partner token")).toBe("second");
    const blob = await ended("bash", ["--norc", "-c", "mazevault get crew/partner blob | od -An -tx1"]);
    expect(blob.stdout.trim()).toBe("00 ff 0a");
    const values = { blob: "base64:AP8K", token: "second" };
    expect(JSON.parse(await good("get crew/partner -o json"))).toEqual({ version: 2, values });
    expect(parse(await good("get crew/partner -o yaml"))).toEqual({ version: 2, values });
    expect(await good("get crew/partner")).toBe("KEY    VALUE\nblob   base64:AP8K\ntoken  second\n");
    expect(await good("get crew/partner token --at 1")).toBe("first");

    const reads = async () =>
      (await world.sql("SELECT FROM audit WHERE action = 'SecretRead' AND subject_name = 'crew/partner'")).length;
    const before = await reads();
    for (const line of ["get crew/partner", "get crew/partner token", "get crew/partner -o json"]) {
      const shown = await onTerminal(line);
      expect(shown).toContain("token");
      expect(shown).not.toContain("second");
    }
    expect(await reads()).toBe(before);
    expect(await onTerminal("get crew/partner token --show")).toBe("second\n");
  });

  test("are asked for on a terminal, without being shown", async () => {
    expect(await onTerminal("put crew/partner token -o json", "typed\r")).toMatch(/^Value of token: \n\{/);
    expect(await good("get crew/partner token")).toBe("typed");
  });

  test("have versions, which are compared and rolled back to", async () => {
    const versions = JSON.parse(await good("versions crew/partner -o json")) as { version: number }[];
    expect(versions.map(({ version }) => version)).toEqual([3, 2, 1]);
    expect(await good("diff crew/partner 1")).toBe("KEY    CHANGE\ntoken  changed\n");
    expect(await good("diff crew/partner 1 2 --show")).toMatch(/token +changed +first +second\n/);
    expect(JSON.parse(await good("rollback crew/partner 1 -o json"))).toEqual({
      version: 4,
      changed: ["token"],
      kept: [],
    });
    expect(await good("get crew/partner token")).toBe("first");
    expect(await mazevault("rollback crew/partner 77")).toMatchObject({ code: 5 });
  });

  test("that are generated are rotated", async () => {
    const entries = [
      { key: "user", literal: "crew" },
      { key: "password", generate: { kind: "Password" } },
    ];
    await world.apply(secretManifest("crew", "turned", { entries }));
    await world.waitReady("secrets.mazevault.io", "turned", "crew");
    const first = await good("get crew/turned password");
    expect(await good("rotate crew/turned")).toMatch(/crew\/turned +2 +password\n/);
    expect(await good("get crew/turned password")).not.toBe(first);
    expect(await good("get crew/turned password --at 1")).toBe(first);
    expect(await mazevault("rotate crew/turned user")).toMatchObject({
      code: 6,
      stderr: expect.stringContaining("entry user cannot be rotated"),
    });
    await world.kubectl("-n", "crew", "delete", "secrets.mazevault.io", "turned");
  });

  test("are listed, deleted and recovered", async () => {
    const listed = JSON.parse(await good("list --project crew -o json")) as { name: string }[];
    expect(listed).toEqual([expect.objectContaining({ namespace: "crew", name: "partner", version: 4 })]);
    expect(await mazevault("delete crew/partner")).toMatchObject({
      code: 0,
      stderr: expect.stringContaining("recover"),
    });
    await until("it is deleted", async () => (await mazevault("recover crew/partner")).code === 0, {
      timeoutMs: 20_000,
      intervalMs: 200,
    });
    await until("it is back", async () => (await mazevault("get crew/partner token")).stdout === "first", {
      timeoutMs: 20_000,
      intervalMs: 200,
    });
  });
});

describe("access", () => {
  test("is explained, and an API key has what its scopes say", async () => {
    expect(await good("access explain read crew/partner")).toMatch(/^allowed: /);
    await world.kubectl("-n", "crew", "create", "serviceaccount", "stranger");
    const denied = await mazevault("access explain read crew/partner --service-account crew/stranger");
    expect(denied).toMatchObject({ code: 4, stdout: expect.stringMatching(/^denied: /), stderr: "" });

    const key = await apiKey(["list"]);
    const as = { env: { MAZEVAULT_TOKEN: key } };
    expect(JSON.parse(await good("whoami -o json", as))).toMatchObject({ via: "ApiKey", scopes: ["list"] });
    expect(await mazevault("get crew/partner", as)).toMatchObject({
      code: 4,
      stdout: "",
      stderr: "mazevault: no grant of read on Secret crew/partner\n",
    });
    expect(await mazevault("whoami", { env: { MAZEVAULT_TOKEN: "mvk_nonsense" } })).toMatchObject({
      code: 3,
      stderr: expect.stringContaining("MAZEVAULT_TOKEN must be a valid API key"),
    });
  });

  test("who can is told with the grant", async () => {
    await world.apply({
      apiVersion: "mazevault.io/v1",
      kind: "AccessPolicy",
      metadata: { name: "stranger", namespace: "crew" },
      spec: {
        subjects: [{ serviceAccount: { namespace: "crew", name: "stranger" } }],
        rules: [{ projects: ["crew"], environments: ["pro"], secrets: ["partner"], verbs: ["read"] }],
      },
    });
    await world.waitReady("accesspolicies.mazevault.io", "stranger", "crew");
    expect(await good("access who-can read crew/partner")).toMatch(
      /AccessPolicy crew\/stranger.* ServiceAccount crew\/stranger\n/,
    );
    expect(await good("access explain read crew/partner --service-account crew/stranger")).toMatch(/^allowed: /);
  });
});

const apiKey = async (scopes: readonly string[]): Promise<string> =>
  (await good(`api-keys create ci ${scopes.map((scope) => `--scope ${scope}`).join(" ")}`)).trim();

describe("local users and API keys", () => {
  const asUser = { MAZEVAULT_CLI_CONFIG: file("auditor.json") };
  const loginAs = (given: string) =>
    mazevault("login --email auditor@example.com --password-stdin", { input: `${given}\n`, env: asUser });

  test("a user is made, found by email, stopped, let in again and removed", async () => {
    const made = JSON.parse(
      await good("users create auditor@example.com --role auditor --password-stdin -o json", {
        input: "correct horse battery\n",
      }),
    ) as { id: string };
    expect(await good("users list")).toMatch(new RegExp(`^${made.id} +auditor@example.com +auditor +false`, "m"));
    const asked = "access explain read crew/partner --user";
    expect(await mazevault(`${asked} auditor@example.com`)).toMatchObject({ code: 4 });
    const policy = (id: string) => ({
      apiVersion: "mazevault.io/v1",
      kind: "AccessPolicy",
      metadata: { name: "auditor", namespace: "crew" },
      spec: {
        subjects: [{ localUser: { id } }],
        rules: [{ projects: ["crew"], environments: ["pro"], secrets: ["partner"], verbs: ["read"] }],
      },
    });
    expect(await world.applyRefused(policy("auditor@example.com"))).toContain("mazevault users list");
    await world.apply(policy(made.id));
    await world.waitReady("accesspolicies.mazevault.io", "auditor", "crew");
    for (const who of ["Auditor@example.com", made.id]) expect(await good(`${asked} ${who}`)).toMatch(/^allowed: /);
    expect(await mazevault(`${asked} nobody@example.com`)).toMatchObject({ code: 5 });

    expect(await loginAs("correct horse battery")).toMatchObject({ code: 0 });
    expect(await mazevault("users list", { env: asUser })).toMatchObject({ code: 4 });
    await good("users disable auditor@example.com");
    expect(await loginAs("correct horse battery")).toMatchObject({ code: 3 });
    await good("users enable auditor@example.com");
    await good("users reset-password auditor@example.com --password-stdin", { input: "another horse battery\n" });
    expect(await loginAs("another horse battery")).toMatchObject({ code: 0 });
    const own = { input: "another horse battery\nyet another horse\n", env: asUser };
    expect(await mazevault("password --password-stdin", own)).toMatchObject({ code: 0 });
    expect(await mazevault("whoami", { env: asUser })).toMatchObject({ code: 3 });
    expect(JSON.parse(await good("users set-role auditor@example.com none -o json"))).toEqual(
      expect.not.objectContaining({ role: expect.anything() }),
    );
    await good(`users remove ${made.id}`);
    expect(await mazevault("users disable auditor@example.com")).toMatchObject({ code: 5 });
  });

  test("an API key is told once: to a file of its owner, or where it is asked for", async () => {
    await good("api-keys create build --scope list --scope read --expires 24h --file build.key");
    expect(statSync(file("build.key")).mode & 0o777).toBe(0o600);
    const secret = readFileSync(file("build.key"), "utf8").trim();
    expect(secret).toMatch(/^mvk_/);
    expect(await mazevault("api-keys create build --scope list --file build.key")).toMatchObject({ code: 2 });
    await expect(onTerminal("api-keys create build --scope list")).rejects.toThrow(/: 2 .*told this once/);
    expect(await onTerminal("api-keys create shown --scope list --show")).toMatch(/^mvk_\S+\n$/);
    expect(await mazevault("api-keys create build --scope everything")).toMatchObject({ code: 2 });
    expect(await mazevault("api-keys create build --scope list --expires soon")).toMatchObject({ code: 2 });

    const keys = JSON.parse(await good("api-keys list -o json")) as { id: string; name: string; expiresAt: string }[];
    expect(keys.filter(({ name }) => name === "build")).toHaveLength(1);
    const build = keys.find(({ name }) => name === "build");
    expect(Date.parse(build?.expiresAt ?? "")).toBeLessThan(Date.now() + 86_400_000);
    const as = { env: { MAZEVAULT_TOKEN: secret } };
    expect(JSON.parse(await good("whoami -o json", as))).toMatchObject({ scopes: ["list", "read"] });
    await good(`api-keys revoke ${build?.id}`);
    await until("it is refused", async () => (await mazevault("whoami", as)).code === 3, soon);
    expect(await good("api-keys list")).toMatch(new RegExp(`^${build?.id} +build +list,read +revoked`, "m"));
  });
});

describe("values that MazeVault cannot open", () => {
  const reading = { env: { MAZEVAULT_CLI_CONFIG: file("reader/login.json") } };
  const sealed = (readers: readonly object[]) =>
    secretManifest("crew", "card", { protection: "EndToEnd", readers, entries: [{ key: "pan", external: {} }] });
  const put = (more = "") => mazevault(`put crew/card pan=-${more}`, { input: "4111 1111\n" });
  const versions = async () =>
    (await world.sql("SELECT FROM versions v JOIN secrets s ON s.id = v.secret_id WHERE s.name = 'card'")).length;
  const newKey = async (name: string) =>
    JSON.parse(await good(`reader-keys new ${name} -o json`, reading)) as { publicKey: string; fingerprint: string };

  test("are sealed for readers that were accepted, and for nobody else", async () => {
    const login = { ...reading, input: `${password}\n` };
    await good("login --email admin@mazevault.com --password-stdin", login);
    const { publicKey, fingerprint } = await newKey("alice");
    expect(statSync(file("reader/reader-keys/alice.json")).mode & 0o777).toBe(0o600);
    expect(await mazevault("reader-keys new alice", reading)).toMatchObject({ code: 2 });
    await world.apply(sealed([{ name: "alice", publicKey }]));
    await until(
      "the replica knows it",
      async () => (await mazevault("list -n crew -o json")).stdout.includes("card"),
      soon,
    );

    const unknown = await put();
    expect(unknown).toMatchObject({ code: 6, stdout: "" });
    expect(unknown.stderr).toContain("the key of reader crew/alice was not accepted here yet");
    expect(unknown.stderr).toContain("mazevault reader-keys add crew/alice FINGERPRINT");
    // Whoever accepts what the refusal says would accept whatever the server says.
    expect(unknown.stderr).not.toContain(fingerprint);
    expect(await versions()).toBe(0);

    expect(await good("reader-keys fingerprint alice", reading)).toBe(`${fingerprint}\n`);
    expect(await mazevault(`reader-keys add crew/alice ${fingerprint.slice(0, -1)}`)).toMatchObject({ code: 2 });
    await good(`reader-keys add crew/alice ${fingerprint}`);
    expect(await put()).toMatchObject({ code: 0 });
    expect(await good("get crew/card pan", reading)).toBe("4111 1111");
    expect(await good("get crew/card pan --reader-key reader/reader-keys/alice.json")).toBe("4111 1111");
    expect(await mazevault("get crew/card pan")).toMatchObject({
      code: 4,
      stderr: expect.stringContaining("no reader key"),
    });
    expect(await put(" --managed")).toMatchObject({ code: 0 });
    expect(await good("get crew/card pan", reading)).toBe("4111 1111");
  });

  test("are not sent when a reader has another key, or the server denies that they are sealed", async () => {
    const other = await newKey("other");
    const before = await versions();
    await world.apply(sealed([{ name: "alice", publicKey: other.publicKey }]));
    await until("the replica knows the other key", async () => (await put()).stderr.includes("another key"), soon);
    expect(await put()).toMatchObject({ code: 6 });
    expect(await mazevault(`reader-keys add crew/alice ${other.fingerprint}`)).toMatchObject({ code: 6 });
    await good(`reader-keys add crew/alice ${other.fingerprint} --replace`);
    expect(await versions()).toBe(before);
    expect(await put()).toMatchObject({ code: 0 });
    expect(await good("get crew/card pan", reading)).toBe("4111 1111");
    expect(await good("diff crew/card 1", reading)).toBe("nothing found\n");

    await world.kubectl("-n", "crew", "delete", "secrets.mazevault.io", "card");
    await world.apply(secretManifest("crew", "card", { entries: [{ key: "pan", external: {} }] }));
    await until("it is another one", async () => (await put()).stderr.includes("denies it now"), soon);
    expect(await put()).toMatchObject({ code: 6 });
    await good("reader-keys remove crew/alice");
    expect(await good("reader-keys list")).toBe("nothing found\n");
  });
});

test("a request of openssl is signed, and a certificate revoked", async () => {
  const names = { profiles: ["Server"], dnsNames: ["*.{namespace}.svc"] };
  await world.apply({
    apiVersion: "mazevault.io/v1",
    kind: "ClusterIssuer",
    metadata: { name: "crew" },
    spec: { ca: { subject: { commonName: "Crew" } }, policy: names, namespaces: { names: ["crew"] } },
  });
  await world.waitReady("clusterissuer.mazevault.io", "crew");
  const csr =
    "openssl req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout web.key -out web.csr -subj /CN=web.crew.svc -addext subjectAltName=DNS:web.crew.svc";
  expect(await ended("bash", ["--norc", "-c", csr])).toMatchObject({ code: 0 });
  writeFileSync(file("web.pem"), await good("issue crew/web --csr web.csr --issuer ClusterIssuer/crew"));
  const { status } = await world.get("clusterissuer.mazevault.io", "crew");
  writeFileSync(file("ca.pem"), String(status?.caBundle));
  const verify =
    "openssl verify -x509_strict -CAfile ca.pem web.pem && openssl x509 -in web.pem -noout -pubkey | diff - <(openssl pkey -in web.key -pubout)";
  expect(await ended("bash", ["--norc", "-c", verify])).toMatchObject({ code: 0, stdout: "web.pem: OK\n" });
  expect(await good("certificates request crew/web")).toBe(readFileSync(file("web.pem"), "utf8"));
  const outside = await mazevault("issue crew/outside --csr nothing.csr --issuer ClusterIssuer/crew");
  expect(outside).toMatchObject({ code: 2, stderr: "mazevault: nothing.csr cannot be read (ENOENT)\n" });

  await world.apply({
    apiVersion: "mazevault.io/v1",
    kind: "Certificate",
    metadata: { name: "shop", namespace: "crew" },
    spec: {
      secretName: "shop-tls",
      issuerRef: { kind: "ClusterIssuer", name: "crew" },
      dnsNames: ["shop.crew.svc"],
      profile: "Server",
    },
  });
  const before = await world.waitReady("certificate.mazevault.io", "shop", "crew");
  expect(await good("certificates list -n crew")).toContain(String(before.status?.serialNumber));
  expect(await good("issuers list")).toMatch(/^ClusterIssuer +crew /m);
  expect(await good("projects list")).toMatch(/^crew +dev,pro/m);
  writeFileSync(file("chain.pem"), await good("certificates chain crew/shop"));
  const chain = "openssl verify -x509_strict -CAfile ca.pem -untrusted chain.pem chain.pem";
  expect(await ended("bash", ["--norc", "-c", chain])).toMatchObject({ code: 0, stdout: "chain.pem: OK\n" });
  const keystore = "certificates keystore crew/shop --password-stdin --file";
  await good(`${keystore} shop.p12`, { input: "Keystore password\n" });
  expect(statSync(file("shop.p12")).mode & 0o777).toBe(0o600);
  const opened =
    "openssl pkcs12 -in shop.p12 -passin 'pass:Keystore password' -nodes -out shop.pem && openssl x509 -in shop.pem -noout -pubkey | diff - <(openssl pkey -in shop.pem -pubout) && openssl x509 -in shop.pem -noout -serial";
  const serial = String(before.status?.serialNumber).replaceAll(":", "").toUpperCase();
  expect(await ended("bash", ["--norc", "-c", opened])).toMatchObject({ code: 0, stdout: `serial=${serial}\n` });
  await good(`${keystore} shop.jks --format jks`, { input: "Keystore password" });
  expect(readFileSync(file("shop.jks")).subarray(0, 4).toString("hex")).toBe("feedfeed");
  expect(await mazevault(`${keystore} other.p12`, { input: "with \u00fcmlaut" })).toMatchObject({ code: 2 });
  const reads = JSON.parse(await good("audit list --action CertificateKeyRead -o json")) as {
    actor: { subject?: string };
  }[];
  expect(reads.filter(({ actor }) => actor.subject === "LocalUser admin@mazevault.com")).toHaveLength(2);
  expect(await mazevault("revoke crew/shop --reason superseded")).toMatchObject({ code: 0, stdout: "" });
  const changed = await world.waitFor(
    "certificate.mazevault.io",
    "shop",
    "crew",
    (it) => it.status?.serialNumber !== before.status?.serialNumber,
  );
  expect(changed.status?.revision).toBe(2);
  const [ca] = await world.sql<{ id: string }>(
    "SELECT authority_id AS id FROM certificates WHERE name = 'shop' LIMIT 1",
  );
  const crl = `mazevault crl ${ca?.id}/1.crl | openssl crl -inform DER -noout -text`;
  const revoked = String(before.status?.serialNumber).replaceAll(":", "").toUpperCase();
  await until(
    "the CRL has it",
    async () => (await ended("bash", ["--norc", "-c", crl])).stdout.includes(revoked),
    soon,
  );
  expect(await mazevault("revoke crew/shop --reason boredom")).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("body.reason"),
  });
});

describe("what is wrong is said with what to do", () => {
  test.each([
    { line: "list", env: { MAZEVAULT_SERVER: "https://127.0.0.1:1" }, code: 1, says: "nothing listens there" },
    { line: "list", env: { MAZEVAULT_SERVER: "https://nowhere.invalid" }, code: 1, says: "host" },
    {
      line: "list",
      env: { MAZEVAULT_CA_FILE: undefined, MAZEVAULT_CLI_CONFIG: file("none.json") },
      code: 1,
      says: "name the CA with --ca-file",
    },
    { line: "list", env: { MAZEVAULT_SERVER: "http://plain" }, code: 2, says: "is not an https URL" },
    { line: "doctor", env: { MAZEVAULT_SERVER: "https://127.0.0.1:1" }, code: 7, says: "1 of 1 checks fail" },
    { line: "get crew/none", env: {}, code: 5, says: "there is no Secret crew/none" },
    { line: "get crew", env: {}, code: 2, says: "must be NAMESPACE/NAME" },
    { line: "get crew/partner none", env: {}, code: 5, says: "has no value of none" },
    { line: "put crew/none k=-", env: {}, code: 5, says: "give project and environment to make it" },
    { line: "recover crew/partner", env: {}, code: 6, says: "is there" },
    { line: "list -o xml", env: {}, code: 2, says: "Allowed choices are table, json, yaml" },
    { line: "nothing", env: {}, code: 2, says: "--help lists what there is" },
  ])("$line $env: $says", async ({ line, env: more, code, says }) => {
    const given = {
      env: { MAZEVAULT_TOKEN: (JSON.parse(readFileSync(loginFile, "utf8")) as { token: string }).token, ...more },
    };
    const found = await mazevault(line, given);
    expect(found).toMatchObject({ code, stderr: expect.stringContaining(says) });
    expect(found.stderr).not.toContain("    at ");
  });

  test("doctor looks at what is between here and there, and behind it", async () => {
    const checks = await good("doctor");
    expect(checks).toMatch(/connection +ok\nclock +ok\nversion +ok\ndatabase +ok\ncaches +ok\ncredentials +ok\n/);
    expect(checks).toMatch(/leadership +ok\n/);
    const { code, stdout } = await mazevault("doctor -o json", { env: { MAZEVAULT_TOKEN: "mvk_nonsense" } });
    expect(code).toBe(7);
    expect(JSON.parse(stdout)).toContainEqual({
      check: "credentials",
      status: "failing",
      problem: expect.stringContaining("an API key that is not accepted"),
      fix: expect.stringContaining("MAZEVAULT_TOKEN must be a valid API key"),
    });
  });
});

test("bash completes commands and options", async () => {
  const completed = async (line: string) => {
    const words = line.split(" ");
    const script = `source <(mazevault completion bash); COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}; _mazevault; echo "\${COMPREPLY[*]}"`;
    return (await ended("bash", ["--norc", "-c", script])).stdout.trim().split(/\s+/);
  };
  expect(await completed("mazevault ro")).toEqual(["rollback", "rotate"]);
  expect(await completed("mazevault access ")).toEqual(expect.arrayContaining(["explain", "who-can"]));
  expect(await completed("mazevault get crew/partner --sh")).toEqual(["--show"]);
  expect(await completed("mazevault list --output j")).toEqual(["json"]);
  expect(await completed("mazevault comp")).toEqual(["completion"]);
});

describe("sealing", () => {
  test("an entry of a secret that is there is sealed with what the server knows of it", async () => {
    await world.apply(secretManifest("crew", "licence", { entries: [{ key: "seat", literal: "1" }] }));
    await world.waitReady("secrets.mazevault.io", "licence", "crew");
    const entries = parse(await good("seal crew/licence key=-", { input: "for Git\n" })) as object[];
    await world.apply(secretManifest("crew", "licence", { entries, deliver: {} }));
    await world.waitReady("secrets.mazevault.io", "licence", "crew");
    expect(decoded(await world.get("secret", "licence", "crew"))).toEqual({ key: "for Git" });
  });

  test("a sealing key of another installation, or one that was edited, is refused", async () => {
    const text = await good("sealing-key crew");
    writeFileSync(file("crew.json"), text);
    const line = "seal crew/licence --literal k=v --environment pro --sealing-key";
    expect(await mazevault(`${line} crew.json --signed-by other`)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("signed by another installation"),
    });
    writeFileSync(file("edited.json"), text.replace('"project": "crew"', '"project": "else"'));
    expect(await mazevault(`${line} edited.json`)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("does not match its signature"),
    });
    const { signedBy } = JSON.parse(text) as { signedBy: string };
    const offline = { env: { MAZEVAULT_SERVER: "https://127.0.0.1:1" } };
    expect(parse(await good(`${line} crew.json --signed-by ${signedBy}`, offline))).toEqual([
      { key: "k", sealed: expect.any(String) },
    ]);
  });
});

describe("the audit record", () => {
  test("is listed by what happened and when", async () => {
    const rows = JSON.parse(await good("audit list --action LoginSucceeded --from 2020-01-01 -o json")) as object[];
    expect(rows[0]).toMatchObject({ action: "LoginSucceeded", actor: { subject: "LocalUser admin@mazevault.com" } });
    expect(await good("audit list --to 2020-01-01")).toBe("nothing found\n");
    expect(await mazevault("audit list --from soon")).toMatchObject({ code: 2 });
  });

  /** `mazevault audit tail --follow`, and everything that it printed so far. */
  function followed(...args: readonly string[]) {
    const child = spawn("mazevault", ["audit", "tail", "--follow", ...args], { cwd: folder, env });
    let printed = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => (printed += text));
    const count = (action: string) => printed.split("\n").filter((line) => line.includes(action)).length;
    return { child, printed: () => printed, count };
  }

  test("is followed, also over a restart of the server", async () => {
    const { child, printed, count } = followed("--lines", "1", "--action", "SecretRead");
    const readOnce = async (version: number, what: string) => {
      const before = count("SecretRead");
      await good(`get crew/partner token --at ${version}`);
      await until(what, async () => count("SecretRead") > before, soon);
    };
    try {
      await until("the last row", async () => printed().includes("SecretRead"), soon);
      await readOnce(1, "a read is seen");
      await surface.process.stop();
      await until("it says that it waits", async () => printed().includes("trying again"), soon);
      await surface.process.start();
      await until("it is back", async () => printed().includes("back\n"), { ...soon, timeoutMs: 40_000 });
      await readOnce(2, "a read after the restart is seen");
      expect(child.exitCode).toBeNull();
    } finally {
      child.kill();
    }
  });

  test("is followed without passing over a row that commits after later ones", async () => {
    // A read gets its row's number, and its commit waits for us.
    await world.sql(`
      CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$
      BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
      CREATE TRIGGER waits AFTER INSERT ON audit FOR EACH ROW WHEN (NEW.action = 'SecretRead') EXECUTE FUNCTION wait_for_test()`);
    const { child, printed, count } = followed("--lines", "1", "--subject", "crew/partner");
    try {
      await until("the last row", async () => printed() !== "", soon);
      const before = { read: count("SecretRead"), created: count("SecretVersionCreated") };
      const reading = await withClient({ ...world.mazevault.database, url: "" }, async (client) => {
        await client.query("SELECT pg_advisory_lock(4711)");
        const read = good("get crew/partner token");
        const waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted";
        await until("its row has a number", async () => (await world.sql(waiting)).length === 1, soon);
        await good("put crew/partner token=-", { input: "later" });
        await until("the later row is seen", async () => count("SecretVersionCreated") > before.created, soon);
        expect(count("SecretRead")).toBe(before.read);
        return { read };
      });
      await reading.read;
      await until("the earlier row is seen", async () => count("SecretRead") > before.read, soon);
    } finally {
      child.kill();
      await world.sql("DROP TRIGGER waits ON audit; DROP FUNCTION wait_for_test()");
    }
  });

  test("is proved, with a bar on a terminal, and the first row that was changed is named", async () => {
    expect(await onTerminal("audit verify")).toMatch(/\[#+\] (\d+)\/\1\n[\s\S]*no external anchor was given/);
    const change = (from: string, to: string) =>
      world.sql(
        `WITH one AS (SELECT sequence FROM audit WHERE action = '${from}' AND subject_name = 'crew/partner' AND position IS NOT NULL ORDER BY sequence LIMIT 1)
         UPDATE audit SET action = '${to}' FROM one WHERE audit.sequence = one.sequence RETURNING audit.sequence`,
      );
    await world.sql("ALTER TABLE audit DISABLE TRIGGER audit_only_linked");
    const [row] = await change("SecretRead", "SecretRetained");
    const found = await mazevault("audit verify");
    expect(found).toMatchObject({ code: 7, stdout: "" });
    expect(found.stderr).toContain(`audit row ${row?.sequence}: the row was changed`);
    await change("SecretRetained", "SecretRead");
    await world.sql("ALTER TABLE audit ENABLE TRIGGER audit_only_linked");
    expect(await mazevault("audit verify")).toMatchObject({ code: 0 });
  });

  test("is exported whole or not at all", async () => {
    expect(await onTerminal("audit export --file all.jsonl")).toMatch(/\[#+\] (\d+)\/\1\n/);
    expect(await mazevault("audit export --file all.jsonl")).toMatchObject({ code: 2 });
    const offline = { env: { MAZEVAULT_SERVER: undefined, MAZEVAULT_CLI_CONFIG: file("none.json") } };
    const proved = JSON.parse(await good("audit verify --file all.jsonl -o json", offline)) as {
      keys: string[];
      rows: number;
    };
    expect(proved).toMatchObject({ ok: true, from: 1, keys: [expect.any(String)] });
    expect(await good(`audit verify --file all.jsonl --signed-by ${proved.keys[0]}`, offline)).toContain(
      `${proved.rows} rows`,
    );
    expect(await mazevault(`audit verify --file all.jsonl --signed-by ${"0".repeat(64)}`, offline)).toMatchObject({
      code: 7,
    });
    const third = (line: string) => line.startsWith('{"type":"row","position":3,');
    const short = readFileSync(file("all.jsonl"), "utf8")
      .split("\n")
      .filter((line) => !third(line))
      .join("\n");
    writeFileSync(file("short.jsonl"), short);
    expect(await mazevault("audit verify --file short.jsonl", offline)).toMatchObject({
      code: 7,
      // What shows it depends on where checkpoints stand.
      stderr: expect.stringMatching(/short\.jsonl: row [34]: /),
    });
    expect(await mazevault("audit verify --file nothing.jsonl", offline)).toMatchObject({ code: 2 });
    const lines = (await good("audit export --format csv")).split("\r\n");
    expect(lines[0]).toMatch(/^type,position,at,/);
    expect(lines.length).toBeGreaterThan(proved.rows);
  });
});

describe("the guides work as they are printed", () => {
  const guideText = (guide: string): string =>
    readFileSync(fileURLToPath(new URL(`../docs/guides/${guide}`, import.meta.url)), "utf8");

  /** What its commands print, one block after the other in one folder; throws at the first that fails. */
  async function followed(
    guide: string,
    before: (index: number) => Promise<void> = async () => {},
  ): Promise<readonly string[]> {
    const printed: string[] = [];
    for (const [, block = ""] of guideText(guide).matchAll(/^```sh\n([\s\S]*?)^```$/gm)) {
      await before(printed.length);
      const { stdout, stderr } = await promisify(execFile)("bash", ["--norc", "-euo", "pipefail", "-c", block], {
        cwd: folder,
        env,
      });
      printed.push(`${stdout}${stderr}`);
    }
    return printed;
  }

  test("store and read", async () => {
    const printed = await followed("store-and-read.md");
    expect(printed).toHaveLength(5);
    expect(printed[0]).toContain("logged in");
    expect(printed[2]).toMatch(/^[0-9a-f]{32}\n/);
    expect(printed[3]).toMatch(/token +changed\n/);
    expect(printed[4]).toContain("is back");
  });

  test("give an application access", async () => {
    const printed = await followed("give-access.md");
    expect(printed).toHaveLength(4);
    expect(printed[0]).toContain("denied: ");
    expect(printed[1]).toContain("allowed: ");
    expect(printed[2]).toMatch(/"values":\{"token":"[0-9a-f]{32}"\}/);
    expect(printed[3]).toContain("ServiceAccount shop/app");
  });

  test("prove to an auditor", async () => {
    const printed = await followed("prove-to-an-auditor.md");
    expect(printed).toHaveLength(5);
    expect(printed[1]).toMatch(/SecretRead +LocalUser admin@mazevault.com +Secret shop\/partner +Success/);
    expect(readFileSync(file("month.csv"), "utf8")).toContain(",SecretRead,");
    expect(printed[3]).toMatch(
      /an external anchor vouches for rows up to \d+; [\s\S]*an external anchor vouches for rows up to \d+\n/,
    );
    expect(printed[4]).toMatch(
      /forged.jsonl: row \d+: the row was changed, or was not written by MazeVault \(macDiffers\)/,
    );
  });

  /** Operator and REST again, with other settings of their keys. */
  async function restarted(keys: Record<string, unknown>): Promise<void> {
    for (const { process, configFile } of [operator, surface]) {
      await process.stop();
      const settings = parse(readFileSync(configFile, "utf8"));
      writeFileSync(configFile, stringify({ ...settings, keys }));
      await process.start();
    }
    await until("it answers", async () => (await mazevault("whoami")).code === 0, { timeoutMs: 30_000 });
  }

  test("rotate the root key", async () => {
    const name = "rotate-the-root-key.md";
    // What step 3 says, with the paths of this machine.
    const yaml = /^```yaml\n([\s\S]*?)^```$/m.exec(guideText(name))?.[1] ?? "";
    const former = path.join(path.dirname(operator.configFile), "root.key");
    const { keys } = parse(yaml.replaceAll("/etc/mazevault/root.key", former).replaceAll("/etc/mazevault", folder));
    const guide = await followed(name, async (block) => {
      if (block === 2) await restarted(keys);
    });
    expect(guide).toHaveLength(4);
    const [status, , replaced, rotated] = guide;
    expect(status).toMatch(
      /^root key: file:[0-9a-f]{16}\nKEY +VERSION +AGE IN DAYS +USES +LEFT\ninstallation +1 +0 +\d+\n/,
    );
    expect(replaced).toMatch(
      /^root key: passphrase:[0-9a-f]{16}\n[\s\S]*KeysRewrapped +keyring +Key Installation +Success\n$/,
    );
    expect(rotated).toMatch(/installation +2 +0 +\d+\n[\s\S]*project shop +2 +0 +\d+\n/);
    const { previous: _, ...last } = keys;
    await restarted(last);
    expect(await good("get shop/partner token")).toMatch(/^[0-9a-f]{32}$/);
  });

  test("seal for Git", async () => {
    const printed = await followed("seal-for-git.md");
    expect(printed).toHaveLength(3);
    expect(JSON.parse(readFileSync(file("shop.sealing-key.json"), "utf8"))).toMatchObject({ project: "shop" });
    expect(printed[2]).toBe(`${readFileSync(file("licence.txt"), "utf8")}`);
  });
});

test("logging out ends the session and forgets it", async () => {
  const remembered = readFileSync(loginFile);
  expect(await mazevault("logout")).toMatchObject({ code: 0 });
  expect(statSync(loginFile, { throwIfNoEntry: false })).toBeUndefined();
  writeFileSync(loginFile, remembered);
  await until("the old tokens are refused", async () => (await mazevault("whoami")).code === 3, {
    timeoutMs: 10_000,
    intervalMs: 200,
  });
});
