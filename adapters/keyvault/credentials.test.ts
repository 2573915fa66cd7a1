import { inspect } from "node:util";
import { Stalled, Unavailable } from "../../core/errors.ts";
import type { VaultAuth } from "../../core/ports/target-vaults.ts";
import {
  CERTIFIED,
  FOREIGNER,
  MACHINE,
  makeApplicationCertificate,
  OFFICER,
  OTHER_TENANT,
  READER,
  STRANGER,
  TENANT,
  WORKLOAD,
} from "../../lab/keyvault/testing/identities.ts";
import { access, clientSecret, StandIn, sensitive } from "./testing/stand-in.ts";
import type { KeyVaults } from "./vaults.ts";

const standIn = new StandIn();
const signal = new AbortController().signal;
let vaults: KeyVaults;

beforeAll(() => standIn.start());
afterAll(() => standIn.stop());
beforeEach(async () => {
  vaults = standIn.vaults();
  await standIn.lab.control.setFaults([]);
  await standIn.lab.control.resetCounters();
});

const get = (auth: VaultAuth, uid = "uid-1") => vaults.open(access({ auth, uid }), "Change").get("some-name", signal);
const failureOf = async (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => undefined,
    (error) => error,
  );
const workload = (token: () => Promise<string>): VaultAuth => ({
  kind: "WorkloadIdentity",
  tenantId: TENANT,
  clientId: WORKLOAD.clientId,
  serviceAccount: "sa-uid",
  token,
});
const issued = async (claims: { subject?: string; lifetimeSeconds?: number } = {}): Promise<string> => {
  if (standIn.issuer === undefined) throw new Error("the stand-in is not running");
  return standIn.issuer.token(claims);
};
const certificate = (pem: string): VaultAuth => ({
  kind: "ClientCertificate",
  tenantId: TENANT,
  clientId: CERTIFIED.clientId,
  pem: sensitive(pem),
  sourceVersion: "1",
});

describe("credentials that are accepted", () => {
  it.each<[string, () => VaultAuth]>([
    ["a client secret", () => clientSecret()],
    ["a client secret with a line feed at its end", () => clientSecret({ ...OFFICER, secret: `${OFFICER.secret}\n` })],
    ["a client certificate", () => certificate(standIn.certificatePem)],
    ["a ServiceAccount's token", () => workload(() => issued())],
    ["the machine's identity", () => ({ kind: "ManagedIdentity" })],
    ["one of the machine's identities", () => ({ kind: "ManagedIdentity", clientId: MACHINE.clientId })],
  ])("%s", async (_, auth) => {
    expect(await get(auth())).toMatchObject({ kind: "Absent" });
  });

  it("are asked for one token, however many calls wait for it and whoever opens the vault again", async () => {
    await Promise.all(Array.from({ length: 10 }, () => get(clientSecret())));
    await get(clientSecret());
    expect((await standIn.lab.control.counters()).tokens.entra?.["200"]).toBeLessThanOrEqual(3);
    const before = tokenRequests();
    await get(clientSecret());
    expect(tokenRequests()).toBe(before);
  });

  it("are made anew when the core Secret behind them changes", async () => {
    await get(clientSecret());
    const before = tokenRequests();
    await get({ ...clientSecret(), sourceVersion: "uid/2" } as VaultAuth);
    expect(tokenRequests()).toBeGreaterThan(before);
  });
});

