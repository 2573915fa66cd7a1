/**
 * The REST surface as a whole, from its own OpenAPI document: who may call what, and whether every answer is one that the
 * document promises. A route that nobody has thought about here fails the first test.
 */
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { ROLES, type Role, VERBS, type Verb } from "../crds/access.ts";
import type { Rest } from "../lab/mazevault.ts";
import { findPythonTool, schemathesis } from "../lab/setup/python-tool.ts";
import { startWorld, type World } from "./harness.ts";
import { firstAdmin, RestClient, type RestRequest } from "./rest-client.ts";

const run = promisify(execFile);

/** Who may call an operation, said once more, by hand. */
type Rule =
  | "anyone"
  /** Nobody's credentials let in, only a token for events. */
  | "eventToken"
  | "authenticated"
  /** Of the whole installation: only roles reach it. */
  | { readonly installation: Verb }
  /** Of an object in a namespace. */
  | { readonly object: Verb }
  /** Everybody, and each sees what is theirs. */
  | { readonly filtered: Verb };

const rules: Readonly<Record<string, Rule>> = {
  getMode: "anyone",
  getHealth: "anyone",
  login: "anyone",
  refresh: "anyone",
  logout: "authenticated",
  whoAmI: "authenticated",
  changeOwnPassword: "authenticated",
  listUsers: { installation: "administer" },
  createUser: { installation: "administer" },
  changeUser: { installation: "administer" },
  removeUser: { installation: "administer" },
  listApiKeys: "authenticated",
  createApiKey: "authenticated",
  revokeApiKey: "authenticated",
  listProjects: { filtered: "list" },
  getProject: { installation: "list" },
  listProjectNames: { installation: "list" },
  getSealingKey: { installation: "list" },
  listSecrets: { filtered: "list" },
  getSecret: { object: "list" },
  getSecretValues: { object: "read" },
  putSecretValues: { object: "write" },
  listSecretVersions: { object: "list" },
  rollBackSecret: { object: "write" },
  rotateSecret: { object: "rotate" },
  deleteSecret: { object: "delete" },
  recoverSecret: { object: "write" },
  exportSecrets: { filtered: "read" },
  listCertificates: { filtered: "list" },
  getCertificate: { object: "list" },
  getCertificateChain: { object: "list" },
  getCertificateBundle: { object: "read" },
  getCertificateKeystore: { object: "read" },
  revokeCertificate: { object: "revoke" },
  issueCertificate: { object: "issue" },
  getCertificateRequest: { object: "list" },
  listIssuers: { filtered: "list" },
  getCrl: "authenticated",
  acceptKeyVaultEvents: "eventToken",
  allowKeyVaultEvents: "eventToken",
  listSyncRules: { filtered: "list" },
  listSyncConflicts: { filtered: "list" },
  resolveSyncConflict: { object: "write" },
  bootstrapGateway: { installation: "administer" },
  listGateways: { filtered: "list" },
  getGateway: { installation: "list" },
  deleteGateway: { installation: "administer" },
  getGatewayHealth: "anyone",
  getFailover: "anyone",
  activateDr: { installation: "administer" },
  failback: { installation: "administer" },
  listGatewayWrites: "authenticated",
  getGatewayWrite: "authenticated",
  explainAccess: "authenticated",
  whoCan: { installation: "audit" },
  listAudit: { installation: "audit" },
  verifyAudit: { installation: "audit" },
  exportAudit: { installation: "audit" },
  listKeys: { installation: "administer" },
  rotateInstallationKey: { installation: "administer" },
  getProjectKey: { installation: "administer" },
  rotateProjectKey: { installation: "administer" },
  getDiagnostics: { installation: "audit" },
  getSupportFacts: { installation: "audit" },
  getSupportResources: { installation: "audit" },
};

interface Operation {
  readonly id: string;
  readonly method: string;
  readonly path: string;
}

interface Caller {
  readonly name: string;
  readonly token?: string;
  /** What it may do anywhere, and what only in namespace shop. */
  readonly everywhere: readonly Verb[];
  readonly inShop: readonly Verb[];
}

let world: World;
let surface: Rest;
let rest: RestClient;
let document: { paths: Record<string, Record<string, { operationId: string }>> };
let operations: Operation[];
const callers: Caller[] = [];

const PASSWORD = "correct horse battery";
const ROLE_NAMES = Object.keys(ROLES) as Role[];

