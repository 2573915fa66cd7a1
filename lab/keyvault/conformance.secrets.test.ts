import { all, Conformance, codes } from "./testing/conformance.ts";
import { OFFICER, READER, STRANGER, VAULT, VAULT_URL } from "./testing/identities.ts";
import { API_VERSION, raw } from "./testing/raw.ts";

const suite = new Conformance();

beforeAll(() => suite.start());
afterAll(() => suite.dispose());

const RECOVERY = { recoveryLevel: "CustomizedRecoverable+Purgeable", recoverableDays: 7 };

describe("set and get", () => {
  it("makes a version with a 32-digit hexadecimal id at every set, and reads the latest or a given one", async () => {
    // "About keys, secrets, and certificates": object identifiers and versioning.
    const client = suite.client();
    const first = await client.setSecret("versioned", "one");
    const second = await client.setSecret("versioned", "two");
    expect(first.properties.version).toMatch(/^[0-9a-f]{32}$/);
    expect(second.properties.id).toBe(`${VAULT_URL}/secrets/versioned/${second.properties.version}`);
    expect((await client.getSecret("versioned")).value).toBe("two");
    const { version } = first.properties;
    expect((await client.getSecret("versioned", version === undefined ? {} : { version })).value).toBe("one");
    const versions = await all(client.listPropertiesOfSecretVersions("versioned"));
    expect(versions.map((each) => each.version).sort()).toEqual(
      [first.properties.version, second.properties.version].sort(),
    );
  });

  it("answers with the SecretBundle of the reference", async () => {
    // REST reference "Set Secret": SecretBundle and SecretAttributes; times are whole seconds.
    const before = Math.floor(Date.now() / 1000);
    const set = await suite.call("/secrets/bundle", {
      method: "PUT",
      body: {
        value: "v",
        contentType: "text/plain",
        tags: { owner: "me" },
        attributes: { nbf: 1, exp: 2_000_000_000 },
      },
    });
    expect(set.status).toBe(200);
    expect(set.body).toEqual({
      value: "v",
      contentType: "text/plain",
      id: expect.stringMatching(`^${VAULT_URL}/secrets/bundle/[0-9a-f]{32}$`),
      attributes: {
        enabled: true,
        nbf: 1,
        exp: 2_000_000_000,
        created: expect.any(Number),
        updated: expect.any(Number),
        ...RECOVERY,
      },
      tags: { owner: "me" },
    });
    const { created } = set.body.attributes as { created: number };
    expect(Number.isInteger(created) && created >= before && created <= before + 5).toBe(true);
    expect((await suite.call("/secrets/bundle/")).body).toEqual(set.body);
  });

  it("carries the service's headers on every answer", async () => {
    // "Authentication, requests and responses": response headers.
    const found = await suite.call("/secrets/bundle", { headers: { "x-ms-client-request-id": "mine" } });
    for (const { headers } of [found, await suite.call("/secrets/absent")]) {
      expect(headers["x-ms-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
      expect(headers["x-ms-keyvault-region"]).toBe("westeurope");
      expect(headers["x-ms-keyvault-service-version"]).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
      expect(headers["x-ms-keyvault-network-info"]).toMatch(/^conn_type=Ipv4;addr=127\.0\.0\.1;/);
    }
    expect(found.headers["x-ms-client-request-id"]).toBe("mine");
  });

  it("treats names as case-insensitive and keeps the first spelling", async () => {
    // "About keys, secrets, and certificates": names are case-insensitive.
    const client = suite.client();
    await client.setSecret("CamelCase", "one");
    const second = await client.setSecret("camelcase", "two");
    expect(second.name).toBe("CamelCase");
    expect(await all(client.listPropertiesOfSecretVersions("CAMELCASE"))).toHaveLength(2);
  });

  it("answers 404 SecretNotFound for an unknown name and an unknown version", async () => {
    // "Azure Key Vault REST API Error Codes", HTTP 404.
    const name = await suite.call("/secrets/nowhere");
    expect([name.status, codes(name).code]).toEqual([404, "SecretNotFound"]);
    expect(codes(name).message).toMatch(/^A secret with \(name\/id\) nowhere was not found in this key vault\./);
    const version = await suite.call(`/secrets/versioned/${"0".repeat(32)}`);
    expect([version.status, codes(version).code]).toEqual([404, "SecretNotFound"]);
    await expect(suite.client().getSecret("nowhere")).rejects.toMatchObject({
      statusCode: 404,
      code: "SecretNotFound",
    });
  });
});

describe("update", () => {
  it("changes what is given, leaves the rest and shows no value", async () => {
    // REST reference "Update Secret": attributes that are not specified are left unchanged.
    const client = suite.client();
    const set = await client.setSecret("updated", "v", { contentType: "a", tags: { one: "1", two: "2" } });
    const version = set.properties.version ?? "";
    const answer = await suite.call(`/secrets/updated/${version}`, { method: "PATCH", body: { tags: { three: "3" } } });
    expect(answer.body).not.toHaveProperty("value");
    const expiresOn = new Date(2_000_000_000_000);
    const updated = await client.updateSecretProperties("updated", version, { expiresOn });
    expect(updated).toMatchObject({ contentType: "a", tags: { three: "3" }, enabled: true, expiresOn });
    expect((await client.getSecret("updated")).value).toBe("v");
  });

  it("changes the latest version when none is named", async () => {
    // Path "/secrets/{secret-name}/" without a version, as "Update Secret" allows for its parameter.
    const answer = await suite.call("/secrets/updated/", { method: "PATCH", body: { contentType: "b" } });
    expect([answer.status, answer.body.contentType]).toEqual([200, "b"]);
  });

  it("refuses to read a disabled secret, and reads it again when enabled", async () => {
    // "About Azure Key Vault secrets": enabled; the body is the service's.
    const client = suite.client();
    const { properties } = await client.setSecret("disabled", "v", { enabled: false });
    const refused = await suite.call("/secrets/disabled");
    expect(refused.status).toBe(403);
    expect(refused.body).toEqual({
      error: {
        code: "Forbidden",
        message: "Operation get is not allowed on a disabled secret.",
        innererror: { code: "SecretDisabled" },
      },
    });
    await client.updateSecretProperties("disabled", properties.version ?? "", { enabled: true });
    expect((await client.getSecret("disabled")).value).toBe("v");
  });

  it("reads secrets outside their nbf and exp", async () => {
    // "About Azure Key Vault secrets", date-time controlled operations: get works for not-yet-valid and expired secrets.
    const client = suite.client();
    await client.setSecret("future", "f", { notBefore: new Date(Date.now() + 86_400_000) });
    await client.setSecret("past", "p", { expiresOn: new Date(Date.now() - 86_400_000) });
    expect([(await client.getSecret("future")).value, (await client.getSecret("past")).value]).toEqual(["f", "p"]);
  });
});

describe("limits", () => {
  const set = (body: object, name = "limits") => suite.call(`/secrets/${name}`, { method: "PUT", body });

  it.each([
    ["a value of 25,600 bytes", { value: "x".repeat(25_600) }],
    ["an empty value", { value: "" }],
    ["15 tags", { value: "v", tags: Object.fromEntries(Array.from({ length: 15 }, (_, n) => [`t${n}`, "v"])) }],
    ["a tag value of 256 characters", { value: "v", tags: { t: "x".repeat(256) } }],
    ["a content type of 255 characters", { value: "v", contentType: "x".repeat(255) }],
  ])("takes %s", async (_, body) => {
    // "About Azure Key Vault secrets": size, contentType and tags.
    expect((await set(body)).status).toBe(200);
  });

  it.each([
    ["a value of 25,601 bytes", { value: "x".repeat(25_601) }],
    ["a value of 25,600 characters but more bytes", { value: "é".repeat(12_801) }],
    ["a value far beyond any limit", { value: "x".repeat(400_000) }],
    ["no value", {}],
    ["a value that is no string", { value: 1 }],
    ["16 tags", { value: "v", tags: Object.fromEntries(Array.from({ length: 16 }, (_, n) => [`t${n}`, "v"])) }],
    ["a tag value of 257 characters", { value: "v", tags: { t: "x".repeat(257) } }],
    ["a tag that is no string", { value: "v", tags: { t: 1 } }],
    ["a content type of 256 characters", { value: "v", contentType: "x".repeat(256) }],
    ["an exp that is no time", { value: "v", attributes: { exp: "tomorrow" } }],
  ])("refuses %s", async (_, body) => {
    // The same page; the message is what the service says for 16 tags.
    const refused = await set(body);
    expect([refused.status, codes(refused)]).toEqual([
      400,
      { code: "BadParameter", message: "Property has invalid value\r\n" },
    ]);
  });

  it("refuses a body that is no JSON", async () => {
    const refused = await suite.call("/secrets/limits", { method: "PUT", body: "{" });
    expect([refused.status, codes(refused).code]).toEqual([400, "BadParameter"]);
  });

  it("takes names of letters, digits and hyphens up to 127 characters, and no others", async () => {
    // "About keys, secrets, and certificates": object names match ^[0-9a-zA-Z-]{1,127}$.
    expect((await set({ value: "v" }, "N-0".padEnd(127, "a"))).status).toBe(200);
    for (const name of ["a".repeat(128), "under_score", "dot.ted", "sp%20ace", "%C3%A9"]) {
      const refused = await set({ value: "v" }, name);
      expect([refused.status, codes(refused).code]).toEqual([400, "BadParameter"]);
      expect(codes(refused).message).toMatch(/^The request URI contains an invalid name: /);
    }
  });

  it("requires a known api-version", async () => {
    // "Authentication, requests and responses": api-version is part of every request.
    const token = await suite.token();
    for (const query of ["", "?api-version=", "?api-version=1999-01-01"]) {
      const refused = await raw(suite.lab.transport, { url: `${VAULT_URL}/secrets${query}`, token });
      expect([refused.status, codes(refused).code]).toEqual([400, "BadParameter"]);
    }
    for (const version of ["2016-10-01", "7.4", "7.6", API_VERSION]) {
      expect(
        (await raw(suite.lab.transport, { url: `${VAULT_URL}/secrets?api-version=${version}`, token })).status,
      ).toBe(200);
    }
  });

  it("answers 405 for a method that a path does not have, 404 for a path that does not exist", async () => {
    const method = await suite.call("/secrets/limits", { method: "POST" });
    expect([method.status, codes(method).code, method.headers.allow]).toEqual([
      405,
      "MethodNotAllowed",
      "PUT, GET, PATCH, DELETE",
    ]);
    expect((await suite.call("/secrets", { method: "PUT", body: { value: "v" } })).status).toBe(405);
    expect((await suite.call("/keys/some/sign", { method: "POST" })).status).toBe(404);
    expect((await suite.call("/")).status).toBe(404);
  });
});

describe("authorization", () => {
  it("lets Key Vault Secrets User read and list, and nothing else", async () => {
    // "Azure built-in roles for Security": Key Vault Secrets User has getSecret and readMetadata.
    await suite.client(OFFICER).setSecret("shared", "v");
    const client = suite.client(READER);
    expect((await client.getSecret("shared")).value).toBe("v");
    expect((await all(client.listPropertiesOfSecrets())).map((each) => each.name)).toContain("shared");
    for (const [operation, attempt] of Object.entries({
      "setSecret/action": () => client.setSecret("shared", "w"),
      delete: () => client.beginDeleteSecret("shared"),
      "purge/action": () => client.purgeDeletedSecret("shared"),
      "backup/action": () => client.backupSecret("shared"),
    })) {
      await expect(attempt()).rejects.toMatchObject({
        statusCode: 403,
        code: "Forbidden",
        message: expect.stringContaining(`Action: 'Microsoft.KeyVault/vaults/secrets/${operation}'`),
      });
    }
  });

  it("answers ForbiddenByRbac, saying who may not do what on which resource", async () => {
    // "Azure Key Vault REST API Error Codes", HTTP 403.
    const refused = await suite.call("/secrets/shared", { token: await suite.token(STRANGER) });
    expect(refused.status).toBe(403);
    const { code, inner, message } = codes(refused);
    expect([code, inner]).toEqual(["Forbidden", "ForbiddenByRbac"]);
    expect(message.split("\r\n").map((line) => line.split(":")[0])).toEqual([
      "Caller is not authorized to perform action on resource.",
      "If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.",
      "Caller",
      "Action",
      "Resource",
      "Assignment",
      "DenyAssignmentId",
      "DecisionReason",
      "Vault",
      "",
    ]);
    expect(message).toContain(`appid=${STRANGER.clientId};oid=`);
    expect(message).toContain(`/vaults/${VAULT}/secrets/shared'`);
  });
});

describe("certificates' secrets", () => {
  it("shows them as managed and does not let them be written", async () => {
    // REST reference, SecretItem: managed is true for the secret behind a certificate.
    const client = suite.client();
    await suite.lab.control.setSecret(VAULT, "of-certificate", "pfx", { managed: true });
    const listed = (await all(client.listPropertiesOfSecrets())).find((each) => each.name === "of-certificate");
    expect(listed?.managed).toBe(true);
    await expect(client.setSecret("of-certificate", "mine")).rejects.toMatchObject({ statusCode: 403 });
  });
});
