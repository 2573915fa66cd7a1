import { createHash, X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import type { PipelineRequest } from "@azure/core-rest-pipeline";
import {
  ClientAssertionCredential,
  ClientCertificateCredential,
  ClientSecretCredential,
  ManagedIdentityCredential,
  type TokenCredential,
  WorkloadIdentityCredential,
} from "@azure/identity";
import { SecretClient } from "@azure/keyvault-secrets";
import { createLocalJWKSet, decodeJwt, type JSONWebKeySet, jwtVerify, SignJWT } from "jose";
import { Conformance, codes } from "./testing/conformance.ts";
import { connectTo } from "./testing/connect-to.ts";
import {
  CERTIFIED,
  FOREIGNER,
  MACHINE,
  makeApplicationCertificate,
  OFFICER,
  OTHER_TENANT,
  TENANT,
  VAULT_URL,
  WORKLOAD,
} from "./testing/identities.ts";
import { API_VERSION, type RawResponse, raw } from "./testing/raw.ts";

const suite = new Conformance();

beforeAll(async () => {
  await suite.start();
  await suite.client().setSecret("known", "v");
});
afterAll(() => suite.dispose());

const LIST = `${VAULT_URL}/secrets?api-version=${API_VERSION}`;
const challenge = `Bearer authorization="https://login.microsoftonline.com/${TENANT}", resource="https://vault.azure.net"`;

describe("the bearer challenge", () => {
  it("meets every call without a token, whatever it asks for", async () => {
    // "Azure Key Vault REST API Error Codes", HTTP 401, and "Authentication, requests and responses".
    for (const asked of [
      { url: LIST },
      { url: `${VAULT_URL}/secrets/known` },
      { url: `${VAULT_URL}/unknown` },
      { url: `${VAULT_URL}/secrets/known?api-version=${API_VERSION}`, method: "PUT" },
      { url: LIST, headers: { Authorization: "Basic dXNlcjpwYXNz" } },
    ]) {
      const refused = await raw(suite.lab.transport, asked);
      expect([refused.status, refused.headers["www-authenticate"]]).toEqual([401, challenge]);
      expect(refused.body).toEqual({
        error: { code: "Unauthorized", message: "AKV10000: Request is missing a Bearer or PoP token." },
      });
    }
  });

  it("is what the SDK answers: first without token and body, then the same call with both", async () => {
    await suite.lab.control.resetCounters();
    const client = suite.client();
    await client.setSecret("challenged", "v");
    await client.setSecret("challenged", "w");
    const { vaults } = await suite.lab.control.counters();
    expect(Object.values(vaults)[0]).toMatchObject({
      calls: 3,
      writes: 2,
      operations: { SecretSet: { 200: 2, 401: 1 } },
    });
  });

  it("is refused by the SDK when the vault's host is not one of the resource's", async () => {
    // The SDK verifies the challenge's resource; the stand-in is reached without switching that off.
    const httpClient = connectTo(
      { "vault.example": suite.lab.addresses.listen },
      readFileSync(suite.lab.path("ca.pem")),
    );
    const answeredAsVault = {
      sendRequest: (request: PipelineRequest) => {
        request.headers.set("Host", new URL(VAULT_URL).host);
        return httpClient.sendRequest(request);
      },
    };
    const credential = new ClientSecretCredential(TENANT, OFFICER.clientId, OFFICER.secret, { httpClient });
    const client = new SecretClient("https://vault.example", credential, {
      httpClient: answeredAsVault,
      retryOptions: { maxRetries: 0 },
    });
    await expect(client.getSecret("known")).rejects.toThrow("does not match the requested domain");
  });
});

describe("access tokens", () => {
  it("have the claims of a version 1 token and verify against the published keys", async () => {
    // "Access token claims reference" and "OpenID Connect on the Microsoft identity platform".
    const metadata = await raw(suite.lab.transport, {
      url: `https://login.microsoftonline.com/${TENANT}/.well-known/openid-configuration`,
    });
    const keys = await raw(suite.lab.transport, { url: String(metadata.body.jwks_uri) });
    const keySet = createLocalJWKSet(keys.body as unknown as JSONWebKeySet);
    const { payload, protectedHeader } = await jwtVerify(await suite.token(), keySet, {
      audience: "https://vault.azure.net",
      issuer: String(metadata.body.issuer),
    });
    expect(protectedHeader).toMatchObject({ alg: "RS256", typ: "JWT" });
    expect(payload).toMatchObject({
      iss: `https://sts.windows.net/${TENANT}/`,
      appid: OFFICER.clientId,
      appidacr: "1",
      tid: TENANT,
      oid: expect.stringMatching(/^[0-9a-f-]{36}$/),
      ver: "1.0",
    });
    expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(3_599);
  });

  const refusal = async (token: string) => {
    const refused = await raw(suite.lab.transport, { url: LIST, token });
    expect([refused.status, refused.headers["www-authenticate"]]).toEqual([401, challenge]);
    return codes(refused);
  };

  it("are refused when tampered with, unsigned, or signed by someone else", async () => {
    const [header = "", body = "", signature = ""] = (await suite.token()).split(".");
    const claims = { ...decodeJwt(await suite.token()), appid: "someone-else" };
    const forgedBody = Buffer.from(JSON.stringify(claims)).toString("base64url");
    const none = Buffer.from(JSON.stringify({ alg: "none" })).toString("base64url");
    const foreign = await new SignJWT(claims).setProtectedHeader({ alg: "RS256" }).sign(suite.certificate.privateKey);
    for (const token of [
      `${header}.${forgedBody}.${signature}`,
      `${none}.${body}.`,
      foreign,
      "not-a-token",
      `${header}.${body}.AAAA`,
    ]) {
      const { code, message } = await refusal(token);
      expect([code, message.split(":")[0]]).toEqual(["Unauthorized", "AKV10046"]);
    }
  });

  it("are refused for another audience", async () => {
    const token = await suite.token(OFFICER, TENANT, "https://management.azure.com/.default");
    expect(await refusal(token)).toEqual({
      code: "Unauthorized",
      message: "AKV10022: Invalid audience. Expected https://vault.azure.net, found: https://management.azure.com.",
    });
  });

  it("are refused when another tenant issued them", async () => {
    const token = await suite.token(FOREIGNER, OTHER_TENANT);
    expect(await refusal(token)).toEqual({
      code: "Unauthorized",
      message:
        `AKV10032: Invalid issuer. Expected one of https://sts.windows.net/${TENANT}/, ` +
        `found https://sts.windows.net/${OTHER_TENANT}/.`,
    });
  });

  it("are refused when expired, and the SDK gets a new one", async () => {
    await suite.lab.control.changeSettings({ tokenLifetimeSeconds: 1 });
    const { body } = await suite.tokenRequest(TENANT, { client_id: OFFICER.clientId, client_secret: OFFICER.secret });
    const token = String(body.access_token);
    let latest = await raw(suite.lab.transport, { url: LIST, token });
    expect(latest.status).toBe(200);
    while (latest.status === 200) {
      latest = await raw(suite.lab.transport, { url: LIST, token });
    }
    expect(codes(latest)).toEqual({
      code: "Unauthorized",
      message: "[TokenExpired] Error validating token: 'S2S12086'.",
    });
    await suite.lab.control.changeSettings({ tokenLifetimeSeconds: 3_599 });
    expect((await suite.client().getSecret("known")).value).toBe("v");
  });
});

describe("credentials of the SDK", () => {
  const reads = (credential: TokenCredential) =>
    new SecretClient(VAULT_URL, credential, {
      httpClient: suite.lab.transport,
      retryOptions: { maxRetries: 0 },
    }).getSecret("known");
  const options = () => ({ httpClient: suite.lab.transport, retryOptions: { maxRetries: 0 } });

  it("read by client secret", async () => {
    const { clientId, secret } = OFFICER;
    expect((await reads(new ClientSecretCredential(TENANT, clientId, secret, options()))).value).toBe("v");
  });

  it("read by client certificate", async () => {
    // "Microsoft identity platform application authentication certificate credentials".
    const certificate = { certificate: suite.certificate.pem };
    expect(
      (await reads(new ClientCertificateCredential(TENANT, CERTIFIED.clientId, certificate, options()))).value,
    ).toBe("v");
  });

  it("read by a federated assertion", async () => {
    // "Workload identity federation".
    const credential = new ClientAssertionCredential(TENANT, WORKLOAD.clientId, () => suite.issuer.token(), options());
    expect((await reads(credential)).value).toBe("v");
  });

  it("read by workload identity, from a token file", async () => {
    // "Use Microsoft Entra Workload ID with Azure Kubernetes Service".
    const tokenFilePath = suite.lab.path("service-account.token");
    writeFileSync(tokenFilePath, await suite.issuer.token());
    const credential = new WorkloadIdentityCredential({
      ...options(),
      tenantId: TENANT,
      clientId: WORKLOAD.clientId,
      tokenFilePath,
    });
    expect((await reads(credential)).value).toBe("v");
  });

  it("read by managed identity, named and unnamed", async () => {
    // "How to use managed identities for Azure resources on an Azure VM to acquire an access token".
    for (const identity of [{ clientId: MACHINE.clientId }, {}]) {
      expect((await reads(new ManagedIdentityCredential({ ...options(), ...identity }))).value).toBe("v");
    }
  });

  it("say why they were refused", async () => {
    const wrong = new ClientSecretCredential(TENANT, OFFICER.clientId, "guess", options());
    await expect(reads(wrong)).rejects.toThrow("AADSTS7000215");
    const unknown = new ManagedIdentityCredential({ ...options(), clientId: OFFICER.clientId });
    await expect(reads(unknown)).rejects.toThrow("Identity not found");
  });
});

describe("the token endpoint", () => {
  const secret = { client_id: OFFICER.clientId, client_secret: OFFICER.secret };
  const assertionOf = (clientId: string, assertion: string) => ({
    client_id: clientId,
    client_assertion: assertion,
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
  });
  const summary = ({ status, body }: RawResponse) => [
    status,
    body.error,
    (body.error_codes as number[] | undefined)?.[0],
  ];

  it.each([
    ["a wrong secret", TENANT, { ...secret, client_secret: "guess" }, [401, "invalid_client", 7000215]],
    ["an unknown application", TENANT, { ...secret, client_id: "nobody" }, [400, "unauthorized_client", 700016]],
    ["an application of another tenant", OTHER_TENANT, secret, [400, "unauthorized_client", 700016]],
    ["an unknown tenant", "00000000-0000-4000-8000-000000000000", secret, [400, "invalid_request", 90002]],
    ["no credential", TENANT, { client_id: OFFICER.clientId }, [401, "invalid_client", 7000216]],
    ["no client", TENANT, { client_secret: "s" }, [400, "invalid_request", 900144]],
    ["no scope", TENANT, { ...secret, scope: undefined }, [400, "invalid_request", 900144]],
    [
      "a scope without .default",
      TENANT,
      { ...secret, scope: "https://vault.azure.net/user" },
      [400, "invalid_scope", 1002012],
    ],
    [
      "an unknown resource",
      TENANT,
      { ...secret, scope: "https://nowhere.example/.default" },
      [400, "invalid_resource", 500011],
    ],
    ["another grant", TENANT, { ...secret, grant_type: "password" }, [400, "unsupported_grant_type", 70003]],
    [
      "an assertion that is no token",
      TENANT,
      assertionOf(CERTIFIED.clientId, "nonsense"),
      [400, "invalid_request", 50027],
    ],
  ])("refuses %s", async (_, tenant, form, expected) => {
    // "Microsoft Entra authentication and authorization error codes".
    const refused = await suite.tokenRequest(tenant, form);
    expect(summary(refused)).toEqual(expected);
    expect(refused.body.error_description).toMatch(
      /^AADSTS\d+: .+ Trace ID: [0-9a-f-]{36} Correlation ID: [0-9a-f-]{36} Timestamp: \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$/s,
    );
    expect(refused.body).toMatchObject({
      trace_id: expect.any(String),
      correlation_id: expect.any(String),
      timestamp: expect.any(String),
    });
  });

  async function certificateAssertion(
    change: {
      audience?: string;
      issuer?: string;
      expired?: boolean;
      signer?: Awaited<ReturnType<typeof makeApplicationCertificate>>;
      thumbprintOf?: string;
    } = {},
  ) {
    const signer = change.signer ?? suite.certificate;
    const certificate = new X509Certificate(change.thumbprintOf ?? signer.certificate);
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT({})
      .setProtectedHeader({
        alg: "PS256",
        "x5t#S256": createHash("sha256").update(certificate.raw).digest("base64url"),
      })
      .setIssuer(change.issuer ?? CERTIFIED.clientId)
      .setSubject(CERTIFIED.clientId)
      .setAudience(change.audience ?? `https://login.microsoftonline.com/${TENANT}/oauth2/v2.0/token`)
      .setJti(String(now))
      .setExpirationTime(change.expired === true ? now - 3_600 : now + 600)
      .sign(signer.privateKey);
  }

  it("checks an assertion made with a certificate", async () => {
    // "Microsoft identity platform application authentication certificate credentials": header and claims.
    const ask = async (assertion: Promise<string>) =>
      summary(await suite.tokenRequest(TENANT, assertionOf(CERTIFIED.clientId, await assertion)));
    const stranger = await makeApplicationCertificate("stranger");
    expect((await ask(certificateAssertion()))[0]).toBe(200);
    expect(await ask(certificateAssertion({ signer: stranger }))).toEqual([401, "invalid_client", 700027]);
    const { certificate } = suite.certificate;
    expect(await ask(certificateAssertion({ signer: stranger, thumbprintOf: certificate }))).toEqual([
      401,
      "invalid_client",
      700027,
    ]);
    expect(await ask(certificateAssertion({ expired: true }))).toEqual([401, "invalid_client", 700024]);
    expect(await ask(certificateAssertion({ audience: "https://elsewhere.example" }))).toEqual([
      401,
      "invalid_client",
      700023,
    ]);
    expect(await ask(certificateAssertion({ issuer: "someone" }))).toEqual([401, "invalid_client", 700021]);
  });

  it("checks a federated assertion", async () => {
    // "Important considerations for federated identity credentials": issuer, subject and audience match exactly.
    const ask = async (assertion: Promise<string>) =>
      summary(await suite.tokenRequest(TENANT, assertionOf(WORKLOAD.clientId, await assertion)));
    const { issuer } = suite;
    expect((await ask(issuer.token()))[0]).toBe(200);
    expect(await ask(issuer.token({ issuer: "https://other.example" }))).toEqual([401, "invalid_client", 700211]);
    expect(await ask(issuer.token({ audience: "api://other" }))).toEqual([401, "invalid_client", 700212]);
    expect(await ask(issuer.token({ subject: "system:serviceaccount:other:operator" }))).toEqual([
      401,
      "invalid_client",
      700213,
    ]);
    expect(await ask(issuer.token({ lifetimeSeconds: -3_600 }))).toEqual([401, "invalid_client", 700024]);
    expect(await ask(issuer.token({}, suite.certificate.privateKey))).toEqual([401, "invalid_client", 700027]);
  });

  it("offers instance discovery and both metadata documents", async () => {
    const login = "https://login.microsoftonline.com";
    const authorize = encodeURIComponent(`${login}/${TENANT}/oauth2/v2.0/authorize`);
    const instance = await raw(suite.lab.transport, {
      url: `${login}/common/discovery/instance?api-version=1.1&authorization_endpoint=${authorize}`,
    });
    expect(instance.body.tenant_discovery_endpoint).toBe(`${login}/${TENANT}/v2.0/.well-known/openid-configuration`);
    const metadata = await raw(suite.lab.transport, { url: String(instance.body.tenant_discovery_endpoint) });
    expect(metadata.body).toMatchObject({
      issuer: `${login}/${TENANT}/v2.0`,
      token_endpoint: `${login}/${TENANT}/oauth2/v2.0/token`,
    });
  });
});

describe("the instance metadata endpoint", () => {
  const PATH = "http://169.254.169.254/metadata/identity/oauth2/token";
  const QUERY = "api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net";
  const ask = (url: string, headers: Record<string, string> = { Metadata: "true" }) =>
    raw(suite.lab.transport, { url, headers });

  it("gives a token with the members that the documentation shows, numbers as strings", async () => {
    const { status, body } = await ask(`${PATH}?${QUERY}`);
    expect(status).toBe(200);
    expect(body).toEqual({
      access_token: expect.any(String),
      client_id: MACHINE.clientId,
      expires_in: "3599",
      expires_on: expect.stringMatching(/^\d{10}$/),
      ext_expires_in: "3599",
      not_before: expect.stringMatching(/^\d{10}$/),
      resource: "https://vault.azure.net",
      token_type: "Bearer",
    });
  });

  it.each([
    ["without the Metadata header", `${PATH}?${QUERY}`, {}, 400],
    ["that was forwarded", `${PATH}?${QUERY}`, { Metadata: "true", "X-Forwarded-For": "10.0.0.1" }, 400],
    ["without api-version", `${PATH}?resource=https%3A%2F%2Fvault.azure.net`, { Metadata: "true" }, 400],
    ["without resource", `${PATH}?api-version=2018-02-01`, { Metadata: "true" }, 400],
    ["for an unknown identity", `${PATH}?${QUERY}&client_id=nobody`, { Metadata: "true" }, 400],
    ["for another path", "http://169.254.169.254/metadata/instance", { Metadata: "true" }, 404],
  ])("refuses a request %s", async (_, url, headers, status) => {
    expect((await ask(url, headers)).status).toBe(status);
  });
});