beforeAll(async () => {
  world = await startWorld();
  await world.mazevault.startOperator();
  surface = await world.mazevault.startRest();
  rest = RestClient.of(world, surface);
  document = (await rest.send("GET", "/api/v1/openapi.json")).body;
  operations = Object.entries(document.paths).flatMap(([where, methods]) =>
    Object.entries(methods).map(([method, { operationId }]) => ({
      id: operationId,
      method: method.toUpperCase(),
      path: where,
    })),
  );
  const { email, password } = await firstAdmin(world);
  const admin = await rest.login(email, password);
  for (const namespace of ["shop", "bank"]) {
    await world.tenant(namespace);
    const body = { project: namespace, environment: "pro", values: { k: "v" } };
    const { status } = await rest.send("PUT", `/api/v1/namespaces/${namespace}/secrets/db/values`, {
      token: admin,
      body,
    });
    expect(status).toBe(200);
    await world.waitReady("secrets.mazevault.io", "db", namespace);
  }
  callers.push({ name: "anonymous", everywhere: [], inShop: [] });
  for (const role of [...ROLE_NAMES, undefined]) {
    const name = role ?? "nobody";
    const body = { email: `${name}@example.com`, password: PASSWORD, ...(role !== undefined && { role }) };
    expect((await rest.send("POST", "/api/v1/users", { token: admin, body })).status).toBe(201);
    const token = await rest.login(body.email, PASSWORD);
    callers.push({ name, token, everywhere: role === undefined ? [] : ROLES[role], inShop: [] });
  }
  const key = await rest.send("POST", "/api/v1/api-keys", { token: admin, body: { name: "lists", scopes: ["list"] } });
  callers.push({
    name: "API key of an admin with scope list",
    token: key.body.secret,
    everywhere: ["list"],
    inShop: [],
  });
  await world.kubectl("-n", "shop", "create", "serviceaccount", "app");
  await world.apply({
    apiVersion: "mazevault.io/v1",
    kind: "AccessPolicy",
    metadata: { name: "app", namespace: "shop" },
    spec: {
      subjects: [{ serviceAccount: { namespace: "shop", name: "app" } }],
      rules: [{ projects: ["shop"], environments: ["dev", "pro"], role: "operator" }],
    },
  });
  await world.waitReady("accesspolicies.mazevault.io", "app", "shop");
  const token = (await world.kubectl("-n", "shop", "create", "token", "app", "--audience=mazevault")).trim();
  callers.push({ name: "ServiceAccount shop/app", token, everywhere: [], inShop: ROLES.operator });
});

afterAll(async () => {
  await rest?.close();
  await world?.stop();
});

/** What an operation is called with: enough to be let in or refused, and nothing that changes what others look at. */
function requestOf({ id, path: template }: Operation, namespace: string): { path: string } & RestRequest {
  const nothing = { "if-match": '"0"' };
  const bodies: Readonly<Record<string, unknown>> = {
    login: { email: "stranger@example.com", password: "wrong" },
    refresh: { refreshToken: "wrong" },
    changeOwnPassword: { current: "wrong", next: PASSWORD },
    createUser: { email: "reader@example.com", password: PASSWORD },
    changeUser: { disabled: true },
    createApiKey: { name: "k", scopes: ["list"] },
    putSecretValues: { values: { k: "other" } },
    rollBackSecret: { version: 999_999 },
    rotateSecret: { keys: ["absent"] },
    getCertificateKeystore: { format: "pkcs12", password: PASSWORD },
    revokeCertificate: { reason: "superseded" },
    resolveSyncConflict: { resolution: "KeepTarget" },
    bootstrapGateway: { name: "matrix" },
    issueCertificate: { name: `r-${randomUUID()}`, request: "A".repeat(64), issuerRef: { name: "none" } },
  };
  const values: Readonly<Record<string, string>> = {
    namespace,
    name: template.includes("/projects/") ? namespace : "db",
    id: randomUUID(),
    authority: randomUUID(),
    generation: "1",
    partition: "0",
    environment: "NPR",
  };
  const filled = template.replaceAll(/\{(\w+)\}/g, (_, name: string) => values[name] ?? "");
  const query = id === "explainAccess" || id === "whoCan" ? "?verb=read" : "";
  const conditional = id === "putSecretValues" || id === "deleteSecret";
  return { path: filled + query, ...(id in bodies && { body: bodies[id] }), ...(conditional && { headers: nothing }) };
}

function isAllowed(rule: Rule, { everywhere, inShop }: Caller, namespace: string): boolean {
  if (typeof rule === "string" || "filtered" in rule) return true;
  const verb = "installation" in rule ? rule.installation : rule.object;
  return everywhere.includes(verb) || ("object" in rule && namespace === "shop" && inShop.includes(verb));
}

test("every route has a rule, and every rule a route", () => {
  expect(operations.map(({ id }) => id).sort()).toEqual(Object.keys(rules).sort());
});

test("every route, for every kind of caller, in its own namespace and in another one", async () => {
  const wrong: string[] = [];
  // Whoever is logged out can be asked nothing more.
  const ordered = operations.toSorted((a, b) => Number(a.id === "logout") - Number(b.id === "logout"));
  let asked = 0;
  for (const caller of callers) {
    for (const operation of ordered) {
      const rule = rules[operation.id] ?? "anyone";
      if (rule === "anyone" && caller.token !== undefined) continue;
      for (const namespace of operation.path.includes("{namespace}") ? ["shop", "bank"] : ["shop"]) {
        const { path: where, ...request } = requestOf(operation, namespace);
        const token = caller.token !== undefined && { token: caller.token };
        const { status, body } = await rest.send(operation.method, where, { ...request, ...token });
        asked += 1;
        const denied = status === 403 && body?.code === "AccessDenied";
        const expected =
          caller.token === undefined
            ? rule === "anyone" || status === 401
            : typeof rule === "string"
              ? true
              : isAllowed(rule, caller, namespace) !== denied;
        if (!expected || status >= 500)
          wrong.push(`${caller.name}: ${operation.method} ${where} gave ${status} ${body?.code ?? ""}`);
      }
    }
  }
  expect(wrong).toEqual([]);
  expect(asked).toBeGreaterThan(operations.length * callers.length * 0.9);
});