describe("credentials that are not accepted", () => {
  it.each<[string, () => VaultAuth, RegExp]>([
    [
      "a wrong client secret",
      () => clientSecret({ ...OFFICER, secret: "wrong-secret" }),
      /invalid_client, AADSTS7000215\); check tenantId and clientId/,
    ],
    [
      "an unknown application",
      () => clientSecret({ clientId: "99999999-aaaa-4aaa-8aaa-999999999999", secret: "wrong-secret" }),
      /AADSTS700016/,
    ],
    [
      "a credential of another tenant",
      () => clientSecret(FOREIGNER, OTHER_TENANT),
      /the vault belongs to the tenant 5f1d3c1e/,
    ],
    [
      "a ServiceAccount that the identity does not trust",
      () => workload(() => issued({ subject: "system:serviceaccount:a:b" })),
      /AADSTS700213/,
    ],
    ["an expired ServiceAccount token", () => workload(() => issued({ lifetimeSeconds: -600 })), /AADSTS700024/],
    [
      "an identity that the machine does not have",
      () => ({ kind: "ManagedIdentity", clientId: WORKLOAD.clientId }),
      /400 invalid_request/,
    ],
  ])("%s is Stalled, and the message has the codes and no secret", async (_, auth, message) => {
    const error = await failureOf(get(auth()));
    expect(error).toMatchObject({ code: "CredentialInvalid", message: expect.stringMatching(message) });
    expect(error).toBeInstanceOf(Stalled);
    expect(inspect(error, { depth: 10 })).not.toMatch(/wrong-secret|eyJ/);
  });

  it("tells what the ServiceAccount's token failed of", async () => {
    const missing = new Stalled("CredentialNotFound", "the ServiceAccount payments/operator does not exist");
    expect(await failureOf(get(workload(() => Promise.reject(missing))))).toBe(missing);
  });

  it.each([
    [
      "a certificate without its key",
      (pem: string) => pem.slice(pem.indexOf("-----BEGIN CERTIFICATE")),
      /needs a PEM certificate and its unencrypted PEM private key/,
    ],
    ["what is no PEM", () => "not a certificate", /needs a PEM certificate/],
  ])("%s is refused before any request", (_, change, message) => {
    const open = () => vaults.open(access({ auth: certificate(change(standIn.certificatePem)) }), "Change");
    expect(open).toThrow(
      expect.objectContaining({ code: "CredentialInvalid", message: expect.stringMatching(message) }),
    );
  });

  it("a certificate beside another key is refused before any request", async () => {
    const other = await makeApplicationCertificate("other");
    const key = other.pem.slice(0, other.pem.indexOf("-----BEGIN CERTIFICATE"));
    const mixed = key + standIn.certificatePem.slice(standIn.certificatePem.indexOf("-----BEGIN CERTIFICATE"));
    expect(() => vaults.open(access({ auth: certificate(mixed) }), "Change")).toThrow(
      /does not belong to the private key/,
    );
  });

  it("an identity without the role is denied, with the fix", async () => {
    const error = await failureOf(get(clientSecret(STRANGER)));
    expect(error).toMatchObject({ code: "AccessDenied" });
    expect(String(error)).toMatch(
      /403 Forbidden, ForbiddenByRbac; grant the identity the role Key Vault Secrets Officer/,
    );
  });

  it("an identity that may only read is denied when it writes", async () => {
    const vault = vaults.open(access({ auth: clientSecret(READER) }), "Change");
    expect(await vault.get("some-name", signal)).toMatchObject({ kind: "Absent" });
    const request = { name: "some-name", value: sensitive("canary-value"), tags: {} };
    const error = await failureOf(vault.set(request, signal));
    expect(error).toMatchObject({ code: "AccessDenied" });
    expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(/canary-value|Bearer|eyJ/);
  });
});

describe("an identity provider that does not answer", () => {
  it.each([
    ["503", { kind: "status", status: 503 }, /gave no token \(503/],
    ["429", { kind: "status", status: 429, retryAfterSeconds: 1 }, /gave no token \(429/],
    ["nothing", { kind: "hang" }, /gave no token \(timeout\)/],
    ["a cut connection", { kind: "drop" }, /gave no token \(ECONNRESET\)/],
  ] as const)("%s is Unavailable, and heals by itself", async (_, effect, message) => {
    // Short only where nothing is expected: on a busy machine an answer may take its time.
    if (effect.kind === "hang") vaults = standIn.vaults({ requestTimeoutMs: 1_000 });
    await standIn.lab.control.setFaults([{ target: "entra", effect }]);
    const error = await failureOf(get(clientSecret()));
    expect(error).toBeInstanceOf(Unavailable);
    expect(error).toMatchObject({ code: "IdentityUnavailable", message: expect.stringMatching(message) });
    await standIn.lab.control.setFaults([]);
    while ((await failureOf(get(clientSecret()))) !== undefined) await new Promise(setImmediate);
  });

  it("does not count against the vault", async () => {
    await standIn.lab.control.setFaults([{ target: "entra", effect: { kind: "drop" } }]);
    for (let at = 0; at < 8; at += 1) await failureOf(get(clientSecret()));
    expect(vaults.states()).toMatchObject([{ breaker: "Closed" }]);
  });
});

const tokenRequests = (): number => standIn.calls.filter(({ target }) => target === "entra").length;