test("what is listed and exported is what may be seen", async () => {
  const { email, password } = await firstAdmin(world);
  const admin = await rest.login(email, password);
  const tokens = new Map(callers.map(({ name, token }) => [name, token]));
  const reader = await rest.login("reader@example.com", PASSWORD);
  const nobody = await rest.login("nobody@example.com", PASSWORD);
  const namespaces = async (where: string, token: string | undefined): Promise<string[]> => {
    const { text } = await rest.send("GET", where, token === undefined ? {} : { token });
    const items: { namespace: string }[] = where.includes("export")
      ? text
          .split("\n")
          .filter(Boolean)
          .map((line) => JSON.parse(line) as { namespace: string })
      : (JSON.parse(text) as { items: { namespace: string }[] }).items;
    return [...new Set(items.map(({ namespace }) => namespace))].sort();
  };
  for (const where of ["/api/v1/secrets", "/api/v1/export"]) {
    expect(await namespaces(where, admin)).toEqual(["bank", "shop"]);
    expect(await namespaces(where, reader)).toEqual(["bank", "shop"]);
    expect(await namespaces(where, nobody)).toEqual([]);
    expect(await namespaces(where, tokens.get("ServiceAccount shop/app"))).toEqual(["shop"]);
  }
  expect(await namespaces("/api/v1/secrets", tokens.get("API key of an admin with scope list"))).toEqual([
    "bank",
    "shop",
  ]);
  expect(await namespaces("/api/v1/export", tokens.get("API key of an admin with scope list"))).toEqual([]);
});

const python = findPythonTool(schemathesis);
// A machine without it: `npm test` says so, and the test is not defined.
if (python !== undefined) {
  describe("as schemathesis sees it: no 5xx, no status and no body that the document does not promise", () => {
    /** An API key of a user of that role with every scope: logging out, which is tried too, does not end it. */
    const keyOf = async (role: Role): Promise<string> => {
      const token = await rest.login(`${role}@example.com`, PASSWORD);
      const { body } = await rest.send("POST", "/api/v1/api-keys", {
        token,
        body: { name: "fuzz", scopes: [...VERBS] },
      });
      return body.secret as string;
    };

    test.each([
      { as: "admin", phases: "coverage,fuzzing", examples: 1 },
      { as: "reader", phases: "fuzzing", examples: 2 },
      { as: "nobody", phases: "fuzzing", examples: 2 },
    ] as const)("as $as", async ({ as, phases, examples }) => {
      const file = path.join(world.lab.dir, "openapi.json");
      writeFileSync(file, JSON.stringify(closed(document)));
      const credentials = as === "nobody" ? [] : ["-H", `Authorization: Bearer ${await keyOf(as)}`];
      const checks = [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "response_headers_conformance",
        "negative_data_rejection",
        "unsupported_method",
        "allow_header_conformance",
      ];
      const options = [
        "--phases",
        phases,
        "-n",
        String(examples),
        "--seed",
        "1",
        "--workers",
        "2",
        "--no-shrink",
        "--continue-on-failure",
      ];
      const target = ["-u", surface.restUrl, "--tls-verify", world.lab.pki.caFile];
      const { stdout } = await run(
        python,
        [
          "-m",
          "schemathesis.cli",
          "run",
          file,
          ...target,
          ...credentials,
          ...options,
          "--checks",
          checks.join(","),
          "--warnings",
          "off",
        ],
        { maxBuffer: 2 ** 26, cwd: world.lab.dir },
      ).catch((error: { stdout?: string }) => ({ stdout: error.stdout ?? String(error) }));
      expect(stdout).not.toContain("FAILURES");
      expect(stdout).toMatch(/\d+ generated, \d+ passed/);
    });
  });
}

/** The document with answers that say no more than is in it: others may meet a newer version, and this test does not. */
function closed(node: unknown, within: "request" | "answer" = "request"): unknown {
  if (Array.isArray(node)) return node.map((item) => closed(item, within));
  if (typeof node !== "object" || node === null) return node;
  const entries = Object.entries(node).map(([name, value]) => {
    const answers = name === "responses" || name === "components" ? "answer" : within;
    return [name, closed(value, answers)] as const;
  });
  const open = within === "answer" && "properties" in node && !("additionalProperties" in node);
  return { ...Object.fromEntries(entries), ...(open && { additionalProperties: false }) };
}
